"""The comparison of chapter 15: fair conditions, and files that draw as well as they say."""

from __future__ import annotations

import json
import time
from statistics import mean

import nbformat
import pytest
import torch

from learn_diffusion import checkpoints, recipes
from learn_diffusion.metrics import AllMetrics, frechet
from learn_diffusion.recipes import gan_comparison
from learn_diffusion.recipes.pretrained import pretrained_path
from tools.notebooks import NOTEBOOKS, ROOT

SHAPES = [(1, 14, 14), (3, 16, 16)]
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
    images = torch.rand(40, 1, 14, 14) * 2 - 1
    ends = [list(gan_comparison.train_model(method, images, 2, seed, batch=8, lr=1e-3))[-1] for seed in (1, 1, 2)]
    first, again, other = (next(end.parameters()) for end in ends)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_seconds_are_more_steps():
    images = torch.rand(40, 1, 14, 14) * 2 - 1
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
    sheet = gan_comparison.sample_images(model, (1, 14, 14), 1000, seed=1)
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


def counting(steps, module):
    """A training whose model draws the number of the step."""
    for step in range(1, steps + 1):
        module.step = step
        yield module


def test_a_timed_training_draws_at_even_moments_and_leaves_drawing_out_of_its_seconds():
    def draw(model):
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return model.step

    frames, seconds = gan_comparison.run_timed(counting(20, torch.nn.Module()), 20, draw, frames=4)
    assert frames == [5, 10, 15, 20]
    assert seconds < 0.05  # four drawings took 0.2
    with pytest.raises(ValueError, match="training: expected 21 steps, got 20"):
        gan_comparison.run_timed(counting(20, torch.nn.Module()), 21, draw, frames=2)
    with pytest.raises(ValueError, match="frames: expected at most 3"):
        gan_comparison.run_timed(counting(3, torch.nn.Module()), 3, draw, frames=4)


def test_one_thread_ends_with_as_many_threads_as_before():
    before = torch.get_num_threads()
    inside = []

    def fails():
        with gan_comparison.one_thread():
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside == [1]
    assert torch.get_num_threads() == before


def test_the_floor_is_the_mean_over_random_rows_of_the_training_data():
    g = torch.Generator().manual_seed(0)
    train, real = (torch.randn(n, 3, generator=g, dtype=torch.float64) for n in (900, 300))
    floor = gan_comparison.real_against_real(train, real)
    a, b = (torch.randn(300, 3, generator=g, dtype=torch.float64) for _ in range(2))
    assert floor.frechet == pytest.approx(frechet(a, b), abs=0.05)
    assert floor.nearest == 1
    assert floor.coverage > 0.9
    assert floor != gan_comparison.real_against_real(train, real, draws=1)
    moved = gan_comparison.real_against_real(train + 2.0, real)
    assert moved.frechet == pytest.approx(3 * 2.0**2, abs=1.5)


def test_votes_are_counted_by_maker():
    made_by = {"A1": "real", "A2": "gan", "B1": "gan", "B2": "diffusion"}
    assert gan_comparison.count_votes("", made_by) == "nothing chosen yet"
    assert gan_comparison.count_votes("a1, B1 a2 A1", made_by) == "0 of 3 by diffusion, 2 of 3 by gan, 1 of 3 by real"
    assert "not on the sheet: C9. Names run from A1 to B2" in gan_comparison.count_votes("A1 C9", made_by)


def test_networks_of_points_are_of_one_size_and_draw_points():
    generator, critic = gan_comparison.point_gan()
    denoiser = gan_comparison.point_denoiser()
    sizes = [sum(p.numel() for p in model.parameters()) for model in (generator, denoiser)]
    assert max(sizes) <= 1.05 * min(sizes)
    for model in (generator, denoiser):
        points = gan_comparison.sample_points(model, 7, seed=1)
        assert points.shape == (7, 2)
        torch.testing.assert_close(gan_comparison.sample_points(model, 7, seed=1), points)
    assert critic(points).shape == (7,)
    seen = []
    for x in (torch.tensor([[0.3, -0.2]]), torch.tensor([[2.3, 1.8]])):  # waves repeat every 2, coordinates do not
        gan_comparison.OnWaves(lambda x: seen.append(x) or x)(x)
    assert seen[0].shape == (1, 14)
    torch.testing.assert_close(seen[0][:, 2:], seen[1][:, 2:], rtol=0, atol=1e-5)
    assert not torch.equal(seen[0][:, :2], seen[1][:, :2])


def test_the_chapter_lists_the_trials_that_were_kept():
    """A markdown table has no output to compare it with."""
    (cell,) = [cell.source for cell in nbformat.read(NOTEBOOKS / "15_the_gan_race.ipynb", as_version=4).cells
               if "| method | batch |" in cell.source]  # fmt: skip
    listed = [[part.strip() for part in line.split("|")[1:-1]] for line in cell.splitlines() if line.startswith("| ")][
        1:
    ]
    digits, scenes = (
        json.loads((ROOT / "benchmarks" / "results" / f"gan_comparison_{name}.json").read_text())["trials"]
        for name in ("digits", "scenes")
    )
    kept = []
    for one, other in zip(digits, scenes, strict=True):
        assert (one["method"], one["settings"]) == (other["method"], other["settings"])
        name, s = {"gan": "GAN"}.get(one["method"], one["method"]), one["settings"]
        numbers = [f"{one['frechet']:.3g}", f"{other['frechet']:.0f}"]
        kept.append([name, str(s["batch"]), f"{s['lr']:g}", str(s.get("gamma", "")), *numbers])
    assert sorted(listed) == sorted(kept)
