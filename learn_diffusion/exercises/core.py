"""What every exercise is made of, and the questions a check asks of an answer."""

from __future__ import annotations

import _thread
import ast
import copy
import inspect
import signal
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    check calls the answer with a copy of each of the inputs (tuples of arguments, or a function that makes them), and
    compares with what the solution returns. Where they differ it says the words of the mistake that gives the same as
    the answer, for all inputs if there is one. A result of the wrong form is told first, and then the mistake.

    mistakes: what is said -> the wrong function that a reader may have written, or several.
    result: what is returned, "the picture", or ("x0", "eps") where there are two. key(*results): what is compared.
    check(answer): asks what no input can, after the inputs; raises IncorrectAnswer, or returns what is said of a right
        answer. The words of a mistake that it finds, or that is no number, need only be a part of what is said.
    right, otherwise (said where no mistake fits) and the words of mistakes are format strings, which may name the
        arguments, got and expected: flat, "{got[0]:.2f}", or of two results "{got[1][0]:.2f}". right and otherwise may
        be functions of (got, expected, *args) instead.
    builds: the answer is no function but a thing (a model); solution, mistakes and variants make one.
    """

    def __init__(
        self,
        name: str,
        statement: str,
        *,
        hints: Sequence[str],
        solution: Callable,
        inputs: Sequence[tuple] | Callable[[], Sequence[tuple]] = (),
        mistakes: Mapping[str, Callable | Sequence[Callable]],
        variants: Sequence[Callable] = (),
        result: str | Sequence[str] = "the result",
        right: str | Callable[..., str] = "",
        otherwise: str | Callable[..., str] | None = None,
        check: Callable[[Any], str | None] | None = None,
        key: Callable[..., Tensor] | None = None,
        tolerance: float = 1e-4,
        seconds: float = SECONDS,
        builds: bool = False,
    ):
        self.name, self.statement, self.hints = name, inspect.cleandoc(statement), hints
        self.answer, self.inputs, self.variants = solution, inputs, variants
        self.mistakes = {words: f if isinstance(f, Sequence) else [f] for words, f in mistakes.items()}
        self.names = (result,) if isinstance(result, str) else tuple(result)
        self.right, self.otherwise, self.own_check, self.key = right, otherwise or self._difference, check, key
        self.tolerance, self.seconds, self.builds = tolerance, seconds, builds
        self.solved = False
        self._next_hint = 0
        if name in REGISTRY and not _same_place(REGISTRY[name].answer, solution):
            raise ValueError(f"name: {name!r} is taken")
        REGISTRY[name] = self

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return Shown(f"**Exercise {self.name}.** {self.statement}")._repr_mimebundle_()

    def __repr__(self) -> str:
        return f"Exercise {self.name}. {self.statement}"

    def check(self, answer: Any) -> Verdict:
        """Is the answer right? Never raises: a line says what is right, what is wrong, or that nothing is there yet."""
        try:
            with settings_of_its_own():
                message = _within(self.seconds, lambda: self._run(_filled(answer)))
            self.solved = True
            return Verdict(True, f"{self.name}: right. {message}")
        except Unsolved:
            return Verdict(False, f"{self.name}: not solved yet")
        except IncorrectAnswer as wrong:
            return Verdict(False, f"{self.name}: not yet. {wrong}")
        except Exception as error:  # the answer has a form that the check did not foresee
            odd = f"The check cannot read this answer ({type(error).__name__}: {_one_line(error)})."
            return Verdict(False, f"{self.name}: not yet. {odd}")

    def hint(self) -> Shown:
        """The next hint; after the last one, the last again."""
        i = min(self._next_hint, len(self.hints) - 1)
        self._next_hint += 1
        return Shown(f"Hint {i + 1} of {len(self.hints)}: {self.hints[i]}")

    def solution(self) -> Shown:
        """A right answer, as readable source."""
        return Shown(f"```python\n{textwrap.dedent(inspect.getsource(self.answer)).rstrip()}\n```")

    def _run(self, answer: Any) -> str:
        """What is said of a right answer. Raises IncorrectAnswer."""
        said = ""
        inputs = self.inputs() if callable(self.inputs) else self.inputs
        for i, args in enumerate(inputs):
            expected, _ = self._results(self.answer, args)
            try:
                got, used = self._results(answer, args, expected)
            except IncorrectAnswer as form:
                special = f"With {given}: " if i and (given := self._given(args)) else ""  # the first input passed
                words = self._mistake(answer, inputs[: i + 1]) or ""
                raise IncorrectAnswer(f"{special}{form} {words}".rstrip()) from None
            if not self._same(got, expected):
                words = self._mistake(answer, inputs) or self._mistake(answer, inputs[: i + 1]) or self.otherwise
                raise IncorrectAnswer(self._say(words, got, expected, used))
            said = self._say(self.right, got, expected, used)
        return (self.own_check and self.own_check(answer)) or said

    def _results(self, answer: Any, args: tuple, like: list[Tensor] | None = None) -> tuple[list[Tensor], tuple]:
        """What answer returns for a copy of args, in the form of like, and that copy. Chance is the same each time."""
        args = copy.deepcopy(args)
        torch.manual_seed(0)
        out = call(answer, *args)
        parts = [out] if len(self.names) == 1 else several(out, self.names)
        shapes = [x.shape for x in like] if like else [None] * len(parts)
        return [numbers(part, *form) for part, *form in zip(parts, shapes, self.names, strict=True)], args

    def _same(self, a: list[Tensor], b: list[Tensor]) -> bool:
        if self.key:
            a, b = [self.key(*a)], [self.key(*b)]
        return all(agrees(x, y, self.tolerance) for x, y in zip(a, b, strict=True))

    def _mistake(self, answer: Any, inputs: Sequence[tuple]) -> str | None:
        """The words of the mistake that gives what the answer gives for all these inputs, numbers or none (NaN)."""

        def outcome(f: Callable, args: tuple, like: list[Tensor] | None = None) -> list[Tensor] | str:
            try:
                return self._results(f, args, like)[0]
            except (IncorrectAnswer, Unsolved) as form:
                return str(form)

        def same(one: list[Tensor] | str, other: list[Tensor] | str) -> bool:
            return one == other if isinstance(one, str) or isinstance(other, str) else self._same(one, other)

        def repeats(wrong: Callable) -> bool:
            likes = (None if isinstance(mine, str) else mine for mine in got)
            return all(same(outcome(wrong, *form), mine) for *form, mine in zip(inputs, likes, got, strict=True))

        got = [outcome(answer, args) for args in inputs]

        return next((words for words, wrong in self.mistakes.items() if any(map(repeats, wrong))), None)

    def _say(self, words: str | Callable[..., str], got: list[Tensor], expected: list[Tensor], args: tuple) -> str:
        if isinstance(words, str):  # where got[1] is the second number of one result, or the whole of the second
            got, expected = ([x.flatten() if x.ndim else x for x in results] for results in (got, expected))
        if len(self.names) == 1:
            got, expected = got[0], expected[0]
        if callable(words):
            return words(got, expected, *args)
        return words.format(got=got, expected=expected, **inspect.signature(self.answer).bind(*args).arguments)

    def _given(self, args: tuple) -> str:
        """The plain numbers among the arguments, in words."""
        given = inspect.signature(self.answer).bind(*args).arguments
        return ", ".join(f"{name} = {value:g}" for name, value in given.items() if isinstance(value, (int, float)))

    def _difference(self, got: Tensor | list[Tensor], expected: Tensor | list[Tensor], *args: Any) -> str:
        """Where the answer differs most, where no mistake explains it."""
        if isinstance(got, Tensor):
            got, expected = [got], [expected]
        k = next((k for k in range(len(got)) if not agrees(got[k], expected[k], self.tolerance)), 0)
        i = np.unravel_index(int((got[k] - expected[k]).abs().argmax()), got[k].shape)
        given = self._given(args)
        place = f"{self.names[k]}{f' at index {tuple(map(int, i))}' if i else ''}"
        return f"{f'With {given}, {place}' if given else _up(place)} should be {expected[k][i]:.4g}, and is {got[k][i]:.4g}."


def _same_place(one: Callable, other: Callable) -> bool:
    """Whether both are the function of one name in one module: its cell was run again, or its module reloaded."""
    return all(getattr(one, part, one) == getattr(other, part, other) for part in ("__module__", "__qualname__"))


SETTINGS = (  # of the process: how each is read, how it is set, and what it is in a check
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_default_device, torch.set_default_device, torch.device("cpu")),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, False),
)


def _set(values: Sequence[Any]) -> None:
    for (read, write, _), value in zip(SETTINGS, values, strict=True):
        if read() != value:
            write(value)


@contextmanager
def settings_of_its_own() -> Iterator[None]:
    """A check's verdict depends on no setting of the notebook, and nothing that an answer sets outlives the check."""
    before = [read() for read, _, _ in SETTINGS]
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        try:
            _set([value for _, _, value in SETTINGS])
            torch.manual_seed(0)
            yield
        finally:
            _set(before)


