"""Appendix B, Which symbol means what?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise

X0, EPS = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

# a network of EDM's, asked about a picture of ours


def _theirs(x, sigma):
    """The best denoiser of EDM's for data that is one Gaussian, mean 0.5 and standard deviation 0.3."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype)
    return (0.3**2 * x + sigma**2 * 0.5) / (0.3**2 + sigma**2)


def my_to_edm(denoise, xt, alpha, sigma):
    x0 = denoise(xt / alpha, sigma / alpha)
    return x0, (xt - alpha * x0) / sigma


def _asked(at=lambda alpha, sigma: sigma / alpha, scale=lambda alpha, sigma: 1 / alpha, eps=None, x0=None):
    """Asks about scale * xt at the level at; finds the noise by eps, and hands back x0 of the guess."""
    eps = eps or (lambda xt, x0, alpha, sigma: (xt - alpha * x0) / sigma)

    def answer(denoise, xt, alpha, sigma):
        guess = denoise(scale(alpha, sigma) * xt, at(alpha, sigma))
        guess = x0(guess, alpha) if x0 else guess
        return guess, eps(xt, guess, alpha, sigma)

    return answer


def in_their_sentence(denoise, xt, alpha, sigma):
    x, theirs = xt.float() / alpha, torch.tensor(sigma / alpha)
    x0 = denoise(x, theirs)
    return x0.numpy(), ((x - x0) / theirs).numpy()


Exercise(
    "B.to_edm",
    r"""Ask a network that speaks EDM. `my_to_edm(denoise, xt, alpha, sigma)` gets such a network, $D$: `denoise(x, sigma)` takes *their* picture and *their* sigma, and answers with its guess of
    the clean picture. It also gets one of our noised pictures, $x_t = \alpha x_0 + \sigma\varepsilon$, and its coefficients (numbers). It returns $\hat x_0$ and $\hat\varepsilon$, which have to explain our $x_t$.""",
    hints=[
        "In their picture the data has the factor 1. Divide our whole sentence by alpha.",
        "Their sigma is the factor of the noise after that division.",
        "The clean picture is the same in both. The noise is what is left: solve our sentence for eps.",
    ],
    solution=my_to_edm,
    inputs=[(_theirs, alpha * X0 + sigma * EPS, alpha, sigma) for alpha, sigma in ((0.8, 0.6), (0.3, 0.7))],
    result=("x0_hat", "eps_hat"),
    mistakes={
        "The network was shown our picture, whose data has the factor alpha.": [
            _asked(scale=lambda alpha, sigma: 1),
            _asked(scale=lambda alpha, sigma: 1, at=lambda alpha, sigma: sigma),
        ],
        "The picture was multiplied by alpha. It has to be divided.": _asked(scale=lambda alpha, sigma: alpha),
        "Divided by sigma, it is the noise that has the factor 1. It should be the data.": _asked(
            scale=lambda alpha, sigma: 1 / sigma
        ),
        "The picture shown is right. Their sigma is not ours: the noise was divided by alpha, too.": _asked(
            at=lambda alpha, sigma: sigma
        ),
        "The picture shown is right. The ratio is upside down: noise over data.": _asked(
            at=lambda alpha, sigma: alpha / sigma
        ),
        "The picture shown is right. This is the ratio of the variances; sigma is a standard deviation.": _asked(
            at=lambda alpha, sigma: (sigma / alpha) ** 2
        ),
        "x0_hat was divided or multiplied by alpha. The clean picture is the same in both worlds.": [
            _asked(x0=lambda x0, alpha: x0 / alpha),
            _asked(x0=lambda x0, alpha: x0 * alpha),
        ],
        "x0_hat is right. In our picture it has the factor alpha, which the noise has to make room for.": _asked(
            eps=lambda xt, x0, alpha, sigma: (xt - x0) / sigma
        ),
        "x0_hat is right. The noise is still multiplied by a sigma: it should have the variance 1.": [
            _asked(eps=lambda xt, x0, alpha, sigma: xt - alpha * x0),
            _asked(eps=lambda xt, x0, alpha, sigma: xt / alpha - x0),
        ],
    },
    variants=[in_their_sentence],
    right="Two guesses of EDM's network, in our words.",
)

# guidance


