"""Chapter 18, Can it show a product somewhere else, in another colour, and larger?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# how far from the truth


def _mse(a, b):
    return (a.double() - b.double()).square().flatten(1).mean(1)


def _check_psnr(my_psnr):
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(4, 3, 6, 6, generator=g) * 2 - 1
    off = torch.tensor([0.01, 0.05, 0.2, 0.6]).reshape(4, 1, 1, 1)
    pictures = truth + off * torch.randn(4, 3, 6, 6, generator=g)
    out = numbers(call(my_psnr, pictures.clone(), truth.clone()), (4,), "the answer (one number for each picture)")
    mse = _mse(pictures, truth)
    right = 10 * torch.log10(4 / mse)
    if agrees(out, right, 1e-3):
        return f"The nearest of the four is {right[0]:.1f} dB from the truth, the farthest {right[-1]:.1f} dB."
    if agrees(out, -right, 1e-3):
        raise IncorrectAnswer(
            "The sign is wrong: the closer to the truth, the larger the PSNR. The error goes below the line."
        )
    if agrees(out, 10 * torch.log10(1 / mse), 1e-3):
        raise IncorrectAnswer("The peak is taken as 1. These values run from -1 to 1, so the peak is 2.")
    if agrees(out, 10 * torch.log10(2 / mse), 1e-3):
        raise IncorrectAnswer("The peak is not squared: it is 2, and 4 goes above the line.")
    if agrees(out, 10 * torch.log(4 / mse), 1e-3):
        raise IncorrectAnswer("That is the natural logarithm. Decibels count to base 10.")
    if agrees(out, 20 * torch.log10(4 / mse), 1e-3):
        raise IncorrectAnswer(
            "It is twice what it should be. The factor 20 goes with ratios; squared ones, such as peak^2 / MSE, have 10."
        )
    if agrees(out, 10 * torch.log10(255**2 / mse), 1e-3):
        raise IncorrectAnswer("The peak is taken as 255. These values run from -1 to 1, so the peak is 2.")
    if agrees(out, 10 * torch.log10(4 / (mse * truth[0].numel())), 1e-3):
        raise IncorrectAnswer("The squared errors are added up. MSE is their mean.")
    if agrees(out, 5 * torch.log10(4 / mse), 1e-3):
        raise IncorrectAnswer(
            "It is half of what it should be: the root of the error is taken, or the factor is 5 for 10."
        )
    if agrees(out, torch.log10(4 / mse), 1e-3):
        raise IncorrectAnswer("The factor 10 is missing: deci-bel means tenths.")
    if agrees(out, right.mean().expand(4), 1e-3) or agrees(out, (10 * torch.log10(4 / mse.mean())).expand(4), 1e-3):
        raise IncorrectAnswer(
            "All four pictures get the same number. Take the mean over channels and pixels, not over pictures."
        )
    if agrees(out, 10 * torch.log10(4 / (pictures - truth).abs().double().flatten(1).mean(1)), 1e-3):
        raise IncorrectAnswer("That is the mean absolute error. Square the differences.")
    raise IncorrectAnswer(f"The first picture should have {right[0]:.2f} dB, and has {out[0]:.2f}.")


def my_psnr(pictures, truth):
    mse = ((pictures - truth) ** 2).mean((1, 2, 3))
    return 10 * torch.log10(4 / mse)


def upside_down(pictures, truth):
    return -my_psnr(pictures, truth)


def peak_of_one(pictures, truth):
    return 10 * torch.log10(1 / ((pictures - truth) ** 2).mean((1, 2, 3)))


def peak_not_squared(pictures, truth):
    return 10 * torch.log10(2 / ((pictures - truth) ** 2).mean((1, 2, 3)))


def natural(pictures, truth):
    return 10 * torch.log(4 / ((pictures - truth) ** 2).mean((1, 2, 3)))


def twenty(pictures, truth):
    return 2 * my_psnr(pictures, truth)


def peak_of_255(pictures, truth):
    return 10 * torch.log10(255**2 / ((pictures - truth) ** 2).mean((1, 2, 3)))


def sum_of_squares(pictures, truth):
    return 10 * torch.log10(4 / ((pictures - truth) ** 2).sum((1, 2, 3)))


def of_the_root(pictures, truth):
    return 10 * torch.log10(2 / ((pictures - truth) ** 2).mean((1, 2, 3)).sqrt())


def bel(pictures, truth):
    return torch.log10(4 / ((pictures - truth) ** 2).mean((1, 2, 3)))


def over_the_batch(pictures, truth):
    return (10 * torch.log10(4 / ((pictures - truth) ** 2).mean())).expand(len(pictures))


def absolute(pictures, truth):
    return 10 * torch.log10(4 / (pictures - truth).abs().mean((1, 2, 3)))


def twenty_times_the_log_of_a_ratio(pictures, truth):
    off = (pictures - truth).flatten(1).norm(dim=1) / math.sqrt(pictures[0].numel())
    return 20 * torch.log10(2 / off)


def picture_by_picture_in_numpy(pictures, truth):
    errors = [((p.double().numpy() - q.double().numpy()) ** 2).mean() for p, q in zip(pictures, truth, strict=True)]
    return torch.tensor([10 * math.log10(4 / e) for e in errors])


psnr = Exercise(
    "18.psnr",
    r"""Distortion is often given as the *peak signal-to-noise ratio* (PSNR), in decibels (dB): the more, the closer. `my_psnr(pictures, truth)` gets two tensors (B, C, H, W) of pictures whose values run from -1 to 1. Return one number for each picture, (B,): 10 times the logarithm (to base 10) of peak$^2$ / MSE, where MSE is the mean squared error of that picture over all its channels and pixels, and *peak* is the distance from the darkest possible value to the brightest.
    (The check has pictures that are off by a known amount.)""",
    hints=[
        "((pictures - truth) ** 2).mean((1, 2, 3)) is the mean squared error of each picture.",
        "From -1 to 1 the distance is 2, so peak ** 2 is 4.",
        "torch.log10 has the right base.",
    ],
    solution=my_psnr,
    check=_check_psnr,
    mistakes={
        "the larger the PSNR": upside_down,
        "taken as 1": peak_of_one,
        "not squared": peak_not_squared,
        "natural logarithm": natural,
        "twice what": twenty,
        "taken as 255": peak_of_255,
        "added up": sum_of_squares,
        "half of what": of_the_root,
        "factor 10 is missing": bel,
        "All four pictures get the same": over_the_batch,
        "absolute error": absolute,
    },
    variants=[twenty_times_the_log_of_a_ratio, picture_by_picture_in_numpy],
)


# a large picture that agrees with the small one


def _spread(x):
    return x.repeat_interleave(4, -1).repeat_interleave(4, -2)


def _check_consistent(my_consistent):
    g = torch.Generator().manual_seed(0)
    large, small = torch.randn(2, 3, 12, 8, generator=g), torch.randn(2, 3, 3, 2, generator=g)
    out = numbers(call(my_consistent, large.clone(), small.clone()), (2, 3, 12, 8), "the large picture")
    off = small - F.avg_pool2d(large, 4)
    right = large + _spread(off)
    if agrees(out, right):
        return "Shrunk, it is the small picture, and every block kept its detail."
    if agrees(out, large):
        raise IncorrectAnswer("The large picture is as it was.")
    if agrees(out, _spread(small)):
        raise IncorrectAnswer(
            "That agrees with the small picture, but all detail is gone. Add the difference to what is there."
        )
    if agrees(out, large - _spread(off)):
        raise IncorrectAnswer("The correction has the wrong sign: after it, each block is twice as wrong.")
    if agrees(out, large + _spread(small)):
        raise IncorrectAnswer(
            "The small picture is added as it is. Add what is missing: small minus the large one, shrunk."
        )
    if agrees(out, right.clamp(-1, 1)):
        raise IncorrectAnswer(
            "The result is clipped to [-1, 1], and then the means no longer agree. Leave it as it comes out."
        )
    if agrees(out, large + off.repeat(1, 1, 4, 4)):
        raise IncorrectAnswer(
            "Each difference landed in another block. Repeat every pixel 4 x 4 times, not the picture."
        )
    if agrees(out, large + _spread(off) / 16):
        raise IncorrectAnswer(
            "The difference is shared out among the 16 pixels. For their mean to move by d, each has to move by d."
        )
    if agrees(F.avg_pool2d(out, 4), small):
        raise IncorrectAnswer(
            "Shrunk, it is the small picture, but more was changed than needed: only block means may move."
        )
    raise IncorrectAnswer("Shrunk, it is not the small picture: block means differ by up to "
                f"{(F.avg_pool2d(out.float(), 4) - small).abs().max():.2f}.")  # fmt: skip


def my_consistent(large, small):
    off = small - F.avg_pool2d(large, 4)
    return large + F.interpolate(off, scale_factor=4, mode="nearest")


def untouched(large, small):
    return large


def blocks(large, small):
    return _spread(small)


def wrong_sign(large, small):
    return large - _spread(small - F.avg_pool2d(large, 4))


def added(large, small):
    return large + _spread(small)


def clipped(large, small):
    return my_consistent(large, small).clamp(-1, 1)


def repeated_as_a_whole(large, small):
    return large + (small - F.avg_pool2d(large, 4)).repeat(1, 1, 4, 4)


def shared_out(large, small):
    return large + _spread(small - F.avg_pool2d(large, 4)) / 16


def smooth(large, small):
    off = small - F.avg_pool2d(large, 4)
    return large + F.interpolate(off, scale_factor=4, mode="bilinear", align_corners=False)


def one_pixel_pays(large, small):
    off = small - F.avg_pool2d(large, 4)
    out = large.clone()
    out[..., ::4, ::4] += 16 * off
    return out


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


consistent = Exercise(
    "18.consistent",
    r"""An upscaled picture should say what the small one says: shrunk again, it should *be* the small one. `my_consistent(large, small)` gets a picture (B, C, 4H, 4W), and the small one, (B, C, H, W), each of whose pixels should be the mean of a 4x4 block of the large one. Return the large picture with as little changed as possible, so that it does: what a block is wrong by on average is added to all of its 16 pixels.
    (Detail is left as it is: only the mean of each block moves.)""",
    hints=[
        "F.avg_pool2d(large, 4) is the large picture, shrunk.",
        "small - F.avg_pool2d(large, 4) is what each block is wrong by.",
        'F.interpolate(..., scale_factor=4, mode="nearest") gives all 16 pixels of a block the same number.',
    ],
    solution=my_consistent,
    check=_check_consistent,
    mistakes={
        "as it was": untouched,
        "all detail is gone": blocks,
        "wrong sign": wrong_sign,
        "added as it is": added,
        "clipped": clipped,
        "landed in another block": repeated_as_a_whole,
        "shared out": shared_out,
        "block means differ": smooth,
        "more was changed": one_pixel_pays,
    },
    variants=[by_reshaping, block_by_block],
)
