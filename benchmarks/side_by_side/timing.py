"""Seconds, side by side: A B A B ..., so that the machine's mood meets both alike; and the most the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, a GPU's queue emptied."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def repeats(work: Callable[[], object], budget: float) -> int:
    """How often work fits into that many seconds: at least once, at most a thousand times. One call warms up."""
    work()
    return max(1, min(1000, round(budget / max(seconds(work), 1e-6))))


def each(work: Callable[[], object], n: int) -> float:
    """Seconds a call, over n calls in a row."""
    return seconds(lambda: [work() for _ in range(n)]) / n


def pairs(a: Callable[[], object], b: Callable[[], object], n: int, budget: float) -> tuple[float, float, float]:
    """(median seconds of a call of a, of b, median of b/a pair by pair); each turn lasts about `budget` seconds."""
    often_a, often_b = repeats(a, budget), repeats(b, budget)
    times = [(each(a, often_a), each(b, often_b)) for _ in range(n)]
    return median(a for a, _ in times), median(b for _, b in times), median(b / a for a, b in times)


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of one call, as torch counts them: convolutions, products of matrices, attention."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


def peak(device: torch.device, turns: int = 7, dtype: torch.dtype = torch.float32) -> float:
    """The most FLOP/s this machine reaches in a large 3x3 convolution, forward and backward; the best of some turns."""
    batch, channels = (256, 512) if device.type == "cuda" else (16, 128)
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype, memory_format=torch.channels_last)
    x = torch.randn(batch, channels, 32, 32, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()

    def work() -> None:
        conv(x).sum().backward()

    count = flops(work)
    return count / min(seconds(work) for _ in range(turns))
