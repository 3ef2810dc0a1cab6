"""Chapter 11, How do I steer?"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, pair
from learn_diffusion.process import Estimate, from_x0
from learn_diffusion.schedules import Flow

PATH = Flow()  # alpha^2 + sigma^2 is not 1 here, so that a formula for other paths is found out
CENTRES, SHARE, WIDTH = torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.5, 0.3, 0.2]), 0.4
X = torch.tensor([[-1.2], [-0.3], [0.2], [0.7], [1.5]])
Y = torch.tensor([0, 1, 2, 1, 0])  # which blob is asked for
PAIR = "x0 and eps"


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


def _estimate(out) -> Estimate:
    x0, eps = pair(out, PAIR)
    return Estimate(numbers(x0, X.shape, "x0"), numbers(eps, X.shape, "eps"))


def _explains(est: Estimate, alpha: float, sigma: float) -> bool:
    return agrees(alpha * est.x0 + sigma * est.eps, X, 1e-3)


def _same(est: Estimate, x0: Tensor, eps: Tensor) -> bool:
    return agrees(est.x0, x0, 1e-3) and agrees(est.eps, eps, 1e-3)


# classifier guidance

by_classifier = Exercise(
    "11.classifier",
    r"""Steer with a classifier. `my_guided(est, gradient, alpha, sigma, scale)` gets an estimate (`est.x0` and `est.eps`, both of shape (B, D)) that knows nothing of $y$, the gradient $\nabla\log p_t(y\mid x_t)$ of a classifier (B, D), and three numbers.
    It returns the two parts of the steered estimate, `x0` and `eps`. (The check uses three Gaussian blobs on a line, where denoiser and classifier are known exactly. There, scale 1 has to give the exact denoiser of the blob that was asked for.)""",
    hints=[
        "The score is -eps / sigma. Add scale * gradient to it: what is the new eps?",
        "eps loses scale * sigma * gradient.",
        "alpha x0 + sigma eps must still be x_t: what eps loses, x0 gains, times sigma / alpha.",
    ],
)


@by_classifier.oracle
def _(my_guided):
    for level, scale in ((0.6, 1.0), (0.3, 2.5), (0.8, 0.0)):
        t = torch.tensor(level)
        alpha, sigma = 1 - level, level
        uncond, asked = _blobs(X, t), _blobs(X, t, Y)
        gradient = alpha / sigma**2 * (asked.x0 - uncond.x0)  # Bayes' rule and Tweedie's formula
        est = _estimate(call(my_guided, uncond, gradient.clone(), alpha, sigma, scale))
        right, pull = uncond.lerp(asked, scale), scale * gradient
        if _same(est, right.x0, right.eps):
            continue
        at = f"At scale {scale:g}"
        if _same(est, right.eps, right.x0):
            raise IncorrectAnswer("The two results are exchanged: x0 comes first, then eps.")
        if scale == 0:
            raise IncorrectAnswer(
                "At scale 0 nothing should change, and something does: does your scale count from another number?"
            )
        if _same(est, uncond.x0, uncond.eps):
            raise IncorrectAnswer(f"{at} nothing changes.")
        if _same(est, uncond.lerp(asked, -scale).x0, uncond.lerp(asked, -scale).eps):
            raise IncorrectAnswer(
                f"{at} the estimate moves away from what was asked. The score is MINUS eps over sigma."
            )
        if scale != 1 and _same(est, asked.x0, asked.eps):
            raise IncorrectAnswer("It is right at scale 1, but the scale has no effect.")
        if agrees(est.eps, right.eps, 1e-3):
            if agrees(est.x0, uncond.x0, 1e-3):
                raise IncorrectAnswer("eps is right, but x0 has not moved with it: the two no longer explain x_t.")
            raise IncorrectAnswer("eps is right, x0 is not. Solve x_t = alpha x0 + sigma eps for x0, with the new eps.")
        if agrees(est.eps, uncond.eps - pull, 1e-3):
            raise IncorrectAnswer(
                "The gradient is taken off eps as it is: a factor sigma is missing. The score is -eps / sigma."
            )
        if agrees(est.eps, uncond.eps - sigma**2 * pull, 1e-3):
            raise IncorrectAnswer(
                "eps loses sigma squared times the gradient. Once is enough: the score is -eps / sigma."
            )
        if agrees(est.x0, right.x0, 1e-3):
            raise IncorrectAnswer("x0 is right, eps is not. Solve x_t = alpha x0 + sigma eps for eps, with the new x0.")
        expected, got = right.eps[0].item(), est.eps[0].item()
        raise IncorrectAnswer(f"{at} the first eps should be {expected:.3f}, and is {got:.3f}.")
    return "With an exact classifier, scale 1 is the exact conditional model."


@by_classifier.answer
def my_guided(est, gradient, alpha, sigma, scale):
    eps = est.eps - scale * sigma * gradient
    x0 = est.x0 + scale * sigma**2 / alpha * gradient
    return x0, eps


@by_classifier.mutant("away from what was asked")
def sign_reversed(est, gradient, alpha, sigma, scale):
    return my_guided(est, -gradient, alpha, sigma, scale)


@by_classifier.mutant("a factor sigma is missing")
def without_sigma(est, gradient, alpha, sigma, scale):
    return est.x0 + scale * sigma / alpha * gradient, est.eps - scale * gradient


@by_classifier.mutant("sigma squared")
def sigma_twice(est, gradient, alpha, sigma, scale):
    return est.x0 + scale * sigma**3 / alpha * gradient, est.eps - scale * sigma**2 * gradient


@by_classifier.mutant("x0 has not moved")
def x0_left_behind(est, gradient, alpha, sigma, scale):
    return est.x0, est.eps - scale * sigma * gradient


@by_classifier.mutant("with the new eps")
def alpha_forgotten(est, gradient, alpha, sigma, scale):
    return est.x0 + scale * sigma**2 * gradient, est.eps - scale * sigma * gradient


@by_classifier.mutant("with the new x0")
def eps_left_behind(est, gradient, alpha, sigma, scale):
    return est.x0 + scale * sigma**2 / alpha * gradient, est.eps


@by_classifier.mutant("the scale has no effect")
def scale_ignored(est, gradient, alpha, sigma, scale):
    return my_guided(est, gradient, alpha, sigma, 1.0)


@by_classifier.mutant("exchanged")
def results_exchanged(est, gradient, alpha, sigma, scale):
    return my_guided(est, gradient, alpha, sigma, scale)[::-1]


@by_classifier.variant
def through_the_score(est, gradient, alpha, sigma, scale):
    xt = alpha * est.x0 + sigma * est.eps
    eps = -sigma * (-est.eps / sigma + scale * gradient)
    return [((xt - sigma * eps) / alpha).double(), eps.double()]


@by_classifier.variant
def in_numpy(est, gradient, alpha, sigma, scale):
    x0, eps, g = est.x0.numpy(), est.eps.numpy(), gradient.numpy()
    return x0 + scale * sigma * sigma / alpha * g, eps - scale * sigma * g


# classifier-free guidance

free_of_it = Exercise(
    "11.cfg",
    r"""Steer without a classifier. `my_cfg(model, x, t, y, scale)` gets a model that you may ask `model(x, t, y, cond_mask)` for an estimate with the parts `.x0` and `.eps`; `cond_mask` is (B,) bool, and False where the condition is to be dropped. `x` is (B, D), `t` one level for all,
    `y` (B,) labels. Return the two parts of the steered estimate, `x0` and `eps`, in this course's convention: scale 0 is the model without condition, scale 1 the one with it. (The check uses three Gaussian blobs, whose exact denoiser is the model.)""",
    hints=[
        "Ask the model twice: with cond_mask all True, and all False.",
        "free + scale * (given - free), for x0 and for eps alike.",
        "One call is enough: join the batches, torch.cat([x, x]) and so on, and cut the answer in two.",
    ],
)


