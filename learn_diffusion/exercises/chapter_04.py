"""Chapter 04, Why predict random noise?"""

from __future__ import annotations

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call
from learn_diffusion.schedules import EDM, Cosine, Flow
from learn_diffusion.targets import TARGETS


def _levels(schedule, t):
    t = torch.tensor(t, dtype=torch.float64)
    return schedule.alpha(t).item(), schedule.sigma(t).item()


X0, EPS = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
# flow first: there alpha^2 + sigma^2 is not 1, so a formula that needs it is found out
PLACES = [_levels(Flow(), 0.3), _levels(Cosine(), 0.6), _levels(EDM(), 2.0)]

# from the noise to the picture and the velocity


def my_convert(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, eps - x0


def _with_velocity(guess):
    return lambda xt, eps, alpha, sigma: (x0 := guess(xt, eps, alpha, sigma), eps - x0)


def in_numpy_float32(xt, eps, alpha, sigma):
    return my_convert(xt.float().numpy(), eps.float().numpy(), alpha, sigma)


Exercise(
    "04.convert",
    r"""Convert. `my_convert(xt, eps, alpha, sigma)` gets a noised picture, a guess of its noise, and the two coefficients (numbers; on any path, so
    do not count on $\alpha^2+\sigma^2=1$). It returns two things: $x_0$, and the velocity $u = \varepsilon - x_0$.""",
    hints=[
        "The sentence x_t = alpha x0 + sigma eps has one unknown left.",
        "Take sigma eps away from x_t. What remains is alpha x0.",
    ],
    solution=my_convert,
    inputs=[(alpha * X0 + sigma * EPS, EPS, alpha, sigma) for alpha, sigma in PLACES],
    result=("x0", "u"),
    mistakes={
        "Both are right, but in the other order: first x0, then u.": lambda *args: my_convert(*args)[::-1],
        "With alpha = {alpha:.2f} and sigma = {sigma:.2f}, this is alpha x0: one more division.": _with_velocity(
            lambda xt, eps, alpha, sigma: xt - sigma * eps
        ),
        "The noise is added once more. It has to be taken away.": _with_velocity(
            lambda xt, eps, alpha, sigma: (xt + sigma * eps) / alpha
        ),
        "With sigma = {sigma:.2f}, all of the noise is taken away; but x_t holds only sigma of it.": _with_velocity(
            lambda xt, eps, alpha, sigma: (xt - eps) / alpha
        ),
        "With sigma = {sigma:.2f}, x0 is off by what is left of the noise: take away sigma eps, not sigma^2 eps.": (
            _with_velocity(lambda xt, eps, alpha, sigma: (xt - sigma**2 * eps) / alpha)
        ),
        "That is the formula for x0 from v, not from eps.": _with_velocity(
            lambda xt, eps, alpha, sigma: alpha * xt - sigma * eps
        ),
        "x0 is right. u has the wrong sign: it points from the data to the noise, as t does.": (
            lambda xt, eps, alpha, sigma: (X0, X0 - eps)
        ),
        "x0 is right. What you call u is v; u is eps - x0, without coefficients.": lambda xt, eps, alpha, sigma: (
            X0,
            alpha * eps - sigma * X0,
        ),
    },
    variants=[lambda xt, eps, alpha, sigma: [X0, EPS - X0], in_numpy_float32],
    right="From the noise to the picture and to the velocity, on three paths.",
)

# from v to both


def my_from_v(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


def _over(det):
    """my_from_v with another determinant."""
    return lambda xt, v, alpha, sigma: tuple(
        x * (alpha**2 + sigma**2) / det(alpha, sigma) for x in my_from_v(xt, v, alpha, sigma)
    )


def eps_from_x0(xt, v, alpha, sigma):
    x0 = (alpha * xt - sigma * v) / (alpha * alpha + sigma * sigma)
    return x0.numpy(), ((xt - alpha * x0) / sigma).tolist()


Exercise(
    "04.from_v",
    r"""Un-mix. `my_from_v(xt, v, alpha, sigma)` gets a noised picture and a guess of $v = \alpha\varepsilon - \sigma x_0$, and returns $x_0$ and
    $\varepsilon$. It has to be right on *any* path. (Elsewhere you may meet $\hat x_0 = \alpha x_t - \sigma \hat v$. That holds only where
    $\alpha^2+\sigma^2=1$.)""",
    hints=[
        "The row of v is a = -sigma, b = alpha. What is its determinant?",
        "det = alpha * alpha + sigma * sigma. Put a, b and det into the box.",
    ],
    solution=my_from_v,
    inputs=[(alpha * X0 + sigma * EPS, alpha * EPS - sigma * X0, alpha, sigma) for alpha, sigma in PLACES],
    result=("x0", "eps"),
    mistakes={
        "Both are right, but in the other order: first x0, then eps.": lambda *args: my_from_v(*args)[::-1],
        "With alpha = {alpha:.2f} and sigma = {sigma:.2f} the answer is off by a factor: on this path alpha^2 + sigma^2 is not 1. Divide by det.": _over(
            lambda alpha, sigma: 1
        ),
        "x0 has the wrong sign before sigma v.": lambda xt, v, alpha, sigma: (
            (alpha * xt + sigma * v) / (alpha**2 + sigma**2),
            EPS,
        ),
        "The determinant has a wrong sign: a is -sigma, so alpha b - sigma a is a sum.": _over(
            lambda alpha, sigma: alpha**2 - sigma**2
        ),
        "You divide by the root of det. Divide by det itself.": _over(
            lambda alpha, sigma: (alpha**2 + sigma**2) ** 0.5
        ),
        "x0 is right. eps has the wrong sign before sigma x_t: a is -sigma, and it is subtracted.": (
            lambda xt, v, alpha, sigma: (X0, (alpha * v - sigma * xt) / (alpha**2 + sigma**2))
        ),
    },
    variants=[lambda xt, v, alpha, sigma: (X0, EPS), eps_from_x0],
    right="Both unknowns come back, on three paths.",
)

# where a target breaks


def my_magnified(a, b, alpha, sigma):
    det = alpha * b - sigma * a
    return abs(sigma / det) if det else float("inf")


def _rows():
    places = [*PLACES, _levels(Cosine(), 0.98), _levels(Flow(), 0.02), _levels(Flow(), 1.0)]
    every = [(*row(alpha, sigma), alpha, sigma) for alpha, sigma in places for row in TARGETS.values()]
    return [(a, b, alpha, sigma) for a, b, alpha, sigma in every if alpha * b != sigma * a]


def _check(my_magnified):
    out = call(my_magnified, 0.0, 1.0, 0.0, 1.0)
    if not isinstance(out, (float, torch.Tensor, np.ndarray)) or float(out) != float("inf"):
        raise IncorrectAnswer(
            'For eps with alpha = 0 and sigma = 1 det is 0: nothing can be solved, and the answer is float("inf").'
        )


def by_linear_algebra(a, b, alpha, sigma):
    rows = np.array([[alpha, sigma], [a, b]])
    return abs(np.linalg.inv(rows)[0, 1]) if np.linalg.det(rows) else np.inf


Exercise(
    "04.where_it_breaks",
    r"""Find where targets break. `my_magnified(a, b, alpha, sigma)` gets the row of a target and the two coefficients (four numbers). The network's answer $\hat F$ is off by 1. It returns by how much the guess $\hat x_0$ that comes out is
    then off, as a number that is never negative, and `float("inf")` where $\det = 0$. (The check asks about all five targets, on three paths, and at an end where one of them breaks. It leaves out `x0` at $\sigma = 0$: $\det$ is 0 there, too, but the answer is the picture itself.)""",
    hints=[
        "In the box, the answer stands in the formula of x0_hat once. What is its factor?",
        "The factor is -sigma/det, and det = alpha b - sigma a. Take its size.",
        "Where det is 0, Python refuses to divide: ask before you divide.",
    ],
    solution=my_magnified,
    inputs=_rows,
    result="the error",
    check=_check,
    mistakes={
        "With alpha = {alpha:.2f} and sigma = {sigma:.2f} the answer is negative. The size of an error is not: take the "
        "absolute value.": [
            lambda a, b, alpha, sigma: -sigma / (alpha * b - sigma * a),
            lambda a, b, alpha, sigma: sigma / (alpha * b - sigma * a),
        ],
        "That is 1/det. In the formula of x0_hat, the answer is multiplied by sigma as well.": lambda a, b, alpha, sigma: (
            abs(1 / (alpha * b - sigma * a))
        ),
        "That is how far the noise is off. The question is about the picture: there the answer has the factor sigma.": (
            lambda a, b, alpha, sigma: abs(alpha / (alpha * b - sigma * a))
        ),
        "Upside down: where det is small, the error becomes large.": lambda a, b, alpha, sigma: abs(
            (alpha * b - sigma * a) / sigma
        ),
        "That is the squared error. The error itself is its root.": lambda a, b, alpha, sigma: (
            (sigma / (alpha * b - sigma * a)) ** 2
        ),
        "That is det. The error is divided by it.": lambda a, b, alpha, sigma: abs(alpha * b - sigma * a),
        "det has a minus: alpha b - sigma a.": lambda a, b, alpha, sigma: abs(sigma / (alpha * b + sigma * a)),
        "nothing can be solved": lambda a, b, alpha, sigma: abs(sigma / (alpha * b - sigma * a + 1e-12)),
        "ZeroDivisionError": lambda a, b, alpha, sigma: abs(sigma / (alpha * b - sigma * a)),
    },
    variants=[
        lambda a, b, alpha, sigma: torch.tensor([sigma]).div(alpha * b - sigma * a).abs(),  # may be divided by zero
        by_linear_algebra,
    ],
    right="Right for all five. At t = 0.98 on the cosine path, eps magnifies it 32 times, v not at all.",
)
