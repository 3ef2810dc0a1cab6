"""Draw data/prompt.png for the README, and data/prompt_frames.webp for the website's first page:
`python -m tools.readme_images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import checkpoints, sampling
from learn_diffusion.guidance import cfg
from learn_diffusion.recipes.evaluation import GUIDANCE_SCALE
from learn_diffusion.recipes.pretrained import DATA, load_autoencoder, pretrained_path
from learn_diffusion.samplers import ddim
from learn_diffusion.widgets.images import encode, png, tile, to_uint8

PROMPT = "a cat wearing sunglasses on the moon"


def prompt_png() -> Path:
    """Eight pictures of one prompt by latent_scenes_by_caption, one a column, from noise (top) to picture."""
    rows = walk(PROMPT, 8, stops=(20, 30, 40, 50))
    checkpoints.atomic_write(DATA / "prompt.png", png(tile(to_uint8(rows), columns=8)))
    return DATA / "prompt.png"


def prompt_webp() -> Path:
    """What the website's first page shows: the frames of one picture of the prompt, square, one below the other."""
    file, _ = encode(np.concatenate(to_uint8(prompt_frames(PROMPT))))
    checkpoints.atomic_write(DATA / "prompt_frames.webp", file)
    return DATA / "prompt_frames.webp"


def prompt_frames(prompt: str) -> Tensor:
    """One picture of the prompt from noise to picture, every other of fifty steps: frames (26, C, H, W) in [-1, 1]."""
    return walk(prompt, 1, stops=range(2, 51, 2), seed=3)


def walk(prompt: str, n: int, stops: Sequence[int], seed: int = 0) -> Tensor:
    """Fifty steps of DDIM from n noises: the noise, and x_t after each of the stops, one after the other, decoded."""
    model, metadata = checkpoints.load(pretrained_path("latent_scenes_by_caption"), "cpu")
    vae = load_autoencoder(model, metadata, "cpu")
    schedule = model.schedule
    noise = sampling.initial_noise(schedule, (n, *metadata["data_shape"]), seed)
    guided = cfg(model, sampling.condition(model, n, prompt), GUIDANCE_SCALE)
    states = list(ddim(guided, schedule, noise, schedule.timesteps(50)))
    return sampling.decode(vae, torch.cat([noise, *(states[stop - 1].x for stop in stops)]))


if __name__ == "__main__":
    print(prompt_png(), prompt_webp())
