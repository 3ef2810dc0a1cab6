"""How straight are sampling paths? One that is straight and walked at constant speed takes one step of any size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation


class Deviation(NamedTuple):
    """What deviation finds, both as shares of the distance from the first point to the last; 0 is best."""

    off_line: float  # how far the path strays from the straight line between them
    off_pace: float  # how far from where constant speed along that line would have it; never less than off_line


def deviation(paths: Tensor) -> Deviation:
    """How far paths (T + 1, B, D), points at T + 1 evenly spaced times, stray from straight lines to their own ends.

    The largest distance of each path over time; mean over paths, over the mean distance from first to last point.
    (Liu et al. 2023 integrate the square of the difference in velocity instead, which also sees both.) Raises
    ValueError where no path gets anywhere.
    """
    validation.floats("paths", paths, ndim=3)
    validation.finite("paths", paths)
    if len(paths) < 3:
        raise ValueError(f"paths: expected at least three points in time, got {len(paths)}")
    paths = validation.to_double(paths)
    away = paths - paths[0]
    chord, length = away[-1], away[-1].norm(dim=1)  # (B, D), (B,)
    if length.mean() == 0:
        raise ValueError("paths: expected ends that differ from the beginnings")
    direction = chord / length.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    along = (away * direction).sum(2, keepdim=True)
    time = torch.linspace(0, 1, len(paths), dtype=torch.float64, device=paths.device)[:, None, None]
    off = (away - gone for gone in (along * direction, time * chord))
    return Deviation(*((x.norm(dim=2).amax(0).mean() / length.mean()).item() for x in off))
