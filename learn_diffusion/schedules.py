"""Noise schedules: alpha(t) and sigma(t) of the forward process x_t = alpha * x0 + sigma * eps.

The pair is the primary view because it is finite everywhere. Names of other views: alpha_bar = alpha^2 (DDPM);
nsr = sigma / alpha (what EDM and k-diffusion call sigma); lambda = logsnr / 2 (DPM-Solver).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import ClassVar, final

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.process import Denoise, Estimate, expand_like, from_x0

# below this log-SNR alpha is under 5e-5 sigma: x_t holds no information on the data, so guidance is left out
BLIND = -20.0
# largest table (8 MB): a damaged or hostile checkpoint could ask for any number of rows
MOST_STEPS = 1_000_000


class Schedule(ABC):
    """A path from data (t = t_min) to noise (t = t_max). A subclass defines alpha and sigma; the rest is derived.

    t is a tensor, () or (B,), and every answer has its shape. Times run from 0 to 1 unless the subclass says otherwise.
    """

    t_min: float = 0.0
    t_max: float = 1.0
    rho: ClassVar[float] = 1.0  # spacing of the timesteps: even in t^(1/rho)
    sigma_data: float = 1.0  # standard deviation of the data, as far as the scaling of network inputs is concerned

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Coefficient of the data, () or (B,)."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise, () or (B,)."""

    @final
    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), decreasing in t: the one coordinate that all schedules share."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    @final
    def at(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, shaped to broadcast against x (B, ...). Raises as add_noise does."""
        t = validation.as_level("t", t)
        validation.level("t", t, len(x) if x.ndim else None, 0.0, self.t_max)
        return expand_like(self.alpha(t), x), expand_like(self.sigma(t), x)

    @final
    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor | float) -> Tensor:
        """x_t = alpha x0 + sigma eps: any noise level in one jump. x0, eps (B, ...); t () or (B,).

        Raises TypeError for a type, and ValueError for a shape or a level, that does not fit.
        """
        t = validation.as_level("t", t)
        validation.floats("x0", x0)
        validation.floats("eps", eps)
        validation.same_shape("eps", eps, "x0", x0)
        validation.same_device("eps", eps, "x0", x0.device)
        alpha, sigma = self.at(t, x0)
        return alpha * x0 + sigma * eps

    @final
    def velocity(self, est: Estimate, t: Tensor) -> Tensor:
        """dx/dt = alpha'(t) x0 + sigma'(t) eps, the probability-flow ODE (Song et al. 2021, eq. 13), shaped like x.

        The derivatives are computed by automatic differentiation.
        """
        d_alpha, d_sigma = _derivative(self.alpha, t), _derivative(self.sigma, t)
        return expand_like(d_alpha, est.x0) * est.x0 + expand_like(d_sigma, est.x0) * est.eps

    @final
    def t_of_logsnr(self, logsnr: Tensor) -> Tensor:
        """The time at which this path has that log-SNR, by bisection in float64; beyond the path's ends, the end."""
        target = _floating(logsnr).double()
        lo, hi = torch.full_like(target, self.t_min), torch.full_like(target, self.t_max)
        for _ in range(64):
            mid = (lo + hi) / 2
            cleaner = self.logsnr(mid) > target
            lo, hi = torch.where(cleaner, mid, lo), torch.where(cleaner, hi, mid)
        return ((lo + hi) / 2).to(_floating(logsnr).dtype)

    @final
    def time_at(self, u: Tensor) -> Tensor:
        """The time at fraction u of the way from t_min (u = 0) to t_max (u = 1), even in t^(1/rho)."""
        lo, hi = self.t_min ** (1 / self.rho), self.t_max ** (1 / self.rho)
        return (lo + u * (hi - lo)) ** self.rho

    @final
    def timesteps(self, steps: int) -> Tensor:
        """Noise levels for a sampler: (steps + 1,) float64, decreasing from t_max to 0, where sigma = 0.

        A path whose t_min is above 0 (EDM) is followed down to t_min; the last step jumps from there to 0.
        """
        validation.positive_int("steps", steps)
        if self.t_min == 0:
            return self.time_at(torch.linspace(1, 0, steps + 1, dtype=torch.float64, device="cpu"))
        ts = self.time_at(torch.linspace(1, 0, steps, dtype=torch.float64, device="cpu"))
        return torch.cat([ts, ts.new_zeros(1)])


def _floating(t: Tensor | float) -> Tensor:
    """t as a tensor of floats: a level may be given as the whole number 1."""
    t = validation.as_level("t", t)
    return t if t.is_floating_point() else t.to(torch.get_default_dtype())


def _derivative(f: Callable[[Tensor], Tensor], t: Tensor | float) -> Tensor:
    """f'(t), shaped like t: each value of f depends on its own t alone, so the gradient of the sum holds them all."""
    with torch.inference_mode(False):  # gradients are on in here, whatever the caller's mode
        t = _floating(t).detach().clone().requires_grad_()
        value = f(t)
        return torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)


def _above_zero(**values: float) -> None:
    for name, value in values.items():
        validation.number(name, value)
        if not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")


