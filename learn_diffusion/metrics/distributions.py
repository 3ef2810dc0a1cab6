"""How close are samples to real data? Compare each number with that of real against real data, with
its error bar, and at equal numbers of samples.

All take features, float (N, D): what a network trained on the data makes of pictures (Classifier.features,
AttributeClassifier.features), or the coordinates of points.

| question | metric | best |
|---|---|---|
| are the distributions alike? | frechet, kernel_distance | 0, or real against real |
| do samples look real? | precision, density | 1, or real against real |
| is all of the real data covered? | recall, coverage, modes | 1, or real against real |
| are they copies of the training data? | nn_distance_ratio | 1; below it: copies |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance between two clouds of features, a (N, D) and b (M, D), each taken as one Gaussian.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B (Heusel et al. 2017, eq. 6). Its
    unit is that of the features squared, and it grows as samples get fewer: compare only equal N, M and features.
    """
    a, b = feature_pair("a", a, "b", b, at_least=2)
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    # the eigenvalues of A B are those of the symmetric B^(1/2) A B^(1/2), real and >= 0 but for rounding
    values, vectors = torch.linalg.eigh(cov_b)
    root_b = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root_b @ cov_a @ root_b).clamp(min=0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return (gap + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Kernel distance (KID) between two clouds of features, a (N, D) and b (M, D): squared, unbiased.

    The squared maximum mean discrepancy with the kernel (u v / D + 1)^3 (Binkowski et al. 2018, eq. 4): unlike the
    Fréchet distance it is right on average for any N and M, takes no cloud for a Gaussian, and may come out below 0.
    """
    a, b = feature_pair("a", a, "b", b, at_least=2)

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        return (u @ v.T / a.shape[1] + 1) ** 3

    def within(u: Tensor) -> Tensor:
        k = kernel(u, u)
        return (k.sum() - k.trace()) / (len(u) * (len(u) - 1))  # without the pairs of a row with itself

    return (within(a) + within(b) - 2 * kernel(a, b).mean()).item()


class PrecisionRecall(NamedTuple):
    """What precision_recall finds, both from 0 to 1."""

    precision: float  # share of samples that lie among the real data
    recall: float  # share of real data that lies among the samples


def precision_recall(samples: Tensor, real: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019) of samples (N, D) against real (M, D).

    A point lies among others if it is nearer to one of them than that one's k-th neighbour of its own kind.
    One outlier with a wide neighbourhood can lift either; see density_coverage.
    """
    k = validation.positive_int("k", k)
    samples, real = feature_pair("samples", samples, "real", real, at_least=k + 1)
    apart = torch.cdist(samples, real)  # (N, M)
    precise = (apart < _radius(real, k)).any(1)
    recalled = (apart < _radius(samples, k)[:, None]).any(0)
    return PrecisionRecall(precise.double().mean().item(), recalled.double().mean().item())


class DensityCoverage(NamedTuple):
    """What density_coverage finds."""

    density: float  # how many neighbourhoods of real data a sample lies in, over k: can exceed 1
    coverage: float  # share of real neighbourhoods with a sample in them


def density_coverage(samples: Tensor, real: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020) of samples (N, D) against real (M, D), which outliers disturb less.

    Both use the neighbourhoods of the real data alone: each reaches to its k-th real neighbour.
    """
    k = validation.positive_int("k", k)
    samples, real = feature_pair("samples", samples, "real", real, at_least=k + 1)
    apart, radius = torch.cdist(samples, real), _radius(real, k)
    density = (apart < radius).sum().item() / (k * len(samples))
    coverage = (apart.min(0).values < radius).double().mean().item()
    return DensityCoverage(density, coverage)


def _radius(x: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest neighbour, itself not counted, (N,)."""
    return torch.cdist(x, x).kthvalue(k + 1, dim=1).values


class Modes(NamedTuple):
    """What modes finds."""

    found: int  # modes with a sample that belongs to them
    good: float  # share of samples that belong to a mode
    evenness: float  # 1: all modes equally often; 0: all samples in one. Entropy of the counts over its largest value


def modes(points: Tensor, centres: Tensor, radius: float) -> Modes:
    """How many of the known modes, centres (K, D), do points (N, D) reach?

    A point belongs to its nearest centre, if that is no farther than radius (three standard deviations of a mode is
    usual: Srivastava et al. 2017).
    """
    points, centres = feature_pair("points", points, "centres", centres)
    if not radius > 0:
        raise ValueError(f"radius: expected a distance above 0, got {radius!r}")
    away, which = torch.cdist(points, centres).min(1)
    counts = torch.bincount(which[away <= radius], minlength=len(centres)).double()
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * share.log()).sum().item()
    most = torch.tensor(float(len(centres))).log().item()
    evenness = entropy / most if len(centres) > 1 else float(len(share))
    return Modes(int((counts > 0).sum()), (away <= radius).double().mean().item(), evenness)


def feature_pair(name_a: str, a: Tensor, name_b: str, b: Tensor, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Both in double precision. Raises TypeError or ValueError that names a bad one."""
    for name, x in ((name_a, a), (name_b, b)):
        validation.floats(name, x)
        if x.ndim != 2:
            hint = "; of pictures, a classifier's features, or x.flatten(1) for their pixels" if x.ndim == 4 else ""
            raise ValueError(f"{name}: expected features (N, D), got shape {tuple(x.shape)}{hint}")
        validation.finite(name, x)
        if len(x) < at_least:
            raise ValueError(f"{name}: expected at least {at_least} rows of features, got {len(x)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{name_b}: expected {a.shape[1]} features a row, as {name_a} has, got {b.shape[1]}")
    return validation.to_double(a), validation.to_double(b)


def nn_distance_ratio(samples: Tensor, train: Tensor, held_out: Tensor) -> float:
    """Do samples copy the training data? Median distance to the nearest training picture over that of held-out data.

    All (N, ...) pictures or features. 1: samples lie as near to the training data as unseen real data does; well below
    1: copies.
    """
    for name, x in (("samples", samples), ("train", train), ("held_out", held_out)):
        validation.floats(name, x)
        validation.finite(name, x)
        if len(x) == 0:
            raise ValueError(f"{name}: expected at least one row, got none")
        if x.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"{name}: expected rows of the shape {tuple(train.shape[1:])}, as train has, got {tuple(x.shape[1:])}"
            )

    def to_train(x: Tensor) -> Tensor:
        kind = torch.promote_types(x.dtype, train.dtype)
        return torch.cdist(x.flatten(1).to(kind), train.flatten(1).to(kind)).min(dim=1).values.median()

    if (unseen := to_train(held_out)) == 0:
        raise ValueError("held_out: expected rows that train does not have, got copies of them")
    return (to_train(samples) / unseen).item()


class AllMetrics(NamedTuple):
    """What all_metrics finds: every metric of this module that pictures can be measured with."""

    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float
    nearest: float


def all_metrics(samples: Tensor, real: Tensor, train: Tensor) -> AllMetrics:
    """All metrics of samples (N, D) at once, on features: against unseen real data (M, D), and for copies of the
    training data (L, D)."""
    return AllMetrics(
        frechet(samples, real),
        kernel_distance(samples, real),
        *precision_recall(samples, real),
        *density_coverage(samples, real),
        nn_distance_ratio(samples, train, real),
    )
