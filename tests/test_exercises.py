"""Exercises: each plausible wrong answer is refused in its own words, each right one accepted however it is written."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
import symtable
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch

from learn_diffusion.exercises import chapters, core, exercise, progress
from tools.notebooks import NOTEBOOKS

FOLDER = Path(core.__file__).parent
for chapter in chapters():
    progress(chapter)  # imports the chapter's module
ALL = dict(core.REGISTRY)
MISTAKES = [
    pytest.param(it, words, wrong, id=f"{name}-{i}-{j}")
    for name, it in ALL.items()
    for i, (words, functions) in enumerate(it.mistakes.items())
    for j, wrong in enumerate(functions)
]
RIGHT = [
    pytest.param(it, right, id=f"{name}-{i or 'solution'}")
    for name, it in ALL.items()
    for i, right in enumerate((it.answer, *it.variants))
]
TOLD = [  # both coefficients
    pytest.param(it, id=name)
    for name, it in ALL.items()
    if {"alpha", "sigma"} <= {*inspect.signature(it.answer).parameters}
]
every = pytest.mark.parametrize("it", [pytest.param(it, id=name) for name, it in ALL.items()])


def given(it, thing):
    """What a reader would pass to check."""
    return thing() if it.builds else thing


def says(words: str, message: str) -> bool:
    """Are these words, with any values filled in, part of the message?"""
    return bool(re.search(".+".join(map(re.escape, re.split(r"\{[^{}]+\}", words))), message))


@pytest.mark.parametrize(("it", "answer"), RIGHT)
def test_a_right_answer_is_accepted(it, answer):
    verdict = it.check(given(it, answer))
    assert verdict.solved, verdict
    assert repr(verdict).startswith(f"{it.name}: right. ")


@pytest.mark.parametrize(("it", "words", "wrong"), MISTAKES)
def test_a_mistake_is_refused_in_its_own_words(it, words, wrong):
    verdict = it.check(given(it, wrong))
    assert not verdict.solved
    assert says(words, verdict.message), verdict


def _bound(tree: ast.AST) -> set[str]:
    """The names that code gives something to."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _wanted(table: symtable.SymbolTable) -> set[str]:
    """The names that code takes from outside of its functions."""
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
    return own.union(*map(_wanted, table.get_children()))


@every
def test_the_solution_runs_where_the_answer_stands(it):
    (path,) = NOTEBOOKS.glob(f"{it.name.split('.')[0]}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    here = next(i for i, source in enumerate(cells) if f'exercise("{it.name}")' in source)
    answered = next(i for i in range(here, len(cells)) if ".check(" in cells[i])
    known = set(dir(builtins)).union(*(_bound(ast.parse(source)) for source in cells[:answered]))
    code = it.solution().text.removeprefix("```python").removesuffix("```")
    assert _wanted(symtable.symtable(code, "solution", "exec")) <= known | _bound(ast.parse(code))
    assert "noqa" not in code
    (asked,) = re.findall(r"def (\w+)", cells[answered])[:1] or re.findall(r"check\((\w+)", cells[answered])
    assert it.builds or f"def {asked}(" in code


@pytest.mark.parametrize("it", TOLD)
def test_sigma_may_not_be_taken_from_alpha(it):
    """alpha^2 + sigma^2 is 1 on some paths only: who computes one of the other is not right."""

    def wrong(*args):
        given = inspect.signature(it.answer).bind(*args)
        given.arguments["sigma"] = max(1 - float(given.arguments["alpha"]) ** 2, 1e-4) ** 0.5
        return it.answer(*given.args)

    assert not it.check(wrong).solved


@every
def test_is_well_made(it):
    assert re.fullmatch(r"\d\d\.[a-z0-9_]+|[AB]\.[a-z0-9_]+", it.name)
    assert it.statement
    assert it.hints
    assert len(it.mistakes) >= 4
    assert it.solution().text.startswith("```python\ndef ")
    text = "".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob(f"{it.name.split('.')[0]}_*.ipynb"))
    assert f'exercise(\\"{it.name}\\")' in text, f"{it.name} is in no notebook"


