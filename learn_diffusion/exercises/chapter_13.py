"""Chapter 13, How do I repair and change a picture?"""

from __future__ import annotations

import math

import numpy as np
import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, pair

holding = Exercise(
    "13.hold",
    r"""Put what is known into an estimate. `your_hold(x, x0, known, mask, alpha, sigma)` gets a noised picture `x`, the
    denoiser's belief `x0`, what is `known`, and a `mask` that is True where the picture is kept, all of one shape, and two
    numbers. Return the new belief and the new noise, a pair (x0, eps), so that `x = alpha * x0 + sigma * eps` holds.""",
    hints=[
        "torch.where(mask, known, x0) takes the known value where the mask is True.",
        "The noise is not the denoiser's any more: solve x = alpha * x0 + sigma * eps for eps.",
        "eps = (x - alpha * x0) / sigma, with the new x0.",
    ],
)


@holding.oracle
def _(your_hold):
    g = torch.Generator().manual_seed(0)
    shape, alpha, sigma = (2, 3, 4, 4), 0.8, 0.6
    x, believed, known = (torch.randn(shape, generator=g) for _ in range(3))
    mask = torch.rand(shape, generator=g) < 0.5
    given = believed.clone(), known.clone()
    out = call(your_hold, x, believed, known, mask, alpha, sigma)
    if not (torch.equal(believed, given[0]) and torch.equal(known, given[1])):
        raise IncorrectAnswer("The tensors you were given are changed themselves. Make a new one, with torch.where.")
    x0, eps = pair(out, "the belief and the noise")
    x0, eps = numbers(x0, shape, "x0"), numbers(eps, shape, "eps")
    if agrees(x0[mask], believed[mask]) and agrees(x0[~mask], known[~mask]):
        raise IncorrectAnswer("The mask is read the wrong way round: True is where the picture is KEPT.")
    if agrees(x0, believed):
        raise IncorrectAnswer("x0 is still the denoiser's belief: nothing of what is known is in it.")
    if agrees(x0, known):
        raise IncorrectAnswer("x0 is what is known everywhere, in the hole too, where nothing is known.")
    if not agrees(x0[mask], known[mask]):
        noised = agrees(x0[mask], (alpha * known)[mask])
        raise IncorrectAnswer(
            "The kept values of x0 are not the known ones."
            + (" x0 is the clean picture: no alpha belongs to it." if noised else "")
        )
    if not agrees(x0[~mask], believed[~mask]):
        raise IncorrectAnswer("In the hole x0 should stay what the denoiser believes.")
    if agrees(eps, (x - alpha * believed) / sigma):
        raise IncorrectAnswer(
            "The noise is still the one of the old belief: with the new x0 it does not explain x any more."
        )
    if agrees(eps, x - alpha * x0):
        raise IncorrectAnswer("alpha * x0 + eps gives x: but the noise has variance 1, and sigma stands before it.")
    if not agrees(alpha * x0 + sigma * eps, x):
        raise IncorrectAnswer("alpha * x0 + sigma * eps does not give x.")
    return "What is known is in, and the two still explain x."


@holding.answer
def your_hold(x, x0, known, mask, alpha, sigma):
    x0 = torch.where(mask, known, x0)
    return x0, (x - alpha * x0) / sigma


@holding.mutant("the wrong way round")
def mask_turned(x, x0, known, mask, alpha, sigma):
    x0 = torch.where(mask, x0, known)
    return x0, (x - alpha * x0) / sigma


@holding.mutant("still the one of the old belief")
def noise_left(x, x0, known, mask, alpha, sigma):
    return torch.where(mask, known, x0), (x - alpha * x0) / sigma


@holding.mutant("sigma stands before it")
def sigma_forgotten(x, x0, known, mask, alpha, sigma):
    x0 = torch.where(mask, known, x0)
    return x0, x - alpha * x0


@holding.mutant("no alpha belongs to it")
def downsample(x, x0, known, mask, alpha, sigma):
    x0 = torch.where(mask, alpha * known, x0)
    return x0, (x - alpha * x0) / sigma


@holding.mutant("changed themselves")
def in_place(x, x0, known, mask, alpha, sigma):
    x0[mask] = known[mask]
    return x0, (x - alpha * x0) / sigma


@holding.mutant("nothing of what is known")
def not_held(x, x0, known, mask, alpha, sigma):
    return x0, (x - alpha * x0) / sigma


@holding.mutant("does not give x")
def wrong_sign(x, x0, known, mask, alpha, sigma):
    x0 = torch.where(mask, known, x0)
    return x0, (x + alpha * x0) / sigma


@holding.mutant("Two results were expected")
def belief_alone(x, x0, known, mask, alpha, sigma):
    return torch.where(mask, known, x0)


@holding.variant
def by_arithmetic(x, x0, known, mask, alpha, sigma):
    kept = mask.double()
    held = kept * known.double() + (1 - kept) * x0.double()
    return [held, (x.double() - alpha * held) / sigma]


