"""Kills, full disks, two writers and damaged files cost nothing but the steps since the last save.

benchmarks/robustness.py does the same at random moments, many times, and tests/test_training.py kills a training.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from learn_diffusion import checkpoints
from learn_diffusion.checkpoints import CheckpointError, load, save
from learn_diffusion.datasets.image_files import image_folder
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import MLP, UNet
from learn_diffusion.schedules import Cosine

ROOT = Path(__file__).resolve().parent.parent
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows either ends a process at once
PROFILE = settings(derandomize=True, database=None, deadline=None, max_examples=100)
TINY = """
import torch
from learn_diffusion import training
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine

def tiny(work=None, **options):
    torch.manual_seed(0)
    model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
    *_, end = training.train(model, small_digits()[0], 12, batch=8, checkpoint=work, checkpoint_every=2)
    return end.ema, {}
"""
KILLED = """
import os, signal, sys
from learn_diffusion import recipes
from learn_diffusion.recipes.run import run_recipe
saves, replace = int(sys.argv[2]), os.replace

def killed(part, path):  # while it saves the work file, after so many times
    global saves
    saves -= str(path).endswith(".work")
    if saves < 0:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    replace(part, path)

os.replace = killed
torch.set_num_threads(int(sys.argv[3]))
recipes.RECIPES["tiny"] = tiny
run_recipe("tiny", sys.argv[1])
"""


def test_a_recipe_killed_while_it_saves_resumes_to_the_same_weights(tmp_path):
    def run(saves: int) -> int:
        arguments = [sys.executable, "-c", TINY + KILLED, path, str(saves), str(torch.get_num_threads())]
        return subprocess.run(arguments, stdout=subprocess.DEVNULL).returncode

    path = tmp_path / "a"
    assert run(2) not in (0, 1)
    assert checkpoints.read(tmp_path / "a.work")[2]["training"]["step"] == 4
    assert list(tmp_path.glob("*.part"))  # what the next run has to remove
    assert run(99) == 0
    assert list(tmp_path.iterdir()) == [path]
    exec(TINY, undisturbed := {})
    back = load(path, "cpu")[0].state_dict()
    assert all(torch.equal(back[name], w) for name, w in undisturbed["tiny"]()[0].state_dict().items())


def test_ctrl_c_in_a_training_is_one_line_and_leaves_nothing_half_written(tmp_path):
    """As the terminal sends it, in the middle of the installed command."""
    if os.name != "posix":
        pytest.skip("signals as on Linux and macOS")
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
    hear = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background are deaf to it
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen([*command, "--out", str(tmp_path / "a")], stderr=said, cwd=ROOT, preexec_fn=hear)
        try:
            deadline = time.monotonic() + 120
            while "/100000" not in (tmp_path / "said").read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
    text = (tmp_path / "said").read_text()
    assert text.endswith("\nlearn-diffusion: stopped\n")
    assert "Traceback" not in text
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".lock", ".part") or path.name == "a"]


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource", reason="limits of file size are those of Linux and macOS")
    save(path := tmp_path / "a", MLP(width=8))
    old, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) + 1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a: could not write 0.\d MB \(File too large\)"):
            save(path, MLP(width=64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_locked_for_other_processes_and_never_by_a_dead_one(tmp_path):
    path = tmp_path / "a"
    code = "import os, sys; from learn_diffusion import checkpoints\n"
    code += f"with checkpoints.file_lock('checkpoint', sys.argv[1]): os.kill(os.getpid(), {int(KILL)})"
    with checkpoints.file_lock("checkpoint", path), checkpoints.file_lock("work", path):  # nested, as in a recipe
        other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        assert f"ValueError: checkpoint: another process is writing {path}; wait for it" in other.stderr
    assert not list(tmp_path.iterdir())
    dead = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert dead.returncode != 0
    assert dead.stderr == ""
    (tmp_path / "a.0123abcd.part").touch()
    assert (tmp_path / "a.lock").exists()  # what the dead one left
    with checkpoints.file_lock("checkpoint", path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_reader_of_a_file_with_two_writers_sees_one_of_both(tmp_path):
    save(path := tmp_path / "a", MLP(width=8))

    def write(width: int) -> None:
        for _ in range(20):
            save(path, MLP(width=width))

    with ThreadPoolExecutor() as pool:
        writers, seen = [pool.submit(write, width) for width in (16, 24)], set()
        while not all(writer.done() for writer in writers):
            seen.add(load(path, "cpu")[0].config["width"])
        assert [writer.result() for writer in writers] == [None, None]
    assert seen <= {8, 16, 24}
    assert list(tmp_path.iterdir()) == [path]


# ---- damaged files: refused, and nothing else happens


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    save(path := tmp_path_factory.mktemp("files") / "a", Denoiser(MLP(width=8, blocks=1), Cosine(), "v"), seed=1)
    return path, path.read_bytes()


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^.*a: ") as error:
        load(path, "cpu")
    return str(error.value)


@PROFILE
@given(data=st.data())
def test_a_checkpoint_with_missing_or_wrong_bytes_is_refused(good, data):
    path, content = good
    at = data.draw(st.integers(0, len(content) - 1))
    refused(path, content[:at])
    for bit in data.draw(st.sets(st.integers(0, 7), min_size=1)):
        content = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
    refused(path, content)
    refused(path, data.draw(st.binary(max_size=500)))  # foreign


def test_headers_that_are_deep_or_name_huge_sizes_are_refused(good):
    deep = [b"[" * 10**5, b'{"a":' * 10**5, b'{"__metadata__": {"learn_diffusion": "%s"}}' % (b"[" * 10**5)]
    huge = b'{"w": {"dtype": "F32", "shape": [1000000000, 1000000000], "data_offsets": [0, 4]}}'
    for text in (*deep, huge, pickle.dumps(print)):
        for length in (len(text), 0, 10**8, 2**63):
            content = length.to_bytes(8, "little") + text + bytes(4)
            assert "no whole safetensors file" in refused(good[0], content)


@pytest.mark.parametrize(
    ("key", "value"), [("attentions", 10**9), ("attentions", 10**30), ("channels", 10**6), ("text", 10**9)]
)
def test_a_header_that_asks_for_a_giant_network_is_refused_before_memory_is_taken(tmp_path, key, value, monkeypatch):
    model = Denoiser(UNet(widths=(8, 8)), Cosine(), "v")
    model.net.config[key] = value
    with monkeypatch.context() as patch:  # save itself would refuse to write it
        patch.setattr(checkpoints, "_misfit", lambda header, weights: "")
        save(tmp_path / "a", model)
    built, build = [], checkpoints._build
    monkeypatch.setattr(checkpoints, "_build", lambda spec: built.append(torch.empty(()).device.type) or build(spec))
    refused(tmp_path / "a", (tmp_path / "a").read_bytes())
    assert set(built) == {"meta"}
    assert torch.is_grad_enabled()


@PROFILE
@given(data=st.data(), kind=st.sampled_from(["png", "jpeg", "webp"]))
def test_a_damaged_picture_is_skipped_or_read_and_the_good_one_beside_it_is_read(tmp_path_factory, data, kind):
    folder, file = tmp_path_factory.mktemp("pictures"), io.BytesIO()
    picture = Image.frombytes("RGB", (24, 16), random.Random(0).randbytes(24 * 16 * 3))
    picture.save(folder / "good.png")
    picture.save(file, kind)
    content = bytearray(file.getvalue())
    for at in data.draw(st.sets(st.integers(0, len(content) - 1), max_size=5)):
        content[at] ^= data.draw(st.integers(1, 255))
    (folder / "damaged").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        images = image_folder(folder, 16)
    assert images.shape == (2 - len(said), 3, 16, 16)
    assert all("1 of 2 files skipped: 'damaged'" in str(each.message) for each in said)
    assert (images.abs() <= 1).all()
