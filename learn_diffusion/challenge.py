"""The few-call challenge: fixed weights, fixed seconds; how good are digits drawn in 1, 2 and 4 calls of the network?

A submission is a Python file with three functions:

    build() -> net                       an nn.Module of at most WEIGHTS numbers
    train(net, images, seconds) -> None  images (N, 1, 8, 8) in [-1, 1], float32, on the device of net
    draw(net, noise, calls) -> pictures  noise (n, 1, 8, 8), standard normal, -> (n, 1, 8, 8)

To score a file is to run it, with all that your account may do: read it first.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from learn_diffusion import checkpoints, devices, validation
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.metrics import frechet, mean_and_spread
from learn_diffusion.metrics.copies import nearest_original
from learn_diffusion.recipes.evaluation import all_features, real_against_real
from learn_diffusion.recipes.gan_comparison import one_thread
from learn_diffusion.recipes.pretrained import pretrained_path

CALLS = (1, 2, 4)
PICTURES = 500  # that are drawn with each number of calls
WEIGHTS = 330_000  # parameters and buffers; chapter 21's UNet in a FlowMap has 329,505
MFLOP = 13.0  # a call may cost a picture, in matrix products, convolutions and attention; chapter 21's UNet: 12.98
SECONDS = 60.0  # for build and train: of the processor on a CPU, by the clock on a GPU
TOLERANCE = 0.05  # by which a training may exceed them: its last step
FUNCTIONS = {"build": "build()", "train": "train(net, images, seconds)", "draw": "draw(net, noise, calls)"}


class Score(NamedTuple):
    """What score finds. Lists have a value for each seed, dicts a list for each number of calls."""

    weights: int
    seconds: list[float]
    frechet: dict[int, list[float]]  # Fréchet distance to the held-out digits, features of the shipped classifier
    copied: dict[int, list[float]]  # share of pictures that are copies of training digits: see nearest_original
    real: list[float]  # real against real: the distance of as many random training digits

    def row(self) -> list[str]:
        """For a table: weights, most seconds, distances (mean ± standard deviation), largest mean share of copies."""
        distances = [f"{mean_and_spread(each):.2f}" for each in self.frechet.values()]
        copied = max(mean_and_spread(each).value for each in self.copied.values())
        return [f"{self.weights:,}", f"{max(self.seconds):.1f}", *distances, f"{copied:.1%}"]


def clock(device: str | torch.device) -> float:
    """Seconds, of which differences count: of the processor, all threads together, on a CPU; else by the clock, after
    all that a GPU still had to do."""
    if (kind := torch.device(device).type) == "cpu":
        return time.process_time()
    getattr(torch, kind).synchronize()
    return time.perf_counter()


def load(path: Path) -> ModuleType:
    """A submission, run from its file. Raises OSError, or ValueError that says what is wrong in which line."""
    module = ModuleType("submission")
    sys.modules["submission"] = module  # dataclasses look their module up
    source = path.read_bytes()
    with _with_its_line(path):
        exec(compile(source, str(path), "exec"), vars(module))
    for name, signature in FUNCTIONS.items():
        if not callable(getattr(module, name, None)):
            raise ValueError(f"{path}: expected a function {signature}, got none")
    return module


def run(path: Path, seed: int, device: torch.device, seconds: float) -> tuple[int, float, dict[int, Tensor]]:
    """One training of a submission: its weights, its seconds, and the pictures (PICTURES, 1, 8, 8) it drew, by calls.

    Raises ValueError for all that is against the rules, except that the seconds are not judged here.
    """
    entry = load(path)  # again for each seed, so that nothing is kept from the last one
    images = small_digits("train")[0].to(device)
    g = torch.Generator().manual_seed(1000 + seed)  # not the noise that train draws first
    noise = torch.randn(PICTURES, 1, 8, 8, generator=g).to(device)
    torch.manual_seed(seed)
    start = clock(device)
    with _with_its_line(path):
        net = entry.build()
    if not isinstance(net, nn.Module):
        raise ValueError(f"build: expected an nn.Module, got {type(net).__name__}")
    with _with_its_line(path):
        entry.train(net.to(device), images, seconds)
    took = clock(device) - start
    weights = sum(w.numel() for w in (*net.parameters(), *net.buffers()))
    if weights > WEIGHTS:
        raise ValueError(f"weights: expected at most {WEIGHTS:,} parameters and buffers, got {weights:,}")
    return weights, took, {calls: _draw(entry, path, net, noise, calls) for calls in CALLS}


def _draw(entry: ModuleType, path: Path, net: nn.Module, noise: Tensor, calls: int) -> Tensor:
    rows = 0

    def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal rows
        sizes = [len(x) for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim]
        rows += max(sizes, default=len(noise))  # what hides its rows counts as a call for all

    handle = net.eval().register_forward_pre_hook(count, with_kwargs=True)
    with _with_its_line(path), torch.no_grad(), FlopCounterMode(display=False) as work:
        pictures = entry.draw(net, noise.clone(), calls)
    handle.remove()
    if rows > calls * len(noise):
        raise ValueError(f"calls: expected at most {calls} for each picture, got {rows / len(noise):g}")
    mflop = work.get_total_flops() / len(noise) / 1e6  # also of other networks, and of loops inside one call
    if mflop > calls * MFLOP:
        raise ValueError(f"work: expected at most {calls * MFLOP:g} MFLOP a picture in {calls} calls, got {mflop:.1f}")
    shape = tuple(pictures.shape) if isinstance(pictures, Tensor) else type(pictures).__name__
    if shape != tuple(noise.shape):
        raise ValueError(f"pictures: expected a tensor {tuple(noise.shape)}, got {shape}")
    validation.finite("pictures", pictures)
    return pictures.float().clamp(-1, 1)


@contextmanager
def _with_its_line(path: Path) -> Iterator[None]:
    """Turns what a submission's code raises into a ValueError that names the last of its lines that took part."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        syntax = isinstance(error, SyntaxError) and error.filename == str(path)
        lines, said = ([error.lineno], error.msg) if syntax else (lines, error)
        place = f"{path}, line {lines[-1]}" if lines else path
        raise ValueError(f"{place}: {type(error).__name__}: {said}") from error


