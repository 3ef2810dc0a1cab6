"""A slider through time that needs no kernel: one text/html output, a contact sheet that a script makes scrub.

All frames travel as one picture, so that the same bytes are the still picture where scripts are stripped (GitHub, an
untrusted notebook) and the film where they run (JupyterLab, the website, a file on disk).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from learn_diffusion.widgets.images import (
    GAP_COLOUR,
    PIXELS,
    SMOOTH,
    SMOOTH_FILE,
    as_numpy,
    data_uri,
    encode,
    figcaption,
    tile,
    to_uint8,
)

BUDGET = 100 * 1024  # bytes a notebook stores, all included: notebooks live in git and cross school networks
MAX_PIXELS, MAX_SIDE = 2**22, 16383  # of a sheet: more than this cannot fit the budget; WebP's own limit
GAP = 2  # pixels between the frames of the sheet; panels and pictures within a frame stand one pixel apart
SHEET = 640  # about how many screen pixels wide the contact sheet is shown
WIDTH, HEIGHT = 576, 280  # screen pixels for the panels together, and for each: what a column of text has room for


class Scrubber:
    """Frames under a slider, with a Play button: `Scrubber({"x_t": xs, "x0_hat": x0s}, labels, alt="...")`.

    panels: frames (N, C, H, W) or (N, H, W), floats in [-1, 1] with C = 1 or 3, or rendered bytes (N, H, W, 3); several
        pictures a frame, (N, B, C, H, W), are tiled. A dict of these stands side by side, each under its title.
    labels: N texts, one for each frame, shown beside the slider and read out by screen readers: "t = 0.42".
    alt: what the pictures show, for who cannot see them. caption: what to see in them.
    name: the slider's label. start: the frame shown first.
    columns: pictures in a row of a tiled frame; None makes it nearly square.
    zoom: screen pixels for one pixel; None chooses for each panel. smooth: enlarged as photographs are, not as squares.
    play_ms: milliseconds a frame while playing. Play stops at the end, at a touch of the slider, and when the output
        goes. For readers who ask for reduced motion nothing plays: the button is called Next and shows the next frame.

    The output has at most 100 KiB: lossless where that fits, else as near as fits (images.encode).
    Raises TypeError or ValueError that names the argument, also for frames too large for that.
    """

    def __init__(
        self,
        panels: Any,
        labels: Sequence[str],
        *,
        alt: str,
        caption: str = "",
        name: str = "step",
        start: int = 0,
        columns: int | None = None,
        zoom: int | None = None,
        smooth: bool = False,
        play_ms: int = 120,
    ):
        self.panels = _read_panels(panels, columns, zoom)
        self.labels = _read_labels(labels, len(self.panels[0].frames))
        self.alt, self.caption, self.name = _text("alt", alt), caption, _text("name", name)
        self.start = _whole("start", start, 0, len(self.labels) - 1)
        self.kind = SMOOTH if smooth else PIXELS  # how the still is enlarged; the script's canvases follow it
        self.play_ms = _whole("play_ms", play_ms, 20, 10_000)
        self.html = self._page()

    def __repr__(self) -> str:
        return f"Scrubber({len(self.labels)} frames: {self.alt})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": repr(self)}

    def _page(self) -> str:
        """The figure and its script, within the budget. Same input, same bytes: ids are the browser's business."""
        cells = _side_by_side(self.panels)
        columns = _columns(cells)
        sheet = tile(cells, columns, GAP)
        _check_pixels(sheet, len(cells))
        before, after = self._figure(sheet, self._settings(cells, columns))
        others = len(json.dumps([before, after, repr(self)])) + 100  # 100: the names of the parts, the address's head
        room = (BUDGET - others) * 3 // 4  # base64 makes four bytes of three
        file, mime = encode(sheet, min(room, SMOOTH_FILE) if self.kind == SMOOTH else room)
        if len(file) > room:
            raise ValueError(_too_large(len(cells), f"take {len(file) / 1024:.0f} KiB", room / len(file)))
        return before + data_uri(file, mime) + after

    def _figure(self, sheet: np.ndarray, settings: str) -> tuple[str, str]:
        """The HTML before and after the address of the sheet (H', W', 3)."""
        titles = [panel.title for panel in self.panels if panel.title]
        panels = f", each with {', '.join(titles)} from left to right" if titles else ""
        reading = f"{len(self.labels)} frames in reading order, from {self.labels[0]} to {self.labels[-1]}{panels}"
        width = sheet.shape[1] * max(1, round(SHEET / sheet.shape[1]))  # a sheet of digits is no postage stamp
        return (
            f'<figure class="ld-scrubber" data-scrubber="{settings}" style="margin:0.5em 0">'
            f'<img alt="{html.escape(f"{self.alt} ({reading})")}" width="{width}" {self.kind} src="',
            f'"><div class="ld-scrubber-controls">{html.escape(reading)}</div>{figcaption(self.caption)}</figure>\n'
            f"<script>(() => {{\n{script('scrubber.js')}}})();</script>",
        )

    def _settings(self, cells: np.ndarray, columns: int) -> str:
        """What the script has to know about the frames (N, H, W, 3), as JSON fit for an attribute."""
        settings = {
            "alt": self.alt,
            "name": self.name,
            "labels": self.labels,
            "start": self.start,
            "playMs": self.play_ms,
            "columns": columns,
            "stride": [cells.shape[2] + GAP, cells.shape[1] + GAP],
            "panels": [
                {"title": panel.title, "left": left, "width": panel.width, "height": panel.height, "zoom": panel.zoom}
                for panel, left in zip(self.panels, _lefts(self.panels), strict=False)
            ],
        }
        return html.escape(json.dumps(settings).replace("</", r"<\/"))


