"""Draw the pictures of the README, data/samples.png and data/prompt.png: `python -m tools.readme_images`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from learn_diffusion import checkpoints, sampling
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.recipes.evaluation import GUIDANCE_SCALE
from learn_diffusion.recipes.pretrained import DATA, pretrained_path
from learn_diffusion.samplers import ddim
from learn_diffusion.widgets.images import png, tile, to_uint8


def samples_png() -> Path:
    """Ten digits by mnist_by_label, one a column, from noise (top) to picture."""
    model, _ = checkpoints.load(pretrained_path("mnist_by_label"), "cpu")
    rows = trajectories(model, torch.arange(10), (10, 1, 28, 28), scale=GUIDANCE_SCALE, stops=(12, 20, 28, 36, 50))
    checkpoints.atomic_write(DATA / "samples.png", png(tile(to_uint8(rows), columns=10), zoom=2))
    return DATA / "samples.png"


def prompt_png() -> Path:
    """Eight pictures of one prompt by scenes_by_caption, one a column, from noise (top) to picture."""
    model, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    prompt = sampling.condition(model, 8, "a cat wearing sunglasses on the moon")
    rows = trajectories(model, prompt, (8, 3, 32, 32), scale=GUIDANCE_SCALE, stops=(20, 30, 40, 50))
    checkpoints.atomic_write(DATA / "prompt.png", png(tile(to_uint8(rows), columns=8), zoom=3))
    return DATA / "prompt.png"


def trajectories(model: Denoiser, y: Tensor, shape: tuple[int, ...], scale: float, stops: Sequence[int]) -> Tensor:
    """Fifty steps of DDIM with the condition y: the noise, and x_t after each of the stops, one after the other."""
    schedule, noise = model.schedule, sampling.initial_noise(model.schedule, shape)
    states = list(ddim(clip_x0(cfg(model, y, scale), schedule), schedule, noise, schedule.timesteps(50)))
    return torch.cat([noise, *(states[stop - 1].x for stop in stops)])


if __name__ == "__main__":
    print(samples_png(), prompt_png())
