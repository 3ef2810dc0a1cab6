"""Chapter 01, How do you destroy a picture step by step?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers
from learn_diffusion.schedules import DDPM

# one step of the chain

one_step = Exercise(
    "01.one_step",
    r"""Write one step of the chain. `my_step(x, beta_i, z)` gets a picture `x`, the variance `beta_i` (a number) and
    noise `z` of the picture's shape, and returns the next picture.""",
    hints=[
        "A step is a little less of the picture, plus a little noise: two products and a sum.",
        "beta is a variance. Pictures and noise are multiplied by roots of variances.",
        "The squares of the two factors add up to 1.",
    ],
)


@one_step.oracle
def _(step):
    g = torch.Generator().manual_seed(3)
    x, z, beta = torch.randn(4, 1, 8, 8, generator=g), torch.randn(4, 1, 8, 8, generator=g), 0.04
    zero = torch.zeros_like(x)
    keeps = numbers(call(step, x, beta, zero), x.shape, "the next picture")
    adds = numbers(call(step, zero, beta, z), x.shape, "the next picture")
    keep = (keeps * x).sum() / x.square().sum()  # of the picture
    add = (adds * z).sum() / z.square().sum()  # of the noise
    if not agrees(adds, add * z) or not agrees(keeps, keep * x):
        raise IncorrectAnswer(
            "The result is not a sum of x times a number and z times a number. Did you draw other noise than z?"
        )
    if agrees(keep, 1.0):
        raise IncorrectAnswer("The picture does not shrink. Its share of the variance has to become 1 - beta.")
    if agrees(keep, 1 - beta):
        raise IncorrectAnswer(
            "The picture shrinks by 1 - beta. But beta is a variance, so the picture shrinks by the root of that."
        )
    if agrees(add, beta):
        raise IncorrectAnswer(
            f"Too little noise: its standard deviation is beta = {beta}. beta is a variance, so take its root."
        )
    if agrees(add, -(beta**0.5)):
        raise IncorrectAnswer("The noise is subtracted. That has the right spread, but z is to be added.")
    if agrees(keep, beta**0.5) and agrees(add, (1 - beta) ** 0.5):
        raise IncorrectAnswer("The two factors are exchanged: almost all of this is noise after a single step.")
    if not agrees(keep, (1 - beta) ** 0.5) or not agrees(add, beta**0.5):
        raise IncorrectAnswer(f"You keep {keep:.3f} of the picture and add {add:.3f} of the noise; for beta = {beta} that should be "
                    f"{(1 - beta) ** 0.5:.3f} and {beta**0.5:.3f}.")  # fmt: skip
    both = numbers(call(step, x, beta, z), x.shape, "the next picture")
    if not agrees(both, keep * x + add * z):
        raise IncorrectAnswer("With the picture alone and the noise alone it is right, but not with both.")
    return "Shrunk by the root of 1 - beta, and noise scaled by the root of beta: the variance stays 1."


@one_step.answer
def my_step(x, beta_i, z):
    return (1 - beta_i) ** 0.5 * x + beta_i**0.5 * z


@one_step.mutant("does not shrink")
def only_adds_noise(x, beta_i, z):
    return x + beta_i**0.5 * z


@one_step.mutant("shrinks by 1 - beta")
def shrinks_without_root(x, beta_i, z):
    return (1 - beta_i) * x + beta_i**0.5 * z


@one_step.mutant("take its root")
def beta_for_sqrt_beta(x, beta_i, z):
    return (1 - beta_i) ** 0.5 * x + beta_i * z


@one_step.mutant("is subtracted")
def minus_noise(x, beta_i, z):
    return (1 - beta_i) ** 0.5 * x - beta_i**0.5 * z


@one_step.mutant("exchanged")
def factors_exchanged(x, beta_i, z):
    return beta_i**0.5 * x + (1 - beta_i) ** 0.5 * z


@one_step.mutant("other noise than z")
def uniform_noise_of_its_own(x, beta_i, z):
    return (1 - beta_i) ** 0.5 * x + beta_i**0.5 * torch.rand_like(x)


@one_step.variant
def with_numpy(x, beta_i, z):
    import numpy as np

    return np.sqrt(1 - beta_i) * x.numpy() + np.sqrt(beta_i) * z.numpy()


@one_step.variant
def in_float64(x, beta_i, z):
    beta = torch.as_tensor(beta_i, dtype=torch.float64)
    return torch.sqrt(1 - beta) * x.double() + torch.sqrt(beta) * z.double()