@holding.variant
def in_numpy(x, x0, known, mask, alpha, sigma):
    held = np.where(mask.numpy(), known.numpy(), x0.numpy())
    return held, (x.numpy() - alpha * held) / sigma


arcs = Exercise(
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
)


@arcs.oracle
def _(your_arc):
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randn(3, 8, 8, generator=g).double() for _ in range(2))
    b = 0.5 * a + b  # not quite at a right angle
    a, b = a / a.norm() * 14, b / b.norm() * 14

    def ask(w, one=a, other=b):
        out = call(your_arc, one.clone(), other.clone(), w)
        if isinstance(out, torch.Tensor) and out.is_floating_point() and out.isnan().any():
            raise IncorrectAnswer(
                "The result is not a number (NaN). acos wants a cosine from -1 to 1: is the product divided by both "
                "lengths, `a.norm()` and `b.norm()`?"
            )
        return numbers(out, tuple(one.shape), "the result")

    start, end, half = ask(0.0), ask(1.0), ask(0.5)
    if agrees(start, b) and agrees(end, a):
        raise IncorrectAnswer("w = 0 gives b and w = 1 gives a: the ends are swapped.")
    if agrees(half, (a + b) / 2):
        raise IncorrectAnswer(
            f"Halfway has the length {half.norm():.1f}, both ends {a.norm():.1f}: that is the straight line."
        )
    if not (agrees(start, a) and agrees(end, b)):
        scale = start.norm() / a.norm()
        more = f" The length at w = 0 is {scale:.2f} of a's: is everything divided by the sine of the angle?"
        raise IncorrectAnswer("w = 0 should give a, and w = 1 should give b." + (more if abs(scale - 1) > 0.01 else ""))
    if not agrees(half.norm(), a.norm(), 1e-3):
        cosine = float((a * b).sum() / (a.norm() * b.norm()))
        more = ""
        if agrees(half, (a + b) / math.sqrt(2)):
            more = " The root of 2 fits only where the two are at right angles."
        elif agrees(half, (a + b) * math.sin(cosine / 2) / math.sin(cosine)):
            more = " The cosine is taken for the angle: torch.acos is missing."
        raise IncorrectAnswer(f"Halfway has the length {half.norm():.2f}, both ends {a.norm():.2f}.{more}")

    def angle(x):
        return math.acos(float((x * a).sum() / (x.norm() * a.norm())))

    if not agrees(angle(ask(0.25)), angle(b) / 4, 1e-3):
        raise IncorrectAnswer("The length is right, but a quarter of the way is not a quarter of the angle.")
    along = ask(0.3, a, 2 * b)
    theta = angle(b)
    if not agrees(along, (math.sin(0.7 * theta) * a + math.sin(0.3 * theta) * 2 * b) / math.sin(theta), 1e-3):
        raise IncorrectAnswer("Where the lengths differ it is not the formula: divide the product by both lengths.")
    return "Same length all the way, and the angle grows evenly."


@arcs.answer
def your_arc(a, b, w):
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return (torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(angle)


@arcs.mutant("that is the straight line")
def line(a, b, w):
    return a + w * (b - a)


@arcs.mutant("the ends are swapped")
def swapped(a, b, w):
    return your_arc(b, a, w)


@arcs.mutant("divided by the sine")
def not_divided(a, b, w):
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    return torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b


@arcs.mutant("right angles")
def right_angle_assumed(a, b, w):
    return math.cos(w * math.pi / 2) * a + math.sin(w * math.pi / 2) * b


@arcs.mutant("acos is missing")
def cosine_for_the_angle(a, b, w):
    angle = (a * b).sum() / (a.norm() * b.norm())
    return (torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(angle)


@arcs.mutant("acos wants a cosine")
def length_of_the_tensor(a, b, w):
    angle = torch.acos((a * b).sum() / (len(a) * len(b)))
    return (torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(angle)


@arcs.mutant("not a quarter of the angle")
def line_made_long(a, b, w):
    x = a + w * (b - a)
    return x / x.norm() * a.norm()


@arcs.mutant("divide the product by both lengths")
def one_length(a, b, w):
    angle = torch.acos(((a * b).sum() / (a * a).sum()).clamp(-1, 1))
    return (torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(angle)


@arcs.variant
def in_float32(a, b, w):
    u, v = a.float().flatten(), b.float().flatten()
    angle = math.acos(float(torch.dot(u, v) / u.norm() / v.norm()))
    return (math.sin(angle - w * angle) * a.float() + math.sin(w * angle) * b.float()) / math.sin(angle)


@arcs.variant
def in_numpy_too(a, b, w):
    a, b = a.numpy(), b.numpy()
    angle = np.arccos(np.sum(a * b) / np.linalg.norm(a.ravel()) / np.linalg.norm(b.ravel()))
    return (np.sin((1 - w) * angle) * a + np.sin(w * angle) * b) / np.sin(angle)
