"""The comparison of chapter 15: fair conditions, and files that draw as well as they say."""

from __future__ import annotations

from statistics import mean

import pytest
import torch

from learn_diffusion import checkpoints, recipes
from learn_diffusion.metrics import AllMetrics, frechet
from learn_diffusion.recipes import gan_comparison
from learn_diffusion.recipes.pretrained import pretrained_path

SHAPES = [(1, 8, 8), (3, 16, 16)]
both = pytest.mark.parametrize("method", gan_comparison.METHODS)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_methods_are_of_one_size(shape):
    sizes = [
        sum(p.numel() for p in gan_comparison.build_model(method, shape).parameters())
        for method in gan_comparison.METHODS
    ]
    assert max(sizes) <= 1.05 * min(sizes)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_each_trains_and_draws(method, shape):
    images = torch.rand(40, *shape) * 2 - 1
    models = list(gan_comparison.train_model(method, images, 2, seed=3, batch=8, lr=1e-3))
    assert len(models) == 2
    pictures = gan_comparison.sample_images(models[-1], shape, 5, seed=1)
    assert pictures.shape == (5, *shape)
    assert pictures.abs().max() <= 1
    torch.testing.assert_close(gan_comparison.sample_images(models[-1], shape, 5, seed=1), pictures)
    assert not torch.equal(gan_comparison.sample_images(models[-1], shape, 5, seed=2), pictures)


@both
def test_the_seed_decides_all(method):
    images = torch.rand(40, 1, 8, 8) * 2 - 1
    ends = [list(gan_comparison.train_model(method, images, 2, seed, batch=8, lr=1e-3))[-1] for seed in (1, 1, 2)]
    first, again, other = (next(end.parameters()) for end in ends)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_seconds_are_more_steps():
    images = torch.rand(40, 1, 8, 8) * 2 - 1
    few, many = (gan_comparison.steps_in(seconds, "diffusion", images, batch=8, lr=1e-3) for seconds in (1.0, 10.0))
    assert 3 * few < many


@pytest.mark.parametrize("name", ["digits", "scenes"])
def test_the_shipped_comparison_was_fair(name):
    metadata = [checkpoints.load(pretrained_path(f"{name}_{who}"), "cpu")[1] for who in gan_comparison.METHODS]
    seconds = [mean(each["training_seconds"]) for each in metadata]
    assert max(seconds) <= 1.15 * min(seconds)
    for who, each in zip(gan_comparison.METHODS, metadata, strict=True):
        assert each["settings"] == gan_comparison.SETTINGS[name, who]
        assert set(each["metrics"]) == set(AllMetrics._fields)
        assert {len(values) for values in each["metrics"].values()} == {3}


@both
def test_the_shipped_digits_are_as_good_as_their_header_says(method):
    model, metadata = checkpoints.load(pretrained_path(f"digits_{method}"), "cpu")
    data = gan_comparison.eval_data("digits")
    sheet = gan_comparison.sample_images(model, (1, 8, 8), 500, seed=1)
    found = frechet(data.features(sheet), data.features(data.real))
    assert found == pytest.approx(metadata["curve"][0]["1.0"], rel=0.05)


def test_each_training_is_measured_with_noise_of_its_own(monkeypatch):
    seeds = []

    def drawn(model, shape, n, seed):
        seeds.append(seed)
        return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(gan_comparison, "sample_images", drawn)
    _, metadata = recipes.digits_gan(steps=4)
    sheets = [seeds[k : k + 6][-3:] for k in range(0, 18, 6)]  # four points of the curve; the last is the first sheet
    assert sheets == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]
    assert len({run[1.0] for run in metadata["curve"]}) == 3


def test_the_comparison_refuses_a_gpu():
    with pytest.raises(ValueError, match="device: expected 'cpu' or None.*'cuda'"):
        recipes.digits_gan(steps=4, device="cuda")
