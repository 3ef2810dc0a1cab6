"""Chapter 18, Can it show a product somewhere else, in another colour, and larger?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise, agrees

# how far from the truth


def my_psnr(pictures, truth):
    mse = ((pictures - truth) ** 2).mean((1, 2, 3))
    return 10 * torch.log10(4 / mse)


def _mse(pictures, truth):
    return ((pictures - truth) ** 2).mean((1, 2, 3))


def _decibels(peak2, error=_mse):
    """Of this squared peak over error(pictures, truth)."""
    return lambda *args: 10 * torch.log10(peak2 / error(*args)).expand(len(args[0]))


def twenty_times_the_log_of_a_ratio(pictures, truth):
    off = (pictures - truth).flatten(1).norm(dim=1) / math.sqrt(pictures[0].numel())
    return 20 * torch.log10(2 / off)


def picture_by_picture_in_numpy(pictures, truth):
    errors = [((p.double().numpy() - q.double().numpy()) ** 2).mean() for p, q in zip(pictures, truth, strict=True)]
    return torch.tensor([10 * math.log10(4 / e) for e in errors])


G = torch.Generator().manual_seed(0)
TRUTH = torch.rand(4, 3, 6, 6, generator=G) * 2 - 1
OFF = torch.tensor([0.01, 0.05, 0.2, 0.6]).reshape(4, 1, 1, 1) * torch.randn(4, 3, 6, 6, generator=G)

Exercise(
    "18.psnr",
    r"""Distortion is often given as the *peak signal-to-noise ratio* (PSNR), in decibels (dB): the more, the closer. `my_psnr(pictures, truth)` gets two tensors (B, C, H, W) of pictures whose values run from -1 to 1. Return one number for each picture, (B,): 10 times the logarithm (to base 10) of peak$^2$ / MSE, where MSE is the mean squared error of that picture over all its channels and pixels, and *peak* is the distance from the darkest possible value to the brightest.
    (The check has pictures that are off by a known amount.)""",
    hints=[
        "((pictures - truth) ** 2).mean((1, 2, 3)) is the mean squared error of each picture.",
        "From -1 to 1 the distance is 2, so peak ** 2 is 4.",
        "torch.log10 has the right base.",
    ],
    solution=my_psnr,
    inputs=[(TRUTH + OFF, TRUTH)],
    result="the answer (one number for each picture)",
    tolerance=1e-3,
    mistakes={
        "The sign is wrong: the closer to the truth, the larger the PSNR. The error goes below the line.": (
            lambda *args: -my_psnr(*args)
        ),
        "The peak is taken as 1. These values run from -1 to 1, so the peak is 2.": _decibels(1),
        "The peak is not squared: it is 2, and 4 goes above the line.": _decibels(2),
        "That is the natural logarithm. Decibels count to base 10.": lambda *args: 10 * torch.log(4 / _mse(*args)),
        "It is twice what it should be. The factor 20 goes with ratios; squared ones, such as peak^2 / MSE, have 10.": (
            lambda *args: 2 * my_psnr(*args)
        ),
        "The peak is taken as 255. These values run from -1 to 1, so the peak is 2.": _decibels(255**2),
        "The squared errors are added up. MSE is their mean.": _decibels(4, lambda p, q: _mse(p, q) * p[0].numel()),
        "It is half of what it should be: the root of the error is taken, or the factor is 5 for 10.": (
            lambda *args: my_psnr(*args) / 2
        ),
        "The factor 10 is missing: deci-bel means tenths.": lambda *args: my_psnr(*args) / 10,
        "All four pictures get the same number. Take the mean over channels and pixels, not over pictures.": [
            _decibels(4, lambda *args: _mse(*args).mean()),
            lambda *args: my_psnr(*args).mean().expand(4),
        ],
        "That is the mean absolute error. Square the differences.": _decibels(
            4, lambda p, q: (p - q).abs().mean((1, 2, 3))
        ),
    },
    variants=[twenty_times_the_log_of_a_ratio, picture_by_picture_in_numpy],
    right="The nearest of the four is {expected[0]:.1f} dB from the truth, the farthest {expected[3]:.1f} dB.",
)

# a large picture that agrees with the small one


def my_consistent(large, small):
    off = small - F.avg_pool2d(large, 4)
    return large + F.interpolate(off, scale_factor=4, mode="nearest")


def _spread(x):
    return x.repeat_interleave(4, -1).repeat_interleave(4, -2)


def _plus(spread):
    """Adds what the blocks are wrong by, spread in this way."""
    return lambda large, small: large + spread(small - F.avg_pool2d(large, 4))


def by_reshaping(large, small):
    B, C, H, W = small.shape
    tiles = large.reshape(B, C, H, 4, W, 4)
    tiles = tiles - tiles.mean((3, 5), keepdim=True) + small.reshape(B, C, H, 1, W, 1)
    return tiles.reshape(large.shape)


def block_by_block(large, small):
    out = large.double()
    for i in range(small.shape[2]):
        for j in range(small.shape[3]):
            block = out[..., 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            block += small[..., i, j].double()[..., None, None] - block.mean((2, 3), keepdim=True)
    return out


def one_pixel_pays(off):
    out = _spread(0 * off)
    out[..., ::4, ::4] = 16 * off
    return out


MORE_THAN_NEEDED = "Shrunk, it is the small picture, but more was changed than needed: only block means may move."


def _differs(got, expected, large, small):
    off = (F.avg_pool2d(got, 4) - small).abs().max()
    if agrees(off, 0):
        return MORE_THAN_NEEDED
    return f"Shrunk, it is not the small picture: block means differ by up to {off:.2f}."


Exercise(
    "18.consistent",
    r"""An upscaled picture should say what the small one says: shrunk again, it should *be* the small one. `my_consistent(large, small)` gets a picture (B, C, 4H, 4W), and the small one, (B, C, H, W), each of whose pixels should be the mean of a 4x4 block of the large one. Return the large picture with as little changed as possible, so that it does: what a block is wrong by on average is added to all of its 16 pixels.
    (Detail is left as it is: only the mean of each block moves.)""",
    hints=[
        "F.avg_pool2d(large, 4) is the large picture, shrunk.",
        "small - F.avg_pool2d(large, 4) is what each block is wrong by.",
        'F.interpolate(..., scale_factor=4, mode="nearest") gives all 16 pixels of a block the same number.',
    ],
    solution=my_consistent,
    inputs=[(torch.randn(2, 3, 12, 8, generator=G), torch.randn(2, 3, 3, 2, generator=G))],
    result="the large picture",
    mistakes={
        "The large picture is as it was.": lambda large, small: large,
        "That agrees with the small picture, but all detail is gone. Add the difference to what is there.": (
            lambda large, small: _spread(small)
        ),
        "The correction has the wrong sign: after it, each block is twice as wrong.": _plus(lambda off: -_spread(off)),
        "The small picture is added as it is. Add what is missing: small minus the large one, shrunk.": (
            lambda large, small: large + _spread(small)
        ),
        "The result is clipped to [-1, 1], and then the means no longer agree. Leave it as it comes out.": (
            lambda *args: my_consistent(*args).clamp(-1, 1)
        ),
        "Each difference landed in another block. Repeat every pixel 4 x 4 times, not the picture.": _plus(
            lambda off: off.repeat(1, 1, 4, 4)
        ),
        "The difference is shared out among the 16 pixels. For their mean to move by d, each has to move by d.": _plus(
            lambda off: _spread(off) / 16
        ),
        "The correction is smooth, and block means differ. Give all 16 pixels of a block the same number.": [
            _plus(lambda off: F.interpolate(off, scale_factor=4, mode="bilinear", align_corners=False)),
            _plus(lambda off: F.interpolate(off, scale_factor=4, mode="bilinear", align_corners=True)),
            _plus(lambda off: F.interpolate(off, scale_factor=4, mode="bicubic", align_corners=False)),
        ],
        MORE_THAN_NEEDED: _plus(one_pixel_pays),
    },
    variants=[by_reshaping, block_by_block],
    right="Shrunk, it is the small picture, and every block kept its detail.",
    otherwise=_differs,
)
