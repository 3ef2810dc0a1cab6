"""Chapter 28, What can be learned from a single picture?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise

# a canvas in overlapping windows


def your_wide(believe, x, size, step):
    total, times = torch.zeros_like(x), torch.zeros_like(x)
    for left in range(0, x.shape[-1] - size + 1, step):
        total[..., left : left + size] += believe(x[..., left : left + size])
        times[..., left : left + size] += 1
    return total / times


def _windows(believe, x, size, step, last=0):
    """Every window's left edge and answer; `last` moves the end of the range."""
    lefts = range(0, x.shape[-1] - size + 1 + last, step)
    return [(left, believe(x[..., left : left + size])) for left in lefts]


def _painted(believe, x, size, step, order=1):
    wide = torch.zeros_like(x)
    for left, x0 in _windows(believe, x, size, step)[::order]:
        wide[..., left : left + size] = x0
    return wide


def _summed(believe, x, size, step, last=0):
    total = torch.zeros_like(x)
    for left, x0 in _windows(believe, x, size, step, last):
        total[..., left : left + size] += x0
    return total


def _halved(believe, x, size, step):
    """The mean of what is there already and what comes: the last window counts most."""
    wide, seen = torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
    for left, x0 in _windows(believe, x, size, step):
        old = wide[..., left : left + size].clone()
        was = seen[..., left : left + size].clone()
        wide[..., left : left + size] = torch.where(was, (old + x0) / 2, x0)
        seen[..., left : left + size] = True
    return wide


def _by_fold(believe, x, size, step):
    stacked = torch.stack([x0 for _, x0 in _windows(believe, x, size, step)])
    columns = torch.arange(x.shape[-1])
    wide = torch.empty_like(x)
    for column in columns.tolist():
        over = [k for k in range(len(stacked)) if 0 <= column - k * step < size]
        wide[..., column] = torch.stack([stacked[k][..., column - k * step] for k in over]).mean(0)
    return wide


def _in_rows(believe, x, size, step):
    """All windows in one batch, as a GPU likes it."""
    lefts = range(0, x.shape[-1] - size + 1, step)
    x0 = believe(torch.cat([x[..., left : left + size] for left in lefts])).split(len(x))
    times = sum(torch.nn.functional.pad(torch.ones(size), (left, x.shape[-1] - left - size)) for left in lefts)
    return sum(
        torch.nn.functional.pad(part, (left, x.shape[-1] - left - size)) for left, part in zip(lefts, x0, strict=True)
    ) / times  # fmt: skip


def _believe(x):
    """A denoiser that knows where in the window a pixel lies, as every network near an edge does."""
    return torch.tanh(x) * torch.linspace(0.5, 1.5, x.shape[-1]) + 0.1 * x.mean(-1, keepdim=True)


def _canvases():
    g = torch.Generator().manual_seed(0)
    wide = torch.randn(2, 3, 8, 23, generator=g)
    return [(_believe, wide, 8, 3), (_believe, wide[..., :20], 8, 4)]


Exercise(
    "28.canvases",
    """A model that knows pictures of one width draws a canvas that is wider. `your_wide(believe, x, size, step)` gets a noised canvas `x`
    (B, C, H, W) and a function: `believe(window)` takes (B, C, H, size) and returns what the model believes of it, in the same shape. Ask it for the windows whose left
    edge is at column 0, `step`, 2 `step`, and so on, up to the one that ends with the canvas (the sizes fit). Where windows overlap, take the mean of all that say something about that pixel.
    Return the belief about the whole canvas, (B, C, H, W).""",
    hints=[
        "The left edges: range(0, x.shape[-1] - size + 1, step). A window: x[..., left : left + size].",
        "Keep two tensors: the sum of all answers at each pixel, and how many there were.",
        "After the loop, one divided by the other.",
    ],
    solution=your_wide,
    inputs=_canvases,
    mistakes={
        "Where windows overlap, their answers are added up: divide by how many there are, pixel by pixel.": _summed,
        "Where windows overlap, the last one wins, and a seam shows: take the mean.": _painted,
        "Where windows overlap, the first one wins, and a seam shows: take the mean.": lambda *args: _painted(
            *args, order=-1
        ),
        "Everything is divided by the number of windows. At the left and right edge there is only one.": lambda *args: (
            _summed(*args) / len(_windows(*args))
        ),
        "The last window is missing: the range has to reach the one that ends with the canvas.": lambda *args: (
            _summed(*args, last=-1) / _summed(torch.ones_like, *args[1:], last=-1).clamp_min(1)
        ),
        "The windows do not overlap: their left edges are `step` apart, not `size`.": lambda believe, x, size, step: (
            _painted(believe, x, size, size)
        ),
        "With three windows over one pixel, the last counts half. Each of them should count the same.": _halved,
        "The canvas is averaged before the model is asked: ask it for each window of x.": lambda believe, x, size, step: (
            believe(your_wide(lambda window: window, x, size, step))
        ),
    },
    variants=[_by_fold, _in_rows],
    result="the belief",
    right="No seams, whatever the width. That is how models of one size draw panoramas (MultiDiffusion).",
)