def call(answer: Callable, *args: Any) -> Any:
    """answer(*args), its errors as words; its tensors are clones. Raises Unsolved where its body is still empty."""
    if not callable(answer):
        raise IncorrectAnswer(f"A function was expected, and this is {_kind(answer)}.")
    given = [_clone(x) for x in args]
    try:
        out = answer(*given)
    except (IncorrectAnswer, Unsolved):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and not error.args:  # an answer that says so itself; torch says more
            raise Unsolved from None
        raise IncorrectAnswer(
            f"Your code stops with {type(error).__name__}: {_one_line(error)}{_where(answer, error)}."
            f"{_of_plain_numbers(given, error)}"
        ) from None
    if out is None and not _empty(answer):
        raise IncorrectAnswer("Your code returns nothing: is a `return` missing?")
    for x, mine in zip(args, given, strict=True):
        if not _unchanged(x, mine):
            raise IncorrectAnswer(
                "You changed what you were given, in place (as x *= 2 and x.add_(1) do): whoever called still needs it. "
                "Make a new tensor, x = x * 2."
            )
    return _filled(out)


def _clone(x: Any) -> Any:
    """A tensor, or a list of them, that may be changed without harm."""
    if type(x) in (list, tuple):
        return type(x)(map(_clone, x))
    return x.clone() if type(x) is Tensor and not x.requires_grad else x


