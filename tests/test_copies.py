"""Copies are found, with and without places, and what is like several originals is none."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion.datasets.photographs import crops
from learn_diffusion.metrics.copies import nearest_original


def test_copies_are_counted_and_their_originals_named():
    originals = torch.randn(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    between = (originals[0] + originals[1]) / 2
    found = nearest_original(torch.stack([originals[7] + 0.01, originals[3], between, -originals[5]]), originals)
    assert found.index[:2].tolist() == [7, 3]
    assert found.ratio[1] == 0
    assert found.ratio[2] == pytest.approx(1)
    assert found.copied == 0.5


def test_a_crop_moved_by_a_pixel_is_no_rival():
    picture = torch.nn.functional.avg_pool2d(
        torch.randn(1, 3, 20, 24, generator=torch.Generator().manual_seed(1)), 5, 1
    )[0]
    every = crops(picture, 4)
    places = torch.cartesian_prod(torch.arange(13), torch.arange(17))
    piece = every[100:101] + 0.02
    alone, placed = (nearest_original(piece, every, at) for at in (None, places))
    assert alone.index == placed.index == 100
    assert placed.ratio < alone.ratio
    far = (every - piece).flatten(1).norm(dim=1)
    apart = ((places - places[100]).abs() >= 4).any(1)
    assert placed.ratio == pytest.approx((far[100] / far[apart].min()).item(), rel=1e-4)


def test_bad_arguments_are_named():
    x = torch.zeros(3, 1, 4, 4)
    with pytest.raises(ValueError, match="^originals: expected 2 or more of the shape"):
        nearest_original(x, torch.zeros(3, 1, 5, 5))
    with pytest.raises(ValueError, match=r"^places: expected \(3, 2\)"):
        nearest_original(x, x, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="^places: expected an original that does not overlap"):
        nearest_original(x, x + 1, torch.tensor([[0, 0], [0, 1], [1, 0]]))
    with pytest.raises(TypeError, match="^pictures"):
        nearest_original([1], x)
