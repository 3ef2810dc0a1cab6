"""A student's own pictures: every odd file is turned into the right picture, or skipped with a reason."""

from __future__ import annotations

import io
import itertools
import os
import random
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from learn_diffusion import checkpoints
from learn_diffusion.datasets.image_files import image_folder
from learn_diffusion.sampling import picture_shape

ROOT = Path(__file__).resolve().parent.parent
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(side=64, colours=(RED, GREEN, BLUE, WHITE)):
    """Four squares: top left, top right, bottom left, bottom right."""
    picture = Image.new("RGB", (side, side))
    for i, colour in enumerate(colours):
        picture.paste(
            colour, (i % 2 * side // 2, i // 2 * side // 2, (i % 2 + 1) * side // 2, (i // 2 + 1) * side // 2)
        )
    return picture


def corners(image):
    """The four quarters of a loaded picture (3, S, S), as bytes, from their middles."""
    s = image.shape[-1]
    near, far = s // 4, 3 * s // 4
    levels = ((image + 1) * 127.5).round().int()
    return [tuple(levels[:, y, x].tolist()) for y in (near, far) for x in (near, far)]


def alike(found, expected, most=0):
    return all(abs(a - b) <= most for f, e in zip(found, expected, strict=True) for a, b in zip(f, e, strict=True))


@pytest.fixture
def one(tmp_path):
    """one(picture, "a.png", ...) saves a picture as PIL does, and loads the folder: (3, 32, 32)."""

    def one(picture, name, **options):
        picture.save(tmp_path / name, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            images = image_folder(tmp_path, 32)
        assert images.shape == (1, 3, 32, 32)
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        assert images.abs().max() <= 1
        return images[0]

    return one


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.JPEG", "without_an_ending"])
def test_the_three_formats(name, one):
    """They are known by their bytes, not by their names."""
    kind = {"a.webp": "WEBP", "a.png": "PNG"}.get(name, "JPEG")
    assert alike(corners(one(quarters(), name, format=kind, quality=95)), [RED, GREEN, BLUE, WHITE], 8)


def test_the_middle_square_is_cut_out(one):
    wide = Image.new("RGB", (200, 64), "black")
    wide.paste(quarters(), (68, 0))
    assert alike(corners(one(wide, "a.png")), [RED, GREEN, BLUE, WHITE])


def test_scaling_is_antialiased(one):
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (256, 128)))
    assert one(stripes, "a.png").abs().max() < 0.05  # grey: neither black nor white


def test_large_jpegs_come_out_as_if_they_had_been_decoded_in_full(one):
    smooth = Image.fromarray(np.random.RandomState(0).randint(0, 256, (8, 8, 3), np.uint8)).resize((2000, 1500), 3)
    file = io.BytesIO()
    smooth.save(file, "JPEG", quality=95)
    middle = Image.open(file).crop((250, 0, 1750, 1500)).resize((32, 32), Image.Resampling.BICUBIC)
    off = (one(smooth, "a.jpg", quality=95) + 1) * 127.5 - torch.from_numpy(np.array(middle)).permute(2, 0, 1)
    assert off.abs().max() <= 8
    assert off.abs().mean() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_pictures_that_a_camera_turned_stand_upright(name, orientation, one):
    undo = {
        2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE",
        8: "ROTATE_270",
    }  # fmt: skip
    picture = quarters()
    if orientation in undo:
        picture = picture.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert alike(corners(one(picture, name, exif=exif, quality=95)), [RED, GREEN, BLUE, WHITE], 8)


def test_cmyk_is_not_inverted(one):
    assert alike(corners(one(quarters().convert("CMYK"), "a.jpg", quality=95)), [RED, GREEN, BLUE, WHITE], 10)


def test_16_bits_of_grey_keep_their_levels(one):
    levels = np.zeros((64, 64), np.uint16)
    levels[:32, 32:], levels[32:, :32], levels[32:] = 257 * 64, 257 * 128, 257 * 200
    expected = [3 * (level,) for level in (0, 64, 200, 200)]
    assert alike(corners(one(Image.fromarray(levels), "a.png")), expected)


def test_16_bits_of_colour_keep_their_levels(tmp_path):
    """Pillow cannot write them, so the file is made by hand."""
    row = b"\0" + struct.pack(">3H", 257 * 10, 257 * 100, 257 * 250) * 8

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">2I5B", 8, 8, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert alike(corners(image_folder(tmp_path, 8)[0]), 4 * [(10, 100, 250)])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L"])
def test_other_modes_become_rgb_and_what_is_transparent_becomes_white(mode, one):
    picture = quarters(colours=((0, 0, 0), WHITE, (0, 0, 0), WHITE)).convert(mode)
    clear = mode in ("RGBA", "LA")
    if clear:
        picture.putalpha(Image.fromarray(np.repeat(np.uint8([[255] * 64, [0] * 64]), 32, axis=0)))
    bottom = [WHITE, WHITE] if clear else [(0, 0, 0), WHITE]
    assert alike(corners(one(picture, "a.png")), [(0, 0, 0), WHITE, *bottom])


