"""The comparison of chapter 15: a GAN and a diffusion model of one size, on the same pictures, for the same seconds.

Seconds are those of one processor core, spent in training alone. What a learning rate has to fall to 0 by is a number
of steps, so the steps that fit are found beforehand, from a short run. Both methods were given the same number of
trials; `python benchmarks/gan_comparison.py` runs and prints them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from learn_diffusion import checkpoints, devices, gan, sampling, validation
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.datasets.scenes import draw_scenes
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.metrics import AllMetrics, all_metrics, frechet
from learn_diffusion.nets import MLP, Critic, Generator, UNet
from learn_diffusion.recipes.evaluation import REAL_SEEDS, all_features
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import downsample, upsample_nearest
from learn_diffusion.samplers import dpmpp_2m, final_sample
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

METHODS = ("gan", "diffusion")
NFE = 20  # network evaluations of the diffusion model for a picture; the GAN needs one
LATENT = 96
# by the shape of the pictures: the networks, all of which work on patches of 2x2, and the diffusion model's target
GENERATOR = {(1, 14, 14): {"widths": (48,), "blocks": 4}, (3, 16, 16): {"widths": (32, 64), "blocks": 3}}
CRITIC = {(1, 14, 14): {"widths": (48,), "blocks": 3}, (3, 16, 16): {"widths": (32, 64), "blocks": 2}}
UNET = {(1, 14, 14): {"widths": (48,)}, (3, 16, 16): {"widths": (24, 48)}}
TARGET = {(1, 14, 14): "x0", (3, 16, 16): "v"}
SETTINGS: dict[tuple[str, str], dict[str, float]] = {  # the best of the trials
    ("digits", "gan"): {"batch": 16, "lr": 1e-3, "gamma": 1.0},
    ("digits", "diffusion"): {"batch": 32, "lr": 2e-3},
    ("scenes", "gan"): {"batch": 16, "lr": 1e-3, "gamma": 1.0},
    ("scenes", "diffusion"): {"batch": 64, "lr": 4e-3},
}
TRAININGS = 3  # of each method
SHEETS = 3  # of pictures that each training is measured on; its metrics are their means, its curve is of the first


def digits_gan(
    steps: int = 1382, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A GAN that draws digits, for chapter 15's comparison: three trainings, the first of which is kept."""
    return _compare("digits", "gan", steps, seed, device)


