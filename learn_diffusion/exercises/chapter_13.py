"""Chapter 13, How do I repair and change a picture?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise

# holding what is known


def your_hold(x, x0, small, alpha, sigma):
    off = small - torch.nn.functional.avg_pool2d(x0, 2)  # by how much each mean is wrong
    x0 = x0 + torch.nn.functional.interpolate(off, scale_factor=2)  # all four pixels move by that
    return x0, (x - alpha * x0) / sigma


def _large(small):
    """Each pixel four times."""
    return small.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def _with(x0, x, alpha, sigma):
    return x0, (x - alpha * x0) / sigma


def in_place(x, x0, small, alpha, sigma):
    x0 += _large(small - F.avg_pool2d(x0, 2))
    return _with(x0, x, alpha, sigma)


def in_numpy(x, x0, small, alpha, sigma):
    B, C, H, W = x0.shape
    blocks = x0.numpy().reshape(B, C, H // 2, 2, W // 2, 2)
    blocks = blocks - blocks.mean((3, 5), keepdims=True) + small.numpy()[:, :, :, None, :, None]
    held = blocks.reshape(x0.shape)
    return held, (x.numpy() - alpha * held) / sigma


def pixel_by_pixel(x, x0, small, alpha, sigma):
    held = x0.clone()
    for i in range(small.shape[2]):
        for j in range(small.shape[3]):
            block = x0[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            mean = block.mean((2, 3), keepdim=True)
            held[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = block - mean + small[:, :, i : i + 1, j : j + 1]
    return _with(held, x, alpha, sigma)


G = torch.Generator().manual_seed(0)
HELD = [
    (*torch.randn(2, 2, 3, *side, generator=G), torch.randn(2, 3, *small, generator=G), *at)
    for side, small, at in (((4, 4), (2, 2), (0.8, 0.6)), ((4, 6), (2, 3), (0.7, 0.3)))  # not on the circle
]


Exercise(
    "13.hold",
    r"""What is known need not be pixels. Here it is a copy of the picture at half the side: each pixel of `small` is the *mean* of a square of 2x2 pixels. `your_hold(x, x0, small, alpha, sigma)` gets a noised picture `x` and the
    denoiser's belief `x0`, both (B, C, H, W), `small` (B, C, H/2, W/2), and two numbers. Move each square of `x0`, all four of its pixels by the same amount, so that its mean is what is known; what is inside the square stays the denoiser's.
    Return the new belief and the new noise, a pair (x0, eps), so that `x = alpha * x0 + sigma * eps` holds.""",
    hints=[
        "The means of x0 now: torch.nn.functional.avg_pool2d(x0, 2). By how much is each of them wrong?",
        "Add that to all four pixels of its square: torch.nn.functional.interpolate(off, scale_factor=2) repeats each number.",
        "The noise is not the denoiser's any more: solve x = alpha * x0 + sigma * eps for eps, with the new x0.",
    ],
    solution=your_hold,
    inputs=HELD,
    result=("x0", "eps"),
    mistakes={
        "x0 is still the denoiser's belief: nothing of what is known is in it.": (
            lambda x, x0, small, *rest: _with(x0, x, *rest)
        ),
        "x0 is the small picture made large. Its means are right, but what the denoiser believes inside a square is lost.": (
            lambda x, x0, small, *rest: _with(_large(small), x, *rest)
        ),
        "The small picture is added on top: take the mean that x0 has already away first.": (
            lambda x, x0, small, *rest: _with(x0 + _large(small), x, *rest)
        ),
        "The means move the wrong way: add what is known minus what x0 has.": (
            lambda x, x0, small, *rest: _with(x0 - _large(small - F.avg_pool2d(x0, 2)), x, *rest)
        ),
        "The means are not what is known: each pixel goes only a quarter of the way. All four move by the whole amount.": (
            lambda x, x0, small, *rest: _with(x0 + _large(small - F.avg_pool2d(x0, 2)) / 4, x, *rest)
        ),
        "The means of x0 are not the known ones. x0 is the clean picture: no alpha belongs to it.": (
            lambda x, x0, small, alpha, sigma: your_hold(x, x0, alpha * small, alpha, sigma)
        ),
        "The noise is still the one of the old belief: with the new x0 it does not explain x any more.": (
            lambda x, x0, small, alpha, sigma: (your_hold(x, x0, small, alpha, sigma)[0], (x - alpha * x0) / sigma)
        ),
        "alpha * x0 + eps gives x: but the noise has variance 1, and sigma stands before it.": lambda *args: (
            args[1] + _large(args[2] - F.avg_pool2d(args[1], 2)),
            args[0] - args[3] * your_hold(*args)[0],
        ),
        "alpha * x0 + sigma * eps does not give x: what x0 explains has to be subtracted.": (
            lambda x, x0, small, alpha, sigma: your_hold(x, x0, small, -alpha, sigma)
        ),
        "sigma is not the root of 1 - alpha^2 on every path: use the one that you are given.": (
            lambda x, x0, small, alpha, sigma: your_hold(x, x0, small, alpha, (1 - alpha**2) ** 0.5)
        ),
        "changed what you were given": in_place,
        "Two results were expected": lambda x, x0, small, *args: x0 + _large(small - F.avg_pool2d(x0, 2)),
    },
    variants=[in_numpy, pixel_by_pixel],
    right="What is known is in, the denoiser's detail is still there, and the two explain x. So ddnm enlarges pictures, too.",
)

# the arc


def your_arc(a, b, w):
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return (torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(angle)


def _by(angle):
    """The formula with another angle(a, b)."""

    def arc(a, b, w):
        theta = angle(a, b)
        return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)

    return arc


def line_made_long(a, b, w):
    x = a + w * (b - a)
    return x / x.norm() * a.norm()


def by_turning(a, b, w):
    """Turns the direction of a by w of the angle, and takes a and b by the shares that make this direction of theirs."""
    u, v = a / a.norm(), b / b.norm()
    across = v - (u * v).sum() * u
    across = across / across.norm()
    angle = w * torch.atan2((v * across).sum(), (v * u).sum())
    ends = torch.stack([u.flatten(), v.flatten()], dim=1)
    turned = angle.cos() * u + angle.sin() * across
    share = torch.linalg.lstsq(ends, turned.flatten()[:, None]).solution
    return share[0] * a + share[1] * b


def in_float32(a, b, w):
    u, v = a.float().flatten(), b.float().flatten()
    angle = math.acos(float(torch.dot(u, v) / u.norm() / v.norm()))
    return (math.sin(angle - w * angle) * a.float() + math.sin(w * angle) * b.float()) / math.sin(angle)


def _ends():
    a, b = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    b = 0.5 * a + b  # not quite at a right angle
    a, b = 1.2 * a / a.norm(), 1.2 * b / b.norm()  # short, so that a product that is not divided still has an angle
    return [*((a, b, w) for w in (0.5, 0.0, 1.0, 0.25)), (a, 2 * b, 0.3)]


Exercise(
    "13.arc",
    """Go from one noise to another along the arc. `your_arc(a, b, w)` gets two tensors of one shape and a number `w` from 0 to 1.
    The cosine of the angle between them is their product, summed, divided by both lengths (the length is the root of the sum of squares, `a.norm()`). Return
    `(sin((1 - w) * angle) * a + sin(w * angle) * b) / sin(angle)`. (Where both are equally long, the length stays
    the same on the way, and the angle grows evenly. The check compares with the formula, also where their lengths differ.)""",
    hints=[
        "(a * b).sum() is the product of the two; a.norm() is a length.",
        "torch.acos turns the cosine into the angle.",
        "Three sines: of (1 - w) * angle, of w * angle, and of the angle, to divide by.",
    ],
    solution=your_arc,
    inputs=_ends,
    mistakes={
        "Halfway is shorter than both ends: that is the straight line.": lambda a, b, w: a + w * (b - a),
        "w = 0 gives b and w = 1 gives a: the ends are swapped.": lambda a, b, w: your_arc(b, a, w),
        "w = 0 should give a, and w = 1 should give b: is everything divided by the sine of the angle?": (
            lambda a, b, w: your_arc(a, b, w) * torch.sin(torch.acos((a * b).sum() / (a.norm() * b.norm())))
        ),
        "Halfway is longer than both ends. This fits only where the two are at right angles.": lambda a, b, w: (
            math.cos(w * math.pi / 2) * a + math.sin(w * math.pi / 2) * b
        ),
        "The cosine is taken for the angle: torch.acos is missing.": _by(
            lambda a, b: (a * b).sum() / (a.norm() * b.norm())
        ),
        "acos wants a cosine from -1 to 1: is the product divided by both lengths, `a.norm()` and `b.norm()`?": [
            _by(lambda a, b: torch.acos((a * b).sum() / (len(a) * len(b)))),
            _by(lambda a, b: torch.acos((a * b).sum())),
        ],
        "The length is right, but a quarter of the way is not a quarter of the angle.": line_made_long,
        "Where the lengths differ it is not the formula: divide the product by both lengths.": [
            _by(lambda a, b: torch.acos((a * b).sum() / a.norm() ** 2)),
            _by(lambda a, b: torch.acos((a * b).sum() / b.norm() ** 2)),
        ],
    },
    variants=[by_turning, in_float32],
    right="Between two of one length: the same length all the way, and the angle grows evenly.",
)
