"""The classifiers that measure on MNIST's sample, and the distortions they learn from."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from learn_diffusion import sampling
from learn_diffusion.checkpoints import load
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.metrics import frechet
from learn_diffusion.recipes.evaluation import accuracy, all_features, confident_share, digit_floor, mnist_scores
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import random_warp


def test_warped_digits_stay_digits_and_differ():
    images, labels = (part[:200] for part in mnist_sample("held_out"))
    warped = random_warp(images, torch.Generator().manual_seed(0))
    assert warped.shape == images.shape
    assert warped.amin() >= -1
    assert warped.amax() <= 1
    assert (warped - images).square().mean(dim=(1, 2, 3)).min() > 0.01
    assert warped.mean() == pytest.approx(images.mean().item(), abs=0.03)
    assert torch.equal(warped, random_warp(images, torch.Generator().manual_seed(0)))
    assert accuracy(load(pretrained_path("mnist_classifier"), "cpu")[0], warped, labels) > 0.9


@pytest.mark.parametrize(("name", "side"), [("mnist_classifier", 28), ("mnist_classifier_14", 14)])
def test_the_classifier_is_as_good_as_its_header_says(name, side):
    reader, metadata = load(pretrained_path(name), "cpu")
    told, data = metadata["metrics"], partial(mnist_sample, side=side)
    images, labels = data("held_out")
    assert told["held_out_accuracy"] >= 0.985
    assert accuracy(reader, images, labels) == pytest.approx(told["held_out_accuracy"], abs=0.0011)
    assert confident_share(reader, images) == pytest.approx(told["held_out_confident"], abs=0.0021)
    floor = digit_floor(reader, each=100)
    assert floor.value == pytest.approx(told["floor"], abs=0.01)
    assert floor.error == pytest.approx(told["floor_std"], abs=0.01)

    target, noise = all_features(reader, images), torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    blur = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    for bad in (noise.clamp(-1, 1), blur, images[labels == 1].repeat(10, 1, 1, 1)):
        assert frechet(all_features(reader, bad), target) > 10 * floor.value


def test_drawn_digits_that_are_the_held_out_ones_score_as_real(monkeypatch):
    reader, _ = load(pretrained_path("mnist_classifier"), "cpu")
    images, labels = mnist_sample("held_out")
    monkeypatch.setattr(sampling, "sample", lambda model, shape, y, scale, steps, seed: images[: shape[0]])
    scores = mnist_scores(None, reader, n=1000, wanted=labels, seeds=(0, 1))
    assert scores.frechet.value == pytest.approx(0, abs=1e-3)
    assert scores.confident.value == pytest.approx(confident_share(reader, images))
    assert scores.obeyed.value == pytest.approx(accuracy(reader, images, labels))
    others = mnist_scores(None, reader, n=1000, wanted=(labels + 1) % 10, seeds=(0, 1))
    assert others.obeyed.value < 0.02
    assert mnist_scores(None, reader, n=500, seeds=(0, 1)).obeyed is None
