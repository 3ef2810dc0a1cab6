"""Data sets that everybody knows: MNIST, Fashion-MNIST and CIFAR-10, downloaded once and checked by SHA-256.

The files are the original ones, of 12, 31 and 170 MB. Addresses and checksums were compared with those of other public
programs, torchvision and TensorFlow Datasets among them. Nothing in a file is executed: the formats are rows of bytes.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.datasets import download

SPLITS = ("train", "held_out")
LARGEST = 1 << 26  # bytes in an IDX file, after decompression: MNIST's largest has 47 million
ROW, ROWS = 1 + 3 * 32 * 32, 10_000  # CIFAR-10: a label and its picture, and so many in each of its six files


class Source(NamedTuple):
    """Where a data set comes from."""

    mirrors: tuple[str, ...]  # folders
    files: dict[str, tuple[str, int]]  # name: SHA-256, bytes


MNIST = {
    "train-images-idx3-ubyte.gz": ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
    "train-labels-idx1-ubyte.gz": ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
    "t10k-images-idx3-ubyte.gz": ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
    "t10k-labels-idx1-ubyte.gz": ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
}
FASHION_MNIST = {
    "train-images-idx3-ubyte.gz": ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
    "train-labels-idx1-ubyte.gz": ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
    "t10k-images-idx3-ubyte.gz": ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
    "t10k-labels-idx1-ubyte.gz": ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
}
CIFAR10 = {
    "cifar-10-binary.tar.gz": ("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171),
}
SOURCES = {
    "mnist": Source(
        ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        MNIST,
    ),
    "fashion_mnist": Source(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        FASHION_MNIST,
    ),
    "cifar10": Source(
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        ),
        CIFAR10,
    ),
}


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Handwritten digits (LeCun, Bottou, Bengio & Haffner 1998): 60000 to train on, and 10000 by other writers.

    split  "train", or "held_out", which its makers call the test set

    Returns images (N, 1, 28, 28) float32 in [-1, 1], paper -1 and ink 1, and labels (N,) int64 from 0 to 9. Raises
    download.DownloadError where a file is neither in the cache nor to be had, ValueError for another split.
    """
    return _idx_pair("mnist", split)


def fashion_mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Photographs of clothes, in ten kinds (Xiao, Rasul & Vollgraf 2017): as many and as large as mnist's, see there.

    Labels: 0 T-shirt, 1 trousers, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.
    """
    return _idx_pair("fashion_mnist", split)


def cifar10(split: str = "train") -> tuple[Tensor, Tensor]:
    """Small colour photographs, in ten kinds (Krizhevsky 2009): 50000 to train on, 10000 held out.

    Labels: 0 aeroplane, 1 car, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 lorry.

    Returns images (N, 3, 32, 32) float32 in [-1, 1] and labels (N,) int64; "train" takes 0.6 GB of memory. Raises as
    mnist does. Read is its binary version: the better-known one for Python is a pickle, which could execute anything.
    """
    validation.one_of("split", split, SPLITS)
    path = _fetch("cifar10", "cifar-10-binary.tar.gz")
    names = ["test_batch.bin"] if split == "held_out" else [f"data_batch_{i}.bin" for i in range(1, 6)]
    try:
        with tarfile.open(path, "r:gz") as archive:
            parts = [_member(archive, f"cifar-10-batches-bin/{name}") for name in names]
    except (tarfile.TarError, EOFError, OSError, ValueError, KeyError, zlib.error) as error:
        raise ValueError(f"{path}: expected the binary version of CIFAR-10 ({error})") from error
    rows = np.concatenate(parts)  # (N, ROW)
    return _scaled(path, rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0])


def _idx_pair(name: str, split: str) -> tuple[Tensor, Tensor]:
    validation.one_of("split", split, SPLITS)
    prefix = "train" if split == "train" else "t10k"
    images = _idx(_fetch(name, f"{prefix}-images-idx3-ubyte.gz"), 3)
    path = _fetch(name, f"{prefix}-labels-idx1-ubyte.gz")
    labels = _idx(path, 1)
    if len(images) != len(labels):
        raise ValueError(f"{path}: expected a label for each of {len(images)} pictures, got {len(labels)}")
    return _scaled(path, images[:, None], labels)


def _fetch(name: str, file: str) -> Path:
    mirrors, files = SOURCES[name]
    sha256, size = files[file]
    return download.fetch(download.cache() / name / file, [mirror + file for mirror in mirrors], sha256, size)


def _idx(path: Path, ndim: int) -> np.ndarray:
    """The bytes of a gzipped IDX file: two zeros, 8 for bytes, ndim, each size as four bytes, and the numbers."""
    try:
        with gzip.open(path) as file:
            header = np.frombuffer(file.read(4 + 4 * ndim), ">u4").astype(np.int64)
            if len(header) != 1 + ndim or header[0] != 0x800 + ndim:
                raise ValueError("its first bytes say something else")
            if (count := prod(map(int, header[1:]))) > LARGEST:
                raise ValueError(f"it announces {count} bytes")
            content = file.read(count + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzipped IDX file of bytes in {ndim} dimensions ({error})") from error
    if len(content) != count:
        raise ValueError(f"{path}: expected the {count} bytes that it announces, got {len(content)} or more")
    return np.frombuffer(content, np.uint8).reshape(header[1:])


def _member(archive: tarfile.TarFile, name: str) -> np.ndarray:
    member = archive.getmember(name)
    if not member.isfile() or member.size != ROWS * ROW:
        raise ValueError(f"{name} is not a file of {ROWS * ROW} bytes")
    return np.frombuffer(archive.extractfile(member).read(), np.uint8).reshape(ROWS, ROW)


def _scaled(path: Path, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    if labels.max(initial=0) > 9:
        raise ValueError(f"{path}: expected labels from 0 to 9, got {labels.max()}")
    return torch.tensor(images, dtype=torch.float32).div_(127.5).sub_(1), torch.tensor(labels, dtype=torch.int64)
