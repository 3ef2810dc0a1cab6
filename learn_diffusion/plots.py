"""Pictures for the course, each with alt text: one style, one colour for each idea, from the first chapter to the last.

Everything returned here shows itself in a notebook and on the website as one text/html output, and prints its alt text
where there is no screen.
"""

from __future__ import annotations

import html
import inspect
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torch import Tensor

from learn_diffusion.widgets.images import CHART, PIXELS, data_uri, encode, figcaption, tile, to_uint8

# told apart by hue (also by colour-blind readers) and by lightness, so that a grey print still works
DATA, ESTIMATE, NOISE = "#0b3c6f", "#c2407f", "#eca02c"

SHARPER = 1.5  # dots of a PNG for one screen pixel: projectors and telephones have more than 96 an inch
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "figure.dpi": 100,
    "figure.figsize": (6.4, 3.2),
    "font.size": 11,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "savefig.bbox": "tight",
    "svg.hashsalt": "learn_diffusion",  # the same figure gives the same bytes
}


class Shown:
    """An output with alt text: text/html where there is a screen, the alt text itself elsewhere."""

    def __init__(self, body: str, alt: str, caption: str = ""):
        if not alt.strip():
            raise ValueError("alt: expected words that say what the picture shows, got an empty text")
        self.body, self.alt, self.caption = body, alt, caption

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {
            "text/html": f'<figure style="margin:0.5em 0">{self.body}{figcaption(self.caption)}</figure>',
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return f"[picture: {self.alt}]"


def _img(uri: str, alt: str, kind: str, width: int) -> str:
    """kind: PIXELS or CHART. width: in screen pixels, where there is room."""
    return f'<img alt="{html.escape(alt)}" width="{width}" {kind} src="{uri}">'


@contextmanager
def axes(*, alt: str, caption: str = "", show: bool = True, **subplots: Any) -> Iterator[Any]:
    """Draw in the course's style: `with plots.axes(alt="...") as ax: ax.plot(...)` shows the figure at the end.

    subplots: arguments of matplotlib's subplots (nrows, ncols, figsize ...). A small drawing becomes SVG, else PNG.
    """
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(**subplots)
        try:
            yield ax
            shown = figure(fig, alt=alt, caption=caption)
        finally:
            plt.close(fig)
    if show:
        from IPython.display import display  # only notebooks show

        display(shown)


def figure(fig: mpl.figure.Figure, *, alt: str, caption: str = "") -> Shown:
    """A matplotlib figure with its alt text."""
    with mpl.rc_context(STYLE):
        svg, dots, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
        fig.savefig(dots, format="png", dpi=96 * SHARPER)
        drawn = Image.open(dots).convert("RGB")
        fig.savefig(svg, format="svg", metadata={"Date": None})
        uri = data_uri(svg.getvalue(), "image/svg+xml")
        if len(uri) > 60_000:
            _few_colours(drawn, 128).save(png, "PNG", optimize=True)
            uri = data_uri(png.getvalue(), "image/png")
    return Shown(_img(uri, alt, CHART, round(drawn.width / SHARPER)), alt, caption)


def figure_to_array(fig: mpl.figure.Figure, colours: int = 32) -> np.ndarray:
    """A matplotlib figure as one frame for a Scrubber, (H, W, 3) bytes, in few colours; closes the figure.

    H and W are the figure's inches times its dpi. Few colours are what lets a dozen drawings fit into one output;
    with too few of them a dark grey may come out blue, and a rare colour as none that was drawn.
    """
    dots = io.BytesIO()
    fig.savefig(dots, format="png", bbox_inches=None)
    plt.close(fig)
    return np.asarray(_few_colours(Image.open(dots).convert("RGB"), colours).convert("RGB"))


def _few_colours(picture: Image.Image, colours: int) -> Image.Image:
    return picture.quantize(colours, dither=Image.Dither.NONE)  # dithering would not compress


def image_grid(
    images: Tensor | np.ndarray,
    *,
    alt: str,
    caption: str = "",
    columns: int | None = None,
    zoom: int | None = None,
) -> Shown:
    """A sheet of pictures (B, C, H, W) in [-1, 1], each pixel a square of zoom screen pixels, nothing smoothed."""
    sheet = tile(to_uint8(images), columns)  # (rows of pictures, gaps and all, 3)
    zoom = zoom or max(1, 560 // sheet.shape[1])
    uri = data_uri(*encode(sheet))
    return Shown(_img(uri, alt, PIXELS, sheet.shape[1] * zoom), alt, caption)


def points(
    panels: Mapping[str, Tensor | Sequence[tuple[Tensor, str]]],
    *,
    alt: str,
    caption: str = "",
    limit: float | None = None,
    size: float = 2.4,
) -> Shown:
    """Points in the plane, one square panel for each title: points (N, 2), or several as [(points, colour), ...].

    limit: the panels show [-limit, limit] both ways, by default what all points need.
    """
    drawn = {title: [(x, DATA)] if isinstance(x, Tensor) else list(x) for title, x in panels.items()}
    limit = limit or 1.05 * max(float(x.abs().max()) for layers in drawn.values() for x, _ in layers)
    width = size * len(drawn)
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(ncols=len(drawn), figsize=(width, size + 0.4), squeeze=False, layout="constrained")
        for panel, (title, layers) in zip(ax[0], drawn.items(), strict=True):
            for x, colour in layers:
                panel.scatter(*x.detach().cpu().T, s=2, color=colour, linewidths=0, rasterized=len(x) > 2000)
            panel.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        shown = figure(fig, alt=alt, caption=caption)
        plt.close(fig)
    return shown


def curves(
    lines: Mapping[str, Sequence[Any]],
    *,
    alt: str,
    caption: str = "",
    floor: float | None = None,
    figsize: tuple[float, float] = (6.4, 3.2),
    **labels: Any,
) -> Shown:
    """Curves with a legend: name -> (x, y) or (x, y, error bars). Told apart by colour, marker and dashes.

    floor: a dotted level, such as real against real. labels: what matplotlib's Axes.set takes (xlabel, ylabel, yscale).
    """
    looks = [(ESTIMATE, "o-"), (DATA, "s--"), (NOISE, "^-."), ("#555555", "d:"), ("#1b8a5a", "v-"), ("#7a4fb5", "x--")]
    if len(lines) > len(looks):
        raise ValueError(f"lines: expected at most {len(looks)} curves, got {len(lines)}")
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=figsize, layout="constrained")
        for (name, (x, y, *error)), (colour, style) in zip(lines.items(), looks, strict=False):
            marker = style if len(x) <= 30 else style[1:]  # markers on a fine grid would hide the line
            ax.errorbar(x, y, *error, fmt=marker, color=colour, markersize=4, capsize=2, label=name)
        if floor is not None:
            ax.axhline(floor, color="grey", linestyle=":")
        ax.set(**labels)
        if len(lines) > 1:
            ax.legend()
        shown = figure(fig, alt=alt, caption=caption)
        plt.close(fig)
    return shown


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> Shown:
    """A table that reads the same on a screen, on paper and to a screen reader."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in [list(header), *cells]]
    return _Table(header, cells, "\n".join(lines))


class _Table(Shown):
    def __init__(self, header: Sequence[str], cells: Sequence[Sequence[str]], text: str):
        def row(kind: str, row: Sequence[str]) -> str:
            style = ' style="padding:0.2em 0 0.2em 1.2em;text-align:right"'
            kinds = [kind if cell else "td" for cell in row]  # a heading without words would be read out as one
            cells = (f"<{k}{style}>{html.escape(cell)}</{k.split()[0]}>" for k, cell in zip(kinds, row, strict=True))
            return f"<tr>{''.join(cells)}</tr>"

        head, body = row('th scope="col"', header), "".join(row("td", cell) for cell in cells)
        super().__init__(f'<table style="border:0"><thead>{head}</thead><tbody>{body}</tbody></table>', text)

    def __repr__(self) -> str:
        return self.alt


class Source:
    """Python source, shown where it is talked about."""

    def __init__(self, text: str):
        self.text = text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/markdown": f"```python\n{self.text}\n```", "text/plain": self.text}


def source(thing: Callable | type) -> Source:
    """The package's own source of a function or class, so that nothing taught is hidden."""
    return Source(textwrap.dedent(inspect.getsource(thing)).rstrip())
