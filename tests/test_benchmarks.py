"""The side-by-side benchmarks: their command line, their tables, and what they say where a peer is missing.

No peer is needed here, and nothing is timed.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from tools import tables

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "peers.py"
MODULES = ("agreement", "contenders", "gpu", "growth", "operations", "quality", "sampling", "start", "throughput")


@pytest.fixture
def side_by_side(monkeypatch):
    """The folder of benchmarks on the path, as where peers.py is run."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(f"side_by_side.{name}")


@pytest.fixture
def without_peers(monkeypatch):
    """As on a machine where no peer is installed, nor what two of them are imported with."""
    for name in ("diffusers", "denoising_diffusion_pytorch", "smalldiffusion", "accelerate"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def program(monkeypatch):
    """benchmarks/peers.py as a module."""
    spec = importlib.util.spec_from_file_location("peers_program", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec.loader.exec_module(module)
    return module


def test_every_command_has_help(program, capsys):
    for command in program.COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            program.parser().parse_args([command, "--help"])
        assert stopped.value.code == 0
        assert "--out" in capsys.readouterr().out


def test_help_names_the_commands_without_importing_torch():
    out = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("agreement", "throughput", "operations", "sampling", "quality", "growth", "start", "gpu"):
        assert command in out
        assert (ROOT / "benchmarks" / "side_by_side" / f"{command}.py").exists()


def test_a_table_is_printed_aligned_and_kept_with_what_a_reader_needs(tmp_path):
    table = tables.Table("Speed", ("who", "pictures/s", "note"), [("ours", 12345.6, None), ("x", 0.12345, "a")], ["n"])
    lines = tables.markdown(table).splitlines()
    assert lines[0] == "**Speed**"
    assert lines[4] == "| ours | 12,346     | -    |"
    assert len({len(line) for line in lines[2:6]}) == 1
    assert lines[-1] == "- n"

    path = tmp_path / "new" / "speed.json"
    tables.write(path, "python benchmarks/peers.py speed", [table], 1.25)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["tables"][0]["rows"] == [["ours", 12345.6, None], ["x", 0.12345, "a"]]
    assert kept["command"] == "python benchmarks/peers.py speed"
    assert kept["versions"].keys() >= {"python", "torch"}
    assert kept["hardware"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", kept["date"])


@pytest.mark.parametrize("name", ["diffusers", "denoising-diffusion-pytorch", "smalldiffusion"])
def test_a_missing_peer_is_one_line_that_says_what_installs_it(side_by_side, without_peers, name):
    peers = side_by_side("peers")
    with pytest.raises(peers.MissingPeerError, match=f"{name} is not installed here .*`make peers` installs it"):
        peers.peer(name)
    assert "torchvision" not in sys.modules or not hasattr(sys.modules["torchvision"], "assert_called")


@pytest.mark.parametrize("command", ["agreement", "throughput", "operations", "sampling", "quality", "start"])
def test_a_command_without_its_peers_ends_with_that_line_and_no_traceback(program, without_peers, command, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        program.main([command, "--out", str(tmp_path)])
    assert re.fullmatch(r"peers.py: \S+ is not installed here \(no module \w+\): `make peers` .*", stopped.value.code)
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_the_gpu_command_says_so(side_by_side, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert list(side_by_side("gpu").run(Namespace())) == []
    assert capsys.readouterr().out == "no GPU here\n"


def test_modules_import_without_peers_and_say_what_they_are(side_by_side, without_peers):
    for name in MODULES:
        assert side_by_side(name).__doc__, name


def test_the_list_of_peers_pins_each_and_agrees_with_the_course():
    def pins(path: Path) -> dict[str, str]:
        lines = (line.strip() for line in path.read_text().lower().splitlines())
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    peers, course = pins(ROOT / "benchmarks" / "peers.txt"), pins(ROOT / "constraints.txt")
    assert peers.keys() >= {"diffusers", "denoising-diffusion-pytorch", "smalldiffusion"}
    assert not peers.keys() & {"torch", "torchvision"}
    assert all(course.get(name, version) == version for name, version in peers.items())


def test_ours_needs_no_peer_and_trains(side_by_side):
    import torch

    contenders = side_by_side("contenders")
    net = contenders.matched("ours", (1, 8))
    entrant = contenders.ours(net, (1, 8))
    assert entrant.loss(torch.zeros(2, 1, 8, 8)).isfinite()
    assert entrant.sample(2, 3).shape == (2, 1, 8, 8)
    step = contenders.our_steps(net, torch.zeros(4, 1, 8, 8), 2)
    assert [step().step, step().step] == [1, 2]


def test_every_operation_of_a_training_has_a_kind_and_the_shares_add_up(side_by_side):
    import torch

    operations, contenders = side_by_side("operations"), side_by_side("contenders")
    assert operations.kind("aten::convolution_backward") == "convolutions, backward"
    assert operations.kind("aten::mkldnn_convolution") == "convolutions, forward"
    assert operations.kind("aten::add_") == "the rest"
    step = contenders.our_steps(contenders.matched("ours", (1, 8)), torch.zeros(8, 1, 8, 8), 8)
    found, took = operations.shares(step, 2)
    assert sum(found.values()) == pytest.approx(1)
    assert took > 0
    assert found["convolutions, backward"] > found["convolutions, forward"] > 0
