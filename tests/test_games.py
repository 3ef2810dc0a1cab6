"""The data of the chapter on game worlds: maps that look alike at any size, people who walk and stay themselves."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from learn_diffusion.datasets.sprites import PARTS, PHASES, paste, walkers
from learn_diffusion.datasets.terrain import TINTS, height_maps, relief
from learn_diffusion.metrics import walks

# ---- terrain ----


def test_terrain_is_pictures_around_the_sea_level():
    maps = height_maps(200, seed=3)
    assert maps.shape == (200, 1, 32, 32)
    assert maps.dtype == torch.float32
    assert maps.min() >= -1
    assert maps.max() <= 1
    assert abs(maps.mean() - 0.07) < 0.03
    assert abs(maps.std() - 0.285) < 0.03
    assert 0.45 < (maps > 0).float().mean() < 0.6  # about as much land as sea


def test_terrain_never_changes():
    """Every ratio printed anywhere was measured on this land."""
    maps = height_maps(2, seed=0, height=8, width=12)
    expected = [[0.2479, 0.3405, 0.2499], [0.4042, 0.4126, 0.3035]]
    torch.testing.assert_close(maps[:, 0, 3, 2:5], torch.tensor(expected), atol=1e-4, rtol=0)
    assert torch.equal(maps, height_maps(2, seed=0, height=8, width=12))
    assert not torch.equal(maps, height_maps(2, seed=1, height=8, width=12))


def test_terrain_has_no_edge_of_its_own():
    """Border and middle have the same statistics: a large map is as good as many small ones."""
    maps = height_maps(400, seed=5)[:, 0]
    slopes = maps.diff(dim=2).abs().mean((0, 1))  # (31,): across each vertical line
    assert (slopes / slopes.mean() - 1).abs().max() < 0.12
    wide = height_maps(30, seed=6, width=160)
    assert abs(wide.std() / maps.std() - 1) < 0.08
    assert abs(wide.diff(dim=3).abs().mean() / slopes.mean() - 1) < 0.08


def test_terrain_is_not_periodic():
    maps = height_maps(300, seed=7)[:, 0]
    left, right = maps[:, :, 0].flatten(), maps[:, :, -1].flatten()
    assert abs(torch.corrcoef(torch.stack([left, right]))[0, 1]) < 0.2


def test_terrain_erodes_what_is_too_steep():
    maps = height_maps(100, seed=8)
    assert maps.diff(dim=3).abs().quantile(0.99) < 0.25


def test_relief_is_tinted_by_height_and_lit_from_the_upper_left():
    flat = torch.tensor([-0.5, 0.02, 0.9])[:, None, None, None].expand(3, 1, 8, 8)
    drawn = relief(flat, zoom=3)
    assert drawn.shape == (3, 24, 24, 3)
    for picture, tint in zip(drawn, TINTS[[0, 4, 9]], strict=True):
        assert (picture == tint).all()
    hill = 0.1 * torch.arange(8.0).expand(1, 1, 8, 8)  # rises to the right: its slope faces the light
    assert relief(hill).mean() > relief(hill.flip(3)).mean() + 20


# ---- walkers ----


def test_walkers_are_pictures_with_their_stencils():
    people = walkers(20, seed=1)
    assert people.frames.shape == (20, PHASES, 3, 24, 16)
    assert people.frames.dtype == torch.float32
    assert people.frames.abs().max() <= 1
    assert people.parts.shape == (20, PHASES, 24, 16)
    assert people.parts.dtype == torch.int64
    assert people.parts.min() == 0
    assert people.parts.max() < len(PARTS)


def test_stencils_never_change():
    together = walkers(64, seed=0).parts.flatten(1).unique(dim=0).to(torch.uint8)
    assert len(together) == 6  # two kinds of hair, three of hats
    assert hashlib.sha256(together.numpy().tobytes()).hexdigest()[:16] == "3a731a686e06afad"


def test_seeds_reproduce_walkers():
    assert torch.equal(walkers(5, seed=2).frames, walkers(5, seed=2).frames)
    assert not torch.equal(walkers(5, seed=2).frames, walkers(5, seed=3).frames)


def test_a_character_keeps_every_colour_through_the_walk():
    people = walkers(10, seed=4)
    for frames, parts in zip(people.frames, people.parts, strict=True):
        pixels = frames.movedim(1, -1)  # (8, 24, 16, 3)
        for part in parts.unique():
            assert len(pixels[parts == part].unique(dim=0)) == 1, PARTS[part]


def test_all_eight_phases_differ_in_the_legs():
    parts = walkers(1, seed=0).parts[0, :, 15:]
    for i in range(PHASES):
        for j in range(i):
            assert (parts[i] != parts[j]).sum() >= 5, (i, j)


def test_the_head_does_not_depend_on_the_phase_but_for_its_height():
    parts = walkers(6, seed=0).parts
    upright = [k for k in range(PHASES) if k not in (2, 6)]  # in 2 and 6 the legs are apart, and the body is lower
    heads = parts[:, upright, :9]
    assert torch.equal(heads, heads[:, :1].expand_as(heads))
    assert torch.equal(parts[:, 2, 1:10], parts[:, 0, 0:9])


def test_a_sprite_is_pasted_without_its_backdrop():
    people = walkers(2, seed=1)
    scene = np.full((40, 30, 3), 7, np.uint8)
    pasted = paste(scene, people.frames[1, 0], top=10, left=5)
    assert (scene == 7).all()
    solid = people.parts[1, 0].numpy() > 0
    window = pasted[10:34, 5:21]
    assert (window[~solid] == 7).all()
    assert (pasted == 7).all(2).sum() == 40 * 30 - solid.sum()
    assert abs(window[solid] / 127.5 - 1 - people.frames[1, 0].movedim(0, -1).numpy()[solid]).max() < 0.01


def test_walks_are_read_from_their_frames():
    cast = walkers(5, seed=2)
    film = cast.frames[:, torch.arange(17) % 8]
    assert (walks.phases(film, cast) == torch.arange(17) % 8).all()
    assert walks.steps_on(walks.phases(film, cast)).tolist() == [1] * 5
    assert walks.steps_on(torch.tensor([[6, 7, 0, 0, 2]])).tolist() == [0.5]
    assert walks.colour_error(film, cast).max() == 0
    off = film.clone()
    off[..., :15, :] += 20 / 127.5
    off[..., 15:, :] = 0  # legs have no say in the colours
    torch.testing.assert_close(walks.colour_error(off, cast), torch.full((5, 17), 20.0))
    late = cast.frames[:, (torch.arange(17) + 3) % 8]
    assert walks.colour_error(late, cast).max() == 0  # a wrong phase is no wrong colour
    with pytest.raises(ValueError, match="film: expected one for each character"):
        walks.phases(film[:3], cast)
