"""Our seconds and memory against batch, resolution and size of the network: each in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator

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

batch, side, widths, steps, threads = json.loads(sys.argv[1])
torch.set_num_threads(threads)
before = peak_mb()
model = Denoiser(UNet(channels=3, widths=widths), Cosine(), "v")
training = train(model, torch.rand(256, 3, side, side) * 2 - 1, 10**6, batch=batch, device="cpu")
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


def run(options: Namespace) -> Iterator[Table]:
    """One thing grows at a time, from batch 64 of 32x32 in colour and widths (32, 64)."""
    table = Table(
        f"Ours as things grow, {machine()}",
        ("what grows", "batch", "side", "widths", "parameters", "s a training step", "ms a picture", "peak MB",
         "MB beyond imports", "s for 16 pictures, 10 calls"),
        notes=["colour pictures, training.train with its defaults; peak: of the whole process, in training"],
    )  # fmt: skip
    grown = [("batch", batch, 32, (32, 64)) for batch in (1, 4, 16, 64, 128)]
    grown += [("side", 64, side, (32, 64)) for side in (8, 16, 32, 64)]
    grown += [("network", 64, 32, widths) for widths in WIDTHS]
    for what, *sizes in grown:
        job = json.dumps([*sizes, options.steps, torch.get_num_threads()])
        done = subprocess.run([sys.executable, "-c", WORK, job], check=True, stdout=subprocess.PIPE, text=True)
        batch, side, widths = sizes
        table.rows.append((what, batch, side, "-".join(map(str, widths)), *json.loads(done.stdout)))
        print(f"  {what}: {sizes}", flush=True)
    yield table
