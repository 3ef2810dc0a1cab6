"""GANs: losses with known answers, networks, and a training that ends where it should."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from learn_diffusion import checkpoints
from learn_diffusion.datasets.toy2d import gaussians
from learn_diffusion.gan import critic_loss, generator_loss, lr_factor, sample_gan, train_gan
from learn_diffusion.metrics import modes
from learn_diffusion.nets import Critic, Generator


class Slope(nn.Module):
    """A critic that says w . x: its gradient is w everywhere."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return x.flatten(1) @ self.w


REAL = torch.tensor([[0.5, -0.2], [1.0, 0.3], [-0.7, 0.8]])
DRAWN = torch.tensor([[0.1, 0.4], [-0.5, 0.2], [0.9, -0.9]])


def test_the_critic_is_asked_which_of_two_is_real_and_is_kept_flat_around_both():
    critic = Slope([2.0, -1.0])
    gap = critic(DRAWN) - critic(REAL)
    expected = torch.log1p(gap.exp()).mean() + 0.3 / 2 * (5 + 5)  # |w|^2 = 5, at the real and at the drawn
    assert_close(critic_loss(critic, REAL, DRAWN, 0.3), expected)


def test_the_penalty_is_the_squared_length_of_the_gradient_of_each_row():
    critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    with_penalty, without = (critic_loss(critic, REAL, DRAWN, gamma) for gamma in (1.0, 0.0))
    lengths = [
        torch.autograd.functional.jacobian(lambda x: critic(x[None])[0], row).square().sum()
        for row in torch.cat([REAL, DRAWN])
    ]
    assert_close(with_penalty - without, (sum(lengths[:3]) / 3 + sum(lengths[3:]) / 3) / 2)


def test_the_penalty_teaches_the_critic():
    critic = Slope([2.0, -1.0])
    critic_loss(critic, REAL, REAL, 1.0).backward()  # nothing to tell apart: all that is left is the penalty
    assert_close(critic.w.grad, 2 * critic.w.detach())  # of gamma / 2 times 2 |w|^2


def test_the_generator_wants_the_opposite():
    critic = Slope([2.0, -1.0])
    assert_close(generator_loss(critic, REAL, DRAWN), F.softplus(critic(REAL) - critic(DRAWN)).mean())
    assert generator_loss(critic, DRAWN, DRAWN).item() == pytest.approx(math.log(2))


def test_the_rate_stays_and_then_falls_to_nothing():
    assert lr_factor(0.1) == lr_factor(0.499) == 1
    assert lr_factor(0.75) == pytest.approx(0.5)
    assert lr_factor(1.0) == pytest.approx(0, abs=1e-12)


def small_net(c_in: int, c_out: int) -> nn.Module:
    layers = [nn.Linear(c_in, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, c_out)]
    return nn.Sequential(*layers)


def points_game(seed: int = 0, gamma: float = 0.1, steps: int = 600):
    torch.manual_seed(seed)
    generator, critic = small_net(4, 2), nn.Sequential(small_net(2, 1), nn.Flatten(0))
    data = gaussians(4000, modes=2, std=0.15)[0]
    return train_gan(generator, critic, data, steps, latent=4, batch=128, lr=2e-3, gamma=gamma, seed=seed, device="cpu")


def test_learns_two_clouds_of_points():
    *_, end = points_game()
    drawn = sample_gan(end.ema, 4, 2000)
    found = modes(drawn, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 0.45)
    assert found.found == 2
    assert found.good > 0.9
    assert found.evenness > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    ends = [list(points_game(seed, steps=5))[-1] for seed in (1, 1, 2)]
    one, again, other = (torch.cat([w.flatten() for w in end.ema.parameters()]) for end in ends)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_critic_can_learn_again_after_the_generator_has_moved():
    (end,) = points_game(steps=1)
    assert end.step == 1
    assert math.isfinite(end.critic_loss + end.generator_loss)


@pytest.mark.parametrize(("side", "patch_size"), [(8, 1), (16, 2)])
def test_pictures_in_and_out(side, patch_size):
    how = {"channels": 3, "side": side, "widths": (8, 12), "blocks": 1, "patch_size": patch_size}
    drawn = Generator(latent=5, **how)(torch.randn(4, 5))
    assert drawn.shape == (4, 3, side, side)
    assert drawn.abs().max() <= 1
    assert Critic(**how)(drawn).shape == (4,)


@pytest.mark.parametrize("make", [lambda: Generator(widths=(8, 12), latent=5), lambda: Critic(widths=(8, 12))])
def test_every_weight_gets_a_gradient(make):
    net = make()
    for w in net.parameters():
        nn.init.normal_(w, std=0.2)
    net(torch.randn(3, 5) if isinstance(net, Generator) else torch.randn(3, 1, 8, 8)).square().sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in net.parameters())


def test_a_generator_is_kept_and_comes_back(tmp_path):
    generator = Generator(widths=(8, 12), latent=5)
    checkpoints.save(tmp_path / "gan.safetensors", generator, data="digits train")
    again, metadata = checkpoints.load(tmp_path / "gan.safetensors", "cpu")
    assert metadata["data"] == "digits train"
    assert torch.equal(sample_gan(again, 5, 3), sample_gan(generator, 5, 3))


def first(**other):
    good = {"generator": Generator(widths=(8,), latent=5), "critic": Critic(widths=(8,)), "steps": 1, "latent": 5}
    data = other.pop("data", torch.zeros(8, 1, 8, 8))
    good |= {"data": data, "device": "cpu"} | other
    return next(train_gan(good.pop("generator"), good.pop("critic"), good.pop("data"), good.pop("steps"), **good))


BAD = {
    "steps": ({"steps": 0}, ValueError, "steps: expected"),
    "batch": ({"batch": -1}, ValueError, "batch: expected"),
    "lr": ({"lr": float("nan")}, ValueError, "lr: expected"),
    "gamma": ({"gamma": -1.0}, ValueError, "gamma: expected"),
    "float64 data": ({"data": torch.zeros(8, 1, 8, 8, dtype=torch.float64)}, TypeError, "data: expected torch.float32"),
    "a seed of 1.5": ({"seed": 1.5}, ValueError, "seed: "),
    "uint8 data": ({"data": torch.zeros(8, 1, 8, 8, dtype=torch.uint8)}, TypeError, "data: "),
    "another latent": ({"latent": 6}, ValueError, r"z: this network takes \(B, 5\)"),
    "another side": ({"data": torch.zeros(8, 1, 16, 16)}, ValueError, r"x: this network takes \(B, 1, 8, 8\)|fake: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_argument_is_named(name):
    other, error, says = BAD[name]
    with pytest.raises(error, match=says):
        first(**other)


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="side: expected a side divisible by 2"):
        Generator(side=7)


def test_a_loss_that_is_not_finite_stops_at_once():
    critic = Critic(widths=(8,))
    nn.init.constant_(critic.layers[-1].bias, float("nan"))
    with pytest.raises(FloatingPointError, match="step 1"):
        first(critic=critic)
