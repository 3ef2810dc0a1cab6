"""Self-describing checkpoints: one safetensors file that says in its header how to build the model it holds.

Threat model: checkpoints, and the pictures a reader brings, are guarded against accidents (killed processes, full
disks, truncation, flipped bits, foreign files). A hostile file must not run code, crash the process, hang it or exhaust
memory: nothing is unpickled, only registered classes are built, and sizes are compared before memory is taken. Nobody
defends against a well-formed file made to look like ours: the SHA-256 detects accidental corruption; it is not a
signature.
"""

from __future__ import annotations

import copy
import errno
import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
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
from learn_diffusion.nets import MLP, VAE, AttributeClassifier, Classifier, DiT, Generator, UNet
from learn_diffusion.schedules import SCHEDULES

FORMAT = 1  # raise it when an older version of this package could no longer read the file rightly
NETS: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (UNet, DiT, VAE, MLP, Classifier, AttributeClassifier, Generator)
}
NETS_OF_DIFFUSERS = {"StableDiffusion": "learn_diffusion.pipelines"}  # imported when a file needs them
KEY = "learn_diffusion"  # the one entry of the safetensors header, so that its bytes have one order
PART = ".part"  # ends the name of a file that is being written
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
# names in files of earlier versions: classes and arguments in the header; parts of the names of a network's weights
RENAMED, RENAMED_WEIGHTS = json.loads(Path(__file__).with_name("renamed.json").read_text(encoding="utf-8")).values()


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint; the message names the file and the reason."""


def save(
    path: str | Path, model: nn.Module, state: Mapping[str, Tensor] | None = None, half: bool = False, **metadata: Any
) -> None:
    """Write model, a Denoiser or a registered network, to path: whole or not at all.

    state     further tensors (a training's optimiser and random states), ignored by load
    half      store the weights in half precision (float16), in half the space; load gives float32 again, rounded to
              about 3 digits, as `to_fp16` shows. metadata["half"] then says so
    metadata  what a reader should know: data, recipe, steps, seed, metrics ... (anything JSON can say)

    The package's version, torch's and the hardware are added. What load could not open is refused: TypeError for a
    model or metadata that cannot be described, ValueError for weights that are not those of the model described, or too
    large for half precision; OSError where the file cannot be written. What stood there before is then still whole.
    """
    metadata = {"package": learn_diffusion.__version__, "torch": torch.__version__} | metadata
    metadata.setdefault("hardware", devices.hardware(next(model.parameters()).device))
    weights = model.state_dict()
    if half:
        metadata["half"] = True
        weights = {name: _to_half(name, w) for name, w in weights.items()}
    header = {"format": FORMAT, "model": describe(model), "about": _as_json(metadata)}
    if misfit := _misfit(header, weights):
        raise ValueError(f"model: load could not build it again, {misfit}")
    tensors = {f"model/{name}": w for name, w in weights.items()}
    tensors |= {f"state/{name}": w for name, w in (state or {}).items()}
    # clones: two names may share one memory, which the format does not allow
    tensors = {
        k: torch.as_tensor(w).detach().cpu().clone(memory_format=torch.contiguous_format) for k, w in tensors.items()
    }
    header = json.loads(json.dumps(header))  # as load will see it: tuples are lists
    header["sha256"] = _digest(header, tensors)
    atomic_write(path, to_bytes(tensors, {KEY: json.dumps(header)}))


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as load will see it: keys are strings, tuples are lists, numbers of numpy and torch are Python's."""

    def plain(value: Any) -> Any:
        if getattr(value, "ndim", None) == 0:
            return value.item()
        raise TypeError(f"got {type(value).__name__}")

    seen = {}
    for key, value in metadata.items():
        try:
            seen[key] = json.loads(json.dumps(value, default=plain, allow_nan=False), object_pairs_hook=_unique)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{key}: expected what JSON can say (finite numbers, strings, lists, dicts): {error}"
            ) from None
    return seen


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError(f"two keys read alike as strings, of {', '.join(key for key, _ in pairs)}")
    return found


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
    """(model, metadata) from a file that save wrote: the model in eval mode on the device (default: resolve_device).

    Raises FileNotFoundError, or CheckpointError that names the file and what is wrong with it.
    """
    model, _, metadata = read(path)
    return model.to(devices.resolve_device(device)).eval(), metadata


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What load returns second, without building the model. Raises as load does, but for weights that do not fit."""
    return _renamed(_read_file(Path(path))[0]["about"])


@torch.inference_mode(False)  # weights made in that mode could never be trained
def read(path: str | Path) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """(model, state, metadata) on the CPU; see save. Raises as load does."""
    header, tensors = _read_file(Path(path))
    tensors = _todays_names(header["model"], tensors)
    weights, state = (
        {name.removeprefix(part): w for name, w in tensors.items() if name.startswith(part)}
        for part in ("model/", "state/")
    )
    try:
        misfit = _misfit(header, weights)
    except Exception as error:
        raise CheckpointError(f"{path}: its header describes no model this package can build: {error}") from error
    if misfit:
        raise CheckpointError(f"{path}: its weights do not fit the model it describes: {misfit}")
    with torch.device("cpu"):  # whatever torch's default device is
        model = _build(header["model"]).to(_precision(header, weights))
    model.load_state_dict(weights)  # copies into the model's own precision
    return model, state, _renamed(header["about"])


def _precision(header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> torch.dtype:
    """What a model computes in: the type of its weights, or float32 where they were halved for the file."""
    types = [w.dtype for w in weights.values() if w.is_floating_point()]
    return torch.float32 if header["about"].get("half") or not types else types[0]


def _misfit(header: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """Where the weights are not those of the model described: in words, "" where they are."""
    # sizes only, and no more parts than there are tensors: a header that asks for a giant network is refused at once
    with torch.device("meta"), _SizesOnly(len(weights)):
        built = _build(header["model"])
        half = header["about"].get("half")
        expected = built.to(torch.float16 if half else _precision(header, weights)).state_dict()
    for name in sorted(expected | dict(weights)):
        wanted, found = (
            f"{w[name].dtype} {tuple(w[name].shape)}" if name in w else "missing" for w in (expected, weights)
        )
        if wanted != found:
            return f"{name!r} is {found}, expected {wanted}"
    return ""


def _renamed(metadata: dict[str, Any]) -> dict[str, Any]:
    """The header with the recipe and the metrics of an older file under their present names."""
    metadata = dict(metadata)
    if isinstance(metadata.get("recipe"), str):
        metadata["recipe"] = RENAMED.get(metadata["recipe"], metadata["recipe"])
    if isinstance(metadata.get("metrics"), dict):
        metadata["metrics"] = {RENAMED.get(name, name): value for name, value in metadata["metrics"].items()}
    return metadata


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a .safetensors file written by save, got a folder")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; expected a .safetensors file written by save")
    try:
        # read in one piece: safe_open opens the file twice, and another process may replace it in between; it also
        # keeps the file mapped into memory, and Windows cannot replace such a file
        content = path.read_bytes()
        tensors = from_bytes(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        header = json.loads(metadata.get(KEY, "null"))
        digest = _digest(header, tensors) if isinstance(header, dict) else ""
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{path}: no whole safetensors file (truncated, altered or foreign): {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: a safetensors file, but not one that learn_diffusion wrote")
    if (found := header.get("format")) != FORMAT:
        raise CheckpointError(
            f"{path}: written in format {found!r}, this version reads {FORMAT}; update learn_diffusion"
        )
    if header.get("sha256") != digest:
        raise CheckpointError(f"{path}: altered since it was written (its SHA-256 does not match)")
    return header, tensors


class _SizesOnly(TorchFunctionMode):
    """Build networks on the meta device, of at most so many tensors: torch.empty, which layers call, counts them.

    They are not initialised, and torch.linspace stays on the CPU: for either, PyTorch would load its compiler, which
    takes seconds and a folder for temporary files.
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
        schedule, kind = model.schedule, type(model.schedule).__name__
        if SCHEDULES.get(kind) is not type(schedule):  # a class of one's own may have the same name
            raise TypeError(f"model: its schedule {schedule} is not registered in schedules.SCHEDULES")
        spec = {"class": kind, "arguments": _as_json(asdict(schedule))}
        return {"class": "Denoiser", "net": describe(model.net), "schedule": spec, "target": model.target}
    if NETS.get(type(model).__name__) is not type(model):
        got = f"{type(model).__module__}.{type(model).__name__}"
        raise TypeError(
            f"model: expected a Denoiser or one of {', '.join(NETS)}, got {got}; a network of your own needs "
            f"self.config, its arguments, and checkpoints.NETS[{type(model).__name__!r}] = {type(model).__name__}"
        )
    if not isinstance(getattr(model, "config", None), Mapping):
        raise TypeError(f"model: expected {type(model).__name__}.config, the arguments that build it, got none")
    return {"class": type(model).__name__, "arguments": _as_json(model.config)}


