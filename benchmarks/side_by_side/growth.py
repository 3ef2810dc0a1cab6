"""Our seconds and memory against batch, resolution and size of the network: each in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator

import torch

from tools.tables import Table, machine

BATCH, SIDE, WIDTHS = 64, 32, (32, 64)

WORK = """
import json, sys, time
from itertools import islice
import torch
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.sampling import initial_noise, run_sampler
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

def peak():
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)

job = json.loads(sys.argv[1])
torch.set_num_threads(job["threads"])
before = peak()
net = UNet(channels=3, widths=job["widths"])
model, side = Denoiser(net, Cosine(), "v"), job["side"]
data = torch.rand(256, 3, side, side) * 2 - 1
training = train(model, data, 10**6, batch=job["batch"], device="cpu")
for _ in islice(training, 2):
    pass
begun = time.perf_counter()
for _ in islice(training, job["steps"]):
    pass
step = (time.perf_counter() - begun) / job["steps"]
after = peak()
model.eval()
begun = time.perf_counter()
run_sampler(model, model.schedule, initial_noise(model.schedule, (16, 3, side, side)), 10)
print(json.dumps({"parameters": sum(w.numel() for w in net.parameters()), "step": step, "before": before,
                  "after": after, "draw": time.perf_counter() - begun}))
"""


def measured(batch: int, side: int, widths: tuple[int, ...], steps: int) -> dict:
    """Seconds a training step, peak memory of the process in MB, seconds to draw 16 pictures in 10 calls."""
    job = {"batch": batch, "side": side, "widths": widths, "steps": steps, "threads": torch.get_num_threads()}
    out = subprocess.run([sys.executable, "-c", WORK, json.dumps(job)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def run(options: Namespace) -> Iterator[Table]:
    """One thing grows at a time, from batch 64 of 32x32 in colour and widths (32, 64)."""
    table = Table(
        f"Ours as things grow, {machine()}",
        ("what grows", "batch", "side", "widths", "parameters", "s a training step", "ms a picture", "peak MB",
         "MB beyond imports", "s for 16 pictures, 10 calls"),
        notes=["colour pictures, training.train with its defaults; peak: of the whole process, in training"],
    )  # fmt: skip
    grown = [("batch", b, SIDE, WIDTHS) for b in (1, 4, 16, 64, 128)]
    grown += [("side", BATCH, side, WIDTHS) for side in (8, 16, 32, 64)]
    grown += [("network", BATCH, SIDE, widths) for widths in ((16, 32), (32, 64), (64, 128), (32, 64, 128))]
    for what, batch, side, widths in grown:
        one = measured(batch, side, widths, options.steps)
        beyond = None if one["after"] is None else one["after"] - one["before"]
        table.rows.append((
            what, batch, side, "-".join(map(str, widths)), one["parameters"], one["step"], one["step"] / batch * 1e3,
            one["after"], beyond, one["draw"],
        ))  # fmt: skip
        print(f"  {what}: batch {batch}, side {side}, widths {widths}: {one['step']:.3f} s", flush=True)
    yield table
