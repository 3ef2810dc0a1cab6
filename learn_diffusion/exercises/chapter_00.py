"""Chapter 00, What will I be able to make?"""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

decided = Exercise(
    "00.decided",
    """Some digits change their mind on the way. `decided` has one row for each of the 50 steps and one column for each of
    the 300 walks; it is True from the step on after which the reading never changes. Write `first_step(decided)`: for each
    walk, the number of the first step at which it is decided, counted from 0.""",
    hints=[
        "Once a walk is decided it stays decided: down its column come first only False, then only True.",
        "How many False stand before the first True? Sums count True as 1.",
    ],
)


@decided.oracle
def _(first_step):
    expected = torch.tensor([0, 3, 7, 9, 1, 0])
    table = torch.arange(10)[:, None] >= expected  # (10, 6)
    out = numbers(call(first_step, table), (6,))
    if agrees(out, expected + 1):
        raise IncorrectAnswer("Every step is one too late: count from 0, as Python does.")
    if agrees(out, 10 - expected):
        raise IncorrectAnswer("This counts the steps at which a walk is decided; you want those before.")
    if agrees(out, 9 - expected):
        raise IncorrectAnswer("This counts from the end of the walk; count from its start.")
    if agrees(out, expected - 1):
        raise IncorrectAnswer("Every step is one too early: this is the last step at which the walk was still open.")
    if not agrees(out, expected):
        raise IncorrectAnswer(
            f"For walks decided at steps {expected.tolist()} this gives {[round(v) for v in out.tolist()]}."
        )
    return "Each walk has its moment."


@decided.answer
def first_step(decided):
    return (~decided).sum(dim=0)


@decided.mutant("one too late")
def counts_from_one(decided):
    return (~decided).sum(dim=0) + 1


@decided.mutant("counts the steps at which a walk is decided")
def counts_true(decided):
    return decided.sum(dim=0)


@decided.mutant("counts from the end")
def from_the_end(decided):
    return decided.sum(dim=0) - 1


@decided.mutant("still open")
def last_open(decided):
    return (~decided).sum(dim=0) - 1


@decided.mutant("the shape (10,)")
def wrong_axis(decided):
    return (~decided).sum(dim=1)


@decided.variant
def by_argmax(decided):
    return decided.int().argmax(dim=0)


@decided.variant
def by_loop(decided):
    return [next(i for i, row in enumerate(decided[:, k]) if row) for k in range(decided.shape[1])]
