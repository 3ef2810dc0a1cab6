"""Chapter 02, How fast should noise arrive?"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, several
from learn_diffusion.schedules import DDPM

# the leak


def my_leak(betas):
    alpha_bar = (1 - betas).prod()
    return (alpha_bar / (1 - alpha_bar)).log()


def _snr(alpha_bar):
    return alpha_bar / (1 - alpha_bar)


END = torch.tensor(1.0, dtype=torch.float64)

Exercise(
    "02.leak",
    r"""Diagnose a leak. `my_leak(betas)` gets the variances of a chain (a tensor of any length) and returns the log-SNR at its end, after the last step. (Pure noise would be $-\infty$.
    The more negative the number, the smaller the leak.)""",
    hints=[
        "The log-SNR is log(alpha^2 / sigma^2). What are alpha^2 and sigma^2 after the last step of a chain?",
        "Each step keeps 1 - beta of the variance: alpha^2 is the product of these.",
        "What is not data is noise: sigma^2 = 1 - alpha^2.",
    ],
    solution=my_leak,
    inputs=[*((DDPM(T=T).betas(),) for T in (50, 150, 1000)), (DDPM(T=50, beta_T=0.01).betas(),)],  # not Ho's alone
    result="the log-SNR at the end",
    mistakes={
        "This is alpha^2 at the end. The log-SNR compares it with sigma^2, and takes the logarithm.": lambda betas: (
            1 - betas
        ).prod(),
        "This is alpha at the end. The log-SNR is log(alpha^2 / sigma^2).": lambda betas: (1 - betas).prod().sqrt(),
        "This is the SNR. Take its logarithm.": lambda betas: _snr((1 - betas).prod()),
        "This is log(alpha^2): divide by sigma^2 first.": lambda betas: (1 - betas).prod().log(),
        "This is log(alpha / sigma), half of what is asked for: both are squared.": lambda betas: (
            _snr((1 - betas).prod()).log() / 2
        ),
        "The sign is wrong: data over noise, not noise over data.": lambda betas: -_snr((1 - betas).prod()).log(),
        "This is a logarithm to another base. Here it is the natural one, which counts in factors of e.": [
            lambda betas: _snr((1 - betas).prod()).log10(),
            lambda betas: _snr((1 - betas).prod()).log2(),
        ],
        "sigma^2 is 1 - alpha^2. You have 1 - alpha.": lambda betas: (
            (1 - betas).prod() / (1 - (1 - betas).prod().sqrt())
        ).log(),
        "The betas are added up. Each step shrinks what the step before has left: multiply.": lambda betas: _snr(
            (1 - betas.sum()).clamp(min=1e-12)
        ).log(),
        "Only the last step counts here. The picture has been through all of them.": lambda betas: _snr(
            1 - betas[-1]
        ).log(),
        "The length of the chain is used, and its betas are not.": lambda betas: DDPM(T=len(betas)).logsnr(END),
        "One step is missing: the last.": lambda betas: _snr((1 - betas[:-1]).prod()).log(),
        "The largest beta stands for all of them here: the log-SNR is {expected:.2f}, not {got:.2f}.": (
            lambda betas: _snr((1 - betas.max()) ** len(betas)).log()
        ),
    },
    variants=[
        lambda betas: (1 - betas).prod().logit(),
        lambda betas: (left := math.prod(1 - b for b in betas.tolist()), math.log(left) - math.log(1 - left))[1],
    ],
    right="0.42 for 50 steps, more data than noise; -1.27 for 150; -10.12 for 1000.",
    otherwise=lambda got, expected, betas: (
        f"With {len(betas)} steps of these betas the log-SNR at the end is {expected:.3f}, not {got:.3f}."
    ),
)

# zero terminal SNR


def my_zero_end(betas):
    alpha = (1 - betas).cumprod(0).sqrt()
    alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])
    before = torch.cat([torch.ones(1), alpha[:-1]])
    return 1 - alpha**2 / before**2


def _alpha(betas):
    left = (1 - betas).cumprod(0)
    return left.sign() * left.abs().sqrt()  # no chain has betas above 1: an answer may


def _betas(alpha):
    return 1 - alpha**2 / torch.cat([torch.ones(1), alpha[:-1]]) ** 2


def _closed(alpha):
    return alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])


def by_loop(betas):
    alphas, left = [], 1.0
    for beta in betas.tolist():
        left *= math.sqrt(1 - beta)
        alphas.append(left)
    first, end = alphas[0], alphas[-1]
    new = [1.0] + [first * (a - end) / (first - end) for a in alphas]
    return [1 - (b / a) ** 2 for a, b in pairwise(new)]


def in_numpy(betas):
    alpha = np.sqrt(np.cumprod(1 - betas.numpy()))
    alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])
    return 1 - (alpha / np.concatenate([[1.0], alpha[:-1]])) ** 2


Exercise(
    "02.zero_end",
    r"""Close a leak. `my_zero_end(betas)` gets the variances of a leaky chain and returns new variances, as many, whose $\alpha$ are those of the formula above: the first unchanged, the last 0.
    (From new $\alpha$s back to betas: $1-\beta_i = \alpha_i^2/\alpha_{i-1}^2$, with $\alpha_0 = 1$.)""",
    hints=[
        "First the alphas of the old chain: the root of the running product of 1 - beta.",
        "Then the formula. Then the ratio of each squared alpha to the one before.",
        "The first ratio is alpha_1 squared itself, since alpha_0 is 1. The last beta comes out as 1.",
    ],
    solution=my_zero_end,
    inputs=[(DDPM(T=T).betas(),) for T in (50, 150)],
    result="the new betas",
    key=_alpha,
    tolerance=1e-5,
    mistakes={
        "The chain is the old one: it still leaks.": lambda betas: betas,
        "These are the new alphas. The question is for betas: one more step.": lambda betas: _closed(_alpha(betas)),
        "Only the last step was changed: from a leak to a cliff. The formula spreads the change over all steps.": (
            lambda betas: torch.cat([betas[:-1], torch.ones(1)])
        ),
        "The formula was applied to alpha_bar. It is meant for alpha, its root.": lambda betas: _betas(
            _closed(_alpha(betas) ** 2) ** 0.5
        ),
        "The first step has changed: stretch what is left, so that alpha_1 is as it was.": lambda betas: _betas(
            _alpha(betas) - _alpha(betas)[-1]
        ),
        "A beta is a variance between 0 and 1. Is the ratio of the alphas upside down?": lambda betas: (
            1 - 1 / (1 - _betas(_closed(_alpha(betas)) + 1e-3))
        ),
        "is infinite": lambda betas: 1 - 1 / (1 - _betas(_closed(_alpha(betas)))),
        "Larger betas leave less of the picture, but the new chain still ends with some.": lambda betas: betas * 2,
    },
    variants=[by_loop, in_numpy],
    right="The first step is as it was, and the last leaves nothing.",
    otherwise=lambda got, expected, betas: (
        f"The new alpha is {_alpha(got)[0]:.5f} after the first step, {_alpha(got)[24]:.4f} after step 25 and "
        f"{_alpha(got)[-1]:.4f} at the end; expected {_alpha(expected)[0]:.5f}, {_alpha(expected)[24]:.4f} and 0."
    ),
)

# a schedule of one's own


def my_schedule(t):
    alpha_bar = 1 - t**2
    return alpha_bar.sqrt(), t


def _from(alpha_bar):
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def _check(my_schedule):
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    alpha, sigma = several(call(my_schedule, t.clone()), ("alpha", "sigma"))
    alpha, sigma = numbers(alpha, t.shape, "alpha"), numbers(sigma, t.shape, "sigma")
    some = [150, 20, 77]
    again, _ = several(call(my_schedule, t[some]), ("alpha", "sigma"))
    if not agrees(numbers(again, (3,), "alpha"), alpha[some]):
        raise IncorrectAnswer(
            "At the same level it answers otherwise when other levels are asked for. alpha and sigma at a level depend on this t alone."
        )
    if (alpha < -1e-9).any() or (sigma < -1e-9).any():
        raise IncorrectAnswer("alpha and sigma are amounts: neither should be negative.")
    if agrees(alpha[0], 0.0, 1e-3) and agrees(sigma[-1], 0.0, 1e-3):
        raise IncorrectAnswer("It runs backwards: t = 0 is data here, and t = 1 is noise.")
    square = alpha**2 + sigma**2
    if agrees(alpha + sigma, torch.ones_like(t)) and not agrees(square, torch.ones_like(t)):
        raise IncorrectAnswer("alpha + sigma is 1. Variances should add up to 1: alpha^2 + sigma^2.")
    if not agrees(square, torch.ones_like(t), 1e-4):
        i = int((square - 1).abs().argmax())
        raise IncorrectAnswer(f"At t = {t[i]:.2f} alpha^2 + sigma^2 is {square[i]:.2f}, and should be 1.")
    if not agrees(alpha[0], 1.0, 1e-3):
        raise IncorrectAnswer(f"It begins with alpha = {alpha[0]:.3f}: noise before anything has happened.")
    if not agrees(alpha[-1], 0.0, 1e-3):
        raise IncorrectAnswer(f"It leaks: at t = 1, alpha is still {alpha[-1]:.3f}.")
    if (alpha.diff() > 1e-9).any():
        i = int(alpha.diff().argmax())
        raise IncorrectAnswer(f"Near t = {t[i]:.2f} the picture comes back: alpha grows. It should only fall.")
    if ((alpha.diff() >= 0) & (sigma.diff() <= 0)).sum() > 5:  # a few may drown in rounding
        raise IncorrectAnswer(
            "For a long while nothing happens: alpha stands still. Every moment should add some noise."
        )
    if agrees(alpha, torch.cos(torch.pi * t / 2), 1e-3):
        raise IncorrectAnswer("This is the cosine of this chapter. Find another.")
    return (
        f"A schedule of your own: equal parts of data and noise at t = {t[int((alpha**2 - 0.5).abs().argmin())]:.2f}."
    )


Exercise(
    "02.your_schedule",
    r"""Design a schedule. `my_schedule(t)` gets times between 0 and 1 (a tensor) and returns two tensors of the same shape, $\alpha$ and $\sigma$. It should keep the variance
    ($\alpha^2+\sigma^2=1$), begin with data ($\alpha(0)=1$), end with noise ($\alpha(1)=0$), get noisier all the way, and be *none* of those in this chapter. Any formula that does this is right.""",
    hints=[
        "Choose alpha^2 freely as a function that falls from 1 to 0; sigma is then given.",
        "For example alpha^2 = 1 - t^2, or (1 - t)^3, or cos^4.",
    ],
    solution=my_schedule,
    check=_check,
    mistakes={
        "alpha + sigma is 1": lambda t: (1 - t, t),
        "It leaks": lambda t: _from(1 - 0.9 * t),
        "runs backwards": lambda t: _from(t),
        "This is the cosine": lambda t: (torch.cos(torch.pi * t / 2), torch.sin(torch.pi * t / 2)),
        "the picture comes back": lambda t: _from(((1 - t) * (1 + 0.9 * torch.sin(6 * torch.pi * t) * t)).clamp(0, 1)),
        "and should be 1": lambda t: (1 - t**2, t),
        "nothing happens: alpha stands still": [  # it waits, or arrives too early
            lambda t: _from((2 - 2 * t).clamp(0, 1)),
            lambda t: _from((1 - (t / 0.9) ** 2).clamp(min=0)),
        ],
        "before anything has happened": lambda t: _from(0.8 * (1 - t)),
        "depend on this t alone": lambda t: _from(torch.linspace(1, 0, len(t), dtype=t.dtype) ** 3),
        "neither should be negative": lambda t: (-(1 - t**2).sqrt(), t),
    },
    variants=[
        lambda t: (np.sqrt((1 - t.numpy()) ** 3), np.sqrt(1 - (1 - t.numpy()) ** 3)),
        lambda t: ((1 - t) ** 8, (1 - (1 - t) ** 16).sqrt()),
        lambda t: list(_from(torch.cos(torch.pi * t.float() / 2) ** 4)),
    ],
)
