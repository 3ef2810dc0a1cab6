"""What one picture is measured by: closeness to a known truth, light, colour, steepness.

Pictures are float (N, C, H, W) in [-1, 1], masks bool (N or 1, 1, H, W); one number a picture, (N,), comes back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import validation

LEVELS = 127.5  # a difference of 1 in pictures from -1 to 1 is so many of the 255 levels of a file


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, (N,): 10 log10(4 / MSE), for 4 is the squared range of [-1, 1]."""
    _check_pictures(pictures, truth)
    return 10 * torch.log10(4 / (pictures - truth).square().mean((1, 2, 3)))


def error_in_levels(pictures: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Root mean square error over the channels of the pixels where the mask is True, in levels of 255, (N,)."""
    _check_pictures(pictures, truth)
    square = ((pictures - truth) * LEVELS).square().mean(1, keepdim=True)
    return _mean_where("where", square, where).sqrt()


def relative_brightness(pictures: Tensor, place: Tensor, beside: Tensor) -> Tensor:
    """Mean brightness where `place` is True over that where `beside` is, (N,). 1: as bright; below: a shadow."""
    light = (pictures.mean(1, keepdim=True) + 1) / 2
    return _mean_where("place", light, place) / _mean_where("beside", light, beside)


def colour_share(pictures: Tensor, colours: Tensor, where: Tensor, tolerance: float = 35) -> Tensor:
    """The share of the pixels in `where` that have their picture's colour, (N,).

    colours    (N, C) in [-1, 1], one for each picture
    tolerance  in levels of 255: a root mean square difference over channels below it counts as that colour
    """
    if colours.shape != pictures.shape[:2]:
        raise ValueError(f"colours: expected shape {tuple(pictures.shape[:2])}, got {tuple(colours.shape)}")
    off = ((pictures - colours[..., None, None]) * LEVELS).square().mean(1, keepdim=True).sqrt()
    return _mean_where("where", (off < tolerance).to(pictures), where)


def _check_pictures(pictures: Tensor, truth: Tensor) -> None:
    for name, x in (("pictures", pictures), ("truth", truth)):
        validation.floats(name, x, ndim=4)
    validation.same_shape("pictures", pictures, "truth", truth)


def _mean_where(name: str, values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (N, 1, H, W) over the mask, (N,)."""
    mask = mask.expand_as(values)
    count = mask.sum((1, 2, 3))
    if not bool((count > 0).all()):
        raise ValueError(f"{name}: expected a pixel that is True in every picture")
    return (values * mask).sum((1, 2, 3)) / count


def ring(mask: Tensor, inner: int, outer: int) -> Tensor:
    """The pixels more than `inner` and up to `outer` away from the mask, along rows, columns or both, (N, 1, H, W)."""
    if not 0 <= inner < outer:
        raise ValueError(f"inner, outer: expected 0 <= inner < outer, got {inner} and {outer}")
    return _grown(mask, outer) & ~_grown(mask, inner)


def _grown(mask: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(mask.float(), 2 * pixels + 1, 1, pixels) == 1


def steepness(
    pictures: Tensor, size: int = 16, shares: Sequence[float] = (0.05, 0.23, 0.41, 0.59, 0.77, 0.95)
) -> Tensor:
    """How steep and how bent cut-outs of size x size pixels are, at these shares of their pixels, (N, k, 4 * shares).

    Quantiles of absolute first and second differences, down and across, of the mean over channels, each channel rounded
    to 8 of 255 levels (so that none is told by its last bits). Sides are multiples of size; k cut-outs a picture.
    """
    validation.floats("pictures", pictures, ndim=4)
    if pictures.shape[2] % size or pictures.shape[3] % size:
        raise ValueError(f"pictures: expected sides divisible by {size}, got {tuple(pictures.shape[2:])}")
    grey = (pictures * LEVELS / 8).round().mean(1, keepdim=True)
    cut = F.unfold(grey, size, stride=size).mT.unflatten(2, (size, size))  # (N, k, size, size)
    slopes = (cut.diff(n=n, dim=dim).abs().flatten(2) for n in (1, 2) for dim in (2, 3))
    at = torch.tensor(shares).to(grey)
    return torch.cat([slope.quantile(at, dim=2).permute(1, 2, 0) for slope in slopes], dim=2)
