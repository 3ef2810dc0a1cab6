"""The same training on other threads, on several processes and on processors that can do less: how far apart?

    python benchmarks/nondeterminism.py

Libraries choose their instructions by what the processor can do. Told not to use the newer ones, this machine computes
as an older one would. The table is stored in benchmarks/results/nondeterminism.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from learn_diffusion import checkpoints
from tools.tables import Table, markdown, write

MARKS = (1, 10, 100, 400)  # steps after which the weights are compared
PROGRAM = """
import sys
import torch
from learn_diffusion import checkpoints
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.distributed import is_main_process
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

folder, *marks = sys.argv[1:]
torch.manual_seed(0)
model = Denoiser(UNet(), Cosine(), "v")
for step in train(model, small_digits()[0], int(marks[-1]), batch=32, device="cpu", bf16=False):
    if str(step.step) in marks and is_main_process():
        checkpoints.save(f"{folder}/{step.step}", step.model)
"""
OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
SETTINGS: dict[str, tuple[dict[str, str], int]] = {  # environment, processes
    "the same again": ({}, 1),
    "two threads": ({"OMP_NUM_THREADS": "2"}, 1),
    "an older processor": (OLDER, 1),
    "two processes": ({}, 2),
}


def trained(environment: dict[str, str], processes: int) -> list[dict]:
    """The weights at each mark."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launch if processes > 1 else []), program, folder, *map(str, MARKS)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
        return [checkpoints.load(Path(folder) / str(mark), "cpu")[0].state_dict() for mark in MARKS]


def apart(a: dict, b: dict) -> float:
    """The largest difference of a weight, as a share of the weights' root mean square."""
    size = torch.cat([w.flatten() for w in a.values()]).pow(2).mean().sqrt()
    return max((a[name] - b[name]).abs().max().item() for name in a) / size.item()


def main() -> None:
    begun = time.perf_counter()
    table = Table(
        "One training of the digits, begun alike and computed otherwise",
        ("computed", *(f"{mark} step{'s' * (mark > 1)}" for mark in MARKS)),
        notes=["largest difference of a weight, as a share of a weight's typical size (root mean square)",
               "compared with one process of one thread; an older processor: " + ", ".join(
                   f"{name}={value}" for name, value in OLDER.items())],
    )  # fmt: skip
    usual = trained({}, 1)
    for name, (environment, processes) in SETTINGS.items():
        other = trained(environment, processes)
        table.rows.append([name, *(f"{apart(a, b):.1g}" for a, b in zip(usual, other, strict=True))])
        print(table.rows[-1], flush=True)
    print(markdown(table))
    path = Path(__file__).resolve().parent / "results" / "nondeterminism.json"
    write(path, "python benchmarks/nondeterminism.py", [table], time.perf_counter() - begun)


if __name__ == "__main__":
    main()
