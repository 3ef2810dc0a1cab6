"""A GPU that is not there: tensors that say they are on a device called "lazy", and are computed on the CPU.

As on a real one, tensors of two devices do not mix (a () tensor of the CPU may), numpy cannot read them, and looking at
a value makes the host wait, which is counted. A build of torch without CUDA takes "lazy" as the name of a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from learn_diffusion import devices

DEVICE = torch.device("lazy")
ops = torch.ops.aten
LOOKS = {ops._local_scalar_dense.default, ops.equal.default, ops.nonzero.default, ops.is_nonzero.default}
MEETS_BOTH = {ops.copy_.default, ops.index.Tensor, ops.index_put_.default}  # an index may lie in the host's memory


class Pretended(Tensor):
    """A tensor on that device; what it holds is in `.inner`."""

    @staticmethod
    def __new__(cls, inner: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    def tolist(self):
        return self.cpu().tolist()

    def __format__(self, spec):
        return format(self.cpu(), spec)

    def __repr__(self, *, tensor_contents=None):
        return f"{self.inner!r} on {DEVICE}"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {}, [])


def _compute(func, args, kwargs, waits: list[str]):
    leaves, _ = tree_flatten((args, kwargs))
    here = [x for x in leaves if isinstance(x, Pretended)]
    plain = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, Pretended)]
    to = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if here and any(x.ndim for x in plain) and func not in MEETS_BOTH:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, lazy and cpu ({func})"
        )
    if here and func in LOOKS:
        waits.append(str(func))
    moves = func is ops._to_copy.default and to is not None and to != args[0].device
    if moves or (func is ops.copy_.default and here and plain):
        waits.append(f"copy, {func}")
    wraps = to == DEVICE or (to is None and bool(here))
    wrappers = {id(x.inner): x for x in here}
    args, kwargs = tree_map_only(Pretended, lambda x: x.inner, (args, kwargs))
    out = func(*args, **(kwargs | {"device": torch.device("cpu")} if to == DEVICE else kwargs))
    if not wraps:
        return out

    def wrapped(x):
        return wrappers[id(x)] if id(x) in wrappers else Pretended(x)

    return tree_map_only(Tensor, wrapped, out)


class _Everything(TorchDispatchMode):
    """Catches what makes tensors on the device, too."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {}, self.waits)


class _Generator(torch.Generator):
    """A generator there: it is the CPU's, so the numbers are too."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self):
        return self.place


_TENSOR = torch.tensor


def _tensor(data, *, device=None, **rest):
    """torch.tensor makes no tensors there by itself."""
    made = _TENSOR(data, **rest)
    return made.to(device) if device is not None else made


@contextmanager
def gpu() -> Iterator[list[str]]:
    """In here there is such a device, and it is the one that resolve_device chooses. Yields the list of waits."""
    with (
        mock.patch.object(torch, "Generator", _Generator),
        mock.patch.object(torch, "tensor", _tensor),
        mock.patch.object(devices, "resolve_device", lambda device=None: torch.device(device or DEVICE)),
        mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", return_value=["cpu", "lazy"]),
        _Everything() as mode,
    ):
        yield mode.waits
