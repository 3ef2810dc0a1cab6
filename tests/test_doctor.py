"""The doctor: what it says of a machine where all is well, and of machines where something is missing or wrong."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from click.testing import CliRunner

from learn_diffusion import cli, doctor, recipes
from learn_diffusion.checkpoints import save
from learn_diffusion.nets import Classifier
from learn_diffusion.recipes import pretrained


def rows(check) -> dict[str, doctor.Line]:
    """The lines of a check by their names; of several with one name, the last."""
    return {line.what: line for line in doctor._safe(check)}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A data folder with two small models, which are all the recipes."""
    for name in ("one", "two"):
        save(tmp_path / f"{name}.safetensors", Classifier(width=8))
    monkeypatch.setattr(pretrained, "DATA", tmp_path)
    monkeypatch.setattr(recipes, "RECIPES", {"one": None, "two": None})
    return tmp_path


@pytest.fixture
def well(shelf, monkeypatch):
    """Room on the disk and in memory, whatever this machine has."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9, total=16e9))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=50e9))


def test_a_machine_where_all_is_well(well):
    result = CliRunner().invoke(cli.commands, ["doctor"])
    lines = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert lines[-1] == doctor.READY
    assert not [line for line in lines if line.startswith("!")]
    names = {line[2:18].strip() for line in lines if line[2:3].strip()}
    wanted = {"python", "system", "learn_diffusion", "torch", "numpy", "jupyterlab", "ipywidgets", "cpu", "cuda", "mps",
              "memory", "disk", "models", "jupyter", "kernel", "notebooks", "chromium", "npm"}  # fmt: skip
    assert wanted <= names
    assert f"  torch            {importlib.metadata.version('torch')}" in lines
    assert "  memory           8.0 of 16.0 GB free" in lines
    assert f"  models           2 of 2 whole and unaltered in {pretrained.DATA}" in lines
    assert "nbval" not in names  # asked for by the tests, not by the course


def test_the_models_that_ship_are_whole():
    (line,) = doctor.models()
    assert line.found.startswith(f"{len(recipes.RECIPES)} of {len(recipes.RECIPES)} whole")


def test_an_nvidia_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"Big GPU {device}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=80e9))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    found = [line for line in doctor.devices() if line.what == "cuda"]
    assert [line.found for line in found] == [f"Big GPU {i}, 80 GB; bfloat16 pays" for i in range(2)]
    assert not any(line.advice for line in found)


def test_a_gpu_that_breaks_when_it_is_asked(monkeypatch):
    def broken(i):
        raise RuntimeError("CUDA error:\nunknown error")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", broken)
    line = rows(doctor.devices)["devices"]
    assert line.found == "cannot be looked at: RuntimeError: CUDA error: unknown error"
    assert line.needed


@pytest.mark.parametrize("driver", [None, "/usr/bin/nvidia-smi"])
def test_no_nvidia_gpu_with_and_without_its_driver(monkeypatch, driver):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    line = rows(doctor.devices)["cuda"]
    assert (line.found == "none") == (driver is None)
    assert ("TORCH_INDEX=" in line.advice) == (driver is not None)
    assert not line.needed


@pytest.mark.parametrize(("there", "found"), [(True, "an Apple GPU, used where it is asked for"), (False, "none")])
def test_an_apple_gpu(monkeypatch, there, found):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert rows(doctor.devices)["mps"] == doctor.Line("mps", found)


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    line = rows(doctor.devices)["cpu"]
    assert "of 1 core;" in line.found
    assert "OMP_NUM_THREADS=1" in line.advice
    assert not line.needed
    monkeypatch.delattr(doctor.os, "sched_getaffinity")  # macOS and Windows
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    assert rows(doctor.devices)["cpu"].advice == ""


@pytest.mark.parametrize(
    ("free", "advised", "needed"), [(0.5e9, True, True), (1.5e9, True, False), (9e9, False, False)]
)
def test_little_memory(monkeypatch, free, advised, needed):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=16e9))
    line = rows(doctor.memory)["memory"]
    assert (bool(line.advice), bool(line.needed)) == (advised, needed)


@pytest.mark.parametrize(("free", "advised", "needed"), [(0.1e9, True, True), (1e9, True, False), (9e9, False, False)])
def test_little_room_on_the_disk(monkeypatch, free, advised, needed):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    line = rows(doctor.memory)["disk"]
    assert (bool(line.advice), bool(line.needed)) == (advised, needed)


def test_a_missing_and_an_altered_model_each_get_a_line_of_advice(well, shelf):
    (shelf / "one.safetensors").unlink()
    content = bytearray((shelf / "two.safetensors").read_bytes())
    content[-1] ^= 1
    (shelf / "two.safetensors").write_bytes(content)
    one, two, sum_of_all = doctor.models()
    assert one.found == "one.safetensors: not there"
    assert two.found.startswith("two.safetensors: ")
    assert "altered since it was written" in two.found
    assert str(shelf) not in two.found
    assert all("learn-diffusion train" in line.advice and line.needed for line in (one, two))
    assert sum_of_all.found.startswith("0 of 2")
    result = CliRunner().invoke(cli.commands, ["doctor"])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "The course cannot run yet: see the 2 marked with !"


def test_a_file_that_is_no_model(shelf):
    (shelf / "one.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (shelf / "two.safetensors").unlink()
    (shelf / "two.safetensors").mkdir()
    one, two, _ = doctor.models()
    assert "no whole safetensors file" in one.found
    assert two.needed
    assert "\n" not in one.found + two.found


def test_git_brings_a_file_back_only_where_there_is_git(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert doctor._again("data/x", "train it") == "take data/x from the course's archive again, or: train it"
    (tmp_path / ".git").mkdir()
    assert doctor._again("data/x", "train it") == "git checkout data/x, or: train it"


def without(monkeypatch, *names):
    """As where these distributions are not installed."""
    found = importlib.metadata.version

    def version(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_without_jupyter(well, monkeypatch):
    without(monkeypatch, "jupyterlab", "ipywidgets")
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda name: "/nowhere")
    result = CliRunner().invoke(cli.commands, ["doctor"])
    lines = result.output.splitlines()
    assert result.exit_code == 1
    halted = "cannot be looked at: ModuleNotFoundError: import of {} halted; None in sys.modules"
    assert [line for line in lines if line.startswith("!")] == [
        "! ipywidgets       not installed",
        "! jupyterlab       not installed",
        f"! memory           {halted.format('psutil')}",
        "! jupyter          not in this environment",
        f"! jupyter          {halted.format('jupyter_client.kernelspec')}",
    ]
    assert lines.count(f"{'':18} {doctor.INSTALL}") == 5


def test_in_a_bundle_the_advice_needs_no_network(tmp_path):
    package = tmp_path / "learn_diffusion"
    package.mkdir()
    for name in ("__init__.py", "doctor.py"):
        (package / name).write_bytes((doctor.ROOT / "learn_diffusion" / name).read_bytes())
    command = [sys.executable, "-c", "from learn_diffusion import doctor; print(doctor.INSTALL)"]
    settings = {**os.environ, "PYTHONPATH": str(tmp_path)}
    said = []
    for _ in range(2):
        said.append(subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True).stdout)
        (tmp_path / "wheels").mkdir(exist_ok=True)
    assert [" pip install --no-index --find-links wheels --constraint" in line for line in said] == [False, True]


def test_versions_other_than_asked_for(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=99", "numpy>=1", 'x>1; extra == "test"'])
    lines = rows(doctor.packages)
    assert lines["torch"].advice.startswith("expected >=99: ")
    assert lines["torch"].needed
    assert not lines["numpy"].needed
    assert "x" not in lines


def test_the_package_is_not_installed(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    line = rows(doctor.packages)["packages"]
    assert "learn_diffusion" in line.found
    assert (line.advice, line.needed) == (doctor.INSTALL, True)


@pytest.mark.parametrize(
    ("program", "own"),
    [("python", True), ("python3", True), (sys.executable, True), ("/elsewhere/bin/python", False), ("", None)],
)
def test_the_kernel_of_another_environment_and_none(tmp_path, monkeypatch, program, own):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    spec = {"argv": [program] if program else [], "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    line = rows(doctor.jupyter)["kernel" if program else "jupyter"]
    assert bool(line.needed) == (not own)
    assert ("ipykernel install" in line.advice) == (own is False)


def test_no_notebooks_and_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    assert not any(rows(doctor.notebooks)["notebooks"][2:])
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    line = rows(doctor.notebooks)["notebooks"]
    assert "where you may write" in line.advice
    assert not line.needed
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    line = rows(doctor.notebooks)["notebooks"]
    assert line.found.startswith("0 in ")
    assert line.advice == "take notebooks from the course's archive again"
    assert line.needed


def test_browser_and_npm_are_never_needed(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    for name in ("chromium", "npm"):
        line = rows(doctor.notebooks)[name]
        assert line.found == "none"
        assert "make test" in line.advice
        assert not line.needed
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name)
    monkeypatch.setenv("LEARN_DIFFUSION_CHROMIUM", "/my browsers/chromium")
    assert rows(doctor.notebooks)["chromium"].found == "/my browsers/chromium"


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 15, 0)])
def test_a_python_too_old_or_too_new(monkeypatch, version):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    line = rows(doctor.python)["python"]
    assert line.needed
    assert "from 3.11 to 3.14" in line.advice


def test_every_check_may_break(monkeypatch):
    """Whatever happens in one, the others are made, and the last line says that the course cannot run."""

    def broken():
        yield doctor.Line("first", "seen")
        raise OSError(5, "Input/output\nerror " + "x" * 1000)

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.python))
    lines = list(doctor.report())
    assert lines[0] == "  first            seen"
    assert lines[1].startswith("! broken           cannot be looked at: OSError: [Errno 5] Input/output error xxx")
    assert len(lines[1]) < 250
    assert lines[3].startswith("  python ")
    assert lines[-1] == "The course cannot run yet: see the 1 marked with !"


def test_as_a_program_where_torch_is_missing_and_the_console_lacks_letters(tmp_path):
    """The package in a folder that the console cannot name, torch broken, no notebooks, no data."""
    package = tmp_path / "Łódź" / "learn_diffusion"
    package.mkdir(parents=True)
    for path in Path(cli.__file__).parent.glob("*.py"):
        (package / path.name).write_bytes(path.read_bytes())
    (package.parent / "torch.py").write_text("raise OSError('c10.dll not found')")
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "learn_diffusion", "doctor"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="cp1252", check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "\\u0141" in done.stdout
    for name in ("devices", "models"):
        assert f"! {name:16} cannot be looked at: OSError: c10.dll not found" in done.stdout
    assert "! notebooks        0 in " in done.stdout
    assert done.stdout.splitlines()[-1] == "The course cannot run yet: see the 3 marked with !"
