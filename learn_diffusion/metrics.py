"""How close are samples to real data? Each number is worth something only beside its floor (real against real) and
its error bar (several sampling seeds)."""

from __future__ import annotations

import torch
from torch import Tensor

from learn_diffusion import checks


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance between two clouds of features, a (N, D) and b (M, D), each taken as one Gaussian.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B (Heusel et al. 2017, eq. 6). Its
    unit is that of the features squared, and it grows as samples get fewer: compare only equal N, M and features.
    """
    for name, x in (("a", a), ("b", b)):
        checks.floats(name, x, ndim=2)
        checks.finite(name, x)
        if len(x) < 2:
            raise ValueError(f"{name}: expected at least two rows of features, got {len(x)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"b: expected {a.shape[1]} features a row, as a has, got {b.shape[1]}")
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    # the eigenvalues of A B are those of the symmetric B^(1/2) A B^(1/2), real and >= 0 but for rounding
    values, vectors = torch.linalg.eigh(cov_b)
    root_b = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root_b @ cov_a @ root_b).clamp(min=0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return (gap + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def nearest_ratio(samples: Tensor, train: Tensor, held_out: Tensor) -> float:
    """Do samples copy the training data? Median distance to the nearest training picture over that of held-out data.

    All (N, ...) pictures or features. 1: samples lie as near to the training data as unseen real data does; well below
    1: copies.
    """
    for name, x in (("samples", samples), ("train", train), ("held_out", held_out)):
        checks.floats(name, x)
        if len(x) == 0:
            raise ValueError(f"{name}: expected at least one row, got none")

    def to_train(x: Tensor) -> Tensor:
        return torch.cdist(x.flatten(1), train.flatten(1)).min(dim=1).values.median()

    return (to_train(samples) / to_train(held_out)).item()
