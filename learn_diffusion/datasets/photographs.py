"""One photograph and the crops of it: two come with scikit-learn, and a student's own works the same way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.datasets.image_files import read_picture

SIDE = 8  # height and width are multiples of it: a UNet halves them a few times
# in scikit-learn's sklearn/datasets/images, whose README names author and source
SHIPPED = {
    "flower": ("flower.jpg", "vultilion", "https://www.flickr.com/photos/vultilion/6056698931"),
    "china": ("china.jpg", "danielbuechele", "https://www.flickr.com/photos/danielbuechele/6061409035"),
}


class Photograph(NamedTuple):
    """A photograph, and whose it is."""

    pixels: Tensor  # (3, H, W) float32 in [-1, 1]
    author: str
    licence: str
    source: str


def photograph(which: str | os.PathLike = "flower", height: int = 104) -> Photograph:
    """A photograph at a chosen size.

    which   "flower" or "china", which come with scikit-learn, or the name of a PNG, JPEG or WebP file (see
            image_folder for how it is read)
    height  in pixels, a multiple of 8; the width follows from its shape, rounded to a multiple of 8

    Raises ValueError that names a bad argument or says why a file cannot be used, FileNotFoundError for no file.
    """
    if not isinstance(height, int) or height < SIDE or height % SIDE:
        raise ValueError(f"height: expected a multiple of {SIDE}, got {height!r}")
    if which in SHIPPED:
        import sklearn

        name, author, source = SHIPPED[which]
        file = Path(sklearn.__file__).parent / "datasets" / "images" / name
        about = author, "CC BY 2.0", source
    else:
        file = Path(os.path.expanduser(which))
        if not file.exists():
            raise FileNotFoundError(f"which: expected {' or '.join(map(repr, SHIPPED))}, or a file; got {str(which)!r}")
        about = "you", "yours to say", str(file)

    def scaled(width: int, tall: int) -> tuple[int, int]:
        return max(SIDE, round(height * width / tall / SIDE) * SIDE), height

    try:
        pixels = read_picture(file, scaled)
    except Exception as error:  # a damaged file makes Pillow raise many kinds
        raise ValueError(f"which: {file} cannot be used: {error or type(error).__name__}") from None
    return Photograph(torch.from_numpy(pixels).permute(2, 0, 1).float().div_(127.5).sub_(1).contiguous(), *about)


def crops(pixels: Tensor, size: int, n: int | None = None, seed: int = 0) -> Tensor:
    """Squares (n, C, size, size) of a picture (C, H, W), at n different random places; None: at every place, in order.

    Raises ValueError for a size or a number that the picture does not have.
    """
    validation.positive_int("size", size)
    if pixels.ndim != 3 or size > min(pixels.shape[1:]):
        raise ValueError(f"size: expected at most the smaller side of a picture (C, H, W), got {size} for "
                         f"{tuple(pixels.shape)}")  # fmt: skip
    every = pixels.unfold(1, size, 1).unfold(2, size, 1)  # (C, rows, columns, size, size): a view, no copy
    rows, columns = every.shape[1:3]
    if n is None:
        places = torch.arange(rows * columns)
    elif validation.positive_int("n", n) > rows * columns:
        raise ValueError(f"n: expected at most {rows * columns}, the number of places for a crop, got {n}")
    else:
        g = torch.Generator().manual_seed(validation.whole_number("seed", seed))
        places = torch.randperm(rows * columns, generator=g)[:n]
    return every[:, places // columns, places % columns].movedim(1, 0).contiguous()
