"""Chapter 04, Why predict random noise?"""

from __future__ import annotations

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, several
from learn_diffusion.schedules import EDM, Cosine, Flow
from learn_diffusion.targets import TARGETS

# flow first: there alpha^2 + sigma^2 is not 1, so a formula that needs it is found out
PLACES = ((Flow(), 0.3), (Cosine(), 0.6), (EDM(), 2.0))


def _question(schedule, t):
    """(x0, eps, alpha, sigma, x_t) of a known mixture."""
    x0, eps = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    level = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule.alpha(level).item(), schedule.sigma(level).item()
    return x0, eps, alpha, sigma, alpha * x0 + sigma * eps


# from the noise to the picture and the velocity


def _check_convert(my_convert):
    for schedule, t in PLACES:
        x0, eps, alpha, sigma, xt = _question(schedule, t)
        got_x0, got_u = several(call(my_convert, xt, eps, alpha, sigma), ("x0", "u"))
        got_x0, got_u = numbers(got_x0, (4,), "x0"), numbers(got_u, (4,), "u")
        where = f"With alpha = {alpha:.2f} and sigma = {sigma:.2f}"
        if agrees(got_x0, x0) and agrees(got_u, eps - x0):
            continue
        if agrees(got_x0, eps - x0) and agrees(got_u, x0):
            raise IncorrectAnswer("Both are right, but in the other order: first x0, then u.")
        if agrees(got_x0, xt - sigma * eps):
            raise IncorrectAnswer(f"{where}, this is alpha x0: one more division.")
        if agrees(got_x0, (xt + sigma * eps) / alpha):
            raise IncorrectAnswer("The noise is added once more. It has to be taken away.")
        if agrees(got_x0, (xt - eps) / alpha):
            raise IncorrectAnswer(f"{where}, all of the noise is taken away; but x_t holds only sigma of it.")
        if agrees(got_x0, alpha * xt - sigma * eps):
            raise IncorrectAnswer("That is the formula for x0 from v, not from eps.")
        if not agrees(got_x0, x0):
            raise IncorrectAnswer(f"{where}, x0 is off by {(got_x0 - x0).abs().max():.2f}.")
        if agrees(got_u, x0 - eps):
            raise IncorrectAnswer("x0 is right. u has the wrong sign: it points from the data to the noise, as t does.")
        if agrees(got_u, alpha * eps - sigma * x0):
            raise IncorrectAnswer("x0 is right. What you call u is v; u is eps - x0, without coefficients.")
        raise IncorrectAnswer(f"{where}, x0 is right, but u is off by {(got_u - eps + x0).abs().max():.2f}.")
    return "From the noise to the picture and to the velocity, on three paths."


