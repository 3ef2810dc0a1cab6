"""The recipe of a model that has seen one photograph, and how near its pictures are to that photograph."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from learn_diffusion import checkpoints
from learn_diffusion.datasets.photographs import crops, photograph
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.metrics import frechet
from learn_diffusion.metrics.copies import nearest_original
from learn_diffusion.nets import UNet
from learn_diffusion.samplers import ddim, final_sample
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

HEIGHT, CROP = 64, 48
PIECE, SQUARE = 16, 8  # sides of what is looked for, and of what is compared
FLAT = 0.2  # a piece of less spread than this shows one colour, which is nobody's


def dahlia(
    steps: int = 6000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """Draws canvases of any size from one photograph of a dahlia; chapter 28."""
    torch.manual_seed(seed)
    shot = photograph("flower", HEIGHT)
    net = UNet(channels=3, widths=(48, 64, 96), patch_size=2, attentions=0)
    *_, end = train(
        Denoiser(net, Cosine(), "x0"), crops(shot.pixels, CROP), steps,
        batch=12, seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    model = checkpoints.to_fp16(end.ema.cpu())
    found = [likeness(canvases(model, 6, seed), shot.pixels, seed) for seed in (1, 2, 3)]
    metrics = {name: {"mean": mean(row[name] for row in found)} for name in found[0]}
    metadata = {"data": f"photograph('flower', {HEIGHT}), by {shot.author}, {shot.licence}: crops of {CROP}"}
    return model, {**metadata, "data_shape": list(shot.pixels.shape), "steps": steps, "seed": seed,
                   "metrics": metrics, "half": True}  # fmt: skip


def canvases(model: Denoiser, n: int, seed: int) -> Tensor:
    """n canvases (n, 3, 64, 96) by 40 steps of DDPM."""
    g, schedule = torch.Generator().manual_seed(seed), model.schedule
    noise = torch.randn(n, 3, HEIGHT, 96, generator=g).to(model.device)
    return final_sample(ddim(clip_x0(model, schedule), schedule, noise, schedule.timesteps(40), 1.0, g))


def pieces(pictures: Tensor, n: int = 60, seed: int = 0) -> Tensor:
    """Pieces (M, C, 16, 16) of pictures (N, C, H, W), n of each at random places, without those of one colour."""
    cut = torch.cat([crops(picture, PIECE, n, seed) for picture in pictures])
    return cut[cut.flatten(1).std(1) > FLAT]


def likeness(pictures: Tensor, photo: Tensor, seed: int = 0) -> dict[str, float]:
    """How near pictures (N, C, H, W) are to the photograph (C, H, W): the share of `pieces` that are copied, see
    nearest_original, and the Fréchet distance between all squares of 8x8 pixels."""
    tops, lefts = (torch.arange(n - PIECE + 1, device=photo.device) for n in photo.shape[1:])
    found = nearest_original(pieces(pictures, seed=seed), crops(photo, PIECE), torch.cartesian_prod(tops, lefts))
    drawn = torch.cat([crops(picture, SQUARE) for picture in pictures]).flatten(1)
    return {"copied": found.copied, "frechet": frechet(drawn.cpu(), crops(photo, SQUARE).flatten(1).cpu())}
