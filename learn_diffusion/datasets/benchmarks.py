"""MNIST, Fashion-MNIST and CIFAR-10: downloaded on request, and checked by SHA-256.

The files are the original ones, of 12, 31 and 170 MB. Addresses and checksums agree with those of torchvision and
TensorFlow Datasets. The formats are plain bytes: nothing in a file is executed.
"""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.datasets import download

SPLITS = ("train", "held_out")


class Source(NamedTuple):
    """Where a data set comes from."""

    mirrors: tuple[str, ...]  # folders
    files: dict[str, str]  # name: SHA-256


SOURCES = {
    "mnist": Source(
        ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion_mnist": Source(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "cifar10": Source(
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        ),
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    ),
}


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Handwritten digits (LeCun, Bottou, Bengio & Haffner 1998): 60000 to train on, and 10000 by other writers.

    split  "train", or "held_out", which its makers call the test set

    Returns images (N, 1, 28, 28) float32 in [-1, 1], paper -1 and ink 1, and labels (N,) int64 from 0 to 9. Raises
    download.DownloadError if a file is neither in the cache nor delivered by a mirror, ValueError for another split.
    """
    return _idx_pair("mnist", split)


def fashion_mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Photographs of clothes in ten classes (Xiao, Rasul & Vollgraf 2017): number, size and errors as in mnist.

    Labels: 0 T-shirt, 1 trousers, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9 ankle boot.
    """
    return _idx_pair("fashion_mnist", split)


def cifar10(split: str = "train") -> tuple[Tensor, Tensor]:
    """Small colour photographs in ten classes (Krizhevsky 2009): 50000 to train on, 10000 held out.

    Labels: 0 aeroplane, 1 car, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 lorry.

    Returns images (N, 3, 32, 32) float32 in [-1, 1] and labels (N,) int64; "train" takes 0.6 GB of memory. Raises as
    mnist does. This reads the binary version: the better-known one for Python is a pickle, which can run code.
    """
    validation.one_of("split", split, SPLITS)
    names = ["test_batch.bin"] if split == "held_out" else [f"data_batch_{i}.bin" for i in range(1, 6)]
    with tarfile.open(_fetch("cifar10", "cifar-10-binary.tar.gz"), "r:gz") as archive:
        parts = [archive.extractfile(f"cifar-10-batches-bin/{name}").read() for name in names]
    rows = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 1 + 3 * 32 * 32)  # a label and its picture
    return _scaled(rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0])


def _idx_pair(name: str, split: str) -> tuple[Tensor, Tensor]:
    validation.one_of("split", split, SPLITS)
    prefix = "train" if split == "train" else "t10k"
    images = _idx(name, f"{prefix}-images-idx3-ubyte.gz", 3)
    return _scaled(images[:, None], _idx(name, f"{prefix}-labels-idx1-ubyte.gz", 1))


def _fetch(name: str, file: str) -> Path:
    mirrors, files = SOURCES[name]
    return download.fetch(download.cache() / name / file, [mirror + file for mirror in mirrors], files[file])


def _idx(name: str, file: str, ndim: int) -> np.ndarray:
    """The array in a gzipped IDX file: four bytes of type, each size as four bytes, and the numbers as bytes."""
    with gzip.open(_fetch(name, file)) as opened:
        content = opened.read()
    shape = np.frombuffer(content, ">u4", ndim, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def _scaled(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.tensor(images, dtype=torch.float32).div_(127.5).sub_(1), torch.tensor(labels, dtype=torch.int64)
