"""Training of a GAN: a generator against a critic.

Relativistic losses with two gradient penalties (Huang et al. 2024, after Jolicoeur-Martineau 2018 and Mescheder et al.
2018): the critic is asked which of two pictures looks more real, not whether one is, and is kept flat around both real
and fake ones. It is what lets a plain network train without tricks.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from learn_diffusion import devices, validation
from learn_diffusion.training import EMA, FiniteLosses


class GANStep(NamedTuple):
    """State after a step of the critic and one of the generator."""

    step: int  # 1 ... steps
    critic_loss: Tensor  # () log 2 = 0.69 and the penalty: the critic cannot tell
    generator_loss: Tensor  # () log 2: the same
    generator: nn.Module  # as trained so far
    ema: nn.Module  # the running average of its weights, the one to draw from


def critic_loss(critic: nn.Module, real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    """How badly the critic tells fake from real, and how steep it is there, () tensor.

    Mean of softplus(critic(fake) - critic(real)), pair by pair, plus gamma / 2 times the mean squared length of the
    critic's gradient at the real data (R1) and at the fake (R2). real, fake (B, ...) alike.
    """
    validation.same_shape("fake", fake, "real", real)
    both = torch.cat([real, fake]).detach().requires_grad_()
    scores = critic(both)
    of_real, of_fake = scores.chunk(2)
    (slope,) = torch.autograd.grad(scores.sum(), both, create_graph=True)
    steep = slope.flatten(1).square().sum(1).mean() * 2  # the mean over real plus the mean over fake
    return F.softplus(of_fake - of_real).mean() + gamma / 2 * steep


def generator_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """How well the critic tells, () tensor: mean of softplus(critic(real) - critic(fake)), pair by pair."""
    return F.softplus(critic(real) - critic(fake)).mean()


def train_gan(
    generator: nn.Module,
    critic: nn.Module,
    data: Tensor,
    steps: int,
    *,
    latent: int,
    batch: int = 64,
    lr: float = 5e-4,
    gamma: float = 1.0,
    halflife: float | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Iterator[GANStep]:
    """Train generator and critic in place against each other: the iterator yields a GANStep after a step of each.

    generator  forward(z (B, latent)) -> rows like data; z is standard normal
    critic     forward(rows like data) -> (B,)
    data       (N, C, H, W) pictures in [-1, 1], or (N, D) points
    lr         learning rate of both (Adam without momentum), constant for the first half and annealed to 0
    gamma      of the gradient penalties: larger is steadier, and slower to see detail; it falls to a tenth over the
               first half of the training
    halflife   of the EMA in steps; None: a twentieth of the training
    seed       of everything random in the loop; the initial weights are the caller's

    Raises TypeError or ValueError that names a bad argument; FloatingPointError when a loss is not finite.
    """
    _check_choices(data, steps, batch, latent, lr, gamma)
    seed = validation.whole_number("seed", seed)
    for weight in (next(net.parameters(), data) for net in (generator, critic)):
        validation.dtype_of("data", data, weight)
    halflife = max(1.0, steps / 20) if halflife is None else halflife
    if not halflife > 0:
        raise ValueError(f"halflife: expected a number of steps above 0, got {halflife}")
    device = devices.resolve_device(device)
    return _rounds(generator, critic, data, steps, latent, batch, lr, gamma, halflife, seed, device, progress)


@torch.inference_mode(False)  # with gradients, whatever the caller's mode, which is back between two steps
def _rounds(
    generator, critic, data, steps, latent, batch, lr, gamma, halflife, seed, device, progress
) -> Iterator[GANStep]:
    generator, critic, data = generator.to(device).train(), critic.to(device).train(), data.to(device)
    ema = EMA(generator, halflife)
    optimisers = [
        torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.99), fused=True) for net in (generator, critic)
    ]
    g = torch.Generator(device).manual_seed(seed)
    losses = FiniteLosses(f"a smaller lr than {lr}, or a larger gamma, usually helps")

    def some() -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(data), (batch,), generator=g, device=device)
        return data[rows], generator(torch.randn(batch, latent, generator=g, device=device))

    for step in tqdm(range(1, steps + 1), disable=not progress, unit="step"):
        done = step / steps
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = lr * lr_factor(done)
        with torch.no_grad():
            real, fake = some()
        of_critic = critic_loss(critic, real, fake, gamma * 10 ** -min(1.0, 2 * done))
        _optimizer_step(optimisers[1], of_critic)
        critic.requires_grad_(False)  # only the generator learns from this: the critic's own gradients are not computed
        of_generator = generator_loss(critic, *some())
        losses.add(step, of_critic + of_generator)
        _optimizer_step(optimisers[0], of_generator)
        critic.requires_grad_(True)
        ema.update()
        yield GANStep(step, of_critic.detach(), of_generator.detach(), generator, ema.model)
    losses.check()
    generator.eval()


def _check_choices(data: Tensor, steps: int, batch: int, latent: int, lr: float, gamma: float) -> None:
    validation.pictures_or_points("data", data)
    for name, value in (("steps", steps), ("batch", batch), ("latent", latent)):
        validation.positive_int(name, value)
    for name, value in (("lr", lr), ("gamma", gamma)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: expected a number of 0 or more, got {value!r}")


def lr_factor(done: float) -> float:
    """What share of the learning rate is left when a share `done` is over: 1 up to a half, then a cosine to 0."""
    return 1.0 if done < 0.5 else (1 + cos(2 * pi * (done - 0.5))) / 2


def _optimizer_step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@torch.no_grad()
def sample_gan(generator: nn.Module, latent: int, n: int, seed: int = 0) -> Tensor:
    """n rows that a generator draws from the noise of this seed, in one call."""
    device = next(generator.parameters()).device
    z = torch.randn(n, latent, generator=torch.Generator().manual_seed(seed))
    return generator(z.to(device))
