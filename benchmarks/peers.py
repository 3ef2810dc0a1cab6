"""The course compared with other projects: `python benchmarks/peers.py COMMAND`.

Peers are diffusers, denoising-diffusion-pytorch, smalldiffusion and azula (its samplers alone). `make peers` installs
them into an environment of their own; run this with .venv-peers/bin/python. Each command prints tables and stores them,
with hardware, versions, command and date, in benchmarks/results/COMMAND.json. Nothing here is a test; seconds are never
asserted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
COMMANDS = {
    "parity": "our samplers, diffusers' schedulers and azula's samplers on the same network: the largest difference",
    "throughput": "training pictures a second, alternating in one process",
    "operations": "where the time of a training step goes, by kind of operation",
    "sampling": "quality against network calls, the same weights in ours and in diffusers' schedulers",
    "quality": "distance to real digits: each project's own recipe, and ours in a tenth of its seconds",
    "quality_scenes": "the same with scenes in colour at 32x32 in place of digits",
    "ablation": "digits in a tenth of the seconds for all: ours without one of its parts, and networks of its size",
    "model_scaling": "our seconds and memory against batch, resolution and size of the network",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    own = {}
    for name, metadata in COMMANDS.items():
        own[name] = commands.add_parser(
            name, help=metadata, description=metadata, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        own[name].add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
        own[name].add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes by itself")
    own["parity"].add_argument("--steps", type=int, nargs="+", default=[10, 20, 50], help="of each sampler")
    own["parity"].add_argument("--n", type=int, default=8, help="pictures")
    own["throughput"].add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 128])
    own["throughput"].add_argument("--sizes", nargs="+", default=["8x8x1", "32x32x3"])
    own["throughput"].add_argument("--pairs", type=int, default=7, help="turns of ours and of the peer")
    own["throughput"].add_argument("--seconds", type=float, default=1.0, help="of one turn")
    own["throughput"].add_argument("--device", default="cpu", help="cpu or cuda; give --out too for cuda")
    own["operations"].add_argument("--batch", type=int, default=64)
    own["operations"].add_argument("--steps", type=int, default=10, help="that are profiled")
    own["sampling"].add_argument("--calls", type=int, nargs="+", default=[5, 10, 15, 20, 50])
    own["sampling"].add_argument("--seeds", type=int, default=3)
    own["sampling"].add_argument("--n", type=int, default=500, help="pictures a seed")
    own["sampling"].add_argument("--reference", type=int, default=1000, help="calls of the DDPM that is the reference")
    for name in ("quality", "quality_scenes", "ablation"):
        own[name].add_argument("--seconds", type=float, default=450.0, help="of one core, for a stock recipe")
        own[name].add_argument("--seeds", type=int, default=3, help="trainings of each")
        own[name].add_argument("--workers", type=int, default=2, help="trainings at a time, a core each")
    own["model_scaling"].add_argument("--steps", type=int, default=10, help="training steps that are timed")
    return whole


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A missing package is one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    import torch
    from comparison.baselines import MissingPeerError

    from tools.tables import machine, markdown, versions, write

    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{machine()}; " + ", ".join(f"{name} {version}" for name, version in versions().items()), flush=True)
    start, tables = time.perf_counter(), []
    command, path = f"python benchmarks/peers.py {' '.join(arguments)}", options.out / f"{options.command}.json"
    try:
        for table in importlib.import_module(f"comparison.{options.command}").run(options):
            print(f"\n{markdown(table)}", flush=True)
            tables.append(table)
            write(path, command, tables, time.perf_counter() - start)
    except MissingPeerError as error:
        sys.exit(f"peers.py: {error}")


if __name__ == "__main__":
    main()
