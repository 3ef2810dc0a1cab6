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

from learn_diffusion.widgets.images import (
    CHART,
    PIXELS,
    SMOOTH,
    SMOOTH_FILE,
    data_uri,
    encode,
    figcaption,
    tile,
    to_uint8,
)

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
    """kind: PIXELS, SMOOTH or CHART. width: in screen pixels, where there is room."""
    return f'<img alt="{html.escape(alt)}" width="{width}" {kind} src="{uri}">'


@contextmanager
def _subplots(**options: Any) -> Iterator[tuple[mpl.figure.Figure, Any]]:
    """Matplotlib's subplots in the course's style, closed at the end: an open one would be shown without alt text."""
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(**options)
        try:
            yield fig, ax
        finally:
            plt.close(fig)


@contextmanager
def axes(*, alt: str, caption: str = "", show: bool = True, **subplots: Any) -> Iterator[Any]:
    """Draw in the course's style: `with plots.axes(alt="...") as ax: ax.plot(...)` shows the figure at the end.

    subplots: arguments of matplotlib's subplots (nrows, ncols, figsize ...). A small drawing becomes SVG, else PNG.
    """
    with _subplots(**subplots) as (fig, ax):
        yield ax
        shown = figure(fig, alt=alt, caption=caption)
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


def points_to_array(
    layers: Sequence[tuple[Tensor, str, float]], *, limit: float, size: float = 2.6, colours: int = 12
) -> np.ndarray:
    """The square [-limit, limit]^2 of the plane as one frame for a Scrubber, (H, W, 3) bytes, 100 size pixels a side.

    layers, the lowest first: (x, colour, size) with points (N, 2), where size is the area of a dot as in matplotlib's
    scatter, or paths (N, T, 2), where it is the width of a line.
    """
    fig = plt.figure(figsize=(size, size), dpi=100)
    ax = fig.add_axes([0, 0, 1, 1])
    for x, colour, s in layers:
        x = _host(x)
        if x.ndim == 2:
            ax.scatter(*x.T, s=s, color=colour)
        for path in x if x.ndim == 3 else ():
            ax.plot(*path.T, color=colour, linewidth=s)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    ax.set_axis_off()
    return figure_to_array(fig, colours=colours)


def two_fields_to_array(
    spots: Tensor, first: Tensor, second: Tensor, apart: Tensor, seen: Tensor, *, limit: float, size: float = 2.7
) -> np.ndarray:
    """Two fields of arrows on the left, how far they are apart on the right: one frame for a Scrubber, (H, W, 3) bytes.

    first, second (N, 2) arrows at the spots (N, 2), drawn at a third of their length; apart (H, W), the first row the
    lowest, in eight greys up to 1; seen (M, 2) points over it. Both panels show [-limit, limit] both ways.
    """
    spots, first, second, apart, seen = map(_host, (spots, first, second, apart, seen))
    fig = plt.figure(figsize=(2 * size, size), dpi=100)
    left, right = fig.add_axes([0, 0, 0.5, 1]), fig.add_axes([0.5, 0, 0.5, 1])
    for arrows, colour, width in ((first, DATA, 0.012), (second, ESTIMATE, 0.006)):
        left.quiver(*spots.T, *arrows.T, color=colour, width=width, angles="xy", scale_units="xy", scale=3)
    greys = (apart.clamp(0, 1) * 8).round()
    right.imshow(greys, cmap="Greys", vmin=0, vmax=8, origin="lower", extent=[-limit, limit] * 2)
    right.scatter(*seen.T, s=2, color=NOISE)
    for ax in (left, right):
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
        ax.set_axis_off()
    return figure_to_array(fig)


