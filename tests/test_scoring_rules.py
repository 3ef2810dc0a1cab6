"""The energy score against known answers."""

from __future__ import annotations

import math

import pytest
import torch

from learn_diffusion.metrics.scoring_rules import energy_score


def test_the_energy_score_by_hand():
    draws = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 1.0]]])  # 2 draws of 2 points each
    score = energy_score(draws, torch.tensor([[0.0, 0.0], [4.0, 5.0]]))
    assert score.tolist() == [2.5 - 2.5, 5.0]  # (0 + 5) / 2 - 5 / 2; a draw repeated is 5 away, and 0 from itself


def test_the_energy_score_of_single_numbers():
    draws, truth = torch.tensor([[0.0, 1.0], [5.0, 3.0]]), torch.tensor([0.0, 2.0])
    assert torch.equal(energy_score(draws, truth), energy_score(draws[..., None], truth[..., None]))


@pytest.mark.parametrize("samples", [3, 50])
def test_the_energy_score_of_the_right_normal(samples):
    """Draws and truth from N(0, 1): E|X - y| = 2 / sqrt(pi), of which half is taken away, at any number of draws."""
    x, y = torch.randn(samples + 1, 40_000, 1, generator=torch.Generator().manual_seed(0)).split([samples, 1])
    right = energy_score(x, y[0])
    assert right.mean().item() == pytest.approx(1 / math.sqrt(math.pi), abs=0.01)
    assert energy_score(x / 2, y[0]).mean() > right.mean() + 0.02  # too sure
    assert energy_score(x * 2, y[0]).mean() > right.mean() + 0.02  # too wide


def test_bad_draws_are_named():
    for bad in (torch.zeros(1, 5, 2), torch.zeros(4, 5, 3), torch.zeros(5, 2)):
        with pytest.raises(ValueError, match=r"draws: expected at least 2 .* \(S, 5, 2\), got"):
            energy_score(bad, torch.zeros(5, 2))