@free_of_it.oracle
def _(my_cfg):
    asked = []

    def model(x, t, y=None, cond_mask=None):
        asked.append(len(x))
        return _blobs(x, torch.as_tensor(t), y, cond_mask)

    alpha, sigma = 0.5, 0.5
    t = torch.tensor(sigma)
    uncond, cond = _blobs(X, t), _blobs(X, t, Y)
    for scale in (3.0, 1.0, 0.0, -1.0):
        asked.clear()
        est = _estimate(call(my_cfg, model, X.clone(), t, Y.clone(), scale))
        right = uncond.lerp(cond, scale)
        if not asked:
            raise IncorrectAnswer("The model is never asked.")
        if _same(est, right.x0, right.eps):
            continue
        at = f"At scale {scale:g}"
        other, paper = cond.lerp(uncond, scale), uncond.lerp(cond, scale + 1)
        if _same(est, right.eps, right.x0):
            raise IncorrectAnswer("The two results are exchanged: x0 comes first, then eps.")
        if _same(est, paper.x0, paper.eps):
            raise IncorrectAnswer(
                "That is the paper's convention, in which 0 is the model with condition. In ours that is scale 1."
            )
        if _same(est, other.x0, other.eps):
            raise IncorrectAnswer(f"{at} it walks the other way, from the model with condition to the one without.")
        if _same(est, cond.x0, cond.eps):
            raise IncorrectAnswer(f"{at} it answers with the condition, and no more: the scale has no effect.")
        if not _explains(est, alpha, sigma):
            if agrees(est.eps, right.eps, 1e-3) or agrees(est.x0, right.x0, 1e-3):
                which = "eps" if agrees(est.eps, right.eps, 1e-3) else "x0"
                raise IncorrectAnswer(f"Only {which} is steered: x0 and eps no longer explain x_t. Steer both.")
            raise IncorrectAnswer(
                "x0 and eps no longer explain x_t: the weights of the two answers should add up to 1."
            )
        if any(agrees(est.x0[i], right.x0[i], 1e-3) for i in range(len(X))):
            raise IncorrectAnswer(
                "Some rows are right and some are not: which half of the joined batch had its condition dropped?"
            )
        raise IncorrectAnswer(f"{at} the first x0 should be {right.x0[0].item():.3f}, and is {est.x0[0].item():.3f}.")
    thrift = "in one call" if len(asked) == 1 else "in two calls: one, of both batches joined, would do"
    return f"It goes from the model without condition through the one with it and past it, {thrift}."


