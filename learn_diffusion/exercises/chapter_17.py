"""Chapter 17, Can a model draw a world without end, and someone to walk in it?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# windows on a ring


_WEIGHT = torch.tensor([0.5, 1.5, 2.5, 2.5, 1.5, 0.5])


def _laps(lefts, width, size):
    return [(left + torch.arange(size)) % width for left in lefts]


def _windows_of(canvas, lefts, size):
    return [canvas[..., columns].clone() for columns in _laps(lefts, canvas.shape[-1], size)]


def _collect(parts, lefts, width, weight):
    canvas, weights, windows = torch.zeros(*parts[0].shape[:-1], width), torch.zeros(width), torch.zeros(width)
    for part, columns in zip(parts, _laps(lefts, width, len(weight)), strict=True):
        canvas[..., columns] += weight * part
        weights[columns] += weight
        windows[columns] += 1
    return canvas, weights, windows


def _mean(parts, lefts, width, weight):
    """The right answer."""
    total, weights, _ = _collect(parts, lefts, width, weight)
    return total / weights


def _check_ring(my_ring):
    g = torch.Generator().manual_seed(0)
    canvas = torch.randn(2, 1, 3, 12, generator=g)
    on_it, around = [0, 3, 6], [0, 3, 6, 9]  # the second goes round: its last window lies on the first

    def of(parts, lefts, width):
        out = call(my_ring, [part.clone() for part in parts], list(lefts), width, _WEIGHT.clone())
        return numbers(out, (*parts[0].shape[:-1], width), "the canvas")

    parts = _windows_of(canvas, on_it, 6)
    plain = of(parts, on_it, 12)
    if not agrees(plain, canvas):
        total, _, windows = _collect(parts, on_it, 12, _WEIGHT)
        if agrees(plain, total):
            raise IncorrectAnswer("The weighted windows are added up, and never divided by the weights.")
        if agrees(plain, total / len(parts)):
            raise IncorrectAnswer(
                "The sum is divided by the number of windows, and not every column is covered by all of them."
            )
        if agrees(plain, total / _WEIGHT.sum()):
            raise IncorrectAnswer(
                "The sum is divided by the sum of one window's weights. Add up the weights that reach each column."
            )
        if agrees(plain, total / windows):
            raise IncorrectAnswer(
                "The sum is divided by how many windows cover a column. Divide by the sum of their weights."
            )
        raise IncorrectAnswer("Windows cut out of one canvas do not give that canvas back.")
    parts = [torch.randn(1, 2, 2, 6, generator=g) for _ in around]  # windows that do not agree with each other
    out, right = of(parts, around, 12), _mean(parts, around, 12, _WEIGHT)
    if agrees(out, right):
        return "Windows that agree give their canvas back, windows that do not give a weighted mean, all the way round."
    if agrees(out, cuts_off_at_the_edge(parts, around, 12, _WEIGHT)):
        raise IncorrectAnswer("What runs past the right edge is lost. It should go on at the left edge.")
    if agrees(out, _mean(parts, around, 12, torch.ones(6))):
        raise IncorrectAnswer("All windows count the same: the weights have no effect where two windows disagree.")
    if agrees(out, last_one_wins(parts, around, 12, _WEIGHT)):
        raise IncorrectAnswer("Where two windows overlap, one of them wins. Take the weighted mean of both.")
    raise IncorrectAnswer(f"The first value should be {right[0, 0, 0, 0]:.3f}, and is {out[0, 0, 0, 0]:.3f}.")


def my_ring(parts, lefts, width, weight):
    canvas = torch.zeros(*parts[0].shape[:-1], width)
    weights = torch.zeros(width)
    for part, left in zip(parts, lefts, strict=True):
        columns = (left + torch.arange(len(weight))) % width  # round and round
        canvas[..., columns] += weight * part
        weights[columns] += weight
    return canvas / weights


def only_adds(parts, lefts, width, weight):
    return _collect(parts, lefts, width, weight)[0]


def divides_by_all_windows(parts, lefts, width, weight):
    return _collect(parts, lefts, width, weight)[0] / len(parts)


def divides_by_one_windows_weights(parts, lefts, width, weight):
    return _collect(parts, lefts, width, weight)[0] / weight.sum()


def divides_by_cover(parts, lefts, width, weight):
    canvas, _, windows = _collect(parts, lefts, width, weight)
    return canvas / windows


def cuts_off_at_the_edge(parts, lefts, width, weight):
    canvas, weights = torch.zeros(*parts[0].shape[:-1], width), torch.zeros(width)
    for part, left in zip(parts, lefts, strict=True):
        fits = min(len(weight), width - left)
        canvas[..., left : left + fits] += (weight * part)[..., :fits]
        weights[left : left + fits] += weight[:fits]
    return canvas / weights


def weights_ignored(parts, lefts, width, weight):
    return my_ring(parts, lefts, width, torch.ones_like(weight))


def last_one_wins(parts, lefts, width, weight):
    canvas = torch.zeros(*parts[0].shape[:-1], width)
    for part, columns in zip(parts, _laps(lefts, width, len(weight)), strict=True):
        canvas[..., columns] = part
    return canvas


def rolled(parts, lefts, width, weight):
    total, weights = 0, 0
    for part, left in zip(parts, lefts, strict=True):
        rest = width - len(weight)
        total = total + torch.nn.functional.pad(weight * part, (0, rest)).roll(left, -1)
        weights = weights + torch.nn.functional.pad(weight, (0, rest)).roll(left)
    return total / weights


def column_by_column_in_numpy(parts, lefts, width, weight):
    arrays, columns = [part.numpy() for part in parts], []
    for x in range(width):
        inside = [
            (p, (x - left) % width) for p, left in zip(arrays, lefts, strict=True) if (x - left) % width < len(weight)
        ]
        columns.append(sum(weight[i].item() * p[..., i] for p, i in inside) / sum(weight[i].item() for _, i in inside))
    return torch.stack([torch.as_tensor(c) for c in columns], dim=-1)


ring = Exercise(
    "17.ring",
    r"""Make a planet: a world that ends where it began. `my_ring(parts, lefts, width, weight)` gets the answers of several windows, `parts`, one tensor (B, C, H, S) for each; the column where each begins, `lefts`; the width of the canvas; and a weight for each column of a window, (S,).
    Return the canvas (B, C, H, width): in each column the weighted mean of all windows that cover it. A window that runs past the right edge goes on at the left one: column `i` of a window that begins at `left` lies at `(left + i) % width`. (The check cuts windows out of a canvas that it knows.)""",
    hints=[
        "Two canvases of zeros: one collects weight * part, the other collects the weights. Divide at the end.",
        "columns = (left + torch.arange(S)) % width gives the columns of a window; canvas[..., columns] += ... adds to them.",
        "The weights to divide by differ from column to column: a column may be covered by one window, two or three.",
    ],
    solution=my_ring,
    check=_check_ring,
    mistakes={
        "never divided": only_adds,
        "the number of windows": divides_by_all_windows,
        "one window's weights": divides_by_one_windows_weights,
        "how many windows cover": divides_by_cover,
        "past the right edge is lost": cuts_off_at_the_edge,
        "have no effect": weights_ignored,
        "one of them wins": last_one_wins,
    },
    variants=[rolled, column_by_column_in_numpy],
)


# a seam that does not jump


def _means(worlds, lines, by):
    s = torch.tensor(lines)
    return by(worlds.double(), s)


def _right(w, s):
    return ((w[..., s + 1] - w[..., s]) - (w[..., s - 1] - w[..., s - 2])).abs().mean()


def _check_kink(my_kink):
    g = torch.Generator().manual_seed(0)
    rough = torch.randn(4, 1, 5, 15, generator=g)
    rough[..., 8:] += 2.0  # a jump, and no kink
    for world, seams, others in ((rough, [4, 8], [6, 11]), (rough[:1], [8], [2, 5, 12])):
        out = numbers(call(my_kink, world.clone(), list(seams), list(others)), (), "the ratio").item()

        def ratio(by, world=world, seams=seams, others=others):
            return (_means(world, seams, by) / _means(world, others, by)).item()

        right = ratio(_right)
        if agrees(out, right, 1e-3):
            continue
        if agrees(out, 1 / right, 1e-3):
            raise IncorrectAnswer("It is upside down: the seams go above, the other lines below.")
        if agrees(out, ratio(lambda w, s: (w[..., s] - w[..., s - 1]).abs().mean()), 1e-3):
            raise IncorrectAnswer(
                "That is the jump of the heights across the line. The kink compares the slopes beside it."
            )
        if agrees(out, ratio(lambda w, s: (w[..., s + 1] - 2 * w[..., s] + w[..., s - 1]).abs().mean()), 1e-3):
            raise IncorrectAnswer(
                "The left slope runs across the line, from s - 1 to s. It should end at s - 1, before the line."
            )
        if agrees(
            out, ratio(lambda w, s: ((w[..., s + 1] - w[..., s]) + (w[..., s - 1] - w[..., s - 2])).abs().mean()), 1e-3
        ):
            raise IncorrectAnswer("The two slopes are added. A kink is their difference.")
        if agrees(
            out, ratio(lambda w, s: (w[..., s + 2] - w[..., s + 1] - w[..., s] + w[..., s - 1]).abs().mean()), 1e-3
        ):
            raise IncorrectAnswer(
                "Every line is one column too far right: line s lies between the columns s - 1 and s."
            )
        if agrees(out, _means(world, seams, _right) - _means(world, others, _right), 1e-3):
            raise IncorrectAnswer("That is the difference of the two means. Divide the one by the other.")
        if agrees(out, ratio(lambda w, s: _kinks(w, s).square().mean()), 1e-3):
            raise IncorrectAnswer("The kinks are squared. Take their absolute value.")
        signed = ratio(lambda w, s: _kinks(w, s).mean())
        if agrees(abs(out), abs(signed), 1e-3):
            raise IncorrectAnswer("Kinks up and kinks down cancel: take the absolute value of each, and then the mean.")
        raise IncorrectAnswer(f"The ratio should be {right:.3f}, and is {out:.3f}.")
    return "It finds broken slopes where the heights meet, and does not mind a jump."


def _kinks(w, s):
    return (w[..., s + 1] - w[..., s]) - (w[..., s - 1] - w[..., s - 2])


def my_kink(worlds, seams, others):
    def mean_kink(lines):
        s = torch.tensor(lines)
        right = worlds[..., s + 1] - worlds[..., s]
        left = worlds[..., s - 1] - worlds[..., s - 2]
        return (right - left).abs().mean()

    return mean_kink(seams) / mean_kink(others)


def upside_down(worlds, seams, others):
    return my_kink(worlds, others, seams)


def the_jump(worlds, seams, others):
    s, o = torch.tensor(seams), torch.tensor(others)
    jump = (worlds[..., s] - worlds[..., s - 1]).abs().mean()
    return jump / (worlds[..., o] - worlds[..., o - 1]).abs().mean()


def second_difference(worlds, seams, others):
    def of(s):
        return (worlds[..., s + 1] - 2 * worlds[..., s] + worlds[..., s - 1]).abs().mean()

    return of(torch.tensor(seams)) / of(torch.tensor(others))


def slopes_added(worlds, seams, others):
    def of(s):
        return (worlds[..., s + 1] - worlds[..., s] + worlds[..., s - 1] - worlds[..., s - 2]).abs().mean()

    return of(torch.tensor(seams)) / of(torch.tensor(others))


def one_column_off(worlds, seams, others):
    return my_kink(worlds, [s + 1 for s in seams], [s + 1 for s in others])


def difference_of_means(worlds, seams, others):
    s, o = torch.tensor(seams), torch.tensor(others)
    return _kinks(worlds, s).abs().mean() - _kinks(worlds, o).abs().mean()


def squared(worlds, seams, others):
    s, o = torch.tensor(seams), torch.tensor(others)
    return _kinks(worlds, s).square().mean() / _kinks(worlds, o).square().mean()


def signed(worlds, seams, others):
    s, o = torch.tensor(seams), torch.tensor(others)
    return _kinks(worlds, s).mean() / _kinks(worlds, o).mean()


def by_slopes_of_all_columns(worlds, seams, others):
    slope = worlds.diff(dim=-1)  # from column i to i + 1
    broken = (slope[..., 2:] - slope[..., :-2]).abs().mean((0, 1, 2))  # [i] is the line at i + 2
    return broken[[s - 2 for s in seams]].mean() / broken[[s - 2 for s in others]].mean()


def in_numpy(worlds, seams, others):
    w = worlds.double().numpy()
    found = [
        [abs((w[..., s + 1] - w[..., s]) - (w[..., s - 1] - w[..., s - 2])).mean() for s in lines]
        for lines in (seams, others)
    ]
    return sum(found[0]) / len(found[0]) / (sum(found[1]) / len(found[1]))


kink = Exercise(
    "17.kink",
    r"""Heights may meet at a seam and the seam still show: the *slope* breaks, and the light on the relief with it. `my_kink(worlds, seams, others)` gets worlds (B, 1, H, W) and two lists of columns. A line at column `s` runs between the columns `s - 1` and `s`. Its kink is the slope on its right, from column `s` to `s + 1`,
    minus the slope on its left, from `s - 2` to `s - 1`. Return one number: the mean of the *absolute* kink over all worlds, rows and lines in `seams`, divided by the same mean over the lines in `others`. (1: no line stands out. The check has worlds whose slopes it knows.)""",
    hints=[
        "worlds[..., [1, 5, 9]] picks columns; a list of columns plus one is [s + 1 for s in seams], or torch.tensor(seams) + 1.",
        "right = worlds[..., s + 1] - worlds[..., s]; left = worlds[..., s - 1] - worlds[..., s - 2].",
        "Take the absolute value before the mean, and divide one mean by the other.",
    ],
    solution=my_kink,
    check=_check_kink,
    mistakes={
        "upside down": upside_down,
        "the jump of the heights": the_jump,
        "runs across the line": second_difference,
        "slopes are added": slopes_added,
        "one column too far": one_column_off,
        "difference of the two means": difference_of_means,
        "squared": squared,
        "absolute value of each": signed,
    },
    variants=[by_slopes_of_all_columns, in_numpy],
)
