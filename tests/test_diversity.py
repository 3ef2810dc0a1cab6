"""How much samples of one kind differ, against known answers."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion.metrics.distributions import frechet
from learn_diffusion.metrics.diversity import within_class_distance
from learn_diffusion.process import from_x0
from learn_diffusion.recipes.evaluation import digit_runs, digit_scores, score_panels
from learn_diffusion.schedules import Cosine


def test_distance_within_a_class_is_the_mean_over_classes_whatever_their_sizes():
    features = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0], [3.0, 4.0], [10.0, 4.0], [10.0, 0.0]])
    labels = torch.tensor([7, 2, 2, 7, 2, 2])  # 5 apart; and two pairs at 0 and four at 4
    assert within_class_distance(features, labels) == pytest.approx((5 + 16 / 6) / 2)
    with pytest.raises(ValueError, match="at least two rows"):
        within_class_distance(features, torch.tensor([7, 2, 2, 7, 2, 9]))
    with pytest.raises(ValueError, match="labels: expected one"):
        within_class_distance(features, labels[:5])


class _Pixels(torch.nn.Module):
    """Reads the digit off the first pixel; the features are the pixels."""

    def __init__(self):
        super().__init__()
        self.config = {"side": 8}

    def forward(self, x):
        return torch.nn.functional.one_hot(x[:, 0, 0, 0].long(), 10).float()

    def features(self, x):
        return x.flatten(1)


def test_scores_of_digits_are_accuracy_variety_and_distance():
    from learn_diffusion.datasets.digits import small_digits

    images, wanted = torch.zeros(20, 1, 8, 8), torch.arange(20) % 10
    images[:, 0, 0, 0] = wanted
    images[:5, 0, 0, 0] = 9
    images[10:, 0, 7, 7] = 2.0  # the second of each digit
    scores = digit_scores(_Pixels(), images, wanted)
    assert scores.accuracy == pytest.approx(0.75)
    assert scores.variety == pytest.approx(sum((4 + (9 - d) ** 2) ** 0.5 if d < 5 else 2 for d in range(10)) / 10)
    held_out = small_digits("held_out")[0].flatten(1)
    assert scores.frechet == pytest.approx(frechet(images.flatten(1), held_out))


def test_runs_score_what_each_denoiser_draws_from_noise_of_its_own():
    def thinks_of(x0):
        return lambda x, t: from_x0(x, x0.expand_as(x), *Cosine().at(t, x))

    images, wanted = torch.full((20, 1, 8, 8), -1.0), torch.arange(20) % 10
    images[:, 0, 0, 0] = 1.0
    scores, first = digit_runs(_Pixels(), Cosine(), wanted, [thinks_of(images), thinks_of(0 * images)], steps=3)
    torch.testing.assert_close(first, images)
    assert scores.accuracy.tolist() == pytest.approx([0.1, 0.1])  # a one, then a nought, in place of every digit
    assert scores.variety.tolist() == pytest.approx([0, 0], abs=1e-5)
    assert scores.row()[:2] == ["10.0% ± 0.0%", "0.00 ± 0.00"]
    panels = score_panels({"a": {1: (scores, first), 4: (scores, first)}}, ["x", "y", "z"])
    assert list(panels) == ["x", "y", "z"]
    assert panels["x"]["a"] == ([1, 4], pytest.approx([0.1, 0.1]), pytest.approx([0, 0]))
    assert panels["z"]["a"][1] == pytest.approx([scores.frechet.mean().item()] * 2)