def _build(spec: Mapping[str, Any]) -> nn.Module:
    if spec["class"] == "Denoiser":
        return Denoiser(_build(spec["net"]), _registered(SCHEDULES, "schedule", spec["schedule"]), spec["target"])
    return _registered(NETS, "network", spec)


def _registered(registry: Mapping[str, Any], kind: str, spec: Mapping[str, Any]) -> Any:
    name = RENAMED.get(spec["class"], spec["class"])
    if name in NETS_OF_DIFFUSERS and name not in registry:
        try:
            import_module(NETS_OF_DIFFUSERS[name])  # registers it
        except ImportError as error:
            raise CheckpointError(f'{name} needs diffusers: pip install "learn_diffusion[course]" ({error})') from error
    if name not in registry:
        raise CheckpointError(f"unknown {kind} {name!r}, expected one of {', '.join(registry)}")
    return registry[name](**{RENAMED.get(key, key): value for key, value in spec["arguments"].items()})


def _todays_names(spec: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    while isinstance(spec, dict) and isinstance(spec.get("net"), dict):
        spec = spec["net"]
    network = spec.get("class") if isinstance(spec, dict) else None
    renamed = RENAMED_WEIGHTS.get(RENAMED.get(network, network), {}) if isinstance(network, str) else {}
    return {re.sub(r"\w+", lambda part: renamed.get(part[0], part[0]), name): w for name, w in tensors.items()}


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
        digest.update(w.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_writable(argument: str, path: str | Path) -> None:
    """Try what atomic_write will do. Raises OSError that names the argument."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{argument}: expected the name of a file, got the folder {path}")
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        part.write_bytes(b"")
    except OSError as error:
        raise type(error)(f"{argument}: {path} cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            part.unlink()


def atomic_write(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises OSError that names it; what stood there before is then still whole."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{path}: could not write, expected the name of a file, got a folder")
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")  # its own: two who write one file never mix
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # on disk before the name moves: a power cut leaves the old file or the new one
        if part.read_bytes() != content:
            raise OSError(errno.EIO, "it reads back differently")
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{path}: could not write {len(content) / 1e6:.1f} MB ({reason})") from error
    finally:
        with suppress(OSError):  # gone after os.replace, or on a disk that turned read-only
            part.unlink()


@contextmanager
def file_lock(argument: str, path: str | Path) -> Iterator[None]:
    """Hold the lock of a file, path + ".lock", against other processes; within one process blocks may nest.

    The operating system drops the lock when its process ends in any way, so a killed training never blocks the next.
    Partial files that it left beside path are deleted. A file system without locks (some network drives) is used
    without. Raises ValueError that names the argument while another process holds the lock, OSError where the folder
    cannot be written.
    """
    path = Path(path).absolute()
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0, thread_local=False, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"{argument}: another process is writing {path}; wait for it, or name another file") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise type(error)(f"{argument}: {path} cannot be written ({error.strerror or error})") from error
    try:
        for part in path.parent.glob(f"{glob.escape(path.name)}.*{PART}"):
            part.unlink(missing_ok=True)
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):  # Windows deletes it by itself
                Path(lock.lock_file).unlink()
        lock.release()
