"""Our seconds and memory against batch, resolution, size of the network and number of pictures, each in a fresh
process, and the powers by which they grow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from math import log
from statistics import linear_regression

import torch

from tools.tables import Table, machine

WORK = """
import json, resource, sys, time
import torch
from learn_diffusion import sampling
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

batch, side, widths, pictures, steps, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
before = peak_mb()
model = Denoiser(UNet(channels=3, widths=widths), Cosine(), "v")
training = train(model, torch.rand(pictures, 3, side, side) * 2 - 1, 10**6, batch=batch, device="cpu")
next(training), next(training)
begun = time.perf_counter()
for _ in range(steps):
    next(training)
step, after = (time.perf_counter() - begun) / steps, peak_mb()
model.eval()
begun = time.perf_counter()
noise = sampling.initial_noise(model.schedule, (16, 3, side, side))
sampling.run_sampler(model, model.schedule, noise, 10)
draw = time.perf_counter() - begun
parameters = sum(w.numel() for w in model.parameters())
print(json.dumps([parameters, step, step / batch * 1e3, after, after - before, draw]))
"""
WIDTHS = ((16, 32), (32, 64), (64, 128), (32, 64, 128))
GROWN = {  # each from batch 64 of 32x32 in colour, widths (32, 64), 256 pictures: (batch, side, widths, pictures)
    "batch": [(batch, 32, (32, 64), 256) for batch in (1, 4, 16, 64, 128)],
    "side": [(64, side, (32, 64), 256) for side in (8, 16, 32, 64)],
    "weights": [(64, 32, widths, 256) for widths in WIDTHS],
    "pictures": [(64, 32, (32, 64), pictures) for pictures in (256, 2048, 16384)],
}


def power(sizes: list[float], values: list[float]) -> float:
    """p of values ~ sizes^p: the slope of a straight line through the logarithms."""
    return linear_regression([log(x) for x in sizes], [log(y) for y in values]).slope


def run(options: Namespace) -> Iterator[Table]:
    """One thing grows at a time."""
    table = Table(
        f"Ours as things grow, {machine()}",
        ("what grows", "batch", "side", "widths", "pictures", "parameters", "s a training step", "ms a picture",
         "peak MB", "MB beyond imports", "s for 16 pictures, 10 calls"),
        notes=["colour pictures, training.train with its defaults; peak: of the whole process, in training"],
    )  # fmt: skip
    powers = Table(
        "By which power they grow",
        ("what grows", "from", "to", "s a training step", "MB beyond imports"),
        notes=["p of size^p, by a straight line through the logarithms of the rows above; side: pixels along one side"],
    )
    for what, settings in GROWN.items():
        sizes, seconds, memory = [], [], []
        for batch, side, widths, pictures in settings:
            job = json.dumps([batch, side, widths, pictures, options.steps, torch.get_num_threads()])
            done = subprocess.run([sys.executable, "-c", WORK, job], check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            table.rows.append((what, batch, side, "-".join(map(str, widths)), pictures, *found))
            sizes.append({"batch": batch, "side": side, "weights": found[0], "pictures": pictures}[what])
            seconds.append(found[1])
            memory.append(found[4])
            print(f"  {what}: {sizes[-1]}", flush=True)
        if what == "weights":
            sizes, seconds, memory = (values[:3] for values in (sizes, seconds, memory))  # the same depth
        powers.rows.append((what, min(sizes), max(sizes), power(sizes, seconds), power(sizes, memory)))
    yield table
    yield powers
