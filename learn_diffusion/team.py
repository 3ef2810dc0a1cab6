"""Several processes that train one model together, on one machine or many; torchrun or accelerate launch starts them.

Every process draws the same batch from the same seed and answers for its share of the rows; the gradients are added up.
So any number of processes trains the same model but for rounding, and a training may go on with another number of them.
In a process that is alone nothing here has an effect.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def size() -> int:
    """How many processes train together; 1 where nobody said so."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Which of them this is: 0, 1 ..."""
    return int(os.environ.get("RANK") or 0) if size() > 1 else 0


def first() -> bool:
    """Whether this process is the one that writes files and talks."""
    return rank() == 0


def join(device: torch.device) -> torch.device:
    """Meet the others, once; returns the device of this process: of several GPUs on a machine, its own."""
    if size() == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group()
    return device


def shares(n: int, parts: int) -> list[slice]:
    """The rows of a batch of n that this process answers for, in so many parts.

    Raises ValueError for a batch too small to give each a row.
    """
    whole = size() * parts
    if n < whole:
        processes = f"{size()} process{'es' * (size() > 1)}"
        raise ValueError(
            f"batch: expected at least a row for each of {processes} in {parts} parts, got {n}; "
            "accumulate says how many parts"
        )
    return [slice(n * i // whole, n * (i + 1) // whole) for i in range(rank() * parts, (rank() + 1) * parts)]


@torch.no_grad()
def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes; they travel as one message."""
    if size() == 1:
        return
    tensors = list(tensors)
    message = torch.cat([x.reshape(-1).float() for x in tensors])
    dist.all_reduce(message)
    for x, total in zip(tensors, message.split([x.numel() for x in tensors]), strict=True):
        x.copy_(total.view(x.shape))


@torch.no_grad()
def agree(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by that of the first process."""
    if size() > 1:
        for x in tensors:
            dist.broadcast(x, 0)


def agreed(n: int) -> bool:
    """Whether all processes have this same number."""
    if size() == 1:
        return True
    ends = torch.tensor([n, -n])
    if torch.cuda.is_available() and dist.get_backend() == "nccl":
        ends = ends.cuda()
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return bool(ends[0] == -ends[1])


def wait() -> None:
    """Until all processes have come here."""
    if size() > 1:
        join(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        dist.barrier()
