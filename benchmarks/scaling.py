"""From a laptop to a cluster: what a training asks for, how long that takes on paper, and what two processes gain here.

    python benchmarks/scaling.py

The first table is counted, not timed: operations by torch's own counter, bytes by what the backward pass keeps. The
second divides it by figures of data sheets, under the assumptions in its notes; nothing of it was measured. The third
is measured, on the processor of this machine. All are stored in benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from comparison.timing import flops, peak
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from learn_diffusion import checkpoints
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import loss, train
from tools.tables import Table, machine, markdown, write

FLOAT = 4  # bytes
KEPT = 5  # numbers for each weight: itself, its gradient, Adam's two moments, the running average


@dataclass(frozen=True)
class Work:
    """A training on paper."""

    name: str
    shape: tuple[int, int, int]
    build: Callable[[], Denoiser]
    batch: int
    steps: int
    prompt: str = ""


def untrained(**net) -> Callable[[], Denoiser]:
    return lambda: Denoiser(UNet(**net), Cosine(), "v")


def pretrained(name: str) -> Callable[[], Denoiser]:
    return lambda: checkpoints.load(pretrained_path(name), "cpu")[0].float().requires_grad_()


CAT, LATENT, PIXELS = "a cat on the moon", "photographs, 256x256 in codes", "photographs, 256x256"
TRAININGS = (
    Work("mnist_by_label", (1, 28, 28), pretrained("mnist_by_label"), 32, 12_000),
    Work("latent_scenes_by_caption", (4, 16, 16), pretrained("latent_scenes_by_caption"), 40, 11_500, CAT),
    Work(LATENT, (4, 32, 32), untrained(channels=4, widths=(320, 640, 1280)), 256, 500_000),
    Work(PIXELS, (3, 256, 256), untrained(channels=3, widths=(128, 256, 512, 512, 1024)), 256, 500_000),
)  # the last two are invented


@dataclass(frozen=True)
class Machines:
    """What a data sheet says, and how its processors talk: bytes a second that each of them can send."""

    name: str
    n: int
    peak: float  # FLOP/s of one, in the number format that trains
    link: float


# NVIDIA A100 80GB SXM data sheet (2021): 312 TFLOP/s bfloat16, NVLink 600 GB/s, half of it in each direction.
# Between hosts: InfiniBand HDR, 200 Gb/s a port, one port a GPU.
A100 = 312e12
ON_PAPER = (
    Machines("1 GPU", 1, A100, float("inf")),
    Machines("8 GPUs, one host", 8, A100, 300e9),
    Machines("64 GPUs, 8 hosts", 64, A100, 25e9),
)
SHARE = 0.3  # of the peak that a convolutional network reaches: an assumption
LAUNCH = 5e-6  # seconds until a GPU has begun the next operation: an assumption


def one_loss(model: Denoiser, work: Work) -> torch.Tensor:
    """Of one picture."""
    y = model.net.text.tokenise([work.prompt]) if work.prompt else None
    return loss(model, torch.zeros(1, *work.shape), torch.full((1,), 0.5), y)


def kept_for_backward(model: Denoiser, work: Work) -> int:
    """Bytes of activations that one picture leaves behind for the backward pass; weights are not among them."""
    weights = {w.untyped_storage().data_ptr() for w in model.parameters()}
    kept = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x  # it is held by the graph, so no address is used twice

    with saved_tensors_hooks(keep, lambda x: x):
        value = one_loss(model, work)
    del value
    return sum(kept.values())


class Launches(TorchDispatchMode):
    """Counts the operations that a GPU would have to start: all but views."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += not func.is_view
        return func(*args, **kwargs or {})


def counted(work: Work) -> dict[str, float]:
    """Parameters; of one picture FLOPs, bytes kept for the backward pass, and operations."""
    model = work.build()
    with Launches() as launches:
        one_loss(model, work).backward()
    return {
        "parameters": sum(w.numel() for w in model.parameters()),
        "flops": flops(lambda: one_loss(model, work).backward()),
        "kept": kept_for_backward(model, work),
        "operations": launches.n,
    }


def requirements(found: dict[Work, dict[str, float]]) -> Table:
    """What each training asks for."""
    table = Table(
        "What a training asks for",
        ("training", "million weights", "GFLOP a picture", "MB a picture", "batch", "steps", "PFLOP in all",
         "GB of weights", "GB of a batch"),
        notes=["a picture: forward and backward; MB a picture: what the backward pass needs again, in float32",
               f"GB of weights: {KEPT} numbers of {FLOAT} bytes for each (weight, gradient, two of Adam, average)"],
    )  # fmt: skip
    for work, has in found.items():
        table.rows.append((
            work.name, has["parameters"] / 1e6, has["flops"] / 1e9, has["kept"] / 1e6, work.batch, work.steps,
            has["flops"] * work.batch * work.steps / 1e15, has["parameters"] * FLOAT * KEPT / 1e9,
            has["kept"] * work.batch / 1e9,
        ))  # fmt: skip
    return table


