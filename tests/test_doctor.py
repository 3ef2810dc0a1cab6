"""The doctor: on a machine where all is well, and on machines where one thing is missing or wrong."""

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


def lines(check) -> dict[str, doctor.Line]:
    """The lines of a check by name."""
    return {line.what: line for line in doctor._safe(check)}


def refused(line: doctor.Line) -> bool:
    """Whether the course cannot run; a fix is suggested then."""
    assert bool(line.fix) or not line.needed
    return line.needed


@pytest.fixture(autouse=True)
def well(tmp_path, monkeypatch):
    """Two small models, which are all the recipes; enough memory and disk, whatever this machine has."""
    for name in ("one", "two"):
        save(tmp_path / f"{name}.safetensors", Classifier(width=8))
    monkeypatch.setattr(pretrained, "DATA", tmp_path)
    monkeypatch.setattr(recipes, "RECIPES", {"one": None, "two": None})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=50e9))


def test_where_all_is_well_the_course_can_run():
    result = CliRunner().invoke(cli.commands, ["doctor"])
    printed = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert printed[-1] == doctor.READY
    assert not [line for line in printed if line.startswith("!")]
    names = {line[2:18].strip() for line in printed}
    assert {"python", "torch", "jupyterlab", "cpu", "memory", "disk", "models", "kernel", "notebooks"} <= names
    assert "nbval" not in names  # required by the tests, not by the course


def test_where_something_is_wrong_the_exit_code_is_1(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))
    result = CliRunner().invoke(cli.commands, ["doctor"])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] != doctor.READY


@pytest.mark.parametrize(("version", "bad"), [((3, 10), True), ((3, 11), False), ((3, 14), False), ((3, 15), True)])
def test_python(monkeypatch, version, bad):
    monkeypatch.setattr(doctor.sys, "version_info", (*version, 0))
    assert refused(lines(doctor.python)["python"]) == bad


def test_packages(monkeypatch):
    wanted = ["torch>=99", "numpy>=1", "never-published", 'x>1; extra == "test"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    found = lines(doctor.packages)
    assert {name: refused(found[name]) for name in found} == {
        "learn_diffusion": False, "torch": True, "numpy": False, "never-published": True
    }  # fmt: skip


def test_a_gpu_that_computes_and_one_that_does_not(monkeypatch):
    def ones(*shape, device):
        if device == broken:
            raise RuntimeError("CUDA error:\nunknown error")
        return torch.zeros(shape)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch, "ones", ones)
    for broken in (None, "cuda", "cpu"):
        found = lines(doctor.devices)
        assert {name for name in ("cpu", "cuda") if refused(found[name])} == ({broken} if broken else set())
        assert not any("\n" in line.found for line in found.values())


@pytest.mark.parametrize("driver", [None, "/usr/bin/nvidia-smi"])
def test_no_gpu_is_needed(monkeypatch, driver):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    line = lines(doctor.devices)["gpu"]
    assert not line.needed
    assert bool(line.fix) == bool(driver)


@pytest.mark.parametrize(("what", "gigabytes"), [("memory", (0.5, 1.5, 9)), ("disk", (0.1, 1, 9))])
def test_memory_and_disk(monkeypatch, what, gigabytes):
    for free, (hint, needed) in zip(gigabytes, [(True, True), (True, False), (False, False)], strict=True):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free * 1e9))
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free * 1e9))
        line = lines(doctor.memory)[what]
        assert (bool(line.fix), line.needed) == (hint, needed)


@pytest.mark.parametrize("fault", ["missing", "altered", "not downloaded"])
def test_a_model(tmp_path, fault):
    path = tmp_path / "two.safetensors"
    content = path.read_bytes()
    path.unlink()
    if fault != "missing":
        altered = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes(altered if fault == "altered" else b"version https://git-lfs")
    line, summary = doctor.models()
    assert refused(line)
    assert path.name in line.found
    assert summary.found.startswith("1 of 2")


@pytest.mark.parametrize(("program", "own"), [("python3", True), (sys.executable, True), ("/elsewhere/python", False)])
def test_the_kernel(tmp_path, monkeypatch, program, own):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": [program], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert refused(lines(doctor.jupyter)["kernel"]) != own


def test_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    line = lines(doctor.notebooks)["notebooks"]
    assert (bool(line.fix), line.needed) == (True, False)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert refused(lines(doctor.notebooks)["notebooks"])


def test_a_home_that_cannot_be_written_is_said_to_stop_jupyter(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "not" / "yet"))
    assert lines(doctor.jupyter)["jupyter"].fix == ""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write anywhere
    assert refused(lines(doctor.jupyter)["jupyter"])
    assert "JUPYTER_DATA_DIR" in lines(doctor.jupyter)["jupyter"].fix


def test_where_torch_is_broken_the_other_checks_are_made(tmp_path):
    """A copy of the package, in a bundle without notebooks or data, in a folder whose name the console cannot print."""
    package = tmp_path / "Łódź" / "learn_diffusion"
    package.mkdir(parents=True)
    for path in Path(cli.__file__).parent.glob("*.py"):
        (package / path.name).write_bytes(path.read_bytes())
    (package.parent / "wheels").mkdir()
    (package.parent / "torch.py").write_text("raise OSError('c10.dll not found')")
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "learn_diffusion", "doctor"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="cp1252", check=False)
    assert (done.returncode, done.stderr) == (1, "")
    stops = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("!")]
    assert [name for name in stops if name not in ("disk", "memory")] == ["devices", "models", "notebooks"]
    assert "c10.dll not found" in done.stdout
    assert "pip install --no-index --find-links wheels --constraint" in done.stdout
