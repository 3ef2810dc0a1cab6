"""The code of a chapter in this process, in order, with its long loops cut short: what matters is where tensors lie."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path
from unittest import mock

import torch

from learn_diffusion import gan, training
from learn_diffusion.recipes import latents

LONG = 70  # a loop over range(n) with a larger n is a training: a few turns show where its tensors are
TURNS = 3


class _Shorten(ast.NodeTransformer):
    """range(1000) becomes range(3), steps=1000 becomes steps=3, and what is asserted is only computed."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            node.func = ast.parse("short_range", mode="eval").body
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.Expr(node.test), node)


def cells(chapter: Path) -> list[str]:
    """The sources of its code cells."""
    found = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def short_range(*ends: int) -> list[int]:
    """The numbers of range or, of a long one, the first few and the last."""
    whole = list(range(*ends))
    return whole if len(whole) <= LONG else [*whole[:TURNS], whole[-1]]


def _shorter(train):
    """train or train_gan: the first few steps, and then the last of them again under the numbers of the rest."""

    def for_a_few_steps(*args, **kwargs):
        bound = inspect.signature(train).bind(*args, **kwargs)
        steps, bound.arguments["steps"] = bound.arguments["steps"], min(bound.arguments["steps"], TURNS)
        for step in train(*bound.args, **bound.kwargs):
            yield step
        for number in range(TURNS + 1, steps + 1):
            yield dataclasses.replace(step, step=number)

    return for_a_few_steps


def _short_vae(train):
    """train_vae, for a few steps."""

    def for_a_few_steps(vae, images, steps, *args, **kwargs):
        return train(vae, images, min(steps, TURNS), *args, **kwargs)

    return for_a_few_steps


def run(chapter: Path) -> dict:
    """The names that its cells leave. Raises what a cell raises, with the number of the cell."""
    with (
        mock.patch.object(training, "train", _shorter(training.train)),
        mock.patch.object(gan, "train_gan", _shorter(gan.train_gan)),
        mock.patch.object(latents, "train_vae", _short_vae(latents.train_vae)),
        torch.enable_grad(),  # and as it was afterwards: a chapter may switch gradients off
    ):
        return _run(chapter)


def _run(chapter: Path) -> dict:
    names: dict = {"__name__": "__main__", "display": lambda shown: None, "short_range": short_range}
    for number, source in enumerate(cells(chapter), start=1):
        tree = ast.fix_missing_locations(_Shorten().visit(ast.parse(source)))
        try:
            exec(compile(tree, f"{chapter.name}, code cell {number}", "exec"), names)
        except Exception as error:
            error.add_note(f"in code cell {number} of {chapter.name}")
            raise
    return names
