"""Functions Denoise -> Denoise: they change what a denoiser says, so they compose with each other and any sampler."""

from __future__ import annotations

from torch import Tensor

from learn_diffusion.process import Denoise, Estimate, from_x0
from learn_diffusion.schedules import Schedule


def clip_x0(denoise: Denoise, schedule: Schedule, lo: float = -1.0, hi: float = 1.0) -> Denoise:
    """Keep the estimated picture inside [lo, hi], and correct the noise so that the two still explain x_t.

    Clamping x0 alone would break the invariant, and with it every sampler that uses both.
    """
    if not lo < hi:
        raise ValueError(f"lo, hi: expected lo < hi, got {lo} and {hi}")

    def clipped(x: Tensor, t: Tensor) -> Estimate:
        return from_x0(x, denoise(x, t).x0.clamp(lo, hi), *schedule.at(t, x))

    return clipped