@final
@dataclass(frozen=True)
class DDPM(Schedule):
    """DDPM's table of T small steps (Ho et al. 2020, sec. 4): alpha_bar_i = prod_{j <= i} (1 - beta_j).

    t = i / T meets the table's row i exactly; between rows log(alpha_bar) is linear, so any t can be asked for.
    """

    T: int = 1000
    beta_1: float = 1e-4
    beta_T: float = 0.02

    def __post_init__(self):
        validation.positive_int("T", self.T)
        if self.T > MOST_STEPS:
            raise ValueError(f"T: expected at most {MOST_STEPS} steps, got {self.T}")
        validation.number("beta_1", self.beta_1)
        validation.number("beta_T", self.beta_T)
        if not 0 < self.beta_1 <= self.beta_T < 1:
            raise ValueError(f"beta_1, beta_T: expected 0 < beta_1 <= beta_T < 1, got {self.beta_1} and {self.beta_T}")

    def betas(self) -> Tensor:
        """beta_1 ... beta_T: (T,) float64. Step i multiplies by sqrt(1 - beta_i) and adds noise of variance beta_i."""
        return torch.linspace(self.beta_1, self.beta_T, self.T, dtype=torch.float64, device="cpu")

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """log(alpha_bar) at t, read from the table; linear between its rows."""
        t = _floating(t)
        validation.level("t", t, None, self.t_min, self.t_max)  # 700 would be a row of the table, not a level
        table = _log_alpha_bar_table(self, t.dtype, t.device)
        i = t * self.T
        row = i.detach().floor().long().clamp(0, self.T - 1)
        return table[row] + (i - row) * (table[row + 1] - table[row])

    def alpha(self, t: Tensor) -> Tensor:
        return (self.log_alpha_bar(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self.log_alpha_bar(t))).sqrt()


@lru_cache(maxsize=32)
def _log_alpha_bar_table(schedule: DDPM, dtype: torch.dtype, device: torch.device) -> Tensor:
    table = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), torch.log1p(-schedule.betas()).cumsum(0)])
    return table.to(dtype).to(device)  # (T + 1,): summed in float64, cast once


@final
@dataclass(frozen=True)
class VP(Schedule):
    """DDPM with infinitely small steps (Song et al. 2021, eq. 32): beta(t) = beta_min + t (beta_max - beta_min)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        _above_zero(beta_min=self.beta_min, beta_max=self.beta_max)

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """log(alpha_bar) = -(the integral of beta from 0 to t)."""
        return -(self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return (self.log_alpha_bar(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self.log_alpha_bar(t))).sqrt()


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """A quarter of a circle (Nichol & Dhariwal 2021, without their offset): cos(pi t / 2) and sin(pi t / 2)."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(pi / 2 * (1 - t))  # the cosine, written so that alpha(1) is 0 and not -4e-8

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(pi / 2 * t)


@final
@dataclass(frozen=True)
class EDM(Schedule):
    """The data is never shrunk (Karras et al. 2022): alpha = 1 and t IS sigma, from sigma_min to sigma_max."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    rho: ClassVar[float] = 7.0

    def __post_init__(self):
        _above_zero(sigma_min=self.sigma_min, sigma_max=self.sigma_max, sigma_data=self.sigma_data)
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_max: expected more than sigma_min = {self.sigma_min}, got {self.sigma_max}")

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return 1.0 * t


@final
@dataclass(frozen=True)
class Flow(Schedule):
    """The straight line of flow matching and rectified flow (Lipman, Liu et al. 2023): alpha = 1 - t, sigma = t."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return 1.0 * t


SCHEDULES: dict[str, type[Schedule]] = {cls.__name__: cls for cls in (DDPM, VP, Cosine, EDM, Flow)}


def known_schedule(denoise: Denoise, schedule: Schedule) -> None:
    """Raises TypeError for what is no Schedule, ValueError where denoise says that it knows another path."""
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule: expected a Schedule such as Cosine(), got {schedule!r:.80}")
    own = getattr(denoise, "schedule", schedule)
    if own == schedule:
        return
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64, device="cpu") * min(own.t_max, schedule.t_max)
    if not (torch.equal(own.alpha(t), schedule.alpha(t)) and torch.equal(own.sigma(t), schedule.sigma(t))):
        raise ValueError(f"schedule: expected {own}, as the model's, got {schedule}; see schedules.convert_schedule")


def knows(denoise: Denoise, schedule: Schedule | None) -> Denoise:
    """denoise, which says from now on that this is its path: what wraps a model knows the path that the model knows."""
    if schedule is not None:
        denoise.schedule = schedule
    return denoise


def convert_schedule(denoise: Denoise, src: Schedule, dst: Schedule) -> Denoise:
    """Let a model trained on path src be sampled along path dst.

    At equal log-SNR the two paths show the same picture at another scale, so x is rescaled and the estimate of x0
    holds as it is. Where dst is noisier or cleaner than src ever gets, the model is asked at src's nearest end.
    Raises ValueError for a src that is not the model's.
    """
    known_schedule(denoise, src)

    def moved(x: Tensor, t: Tensor) -> Estimate:
        t_src = src.t_of_logsnr(dst.logsnr(t))
        alpha_src, sigma_src = src.at(t_src, x)
        alpha, sigma = dst.at(t, x)
        # equal log-SNR makes the pairs proportional; their lengths give the factor even where alpha or sigma is 0
        scale = torch.hypot(alpha_src, sigma_src) / torch.hypot(alpha, sigma)
        return from_x0(x, denoise(scale * x, t_src).x0, alpha, sigma)

    return knows(moved, dst)