def test_a_transparent_colour_of_a_palette_becomes_white(one):
    picture = quarters(colours=(RED, GREEN, BLUE, RED)).quantize(4)
    clear = picture.getpixel((5, 5))
    assert alike(corners(one(picture, "a.png", transparency=clear)), [WHITE, GREEN, BLUE, WHITE], 8)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_of_an_animation_the_first_frame_is_taken(name, one):
    frames = [quarters(), Image.new("RGB", (64, 64), "black"), Image.new("RGB", (64, 64), "grey")]
    more = {"save_all": True, "append_images": frames[1:], "duration": 100}
    lossless = {"lossless": True} if name == "a.webp" else {}
    image = one(frames[0], name, **more, **lossless)
    assert alike(corners(image), [RED, GREEN, BLUE, WHITE], 2)


def test_of_a_jpeg_with_several_pictures_the_first_is_taken(one):
    """Some telephones add a depth map or a smaller copy."""
    more = {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (64, 64), "black")]}
    assert alike(corners(one(quarters(), "a.jpg", quality=95, **more)), [RED, GREEN, BLUE, WHITE], 8)


def test_in_the_order_of_their_names(tmp_path):
    shades = {"b.png": 10, "a.webp": 20, "C.jpg": 30, "b10.png": 40}
    for name, shade in shades.items():
        Image.new("L", (9, 9), shade).save(tmp_path / name, lossless=True)
    levels = (image_folder(tmp_path, 4)[:, 0, 0, 0] + 1) * 127.5
    assert levels.round().tolist() == [shades[name] for name in sorted(shades)]


@pytest.mark.parametrize("side", [(1, 1), (1, 5000), (3, 2)])
def test_tiny_and_narrow_pictures(side, one):
    assert one(Image.new("RGB", side, RED), "a.png")[:, 0, 0].tolist() == [1, -1, -1]


# --- files that cannot be used ----------------------------------------------------------------------------------------


def png_that_claims(width, height):
    """The beginning of a PNG of any size: a bomb, if somebody decoded it."""
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(bytes(1000))
    chunks = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, idat, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def saved(kind, **options):
    file = io.BytesIO()
    noise = Image.fromarray(np.random.RandomState(3).randint(0, 256, (40, 40, 3), np.uint8))
    noise.save(file, kind, **options)
    return file.getvalue()


