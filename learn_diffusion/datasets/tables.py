"""Rows of numbers, some of them missing, and curves measured at a few places: tasks of which the truth is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class HoledTable(NamedTuple):
    """Complete rows to learn from, and others with holes."""

    rows: np.ndarray  # (400, 30), mean 0 and standard deviation 1 in each column
    full: np.ndarray  # (169, 30), in the same units: the truth
    hole: np.ndarray  # (169, 30) bool: this value is missing


def holed_tumours(seed: int = 0, missing: float = 0.4) -> HoledTable:
    """Measurements of 569 tumours, 30 numbers each (Street et al. 1993, from scikit-learn), in logarithms.

    Which 400 rows are complete, and which values of the others are missing, each with this probability and
    independently of everything, is drawn with the seed.
    """
    from sklearn.datasets import load_breast_cancer  # slow to import

    if not 0 < missing < 1:
        raise ValueError(f"missing: expected a share above 0 and below 1, got {missing!r}")
    rng = np.random.default_rng(seed)
    table = rng.permutation(np.log(load_breast_cancer().data + 0.01))  # some are 0
    table = (table - table[:400].mean(0)) / table[:400].std(0)
    return HoledTable(table[:400], table[400:], rng.random(table[400:].shape) < missing)


class MeasuredCurve(NamedTuple):
    """A draw from a Gaussian prior, and what a few sensors read of it."""

    truth: Tensor  # (n,) float64, mean 0
    places: Tensor  # (m,) int64: of the sensors
    known: Tensor  # (1, n) float64: the truth and an error at the sensors, 0 elsewhere
    kept: Tensor  # (1, n) bool: a sensor is here


def curve_prior(n: int = 48, reach: float = 0.1) -> Tensor:
    """Covariance (n, n) of a smooth random curve of variance 1 on [0, 1]: exp(-distance^2 / (2 reach^2)), float64."""
    at = torch.linspace(0, 1, n, dtype=torch.float64)
    return torch.exp(-((at[:, None] - at) ** 2) / (2 * reach**2)) + 1e-6 * torch.eye(n)


def measured_curve(prior: Tensor, sensors: int, noise: float, generator: torch.Generator) -> MeasuredCurve:
    """A curve drawn from N(0, prior (n, n)), read at random places with errors of standard deviation noise."""
    n = len(prior)
    if not 0 < sensors <= n:
        raise ValueError(f"sensors: expected a number from 1 to {n}, got {sensors}")
    truth = torch.linalg.cholesky(prior) @ torch.randn(n, generator=generator, dtype=prior.dtype)
    places = torch.randperm(n, generator=generator)[:sensors]
    kept = torch.zeros(1, n, dtype=torch.bool)
    kept[0, places] = True
    read = truth + noise * torch.randn(n, generator=generator)
    return MeasuredCurve(truth, places, torch.where(kept, read, 0.0), kept)
