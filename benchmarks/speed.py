"""How fast on your machine: `python benchmarks/speed.py [imports training memory]` prints tables.

Comparisons take turns (A B A B ...), and a ratio is the median over the turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from unittest import mock

import torch
from comparison.timing import pairs

from learn_diffusion import devices
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet, unet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import loss
from tools.tables import Table, machine, markdown


def imports() -> Table:
    """What the package's modules add to importing torch, in fresh processes."""
    run = lambda code: lambda: subprocess.run([sys.executable, "-c", code], check=True)  # noqa: E731
    modules = "training, samplers, guidance, datasets, nets, recipes"
    ours = run(f"import torch; from learn_diffusion import {modules}")
    seconds, alone, _ = pairs(ours, run("import torch"), 5, 0)
    return Table("Import, s", (modules, "beyond torch"), [(seconds, seconds - alone)])


def training() -> Table:
    """A training step in bfloat16 and float32, with weights in either layout, and with norms in either precision, on
    digits and colour pictures."""
    device = devices.resolve_device()
    table = Table("A training step at batch 64, ms", ("pictures", "A / B", "A", "B", "ratio"))
    for name, net, shape in (
        ("8x8", UNet(widths=(32, 64)), (64, 1, 8, 8)),
        ("28x28", UNet(widths=(32, 64)), (64, 1, 28, 28)),
        ("32x32", UNet(channels=3, widths=(32, 64)), (64, 3, 32, 32)),
        ("32x32, patch_size 2", UNet(channels=3, widths=(32, 64), patch_size=2), (64, 3, 32, 32)),
    ):
        model = Denoiser(net, Cosine(), "v").to(device)
        x = torch.rand(shape, device=device) * 2 - 1

        def step(bf16: bool, layout: torch.memory_format, model=model, x=x) -> None:
            model.net.to(memory_format=layout)
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                loss(model, x, torch.rand(len(x), device=device)).backward()
            model.zero_grad()

        fp32, bf16 = partial(step, False, torch.channels_last), partial(step, True, torch.channels_last)
        nchw = partial(step, False, torch.contiguous_format)

        def bf16_norms(bf16=bf16) -> None:
            with mock.patch.object(unet.GroupNorm, "forward", torch.nn.GroupNorm.forward):
                bf16()

        for what, a, b in (
            ("fp32 / bf16", fp32, bf16),
            ("weights nchw / nhwc", nchw, fp32),
            ("bf16, norms too / not", bf16_norms, bf16),
        ):
            seconds_b, seconds_a, ratio = pairs(b, a, 5, 0.5)
            table.rows.append((name, what, seconds_a * 1e3, seconds_b * 1e3, ratio))
    return table


MEMORY = """
import resource, sys, time
import torch
from learn_diffusion import devices
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
side, batch, steps, keeps = map(int, sys.argv[1:])
if not keeps:
    devices.disable_malloc_trim = lambda: None
data = torch.rand(batch, 3, side, side) * 2 - 1
training = train(Denoiser(UNet(channels=3, widths=(32, 64)), Cosine(), "v"), data, 10**6, batch=batch, device="cpu")
next(training), next(training)
begun = time.perf_counter()
for _ in range(steps):
    next(training)
print((time.perf_counter() - begun) / steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def memory() -> Table:
    """A training step with and without devices.disable_malloc_trim; fresh processes, in turns."""
    table = Table("Keeping memory", ("pictures", "s a step, kept", "returned", "ratio", "peak MB, kept", "returned"))
    for side, batch, steps in ((8, 64, 40), (32, 16, 12), (32, 64, 6), (64, 16, 4)):
        found = {0: [], 1: []}
        for turn in range(6):
            command = [sys.executable, "-c", MEMORY, *map(str, (side, batch, steps, turn % 2))]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            found[turn % 2].append([float(x) for x in out])
        (back, back_mb), (kept, kept_mb) = (map(statistics.median, zip(*found[k], strict=True)) for k in (0, 1))
        ratio = statistics.median(b[0] / k[0] for b, k in zip(found[0], found[1], strict=True))
        table.rows.append((f"{side}x{side}, batch {batch}", kept, back, ratio, kept_mb, back_mb))
    return table


SECTIONS = {"imports": imports, "training": training, "memory": memory}

if __name__ == "__main__":
    print(f"torch {torch.__version__} on {machine()}")
    for section in sys.argv[1:] or SECTIONS:
        print(f"\n{markdown(SECTIONS[section]())}", flush=True)
