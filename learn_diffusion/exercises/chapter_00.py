"""Chapter 00, What will I be able to make?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise


def first_step(decided):
    return (~decided).sum(dim=0)


Exercise(
    "00.decided",
    """Some digits change their mind on the way. `decided` has one row for each of the 50 steps and one column for each of
    the 100 walks; it is True from the step on after which the reading never changes. Write `first_step(decided)`: for each
    walk, the number of the first step at which it is decided, counted from 0. (The check has a smaller table: take the
    sizes from `decided.shape`.)""",
    hints=[
        "Once a walk is decided it stays decided: down its column come first only False, then only True. (`argmax` may refuse "
        "a tensor of True and False; `.int()` turns it into 1 and 0.)",
        "How many False stand before the first True? Sums count True as 1.",
    ],
    solution=first_step,
    inputs=[(torch.arange(10)[:, None] >= torch.tensor([0, 3, 7, 9, 1, 0]),)],
    mistakes={
        "Every step is one too late: count from 0, as Python does.": lambda decided: (~decided).sum(dim=0) + 1,
        "This counts the steps at which a walk is decided; you want those before.": lambda decided: decided.sum(dim=0),
        "This counts from the end of the walk; count from its start.": lambda decided: decided.sum(dim=0) - 1,
        "Every step is one too early: this is the last step at which the walk was still open.": lambda decided: (
            (~decided).sum(dim=0) - 1
        ),
        "Count along the steps, and not along the walks.": lambda decided: (~decided).sum(dim=1),
    },
    variants=[
        lambda decided: decided.int().argmax(dim=0),
        lambda decided: [next(i for i, row in enumerate(decided[:, k]) if row) for k in range(decided.shape[1])],
    ],
    right="Each walk has its moment.",
)
