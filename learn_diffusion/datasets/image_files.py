"""A student's own pictures: a folder of them, or one file."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation

if TYPE_CHECKING:
    from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 50_000_000  # of a file
MOST_PIXELS = 64_000_000  # of a picture, up to 0.6 GB while it is read: a small file can claim to hold any number
LARGEST = 1024  # side
NAMED = 10  # skipped files that are named; the others are counted


def image_folder(path: str | os.PathLike, size: int) -> Tensor:
    """The PNG, JPEG and WebP pictures in a folder, (N, 3, size, size) float32 in [-1, 1], in the order of their names.

    path  the folder. Its own files are read, not those of folders in it; hidden files are passed over
    size  of the square that is left, in pixels, from 1 to 1024

    Of each picture the largest square in its middle is cut out, and scaled with antialiasing. A picture that a camera
    marked as turned (EXIF) is turned upright, transparent parts become white, of an animation the first frame is taken;
    CMYK, grey, 16 bits and palettes become RGB. Embedded colour profiles are not applied.

    A file that cannot be used is skipped: empty, no picture of these formats, broken or truncated, above 50 MB or above
    64 million pixels (which is looked at before anything is decoded). One warning lists what was skipped, and why.
    Raises TypeError or ValueError that names a bad argument; FileNotFoundError or NotADirectoryError for a path that
    leads to no folder; ValueError where no file can be used.
    """
    validation.positive_int("size", size)
    if size > LARGEST:
        raise ValueError(f"size: expected at most {LARGEST} pixels, got {size}")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected the name of a folder, got {type(path).__name__}")
    path = Path(os.path.expanduser(path))  # Path's own stops at a ~name that is nobody's
    if not path.exists():
        raise FileNotFoundError(f"path: expected a folder of pictures, but {path} does not exist")
    if not path.is_dir():
        raise NotADirectoryError(f"path: expected a folder of pictures, but {path} is none")
    pictures, skipped = [], []
    for file in sorted(path.iterdir(), key=lambda file: file.name):
        if file.name.startswith("."):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, which warns even of what it reads well
                pictures.append(torch.from_numpy(read_picture(file, lambda width, height: (size, size))))
        except Exception as error:  # a broken file makes decoders fail in any way: it must not stop the others
            reason = str(error) if type(error) is UnusableError else f"broken: {error or type(error).__name__}"
            skipped.append(f"{file.name!r} ({' '.join(reason.split())})")
    more = [f"and {len(skipped) - NAMED} more"] if len(skipped) > NAMED else []
    summary = f"{path}: {len(skipped)} of {len(skipped) + len(pictures)} files skipped: " if skipped else ""
    summary += ", ".join(skipped[:NAMED] + more)
    if not pictures:
        raise ValueError(f"path: expected a folder with PNG, JPEG or WebP pictures, found none; {summary or path}")
    if skipped:
        warnings.warn(summary, stacklevel=2)
    return torch.stack(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


class UnusableError(Exception):
    """Why a file cannot be used, in words for the reader."""


def read_picture(file: Path, scaled: Callable[[int, int], tuple[int, int]]) -> np.ndarray:
    """A picture, (H, W, 3) bytes, scaled to fill what `scaled` answers to its width and height, (W, H), and cut
    there around its middle.

    Raises UnusableError, or any error of a decoder where the file is broken.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if file.is_dir():
        raise UnusableError("a folder: pass its own path to read it")
    if not file.is_file():  # a link to nowhere, or a pipe, which would keep us waiting
        raise UnusableError("no file")
    with open(file, "rb") as opened:
        content = opened.read(MOST_BYTES + 1)
    if not content or len(content) > MOST_BYTES:
        raise UnusableError(f"more than {MOST_BYTES // 1_000_000} MB" if content else "empty")
    content = _what_is_drawn(content)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        bomb = isinstance(error, Image.DecompressionBombError)
        raise UnusableError("too many pixels" if bomb else "no PNG, JPEG or WebP picture") from None
    if image.width * image.height > MOST_PIXELS:
        raise UnusableError(f"{image.width}x{image.height}, more than {MOST_PIXELS // 1_000_000} million pixels")
    if image.format == "PNG":  # the only one of the three that has a checksum of each part
        Image.open(io.BytesIO(content), formats=FORMATS).verify()
    image.draft(
        None, (3 * max(scaled(*image.size)),) * 2
    )  # large JPEGs are decoded at an eighth, a quarter or half of their size
    with suppress(Exception):  # damaged EXIF makes its reader fail in any way, and the picture is whole without it
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits of grey, which convert would clip
        image = _eight_bits(image)
    mode = "RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB"
    image = image if image.mode == mode else image.convert(mode)  # which copies: a large one should be there once
    image = ImageOps.fit(image, scaled(*image.size), Image.Resampling.BICUBIC)
    if mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.array(image)


def _what_is_drawn(content: bytes) -> bytes:
    """A PNG without comments, times and profiles: they are not looked at, and Pillow refuses long or damaged ones."""
    if not content.startswith(PNG):
        return content
    kept, at = [PNG], len(PNG)
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")  # length, kind, the chunk itself, checksum
        kind = content[at + 4 : at + 8]
        if kind[:1].isupper() or kind in (b"tRNS", b"eXIf"):  # a capital: no picture without it
            kept.append(content[at:end])
        at = end
    return b"".join(kept)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey as 8, with the transparent level, where it names one, as alpha."""
    from PIL import Image

    levels, transparent = np.asarray(image), image.info.get("transparency")
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(levels == transparent, 0, 255).astype(np.uint8)))
    return grey
