"""Every symbol in the formulas of a chapter, and of its exercises, stands in the table of the conventions chapter."""

from __future__ import annotations

import re

import nbformat
import pytest

from learn_diffusion.exercises import chapters, core, progress
from tools.notebooks import NOTEBOOKS

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
# commands that shape a formula and stand for nothing themselves
SHAPE = {
    "\\" + name
    for words in (
        "frac dfrac tfrac sqrt hat tilde bar begin end text mathrm mathbb mathcal left right big Big bigg quad qquad",
        "cdot cdots dots ldots times Longrightarrow to mapsto le ge leq geq ne neq approx propto mid pm in prime odot",
        "leftarrow partial sum prod int infty log exp cos sin tanh min max",
    )
    for name in words.split()
}


def formulas(text: str) -> list[str]:
    """What stands between dollars, code left out."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
    return [a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+(?:\n[^$\n]+)*?)\$", text, flags=re.S)]


def symbols(formula: str) -> set[str]:
    """The letters and Greek letters of a formula, without words and without the commands that shape it."""
    formula = re.sub(r"\\(?:text|mathrm|begin|end|textbf)\{[^}]*\}", " ", formula)
    found = set(re.findall(r"\\[a-zA-Z]+|(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])", formula))
    return found - SHAPE


def table() -> set[str]:
    """The symbols of the conventions chapter's first table."""
    nb = nbformat.read(NOTEBOOKS / "B_conventions.ipynb", as_version=4)
    (cell,) = [cell.source for cell in nb.cells if "| symbol | in code | meaning |" in cell.source]
    known = set()
    for row in cell.split("|---|---|---|")[1].splitlines():
        if row.startswith("|"):
            for formula in formulas(row.replace(r"\|", "")):
                known |= symbols(formula)
    return known


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_symbol_of_a_chapter_is_in_the_table(path):
    nb = nbformat.read(path, as_version=4)
    used = {s for cell in nb.cells if cell.cell_type == "markdown" for f in formulas(cell.source) for s in symbols(f)}
    assert used - table() == set(), f"{path.stem} uses symbols that the conventions chapter does not explain"


def test_every_symbol_of_an_exercise_is_in_the_table():
    for chapter in chapters():
        progress(chapter)  # imports it
    for it in core.REGISTRY.values():
        used = {s for f in formulas(it.statement) for s in symbols(f)}
        assert used - table() == set(), it.name


def test_the_check_above_can_fail():
    assert symbols(r"\hat x_0 = \frac{b\,x_t - \sigma F}{\det} + \text{nothing}") == {
        "x",
        "b",
        "t",
        r"\sigma",
        "F",
        r"\det",
    }
    assert formulas("a $x$ and `$y$` and $$z$$") == ["x", "z"]
    assert r"\zeta" not in table()
