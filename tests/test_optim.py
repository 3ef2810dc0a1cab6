"""Muon: what orthogonalising does, which weights it is for, and that a training with it goes on where it stopped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import MLP, VAE, DiT, UNet
from learn_diffusion.optim import Muon, hidden_matrices, optimizers, orthogonalise
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train


@pytest.mark.parametrize("shape", [(64, 64), (32, 96), (96, 32), (4, 16, 24), (2, 3, 30, 8)])
def test_singular_values_of_an_update_lie_near_one_and_its_directions_are_the_gradients(shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, v = torch.linalg.svd(noise, full_matrices=False)
    out = orthogonalise(u * torch.linspace(0.2, 1, s.shape[-1], dtype=torch.float64) @ v)
    assert out.shape == noise.shape
    values = torch.linalg.svdvals(out)
    assert values.min() > 0.65
    assert values.max() < 1.25
    inside = u.mT @ out @ v.mT  # diagonal as far as it has these singular vectors
    assert torch.allclose(inside, torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1)), atol=1e-9)


def test_a_gradient_of_nothing_moves_nothing():
    assert orthogonalise(torch.zeros(3, 4)).abs().max() == 0


def test_an_update_is_the_one_written_down_plainly():
    """Momentum, Nesterov, five rounds and the scale of Jordan et al. 2024, one matrix at a time."""
    g = torch.Generator().manual_seed(1)
    weights = [nn.Parameter(torch.randn(6, 4, generator=g)), nn.Parameter(torch.randn(6, 4, generator=g))]
    expected, means = [w.detach().clone() for w in weights], [torch.zeros(6, 4) for _ in weights]
    muon = Muon(weights, lr=0.1, momentum=0.9)
    for _ in range(3):
        for i, w in enumerate(weights):
            w.grad = torch.randn(6, 4, generator=g)
            means[i] = 0.9 * means[i] + 0.1 * w.grad
            x = (0.1 * w.grad + 0.9 * means[i]).T
            x = x / (x.square().sum().sqrt() + 1e-7)
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x - 4.7750 * a @ x + 2.0315 * a @ a @ x
            expected[i] = expected[i] - 0.1 * (6 / 4) ** 0.5 * x.T
        muon.step()
    for w, known in zip(weights, expected, strict=True):
        assert torch.allclose(w, known, atol=1e-6)


def test_a_convolution_counts_as_its_matrix():
    g = torch.Generator().manual_seed(2)
    kernel, matrix = nn.Parameter(torch.zeros(8, 3, 3, 3)), nn.Parameter(torch.zeros(8, 27))
    kernel.grad = torch.randn(8, 3, 3, 3, generator=g)
    matrix.grad = kernel.grad.flatten(1)
    kernel.grad = kernel.grad.contiguous(memory_format=torch.channels_last)
    Muon([kernel, matrix], lr=1.0).step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)


def test_a_weight_without_a_gradient_stays():
    w = nn.Parameter(torch.ones(3, 3))
    Muon([w]).step()
    assert (w == 1).all()
    with pytest.raises(ValueError, match=r"^params: expected weights of two or more dimensions, got shape \(3,\)"):
        Muon([nn.Parameter(torch.ones(3))])


def names(net: nn.Module) -> set[str]:
    ids = {id(w) for w in hidden_matrices(net)}
    return {name for name, w in net.named_parameters() if id(w) in ids}


READS = {"words": ["a", "cat"], "text": 8}
INSIDE = {"down.0.conv1.weight", "down.0.film.weight", "middle.1.qkv.weight", "text.layers.0.mlp.0.weight"}


@pytest.mark.parametrize(
    ("net", "inside", "outer"),
    [
        (UNet(widths=(8, 16), **READS), INSIDE, ("embedding.", "conv_in.", "conv_out.")),
        (DiT(width=8, depth=1, **READS), {"blocks.0.adaln.weight"}, ("embedding.", "linear_in.", "linear_out.")),
        (VAE(widths=(8, 16)), {"encoder.3.weight"}, ("encoder.1.", "encoder.7.", "decoder.0.", "decoder.8.")),
    ],
)
def test_it_is_for_the_matrices_inside(net, inside, outer):
    found = names(net)
    assert inside <= found
    for name, w in net.named_parameters():
        layer = net.get_submodule(name.rpartition(".")[0])
        matrix = isinstance(layer, nn.Linear | nn.Conv2d) and w.ndim >= 2
        assert (name in found) == (matrix and not name.startswith(outer)), name


def test_of_an_mlp_it_is_for_the_matrices_of_its_blocks():
    assert names(MLP(width=8, blocks=1)) == {
        "blocks.0.film.weight", "blocks.0.layers.0.weight", "blocks.0.layers.2.weight"
    }  # fmt: skip


def test_of_a_network_that_names_no_outer_layers_the_first_and_the_last_are():
    net = nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2)
    )
    assert names(net) == {"3.weight"}
    assert names(nn.Linear(2, 2)) == set()


def test_every_weight_has_one_optimizer():
    net = UNet(widths=(8, 16), classes=3)
    for muon in (True, False):
        found = [w for o in optimizers(net, 1e-3, muon) for group in o.param_groups for w in group["params"]]
        assert sorted(map(id, found)) == sorted(map(id, net.parameters()))
    adamw, of_matrices = optimizers(net, 1e-3)
    assert of_matrices.defaults["lr"] == pytest.approx(10 * adamw.defaults["lr"])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_training_goes_on_to_the_same_bytes(tmp_path, optimizer):
    data = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1

    def run(path, stop=None):
        torch.manual_seed(0)
        model = Denoiser(UNet(widths=(8, 16)), Cosine(), "v")
        how = {"optimizer": optimizer, "batch": 8, "device": "cpu", "checkpoint": path, "checkpoint_every": 2}
        for step in train(model, data, 6, **how):
            if step.step == stop:
                return

    run(tmp_path / "whole")
    run(tmp_path / "parts", stop=2)
    run(tmp_path / "parts")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    torch.manual_seed(0)
    other = "adamw" if optimizer == "muon" else "muon"
    with pytest.raises(ValueError, match="differs in optimizer"):
        next(train(Denoiser(UNet(widths=(8, 16)), Cosine(), "v"), data, 6, optimizer=other, batch=8, device="cpu",
                   checkpoint=tmp_path / "whole"))  # fmt: skip
    with pytest.raises(ValueError, match=r"^optimizer: expected one of 'muon', 'adamw', got 'sgd'"):
        train(other, data, 6, optimizer="sgd")
