"""Photographs: read at a chosen size, and cut into crops that lie where they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.photographs import SHIPPED, crops, photograph
from learn_diffusion.recipes import photographs
from learn_diffusion.recipes.photographs import canvases, likeness, pieces
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.run import run_recipe


@pytest.mark.parametrize("which", SHIPPED)
@pytest.mark.parametrize("height", [48, 104])
def test_the_shipped_ones_have_any_height_and_an_author(which, height):
    found = photograph(which, height)
    assert found.pixels.shape == (3, height, round(height * 640 / 427 / 8) * 8)
    assert found.pixels.min() >= -1
    assert found.pixels.max() <= 1
    assert found.pixels.std() > 0.2
    assert found.licence == "CC BY 2.0"
    assert found.author in found.source


def test_the_flower_is_orange_in_its_middle_and_dark_at_its_edge():
    pixels = photograph("flower", 104).pixels
    red, _, blue = pixels[:, 40:60, 60:90].mean((1, 2))
    assert red > blue + 0.5
    assert pixels[:, :10, :10].mean() < -0.3


def test_an_own_one_is_read_as_it_lies_there(tmp_path):
    bytes_ = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    Image.fromarray(bytes_).save(tmp_path / "mine.png")
    found = photograph(tmp_path / "mine.png", 16)
    assert torch.equal(found.pixels, torch.from_numpy(bytes_).permute(2, 0, 1).float() / 127.5 - 1)
    assert photograph(str(tmp_path / "mine.png"), 8).pixels.shape == (3, 8, 16)


def test_bad_arguments_are_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"^which: .*a\.png cannot be used: no PNG"):
        photograph(tmp_path / "a.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    whole = bytearray((tmp_path / "b.png").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "b.png").write_bytes(whole)
    with pytest.raises(ValueError, match=r"^which: .*b\.png cannot be used: "):
        photograph(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError, match=r"^which: expected 'flower' or 'china', or a file; got 'rose'"):
        photograph("rose")
    with pytest.raises(FileNotFoundError, match=r"^which: expected"):
        photograph("~nobody_at_all/rose.png")
    for height in (0, 100, 104.0):
        with pytest.raises(ValueError, match=r"^height: expected a multiple of 8"):
            photograph("flower", height)
    for size in (9, 7):
        with pytest.raises(ValueError, match=r"^size: expected at most|^n: expected at most 4"):
            crops(torch.zeros(3, 8, 8), size, n=5)


def test_crops_lie_where_they_were():
    picture = torch.arange(2 * 5 * 7.0).reshape(2, 5, 7)
    every = crops(picture, 3)
    assert every.shape == (3 * 5, 2, 3, 3)
    for i, crop in enumerate(every):
        top, left = divmod(i, 5)
        assert torch.equal(crop, picture[:, top : top + 3, left : left + 3])
    some = crops(picture, 3, n=6, seed=1)
    assert len({crop[0, 0, 0].item() for crop in some}) == 6
    assert all(any(torch.equal(crop, one) for one in every) for crop in some)
    assert torch.equal(some, crops(picture, 3, n=6, seed=1))
    assert not torch.equal(some, crops(picture, 3, n=6, seed=2))


def test_a_moved_photograph_is_a_copy_and_one_upside_down_is_none():
    photo = photograph("flower", 64).pixels
    moved, turned = (photo[:, :, 1:] + photo[:, :, :-1]) / 2, photo.flip(1)
    copy, other = likeness(moved[None], photo), likeness(turned[None], photo)
    assert copy["copied"] > 0.9 > 0.1 > other["copied"]
    assert copy["frechet"] < other["frechet"] < likeness(torch.randn_like(photo)[None], photo)["frechet"]


def test_pieces_of_one_colour_are_left_out():
    halves = torch.cat([torch.zeros(3, 40, 30), torch.rand(3, 40, 30) * 2 - 1], dim=2)
    found = pieces(halves[None], n=200, seed=1)
    assert found.shape[1:] == (3, 16, 16)
    assert 0 < len(found) < 200
    assert found.flatten(1).std(1).min() > 0.2


def test_what_ships_draws_dahlias_on_canvases_of_any_size():
    model, metadata = checkpoints.load(pretrained_path("dahlia"), "cpu")
    photo = photograph("flower", 64).pixels
    found = likeness(canvases(model, 2, seed=5), photo)
    assert found["frechet"] < 3 * metadata["metrics"]["frechet"]["mean"]
    assert found["frechet"] < 2  # the short training of chapter 28 has about 4
    assert sampling.sample(model, (1, 3, 40, 120), steps=2).shape == (1, 3, 40, 120)


def test_the_model_is_made_as_its_header_says(tmp_path, monkeypatch):
    _, metadata = checkpoints.load(pretrained_path("dahlia"), "cpu")
    monkeypatch.setattr(photographs, "canvases", lambda model, n, seed: photograph("flower", 64).pixels[None])
    model, again = checkpoints.load(run_recipe("dahlia", tmp_path / "a", steps=2), "cpu")
    assert again.keys() == metadata.keys()
    assert "vultilion, CC BY 2.0" in again["data"] == metadata["data"]
    assert again["metrics"]["copied"]["mean"] > 0.9  # of the photograph itself
    assert model.net.config["widths"] == [48, 64, 96]
