"""Checkpoints come back as they went in, and say what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import learn_diffusion
from learn_diffusion import checkpoints
from learn_diffusion.checkpoints import CheckpointError, load, read, save, to_fp16
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import MLP, VAE, Classifier, DiT, UNet
from learn_diffusion.recipes.pretrained import DATA
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow

MODELS = {
    "UNet": lambda: Denoiser(UNet(channels=3, widths=(8, 16), blocks=2, classes=4, patch_size=2), Cosine(), "v"),
    "DiT": lambda: Denoiser(DiT(width=16, depth=1, words=["a", "cat"], text=8), Cosine(), "x0"),
    "VAE": lambda: VAE(widths=(8, 16)),
    "MLP": lambda: Denoiser(MLP(dim=2, width=16, blocks=2), EDM(0.01, 40.0, 0.7), "edm"),
    "DDPM": lambda: Denoiser(MLP(width=8), DDPM(T=100, beta_1=1e-3, beta_T=0.1), "eps"),
    "VP": lambda: Denoiser(MLP(width=8), VP(0.2, 10.0), "x0"),
    "Flow": lambda: Denoiser(MLP(width=8), Flow(), "u"),
    "Classifier": lambda: Classifier(width=16),
}


@pytest.mark.parametrize("name", MODELS)
def test_comes_back_as_it_went_in(tmp_path, name):
    model = MODELS[name]().eval()
    save(tmp_path / "a.safetensors", model, data="made up", recipe={"steps": 3}, seed=7, metrics={"frechet": 1.5})
    back, metadata = load(tmp_path / "a.safetensors", device="cpu")
    assert not back.training
    for (key, w), (other, v) in zip(model.state_dict().items(), back.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(w, v)
    if isinstance(model, Denoiser):
        assert (back.schedule, back.target) == (model.schedule, model.target)
        assert back.net.config == model.net.config
    assert metadata["data"] == "made up"
    assert metadata["metrics"] == {"frechet": 1.5}
    assert metadata["package"] == learn_diffusion.__version__
    assert metadata["torch"] == torch.__version__
    assert " thread" in metadata["hardware"]


def test_a_loaded_unet_is_channels_last_as_a_new_one_is(tmp_path):
    save(tmp_path / "a", MODELS["UNet"]())
    back, _ = load(tmp_path / "a", "cpu")
    assert back.net.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    model = MODELS["UNet"]()
    state = {f"noise/{i}": torch.randn(3) for i in range(20)}
    for name in "ab":
        save(tmp_path / name, model, state, seed=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_metadata_comes_back_as_json_says_it(tmp_path):
    """Numbers as keys become strings, which sort differently: the digest has to be that of what is read."""
    save(tmp_path / "a", MODELS["MLP"](), curve={2: 0.5, 10: 0.25}, sizes=(1, 2))
    metadata = load(tmp_path / "a", "cpu")[1]
    assert (metadata["curve"], metadata["sizes"]) == ({"2": 0.5, "10": 0.25}, [1, 2])


def test_names_of_earlier_versions_are_read_as_todays(tmp_path, monkeypatch):
    """A file of a version in which MLP was Net, its width was size, and its weights and EDM had other names."""
    model, state = MODELS["MLP"](), {"weights/net.inside.weight": torch.ones(1), "random": torch.zeros(1)}
    described = checkpoints.describe(model)
    described["net"] = {"class": "Net", "arguments": {"size": 16, **model.net.config}}
    del described["net"]["arguments"]["width"]
    described["schedule"]["class"] = "Karras"
    weights = model.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "describe", lambda model: described)
        patch.setattr(checkpoints, "_misfit", lambda header, weights: "")  # that version could build it
        patch.setattr(model, "state_dict", lambda: {k.replace("proj_in", "inside"): w for k, w in weights.items()})
        save(tmp_path / "a", model, state)
    with pytest.raises(CheckpointError, match="unknown schedule 'Karras'|unknown network 'Net'"):
        read(tmp_path / "a")
    monkeypatch.setattr(checkpoints, "RENAMED", {"Net": "MLP", "size": "width", "Karras": "EDM"})
    with pytest.raises(CheckpointError, match="do not fit"):
        read(tmp_path / "a")
    monkeypatch.setattr(checkpoints, "RENAMED_WEIGHTS", {"MLP": {"inside": "proj_in"}})
    back, kept, _ = read(tmp_path / "a")
    assert checkpoints.describe(back) == checkpoints.describe(MODELS["MLP"]())
    assert all(torch.equal(back.state_dict()[name], w) for name, w in weights.items())
    assert kept.keys() == {"weights/net.proj_in.weight", "random"}


def test_further_state_is_kept_apart(tmp_path):
    state = {"random": torch.arange(5, dtype=torch.uint8), "step": torch.tensor(3)}
    save(tmp_path / "a", MODELS["MLP"](), state)
    _, back, _ = read(tmp_path / "a")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_what_was_read_no_longer_hangs_on_the_file(tmp_path):
    """Windows replaces no file that is mapped into memory: a training that goes on could not save."""
    state = {"step": torch.tensor(3.0), "moments": torch.arange(5000.0)}
    save(tmp_path / "a", MODELS["MLP"](), state)
    _, back, _ = read(tmp_path / "a")
    size = (tmp_path / "a").stat().st_size
    with open(tmp_path / "a", "r+b") as file:  # in its place, as nobody should
        file.write(bytes(size))
    assert all(torch.equal(back[key], state[key]) for key in state)
    save(tmp_path / "a", MODELS["MLP"](), back)


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    old, new = MODELS["MLP"](), MODELS["MLP"]()
    with torch.no_grad():
        next(new.parameters()).add_(1)
    save(tmp_path / "a", old)
    save(tmp_path / "b", new)
    read_bytes = Path.read_bytes

    def read_and_replace(path):
        content = read_bytes(path)
        os.replace(tmp_path / "b", path)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    back = load(tmp_path / "a", "cpu")[0].state_dict()
    assert all(torch.equal(back[name], w) for name, w in old.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_halves_the_file_and_comes_back_as_float32(tmp_path, name):
    model, state = MODELS[name]().eval(), {"count": torch.tensor(3.0)}
    save(tmp_path / "full", model, state)
    save(tmp_path / "half", model, state, half=True)
    weights, others = sum(w.numel() for w in model.state_dict().values()), 4
    assert _bytes_of_tensors(tmp_path / "full") == 4 * weights + others
    assert _bytes_of_tensors(tmp_path / "half") == 2 * weights + others
    (back, metadata), (_, kept, _) = load(tmp_path / "half", "cpu"), read(tmp_path / "half")
    assert metadata["half"] is True
    assert kept["count"].dtype == torch.float32  # only the model is rounded
    pairs = zip(
        model.state_dict().values(), back.state_dict().values(), to_fp16(model).state_dict().values(), strict=True
    )
    for w, v, promised in pairs:
        assert v.dtype == w.dtype
        assert torch.equal(v, w.half().float())
        assert torch.equal(v, promised)


def _bytes_of_tensors(path):
    content = path.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


def test_a_full_file_does_not_say_half_and_halved_leaves_the_model_alone(tmp_path):
    model = MODELS["MLP"]()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    to_fp16(model)
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    save(tmp_path / "a", model)
    assert "half" not in load(tmp_path / "a", "cpu")[1]


def test_a_half_file_saved_again_from_its_own_header_stays_half(tmp_path):
    save(tmp_path / "a", MODELS["UNet"](), half=True, seed=3)
    save(tmp_path / "b", *load(tmp_path / "a", "cpu")[:1], **load(tmp_path / "a", "cpu")[1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_precision_is_as_strict(tmp_path, monkeypatch):
    """A file that says half but holds float32 does not fit its own header, nor does one of two precisions."""
    model = MODELS["MLP"]()
    with monkeypatch.context() as patch:
        patch.setattr("learn_diffusion.checkpoints._to_half", lambda name, w: w)
        with pytest.raises(ValueError, match="is torch.float32 .*, expected torch.float16"):
            save(tmp_path / "liar", model, half=True)
        patch.setattr("learn_diffusion.checkpoints._misfit", lambda header, weights: "")
        save(tmp_path / "liar", model, half=True)
    with pytest.raises(CheckpointError, match="is torch.float32 .*, expected torch.float16"):
        load(tmp_path / "liar", "cpu")
    model.net.proj_in.half()
    with pytest.raises(ValueError, match="is torch.float.*, expected torch.float"):  # some weights halved, others not
        save(tmp_path / "mixed", model)


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    model = MODELS["MLP"]()
    name, w = next(iter(model.named_parameters()))
    with torch.no_grad():
        w.view(-1)[0] = 70_000
    with pytest.raises(ValueError, match=f"model: '{name}' holds 7e\\+04, but half precision ends at 65504"):
        save(tmp_path / "a", model, half=True)
    assert not list(tmp_path.iterdir())
    with torch.no_grad():
        w.view(-1)[0] = 65_504
    save(tmp_path / "a", model, half=True)


def test_reading_does_not_wait_for_pytorchs_compiler():
    """Which takes seconds to import, and a folder for temporary files that not every machine has."""
    program = (
        "import sys; from learn_diffusion import checkpoints\n"
        "for path in sys.argv[1:]: checkpoints.load(path, 'cpu')\n"
        "print('torch._dynamo' in sys.modules)"
    )
    shipped = [str(path) for path in sorted(DATA.glob("*.safetensors")) if path.stem != "stable_scenes"]  # diffusers'
    done = subprocess.run([sys.executable, "-c", program, *shipped], capture_output=True, text=True, check=True)
    assert shipped
    assert done.stdout == "False\n"


def test_any_safetensors_reader_can_read_the_header(tmp_path):
    save(tmp_path / "a", MODELS["Flow"]())
    with safe_open(tmp_path / "a", "pt") as file:
        header = json.loads(file.metadata()["learn_diffusion"])
    assert header["model"]["schedule"] == {"class": "Flow", "arguments": {}}
    assert header["model"]["target"] == "u"


def test_no_pickle_is_ever_loaded(tmp_path):
    """Loading works with the pickle module taken away."""
    save(tmp_path / "a", MODELS["UNet"]())
    code = (
        "import sys, pickle, torch\n"
        "def forbidden(*args, **kwargs): raise AssertionError('pickle')\n"
        "from learn_diffusion.checkpoints import load\n"
        "pickle.load = pickle.loads = torch.load = torch.serialization.load = forbidden\n"
        "load(sys.argv[1], 'cpu')"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], check=True)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.safetensors")), ids=lambda path: path.stem)
def test_what_ships_says_where_it_comes_from(path):
    model, metadata = load(path, "cpu")
    assert metadata["recipe"] == path.stem
    assert {"data", "steps", "seed", "metrics", "seconds", "hardware", "package", "torch"} <= metadata.keys()
    assert not isinstance(model, Denoiser) or len(metadata["data_shape"]) == 3  # else nobody knows what size to draw
    assert path.name in (DATA / "README.md").read_text(encoding="utf-8")


def test_ctrl_c_while_a_file_is_written_leaves_nothing_beside_it(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a", MODELS["MLP"]())
    assert not list(tmp_path.iterdir())


def test_a_disk_that_gives_back_other_bytes_keeps_the_old_file(tmp_path, monkeypatch):
    save(tmp_path / "a", MODELS["MLP"]())
    before = (tmp_path / "a").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: before[:-1] + b"?")
        with pytest.raises(OSError, match="a: could not write .* MB .*it reads back differently"):
            save(tmp_path / "a", MODELS["MLP"]())
    assert (tmp_path / "a").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_without_locks_is_used_without(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(checkpoints.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(checkpoints.FileLock, "acquire", refuse)
    with checkpoints.file_lock("checkpoint", tmp_path / "a"):
        pass
