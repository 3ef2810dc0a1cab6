"""Chapter 11, How do I steer?"""

from __future__ import annotations

import torch
from torch import Tensor

from learn_diffusion.exercises.core import Exercise
from learn_diffusion.process import Estimate, from_x0
from learn_diffusion.schedules import Flow

PATH = Flow()  # alpha^2 + sigma^2 is not 1 here, so that a formula for other paths is found out
CENTRES, SHARE, WIDTH = torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.5, 0.3, 0.2]), 0.4
X = torch.tensor([[-1.2], [-0.3], [0.2], [0.7], [1.5]])
Y = torch.tensor([0, 1, 2, 1, 0])  # which blob is asked for
BAD = torch.tensor([1, 2, 0, 0, 1])  # and which one is to be avoided


def _blobs(x: Tensor, t: Tensor, y: Tensor | None = None, cond_mask: Tensor | None = None) -> Estimate:
    """The exact denoiser of three blobs on a line; y (B,) asks for one of them."""
    alpha, sigma = PATH.at(t, x)
    variance = alpha**2 * WIDTH**2 + sigma**2
    off = x - alpha * CENTRES  # (B, 3)
    odds = SHARE.log() - off**2 / (2 * variance)
    if y is not None:
        asked = torch.nn.functional.one_hot(y, 3).bool()
        odds = torch.where(asked if cond_mask is None else asked | ~cond_mask[:, None], odds, -torch.inf)
    x0 = odds.softmax(1) * (CENTRES + alpha * WIDTH**2 / variance * off)
    return from_x0(x, x0.sum(1, keepdim=True), alpha, sigma)


# classifier guidance


def my_guided(xt, eps, gradient, alpha, sigma, scale):
    eps = eps - scale * sigma * gradient
    x0 = (xt - sigma * eps) / alpha
    return x0, eps


def _steering(level, scale):
    """xt, eps, gradient, alpha, sigma, scale."""
    t, alpha, sigma = torch.tensor(level), 1 - level, level
    uncond, asked = _blobs(X, t), _blobs(X, t, Y)
    return (
        X,
        uncond.eps,
        alpha / sigma**2 * (asked.x0 - uncond.x0),
        alpha,
        sigma,
        scale,
    )  # by Bayes' rule and Tweedie's formula


def the_blob_that_was_asked_for(xt, eps, gradient, alpha, sigma, scale):
    t = torch.tensor(sigma)
    return _blobs(xt, t).lerp(_blobs(xt, t, Y), scale)


def x0_from_its_own_formula(xt, eps, gradient, alpha, sigma, scale):
    x0 = (xt - sigma * eps) / alpha + scale * sigma**2 / alpha * gradient
    return [x0.double(), (xt - alpha * x0) / sigma]


def in_numpy(xt, eps, gradient, alpha, sigma, scale):
    score = -eps.numpy() / sigma + scale * gradient.numpy()
    return (xt.numpy() + sigma * sigma * score) / alpha, -sigma * score


