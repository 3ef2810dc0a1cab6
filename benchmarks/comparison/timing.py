"""Timing in turns (A B A B ...), so that other load on the machine affects both alike, and the machine's own peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], object]


def seconds(work: Work, n: int = 1) -> float:
    """Wall time of a call, the mean of n, a GPU's queue included."""
    start = time.perf_counter()
    for _ in range(n):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / n


def repeats(work: Work, budget: float) -> int:
    """How many calls fit into that many seconds, from 1 to 1000. The first call warms up."""
    work()
    return max(1, min(1000, round(budget / max(seconds(work), 1e-6))))


def pairs(a: Work, b: Work, n: int, budget: float) -> tuple[float, float, float]:
    """(median seconds of a call of a, of b, median of b/a over the turns); a turn takes about `budget` seconds."""
    calls_a, calls_b = repeats(a, budget), repeats(b, budget)
    times = [(seconds(a, calls_a), seconds(b, calls_b)) for _ in range(n)]
    return median(a for a, _ in times), median(b for _, b in times), median(b / a for a, b in times)


def flops(work: Work) -> int:
    """Floating-point operations of one call, as torch counts them: convolutions, matrix products, attention."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


def peak(device: torch.device) -> float:
    """The most FLOP/s of a large 3x3 convolution in float32, forward and backward, in seven turns."""
    batch, channels = (256, 512) if device.type == "cuda" else (16, 128)
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(device, memory_format=torch.channels_last)
    x = torch.randn(batch, channels, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    work = lambda: conv(x).sum().backward()  # noqa: E731
    return flops(work) / min(seconds(work) for _ in range(7))
