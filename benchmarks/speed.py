"""How fast, how large, how good: `python benchmarks/speed.py [imports sampling training memory quality]` prints tables.

Every comparison runs side by side in one process, A B A B ..., and is quoted as the median of the ratios of the pairs:
the machine's mood cancels. Nothing here is a test; seconds are never asserted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from side_by_side.timing import seconds

from learn_diffusion import checkpoints, devices
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.nets import UNet
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import loss, train


def pairs(a: Callable[[], object], b: Callable[[], object], n: int = 7) -> tuple[float, float, float]:
    """(median seconds of a, of b, median of a/b pair by pair), after one warm-up each."""
    a(), b()
    times = [(seconds(a), seconds(b)) for _ in range(n)]
    return (*map(statistics.median, zip(*times, strict=True)), statistics.median(x / y for x, y in times))


def imports() -> None:
    """What `import learn_diffusion` and its modules add to importing torch, in fresh processes."""

    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    modules = "training, samplers, guidance, datasets, nets, recipes"
    print("\nimport (fresh process)                          seconds  beyond torch")
    for what in ("import learn_diffusion", f"from learn_diffusion import {modules}"):
        ours, torch_alone, _ = pairs(run(f"import torch; {what}"), run("import torch"), 5)
        print(f"{what[:47]:47} {ours:7.2f} {ours - torch_alone:+13.2f}")


def sampling() -> None:
    """64 digits from the shipped model, and what the calls cost."""
    device = devices.resolve_device()
    model, _ = checkpoints.load(pretrained_path("digits_by_label"), device)
    schedule, noise = model.schedule, torch.randn(64, 1, 8, 8, device=device)
    print("\n64 digits                calls  seconds")
    for name, sampler, steps, calls in (("dpmpp_2m", dpmpp_2m, 10, 10), ("dpmpp_2m", dpmpp_2m, 20, 20),
                                        ("ddim", ddim, 20, 20), ("heun", heun, 10, 19)):  # fmt: skip
        work = lambda: final_sample(sampler(clip_x0(model, schedule), schedule, noise, schedule.timesteps(steps)))  # noqa: B023, E731
        work()
        print(f"{name:24} {calls:5} {statistics.median(seconds(work) for _ in range(5)):8.2f}")


def training() -> None:
    """A training step: layout and precision, at the sizes of digits and of small colour pictures."""
    device = devices.resolve_device()
    print("\ntraining step, batch 64         ms, A     ms, B   A / B")
    for name, net, shape in (
        ("8x8", UNet(widths=(32, 64)), (64, 1, 8, 8)),
        ("32x32", UNet(channels=3, widths=(32, 64)), (64, 3, 32, 32)),
        ("32x32 unshuffled by 2", UNet(channels=3, widths=(32, 64), patch_size=2), (64, 3, 32, 32)),
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
        for what, a, b in (("fp32 / bf16", fp32, bf16), ("weights nchw / nhwc", nchw, fp32)):
            ta, tb, ratio = pairs(a, b, 5)
            print(f"{name:22} {what:19} {ta * 1e3:8.1f} {tb * 1e3:9.1f} {ratio:7.2f}")


MEMORY = """
import resource, sys, time
from itertools import islice
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
steps_of = train(Denoiser(UNet(channels=3, widths=(32, 64)), Cosine(), "v"), data, 10**6, batch=batch, device="cpu")
next(steps_of), next(steps_of)
begun = time.perf_counter()
for _ in islice(steps_of, steps):
    pass
print((time.perf_counter() - begun) / steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def memory() -> None:
    """What devices.disable_malloc_trim gains in a training step, and what it costs; fresh processes, in turns."""
    print("\nkeeping memory             s a step, kept  handed back  ratio   peak MB, kept  handed back")
    for side, batch, steps in ((8, 64, 40), (32, 16, 12), (32, 64, 6), (64, 16, 4)):
        found = {}
        for turn in range(6):
            command = [sys.executable, "-c", MEMORY, *map(str, (side, batch, steps, turn % 2))]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            found.setdefault(turn % 2, []).append([float(x) for x in out])
        (back, back_mb), (kept, kept_mb) = (map(statistics.median, zip(*found[k], strict=True)) for k in (0, 1))
        ratio = statistics.median(b[0] / k[0] for b, k in zip(found[0], found[1], strict=True))
        name = f"{side}x{side}, batch {batch}"
        print(f"{name:26} {kept:14.3f} {back:12.3f} {ratio:6.2f} {kept_mb:15.0f} {back_mb:12.0f}", flush=True)


def quality() -> None:
    """Chapter 07 from nothing, with three training seeds: how good, how soon?"""
    images, _ = small_digits("train")
    reader, metadata = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
    print(
        f"\nthe reader reads {metadata['metrics']['held_out_accuracy']:.1%} of held-out digits; ± over 3 sampling seeds"
    )
    print("seed  steps  seconds  Frechet distance          floor  nearest ratio")
    for seed in range(3):
        torch.manual_seed(seed)
        model = Denoiser(UNet(widths=(32, 64)), Cosine(), "v")
        start = time.perf_counter()
        *_, end = train(model, images, 1000, seed=seed, device="cpu")
        took = time.perf_counter() - start
        q = evaluation.digit_quality(end.ema, model.schedule, reader)
        distance, floor = (f"{q[key]:.2f} ± {q[key + '_std']:.2f}" for key in ("frechet", "floor"))
        print(
            f"{seed:4} {end.step:6} {took:8.0f} {distance:>17} {floor:>14} {q['nn_distance_ratio']:14.2f}", flush=True
        )


SECTIONS = {"imports": imports, "sampling": sampling, "training": training, "memory": memory, "quality": quality}

if __name__ == "__main__":
    print(f"torch {torch.__version__} on {devices.hardware(devices.resolve_device())}")
    for section in sys.argv[1:] or SECTIONS:
        SECTIONS[section]()
