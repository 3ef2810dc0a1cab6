"""Chapter 14, How do large models do it?"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise

# the scale of the codes


def your_scaling(codes, drawn):
    scale = 1 / codes.std()
    return scale * codes, drawn / scale


def _scaled_by(scale, back=None):
    """With another idea of the scale, a function of the codes, or of the way back."""

    def answer(codes, drawn):
        s = scale(codes)
        return s * codes, (back or (lambda z, s: z / s))(drawn, s)

    return answer


def _standardised(codes, drawn):
    mean, std = codes.mean(), codes.std()
    return (codes - mean) / std, drawn * std + mean


def _codes():
    """Codes with a mean, and with channels of different strength, as an encoder's are; and what a model drew."""
    g = torch.Generator().manual_seed(0)
    strength = torch.tensor([0.5, 2.0, 6.0]).view(3, 1, 1) * torch.linspace(0.5, 1.5, 40).view(-1, 1, 1, 1)
    codes = strength * torch.randn(40, 3, 8, 8, generator=g) + torch.tensor([1.0, -2.0, 4.0]).view(3, 1, 1)
    drawn = torch.randn(2, 3, 8, 8, generator=g)
    return [(codes, drawn), (codes[:30] / 40, drawn[:1])]


Exercise(
    "14.scaling",
    """`codes` (N, C, h, w) are what an encoder says of the training pictures, unscaled: their standard deviation may be anything. Find the **one number** that they must be multiplied
    by, so that all of them together have standard deviation 1. `your_scaling(codes, drawn)` returns two things: the scaled codes, which the diffusion model is trained on; and what the decoder must be given, when `drawn` (M, C, h, w) is what that model drew.""",
    hints=[
        "codes.std() is the standard deviation over all numbers at once. Do not move the mean.",
        "The model drew scaled codes. The decoder knows the encoder's: undo what was done.",
    ],
    solution=your_scaling,
    inputs=_codes,
    mistakes={
        "The way back multiplies again. The decoder would get codes scaled twice: divide.": _scaled_by(
            lambda codes: 1 / codes.std(), lambda z, s: z * s
        ),
        "The decoder gets what the model drew as it is; it only knows the encoder's own, unscaled codes.": _scaled_by(
            lambda codes: 1 / codes.std(), lambda z, s: z
        ),
        "This multiplies by the standard deviation, which makes strong codes stronger: multiply by one over it.": (
            _scaled_by(lambda codes: codes.std())
        ),
        "This is one over the variance: take its root.": _scaled_by(lambda codes: 1 / codes.var()),
        "Each channel gets a scale of its own. One number is asked for, and a channel that says little stays quiet.": (
            _scaled_by(lambda codes: 1 / codes.std(dim=(0, 2, 3), keepdim=True)),
            _scaled_by(lambda codes: 1 / codes.std(dim=(0, 2, 3))[:, None, None]),
        ),
        "This is one over the root of the mean square: the standard deviation leaves the mean out.": _scaled_by(
            lambda codes: 1 / codes.square().mean().sqrt()
        ),
        "The mean is taken away as well. Only a factor was asked for.": (
            _standardised,
            lambda codes, drawn: ((codes - codes.mean()) / codes.std(), drawn * codes.std()),
        ),
        "Pixels' way: this brings the largest code to 1, so one odd picture decides about all.": _scaled_by(
            lambda codes: 1 / codes.abs().max()
        ),
    },
    variants=[_scaled_by(lambda codes: codes.var(unbiased=False) ** -0.5)],
    result=("the scaled codes", "what the decoder gets"),
    right="Stable Diffusion's 0.18215 is this number, for its autoencoder.",
    tolerance=1e-3,  # with N or with N - 1, as you like
)

# tokens to pictures


