"""Run a recipe: resume where a killed run stopped, time it, write the file."""

from __future__ import annotations

import glob
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from learn_diffusion import checkpoints, devices, validation
from learn_diffusion.distributed import barrier, init_process_group, world
from learn_diffusion.recipes import RECIPES, pretrained


def run_recipe(
    name: str, out: Path | None = None, checkpoint_dir: Path | None = None, restart: bool = False, **options: Any
) -> Path:
    """Run a recipe and write its file, by default data/NAME.safetensors; returns the path.

    checkpoint_dir  for the checkpoint from which a killed run is resumed, deleted at the end; None: beside out
    restart         ignore that checkpoint
    options         steps, seed, device, where they differ from the recipe's own

    The header says how many seconds it took: of a resumed run, since the step in `resumed_at`. Raises ValueError for an
    unknown recipe, for a checkpoint of another training, and while another process makes the same file; OSError where
    out or checkpoint_dir cannot be written, before anything is trained. Of several processes, the first writes.
    """
    validation.one_of("recipe", name, RECIPES)
    out = pretrained.DATA / f"{name}.safetensors" if out is None else Path(out)
    checkpoints.check_writable("out", out)
    work = (out.parent if checkpoint_dir is None else Path(checkpoint_dir)) / f"{out.name}.work"
    checkpoints.check_writable("checkpoint_dir", work)
    processes, device = world(), devices.resolve_device(options.get("device"))
    main = processes.rank == 0
    with (
        init_process_group(processes, device),
        checkpoints.file_lock("checkpoint_dir", work) if main else nullcontext(),
    ):
        metadata = {"recipe": name}
        if main and restart:
            work.unlink(missing_ok=True)
        if main and work.exists():
            metadata["resumed_at"] = _step(work)
            print(f"resuming at step {metadata['resumed_at']} from {work}")
        barrier(processes)  # the others read the checkpoint too
        start = time.perf_counter()
        model, measured = RECIPES[name](work=work, **options)
        if main:
            seconds = round(time.perf_counter() - start, 1)
            checkpoints.save(
                out, model, **metadata, seconds=seconds, **{"hardware": devices.hardware(device), **measured}
            )
            for file in (work, *work.parent.glob(f"{glob.escape(work.name)}[0-9]")):  # of further rounds
                file.unlink(missing_ok=True)
        barrier(processes)
    return out


def _step(work: Path) -> int:
    try:
        return checkpoints.read(work)[2]["training"]["step"]
    except (checkpoints.CheckpointError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint_dir: cannot resume from {work} ({error}); --restart starts again") from error