def my_convert(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, eps - x0


def not_divided(xt, eps, alpha, sigma):
    x0 = xt - sigma * eps
    return x0, eps - x0


def noise_added(xt, eps, alpha, sigma):
    x0 = (xt + sigma * eps) / alpha
    return x0, eps - x0


def without_sigma(xt, eps, alpha, sigma):
    x0 = (xt - eps) / alpha
    return x0, eps - x0


def time_reversed(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, x0 - eps


def v_for_u(xt, eps, alpha, sigma):
    x0 = (xt - sigma * eps) / alpha
    return x0, alpha * eps - sigma * x0


def other_order(xt, eps, alpha, sigma):
    return my_convert(xt, eps, alpha, sigma)[::-1]


def formula_of_v(xt, eps, alpha, sigma):
    x0 = alpha * xt - sigma * eps
    return x0, eps - x0


def sigma_squared(xt, eps, alpha, sigma):
    x0 = (xt - sigma**2 * eps) / alpha
    return x0, eps - x0


def by_elimination(xt, eps, alpha, sigma):
    return [(xt - sigma * eps) / alpha, ((alpha + sigma) * eps - xt) / alpha]


def in_numpy_float32(xt, eps, alpha, sigma):
    xt, eps = xt.float().numpy(), eps.float().numpy()
    return (xt - sigma * eps) / alpha, eps - (xt - sigma * eps) / alpha


convert = Exercise(
    "04.convert",
    r"""Convert. `my_convert(xt, eps, alpha, sigma)` gets a noised picture, a guess of its noise, and the two coefficients (numbers; on any path, so
    do not count on $\alpha^2+\sigma^2=1$). It returns two things: $x_0$, and the velocity $u = \varepsilon - x_0$.""",
    hints=[
        "The sentence x_t = alpha x0 + sigma eps has one unknown left.",
        "Take sigma eps away from x_t. What remains is alpha x0.",
    ],
    solution=my_convert,
    check=_check_convert,
    mistakes={
        "one more division": not_divided,
        "added once more": noise_added,
        "only sigma of it": without_sigma,
        "wrong sign": time_reversed,
        "What you call u is v": v_for_u,
        "in the other order": other_order,
        "from v, not from eps": formula_of_v,
        "x0 is off by": sigma_squared,
    },
    variants=[by_elimination, in_numpy_float32],
)


# from v to both


def _check_from_v(my_from_v):
    for schedule, t in PLACES:
        x0, eps, alpha, sigma, xt = _question(schedule, t)
        v = alpha * eps - sigma * x0
        got_x0, got_eps = several(call(my_from_v, xt, v, alpha, sigma), ("x0", "eps"))
        got_x0, got_eps = numbers(got_x0, (4,), "x0"), numbers(got_eps, (4,), "eps")
        where = f"With alpha = {alpha:.2f} and sigma = {sigma:.2f}"
        det = alpha**2 + sigma**2
        if agrees(got_x0, x0) and agrees(got_eps, eps):
            continue
        if agrees(got_x0, eps) and agrees(got_eps, x0):
            raise IncorrectAnswer("Both are right, but in the other order: first x0, then eps.")
        if agrees(got_x0, det * x0):
            raise IncorrectAnswer(
                f"{where}, the answer is {det:.2f} times too large: on this path alpha^2 + sigma^2 is not 1. Divide by det."
            )
        if agrees(got_x0, (alpha * xt + sigma * v) / det):
            raise IncorrectAnswer("x0 has the wrong sign before sigma v.")
        if agrees(got_x0, x0 * det / (alpha**2 - sigma**2)):
            raise IncorrectAnswer("The determinant has a wrong sign: a is -sigma, so alpha b - sigma a is a sum.")
        if agrees(got_x0, x0 * det**0.5):
            raise IncorrectAnswer("You divide by the root of det. Divide by det itself.")
        if not agrees(got_x0, x0):
            raise IncorrectAnswer(f"{where}, x0 is off by {(got_x0 - x0).abs().max():.2f}.")
        if agrees(got_eps, (alpha * v - sigma * xt) / det):
            raise IncorrectAnswer(
                "x0 is right. eps has the wrong sign before sigma x_t: a is -sigma, and it is subtracted."
            )
        raise IncorrectAnswer(f"{where}, x0 is right, but eps is off by {(got_eps - eps).abs().max():.2f}.")
    return "Both unknowns come back, on three paths."


def my_from_v(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


def only_where_squares_add_to_one(xt, v, alpha, sigma):
    return alpha * xt - sigma * v, sigma * xt + alpha * v


def plus_for_minus(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt + sigma * v) / det, (sigma * xt + alpha * v) / det


def difference_for_sum(xt, v, alpha, sigma):
    det = alpha**2 - sigma**2
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


def root_of_det(xt, v, alpha, sigma):
    det = (alpha**2 + sigma**2) ** 0.5
    return (alpha * xt - sigma * v) / det, (sigma * xt + alpha * v) / det


def minus_in_eps(xt, v, alpha, sigma):
    det = alpha**2 + sigma**2
    return (alpha * xt - sigma * v) / det, (alpha * v - sigma * xt) / det


def eps_first(xt, v, alpha, sigma):
    return my_from_v(xt, v, alpha, sigma)[::-1]


def by_linear_solver(xt, v, alpha, sigma):
    rows = torch.tensor([[alpha, sigma], [-sigma, alpha]], dtype=torch.float64)
    return tuple(torch.linalg.solve(rows, torch.stack([xt, v])))


def eps_from_x0(xt, v, alpha, sigma):
    x0 = (alpha * xt - sigma * v) / (alpha * alpha + sigma * sigma)
    return x0.numpy(), ((xt - alpha * x0) / sigma).tolist()


from_v = Exercise(
    "04.from_v",
    r"""Un-mix. `my_from_v(xt, v, alpha, sigma)` gets a noised picture and a guess of $v = \alpha\varepsilon - \sigma x_0$, and returns $x_0$ and
    $\varepsilon$. It has to be right on *any* path. (In chapter 07 you will meet $\hat x_0 = \alpha x_t - \sigma \hat v$. That holds only where
    $\alpha^2+\sigma^2=1$.)""",
    hints=[
        "The row of v is a = -sigma, b = alpha. What is its determinant?",
        "det = alpha * alpha + sigma * sigma. Put a, b and det into the box.",
    ],
    solution=my_from_v,
    check=_check_from_v,
    mistakes={
        "Divide by det.": only_where_squares_add_to_one,
        "before sigma v": plus_for_minus,
        "is a sum": difference_for_sum,
        "the root of det": root_of_det,
        "before sigma x_t": minus_in_eps,
        "in the other order": eps_first,
    },
    variants=[by_linear_solver, eps_from_x0],
)


# where a target breaks


def _check_magnified(my_magnified):
    for schedule, t in ((Flow(), 0.3), (Cosine(), 0.6), (Cosine(), 0.98), (Flow(), 0.02), (EDM(), 2.0), (Flow(), 1.0)):
        level = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = schedule.alpha(level).item(), schedule.sigma(level).item()
        for name, row in TARGETS.items():
            a, b = row(alpha, sigma)
            det = alpha * b - sigma * a
            out = call(my_magnified, a, b, alpha, sigma)
            at = f"For {name} with alpha = {alpha:.2f} and sigma = {sigma:.2f}"
            if det == 0:
                if not isinstance(out, (float, torch.Tensor, np.ndarray)) or float(out) != float("inf"):
                    raise IncorrectAnswer(f'{at} det is 0: nothing can be solved, and the answer is float("inf").')
                continue
            got = numbers(out, (), "the error").item()
            off = abs(sigma / det)
            if agrees(got, off):
                continue
            if got < 0:
                raise IncorrectAnswer(
                    f"{at} the answer is negative. The size of an error is not: take the absolute value."
                )
            if agrees(got, abs(1 / det)):
                raise IncorrectAnswer("That is 1/det. In the formula of x0_hat, F is multiplied by sigma as well.")
            if agrees(got, abs(alpha / det)):
                raise IncorrectAnswer(
                    "That is how far the noise is off. The question is about the picture: its F has the factor sigma."
                )
            if agrees(got, abs(det / sigma)):
                raise IncorrectAnswer("Upside down: where det is small, the error becomes large.")
            if agrees(got, off**2):
                raise IncorrectAnswer("That is the squared error. The error itself is its root.")
            if agrees(got, abs(det)):
                raise IncorrectAnswer("That is det. The error is divided by it.")
            if agrees(got, abs(sigma / (alpha * b + sigma * a))):
                raise IncorrectAnswer("det has a minus: alpha b - sigma a.")
            raise IncorrectAnswer(f"{at} an error of 1 in F becomes {off:.3f} in x0_hat, not {got:.3f}.")
    return f"Right for all five. At t = 0.98 on the cosine path, eps magnifies it {_error_of_eps(0.98):.0f} times, v not at all."


def _error_of_eps(t):
    level = torch.tensor(t, dtype=torch.float64)
    return (Cosine().sigma(level) / Cosine().alpha(level)).item()


def my_magnified(a, b, alpha, sigma):
    det = alpha * b - sigma * a
    return abs(sigma / det) if det else float("inf")


def with_its_sign(a, b, alpha, sigma):
    det = alpha * b - sigma * a
    return -sigma / det if det else float("inf")


def without_sigma_above(a, b, alpha, sigma):
    det = alpha * b - sigma * a
    return abs(1 / det) if det else float("inf")


def of_the_noise(a, b, alpha, sigma):
    det = alpha * b - sigma * a
    return abs(alpha / det) if det else float("inf")


def upside_down(a, b, alpha, sigma):
    return abs((alpha * b - sigma * a) / sigma)


def squared(a, b, alpha, sigma):
    det = alpha * b - sigma * a
    return (sigma / det) ** 2 if det else float("inf")


def plus_in_det(a, b, alpha, sigma):
    return abs(sigma / (alpha * b + sigma * a)) if alpha * b + sigma * a else float("inf")


def large_but_finite(a, b, alpha, sigma):
    return abs(sigma / (alpha * b - sigma * a + 1e-12))


def divides_by_zero(a, b, alpha, sigma):
    return abs(sigma / (alpha * b - sigma * a))


def by_a_tensor_that_may_be_divided_by_zero(a, b, alpha, sigma):
    return torch.tensor([sigma]).div(alpha * b - sigma * a).abs()


def by_linear_algebra(a, b, alpha, sigma):
    rows = np.array([[alpha, sigma], [a, b]])
    return abs(np.linalg.inv(rows)[0, 1]) if np.linalg.det(rows) else np.inf


magnified = Exercise(
    "04.where_it_breaks",
    r"""Find where targets break. `my_magnified(a, b, alpha, sigma)` gets the row of a target and the two coefficients (four numbers). The network's answer $F$ is off by 1. It returns by how much the guess $\hat x_0$ that comes out is
    then off, as a number that is never negative, and `float("inf")` where nothing can be solved. (The check asks about all five targets, on three paths, and at an end where one of them breaks.)""",
    hints=[
        "In the box, F stands in the formula of x0_hat once. What is its factor?",
        "The factor is -sigma/det, and det = alpha b - sigma a. Take its size.",
        "Where det is 0, Python refuses to divide: ask before you divide.",
    ],
    solution=my_magnified,
    check=_check_magnified,
    mistakes={
        "take the absolute value": with_its_sign,
        "multiplied by sigma as well": without_sigma_above,
        "how far the noise is off": of_the_noise,
        "Upside down": upside_down,
        "the squared error": squared,
        "det has a minus": plus_in_det,
        "nothing can be solved": large_but_finite,
        "ZeroDivisionError": divides_by_zero,
    },
    variants=[by_a_tensor_that_may_be_divided_by_zero, by_linear_algebra],
)
