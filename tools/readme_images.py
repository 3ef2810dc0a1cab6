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
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.recipes.evaluation import GUIDANCE_SCALE
from learn_diffusion.recipes.pretrained import DATA, pretrained_path
from learn_diffusion.samplers import ddim
from learn_diffusion.widgets.images import encode, png, tile, to_uint8

PROMPT = "a cat wearing sunglasses on the moon"


def prompt_png() -> Path:
    """Eight pictures of one prompt by scenes_by_caption, one a column, from noise (top) to picture."""
    model, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    prompt = sampling.condition(model, 8, PROMPT)
    rows = trajectories(model, prompt, (8, 3, 32, 32), scale=GUIDANCE_SCALE, stops=(20, 30, 40, 50))
    checkpoints.atomic_write(DATA / "prompt.png", png(tile(to_uint8(rows), columns=8), zoom=3))
    return DATA / "prompt.png"


def prompt_webp() -> Path:
    """What the website's first page shows: the frames of one picture of the prompt, square, one below the other."""
    file, _ = encode(np.concatenate(to_uint8(prompt_frames(PROMPT))))
    checkpoints.atomic_write(DATA / "prompt_frames.webp", file)
    return DATA / "prompt_frames.webp"


def prompt_frames(prompt: str) -> Tensor:
    """One picture of the prompt from noise to picture, every other of fifty steps: frames (26, C, H, W) in [-1, 1]."""
    model, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    y = sampling.condition(model, 1, prompt)
    return trajectories(model, y, (1, 3, 32, 32), scale=GUIDANCE_SCALE, stops=range(2, 51, 2))


def trajectories(model: Denoiser, y: Tensor, shape: tuple[int, ...], scale: float, stops: Sequence[int]) -> Tensor:
    """Fifty steps of DDIM with the condition y: the noise, and x_t after each of the stops, one after the other."""
    schedule, noise = model.schedule, sampling.initial_noise(model.schedule, shape)
    states = list(ddim(clip_x0(cfg(model, y, scale), schedule), schedule, noise, schedule.timesteps(50)))
    return torch.cat([noise, *(states[stop - 1].x for stop in stops)])


if __name__ == "__main__":
    print(prompt_png(), prompt_webp())
