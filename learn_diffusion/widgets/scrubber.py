"""A time scrubber that is one text/html output: a contact sheet that a short script upgrades to canvas and slider.

It needs no kernel and no network. Trusted JupyterLab, the static website and a file on disk run the script. Where
scripts are stripped (GitHub, an untrusted notebook), the contact sheet stays, with its alt text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from learn_diffusion.widgets.images import GAP_COLOUR, data_uri, encode, tile, to_uint8

BUDGET = 100 * 1024  # bytes of one output: a notebook may hold a few of them
GAP = 2  # pixels between the frames of the sheet, and between the panels of a frame

CSS = """
.ld-scrubber{max-width:100%}
.ld-scrubber canvas,.ld-scrubber img{max-width:100%;image-rendering:pixelated}
.ld-scrubber canvas{display:block}
.ld-scrubber .ld-views{display:flex;flex-wrap:wrap;gap:.75em 1.5em}
.ld-scrubber figure{margin:0}
.ld-scrubber figcaption{font-size:.9em}
.ld-scrubber .ld-row{display:flex;flex-wrap:wrap;align-items:center;gap:.4em .75em;margin:.4em 0}
.ld-scrubber input{flex:1 1 12em;max-width:28em;min-width:0;height:1.6em;touch-action:pan-y}
.ld-scrubber button{font:inherit;min-width:4.5em;padding:.15em .6em;cursor:pointer}
.ld-scrubber output{flex:1 1 100%;font-variant-numeric:tabular-nums;min-height:1.5em}
.ld-scrubber :focus-visible{outline:3px solid #c2407f;outline-offset:2px}
.ld-scrubber p{margin:.2em 0}
"""


class Scrubber:
    """Frames under a slider.

    panels   frames of pictures in [-1, 1], (n, C, H, W) with C 1 or 3, or (n, B, C, H, W), whose B pictures are tiled;
             or a dict {title: such frames}, shown beside each other. uint8 (n, H, W, 3) counts as rendered already.
    labels   n strings: what the page shows, and a screen reader says, at each frame
    alt      what the pictures show, for those who do not see them
    caption  what to see; name: of the slider; start: its first frame
    columns  pictures in a row of a tiled panel (None: nearly square)
    zoom     screen pixels a pixel; delay: milliseconds a frame while playing

    Raises ValueError that names the argument, also for an output over BUDGET bytes.
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
        delay: int = 120,
    ):
        frames = _frames(panels, columns)
        n = len(labels)
        for title, each in frames.items():
            if len(each) != n:
                raise ValueError(f"labels: expected one for each of the {len(each)} frames of panel {title!r}, got {n}")
            if each.shape[1] != next(iter(frames.values())).shape[1]:
                raise ValueError(f"panels: expected panels of one height, got {title!r} with {each.shape[1]} pixels")
        if not alt.strip():
            raise ValueError("alt: expected words that say what the pictures show, got an empty text")
        if not 0 <= start < n:
            raise ValueError(f"start: expected a frame from 0 to {n - 1}, got {start}")
        self.alt, self.caption, self.n = alt, caption, n

        widths = [each.shape[2] for each in frames.values()]
        offsets = [sum(widths[:i]) + GAP * i for i in range(len(widths))]
        height, width = next(iter(frames.values())).shape[1], offsets[-1] + widths[-1]
        cells = np.full((n, height, width, 3), GAP_COLOUR, np.uint8)
        for each, x in zip(frames.values(), offsets, strict=True):
            cells[:, :, x : x + each.shape[2]] = each
        self._across = max(1, min(n, 180 // (width + GAP)))  # frames in a row of the sheet
        self._sheet = tile(cells, self._across, GAP)
        self._config = {
            "panels": [{"title": t, "x": x, "w": w} for t, x, w in zip(frames, offsets, widths, strict=True)],
            "w": width, "h": height, "gap": GAP, "columns": self._across,
            "zoom": zoom or _zoom(widths, height),
            "labels": [str(label) for label in labels], "start": start, "name": name, "alt": alt, "delay": delay,
        }  # fmt: skip
        self._html = self._render()

    def _render(self) -> str:
        config = json.dumps(self._config, ensure_ascii=False).replace("</", "<\\/")
        script = f"{_script()}(document.currentScript.previousElementSibling,{config})"
        rest = len(config.encode()) + len(script.encode()) + len(CSS) + 1000
        file, mime = encode(self._sheet, budget=max(0, (BUDGET - rest) * 3 // 4))  # base64 makes 4 bytes of 3
        titles = [panel["title"] for panel in self._config["panels"] if panel["title"]]
        beside = f"; in each frame, from left to right: {', '.join(titles)}" if len(titles) > 1 else ""
        alt = html.escape(f"{self.alt} ({self.n} frames in reading order{beside})")
        width = self._sheet.shape[1] * max(1, 540 // self._sheet.shape[1])
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        page = (
            f'<div class="ld-scrubber"><style>{re.sub(chr(10), "", CSS)}</style>'
            f'<img alt="{alt}" src="{data_uri(file, mime)}" style="width:{width}px">{caption}</div>'
            f"<script>{script}</script>"
        )
        if len(page.encode()) > BUDGET:
            raise ValueError(
                f"panels: {self.n} frames of {self._sheet.size // self.n // 3} pixels make {len(page) // 1024} KiB, "
                f"expected at most {BUDGET // 1024}; show fewer frames or fewer pictures"
            )
        return page

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self._html, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"[slider, {self.n} frames: {self.alt}]"


def _zoom(widths: Sequence[int], height: int) -> int:
    """Screen pixels a pixel: panels beside each other where they stay large enough to see, else one below the other."""
    beside, below = 600 // sum(widths), 560 // max(widths)
    return max(1, min(beside if beside >= 6 else below, 240 // height, 16))


def _frames(panels: Any, columns: int | None) -> dict[str, np.ndarray]:
    """{title: (n, H, W, 3) uint8} of whatever was given as panels."""
    named = panels if isinstance(panels, Mapping) else {"": panels}
    if not named:
        raise ValueError("panels: expected at least one, got none")
    frames = {}
    for title, each in named.items():
        rgb = to_uint8(each, f"panels[{title!r}]" if title else "panels")
        rgb = tile(rgb, columns) if rgb.ndim == 5 else rgb
        if rgb.ndim != 4:
            raise ValueError(f"panels: expected frames (n, C, H, W) or (n, B, C, H, W), got {tuple(np.shape(each))}")
        frames[str(title)] = rgb
    return frames


@cache
def _script() -> str:
    """The script, without the lines that only a reader of the source needs."""
    source = files("learn_diffusion.widgets").joinpath("scrubber.js").read_text(encoding="utf-8")
    lines = (re.sub(r"(^|\s)// .*$", "", line).strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line)
