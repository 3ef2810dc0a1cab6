"""Seams, contrast and their classifier against pictures whose seams were built in."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion.metrics.error_bars import ratio_of_means
from learn_diffusion.metrics.seams import contrast_ratio, seam_accuracy, seam_ratio

SEAMS, OTHERS = [16, 32], [8, 24]


def test_the_jump_at_a_seam_is_what_was_built_in():
    ramp = torch.arange(48.0).expand(3, 1, 48, 48).clone()  # rises by 1 a column
    assert seam_ratio(ramp, SEAMS, OTHERS) == (1, 0)
    ramp[..., 16:] += 4
    assert seam_ratio(ramp, [16], OTHERS) == (5, 0)
    assert seam_ratio(-ramp, SEAMS, OTHERS) == (3, 0)
    assert seam_ratio(ramp, [0], OTHERS) == (51, 0)  # the first column beside the last: 47 + 4
    assert seam_ratio(ramp.mT + ramp, [16], OTHERS, rows=True) == (5, 0)
    assert seam_ratio(10 * ramp.mT + ramp, [16], [20], rows=False) == (5, 0)  # rows do not count
    assert seam_ratio(ramp.mT + ramp.fliplr(), [32], OTHERS, rows=True).value != 5


def test_the_contrast_of_a_faded_band_is_what_was_built_in():
    y, x = torch.arange(32)[:, None], torch.arange(32)
    board = ((-1.0) ** (x + y)).expand(2, 3, 32, 32).clone()
    assert contrast_ratio(board) == pytest.approx((1, 0))
    board[..., :8, :] *= 0.5
    board[..., 8:, :8] *= 0.5
    board += torch.tensor([0.1, 0.2, -0.3])[:, None, None]  # a mean colour is no contrast
    # a quarter of the contrast in the band; the ratio is 1 for four bands of eight pixels that were not faded
    assert contrast_ratio(board) == pytest.approx((0.25, 0), abs=1e-6)


def test_the_classifier_finds_what_is_there_and_nothing_else():
    g = torch.Generator().manual_seed(0)
    whole = torch.randn(16, 1, 32, 52, generator=g).unfold(-1, 5, 1).mean(-1)  # smooth, and alike in all columns
    cut = whole.clone()
    for s in SEAMS:
        cut[..., s:] += torch.randn(16, 1, 1, 1, generator=g).sign()
    assert seam_accuracy(cut, SEAMS, OTHERS).value > 0.9
    nothing = seam_accuracy(whole, SEAMS, OTHERS)
    assert abs(nothing.value - 0.5) < 3 * nothing.error
    with pytest.raises(ValueError, match="others: expected 2 lines"):
        seam_accuracy(cut, SEAMS, [8])
    with pytest.raises(ValueError, match="pictures: expected .* a multiple of 16"):
        seam_accuracy(cut[:, :, :20], SEAMS, OTHERS)


def test_a_ratio_of_means_scatters_by_its_error():
    b = torch.tensor([1.0, 2.0, 4.0])
    assert ratio_of_means(3 * b, b) == pytest.approx((3, 0))
    assert ratio_of_means([1.0, 3.0], [1.0, 1.0]) == pytest.approx((2, 1))  # b is constant: the error of a mean
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(300):
        size = 1 + torch.rand(40, generator=g)
        found.append(ratio_of_means(2 * size + 0.5 * torch.randn(40, generator=g), size))
    values, errors = torch.tensor(found).T
    assert errors.mean() == pytest.approx(values.std().item(), rel=0.15)
    with pytest.raises(ValueError, match="b: expected 3 values"):
        ratio_of_means(b, b[:2])
    with pytest.raises(ValueError, match="b: expected values whose mean"):
        ratio_of_means([1.0, 2.0], [1.0, -1.0])