def my_guidance(conditional, unconditional, alpha, sigma, w, lo, hi):
    scale = 1 + w if lo <= sigma / alpha <= hi else 1
    return unconditional + scale * (conditional - unconditional)


def _pressed(scale, inside):
    """Guidance of that scale where inside(alpha, sigma, lo, hi), and the rest as it should be."""

    def answer(conditional, unconditional, alpha, sigma, w, lo, hi):
        strength = scale(w) if inside(alpha, sigma, lo, hi) else 1
        return unconditional + strength * (conditional - unconditional)

    return answer


def _within(alpha, sigma, lo, hi):
    return lo <= sigma / alpha <= hi


def exchanged(conditional, unconditional, alpha, sigma, w, lo, hi):
    return my_guidance(unconditional, conditional, alpha, sigma, w, lo, hi)


def sum_of_both(conditional, unconditional, alpha, sigma, w, lo, hi):
    return (1 + w) * conditional + w * unconditional if lo <= sigma / alpha <= hi else conditional


def nothing_outside(conditional, unconditional, alpha, sigma, w, lo, hi):
    inside = lo <= sigma / alpha <= hi
    return my_guidance(conditional, unconditional, alpha, sigma, w, lo, hi) if inside else unconditional


def in_their_formula(conditional, unconditional, alpha, sigma, w, lo, hi):
    w = w * (lo * alpha <= sigma <= hi * alpha)
    return (1 + w) * conditional.numpy() - w * unconditional.numpy()


def by_lerp(conditional, unconditional, alpha, sigma, w, lo, hi):
    inside = 2 * torch.log(torch.tensor([1 / hi, alpha / sigma, 1 / lo]))  # log-SNR
    scale = w + 1 if bool(inside[0] <= inside[1] <= inside[2]) else 1.0
    return torch.lerp(unconditional.float(), conditional.float(), scale)


Exercise(
    "B.guidance",
    r"""Two translations at once. A paper presses only at some levels, and says so in words of others: with the $w$ of Ho and Salimans 2022 (where $w = 0$ presses nothing), where EDM's sigma is from `lo` to `hi`; at
    all other levels it presses nothing. Write it: `my_guidance(conditional, unconditional, alpha, sigma, w, lo, hi)` gets two guesses of the noise and *our* coefficients of the level (numbers), and returns the guess to use.""",
    hints=[
        "EDM's sigma is sigma / alpha.",
        "Our scale is their w plus 1, and 1 where nothing is pressed.",
        "unconditional + scale * (conditional - unconditional).",
    ],
    solution=my_guidance,
    inputs=[
        (X0, EPS, *level, w, 0.5, 5.0)
        for level, w in (((0.8, 0.6), 2.5), ((0.1, 0.9), 2.5), ((0.3, 0.2), 6.5), ((0.3, 0.1), 1.5), ((0.6, 0.8), -1.0))
    ],
    result="the guess",
    mistakes={
        "That is our formula with their w. Their w = 0 presses nothing and ours is then unconditional: add 1.": _pressed(
            lambda w: w, _within
        ),
        "1 was taken away where it should be added: scale = w + 1.": _pressed(lambda w: w - 1, _within),
        "1 is added twice.": _pressed(lambda w: w + 2, _within),
        "w has no effect.": _pressed(lambda w: 1, _within),
        "lo and hi are for EDM's sigma. This compares ours with them.": _pressed(
            lambda w: w + 1, lambda alpha, sigma, lo, hi: lo <= sigma <= hi
        ),
        "The ratio is upside down: EDM's sigma is noise over data.": _pressed(
            lambda w: w + 1, lambda alpha, sigma, lo, hi: lo <= alpha / sigma <= hi
        ),
        "It presses at all levels. Outside of lo to hi, nothing is pressed.": _pressed(
            lambda w: w + 1, lambda *level: True
        ),
        "It presses outside of the interval, and not within.": _pressed(
            lambda w: w + 1, lambda *level: not _within(*level)
        ),
        "Where nothing is pressed the guess is the conditional one, and not the unconditional.": nothing_outside,
        "Conditional and unconditional are exchanged: this presses away from what was asked for.": exchanged,
        "The unconditional guess has to be subtracted: the two factors add up to 1.": sum_of_both,
    },
    variants=[in_their_formula, by_lerp],
    right="Their strength and their interval, at our levels.",
)
