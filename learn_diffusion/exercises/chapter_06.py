"""Chapter 06, What must a UNet know?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# FiLM

film = Exercise(
    "06.film",
    r"""Wire the noise level into a block. `my_film(h, emb, linear)` gets features `h` of shape (B, C, H, W), embeddings `emb` of shape (B, E), and a layer `linear` that turns an embedding into 2C numbers: first the C scales, then the C shifts. It returns
    `h * (1 + scale) + shift`, one scale and one shift for each channel of each picture. (The check looks at the result, at the gradient, and at what happens to one picture when another's level changes.)""",
    hints=[
        "linear(emb) has the shape (B, 2C); .chunk(2, dim=1) cuts it in two.",
        "scale[:, :, None, None] has the shape (B, C, 1, 1), which fits h.",
    ],
)


def _gradients_flow(out, expected, emb, linear):
    """Raises Wrong where the answer's gradients for the embedding and for the layer are not the right ones."""
    parts = {"the embedding": emb, "the layer's weights": linear.weight}
    right = torch.autograd.grad(expected.square().sum(), list(parts.values()))
    got = [None, None]
    if out.requires_grad:
        got = torch.autograd.grad(out.square().sum(), list(parts.values()), allow_unused=True)
    for name, mine, theirs in zip(parts, got, right, strict=True):
        if mine is None:
            raise IncorrectAnswer(
                f"The numbers are right, but no gradient flows back to {name}: it could not be learned. Leave out detach and no_grad."
            )
        if not agrees(mine, theirs, 1e-3):
            raise IncorrectAnswer(
                f"The numbers are right, but a part of the gradient is lost on its way to {name}. Leave out detach."
            )


@film.oracle
def _(answer):
    g = torch.Generator().manual_seed(0)
    linear = nn.Linear(5, 12)
    nn.init.normal_(linear.weight, generator=g)
    nn.init.normal_(linear.bias, generator=g)
    h, emb = (
        torch.randn(6, 6, 6, 6, generator=g),
        torch.randn(6, 5, generator=g),
    )  # all sides equal: shapes hide nothing
    scale, shift = linear(emb).detach().chunk(2, dim=1)

    def wide(v):
        return v[:, :, None, None]

    emb.requires_grad_()
    out = call(answer, h, emb, linear)
    got = numbers(out, h.shape, "the result")
    if agrees(got, h):
        raise IncorrectAnswer("The embedding has no effect: the block is deaf to the noise level.")
    if agrees(got, h * wide(scale) + wide(shift)):
        raise IncorrectAnswer("The 1 is missing: with scales of 0 the features would vanish. h * (1 + scale).")
    if agrees(got, h * (1 + wide(shift)) + wide(scale)):
        raise IncorrectAnswer("Scale and shift are exchanged: the first C numbers are the scales.")
    if agrees(got, h * (1 + wide(scale))):
        raise IncorrectAnswer("The shift is missing.")
    if agrees(got, h + wide(shift)):
        raise IncorrectAnswer("The scale is missing.")
    if agrees(got, h * (1 + scale) + shift) or agrees(got, h * (1 + scale[:, None, None, :]) + shift[:, None, None, :]):
        raise IncorrectAnswer(
            "The numbers are laid along the width of the picture. They belong to the channels: [:, :, None, None]."
        )
    if agrees(got, h * (1 + wide(scale).mean(0)) + wide(shift).mean(0)) or agrees(
        got, h * (1 + wide(scale[:1])) + wide(shift[:1])
    ):
        raise IncorrectAnswer("All pictures of the batch get the same numbers. Each has a noise level of its own.")
    if not agrees(got, h * (1 + wide(scale)) + wide(shift)):
        raise IncorrectAnswer(
            f"The result is off by up to {(got - h * (1 + wide(scale)) - wide(shift)).abs().max():.2f}."
        )
    if isinstance(out, torch.Tensor):
        _gradients_flow(out, my_film(h, emb, linear), emb, linear)
    return "Each channel of each picture is stretched and shifted as its noise level says, and gradients flow."


@film.answer
def my_film(h, emb, linear):
    scale, shift = linear(emb).chunk(2, dim=1)
    return h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


@film.mutant("deaf")
def ignores_the_level(h, emb, linear):
    return h


@film.mutant("The 1 is missing")
def without_one(h, emb, linear):
    scale, shift = linear(emb)[:, :, None, None].chunk(2, dim=1)
    return h * scale + shift


