"""Kriging, least squares and one Gaussian, and the judge of error bars, against known answers."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch

from learn_diffusion.datasets import advection, tables
from learn_diffusion.metrics.calibration import reliability, within_gaussian
from learn_diffusion.recipes import baselines
from learn_diffusion.recipes.transforms import PrincipalAxes

PLACES = torch.randperm(1024, generator=torch.Generator().manual_seed(1))[:60]


def waves() -> torch.Tensor:
    """A smooth field that goes on across the edges of the box, (1, 32, 32)."""
    at = (torch.arange(32) + 0.5) / 32
    return (torch.cos(2 * pi * (at - 0.1))[:, None] + torch.sin(2 * pi * (at + 0.2)))[None] / 2


def rms(x: torch.Tensor) -> float:
    return x.square().mean().sqrt().item()


def test_fitted_kriging_is_near_sure_at_the_sensors_and_honest():
    field, g = waves(), torch.Generator().manual_seed(2)
    values = field.flatten()[PLACES] + 0.1 * torch.randn(60, generator=g)
    (mean,), (std,) = baselines.fitted_kriging(PLACES, values[None], 0.1)
    assert rms(mean - field) < 0.08
    assert (std > 0).all()
    assert std.flatten()[PLACES].mean() < std.mean()
    assert 0.5 < rms((mean - field) / std) < 1.6
    moved = (PLACES // 32 + 16) % 32 * 32 + PLACES % 32  # the box has no edge: what was the middle is the rim now
    (again,), _ = baselines.fitted_kriging(moved, values[None], 0.1)
    torch.testing.assert_close(again.roll(16, 1), mean, atol=1e-3, rtol=0)


def test_least_squares_finds_the_settings_and_says_how_sure_it_is():
    settings = advection.draw_settings(1, seed=5)
    (truth,), g = advection.stirred(settings), torch.Generator().manual_seed(3)
    values = truth.flatten()[PLACES] + 0.1 * torch.randn(60, generator=g)
    fields = baselines.fitted_dye(PLACES, values[None], 0.1, (settings + 0.02)[None], 39)
    assert fields.shape == (39, 1, 1, 32, 32)
    error, spread = rms(fields.mean(0)[0] - truth), rms(fields.std(0))
    assert error < 0.08, "less than the error of a reading"
    assert 0.3 < error / spread < 2


def test_one_gaussian_fills_holes_as_the_formula_says():
    """Given x1, x2 of a pair with correlation 0.8 has mean 0.8 x1 and variance 0.36; here shifted by 3."""
    rng = np.random.default_rng(0)
    rows = rng.multivariate_normal([3, 3], [[1, 0.8], [0.8, 1]], 200_000)
    holed = np.array([[4.0, np.nan], [np.nan, np.nan], [1.0, 2.0]])
    mean, std = baselines.gaussian_imputation(rows, holed, ridge=0.0)
    assert mean == pytest.approx(np.array([[4, 3.8], [3, 3], [1, 2]]), abs=0.02)
    assert std == pytest.approx(np.array([[0, 0.6], [1, 1], [0, 0]]), abs=0.01)


def test_holed_rows_are_standardised_and_holes_as_many_as_asked_for():
    rows, full, hole = tables.holed_tumours(seed=1)
    assert (rows.shape, full.shape, hole.shape) == ((400, 30), (169, 30), (169, 30))
    assert np.allclose(rows.mean(0), 0, atol=1e-9)
    assert np.allclose(rows.std(0), 1)
    assert abs(hole.mean() - 0.4) < 0.03
    assert hole.any(1).all(), "a row without a hole would have no error"


def test_measured_curves_have_their_prior_and_readings_their_error():
    g, prior = torch.Generator().manual_seed(7), tables.curve_prior(12)
    curves = [tables.measured_curve(prior, 3, 0.1, g) for _ in range(4000)]
    truth = torch.stack([curve.truth for curve in curves])
    torch.testing.assert_close(truth.T @ truth / 4000, prior, atol=0.1, rtol=0)
    off = torch.cat([curve.known[curve.kept] - curve.truth[curve.places.sort().values] for curve in curves])
    assert off.std().item() == pytest.approx(0.1, rel=0.05)
    assert all(curve.kept.sum() == 3 for curve in curves)
    with pytest.raises(ValueError, match="sensors: expected"):
        tables.measured_curve(prior, 13, 0.1, g)


def test_honest_intervals_hold_what_they_promise_and_narrow_ones_less():
    g = torch.Generator().manual_seed(4)
    truth = 3 + 2 * torch.randn(20_000, generator=g)
    for level in (0.5, 0.8, 0.95):
        held = within_gaussian(torch.tensor(3.0), torch.tensor(2.0), truth, level).double().mean().item()
        assert held == pytest.approx(level, abs=0.01)
    narrow = within_gaussian(torch.tensor(3.0), torch.tensor(1.0), truth, 0.95).double().mean().item()
    assert narrow == pytest.approx(0.673, abs=0.012)  # 0.98 standard deviations
    with pytest.raises(ValueError, match="level: expected"):
        within_gaussian(truth, truth, truth, 95)


def test_reliability_finds_where_a_method_is_overconfident():
    g = torch.Generator().manual_seed(5)
    std = torch.rand(40_000, generator=g) + 0.1
    error = std * torch.randn(40_000, generator=g)
    promised, real = reliability(std, error)
    assert (promised.diff() > 0).all()
    torch.testing.assert_close(real / promised, torch.ones(10), atol=0.05, rtol=0)
    torch.testing.assert_close(promised, torch.arange(0.15, 1.1, 0.1), atol=0.01, rtol=0)
    sure = std < 0.2  # the surest tenth or so errs twice as much as it says
    promised, real = reliability(std, torch.where(sure, 2 * error, error))
    assert real[0] / promised[0] > 1.8
    torch.testing.assert_close(real[2:] / promised[2:], torch.ones(8), atol=0.05, rtol=0)


def test_principal_axes_keep_distances_and_drop_what_varies_least():
    g = torch.Generator().manual_seed(6)
    size = torch.tensor([3.0, 2.0, 1.0, 0.01])
    turn = torch.linalg.qr(torch.randn(4, 4, generator=g)).Q
    fields = (1 + (torch.randn(500, 4, generator=g) * size) @ turn.T).view(500, 1, 2, 2)
    axes = PrincipalAxes.of(fields, 3)
    points = axes.to_points(fields)
    torch.testing.assert_close(axes.axes.T @ axes.axes, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(points.std(0), size[:3].flip(0), atol=0.25, rtol=0)
    torch.testing.assert_close(axes.to_fields(points), fields, atol=0.06, rtol=0)
    torch.testing.assert_close(torch.pdist(points), torch.pdist(fields.flatten(1)), atol=0.02, rtol=0)
