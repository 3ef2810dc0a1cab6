"""What a model of fields, or of tables, is compared with: kriging, least squares, one Gaussian."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from learn_diffusion.datasets import advection

SIDE = advection.SIDE  # cells a side of the periodic box


def _cells() -> np.ndarray:
    """The middle of every cell: row and column, in sides of the box, (1024, 2)."""
    return (np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1) + 0.5) / SIDE


def _fields(values: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(values)).float().view(-1, 1, SIDE, SIDE)


def fitted_kriging(places: Tensor, values: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Kriging with a covariance fitted to each row of values: means and standard deviations, (B, 1, 32, 32) both.

    values (B, m) at the cells (m,) of a periodic box err by `noise`, a standard deviation. The covariance falls with
    distance like a Gaussian; how strong and how wide it is maximises the likelihood (Rasmussen & Williams 2006, ch. 5).
    The prior mean is 0. Each direction of the box is a circle of length 1.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor  # slow to import
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    angle = 2 * np.pi * _cells()
    circles = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) / (2 * np.pi)
    kernel = ConstantKernel(0.5, (0.05, 5)) * RBF(0.15, (0.03, 1))
    process, at = GaussianProcessRegressor(kernel, alpha=noise**2), circles[places.numpy()]
    found = [process.fit(at, row).predict(circles, return_std=True) for row in values.numpy()]
    mean, std = zip(*found, strict=True)
    return _fields(mean), _fields(std)


def fitted_dye(places: Tensor, values: Tensor, noise: float, starts: Tensor, n: int, seed: int = 0) -> Tensor:
    """n fields of dye that agree with each row of readings, by one who knows the equation: (n, B, 1, 32, 32).

    values (B, m) at the cells (m,) err by `noise`. The five settings (see advection) are fitted by least squares
    through the solver, from each of starts (B, k, 5), and the best fit is kept. The fields are those of n settings
    drawn from the Gaussian around it whose covariance is (J^T J)^-1, J the slopes of the misfit: the Laplace
    approximation of the posterior with a flat prior.
    """
    rows = zip(values, starts, strict=True)
    return torch.stack([_fitted_dye(places, y, noise, s, n, [seed, i]) for i, (y, s) in enumerate(rows)], dim=1)


def _fitted_dye(places: Tensor, values: Tensor, noise: float, starts: Tensor, n: int, seed: list[int]) -> Tensor:
    """For one row of readings, (n, 1, 32, 32)."""
    from scipy.optimize import least_squares  # slow to import

    def misfit(settings: np.ndarray) -> np.ndarray:  # in standard deviations of a reading, (rows, m)
        fields = advection.stirred(torch.as_tensor(settings).float().view(-1, advection.SETTINGS))
        return ((fields.flatten(1)[:, places] - values) / noise).double().numpy()

    def slopes(settings: np.ndarray, h: float = 1e-3) -> np.ndarray:  # central differences, (m, 5)
        steps = h * torch.cat([torch.eye(advection.SETTINGS), -torch.eye(advection.SETTINGS)])
        ahead, behind = np.split(misfit(torch.as_tensor(settings).float() + steps), 2)
        return (ahead - behind).T / (2 * h)

    fits = [least_squares(lambda s: misfit(s)[0], s, slopes, max_nfev=15) for s in starts.double().numpy()]
    best = min(fits, key=lambda fit: fit.cost)
    covariance = np.linalg.inv(best.jac.T @ best.jac)
    settings = np.random.default_rng(seed).multivariate_normal(best.x, covariance, n)
    return advection.stirred(torch.from_numpy(settings).float())


def gaussian_imputation(rows: np.ndarray, holed: np.ndarray, ridge: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """Fill the NaN of holed (k, d) as if all rows were drawn from one Gaussian: mean and standard deviation, (k, d).

    Mean and covariance are those of the complete rows (n, d), the variances plus `ridge`. What a row holds, given the
    rest of it, is then Gaussian again: kriging's formula. Known values come back as they are, with deviation 0.
    """
    centre, cov = rows.mean(0), np.cov(rows.T) + ridge * np.eye(rows.shape[1])
    mean, std = holed.copy(), np.zeros_like(holed)
    for i, gone in enumerate(np.isnan(holed)):
        gain = cov[np.ix_(gone, ~gone)] @ np.linalg.inv(cov[np.ix_(~gone, ~gone)])
        mean[i, gone] = centre[gone] + gain @ (holed[i] - centre)[~gone]
        std[i, gone] = np.diag(cov[np.ix_(gone, gone)] - gain @ cov[np.ix_(~gone, gone)]) ** 0.5
    return mean, std