Exercise(
    "11.classifier",
    r"""Steer with a classifier, in a program that keeps only the noise. `my_guided(xt, eps, gradient, alpha, sigma, scale)` gets a noised picture `xt`, the noise `eps` that a model which knows nothing of $y$ sees in it, the gradient $\nabla\log p_t(y\mid x_t)$ of a classifier (all three (B, D)), and three numbers.
    It returns the two parts of the steered estimate, `x0` and `eps`. (The check uses three Gaussian blobs on a line, where denoiser and classifier are known exactly. There, scale 1 has to give the exact denoiser of the blob that was asked for.)""",
    hints=[
        "The score is -eps / sigma. Add scale * gradient to it: what is the new eps?",
        "eps loses scale * sigma * gradient.",
        "xt = alpha x0 + sigma eps must still hold. Solve it for x0, with the new eps.",
    ],
    solution=my_guided,
    inputs=[_steering(0.6, 1.0), _steering(0.3, 2.5), _steering(0.8, 0.0)],
    result=("x0", "eps"),
    tolerance=1e-3,
    mistakes={
        "The two results are exchanged: x0 comes first, then eps.": lambda *args: my_guided(*args)[::-1],
        "At scale {scale:g} nothing changes.": lambda xt, eps, gradient, alpha, sigma, scale: my_guided(
            xt, eps, gradient, alpha, sigma, 0.0
        ),
        "At scale 0 nothing should change, and something does: does your scale count from another number?": [
            lambda xt, eps, gradient, alpha, sigma, scale: my_guided(xt, eps, gradient, alpha, sigma, scale + 1),
            lambda xt, eps, gradient, alpha, sigma, scale: my_guided(xt, eps, gradient, alpha, sigma, scale - 1),
        ],
        "At scale {scale:g} the estimate moves away from what was asked. The score is MINUS eps over sigma.": (
            lambda xt, eps, gradient, *args: my_guided(xt, eps, -gradient, *args)
        ),
        "It is right at scale 1, but the scale has no effect.": (
            lambda xt, eps, gradient, alpha, sigma, scale: my_guided(xt, eps, gradient, alpha, sigma, 1.0)
        ),
        "eps is right, but x0 has not moved with it: the two no longer explain x_t. Solve with the new eps.": (
            lambda xt, eps, gradient, alpha, sigma, scale: (
                (xt - sigma * eps) / alpha,
                my_guided(xt, eps, gradient, alpha, sigma, scale)[1],
            )
        ),
        "eps is right, x0 is not: x0 stands in x_t times alpha, so divide by alpha.": (
            lambda xt, eps, gradient, alpha, sigma, scale: (
                xt - sigma * (eps - scale * sigma * gradient),
                eps - scale * sigma * gradient,
            )
        ),
        "eps is right, x0 is not: the noise stands in x_t times sigma, so take sigma * eps away.": (
            lambda xt, eps, gradient, alpha, sigma, scale: (
                (xt - (eps - scale * sigma * gradient)) / alpha,
                eps - scale * sigma * gradient,
            )
        ),
        "The gradient is taken off eps as it is: a factor sigma is missing. The score is -eps / sigma.": (
            lambda xt, eps, gradient, alpha, sigma, scale: my_guided(xt, eps, gradient / sigma, alpha, sigma, scale)
        ),
        "eps loses sigma squared times the gradient. Once is enough: the score is -eps / sigma.": (
            lambda xt, eps, gradient, alpha, sigma, scale: my_guided(xt, eps, gradient * sigma, alpha, sigma, scale)
        ),
        "x0 is right, but the eps you return is the old one.": lambda xt, eps, *args: (
            my_guided(xt, eps, *args)[0],
            eps,
        ),
    },
    variants=[the_blob_that_was_asked_for, x0_from_its_own_formula, in_numpy],
    right="With an exact classifier, scale 1 is the exact conditional model.",
)

# classifier-free guidance, with a negative prompt


def my_cfg_exercise(model, x, t, y, y_bad, scale):
    given, bad = model(x, t, y), model(x, t, y_bad)
    x0 = bad.x0 + scale * (given.x0 - bad.x0)
    eps = bad.eps + scale * (given.eps - bad.eps)
    return x0, eps


class _Model:
    """The exact denoiser, which counts its calls."""

    calls = 0

    def __call__(self, x, t, y=None, cond_mask=None):
        self.calls += 1
        return _blobs(x, torch.as_tensor(t), y, cond_mask)


def _steered(model, x, t, y, y_bad, scale):
    return model(x, t, y_bad).lerp(model(x, t, y), scale)


def halves_interleaved(model, x, t, y, y_bad, scale):
    n = len(x)
    both = model(torch.cat([x, x]), t, torch.stack([y, y_bad], dim=1).flatten())
    return Estimate(both.x0[n:], both.eps[n:]).lerp(Estimate(both.x0[:n], both.eps[:n]), scale)


