"""The race of chapter 15: a GAN and a diffusion model on the same pictures, of the same size, for the same seconds.

Seconds are those of one processor core, spent in training alone. What a learning rate has to fall to 0 by is a number
of steps, so the steps that fit are found beforehand, from a short run. Both contenders were given the same number of
trials; `python benchmarks/race.py` runs and prints them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from learn_diffusion import gan, sampling
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import Critic, Generator, UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

CONTENDERS = ("gan", "diffusion")
CALLS = 20  # network calls of the diffusion model to a picture; the GAN needs one
LATENT = 96
PATCH_SIZE = {(1, 8, 8): 1, (3, 16, 16): 2}  # pictures that are raced on: both networks work on 8x8
SETTINGS: dict[tuple[str, str], dict[str, float]] = {  # the best of the trials
    ("digits", "gan"): {"batch": 16, "lr": 1e-3, "gamma": 1.0},
    ("digits", "diffusion"): {"batch": 64, "lr": 2e-3},
    ("scenes", "gan"): {"batch": 16, "lr": 1e-3, "gamma": 1.0},
    ("scenes", "diffusion"): {"batch": 64, "lr": 4e-3},
}


def build_model(contender: str, shape: tuple[int, int, int]) -> nn.Module:
    """A new network that draws pictures of this shape; the two contenders' have as many parameters within 5 %."""
    channels, side, _ = shape
    if contender == "gan":
        return Generator(channels, side, widths=(32, 64), blocks=3, latent=LATENT, patch_size=PATCH_SIZE[shape])
    return Denoiser(UNet(channels, widths=(24, 48), patch_size=PATCH_SIZE[shape]), Cosine(), "v")


def training(
    contender: str, images: Tensor, steps: int, seed: int, batch: int, lr: float, gamma: float = 1.0
) -> Iterator[nn.Module]:
    """A training from new weights of this seed; gives, step by step, the average of the weights to draw with."""
    torch.manual_seed(seed)
    shape = tuple(images.shape[1:])
    model = build_model(contender, shape)
    if contender == "diffusion":
        return (s.ema for s in train(model, images, steps, batch=batch, lr=lr, seed=seed, device="cpu"))
    critic = Critic(shape[0], shape[1], widths=(32, 64), blocks=2, patch_size=PATCH_SIZE[shape])
    play = gan.train_gan(
        model, critic, images, steps, latent=LATENT, batch=batch, lr=lr, gamma=gamma, seed=seed, device="cpu"
    )
    return (each.ema for each in play)


def drawn(model: nn.Module, shape: tuple[int, int, int], n: int, seed: int = 0) -> Tensor:
    """n pictures by a model of either kind, in [-1, 1]."""
    if isinstance(model, Generator):
        return gan.sample_gan(model, LATENT, n, seed).clamp(-1, 1)
    return sampling.sample(model, (n, *shape), steps=CALLS, seed=seed)


def steps_in(seconds: float, contender: str, images: Tensor, **settings: Any) -> int:
    """How many steps of a training fit into that many seconds of this core."""
    run = training(contender, images, 10**6, seed=0, **settings)
    for _ in range(3):
        next(run)
    begun, done = time.process_time(), 0
    while done < 10 or time.process_time() - begun < seconds / 20:
        next(run)
        done += 1
    return max(2, round(seconds * done / (time.process_time() - begun)))
