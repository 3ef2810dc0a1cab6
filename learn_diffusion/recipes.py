"""The trainings behind every file in data/: `python -m learn_diffusion.recipes NAME` makes data/NAME.safetensors again.

A recipe is a plain function that returns (model, about). Running one trains, measures, and writes the numbers, the
seed, the time and the hardware into the header of the file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import trange

from learn_diffusion import checkpoints
from learn_diffusion.datasets import digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.metrics import frechet, nearest_ratio
from learn_diffusion.nets import Classifier, UNet
from learn_diffusion.process import Denoise
from learn_diffusion.samplers import ddim, dpmpp_2m, last
from learn_diffusion.schedules import Cosine, Schedule
from learn_diffusion.training import train

DATA = Path(__file__).resolve().parent.parent / "data"


def shipped(name: str) -> Path:
    """The file of a recipe, data/NAME.safetensors. Raises FileNotFoundError that says how to make it."""
    path = DATA / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `python -m learn_diffusion.recipes {name}` trains it")
    return path


def digit_reader(steps: int = 1000, seed: int = 0) -> tuple[Classifier, dict[str, Any]]:
    """A classifier of digits; its features are the ruler of every distance measured on digits."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    (images, labels), (unseen, truth) = digits("train"), digits("held_out")
    net = Classifier()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    anneal = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in trange(steps, desc="digit_reader"):
        rows = torch.randint(len(images), (64,), generator=g)
        noisy = images[rows] + 0.1 * torch.randn(len(rows), *images.shape[1:], generator=g)
        error = F.cross_entropy(net(noisy), labels[rows])
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        anneal.step()
    net.eval().calibrate(images)
    with torch.no_grad():
        accuracy = (net(unseen).argmax(1) == truth).float().mean().item()
    return net, {"data": "digits train", "steps": steps, "seed": seed, "metrics": {"held_out_accuracy": accuracy}}


def digits_by_label(steps: int = 4000, seed: int = 0) -> tuple[Denoiser, dict[str, Any]]:
    """The painter of chapter 00: draws any of the ten digits on request, or one of its own choice."""
    torch.manual_seed(seed)
    images, labels = digits("train")
    model = Denoiser(UNet(widths=(32, 64), classes=10), Cosine(), "v")
    for step in train(model, images, steps, labels=labels, seed=seed, progress=True):  # noqa: B007 - the last one stays
        pass
    reader, _ = checkpoints.load(shipped("digit_reader"), "cpu")
    wanted = torch.arange(500) % 10
    metrics = digit_quality(lambda x, t: step.ema(x, t, wanted), model.schedule, reader)
    metrics["obedience"] = obedience(step.ema, reader)
    return step.ema, {"data": "digits train", "steps": steps, "seed": seed, "metrics": metrics}


def sample_digits(denoise: Denoise, schedule: Schedule, n: int, steps: int = 15, seed: int = 0) -> Tensor:
    """n pictures (n, 1, 8, 8) in [-1, 1] drawn with DPM-Solver++(2M) from the noise of this seed."""
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 1, 8, 8, generator=g) * schedule.sigma(torch.tensor(schedule.t_max))
    return last(dpmpp_2m(clip_x0(denoise, schedule), schedule, noise, schedule.grid(steps)))


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
    return (reader(samples).argmax(1) == wanted).float().mean().item()


def samples_png() -> Path:
    """The picture of the README, data/samples.png: ten walks of digits_by_label, one a column, noise on top."""
    from PIL import Image

    from learn_diffusion.widgets.images import tile, to_uint8

    model, _ = checkpoints.load(shipped("digits_by_label"), "cpu")
    noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    states = list(ddim(clip_x0(lambda x, t: model(x, t, torch.arange(10)), model.schedule), model.schedule, noise,
                       model.schedule.grid(50)))  # fmt: skip
    rows = [noise, *(states[step - 1].x for step in (8, 16, 24, 32, 40, 50))]
    sheet = tile(to_uint8(torch.cat(rows)), columns=10)
    path = DATA / "samples.png"
    Image.fromarray(sheet).resize((sheet.shape[1] * 8, sheet.shape[0] * 8), Image.Resampling.NEAREST).save(path)
    return path


RECIPES: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {
    "digit_reader": digit_reader,
    "digits_by_label": digits_by_label,
}


def make(name: str) -> Path:
    """Run a recipe and write its file: the header says what came out, how long it took and on what."""
    if name not in RECIPES:
        raise SystemExit(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}, or samples")
    start = time.perf_counter()
    model, about = RECIPES[name]()
    about["seconds"] = round(time.perf_counter() - start, 1)
    DATA.mkdir(exist_ok=True)
    path = DATA / f"{name}.safetensors"
    checkpoints.save(path, model, recipe=name, **about)
    print(about)
    return path


if __name__ == "__main__":
    for each in sys.argv[1:] or [*RECIPES, "samples"]:
        print(samples_png() if each == "samples" else make(each))
