"""Chapter 02, How fast should noise arrive?"""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, pair
from learn_diffusion.schedules import DDPM

# the leak

leak = Exercise(
    "02.leak",
    r"""Diagnose a leak. `my_leak(betas)` gets the variances of a chain (a tensor of any length) and returns $\alpha$ at its end: by which factor the picture is still multiplied
    after the last step. (The check walks the chain.)""",
    hints=[
        "Each step multiplies the picture by the root of 1 - beta.",
        "All steps together multiply it by the product of these roots.",
    ],
)


@leak.oracle
def _(my_leak):
    for T in (50, 150, 1000):
        betas = DDPM(T=T).betas()
        left = 1.0
        for beta in betas.tolist():
            left *= math.sqrt(1 - beta)
        got = numbers(call(my_leak, betas), (), "alpha at the end").item()
        if agrees(got, left):
            continue
        if agrees(got, left**2):
            raise IncorrectAnswer(
                "This is alpha_bar, the share of the variance. The picture itself is multiplied by its root."
            )
        if agrees(got, (1 - left**2) ** 0.5):
            raise IncorrectAnswer("This is sigma, how much noise there is. You want what is left of the picture.")
        if agrees(got, math.sqrt(max(0.0, 1 - betas.sum().item()))) or agrees(got, 1 - betas.sum()):
            raise IncorrectAnswer("The betas are added up. Each step shrinks what the step before has left: multiply.")
        if agrees(got, (1 - betas[-1].item()) ** 0.5):
            raise IncorrectAnswer("Only the last step counts here. The picture has been through all of them.")
        if agrees(got, left / math.sqrt(1 - betas[-1].item())):
            raise IncorrectAnswer("One step is missing: the last.")
        if agrees(got, math.prod(betas.sqrt().tolist())) or agrees(got, betas.prod()):
            raise IncorrectAnswer("This multiplies the noise's share. What is kept in a step is 1 - beta.")
        raise IncorrectAnswer(f"With {T} steps of Ho's betas {left:.4f} of the picture is left, not {got:.4f}.")
    return "The same as walking: 0.776 for 50 steps, 0.468 for 150, 0.006 for 1000."


@leak.answer
def my_leak(betas):
    return (1 - betas).prod().sqrt()


@leak.mutant("the share of the variance")
def without_root(betas):
    return (1 - betas).prod()


@leak.mutant("This is sigma")
def noise_for_signal(betas):
    return (1 - (1 - betas).prod()).sqrt()


@leak.mutant("added up")
def sum_for_product(betas):
    return (1 - betas.sum()).clamp(min=0).sqrt()


@leak.mutant("Only the last step")
def last_beta(betas):
    return (1 - betas[-1]).sqrt()


@leak.mutant("One step is missing")
def one_short(betas):
    return (1 - betas[:-1]).prod().sqrt()


@leak.mutant("the noise's share")
def product_of_betas(betas):
    return betas.prod().sqrt()


@leak.mutant("is left, not")
def mean_beta(betas):
    return (1 - betas.max()) ** (len(betas) / 2)


@leak.variant
def by_logarithms(betas):
    return math.exp(sum(math.log1p(-b) for b in betas.tolist()) / 2)


@leak.variant
def by_cumprod(betas):
    return torch.cumprod((1 - betas.float()).sqrt(), 0)[-1:].numpy()


# zero terminal SNR

zero_end = Exercise(
    "02.zero_end",
    r"""Close a leak. `my_zero_end(betas)` gets the variances of a leaky chain and returns new variances, as many, whose $\alpha$ are those of the formula above: the first unchanged, the last 0.
    (From new $\alpha$s back to betas: $1-\beta_i = \alpha_i^2/\alpha_{i-1}^2$, with $\alpha_0 = 1$.)""",
    hints=[
        "First the alphas of the old chain: the root of the running product of 1 - beta.",
        "Then the formula. Then the ratio of each squared alpha to the one before.",
        "The first ratio is alpha_1 squared itself, since alpha_0 is 1. The last beta comes out as 1.",
    ],
)


@zero_end.oracle
def _(my_zero_end):
    for T in (50, 150):
        betas = DDPM(T=T).betas()
        old = (1 - betas).cumprod(0).sqrt()
        got = numbers(call(my_zero_end, betas.clone()), (T,), "the new betas")
        wanted = old[0] * (old - old[-1]) / (old[0] - old[-1])
        if agrees(got, wanted):
            raise IncorrectAnswer("These are the new alphas. The question is for betas: one more step.")
        if (got < -1e-9).any() or (got > 1 + 1e-9).any():
            raise IncorrectAnswer(
                f"A beta is a variance between 0 and 1; the largest here is {got.max():.2f}, the smallest {got.min():.2f}."
            )
        alpha = (1 - got).clamp(min=0).cumprod(0).sqrt()
        if agrees(alpha, wanted, 1e-5):
            continue
        if agrees(alpha, old):
            raise IncorrectAnswer("The chain is the old one: it still leaks.")
        if alpha[-1] > 1e-4:
            raise IncorrectAnswer(f"The new chain still ends with alpha = {alpha[-1]:.3f} of the picture.")
        if not agrees(alpha[0], old[0]):
            raise IncorrectAnswer(f"The first step has changed: alpha_1 was {old[0]:.5f} and is {alpha[0]:.5f}.")
        if agrees(alpha[:-1], old[:-1]):
            raise IncorrectAnswer(
                "Only the last step was changed: from a leak to a cliff. The formula spreads the change over all steps."
            )
        bar = old**2
        if agrees(alpha**2, bar[0] * (bar - bar[-1]) / (bar[0] - bar[-1])):
            raise IncorrectAnswer("The formula was applied to alpha_bar. It is meant for alpha, its root.")
        i = T // 2
        raise IncorrectAnswer(
            f"Ends are right, but alpha at step {i} is {alpha[i - 1]:.4f}; expected {wanted[i - 1]:.4f}."
        )
    return "The first step is as it was, and the last leaves nothing."


