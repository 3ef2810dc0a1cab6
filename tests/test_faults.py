"""Faults that really happen, to processes of their own, a few of each; benchmarks/faults.py has many, and more kinds.

Beside these, tests/test_training.py kills a training with kill -9 and test_download.py breaks downloads off.
"""

from __future__ import annotations

import functools
import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("resource", reason="limits of memory and of file size are those of Linux and macOS")
sys.path.insert(0, str(ROOT / "benchmarks"))
import faults  # noqa: E402
import forged  # noqa: E402

from learn_diffusion import checkpoints, training  # noqa: E402
from learn_diffusion.datasets import image_files  # noqa: E402
from learn_diffusion.datasets.digits import small_digits  # noqa: E402
from learn_diffusion.denoiser import Denoiser  # noqa: E402
from learn_diffusion.nets import MLP, UNet  # noqa: E402
from learn_diffusion.schedules import Cosine  # noqa: E402


@pytest.mark.parametrize("name", ["kill_recipe", "full_disk", "two_trainings", "out_of_memory"])
def test_nothing_is_lost(tmp_path, name):
    found = list(faults.FAULTS[name](2, tmp_path))
    assert len(found) >= 2
    assert [wrong for wrong in found if wrong] == []


def test_a_folder_that_cannot_be_written_is_named_and_left_as_it_was(tmp_path):
    if not faults.may_mount(tmp_path) and faults.os.geteuid() == 0:
        pytest.skip("root may write anywhere, and this one may not mount a disk")
    assert list(itertools.islice(faults.read_only(3, tmp_path), 2)) == ["", ""]


def test_forged_files_load_or_are_refused_and_do_nothing_else(tmp_path):
    found = list(forged.trials(200, tmp_path))
    assert len(found) == 200
    assert [wrong for wrong in found if wrong] == []
    _, kinds, ends = map(set, zip(*(line.split() for line in (tmp_path / "log").read_text().splitlines()), strict=True))
    assert ends == {"loads", "refused"}  # both came up, and every kind of file
    assert kinds == set(forged.contents(tmp_path / "good"))


def test_the_judge_of_forgeries_sees_code_that_runs_and_errors_that_are_not_ours(tmp_path, monkeypatch):
    """In this process, without limits: a good file under a loader that does what it should not."""
    (tmp_path / "good").mkdir()
    forged.originals(tmp_path / "good")

    def loader(path, device):
        raise KeyError("not ours")

    monkeypatch.setattr(checkpoints, "load", loader)
    with pytest.raises(KeyError):
        forged.opened("labels", tmp_path / "good" / "labels")
    for images in (torch.zeros(1, 3, 16, 16), torch.full((2, 3, 16, 16), 1.5), torch.zeros(2, 3, 16, 16) / 0):
        monkeypatch.setattr(image_files, "image_folder", lambda path, size, images=images: images)
        with pytest.raises(AssertionError):
            forged.opened("jpeg", tmp_path / "good" / "jpeg")


def test_ctrl_c_in_a_training_is_one_line_and_the_same_command_goes_on(tmp_path):
    """As the terminal sends it, in the middle of the installed command."""
    command = [
        sys.executable,
        "-m",
        "learn_diffusion",
        "train",
        "digit_classifier",
        "--steps",
        "100000",
        "--device",
        "cpu",
    ]
    command += ["--out", str(tmp_path / "a")]
    hear = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background are deaf to it
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(command, stderr=said, cwd=ROOT, preexec_fn=hear)
        try:
            deadline = time.monotonic() + 60
            while "/100000" not in (tmp_path / "said").read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
    text = (tmp_path / "said").read_text()
    assert text.endswith("\nlearn-diffusion: stopped\n")
    assert "Traceback" not in text
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.glob("*.lock")) + list(tmp_path.glob("*.part"))


# ---- one process at a time


