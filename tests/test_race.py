"""The race of chapter 15: fair conditions, and files that draw as well as they say."""

from __future__ import annotations

from statistics import mean

import pytest
import torch

from learn_diffusion import checkpoints, race, recipes
from learn_diffusion.metrics import AllMetrics, frechet

SHAPES = [(1, 8, 8), (3, 16, 16)]
both = pytest.mark.parametrize("contender", race.CONTENDERS)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_contenders_are_of_one_size(shape):
    sizes = [sum(p.numel() for p in race.build_model(contender, shape).parameters()) for contender in race.CONTENDERS]
    assert max(sizes) <= 1.05 * min(sizes)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_each_trains_and_draws(contender, shape):
    images = torch.rand(40, *shape) * 2 - 1
    models = list(race.training(contender, images, 2, seed=3, batch=8, lr=1e-3))
    assert len(models) == 2
    pictures = race.drawn(models[-1], shape, 5, seed=1)
    assert pictures.shape == (5, *shape)
    assert pictures.abs().max() <= 1
    torch.testing.assert_close(race.drawn(models[-1], shape, 5, seed=1), pictures)
    assert not torch.equal(race.drawn(models[-1], shape, 5, seed=2), pictures)


@both
def test_the_seed_decides_all(contender):
    images = torch.rand(40, 1, 8, 8) * 2 - 1
    ends = [list(race.training(contender, images, 2, seed, batch=8, lr=1e-3))[-1] for seed in (1, 1, 2)]
    first, again, other = (next(end.parameters()) for end in ends)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_seconds_are_more_steps():
    images = torch.rand(40, 1, 8, 8) * 2 - 1
    few, many = (race.steps_in(seconds, "diffusion", images, batch=8, lr=1e-3) for seconds in (1.0, 10.0))
    assert 3 * few < many


@pytest.mark.parametrize("name", ["digits", "scenes"])
def test_the_shipped_race_was_fair(name):
    metadata = [checkpoints.load(recipes.pretrained_path(f"race_{name}_{who}"), "cpu")[1] for who in race.CONTENDERS]
    seconds = [mean(each["training_seconds"]) for each in metadata]
    assert max(seconds) <= 1.15 * min(seconds)
    for who, each in zip(race.CONTENDERS, metadata, strict=True):
        assert each["settings"] == race.SETTINGS[name, who]
        assert set(each["metrics"]) == set(AllMetrics._fields)
        assert {len(values) for values in each["metrics"].values()} == {3}


@both
def test_the_shipped_digits_are_as_good_as_their_header_says(contender):
    model, metadata = checkpoints.load(recipes.pretrained_path(f"race_digits_{contender}"), "cpu")
    track = recipes.eval_data("digits")
    found = frechet(track.look(race.drawn(model, (1, 8, 8), 500, seed=1)), track.look(track.real))
    assert found == pytest.approx(metadata["curve"][0]["1.0"], rel=0.05)


def test_each_training_of_a_race_is_measured_with_noise_of_its_own(monkeypatch):
    seeds = []

    def drawn(model, shape, n, seed):
        seeds.append(seed)
        return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(race, "drawn", drawn)
    _, metadata = recipes.digits_gan(steps=4)
    sheets = [seeds[k : k + 6][-3:] for k in range(0, 18, 6)]  # four points of the curve; the last is the first sheet
    assert sheets == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]
    assert len({run[1.0] for run in metadata["curve"]}) == 3


def test_a_race_refuses_a_gpu():
    with pytest.raises(ValueError, match="device: expected 'cpu' or None.*'cuda'"):
        recipes.digits_gan(steps=4, device="cuda")