@zero_end.answer
def my_zero_end(betas):
    alpha = (1 - betas).cumprod(0).sqrt()
    alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])
    before = torch.cat([torch.ones(1), alpha[:-1]])
    return 1 - alpha**2 / before**2


@zero_end.mutant("it still leaks")
def unchanged(betas):
    return betas


@zero_end.mutant("one more step")
def returns_alphas(betas):
    alpha = (1 - betas).cumprod(0).sqrt()
    return alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])


@zero_end.mutant("to a cliff")
def only_the_last(betas):
    return torch.cat([betas[:-1], torch.ones(1)])


@zero_end.mutant("applied to alpha_bar")
def on_alpha_bar(betas):
    bar = (1 - betas).cumprod(0)
    bar = bar[0] * (bar - bar[-1]) / (bar[0] - bar[-1])
    return 1 - bar / torch.cat([torch.ones(1), bar[:-1]])


@zero_end.mutant("The first step has changed")
def without_stretching(betas):
    alpha = (1 - betas).cumprod(0).sqrt()
    alpha = alpha - alpha[-1]
    return 1 - alpha**2 / torch.cat([torch.ones(1), alpha[:-1]]) ** 2


@zero_end.mutant("A beta is a variance")
def ratio_upside_down(betas):
    alpha = (1 - betas).cumprod(0).sqrt()
    alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1]) + 1e-3
    return 1 - torch.cat([torch.ones(1), alpha[:-1]]) ** 2 / alpha**2


@zero_end.mutant("still ends with")
def stronger_betas(betas):
    return betas * 2


@zero_end.variant
def by_loop(betas):
    alphas, left = [], 1.0
    for beta in betas.tolist():
        left *= math.sqrt(1 - beta)
        alphas.append(left)
    first, end = alphas[0], alphas[-1]
    new = [1.0] + [first * (a - end) / (first - end) for a in alphas]
    return [1 - (b / a) ** 2 for a, b in pairwise(new)]


@zero_end.variant
def in_numpy(betas):
    import numpy as np

    alpha = np.sqrt(np.cumprod(1 - betas.numpy()))
    alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])
    return 1 - (alpha / np.concatenate([[1.0], alpha[:-1]])) ** 2


# a schedule of one's own

your_schedule = Exercise(
    "02.your_schedule",
    r"""Design a schedule. `my_schedule(t)` gets times between 0 and 1 (a tensor) and returns two tensors of the same shape, $\alpha$ and $\sigma$. It should keep the variance
    ($\alpha^2+\sigma^2=1$), begin with data ($\alpha(0)=1$), end with noise ($\alpha(1)=0$), get noisier all the way, and be *none* of those in this chapter. Any formula that does this is right.""",
    hints=[
        "Choose alpha^2 freely as a function that falls from 1 to 0; sigma is then given.",
        "For example alpha^2 = 1 - t^2, or (1 - t)^3, or cos^4.",
    ],
)


@your_schedule.oracle
def _(my_schedule):
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    alpha, sigma = pair(call(my_schedule, t.clone()), "alpha and sigma")
    alpha, sigma = numbers(alpha, t.shape, "alpha"), numbers(sigma, t.shape, "sigma")
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


@your_schedule.answer
def my_schedule(t):
    alpha_bar = 1 - t**2
    return alpha_bar.sqrt(), t


@your_schedule.mutant("alpha + sigma is 1")
def the_straight_line(t):
    return 1 - t, t


@your_schedule.mutant("It leaks")
def leaky(t):
    alpha_bar = 1 - 0.9 * t
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@your_schedule.mutant("runs backwards")
def backwards(t):
    return t.sqrt(), (1 - t).sqrt()


@your_schedule.mutant("This is the cosine")
def the_cosine(t):
    return torch.cos(torch.pi * t / 2), torch.sin(torch.pi * t / 2)


@your_schedule.mutant("the picture comes back")
def wavy(t):
    alpha_bar = (1 - t) * (1 + 0.9 * torch.sin(6 * torch.pi * t) * t) / 1.9 * 1.9
    alpha_bar = alpha_bar.clamp(0, 1)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@your_schedule.mutant("and should be 1")
def forgot_a_root(t):
    return 1 - t**2, t


@your_schedule.mutant("nothing happens")
def waits(t):
    alpha_bar = (2 - 2 * t).clamp(0, 1)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@your_schedule.mutant("alpha stands still")
def arrives_too_early(t):
    alpha_bar = (1 - (t / 0.9) ** 2).clamp(min=0)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@your_schedule.mutant("before anything has happened")
def starts_noisy(t):
    alpha_bar = 0.8 * (1 - t)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


@your_schedule.variant
def power_in_numpy(t):
    import numpy as np

    alpha_bar = (1 - t.numpy()) ** 3
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


@your_schedule.variant
def high_power(t):
    return (1 - t) ** 8, (1 - (1 - t) ** 16).sqrt()


@your_schedule.variant
def squared_cosine_in_float32(t):
    alpha = torch.cos(torch.pi * t.float() / 2) ** 2
    return [alpha, (1 - alpha**2).sqrt()]
