"""Sampling a trained model: the same picture as by hand, and an error for a condition that the model does not take."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion import sampling
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.nets import MLP, UNet
from learn_diffusion.recipes import evaluation
from learn_diffusion.samplers import SAMPLERS, final_sample
from learn_diffusion.sampling import condition, initial_noise, picture_shape, sample, takes
from learn_diffusion.schedules import EDM, Cosine

WORDS = ["a", "cat", "moon", "on", "the"]


def lively(net: torch.nn.Module, schedule=None, target: str = "v") -> Denoiser:
    """A model whose answers depend on everything: the zeros it starts with are replaced."""
    g = torch.Generator().manual_seed(0)
    for w in net.parameters():
        if not w.any():
            w.data = 0.2 * torch.randn(w.shape, generator=g)
    return Denoiser(net, schedule or Cosine(), target).eval()


@pytest.fixture(scope="module")
def labelled() -> Denoiser:
    torch.manual_seed(0)
    return lively(UNet(widths=(8, 16), classes=10))


@pytest.fixture(scope="module")
def worded() -> Denoiser:
    torch.manual_seed(0)
    return lively(UNet(channels=3, widths=(8, 16), patch_size=2, words=WORDS, text=16), EDM(), "edm")


def test_sample_is_a_guided_sampler_in_range(labelled):
    y, schedule = torch.tensor([1, 7]), labelled.schedule
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(5)) * schedule.sigma(
        torch.tensor(schedule.t_max)
    )
    for name, sampler in SAMPLERS.items():
        steps = sampler(clip_x0(cfg(labelled, y, 2.0), schedule), schedule, noise, schedule.timesteps(6))
        pictures = sample(labelled, (2, 1, 8, 8), y, scale=2.0, steps=6, seed=5, sampler=name)
        assert torch.equal(pictures, final_sample(steps))
    with pytest.raises(ValueError, match="^sampler: expected one of 'ddim', 'heun', 'dpmpp_2m', got 'euler'"):
        sample(labelled, (2, 1, 8, 8), sampler="euler")
    pictures = sample(labelled, (2, 1, 8, 8), y, scale=2.0, steps=6, seed=5)
    assert torch.equal(pictures, sample(labelled, (2, 1, 8, 8), y, scale=2.0, steps=6, seed=5, sampler="dpmpp_2m"))
    assert pictures.abs().max() <= 1
    assert not torch.equal(pictures, sample(labelled, (2, 1, 8, 8), y, scale=3.0, steps=6, seed=5))
    assert not torch.equal(pictures, sample(labelled, (2, 1, 8, 8), None, steps=6, seed=5))
    assert not torch.equal(pictures, sample(labelled, (2, 1, 8, 8), y, scale=2.0, steps=6, seed=6))


def test_noise_starts_where_the_schedule_does(worded):
    assert 70 < initial_noise(worded.schedule, (4, 3, 16, 16)).std() < 90  # EDM's sigma_max is 80


def test_batches_do_not_change_the_pictures(labelled, monkeypatch):
    y = torch.arange(7)
    whole = sample(labelled, (7, 1, 8, 8), y, steps=3)
    monkeypatch.setattr(sampling, "BATCH", 3)
    assert_close(sample(labelled, (7, 1, 8, 8), y, steps=3), whole, rtol=0, atol=1e-4)


def test_more_pictures_begin_with_the_same_ones(labelled):
    assert torch.equal(
        initial_noise(labelled.schedule, (9, 1, 8, 8), 3)[:4],
        initial_noise(labelled.schedule, (4, 1, 8, 8), 3),
    )


def test_sample_digits_takes_the_same_way(labelled):
    assert torch.equal(evaluation.sample_digits(labelled, labelled.schedule, 3, steps=4, seed=2, side=8),
                       sample(labelled, (3, 1, 8, 8), steps=4, seed=2))  # fmt: skip


def test_a_prompt_becomes_tokens_and_changes_the_picture(worded):
    cat = condition(worded, 2, "A cat, on the moon!")
    assert torch.equal(cat, worded.net.text.tokenise(["a cat on the moon"] * 2))
    moon = condition(worded, 2, "the moon")
    assert not torch.equal(sample(worded, (2, 3, 16, 16), cat, steps=3), sample(worded, (2, 3, 16, 16), moon, steps=3))


def test_what_a_model_takes(labelled, worded):
    neither = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
    assert takes(labelled) == "a label from 0 to 9"
    assert takes(worded) == "a prompt of up to 16 words"
    assert takes(neither).startswith("no condition")
    assert condition(neither, 3) is condition(labelled, 3) is None
    assert condition(labelled, 3, label=4).tolist() == [4, 4, 4]
    for model, wanted, message in (
        (labelled, {"prompt": "a cat"}, "prompt: this model reads no words; it takes a label from 0 to 9"),
        (neither, {"prompt": "a cat"}, "prompt: .* no condition"),
        (worded, {"label": 3}, "label: this model knows no labels; it takes a prompt"),
        (worded, {"label": 3, "prompt": "a cat"}, "label: "),
        (labelled, {"label": 3, "prompt": "a cat"}, "prompt: "),
        (neither, {"label": 3}, "label: .* no condition"),
        (labelled, {"label": 10}, "label: expected a whole number from 0 to 9, got 10"),
        (labelled, {"label": -1}, "label: expected a whole number from 0 to 9, got -1"),
        (worded, {"prompt": "a cut"}, r"'cut' \(nearest: cat\)"),
        (worded, {"prompt": " ?! "}, "prompt: expected at least one word"),
        (worded, {"prompt": "cat " * 1000}, "prompt: expected at most 16 words, got 1000"),
    ):
        with pytest.raises(ValueError, match=message):
            condition(model, 2, **wanted)


def test_the_shape_comes_from_the_header_or_from_the_caller(labelled, worded):
    assert picture_shape(labelled, {"data_shape": [1, 8, 8]}) == (1, 8, 8)
    assert picture_shape(worded, {"data_shape": [3, 32, 16]}) == (3, 32, 16)
    assert picture_shape(labelled, {"data_shape": [1, 8, 8]}, size=16) == (1, 16, 16)
    assert picture_shape(labelled, {}, size=8) == (1, 8, 8)
    for model, metadata, size, message in (
        (labelled, {}, None, "size: this file does not say how large its pictures are; pass the side"),
        (labelled, {}, 7, "size: this network draws 1 channels with sides divisible by 2"),
        (labelled, {}, 0, "size: this network"),
        (labelled, {"data_shape": [3, 8, 8]}, None, r"size: .*1 channels .*\[3, 8, 8\]"),
        (labelled, {"data_shape": 8}, None, "size: .* = 8"),
        (Denoiser(MLP(), Cosine(), "v"), {}, 8, "model: expected a network that draws pictures, got MLP"),
    ):
        with pytest.raises(ValueError, match=message):
            picture_shape(model, metadata, size)
