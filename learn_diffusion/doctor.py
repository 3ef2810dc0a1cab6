"""Can the course run here? `learn-diffusion doctor` looks at everything it needs, and says what to do where it cannot.

A check is a generator of lines, and imports what it looks at only when it runs: whatever is missing or broken becomes a
line, never an error.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import learn_diffusion

ROOT = Path(__file__).resolve().parent.parent
WHEELS = "--no-index --find-links wheels " if (ROOT / "wheels").is_dir() else ""  # a bundle: see the Makefile
INSTALL = f'{sys.executable} -m pip install {WHEELS}--constraint constraints.txt --editable ".[course]"'
MEMORY = 1.0, 2.0  # GB free: below the first hardly a chapter runs, with the second all do (README, table of chapters)
DISK = 0.2, 2.0  # GB free: for answers and trainings; for a set-up
BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
READY = "The course can run here."


class Line(NamedTuple):
    """One thing that was looked at."""

    what: str
    found: str
    advice: str = ""  # what to do; nothing where all is well
    needed: object = False  # true where the course cannot run until the advice is taken


def report() -> Iterator[str]:
    """The report, line by line as it is found. Its last line is READY if the course can run."""
    stops = 0
    for line in (line for check in CHECKS for line in _safe(check)):
        stops += bool(line.needed)
        yield f"{'!' if line.needed else '-' if line.advice else ' '} {line.what:16} {line.found}"
        if line.advice:
            yield f"{'':18} {line.advice}"
    yield ""
    yield f"The course cannot run yet: see the {stops} marked with !" if stops else READY


def _safe(check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """The lines of a check; where it stops with an error, that is its last line."""
    try:
        yield from check()
    except Exception as error:
        yield Line(check.__name__, f"cannot be looked at: {_short(error)}", INSTALL, needed=True)


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def python() -> Iterator[Line]:
    """Python, where it lies, and the system."""
    mend = "" if (3, 11) <= sys.version_info[:2] <= (3, 14) else "install a Python from 3.11 to 3.14"
    yield Line("python", f"{platform.python_version()} in {sys.prefix}", mend, mend)
    yield Line("system", f"{platform.platform()}, {platform.machine()}")


def packages() -> Iterator[Line]:
    """The package, and what pyproject.toml asks for, with the course's extra."""
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
        right = wanted.specifier.contains(found, prereleases=True)
        yield Line(wanted.name, found, "" if right else f"expected {wanted.specifier}: {INSTALL}", not right)


def devices() -> Iterator[Line]:
    """The cores and how many of them torch uses; graphics cards, which are welcome and never needed."""
    import torch

    from learn_diffusion.devices import hardware, use_bf16

    def bf16(device: str) -> str:
        return f"bfloat16 {'pays' if use_bf16(torch.device(device), 16) else 'does not pay'}"

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    crowd = f"set OMP_NUM_THREADS={cores}: more threads than cores wait" if torch.get_num_threads() > cores else ""
    yield Line("cpu", f"{hardware('cpu')}, of {cores} core{'s' * (cores > 1)}; {bf16('cpu')}", crowd)
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(cards):
        gigabytes = torch.cuda.get_device_properties(i).total_memory / 1e9
        yield Line("cuda", f"{torch.cuda.get_device_name(i)}, {gigabytes:.0f} GB; {bf16('cuda')}")
    if not cards:
        driver = shutil.which("nvidia-smi")
        advice = "not needed; to use it: make clean, then make lab TORCH_INDEX=" if driver else ""
        yield Line("cuda", "not used, though there is an NVIDIA driver" if driver else "none", advice)
    yield Line("mps", "an Apple GPU, used where it is asked for" if torch.backends.mps.is_available() else "none")


def memory() -> Iterator[Line]:
    """Memory that is free now, and room on the disk where the course lies."""
    free = shutil.disk_usage(ROOT).free / 1e9
    advice = "" if free >= DISK[1] else "make room on this disk: a set-up takes 1.5 GB"
    yield Line("disk", f"{free:.1f} GB free", advice, free < DISK[0])
    import psutil  # Jupyter's kernel brings it

    free, whole = psutil.virtual_memory().available / 1e9, psutil.virtual_memory().total / 1e9
    advice = "" if free >= MEMORY[1] else "close other programs and kernels: some chapters need more than 1 GB"
    yield Line("memory", f"{free:.1f} of {whole:.1f} GB free", advice, free < MEMORY[0])


def models() -> Iterator[Line]:
    """What ships in data/: there, whole, and as it was written."""
    from learn_diffusion import checkpoints, recipes
    from learn_diffusion.recipes import pretrained

    good = 0
    for name in recipes.RECIPES:
        path = pretrained.DATA / f"{name}.safetensors"
        try:
            checkpoints.read(path)
            good += 1
        except Exception as error:
            said = _short(error).replace(f"{path}: ", "") if path.exists() else "not there"
            mend = _again(f"data/{path.name}", f"learn-diffusion train {name}")
            yield Line("model", f"{path.name}: {said}", mend, needed=True)
    yield Line("models", f"{good} of {len(recipes.RECIPES)} whole and unaltered in {pretrained.DATA}")


def _again(path: str, otherwise: str = "") -> str:
    have = f"git checkout {path}" if (ROOT / ".git").exists() else f"take {path} from the course's archive again"
    return f"{have}, or: {otherwise}" if otherwise else have


def jupyter() -> Iterator[Line]:
    """The command, and whether the kernel that notebooks ask for is this Python."""
    command = shutil.which("jupyter", path=sysconfig.get_path("scripts"))
    yield Line("jupyter", command or "not in this environment", "" if command else INSTALL, not command)
    from jupyter_client.kernelspec import KernelSpecManager

    program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    folder = Path(program).parent  # of "python" alone: Jupyter then takes the Python that it runs in itself
    own = program.startswith("python") or (folder.exists() and folder.samefile(Path(sys.executable).parent))
    found = "python3 of this environment" if own else f"python3 is {program}: another environment"
    yield Line("kernel", found, "" if own else f"{sys.executable} -m ipykernel install --sys-prefix", not own)


def notebooks() -> Iterator[Line]:
    """The chapters; and what only the tests and the website use."""
    folder = ROOT / "notebooks"
    found = len(list(folder.glob("*.ipynb")))
    advice = "" if os.access(folder, os.W_OK) else "copy the course to a folder where you may write"
    missing = "" if found else _again("notebooks")
    yield Line("notebooks", f"{found} in {folder}", missing or advice, missing)
    asked = os.environ.get("LEARN_DIFFUSION_CHROMIUM")
    chromium = next(filter(None, map(shutil.which, [asked] if asked else BROWSERS)), "")
    yield Line("chromium", chromium or "none", "" if chromium else "only make test uses it: install Chromium")
    npm = shutil.which("npm")
    yield Line("npm", npm or "none", "" if npm else "only make test and make book use it: install Node.js 18 or newer")


CHECKS = python, packages, devices, memory, models, jupyter, notebooks
