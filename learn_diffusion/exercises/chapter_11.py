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


def my_guided(est, gradient, alpha, sigma, scale):
    eps = est.eps - scale * sigma * gradient
    x0 = est.x0 + scale * sigma**2 / alpha * gradient
    return x0, eps


def _steering(level, scale):
    """est, gradient, alpha, sigma, scale."""
    t, alpha, sigma = torch.tensor(level), 1 - level, level
    uncond, asked = _blobs(X, t), _blobs(X, t, Y)
    return (
        uncond,
        alpha / sigma**2 * (asked.x0 - uncond.x0),
        alpha,
        sigma,
        scale,
    )  # by Bayes' rule and Tweedie's formula


def the_blob_that_was_asked_for(est, gradient, alpha, sigma, scale):
    return est.lerp(_blobs(X, torch.tensor(sigma), Y), scale)


def through_the_score(est, gradient, alpha, sigma, scale):
    xt = alpha * est.x0 + sigma * est.eps
    eps = -sigma * (-est.eps / sigma + scale * gradient)
    return [((xt - sigma * eps) / alpha).double(), eps.double()]


def in_numpy(est, gradient, alpha, sigma, scale):
    x0, eps, g = est.x0.numpy(), est.eps.numpy(), gradient.numpy()
    return x0 + scale * sigma * sigma / alpha * g, eps - scale * sigma * g


Exercise(
    "11.classifier",
    r"""Steer with a classifier. `my_guided(est, gradient, alpha, sigma, scale)` gets an estimate (`est.x0` and `est.eps`, both of shape (B, D)) that knows nothing of $y$, the gradient $\nabla\log p_t(y\mid x_t)$ of a classifier (B, D), and three numbers.
    It returns the two parts of the steered estimate, `x0` and `eps`. (The check uses three Gaussian blobs on a line, where denoiser and classifier are known exactly. There, scale 1 has to give the exact denoiser of the blob that was asked for.)""",
    hints=[
        "The score is -eps / sigma. Add scale * gradient to it: what is the new eps?",
        "eps loses scale * sigma * gradient.",
        "alpha x0 + sigma eps must still be x_t: what eps loses, x0 gains, times sigma / alpha.",
    ],
    solution=my_guided,
    inputs=[_steering(0.6, 1.0), _steering(0.3, 2.5), _steering(0.8, 0.0)],
    result=("x0", "eps"),
    tolerance=1e-3,
    mistakes={
        "The two results are exchanged: x0 comes first, then eps.": lambda *args: my_guided(*args)[::-1],
        "At scale {scale:g} nothing changes.": lambda est, *args: est,
        "At scale 0 nothing should change, and something does: does your scale count from another number?": [
            lambda est, gradient, alpha, sigma, scale: my_guided(est, gradient, alpha, sigma, scale + 1),
            lambda est, gradient, alpha, sigma, scale: my_guided(est, gradient, alpha, sigma, scale - 1),
        ],
        "At scale {scale:g} the estimate moves away from what was asked. The score is MINUS eps over sigma.": (
            lambda est, gradient, *args: my_guided(est, -gradient, *args)
        ),
        "It is right at scale 1, but the scale has no effect.": lambda est, gradient, alpha, sigma, scale: my_guided(
            est, gradient, alpha, sigma, 1.0
        ),
        "eps is right, but x0 has not moved with it: the two no longer explain x_t.": lambda est, *args: (
            est.x0,
            my_guided(est, *args)[1],
        ),
        "eps is right, x0 is not. Solve x_t = alpha x0 + sigma eps for x0, with the new eps.": (
            lambda est, gradient, alpha, sigma, scale: (
                est.x0 + scale * sigma**2 * gradient,
                est.eps - scale * sigma * gradient,
            )
        ),
        "The gradient is taken off eps as it is: a factor sigma is missing. The score is -eps / sigma.": (
            lambda est, gradient, alpha, sigma, scale: my_guided(est, gradient / sigma, alpha, sigma, scale)
        ),
        "eps loses sigma squared times the gradient. Once is enough: the score is -eps / sigma.": (
            lambda est, gradient, alpha, sigma, scale: my_guided(est, gradient * sigma, alpha, sigma, scale)
        ),
        "x0 is right, eps is not. Solve x_t = alpha x0 + sigma eps for eps, with the new x0.": lambda est, *args: (
            my_guided(est, *args)[0],
            est.eps,
        ),
    },
    variants=[the_blob_that_was_asked_for, through_the_score, in_numpy],
    right="With an exact classifier, scale 1 is the exact conditional model.",
)

