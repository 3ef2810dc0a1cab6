"""1797 real handwritten digits of 8x8 pixels, which come with scikit-learn: nothing to download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation

HELD_OUT = 500


def small_digits(split: str = "all") -> tuple[Tensor, Tensor]:
    """Handwritten digits of 13 writers (Alpaydin & Kaynak 1998, the test part of the UCI optical digits).

    split  "all" 1797 pictures; "train" 1297 and "held_out" 500 are a fixed random division of them

    Returns images (N, 1, 8, 8) float32 in [-1, 1] and labels (N,) int64. A pixel has 17 levels of ink, 0 to 16: paper
    is -1, full ink is 1.
    """
    validation.one_of("split", split, ("all", "train", "held_out"))
    from sklearn.datasets import load_digits  # one second to import: only those who want digits wait for it

    ink, label = load_digits(return_X_y=True)
    images = torch.from_numpy(ink).float().reshape(-1, 1, 8, 8) / 8 - 1
    labels = torch.from_numpy(label).long()
    if split == "all":
        return images, labels
    order = np.random.RandomState(0).permutation(len(images))
    rows = torch.from_numpy(order[:-HELD_OUT] if split == "train" else order[-HELD_OUT:])
    return images[rows], labels[rows]