def digits_diffusion(
    steps: int = 1885, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A diffusion model of the same size as digits_gan, trained for the same seconds."""
    return _compare("digits", "diffusion", steps, seed, device)


def scenes_gan(
    steps: int = 1479, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A GAN that draws scenes at 16x16, for chapter 15's comparison: three trainings, the first of which is kept."""
    return _compare("scenes", "gan", steps, seed, device)


def scenes_diffusion(
    steps: int = 1204, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A diffusion model of the same size as scenes_gan, trained for the same seconds."""
    return _compare("scenes", "diffusion", steps, seed, device)


class EvalData(NamedTuple):
    """The pictures of a comparison, and the features in which they are compared."""

    train: Tensor  # pictures to learn from
    real: Tensor  # as many unseen ones as are drawn, to measure against
    features: Callable[[Tensor], Tensor]  # pictures -> features


def eval_data(name: str) -> EvalData:
    """The pictures of the comparison, "digits" (1, 14, 14) or "scenes" (3, 16, 16), whose drawing takes seconds."""
    validation.one_of("name", name, ("digits", "scenes"))
    if name == "digits":
        classifier, _ = checkpoints.load(pretrained_path("mnist_classifier_14"), "cpu")
        return EvalData(
            *(mnist_sample(split, 14)[0] for split in ("train", "held_out")), partial(all_features, classifier)
        )
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    train, real = (downsample(draw_scenes(n, seed=REAL_SEEDS + seed, hold_out=False).images)
                   for n, seed in ((8_000, 100), (1_000, 101)))  # fmt: skip

    return EvalData(train, real, lambda images: all_features(classifier, upsample_nearest(images)))


def build_model(method: str, shape: tuple[int, int, int]) -> nn.Module:
    """A new network that draws pictures of this shape; the two methods' have as many parameters within 5 %."""
    channels, side, _ = shape
    if method == "gan":
        return Generator(channels, side, latent=LATENT, patch_size=2, **GENERATOR[shape])
    return Denoiser(UNet(channels, patch_size=2, **UNET[shape]), Cosine(), TARGET[shape])


def train_model(
    method: str, images: Tensor, steps: int, seed: int, batch: int, lr: float, gamma: float = 1.0
) -> Iterator[nn.Module]:
    """A training from new weights of this seed; gives, step by step, the average of the weights to draw with."""
    torch.manual_seed(seed)
    shape = tuple(images.shape[1:])
    model = build_model(method, shape)
    if method == "diffusion":
        how = {"batch": batch, "lr": lr, "optimizer": "adamw", "seed": seed, "device": "cpu"}  # as the GAN has Adam
        return (step.ema for step in train(model, images, steps, **how))
    critic = Critic(shape[0], shape[1], patch_size=2, **CRITIC[shape])
    training = gan.train_gan(
        model, critic, images, steps, latent=LATENT, batch=batch, lr=lr, gamma=gamma, seed=seed, device="cpu"
    )
    return (step.ema for step in training)


def sample_images(model: nn.Module, shape: tuple[int, int, int], n: int, seed: int = 0, steps: int = NFE) -> Tensor:
    """n pictures by a model of either kind, in [-1, 1]. steps: of a diffusion model; a GAN draws in one call."""
    if isinstance(model, Generator):
        return gan.sample_gan(model, LATENT, n, seed).clamp(-1, 1)
    return sampling.sample(model, (n, *shape), steps=steps, seed=seed)


def steps_in(seconds: float, method: str, images: Tensor, **settings: Any) -> int:
    """How many steps of a training fit into that many seconds of this core."""
    run = train_model(method, images, 10**6, seed=0, **settings)
    for _ in range(3):
        next(run)
    begun, done = time.process_time(), 0
    while done < 10 or time.process_time() - begun < seconds / 20:
        next(run)
        done += 1
    return max(2, round(seconds * done / (time.process_time() - begun)))


def _compare(
    name: str, method: str, steps: int, seed: int, device: str | torch.device | None
) -> tuple[nn.Module, dict[str, Any]]:
    """Train and measure TRAININGS times, with the seeds seed, seed + 1 ...; the first model, and all that was measured.

    On one core of the CPU, whose seconds both methods get in equal number. Minutes long, and not resumed where it was
    killed. Raises ValueError for another device.
    """
    if device is not None and torch.device(device).type != "cpu":
        raise ValueError(
            f"device: expected 'cpu' or None, both methods train on one core of a processor, got {device!r}"
        )
    with one_thread():
        return _one_core(name, method, steps, seed)


def _one_core(name: str, method: str, steps: int, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    train_images, real, features = eval_data(name)
    settings, shape = SETTINGS[name, method], tuple(real.shape[1:])
    target, learned_from = features(real), features(train_images)
    marks = {max(1, round(steps * share)): share for share in (0.25, 0.5, 0.75, 1.0)}
    kept, curve, found, seconds = None, [], [], []
    for k in range(TRAININGS):
        spent, points, clock = 0.0, {}, time.process_time()
        for step, model in enumerate(train_model(method, train_images, steps, seed + k, **settings), 1):
            if step in marks:
                spent += time.process_time() - clock
                now = checkpoints.to_fp16(model)  # what comes back from the file
                sheet = features(sample_images(now, shape, len(real), seed=1 + k))
                points[marks[step]] = frechet(sheet, target)
                clock = time.process_time()
        # noise of its own for each training, or what one noise happens to do would look like what all trainings do
        others = [features(sample_images(now, shape, len(real), seed=1 + k + TRAININGS * j)) for j in range(1, SHEETS)]
        each = [all_metrics(one, target, learned_from) for one in (sheet, *others)]
        found.append(AllMetrics(*map(mean, zip(*each, strict=True))))
        kept = kept or now
        curve.append(points)
        seconds.append(round(spent, 1))
    metrics = {key: [getattr(one, key) for one in found] for key in AllMetrics._fields}
    return kept, {
        "data": name, "data_shape": list(shape), "steps": steps, "seed": seed, "settings": settings,
        "hardware": devices.hardware("cpu"), "training_seconds": seconds, "curve": curve, "metrics": metrics,
        "half": True,
    }  # fmt: skip


def real_against_real(train: Tensor, real: Tensor, draws: int = 20, seed: int = 0) -> AllMetrics:
    """The floor of every metric: as many training rows as there are unseen ones, measured against these; mean of draws.

    train (L, D), real (M, D) features. Classes fall as they may, as they do for a generator without labels. The nearest
    ratio is 1 by definition: drawn rows are training data, and so cannot be compared with it.
    """
    validation.positive_int("draws", draws)
    g = torch.Generator().manual_seed(seed)
    found = [all_metrics(train[torch.randperm(len(train), generator=g)[: len(real)]], real, train)
             for _ in range(draws)]  # fmt: skip
    return AllMetrics(*map(mean, zip(*found, strict=True)))._replace(nearest=1.0)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one core, whose time `time.process_time` measures whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TimedTraining(NamedTuple):
    """What run_timed finds."""

    frames: list[Tensor]  # samples at even moments of the training, the last at its end
    seconds: float  # of one processor core, in training alone


def run_timed(
    training: Iterator[nn.Module], steps: int, draw: Callable[[nn.Module], Tensor], frames: int = 8
) -> TimedTraining:
    """Run a training that yields its model after each of its steps; draw from it at `frames` even moments.

    Raises ValueError for a training of another number of steps, or of fewer steps than frames.
    """
    validation.positive_int("frames", frames)
    validation.positive_int("steps", steps)
    if frames > steps:
        raise ValueError(f"frames: expected at most {steps}, one a step, got {frames}")
    marks = {round(steps * (k + 1) / frames) for k in range(frames)}
    drawn, seconds, step = [], 0.0, 0
    with one_thread():
        clock = time.process_time()
        for step, model in enumerate(training, 1):
            if step in marks:
                seconds += time.process_time() - clock
                drawn.append(draw(model))
                clock = time.process_time()
    if step != steps:
        raise ValueError(f"training: expected {steps} steps, got {step}")
    return TimedTraining(drawn, seconds)


def cpu_seconds(work: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """The seconds that a call of work with these arguments takes on one processor core: the median of five calls."""
    spent = []
    with one_thread():
        for _ in range(5):
            clock = time.process_time()
            work(*arguments, **options)
            spent.append(time.process_time() - clock)
    return median(spent)


def count_votes(choice: str, artists: Mapping[str, str]) -> str:
    """Who made what a reader chose, in words. choice: names such as "A1 c8"; artists: name -> who made it."""
    chosen = dict.fromkeys(choice.upper().replace(",", " ").split())
    if unknown := [name for name in chosen if name not in artists]:
        return f"not on the sheet: {', '.join(unknown)}. Names run from {min(artists)} to {max(artists)}"
    votes = [artists[name] for name in chosen]
    each = (f"{votes.count(who)} of {len(votes)} by {who}" for who in sorted(set(artists.values())))
    return ", ".join(each) if votes else "nothing chosen yet"


# the points of the chapter: networks of one size for twenty-five clouds in the plane


@final
class OnWaves(nn.Module):
    """A network that sees a point and waves of the plane: a critic's scores (B,), or a denoiser's output (B, 2).

    Points (B, 2) come as Fourier features (B, 14) of three octaves (Tancik et al. 2020): without them neither finds
    clouds as small as these in a short training.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, *logsnr: Any) -> Tensor:
        angles = (x[:, :, None] * torch.pi * 2.0 ** torch.arange(3, device=x.device)).flatten(1)
        out = self.net(torch.cat([x, angles.sin(), angles.cos()], dim=1), *logsnr)
        return out[:, :2] if logsnr else out[:, 0]


def point_gan() -> tuple[nn.Module, nn.Module]:
    """A new generator (B, 2) -> points (B, 2), and a critic, points (B, 2) -> scores (B,)."""
    return _layers(2, 128, 2), OnWaves(_layers(14, 112, 1))


def point_denoiser() -> Denoiser:
    """A new denoiser of points (B, 2), with as many parameters as the generator of point_gan within 5 %."""
    return Denoiser(OnWaves(MLP(dim=14, width=48, blocks=3)), Cosine(), "v")


def sample_points(model: nn.Module, n: int, seed: int = 0) -> Tensor:
    """n points (n, 2) by either: a generator draws in one call, a denoiser in 20 of DPM-Solver++(2M)."""
    if not isinstance(model, Denoiser):
        return gan.sample_gan(model, 2, n, seed)
    noise, ts = sampling.initial_noise(model.schedule, (n, 2), seed), model.schedule.timesteps(NFE)
    return final_sample(dpmpp_2m(model, model.schedule, noise.to(model.device), ts))


def _layers(c_in: int, width: int, c_out: int) -> nn.Sequential:
    def hidden(c_in: int) -> tuple[nn.Module, nn.Module]:
        return nn.Linear(c_in, width), nn.LeakyReLU(0.2)

    return nn.Sequential(*hidden(c_in), *hidden(width), *hidden(width), nn.Linear(width, c_out))
