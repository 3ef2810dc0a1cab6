"""5,000 handwritten digits of MNIST, which lie in data/ as one picture: nothing to download.

The sheet shows them in rows of 100, white ink on black, 500 of each digit: five rows of zeros, then five of ones, and
so on. So the place says the label. `python -m tools.mnist_sheet` makes the file again.
"""

from __future__ import annotations

import hashlib
import io
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import validation

SHEET = Path(__file__).resolve().parents[2] / "data" / "mnist_sample.png"
SHA256 = "315cc6bced8d0cb80bc6376e145033531b8d0d27bf780f5144308d3ddf7060bd"  # of the file
SIDE, COLUMNS = 28, 100  # pixels of a digit; digits in a row of the sheet
EACH, HELD_OUT = 500, 100  # pictures of every digit, and how many of them are held out


def mnist_sample(split: str = "train", side: int = 28) -> tuple[Tensor, Tensor]:
    """Handwritten digits (LeCun, Cortes & Burges): 5000 of MNIST's training set, 500 of each.

    split  "train" 4000 pictures, 400 of each digit; "held_out" the other 1000, 100 of each; both shuffled, always alike
    side   of a picture in pixels: 28, or 14, where every pixel is the mean of four

    Returns images (N, 1, side, side) float32 in [-1, 1], paper -1 and ink 1, and labels (N,) int64 from 0 to 9. Raises
    ValueError that names a bad argument, and OSError for a file that is missing or damaged.
    """
    validation.one_of("split", split, ("train", "held_out"))
    if side not in (SIDE, SIDE // 2):
        raise ValueError(f"side: expected {SIDE} or {SIDE // 2}, got {side!r}")
    rows = _rows(split)
    images = torch.from_numpy(cut(_sheet())[rows]).float().div_(127.5).sub_(1)[:, None]
    return images if side == SIDE else F.avg_pool2d(images, 2), torch.from_numpy(rows // EACH)


def cut(sheet: np.ndarray) -> np.ndarray:
    """The pictures (N, 28, 28) on a sheet (H, W), row by row."""
    rows, columns = (size // SIDE for size in sheet.shape)
    return sheet.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)


def _sheet() -> np.ndarray:
    """The pixels of the file, (1400, 2800) bytes: 0 is paper, 255 ink."""
    from PIL import Image  # slow to import

    content = SHEET.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:  # the labels follow from the place: other pixels, other labels
        raise OSError(f"{SHEET}: damaged, or another file (expected the SHA-256 {SHA256}); `git checkout` restores it")
    return np.asarray(Image.open(io.BytesIO(content), formats=["PNG"]))


def _rows(split: str) -> np.ndarray:
    """Places on the sheet (N,) int64 of a split, shuffled.

    Chance is the SHA-256 of the place, which no version of a random generator can change: the 100 places of each digit
    where it is largest are held out.
    """
    rows = []
    for first in range(0, 10 * EACH, EACH):
        drawn = sorted(range(first, first + EACH), key=partial(_chance, "split"))
        rows += drawn[-HELD_OUT:] if split == "held_out" else drawn[:-HELD_OUT]
    return np.array(sorted(rows, key=partial(_chance, "order")))


def _chance(purpose: str, row: int) -> bytes:
    """As good as random, and independent for each purpose."""
    return hashlib.sha256(f"{purpose} {row}".encode()).digest()
