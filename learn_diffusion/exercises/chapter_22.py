"""Chapter 22, Can it learn one more thing?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, call, numbers, several

# a layer with an adapter


def your_lora(x, W, A, B, alpha):
    rank = len(A)
    return x @ W.T + alpha / rank * (x @ A.T) @ B.T


def _lora(scale=lambda alpha, rank: alpha / rank, update=lambda A, B: B @ A, old=1):
    """With another scale, another update, or more or less of the old layer."""
    return lambda x, W, A, B, alpha: x @ (old * W + scale(alpha, len(A)) * update(A, B)).T


def _layers():
    """The first layer is as tall as wide, so that matrices in the wrong order still fit."""
    g = torch.Generator().manual_seed(0)
    cases = []
    for n_in, n_out, rank, alpha in ((4, 4, 2, 6.0), (5, 3, 2, 1.0), (3, 6, 1, 2.0)):
        x, W = torch.randn(7, n_in, generator=g), torch.randn(n_out, n_in, generator=g)
        A, B = torch.randn(rank, n_in, generator=g), torch.randn(n_out, rank, generator=g)
        cases.append((x, W, A, B, alpha))
    return cases


Exercise(
    "22.lora",
    """Write what a linear layer with an adapter answers. `x` (N, n_in) are features, `W` (n_out, n_in) the frozen weights, `A` (r, n_in) and `B` (n_out, r) the thin matrices. The weights in use are W plus alpha / r times B A, where r, the rank, is what A and B have in common.
    `your_lora(x, W, A, B, alpha)` returns (N, n_out). There is no bias. A layer multiplies by the *transpose* of its weights: x @ W.T.""",
    hints=[
        "Without an adapter the answer is x @ W.T.",
        "The rank is len(A).",
        "x goes down through A first, then up through B: (x @ A.T) @ B.T has the shape (N, n_out).",
    ],
    solution=your_lora,
    inputs=_layers,
    mistakes={
        "The scale is missing: B A is multiplied by alpha / r.": _lora(scale=lambda alpha, rank: 1),
        "B A is multiplied by alpha, and not divided by the rank.": _lora(scale=lambda alpha, rank: alpha),
        "Upside down: the scale is alpha / r, and not r / alpha.": _lora(scale=lambda alpha, rank: rank / alpha),
        "The root of the rank is for another method (rsLoRA): here the scale is alpha / r.": _lora(
            scale=lambda alpha, rank: alpha / rank**0.5
        ),
        "A and B are swapped, or the product is not transposed: x meets A first, as (x @ A.T) @ B.T.": [
            _lora(update=lambda A, B: (B @ A).T),
            _lora(update=lambda A, B: A.T @ B.T),
        ],
        "The old layer is missing: the answer is x @ W.T plus what the adapter adds.": _lora(old=0),
        "The adapter is missing: this is the old layer.": _lora(scale=lambda alpha, rank: 0),
        "The adapter is subtracted, and should be added.": _lora(scale=lambda alpha, rank: -alpha / rank),
    },
    variants=[_lora(), lambda x, W, A, B, alpha: torch.nn.functional.linear(x, W + B @ A * alpha / A.shape[0])],
    result="the answer of the layer",
    right="The adapter costs two thin products, and the layer is never rewritten.",
)

# merge a convolution


def your_merge(W, A, B, alpha, strength):
    rank = len(A)
    product = B.flatten(1) @ A.flatten(1)
    return W + strength * alpha / rank * product.view(W.shape)


def _merge(scale=lambda alpha, rank, strength: strength * alpha / rank, old=1, shape=lambda p, W: p.view(W.shape)):
    """With another scale, another share of the old weights, or another way into their shape."""
    return lambda W, A, B, alpha, strength: (
        old * W + scale(alpha, len(A), strength) * shape(B.flatten(1) @ A.flatten(1), W)
    )


def _by_einsum(W, A, B, alpha, strength):
    return W + strength * alpha / len(A) * torch.einsum("or,rikl->oikl", B[:, :, 0, 0], A)


def _convolutions():
    g = torch.Generator().manual_seed(0)
    cases = []
    for c_in, c_out, kernel, rank, alpha, strength in ((3, 4, 3, 2, 6.0, 0.5), (4, 2, 1, 1, 3.0, 2.0)):
        W, A = (torch.randn(n, c_in, kernel, kernel, generator=g) for n in (c_out, rank))
        cases.append((W, A, torch.randn(c_out, rank, 1, 1, generator=g), alpha, strength))
    return cases


Exercise(
    "22.merge",
    """Merge the adapter of a *convolution* into its weights. `W` has the shape (c_out, c_in, k, k); `A` (r, c_in, k, k) is a convolution to r channels, `B` (c_out, r, 1, 1) one of 1 x 1 back up. `your_merge(W, A, B, alpha, strength)` returns weights of the shape of W that alone do what W and the adapter did together,
    with the adapter scaled by strength times alpha / r. Leave W as it is: make a new tensor.""",
    hints=[
        "A.flatten(1) is A as a matrix, (r, c_in k k); B.flatten(1) is (c_out, r).",
        "Their product, in the right order, has the shape (c_out, c_in k k).",
        ".view(W.shape) gives it the form of the weights; then scale it, and add it to W.",
    ],
    solution=your_merge,
    inputs=_convolutions,
    mistakes={
        "The strength is missing.": _merge(scale=lambda alpha, rank, strength: alpha / rank),
        "alpha / r is missing: only the strength is there.": _merge(scale=lambda alpha, rank, strength: strength),
        "Divide by the rank: the scale is strength times alpha / r.": _merge(
            scale=lambda alpha, rank, strength: strength * alpha
        ),
        "This is the adapter alone: add it to W.": _merge(old=0),
        "This fades W out as the adapter comes in. W stays whole.": lambda W, A, B, alpha, strength: (
            (1 - strength) * W + (your_merge(W, A, B, alpha, strength) - W)
        ),
        "The numbers lie in the wrong order: the product (c_out, c_in k k) has the order of W already, so .view(W.shape).": _merge(
            shape=lambda p, W: p.view(len(p), *W.shape[2:], -1).permute(0, 3, 1, 2)
        ),
    },
    variants=[_by_einsum, _merge()],
    result="the weights",
    right="One convolution is left, as fast as before; what it cost is that the adapter can no longer be switched off.",
)

# a branch that starts as nothing


def your_branch(c_in, c_out):
    first = torch.randn(c_out, c_in) / c_in**0.5
    second = torch.zeros(c_out, c_out)
    return first, second


def _branch(first=torch.randn, second=torch.zeros, swapped=False):
    """Weights made in another way, or with rows and columns in the wrong place."""
    return lambda c_in, c_out: (first(*((c_in, c_out) if swapped else (c_out, c_in))), second(c_out, c_out))


def _repeated(c_out, c_in):
    return torch.randn(2, c_in).repeat(c_out, 1)[:c_out]


def _check_branch(answer):
    for c_in, c_out in ((2, 4), (3, 5)):
        names = ("the first matrix", "the second matrix")
        out, shapes = several(call(answer, c_in, c_out), names), ((c_out, c_in), (c_out, c_out))
        first, second = (numbers(w, s, name) for w, s, name in zip(out, shapes, names, strict=True))
        if not first.any() and not second.any():
            raise IncorrectAnswer("Both are zero: then both gradients are zero as well, and nothing is ever learned.")
        if not first.any():
            raise IncorrectAnswer(
                "The first is zero, and the last is not. It would learn too, but the last layer shall be the zero one, as in ControlNet."
            )
        if second.any():
            raise IncorrectAnswer(
                "The second is not zero: the branch adds something at the start, and disturbs the base."
            )
        if not first.any(1).all():
            raise IncorrectAnswer(
                "A row of the first matrix is zero. Its channel adds nothing, so the second learns nothing from it, and so on for ever. Start it at random."
            )
        if len(first.unique(dim=0)) < c_out or torch.linalg.matrix_rank(first) < min(first.shape):
            raise IncorrectAnswer(
                "The channels of the first matrix are copies of each other: they get the same gradients, and stay copies. Start it at random."
            )
    return "It adds exactly nothing. The second matrix learns from the first step on, and the first follows."


Exercise(
    "22.zero",
    """Start a small control branch. It has two layers, 1 x 1 convolutions without bias, so each is a matrix that is applied to the channels of every pixel: `first` (c_out, c_in) and `second` (c_out, c_out). `second @ first @ picture` is added to the features of a frozen network. `your_branch(c_in, c_out)` returns `first` and `second`, such that the branch
    adds **exactly** nothing at the start, its *last* layer is the zero one, and both can learn from there.""",
    hints=[
        "torch.zeros(c_out, c_out) is a matrix of zeros.",
        "If both are zero, both gradients are zero too. One of them is enough for an answer of zero: the last.",
        "The channels of the first layer have to differ from each other: torch.randn(c_out, c_in).",
    ],
    solution=your_branch,
    mistakes={
        "Both are zero": _branch(first=torch.zeros),
        "The first is zero": _branch(first=torch.zeros, second=torch.randn),
        "The second is not zero": [_branch(second=torch.randn), _branch(second=lambda n, _: torch.eye(n))],
        "are copies of each other": [_branch(first=torch.ones), _branch(first=_repeated)],
        "A row of the first matrix is zero": _branch(first=torch.eye),
        "The first matrix has the shape (2, 4)": _branch(swapped=True),
    },
    variants=[_branch()],
    result=("the first matrix", "the second matrix"),
    check=_check_branch,
)
