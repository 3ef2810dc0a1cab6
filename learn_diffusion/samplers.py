"""Samplers: from noise to data, one noise level at a time.

Each validates its arguments when called and returns a generator that yields State(t, x, est) after every step, so a
caller can watch, stop early or keep every frame:
`frames = [state.x for state in ddim(model, schedule, noise, schedule.timesteps(20))]`. No gradients are recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.process import Denoise, Estimate, expand_like, from_x0, randn_like
from learn_diffusion.schedules import Schedule, known_schedule


class State(NamedTuple):
    """Where a sampler stands after a step: at level t with x, having read the estimate est on the way."""

    t: Tensor  # ()
    x: Tensor  # (B, ...)
    est: Estimate  # of the level the step came from


def step_pairs(denoise: Denoise, schedule: Schedule, x: Tensor, ts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The steps (t, s) of a decreasing grid ts (N + 1,). Raises TypeError or ValueError before the first of them, also
    for a model of another schedule, whose pictures would be silently wrong.
    """
    known_schedule(denoise, schedule)
    validation.floats("x", x)
    validation.finite("x", x)
    validation.floats("ts", ts, ndim=1)
    if len(ts) < 2:
        raise ValueError(f"ts: expected at least two noise levels, got {len(ts)}")
    validation.level("ts", ts, len(ts), 0.0, schedule.t_max)
    if not bool((ts[1:] < ts[:-1]).all()):
        raise ValueError("ts: expected noise levels that decrease, from noise to data: see schedule.timesteps(steps)")
    return pairwise(ts.cpu())


def ddim(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    ts: Tensor,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[State]:
    """Rewrite x at each lower noise level, keeping the estimated noise (eta = 0) or a share of it.

    With r = SNR_t / SNR_s: x_s = alpha_s x0 + sigma_s (sqrt(1 - eta^2 (1 - r)) eps + eta sqrt(1 - r) z).
    eta = 0 is DDIM (Song et al. 2021, eq. 12); eta = 1 draws from the posterior of Ho et al. 2020 (eq. 6 and 7), which
    is DDPM. x (B, ...) at level ts[0]; ts (N + 1,) decreasing; one network call a step.
    """
    validation.number("eta", eta)
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta: expected a number from 0 (DDIM) to 1 (DDPM), got {eta}")
    steps = step_pairs(denoise, schedule, x, ts)

    @torch.no_grad()
    def run(x: Tensor) -> Iterator[State]:
        for t, s in steps:
            est = denoise(x, t)
            alpha, sigma = schedule.at(s, x)
            eps = est.eps
            if eta > 0:
                fresh = -(eta**2) * torch.expm1(schedule.logsnr(t) - schedule.logsnr(s))  # variance share of new noise
                eps = expand_like((1 - fresh).sqrt(), x) * eps + expand_like(fresh.sqrt(), x) * randn_like(x, generator)
            x = alpha * est.x0 + sigma * eps
            yield State(s, x, est)

    return run(x)


def heun(denoise: Denoise, schedule: Schedule, x: Tensor, ts: Tensor) -> Iterator[State]:
    """Follow dx/dt with the mean of the slopes at both ends of each step (Karras et al. 2022, alg. 1).

    Second order; two network calls a step, one for the last step to sigma = 0. x (B, ...) at ts[0]; ts (N + 1,).
    """
    steps = step_pairs(denoise, schedule, x, ts)

    @torch.no_grad()
    def run(x: Tensor) -> Iterator[State]:
        for t, s in steps:
            est = denoise(x, t)
            if schedule.sigma(s) > 0:
                slope, step = schedule.velocity(est, t), (s - t).to(x.dtype)
                there = schedule.velocity(denoise(x + step * slope, s), s)
                x = x + step * (slope + there) / 2
            else:  # the slope is undefined at sigma = 0, where only x0 is left (on EDM, that is an Euler step)
                x = schedule.at(s, x)[0] * est.x0
            yield State(s, x, est)

    return run(x)


def dpmpp_2m(denoise: Denoise, schedule: Schedule, x: Tensor, ts: Tensor) -> Iterator[State]:
    """DDIM with x0 extrapolated from the previous step, linearly in lambda = logsnr / 2 (Lu et al. 2022, alg. 2).

    Second order; one network call a step. The first step, and the last where sigma reaches 0, are plain DDIM.
    x (B, ...) at ts[0]; ts (N + 1,) decreasing.
    """
    steps = step_pairs(denoise, schedule, x, ts)

    @torch.no_grad()
    def run(x: Tensor) -> Iterator[State]:
        before = None  # (x0, lam) of the previous step
        for t, s in steps:
            est = denoise(x, t)
            x0, lam = est.x0, schedule.logsnr(t) / 2
            if before is not None and schedule.sigma(s) > 0:
                x0_before, lam_before = before
                ahead = (schedule.logsnr(s) / 2 - lam) / (2 * (lam - lam_before))
                x0 = x0 + expand_like(ahead, x) * (x0 - x0_before)
            before = est.x0, lam
            (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t, x), schedule.at(s, x)
            ahead_est = from_x0(x, x0, alpha_t, sigma_t)
            x = alpha_s * ahead_est.x0 + sigma_s * ahead_est.eps
            yield State(s, x, est)

    return run(x)


SAMPLERS: dict[str, Callable[..., Iterator[State]]] = {f.__name__: f for f in (ddim, heun, dpmpp_2m)}


def final_sample(states: Iterable[State]) -> Tensor:
    """Run a sampler to its end and keep the picture: x (B, ...)."""
    end = deque(states, maxlen=1)
    if not end:
        raise ValueError(
            "states: expected a sampler that takes at least one step, got none; one that ran to its end has none left"
        )
    return end[0].x
