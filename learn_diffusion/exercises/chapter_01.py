"""Chapter 01, How do you destroy a picture step by step?"""

from __future__ import annotations

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise
from learn_diffusion.schedules import DDPM

# one step of the chain


def my_step(x, beta_i, z):
    return (1 - beta_i) ** 0.5 * x + beta_i**0.5 * z


def in_float64(x, beta_i, z):
    beta = torch.as_tensor(beta_i, dtype=torch.float64)
    return torch.sqrt(1 - beta) * x.double() + torch.sqrt(beta) * z.double()


X, Z = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(3))

Exercise(
    "01.one_step",
    r"""Write one step of the chain. `my_step(x, beta_i, z)` gets a picture `x`, the variance `beta_i` (a number) and
    noise `z` of the picture's shape, and returns the next picture.""",
    hints=[
        "A step is a little less of the picture, plus a little noise: two products and a sum.",
        "beta is a variance. Pictures and noise are multiplied by roots of variances.",
        "The squares of the two factors add up to 1.",
    ],
    solution=my_step,
    inputs=[(X, 0.04, Z), (X, 0.3, torch.zeros_like(X)), (torch.zeros_like(X), 0.04, Z)],
    result="the next picture",
    mistakes={
        "The picture does not shrink. Its share of the variance has to become 1 - beta.": lambda x, beta_i, z: (
            x + beta_i**0.5 * z
        ),
        "The picture shrinks by 1 - beta. But beta is a variance, so the picture shrinks by the root of that.": (
            lambda x, beta_i, z: (1 - beta_i) * x + beta_i**0.5 * z
        ),
        "Too little noise: its standard deviation is beta = {beta_i}. beta is a variance, so take its root.": (
            lambda x, beta_i, z: (1 - beta_i) ** 0.5 * x + beta_i * z
        ),
        "The noise is subtracted. That has the right spread, but z is to be added.": lambda x, beta_i, z: (
            (1 - beta_i) ** 0.5 * x - beta_i**0.5 * z
        ),
        "The two factors are exchanged: almost all of this is noise after a single step.": lambda x, beta_i, z: (
            beta_i**0.5 * x + (1 - beta_i) ** 0.5 * z
        ),
        "The result is not a sum of x times a number and z times a number. Did you draw other noise than z?": [
            lambda x, beta_i, z: (1 - beta_i) ** 0.5 * x + beta_i**0.5 * torch.rand_like(x),
            lambda x, beta_i, z: (1 - beta_i) ** 0.5 * x + beta_i**0.5 * torch.randn_like(x),
        ],
    },
    variants=[
        in_float64,
        lambda x, beta_i, z: np.sqrt(1 - beta_i) * x.numpy() + np.sqrt(beta_i) * z.numpy(),
        lambda x, beta_i, z: torch.einsum(
            "k,kbchw->bchw", torch.tensor([1 - beta_i, beta_i]).sqrt(), torch.stack([x, z])
        ),
    ],
    right="Shrunk by the root of 1 - beta, and noise scaled by the root of beta: the variance stays 1.",
)

# the jump


def my_jump(x0, betas, i, eps):
    alpha_bar = torch.prod(1 - betas[:i])
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def _left(betas, i):
    return torch.prod(1 - betas[:i])


def _mix(alpha_bar, x0, eps):
    return alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * eps


def in_logarithms(x0, betas, i, eps):
    log_alpha_bar = torch.log1p(-betas[:i].double()).sum()
    return (log_alpha_bar / 2).exp() * x0 + (-torch.expm1(log_alpha_bar)).sqrt() * eps


def walking(x0, betas, i, eps):
    keep, variance = 1.0, 0.0  # of the picture, of the noise
    for beta in betas[:i].double().tolist():
        keep, variance = keep * (1 - beta) ** 0.5, variance * (1 - beta) + beta
    return keep * x0 + variance**0.5 * eps


PICTURE, NOISE = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1), torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)

Exercise(
    "01.jump",
    r"""Write the jump. `my_jump(x0, betas, i, eps)` gets the clean picture `x0`, all variances `betas` (a tensor of 1000
    numbers), the step number `i` from 1 to 1000, and noise `eps`, and returns the picture after step `i`. Careful with the
    index: `betas[0]` belongs to step 1.""",
    hints=[
        "You need alpha_bar: what is left of the variance after steps 1 to i.",
        "`torch.prod` multiplies all numbers of a tensor. Which of the betas belong to the steps 1 to i?",
        "betas[:i] are the first i of them. The picture is multiplied by the root of alpha_bar, the noise by the root of the rest.",
    ],
    solution=my_jump,
    inputs=[(PICTURE, DDPM().betas().float(), i, NOISE) for i in (300, 1, 2, 1000)],
    result="the picture",
    mistakes={
        "The noise is scaled by its variance ({got[1]:.3f} at step {i}); take the root.": lambda x0, betas, i, eps: (
            _left(betas, i) ** 0.5 * x0 + (1 - _left(betas, i)) * eps
        ),
        "The picture is multiplied by alpha_bar itself. That is a variance's share: take the root.": (
            lambda x0, betas, i, eps: _left(betas, i) * x0 + (1 - _left(betas, i)) ** 0.5 * eps
        ),
        "One step is missing: this is where the chain is after step i - 1. betas[:i] has i numbers.": (
            lambda x0, betas, i, eps: my_jump(x0, betas, i - 1, eps)
        ),
        "This is one step too far. betas[0] belongs to step 1.": lambda x0, betas, i, eps: my_jump(
            x0, betas, i + 1, eps
        ),
        "Only the last step is in it. The picture has been through all the steps before, too.": (
            lambda x0, betas, i, eps: _mix(1 - betas[i - 1], x0, eps)
        ),
        "The betas are added up; a chain that walks keeps {expected[0]:.4f} of the picture at step {i}.": (
            lambda x0, betas, i, eps: _mix(1 - betas[:i].sum().clamp(max=0.999), x0, eps)
        ),
    },
    variants=[in_logarithms, walking],
    right="The same as walking, at every step.",
    otherwise="Step {i}: you keep {got[0]:.4f} of the picture and {got[1]:.4f} of the noise; a chain that walks keeps "
    "{expected[0]:.4f} and {expected[1]:.4f}.",
    tolerance=1e-5,
)