def field_to_array(
    density: Tensor, spots: Tensor, arrows: Tensor, *, limit: float, size: float = 3.0, colours: int = 16
) -> np.ndarray:
    """A density over the square [-limit, limit]^2, dark where it is high, under arrows: one frame for a Scrubber.

    density (H, W) >= 0, its first row the lowest; spots and arrows (N, 2): where each arrow is, and its direction (all
    are drawn at one length). (H, W, 3) bytes, 100 size pixels a side; nine shades of density, for fewer bytes.
    """
    density, spots, arrows = map(_host, (density, spots, arrows))
    fig = plt.figure(figsize=(size, size), dpi=100)
    ax = fig.add_axes([0, 0, 1, 1])
    shades = (density / density.max() * 8).round()
    ax.imshow(shades, cmap="Blues", vmax=14, origin="lower", extent=[-limit, limit] * 2)
    directions = arrows / arrows.norm(dim=1, keepdim=True).clamp(min=1e-6)
    ax.quiver(*spots.T, *directions.T, color=ESTIMATE, scale=15, width=0.008)
    ax.set_axis_off()
    return figure_to_array(fig, colours=colours)


def film_to_array(
    images: Tensor,
    marks: tuple[Tensor, Tensor],
    curve: tuple[Tensor, Tensor],
    ylabel: str,
    *,
    limit: float = 13.0,
    figsize: tuple[float, float] = (5.6, 2.6),
) -> np.ndarray:
    """A film of grey pictures over a curve of t from 0 to 1, each above its mark: one frame for a Scrubber, (H, W, 3).

    images (N, 1, H, W) in [-1, 1]; marks (x, y), (N,) each; curve (x, y) of any length; y from -limit to limit.
    """
    left, width, lo, hi = 0.11, 0.87, -0.03, 1.05  # of the axes in the figure, and their ends
    fig = plt.figure(figsize=figsize, dpi=100)
    ax = fig.add_axes([left, 0.18, width, 0.57])
    ax.plot(*map(_host, curve), color=DATA)
    ax.plot(*map(_host, marks), "o", color=NOISE, markersize=4)
    ax.axhline(0, color="#aaaaaa", linewidth=0.8)
    ax.set(xlim=(lo, hi), ylim=(-limit, limit), xlabel="t (data to noise)", ylabel=ylabel)
    for image, t in zip(images, marks[0].tolist(), strict=True):
        small = fig.add_axes([left + width * (t - lo) / (hi - lo) - 0.033, 0.8, 0.066, 0.15])
        small.imshow(_host(image[0]), cmap="gray", vmin=-1, vmax=1)
        small.set_axis_off()
    return figure_to_array(fig)


def _host(x: Any) -> Any:
    """What matplotlib can read: a tensor without its graph, in the host's memory; anything else as it is."""
    return x.detach().cpu() if isinstance(x, Tensor) else x


def _few_colours(picture: Image.Image, colours: int) -> Image.Image:
    return picture.quantize(colours, dither=Image.Dither.NONE)  # dithering would not compress