# a copy detector


def your_ratio(pieces, crops, places):
    far = torch.cdist(pieces.flatten(1), crops.flatten(1))  # (N, M)
    nearest, index = far.min(dim=1)
    apart = (places - places[index][:, None]).abs()  # (N, M, 2)
    overlaps = (apart < crops.shape[-1]).all(dim=-1)
    rival = far.masked_fill(overlaps, float("inf")).min(dim=1).values
    return nearest / rival


def _ratio(pieces, crops, places, overlap=None, power=1, p=2.0):
    """With another idea of what overlaps, or of what is far."""
    far = torch.cdist(pieces.flatten(1), crops.flatten(1), p=p) ** power
    nearest, index = far.min(dim=1)
    apart = (places - places[index][:, None]).abs()
    out = torch.zeros_like(far, dtype=torch.bool) if overlap is None else overlap(apart, crops.shape[-1])
    return nearest / far.masked_fill(out, float("inf")).min(dim=1).values


def _next_best(pieces, crops, places):
    two = torch.cdist(pieces.flatten(1), crops.flatten(1)).topk(2, largest=False).values
    return two[:, 0] / two[:, 1]


def _one_by_one(pieces, crops, places):
    ratios, side = [], crops.shape[-1]
    for piece in pieces:
        far = [float((piece - crop).square().sum().sqrt()) for crop in crops]
        best = min(range(len(far)), key=far.__getitem__)
        top, left = places[best].tolist()
        others = [
            d for d, (a, b) in zip(far, places.tolist(), strict=True) if abs(a - top) >= side or abs(b - left) >= side
        ]
        ratios.append(far[best] / min(others))
    return torch.tensor(ratios)


def _photograph():
    """A smooth picture of 12x15 with all its crops of 4x4; pieces near some of them, and one that is like none."""
    g = torch.Generator().manual_seed(1)
    rough = torch.randn(1, 2, 12, 15, generator=g)
    picture = torch.nn.functional.avg_pool2d(rough, 3, 1, 1)[0]
    every = picture.unfold(1, 4, 1).unfold(2, 4, 1)
    crops = every.flatten(1, 2).movedim(1, 0)
    places = torch.cartesian_prod(torch.arange(9), torch.arange(12))
    at = torch.tensor([0, 40, 77, 100])
    pieces = torch.cat([crops[at] + 0.1 * torch.randn(4, 2, 4, 4, generator=g), torch.randn(2, 2, 4, 4, generator=g)])
    return [(pieces, crops, places)]


Exercise(
    "28.copies",
    r"""Write the copy detector. `pieces` (N, C, s, s) were drawn; `crops` (M, C, s, s) are all crops of the photograph, and row i of `places` (M, 2) holds the row and
    column of the upper left corner of crop i. For each piece, find the nearest crop, by the Euclidean distance over all its values. Then find the nearest among the crops that do *not overlap* that one. Return
    the first distance over the second, (N,). Two crops of side s overlap when their rows are less than s apart *and* their columns are.""",
    hints=[
        "torch.cdist(pieces.flatten(1), crops.flatten(1)) holds all distances, (N, M); .min(dim=1) gives values and indices.",
        "(places - places[index][:, None]).abs() is (N, M, 2): how many rows and columns each crop lies from the nearest.",
        "Set the distance to infinity where both are below s (masked_fill), and take the minimum again.",
    ],
    solution=your_ratio,
    inputs=_photograph,
    mistakes={
        "The second nearest crop is the nearest one, moved by a pixel: it shows the same, so nothing ever counts as a copy.": (
            _next_best
        ),
        "All ratios are 1: the nearest crop is still among the rivals.": _ratio,
        "Crops with the same rows are left out even where their columns are far apart: *both* have to be near.": (
            lambda *args: _ratio(*args, overlap=lambda apart, side: (apart < side).any(-1))
        ),
        "Crops that touch do not overlap: less than s apart, not s or less.": lambda *args: _ratio(
            *args, overlap=lambda apart, side: (apart <= side).all(-1)
        ),
        "Only crops less than s / 2 apart are left out.": lambda *args: _ratio(
            *args, overlap=lambda apart, side: (apart < side / 2).all(-1)
        ),
        "These are ratios of squared distances: take the root.": lambda *args: _ratio(
            *args, power=2, overlap=lambda apart, side: (apart < side).all(-1)
        ),
        "The Euclidean distance is asked for, and not the sum of absolute differences.": lambda *args: _ratio(
            *args, p=1.0, overlap=lambda apart, side: (apart < side).all(-1)
        ),
        "Upside down: the nearest distance goes above.": lambda *args: 1 / your_ratio(*args),
        "These are distances: divide the first by the second.": lambda pieces, crops, places: (
            torch.cdist(pieces.flatten(1), crops.flatten(1)).min(dim=1).values
        ),
    },
    variants=[_one_by_one],
    result="the ratios",
    right="Near 0: a copy. Near 1: like several places, or like none; so it is a detector of copies, not of novelty.",
)