def _spoilt(x):
    if isinstance(x, (tuple, list)):
        return type(x)(map(_spoilt, x)) if type(x) in (tuple, list) else type(x)(*map(_spoilt, x))
    if isinstance(x, dict):
        return {key: _spoilt(part) for key, part in x.items()}
    return x * float("nan") if isinstance(x, (torch.Tensor, float, int)) else x


@every
def test_an_odd_answer_gets_a_line(it):
    assert it.check(...) == (False, f"{it.name}: not solved yet")
    for odd in ({"a": ["twice"], "b": {}}, "text", [[]]):
        assert it.check(odd).message.startswith(f"{it.name}: not yet. ")
    if not it.builds:
        assert it.check(lambda *args: {"a": 1}).message.startswith(f"{it.name}: not yet. ")
        assert not it.check(lambda *args: _spoilt(it.answer(*args))).solved


def test_a_check_that_stumbles_says_so_and_does_not_raise(toy):
    toy.own_check = lambda answer: answer.nothing
    assert "The check cannot read this answer (AttributeError" in toy.check(toy.answer).message


def _scaled(x, n):
    return n * x, x.sum()


@pytest.fixture
def toy():
    """A made-up exercise with all that the core offers."""
    yield core.Exercise(
        "99.toy",
        "Scale.",
        hints=["one", "two"],
        solution=_scaled,
        inputs=[(torch.arange(3.0), 2.0), (torch.tensor([1.0, 5.0, -1.0]), 2.0), (torch.ones(4), 1.0)],
        result=("the product", "the sum"),
        mistakes={
            "Nothing is scaled by {n:g}.": lambda x, n: (x, x.sum()),
            "Squared: {got[0][2]:.1f} for {expected[0][2]:.1f}.": lambda x, n: (x**2 * n / 2, x.sum()),
            "Sum along the only axis.": lambda x, n: (n * x, x),
        },
    )
    del core.REGISTRY["99.toy"]


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ("text", "Two results were expected, the product and the sum; this is a str"),
        ((1, 2, 3), "Two results were expected"),
        (torch.zeros(2), "Two results were expected"),
        (("text", 1.0), "The product should be a tensor, and is a str"),
        ((True, 1.0), "The product should be a tensor, and is a bool"),
        (({"a": 1}, 1.0), "The product should be a tensor, and is a dict"),
        (([["x"]], 1.0), "The product should be numbers"),
        (([[1], [1, 2]], 1.0), "The product should be numbers"),
        (([[]], 1.0), r"The product has the shape \(1, 0\); expected \(3,\)"),
        (([0, 2, float("nan")], 3.0), r"The product is not a number \(NaN\) in 1 of 3 places"),
        (([0, 2, 4], float("inf")), "The sum is infinite in 1 of 1 places"),
        (([0, 2, 7], 3.0), r"With n = 2, the product at index \(2,\) should be 4, and is 7"),
        (([0, 2, 4], 5.0), "With n = 2, the sum should be 3, and is 5"),
        ((torch.arange(3.0), 3.0), "Nothing is scaled by 2"),
        (([0, 1, 4], 3.0), "Squared: 4.0 for 4.0"),  # as the first input has it
        (([0, 2, 4], [0, 1, 2]), r"The sum has the shape \(3,\); expected \(\). Sum along the only axis"),
    ],
    ids=repr,
)
def test_a_result_of_an_odd_form_or_value_gets_its_line(toy, result, line):
    verdict = toy.check(lambda x, n: result)
    assert not verdict.solved
    assert re.match(rf"99.toy: not yet. {line}", verdict.message), verdict


def test_a_mistake_is_told_with_its_values(toy):
    assert toy.check(lambda x, n: (x**2 * n / 2, x.sum())).message == "99.toy: not yet. Squared: 4.0 for 4.0."


