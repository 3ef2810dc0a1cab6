"""Quality against seconds of training, digits at 28x28: ours in a tenth of the seconds of each project's own recipe.

Each recipe gets the same number of tuning trials (the learning rates below, one training each at a fifth of its
seconds), and the best of them is trained with every seed. A training runs on one core. Its number of steps is fixed
beforehand from a short run, so that a learning rate that falls to 0 gets there in time; that run is not counted.
Everyone computes in bfloat16 where ours does, and draws with 15 network calls of its own sampler, from a running
average of the weights.
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

from comparison.baselines import MAKERS, PEERS, Shape, matched, parameters, peer, stock
from learn_diffusion import checkpoints, devices
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.datasets.scenes import draw_scenes
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.metrics import frechet
from learn_diffusion.recipes.evaluation import all_features
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
from tools.tables import Table

N, CALLS = 500, 15
TRIAL, SHARE = 0.2, 0.1  # of the seconds: what a trial gets, what ours gets


@dataclass(frozen=True)
class Task:
    """What is learned, and what is held out to compare with."""

    shape: Shape
    train: Callable[[], Tensor]  # (N, C, H, W) in [-1, 1]
    held_out: Callable[[], Tensor]
    reader: str  # the shipped classifier whose features measure


TASKS = {
    "digits": Task((1, 28), lambda: mnist_sample("train")[0], lambda: mnist_sample("held_out")[0], "mnist_classifier"),
    "scenes": Task((3, 32), lambda: draw_scenes(8000, 0)[0], lambda: draw_scenes(1000, 1)[0], "scene_classifier"),
}


@dataclass(frozen=True)
class Recipe:
    """How one baseline is trained."""

    who: str
    build: Callable[[str, Shape], nn.Module]
    batch: int
    rates: tuple[float, ...]  # the trials
    said: str = ""  # where it comes from
    ema: float = 0.999  # decay of the running average a step; it is shorter while young
    falls: bool = False  # whether the learning rate falls to 0 along a cosine, after 500 steps of warming up
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.01  # AdamW's
    share: float = SHARE  # of the seconds
    optimizer: str = "muon"  # of ours
    target: str = "x0"  # of ours


OURS = (1e-3, 2e-3, 4e-3)
RECIPES = {
    "ours": Recipe("ours", stock, 32, OURS, "training.train and UNet as in chapter 07, without classes"),
    "diffusers, stock": Recipe(
        "diffusers", stock, 16, (1e-4, 3e-4, 1e-3), "its unconditional training example, three levels of six",
        0.9999, True, (0.95, 0.999), 1e-6, 1.0,
    ),
    "denoising-diffusion-pytorch, stock": Recipe(
        "denoising-diffusion-pytorch", stock, 32, (8e-5, 2.5e-4, 8e-4), "its README, three levels of four, one batch "
        "a step", 0.9995, betas=(0.9, 0.99), decay=0.0, share=1.0,
    ),
    "smalldiffusion, stock": Recipe(
        "smalldiffusion", stock, 64, (7e-4, 2e-4, 2e-3), "its UNet example for 28x28, batch 64 for 1024", share=1.0,
    ),
    "ours, AdamW": Recipe("ours", stock, 32, (2e-3, 4e-3, 8e-3), "without Muon", optimizer="adamw"),
    "ours, target v": Recipe("ours", stock, 32, OURS, "v is predicted", target="v"),
    "diffusers, matched": Recipe("diffusers", matched, 32, OURS, ema=0.995, falls=True),
    "denoising-diffusion-pytorch, matched": Recipe("denoising-diffusion-pytorch", matched, 32, OURS, ema=0.995),
    "smalldiffusion, matched": Recipe("smalldiffusion", matched, 32, OURS, ema=0.995),
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
    shape = data.shape[1], data.shape[2]
    net = recipe.build(recipe.who, shape).to(memory_format=torch.channels_last)
    if recipe.who == "ours":
        model = Denoiser(net, Cosine(), recipe.target)
        how = {"batch": recipe.batch, "lr": lr, "optimizer": recipe.optimizer, "seed": seed, "device": "cpu"}
        yield from (state.ema for state in train(model, data, steps, **how))
        return
    baseline, average = MAKERS[recipe.who](net.train(), shape), copy.deepcopy(net).requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, betas=recipe.betas, weight_decay=recipe.decay, fused=True)
    for step in range(steps):
        optimiser.zero_grad()
        with as_ours(shape):
            value = baseline.loss(data[torch.randint(len(data), (recipe.batch,))])
        value.backward()
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


def as_ours(shape: Shape) -> torch.autocast:
    """In it, what computes in bfloat16 here if ours does."""
    return torch.autocast("cpu", torch.bfloat16, enabled=devices.use_bf16(torch.device("cpu"), shape[1]))


@torch.no_grad()
def to_held_out(task: Task, pictures: Tensor) -> float:
    """Fréchet distance of pictures (N, C, H, W) to what is held out."""
    reader, _ = checkpoints.load(pretrained_path(task.reader), "cpu")
    return frechet(all_features(reader, pictures), all_features(reader, task.held_out()))


@torch.no_grad()
def distance(recipe: Recipe, average: nn.Module, task: Task, n: int) -> float:
    """The distance of n samples."""
    average = copy.deepcopy(average).eval()
    baseline = MAKERS[recipe.who](average, task.shape)
    with as_ours(task.shape):
        samples = torch.cat([baseline.sample(100, CALLS) for _ in range(n // 100)])
    return to_held_out(task, samples.float())


def ends(task: Task) -> tuple[float, float]:
    """What to read a distance against: (that of N training pictures, that of as many pictures of noise)."""
    real = task.train()[:N]
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return to_held_out(task, real), to_held_out(task, noise)


def one(name: str, what: str, lr: float, seed: int, seconds: float, n: int = N) -> tuple[float, float]:
    """A training in a process of its own: (seconds of the core, distance of n samples)."""
    torch.set_num_threads(1)
    devices.disable_malloc_trim()
    recipe, task = RECIPES[name], TASKS[what]
    data = task.train()
    steps = steps_in(recipe, data, seconds)
    begun = time.process_time()
    *_, average = training(recipe, data, steps, lr, seed)
    spent = time.process_time() - begun
    found = spent, distance(recipe, average, task, n)
    print(f"{name}, lr {lr:g}, seed {seed}: {steps} steps, {found[0]:.0f} s, {found[1]:.2f}", flush=True)
    return found


def tuned(pool: ProcessPoolExecutor, names: list[str], what: str, seconds: float) -> tuple[dict[str, float], Table]:
    """The best of each recipe's learning rates after a fifth of its seconds, and all trials."""
    jobs = {
        (name, lr): pool.submit(one, name, what, lr, 0, TRIAL * RECIPES[name].share * seconds, 200)
        for name in names
        for lr in RECIPES[name].rates
    }
    found = {key: job.result()[-1] for key, job in jobs.items()}
    table = Table(
        f"Tuning: distance of 200 {what} after {TRIAL:.0%} of the seconds, seed 0",
        ("recipe", "from", "batch", "trials: learning rate, distance"),
    )
    best = {}
    for name in names:
        recipe = RECIPES[name]
        said = "; ".join(f"{lr:g}: {found[name, lr]:.1f}" for lr in recipe.rates)
        table.rows.append((name, recipe.said or "matched network, its own loss", recipe.batch, said))
        best[name] = min(recipe.rates, key=lambda lr: (isnan(found[name, lr]), found[name, lr]))
    return best, table


