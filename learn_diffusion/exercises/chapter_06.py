"""Chapter 06, What must a UNet know?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call

# FiLM


def my_film(h, emb, linear):
    scale, shift = linear(emb).chunk(2, dim=1)
    return h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def _input():  # all sides equal: shapes hide nothing
    return torch.randn(6, 6, 6, 6), torch.randn(6, 5).requires_grad_(), nn.Linear(5, 12)


def _parts(emb, linear):
    return linear(emb)[:, :, None, None].chunk(2, dim=1)


def _check_gradients(answer):
    h, emb, linear = _input()
    out = call(answer, h, emb, linear)
    if not isinstance(out, torch.Tensor):
        return
    parts, got = (emb, linear.weight), (None, None)
    right = torch.autograd.grad(my_film(h, emb, linear).square().sum(), parts)
    if out.requires_grad:
        got = torch.autograd.grad(out.square().sum(), parts, allow_unused=True)
    for name, mine, expected in zip(("the embedding", "the layer's weights"), got, right, strict=True):
        if mine is None:
            raise IncorrectAnswer(
                f"The numbers are right, but no gradient flows back to {name}: it could not be learned. Leave out detach and no_grad."
            )
        if not agrees(mine, expected, 1e-3):
            raise IncorrectAnswer(
                f"The numbers are right, but a part of the gradient is lost on its way to {name}. Leave out detach."
            )


def shift_first(h, emb, linear):
    shift, scale = _parts(emb, linear)
    return h * (1 + scale) + shift


def along_the_width(h, emb, linear):
    scale, shift = linear(emb).chunk(2, dim=1)
    return h * (1 + scale) + shift


def scale_without_gradient(h, emb, linear):
    scale, shift = _parts(emb, linear)
    return h * (1 + scale.detach()) + shift


def by_einsum(h, emb, linear):
    both = torch.einsum("be,oe->bo", emb, linear.weight) + linear.bias
    c = h.shape[1]
    return torch.einsum("bchw,bc->bchw", h, 1 + both[:, :c]) + both[:, c:, None, None]


def by_broadcasting_backwards(h, emb, linear):
    scale, shift = linear(emb).split(h.shape[1], dim=-1)
    return (h.permute(2, 3, 0, 1) * (1 + scale) + shift).permute(2, 3, 0, 1)


Exercise(
    "06.film",
    r"""Wire the noise level into a block. `my_film(h, emb, linear)` gets features `h` of shape (B, C, H, W), embeddings `emb` of shape (B, E), and a layer `linear` that turns an embedding into 2C numbers: first the C scales, then the C shifts. It returns
    `h * (1 + scale) + shift`, one scale and one shift for each channel of each picture. (The check looks at the result, at the gradient, and at what happens to one picture when another's level changes.)""",
    hints=[
        "linear(emb) has the shape (B, 2C); .chunk(2, dim=1) cuts it in two.",
        "scale[:, :, None, None] has the shape (B, C, 1, 1), which fits h.",
    ],
    solution=my_film,
    inputs=lambda: [_input()],
    mistakes={
        "The embedding has no effect: the block is deaf to the noise level.": lambda h, emb, linear: h,
        "The 1 is missing: with scales of 0 the features would vanish. h * (1 + scale).": lambda h, emb, linear: (
            my_film(h, emb, linear) - h
        ),
        "Scale and shift are exchanged: the first C numbers are the scales.": shift_first,
        "The shift is missing.": lambda h, emb, linear: h * (1 + _parts(emb, linear)[0]),
        "The scale is missing.": lambda h, emb, linear: h + _parts(emb, linear)[1],
        "The numbers are laid along the width of the picture. They belong to the channels: [:, :, None, None].": [
            along_the_width,
            lambda h, emb, linear: my_film(h.transpose(1, 3), emb, linear).transpose(1, 3),
        ],
        "All pictures of the batch get the same numbers. Each has a noise level of its own.": [
            lambda h, emb, linear: my_film(h, emb.mean(0, keepdim=True), linear),
            lambda h, emb, linear: my_film(h, emb[:1], linear),
        ],
        "no gradient flows back to the embedding: it could not be learned": [
            torch.no_grad()(my_film),
            lambda h, emb, linear: my_film(h, emb.detach(), linear),
        ],
        "a part of the gradient is lost": scale_without_gradient,
    },
    variants=[by_einsum, by_broadcasting_backwards],
    right="Each channel of each picture is stretched and shifted as its noise level says, and gradients flow.",
    check=_check_gradients,
)

# the skip


def my_join(coarse, fine):
    return torch.cat([F.interpolate(coarse, scale_factor=2), fine], dim=1)


def _join(coarse, fine, dim=1, **how):
    return torch.cat([F.interpolate(coarse, scale_factor=2, **how), fine], dim)


def by_kron_in_numpy(coarse, fine):
    large = np.kron(coarse.numpy(), np.ones((1, 1, 2, 2)))
    return np.concatenate([large, fine.numpy()], axis=1)


Exercise(
    "06.skip",
    r"""Join two levels. `my_join(coarse, fine)` gets features of the coarse level, of shape (B, C, H, W), and those that the way down saw at twice the size, of shape (B, K, 2H, 2W). It enlarges the coarse ones (each pixel becomes a square of 2x2 equal ones) and puts
    the fine ones behind them as further channels: the result has the shape (B, C + K, 2H, 2W).""",
    hints=[
        "`F.interpolate(coarse, scale_factor=2)` enlarges by copying (its default mode is nearest).",
        "torch.cat([...], dim=1): dimension 1 is the channels.",
    ],
    solution=my_join,
    inputs=lambda: [(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 8, 8))],
    mistakes={
        "The levels are added. Join them as channels: then the next block can tell them apart.": lambda coarse, fine: (
            F.interpolate(coarse, scale_factor=2) + fine
        ),
        "They are joined along the batch: dimension 0 is the pictures, dimension 1 the channels.": (
            lambda coarse, fine: _join(coarse, fine, 0)
        ),
        "Both are there, but in the other order: first the coarse channels, then the fine ones.": (
            lambda coarse, fine: _join(coarse, fine).roll(3, 1)
        ),
        "The fine features have changed. They are to be handed on exactly as they are: that is what they are for.": (
            lambda coarse, fine: my_join(coarse, F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2))
        ),
        "The coarse picture stands there four times, side by side. Each *pixel* should become a 2x2 square.": (
            lambda coarse, fine: torch.cat([coarse.repeat(1, 1, 2, 2), fine], dim=1)
        ),
        "The coarse features are blurred by interpolation. Here each pixel becomes four equal ones (mode nearest).": (
            lambda coarse, fine: _join(coarse, fine, mode="bilinear")
        ),
        "Your code stops with RuntimeError": lambda coarse, fine: torch.cat([coarse, fine], dim=1),
    },
    variants=[
        lambda coarse, fine: torch.cat((coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), fine), 1),
        by_kron_in_numpy,
    ],
    right="Coarse and fine stand side by side.",
)
