"""What it costs before anything is done: seconds to import, and room on the disk."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from side_by_side.peers import PEERS, peer
from side_by_side.timing import seconds
from tools.tables import Table

HERE = Path(__file__).resolve().parent.parent
OURS = "from learn_diffusion import training, samplers, guidance, datasets, nets, recipes"
USES = {
    "diffusers": "from diffusers import UNet2DModel, DDPMScheduler, DPMSolverMultistepScheduler",
    "denoising-diffusion-pytorch": "peer('denoising-diffusion-pytorch')",
    "smalldiffusion": "peer('smalldiffusion')",
}


def fresh(code: str) -> float:
    """Seconds of a fresh process that does this, torch and the way to the peers imported first."""
    whole = f"import torch; {code}"
    return seconds(lambda: subprocess.run([sys.executable, "-c", whole], cwd=HERE, check=True, capture_output=True))


def own_bytes(name: str) -> int:
    """Bytes of the files a distribution installed, compiled ones left out; of ours, those of the package's folder."""
    if name == "learn_diffusion":
        return sum(f.stat().st_size for f in (HERE.parent / name).rglob("*") if f.suffix in {".py", ".js"})
    files = importlib.metadata.files(name) or []
    return sum(
        path.stat().st_size for path in (Path(f.locate()) for f in files if f.suffix != ".pyc") if path.is_file()
    )


def needs(name: str, found: set[str]) -> set[str]:
    """The names of all that a distribution needs and that is installed, torch and what torch brings left out."""
    for line in importlib.metadata.requires(name) or []:
        needed = re.match(r"[\w.-]+", line).group().lower().replace("_", "-")
        if "extra ==" in line or needed in found or needed == "torch":
            continue
        try:
            importlib.metadata.version(needed)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(needed)
        needs(needed, found)
    return found


def run(options: Namespace) -> Iterator[Table]:
    """Import times, each beside an import of torch alone, and sizes."""
    for name in PEERS:
        peer(name)
    table = Table(
        "Import (fresh processes, median) and size, torch aside",
        ("project", "seconds", "beyond torch and an empty line", "own MB", "MB with all it needs", "packages it needs"),
        notes=["denoising-diffusion-pytorch and smalldiffusion without torchvision and pytorch-fid, which they ask "
               "for, where those are not installed: empty modules stand in, so these rows flatter them"],
    )  # fmt: skip
    bring = "from side_by_side.peers import peer; import accelerate; "
    for name, code in {"learn_diffusion": OURS, **USES}.items():
        code, empty = (bring + code if "peer(" in code else code), "pass"
        turns = [(fresh(code), fresh(empty)) for _ in range(options.repeats)]
        beside = needs(name, set())
        table.rows.append((
            name, median(a for a, _ in turns), median(a - b for a, b in turns), own_bytes(name) / 1e6,
            (own_bytes(name) + sum(map(own_bytes, beside))) / 1e6, len(beside),
        ))  # fmt: skip
    yield table