def test_a_file_is_locked_for_other_processes_only_and_never_by_a_dead_one(tmp_path):
    path = tmp_path / "a"
    code = "import sys, os, signal; from learn_diffusion import checkpoints\n"
    code += (
        "with checkpoints.file_lock('checkpoint', sys.argv[1]): os.kill(os.getpid(), getattr(signal, 'SIGKILL', 15))"
    )
    with checkpoints.file_lock("checkpoint", path):
        with checkpoints.file_lock("work", path):  # as runs.make and train do
            pass
        other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        assert f"ValueError: checkpoint: another process is writing {path}; wait for it" in other.stderr
    assert not list(tmp_path.iterdir())
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -signal.SIGKILL
    (tmp_path / "a.0123abcd.part").touch()
    assert (tmp_path / "a.lock").exists()  # what the dead one left
    with checkpoints.file_lock("checkpoint", path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_disk_without_locks_is_used_without(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(checkpoints.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(checkpoints.FileLock, "acquire", refuse)
    with checkpoints.file_lock("checkpoint", tmp_path / "a"):
        pass


def test_ctrl_c_while_a_file_is_written_leaves_nothing_beside_it(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path / "a", MLP(width=8))
    assert not list(tmp_path.iterdir())


# ---- memory


def test_out_of_memory_gives_its_memory_back_and_leaves_other_errors_alone(monkeypatch):
    """The batch that is named was tried; on a processor, which is not tried, half is advised."""

    def first(batch, accumulate=1):
        model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
        return next(training.train(model, small_digits()[0], 1, batch=batch, accumulate=accumulate))

    real = training.loss

    def small(model, x0, **options):
        if len(x0) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(model, x0, **options)

    monkeypatch.setattr(training, "loss", small)
    with pytest.raises(ValueError, match="batch: 64 does not fit into the memory of .*; try 32, or accumulate=2$"):
        first(64)
    with pytest.raises(ValueError, match="; try 35, or accumulate=6$"):
        first(70, accumulate=3)
    monkeypatch.setattr(training, "ENDS_PROCESS", set())
    with pytest.raises(
        ValueError, match="batch: 64 does not fit into the memory of .*; 16 does, and so does accumulate=4$"
    ) as said:
        first(64)
    assert said.value.__context__ is None  # it would hold on to the tensors of the step that failed
    assert first(16).step == first(64, accumulate=4).step == 1
    with pytest.raises(ValueError, match="; 36 does, and so does accumulate=6$"):  # parts of 12 rows
        first(70, accumulate=3)
    assert first(36, accumulate=3).step == first(70, accumulate=6).step == 1
    monkeypatch.setattr(training, "loss", lambda *arguments, **options: small(None, range(21)))
    with pytest.raises(ValueError, match="not even one row at a time does"):
        first(1)

    def wrong(*arguments, **options):
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(training, "loss", wrong)
    with pytest.raises(RuntimeError, match="size mismatch"):
        first(64)


# ---- forged files, one by one: what the forger found, or would have to be lucky to find


def test_a_header_that_asks_for_a_billion_layers_is_refused_at_once(tmp_path):
    model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
    model.net.config["attentions"] = 10**9
    checkpoints.save(tmp_path / "a", model)
    begun = time.perf_counter()
    with pytest.raises(checkpoints.CheckpointError, match="it has more parts than the file has tensors"):
        checkpoints.load(tmp_path / "a", "cpu")
    assert time.perf_counter() - begun < 5
    assert torch.is_grad_enabled()


def test_a_forged_work_file_is_no_training(tmp_path):
    forged.trained(tmp_path / "work")
    model, state, metadata = checkpoints.read(tmp_path / "work")
    broken = {
        "step": (state, {"training": metadata["training"] | {"step": 10}}),
        "KeyError": ({k: w for k, w in state.items() if k != "random"}, {}),
        "moments": (state | {"adam/0/exp_avg": torch.zeros(1)}, {}),
        "mt19937": (state | {"random": torch.zeros_like(state["random"])}, {}),
    }
    for said, (other, changed) in broken.items():
        checkpoints.save(tmp_path / "work", model, other, **metadata | changed)
        with pytest.raises(checkpoints.CheckpointError, match=f"work: holds no whole state of a training: .*{said}"):
            forged.trained(tmp_path / "work")
    checkpoints.save(tmp_path / "work", model, state, training=[])
    with pytest.raises(ValueError, match="holds a model, not a training"):
        forged.trained(tmp_path / "work")