def in_one_call(model, x, t, y, y_bad, scale):
    both = model(torch.cat([x, x]), t, torch.cat([y, y_bad]))
    return [scale * a + (1 - scale) * b for a, b in (part.chunk(2) for part in both)]


def noise_from_the_invariant(model, x, t, y, y_bad, scale):
    x0 = torch.lerp(model(x, t, y_bad).x0, model(x, t, y).x0, scale)
    return x0, (x - (1 - t) * x0) / t


Exercise(
    "11.cfg",
    r"""Steer towards one thing and away from another, which programs call a *negative prompt*: what is not wanted takes the place of $\emptyset$ in the formula. `my_cfg_exercise(model, x, t, y, y_bad, scale)` gets a model that you may ask `model(x, t, y)` for an estimate with the parts `.x0` and `.eps`. `x` is (B, D), `t` one level for all; `y` and `y_bad` are (B,) labels, wanted and not wanted.
    Return the two parts of the steered estimate, `x0` and `eps`, in this course's convention: scale 1 is the model asked for `y`, more goes on from there, away from `y_bad`. (The check uses three Gaussian blobs, whose exact denoiser is the model.)""",
    hints=[
        "Ask the model twice: for y, and for y_bad.",
        "bad + scale * (given - bad), for x0 and for eps alike.",
        "One call is enough: join the batches, torch.cat([x, x]) and torch.cat([y, y_bad]), and cut the answer in two.",
    ],
    solution=my_cfg_exercise,
    inputs=[(_Model(), X, torch.tensor(0.5), Y, BAD, scale) for scale in (3.0, 1.0, 0.0, -1.0)],
    result=("x0", "eps"),
    tolerance=1e-3,
    mistakes={
        "The model is never asked.": lambda model, x, *args: (0 * x, 0 * x),
        "The two results are exchanged: x0 comes first, then eps.": lambda *args: my_cfg_exercise(*args)[::-1],
        "It starts from the model that nobody asked anything. Here y_bad takes that place.": (
            lambda model, x, t, y, y_bad, scale: model(x, t).lerp(model(x, t, y), scale)
        ),
        "Three answers are one too many: y_bad takes the place of the model without condition.": (
            lambda model, x, t, y, y_bad, scale: (
                model(x, t).x0 + scale * (model(x, t, y).x0 - model(x, t, y_bad).x0),
                model(x, t).eps + scale * (model(x, t, y).eps - model(x, t, y_bad).eps),
            )
        ),
        "That is the paper's convention, in which 0 is the model asked for y. In ours that is scale 1.": (
            lambda model, x, t, y, y_bad, scale: _steered(model, x, t, y, y_bad, scale + 1)
        ),
        "At scale {scale:g} it walks the other way, from what is wanted to what is not.": (
            lambda model, x, t, y, y_bad, scale: _steered(model, x, t, y, y_bad, 1 - scale)
        ),
        "At scale {scale:g} it answers what was asked for, and no more: y_bad and the scale have no effect.": (
            lambda model, x, t, y, y_bad, scale: model(x, t, y)
        ),
        "Only eps is steered: x0 and eps no longer explain x_t. Steer both.": lambda model, x, t, y, y_bad, scale: (
            model(x, t, y).x0,
            _steered(model, x, t, y, y_bad, scale).eps,
        ),
        "Only x0 is steered: x0 and eps no longer explain x_t. Steer both.": lambda model, x, t, y, y_bad, scale: (
            _steered(model, x, t, y, y_bad, scale).x0,
            model(x, t, y).eps,
        ),
        "x0 and eps no longer explain x_t: the weights of the two answers should add up to 1.": (
            lambda model, x, t, y, y_bad, scale: (
                model(x, t, y_bad).x0 + scale * model(x, t, y).x0,
                model(x, t, y_bad).eps + scale * model(x, t, y).eps,
            )
        ),
        "Some rows are right and some are not: which half of the joined batch was asked for y_bad?": halves_interleaved,
    },
    variants=[in_one_call, noise_from_the_invariant],
    right=lambda got, expected, model, *args: (
        "It goes from what is not wanted through what is, and past it, "
        f"{'in one call' if model.calls == 1 else f'in {model.calls} calls: one, of both batches joined, would do'}."
    ),
)