@free_of_it.answer
def my_cfg(model, x, t, y, scale):
    n = len(x)
    cond_mask = torch.arange(2 * n) < n  # the first half keeps its condition
    both = model(torch.cat([x, x]), t, torch.cat([y, y]), cond_mask)
    x0 = both.x0[n:] + scale * (both.x0[:n] - both.x0[n:])
    eps = both.eps[n:] + scale * (both.eps[:n] - both.eps[n:])
    return x0, eps


def _two(model, x, t, y):
    cond_mask = torch.ones(len(x), dtype=torch.bool)
    return model(x, t, y, cond_mask), model(x, t, y, ~cond_mask)


@free_of_it.mutant("the paper's convention")
def counts_like_the_paper(model, x, t, y, scale):
    cond, uncond = _two(model, x, t, y)
    return (1 + scale) * cond.x0 - scale * uncond.x0, (1 + scale) * cond.eps - scale * uncond.eps


@free_of_it.mutant("walks the other way")
def keeps_exchanged(model, x, t, y, scale):
    uncond, cond = _two(model, x, t, y)
    return uncond.lerp(cond, scale)


@free_of_it.mutant("Only eps is steered")
def steers_eps_alone(model, x, t, y, scale):
    cond, uncond = _two(model, x, t, y)
    return cond.x0, uncond.lerp(cond, scale).eps


@free_of_it.mutant("Only x0 is steered")
def steers_x0_alone(model, x, t, y, scale):
    cond, uncond = _two(model, x, t, y)
    return uncond.lerp(cond, scale).x0, cond.eps


@free_of_it.mutant("add up to 1")
def weights_add_up_to_more(model, x, t, y, scale):
    cond, uncond = _two(model, x, t, y)
    return uncond.x0 + scale * cond.x0, uncond.eps + scale * cond.eps


@free_of_it.mutant("the scale has no effect")
def only_asks(model, x, t, y, scale):
    return model(x, t, y)


@free_of_it.mutant("which half")
def halves_interleaved(model, x, t, y, scale):
    n = len(x)
    both = model(torch.cat([x, x]), t, torch.cat([y, y]), torch.arange(2 * n) % 2 == 0)
    cond, uncond = Estimate(both.x0[:n], both.eps[:n]), Estimate(both.x0[n:], both.eps[n:])
    return uncond.lerp(cond, scale)


@free_of_it.mutant("exchanged")
def eps_first(model, x, t, y, scale):
    return my_cfg(model, x, t, y, scale)[::-1]


@free_of_it.variant
def in_two_calls(model, x, t, y, scale):
    cond, uncond = model(x, t, y), model(x, t)
    return scale * cond.x0 + (1 - scale) * uncond.x0, scale * cond.eps + (1 - scale) * uncond.eps


@free_of_it.variant
def noise_from_the_invariant(model, x, t, y, scale):
    cond_mask = torch.ones(len(x), dtype=torch.bool)
    x0 = torch.lerp(model(x, t, y, ~cond_mask).x0, model(x, t, y, cond_mask).x0, scale)
    return x0, (x - (1 - t) * x0) / t


