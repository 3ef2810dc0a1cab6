"""Chapter 09, Do we need 1000 steps?"""

from __future__ import annotations

from itertools import pairwise
from math import log2

import torch
from torch import Tensor

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers
from learn_diffusion.process import Estimate
from learn_diffusion.schedules import Cosine

# a world where the answer is known: one-dimensional Gaussian data

PATH, MEAN, SPREAD = Cosine(), 0.5, 0.3
START = torch.tensor([[-1.5], [-0.5], [0.3], [1.2]], dtype=torch.float64)
FROM, TO = 0.9, 0.15  # no mirror images of each other on the path


class _Exact:
    """The best possible denoiser of that data, which also counts its calls and remembers their levels."""

    def __init__(self):
        self.levels: list[float] = []

    def __call__(self, x: Tensor, t: Tensor) -> Estimate:
        t = torch.as_tensor(t, dtype=torch.float64)
        self.levels.append(t.max().item())
        alpha, sigma = PATH.alpha(t), PATH.sigma(t)
        x0 = MEAN + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x - alpha * MEAN)
        return Estimate(x0, (x - alpha * x0) / sigma)


def _true_end() -> Tensor:
    """Where the curves from START at level FROM are at level TO: as many widths from the mean as before."""
    (alpha_t, alpha_s), (sigma_t, sigma_s) = (f(torch.tensor([FROM, TO]).double()) for f in (PATH.alpha, PATH.sigma))
    width_t, width_s = ((a**2 * SPREAD**2 + s**2).sqrt() for a, s in ((alpha_t, sigma_t), (alpha_s, sigma_s)))
    return alpha_s * MEAN + width_s / width_t * (START - alpha_t * MEAN)


def _walk(sampler, steps: int) -> tuple[Tensor, _Exact]:
    denoise = _Exact()
    ts = torch.linspace(FROM, TO, steps + 1, dtype=torch.float64)
    out = call(sampler, denoise, PATH, START.clone(), ts)
    return numbers(out, START.shape, "the picture at the end"), denoise


def _order(sampler) -> float:
    """log2 of how much the error falls when the steps are doubled."""
    coarse, fine = ((_walk(sampler, n)[0] - _true_end()).abs().mean().item() for n in (32, 64))
    if fine > 0.03:
        raise IncorrectAnswer(
            f"With 64 steps the end is still {fine:.2f} from the true end of the curve: this follows another curve."
        )
    return log2(coarse / max(fine, 1e-12))


def _one_step() -> tuple[Tensor, Estimate, Tensor, Tensor]:
    """(x at t, its estimate, alpha_s, sigma_s) of a single step from FROM to TO."""
    s = torch.tensor(TO, dtype=torch.float64)
    return START, _Exact()(START, torch.tensor(FROM)), PATH.alpha(s), PATH.sigma(s)


# DDIM


def _check_ddim(sampler):
    out, denoise = _walk(sampler, 1)
    x, est, alpha_s, sigma_s = _one_step()
    if not denoise.levels:
        raise IncorrectAnswer("The denoiser is never asked.")
    if agrees(out, alpha_s * est.x0 + sigma_s * est.eps):
        many, denoise = _walk(sampler, 8)
        if len(denoise.levels) < 8:
            raise IncorrectAnswer(
                f"In a walk of 8 steps the denoiser is asked {len(denoise.levels)} times. Ask again after each step."
            )
        if agrees(many, x):
            raise IncorrectAnswer(
                "After 8 steps the picture is where it was: each step has to start from the last one's result."
            )
        order = _order(sampler)
        if not 0.8 < order < 1.2:
            raise IncorrectAnswer(f"One step is right, but the order of many is {order:.1f} and should be 1.")
        return f"Doubling the steps divides the error by {2**order:.1f}: order 1, as it should be."
    t = torch.tensor(FROM, dtype=torch.float64)
    if agrees(out, PATH.alpha(t) * est.x0 + PATH.sigma(t) * est.eps):
        raise IncorrectAnswer(
            "The sentence is written with alpha and sigma of level t, where you are already. Take those of s."
        )
    if agrees(out, est.x0):
        raise IncorrectAnswer("This returns the guess x0 itself. Put back as much noise as belongs at level s.")
    if agrees(out, alpha_s * est.x0):
        raise IncorrectAnswer(
            "The noise is missing: this is a shrunken guess, and the network has never seen such a thing."
        )
    if agrees(out, sigma_s * est.x0 + alpha_s * est.eps):
        raise IncorrectAnswer("alpha and sigma are exchanged: alpha belongs to the picture, sigma to the noise.")
    if agrees(out, alpha_s * est.x0 - sigma_s * est.eps):
        raise IncorrectAnswer("The noise has the wrong sign.")
    if agrees(out, x + (TO - FROM) * PATH.velocity(est, t)):
        raise IncorrectAnswer("This is Euler's step along the velocity. DDIM writes the sentence again instead.")
    raise IncorrectAnswer(f"One step from t = {FROM} to s = {TO} gives {out[0].item():.3f}; expected "
                f"{(alpha_s * est.x0 + sigma_s * est.eps)[0].item():.3f}. Is fresh noise drawn?")  # fmt: skip


