"""Chapter 06, What must a UNet know?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call

# FiLM


def my_film(h, emb, linear):
    scale, shift, gate = linear(emb)[:, :, None, None].chunk(3, dim=1)
    return h + gate * (h * (1 + scale) + shift)


def _input():  # all sides equal: shapes hide nothing
    return torch.randn(6, 6, 6, 6), torch.randn(6, 5).requires_grad_(), nn.Linear(5, 18)


def _parts(emb, linear):
    return linear(emb)[:, :, None, None].chunk(3, dim=1)


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
    shift, scale, gate = _parts(emb, linear)
    return h + gate * (h * (1 + scale) + shift)


def gate_first(h, emb, linear):
    gate, scale, shift = _parts(emb, linear)
    return h + gate * (h * (1 + scale) + shift)


def _with(result):
    return lambda h, emb, linear: result(h, *_parts(emb, linear))


def along_the_width(h, emb, linear):
    scale, shift, gate = linear(emb).chunk(3, dim=1)
    return h + gate * (h * (1 + scale) + shift)


def scale_without_gradient(h, emb, linear):
    scale, shift, gate = _parts(emb, linear)
    return h + gate * (h * (1 + scale.detach()) + shift)


def by_einsum(h, emb, linear):
    scale, shift, gate = (torch.einsum("be,oe->bo", emb, linear.weight) + linear.bias).unflatten(1, (3, -1)).unbind(1)
    changed = torch.einsum("bchw,bc->bchw", h, 1 + scale) + shift[:, :, None, None]
    return h + torch.einsum("bchw,bc->bchw", changed, gate)


def by_broadcasting_backwards(h, emb, linear):
    scale, shift, gate = linear(emb).split(h.shape[1], dim=-1)
    h = h.permute(2, 3, 0, 1)
    return (h + gate * (h * (1 + scale) + shift)).permute(2, 3, 0, 1)


Exercise(
    "06.film",
    r"""Wire the noise level into a block, with a gate. Transformers do it like this: scale and shift as above, and then a third number decides how much of the result is added to what was there. With a gate of 0 the features pass unchanged. `my_film(h, emb, linear)` gets features `h` of shape (B, C, H, W), embeddings `emb` of shape (B, E), and a layer `linear` that turns an embedding into 3C numbers: first the C scales, then the C shifts, then the C gates. It returns
    `h + gate * (h * (1 + scale) + shift)`, one scale, one shift and one gate for each channel of each picture. (The check looks at the result, at the gradient, and at what happens to one picture when another's level changes.)""",
    hints=[
        "linear(emb) has the shape (B, 3C); .chunk(3, dim=1) cuts it in three.",
        "scale[:, :, None, None] has the shape (B, C, 1, 1), which fits h.",
    ],
    solution=my_film,
    inputs=lambda: [_input()],
    mistakes={
        "The embedding has no effect: the block is deaf to the noise level.": lambda h, emb, linear: h,
        "The 1 is missing: with scales of 0 the features would vanish. h * (1 + scale).": _with(
            lambda h, scale, shift, gate: h + gate * (h * scale + shift)
        ),
        "Scale and shift are exchanged: the first C numbers are the scales.": shift_first,
        "The gates come last: scales, shifts, gates.": gate_first,
        "The shift is missing.": _with(lambda h, scale, shift, gate: h + gate * (h * (1 + scale))),
        "The scale is missing.": _with(lambda h, scale, shift, gate: h + gate * (h + shift)),
        "The gate is missing. It decides how much is added to h.": [
            _with(lambda h, scale, shift, gate: h + h * (1 + scale) + shift),
            _with(lambda h, scale, shift, gate: h * (1 + scale) + shift),
        ],
        "With gates of 0 nothing would be left of h: add the gated features to it.": _with(
            lambda h, scale, shift, gate: gate * (h * (1 + scale) + shift)
        ),
        "The shift is to be gated, too: the gate times all of h * (1 + scale) + shift.": _with(
            lambda h, scale, shift, gate: h + gate * (h * (1 + scale)) + shift
        ),
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
    right="Each channel of each picture is stretched, shifted and gated as its noise level says, and gradients flow.",
    check=_check_gradients,
)

# the skip


def my_join(coarse, fine):
    H, W = fine.shape[2:]
    large = F.interpolate(coarse, scale_factor=2)[:, :, :H, :W]
    return torch.cat([large, fine], dim=1)


def _large(coarse, fine, **how):
    return F.interpolate(coarse, scale_factor=2, **how)[:, :, : fine.shape[2], : fine.shape[3]]


def cuts_the_first(coarse, fine):
    H, W = fine.shape[2:]
    return torch.cat([F.interpolate(coarse, scale_factor=2)[:, :, -H:, -W:], fine], dim=1)


def pads_the_fine(coarse, fine):
    large = F.interpolate(coarse, scale_factor=2)
    H, W = large.shape[2:]
    return torch.cat([large, F.pad(fine, (0, W - fine.shape[3], 0, H - fine.shape[2]))], dim=1)


def by_kron_in_numpy(coarse, fine):
    large = np.kron(coarse.numpy(), np.ones((1, 1, 2, 2)))[:, :, : fine.shape[2], : fine.shape[3]]
    return np.concatenate([large, fine.numpy()], axis=1)


def by_index(coarse, fine):
    rows, columns = (torch.arange(n) // 2 for n in fine.shape[2:])
    return torch.cat((coarse[:, :, rows][:, :, :, columns], fine), 1)


Exercise(
    "06.skip",
    r"""Join two sizes, for pictures of any size. The network above needs even sides. Halve a side of 9 with its `down`, and you get 5; twice 5 is 10, one more than the skip has. `my_join(coarse, fine)` gets coarse features, of shape (B, C, H, W), and those that the way down saw before it halved them, of shape (B, K, 2H, 2W), where either side may be one less. It enlarges the coarse ones (each pixel becomes a square of 2x2 equal ones),
    cuts off the last row or column where there is one too many, and puts the fine ones behind them as further channels: the result is as high and as wide as `fine`, with C + K channels.""",
    hints=[
        "`F.interpolate(coarse, scale_factor=2)` enlarges by copying (its default mode is nearest).",
        "`fine.shape[2:]` is the size that is wanted. A slice x[:, :, :h] keeps the first h rows, and all if there are fewer.",
        "torch.cat([...], dim=1): dimension 1 is the channels.",
    ],
    solution=my_join,
    inputs=lambda: [
        (torch.randn(2, 3, *c), torch.randn(2, 3, *f))
        for c, f in (((4, 4), (8, 8)), ((4, 5), (7, 9)), ((4, 5), (7, 10)), ((4, 5), (8, 9)))
    ],
    mistakes={
        "The levels are added. Join them as channels: then the next block can tell them apart.": lambda coarse, fine: (
            _large(coarse, fine) + fine
        ),
        "They are joined along the batch: dimension 0 is the pictures, dimension 1 the channels.": (
            lambda coarse, fine: torch.cat([_large(coarse, fine), fine])
        ),
        "Both are there, but in the other order: first the coarse channels, then the fine ones.": (
            lambda coarse, fine: my_join(coarse, fine).roll(3, 1)
        ),
        "The fine features have changed. They are to be handed on exactly as they are: that is what they are for.": (
            lambda coarse, fine: my_join(coarse, F.avg_pool2d(fine, 3, stride=1, padding=1))
        ),
        "The coarse picture stands there four times, side by side. Each *pixel* should become a 2x2 square.": (
            lambda coarse, fine: torch.cat([coarse.repeat(1, 1, 2, 2)[:, :, : fine.shape[2], : fine.shape[3]], fine], 1)
        ),
        "The coarse features are blurred by interpolation. Here each pixel becomes four equal ones (mode nearest).": (
            lambda coarse, fine: torch.cat([_large(coarse, fine, mode="bilinear"), fine], dim=1)
        ),
        "The last row or column is the one too many, and the first was cut off.": cuts_the_first,
        "The fine features are padded. Hand them on as they are, and cut the coarse ones.": pads_the_fine,
        "Your code stops with RuntimeError": [
            lambda coarse, fine: torch.cat([coarse, fine], dim=1),
            lambda coarse, fine: torch.cat([F.interpolate(coarse, scale_factor=2), fine], dim=1),
        ],
    },
    variants=[
        lambda coarse, fine: torch.cat((F.interpolate(coarse, size=fine.shape[2:]), fine), 1),
        by_index,
        by_kron_in_numpy,
    ],
    right="Coarse and fine stand side by side, at even sides and at odd ones.",
)
