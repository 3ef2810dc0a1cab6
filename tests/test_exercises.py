"""Exercises: each plausible wrong answer is refused in its own words, each right one accepted however it is written."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import torch

from learn_diffusion.exercises import chapters, core, exercise, progress
from tools.notebooks import NOTEBOOKS

for chapter in chapters():
    progress(chapter)  # imports the chapter's module
ALL = dict(core.REGISTRY)
FUNCTIONS = {name: each for name, each in ALL.items() if not each.builds}
MUTANTS = [pytest.param(ALL[n], m, id=f"{n}-{m}") for n in ALL for m in ALL[n].mutants]
RIGHT = [pytest.param(each, each._answer, id=f"{n}-solution") for n, each in ALL.items()]
RIGHT += [pytest.param(each, right, id=f"{n}-{v}") for n, each in ALL.items() for v, right in each.variants.items()]


def given(it, thing):
    """What a reader would pass to check."""
    return thing() if it.builds else thing


every = pytest.mark.parametrize("it", [pytest.param(each, id=n) for n, each in ALL.items()])
every_function = pytest.mark.parametrize("it", [pytest.param(each, id=n) for n, each in FUNCTIONS.items()])


@pytest.mark.parametrize(("it", "answer"), RIGHT)
def test_a_right_answer_is_accepted(it, answer):
    verdict = it.check(given(it, answer))
    assert verdict.solved, verdict
    assert repr(verdict).startswith(f"{it.name}: right. ")


@pytest.mark.parametrize(("it", "mutant"), MUTANTS)
def test_a_wrong_answer_is_refused_in_its_own_words(it, mutant):
    wrong, says = it.mutants[mutant]
    verdict = it.check(given(it, wrong))
    assert not verdict.solved
    assert says in verdict.message, f"expected {says!r} in: {verdict}"


@every
def test_has_four_mutants_with_words_of_their_own(it):
    said = [says for _, says in it.mutants.values()]
    assert len(said) >= 4
    assert len(set(said)) == len(said)


@every
def test_is_well_made(it):
    assert re.fullmatch(r"\d\d\.[a-z0-9_]+|[AB]\.[a-z0-9_]+", it.name)
    assert it.statement
    assert it.hints
    text = it.solution().text
    assert text.startswith("```python\n")
    assert not re.search(r"^@", text, re.M)


@every
@pytest.mark.parametrize("empty", [None, ...], ids=["None", "dots"])
def test_nothing_yet_is_said_to_be_nothing_yet(it, empty):
    assert it.check(empty) == (False, f"{it.name}: not solved yet")


@every_function
def test_a_function_that_returns_nothing_is_not_solved_yet(it):
    def empty(*args): ...

    def unwritten(*args):
        raise NotImplementedError

    assert it.check(empty) == it.check(unwritten) == (False, f"{it.name}: not solved yet")


@every_function
def test_a_function_that_raises_gets_a_line_that_names_the_error_and_its_place(it):
    def breaks(*args):
        nothing = {}
        return nothing["key"]

    message = it.check(breaks).message
    assert "KeyError: 'key'" in message
    assert "line 3 of your function" in message
    assert "\n" not in message


@every_function
@pytest.mark.parametrize(
    "answer", ["a text", object(), {"a": 1}, [["x"]], True], ids=["text", "object", "dict", "ragged", "bool"]
)
def test_a_result_of_the_wrong_type_gets_a_line(it, answer):
    for given in (answer, lambda *args: answer):
        verdict = it.check(given)
        assert not verdict.solved
        assert verdict.message.startswith(f"{it.name}: not yet. ")
        assert "Traceback" not in verdict.message


@every
@pytest.mark.parametrize(
    "odd", [{"a": ["twice"], "b": {}, "c": 1, "d": None}, (1, 2, 3), [[]], torch.zeros(0), "leak"], ids=repr
)
def test_a_thing_of_an_odd_form_gets_a_line(it, odd):
    for given in (odd, lambda *args: odd):
        verdict = it.check(given)
        assert not verdict.solved
        assert verdict.message.startswith(f"{it.name}: not")


def test_a_check_that_stumbles_says_so_and_does_not_raise():
    it = exercise("07.good_model")
    step = it._answer.__globals__["training"].Step("many", 0.1, None, None)
    assert "The check cannot read this answer (TypeError" in it.check(step).message


def _spoil(x, value):
    if isinstance(x, (tuple, list)):
        return type(x)(_spoil(part, value) for part in x)
    if isinstance(x, dict):
        return {key: _spoil(part, value) for key, part in x.items()}
    return x * value if isinstance(x, (torch.Tensor, np.ndarray, float, int)) else x


@every_function
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_a_result_that_is_not_a_number_is_refused(it, value):
    verdict = it.check(lambda *args: _spoil(it._answer(*args), value))
    assert not verdict.solved
    assert re.search("NaN|infinite|not a number", verdict.message), verdict


def test_an_answer_that_hangs_is_stopped():
    slow = core.Exercise("99.slow", "Wait.", hints=["no"], seconds=0.3)

    @slow.oracle
    def _(answer):
        return core.call(answer)

    def forever():
        while True:
            pass

    start = time.perf_counter()
    assert "still running after 0.3 seconds" in slow.check(forever).message
    assert time.perf_counter() - start < 5
    assert slow.check(lambda: "done").solved
    del core.REGISTRY["99.slow"]


def test_a_key_pressed_to_stop_still_stops():
    def pressed(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exercise("01.jump").check(pressed)


def test_a_check_does_not_disturb_the_random_numbers_of_the_notebook():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    exercise("07.mended_loss").check(exercise("07.mended_loss")._answer)
    assert torch.equal(torch.rand(3), expected)


def test_hints_come_one_by_one_and_the_last_stays():
    it = exercise("01.jump")
    it._next_hint = 0
    said = [it.hint().text for _ in range(len(it.hints) + 1)]
    assert said[0].startswith(f"Hint 1 of {len(it.hints)}: ")
    assert said[-1] == said[-2] != said[0]


def test_progress_counts_what_was_solved():
    for each in ALL.values():
        each.solved = False
    assert progress("01") == "chapter 01: 0 of 2 exercises solved; left: 01.one_step, 01.jump"
    exercise("01.one_step").check(exercise("01.one_step")._answer)
    exercise("01.jump").check(lambda *args: 3.0)
    assert progress("01") == "chapter 01: 1 of 2 exercises solved; left: 01.jump"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name: expected one of 01.one_step, 01.jump, got '01.jmup'"):
        exercise("01.jmup")
    with pytest.raises(ValueError, match="name: expected one of 00, 01"):
        exercise("77.x")
    with pytest.raises(ValueError, match="chapter: expected one of 00, 01"):
        progress("77")


def test_every_exercise_stands_in_its_chapter():
    for name in ALL:
        text = "".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob(f"{name.split('.')[0]}_*.ipynb"))
        assert f'exercise(\\"{name}\\")' in text, f"{name} is in no notebook"
