"""The stirred dye: a solver that agrees with known solutions, and fields that are what the chapter says they are."""

from __future__ import annotations

from math import exp, pi

import torch

from learn_diffusion.datasets import advection
from learn_diffusion.datasets.advection import dye

same = torch.testing.assert_close


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_wave_along_y_only_decays_as_the_heat_equation_says():
    """A stroke along x cannot move what does not vary along x."""
    y = torch.arange(32, dtype=torch.float64)[:, None].expand(32, 48) / 32
    for k in (1, 3):
        c = torch.cos(2 * pi * k * y)[None]
        after = advection.stroke(c, numbers(0.3), numbers(0.1), kappa=2e-3)
        same(after, exp(-2e-3 * (2 * pi * k) ** 2) * c)


def test_without_spreading_every_row_moves_by_its_own_distance():
    y, x = torch.meshgrid(torch.arange(32.0).double() / 32, torch.arange(32.0).double() / 32, indexing="ij")
    distance, phase = numbers(0.3, 0.21), numbers(0.1, 0.7)
    shift = distance[:, None, None] * torch.sin(2 * pi * (y - phase[:, None, None]))
    for k in (1, 2):
        after = advection.stroke(torch.cos(2 * pi * k * x).expand(2, -1, -1), distance, phase, kappa=0.0)
        same(after, torch.cos(2 * pi * k * (x - shift)))


def test_a_wave_that_moves_and_spreads():
    """One row high, the flow is the same everywhere: the exact solution is a wave that travels and decays."""
    x = torch.arange(32, dtype=torch.float64) / 32
    after = advection.stroke(torch.cos(6 * pi * x)[None, None], numbers(0.3), numbers(0.1), kappa=1e-3)
    shift = 0.3 * torch.sin(numbers(-0.2 * pi))
    same(after[0, 0], exp(-1e-3 * (6 * pi) ** 2) * torch.cos(6 * pi * (x - shift)))


def test_the_splitting_is_of_second_order_and_its_error_small():
    y, x = torch.meshgrid(torch.arange(64.0).double() / 64, torch.arange(64.0).double() / 64, indexing="ij")
    c = torch.tanh(4 * torch.cos(2 * pi * (x - 0.3 * y)))[None]

    def after(steps):
        return advection.stroke(c, numbers(0.4), numbers(0.2), steps=steps)

    exact = after(128)
    one, two, four = ((after(steps) - exact).abs().max().item() for steps in (1, 2, 4))
    assert 3.5 < one / two < 4.5
    assert 3.5 < two / four < 4.5
    assert two < 0.02, "two steps are what the data is made with; the sensors of the chapter err by 0.1"


def test_dye_is_neither_made_nor_lost():
    c = torch.rand(2, 16, 16, dtype=torch.float64)
    same(advection.stroke(c, numbers(0.3, 0.2), numbers(0.0, 0.5)).mean((1, 2)), c.mean((1, 2)))


def test_the_first_stroke_goes_along_y_and_the_second_along_x():
    """The same two strokes by hand, on the solver's grid."""
    y = torch.arange(64) / 64
    band = torch.tanh(4 * torch.cos(2 * pi * (y - 0.2)))[None, :, None].expand(1, 64, 64)
    along_y = advection.stroke(band.mT, torch.tensor([0.3]), torch.tensor([0.6])).mT
    same(along_y.mean(1), torch.zeros(1, 64), atol=1e-5, rtol=0)  # columns move as a whole: half of each is dye
    assert along_y[0, 0].std() > 0.3, "columns were moved by different distances"
    both = advection.stroke(along_y, torch.tensor([0.2]), torch.tensor([0.9]))
    cells = both.view(1, 32, 2, 32, 2).mean((2, 4))
    same(advection.stirred(torch.tensor([[0.2, 0.3, 0.6, 0.2, 0.9]]))[:, 0], cells)


def test_a_field_moves_with_its_settings():
    """The box has no edges: what is moved is another field of the same kind."""
    field = advection.stirred(torch.tensor([[0.2, 0.3, 0.6, 0.2, 0.9]]))
    same(advection.stirred(torch.tensor([[0.2, 0.3, 0.85, 0.2, 0.9]])), field.roll(8, 3), atol=1e-4, rtol=0)
    same(advection.stirred(torch.tensor([[0.45, 0.3, 0.6, 0.2, 1.15]])), field.roll(8, 2), atol=1e-4, rtol=0)


def test_fields_are_reproducible_in_range_and_as_many_as_asked_for():
    a = dye(600, seed=3)
    assert a.shape == (600, 1, 32, 32)
    assert a.dtype == torch.float32
    assert a.abs().max() <= 1
    assert advection.stirred(advection.draw_settings(64, seed=3)).abs().max() < 1.001
    same(a, dye(600, seed=3))
    assert (a[:10] - dye(600, seed=4)[:10]).abs().mean() > 0.1


def test_the_fields_never_change():
    """Everything that is printed about them was measured on these; rounding aside, they are the same everywhere."""
    a = dye(256, seed=0)
    same(a.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    same(a.std(), torch.tensor(0.80652), atol=1e-4, rtol=0)
    same(a[[0, 17, 255], 0, 5, 9], torch.tensor([0.0818, 0.9282, -0.4041]), atol=1e-3, rtol=0)


def test_settings_are_spread_as_their_docstring_says():
    settings = advection.draw_settings(4000, seed=1)
    assert settings.shape == (4000, 5)
    low, high = torch.tensor([0, 0.2, 0, 0.2, 0]), torch.tensor([0.25, 0.4, 0.25, 0.4, 0.25])
    assert (settings >= low).all()
    assert (settings <= high).all()
    same(settings.mean(0), (low + high) / 2, atol=0.005, rtol=0)
    same(settings.std(0), (high - low) / 12**0.5, atol=0.003, rtol=0)


def test_settings_can_be_learned_from_a_field():
    """The gradient through the solver agrees with finite differences."""
    settings = advection.draw_settings(1, seed=2).double().requires_grad_()
    weight = torch.randn(1, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda s: (advection.stirred(s) * weight).sum(), settings, atol=1e-3)
