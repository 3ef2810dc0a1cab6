"""Quality against seconds of training: Fréchet distance of samples to held-out digits, everyone with the same seconds.

Each recipe gets the same number of tuning trials (the learning rates below, one training each at a third of the
seconds), and the best of them is trained with every seed. A training runs on one core. Its number of steps is fixed
beforehand from a short run, so that a learning rate that falls to 0 gets there in time; that run is not counted.
Everyone draws with 20 network calls of its own sampler, from a running average of the weights.
"""

from __future__ import annotations

import copy
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import cos, isnan, pi
from multiprocessing import get_context
from statistics import mean, stdev

import torch
from torch import Tensor, nn

from comparison.baselines import MAKERS, PEERS, matched, parameters, peer, stock
from learn_diffusion import checkpoints
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.metrics import frechet
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
from tools.tables import Table

SHAPE, N, CALLS = (1, 8), 500, 20
MARKS = (0.1, 0.3, 1.0)  # shares of a training at which its distance is measured


@dataclass(frozen=True)
class Recipe:
    """How one baseline is trained."""

    who: str
    build: Callable[[str, tuple[int, int]], nn.Module]
    batch: int
    rates: tuple[float, ...]  # the trials
    said: str = ""  # where it comes from
    ema: float = 0.999  # decay of the running average a step; it is shorter while young
    falls: bool = False  # whether the learning rate falls to 0 along a cosine, after 500 steps of warming up
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.01  # AdamW's


OURS = (1e-3, 2e-3, 4e-3)
RECIPES = {
    "ours": Recipe("ours", stock, 64, OURS, "training.train and UNet with their defaults"),
    "diffusers, stock": Recipe(
        "diffusers", stock, 16, (1e-4, 3e-4, 1e-3), "its unconditional training example, three levels of six",
        0.9999, True, (0.95, 0.999), 1e-6,
    ),
    "denoising-diffusion-pytorch, stock": Recipe(
        "denoising-diffusion-pytorch", stock, 32, (8e-5, 2.5e-4, 8e-4), "its README, one batch a step", 0.9995,
        betas=(0.9, 0.99), decay=0.0,
    ),
    "smalldiffusion, stock": Recipe(
        "smalldiffusion", stock, 64, (7e-4, 2e-4, 2e-3), "its UNet example, batch 64 for 1024",
    ),
    "diffusers, matched": Recipe("diffusers", matched, 64, OURS, ema=0.995, falls=True),
    "denoising-diffusion-pytorch, matched": Recipe("denoising-diffusion-pytorch", matched, 64, OURS, ema=0.995),
    "smalldiffusion, matched": Recipe("smalldiffusion", matched, 64, OURS, ema=0.995),
}  # fmt: skip


