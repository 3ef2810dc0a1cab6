"""Data sets: real digits, divided once and for all, and points in the plane that are where they should be."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from learn_diffusion.datasets.advection import draw_settings
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.patterns import draw_patterns, draw_sketches
from learn_diffusion.datasets.products import draw_products
from learn_diffusion.datasets.scenes import draw_scenes
from learn_diffusion.datasets.sprites import walkers
from learn_diffusion.datasets.terrain import height_maps
from learn_diffusion.datasets.toy2d import gaussians, lattice, lattice_centres, moons, spiral


def test_digits_are_the_real_ones_in_minus_one_to_one():
    images, labels = small_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert labels.shape == (1797,)
    assert labels.dtype == torch.int64
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.equal((images + 1) * 8, torch.tensor(load_digits().images).float()[:, None])
    assert torch.equal(labels, torch.tensor(load_digits().target))


def test_train_and_held_out_divide_the_digits_without_overlap():
    everything, (train, held_out) = small_digits()[0], (small_digits("train")[0], small_digits("held_out")[0])
    assert (len(train), len(held_out)) == (1297, 500)
    together = torch.cat([train, held_out]).flatten(1)
    assert torch.equal(together.sort(0).values, everything.flatten(1).sort(0).values)
    assert torch.cdist(train.flatten(1), held_out.flatten(1)).min() > 0


def test_the_division_never_changes():
    """Every distance printed anywhere was measured against these 500."""
    bytes_ = (small_digits("held_out")[0] * 8 + 8).to(torch.uint8).numpy().tobytes()
    assert hashlib.sha256(bytes_).hexdigest()[:16] == "ddd55dc813622754"


def test_both_parts_hold_all_ten_digits():
    for split in ("train", "held_out"):
        assert torch.bincount(small_digits(split)[1]).min() > 0.07 * len(small_digits(split)[1])


def test_gaussians_lie_on_the_unit_circle():
    points, mode = gaussians(20_000, modes=5, std=0.1)
    assert torch.bincount(mode).min() > 3700
    for k in range(5):
        part = points[mode == k]
        angle = torch.tensor(2 * torch.pi * k / 5)
        assert (part.mean(0) - torch.stack([angle.cos(), angle.sin()])).abs().max() < 0.01
        assert (part.std(0) - 0.1).abs().max() < 0.005


def test_the_lattice_fills_the_square_evenly():
    points, mode = lattice(50_000, side=5, std=0.02)
    centres = lattice_centres(5)
    assert centres.abs().max() == 1
    assert sorted(set(centres[:, 0].tolist())) == pytest.approx([-1, -0.5, 0, 0.5, 1])
    off = points - centres[mode]
    assert off.mean(0).abs().max() < 0.001
    assert (off.std(0) - 0.02).abs().max() < 0.001
    assert torch.bincount(mode, minlength=25).min() > 1800
    assert lattice_centres(1).tolist() == [[0, 0]]


def test_moons_and_spiral_lie_on_their_curves():
    points, moon = moons(2000, std=0.0)
    side = 1 - 2.0 * moon
    centre = torch.stack([-0.35 * side, -0.175 * side], dim=1)
    assert ((points - centre).norm(dim=1) - 0.7).abs().max() < 1e-5
    curve = spiral(2000, std=0.0)
    angle = 4 * torch.pi * curve.norm(dim=1)
    on_curve = curve.norm(dim=1, keepdim=True) * torch.stack([angle.cos(), angle.sin()], dim=1)
    assert (curve - on_curve).abs().max() < 1e-4


SEEDED = (gaussians, lattice, moons, spiral, draw_settings, draw_patterns, draw_sketches, height_maps, walkers,
          draw_scenes, draw_products)  # fmt: skip


@pytest.mark.parametrize("draw", SEEDED, ids=lambda f: f.__name__)
def test_a_seed_is_a_whole_number_and_draws_the_same_again(draw):
    def drawn(seed):
        data = draw(3, seed=seed)
        return data if isinstance(data, torch.Tensor) else data[0]

    assert torch.equal(drawn(1), drawn(np.int64(1)))
    assert not torch.equal(drawn(1), drawn(2))
    for wrong in ("a", -1, True, 0.5):
        with pytest.raises(ValueError, match=f"^seed: expected a whole number .*, got {wrong!r}"):
            drawn(wrong)
