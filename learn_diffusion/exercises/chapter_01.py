"""Chapter 01, How do you destroy a picture step by step?"""

from __future__ import annotations

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise
from learn_diffusion.schedules import DDPM

# one step of the chain, undone


def my_step_back(x, beta_i, z):
    return (x - beta_i**0.5 * z) / (1 - beta_i) ** 0.5


def in_float64(x, beta_i, z):
    beta = torch.as_tensor(beta_i, dtype=torch.float64)
    return torch.rsqrt(1 - beta) * x.double() - torch.sqrt(beta / (1 - beta)) * z.double()


X, Z = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(3))

Exercise(
    "01.one_step",
    r"""Undo one step of the chain. `my_step_back(x, beta_i, z)` gets the picture `x` after a step, the variance `beta_i` of
    this step (a number) and the noise `z` that was drawn in it, and returns the picture as it was before. (A network will have
    to guess `z`. You are told.)""",
    hints=[
        "Write down the step forwards: what was done to the picture first, and what then? Undo the last thing first.",
        "The noise came last, times the root of beta. Take it away.",
        "Before that, the picture was multiplied by the root of 1 - beta. Divide by it.",
    ],
    solution=my_step_back,
    inputs=[(X, 0.04, Z), (X, 0.3, torch.zeros_like(X)), (torch.zeros_like(X), 0.04, Z)],
    result="the picture before",
    mistakes={
        "The noise is gone, but the picture is still shrunk: divide by the root of 1 - beta.": lambda x, beta_i, z: (
            x - beta_i**0.5 * z
        ),
        "You divide by 1 - beta. But beta is a variance: the picture shrank by the root of that.": lambda x, beta_i, z: (
            (x - beta_i**0.5 * z) / (1 - beta_i)
        ),
        "Multiplied by the root of 1 - beta, the picture shrinks once more. Divide by it.": lambda x, beta_i, z: (
            (x - beta_i**0.5 * z) * (1 - beta_i) ** 0.5
        ),
        "Too little noise is taken away: beta = {beta_i} times z. beta is a variance, so take its root.": (
            lambda x, beta_i, z: (x - beta_i * z) / (1 - beta_i) ** 0.5
        ),
        "The noise is added once more. It has to be taken away.": lambda x, beta_i, z: (
            (x + beta_i**0.5 * z) / (1 - beta_i) ** 0.5
        ),
        "The noise came after the shrinking, so it goes first: take it away, and divide what is left.": (
            lambda x, beta_i, z: x / (1 - beta_i) ** 0.5 - beta_i**0.5 * z
        ),
        "This is one more step forwards.": lambda x, beta_i, z: (1 - beta_i) ** 0.5 * x + beta_i**0.5 * z,
        "The two factors are exchanged: the noise came in times the root of beta, a small number.": lambda x, beta_i, z: (
            (x - (1 - beta_i) ** 0.5 * z) / beta_i**0.5
        ),
        "The result is not a sum of x times a number and z times a number. Did you draw other noise than z?": [
            lambda x, beta_i, z: (x - beta_i**0.5 * torch.rand_like(x)) / (1 - beta_i) ** 0.5,
            lambda x, beta_i, z: (x - beta_i**0.5 * torch.randn_like(x)) / (1 - beta_i) ** 0.5,
        ],
    },
    variants=[
        in_float64,
        lambda x, beta_i, z: (x.numpy() - np.sqrt(beta_i) * z.numpy()) / np.sqrt(1 - beta_i),
        lambda x, beta_i, z: torch.einsum(
            "k,kbchw->bchw", torch.tensor([1.0, -(beta_i**0.5)]) / (1 - beta_i) ** 0.5, torch.stack([x, z])
        ),
    ],
    right="The noise taken away, the shrinking undone: whoever knows the noise can go back.",
)

# a jump from any step to any later one


def my_jump(x_i, betas, i, j, eps):
    left = torch.prod(1 - betas[i:j])  # of the variance, after the steps i + 1 to j
    return left.sqrt() * x_i + (1 - left).sqrt() * eps


def _left(betas, i, j):
    return torch.prod(1 - betas[i:j])


def _mix(left, x_i, eps):
    return left**0.5 * x_i + (1 - left) ** 0.5 * eps


def by_quotient(x_i, betas, i, j, eps):
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas.double(), 0)])
    return _mix(alpha_bar[j] / alpha_bar[i], x_i, eps)


def in_logarithms(x_i, betas, i, j, eps):
    log_left = torch.log1p(-betas[i:j].double()).sum()
    return (log_left / 2).exp() * x_i + (-torch.expm1(log_left)).sqrt() * eps