class _Panel(NamedTuple):
    title: str  # "" where a panel stands alone
    frames: np.ndarray  # (N, H, W, 3) bytes
    zoom: int  # screen pixels for one pixel

    @property
    def height(self) -> int:
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        return self.frames.shape[2]


def _lefts(panels: list[_Panel]) -> list[int]:
    """Where each panel begins within a frame, and where one more would."""
    return list(accumulate((panel.width + 1 for panel in panels), initial=0))


def _side_by_side(panels: list[_Panel]) -> np.ndarray:
    """The panels of each frame as one picture (N, H, W, 3), as high as the highest."""
    lefts = _lefts(panels)
    height = max(panel.height for panel in panels)
    cells = np.full((len(panels[0].frames), height, lefts[-1] - 1, 3), GAP_COLOUR, np.uint8)
    for panel, left in zip(panels, lefts, strict=False):
        cells[:, : panel.height, left : left + panel.width] = panel.frames
    return cells


def _columns(cells: np.ndarray) -> int:
    """How many of the frames (N, H, W, 3) stand in a row, for a sheet about 4 by 3 with few places left over."""
    n, height, width, _ = cells.shape
    columns = max(1, min(n, round((4 / 3 * n * height / width) ** 0.5)))
    return min(columns, columns + 1, key=lambda c: -n % c)


@cache
def script(name: str) -> str:
    """A script of this folder without its comments and indentation: every output carries its own along."""
    source = files("learn_diffusion.widgets").joinpath(name).read_text(encoding="utf-8")
    lines = (re.sub(r"(^|\s)// .*$|^//$", "", line).strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def _read_panels(panels: Any, columns: int | None, zoom: int | None) -> list[_Panel]:
    """Every panel as bytes with its zoom; all have the same number of frames, at least two."""
    named = dict(panels) if isinstance(panels, Mapping) else {"": panels}
    if not named:
        raise ValueError("panels: expected at least one, got an empty dict")
    columns = columns if columns is None else _whole("columns", columns, 1, 1000)
    read: list[_Panel] = []
    for title, frames in named.items():
        name = f"panels[{title!r}]" if isinstance(panels, Mapping) else "panels"
        rgb = _read_frames(name, frames, columns)
        if read and len(rgb) != len(read[0].frames):
            raise ValueError(f"{name}: expected {len(read[0].frames)} frames like the panels before, got {len(rgb)}")
        size = _zoom(rgb, len(named)) if zoom is None else _whole("zoom", zoom, 1, 100)
        read.append(_Panel(str(title), rgb, size))
    return read


def _zoom(frames: np.ndarray, panels: int) -> int:
    """Screen pixels for one pixel: side by side where that leaves panels large enough, else one below the other."""
    _, height, width, _ = frames.shape
    beside, below = WIDTH // panels // width, WIDTH // width
    return max(1, min(beside if beside >= 6 else below, HEIGHT // height))


def _read_frames(name: str, frames: Any, columns: int | None) -> np.ndarray:
    """Frames of any accepted kind as bytes (N, H, W, 3)."""
    frames = as_numpy(frames)
    if frames.dtype != np.uint8 and frames.ndim == 3:
        frames = frames[:, None]  # (N, 1, H, W): grey pictures that come without a channel
    if frames.ndim not in (4, 5):
        raise ValueError(
            f"{name}: expected frames (N, C, H, W), (N, H, W), (N, B, C, H, W) or bytes (N, H, W, 3), "
            f"got shape {frames.shape}"
        )
    if len(frames) < 2:
        raise ValueError(f"{name}: expected at least two frames to scrub through, got {len(frames)}")
    rgb = to_uint8(frames, name)
    return tile(rgb, columns) if rgb.ndim == 5 else rgb


def _read_labels(labels: Sequence[str], n: int) -> list[str]:
    """labels must be n texts, none of them empty."""
    if isinstance(labels, str):
        raise TypeError(f"labels: expected {n} texts, one for each frame, got one text")
    if len(labels) != n:
        raise ValueError(f"labels: expected {n}, one for each frame, got {len(labels)}")
    return [_text(f"labels[{i}]", label) for i, label in enumerate(labels)]


def _text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a text, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{name}: expected words, for readers who cannot see the picture too, got an empty text")
    return text


def _whole(name: str, value: Any, lo: int, hi: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not lo <= value <= hi:
        raise ValueError(f"{name}: expected a whole number from {lo} to {hi}, got {value!r}")
    return int(value)


def _check_pixels(sheet: np.ndarray, n: int) -> None:
    """Refuse at once what would take long to encode and cannot fit."""
    pixels = sheet.shape[0] * sheet.shape[1]
    if pixels > MAX_PIXELS or max(sheet.shape) > MAX_SIDE:
        raise ValueError(_too_large(n, f"have {pixels:,} pixels", MAX_PIXELS / pixels))


def _too_large(n: int, much: str, share: float) -> str:
    """What to say of n frames of which about this share would fit."""
    fitting = int(n * share)
    some = f"about {fitting} of them would, or" if fitting >= 2 else "two of them would not either; show"
    return f"panels: {n} frames {much} and do not fit in {BUDGET // 1024} KiB; {some} fewer or smaller pictures in each"