def your_unpatchify(tokens, p, height):
    B, n, features = tokens.shape
    rows = height // p
    x = tokens.view(B, rows, n // rows, features // p**2, p, p)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, p, columns, p)
    return x.reshape(B, features // p**2, height, -1)


def _ordered(order, columns_first=False, channels_last=False):
    """With the axes (B, rows, columns, C, p, p) in another order."""

    def answer(tokens, p, height):
        B, n, features = tokens.shape
        rows, c = height // p, features // p**2
        grid = (n // rows, rows) if columns_first else (rows, n // rows)
        inside = (p, p, c) if channels_last else (c, p, p)
        x = tokens.view(B, *grid, *inside)
        return x.permute(order).reshape(B, c, height, -1)

    return answer


def _by_fold(tokens, p, height):
    return F.fold(tokens.mT, (height, tokens.shape[1] * p * p // height), p, stride=p)


def _by_loop(tokens, p, height):
    B, n, features = tokens.shape
    columns = n * p // height
    x = torch.zeros(B, features // p**2, height, columns * p)
    for i in range(n):
        top, left = i // columns * p, i % columns * p
        x[:, :, top : top + p, left : left + p] = tokens[:, i].view(B, -1, p, p)
    return x


def _tokens():
    g = torch.Generator().manual_seed(0)
    return [(torch.randn(2, 6, 12, generator=g), 2, 4), (torch.randn(1, 4, 36, generator=g), 3, 6)]


Exercise(
    "14.patches",
    """The transformer answers in tokens, and the sampler wants a picture. Write the way back. `tokens` is (B, n, C p p): the patches of p x p pixels, row by row from the upper left, each written out as `my_patchify` wrote it: channel by channel, and
    each channel row by row. `your_unpatchify(tokens, p, height)` returns the pictures, (B, C, height, width); the width follows from n.""",
    hints=[
        "There are height // p rows of patches, and n // (height // p) columns.",
        "tokens.view(B, rows, columns, C, p, p) gives every number its place. Now bring the axes into the order (B, C, rows, p, columns, p).",
        "permute, and then reshape (not view) to (B, C, height, width). A loop over patches is right, too.",
    ],
    solution=your_unpatchify,
    inputs=_tokens,
    mistakes={
        "The axes are not moved, only renamed: view or reshape alone puts the numbers of one patch into one row.": (
            lambda tokens, p, height: tokens.reshape(len(tokens), tokens.shape[2] // p**2, height, -1)
        ),
        "The patches are laid column by column; they come row by row.": _ordered(
            (0, 3, 2, 4, 1, 5), columns_first=True
        ),
        "Inside each patch, rows and columns have changed places.": _ordered((0, 3, 1, 5, 2, 4)),
        "The channels are read last; in a token they come first: C, then p, then p.": _ordered(
            (0, 5, 1, 3, 2, 4), channels_last=True
        ),
        "Rows of patches and rows inside a patch are exchanged: rows come before p, and columns before p.": _ordered(
            (0, 3, 4, 1, 5, 2)
        ),
    },
    variants=[_by_fold, _by_loop],
    result="the picture",
    right="Nothing is lost between pictures and tokens: patches cost no information, only length.",
)

# adaptive layer norm


def your_adaptive_norm(h, emb, W, bias):
    shift, scale = (emb @ W.T + bias).chunk(2, dim=1)
    h = h - h.mean(dim=2, keepdim=True)
    h = h / (h.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()
    return h * (1 + scale[:, None]) + shift[:, None]


def _adapted(norm=None, how=None, swap=False):
    """With another norm, another use of shift and scale, or the two exchanged."""

    def answer(h, emb, W, bias):
        shift, scale = (emb @ W.T + bias)[:, None].chunk(2, dim=2)
        if swap:
            shift, scale = scale, shift
        h = norm(h) if norm else F.layer_norm(h, h.shape[2:])
        return how(h, shift, scale) if how else h * (1 + scale) + shift

    return answer


def _features():
    g = torch.Generator().manual_seed(0)
    h = 3 * torch.randn(2, 5, 8, generator=g) + torch.randn(2, 5, 1, generator=g)
    h[0, 0] = h[0, 0] / 1000  # nearly constant: here the 1e-5 counts
    return [(h, torch.randn(2, 4, generator=g), torch.randn(16, 4, generator=g), torch.randn(16, generator=g))]


Exercise(
    "14.adaptive_norm",
    """Write the inner part of the box, (1 + a) norm(h) + b. `h` (B, N, C) are the features of N tokens, `emb` (B, E) is the embedding of the noise level, one for each picture. A linear layer with weights `W` (2 C, E) and biases `bias` (2 C,), emb @ W.T + bias, turns it
    into 2 C numbers for each picture: first C shifts (the box's b), then C scales (its a). Normalise every token of `h` over its C features (mean 0, variance 1; 1e-5 is added to the variance before its root), multiply by 1 + scale, and add the shift. Leave out f and the gate. Return (B, N, C).""",
    hints=[
        "shift, scale = (emb @ W.T + bias).chunk(2, dim=1); both are (B, C).",
        "F.layer_norm(h, h.shape[2:]) normalises every token over its features.",
        "shift[:, None] is (B, 1, C): the same for all tokens of a picture.",
    ],
    solution=your_adaptive_norm,
    inputs=_features,
    mistakes={
        "The 1 is missing before the scale. The layer starts at zero: nothing would get through, and nothing be learned.": (
            _adapted(how=lambda h, shift, scale: h * scale + shift)
        ),
        "Shift and scale are exchanged: the first half of the numbers are the shifts.": _adapted(swap=True),
        "The features are not normalised.": _adapted(norm=lambda h: h),
        "This normalises each feature over the tokens. Each token is normalised over its own features.": _adapted(
            norm=lambda h: F.layer_norm(h.mT, h.mT.shape[2:]).mT
        ),
        "This normalises all tokens of a picture together. Each token is normalised alone.": _adapted(
            norm=lambda h: F.layer_norm(h, h.shape[1:])
        ),
        "The shift is scaled as well: scale first, then add.": _adapted(
            how=lambda h, shift, scale: (h + shift) * (1 + scale)
        ),
        "The mean is left in.": _adapted(norm=lambda h: F.rms_norm(h, h.shape[2:], eps=1e-5)),
        "This divides by C - 1 in the variance (std does): the variance here has C.": _adapted(
            norm=lambda h: (h - h.mean(2, keepdim=True)) / (h.var(2, keepdim=True) + 1e-5).sqrt()
        ),
        "A token that hardly varies is blown up: add 1e-5 to the variance before its root.": _adapted(
            norm=lambda h: (h - h.mean(2, keepdim=True)) / h.std(2, keepdim=True, correction=0)
        ),
        "Shift and scale are added, where 1 + scale multiplies.": _adapted(
            how=lambda h, shift, scale: h + 1 + scale + shift
        ),
    },
    variants=[_adapted()],
    result="the features",
    right="With W and bias at zero this is a plain norm: that is how training starts (adaLN-zero).",
    tolerance=1e-4,
)