def score(path: str | Path, seeds: int = 3, device: str | torch.device | None = None) -> Score:
    """Train a submission with each of so many seeds (2 or more), on one thread of the CPU or on a GPU, and measure it.

    A rehearsal of a sixtieth of the seconds comes first: most mistakes are seen in it. Its time is not judged. Raises
    OSError for a file that cannot be read, ValueError for what is wrong in it or against the rules.
    """
    path, seeds, device = Path(path), validation.whole_number("seeds", seeds, 2), devices.resolve_device(device)
    classifier, _ = checkpoints.load(pretrained_path("digit_classifier"), device)
    images, unseen = (small_digits(split)[0].to(device) for split in ("train", "held_out"))
    target = all_features(classifier, unseen)
    real = real_against_real(all_features(classifier, images), target, seeds)
    found = Score(0, [], {calls: [] for calls in CALLS}, {calls: [] for calls in CALLS}, real)
    with one_thread():  # threads that wait for each other use the processor, too
        run(path, 0, device, SECONDS / 60)
        for seed in tqdm(range(seeds), desc=path.name):
            weights, seconds, drawn = run(path, seed, device, SECONDS)
            if seconds > SECONDS * (1 + TOLERANCE):
                raise ValueError(f"seconds: expected at most {SECONDS:g} for build and train, got {seconds:.1f}")
            found.seconds.append(seconds)
            for calls, pictures in drawn.items():
                found.frechet[calls].append(frechet(all_features(classifier, pictures), target))
                found.copied[calls].append(nearest_original(pictures, images).copied)
    return found._replace(weights=weights)
