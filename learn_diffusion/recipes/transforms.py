"""Resampling, and what networks get beside the noised picture. Pictures are float32 (N, C, H, W) in [-1, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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


def detail_of(images: Tensor, small: Tensor) -> Tensor:
    """What interpolated small pictures (N, 3, 16, 16) lack of the large ones (N, 3, 64, 64), in units of DETAIL."""
    return ((images - upsample_bicubic(small)) / DETAIL).clamp(-1, 1)


def with_detail(small: Tensor, detail: Tensor) -> Tensor:
    """The large pictures (N, 3, 64, 64) with this detail, in range: undoes detail_of, but for what was cut off."""
    return (upsample_bicubic(small) + DETAIL * detail).clamp(-1, 1)


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