def _unchanged(x: Any, clone: Any) -> bool:
    if type(x) in (list, tuple):
        return all(map(_unchanged, x, clone))
    return clone is x or torch.equal(torch.nan_to_num(x), torch.nan_to_num(clone))


def _empty(answer: Callable) -> bool:
    """Whether a function is still that of the notebook, with ... where the answer should be."""
    try:
        source = ast.parse(textwrap.dedent(inspect.getsource(answer)))
    except (OSError, TypeError, SyntaxError):  # no source: a function made by exec, a lambda within other code
        code = getattr(answer, "__code__", None)
        return code is not None and not code.co_names and len(code.co_code) <= 8  # it does nothing but return
    lines = getattr(source.body[0], "body", [])  # a docstring and ..., which are constants
    return bool(lines) and all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in lines)


def numbers(out: Any, shape: Sequence[int] | None = None, name: str = "the result") -> Tensor:
    """What came out, as a float64 tensor of that shape. Arrays and plain numbers are as good as tensors."""
    if isinstance(out, (bool, str)) or not isinstance(out, (Tensor, np.ndarray, np.generic, float, int, list, tuple)):
        raise IncorrectAnswer(f"{_up(name)} should be a tensor, and is {_kind(out)}.")
    try:
        x = out.detach().cpu() if isinstance(out, Tensor) else torch.as_tensor(np.asarray(_without_graph(out)))
    except (TypeError, ValueError, RuntimeError):
        raise IncorrectAnswer(f"{_up(name)} should be numbers, and is {_kind(out)} of something else.") from None
    if x.is_complex():
        raise IncorrectAnswer(f"{_up(name)} should be real numbers, and is complex: x.real is the real part.")
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


def _without_graph(out: Any) -> Any:
    """Tensors in lists as plain numbers: a list of losses may hold () tensors that still know their gradients."""
    if isinstance(out, (list, tuple)):
        return [_without_graph(x) for x in out]
    return out.detach().cpu().double().numpy() if isinstance(out, Tensor) else out


def differentiable(loss: Any) -> None:
    """Raises IncorrectAnswer for the loss of a network in training that could not train it."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise IncorrectAnswer(
            "The number is right, but backward() cannot start from it, so it trains nothing. Is there an .item(), a float(), "
            "a detach() or a no_grad?"
        )


def noise_of_its_own(noise: Tensor, what: Sequence[str]) -> None:
    """Raises IncorrectAnswer where noise (B, ...) repeats itself along a dimension; what names them, in the plural."""
    for dim, each in enumerate(what):
        if noise.shape[dim] > 1 and noise.std(dim=dim).mean() < 0.5:
            raise IncorrectAnswer(f"All {each} get the same noise. Each needs its own.")


def agrees(x: Tensor | float, expected: Tensor | float, tolerance: float = 1e-4) -> bool:
    """Equal but for rounding: float32 answers are as good as float64 ones."""
    x, expected = torch.as_tensor(x, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64)
    return bool(((x - expected).abs() <= tolerance * (1 + expected.abs())).all())


def several(out: Any, names: Sequence[str]) -> Sequence[Any]:
    """The results of these names, ("x0", "eps")."""
    if not isinstance(out, (tuple, list)) or len(out) != len(names):
        count = {2: "Two", 3: "Three"}.get(len(names), len(names))
        raise IncorrectAnswer(f"{count} results were expected, {' and '.join(names)}; this is {_kind(out)}.")
    return out


def _filled(answer: Any) -> Any:
    if answer is None or answer is ...:
        raise Unsolved
    return answer


def _within(seconds: float, run: Callable[[], Any]) -> Any:
    """run(), or IncorrectAnswer after so many seconds. The interrupt reaches Python code that loops, in the main thread."""
    late = threading.Event()

    def stop():
        late.set()
        if hasattr(signal, "pthread_kill"):  # reaches sleeping code too
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        else:
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


def _where(answer: Callable, error: BaseException) -> str:
    """The line of the reader's own code that an error came from."""
    code = getattr(answer, "__code__", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
    return f" (line {lines[-1] - code.co_firstlineno + 1} of your function)" if lines else ""


def _of_plain_numbers(given: Sequence[Any], error: BaseException) -> str:
    """A hint, where torch's functions or methods were used on a plain number."""
    here = any(isinstance(x, (int, float)) for x in given)
    said = any(words in str(error) for words in ("'float' object has", "'int' object has", "must be Tensor, not"))
    return (
        " Some of what you are given are plain numbers: x ** 0.5, abs(x), math.log(x), or torch.tensor(x)."
        if here and said
        else ""
    )


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 200 else f"{text[:200]} ..."


def _kind(thing: Any) -> str:
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _up(text: str) -> str:
    return text[0].upper() + text[1:]
