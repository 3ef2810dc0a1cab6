"""A picture to paint a mask on, with the mouse, a finger or the keyboard; Python reads what was painted.

The canvas is plain text/html, as a Scrubber is. It talks to the kernel through the text box of an ordinary ipywidget,
which it fills in as a reader would.
"""

from __future__ import annotations

import html
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from learn_diffusion.widgets.images import PIXELS, as_numpy, data_uri, encode, figcaption, to_uint8
from learn_diffusion.widgets.interactive import ipywidgets_or_error
from learn_diffusion.widgets.scrubber import script

if TYPE_CHECKING:  # only what is painted is a tensor: widgets do without torch
    from torch import Tensor

SIZE = 384  # at most this many screen pixels a side, where zoom is not given
KEYS = "Paint with the mouse or a finger. Keys: arrows move the brush, space paints, Delete clears."


class PaintedMask:
    """A picture under a brush: `canvas = PaintedMask(picture, alt="...")`, shown by being the last line of a cell.

    picture: (C, H, W) floats in [-1, 1], C = 1 or 3, H * W divisible by 4.
    alt: what the picture shows, for who cannot see it. start: (H, W) bool, painted at first; None is nothing.
    brush: pixels that the brush reaches to each side. zoom: screen pixels for one pixel; None chooses.

    `.control` is an ipywidgets text box that holds the mask, shown elsewhere, as by
    Interactive(..., mask=canvas.control);
    `.read(value)` makes of its value a mask (H, W) bool, True where painted. Without a kernel it is a still picture.
    Raises ImportError without ipywidgets, TypeError or ValueError that names the argument.
    """

    def __init__(self, picture: Any, *, alt: str, start: Tensor | None = None, brush: int = 2, zoom: int | None = None):
        self.picture = to_uint8(picture, "picture")
        if self.picture.ndim != 3:
            raise ValueError(f"picture: expected one, (C, H, W), got shape {tuple(np.shape(picture))}")
        self.height, self.width, _ = self.picture.shape
        if self.height * self.width % 4:
            raise ValueError(f"picture: expected H * W divisible by 4, got {self.height} x {self.width}")
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError("alt: expected words that say what the picture shows, got an empty text")
        if not isinstance(brush, int | np.integer) or isinstance(brush, bool) or brush < 0:
            raise ValueError(f"brush: expected a whole number of 0 or more, got {brush!r}")
        self.alt, self.brush = alt, int(brush)
        self.zoom = zoom or max(1, SIZE // max(self.height, self.width))
        mask = np.zeros((self.height, self.width), bool) if start is None else start
        self.key = f"ld-mask-{zlib.crc32(self.picture.tobytes() + alt.encode()):08x}"  # the same in every run
        self.control = ipywidgets_or_error().Text(self.write(mask), description="mask", continuous_update=False)
        self.control.add_class(self.key)

    def __repr__(self) -> str:
        return f"PaintedMask({self.alt})"

    def write(self, mask: Tensor | np.ndarray) -> str:
        """A mask (H, W) bool as the text that the control holds: hexadecimal digits, four pixels each, row by row."""
        mask = as_numpy(mask)
        if mask.dtype != bool or mask.shape != (self.height, self.width):
            raise ValueError(
                f"start: expected a bool mask of shape ({self.height}, {self.width}), got {mask.dtype} of {mask.shape}"
            )
        return np.packbits(mask.reshape(-1, 4), axis=1).tobytes().hex()[::2]

    def read(self, value: str) -> Tensor:
        """The control's text as a mask (H, W) bool, True where painted. Raises ValueError for any other text."""
        import torch

        digits = self.height * self.width // 4
        if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
            raise ValueError(
                f"mask: expected {digits} hexadecimal digits, as the canvas writes them, got {value!r:.60}"
            )
        bits = np.array([int(digit, 16) for digit in value], np.uint8)[:, None] >> np.array([3, 2, 1, 0], np.uint8) & 1
        return torch.from_numpy(bits.astype(bool).reshape(self.height, self.width))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The canvas, which is a still picture where scripts do not run."""
        settings = {
            "key": self.key, "alt": self.alt, "width": self.width, "height": self.height, "zoom": self.zoom,
            "brush": self.brush, "mask": self.control.value,
        }  # fmt: skip
        data = html.escape(json.dumps(settings).replace("</", r"<\/"))
        src = data_uri(*encode(self.picture))
        page = (
            f'<figure class="ld-painter" data-painter="{data}" style="margin:0.5em 0">'
            f'<img alt="{html.escape(self.alt)}" width="{self.width * self.zoom}" {PIXELS} src="{src}">'
            f'<div class="ld-painter-controls"></div>{figcaption(KEYS)}</figure>\n'
            f"<script>(() => {{\n{script('mask_painter.js')}}})();</script>"
        )
        return {"text/html": page, "text/plain": repr(self)}
