"""Several processes that train one model: torch.distributed, in processes that torchrun or accelerate launch started.

Every process draws the same batch from the same seed and takes its rows of it; DistributedDataParallel averages the
gradients. So any number of processes trains the same model but for rounding, and a training may resume with another
number of them. In a process that is alone nothing here has an effect.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_groups = count()


class World(NamedTuple):
    """The number of this process, 0 ... size - 1, and how many there are."""

    rank: int = 0
    size: int = 1


def launched() -> bool:
    """True where torchrun or accelerate launch started this process; a notebook kernel has only inherited variables."""
    return dist.is_torchelastic_launched() and not hasattr(sys, "ps1")  # interactive Pythons have a prompt


def world(distributed: bool | None = None) -> World:
    """The processes to train with. None: those of a launcher, or of a process group that is there; True: required.

    Raises ValueError where distributed is True and the variables of a launcher are missing.
    """
    if distributed is None and not (launched() or dist.is_initialized()):
        if (size := os.environ.get("WORLD_SIZE", "1")) != "1":
            warnings.warn(
                f"WORLD_SIZE is {size}, but no launcher started this process, or it is interactive: it trains alone; "
                "pass distributed=True to train with the others",
                stacklevel=3,
            )
        return World()
    if distributed is False:
        return World()
    if dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    if missing := [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ValueError(
            f"distributed: expected a process that torchrun or accelerate launch started, got one without "
            f"{', '.join(missing)}"
        )
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def is_main_process() -> bool:
    """True on rank 0, the process that writes files and prints."""
    return not (dist.is_initialized() or launched()) or world().rank == 0


@cache
def _store() -> dist.Store:
    return next(dist.rendezvous("env://"))[0]


@contextmanager
def init_process_group(world: World, device: torch.device) -> Iterator[torch.device]:
    """Inside this block the processes can talk; it gives the device of this one: of several GPUs of a host, its own.

    The group is destroyed at the end, however that comes; one that was there before is used, and stays.
    """
    if world.size > 1 and device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world.size == 1 or dist.is_initialized():
        yield device
        return
    # a prefix for each group: a second one would otherwise read the addresses that the first left in the store
    store = dist.PrefixStore(f"learn_diffusion/{next(_groups)}", _store())
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def microbatches(n: int, parts: int, world: World) -> list[slice]:
    """The rows of a batch of n that this process takes, in so many parts.

    Raises ValueError for a batch too small to give each a row.
    """
    whole = world.size * parts
    if n < whole:
        processes = f"{world.size} process{'es' * (world.size > 1)}"
        raise ValueError(
            f"batch: expected at least a row for each of {processes} in {parts} parts, got {n}; "
            "grad_accum_steps says how many parts"
        )
    return [slice(n * i // whole, n * (i + 1) // whole) for i in range(world.rank * parts, (world.rank + 1) * parts)]


def all_reduce_sum(x: Tensor, world: World) -> Tensor:
    """x, replaced by its sum over all processes."""
    if world.size > 1:
        dist.all_reduce(x)
    return x


def all_equal(n: int, world: World, device: torch.device) -> bool:
    """True if all processes have this same number."""
    if world.size == 1:
        return True
    ends = torch.tensor([n, -n], device=device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return bool(ends[0] == -ends[1])


def barrier(world: World) -> None:
    """Wait until all processes have come here."""
    if world.size > 1:
        dist.barrier()