def in_words(seconds: float) -> str:
    for unit, size in (("years", 86400 * 365), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def step_on(machines: Machines, work: Work, has: dict[str, float]) -> tuple[float, float]:
    """Seconds of computing and of talking in a step. A batch is shared evenly; gradients go once around a ring."""
    computing = has["flops"] * work.batch / machines.n / (machines.peak * SHARE)
    talking = 2 * (machines.n - 1) / machines.n * has["parameters"] * FLOAT / machines.link
    return max(computing, has["operations"] * LAUNCH), talking


def share_here(work: Work, has: dict[str, float], most: float, steps: int = 10) -> float:
    """The share of this processor's peak that training really reaches."""
    model, data = work.build(), torch.rand(4 * work.batch, *work.shape) * 2 - 1
    y = model.net.text.tokenise([work.prompt] * len(data)) if work.prompt else None
    training = train(model, data, 10**6, labels=y, batch=work.batch, device="cpu")
    next(training), next(training)
    begun = time.perf_counter()
    for _ in range(steps):
        next(training)
    return has["flops"] * work.batch * steps / (time.perf_counter() - begun) / most


def planned(found: dict[Work, dict[str, float]]) -> Table:
    """How long it takes, on paper; and what of the peak is reached here by those that were really trained."""
    here = peak(torch.device("cpu"))
    table = Table(
        "How long, on paper",
        ("training", "here", "share reached", *(machines.name for machines in ON_PAPER), "share of talking, 64 GPUs"),
        notes=[f"here: {machine()}, all operations at {here / 1e9:.3g} GFLOP/s, its measured peak in a convolution: "
               "a lower bound. The share of it that `train` reaches was measured with the first two, which it computes "
               "in bfloat16 where that is faster",
               f"a GPU: 312 TFLOP/s in bfloat16, of which {SHARE:.0%} are reached (assumed); no step shorter than "
               f"{LAUNCH * 1e6:.0f} microseconds (assumed) for each operation it starts",
               "links: each GPU sends 300 GB/s within its host (NVLink), 25 GB/s to other hosts (InfiniBand HDR)",
               "talking: share of a step in which gradients travel, when nothing is computed meanwhile"],
    )  # fmt: skip
    for work, has in found.items():
        reached = None if work.name in (LATENT, PIXELS) else f"{share_here(work, has, here):.0%}"
        row = [work.name, in_words(has["flops"] * work.batch * work.steps / here), reached]
        for machines in ON_PAPER:
            row.append(in_words(sum(step_on(machines, work, has)) * work.steps))
        computing, talking = step_on(ON_PAPER[-1], work, has)
        table.rows.append([*row, f"{talking / (talking + computing):.0%}"])
    return table


PROGRAM = """
import sys, time
import torch
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.distributed import barrier, is_main_process, world
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

side, batch, steps, threads = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(0)
net = UNet() if side == 8 else UNet(channels=3, widths=(48, 96, 128), patch_size=2)
data = torch.rand(256, 1 if side == 8 else 3, side, side) * 2 - 1
training = train(Denoiser(net, Cosine(), "v"), data, 10**6, batch=batch, device="cpu")
for _ in range(3):
    next(training)
barrier(world())
begun = time.perf_counter()
for _ in range(steps):
    next(training)
if is_main_process():
    print((time.perf_counter() - begun) / steps)
"""


def step_ms(side: int, batch: int, steps: int, threads: int = 1, processes: int = 1) -> float:
    """Milliseconds a training step."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launch if processes > 1 else []), program, side, batch, steps, threads]
        done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
    return 1e3 * float(done.stdout.split()[-1])


def measured(turns: int, seconds: float) -> Table:
    """One process and two, in turns."""
    table = Table(
        "Two processes of one thread each, measured",
        ("pictures", "batch", "one process", "two threads", "two processes", "speed-up", "at best"),
        notes=[f"milliseconds a step on {machine()}, medians of {turns} turns; they take turns",
               "8x8: UNet(); 32x32, in colour: widths 48, 96, 128, patch_size 2; the data are noise",
               "speed-up: one process of one thread against two processes",
               "at best: against one process with half the batch: what two could reach if talking cost nothing"],
    )  # fmt: skip
    for side, batch in ((8, 16), (8, 128), (32, 16), (32, 64)):
        steps = max(3, round(1e3 * seconds / step_ms(side, batch, 3)))
        times = [
            (
                step_ms(side, batch, steps),
                step_ms(side, batch, steps, threads=2),
                step_ms(side, batch, steps, processes=2),
                step_ms(side, batch // 2, steps),
            )
            for _ in range(turns)
        ]
        one, threads, two, _ = map(median, zip(*times, strict=True))
        gain = median(alone / both for alone, _, both, _ in times)
        best = median(alone / half for alone, _, _, half in times)
        table.rows.append((f"{side}x{side}", batch, one, threads, two, gain, best))
        print(f"  {side}x{side}, batch {batch}: {gain:.2f}", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="measurements of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    args = parser.parse_args()
    begun = time.perf_counter()
    found = {work: counted(work) for work in TRAININGS}
    tables = [requirements(found), planned(found)]
    print(*map(markdown, tables), sep="\n\n", end="\n\n", flush=True)
    tables.append(measured(args.turns, args.seconds))
    print(markdown(tables[-1]))
    path = Path(__file__).resolve().parent / "results" / "scaling.json"
    write(path, "python benchmarks/scaling.py", tables, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