def image_grid(
    images: Tensor | np.ndarray,
    *,
    alt: str,
    caption: str = "",
    columns: int | None = None,
    zoom: int | None = None,
    smooth: bool = False,
) -> Shown:
    """A sheet of pictures (B, C, H, W) in [-1, 1]; a pixel is a square of zoom screen pixels, or smooth."""
    sheet = tile(to_uint8(images), columns)  # (rows of pictures, gaps and all, 3)
    zoom = zoom or max(1, 560 // sheet.shape[1])
    uri = data_uri(*encode(sheet, SMOOTH_FILE if smooth else None))
    return Shown(_img(uri, alt, SMOOTH if smooth else PIXELS, sheet.shape[1] * zoom), alt, caption)


def points(
    panels: Mapping[str, Tensor | Sequence[tuple[Tensor, str]]],
    *,
    alt: str,
    caption: str = "",
    limit: float | None = None,
    size: float = 2.4,
    **labels: Any,
) -> Shown:
    """Points in the plane, one square panel for each title: points (N, 2), or several as [(points, colour), ...].

    limit: the panels show [-limit, limit] both ways, by default what all points need. labels: see curves.
    """
    drawn = {title: [(x, DATA)] if isinstance(x, Tensor) else list(x) for title, x in panels.items()}
    limit = limit or 1.05 * max(float(x.abs().max()) for layers in drawn.values() for x, _ in layers)
    width = size * len(drawn)
    options = {"ncols": len(drawn), "figsize": (width, size + 0.4), "squeeze": False, "layout": "constrained"}
    with _subplots(**options) as (fig, ax):
        for panel, (title, layers) in zip(ax[0], drawn.items(), strict=True):
            for x, colour in layers:
                panel.scatter(*_host(x).T, s=2, color=colour, linewidths=0, rasterized=len(x) > 2000)
            axes = {"xlim": (-limit, limit), "ylim": (-limit, limit), "xticks": [], "yticks": []} | labels
            panel.set(title=title, aspect="equal", **axes)
        return figure(fig, alt=alt, caption=caption)


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
    with _subplots(figsize=figsize, layout="constrained") as (fig, ax):
        _draw_curves(ax, lines, floor)
        ax.set(**labels)
        if {"xticks", "yticks"} & labels.keys():
            ax.minorticks_off()  # on a logarithmic axis their labels would stand between those that were asked for
        if len(lines) > 1:
            ax.legend()
        return figure(fig, alt=alt, caption=caption)


def curve_panels(
    panels: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    alt: str,
    caption: str = "",
    floors: Mapping[str, float] | None = None,
    size: tuple[float, float] = (3.2, 3.0),
    **labels: Any,
) -> Shown:
    """Curves side by side, a panel for each title: {title: lines}, lines as in curves; one legend, in the first panel.

    floors: a dotted level for some of the titles. size: of a panel, in inches. labels: Axes.set's, for every panel.
    """
    width, height = size
    options = {"ncols": len(panels), "figsize": (width * len(panels), height), "squeeze": False}
    with _subplots(**options, layout="constrained") as (fig, axes):
        for ax, (title, lines) in zip(axes[0], panels.items(), strict=True):
            _draw_curves(ax, lines, (floors or {}).get(title))
            ax.set(title=title, **labels)
        if any(len(lines) > 1 for lines in panels.values()):
            axes[0][0].legend()
        return figure(fig, alt=alt, caption=caption)


def _draw_curves(ax: Any, lines: Mapping[str, Sequence[Any]], floor: float | None) -> None:
    looks = [(ESTIMATE, "o-"), (DATA, "s--"), (NOISE, "^-."), ("#555555", "d:"), ("#1b8a5a", "v-"), ("#7a4fb5", "x--")]
    if len(lines) > len(looks):
        raise ValueError(f"lines: expected at most {len(looks)} curves, got {len(lines)}")
    for (name, line), (colour, style) in zip(lines.items(), looks, strict=False):
        x, y, *error = map(_host, line)
        marker = style if len(x) <= 30 else style[1:]  # markers on a fine grid would hide the line
        ax.errorbar(x, y, *error, fmt=marker, color=colour, markersize=4, capsize=2, label=name)
    if floor is not None:
        ax.axhline(floor, color="grey", linestyle=":")


def heatmaps(
    panels: Mapping[str, Tensor | tuple[Tensor, float]],
    *,
    alt: str,
    caption: str = "",
    columns: int = 4,
    size: float = 1.9,
) -> Shown:
    """Fields (H, W) side by side, each under its title, in colour from -1 to 1; NaN, where nothing is known, is white.

    (field, most) instead of a field: in grey, from white at 0 to black at most, for errors and standard deviations.
    """
    rows = -(-len(panels) // columns)
    options = {"nrows": rows, "ncols": columns, "figsize": (size * columns, (size + 0.25) * rows), "squeeze": False}
    with _subplots(**options, layout="constrained") as (fig, grid):
        for ax in grid.flat:
            ax.set_axis_off()
        for ax, (title, panel) in zip(grid.flat, panels.items(), strict=False):
            field, look = panel, {"cmap": "cividis", "vmin": -1, "vmax": 1}
            if isinstance(panel, tuple):
                field, look = panel[0], {"cmap": "Greys", "vmin": 0, "vmax": panel[1]}
            ax.imshow(_host(field), interpolation="nearest", **look)
            ax.set_title(title, fontsize=10)
        return figure(fig, alt=alt, caption=caption)


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
