"""Argument validation: each error names the argument, what was expected and what it got.

Shapes, dtypes and devices are checked wherever tensors meet. Values are read at the doors that are passed once (data
sets, train, a sampler's start), and in loops only where they lie in the host's memory: to look at a value on a GPU, the
host has to wait for all that the GPU still has to do.
"""

from __future__ import annotations

from math import isfinite, isnan
from operator import index

import torch
from torch import Tensor


def floats(name: str, x: object, ndim: int | None = None) -> None:
    """x must be a floating-point tensor, with ndim dimensions where ndim is given."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a float tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        hint = "; for 8-bit pictures use x.float() / 127.5 - 1" if x.dtype == torch.uint8 else ""
        raise TypeError(f"{name}: expected a float tensor, got dtype {x.dtype}{hint}")
    if ndim is not None and x.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, got shape {tuple(x.shape)}")


def readable(x: Tensor) -> bool:
    """Whether the host can look at x's values without waiting for a device."""
    return x.device.type == "cpu"


def same_device(name: str, x: Tensor, other_name: str, device: torch.device) -> None:
    """x must be on that device, where other_name is."""
    if x.device != device:
        raise ValueError(f"{name}: expected it on {device}, where {other_name} is, got {x.device}; move one with .to()")


def finite(name: str, x: Tensor) -> None:
    """x must hold numbers: no NaN, no infinity."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def fits_weights(name: str, x: Tensor, module: torch.nn.Module) -> None:
    """x must have the type of the module's weights, and be on their device; a module without weights takes any."""
    weight = next(module.parameters(), None)
    if weight is not None:
        dtype_of(name, x, weight)
        same_device(name, x, "the network", weight.device)


def dtype_of(name: str, x: Tensor, weight: Tensor) -> None:
    """x must have the type of this weight of a network."""
    if x.dtype != weight.dtype:
        raise TypeError(f"{name}: expected {weight.dtype}, as the network's weights are, got {x.dtype}")


def to_double(x: Tensor) -> Tensor:
    """x in double precision and without its history; on the CPU if it was on mps, which has none."""
    x = x.detach()
    return (x.cpu() if x.device.type == "mps" else x).double()


def same_shape(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """x and other must have one shape: broadcasting here would be a silent mistake."""
    if x.shape != other.shape:
        raise ValueError(f"{name}: expected the shape of {other_name}, {tuple(other.shape)}, got {tuple(x.shape)}")


def pictures_or_points(name: str, x: Tensor, values: bool = True) -> None:
    """x must be data: a non-empty float batch; pictures (B, C, H, W) must lie in [-1, 1], points (B, D) anywhere.

    What has more than three channels is an autoencoder's code, which may lie anywhere too. values: look at them.
    """
    floats(name, x)
    if x.ndim not in (2, 4):
        raise ValueError(f"{name}: expected pictures (B, C, H, W) or points (B, D), got shape {tuple(x.shape)}")
    if x.numel() == 0:
        raise ValueError(f"{name}: expected at least one picture or point, got shape {tuple(x.shape)}")
    if not values:
        return
    finite(name, x)
    lo, hi = x.min().item(), x.max().item()
    if x.ndim == 4 and x.shape[1] <= 3 and (lo < -1.001 or hi > 1.001):
        hint = "; pictures in [0, 1] become x * 2 - 1" if lo >= 0 else "; 8-bit pictures become x / 127.5 - 1"
        raise ValueError(f"{name}: expected pictures in [-1, 1], got values from {lo:.3g} to {hi:.3g}{hint}")


def as_level(name: str, t: object) -> Tensor:
    """t as a tensor; a number becomes one of the CPU, whatever torch's default device is."""
    try:
        t = t if isinstance(t, Tensor) else torch.tensor(t, device="cpu")
        good = t.dtype != torch.bool
    except (TypeError, ValueError, RuntimeError):
        good = False
    if not good:
        raise TypeError(f"{name}: expected a noise level, a number or a tensor of them, got {t!r}")
    return t


def level(name: str, t: Tensor | float, batch: int | None, lo: float, hi: float) -> None:
    """t must be () or (batch,) and lie in [lo, hi], which is seen where it can be read without waiting."""
    t = as_level(name, t)
    if t.ndim > 1 or (t.ndim == 1 and batch is not None and len(t) != batch):
        expected = "()" if batch is None else f"() or ({batch},)"
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(t.shape)}")
    if not readable(t):
        return
    slack = 1e-6 * max(abs(lo), abs(hi))  # float32 rounding at the ends is not a mistake
    if not bool(((t >= lo - slack) & (t <= hi + slack)).all()):  # NaN fails this, as it should
        worst = t.detach().flatten()[((t < lo) | (t > hi) | t.isnan()).flatten().nonzero()[0]].item()
        raise ValueError(f"{name}: expected noise levels in [{lo:g}, {hi:g}], got {worst:g}")


def positive_int(name: str, n: object) -> int:
    """n, which must be a whole number of at least one, of Python, numpy or torch, as Python's."""
    return whole_number(name, n, 1)


def whole_number(name: str, n: object, least: int = 0, most: int | None = None) -> int:
    """n, which must be a whole number from least to most, of Python, numpy or torch, as Python's."""
    try:
        good = not isinstance(n, bool) and index(n) >= least and (most is None or index(n) <= most)
    except (TypeError, RuntimeError):
        good = False
    if not good:
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: expected a whole number {span}, got {n!r}")
    return index(n)


def number(name: str, value: object) -> None:
    """value must be one number, neither infinite nor NaN."""
    try:
        good = isfinite(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # a text; a tensor of several; 10**400
        good = False
    if not good:
        raise ValueError(f"{name}: expected one finite number, got {value!r}")


def ordered(lo: object, hi: object, expected: str) -> None:
    """lo must be a number below hi; either may be infinite."""
    try:
        good = not isnan(lo) and not isnan(hi) and lo < hi
    except TypeError:  # a text, or None
        good = False
    if not good:
        raise ValueError(f"lo, hi: expected {expected}, got {lo!r} and {hi!r}")


def one_of(name: str, value: object, choices) -> None:
    """value must be one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