def results(title: str, names: list[str], what: str, best: dict, found: dict, seeds: int) -> Table:
    """Distance after the seconds of each, the mean over training seeds and its spread."""
    table = Table(
        title,
        ("recipe", "parameters", "learning rate", "s", "distance"),
        notes=[f"mean ± standard deviation over {seeds} training seeds; {N} samples, {CALLS} network calls; "
               "s: seconds of one core spent training",
               "{:.3g} for as many training pictures, {:.4g} for noise".format(*ends(TASKS[what]))],
    )  # fmt: skip
    for name in names:
        spent, far = zip(*(found[name, seed] for seed in range(seeds)), strict=True)
        spread = f" ± {stdev(far):.2g}" if seeds > 1 else ""
        recipe = RECIPES[name]
        cells = (best[name], round(mean(spent)), f"{mean(far):.3g}{spread}")
        table.rows.append((name, parameters(recipe.build(recipe.who, TASKS[what].shape)), *cells))
    return table


def compare(title: str, names: list[str], options: Namespace, what: str = "digits") -> Iterator[Table]:
    """The trials of these recipes, and their table."""
    for name in PEERS:
        peer(name)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        best, table = tuned(pool, names, what, options.seconds)
        yield table
        jobs = {(name, seed): pool.submit(one, name, what, best[name], 1 + seed, RECIPES[name].share * options.seconds)
                for name in names for seed in range(options.seeds)}  # fmt: skip
        found = {key: job.result() for key, job in jobs.items()}
    yield results(title, names, what, best, found, options.seeds)


def run(options: Namespace, what: str = "digits") -> Iterator[Table]:
    """Stock recipes, and ours in a part of their seconds."""
    side = TASKS[what].shape[1]
    title = f"Fréchet distance to held-out {what} at {side}x{side}: stock recipes, and ours in {SHARE:.0%} of the time"
    yield from compare(title, ["ours", *(name for name in RECIPES if name.endswith("stock"))], options, what)
