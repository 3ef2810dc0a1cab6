"""Prediction targets: a target is a row (a, b), and the network regresses F = a * x0 + b * eps.

Together with the forward process, [x_t; F] = [[alpha, sigma], [a, b]] [x0; eps] is two equations in two unknowns.
The determinant det = alpha b - sigma a is 0 where a target is degenerate, and gives the implied loss weight: the
squared error of F is (det / sigma)^2 times the squared error of x0.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.process import Estimate

Number = float | Tensor
Row = Callable[..., tuple[Number, Number]]  # (alpha, sigma, sigma_data) -> (a, b); only edm reads sigma_data


def _x0(alpha: Number, sigma: Number, sigma_data: float = 0.5):
    return 1.0, 0.0


def _eps(alpha: Number, sigma: Number, sigma_data: float = 0.5):
    return 0.0, 1.0


def _v(alpha: Number, sigma: Number, sigma_data: float = 0.5):
    return -sigma, alpha


def _u(alpha: Number, sigma: Number, sigma_data: float = 0.5):
    return -1.0, 1.0


def _edm(alpha: Number, sigma: Number, sigma_data: float = 0.5):
    # Karras et al. 2022, tab. 1: F = (x0 - c_skip x) / c_out, carried from alpha = 1 to any path
    length = (sigma**2 + (sigma_data * alpha) ** 2) ** 0.5
    return sigma / (sigma_data * length), -sigma_data * alpha / length


TARGETS: dict[str, Row] = {"x0": _x0, "eps": _eps, "v": _v, "u": _u, "edm": _edm}


def row_of(target: str) -> Row:
    """The row of a named target. Raises ValueError that lists the names."""
    validation.one_of("target", target, TARGETS)
    return TARGETS[target]


def solve(x: Tensor, out: Tensor, alpha: Number, sigma: Number, row: tuple[Number, Number]) -> Estimate:
    """x0 and eps from the noised x and the network's output (both (B, ...)), by Cramer's rule.

    alpha, sigma and row = (a, b) broadcast against x. Where det = alpha b - sigma a is 0 the result is infinite:
    there the target does not determine x0.
    """
    a, b = row
    det = alpha * b - sigma * a
    return Estimate((b * x - sigma * out) / det, (alpha * out - a * x) / det)
