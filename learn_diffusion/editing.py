"""Repair and change pictures with a model that was never trained for it.

Whatever is known of a picture goes in as a function Denoise -> Denoise, so it composes with guidance and with any
sampler on any path: `dpmpp_2m(ddnm(cfg(model, y, 3.0), path, known, mask), path, noise, path.timesteps(20))`.

A mask is bool and broadcasts against the data: (B, 1, H, W) or (1, 1, H, W) for pictures. True is KEPT: there the
answer is `known`, to the last bit; elsewhere `known` may hold anything finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.process import Denoise, Estimate, expand_like, from_x0, randn_like, renoise, where_rows
from learn_diffusion.samplers import State, ddim, step_pairs
from learn_diffusion.schedules import BLIND, Schedule, known_schedule, knows

# ---- inpainting: some values are known ----


def ddnm(denoise: Denoise, schedule: Schedule, known: Tensor, mask: Tensor) -> Denoise:
    """Put the known values into every estimate of x0, and correct the noise so that the two still explain x_t.

    known (B, ...) or (1, ...); mask bool, True where known is kept. The kept values of x_t then run straight from their
    noise to what is known, and the denoiser sees them on the way; it is not told that they are certain, see `repaint`
    and `pigdm`. One call a step. Raises TypeError or ValueError that names a bad argument.
    """
    _check(denoise, schedule, known, mask)

    def held(x: Tensor, t: Tensor) -> Estimate:
        _check_fit(x, known, mask)
        return _kept(x, denoise(x, t), schedule.at(t, x), known, mask)

    return knows(held, schedule)


def replacement(
    denoise: Denoise, schedule: Schedule, known: Tensor, mask: Tensor, generator: torch.Generator | None = None
) -> Denoise:
    """Show the denoiser the known values under fresh noise, at every step anew (Song et al. 2021, sec. 5).

    The method most often called inpainting; arguments and answer are those of `ddnm`, which shows them under one noise
    from beginning to end. With either, a known value says little while the noise is high, and the rest of the picture
    has made up its mind before it speaks clearly: the results are biased.
    """
    _check(denoise, schedule, known, mask)

    def replaced(x: Tensor, t: Tensor) -> Estimate:
        _check_fit(x, known, mask)
        alpha, sigma = schedule.at(t, x)
        shown = torch.where(mask, alpha * known + sigma * randn_like(x, generator), x)
        return _kept(x, denoise(shown, t), (alpha, sigma), known, mask)

    return knows(replaced, schedule)


def pigdm(
    denoise: Denoise,
    schedule: Schedule,
    known: Tensor,
    mask: Tensor,
    scale: float = 1.0,
    noise: float = 0.0,
    sigma_data: float | None = None,
) -> Denoise:
    """Reconstruction guidance: pull the whole estimate to where the known values would be met (Ho et al. 2022, Chung et
    al. 2023), with the weights of Song et al. 2023 (pseudo-inverse guidance).

    denoise     in operations that torch can differentiate
    scale       0: only `ddnm`; 1: right where data are Gaussian with independent values of variance sigma_data^2
    noise       standard deviation of errors in known; above 0 the kept values are no longer kept exactly
    sigma_data  standard deviation of the data, by default the schedule's

    Given x_t, the known values are guessed as x0 with variance r^2 = sigma^2 d^2 / (sigma^2 + d^2 alpha^2), where d is
    sigma_data. The score gains the gradient of log N(known; x0, r^2 + noise^2) by x_t, so x0 gains
    sigma^2 / alpha times that. One call a step, and one way back through it.
    """
    _check(denoise, schedule, known, mask)
    validation.number("scale", scale)
    d = schedule.sigma_data if sigma_data is None else sigma_data
    for name, value in (("noise", noise), ("sigma_data", d)):
        validation.number(name, value)
    if noise < 0:
        raise ValueError(f"noise: expected a standard deviation of 0 or more, got {noise}")
    if d <= 0:
        raise ValueError(f"sigma_data: expected a standard deviation above 0, got {sigma_data}")

    def pulled(x: Tensor, t: Tensor) -> Estimate:
        _check_fit(x, known, mask)
        alpha, sigma = schedule.at(t, x)
        logsnr = schedule.logsnr(validation.as_level("t", t))
        steerable = (logsnr >= BLIND) & (logsnr < inf)
        if scale == 0 or not steerable.any():
            est = denoise(x, t)
        else:
            est, slope = _towards(denoise, x, t, known, mask)
            spread = sigma**2 * d**2 / (sigma**2 + d**2 * alpha**2)
            step = scale * sigma * slope / (spread + noise**2)
            est = where_rows(steerable, Estimate(est.x0 + sigma / alpha * step, est.eps - step), est)
        return est if noise else _kept(x, est, (alpha, sigma), known, mask)

    return knows(pulled, schedule)


def _towards(denoise: Denoise, x: Tensor, t: Tensor, known: Tensor, mask: Tensor) -> tuple[Estimate, Tensor]:
    """The estimate, and the slope by x_t of -|known - x0|^2 / 2 over what is kept, (B, ...)."""
    with torch.inference_mode(False):  # gradients are on in here: samplers turn them off
        x = x.detach().clone().requires_grad_()  # a tensor of inference mode can have none
        est = denoise(x, t)
        if not est.x0.requires_grad:
            raise ValueError("denoise: expected an estimate that torch can differentiate by x_t, got one without")
        off = torch.where(mask, known - est.x0, 0.0).detach()
        slope = torch.autograd.grad((est.x0 * off).sum(), x)[0]
    return Estimate(est.x0.detach(), est.eps.detach()), slope


def repaint(
    denoise: Denoise,
    schedule: Schedule,
    known: Tensor,
    mask: Tensor,
    ts: Tensor,
    resample: int,
    generator: torch.Generator | None = None,
) -> Iterator[State]:
    """RePaint (Lugmayr et al. 2022, alg. 1): take every step `resample` times, noising back up in between, so that what
    is new and what is known have time to agree. From noise to pictures: yields a State after each try at a step.

    known     (B, ...), finite: its shape says how many pictures are drawn
    ts        (N + 1,) decreasing, see schedule.timesteps
    resample  tries at each step, 1 or more; N * resample network calls in all. 1 is the replacement method, with DDPM

    Raises TypeError or ValueError that names a bad argument, when called.
    """
    _check(denoise, schedule, known, mask)
    _check_fit(known, known, mask)
    validation.positive_int("resample", resample)
    return _repaint(denoise, schedule, known, mask, list(step_pairs(denoise, schedule, known, ts)), resample, generator)


@torch.no_grad()
def _repaint(denoise, schedule, known, mask, steps, resample, generator) -> Iterator[State]:
    x = expand_like(schedule.sigma(steps[0][0]), known) * randn_like(known, generator)
    for t, s in steps:
        for again in range(resample, 0, -1):
            step = ddim(denoise, schedule, x, torch.stack([t, s]), eta=1.0, generator=generator)
            state = next(step)
            alpha, sigma = schedule.at(s, x)
            x = torch.where(mask, alpha * known + sigma * randn_like(x, generator), state.x)
            yield State(s, x, state.est)
            if again > 1:
                x = renoise(schedule, x, s, t, generator)


def _kept(x: Tensor, est: Estimate, level: tuple[Tensor, Tensor], known: Tensor, mask: Tensor) -> Estimate:
    """The estimate with what is known in it; at sigma = 0 the noise cannot be told, and stays as it is."""
    alpha, sigma = level
    x0 = torch.where(mask, known, est.x0)
    eps = from_x0(x, x0, alpha, sigma).eps
    return Estimate(x0, torch.where(mask & (sigma > 0), eps, est.eps))


def _check(denoise: Denoise, schedule: Schedule, known: Any, mask: Any) -> None:
    known_schedule(denoise, schedule)
    validation.floats("known", known)
    validation.finite("known", known)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask: expected a bool tensor, True where known is kept, got {got}; mask > 0.5 makes one")
    validation.same_device("mask", mask, "known", known.device)
    fits = mask.ndim == known.ndim and all(
        m in (1, k) or (i == 0 and k == 1) for i, (m, k) in enumerate(zip(mask.shape, known.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"mask: expected a shape that broadcasts against known, {tuple(known.shape)}, "
            f"such as (1, 1, H, W), got {tuple(mask.shape)}"
        )


def _check_fit(x: Tensor, known: Tensor, mask: Tensor) -> None:
    """Raises ValueError where broadcasting would make other pictures, or more, than x (B, ...) has."""
    validation.same_device("known", known, "x", x.device)
    if known.shape[1:] != x.shape[1:] or len(known) not in (1, len(x)):
        raise ValueError(f"known: expected a shape like x, {tuple(x.shape)}, or one row, got {tuple(known.shape)}")
    if len(mask) not in (1, len(x)):
        raise ValueError(f"mask: expected one row, or one for each of the {len(x)} rows of x, got {len(mask)}")


# ---- changing: start from a picture instead of noise ----


def truncate(ts: Tensor, strength: float) -> Tensor:
    """The last share `strength` of the steps of a grid, at least one: where a change of that strength starts.

    ts (N + 1,) decreasing; strength in (0, 1]. 1 is the whole way, from noise.
    """
    validation.number("strength", strength)
    if not 0 < strength <= 1:
        raise ValueError(f"strength: expected a number above 0 and up to 1, got {strength!r}")
    return ts[-1 - max(1, round(float(strength) * (len(ts) - 1))) :]


def sdedit(
    denoise: Denoise,
    schedule: Schedule,
    picture: Tensor,
    strength: float,
    ts: Tensor,
    generator: torch.Generator | None = None,
    sampler: Callable[..., Iterator[State]] = ddim,
) -> Iterator[State]:
    """SDEdit (Meng et al. 2022): noise a picture part of the way and denoise it, under a new condition if there is one.

    picture   (B, ...); strength in (0, 1]: the share of the steps of ts that are taken. Low keeps the picture, 1 is
              (nearly) free of it
    ts        (N + 1,) decreasing, the whole way
    generator  of the noise that is added; None: torch's own
    sampler   (denoise, schedule, x, ts) -> States, such as those of samplers.SAMPLERS

    Yields a State after each step. Raises ValueError that names a bad argument.
    """
    validation.floats("picture", picture)
    validation.finite("picture", picture)
    ts = truncate(ts, strength)
    x = schedule.add_noise(picture, randn_like(picture, generator), ts[0])
    return sampler(denoise, schedule, x, ts)


def invert(
    denoise: Denoise, schedule: Schedule, picture: Tensor, ts: Tensor, fixed_point_iters: int = 3
) -> Iterator[State]:
    """DDIM inversion: the noise from which ddim on the grid ts draws this picture. Yields a State after each step up.

    A step of ddim down from t to s is x_s = alpha_s x0 + sigma_s eps, with both read at the noisier x_t. To undo it,
    x_t is wanted first; it is found by trying: x_t = alpha_t (x_s - sigma_s eps) / alpha_s + sigma_t eps, where eps is
    read at the x_t of the iteration before (Pan et al. 2023). More come closer. The usual inversion (Song et al. 2021)
    reads once, at x_s and its level. len(ts) - 1 steps of `fixed_point_iters` calls each.

    picture (B, ...) at level ts[-1], where there must be signal; ts (N + 1,) decreasing.
    """
    validation.positive_int("fixed_point_iters", fixed_point_iters)
    return _invert(
        denoise, schedule, picture, list(step_pairs(denoise, schedule, picture, ts))[::-1], fixed_point_iters
    )


@torch.no_grad()
def _invert(denoise, schedule, x, steps, fixed_point_iters) -> Iterator[State]:
    eps = torch.zeros_like(x)
    for t, s in steps:
        (alpha, sigma), (alpha_s, sigma_s) = schedule.at(t, x), schedule.at(s, x)
        for _ in range(fixed_point_iters):
            x_t = alpha * (x - sigma_s * eps) / alpha_s + sigma * eps
            est = denoise(x_t, t)
            eps = est.eps
        x = alpha * (x - sigma_s * eps) / alpha_s + sigma * eps
        yield State(t, x, est)


def slerp(a: Tensor, b: Tensor, w: float | Tensor) -> Tensor:
    """Between two noises, along the arc that keeps their length (slerp, Shoemake 1985): a at w = 0, b at w = 1.

    The straight line would pass through noise that is too quiet: halfway, 0.7 of the length that the model knows.
    a, b (B, ...); w a number or (B,). Returns (B, ...). Raises ValueError where shapes differ.
    """
    validation.floats("a", a)
    validation.same_shape("b", b, "a", a)
    w = torch.as_tensor(w, dtype=a.dtype)
    u, v = a.flatten(1), b.flatten(1)
    cosine = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))
    angle = expand_like(cosine.clamp(-1, 1).acos(), a)
    w = expand_like(w, a)
    arc = (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()
    return torch.where(angle.sin() > 1e-4, arc, a + w * (b - a))  # the same noise twice: no angle to divide by


@torch.no_grad()
def diffedit_mask(
    one: Denoise,
    other: Denoise,
    schedule: Schedule,
    picture: Tensor,
    t: Tensor | float,
    n: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Where two denoisers, asked for two things, see different pictures: (B, 1, H, W), from 0 to 1 in each picture
    (DiffEdit, Couairon et al. 2023). `diffedit_mask(...) < 0.5` is the mask of what to keep.

    picture (B, C, H, W) is noised to level t n times; the map is the mean of |x0 - x0'| over these and the channels,
    divided by its largest value.
    """
    known_schedule(one, schedule)
    known_schedule(other, schedule)
    validation.floats("picture", picture, ndim=4)
    validation.positive_int("n", n)
    t, total = validation.as_level("t", t), torch.zeros_like(picture)
    for _ in range(n):
        x = schedule.add_noise(picture, randn_like(picture, generator), t)
        total += (one(x, t).x0 - other(x, t).x0).abs()
    total = total.mean(1, keepdim=True)
    return total / total.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(total.dtype).tiny)
