"""A control that asks Python: the picture is computed again whenever a slider or menu changes."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from typing import Any

from learn_diffusion.widgets.images import data_uri, encode, tile, to_uint8


class Live:
    """draw(**values) under ipywidgets controls.

    draw      takes the controls' values by name, returns pictures (B, C, H, W) or one picture (C, H, W) in [-1, 1]
    alt       what the picture shows, for those who do not see it
    columns   pictures in a row; zoom: screen pixels a pixel (None: about 560 across)
    controls  ipywidgets by the name of draw's argument, such as steps=IntSlider(10, 1, 50)

    Where no kernel runs (the website, GitHub), the picture for the first values stands in its place. An error in draw
    is shown as one line, and the last good picture stays.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        *,
        alt: str,
        columns: int | None = None,
        zoom: int | None = None,
        **controls: Any,
    ):
        if not alt.strip():
            raise ValueError("alt: expected words that say what the picture shows, got an empty text")
        if not controls:
            raise ValueError("controls: expected at least one, such as steps=ipywidgets.IntSlider(10, 1, 50)")
        try:
            import ipywidgets
        except ImportError:
            raise ImportError("Live needs ipywidgets: pip install 'learn_diffusion[course]'") from None
        self.draw, self.alt, self.columns, self.zoom, self.controls = draw, alt, columns, zoom, controls
        self._picture = ipywidgets.HTML()
        self._message = ipywidgets.HTML()
        for control in controls.values():
            if hasattr(control, "continuous_update"):
                control.continuous_update = False  # ask when the slider is let go, not at every pixel of the way
            control.observe(lambda _: self.refresh(), names="value")
        self.widget = ipywidgets.VBox([*controls.values(), self._picture, self._message])
        self.refresh()
        self.still = self._picture.value  # for pages without a kernel

    def refresh(self) -> None:
        """Draw again with the controls' present values."""
        start = time.perf_counter()
        try:
            picture = self._img(self.draw(**{name: control.value for name, control in self.controls.items()}))
        except Exception as error:
            self._message.value = f'<p role="alert">{html.escape(f"{type(error).__name__}: {error}")}</p>'
        else:
            self._picture.value = picture
            self._message.value = f"<p>{time.perf_counter() - start:.2f} s</p>"

    def _img(self, pictures: Any) -> str:
        rgb = to_uint8(pictures, "draw's answer")
        sheet = tile(rgb, self.columns) if rgb.ndim == 4 else rgb
        width = sheet.shape[1] * (self.zoom or max(1, 560 // sheet.shape[1]))
        style = f"width:{width}px;max-width:100%;image-rendering:pixelated"
        return f'<img alt="{html.escape(self.alt)}" src="{data_uri(*encode(sheet))}" style="{style}">'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        values = ", ".join(f"{name} = {control.value}" for name, control in self.controls.items())
        note = html.escape(f"Here for {values}. This control asks Python: run the notebook to use it.")
        live = self.widget._repr_mimebundle_()
        fallback = {"text/html": f"<div>{self.still}<p>{note}</p></div>", "text/plain": repr(self)}
        return {key: value for key, value in live.items() if not key.startswith("text/")} | fallback

    def __repr__(self) -> str:
        return f"[live control of {', '.join(self.controls)}: {self.alt}]"
