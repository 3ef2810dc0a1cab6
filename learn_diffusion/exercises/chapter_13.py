"""Chapter 13, How do I repair and change a picture?"""

from __future__ import annotations

import math

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise

# holding what is known


def your_hold(x, x0, known, mask, alpha, sigma):
    x0 = torch.where(mask, known, x0)
    return x0, (x - alpha * x0) / sigma


def in_place(x, x0, known, mask, alpha, sigma):
    x0[mask] = known[mask]
    return x0, (x - alpha * x0) / sigma


def in_numpy(x, x0, known, mask, alpha, sigma):
    x0 = np.where(mask.numpy(), known.numpy(), x0.numpy())
    return x0, (x.numpy() - alpha * x0) / sigma


G = torch.Generator().manual_seed(0)
HELD = *torch.randn(3, 2, 3, 4, 4, generator=G), torch.rand(2, 3, 4, 4, generator=G) < 0.5, 0.8, 0.6


Exercise(
    "13.hold",
    r"""Put what is known into an estimate. `your_hold(x, x0, known, mask, alpha, sigma)` gets a noised picture `x`, the
    denoiser's belief `x0`, what is `known`, and a `mask` that is True where the picture is kept, all of one shape, and two
    numbers. Return the new belief and the new noise, a pair (x0, eps), so that `x = alpha * x0 + sigma * eps` holds.""",
    hints=[
        "torch.where(mask, known, x0) takes the known value where the mask is True.",
        "The noise is not the denoiser's any more: solve x = alpha * x0 + sigma * eps for eps.",
        "eps = (x - alpha * x0) / sigma, with the new x0.",
    ],
    solution=your_hold,
    inputs=[HELD],
    result=("x0", "eps"),
    mistakes={
        "The mask is read the wrong way round: True is where the picture is KEPT.": (
            lambda x, x0, known, mask, *rest: your_hold(x, x0, known, ~mask, *rest)
        ),
        "x0 is still the denoiser's belief: nothing of what is known is in it.": (
            lambda x, x0, known, mask, *rest: your_hold(x, x0, x0, mask, *rest)
        ),
        "x0 is what is known everywhere, in the hole too, where nothing is known.": (
            lambda x, x0, known, mask, *rest: your_hold(x, known, known, mask, *rest)
        ),
        "In the hole x0 should stay what the denoiser believes.": [
            lambda x, x0, known, mask, *rest: your_hold(x, x, known, mask, *rest),
            lambda x, x0, known, mask, *rest: your_hold(x, 0 * x, known, mask, *rest),
        ],
        "The kept values of x0 are not the known ones. x0 is the clean picture: no alpha belongs to it.": (
            lambda x, x0, known, mask, alpha, sigma: your_hold(x, x0, alpha * known, mask, alpha, sigma)
        ),
        "The noise is still the one of the old belief: with the new x0 it does not explain x any more.": (
            lambda x, x0, known, mask, alpha, sigma: (torch.where(mask, known, x0), (x - alpha * x0) / sigma)
        ),
        "alpha * x0 + eps gives x: but the noise has variance 1, and sigma stands before it.": lambda *args: your_hold(
            *args[:-1], 1.0
        ),
        "alpha * x0 + sigma * eps does not give x: what x0 explains has to be subtracted.": (
            lambda x, x0, known, mask, alpha, sigma: your_hold(x, x0, known, mask, -alpha, sigma)
        ),
        "changed what you were given": in_place,
        "Two results were expected": lambda x, x0, known, mask, *args: torch.where(mask, known, x0),
    },
    variants=[in_numpy],
    right="What is known is in, and the two still explain x.",
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
    `(sin((1 - w) * angle) * a + sin(w * angle) * b) / sin(angle)`. (The check looks at the ends, the length on the way,
    and the angle, which has to grow evenly.)""",
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
    right="Same length all the way, and the angle grows evenly.",
)
