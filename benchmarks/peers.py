"""The course side by side with other projects: `python benchmarks/peers.py COMMAND`.

Peers are diffusers, denoising-diffusion-pytorch and smalldiffusion. `make peers` installs them into an environment of
their own; run this with .venv-peers/bin/python. Each command prints tables and keeps them, with hardware, versions,
command and date, in benchmarks/results/COMMAND.json. Nothing here is a test; seconds are never asserted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

COMMANDS = {
    "agreement": "our samplers and diffusers' schedulers on the same network: the largest difference",
    "throughput": "training pictures a second, alternating in one process",
    "operations": "where the time of a training step goes, by kind of operation",
    "sampling": "quality against network calls, the same weights in ours and in diffusers' schedulers",
    "quality": "quality of digits against seconds of training",
    "growth": "our seconds and memory against batch, resolution and size of the network",
    "start": "seconds to import, and size on the disk",
    "gpu": "training on a GPU, where there is one",
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
        own[name].add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
        own[name].add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes by itself")
    own["agreement"].add_argument("--steps", type=int, nargs="+", default=[10, 20, 50], help="of each sampler")
    own["agreement"].add_argument("--n", type=int, default=8, help="pictures")
    for name in ("throughput", "gpu"):
        own[name].add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 128])
        own[name].add_argument("--sizes", nargs="+", choices=("8x8x1", "32x32x3"), default=["8x8x1", "32x32x3"])
        own[name].add_argument("--pairs", type=int, default=7, help="turns of ours and of the peer")
        own[name].add_argument("--seconds", type=float, default=1.0, help="of one turn")
        own[name].add_argument("--compile", action="store_true", help="try torch.compile for the peers, minutes each")
    own["operations"].add_argument("--batch", type=int, default=64)
    own["operations"].add_argument("--steps", type=int, default=10, help="that are profiled")
    own["sampling"].add_argument("--calls", type=int, nargs="+", default=[5, 10, 15, 20, 50])
    own["sampling"].add_argument("--seeds", type=int, default=3)
    own["sampling"].add_argument("--n", type=int, default=500, help="pictures a seed")
    own["sampling"].add_argument("--reference", type=int, default=1000, help="calls of the DDPM that is the reference")
    own["quality"].add_argument("--seconds", type=float, default=75.0, help="of one core, a training")
    own["quality"].add_argument("--seeds", type=int, default=3, help="trainings of each")
    own["quality"].add_argument("--workers", type=int, default=2, help="trainings at a time, a core each")
    own["quality"].add_argument("--only", nargs="+", help="some of the recipes")
    own["growth"].add_argument("--steps", type=int, default=10, help="training steps that are timed")
    own["start"].add_argument("--repeats", type=int, default=5)
    return whole


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Whatever is not there is said in one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    from side_by_side.peers import MissingPeerError

    from tools.tables import machine, markdown, versions, write

    try:
        import torch

        if options.threads:
            torch.set_num_threads(options.threads)
        print(f"{machine()}; " + ", ".join(f"{name} {version}" for name, version in versions().items()), flush=True)
        start, tables = time.perf_counter(), []
        for table in importlib.import_module(f"side_by_side.{options.command}").run(options):
            print(f"\n{markdown(table)}", flush=True)
            tables.append(table)
            path = options.out / f"{options.command}.json"
            write(path, f"python benchmarks/peers.py {' '.join(arguments)}", tables, time.perf_counter() - start)
    except (MissingPeerError, ModuleNotFoundError) as error:
        sys.exit(f"peers.py: {error}")


if __name__ == "__main__":
    main()
