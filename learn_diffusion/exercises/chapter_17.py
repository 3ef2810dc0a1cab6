"""Chapter 17, Can a model draw a world without end, and someone to walk in it?"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise

# windows on a ring


def my_ring(parts, lefts, width, weight):
    canvas = torch.zeros(*parts[0].shape[:-1], width)
    weights = torch.zeros(width)
    for part, left in zip(parts, lefts, strict=True):
        columns = (left + torch.arange(len(weight))) % width  # round and round
        canvas[..., columns] += weight * part
        weights[columns] += weight
    return canvas / weights


def _sums(parts, lefts, width, weight):
    """Of the weighted windows, and of the weights."""
    rest = (0, width - len(weight))
    total = sum(F.pad(weight * part, rest).roll(left, -1) for part, left in zip(parts, lefts, strict=True))
    return total, sum(F.pad(weight, rest).roll(left) for left in lefts)


def cuts_off_at_the_edge(parts, lefts, width, weight):
    parts = [part[..., : width - left] for part, left in zip(parts, lefts, strict=True)]
    canvas, weights = torch.zeros(*parts[0].shape[:-1], width), torch.zeros(width)
    for part, left in zip(parts, lefts, strict=True):
        fits = part.shape[-1]
        canvas[..., left : left + fits] += weight[:fits] * part
        weights[left : left + fits] += weight[:fits]
    return canvas / weights


def last_one_wins(parts, lefts, width, weight):
    canvas = torch.zeros(*parts[0].shape[:-1], width)
    for part, left in zip(parts, lefts, strict=True):
        canvas[..., (left + torch.arange(len(weight))) % width] = part
    return canvas


def column_by_column_in_numpy(parts, lefts, width, weight):
    columns = []
    for x in range(width):
        at = [(part.numpy(), (x - left) % width) for part, left in zip(parts, lefts, strict=True)]
        inside = [(weight[i].item(), part[..., i]) for part, i in at if i < len(weight)]
        columns.append(torch.as_tensor(sum(w * p for w, p in inside) / sum(w for w, _ in inside)))
    return torch.stack(columns, dim=-1)


def _windows():
    g = torch.Generator().manual_seed(0)
    canvas, weight = torch.randn(2, 1, 3, 12, generator=g), torch.tensor([0.5, 1.5, 2.5, 2.5, 1.5, 0.5])
    cut = [canvas[..., left : left + 6] for left in (0, 3, 6)]
    disagreeing = [torch.randn(1, 2, 2, 6, generator=g) for _ in range(4)]
    return [(cut, [0, 3, 6], 12, weight), (disagreeing, [0, 3, 6, 9], 12, weight)]  # the last window lies on the first


Exercise(
    "17.ring",
    r"""Make a planet: a world that ends where it began. `my_ring(parts, lefts, width, weight)` gets the answers of several windows, `parts`, one tensor (B, C, H, S) for each; the column where each begins, `lefts`; the width of the canvas; and a weight for each column of a window, (S,).
    Return the canvas (B, C, H, width): in each column the weighted mean of all windows that cover it. A window that runs past the right edge goes on at the left one: column `i` of a window that begins at `left` lies at `(left + i) % width`. (The check cuts windows out of a canvas that it knows.)""",
    hints=[
        "Two canvases of zeros: one collects weight * part, the other collects the weights. Divide at the end.",
        "columns = (left + torch.arange(S)) % width gives the columns of a window; canvas[..., columns] += ... adds to them.",
        "The weights to divide by differ from column to column: a column may be covered by one window, two or three.",
    ],
    solution=my_ring,
    inputs=_windows,
    result="the canvas",
    mistakes={
        "The weighted windows are added up, and never divided by the weights.": lambda *args: _sums(*args)[0],
        "The sum is divided by the number of windows, and not every column is covered by all of them.": (
            lambda parts, *rest: _sums(parts, *rest)[0] / len(parts)
        ),
        "The sum is divided by the sum of one window's weights. Add up the weights that reach each column.": (
            lambda parts, lefts, width, weight: _sums(parts, lefts, width, weight)[0] / weight.sum()
        ),
        "The sum is divided by how many windows cover a column. Divide by the sum of their weights.": (
            lambda *args: _sums(*args)[0] / _sums(*args[:3], torch.ones_like(args[3]))[1]
        ),
        "What runs past the right edge is lost. It should go on at the left edge.": cuts_off_at_the_edge,
        "All windows count the same: the weights have no effect where two windows disagree.": (
            lambda parts, lefts, width, weight: my_ring(parts, lefts, width, torch.ones_like(weight))
        ),
        "Where two windows overlap, one of them wins. Take the weighted mean of both.": last_one_wins,
    },
    variants=[lambda *args: torch.div(*_sums(*args)), column_by_column_in_numpy],
    right="Windows that agree give their canvas back, windows that do not give a weighted mean, all the way round.",
)

# a seam that does not jump


def my_kink(worlds, seams, others):
    def mean_kink(lines):
        s = torch.tensor(lines)
        right = worlds[..., s + 1] - worlds[..., s]
        left = worlds[..., s - 1] - worlds[..., s - 2]
        return (right - left).abs().mean()

    return mean_kink(seams) / mean_kink(others)


def _ratio(of, divide=torch.div):
    """Of the means of of(worlds, lines)."""
    return lambda w, seams, others: divide(of(w, torch.tensor(seams)).mean(), of(w, torch.tensor(others)).mean())


def _kinks(w, s):
    return (w[..., s + 1] - w[..., s]) - (w[..., s - 1] - w[..., s - 2])


def by_slopes_of_all_columns(worlds, seams, others):
    slope = worlds.diff(dim=-1)  # from column i to i + 1
    broken = (slope[..., 2:] - slope[..., :-2]).abs().mean((0, 1, 2))  # [i] is the line at i + 2
    return broken[[s - 2 for s in seams]].mean() / broken[[s - 2 for s in others]].mean()


def in_numpy(worlds, seams, others):
    w = worlds.double().numpy()
    above, below = (sum(abs(_kinks(w, s)).mean() for s in lines) / len(lines) for lines in (seams, others))
    return above / below


ROUGH = torch.randn(4, 1, 5, 15, generator=torch.Generator().manual_seed(0))
ROUGH[..., 8:] += 2.0  # a jump, and no kink

Exercise(
    "17.kink",
    r"""Heights may meet at a seam and the seam still show: the *slope* breaks, and the light on the relief with it. `my_kink(worlds, seams, others)` gets worlds (B, 1, H, W) and two lists of columns. A line at column `s` runs between the columns `s - 1` and `s`. Its kink is the slope on its right, from column `s` to `s + 1`,
    minus the slope on its left, from `s - 2` to `s - 1`. Return one number: the mean of the *absolute* kink over all worlds, rows and lines in `seams`, divided by the same mean over the lines in `others`. (1: no line stands out. The check has worlds whose slopes it knows.)""",
    hints=[
        "worlds[..., [1, 5, 9]] picks columns; a list of columns plus one is [s + 1 for s in seams], or torch.tensor(seams) + 1.",
        "right = worlds[..., s + 1] - worlds[..., s]; left = worlds[..., s - 1] - worlds[..., s - 2].",
        "Take the absolute value before the mean, and divide one mean by the other.",
    ],
    solution=my_kink,
    inputs=[(ROUGH, [4, 8], [6, 11]), (ROUGH[:1], [8], [2, 5, 12])],
    result="the ratio",
    tolerance=1e-3,
    mistakes={
        "It is upside down: the seams go above, the other lines below.": lambda worlds, seams, others: my_kink(
            worlds, others, seams
        ),
        "That is the jump of the heights across the line. The kink compares the slopes beside it.": _ratio(
            lambda w, s: (w[..., s] - w[..., s - 1]).abs()
        ),
        "The left slope runs across the line, from s - 1 to s. It should end at s - 1, before the line.": _ratio(
            lambda w, s: (w[..., s + 1] - 2 * w[..., s] + w[..., s - 1]).abs()
        ),
        "The two slopes are added. A kink is their difference.": _ratio(
            lambda w, s: (w[..., s + 1] - w[..., s] + w[..., s - 1] - w[..., s - 2]).abs()
        ),
        "Every line is one column too far right: line s lies between the columns s - 1 and s.": _ratio(
            lambda w, s: _kinks(w, s + 1).abs()
        ),
        "That is the difference of the two means. Divide the one by the other.": _ratio(
            lambda w, s: _kinks(w, s).abs(), torch.sub
        ),
        "The kinks are squared. Take their absolute value.": _ratio(lambda w, s: _kinks(w, s).square()),
        "Kinks up and kinks down cancel: take the absolute value of each, and then the mean.": [
            _ratio(_kinks),
            lambda *args: _ratio(_kinks)(*args).abs(),
        ],
    },
    variants=[by_slopes_of_all_columns, in_numpy],
    right="It finds broken slopes where the heights meet, and does not mind a jump.",
)
