"""Straightness of paths against shapes whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from learn_diffusion.metrics.straightness import deviation

S = torch.linspace(0, 1, 201, dtype=torch.float64)


def test_a_straight_line_at_constant_speed_strays_from_nothing():
    ends = torch.tensor([[3.0, 4.0], [-1.0, 0.5]], dtype=torch.float64)
    assert deviation(S[:, None, None] * ends + 7) == pytest.approx((0, 0), abs=1e-12)


def test_a_straight_line_at_uneven_speed_strays_only_from_the_pace():
    path = (S**2)[:, None, None] * torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert deviation(path) == pytest.approx((0, 0.25), abs=1e-6)  # s - s^2 is largest at 1/2


def test_a_half_circle_strays_by_half_its_width_from_both():
    path = torch.stack([1 - (math.pi * S).cos(), (math.pi * S).sin()], dim=1)[:, None]
    off_line, off_pace = deviation(path)
    assert off_line == pytest.approx(0.5, abs=1e-4)
    assert off_pace >= off_line


def test_long_paths_count_as_their_length():
    """The mean distance over the mean length, so that a path of no length does not decide."""
    half = torch.stack([1 - (math.pi * S).cos(), (math.pi * S).sin()], dim=1)
    assert deviation(torch.stack([half, 0 * half], dim=1)).off_line == pytest.approx(0.5, abs=1e-4)


def test_bad_paths_are_refused():
    with pytest.raises(ValueError, match="paths: expected at least three points in time, got 2"):
        deviation(torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match="paths: expected ends that differ"):
        deviation(torch.zeros(4, 5, 2))