# conventions

convention = Exercise(
    "11.convention",
    r"""A program you did not write steers by `guided(given, free, number)`: two guesses of the noise, with and without condition, and the strength that its user chose. In which convention, nobody says. Write `my_scale(guided, number)`: it returns the scale of *this course* that does the
    same as that program's `number`. You may call `guided` with whatever you like. (The check has six such programs. What they have in common: they answer $\hat\varepsilon_\emptyset + w\,(\hat\varepsilon_y - \hat\varepsilon_\emptyset)$ with *some* $w$.)""",
    hints=[
        "You need not read the program. Feed it two guesses for which the formula shows w.",
        "What does the formula give for given = 1 and free = 0?",
    ],
)

_PROGRAMS = {  # name: (what it does, our scale)
    "ours": (lambda cond, uncond, n: uncond + n * (cond - uncond), lambda n: n),
    "the paper's": (lambda cond, uncond, n: (1 + n) * cond - n * uncond, lambda n: 1 + n),
    "from the conditional model": (lambda cond, uncond, n: cond + n * (cond - uncond), lambda n: 1 + n),
    "in per cent": (lambda cond, uncond, n: uncond + n / 100 * (cond - uncond), lambda n: n / 100),
    "by the share of the unconditional model": (lambda cond, uncond, n: n * uncond + (1 - n) * cond, lambda n: 1 - n),
    "by powers of two": (lambda cond, uncond, n: uncond + 2.0**n * (cond - uncond), lambda n: 2.0**n),
}


@convention.oracle
def _(my_scale):
    found = {}
    for name, (program, scale) in _PROGRAMS.items():
        for n in (3.0, 0.25):
            out = call(my_scale, lambda cond, uncond, number, program=program: program(cond, uncond, number), n)
            found[name, n] = numbers(out, (), "the scale").item(), scale(n)
    if all(agrees(got, right) for got, right in found.values()):
        return "It reads the scale of all six programs, without knowing any of their conventions."
    if all(agrees(got, n) for (_, n), (got, _) in found.items()):
        raise IncorrectAnswer(
            "The number comes back as it is. That is right for a program that counts as we do, and for no other."
        )
    if all(agrees(got, n + 1) for (_, n), (got, _) in found.items()):
        raise IncorrectAnswer(
            "Always number + 1. That is right for a program that counts as the paper does, and for no other."
        )
    if all(agrees(got, 1 - right) for got, right in found.values()):
        raise IncorrectAnswer(
            "This is the weight of the unconditional guess, 1 - w. Exchange the two guesses that you feed it."
        )
    if len({got for got, _ in found.values()}) == 1:
        raise IncorrectAnswer("The same scale for all programs and all numbers: do your two guesses differ?")
    ratios = [log(abs(got / right)) for got, right in found.values() if got]
    if len(ratios) == len(found) and agrees(max(ratios), min(ratios)):
        raise IncorrectAnswer(
            "All scales are wrong by the same factor: divide by the difference of the two guesses you feed it."
        )
    name, n = next(key for key, (got, right) in found.items() if not agrees(got, right))
    got, right = found[name, n]
    raise IncorrectAnswer(
        f"For a program that counts like this: {name}, {n:g} there is scale {right:g} here, not {got:g}."
    )


@convention.answer
def my_scale(guided, number):
    return guided(1.0, 0.0, number)  # free + w (given - free) = w


@convention.mutant("counts as we do")
def takes_it_for_ours(guided, number):
    return number


@convention.mutant("as the paper does")
def takes_it_for_the_papers(guided, number):
    return number + 1


@convention.mutant("Exchange the two guesses")
def guesses_exchanged(guided, number):
    return guided(0.0, 1.0, number)


@convention.mutant("do your two guesses differ")
def equal_guesses(guided, number):
    return guided(1.0, 1.0, number)


@convention.mutant("same factor")
def not_divided(guided, number):
    return guided(2.0, 0.0, number)


@convention.mutant("counts like this")
def guesses_from_two_conventions(guided, number):
    return number if guided(1.0, 0.0, 1.0) == 1.0 else number + 1


@convention.variant
def by_a_slope(guided, number):
    cond, uncond = torch.tensor([0.3, -2.0]), torch.tensor([1.1, 0.4])
    return ((guided(cond, uncond, number) - uncond) / (cond - uncond)).mean()


@convention.variant
def by_a_difference(guided, number):
    return guided(5.0, 4.0, number) - 4.0