def test_an_answer_that_works_in_place_is_told_so_and_damages_nothing(toy):
    def in_place(x, n):
        total = x.sum()
        return x.mul_(n), total.mul_(1)

    for _ in range(2):
        assert "You changed what you were given" in toy.check(in_place).message
    assert toy.check(toy.answer).solved


def test_nothing_yet_is_said_to_be_nothing_yet(toy):
    def unwritten(*args):
        raise NotImplementedError

    for empty in (None, ..., lambda *args: None, lambda *args: ..., unwritten):
        assert toy.check(empty) == (False, "99.toy: not solved yet")


def test_an_error_is_told_in_one_line_with_its_place(toy):
    def breaks(*args):
        nothing = {}
        return nothing["a\nkey"]

    message = toy.check(breaks).message
    assert "KeyError: 'a\\nkey' (line 3 of your function)" in message
    assert "\n" not in message
    assert "A function was expected, and this is an int" in toy.check(3).message


def test_an_answer_that_hangs_is_stopped(toy):
    def forever(*args):
        while True:
            pass

    toy.seconds = 0.3
    assert "still running after 0.3 seconds" in toy.check(forever).message
    toy.seconds = core.SECONDS
    assert toy.check(toy.answer).solved


def test_a_key_pressed_to_stop_still_stops(toy):
    def pressed(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.check(pressed)


def test_a_check_does_not_disturb_the_random_numbers_of_the_notebook(toy):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    toy.check(lambda x, n: (torch.rand_like(x), n))
    assert torch.equal(torch.rand(3), expected)


def test_a_name_is_taken_once(toy):
    with pytest.raises(ValueError, match="name: '99.toy' is taken"):
        core.Exercise("99.toy", "", hints=[], solution=_spoilt, mistakes={})


def test_a_cell_that_declares_an_exercise_may_be_run_again(toy):
    def declare():
        def triple(x):
            return 3 * x

        return core.Exercise("99.mine", "Triple.", hints=["3"], solution=triple, inputs=[(torch.ones(2),)], mistakes={})

    try:
        declare()
        again = declare()
        assert core.REGISTRY["99.mine"] is again
        assert again.check(lambda x: x + x + x).solved
    finally:
        del core.REGISTRY["99.mine"]


def test_hints_come_one_by_one_and_the_last_stays(toy):
    assert [toy.hint().text for _ in range(3)] == ["Hint 1 of 2: one", "Hint 2 of 2: two", "Hint 2 of 2: two"]


def test_progress_counts_what_was_solved():
    for each in ALL.values():
        each.solved = False
    assert progress("01") == "chapter 01: 0 of 2 exercises solved; left: 01.one_step, 01.jump"
    exercise("01.one_step").check(exercise("01.one_step").answer)
    exercise("01.jump").check(lambda *args: 3.0)
    assert progress("01") == "chapter 01: 1 of 2 exercises solved; left: 01.jump"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name: expected one of 01.one_step, 01.jump, got '01.jmup'"):
        exercise("01.jmup")
    with pytest.raises(ValueError, match="name: expected one of 00, 01"):
        exercise("77.x")
    with pytest.raises(ValueError, match="chapter: expected one of 00, 01"):
        progress("77")


def forgets_return(x, beta_i, z):
    out = (1 - beta_i) ** 0.5 * x + beta_i**0.5 * z  # noqa: F841


def still_empty(x, beta_i, z):
    """The answer's place."""
    ...


def test_a_missing_return_is_no_empty_answer():
    step = core.REGISTRY["01.one_step"]
    assert "returns nothing" in step.check(forgets_return).message
    assert "returns nothing" in step.check(lambda x, b, z: print(end="")).message
    for empty in (still_empty, eval("lambda x, b, z: None")):
        assert step.check(empty).message == "01.one_step: not solved yet"


def test_a_forgotten_return_is_told_where_the_dots_were_left():
    def answer(x, beta_i, z):
        ...  # your code
        out = x - z  # noqa: F841

    assert "returns nothing" in core.REGISTRY["01.one_step"].check(answer).message


def test_a_result_without_numbers_is_told_with_its_arguments_and_its_mistake():
    def wraps(x_i, betas, i, j, eps):
        alpha_bar = (1 - betas).cumprod(0)
        left = alpha_bar[j - 1] / alpha_bar[i - 1]
        return left**0.5 * x_i + (1 - left) ** 0.5 * eps

    said = core.REGISTRY["01.jump"].check(wraps).message
    assert re.search(r"With i = 0, j = 1: The picture is not a number \(NaN\) in 2 of 2 places. At i = 0", said)


def test_a_list_of_tensors_is_kept_from_harm_too():
    views = list(torch.arange(6.0).unfold(0, 4, 2))  # two windows of one tensor
    with pytest.raises(core.IncorrectAnswer, match="in place"):
        core.call(lambda cut: sum(part.mul_(2) for part in cut), views)
    assert torch.equal(views[0], torch.arange(4.0))
    assert torch.equal(core.call(sum, views), torch.tensor([2.0, 4.0, 6.0, 8.0]))
    assert core.call(len, [views, (1, "a")]) == 2  # and lists of lists


def test_torch_on_a_plain_number_is_told_so():
    said = core.REGISTRY["01.one_step"].check(lambda x, b, z: (x - b.sqrt() * z) / (1 - b).sqrt()).message
    assert said.endswith(
        "Some of what you are given are plain numbers: x ** 0.5, abs(x), math.log(x), or torch.tensor(x)."
    )


def test_an_error_of_torch_is_no_empty_answer():
    said = core.REGISTRY["12.attention"].check(lambda Q, K, V, real: (Q @ K.T).long().softmax(dim=1) @ V).message
    assert "NotImplementedError" in said
    assert "softmax" in said


def test_losses_that_still_have_gradients_are_read():
    def my_training(net, loss, optimiser, steps):
        losses = []
        for _ in range(steps):
            value = (loss(net) + loss(net)) / 2
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            losses.append(value)
        return losses

    assert core.REGISTRY["05.training_loop"].check(my_training).solved


def test_waiting_is_stopped_at_the_limit(toy, monkeypatch):
    monkeypatch.setattr(toy, "seconds", 0.5)
    start = time.monotonic()
    assert "still running after 0.5 seconds" in toy.check(lambda x, n: time.sleep(20)).message
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_verdict_does_not_depend_on_the_settings_of_the_notebook(mode):
    film, loop = core.REGISTRY["06.film"], core.REGISTRY["05.training_loop"]
    torch.set_default_dtype(torch.float64)
    try:
        with mode():
            assert film.check(film.answer).solved
            assert loop.check(loop.answer).solved
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_nothing_an_answer_sets_outlives_its_check(toy):
    def sets(x, n):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return x * n, x.sum()

    toy.check(sets)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    toy.check(lambda x, n: (torch.set_default_device("meta"), torch.use_deterministic_algorithms(True)))
    assert torch.zeros(1).device.type == "cpu"
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_verdict_does_not_depend_on_the_default_device_of_the_notebook():
    step = core.REGISTRY["01.one_step"]
    torch.set_default_device("meta")
    try:
        assert step.check(step.answer).solved
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


class NoReturn(torch.nn.Module):
    def forward(self, x, n):
        x = x * n


@pytest.mark.parametrize("answer", [NoReturn(), functools.partial(lambda x, n, k: print(end=k), k="")])
def test_a_thing_that_returns_nothing_is_no_empty_answer(toy, answer):
    assert "returns nothing" in toy.check(answer).message


def test_an_answer_that_leaves_python_is_told_so(toy):
    assert "stops with SystemExit: done" in toy.check(lambda x, n: sys.exit("done")).message


def test_complex_numbers_are_not_taken_for_their_real_parts(toy):
    assert "is complex" in toy.check(lambda x, n: (torch.complex(n * x, x), x.sum())).message
