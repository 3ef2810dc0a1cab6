"""Functions Denoise -> Denoise: they change what a denoiser says, so they compose with each other and any sampler."""

from __future__ import annotations

from math import isfinite
from typing import Protocol

import torch
from torch import Tensor

from learn_diffusion.process import Denoise, Estimate, from_x0
from learn_diffusion.schedules import Schedule


class Conditional(Protocol):
    """A model that can be asked with and without a condition, such as a denoiser.Denoiser."""

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None, keep: Tensor | None = None) -> Estimate: ...


def cfg(model: Conditional, y: Tensor, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022): from what the model says without y towards what it says with y,
    and past it.

    model  reads y, and keep (B,) bool, which drops y where it is False
    y      (B, ...) conditions, one for each picture
    scale  0: without the condition, 1: with it, above 1: more than it asks for. (The paper's w is scale - 1.)

    Both answers come from one call on a batch of 2B; scale 0 and 1 need half of that. Raises ValueError for a scale
    that is not a finite number. A negative scale walks away from y.
    """
    if not isfinite(scale):
        raise ValueError(f"scale: expected a finite number (0 without the condition, 1 with it), got {scale}")

    def guided(x: Tensor, t: Tensor) -> Estimate:
        if scale == 1:
            return model(x, t, y)
        n = len(x)
        if scale == 0:
            return model(x, t, y, torch.zeros(n, dtype=torch.bool, device=x.device))
        t = torch.as_tensor(t)
        keep = torch.arange(2 * n, device=x.device) < n
        both = model(torch.cat([x, x]), torch.cat([t, t]) if t.ndim else t, torch.cat([y, y]), keep)
        given, free = Estimate(both.x0[:n], both.eps[:n]), Estimate(both.x0[n:], both.eps[n:])
        return free.lerp(given, scale)

    return guided


def clip_x0(denoise: Denoise, schedule: Schedule, lo: float = -1.0, hi: float = 1.0) -> Denoise:
    """Keep the estimated picture inside [lo, hi], and correct the noise so that the two still explain x_t.

    Clamping x0 alone would break the invariant, and with it every sampler that uses both.
    """
    if not lo < hi:
        raise ValueError(f"lo, hi: expected lo < hi, got {lo} and {hi}")

    def clipped(x: Tensor, t: Tensor) -> Estimate:
        return from_x0(x, denoise(x, t).x0.clamp(lo, hi), *schedule.at(t, x))

    return clipped
