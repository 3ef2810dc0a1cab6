"""How likely a diffusion model finds its data: exactly, by its probability-flow ODE, or bounded, by DDPM's ELBO.

And how exact the walks are: their marginals against a mixture's, and the order of a method for SDEs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import log, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.metrics.error_bars import MeanWithError, mean_and_error
from learn_diffusion.mixture import GaussianMixture
from learn_diffusion.process import Denoise, randn_like
from learn_diffusion.schedules import Schedule, known_schedule


def log_likelihood(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    ts: Tensor,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p(x) in nats, (B,), of the density that the probability-flow ODE makes of Gaussian noise.

    d(log p)/dt = -div v along dx/dt = v (Chen et al. 2018; Song et al. 2021, sec. 4.3), by Heun's method: order 2, two
    evaluations of the denoiser a step. x (B, ...) is read as data at the level ts[0], where the ODE stops; ts (N + 1,)
    increases from there to pure noise. probes: None for the exact divergence, one backward pass for each dimension;
    else the number of probes of Hutchinson's estimate, drawn anew at each evaluation: its error has mean 0.

    Raises TypeError or ValueError that names the argument.
    """
    _check(denoise, schedule, x, ts)
    if probes is not None:
        validation.positive_int("probes", probes)

    def slopes(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            v = schedule.velocity(denoise(x, t), t)
            return v.detach(), divergence(v, x, probes, generator)

    gained = x.new_zeros(len(x))  # log p(x) - log p of where the path of x has come to
    for s, t in pairwise(ts.cpu()):
        step = (t - s).item()
        v, div = slopes(x, s)
        v_there, div_there = slopes(x + step * v, t)
        x, gained = x + step * (v + v_there) / 2, gained + step * (div + div_there) / 2
    return gained + log_normal(x, schedule.sigma(ts[-1]).item())


def divergence(v: Tensor, x: Tensor, probes: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """The divergence of v(x), (B,): the trace of dv/dx of each row; v, x (B, ...), each row of v of its row of x alone.

    probes=None: exact, by one backward pass for each dimension. Else the mean of z (dv/dx) z over so many vectors z of
    random signs, whose expectation is the trace (Hutchinson 1989; Grathwohl et al. 2019).
    """
    validation.same_shape("v", v, "x", x)
    if probes is None:
        units = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)
        zs = [unit.reshape(x[0].shape).expand_as(x) for unit in units]
    else:
        zs = [torch.where(randn_like(x, generator) < 0, -1.0, 1.0).to(x.dtype) for _ in range(probes)]
    traces = [(torch.autograd.grad(v, x, z, retain_graph=True)[0] * z).flatten(1).sum(1) for z in zs]
    return torch.stack(traces).sum(0) / (probes or 1)


class ELBO(NamedTuple):
    """Terms of the bound in nats: log p(x) >= -(L_0 + L_1 + ... + L_T) in expectation (Ho et al. 2020, eq. 5)."""

    reconstruction: Tensor  # L_0 (B,): data from the cleanest level
    steps: Tensor  # L_1 ... L_{T-1}, (T - 1, B): each step of the chain
    prior: Tensor  # L_T (B,): what the noisiest level still tells of the data

    @property
    def total(self) -> Tensor:
        """The bound, (B,)."""
        return -(self.reconstruction + self.steps.sum(0) + self.prior)


@torch.no_grad()
def elbo(denoise: Denoise, schedule: Schedule, x: Tensor, ts: Tensor, generator: torch.Generator | None = None) -> ELBO:
    """The ELBO of the chain with levels ts (T,), increasing: t_1 ... t_T, one draw of noise for each level and row.

    For the posterior that ddim(eta=1) draws from, L_{t-1} = (SNR_s - SNR_t) / 2 |x0 - x0_hat|^2 (Kingma et al. 2021,
    sec. 4). x0 is drawn from x_1 with the variance sigma_1^2 around x0_hat, which is beta_1 of Ho et al. x (B, ...)
    float, ts of variance-preserving schedules. Raises TypeError or ValueError that names the argument.
    """
    _check(denoise, schedule, x, ts)
    if not torch.allclose(schedule.alpha(ts) ** 2 + schedule.sigma(ts) ** 2, torch.ones_like(ts)):
        raise ValueError(f"schedule: expected alpha^2 + sigma^2 = 1, got {schedule}")
    errors = []
    for t in ts.cpu():
        est = denoise(schedule.add_noise(x, randn_like(x, generator), t), t)
        errors.append((est.x0 - x).flatten(1).square().sum(1))
    alpha, sigma = schedule.alpha(ts.cpu()), schedule.sigma(ts.cpu())
    fall = (-((alpha / sigma) ** 2).diff() / 2).to(x.dtype).to(x.device)[:, None]
    first, last = sigma[0].item(), sigma[-1].item()
    known = (alpha[-1].item() * x).flatten(1).square().sum(1)
    prior = (known + x[0].numel() * (last**2 - 1 - 2 * log(last))) / 2
    reconstruction = errors[0] / (2 * first**2) + x[0].numel() * log(2 * pi * first**2) / 2
    return ELBO(reconstruction, fall * torch.stack(errors[1:]), prior)


def log_normal(x: Tensor, sigma: float = 1.0) -> Tensor:
    """log density of x (B, ...) as independent Gaussian noise of standard deviation sigma, (B,)."""
    x = x.flatten(1)
    return -x.square().sum(1) / (2 * sigma**2) - x.shape[1] * log(2 * pi * sigma**2) / 2


class KS(NamedTuple):
    """A Kolmogorov-Smirnov distance, and what it exceeds by chance, for as many points, once in 1,000 times."""

    statistic: float
    chance: float


def marginal_ks(x: Tensor, world: GaussianMixture, t: Tensor) -> KS:
    """The largest difference between the share of first coordinates of x (B, D) below a value, and p_t's share."""
    from scipy import stats  # slow to import, and comes with scikit-learn

    validation.floats("x", x, ndim=2)
    validation.finite("x", x)
    alpha, sigma = world.schedule.alpha(t).item(), world.schedule.sigma(t).item()
    width, share = float(np.hypot(alpha * world.width, sigma)), world.share.cpu().numpy()
    middle = alpha * world.centres[:, 0].cpu().numpy()
    found = stats.kstest(x[:, 0].cpu().numpy(), lambda v: stats.norm.cdf(v[:, None], middle, width) @ share)
    return KS(float(found.statistic), float(stats.kstwo.ppf(0.999, len(x))))


class Convergence(NamedTuple):
    """How far walks of N steps end from walks of 2 N on the same noise."""

    steps: list[int]  # N
    gap: Tensor  # (len(steps),) mean over the walks
    error: Tensor  # (len(steps),) one standard error
    order: MeanWithError  # the strong order: minus the slope in logarithms, with one standard error


Coefficient = Callable[[Tensor, Tensor], Tensor]  # (x (B, D), t ()) -> (B, D) or ()


def strong_order(
    solve: Callable[..., Tensor], drift: Coefficient, g: Coefficient, x: Tensor, begin: float, end: float,
    generator: torch.Generator | None = None,
) -> Convergence:  # fmt: skip
    """The strong order of a method for dx = drift dt + g dw, from x (B, D) at the time begin to the time end.

    solve(drift, g, x, ts (N + 1,), z (N, B, D)) returns all states (N + 1, B, D), and z is noise of variance 1. The
    distance of N steps from 2 N falls like that from the exact end, and needs no exact end. For N = 32 ... 512; the
    error of the order is that over ten parts of the walks, so B must be at least 20.
    """
    validation.floats("x", x, ndim=2)
    if len(x) < 20:
        raise ValueError(f"x: expected at least 20 walks, got {len(x)}")
    z, ends, steps = randn_like(x.expand(1024, *x.shape), generator), [], [512, 256, 128, 64, 32]
    for n in (1024, *steps):
        ends.append(solve(drift, g, x, torch.linspace(begin, end, n + 1, dtype=torch.float64), z)[-1])
        z = (z[::2] + z[1::2]) / 2**0.5  # the same noise in longer steps
    gaps = torch.stack(ends).diff(dim=0).norm(dim=2)  # (5, B)
    parts = torch.stack([gaps[:, i::10].mean(1) for i in range(10)], dim=1).log().cpu()
    order = mean_and_error(-np.polyfit(np.log(steps), parts.numpy(), 1)[0])
    return Convergence(steps, gaps.mean(1), gaps.std(1) / len(x) ** 0.5, order)


def _check(denoise: Denoise, schedule: Schedule, x: Tensor, ts: Tensor) -> None:
    known_schedule(denoise, schedule)
    validation.floats("x", x)
    validation.finite("x", x)
    validation.floats("ts", ts, ndim=1)
    validation.level("ts", ts, len(ts), 0.0, schedule.t_max)
    if len(ts) < 2 or not bool((ts[1:] > ts[:-1]).all()):
        raise ValueError("ts: expected at least two noise levels that increase, from data to noise")
    if not bool(schedule.sigma(ts[0]) > 0):
        raise ValueError(f"ts: expected levels with noise in them, got {ts[0].item():g} first")
