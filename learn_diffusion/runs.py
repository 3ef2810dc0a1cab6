"""Run a recipe to its file: go on where a killed run stopped, add up the time, write what came out into the header."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from learn_diffusion import checkpoints, devices, recipes, validation
from learn_diffusion.distributed import World, barrier, init_process_group, world


def make(name: str, out: Path | None = None, folder: Path | None = None, fresh: bool = False, **options: Any) -> Path:
    """Run a recipe and write its file, by default data/NAME.safetensors; returns the path.

    folder   for the work file from which a killed run goes on, and the record of the time spent; None: beside out
    fresh    start again even where a work file is there
    options  steps, seed, device, where they differ from the recipe's own

    Work file and record are taken away when the file is written. Raises ValueError for an unknown recipe, for a work
    file of another training, and while another process makes the same file; OSError where out or folder cannot be
    written, before anything is trained. Of several processes (see distributed) the first does all that.
    """
    validation.one_of("recipe", name, recipes.RECIPES)
    out = recipes.DATA / f"{name}.safetensors" if out is None else Path(out)
    writable("out", out)
    work = (out.parent if folder is None else Path(folder)) / f"{out.name}.work"
    writable("work", work)
    processes = world()
    with init_process_group(processes, devices.resolve_device(options.get("device"))):
        if processes.rank > 0:
            barrier(processes)  # until the first has looked at what an earlier run left
            recipes.RECIPES[name](work=work, **options)
            barrier(processes)
            return out
        with checkpoints.file_lock("work", work):
            return _make(name, out, work, fresh, options, processes)


def _make(name: str, out: Path, work: Path, fresh: bool, options: dict[str, Any], processes: World) -> Path:
    record = work.with_name(f"{work.name}.json")
    if fresh:
        work.unlink(missing_ok=True)
    if not work.exists():  # a run that left nothing to go on from does not count
        record.unlink(missing_ok=True)
    else:
        print(f"going on from step {_reached(work)} in {work}")
    barrier(processes)
    with stopwatch(record, devices.hardware(devices.resolve_device(options.get("device")))) as so_far:
        model, metadata = recipes.RECIPES[name](work=work, **options)
    spent = so_far()
    hardware = ", then ".join(spent["hardware"])
    checkpoints.save(out, model, recipe=name, seconds=round(spent["seconds"], 1), hardware=hardware, **metadata)
    for leftover in (work, record):
        leftover.unlink(missing_ok=True)
    barrier(processes)
    return out


def writable(argument: str, path: Path) -> None:
    """path must be a file, there or not, in a folder that can be written: raises OSError that names the argument."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{argument}: the folder of {path} is not there; make it first, or name another")
    if path.is_dir():
        raise IsADirectoryError(f"{argument}: expected the name of a file, and {path} is a folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{argument}: the folder of {path} cannot be written")


@contextmanager
def stopwatch(record: Path, hardware: str, every: float = 5.0) -> Iterator[Callable[[], dict[str, Any]]]:
    """Time this block; the function it gives says {"seconds", "hardware"} of this run and those before it together.

    They are kept in the file `record`, renewed every few seconds by a thread, so that a run that was killed, and the
    work that was lost with it, count too. Nothing of this is in the work file: the same training gives the same bytes.
    """
    before = _earlier(record)
    machines = list(dict.fromkeys([*before["hardware"], hardware]))
    start, over = time.perf_counter(), threading.Event()

    def so_far() -> dict[str, Any]:
        return {"seconds": before["seconds"] + time.perf_counter() - start, "hardware": machines}

    def keep() -> None:
        with suppress(OSError):  # a full disk stops the training by itself, with a better message
            checkpoints.atomic_write(record, json.dumps(so_far()).encode())

    def tick() -> None:
        while not over.wait(every):
            keep()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield so_far
    finally:
        over.set()
        thread.join()
        keep()


def _earlier(record: Path) -> dict[str, Any]:
    if not record.exists():
        return {"seconds": 0.0, "hardware": []}
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        seconds, hardware = float(kept["seconds"]), [str(machine) for machine in kept["hardware"]]
        validation.number("seconds", seconds)
        return {"seconds": max(0.0, seconds), "hardware": hardware}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"work: {record} is no record of time spent; start again with fresh=True (--fresh)") from None


def _reached(work: Path) -> int:
    try:
        return checkpoints.read(work)[2]["training"]["step"]
    except (checkpoints.CheckpointError, KeyError, TypeError) as error:
        raise ValueError(f"work: no training can go on from {work} ({error}); --fresh starts again") from error