def walking(x_i, betas, i, j, eps):
    keep, variance = 1.0, 0.0  # of the picture, of the noise
    for beta in betas[i:j].double().tolist():
        keep, variance = keep * (1 - beta) ** 0.5, variance * (1 - beta) + beta
    return keep * x_i + variance**0.5 * eps


def _drawing(x_i, betas, i, j, eps):
    for beta in betas[i:j]:
        x_i = (1 - beta) ** 0.5 * x_i + beta**0.5 * torch.randn_like(x_i)
    return x_i


PICTURE, NOISE = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1), torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)

Exercise(
    "01.jump",
    r"""Write a jump that begins anywhere. `my_jump(x_i, betas, i, j, eps)` gets the picture `x_i` as it is after step `i`, all
    variances `betas` (a tensor of 1000 numbers), the numbers `i` and `j` of two steps, from 0 (nothing has happened yet) to 1000
    and `i` before `j`, and noise `eps`. It returns the picture after step `j`. Careful with the index: `betas[0]` belongs to step 1.""",
    hints=[
        "Between i and j the chain goes on as it began: each step keeps 1 - beta of the variance. What do these steps keep together?",
        "`torch.prod` multiplies all numbers of a tensor. Which of the betas belong to the steps i + 1 to j?",
        "betas[i:j] are those. The picture is multiplied by the root of their product of 1 - beta, the noise by the root of the rest.",
    ],
    solution=my_jump,
    inputs=[(PICTURE, DDPM().betas().float(), i, j, NOISE) for i, j in ((100, 400), (0, 1), (299, 301), (700, 1000))],
    result="the picture",
    mistakes={
        "The noise is scaled by its variance ({got[1]:.3f} from step {i} to {j}); take the root.": (
            lambda x_i, betas, i, j, eps: _left(betas, i, j) ** 0.5 * x_i + (1 - _left(betas, i, j)) * eps
        ),
        "The picture is multiplied by a share of the variance. Take its root.": lambda x_i, betas, i, j, eps: (
            _left(betas, i, j) * x_i + (1 - _left(betas, i, j)) ** 0.5 * eps
        ),
        "The last step is missing: betas[j - 1] belongs to step j.": lambda x_i, betas, i, j, eps: my_jump(
            x_i, betas, i, j - 1, eps
        ),
        "This is one step too far: betas[j] belongs to step j + 1.": lambda x_i, betas, i, j, eps: my_jump(
            x_i, betas, i, j + 1, eps
        ),
        "Step i is taken twice: x_i has it behind it. The next is step i + 1, and its variance is betas[i].": (
            lambda x_i, betas, i, j, eps: my_jump(x_i, betas, max(i - 1, 0), j, eps)
        ),
        "The first step is missing: betas[i] belongs to step i + 1, which x_i has still before it.": (
            lambda x_i, betas, i, j, eps: my_jump(x_i, betas, i + 1, j, eps)
        ),
        "This is the jump from the clean picture. x_i has the steps 1 to i behind it already.": (
            lambda x_i, betas, i, j, eps: my_jump(x_i, betas, 0, j, eps)
        ),
        "The picture is right. The noise is that of the whole way from 0 to j; only what came after step i is new.": (
            lambda x_i, betas, i, j, eps: _left(betas, i, j) ** 0.5 * x_i + (1 - _left(betas, 0, j)) ** 0.5 * eps
        ),
        "Shifted by one: the steps i + 1 to j have the variances betas[i:j].": [
            lambda x_i, betas, i, j, eps: _mix(_left(betas, i - 1, j - 1), x_i, eps),
            lambda x_i, betas, i, j, eps: _mix(_left(betas, i + 1, j + 1), x_i, eps),
        ],
        "At i = 0 alpha_bar[i - 1] is the last entry, which is that of step 1000: Python counts -1 from the end.": (
            lambda x_i, betas, i, j, eps: _mix((a := (1 - betas).cumprod(0))[j - 1] / a[i - 1], x_i, eps)
        ),
        "The result is not a sum of x_i times a number and eps times a number. Did you draw other noise?": _drawing,
        "Only the last step is in it. There are j - i of them.": lambda x_i, betas, i, j, eps: _mix(
            1 - betas[j - 1], x_i, eps
        ),
        "The betas are added up; a chain that walks from step {i} to {j} keeps {expected[0]:.4f} of the picture.": (
            lambda x_i, betas, i, j, eps: _mix(1 - betas[i:j].sum().clamp(max=0.999), x_i, eps)
        ),
    },
    variants=[by_quotient, in_logarithms, walking],
    right="The same as walking, from any step to any later one.",
    otherwise="From step {i} to {j} you keep {got[0]:.4f} of the picture and {got[1]:.4f} of the noise; a chain that walks keeps "
    "{expected[0]:.4f} and {expected[1]:.4f}.",
    tolerance=1e-5,
)
