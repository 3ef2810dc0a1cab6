"""Guidance: functions Denoise -> Denoise that change the estimate, so they compose with each other and any sampler."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.process import Denoise, Estimate, from_x0, where_rows
from learn_diffusion.schedules import BLIND, Schedule, known_schedule, knows

LogProb = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, ...), t () or (B,)) -> log p(y | x_t) of each row, (B,)


class Conditional(Protocol):
    """A model with an optional condition, such as denoiser.Denoiser."""

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None, cond_mask: Tensor | None = None) -> Estimate: ...


def cfg(model: Conditional, y: Tensor, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022): extrapolate from the unconditional estimate
    towards the conditional one.

    model  reads y, and cond_mask (B,) bool, which drops y where it is False
    y      (B, ...) conditions, one for each picture
    scale  0: without the condition, 1: with it, above 1: more than it asks for. (The paper's w is scale - 1.)

    Both estimates come from one evaluation of a batch of 2B; scale 0 and 1 need half of that. A negative scale guides
    away from y.

    Raises ValueError for a scale that is not a finite number, or where rows and conditions differ in number.
    """
    validation.number("scale", scale)
    if not isinstance(y, Tensor) or y.ndim == 0:
        got = "a single one" if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y: expected a tensor of conditions, one for each picture, got {got}")

    def guided(x: Tensor, t: Tensor) -> Estimate:
        n = len(x)
        if len(y) != n:
            raise ValueError(f"y: expected one condition for each of the {n} rows of x, got {len(y)}")
        if scale == 1:
            return model(x, t, y)
        if scale == 0:
            return model(x, t, y, torch.zeros(n, dtype=torch.bool, device=x.device))
        t = validation.as_level("t", t)
        cond_mask = torch.arange(2 * n, device=x.device) < n
        both = model(torch.cat([x, x]), torch.cat([t, t]) if t.ndim else t, torch.cat([y, y]), cond_mask)
        cond, uncond = Estimate(both.x0[:n], both.eps[:n]), Estimate(both.x0[n:], both.eps[n:])
        return uncond.lerp(cond, scale)

    return knows(guided, getattr(model, "schedule", None))


def guidance_interval(guided: Denoise, plain: Denoise, schedule: Schedule, lo: float, hi: float) -> Denoise:
    """Guide only between two noise levels (Kynkaanniemi et al. 2024): guided where lo <= log-SNR <= hi, else plain.

    lo, hi  log-SNR, which means the same on every schedule; lo is the noisier end; -inf and inf leave an end open.
            The paper's limits are EDM's sigma: log-SNR = -2 log(sigma)

    One call where all rows agree on the side, both where t (B,) divides them. Raises ValueError where lo is not
    below hi, and for a schedule that is not that of both.
    """
    validation.ordered(lo, hi, "log-SNR with lo < hi, from the noisier level to the cleaner")
    known_schedule(guided, schedule)
    known_schedule(plain, schedule)

    def within(x: Tensor, t: Tensor) -> Estimate:
        logsnr = schedule.logsnr(validation.as_level("t", t))
        inside = (lo <= logsnr) & (logsnr <= hi)
        if inside.all():
            return guided(x, t)
        if not inside.any():
            return plain(x, t)
        return where_rows(inside, guided(x, t), plain(x, t))

    return knows(within, schedule)


def autoguidance(better: Denoise, worse: Denoise, scale: float) -> Denoise:
    """Guide with a worse version of the model (Karras et al. 2024): extrapolate from the worse estimate
    towards the better one.

    better, worse  two denoisers of one path (schedules.convert_schedule moves one), with one condition or with none
    scale          0: the worse model, 1: the better one, above 1: past it

    Two calls, of networks that may differ in size; scale 0 and 1 need one. Raises ValueError for a scale that is not
    a finite number, and for two paths.
    """
    validation.number("scale", scale)
    schedule = getattr(better, "schedule", getattr(worse, "schedule", None))
    if schedule is not None:
        known_schedule(worse, schedule)

    def guided(x: Tensor, t: Tensor) -> Estimate:
        if scale == 1:
            return better(x, t)
        if scale == 0:
            return worse(x, t)
        return worse(x, t).lerp(better(x, t), scale)

    return knows(guided, schedule)


def classifier_guidance(denoise: Denoise, log_prob: LogProb, schedule: Schedule, scale: float) -> Denoise:
    """Classifier guidance (Dhariwal and Nichol 2021, sec. 4): add scale * grad log p(y | x_t) to the score.

    denoise   unconditional
    log_prob  (x_t (B, ...), t) -> log p(y | x_t) of each row, (B,), in operations that torch can differentiate. It must
              be trained on noised data
    scale     0: unguided, 1: the conditional model, if denoise and log_prob are exact; the paper's s

    The score is -eps / sigma, so eps loses scale * sigma * grad, and x0 gains scale * sigma^2 / alpha * grad, which
    keeps the invariant. The gradient of an exact log_prob shrinks with alpha, so the gain of x0 stays finite; that of a
    trained one may not: clip_x0 around this bounds it. Below a log-SNR of BLIND, and so at alpha = 0, the gain cannot
    be told (0/0), and at sigma = 0 there is none: there denoise is left as it is.

    One call each of denoise and log_prob, and one way back through the latter. Raises ValueError for a scale that is
    not a finite number, for a log_prob of another shape or without a gradient, and for a schedule that is not the
    model's.
    """
    validation.number("scale", scale)
    known_schedule(denoise, schedule)

    def guided(x: Tensor, t: Tensor) -> Estimate:
        est = denoise(x, t)
        logsnr = schedule.logsnr(validation.as_level("t", t))
        steerable = (logsnr >= BLIND) & (logsnr < inf)
        if scale == 0 or not steerable.any():
            return est
        alpha, sigma = schedule.at(t, x)
        step = scale * sigma * _gradient(log_prob, x, t)
        return where_rows(steerable, Estimate(est.x0 + sigma / alpha * step, est.eps - step), est)

    return knows(guided, schedule)


def _gradient(log_prob: LogProb, x: Tensor, t: Tensor) -> Tensor:
    """d log_prob / dx, (B, ...): each row's answer depends on its own x alone, so the gradient of the sum holds all."""
    with torch.inference_mode(False):  # gradients are on in here: samplers turn them off
        x = x.detach().clone().requires_grad_()  # a tensor of inference mode can have none
        logs = log_prob(x, t)
        if not isinstance(logs, Tensor) or logs.shape != (len(x),):
            got = f"shape {tuple(logs.shape)}" if isinstance(logs, Tensor) else type(logs).__name__
            raise ValueError(f"log_prob: expected log p(y | x_t) of each row, shape ({len(x)},), got {got}")
        slope = torch.autograd.grad(logs.sum(), x, allow_unused=True)[0] if logs.requires_grad else None
        if slope is None:
            raise ValueError(
                "log_prob: expected an answer that torch can differentiate by x_t, got one that ignores it"
            )
        return slope


def clip_x0(denoise: Denoise, schedule: Schedule, lo: float = -1.0, hi: float = 1.0) -> Denoise:
    """Keep the estimated picture inside [lo, hi], and correct the noise so that the two still explain x_t.

    Clamping x0 alone would break the invariant, and with it every sampler that uses both. Raises ValueError for a
    schedule that is not the model's.
    """
    validation.ordered(lo, hi, "lo < hi")
    known_schedule(denoise, schedule)

    def clipped(x: Tensor, t: Tensor) -> Estimate:
        return from_x0(x, denoise(x, t).x0.clamp(lo, hi), *schedule.at(t, x))

    return knows(clipped, schedule)
