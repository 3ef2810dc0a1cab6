"""From numbers in [-1, 1] to pictures in a page: bytes, sheets and data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

GAP_COLOUR = (112, 128, 158)  # between pictures: a tint, so that it is not taken for a grey pixel


def to_uint8(x: Any, name: str = "images") -> np.ndarray:
    """Pictures (..., C, H, W), C 1 or 3, in [-1, 1] (beyond is clipped) -> RGB (..., H, W, 3) uint8.

    Takes tensors and arrays. uint8 arrays (..., H, W, 3) are taken as rendered already. Raises ValueError for another
    shape, and for NaN, which has no colour.
    """
    x = np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
    if x.dtype == np.uint8:
        if x.ndim < 3 or x.shape[-1] != 3:
            raise ValueError(f"{name}: expected rendered pictures (..., H, W, 3), got uint8 of shape {x.shape}")
        return x
    if x.ndim < 3 or x.shape[-3] not in (1, 3) or x.size == 0:
        raise ValueError(f"{name}: expected pictures (..., C, H, W) with C = 1 or 3, got shape {x.shape}")
    if np.isnan(x).any():
        raise ValueError(f"{name}: expected numbers, got NaN")
    x = np.moveaxis(((np.clip(x, -1, 1) + 1) * 127.5).round().astype(np.uint8), -3, -1)
    return np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x


def tile(batch: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Pictures (..., B, H, W, 3) side by side in rows of `columns` (None: nearly square) -> (..., H', W', 3)."""
    *lead, B, H, W, _ = batch.shape
    columns = min(columns or int(np.ceil(B**0.5)), B)
    rows = -(-B // columns)
    sheet = np.full((*lead, rows * (H + gap) - gap, columns * (W + gap) - gap, 3), GAP_COLOUR, np.uint8)
    for i in range(B):
        top, left = (i // columns) * (H + gap), (i % columns) * (W + gap)
        sheet[..., top : top + H, left : left + W, :] = batch[..., i, :, :, :]
    return sheet


def encode(rgb: np.ndarray, budget: int | None = None) -> tuple[bytes, str]:
    """RGB (H, W, 3) -> (file, mime type): lossless where that fits into budget bytes, else WebP of falling quality."""
    for quality in (None, 90, 80, 65, 50):
        file = io.BytesIO()
        options = {"lossless": True} if quality is None else {"quality": quality}
        Image.fromarray(rgb).save(file, "WEBP", method=6, **options)
        if budget is None or len(file.getvalue()) <= budget:
            break
    return file.getvalue(), "image/webp"


def data_uri(file: bytes, mime: str) -> str:
    """The file as an address that needs no second request."""
    return f"data:{mime};base64,{base64.b64encode(file).decode()}"
