"""From numbers in [-1, 1] to pictures in a page: bytes, sheets, files and data URIs."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

GAP_COLOUR = (112, 128, 158)  # between pictures: a tint, so that it is not taken for a grey pixel

# the attributes that make an <img> look alike everywhere: else the website's dark theme frames, dims and centres it
STYLE = "display:block;max-width:100%;height:auto;margin:0;padding:0"
PIXELS = f'class="dark-light" style="{STYLE};image-rendering:pixelated"'
SMOOTH = f'class="dark-light" style="{STYLE};image-rendering:auto"'  # photographs: no pixel is the point
SMOOTH_FILE = 40 * 1024  # bytes of a sheet whose pixels are not the point; others are kept exactly where they fit
CHART = f'class="dark-light" style="{STYLE};background:white"'  # its dark lines need paper


def to_uint8(x: Any, name: str = "images") -> np.ndarray:
    """Pictures (..., C, H, W) in [-1, 1], C = 1 or 3, as RGB bytes (..., H, W, 3).

    x: a tensor of any device, or an array. Values beyond [-1, 1] are clipped: samplers pass there on their way. Bytes
    (..., H, W, 3) are taken as rendered already. Raises TypeError for other integers, and ValueError for other shapes,
    for NaN, which has no colour, and for floats in [0, 255], which would all be white; name stands in the message.
    """
    x = as_numpy(x)
    if x.dtype == np.uint8:
        if x.ndim < 3 or x.shape[-1] != 3:
            raise ValueError(f"{name}: expected rendered pictures (..., H, W, 3), got uint8 of shape {x.shape}")
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"{name}: expected floats in [-1, 1], or bytes as uint8, got {x.dtype}")
    if x.ndim < 3 or x.shape[-3] not in (1, 3) or x.size == 0:
        raise ValueError(f"{name}: expected pictures (..., C, H, W) with C = 1 or 3, got shape {x.shape}")
    if np.isnan(x).any():
        raise ValueError(f"{name}: expected numbers, got NaN in {np.isnan(x).sum()} of {x.size} values")
    if x.min() >= 0 and x.max() > 20:
        raise ValueError(
            f"{name}: expected floats in [-1, 1], got values from {x.min():.3g} to {x.max():.3g}: use x / 127.5 - 1"
        )
    x = np.moveaxis(((np.clip(x, -1, 1) + 1) * 127.5).round().astype(np.uint8), -3, -1)
    return np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x


def as_numpy(x: Any) -> np.ndarray:
    """A tensor of any device and precision, or anything numpy reads, as an array."""
    if hasattr(x, "detach"):  # a torch tensor, known without importing torch
        x = x.detach().cpu()
        x = x.float() if x.is_floating_point() else x  # numpy has no bfloat16
    return np.asarray(x)


def tile(batch: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Pictures (..., B, H, W, 3) side by side in rows of columns (None: nearly square) -> (..., H', W', 3)."""
    *lead, B, H, W, _ = batch.shape
    columns = min(columns or math.ceil(math.sqrt(B)), B)
    rows = math.ceil(B / columns)
    sheet = np.full((*lead, rows * (H + gap) - gap, columns * (W + gap) - gap, 3), GAP_COLOUR, np.uint8)
    for i in range(B):
        top, left = i // columns * (H + gap), i % columns * (W + gap)
        sheet[..., top : top + H, left : left + W, :] = batch[..., i, :, :, :]
    return sheet


def png(rgb: np.ndarray, zoom: int = 1) -> bytes:
    """RGB (H, W, 3) as a PNG file, each pixel a square of zoom x zoom, without smoothing."""
    file = io.BytesIO()
    Image.fromarray(rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)).save(file, "PNG")
    return file.getvalue()


def encode(rgb: np.ndarray, budget: int | None = None) -> tuple[bytes, str]:
    """RGB (H, W, 3) as a file and its mime type: lossless where that fits into budget bytes.

    Else the file that fits and is nearest to rgb in the mean square; where none fits, the smallest. The obvious way
    out, lossy WebP, halves the resolution of colour, which greys colour noise: 75 of 255 levels off at any quality.
    Fewer levels, kept exactly, are no larger and at most half a step off. Smooth pictures do better as lossy WebP.
    """
    exact = _webp(rgb, lossless=True)
    if budget is None or len(exact) <= budget:
        return exact, "image/webp"
    smaller = list(_approximations(rgb))
    fitting = [file for file in smaller if len(file) <= budget]
    chosen = min(fitting, key=lambda file: _mse(file, rgb)) if fitting else min(smaller, key=len)
    return chosen, "image/webp"


def _approximations(rgb: np.ndarray) -> Iterator[bytes]:
    """Smaller files of rgb (H, W, 3): with fewer levels a channel (black and white stay), and lossy."""
    for levels in (64, 32, 16, 12, 8):
        step = 255 / (levels - 1)
        yield _webp(np.rint(np.rint(rgb / step) * step).astype(np.uint8), lossless=True)
    for quality in (90, 75, 60):
        yield _webp(rgb, quality=quality)


def _webp(rgb: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "WEBP", **options)
    return file.getvalue()


def _mse(file: bytes, rgb: np.ndarray) -> float:
    shown = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), float)
    return float(np.square(shown - rgb).mean())


def data_uri(file: bytes, mime: str) -> str:
    """The file as an address that needs no second request."""
    return f"data:{mime};base64,{base64.b64encode(file).decode()}"


def figcaption(text: str) -> str:
    """The words under a <figure>, in the page's own type and colour; nothing where there are none."""
    style = "margin-top:0.5em;font:inherit;color:inherit;text-align:left"
    return f'<figcaption style="{style}">{html.escape(text)}</figcaption>' if text else ""
