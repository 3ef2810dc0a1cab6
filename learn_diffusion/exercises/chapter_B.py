"""Appendix B, Which symbol means what?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, several

# to EDM's picture and sigma


def _check_to_edm(my_to_edm):
    for alpha, sigma in ((0.8, 0.6), (0.3, 0.7)):
        x0, eps = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        out = several(call(my_to_edm, alpha * x0 + sigma * eps, alpha, sigma), ("x", "sigma"))
        x, theirs = numbers(out[0], (5,), "the picture"), numbers(out[1], (), "their sigma")
        truth, nsr = x0 + sigma / alpha * eps, sigma / alpha
        if agrees(x, truth) and agrees(theirs, nsr):
            continue
        if agrees(x, alpha * x0 + sigma * eps):
            raise IncorrectAnswer("The picture is still ours: its data has the factor alpha.")
        if agrees(x, alpha * (alpha * x0 + sigma * eps)):
            raise IncorrectAnswer("The picture was multiplied by alpha. It has to be divided.")
        if agrees(x, (alpha * x0 + sigma * eps) / sigma):
            raise IncorrectAnswer("Divided by sigma, it is the noise that has the factor 1. It should be the data.")
        if not agrees(x, truth):
            raise IncorrectAnswer(
                f"With alpha = {alpha} and sigma = {sigma} the picture is off by {(x - truth).abs().max():.2f}."
            )
        if agrees(theirs, sigma):
            raise IncorrectAnswer("The picture is right. Their sigma is not ours: the noise was divided by alpha, too.")
        if agrees(theirs, alpha / sigma):
            raise IncorrectAnswer("The picture is right. The ratio is upside down: noise over data.")
        if agrees(theirs, nsr**2):
            raise IncorrectAnswer(
                "The picture is right. This is the ratio of the variances; sigma is a standard deviation."
            )
        raise IncorrectAnswer(f"The picture is right. Their sigma is {nsr:.3f}, not {theirs:.3f}.")
    return "The same picture, in EDM's words."


def my_to_edm(xt, alpha, sigma):
    return xt / alpha, sigma / alpha


def unscaled(xt, alpha, sigma):
    return xt, sigma / alpha


def multiplied(xt, alpha, sigma):
    return xt * alpha, sigma / alpha


def our_sigma(xt, alpha, sigma):
    return xt / alpha, sigma


def ratio_upside_down(xt, alpha, sigma):
    return xt / alpha, alpha / sigma


def squared(xt, alpha, sigma):
    return xt / alpha, (sigma / alpha) ** 2


def by_sigma(xt, alpha, sigma):
    return xt / sigma, alpha / sigma


def by_logsnr(xt, alpha, sigma):
    logsnr = 2 * torch.log(torch.tensor(alpha / sigma))
    return xt.float().numpy() / alpha, torch.exp(-logsnr / 2)


def as_list(xt, alpha, sigma):
    return [[x / alpha for x in xt.tolist()], torch.tensor([sigma / alpha])]


to_edm = Exercise(
    "B.to_edm",
    r"""Translate. `my_to_edm(xt, alpha, sigma)` gets one of our noised pictures, $x_t = \alpha x_0 + \sigma\varepsilon$, and its coefficients (numbers), and returns the same picture as EDM and
    k-diffusion have it, data plus noise times *their* sigma, and that sigma.""",
    hints=["Their data has the factor 1. What do you have to divide by?", "Divide the whole sentence by alpha."],
    solution=my_to_edm,
    check=_check_to_edm,
    mistakes={
        "still ours": unscaled,
        "multiplied by alpha": multiplied,
        "Their sigma is not ours": our_sigma,
        "upside down": ratio_upside_down,
        "ratio of the variances": squared,
        "Divided by sigma": by_sigma,
    },
    variants=[by_logsnr, as_list],
)


# guidance


def _check_guidance(my_guidance):
    c, u = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for w in (2.5, 0.0, -1.0, 6.5):
        out = numbers(call(my_guidance, c, u, w), c.shape, "the guided guess")
        truth = (1 + w) * c - w * u
        if agrees(out, truth):
            continue
        if agrees(out, u + w * (c - u)):
            raise IncorrectAnswer(
                "That is our formula with their w. Their w = 0 presses nothing and ours is then unconditional: add 1."
            )
        if agrees(out, u + (w - 1) * (c - u)):
            raise IncorrectAnswer("1 was taken away where it should be added: scale = w + 1.")
        if agrees(out, (1 + w) * u - w * c):
            raise IncorrectAnswer(
                "Conditional and unconditional are exchanged: this presses away from what was asked for."
            )
        if agrees(out, (1 + w) * c + w * u):
            raise IncorrectAnswer("The unconditional guess has to be subtracted: the two factors add up to 1.")
        if agrees(out, u + (w + 2) * (c - u)):
            raise IncorrectAnswer("1 is added twice.")
        if agrees(out, c):
            raise IncorrectAnswer("w has no effect.")
        raise IncorrectAnswer(f"With w = {w} the result is off by {(out - truth).abs().max():.2f}.")
    return "Both conventions agree."


def my_guidance(conditional, unconditional, w):
    scale = w + 1
    return unconditional + scale * (conditional - unconditional)


def w_for_scale(conditional, unconditional, w):
    return unconditional + w * (conditional - unconditional)


def one_too_few(conditional, unconditional, w):
    return unconditional + (w - 1) * (conditional - unconditional)


def exchanged(conditional, unconditional, w):
    return (1 + w) * unconditional - w * conditional


def added(conditional, unconditional, w):
    return (1 + w) * conditional + w * unconditional


def one_too_many(conditional, unconditional, w):
    return unconditional + (w + 2) * (conditional - unconditional)


def only_conditional(conditional, unconditional, w):
    return conditional


def as_in_the_paper(conditional, unconditional, w):
    return (1 + w) * conditional.numpy() - w * unconditional.numpy()


def by_lerp(conditional, unconditional, w):
    return torch.lerp(unconditional.float(), conditional.float(), w + 1)


guidance = Exercise(
    "B.guidance",
    r"""Translate. `my_guidance(conditional, unconditional, w)` gets two guesses of the noise and the paper's $w$ (Ho and Salimans 2022, where $w = 0$ presses nothing), and returns the guided
    guess.""",
    hints=["Our scale is their w plus 1.", "unconditional + scale * (conditional - unconditional)."],
    solution=my_guidance,
    check=_check_guidance,
    mistakes={
        "our formula with their w": w_for_scale,
        "taken away": one_too_few,
        "exchanged": exchanged,
        "subtracted": added,
        "added twice": one_too_many,
        "no effect": only_conditional,
    },
    variants=[as_in_the_paper, by_lerp],
)
