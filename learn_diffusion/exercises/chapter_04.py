"""Chapter 04, Why predict random noise?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, Wrong, agrees, call, numbers, pair
from learn_diffusion.schedules import EDM, Cosine, Flow

# flow first: there alpha^2 + sigma^2 is not 1, so a formula that needs it is found out
PLACES = ((Flow(), 0.3), (Cosine(), 0.6), (EDM(), 2.0))


def _question(path, t):
    """(x0, eps, alpha, sigma, x_t) of a known mixture."""
    x0, eps = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    level = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = path.alpha(level).item(), path.sigma(level).item()
    return x0, eps, alpha, sigma, alpha * x0 + sigma * eps


# from the noise to the picture and the velocity

convert = Exercise(
    "04.convert",
    r"""Convert. `my_convert(xt, eps, alpha, sigma)` gets a noised picture, a guess of its noise, and the two coefficients (numbers; on any path, so
    do not count on $\alpha^2+\sigma^2=1$). It returns two things: $x_0$, and the velocity $u = \varepsilon - x_0$.""",
    hints=[
        "The sentence x_t = alpha x0 + sigma eps has one unknown left.",
        "Take sigma eps away from x_t. What remains is alpha x0.",
    ],
)


@convert.oracle
def _(my_convert):
    for path, t in PLACES:
        x0, eps, alpha, sigma, xt = _question(path, t)
        got_x0, got_u = pair(call(my_convert, xt, eps, alpha, sigma), "x0 and u")
        got_x0, got_u = numbers(got_x0, (4,), "x0"), numbers(got_u, (4,), "u")
        where = f"With alpha = {alpha:.2f} and sigma = {sigma:.2f}"
        if agrees(got_x0, x0) and agrees(got_u, eps - x0):
            continue
        if agrees(got_x0, eps - x0) and agrees(got_u, x0):
            raise Wrong("Both are right, but in the other order: first x0, then u.")
        if agrees(got_x0, xt - sigma * eps):
            raise Wrong(f"{where}, this is alpha x0: one more division.")
        if agrees(got_x0, (xt + sigma * eps) / alpha):
            raise Wrong("The noise is added once more. It has to be taken away.")
        if agrees(got_x0, (xt - eps) / alpha):
            raise Wrong(f"{where}, all of the noise is taken away; but x_t holds only sigma of it.")
        if agrees(got_x0, alpha * xt - sigma * eps):
            raise Wrong("That is the formula for x0 from v, not from eps.")
        if not agrees(got_x0, x0):
            raise Wrong(f"{where}, x0 is off by {(got_x0 - x0).abs().max():.2f}.")
        if agrees(got_u, x0 - eps):
            raise Wrong("x0 is right. u has the wrong sign: it points from the data to the noise, as t does.")
        if agrees(got_u, alpha * eps - sigma * x0):
            raise Wrong("x0 is right. What you call u is v; u is eps - x0, without coefficients.")
        raise Wrong(f"{where}, x0 is right, but u is off by {(got_u - eps + x0).abs().max():.2f}.")
    return "From the noise to the picture and to the velocity, on three paths."


@convert.answer
def my_convert(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, eps - x0


@convert.mutant("one more division")
def not_divided(xt, eps, alpha, sigma):
    x0 = xt - sigma * eps
    return x0, eps - x0


@convert.mutant("added once more")
def noise_added(xt, eps, alpha, sigma):
    x0 = (xt + sigma * eps) / alpha
    return x0, eps - x0


@convert.mutant("only sigma of it")
def without_sigma(xt, eps, alpha, sigma):
    x0 = (xt - eps) / alpha
    return x0, eps - x0


@convert.mutant("wrong sign")
def time_reversed(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, x0 - eps


@convert.mutant("What you call u is v")
def v_for_u(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, alpha * eps - sigma * x0


@convert.mutant("in the other order")
def other_order(xt, eps, alpha, sigma):
    return my_convert(xt, eps, alpha, sigma)[::-1]


@convert.mutant("from v, not from eps")
def formula_of_v(xt, eps, alpha, sigma):
    x0 = alpha * xt - sigma * eps
    return x0, eps - x0


@convert.mutant("x0 is off by")
def sigma_squared(xt, eps, alpha, sigma):
    x0 = (xt - sigma**2 * eps) / alpha
    return x0, eps - x0


@convert.variant
def by_elimination(xt, eps, alpha, sigma):
    return [(xt - sigma * eps) / alpha, ((alpha + sigma) * eps - xt) / alpha]


@convert.variant
def in_numpy_float32(xt, eps, alpha, sigma):
    xt, eps = xt.float().numpy(), eps.float().numpy()
    return (xt - sigma * eps) / alpha, eps - (xt - sigma * eps) / alpha


# from v to both

from_v = Exercise(
    "04.from_v",
    r"""Un-mix. `my_from_v(xt, v, alpha, sigma)` gets a noised picture and a guess of $v = \alpha\varepsilon - \sigma x_0$, and returns $x_0$ and
    $\varepsilon$. It has to be right on *any* path. (In chapter 07 you will meet $\hat x_0 = \alpha x_t - \sigma \hat v$. That holds only where
    $\alpha^2+\sigma^2=1$.)""",
    hints=[
        "The row of v is a = -sigma, b = alpha. What is its determinant?",
        "det = alpha * alpha + sigma * sigma. Put a, b and det into the box.",
    ],
)


@from_v.oracle
def _(my_from_v):
    for path, t in PLACES:
        x0, eps, alpha, sigma, xt = _question(path, t)
        v = alpha * eps - sigma * x0
        got_x0, got_eps = pair(call(my_from_v, xt, v, alpha, sigma), "x0 and eps")
        got_x0, got_eps = numbers(got_x0, (4,), "x0"), numbers(got_eps, (4,), "eps")
        where = f"With alpha = {alpha:.2f} and sigma = {sigma:.2f}"
        det = alpha**2 + sigma**2
        if agrees(got_x0, x0) and agrees(got_eps, eps):
            continue
        if agrees(got_x0, eps) and agrees(got_eps, x0):
            raise Wrong("Both are right, but in the other order: first x0, then eps.")
        if agrees(got_x0, det * x0):
            raise Wrong(
                f"{where}, the answer is {det:.2f} times too large: on this path alpha^2 + sigma^2 is not 1. Divide by det."
            )
        if agrees(got_x0, (alpha * xt + sigma * v) / det):
            raise Wrong("x0 has the wrong sign before sigma v.")
        if agrees(got_x0, x0 * det / (alpha**2 - sigma**2)):
            raise Wrong("The determinant has a wrong sign: a is -sigma, so alpha b - sigma a is a sum.")
        if agrees(got_x0, x0 * det**0.5):
            raise Wrong("You divide by the root of det. Divide by det itself.")
        if not agrees(got_x0, x0):
            raise Wrong(f"{where}, x0 is off by {(got_x0 - x0).abs().max():.2f}.")
        if agrees(got_eps, (alpha * v - sigma * xt) / det):
            raise Wrong("x0 is right. eps has the wrong sign before sigma x_t: a is -sigma, and it is subtracted.")
        raise Wrong(f"{where}, x0 is right, but eps is off by {(got_eps - eps).abs().max():.2f}.")
    return "Both unknowns come back, on three paths."


@from_v.answer
def my_from_v(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


@from_v.mutant("Divide by det.")
def only_where_squares_add_to_one(xt, v, alpha, sigma):
    return alpha * xt - sigma * v, sigma * xt + alpha * v


@from_v.mutant("before sigma v")
def plus_for_minus(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt + sigma * v) / det, (sigma * xt + alpha * v) / det


@from_v.mutant("is a sum")
def difference_for_sum(xt, v, alpha, sigma):
    det = alpha**2 - sigma**2
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


@from_v.mutant("the root of det")
def root_of_det(xt, v, alpha, sigma):
    det = (alpha**2 + sigma**2) ** 0.5
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


@from_v.mutant("before sigma x_t")
def minus_in_eps(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt - sigma * v) / det, (alpha * v - sigma * xt) / det


@from_v.mutant("in the other order")
def eps_first(xt, v, alpha, sigma):
    return my_from_v(xt, v, alpha, sigma)[::-1]


@from_v.variant
def by_linear_solver(xt, v, alpha, sigma):
    rows = torch.tensor([[alpha, sigma], [-sigma, alpha]], dtype=torch.float64)
    return tuple(torch.linalg.solve(rows, torch.stack([xt, v])))


@from_v.variant
def eps_from_x0(xt, v, alpha, sigma):
    x0 = (alpha * xt - sigma * v) / (alpha * alpha + sigma * sigma)
    return x0.numpy(), ((xt - alpha * x0) / sigma).tolist()
