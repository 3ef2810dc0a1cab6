"""Recipes: a killed run goes on to the same bytes, its time is added up, and the header tells the story."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
import torch

from learn_diffusion import checkpoints, recipes, runs, training
from learn_diffusion.checkpoints import load
from learn_diffusion.datasets import digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine

STEPS = 6


def tiny(steps: int = STEPS, seed: int = 0, device=None, work=None):
    """A painter too small to be any good, trained as any recipe is."""
    torch.manual_seed(seed)
    images, labels = digits("train")
    model = Denoiser(UNet(widths=(8, 8), classes=10), Cosine(), "v")
    *_, end = recipes.train(model, images, steps, labels=labels, seed=seed, device=device, checkpoint=work, batch=8)
    return end.ema.cpu(), {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": {}}


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    monkeypatch.setattr(recipes, "train", partial(training.train, checkpoint_every=2))


def killed_at(step: int, every: int = 2):
    """training.train, but pulled away from under the recipe after this step."""

    def train(*arguments, **options):
        for each in training.train(*arguments, checkpoint_every=every, **options):
            yield each
            if each.step == step:
                raise KeyboardInterrupt

    return train


def kill(monkeypatch, out, step: int, **options) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "train", killed_at(step))
        with pytest.raises(KeyboardInterrupt):
            runs.make("tiny", out, **options)


def same_weights(a, b) -> bool:
    pairs = zip(load(a, "cpu")[0].state_dict().values(), load(b, "cpu")[0].state_dict().values(), strict=True)
    return all(torch.equal(v, w) for v, w in pairs)


def test_the_header_tells_the_story_and_nothing_else_stays(tmp_path):
    out = runs.make("tiny", tmp_path / "a.safetensors", seed=3)
    _, metadata = load(out, "cpu")
    assert metadata["recipe"] == "tiny"
    assert (metadata["steps"], metadata["seed"], metadata["data_shape"]) == (STEPS, 3, [1, 8, 8])
    assert 0 < metadata["seconds"] < 60
    assert " thread" in metadata["hardware"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_killed_twice_and_run_again_gives_the_same_weights(tmp_path, monkeypatch, capsys):
    whole, out = runs.make("tiny", tmp_path / "whole"), tmp_path / "killed"
    kill(monkeypatch, out, 3)
    kill(monkeypatch, out, 5)
    assert checkpoints.read(tmp_path / "killed.work")[2]["training"]["step"] == 4
    assert not out.exists()
    capsys.readouterr()
    runs.make("tiny", out)
    assert "going on from step 4 in" in capsys.readouterr().out
    assert same_weights(out, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def test_killed_while_it_was_measured_trains_no_more(tmp_path, monkeypatch):
    out = tmp_path / "a"
    kill(monkeypatch, out, STEPS)
    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(recipes, "train", lambda *a, **o: (steps.append(s.step) or s for s in training.train(*a, **o)))
        runs.make("tiny", out)
    assert steps == [STEPS]
    assert same_weights(out, runs.make("tiny", tmp_path / "whole"))


def test_seconds_and_machines_add_up(tmp_path, monkeypatch):
    out = tmp_path / "a"
    kill(monkeypatch, out, 3)
    record = tmp_path / "a.work.json"
    kept = json.loads(record.read_text())
    assert 0 < kept["seconds"] < 60
    record.write_text(json.dumps({"seconds": 1000.0, "hardware": ["an older machine"]}))
    runs.make("tiny", out)
    _, metadata = load(out, "cpu")
    assert 1000 < metadata["seconds"] < 1060
    assert metadata["hardware"].startswith("an older machine, then ")


def test_the_work_file_knows_no_clock(tmp_path, monkeypatch):
    for name in "ab":
        kill(monkeypatch, tmp_path / name, 3)
        time.sleep(0.02)
    assert (tmp_path / "a.work").read_bytes() == (tmp_path / "b.work").read_bytes()
    assert (tmp_path / "a.work.json").read_bytes() != (tmp_path / "b.work.json").read_bytes()


def test_a_run_that_left_nothing_does_not_count(tmp_path, monkeypatch):
    out = tmp_path / "a"
    kill(monkeypatch, out, 1)  # before the first checkpoint
    (tmp_path / "a.work.json").write_text(json.dumps({"seconds": 1000.0, "hardware": []}))
    assert load(runs.make("tiny", out), "cpu")[1]["seconds"] < 60


def test_the_time_is_kept_while_it_runs(tmp_path):
    record = tmp_path / "r.json"
    with runs.stopwatch(record, "machine", checkpoint_every=0.01) as so_far:
        deadline = time.perf_counter() + 20
        while not record.exists() and time.perf_counter() < deadline:
            time.sleep(0.01)
        running = json.loads(record.read_text())  # what a kill -9 now would leave
        assert 0 < running["seconds"] <= so_far()["seconds"]
    assert json.loads(record.read_text())["seconds"] >= running["seconds"]


def test_fresh_starts_again(tmp_path, monkeypatch):
    out = tmp_path / "a"
    kill(monkeypatch, out, 3, seed=1)
    with pytest.raises(ValueError, match="is another training .*differs in seed.*--fresh"):
        runs.make("tiny", out, seed=2)
    runs.make("tiny", out, seed=2, fresh=True)
    assert same_weights(out, runs.make("tiny", tmp_path / "whole", seed=2))


def test_work_can_lie_elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    kill(monkeypatch, tmp_path / "a", 3, folder=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.work", "a.work.json"]
    runs.make("tiny", tmp_path / "a", folder=folder)
    assert not list(folder.iterdir())


def test_a_broken_work_file_or_record_is_named(tmp_path, monkeypatch):
    out = tmp_path / "a"
    kill(monkeypatch, out, 3)
    (tmp_path / "a.work.json").write_text("{")
    with pytest.raises(ValueError, match="work: .*a.work.json is no record of time spent"):
        runs.make("tiny", out)
    (tmp_path / "a.work").write_bytes((tmp_path / "a.work").read_bytes()[:-9])
    with pytest.raises(ValueError, match="work: no training can go on from .*a.work .*truncated.*--fresh"):
        runs.make("tiny", out)
    runs.make("tiny", out, fresh=True)


def test_nothing_is_trained_for_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", lambda **options: pytest.fail("trained"))
    with pytest.raises(FileNotFoundError, match="out: the folder of .*nowhere.a is not there"):
        runs.make("tiny", tmp_path / "nowhere" / "a")
    with pytest.raises(IsADirectoryError, match="out: expected the name of a file"):
        runs.make("tiny", tmp_path)
    with pytest.raises(FileNotFoundError, match="work: the folder of .*a.work is not there"):
        runs.make("tiny", tmp_path / "a", folder=tmp_path / "nowhere")
    monkeypatch.setattr(runs.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="out: the folder of .* cannot be written"):
        runs.make("tiny", tmp_path / "a")
    with pytest.raises(ValueError, match="recipe: expected one of 'digit_classifier', 'digits_by_label', .*got 'cats'"):
        runs.make("cats", tmp_path / "a")


@pytest.mark.parametrize("name", ["digit_classifier", "digits_by_label"])
def test_the_recipes_themselves_run(tmp_path, monkeypatch, name):
    monkeypatch.setattr(recipes, "sample_digits", partial(recipes.sample_digits, steps=1))  # the slow part
    model, metadata = load(runs.make(name, tmp_path / "a", steps=2), "cpu")
    shipped, theirs = load(recipes.pretrained_path(name), "cpu")
    assert metadata["metrics"].keys() == theirs["metrics"].keys()
    assert metadata.keys() == theirs.keys()
    assert model.state_dict().keys() == shipped.state_dict().keys()