def rate_at(recipe: Recipe, step: int, steps: int, peak: float) -> float:
    """A peer's learning rate: constant, or warming up over 500 steps (a twentieth, if fewer) and falling to 0."""
    if not recipe.falls:
        return peak
    warmup = min(500, max(1, steps // 20))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2


def training(recipe: Recipe, data: Tensor, steps: int, lr: float, seed: int) -> Iterator[nn.Module]:
    """A training from new weights of this seed; yields the running average of the weights after each step."""
    torch.manual_seed(seed)
    net = recipe.build(recipe.who, SHAPE).to(memory_format=torch.channels_last)
    if recipe.who == "ours":
        model = Denoiser(net, Cosine(), "v")
        yield from (s.ema for s in train(model, data, steps, batch=recipe.batch, lr=lr, seed=seed, device="cpu"))
        return
    baseline, average = MAKERS[recipe.who](net.train(), SHAPE), copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, betas=recipe.betas, weight_decay=recipe.decay, fused=True)
    for step in range(steps):
        optimiser.zero_grad()
        baseline.loss(data[torch.randint(len(data), (recipe.batch,))]).backward()
        optimiser.param_groups[0]["lr"] = rate_at(recipe, step, steps, lr)
        optimiser.step()
        with torch.no_grad():
            decay = min(recipe.ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        yield average


def steps_in(recipe: Recipe, data: Tensor, seconds: float) -> int:
    """How many steps fit into that many seconds of this core."""
    run = training(recipe, data, 10**6, 1e-4, 0)
    next(run), next(run)
    begun, done = time.process_time(), 0
    while done < 5 or time.process_time() - begun < min(2.0, seconds / 10):
        next(run)
        done += 1
    return max(2, round(seconds * done / (time.process_time() - begun)))


@torch.no_grad()
def distance(recipe: Recipe, average: nn.Module, reader: nn.Module) -> float:
    """Fréchet distance of samples to the held-out digits."""
    average = copy.deepcopy(average).eval()
    baseline = MAKERS[recipe.who](average, SHAPE)
    samples = torch.cat([baseline.sample(N // 5, CALLS) for _ in range(5)])
    return frechet(reader.features(samples.float()), reader.features(small_digits("held_out")[0]))


def one(name: str, lr: float, seed: int, seconds: float, marks: tuple[float, ...]) -> list[tuple[float, float]]:
    """A training in a process of its own: (seconds of the core so far, distance) at these shares of its steps."""
    torch.set_num_threads(1)
    recipe, data = RECIPES[name], small_digits("train")[0]
    reader, _ = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
    steps = steps_in(recipe, data, seconds)
    stops, found, spent, begun = {max(1, round(steps * mark)) for mark in marks}, [], 0.0, time.process_time()
    for step, average in enumerate(training(recipe, data, steps, lr, seed), 1):
        if step in stops:
            spent += time.process_time() - begun
            found.append((spent, distance(recipe, average, reader)))
            begun = time.process_time()
    return found


def tuned(pool: ProcessPoolExecutor, seconds: float) -> tuple[dict[str, float], Table]:
    """The best of each recipe's learning rates after a third of the seconds, and all trials."""
    jobs = {
        (name, lr): pool.submit(one, name, lr, 0, seconds / 3, (1.0,))
        for name, recipe in RECIPES.items()
        for lr in recipe.rates
    }
    found = {key: job.result()[-1][1] for key, job in jobs.items()}
    table = Table(
        f"Tuning: distance after {seconds / 3:.3g} s of one core, seed 0",
        ("recipe", "from", "batch", "trials: learning rate, distance"),
    )
    best = {}
    for name, recipe in RECIPES.items():
        said = "; ".join(f"{lr:g}: {found[name, lr]:.2f}" for lr in recipe.rates)
        table.rows.append((name, recipe.said or "matched network, its own loss", recipe.batch, said))
        best[name] = min(recipe.rates, key=lambda lr: (isnan(found[name, lr]), found[name, lr]))
    return best, table


def curve(title: str, names: list[str], best: dict, found: dict, seeds: int) -> Table:
    """Distance against seconds, the mean over training seeds and its spread."""
    table = Table(
        title,
        ("recipe", "parameters", "learning rate",
         *(f"{word} at {mark:.0%}" for mark in MARKS for word in ("s", "distance"))),
        notes=[f"mean ± standard deviation over {seeds} training seeds; {N} samples, {CALLS} network calls; "
               "s: seconds of one core spent training"],
    )  # fmt: skip
    for name in names:
        cells = []
        for i in range(len(MARKS)):
            spent, far = zip(*(found[name, seed][i] for seed in range(seeds)), strict=True)
            spread = f" ± {stdev(far):.2g}" if seeds > 1 else ""
            cells += [mean(spent), f"{mean(far):.3g}{spread}"]
        recipe = RECIPES[name]
        table.rows.append((name, parameters(recipe.build(recipe.who, SHAPE)), best[name], *cells))
    return table


def run(options: Namespace) -> Iterator[Table]:
    """The trials, and the two tables: stock recipes, and networks of one size (ours is in both)."""
    for name in PEERS:
        peer(name)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        best, table = tuned(pool, options.seconds)
        yield table
        jobs = {(name, seed): pool.submit(one, name, best[name], 1 + seed, options.seconds, MARKS)
                for name in RECIPES for seed in range(options.seeds)}  # fmt: skip
        found = {key: job.result() for key, job in jobs.items()}
    for title, kind in (("Stock recipes", "stock"), ("Networks of one size, each with its own loss", "matched")):
        names = ["ours", *(name for name in RECIPES if name.endswith(kind))]
        yield curve(f"{title}: Fréchet distance to held-out digits", names, best, found, options.seeds)
