"""`learn-diffusion doctor` checks the installation and suggests fixes.

A check is a generator of lines. It imports what it looks at only when it runs, so a broken package becomes a line too.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from subprocess import list2cmdline
from typing import NamedTuple

import learn_diffusion

ROOT = Path(__file__).resolve().parent.parent
WHEELS = "--no-index --find-links wheels " if (ROOT / "wheels").is_dir() else ""  # a bundle: see the Makefile
PYTHON = list2cmdline([sys.executable]) if os.name == "nt" else quote(sys.executable)  # its path may have spaces
INSTALL = f'{PYTHON} -m pip install {WHEELS}--constraint constraints.txt --editable ".[course]"'
READY = "The course can run here."


def restored(path: str) -> str:
    """How a file of the course comes back: a bundle has no git."""
    return f"git checkout {path}" if (ROOT / ".git").exists() else f"unpack the course again, or copy its {path}"


class Line(NamedTuple):
    """The result of one check."""

    what: str
    found: str
    fix: str = ""  # what to do; empty if all is well
    needed: bool = False  # whether the course cannot run before that


def report() -> Iterator[str]:
    """The report, line by line. The last line is READY if the course can run."""
    stops, fixes = 0, False
    for line in (line for check in CHECKS for line in _safe(check)):
        stops += line.needed
        yield f"{'!' if line.needed else '-' if line.fix else ' '} {line.what:16} {line.found}"
        if line.fix:
            yield f"{'':18} {line.fix}"
            fixes = True
    yield ""
    if fixes and Path.cwd() != ROOT:
        yield f"Commands are meant for the folder of the course: {ROOT}"
    yield f"The course cannot run yet: see the {stops} marked with !" if stops else READY


def _safe(check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a check; if it raises, the error is its last line."""
    try:
        yield from check()
    except Exception as error:
        yield Line(check.__name__, f"check failed: {_in_one_line(error)}", INSTALL, needed=True)


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def python() -> Iterator[Line]:
    """The version of Python."""
    fix = "" if (3, 11) <= sys.version_info[:2] <= (3, 14) else "install a Python from 3.11 to 3.14"
    yield Line("python", f"{platform.python_version()} in {sys.prefix}, on {platform.platform()}", fix, bool(fix))


def packages() -> Iterator[Line]:
    """The package, and the versions of what it requires with the extra "course"."""
    yield Line("learn_diffusion", f"{learn_diffusion.__version__} in {ROOT}")
    from packaging.requirements import Requirement

    for wanted in map(Requirement, importlib.metadata.requires("learn_diffusion") or []):
        if wanted.marker and not wanted.marker.evaluate({"extra": "course"}):
            continue
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield Line(wanted.name, "not installed", INSTALL, needed=True)
            continue
        good = wanted.specifier.contains(found, prereleases=True)
        yield Line(wanted.name, found, "" if good else f"expected {wanted.specifier}: {INSTALL}", not good)


def devices() -> Iterator[Line]:
    """Whether torch computes: on the processor, and on a GPU if there is one (which the course does not need)."""
    import torch

    from learn_diffusion.devices import hardware, use_bf16

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    gpus = [name for name in there if there[name]]
    for device in ("cpu", *gpus):
        try:
            torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).sum().item()
            bf16 = "bfloat16" if use_bf16(torch.device(device), 16) else "float32"
            yield Line(device, f"{hardware(device)}; trains on pictures in {bf16}")
        except RuntimeError as error:
            fix = INSTALL if device == "cpu" else "update its driver, or hide it: set CUDA_VISIBLE_DEVICES to -1"
            yield Line(device, f"does not compute: {_in_one_line(error)}", fix, needed=True)
    if not gpus:
        driver = shutil.which("nvidia-smi")
        fix = "not needed; to use it: make clean, then make lab TORCH_INDEX=" if driver else ""
        yield Line("gpu", "not used, though there is an NVIDIA driver" if driver else "none", fix)


def memory() -> Iterator[Line]:
    """Free memory, and free space on the disk of the course."""
    import psutil  # comes with Jupyter's kernel

    # GB: below `least` hardly anything runs; `enough` is for a set-up, and for every chapter
    for what, free, least, enough, fix in (
        ("disk", shutil.disk_usage(ROOT).free / 1e9, 0.2, 2.0, "free space on this disk: a set-up takes 1.8 GB"),
        ("memory", psutil.virtual_memory().available / 1e9, 1.0, 2.0, "close other programs and kernels"),
    ):
        yield Line(what, f"{free:.1f} GB free", "" if free >= enough else fix, free < least)


def models() -> Iterator[Line]:
    """The trained models in data/: present, complete and unaltered."""
    from learn_diffusion import checkpoints
    from learn_diffusion.recipes import RECIPES, pretrained

    good = 0
    for name in RECIPES:
        path = pretrained.DATA / f"{name}.safetensors"
        try:
            checkpoints.read(path)
            good += 1
        except Exception as error:
            found = _in_one_line(error) if path.exists() else f"{path} is missing"
            yield Line(
                "model", found, f"{restored(f'data/{path.name}')}, or: learn-diffusion train {name}", needed=True
            )
    yield Line("models", f"{good} of {len(RECIPES)} complete in {pretrained.DATA}")


def jupyter() -> Iterator[Line]:
    """Whether the kernel that notebooks ask for is this Python, and Jupyter may write where it keeps its files."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

    program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    folder = Path(program).parent  # of "python" alone: Jupyter then uses its own Python
    own = program.startswith("python") or (folder.exists() and folder.samefile(Path(sys.executable).parent))
    fix = "" if own else f"{PYTHON} -m ipykernel install --sys-prefix"
    yield Line("kernel", f"python3 is {program}{'' if own else ', of another environment'}", fix, not own)
    folders = Path(jupyter_data_dir()), Path(jupyter_runtime_dir())
    there = [next(each for each in (folder, *folder.parents) if each.exists()) for folder in folders]
    good = all(os.access(folder, os.W_OK) for folder in there)
    fix = "" if good else "set JUPYTER_DATA_DIR and JUPYTER_RUNTIME_DIR to folders where you may write"
    yield Line("jupyter", f"keeps its files in {folders[0]}", fix, not good)


def notebooks() -> Iterator[Line]:
    """The chapters: present, and in a folder that can be written."""
    found = len(list((folder := ROOT / "notebooks").glob("*.ipynb")))
    fix = "" if os.access(folder, os.W_OK) else "copy the course to a folder where you may write"
    fix = fix if found else restored("notebooks")
    yield Line("notebooks", f"{found} in {folder}", fix, not found)


CHECKS = python, packages, devices, memory, models, jupyter, notebooks
