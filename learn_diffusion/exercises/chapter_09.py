"""Chapter 09, Do we need 1000 steps?"""

from __future__ import annotations

from itertools import pairwise
from math import log2

import torch
from torch import Tensor

from learn_diffusion.exercises.core import Exercise, call, numbers
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


def _walks() -> list[tuple]:
    """From START along one step, and along eight: (denoise, schedule, x, ts)."""
    grids = (torch.linspace(FROM, TO, n + 1, dtype=torch.float64) for n in (1, 8))
    return [(_Exact(), PATH, START, ts) for ts in grids]


def _error(sampler, steps: int) -> float:
    ts = torch.linspace(FROM, TO, steps + 1, dtype=torch.float64)
    end = numbers(call(sampler, _Exact(), PATH, START.clone(), ts), START.shape, "the picture at the end")
    return (end - _true_end()).abs().mean().item()


def _order(sampler) -> str:
    """Reads the order off: by how much the error falls when the steps are doubled."""
    ratio = _error(sampler, 32) / max(_error(sampler, 64), 1e-12)
    return f"Doubling the steps divides the error by {ratio:.1f}: order {round(log2(ratio))}, as it should be."


def _asked(got, expected, denoise, schedule, x, ts):
    steps, levels = len(ts) - 1, [round(level, 2) for level in denoise.levels]
    return (
        f"After {steps} step{'s' * (steps > 1)} from t = {FROM} to s = {TO} the picture is {got[0].item():.3f}; expected "
        f"{expected[0].item():.3f}. The denoiser was asked at the levels {levels}."
    )


# DDIM


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
    r"""Write DDIM. `your_ddim(denoise, schedule, x, ts)` starts from `x` at level `ts[0]` and returns the picture at level `ts[-1]`. `ts`
    decreases. `denoise(x, t)` answers with `.x0` and `.eps`; `schedule.alpha(s)` and `schedule.sigma(s)` are the two coefficients at a level. The check
    walks where the answer is known, and reads off the order.""",
    hints=[
        "`from itertools import pairwise`; `for t, s in pairwise(ts):` gives each step from t down to s.",
        "In each step: ask once, at the level where you are. Then write the sentence again at the lower level.",
        "x = schedule.alpha(s) * est.x0 + schedule.sigma(s) * est.eps",
    ],
    solution=your_ddim,
    inputs=_walks,
    result="the picture at the end",
    otherwise=_asked,
    check=_order,
    mistakes={
        "The denoiser is asked once, whatever the number of steps. Ask again after each step.": asks_once,
        "The sentence is written with alpha and sigma of level t, where you are already. Take those of s.": writes_at_t,
        "This returns the guess x0 itself. Put back as much noise as belongs at level s.": returns_the_guess,
        "The noise is missing: this is a shrunken guess, and the network has never seen such a thing.": no_noise_back,
        "alpha and sigma are exchanged: alpha belongs to the picture, sigma to the noise.": coefficients_exchanged,
        "The noise has the wrong sign.": noise_subtracted,
        "Here fresh noise is drawn. DDIM puts back the noise that the network found.": fresh_noise,
        "This is Euler's step along the velocity. DDIM writes the sentence again instead.": euler,
        "After 8 steps the picture is where it was: each step has to start from the last one's result.": forgets_to_update,
    },
    variants=[without_eps, in_float32_arrays],
)


# Heun


def your_heun(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        slope = schedule.velocity(denoise(x, t), t)
        ahead = x + (s - t) * slope
        there = schedule.velocity(denoise(ahead, s), s)
        x = x + (s - t) * (slope + there) / 2
    return x


def euler_uphill(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        x = x - (s - t) * schedule.velocity(denoise(x, t), t)
    return x


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
    r"""Write Heun's method. `your_heun(denoise, schedule, x, ts)` is called like DDIM. `schedule.velocity(est, t)` gives the velocity that an estimate
    means at level `t`. In each step: the velocity where you are, a trial step with it, the velocity *there*, and then the step with the mean of
    the two. (The check ends its walk before $\sigma$ is 0, so you need not treat the last step differently.)""",
    hints=[
        "A step of Euler is x + (s - t) * slope. s - t is negative: t decreases.",
        "The second look is at the trial point, at level s.",
        "The real step starts from x again, not from the trial point.",
    ],
    solution=your_heun,
    inputs=_walks,
    result="the picture at the end",
    otherwise=_asked,
    check=_order,
    mistakes={
        "This is Euler's step: the second velocity has no part in it.": euler,
        "The two velocities are added. Take their mean.": sum_for_mean,
        "The step starts from the trial point. Go back to x first, and step from there.": from_the_trial_point,
        "Only the velocity at the trial point is used. Take the mean of both.": only_the_second,
        "The second look is at the trial point, but still at level t. There, the level is s.": second_look_at_t,
        "The second look is at level s, but at the old x. Look at the trial point.": second_look_at_old_x,
        "The step goes the wrong way, towards more noise: s - t is negative, and so it should be.": [
            uphill,
            euler_uphill,
        ],
    },
    variants=[as_trapezium, in_two_halves],
)
