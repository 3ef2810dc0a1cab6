"""Average velocities: exact ones jump exactly, the derivative along a path is jvp's, networks are told two times."""

from __future__ import annotations

import pytest
import torch
from torch.func import jvp

from learn_diffusion.flow_maps import FlowMap, along_path, jumps
from learn_diffusion.nets import MLP, Classifier, DiT, UNet
from learn_diffusion.optim import hidden_matrices

MEAN, WIDTH = 0.8, 0.3  # of a Gaussian on the line


def spread(t):
    return ((1 - t) ** 2 * WIDTH**2 + t**2) ** 0.5


def exact(x, r, t):
    """The average velocity of the Gaussian's flow, whose map is known."""
    r, t = r[:, None], torch.maximum(t, r + 1e-9)[:, None]
    there = (1 - r) * MEAN + spread(r) / spread(t) * (x - (1 - t) * MEAN)
    return (x - there) / (t - r)


def times(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    r, t = (0.05 + 0.9 * torch.rand(2, n, generator=g, dtype=torch.float64)).sort(0).values
    return torch.randn(n, 1, generator=g, dtype=torch.float64), r, t


@pytest.mark.parametrize("calls", [1, 2, 7])
def test_exact_average_velocities_arrive_in_any_number_of_jumps(calls):
    x, _, _ = times(50)
    states = list(jumps(exact, x, calls))
    assert len(states) == calls
    torch.testing.assert_close(states[-1], MEAN + WIDTH * x)


def test_without_averages_it_is_eulers_method():
    x, _, _ = times(50)
    errors = []
    for calls in (20, 40):
        *_, end = jumps(exact, x, calls, average=False)
        errors.append((end - MEAN - WIDTH * x).abs().max().item())
    assert 1.6 < errors[0] / errors[1] < 2.5  # of first order


def random_map():
    """A network whose layers all say something, in double precision."""
    torch.manual_seed(0)
    model = FlowMap(MLP(dim=1, width=32, blocks=2).double())
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return model


@pytest.mark.parametrize("model", [exact, random_map()], ids=["exact", "network"])
def test_the_derivative_along_the_path_is_that_of_jvp(model):
    x, r, t = times(20)
    r = r - 0.02  # the exact one is no smooth formula at r = t
    v = torch.randn_like(x)
    _, slope = jvp(model, (x, r, t), (v, torch.zeros_like(r), torch.ones_like(t)))
    for step, off in ((1e-2, 0.05), (1e-3, 5e-4)):
        assert (along_path(model, x, r, t, v, step) - slope).abs().max() < off * slope.abs().max()


def test_the_identity_of_average_velocities():
    x, r, t = times(20)
    r = r - 0.02
    v = exact(x, t - 1e-6, t)
    torch.testing.assert_close(exact(x, r, t), v - (t - r)[:, None] * along_path(exact, x, r, t, v), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("net", "shape"),
    [(MLP(dim=2, width=16, blocks=1), (2,)), (UNet(widths=(8, 16)), (1, 8, 8)), (DiT(width=16, depth=1), (1, 8, 8))],
    ids=["MLP", "UNet", "DiT"],
)
def test_a_network_is_told_both_times(net, shape):
    model = FlowMap(net)
    x, t = torch.randn(3, *shape), torch.full((3,), 0.8)
    for p in model.parameters():  # the last layer of some networks, and TwoTimes, start at zero
        p.data += 0.05 * torch.randn_like(p)
    one, other, third = model(x, t, t), model(x, t / 2, t), model(x, t / 2, t / 2)
    assert one.shape == x.shape
    assert (one - other).abs().max() > 1e-4
    assert (one - third).abs().max() > 1e-4


def test_labels_are_passed_on():
    model, x, t = FlowMap(MLP(dim=2, width=16, blocks=1, classes=3)), torch.randn(3, 2), torch.ones(3)
    torch.nn.init.normal_(model.net.blocks[0].layers[-1].weight)
    assert (model(x, t, t, torch.tensor([0, 1, 2])) - model(x, t, t)).abs().max() > 1e-4


def test_embeddings_are_not_for_muon():
    model = FlowMap(MLP(dim=2, width=16, blocks=2))
    inside = {id(p) for p in hidden_matrices(model)}
    assert inside
    assert not inside & {id(p) for p in model.net.embedding.parameters()}


def test_bad_arguments_are_named():
    model, x, t = FlowMap(MLP(dim=2, width=16, blocks=1)), torch.zeros(3, 2), torch.ones(3)
    with pytest.raises(TypeError, match="net: expected a network with an Embedding, such as MLP or UNet, got Classif"):
        FlowMap(Classifier())
    with pytest.raises(ValueError, match=r"r: expected a time for each row of x, \(3,\), got \(\)"):
        model(x, torch.tensor(0.0), t)
    with pytest.raises(ValueError, match="calls: expected a whole number of at least 1, got 0"):
        jumps(model, x, 0)
    with pytest.raises(ValueError, match="x: expected finite"):
        jumps(model, x * float("nan"), 1)
