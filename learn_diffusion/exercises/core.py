"""What every exercise is made of, and the questions a check asks of an answer.

A check is a function of the answer. It calls the answer through `call`, looks at what came out with `numbers` and
`agrees`, raises IncorrectAnswer with a line that says what is wrong, and returns a line that says what was right.
"""

from __future__ import annotations

import _thread
import inspect
import itertools
import signal
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SECONDS = 10.0  # a check may take, all included
REGISTRY: dict[str, Exercise] = {}


class IncorrectAnswer(Exception):
    """What is wrong with an answer, in words for the reader."""


class Unsolved(Exception):
    """The answer is still the empty one of the notebook."""


class Verdict(NamedTuple):
    """What check says; shows itself as one line."""

    solved: bool
    message: str

    def __repr__(self) -> str:
        return self.message


class Shown(NamedTuple):
    """Words in Markdown, which read well as plain text too."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/markdown": self.text, "text/plain": self.text}


class Exercise:
    """One exercise. In a notebook: show it, `.check(answer)`, `.hint()` for one hint at a time, `.solution()`.

    A chapter's module makes it, and adds to it by decorators: oracle (the check), answer (the solution), mutant("words
    its verdict must contain") for wrong answers, variant for right answers written differently. Where the answer is no
    function but a thing (a number, a model), builds=True, and these are functions without arguments that make one.
    """

    def __init__(
        self, name: str, statement: str, hints: Sequence[str], *, builds: bool = False, seconds: float = SECONDS
    ):
        self.name, self.statement, self.hints = name, inspect.cleandoc(statement), hints
        self.builds, self.seconds = builds, seconds
        self.solved = False
        self.mutants: dict[str, tuple[Any, str]] = {}  # name -> wrong answer, what its verdict must say
        self.variants: dict[str, Any] = {}
        self._check: Callable[[Any], str] | None = None
        self._answer: Any = None
        self._next_hint = 0
        if REGISTRY.setdefault(name, self) is not self:
            raise ValueError(f"name: {name!r} is taken")

    # for the reader

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return Shown(f"**Exercise {self.name}.** {self.statement}")._repr_mimebundle_()

    def __repr__(self) -> str:
        return f"Exercise {self.name}. {self.statement}"

    def check(self, answer: Any) -> Verdict:
        """Is the answer right? Never raises: a line says what is right, what is wrong, or that nothing is there yet."""
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                message = _within(self.seconds, lambda: self._check(_filled(answer)))
            self.solved = True
            verdict = Verdict(True, f"{self.name}: right. {message}")
        except Unsolved:
            verdict = Verdict(False, f"{self.name}: not solved yet")
        except IncorrectAnswer as wrong:
            verdict = Verdict(False, f"{self.name}: not yet. {wrong}")
        except Exception as error:  # the answer has a form that the check did not foresee
            odd = f"The check cannot read this answer ({type(error).__name__}: {_one_line(error)})."
            verdict = Verdict(False, f"{self.name}: not yet. {odd}")
        return verdict

    def hint(self) -> Shown:
        """The next hint; after the last one, the last again."""
        i = min(self._next_hint, len(self.hints) - 1)
        self._next_hint += 1
        return Shown(f"Hint {i + 1} of {len(self.hints)}: {self.hints[i]}")

    def solution(self) -> Shown:
        """A right answer, as readable source."""
        return Shown(f"```python\n{source(self._answer)}\n```")

    # for the module that makes it

    def oracle(self, check: Callable[[Any], str]) -> Callable[[Any], str]:
        """The check: raises IncorrectAnswer, or returns what was right."""
        self._check = check
        return check

    def answer(self, solution: Any) -> Any:
        """The solution, a function or a class."""
        self._answer = solution
        return solution

    def mutant(self, says: str) -> Callable[[Any], Any]:
        """A wrong answer whose verdict must contain these words."""

        def add(wrong: Any) -> Any:
            self.mutants[wrong.__name__] = wrong, says
            return wrong

        return add

    def variant(self, right: Any) -> Any:
        """A right answer written differently."""
        self.variants[right.__name__] = right
        return right


def source(thing: Any) -> str:
    """The source of a solution without the decorators that make it one."""
    lines = textwrap.dedent(inspect.getsource(thing)).rstrip().splitlines()
    return "\n".join(itertools.dropwhile(lambda line: line.startswith("@"), lines))


def call(answer: Callable, *args: Any) -> Any:
    """answer(*args), its errors as words. Raises Unsolved where it returns nothing."""
    if not callable(answer):
        raise IncorrectAnswer(f"A function was expected, and this is {_kind(answer)}.")
    try:
        out = answer(*args)
    except (IncorrectAnswer, Unsolved):
        raise
    except NotImplementedError:
        raise Unsolved from None
    except Exception as error:
        raise IncorrectAnswer(
            f"Your code stops with {type(error).__name__}: {_one_line(error)}{_where(answer, error)}."
        ) from None
    return _filled(out)


def numbers(out: Any, shape: Sequence[int] | None = None, name: str = "the result") -> Tensor:
    """What came out, as a float64 tensor of that shape. Arrays and plain numbers are as good as tensors."""
    if isinstance(out, (bool, str)) or not isinstance(out, (Tensor, np.ndarray, np.generic, float, int, list, tuple)):
        raise IncorrectAnswer(f"{_up(name)} should be a tensor, and is {_kind(out)}.")
    try:
        x = out.detach() if isinstance(out, Tensor) else torch.as_tensor(np.asarray(out))
    except (TypeError, ValueError, RuntimeError):
        raise IncorrectAnswer(f"{_up(name)} should be numbers, and is {_kind(out)} of something else.") from None
    x = x.double()
    if shape is not None and tuple(x.shape) != tuple(shape):
        if x.numel() != torch.Size(shape).numel() or x.ndim > 1 or len(shape) > 1:  # () and (1,) are one number both
            raise IncorrectAnswer(f"{_up(name)} has the shape {tuple(x.shape)}; expected {tuple(shape)}.")
        x = x.reshape(tuple(shape))
    if x.isnan().any():
        raise IncorrectAnswer(f"{_up(name)} is not a number (NaN) in {int(x.isnan().sum())} of {x.numel()} places.")
    if x.isinf().any():
        raise IncorrectAnswer(f"{_up(name)} is infinite in {int(x.isinf().sum())} of {x.numel()} places.")
    return x


def agrees(x: Tensor | float, expected: Tensor | float, tolerance: float = 1e-4) -> bool:
    """Equal but for rounding: float32 answers are as good as float64 ones."""
    x, expected = torch.as_tensor(x, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64)
    return bool(((x - expected).abs() <= tolerance * (1 + expected.abs())).all())


def pair(out: Any, what: str) -> tuple[Any, Any]:
    """Two results. what: their names, "the mean and the standard deviation"."""
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise IncorrectAnswer(f"Two results were expected, {what}; this is {_kind(out)}.")
    return out[0], out[1]


def _filled(answer: Any) -> Any:
    if answer is None or answer is ...:
        raise Unsolved
    return answer


def _within(seconds: float, run: Callable[[], Any]) -> Any:
    """run(), or Wrong after so many seconds. The interrupt reaches Python code that loops, in the main thread."""
    late = threading.Event()

    def stop():
        late.set()
        _thread.interrupt_main()

    timer = threading.Timer(seconds, stop)
    ignored = (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    )
    if ignored:  # as in a shell's background job, where the interrupt would otherwise be lost and the loop never end
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        try:
            return run()
        finally:
            timer.cancel()
    except KeyboardInterrupt:
        if not late.is_set():
            raise  # the reader pressed stop
        raise IncorrectAnswer(
            f"Your code was still running after {seconds:g} seconds: does a loop never end?"
        ) from None
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _where(answer: Callable, error: Exception) -> str:
    """The line of the reader's own code that an error came from."""
    code = getattr(answer, "__code__", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
    return f" (line {lines[-1] - code.co_firstlineno + 1} of your function)" if lines else ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 200 else f"{text[:200]} ..."


def _kind(thing: Any) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _up(text: str) -> str:
    return text[0].upper() + text[1:]
