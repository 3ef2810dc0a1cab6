"""The same training on other threads, on several processes and on processors that can do less: how far apart?

    python benchmarks/reproduce.py

Libraries choose their instructions by what the processor can do. Told to leave the newer ones alone, this machine
computes as an older one would. The table is kept in benchmarks/results/reproduce.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from side_by_side.tables import Table, markdown, write

from learn_diffusion import checkpoints

HERE = Path(__file__).resolve().parent
PROGRAM = """
import sys
import torch
from learn_diffusion import checkpoints
from learn_diffusion.datasets import digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.distributed import is_main_process
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train

folder, *marks = sys.argv[1:]
torch.manual_seed(0)
for step in train(Denoiser(UNet(), Cosine(), "v"), digits()[0], int(marks[-1]), batch=32, device="cpu", bf16=False):
    if str(step.step) in marks and is_main_process():
        checkpoints.save(f"{folder}/{step.step}", step.model)
"""
WORDS = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
SETTINGS: dict[str, tuple[dict[str, str], int]] = {  # environment, processes
    "the same again": ({}, 1),
    "two threads": ({"OMP_NUM_THREADS": "2"}, 1),
    "an older processor": (WORDS, 1),
    "two processes": ({}, 2),
}


def trained(folder: Path, environment: dict[str, str], processes: int, marks: list[int]) -> list[dict]:
    """The weights after so many steps."""
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), program, folder, *map(str, marks)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, cwd=HERE.parent,
                   stderr=subprocess.PIPE, text=True)  # fmt: skip
    return [checkpoints.load(folder / str(mark), "cpu")[0].state_dict() for mark in marks]


def apart(a: dict, b: dict) -> float:
    """The largest difference between two numbers of equal place, in units of the typical size of a weight."""
    size = torch.cat([w.flatten() for w in a.values()]).pow(2).mean().sqrt()
    return max((a[name] - b[name]).abs().max().item() for name in a) / size.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--marks", type=int, nargs="+", default=[1, 10, 100, 400], help="steps after which to look")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
    args = parser.parse_args()
    begun = time.perf_counter()
    table = Table(
        "One training of the digits, begun alike and computed otherwise",
        ("computed", *(f"{mark} step{'s' * (mark > 1)}" for mark in args.marks)),
        notes=["largest difference of a weight, as a share of a weight's typical size (root mean square)",
               "compared with one process of one thread; an older processor: " + ", ".join(
                   f"{name}={value}" for name, value in WORDS.items())],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        usual = trained(Path(folder) / "usual", {}, 1, args.marks)
        for i, (name, (environment, processes)) in enumerate(SETTINGS.items()):
            other = trained(Path(folder) / str(i), environment, processes, args.marks)
            table.rows.append([name, *(f"{apart(a, b):.1g}" for a, b in zip(usual, other, strict=True))])
            print(table.rows[-1], flush=True)
    print(markdown(table))
    write(args.out / "reproduce.json", "python benchmarks/reproduce.py", [table], time.perf_counter() - begun)


if __name__ == "__main__":
    main()
