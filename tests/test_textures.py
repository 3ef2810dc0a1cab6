"""Shapes, shares of colours and likeness to a sketch, against patterns made for it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from learn_diffusion.metrics import textures


def spots(n, seed):
    """Noise, smoothed."""
    x = torch.randn(n, 3, 34, 34, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(x, 3, stride=1)


def test_autocorrelation_of_a_wave_and_of_noise():
    wave = torch.cos(2 * torch.pi * torch.arange(32) / 8).expand(2, 1, 32, 32)
    # across: -1 half a period apart, 1 a whole one; down: 1. Both together: their mean, but for the shorter sums
    torch.testing.assert_close(
        textures.autocorrelation(wave, (4, 8)), torch.tensor([[0.0, 1.0]] * 2), atol=1e-5, rtol=0
    )
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert textures.autocorrelation(noise).mean(0).abs().max() < 0.01
    assert textures.autocorrelation(spots(200, 0), (1,)).mean() == pytest.approx(2 / 3, abs=0.03)


def test_texture_distance_sees_shapes_and_not_colours():
    real, other = spots(200, 0), spots(40, 1)
    assert textures.texture_distance(real, real).value == pytest.approx(0, abs=1e-6)
    assert textures.texture_distance(0.3 - 2 * real, real).value == pytest.approx(0, abs=1e-4)
    same = textures.texture_distance(other, real)
    assert same.value < 1
    assert textures.texture_distance(F.avg_pool2d(other, 3, 1, 1), real).value > 20
    # its error is what fresh pictures scatter by
    fresh = torch.tensor([textures.texture_distance(spots(40, 2 + k), real, redraws=2).value for k in range(30)])
    assert 0.5 < same.error / fresh.std() < 2


def test_shares_of_inks():
    ink = torch.tensor([[[0, 0], [1, 2]], [[2, 2], [2, 2]]])
    assert textures.ink_shares(ink, 3).tolist() == [[0.5, 0.25, 0.25], [0, 0, 1]]
    assert textures.wrong_share(ink, torch.tensor([0.5, 0.25, 0.25])).tolist() == [0, 0.75]


def test_flat_neighbours():
    steps = torch.tensor([0.0, 0.0, 7, 16, 16]) / 127.5  # 0, 7, 9 and 0 levels
    picture = steps.expand(1, 3, 2, 5).clone()
    assert textures.flat_share(picture).tolist() == [0.75]
    picture[:, 2, :, 1] += 0.12  # one channel is enough to differ
    assert textures.flat_share(picture).tolist() == [0.25]


def test_seen_from_far_away():
    page = spots(5, 3)[..., :32, :32]
    fine = page.clone()
    fine[..., ::2] += 0.5  # stripes of a pixel, and with them another mean colour
    same = textures.coarse_correlation(fine, page)
    torch.testing.assert_close(same, torch.ones(5))
    torch.testing.assert_close(textures.coarse_correlation(-page, page), -torch.ones(5))
    assert textures.coarse_correlation(page.roll(1, 0), page).abs().max() < 0.4
