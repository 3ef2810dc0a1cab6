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


class _Noise(_Exact):
    """The same, of which only the guess of the noise is told."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return super().__call__(x, t).eps


def _walks(network: type[_Exact]) -> list[tuple]:
    """From START along one step, and along eight of different sizes: (network, schedule, x, ts)."""
    grids = (FROM + (TO - FROM) * torch.linspace(0, 1, n + 1, dtype=torch.float64) ** 2 for n in (1, 8))
    return [(network(), PATH, START, ts) for ts in grids]


def _error(sampler, network: type[_Exact], steps: int) -> float:
    ts = torch.linspace(FROM, TO, steps + 1, dtype=torch.float64)
    end = numbers(call(sampler, network(), PATH, START.clone(), ts), START.shape, "the picture at the end")
    return (end - _true_end()).abs().mean().item()


def _order(sampler, network: type[_Exact]) -> str:
    """Reads the order off: by how much the error falls when the steps are doubled."""
    ratio = _error(sampler, network, 32) / max(_error(sampler, network, 64), 1e-12)
    return f"Doubling the steps divides the error by {ratio:.1f}: order {round(log2(ratio))}, as it should be."


def _asked(got, expected, network, schedule, x, ts):
    steps, levels = len(ts) - 1, [round(level, 2) for level in network.levels]
    return (
        f"After {steps} step{'s' * (steps > 1)} from t = {FROM} to s = {TO} the picture is {got[0].item():.3f}; expected "
        f"{expected[0].item():.3f}. The network was asked at the levels {levels}."
    )


def stepwise(step):
    """The sampler that makes this step, (network, schedule, x, t, s) -> x at s, from each level to the next."""

    def sampler(network, schedule, x, ts):
        for t, s in pairwise(ts):
            x = step(network, schedule, x, t, s)
        return x

    return sampler


# DDIM


def your_ddim(guess_eps, schedule, x, ts):
    for t, s in pairwise(ts):
        eps = guess_eps(x, t)
        x0 = (x - schedule.sigma(t) * eps) / schedule.alpha(t)
        x = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
    return x


def _solved(guess_eps, schedule, x, t):
    """(x0, eps) at level t."""
    eps = guess_eps(x, t)
    return (x - schedule.sigma(t) * eps) / schedule.alpha(t), eps


def asks_once(guess_eps, schedule, x, ts):
    x0, eps = _solved(guess_eps, schedule, x, ts[0])
    return schedule.alpha(ts[-1]) * x0 + schedule.sigma(ts[-1]) * eps


@stepwise
def writes_at_t(guess_eps, schedule, x, t, s):
    x0, eps = _solved(guess_eps, schedule, x, t)
    return schedule.alpha(t) * x0 + schedule.sigma(t) * eps


@stepwise
def solved_at_s(guess_eps, schedule, x, t, s):
    eps = guess_eps(x, t)
    x0 = (x - schedule.sigma(s) * eps) / schedule.alpha(s)
    return schedule.alpha(s) * x0 + schedule.sigma(s) * eps


@stepwise
def not_divided(guess_eps, schedule, x, t, s):
    eps = guess_eps(x, t)
    return schedule.alpha(s) * (x - schedule.sigma(t) * eps) + schedule.sigma(s) * eps


@stepwise
def whole_noise_removed(guess_eps, schedule, x, t, s):
    eps = guess_eps(x, t)
    return schedule.alpha(s) * (x - eps) + schedule.sigma(s) * eps


@stepwise
def returns_the_guess(guess_eps, schedule, x, t, s):
    x, _ = _solved(guess_eps, schedule, x, t)
    return x


@stepwise
def no_noise_back(guess_eps, schedule, x, t, s):
    return schedule.alpha(s) * _solved(guess_eps, schedule, x, t)[0]


@stepwise
def noise_subtracted(guess_eps, schedule, x, t, s):
    x0, eps = _solved(guess_eps, schedule, x, t)
    return schedule.alpha(s) * x0 - schedule.sigma(s) * eps


@stepwise
def fresh_noise(guess_eps, schedule, x, t, s):
    x0, _ = _solved(guess_eps, schedule, x, t)
    return schedule.alpha(s) * x0 + schedule.sigma(s) * torch.randn_like(x)


@stepwise
def euler(denoise, schedule, x, t, s):
    return x + (s - t) * schedule.velocity(denoise(x, t), t)


def euler_of_the_noise(guess_eps, schedule, x, ts):
    return euler(lambda x, t: Estimate(*_solved(guess_eps, schedule, x, t)), schedule, x, ts)


def forgets_to_update(guess_eps, schedule, x, ts):
    return your_ddim(guess_eps, schedule, x, ts) if len(ts) == 2 else x


def by_the_ratio(guess_eps, schedule, x, ts):
    for i in range(len(ts) - 1):
        t, s = ts[i], ts[i + 1]
        a = schedule.alpha(s) / schedule.alpha(t)
        x = a * x + (schedule.sigma(s) - a * schedule.sigma(t)) * guess_eps(x, t)
    return x


def in_float32_arrays(guess_eps, schedule, x, ts):
    return your_ddim(guess_eps, schedule, x.float(), ts.float()).numpy()


ddim = Exercise(
    "09.ddim",
    r"""Write DDIM for a network that tells only the noise, as many in use do. `your_ddim(guess_eps, schedule, x, ts)` starts from `x` at level `ts[0]` and
    returns the picture at level `ts[-1]`. `ts` is a tensor of decreasing levels; hand them on as they are. `guess_eps(x, t)` answers with $\hat\varepsilon$, a tensor; `schedule.alpha(s)` and
    `schedule.sigma(s)` are the two coefficients at a level, none of which is 0 here. The check walks where the answer is known, and reads off the order.""",
    hints=[
        "`from itertools import pairwise`; `for t, s in pairwise(ts):` gives each step from t down to s.",
        "In each step: ask once, at the level where you are. Picture and noise explain x, so the noise tells the picture.",
        "x0 = (x - schedule.sigma(t) * eps) / schedule.alpha(t)",
        "Then write the sentence again at the lower level s.",
    ],
    solution=your_ddim,
    inputs=lambda: _walks(_Noise),
    result="the picture at the end",
    otherwise=_asked,
    check=lambda sampler: _order(sampler, _Noise),
    mistakes={
        "The network is asked once, whatever the number of steps. Ask again after each step.": asks_once,
        "Picture and noise are found and put together again at one level, so x stays as it is. Find them at t, write at s.": [
            writes_at_t,
            solved_at_s,
        ],
        "The guess of the picture is still shrunken: x - sigma eps is alpha times the picture.": not_divided,
        "All of eps is taken away from x. Of the noise there is only sigma times as much in it.": whole_noise_removed,
        "This returns the guess of the picture itself. Put back as much noise as belongs at level s.": returns_the_guess,
        "The noise is missing: this is a shrunken guess, and the network has never seen such a thing.": no_noise_back,
        "The noise has the wrong sign.": noise_subtracted,
        "Here fresh noise is drawn. DDIM puts back the noise that the network found.": fresh_noise,
        "This is Euler's step along the velocity. DDIM writes the sentence again instead.": euler_of_the_noise,
        "After 8 steps the picture is where it was: each step has to start from the last one's result.": forgets_to_update,
    },
    variants=[by_the_ratio, in_float32_arrays],
)


# a relative of Heun's method


def your_midpoint(denoise, schedule, x, ts):
    for t, s in pairwise(ts):
        half = (t + s) / 2
        ahead = x + (half - t) * schedule.velocity(denoise(x, t), t)
        x = x + (s - t) * schedule.velocity(denoise(ahead, half), half)
    return x


@stepwise
def heun(denoise, schedule, x, t, s):
    slope = schedule.velocity(denoise(x, t), t)
    there = schedule.velocity(denoise(x + (s - t) * slope, s), s)
    return x + (s - t) * (slope + there) / 2


@stepwise
def mean_with_the_middle(denoise, schedule, x, t, s):
    half, slope = (t + s) / 2, schedule.velocity(denoise(x, t), t)
    there = schedule.velocity(denoise(x + (half - t) * slope, half), half)
    return x + (s - t) * (slope + there) / 2


@stepwise
def from_the_trial_point(denoise, schedule, x, t, s):
    half = (t + s) / 2
    x = x + (half - t) * schedule.velocity(denoise(x, t), t)
    return x + (s - t) * schedule.velocity(denoise(x, half), half)


@stepwise
def two_half_steps(denoise, schedule, x, t, s):
    half = (t + s) / 2
    x = x + (half - t) * schedule.velocity(denoise(x, t), t)
    return x + (s - half) * schedule.velocity(denoise(x, half), half)


@stepwise
def whole_trial_step(denoise, schedule, x, t, s):
    half = (t + s) / 2
    ahead = x + (s - t) * schedule.velocity(denoise(x, t), t)
    return x + (s - t) * schedule.velocity(denoise(ahead, half), half)


@stepwise
def look_at_the_end(denoise, schedule, x, t, s):
    ahead = x + (s - t) * schedule.velocity(denoise(x, t), t)
    return x + (s - t) * schedule.velocity(denoise(ahead, s), s)


@stepwise
def second_look_at_t(denoise, schedule, x, t, s):
    ahead = x + (s - t) / 2 * schedule.velocity(denoise(x, t), t)
    return x + (s - t) * schedule.velocity(denoise(ahead, t), t)


@stepwise
def second_look_at_old_x(denoise, schedule, x, t, s):
    return x + (s - t) * schedule.velocity(denoise(x, (t + s) / 2), (t + s) / 2)


@stepwise
def euler_uphill(denoise, schedule, x, t, s):
    return x - (s - t) * schedule.velocity(denoise(x, t), t)


@stepwise
def uphill(denoise, schedule, x, t, s):
    half = (t + s) / 2
    ahead = x + (half - t) * schedule.velocity(denoise(x, t), t)
    return x - (s - t) * schedule.velocity(denoise(ahead, half), half)


def with_half_the_step(denoise, schedule, x, ts):
    for i in range(len(ts) - 1):
        h = (ts[i + 1] - ts[i]) / 2
        ahead = x + h * schedule.velocity(denoise(x, ts[i]), ts[i])
        x = x + 2 * h * schedule.velocity(denoise(ahead, ts[i] + h), ts[i] + h)
    return x


def with_the_first_step(denoise, schedule, x, ts):
    h = ts[1] - ts[0]
    for t in ts[:-1]:
        ahead = x + h / 2 * schedule.velocity(denoise(x, t), t)
        x = x + h * schedule.velocity(denoise(ahead, t + h / 2), t + h / 2)
    return x


def as_array(denoise, schedule, x, ts):
    return your_midpoint(denoise, schedule, x, ts).numpy()


midpoint = Exercise(
    "09.midpoint",
    r"""Heun looks at the end of each step. Its relative, the **midpoint method**, looks half-way. Write it: `your_midpoint(denoise, schedule, x, ts)` is called
    like `my_heun`, and `schedule.velocity(denoise(x, t), t)` is the velocity of `x` at level `t`. In each step: the velocity where you are, a trial step with it to the level half-way between $t$ and $s$, the velocity *there*, and then the whole
    step with that velocity alone. (It never looks at level $s$ itself, so $\sigma = 0$ at the end does it no harm. Its order is that of Heun.)""",
    hints=[
        "A step of Euler is x + (s - t) * slope. s - t is negative: t decreases. Half a step goes to (t + s) / 2.",
        "The second look is at the trial point, at the level (t + s) / 2.",
        "The real step starts from x again, not from the trial point, and is a whole one.",
    ],
    solution=your_midpoint,
    inputs=lambda: _walks(_Exact),
    result="the picture at the end",
    otherwise=_asked,
    check=lambda sampler: _order(sampler, _Exact),
    mistakes={
        "This is Heun's step: it looks at the end, and takes the mean. Look half-way.": heun,
        "This comes to the mean of both velocities, or two half steps of Euler. Use the one half-way alone.": [
            mean_with_the_middle,
            two_half_steps,
        ],
        "This is Euler's step: the second velocity has no part in it.": euler,
        "The step starts from the trial point. Go back to x first, and step from there.": from_the_trial_point,
        "The level of the second look is half-way, but the trial step went the whole way.": whole_trial_step,
        "The second look is at the end of the step. Look half-way.": look_at_the_end,
        "The second look is at the trial point, but still at level t. There, the level is (t + s) / 2.": second_look_at_t,
        "The second look is at the level half-way, but at the old x. Look at the trial point.": second_look_at_old_x,
        "The step goes the wrong way, towards more noise: s - t is negative, and so it should be.": [
            uphill,
            euler_uphill,
        ],
        "Every step is as long as the first one here. Each has its own length, s - t.": with_the_first_step,
    },
    variants=[with_half_the_step, as_array],
)
