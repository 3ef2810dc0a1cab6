"""The benchmarks start, say what is missing, and store their tables. Nothing is timed, and no peer is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import tables

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def run(code: str) -> str:
    """What Python prints in the folder of benchmarks, where no peer is installed."""
    peers = ("diffusers", "denoising_diffusion_pytorch", "smalldiffusion", "azula", "accelerate")
    whole = f"import sys; sys.modules.update(dict.fromkeys({peers}))\n{code}"
    done = subprocess.run([sys.executable, "-c", whole], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_benchmark_can_be_imported():
    """Nothing else would notice that a name they import from the package has changed."""
    names = [path.stem for path in BENCHMARKS.glob("*.py")]
    names += [f"comparison.{path.stem}" for path in (BENCHMARKS / "comparison").glob("*.py")]
    run("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names))


def test_the_judge_of_captions_counts_every_kind():
    printed = run(
        "import text_to_image; text_to_image.main(['--n', '2', '--seed', '0', '--model', 'scenes_by_caption'])"
    )
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if "%" in line]
    assert rows == ["seen", "unseen triple", "unseen pair"]


def test_every_command_has_help_and_says_what_installs_a_missing_peer(tmp_path):
    """model_scaling needs no peer, and would begin."""
    code = f"""
import peers
for command in peers.COMMANDS:
    for arguments in ([command, "--help"], *([[command, "--out", {str(tmp_path)!r}]] * (command != "model_scaling"))):
        try:
            peers.main(arguments)
        except SystemExit as stop:
            print("ended:", command, stop.code)
"""
    printed = [line for line in run(code).splitlines() if line.startswith("ended:")]
    commands = ["parity", "throughput", "operations", "sampling"]
    commands += ["quality", "quality_scenes", "ablation", "model_scaling"]
    assert [line.split()[1] for line in printed if line.endswith(" 0")] == commands
    assert [line.split()[1] for line in printed if "not installed" in line and "`make peers`" in line] == commands[:-1]
    assert not list(tmp_path.iterdir())


def test_the_page_says_between_what_the_distances_of_scenes_lie():
    code = "from comparison import quality\nprint(*map(round, quality.ends(quality.TASKS['scenes'])))"
    real, noise = run(code).split()
    page = (BENCHMARKS.parent / "book" / "measured.md").read_text()
    assert f"500 training pictures have a distance of {real}, and noise has {noise}." in page


def test_our_side_of_the_comparison_trains_samples_and_is_profiled():
    code = """
import torch
from comparison import baselines, operations
net, data = baselines.matched("ours", (1, 8)), torch.zeros(8, 1, 8, 8)
ours = baselines.ours(net, (1, 8))
assert ours.loss(data).isfinite()
assert ours.sample(2, 3).shape == (2, 1, 8, 8)
found, took = operations.shares(baselines.our_step(net, data, 8), 2)
assert abs(sum(found.values()) - 1) < 1e-6
assert took > 0
assert found["convolutions, backward"] > 0
assert found["convolutions, forward"] > 0
"""
    run(code)


def test_every_fault_really_happens_and_nothing_is_lost(tmp_path):
    """One trial of each; `python benchmarks/robustness.py` makes many."""
    code = f"""
import pathlib, robustness
if __name__ == "__main__":
    for name, (_, trial) in robustness.FAULTS.items():
        (folder := pathlib.Path({str(tmp_path)!r}, name)).mkdir()
        lost = list(trial(1, folder))
        print("tried:", name, len(lost), *filter(None, lost))
"""
    done = [line.split()[1:] for line in run(code).splitlines() if line.startswith("tried:")]
    assert len(done) == 10
    assert [words for words in done if words[1:] not in (["1"], ["100"])] == []


def test_a_table_is_printed_aligned_and_stored_with_what_a_reader_needs(tmp_path):
    table = tables.Table("Speed", ("who", "pictures/s", "note"), [("ours", 12345.6, None), ("x", 0.12345, "a")], ["n"])
    lines = tables.markdown(table).splitlines()
    assert lines[0] == "**Speed**"
    assert lines[4] == "| ours | 12,346     | -    |"
    assert len({len(line) for line in lines[2:6]}) == 1
    assert lines[-1] == "- n"

    path = tmp_path / "new" / "speed.json"
    tables.write(path, "python benchmarks/peers.py speed", [table], 1.25)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["tables"][0]["rows"] == [["ours", 12345.6, None], ["x", 0.12345, "a"]]
    assert stored["command"] == "python benchmarks/peers.py speed"
    assert stored["versions"].keys() >= {"python", "torch"}
    assert stored["hardware"]
    assert stored["date"][:2] == "20"


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_stored_table_names_a_command_that_exists(path):
    command = json.loads(path.read_text(encoding="utf-8")).get("command")
    if command:
        _, script, *arguments = command.split()
        assert (BENCHMARKS.parent / script).exists()
        if script.endswith("peers.py"):
            assert (BENCHMARKS / "comparison" / f"{arguments[0]}.py").exists()
            assert arguments[0] == path.stem


def test_the_list_of_peers_pins_each_and_agrees_with_the_course():
    def pins(path: Path) -> dict[str, str]:
        lines = (line.strip() for line in path.read_text().lower().splitlines())
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    peers, course = pins(BENCHMARKS / "peers.txt"), pins(BENCHMARKS.parent / "constraints.txt")
    assert peers.keys() >= {"diffusers", "denoising-diffusion-pytorch", "smalldiffusion", "azula"}
    assert not peers.keys() & {"torch", "torchvision"}
    assert all(course.get(name, version) == version for name, version in peers.items())
