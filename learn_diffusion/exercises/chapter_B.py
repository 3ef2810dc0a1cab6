"""Appendix B, Which symbol means what?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise

X0, EPS = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

# to EDM's picture and sigma


def my_to_edm(xt, alpha, sigma):
    return xt / alpha, sigma / alpha


def by_logsnr(xt, alpha, sigma):
    logsnr = 2 * torch.log(torch.tensor(alpha / sigma))
    return xt.float().numpy() / alpha, torch.exp(-logsnr / 2)


Exercise(
    "B.to_edm",
    r"""Translate. `my_to_edm(xt, alpha, sigma)` gets one of our noised pictures, $x_t = \alpha x_0 + \sigma\varepsilon$, and its coefficients (numbers), and returns the same picture as EDM and
    k-diffusion have it, data plus noise times *their* sigma, and that sigma.""",
    hints=["Their data has the factor 1. What do you have to divide by?", "Divide the whole sentence by alpha."],
    solution=my_to_edm,
    inputs=[(alpha * X0 + sigma * EPS, alpha, sigma) for alpha, sigma in ((0.8, 0.6), (0.3, 0.7))],
    result=("the picture", "their sigma"),
    mistakes={
        "The picture is still ours: its data has the factor alpha.": [
            lambda xt, alpha, sigma: (xt, sigma / alpha),
            lambda xt, alpha, sigma: (xt, sigma),
        ],
        "The picture was multiplied by alpha. It has to be divided.": [
            lambda xt, alpha, sigma: (xt * alpha, sigma / alpha),
            lambda xt, alpha, sigma: (xt * alpha, sigma * alpha),
        ],
        "Divided by sigma, it is the noise that has the factor 1. It should be the data.": [
            lambda xt, alpha, sigma: (xt / sigma, alpha / sigma),
            lambda xt, alpha, sigma: (xt / sigma, sigma / alpha),
        ],
        "The picture is right. Their sigma is not ours: the noise was divided by alpha, too.": (
            lambda xt, alpha, sigma: (xt / alpha, sigma)
        ),
        "The picture is right. The ratio is upside down: noise over data.": lambda xt, alpha, sigma: (
            xt / alpha,
            alpha / sigma,
        ),
        "The picture is right. This is the ratio of the variances; sigma is a standard deviation.": (
            lambda xt, alpha, sigma: (xt / alpha, (sigma / alpha) ** 2)
        ),
    },
    variants=[
        lambda xt, alpha, sigma: [(X0 + sigma / alpha * EPS).tolist(), torch.tensor([sigma / alpha])],
        by_logsnr,
    ],
    right="The same picture, in EDM's words.",
)

# guidance


def my_guidance(conditional, unconditional, w):
    scale = w + 1
    return unconditional + scale * (conditional - unconditional)


Exercise(
    "B.guidance",
    r"""Translate. `my_guidance(conditional, unconditional, w)` gets two guesses of the noise and the paper's $w$ (Ho and Salimans 2022, where $w = 0$ presses nothing), and returns the guided
    guess.""",
    hints=["Our scale is their w plus 1.", "unconditional + scale * (conditional - unconditional)."],
    solution=my_guidance,
    inputs=[(X0, EPS, w) for w in (2.5, 0.0, -1.0, 6.5)],
    result="the guided guess",
    mistakes={
        "That is our formula with their w. Their w = 0 presses nothing and ours is then unconditional: add 1.": (
            lambda conditional, unconditional, w: my_guidance(conditional, unconditional, w - 1)
        ),
        "1 was taken away where it should be added: scale = w + 1.": lambda conditional, unconditional, w: my_guidance(
            conditional, unconditional, w - 2
        ),
        "Conditional and unconditional are exchanged: this presses away from what was asked for.": (
            lambda conditional, unconditional, w: my_guidance(unconditional, conditional, w)
        ),
        "The unconditional guess has to be subtracted: the two factors add up to 1.": (
            lambda conditional, unconditional, w: (1 + w) * conditional + w * unconditional
        ),
        "1 is added twice.": lambda conditional, unconditional, w: my_guidance(conditional, unconditional, w + 1),
        "w has no effect.": lambda conditional, unconditional, w: conditional,
    },
    variants=[
        lambda conditional, unconditional, w: (1 + w) * conditional.numpy() - w * unconditional.numpy(),
        lambda conditional, unconditional, w: torch.lerp(unconditional.float(), conditional.float(), w + 1),
    ],
    right="Both conventions agree.",
)