def your_ddim(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        est = denoise(x, t)
        x = schedule.alpha(s) * est.x0 + schedule.sigma(s) * est.eps
    return x


def asks_once(denoise, schedule, x, ts):
    est = denoise(x, ts[0])
    return schedule.alpha(ts[-1]) * est.x0 + schedule.sigma(ts[-1]) * est.eps


def writes_at_t(denoise, schedule, x, ts):
    for t in ts[:-1]:
        est = denoise(x, t)
        x = schedule.alpha(t) * est.x0 + schedule.sigma(t) * est.eps
    return x


def returns_the_guess(denoise, schedule, x, ts):
    for t in ts[:-1]:
        x = denoise(x, t).x0
    return x


def no_noise_back(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        x = schedule.alpha(s) * denoise(x, t).x0
    return x


def coefficients_exchanged(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        est = denoise(x, t)
        x = schedule.sigma(s) * est.x0 + schedule.alpha(s) * est.eps
    return x


def noise_subtracted(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        est = denoise(x, t)
        x = schedule.alpha(s) * est.x0 - schedule.sigma(s) * est.eps
    return x


def fresh_noise(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        x = schedule.alpha(s) * denoise(x, t).x0 + schedule.sigma(s) * torch.randn_like(x)
    return x


def euler(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        x = x + (s - t) * schedule.velocity(denoise(x, t), t)
    return x


def forgets_to_update(denoise, schedule, x, ts):
    out = x
    for t, s in pairwise(ts):
        est = denoise(x, t)
        out = schedule.alpha(s) * est.x0 + schedule.sigma(s) * est.eps if len(ts) == 2 else x
    return out


def without_eps(denoise, schedule, x, ts):
    for i in range(len(ts) - 1):
        t, s = ts[i], ts[i + 1]
        x0 = denoise(x, t).x0
        x = schedule.alpha(s) * x0 + schedule.sigma(s) / schedule.sigma(t) * (x - schedule.alpha(t) * x0)
    return x


def in_float32_arrays(denoise, schedule, x, ts):
    for t, s in pairwise(ts.float()):
        est = denoise(x.float(), t)
        x = schedule.alpha(s) * est.x0 + schedule.sigma(s) * est.eps
    return x.numpy()


ddim = Exercise(
    "09.ddim",
    r"""Write DDIM. `your_ddim(denoise, path, x, ts)` starts from `x` at level `ts[0]` and returns the picture at level `ts[-1]`. `ts`
    decreases. `denoise(x, t)` answers with `.x0` and `.eps`; `path.alpha(s)` and `path.sigma(s)` are the two coefficients at a level. The check
    walks where the answer is known, and reads off the order.""",
    hints=[
        "`from itertools import pairwise`; `for t, s in pairwise(ts):` gives each step from t down to s.",
        "In each step: ask once, at the level where you are. Then write the sentence again at the lower level.",
        "x = path.alpha(s) * est.x0 + path.sigma(s) * est.eps",
    ],
    solution=your_ddim,
    check=_check_ddim,
    mistakes={
        "asked 1 times": asks_once,
        "of level t": writes_at_t,
        "the guess x0 itself": returns_the_guess,
        "The noise is missing": no_noise_back,
        "exchanged": coefficients_exchanged,
        "wrong sign": noise_subtracted,
        "fresh noise": fresh_noise,
        "Euler": euler,
        "where it was": forgets_to_update,
    },
    variants=[without_eps, in_float32_arrays],
)


# Heun


def _check_heun(sampler):
    out, denoise = _walk(sampler, 1)
    x, est, _, _ = _one_step()
    t, s = torch.tensor([FROM, TO], dtype=torch.float64)
    slope = PATH.velocity(est, t)
    ahead = x + (s - t) * slope
    there = PATH.velocity(_Exact()(ahead, s), s)
    expected = x + (s - t) * (slope + there) / 2
    if agrees(out, expected):
        order = _order(sampler)
        if not 1.8 < order < 2.2:
            raise IncorrectAnswer(f"One step is right, but the order of many is {order:.1f} and should be 2.")
        return f"Doubling the steps divides the error by {2**order:.1f}: order 2."
    if agrees(out, ahead):
        raise IncorrectAnswer("This is Euler's step: the second velocity has no part in it.")
    if agrees(out, x + (s - t) * (slope + there)):
        raise IncorrectAnswer("The two velocities are added. Take their mean.")
    if agrees(out, ahead + (s - t) * (slope + there) / 2):
        raise IncorrectAnswer("The step starts from the trial point. Go back to x first, and step from there.")
    if agrees(out, x + (s - t) * there):
        raise IncorrectAnswer("Only the velocity at the trial point is used. Take the mean of both.")
    if agrees(out, x - (s - t) * (slope + there) / 2) or agrees(out, x + (t - s) * slope):
        raise IncorrectAnswer(
            "The step goes the wrong way, towards more noise: s - t is negative, and so it should be."
        )
    if agrees(out, x + (s - t) * (slope + PATH.velocity(_Exact()(ahead, t), t)) / 2):
        raise IncorrectAnswer("The second look is at the trial point, but still at level t. There, the level is s.")
    if agrees(out, x + (s - t) * (slope + PATH.velocity(_Exact()(x, s), s)) / 2):
        raise IncorrectAnswer("The second look is at level s, but at the old x. Look at the trial point.")
    raise IncorrectAnswer(f"One step from t = {FROM} to s = {TO} gives {out[0].item():.3f}; expected {expected[0].item():.3f} "
                f"(the denoiser was asked at the levels {[round(v, 2) for v in denoise.levels]}).")  # fmt: skip


def your_heun(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        ahead = x + (s - t) * slope
        there = schedule.velocity(denoise(ahead, s), s)
        x = x + (s - t) * (slope + there) / 2
    return x


def only_euler(denoise, schedule, x, ts):
    return euler(denoise, schedule, x, ts)


def sum_for_mean(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        x = x + (s - t) * (slope + schedule.velocity(denoise(x + (s - t) * slope, s), s))
    return x


def from_the_trial_point(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        x = x + (s - t) * slope
        x = x + (s - t) * (slope + schedule.velocity(denoise(x, s), s)) / 2
    return x


def only_the_second(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        ahead = x + (s - t) * schedule.velocity(denoise(x, t), t)
        x = x + (s - t) * schedule.velocity(denoise(ahead, s), s)
    return x


def second_look_at_t(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        x = x + (s - t) * (slope + schedule.velocity(denoise(x + (s - t) * slope, t), t)) / 2
    return x


def second_look_at_old_x(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        x = x + (s - t) * (schedule.velocity(denoise(x, t), t) + schedule.velocity(denoise(x, s), s)) / 2
    return x


def uphill(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        x = x - (s - t) * (slope + schedule.velocity(denoise(x + (s - t) * slope, s), s)) / 2
    return x


def as_trapezium(denoise, schedule, x, ts):
    for i in range(len(ts) - 1):
        h = ts[i + 1] - ts[i]
        one = schedule.velocity(denoise(x, ts[i]), ts[i])
        two = schedule.velocity(denoise(x + h * one, ts[i + 1]), ts[i + 1])
        x = x + 0.5 * h * one + 0.5 * h * two
    return x


def in_two_halves(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        ahead = x + (s - t) * slope
        x = (x + ahead + (s - t) * schedule.velocity(denoise(ahead, s), s)) / 2
    return x.numpy()


heun = Exercise(
    "09.heun",
    r"""Write Heun's method. `your_heun(denoise, path, x, ts)` is called like DDIM. `path.velocity(est, t)` gives the velocity that an estimate
    means at level `t`. In each step: the velocity where you are, a trial step with it, the velocity *there*, and then the step with the mean of
    the two. (The check ends its walk before $\sigma$ is 0, so you need not treat the last step differently.)""",
    hints=[
        "A step of Euler is x + (s - t) * slope. s - t is negative: t decreases.",
        "The second look is at the trial point, at level s.",
        "The real step starts from x again, not from the trial point.",
    ],
    solution=your_heun,
    check=_check_heun,
    mistakes={
        "Euler's step": only_euler,
        "Take their mean": sum_for_mean,
        "starts from the trial point": from_the_trial_point,
        "Only the velocity at the trial point": only_the_second,
        "still at level t": second_look_at_t,
        "at the old x": second_look_at_old_x,
        "the wrong way": uphill,
    },
    variants=[as_trapezium, in_two_halves],
)