# classifier-free guidance


def my_cfg(model, x, t, y, scale):
    n = len(x)
    cond_mask = torch.arange(2 * n) < n  # the first half keeps its condition
    both = model(torch.cat([x, x]), t, torch.cat([y, y]), cond_mask)
    x0 = both.x0[n:] + scale * (both.x0[:n] - both.x0[n:])
    eps = both.eps[n:] + scale * (both.eps[:n] - both.eps[n:])
    return x0, eps


class _Model:
    """The exact denoiser, which counts its calls."""

    calls = 0

    def __call__(self, x, t, y=None, cond_mask=None):
        self.calls += 1
        return _blobs(x, torch.as_tensor(t), y, cond_mask)


def _steered(model, x, t, y, scale):
    return model(x, t).lerp(model(x, t, y), scale)


def halves_interleaved(model, x, t, y, scale):
    n = len(x)
    both = model(torch.cat([x, x]), t, torch.cat([y, y]), torch.arange(2 * n) % 2 == 0)
    return Estimate(both.x0[n:], both.eps[n:]).lerp(Estimate(both.x0[:n], both.eps[:n]), scale)


def in_two_calls(model, x, t, y, scale):
    cond, uncond = model(x, t, y), model(x, t)
    return scale * cond.x0 + (1 - scale) * uncond.x0, scale * cond.eps + (1 - scale) * uncond.eps


def noise_from_the_invariant(model, x, t, y, scale):
    cond_mask = torch.ones(len(x), dtype=torch.bool)
    x0 = torch.lerp(model(x, t, y, ~cond_mask).x0, model(x, t, y, cond_mask).x0, scale)
    return x0, (x - (1 - t) * x0) / t


Exercise(
    "11.cfg",
    r"""Steer without a classifier. `my_cfg(model, x, t, y, scale)` gets a model that you may ask `model(x, t, y, cond_mask)` for an estimate with the parts `.x0` and `.eps`; `cond_mask` is (B,) bool, and False where the condition is to be dropped. `x` is (B, D), `t` one level for all,
    `y` (B,) labels. Return the two parts of the steered estimate, `x0` and `eps`, in this course's convention: scale 0 is the model without condition, scale 1 the one with it. (The check uses three Gaussian blobs, whose exact denoiser is the model.)""",
    hints=[
        "Ask the model twice: with cond_mask all True, and all False.",
        "free + scale * (given - free), for x0 and for eps alike.",
        "One call is enough: join the batches, torch.cat([x, x]) and so on, and cut the answer in two.",
    ],
    solution=my_cfg,
    inputs=[(_Model(), X, torch.tensor(0.5), Y, scale) for scale in (3.0, 1.0, 0.0, -1.0)],
    result=("x0", "eps"),
    tolerance=1e-3,
    mistakes={
        "The model is never asked.": lambda model, x, *args: (0 * x, 0 * x),
        "The two results are exchanged: x0 comes first, then eps.": lambda *args: my_cfg(*args)[::-1],
        "That is the paper's convention, in which 0 is the model with condition. In ours that is scale 1.": (
            lambda model, x, t, y, scale: _steered(model, x, t, y, scale + 1)
        ),
        "At scale {scale:g} it walks the other way, from the model with condition to the one without.": (
            lambda model, x, t, y, scale: _steered(model, x, t, y, 1 - scale)
        ),
        "At scale {scale:g} it answers with the condition, and no more: the scale has no effect.": (
            lambda model, x, t, y, scale: model(x, t, y)
        ),
        "Only eps is steered: x0 and eps no longer explain x_t. Steer both.": lambda model, x, t, y, scale: (
            model(x, t, y).x0,
            _steered(model, x, t, y, scale).eps,
        ),
        "Only x0 is steered: x0 and eps no longer explain x_t. Steer both.": lambda model, x, t, y, scale: (
            _steered(model, x, t, y, scale).x0,
            model(x, t, y).eps,
        ),
        "x0 and eps no longer explain x_t: the weights of the two answers should add up to 1.": (
            lambda model, x, t, y, scale: (
                model(x, t).x0 + scale * model(x, t, y).x0,
                model(x, t).eps + scale * model(x, t, y).eps,
            )
        ),
        "Some rows are right and some are not: which half of the joined batch had its condition dropped?": (
            halves_interleaved
        ),
    },
    variants=[in_two_calls, noise_from_the_invariant],
    right=lambda got, expected, model, *args: (
        "It goes from the model without condition through the one with it and past it, "
        f"{'in one call' if model.calls == 1 else 'in two calls: one, of both batches joined, would do'}."
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
