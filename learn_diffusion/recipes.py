"""The trainings behind every file in data/: `learn-diffusion train NAME` makes data/NAME.safetensors again.

A recipe is a plain function that trains a model, measures it, and returns (model, about): about goes into the header of
the file. Its first line says what it makes. Every recipe takes the same four arguments, all with a default:

    steps   optimiser steps
    seed    of everything random in it
    device  where to train, see devices.pick
    work    a file for training.train's checkpoint, so that a killed run goes on; None keeps nothing

`runs.make` runs one: it adds up the time, writes the file, and takes the work file away.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import trange

from learn_diffusion import checkpoints, devices, drawing
from learn_diffusion.datasets import digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.metrics import frechet, nearest_ratio
from learn_diffusion.nets import Classifier, UNet
from learn_diffusion.process import Denoise
from learn_diffusion.samplers import ddim
from learn_diffusion.schedules import Cosine, Schedule
from learn_diffusion.training import train

DATA = Path(__file__).resolve().parent.parent / "data"

Device = str | torch.device | None


def shipped(name: str) -> Path:
    """The file of a recipe, data/NAME.safetensors. Raises FileNotFoundError that says how to make it."""
    path = DATA / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `learn-diffusion train {name}` trains it")
    return path


def digit_reader(
    steps: int = 1000, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """A classifier of digits; its features are the ruler of every distance measured on digits.

    Seconds long: a killed run starts again, and work stays unused.
    """
    torch.manual_seed(seed)
    device = devices.pick(device)
    g = torch.Generator(device).manual_seed(seed)
    images, labels = (part.to(device) for part in digits("train"))
    net = Classifier().to(device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    anneal = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in trange(steps, desc="digit_reader"):
        rows = torch.randint(len(images), (64,), generator=g, device=device)
        noisy = images[rows] + 0.1 * torch.randn(len(rows), *images.shape[1:], generator=g, device=device)
        error = F.cross_entropy(net(noisy), labels[rows])
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        anneal.step()
    net.eval().calibrate(images)
    metrics = {"held_out_accuracy": accuracy(net.cpu(), *digits("held_out"))}
    return net, {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": metrics}


def digits_by_label(
    steps: int = 4000, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The painter of chapter 00: draws any of the ten digits on request, or one of its own choice."""
    torch.manual_seed(seed)
    images, labels = digits("train")
    model = Denoiser(UNet(widths=(32, 64), classes=10), Cosine(), "v")
    *_, end = train(model, images, steps, labels=labels, seed=seed, device=device, checkpoint=work, progress=True)
    painter = end.ema.cpu()
    reader, _ = checkpoints.load(shipped("digit_reader"), "cpu")
    wanted = torch.arange(500) % 10
    metrics = digit_quality(lambda x, t: painter(x, t, wanted), painter.schedule, reader)
    metrics["obedience"] = obedience(painter, reader)
    return painter, {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": metrics}


@torch.no_grad()
def accuracy(reader: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of pictures (N, C, H, W) that the reader reads as their labels (N,)."""
    return (reader(images).argmax(1) == labels).float().mean().item()


def sample_digits(denoise: Denoise, schedule: Schedule, n: int, steps: int = 15, seed: int = 0) -> Tensor:
    """n pictures (n, 1, 8, 8) in [-1, 1] drawn with DPM-Solver++(2M) from the noise of this seed."""
    return drawing.walk(denoise, schedule, drawing.start(schedule, (n, 1, 8, 8), seed), steps)


@torch.no_grad()
def digit_quality(denoise: Denoise, schedule: Schedule, reader: Classifier, seeds: int = 3) -> dict[str, Any]:
    """How far are 500 samples from 500 held-out real digits? As a table: Frechet distance, error bar, floor, copies.

    The error bar is the standard deviation over sampling seeds; the floor is 500 training digits against the held-out
    ones, over as many random draws.
    """
    train_images, unseen = digits("train")[0], digits("held_out")[0]
    target = reader.features(unseen)
    distances, ratios, floors = [], [], []
    for seed in range(seeds):
        samples = sample_digits(denoise, schedule, len(unseen), seed=seed)
        distances.append(frechet(reader.features(samples), target))
        ratios.append(nearest_ratio(samples, train_images, unseen))
        rows = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(seed))[: len(unseen)]
        floors.append(frechet(reader.features(train_images[rows]), target))
    return {
        "frechet": mean(distances), "frechet_std": stdev(distances),
        "floor": mean(floors), "floor_std": stdev(floors),
        "nearest_ratio": mean(ratios),
    }  # fmt: skip


@torch.no_grad()
def obedience(model: Denoiser, reader: Classifier, n: int = 500) -> float:
    """The share of n samples that the reader reads as the digit that was asked for."""
    wanted = torch.arange(n) % 10
    samples = sample_digits(lambda x, t: model(x, t, wanted), model.schedule, n)
    return accuracy(reader, samples, wanted)


def samples_png() -> Path:
    """The picture of the README, data/samples.png: ten walks of digits_by_label, one a column, noise on top."""
    from learn_diffusion.widgets.images import png, tile, to_uint8

    model, _ = checkpoints.load(shipped("digits_by_label"), "cpu")
    path, noise = model.schedule, torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    states = list(ddim(clip_x0(lambda x, t: model(x, t, torch.arange(10)), path), path, noise, path.grid(50)))
    rows = [noise, *(states[step - 1].x for step in (8, 16, 24, 32, 40, 50))]
    out = DATA / "samples.png"
    checkpoints.write_whole(out, png(tile(to_uint8(torch.cat(rows)), columns=10), zoom=8))
    return out


RECIPES: dict[str, Callable[..., tuple[nn.Module, dict[str, Any]]]] = {
    "digit_reader": digit_reader,
    "digits_by_label": digits_by_label,
}
