"""Exercises that check themselves: `exercise("01.jump")` shows the statement; .check, .hint and .solution do the rest.

One module a chapter. Each exercise carries its statement, its check, hints, a solution, and mistakes: plausible wrong
answers that the check must reject, each with its own words (tests/test_exercises.py proves it).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from learn_diffusion.exercises.core import REGISTRY, Exercise, settings_of_its_own

__all__ = ["chapters", "exercise", "progress"]


def chapters() -> list[str]:
    """The chapters that have exercises: "00", "01" ..."""
    return sorted(path.stem.removeprefix("chapter_") for path in Path(__file__).parent.glob("chapter_*.py"))


def _declare(chapter: str) -> None:
    with settings_of_its_own():  # inputs are made when a chapter's module is imported
        import_module(f"learn_diffusion.exercises.chapter_{chapter}")


def exercise(name: str) -> Exercise:
    """The exercise of that name, "01.jump". Raises ValueError that lists the names there are."""
    chapter = str(name).split(".")[0]
    if chapter in chapters():
        _declare(chapter)
    if name not in REGISTRY:
        there = [known for known in REGISTRY if known.startswith(f"{chapter}.")]
        raise ValueError(f"name: expected one of {', '.join(there or chapters())}, got {name!r}")
    return REGISTRY[name]


def progress(chapter: str) -> str:
    """How many exercises of a chapter, "01", are solved in this session, and which are left."""
    if chapter not in chapters():
        raise ValueError(f"chapter: expected one of {', '.join(chapters())}, got {chapter!r}")
    _declare(chapter)
    mine = [each for name, each in REGISTRY.items() if name.startswith(f"{chapter}.")]
    left = [each.name for each in mine if not each.solved]
    rest = f"; left: {', '.join(left)}" if left else ""
    return f"chapter {chapter}: {len(mine) - len(left)} of {len(mine)} exercises solved{rest}"