@film.mutant("exchanged")
def shift_first(h, emb, linear):
    shift, scale = linear(emb)[:, :, None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift


@film.mutant("along the width")
def along_the_width(h, emb, linear):
    scale, shift = linear(emb).chunk(2, dim=1)
    return h * (1 + scale) + shift


@film.mutant("a noise level of its own")
def mean_of_the_batch(h, emb, linear):
    scale, shift = linear(emb)[:, :, None, None].mean(0, keepdim=True).chunk(2, dim=1)
    return h * (1 + scale) + shift


@film.mutant("The shift is missing")
def only_scale(h, emb, linear):
    return h * (1 + linear(emb)[:, : h.shape[1], None, None])


@film.mutant("no gradient flows back to the embedding: it could not be learned")
def without_gradient(h, emb, linear):
    with torch.no_grad():
        return my_film(h, emb, linear)


@film.mutant("a part of the gradient is lost")
def scale_without_gradient(h, emb, linear):
    scale, shift = linear(emb)[:, :, None, None].chunk(2, dim=1)
    return h * (1 + scale.detach()) + shift


@film.mutant("back to the embedding")
def embedding_without_gradient(h, emb, linear):
    return my_film(h, emb.detach(), linear)


@film.variant
def by_einsum(h, emb, linear):
    both = torch.einsum("be,oe->bo", emb, linear.weight) + linear.bias
    c = h.shape[1]
    return torch.einsum("bchw,bc->bchw", h, 1 + both[:, :c]) + both[:, c:, None, None]


@film.variant
def by_broadcasting_backwards(h, emb, linear):
    scale, shift = linear(emb).split(h.shape[1], dim=-1)
    return (h.permute(2, 3, 0, 1) * (1 + scale) + shift).permute(2, 3, 0, 1)


# the skip

skip = Exercise(
    "06.skip",
    r"""Join two levels. `my_join(coarse, fine)` gets features of the coarse level, of shape (B, C, H, W), and those that the way down saw at twice the size, of shape (B, K, 2H, 2W). It enlarges the coarse ones (each pixel becomes a square of 2x2 equal ones) and puts
    the fine ones behind them as further channels: the result has the shape (B, C + K, 2H, 2W).""",
    hints=[
        "`F.interpolate(coarse, scale_factor=2)` enlarges by copying (its default mode is nearest).",
        "torch.cat([...], dim=1): dimension 1 is the channels.",
    ],
)


@skip.oracle
def _(my_join):
    g = torch.Generator().manual_seed(0)
    coarse, fine = torch.randn(2, 3, 4, 4, generator=g), torch.randn(2, 3, 8, 8, generator=g)
    large = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    got = numbers(call(my_join, coarse, fine), None, "the result")
    if got.shape == fine.shape:
        raise IncorrectAnswer("The levels are added. Join them as channels: then the next block can tell them apart.")
    if got.shape == (4, 3, 8, 8):
        raise IncorrectAnswer("They are joined along the batch: dimension 0 is the pictures, dimension 1 the channels.")
    if tuple(got.shape) != (2, 6, 8, 8):
        raise IncorrectAnswer(f"The result has the shape {tuple(got.shape)}; expected (2, 6, 8, 8).")
    if agrees(got, torch.cat([fine, large], 1)):
        raise IncorrectAnswer("Both are there, but in the other order: first the coarse channels, then the fine ones.")
    if not agrees(got[:, 3:], fine):
        raise IncorrectAnswer(
            "The fine features have changed. They are to be handed on exactly as they are: that is what they are for."
        )
    if agrees(got[:, :3], coarse.repeat(1, 1, 2, 2)):
        raise IncorrectAnswer(
            "The coarse picture stands there four times, side by side. Each *pixel* should become a 2x2 square."
        )
    if agrees(got[:, :3], F.interpolate(coarse, scale_factor=2, mode="bilinear").double(), 1e-3):
        raise IncorrectAnswer(
            "The coarse features are blurred by interpolation. Here each pixel becomes four equal ones (mode nearest)."
        )
    if not agrees(got[:, :3], large):
        raise IncorrectAnswer("The coarse channels are not the enlarged coarse features.")
    return "Coarse and fine stand side by side."


@skip.answer
def my_join(coarse, fine):
    return torch.cat([F.interpolate(coarse, scale_factor=2), fine], dim=1)


@skip.mutant("are added")
def added(coarse, fine):
    return F.interpolate(coarse, scale_factor=2) + fine


@skip.mutant("along the batch")
def along_the_batch(coarse, fine):
    return torch.cat([F.interpolate(coarse, scale_factor=2), fine], dim=0)


@skip.mutant("in the other order")
def fine_first(coarse, fine):
    return torch.cat([fine, F.interpolate(coarse, scale_factor=2)], dim=1)


@skip.mutant("four times, side by side")
def tiled(coarse, fine):
    return torch.cat([coarse.repeat(1, 1, 2, 2), fine], dim=1)


@skip.mutant("blurred by interpolation")
def bilinear(coarse, fine):
    return torch.cat([F.interpolate(coarse, scale_factor=2, mode="bilinear"), fine], dim=1)


@skip.mutant("have changed")
def fine_shrunk(coarse, fine):
    small = F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2)
    return torch.cat([F.interpolate(coarse, scale_factor=2), small], dim=1)


@skip.mutant("Your code stops with RuntimeError")
def not_enlarged(coarse, fine):
    return torch.cat([coarse, fine], dim=1)


@skip.variant
def by_repeat_interleave(coarse, fine):
    large = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return torch.cat((large, fine), 1)


@skip.variant
def by_kron_in_numpy(coarse, fine):
    import numpy as np

    large = np.kron(coarse.numpy(), np.ones((1, 1, 2, 2)))
    return np.concatenate([large, fine.numpy()], axis=1)
