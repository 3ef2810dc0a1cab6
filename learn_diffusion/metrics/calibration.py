"""Do error bars hold what they promise? (Gneiting & Raftery 2007: calibration, and then sharpness.)"""

from __future__ import annotations

import torch
from torch import Tensor

from learn_diffusion import validation


def within_gaussian(mean: Tensor, std: Tensor, truth: Tensor, level: float) -> Tensor:
    """Is the truth in the central interval of N(mean, std^2) that holds this share of it? Bool, shaped like truth.

    level in (0, 1): 0.95 is 1.96 standard deviations to each side. mean, std broadcast against truth.
    """
    validation.floats("truth", truth)
    if not 0 < level < 1:
        raise ValueError(f"level: expected a share above 0 and below 1, got {level!r}")
    width = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2, dtype=torch.float64))
    return (mean - truth).abs() < width.to(truth) * std


def reliability(std: Tensor, error: Tensor, groups: int = 10) -> tuple[Tensor, Tensor]:
    """Promised standard deviation and real error of the same values, both as root mean squares, (groups,) each.

    The values are sorted by what was promised and cut into groups of equal size, the surest first. Where the error is
    the larger, the method is overconfident. std broadcasts against error.
    """
    validation.floats("error", error)
    validation.positive_int("groups", groups)
    std, error = std.expand_as(error).flatten(), error.flatten()
    if len(error) < groups:
        raise ValueError(f"groups: expected at most {len(error)}, one value in each, got {groups}")
    parts = std.argsort().tensor_split(groups)
    return tuple(torch.stack([x[part].square().mean().sqrt() for part in parts]) for x in (std, error))