@one_step.variant
def by_einsum(x, beta_i, z):
    return torch.einsum("k,kbchw->bchw", torch.tensor([1 - beta_i, beta_i]).sqrt(), torch.stack([x, z]))


# the jump

jump = Exercise(
    "01.jump",
    r"""Write the jump. `my_jump(x0, betas, i, eps)` gets the clean picture `x0`, all variances `betas` (a tensor of 1000
    numbers), the step number `i` from 1 to 1000, and noise `eps`, and returns the picture after step `i`. Careful with the
    index: `betas[0]` belongs to step 1.""",
    hints=[
        "You need alpha_bar: what is left of the variance after steps 1 to i.",
        "`torch.prod` multiplies all numbers of a tensor. Which of the betas belong to the steps 1 to i?",
        "betas[:i] are the first i of them. The picture is multiplied by the root of alpha_bar, the noise by the root of the rest.",
    ],
)


@jump.oracle
def _(my_jump):
    betas = DDPM().betas().float()
    zero, one = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    walked = [(1.0, 0.0)]  # of a chain that walks: how much is left of the picture, and the variance of its noise
    for beta in betas.double().tolist():
        keep, variance = walked[-1]
        walked.append((keep * (1 - beta) ** 0.5, variance * (1 - beta) + beta))

    def at(x0, i, eps):
        return numbers(call(my_jump, x0, betas, i, eps), x0.shape, "the picture").flatten()

    for i in (300, 1, 2, 1000):
        keep, variance = walked[i]
        picture, noise = at(one, i, zero), at(zero, i, one)
        mine = f"Step {i}: you keep {picture[0]:.4f} of the picture and {noise[0]:.4f} of the noise"
        if agrees(noise, variance) and i == 300:
            raise IncorrectAnswer(f"The noise is scaled by its variance ({variance:.3f} at step {i}); take the root.")
        if agrees(picture, keep**2) and i == 300:
            raise IncorrectAnswer(
                "The picture is multiplied by alpha_bar itself. That is a variance's share: take the root."
            )
        if agrees(picture, walked[i - 1][0], 1e-5) and i == 300:
            raise IncorrectAnswer(
                "One step is missing: this is where the chain is after step i - 1. betas[:i] has i numbers."
            )
        if i < 1000 and agrees(picture, walked[i + 1][0], 1e-5):
            raise IncorrectAnswer("This is one step too far. betas[0] belongs to step 1.")
        if agrees(picture, (1 - betas[i - 1]) ** 0.5, 1e-5) and i == 300:
            raise IncorrectAnswer(
                "Only the last step is in it. The picture has been through all the steps before, too."
            )
        if not agrees(picture, keep) or not agrees(noise, variance**0.5):
            raise IncorrectAnswer(f"{mine}; a chain that walks keeps {keep:.4f} and {variance**0.5:.4f}.")
    return "The same as walking, at every step."


@jump.answer
def my_jump(x0, betas, i, eps):
    alpha_bar = torch.prod(1 - betas[:i])
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


@jump.mutant("by its variance")
def noise_by_its_variance(x0, betas, i, eps):
    alpha_bar = torch.prod(1 - betas[:i])
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar) * eps


@jump.mutant("alpha_bar itself")
def picture_without_root(x0, betas, i, eps):
    alpha_bar = torch.prod(1 - betas[:i])
    return alpha_bar * x0 + (1 - alpha_bar).sqrt() * eps


@jump.mutant("One step is missing")
def one_step_short(x0, betas, i, eps):
    alpha_bar = torch.prod(1 - betas[: i - 1])
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


@jump.mutant("one step too far")
def one_step_too_far(x0, betas, i, eps):
    alpha_bar = torch.cumprod(1 - betas, 0)[min(i, 999)]
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


@jump.mutant("Only the last step")
def last_step_only(x0, betas, i, eps):
    return (1 - betas[i - 1]).sqrt() * x0 + betas[i - 1].sqrt() * eps


@jump.mutant("a chain that walks keeps")
def betas_summed(x0, betas, i, eps):
    alpha_bar = 1 - betas[:i].sum().clamp(max=0.999)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


@jump.variant
def in_logarithms(x0, betas, i, eps):
    log_alpha_bar = torch.log1p(-betas[:i].double()).sum()
    return (log_alpha_bar / 2).exp() * x0 + (-torch.expm1(log_alpha_bar)).sqrt() * eps


@jump.variant
def by_loop(x0, betas, i, eps):
    alpha_bar = 1.0
    for k in range(i):
        alpha_bar *= 1 - betas[k].item()
    return alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * eps
