"""Self-describing checkpoints: one safetensors file that says in its header how to build the model it holds.

No pickle: a file can name only classes that stand in the two registries below, and only arguments those classes take.
A SHA-256 over header and weights tells an altered file; it guards against accidents, not against a forger.
"""

from __future__ import annotations

import copy
import errno
import glob
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import learn_diffusion
from learn_diffusion import devices
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import MLP, AttributeClassifier, Classifier, Generator, UNet
from learn_diffusion.schedules import SCHEDULES
from learn_diffusion.targets import TARGETS

FORMAT = 1  # raise it when an older version of this package could no longer read the file rightly
NETS: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (UNet, MLP, Classifier, AttributeClassifier, Generator)
}
KEY = "learn_diffusion"  # the one entry of the safetensors header, so that its bytes have one order
PART = ".part"  # ends the name of a file that is being written
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint; the message names the file and the reason."""


def save(
    path: str | Path, model: nn.Module, state: Mapping[str, Tensor] | None = None, half: bool = False, **metadata: Any
) -> None:
    """Write model, a Denoiser or a registered network, to path: whole or not at all.

    state  further tensors (a training's optimiser and random states), ignored by load
    half   store the weights in half precision (float16), in half the space; load gives float32 again, rounded to about
           3 digits: `to_fp16` shows the model as it will come back. about["half"] then says so
    about  what a reader should know: data, recipe, steps, seed, metrics ... (anything JSON can say)

    The package's version, torch's and the hardware are added. Raises TypeError for a model or an `about` that cannot
    be described, ValueError for weights too large for half precision, OSError where the file cannot be written; the
    file that stood there before is then still whole.
    """
    path = Path(path)
    metadata = {"package": learn_diffusion.__version__, "torch": torch.__version__} | metadata
    metadata.setdefault("hardware", devices.hardware(next(model.parameters()).device))
    weights = model.state_dict()
    if half:
        metadata["half"] = True
        weights = {name: _to_half(name, w) for name, w in weights.items()}
    tensors = {f"model/{name}": w for name, w in weights.items()}
    tensors |= {f"state/{name}": w for name, w in (state or {}).items()}
    tensors = {name: w.detach().cpu().contiguous() for name, w in tensors.items()}
    header = {"format": FORMAT, "model": describe(model), "about": metadata}
    try:
        header["sha256"] = _digest(header, tensors)
    except TypeError as error:
        raise TypeError(f"about: expected what JSON can say (numbers, strings, lists, dicts): {error}") from None
    atomic_write(path, to_bytes(tensors, {KEY: json.dumps(header)}))


@torch.no_grad()
def to_fp16(model: nn.Module) -> nn.Module:
    """A copy of model with its weights rounded as save(half=True) stores them: measure this one.

    Raises ValueError for weights too large for half precision.
    """
    copied = copy.deepcopy(model)
    for name, w in copied.state_dict().items():
        w.copy_(_to_half(name, w))
    return copied


def load(path: str | Path, device: str | torch.device | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """(model, about) from a file that save wrote: the model in eval mode on the device (None: see devices.resolve_device).

    Raises FileNotFoundError, or CheckpointError that names the file and what is wrong with it.
    """
    model, _, metadata = read(path)
    return model.to(devices.resolve_device(device)).eval(), metadata


def read(path: str | Path) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """(model, state, about) on the CPU; see save. Raises as load does."""
    path = Path(path)
    header, tensors = _read_file(path)
    weights = {name.removeprefix("model/"): w for name, w in tensors.items() if name.startswith("model/")}
    try:
        # sizes only, and no more parts than the file has: a header that asks for a giant network is refused at once
        with torch.device("meta"), _SizesOnly(len(weights)):
            expected = _build(header["model"]).state_dict()
    except Exception as error:
        raise CheckpointError(f"{path}: its header describes no model this package can build: {error}") from error
    if header["about"].get("half"):
        expected = {name: w.half() if w.is_floating_point() else w for name, w in expected.items()}
    if wrong := _mismatch(expected, weights):
        raise CheckpointError(f"{path}: its weights do not fit the model it describes: {wrong}")
    model = _build(header["model"])
    model.load_state_dict(weights)  # copies into the model's own precision
    state = {name.removeprefix("state/"): w for name, w in tensors.items() if name.startswith("state/")}
    return model, state, header["about"]


class _SizesOnly(TorchFunctionMode):
    """Inside this block networks are built without memory for their weights, and of so many tensors at most.

    Tensors are counted where torch.empty makes them, as the layers of torch.nn do. They are not filled with random
    numbers, and torch.linspace stays real: for either, PyTorch would load its compiler, which takes seconds and a
    folder for temporary files.
    """

    def __init__(self, tensors: int):
        super().__init__()
        self.left = tensors

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return (*args, kwargs.get("tensor"))[0]
        if func is torch.empty:
            self.left -= 1
            if self.left < 0:
                raise CheckpointError("it has more parts than the file has tensors")
        if func is torch.linspace:
            kwargs = kwargs | {"device": "cpu"}
        return func(*args, **kwargs)


def describe(model: nn.Module) -> dict[str, Any]:
    """How to build the model, for the header of its file. Raises TypeError for one that is not registered."""
    if isinstance(model, Denoiser):
        schedule = model.schedule
        if type(schedule).__name__ not in SCHEDULES:
            raise TypeError(f"model: its schedule {schedule} is not registered in schedules.SCHEDULES")
        return {
            "class": "Denoiser",
            "net": describe(model.net),
            "schedule": {"class": type(schedule).__name__, "arguments": asdict(schedule)},
            "target": model.target,
        }
    if type(model).__name__ not in NETS:
        raise TypeError(f"model: expected a Denoiser or one of {', '.join(NETS)}, got {type(model).__name__}")
    return {"class": type(model).__name__, "arguments": model.config}


def _build(spec: Mapping[str, Any]) -> nn.Module:
    if spec["class"] == "Denoiser":
        schedule = _registered(SCHEDULES, "schedule", spec["schedule"]["class"])(**spec["schedule"]["arguments"])
        _registered(TARGETS, "target", spec["target"])
        return Denoiser(_build(spec["net"]), schedule, spec["target"])
    return _registered(NETS, "network", spec["class"])(**spec["arguments"])


def _registered(registry: Mapping[str, Any], kind: str, name: str) -> Any:
    if name not in registry:
        raise CheckpointError(f"unknown {kind} {name!r}, expected one of {', '.join(registry)}")
    return registry[name]


def _mismatch(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    if missing := sorted(expected.keys() - found.keys()):
        return f"missing {missing[0]!r}"
    if extra := sorted(found.keys() - expected.keys()):
        return f"unexpected {extra[0]!r}"
    for name, w in expected.items():
        if w.shape != found[name].shape or w.dtype != found[name].dtype:
            return f"{name!r} is {found[name].dtype} {tuple(found[name].shape)}, expected {w.dtype} {tuple(w.shape)}"
    return ""


def _to_half(name: str, w: Tensor) -> Tensor:
    """w in float16; whole numbers stay as they are."""
    if not w.is_floating_point():
        return w
    if bool((w.half().isinf() & w.isfinite()).any()):
        raise ValueError(
            f"model: {name!r} holds {w[w.isfinite()].abs().max().item():.4g}, but half precision ends at "
            f"{torch.finfo(torch.float16).max:g}; save it with half=False"
        )
    return w.half()


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    content = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        w = tensors[name]
        digest.update(f"{name} {w.dtype} {tuple(w.shape)}".encode())
        digest.update(w.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError that names it; what stood there before is then still whole."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")  # its own: two who write one file never mix
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # on disk before the name moves: a power cut leaves the old file or the new one
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{path}: could not write {len(content) / 1e6:.1f} MB ({reason})") from error
    finally:
        with suppress(OSError):  # gone, as it should be; or on a disk that turned read-only
            part.unlink()


@contextmanager
def file_lock(argument: str, path: str | Path) -> Iterator[None]:
    """Inside this block no other process can enter one for the same file.

    The operating system holds the lock, on path + ".lock", and drops it when the process ends in any way: no killed
    training is ever waited for, and what it left half-written beside path is taken away. Within one process blocks may
    nest. Raises ValueError that names the argument where another process is inside, OSError where the folder cannot be
    written. A file system without locks (some network drives) is used without.
    """
    path = Path(path).absolute()
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0, thread_local=False, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{argument}: another process is writing {path}; wait for it, or name another file") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise OSError(error.errno, f"{argument}: {path} cannot be written ({error.strerror or error})") from error
    try:
        for part in path.parent.glob(f"{glob.escape(path.name)}.*{PART}"):
            part.unlink(missing_ok=True)
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):  # Windows takes it away by itself
                Path(lock.lock_file).unlink()
        lock.release()


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; expected a .safetensors file written by save")
    try:
        # read once: safe_open opens a file twice, and another process may replace it in between; it also leaves it
        # mapped into memory, and Windows replaces no such file
        content = path.read_bytes()
        tensors = from_bytes(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        header = json.loads(metadata.get(KEY, "null"))
        digest = _digest(header, tensors) if isinstance(header, dict) else ""
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{path}: no whole safetensors file (truncated, altered or foreign): {error}") from error
    parts = {"format", "model", "about", "sha256"}
    if not isinstance(header, dict) or not parts <= header.keys() or not isinstance(header["about"], dict):
        raise CheckpointError(f"{path}: a safetensors file, but not one that learn_diffusion wrote")
    if header["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: written in format {header['format']!r}, this version reads {FORMAT}; update learn_diffusion"
        )
    if header["sha256"] != digest:
        raise CheckpointError(f"{path}: altered since it was written (its SHA-256 does not match)")
    return header, tensors
