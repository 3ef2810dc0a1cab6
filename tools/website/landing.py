"""The first page: a picture that comes out of noise under a slider, and a card with a picture for each chapter."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import yaml
from PIL import Image, ImageOps

from learn_diffusion.recipes.pretrained import DATA
from learn_diffusion.widgets import Scrubber
from learn_diffusion.widgets.images import GAP_COLOUR, png, tile
from tools import ROOT, readme_images
from tools.notebooks import measured, title

SIZE = (320, 200)  # pixels of a card's picture
MOST = 1.6  # times as wide or as high as a card: of a picture that is more, and not on white, a part is shown
CHOSEN = "card"  # the tag of the cell whose picture stands for its chapter


def fill(source: Path) -> None:
    """Write walk.html, the picture for links in other places, and the cards' pictures into the book's source folder."""
    sheet = np.asarray(Image.open(DATA / "prompt_frames.webp").convert("RGB"))  # square frames, one below the other
    frames = sheet.reshape(-1, sheet.shape[1], sheet.shape[1], 3)
    (source / "walk.html").write_text(walk(frames))
    (source / "_static" / "social.png").write_bytes(social(frames))
    (source / "cards").mkdir()
    for _, pages in parts():
        for page in pages:
            fitted(picture(notebook(page)).rgb).save(source / card(page), quality=75)


def walk(frames: np.ndarray) -> str:
    """The slider on top of the page, of frames (N, H, H, 3)."""
    last = len(frames) - 1
    scrubber = Scrubber(
        frames,
        [f"{50 * i // last} of 50" for i in range(last + 1)],
        alt="Noise turns into a cat with dark glasses under a black sky.",
        caption=f'"{readme_images.PROMPT}", by the model of chapter 12. Its training data has no such picture.',
        smooth=True,
        start=round(0.4 * last),  # where a cat can be seen, and noise too
    )
    return scrubber.html


def social(frames: np.ndarray) -> bytes:
    """Eight of the frames in two rows, about 1200 pixels wide, which is what messengers and networks show best."""
    chosen = np.linspace(0, len(frames) - 1, 12).round().astype(int)[[0, *range(5, 12)]]  # at first little happens
    sheet = tile(frames[chosen], columns=4)
    return png(sheet, zoom=max(1, 1200 // sheet.shape[1]))


def parts() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The caption and the notebooks of each part that has some, from book/_toc.yml."""
    for part in yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))["parts"]:
        if pages := [page for page in part["chapters"] if page["file"].startswith("notebooks/")]:
            yield part["caption"], pages


def notebook(page: dict[str, str]) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / f"{page['file']}.ipynb", as_version=4)


def card(page: dict[str, str]) -> str:
    """Where the picture of a chapter's card stands in the book's source folder."""
    return f"cards/{Path(page['file']).name}.webp"


def cards() -> str:
    """Markdown of all cards, by part: number and topic, the question, time and memory. One link each."""
    lines = []
    for caption, pages in parts():
        lines += [f"### {caption}", "", ":::::{container} ld-cards"]
        for page in pages:
            nb = notebook(page)
            facts = re.fullmatch(r"(\d+ s) and (\d+\.\d GB) of memory on (\d+) CPU cores", measured(nb))
            lines += [
                "::::{container} ld-card",
                f":::{{image}} {card(page)}", f":alt: {picture(nb).alt}", ":class: dark-light", ":::",
                f"[{page['title']}]({page['file']}.ipynb)", "",
                title(nb), "",
                f"{facts[1]} · {facts[2]} · {facts[3]} cores", "::::",
            ]  # fmt: skip
        lines += [":::::", ""]
    return "\n".join(lines)


class Picture(NamedTuple):
    """A picture stored in a notebook; of a slider, the frame at a third of its way."""

    rgb: np.ndarray  # (H, W, 3) bytes
    alt: str

    @property
    def colourfulness(self) -> float:
        """How far the channels of a pixel are apart, on average; the tint between pictures is none of it."""
        spread = self.rgb.max(-1).astype(float) - self.rgb.min(-1)
        return float(np.where((self.rgb == GAP_COLOUR).all(-1), 0, spread).mean())


def picture(nb: nbformat.NotebookNode) -> Picture:
    """What stands for a chapter: the first picture of a cell tagged `card`, else the most colourful of all, else the
    first. Raises SystemExit for a notebook without one.
    """
    tagged = [cell for cell in nb.cells if CHOSEN in cell.metadata.get("tags", [])]
    found = [one for cell in tagged or nb.cells for output in cell.get("outputs", []) for one in stored(output)]
    if not found:
        raise SystemExit(f"{nb.cells[0].source.splitlines()[0]}: expected a stored picture for the chapter's card")
    return found[0] if tagged else max(found, key=lambda one: one.colourfulness)


def stored(output: nbformat.NotebookNode) -> Iterator[Picture]:
    """The pictures in an output that have pixels."""
    text = "".join(output.get("data", {}).get("text/html", ""))
    slider = re.search(r'data-scrubber="([^"]*)"', text)
    for image in re.findall(r"<img[^>]*>", text):
        file = re.search(r"data:image/(?:webp|png);base64,([^\"]+)", image)
        if file is None:
            continue  # a chart drawn in lines: too much for a card
        rgb = np.asarray(Image.open(io.BytesIO(base64.b64decode(file[1]))).convert("RGB"))
        alt = html.unescape(re.search(r'alt="([^"]*)"', image)[1])
        if slider:
            settings = json.loads(html.unescape(slider[1]))
            rgb, alt = frame(rgb, settings), settings["alt"]
        yield Picture(rgb, alt)


def frame(sheet: np.ndarray, settings: dict) -> np.ndarray:
    """The frame at a third of a slider's way, with all its panels, cut out of its sheet (H, W, 3)."""
    row, column = divmod(len(settings["labels"]) // 3, settings["columns"])
    across, down = settings["stride"]
    width = max(panel["left"] + panel["width"] for panel in settings["panels"])
    height = max(panel["height"] for panel in settings["panels"])
    return sheet[row * down : row * down + height, column * across : column * across + width]


def fitted(rgb: np.ndarray) -> Image.Image:
    """A picture (H, W, 3) as large as a card shows it: whole, on the colour of its corner, or a part that fills it.
    Pixels stay squares when they are enlarged."""
    height, width, _ = rgb.shape
    zoom = max(1, -(-SIZE[0] // width), -(-SIZE[1] // height))
    large = Image.fromarray(rgb.repeat(zoom, 0).repeat(zoom, 1))
    corner, wide = large.getpixel((0, 0)), width * SIZE[1] / (height * SIZE[0])
    if max(wide, 1 / wide) < MOST or min(corner) > 250:
        return ImageOps.pad(large, SIZE, color=corner)
    return ImageOps.fit(large, SIZE, centering=(0, 0.5))
