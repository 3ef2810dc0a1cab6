"""Resampling, and what networks get beside the noised picture. Pictures are float32 (N, C, H, W) in [-1, 1]."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import validation

DETAIL = 0.8  # the largest difference from interpolation that is kept; it may be up to 2, and seldom is above this


def downsample(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at half the side, each new pixel the mean of four."""
    return F.avg_pool2d(images, 2)


def upsample_nearest(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at twice the side, each pixel four times: how a classifier reads small ones."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


def upsample_bicubic(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at four times the side, by bicubic interpolation, in range: what the upscaler looks at."""
    return F.interpolate(images, scale_factor=4, mode="bicubic", align_corners=False).clamp(-1, 1)


def random_warp(images: Tensor, g: torch.Generator) -> Tensor:
    """Pictures (N, C, H, W), each turned, scaled, sheared, moved and bent a little: other handwriting, the same label.

    Random affine and elastic distortions, after Simard, Steinkraus & Platt 2003. Standard deviations: a tenth of height
    and width, 4 degrees, 3 % of the side for the bending; moves reach 5 % of the side. What comes from beyond the edge
    has the colour of the edge.
    """
    B, _, H, W = images.shape
    affine = torch.eye(2, device=images.device) + 0.1 * torch.randn(B, 2, 2, generator=g, device=images.device)
    move = 0.1 * (2 * torch.rand(B, 2, 1, generator=g, device=images.device) - 1)  # the side is 2 long
    grid = F.affine_grid(torch.cat([affine, move], dim=2), list(images.shape), align_corners=False)
    bend = 0.06 * torch.randn(B, 2, 5, 5, generator=g, device=images.device)
    bend = F.interpolate(bend, (H, W), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid + bend, padding_mode="border", align_corners=False)


def detail_of(images: Tensor, small: Tensor) -> Tensor:
    """What interpolated small pictures (N, 3, 16, 16) lack of the large ones (N, 3, 64, 64), in units of DETAIL."""
    return ((images - upsample_bicubic(small)) / DETAIL).clamp(-1, 1)


def with_detail(small: Tensor, detail: Tensor) -> Tensor:
    """The large pictures (N, 3, 64, 64) with this detail, in range: undoes detail_of, but for what was cut off."""
    return (upsample_bicubic(small) + DETAIL * detail).clamp(-1, 1)


def shift_hue(pictures: Tensor, mask: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Recolour pictures (N, 3, H, W) where the mask (N, 1, H, W) is True, as image editors do, from the colours old to
    new, (N, 3) each: hue becomes that of new, saturation and brightness change by the ratio of the two colours'.

    A grey has no saturation to multiply, and black no brightness: those of old count as 0.05 at least.
    """
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv  # slow to import

    def hsv(x: Tensor) -> Tensor:  # the last axis is red, green, blue
        return torch.from_numpy(rgb_to_hsv(((x.cpu().double() + 1) / 2).clamp(0, 1).numpy()))

    (_, s0, v0), (hue, s1, v1) = (hsv(colour)[:, None, None].unbind(-1) for colour in (old, new))
    _, s, v = hsv(pictures.permute(0, 2, 3, 1)).unbind(-1)
    s, v = (s * s1 / s0.clamp(min=0.05)).clamp(0, 1), (v * v1 / v0.clamp(min=0.05)).clamp(0, 1)
    turned = hsv_to_rgb(torch.stack([hue.expand_as(s), s, v], dim=-1).numpy())
    turned = torch.from_numpy(turned).to(pictures).permute(0, 3, 1, 2) * 2 - 1
    return torch.where(mask, turned, pictures)


class PrincipalAxes(NamedTuple):
    """Fields (N, C, H, W) as points (N, k) along the directions in which they differ most, and back: see of.

    Axes are orthonormal, so distances and noise stay what they are; what other directions hold is dropped.
    """

    mean: Tensor  # (C * H * W,)
    axes: Tensor  # (C * H * W, k)
    shape: tuple[int, ...]  # (C, H, W)

    @classmethod
    def of(cls, fields: Tensor, k: int) -> PrincipalAxes:
        """The first k principal components (Pearson 1901) of these fields, at most C * H * W."""
        off = fields.flatten(1) - fields.flatten(1).mean(0)
        k = validation.whole_number("k", k, 1, off.shape[1])
        axes = torch.linalg.eigh((off.T @ off / len(off)).double())[1][:, -k:].to(fields)
        return cls(fields.flatten(1).mean(0), axes, tuple(fields.shape[1:]))

    def to_points(self, fields: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, k)."""
        return (fields.flatten(1) - self.mean) @ self.axes

    def to_fields(self, points: Tensor) -> Tensor:
        """(..., k) -> (..., C, H, W)."""
        return (self.mean + points @ self.axes.T).unflatten(-1, self.shape)


def mask_cond(known: Tensor, mask: Tensor) -> Tensor:
    """The conditioning of an inpainting model, (B, C + 1, H, W), from a mask that is True where the picture is kept.

    The known pixels, 0 where nothing is known, and the mask (B or 1, 1, H, W) as 0 or 1.
    """
    mask = mask.expand(len(known), 1, *known.shape[2:]).to(known.dtype)
    return torch.cat([known * mask, mask], dim=1)


def random_mask_cond(x0: Tensor, g: torch.Generator) -> Tensor:
    """A mask_cond of pictures x0 (B, C, H, W), each with a hole of its own: a box of random size and place. One in ten
    is all hole, so that the model can still draw from nothing."""
    B, _, H, W = x0.shape
    u = torch.rand(5, B, 1, 1, generator=g, device=x0.device)
    height, width = H * (0.25 + 0.6 * u[0]), W * (0.25 + 0.6 * u[1])
    top, left = u[2] * (H - height), u[3] * (W - width)
    row, column = torch.arange(H, device=x0.device)[:, None] + 0.5, torch.arange(W, device=x0.device) + 0.5
    hole = (row > top) & (row < top + height) & (column > left) & (column < left + width)
    return mask_cond(x0, ~(hole | (u[4] < 0.1))[:, None])


def random_half_cond(x0: Tensor, g: torch.Generator) -> Tensor:
    """A mask_cond of pictures x0 (B, C, H, W), each with a random half of it known: upper, lower, left or right."""
    B, _, H, W = x0.shape
    row, column = torch.arange(H, device=x0.device)[:, None], torch.arange(W, device=x0.device)
    half = torch.randint(4, (B, 1, 1, 1), generator=g, device=x0.device)
    keep = torch.where(half < 2, row < H // 2, column < W // 2)
    return mask_cond(x0, torch.where(half % 2 == 0, keep, ~keep))