# conventions


def my_scale(guided, number):
    return guided(1.0, 0.0, number)  # free + w (given - free) = w


PROGRAMS = {  # name: (what it does, our scale)
    "ours": (lambda cond, uncond, n: uncond + n * (cond - uncond), lambda n: n),
    "the paper's": (lambda cond, uncond, n: (1 + n) * cond - n * uncond, lambda n: 1 + n),
    "from the conditional model": (lambda cond, uncond, n: cond + n * (cond - uncond), lambda n: 1 + n),
    "in per cent": (lambda cond, uncond, n: uncond + n / 100 * (cond - uncond), lambda n: n / 100),
    "by the share of the unconditional model": (lambda cond, uncond, n: n * uncond + (1 - n) * cond, lambda n: 1 - n),
    "by powers of two": (lambda cond, uncond, n: uncond + 2.0**n * (cond - uncond), lambda n: 2.0**n),
}


def by_a_slope(guided, number):
    cond, uncond = torch.tensor([0.3, -2.0]), torch.tensor([1.1, 0.4])
    return ((guided(cond, uncond, number) - uncond) / (cond - uncond)).mean()


def from_the_table(guided, number):
    return next(scale(number) for program, scale in PROGRAMS.values() if program is guided)


Exercise(
    "11.convention",
    r"""A program you did not write steers by `guided(given, free, number)`: two guesses of the noise, with and without condition, and the strength that its user chose. In which convention, nobody says. Write `my_scale(guided, number)`: it returns the scale of *this course* that does the
    same as that program's `number`. You may call `guided` with whatever you like. (The check has six such programs. What they have in common: they answer $\hat\varepsilon_\emptyset + w\,(\hat\varepsilon_y - \hat\varepsilon_\emptyset)$ with *some* $w$.)""",
    hints=[
        "You need not read the program. Feed it two guesses for which the formula shows w.",
        "What does the formula give for given = 1 and free = 0?",
    ],
    solution=my_scale,
    inputs=[(program, number) for program, _ in PROGRAMS.values() for number in (3.0, 0.25)],
    result="the scale",
    mistakes={
        "The number comes back as it is. That is right for a program that counts as we do, and for no other.": (
            lambda guided, number: number
        ),
        "Always number + 1. That is right for a program that counts as the paper does, and for no other.": (
            lambda guided, number: number + 1
        ),
        "This is the weight of the unconditional guess, 1 - w. Exchange the two guesses that you feed it.": (
            lambda guided, number: guided(0.0, 1.0, number)
        ),
        "The same scale for all programs and all numbers: do your two guesses differ?": [
            lambda guided, number: guided(1.0, 1.0, number),
            lambda guided, number: guided(0.0, 0.0, number),
        ],
        "All scales are wrong by the same factor: divide by the difference of the two guesses you feed it.": [
            lambda guided, number: guided(2.0, 0.0, number),
            lambda guided, number: guided(10.0, 0.0, number),
        ],
        "It tells our convention from the paper's. But another program counts like this: in per cent.": (
            lambda guided, number: number if guided(1.0, 0.0, 1.0) == 1.0 else number + 1
        ),
    },
    variants=[from_the_table, by_a_slope, lambda guided, number: guided(5.0, 4.0, number) - 4.0],
    right="It reads the scale of all six programs, without knowing any of their conventions.",
    otherwise=lambda got, expected, guided, number: (
        f"For a program that counts like this: {next(name for name, (f, _) in PROGRAMS.items() if f is guided)}, "
        f"{number:g} there is scale {expected:g} here, not {got:g}."
    ),
)
