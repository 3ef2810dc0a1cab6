"""Metrics against known answers."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import sqrtm

from learn_diffusion.checkpoints import load
from learn_diffusion.datasets import digits
from learn_diffusion.metrics import frechet, nearest_ratio
from learn_diffusion.recipes import digit_quality, obedience, shipped


def features(n, d, seed, scale=1.0, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=g) @ torch.randn(d, d, generator=g) + shift


def test_frechet_is_the_textbook_formula():
    a, b = features(300, 6, 1).double(), features(400, 6, 2, 0.7, 0.5).double()
    cov_a, cov_b = np.cov(a.T.numpy()), np.cov(b.T.numpy())
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    expected += np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert abs(frechet(a, b) - expected) < 1e-8 * expected


def test_frechet_of_equal_clouds_is_zero_and_of_shifted_ones_the_squared_shift():
    a = features(500, 4, 1)
    assert abs(frechet(a, a)) < 1e-4
    assert abs(frechet(a, a + 2.0) - 4 * 2.0**2) < 1e-3


def test_frechet_of_one_dimension_is_the_squared_difference_of_means_and_stds():
    a = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(frechet(a, 3 * a + 1) - ((a.mean() - 3 * a.mean() - 1) ** 2 + (2 * a.std()) ** 2).item()) < 1e-8


def test_frechet_survives_features_that_never_vary():
    a = features(300, 5, 1)
    a[:, 2] = 0.5
    assert abs(frechet(a, a)) < 1e-4


def test_nearest_ratio_is_zero_for_copies_and_one_for_fresh_data():
    g = torch.Generator().manual_seed(0)
    train, held_out, fresh = (torch.randn(500, 1, 4, 4, generator=g) for _ in range(3))
    assert nearest_ratio(train[:100], train, held_out) < 1e-3
    assert abs(nearest_ratio(fresh, train, held_out) - 1) < 0.05


def test_the_ruler_tells_real_digits_from_noise_and_from_blur():
    reader, about = load(shipped("digit_reader"), "cpu")
    assert about["metrics"]["held_out_accuracy"] > 0.985
    (train, _), (unseen, labels) = digits("train"), digits("held_out")
    with torch.no_grad():
        assert (reader(unseen).argmax(1) == labels).float().mean() == about["metrics"]["held_out_accuracy"]
        floor = frechet(reader.features(train[:500]), reader.features(unseen))
        noise = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        blur = torch.nn.functional.avg_pool2d(train[:500], 3, 1, 1)
        one_class = train[digits("train")[1] == 1].repeat(4, 1, 1, 1)[:500]
        for bad in (noise, blur, one_class):
            assert frechet(reader.features(bad), reader.features(unseen)) > 20 * floor


def test_the_shipped_model_draws_as_well_as_its_header_says():
    reader, _ = load(shipped("digit_reader"), "cpu")
    model, about = load(shipped("digits_by_label"), "cpu")
    wanted = torch.arange(500) % 10
    quality = digit_quality(lambda x, t: model(x, t, wanted), model.schedule, reader)
    for key in ("frechet", "floor", "nearest_ratio"):
        assert abs(quality[key] - about["metrics"][key]) < 0.05
    assert quality["frechet"] < 2 * quality["floor"]
    assert abs(obedience(model, reader) - about["metrics"]["obedience"]) < 0.01
