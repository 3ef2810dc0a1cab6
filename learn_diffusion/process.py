"""The forward process x_t = alpha * x0 + sigma * eps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation

if TYPE_CHECKING:  # a schedule arrives as an argument; nothing here builds one
    from learn_diffusion.schedules import Schedule


class Estimate(NamedTuple):
    """A denoiser's estimate of the data and the noise in x_t. Invariant: x_t = alpha * x0 + sigma * eps."""

    x0: Tensor  # (B, ...)
    eps: Tensor  # (B, ...)

    def lerp(self, other: Estimate, w: float | Tensor) -> Estimate:
        """Interpolate from this estimate (w = 0) to other (w = 1), or extrapolate; both of the same x_t."""
        return Estimate(self.x0 + w * (other.x0 - self.x0), self.eps + w * (other.eps - self.eps))


Denoise = Callable[[Tensor, Tensor], Estimate]  # (x_t (B, ...), t () or (B,)) -> estimate of x0 and eps


def expand_like(v: Tensor, x: Tensor) -> Tensor:
    """Reshape v, () or (B,), so that it broadcasts against x (B, ...).

    Tables and timesteps are float64; they are cast to x's dtype here, as the last operation. A () tensor on the CPU
    meets tensors of any device; v (B,) has to be on x's. Raises ValueError where it is not.
    """
    v = v.to(x.dtype)
    if v.ndim == 0:
        return v
    validation.same_device("t", v, "x", x.device)
    return v.reshape(v.shape + (1,) * (x.ndim - 1))


def where_rows(rows: Tensor, one: Estimate, other: Estimate) -> Estimate:
    """One estimate for the rows that are True, the other for the rest. rows () or (B,) bool; () takes one whole."""
    if rows.ndim == 0:
        return one if rows else other
    pick = rows.reshape(rows.shape + (1,) * (one.x0.ndim - 1))
    return Estimate(torch.where(pick, one.x0, other.x0), torch.where(pick, one.eps, other.eps))


def randn_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of x's shape, type and device; a generator of the CPU gives the same on every device."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def from_x0(x: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
    """Complete an estimate of x0 with the one eps that keeps the invariant.

    x, x0: (B, ...); alpha, sigma: broadcastable against x, sigma > 0 (at sigma = 0 the noise is undefined).
    """
    return Estimate(x0, (x - alpha * x0) / sigma)


def renoise(schedule: Schedule, x: Tensor, s: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add noise to x (B, ...) from level s up to the noisier level t: a step of any size of the forward Markov chain.

    With a = alpha_t / alpha_s: x_t = a x_s + sqrt(sigma_t^2 - a^2 sigma_s^2) z (Ho et al. 2020, eq. 1 and 2, where
    s and t are neighbours and a is sqrt(1 - beta)). x (B, ...); s, t () or (B,). Raises TypeError for an x that is not
    float, ValueError where a level is outside the schedule, t is cleaner than s, or s is pure noise already.
    """
    s, t = validation.as_level("s", s), validation.as_level("t", t)
    validation.floats("x", x)
    validation.level("s", s, len(x), 0.0, schedule.t_max)
    validation.level("t", t, len(x), 0.0, schedule.t_max)
    if validation.readable(s) and not bool((schedule.alpha(s) > 0).all()):
        raise ValueError(f"s: expected a level with data left in it, got {s.tolist()}, which is pure noise")
    logsnr_s, logsnr_t = schedule.logsnr(s), schedule.logsnr(t)
    if validation.readable(s) and validation.readable(t) and bool((logsnr_t > logsnr_s).any()):
        raise ValueError(f"t: expected a level noisier than s = {s.tolist()}, got {t.tolist()}; this only adds noise")
    a = schedule.alpha(t) / schedule.alpha(s)
    # sigma_t^2 - a^2 sigma_s^2, without subtracting two nearly equal numbers; from 0 to 0, inf - inf, nothing is added
    added = schedule.sigma(t) * (-torch.expm1((logsnr_t - logsnr_s).nan_to_num(0.0))).sqrt()
    return expand_like(a, x) * x + expand_like(added, x) * randn_like(x, generator)
