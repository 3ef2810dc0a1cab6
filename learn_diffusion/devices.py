"""Where to compute: the CPU, an NVIDIA GPU (cuda) or an Apple GPU (mps), chosen by one `device` argument everywhere."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

DEVICE = "LEARN_DIFFUSION_DEVICE"  # environment variable: the device of all that asks for none


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; None takes LEARN_DIFFUSION_DEVICE, or else cuda where there is one, or else the CPU.

    mps has to be asked for: networks as small as ours spend more time in its launches than in its arithmetic.
    Raises ValueError for a device this machine does not have.
    """
    if device is None:  # not for 0, which is torch's number of the first GPU
        device = os.environ.get(DEVICE) or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device: expected 'cpu', 'cuda', 'mps' or None, got {device!r}") from None
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(found.type, False):
        names = ", ".join(repr(name) for name, is_here in here.items() if is_here)
        raise ValueError(f"device: expected one this machine has ({names}), got {device!r}")
    return found


def use_bf16(device: torch.device, side: int) -> bool:
    """Whether to compute in bfloat16: on cuda; on a CPU with bf16 instructions for pictures of 16x16 or more.

    Below that the casts cost what the arithmetic gains; benchmarks/speed.py prints both.
    """
    if device.type == "cpu":
        here = torch.backends.mkldnn.is_available()  # not in every build of torch: without it there is nobody to ask
        return side >= 16 and here and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def disable_malloc_trim() -> None:
    """From now on this process keeps the memory it frees, for the next step needs as much again (Linux with glibc).

    Without it each large tensor is handed back to the system and asked for anew, and the system fills it with zeros
    before it is written over: at 64x64 more than half of a training step went there, at 32x32 a sixth
    (benchmarks/speed.py memory).
    """
    with suppress(AttributeError, OSError, TypeError):  # other systems, and other libraries, have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no tensor is mapped on its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: nothing is handed back


def is_oom(error: BaseException) -> bool:
    """Whether it says that there was no memory left; only cuda has an error of its own for that."""
    words = "can't allocate memory", "not enough memory", "out of memory"  # Linux and macOS, Windows, mps
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in words)


def hardware(device: str | torch.device = "cpu") -> str:
    """What the device is, in words, for the header of a checkpoint or a table of timings."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}" + (", mps" if device.type == "mps" else "")
