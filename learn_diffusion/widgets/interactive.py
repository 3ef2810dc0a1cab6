"""A control that asks Python: for what the frames of a Scrubber cannot hold, because the model has to answer."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from learn_diffusion.widgets.images import PIXELS, SMOOTH, data_uri, encode, figcaption, tile, to_uint8

SIZE = (560, 384)  # at most this many screen pixels, width and height, where zoom is not given
FILE = 64 * 1024  # bytes of the picture: the first one stays in the notebook
SETTLE = 0.05  # seconds in which further moves join the first: a held arrow key sends thirty a second
NO_KERNEL = "This control asks Python: run the notebook to use it."


class Interactive:
    """Draw anew whenever a control is moved: `Interactive(draw, alt="...", scale=FloatSlider(value=3.0))`.

    draw: a function of the controls' values, called as draw(scale=3.0), that returns pictures (B, C, H, W), tiled, or
        one (C, H, W): floats in [-1, 1], C = 1 or 3. It is called once at the start, where its errors are raised.
        Later an error is shown in one line under the picture, which stays as it was.
    alt: what the picture shows, for who cannot see it; the controls' values are added.
    columns: pictures in a row; None is nearly square. zoom: screen pixels for one pixel; None chooses. smooth: enlarged
        as photographs are, not as squares.
    controls: ipywidgets, each under the name of its argument of draw, which is its description where it has none.
        Sliders report when they are let go, not on the way.

    Without a kernel (the website, GitHub) it is the first picture and a sentence that says so.
    Raises ImportError without ipywidgets, TypeError or ValueError that names the argument.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        *,
        alt: str,
        columns: int | None = None,
        zoom: int | None = None,
        smooth: bool = False,
        **controls: Any,
    ):
        ipywidgets = ipywidgets_or_error()
        _check(draw, alt, controls)
        self.draw, self.alt, self.columns, self.zoom, self.controls = draw, alt, columns, zoom, controls
        self.kind = SMOOTH if smooth else PIXELS
        self._coming: asyncio.TimerHandle | None = None
        start = time.perf_counter()
        self._still = self._img()
        self._picture = ipywidgets.HTML(self._still)
        self._line = ipywidgets.HTML(_seconds(start))
        self.view = ipywidgets.VBox([*controls.values(), self._picture, self._line])
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            if control.style.has_trait("description_width"):
                control.style.description_width = "initial"  # as wide as the words: the default cuts them off
            if control.has_trait("continuous_update"):
                control.continuous_update = False
            _observe_once(control, self)

    def __repr__(self) -> str:
        return f"Interactive({', '.join(self.controls)}: {self.alt})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The live view, which front ends with a kernel prefer, and the still picture for all others."""
        still = f'<figure style="margin:0.5em 0">{self._still}{figcaption(NO_KERNEL)}</figure>'
        return {**self.view._repr_mimebundle_(), "text/html": still, "text/plain": repr(self)}

    def _moved(self, change: Any) -> None:
        """Draw soon: moves that arrive while draw is busy wait in the kernel's queue, and cost one drawing together."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel is running us: a script, or a test
            self._update()
            return
        if self._coming is None:
            self._coming = loop.call_later(SETTLE, self._update)

    def _update(self) -> None:
        self._coming = None
        self._line.value = _line("drawing ...")
        start = time.perf_counter()
        try:
            self._picture.value = self._img()
            self._line.value = _seconds(start)
        except Exception as error:  # whatever draw raises is for the reader's eyes, not for a log
            said = " ".join(f"{type(error).__name__}: {error}".split())
            self._line.value = _line(f"{said} (the picture is still the one before)", alert=True)

    def _img(self) -> str:
        """What draw answers to the controls' present values, as an <img>."""
        values = {name: control.value for name, control in self.controls.items()}
        picture = _picture(self.draw(**values), self.columns)
        height, width, _ = picture.shape
        zoom = self.zoom or max(1, min(SIZE[0] // width, SIZE[1] // height))
        alt = f"{self.alt} ({', '.join(f'{name} = {_short(value)}' for name, value in values.items())})"
        src = data_uri(*encode(picture, FILE))
        return f'<img alt="{html.escape(alt)}" width="{width * zoom}" {self.kind} src="{src}">'


_WATCHERS: WeakKeyDictionary[Any, dict[tuple[str, str], Callable]] = WeakKeyDictionary()


def _observe_once(control: Any, live: Interactive) -> None:
    """Follow a control. A cell that is run again takes the place of its first run, which nobody sees any more."""
    name = getattr(live.draw, "__qualname__", repr(live.draw)), live.alt
    watchers = _WATCHERS.setdefault(control, {})
    if name in watchers:
        control.unobserve(watchers[name], names="value")
    watchers[name] = live._moved
    control.observe(live._moved, names="value")


def ipywidgets_or_error() -> ModuleType:
    """ipywidgets, or an error that says how to get it: everything else of the package does without."""
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError('Interactive needs ipywidgets: pip install "learn_diffusion[course]"') from error
    return ipywidgets


def _check(draw: Any, alt: Any, controls: dict[str, Any]) -> None:
    """Every argument must be of its kind, and there must be something to move."""
    if not callable(draw):
        raise TypeError(f"draw: expected a function of the controls' values, got {type(draw).__name__}")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("alt: expected words that say what the picture shows, got an empty text")
    if not controls:
        raise ValueError("controls: expected at least one, such as scale=FloatSlider(value=3.0)")
    for name, control in controls.items():
        if not hasattr(control, "observe") or not hasattr(control, "value"):
            raise TypeError(f"{name}: expected an ipywidgets control, got {type(control).__name__}")


def _picture(answer: Any, columns: int | None) -> np.ndarray:
    """What draw returned, as one picture (H, W, 3) of bytes."""
    rgb = to_uint8(answer, "what draw returned")
    if rgb.ndim > 4:
        raise ValueError(f"what draw returned: expected (B, C, H, W) or (C, H, W), got {rgb.ndim} dimensions")
    return tile(rgb, columns) if rgb.ndim == 4 else rgb


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:12]}..."  # a painted mask is no reading matter


def _seconds(start: float) -> str:
    return _line(f"drawn in {time.perf_counter() - start:.2f} s")


def _line(text: str, alert: bool = False) -> str:
    """The line under the picture; role=alert has an error read out at once."""
    return f'<p role="{"alert" if alert else "status"}" style="margin:0">{html.escape(text)}</p>'
