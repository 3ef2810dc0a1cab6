"""Measures of single pictures, and of two sets of them, against known answers."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion.metrics import frechet
from learn_diffusion.metrics.image_quality import (
    colour_share,
    error_in_levels,
    psnr,
    relative_brightness,
    ring,
    steepness,
)
from learn_diffusion.metrics.two_sample import frechet_difference, told_apart


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error():
    truth = noise(3, 3, 8, 8).clamp(-0.5, 0.5)
    torch.testing.assert_close(psnr(truth + 0.02, truth), torch.full((3,), 40.0), atol=1e-3, rtol=0)


def test_error_counts_the_masked_pixels_alone_and_in_levels():
    truth, where = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    where[:, :, 2:4] = True
    wrong = truth + where * torch.tensor([10, 20]).view(2, 1, 1, 1) / 127.5 + ~where * 0.7
    torch.testing.assert_close(error_in_levels(wrong, truth, where), torch.tensor([10.0, 20.0]))


def test_a_shadow_that_leaves_58_percent_of_the_light():
    shadow = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    shadow[..., 4:, 4:] = True
    light = torch.tensor([0.9, 0.5]).view(2, 1, 1, 1) * torch.where(shadow, 0.58, 1.0)
    pictures = (light * 2 - 1).expand(2, 3, 8, 8)
    torch.testing.assert_close(relative_brightness(pictures, shadow, ~shadow), torch.tensor([0.58, 0.58]))
    with pytest.raises(ValueError, match="place: expected a pixel"):
        relative_brightness(pictures, shadow & ~shadow, shadow)


def test_a_ring_and_the_colour_in_it():
    dot = torch.zeros(1, 1, 11, 11, dtype=torch.bool)
    dot[..., 5, 5] = True
    around = ring(dot, 1, 4)
    assert around.sum() == 9 * 9 - 3 * 3
    assert not (around & dot).any()
    colours = torch.tensor([[1.0, -1.0, 0.0]])
    pictures = torch.full((1, 3, 11, 11), 0.0)
    pictures[..., :5] = colours[..., None, None] - 30 / 127.5  # within the tolerance, left of the dot
    share = around[..., :5].sum() / around.sum()
    torch.testing.assert_close(colour_share(pictures, colours, around), share[None].float())
    assert colour_share(pictures, colours, around, tolerance=29) == 0


def test_steepness_of_ramps():
    """A slope of 16 of 255 levels a pixel is 2 after rounding to eighths; a straight ramp does not bend."""
    ramp = (torch.arange(16.0) * 16 / 127.5 - 1).expand(1, 3, 16, 16)
    found = steepness(torch.cat([ramp, ramp], dim=3)).unflatten(2, (4, 6))  # two cut-outs
    assert found.shape == (1, 2, 4, 6)
    expected = torch.tensor([0.0, 2.0, 0.0, 0.0]).view(1, 1, 4, 1).expand_as(found)  # down, across, and their bends
    torch.testing.assert_close(found, expected, atol=0.7, rtol=0)
    torch.testing.assert_close(found.mean(3), expected.mean(3), atol=0.1, rtol=0)


def test_the_classifier_cannot_tell_one_distribution_and_tells_two():
    same = told_apart(noise(60, 4, 3, seed=1), noise(60, 4, 3, seed=2))
    assert abs(same.value - 0.5) < 3 * same.error + 0.02
    assert told_apart(noise(60, 4, 3, seed=1), noise(60, 4, 3, seed=2) + 5).value > 0.99


def test_parts_of_one_picture_are_never_trained_on():
    """Each picture has a colour of its own: known from its other parts, it would give the picture away."""
    own = 10 * noise(40, 1, 2, seed=3), 10 * noise(40, 1, 2, seed=4)
    a, b = (colour + 0.01 * noise(40, 8, 2, seed=i) for i, colour in enumerate(own))
    assert abs(told_apart(a, b).value - 0.5) < 0.15


def test_a_paired_frechet_difference_is_right_and_surer_than_the_two_distances():
    x, real = noise(400, 4, seed=5), noise(400, 4, seed=6)
    found = frechet_difference(x + 1, x, real)
    assert found.value == pytest.approx(frechet(x + 1, real) - frechet(x, real))
    assert found.value == pytest.approx(4, abs=4 * found.error)
    assert frechet_difference(x, x, real) == (0, 0)
    scattered = torch.tensor([
        frechet(y + 0.1, r) - frechet(y, r)
        for y, r in ((noise(400, 4, seed=10 + 2 * i), noise(400, 4, seed=11 + 2 * i)) for i in range(40))
    ])  # fmt: skip
    assert 0.5 < frechet_difference(x + 0.1, x, real).error / scattered.std() < 2
    with pytest.raises(ValueError, match="expected more than 9 rows"):
        frechet_difference(x[:9], x[:9], real)