PNG, JPEG, WEBP, GIF, TIFF = (saved(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF"))
UNUSABLE = {
    "empty": (b"", "empty"),
    "text": (b"not a picture at all", "no PNG, JPEG or WebP picture"),
    "another format": (GIF, "no PNG, JPEG or WebP picture"),
    "yet another": (TIFF, "no PNG, JPEG or WebP picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG, JPEG or WebP picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no PNG, JPEG or WebP picture"),
    "truncated png": (PNG[: len(PNG) // 2], "broken"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "broken"),
    "truncated webp": (WEBP[: len(WEBP) // 2], "broken|no PNG"),
    "a flipped bit": (PNG[:1000] + bytes([PNG[1000] ^ 1]) + PNG[1001:], "broken"),
    "a bomb": (png_that_claims(9000, 9000), "9000x9000, more than 64 million pixels"),
    "a bomb that Pillow warns of": (png_that_claims(10_000, 10_000), "10000x10000, more than 64 million pixels"),
    "a bomb that Pillow refuses": (png_that_claims(2**31 - 1, 2**31 - 1), "too many pixels"),
    "no pixels": (png_that_claims(0, 0), "broken|no PNG"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_skipped_with_a_reason(case, tmp_path):
    content, reason = UNUSABLE[case]
    quarters().save(tmp_path / "good.png")
    (tmp_path / "odd.png").write_bytes(content)
    with pytest.warns(UserWarning, match=rf"1 of 2 files skipped: 'odd.png' \(({reason})") as seen:
        images = image_folder(tmp_path, 32)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert "\n" not in str(seen[0].message)
    assert alike(corners(images[0]), [RED, GREEN, BLUE, WHITE])


def test_a_large_file_is_not_read(tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.write(PNG)
        file.truncate(60_000_000)  # a hole: takes no space
    with pytest.raises(ValueError, match=r"found none; .*'large.png' \(more than 50 MB\)"):
        image_folder(tmp_path, 8)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_folders_pipes_and_broken_links_are_no_files(tmp_path):
    quarters().save(tmp_path / "good.png")
    (tmp_path / "more").mkdir()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.warns(UserWarning, match="4 of 6 files") as seen:
        assert len(image_folder(tmp_path, 8)) == 2
    for name in ("more", "lost.png", "round.png", "pipe.png"):
        assert f"'{name}' ({'a folder' if name == 'more' else 'no file'}" in str(seen[0].message)


def test_hidden_files_are_passed_over(tmp_path):
    quarters().save(tmp_path / "good.png")
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(image_folder(str(tmp_path), 8)) == 1


def test_ten_are_named_and_the_rest_is_counted(tmp_path):
    quarters().save(tmp_path / "z.png")
    for i in range(25):
        (tmp_path / f"{i:02}.png").touch()
    with pytest.warns(UserWarning, match="25 of 26 files skipped: '00.png' .*'09.png' .*, and 15 more$") as seen:
        image_folder(tmp_path, 8)
    assert "'10.png'" not in str(seen[0].message)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_strange_name_stays_on_one_line(tmp_path):
    (tmp_path / "two\nlines\u202e.png").touch()
    with pytest.raises(ValueError, match=r"'two\\nlines\\u202e.png' \(empty\)"):
        image_folder(tmp_path, 8)


@pytest.mark.parametrize("content", [PNG, JPEG, WEBP], ids=["png", "jpeg", "webp"])
def test_altered_files_never_stop_the_others(content, tmp_path):
    """300 files with a few altered bytes each: every one is a picture in the end, or a line in the list."""
    rng = random.Random(0)
    for i in range(300):
        altered = bytearray(content)
        for _ in range(rng.choice([1, 3, 30])):
            altered[rng.randrange(len(altered))] = rng.randrange(256)
        if rng.random() < 0.3:
            del altered[rng.randrange(len(altered)) :]
        (tmp_path / f"{i:03}").write_bytes(altered)
    Image.new("L", (8, 8), 255).save(tmp_path / "z.png")
    with pytest.warns(UserWarning, match=r"\d+ of 301 files skipped") as seen:
        images = image_folder(tmp_path, 8)
    assert len(seen) == 1  # Pillow's own are not passed on
    skipped = int(re.search(r"(\d+) of 301", str(seen[0].message))[1])
    assert len(images) == 301 - skipped
    assert torch.isfinite(images).all()
    assert images.abs().max() <= 1
    assert (images[-1] == 1).all()


BAD = {
    "no such folder": ("nowhere", 8, FileNotFoundError, "path: expected a folder .*nowhere does not exist"),
    "a file": ("file.png", 8, NotADirectoryError, "path: expected a folder .*file.png is none"),
    "an empty folder": ("void", 8, ValueError, "path: expected a folder with PNG, .*found none; .*void$"),
    "a number": (3, 8, TypeError, "path: expected the name of a folder, got int"),
    "nothing": (None, 8, TypeError, "path: expected the name of a folder, got NoneType"),
    "size 0": ("void", 0, ValueError, "size: expected a whole number"),
    "half a size": ("void", 8.5, ValueError, "size: expected a whole number"),
    "two sizes": ("void", (8, 8), ValueError, "size: expected a whole number"),
    "a giant size": ("void", 100_000, ValueError, "size: expected at most 1024"),
}


@pytest.mark.parametrize("case", BAD)
def test_names_the_argument(case, tmp_path):
    (tmp_path / "void").mkdir()
    quarters().save(tmp_path / "file.png")
    path, size, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        image_folder(tmp_path / path if isinstance(path, str) else path, size)


def test_the_page_on_your_own_pictures_runs(tmp_path, monkeypatch):
    """As it stands there, but for the number of steps."""
    page = (ROOT / "book" / "own_pictures.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", page, re.M | re.S)[1]
    assert "steps=2000, batch=16" in block
    monkeypatch.chdir(tmp_path)
    Path("my_pictures").mkdir()
    for i, colours in enumerate(itertools.islice(itertools.permutations((RED, GREEN, BLUE, WHITE)), 10)):
        quarters(80, colours).save(f"my_pictures/{i}.jpg")
    space = {}
    exec(block.replace("steps=2000, batch=16", "steps=2, batch=4, device='cpu'"), space)
    assert (len(space["learn"]), len(space["held_out"])) == (8, 2)
    assert space["samples"].shape == (16, 3, 32, 32)
    model, metadata = checkpoints.load("my_pictures.safetensors", "cpu")
    assert picture_shape(model, metadata) == (3, 32, 32)  # what learn-diffusion sample asks
