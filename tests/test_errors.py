"""Bad input: one clear error each, which names the argument and says what was expected."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from learn_diffusion import checkpoints, devices, plots
from learn_diffusion.checkpoints import CheckpointError, load, save
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.image_files import image_folder
from learn_diffusion.datasets.toy2d import gaussians, moons, spiral
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.metrics import frechet, nn_distance_ratio
from learn_diffusion.nets import MLP, UNet
from learn_diffusion.process import from_x0, renoise
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow
from learn_diffusion.training import EMA, loss, train

PATH = Cosine()
PICTURES = torch.zeros(4, 1, 8, 8)
NOISE = torch.zeros(4, 1, 8, 8)


def tiny(**kwargs) -> Denoiser:
    return Denoiser(UNet(widths=(8, 8), **kwargs), PATH, "v")


def exact(x, t):
    return from_x0(x, torch.zeros_like(x), *PATH.at(t, x))


def run(sampler, x=NOISE, ts=None, **kwargs):
    return final_sample(sampler(exact, PATH, x, PATH.timesteps(4) if ts is None else ts, **kwargs))


def first(generator):
    return next(iter(generator))


CASES = {
    # shapes, types and ranges of data
    "uint8 pictures": (lambda: PATH.add_noise(PICTURES.to(torch.uint8), NOISE, 0.5), TypeError, "x0: .*127.5 - 1"),
    "int pictures": (lambda: PATH.add_noise(PICTURES.long(), NOISE, 0.5), TypeError, "x0: expected a float tensor"),
    "numpy pictures": (lambda: PATH.add_noise(np.zeros((4, 1)), NOISE, 0.5), TypeError, "x0: .*ndarray"),
    "eps of another shape": (lambda: PATH.add_noise(PICTURES, NOISE[:2], 0.5), ValueError, "eps: expected the shape"),
    "pictures in [0, 255]": (lambda: first(train(tiny(), PICTURES + 255, 1)), ValueError, r"data: .*\[-1, 1\].*255"),
    "pictures in [0, 2]": (lambda: first(train(tiny(), PICTURES + 2, 1)), ValueError, r"data: .*x \* 2 - 1"),
    "NaN pictures": (lambda: first(train(tiny(), PICTURES / 0, 1)), ValueError, "data: expected finite"),
    "uint8 data": (lambda: first(train(tiny(), PICTURES.to(torch.uint8), 1)), TypeError, "data: .*uint8"),
    "no data": (lambda: first(train(tiny(), PICTURES[:0], 1)), ValueError, "data: expected at least one"),
    "one picture": (lambda: first(train(tiny(), PICTURES[0], 1)), ValueError, r"data: .*\(B, C, H, W\)"),
    "loss of uint8": (lambda: loss(tiny(), PICTURES.to(torch.uint8), torch.rand(4)), TypeError, "x0: .*uint8"),
    "loss out of range": (lambda: loss(tiny(), PICTURES - 3, torch.rand(4)), ValueError, r"x0: .*\[-1, 1\]"),
    "picture the UNet cannot halve": (lambda: tiny()(torch.zeros(2, 1, 7, 7), 0.5), ValueError, "divisible by 2"),
    "channels": (lambda: tiny()(torch.zeros(2, 3, 8, 8), 0.5), ValueError, r"x: this network takes \(B, 1, H, W\)"),
    "points for an MLP": (lambda: MLP()(torch.zeros(2, 3), torch.zeros(2)), ValueError, r"x: this .*\(B, 2\)"),
    # noise levels
    "t above the path": (lambda: PATH.add_noise(PICTURES, NOISE, 1.5), ValueError, r"t: expected .*\[0, 1\], got 1.5"),
    "t below the path": (lambda: PATH.add_noise(PICTURES, NOISE, -0.1), ValueError, "t: expected .*got -0.1"),
    "a step index for t": (lambda: DDPM().add_noise(PICTURES, NOISE, 500), ValueError, "t: expected .*got 500"),
    "NaN for t": (lambda: PATH.add_noise(PICTURES, NOISE, float("nan")), ValueError, "t: expected .*nan"),
    "t of another batch": (lambda: PATH.add_noise(PICTURES, NOISE, torch.rand(3)), ValueError, r"t: .*\(4,\)"),
    "t for a denoiser": (lambda: tiny()(NOISE, 2.0), ValueError, "t: expected noise levels"),
    "t for the loss": (lambda: loss(tiny(), PICTURES, torch.full((4,), 2.0)), ValueError, "t: expected noise levels"),
    "sigma above EDM's": (lambda: EDM().add_noise(PICTURES, NOISE, 100.0), ValueError, r"\[0, 80\], got 100"),
    "renoise backwards": (lambda: renoise(PATH, NOISE, 0.6, 0.4), ValueError, "t: expected a level noisier than s"),
    "an increasing grid": (lambda: run(ddim, ts=PATH.timesteps(4).flip(0)), ValueError, "ts: expected .*decrease"),
    "an increasing grid, heun": (lambda: run(heun, ts=PATH.timesteps(4).flip(0)), ValueError, "ts: expected .*decrease"),
    "an increasing grid, 2m": (lambda: run(dpmpp_2m, ts=PATH.timesteps(4).flip(0)), ValueError, "ts: expected .*decrease"),
    "a repeated level": (lambda: run(ddim, ts=torch.tensor([1.0, 0.5, 0.5])), ValueError, "ts: expected .*decrease"),
    "a grid beyond the path": (lambda: run(ddim, ts=torch.tensor([2.0, 0.5])), ValueError, "ts: expected noise levels"),
    "a grid of one level": (lambda: run(ddim, ts=torch.tensor([1.0])), ValueError, "ts: expected at least two"),
    "a grid of step indices": (lambda: run(ddim, ts=torch.arange(4, -1, -1)), TypeError, "ts: expected a float"),
    "renoise beyond the path": (lambda: renoise(PATH, NOISE, 0.2, 3.0), ValueError, r"t: expected .*\[0, 1\], got 3"),
    "renoise from pure noise": (lambda: renoise(PATH, NOISE, 1.0, 1.0), ValueError, "s: expected a level with data"),
    "renoise uint8": (lambda: renoise(PATH, NOISE.to(torch.uint8), 0.2, 0.4), TypeError, "x: expected a float"),
    "renoise, another batch": (lambda: renoise(PATH, NOISE, torch.rand(3), 1.0), ValueError, r"s: .*\(4,\)"),
    "NaN in a grid": (lambda: run(ddim, ts=torch.tensor([1.0, float("nan"), 0.0])), ValueError, "ts: expected .*nan"),
    "a list for a grid": (lambda: run(ddim, ts=[1.0, 0.0]), TypeError, "ts: expected a float tensor, got list"),
    "NaN noise": (lambda: run(ddim, x=NOISE / 0), ValueError, "x: expected finite"),
    "steps of a grid": (lambda: PATH.timesteps(0), ValueError, "steps: expected a whole number"),
    "no steps": (lambda: final_sample(iter([])), ValueError, "states: expected"),
    "uint8 noise": (lambda: run(ddim, x=NOISE.to(torch.uint8)), TypeError, "x: expected a float"),
    "eta": (lambda: run(ddim, eta=1.5), ValueError, "eta: expected a number from 0"),
    # parts
    "unknown target": (lambda: Denoiser(UNet(), PATH, "noise"), ValueError, "target: expected one of 'x0', 'eps'"),
    "a name for a schedule": (lambda: Denoiser(UNet(), "cosine", "v"), TypeError, "schedule: expected a Schedule"),
    "eps at zero SNR": (lambda: Denoiser(UNet(), Flow(), "eps")(NOISE, 1.0), ValueError, "says nothing .*'v' or 'u'"),
    "DDPM T": (lambda: DDPM(T=0), ValueError, "T: expected a whole number"),
    "DDPM T, a giant": (lambda: DDPM(T=10**12), ValueError, "T: expected at most 1000000 steps, got 1000000000000$"),
    "DDPM, a text": (lambda: DDPM(beta_1="1e-4"), ValueError, "beta_1: expected one finite number, got '1e-4'"),
    "DDPM, NaN": (lambda: DDPM(beta_T=float("nan")), ValueError, "beta_T: expected one finite number, got nan"),
    "DDPM order": (lambda: DDPM(beta_1=0.5, beta_T=0.1), ValueError, "beta_1, beta_T: expected"),
    "VP": (lambda: VP(beta_min=-1), ValueError, "beta_min: expected a number above 0"),
    "VP without end": (lambda: VP(beta_max=float("inf")), ValueError, "beta_max: expected one finite"),
    "VP beyond floats": (lambda: VP(beta_max=10**400), ValueError, "beta_max: expected one finite"),
    "EDM without end": (lambda: EDM(sigma_max=float("inf")), ValueError, "sigma_max: expected one finite number"),
    "EDM": (lambda: EDM(sigma_min=2, sigma_max=1), ValueError, "sigma_max: expected more than"),
    "clip": (lambda: clip_x0(exact, PATH, 1, -1), ValueError, "lo, hi: expected lo < hi"),
    "labels for a net without": (lambda: tiny()(NOISE, 0.5, torch.zeros(4).long()), ValueError, "cond: .*classes=0"),
    "a label out of range": (lambda: tiny(classes=3)(NOISE, 0.5, torch.full((4,), 3)), ValueError, "cond: .*0 to 2"),
    "labels of another batch": (lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(3).long()), ValueError, "y: .*4 rows"),
    "float labels": (lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(4)), ValueError, "cond: expected 4 whole"),
    "keep of another batch": (
        lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(4).long(), torch.ones(3).bool()),
        ValueError, r"cond_mask: expected \(4,\) bool, got torch.bool of shape \(3,\)",
    ),
    "float keep": (
        lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(4).long(), torch.ones(4)),
        ValueError, r"cond_mask: expected \(4,\) bool, got torch.float32",
    ),
    "float64 pictures": (lambda: tiny()(NOISE.double(), 0.5), TypeError, "x: expected torch.float32"),
    # training
    "float64 data": (lambda: first(train(tiny(), PICTURES.double(), 1)), TypeError, "data: expected torch.float32"),
    "a list of data": (lambda: first(train(tiny(), [0.0], 1)), TypeError, "data: expected a float tensor, got list"),
    "a bare network": (lambda: first(train(UNet(), PICTURES, 1)), TypeError, "model: expected a Denoiser, got UNet"),
    "loss, t of another batch": (lambda: loss(tiny(), PICTURES, torch.rand(3)), ValueError, r"t: .*\(4,\)"),
    "loss, eps of another shape": (
        lambda: loss(tiny(), PICTURES, torch.rand(4), eps=NOISE[:1]),
        ValueError, r"eps: expected the shape of x0, \(4, 1, 8, 8\), got \(1, 1, 8, 8\)",
    ),
    "loss, whole numbers for eps": (
        lambda: loss(tiny(), PICTURES, torch.rand(4), eps=NOISE.long()), TypeError, "eps: expected a float tensor",
    ),
    "loss, a number for eps": (lambda: loss(tiny(), PICTURES, torch.rand(4), eps=0.5), TypeError, "eps: .*got float"),
    "halflife of 0": (lambda: first(train(tiny(), PICTURES, 1, halflife=0)), ValueError, "halflife: expected"),
    "learning rate": (lambda: first(train(tiny(), PICTURES, 1, lr=-1.0)), ValueError, "lr: expected a learning rate"),
    "NaN learning rate": (lambda: first(train(tiny(), PICTURES, 1, lr=float("nan"))), ValueError, "lr: expected"),
    "label drop": (lambda: first(train(tiny(), PICTURES, 1, cond_drop=2.0)), ValueError, "cond_drop: expected"),
    "a list of labels": (
        lambda: first(train(tiny(classes=2), PICTURES, 1, labels=[0, 1, 0, 1])),
        TypeError, "labels: expected a tensor of 4 whole numbers, got list",
    ),
    "a number for a hint": (
        lambda: first(train(tiny(), PICTURES, 1, image_cond=3)),
        TypeError, r"image_cond: expected a tensor, a function of \(x0, generator\) or None, got int",
    ),
    "labels for a training without": (
        lambda: first(train(tiny(), PICTURES, 1, labels=torch.zeros(4).long())), ValueError, "cond: .*classes=0",
    ),
    "labels out of range": (
        lambda: first(train(tiny(classes=2), PICTURES, 1, labels=torch.full((4,), 7))), ValueError, "labels from 0",
    ),
    "steps": (lambda: first(train(tiny(), PICTURES, 0)), ValueError, "steps: expected a whole number"),
    "batch": (lambda: first(train(tiny(), PICTURES, 1, batch=0)), ValueError, "batch: expected a whole number"),
    "grad_accum_steps": (lambda: first(train(tiny(), PICTURES, 1, grad_accum_steps=0)), ValueError, "grad_accum_steps: expected a whole"),
    "half a part": (lambda: first(train(tiny(), PICTURES, 1, grad_accum_steps=2.5)), ValueError, "grad_accum_steps: .*got 2.5"),
    "more parts than rows": (
        lambda: first(train(tiny(), PICTURES, 1, batch=4, grad_accum_steps=5)),
        ValueError, "batch: expected at least a row for each of 1 process in 5 parts, got 4; grad_accum_steps says how many",
    ),
    "checkpoint_every": (lambda: first(train(tiny(), PICTURES, 1, checkpoint_every=0)), ValueError, "checkpoint_every: expected a whole number"),
    "too few labels": (
        lambda: first(train(tiny(classes=2), PICTURES, 1, labels=torch.zeros(3).long())),
        ValueError, "labels: expected 4",
    ),
    "halflife": (lambda: EMA(tiny(), halflife=0), ValueError, "halflife: expected"),
    "device": (lambda: first(train(tiny(), PICTURES, 1, device="tpu3")), ValueError, "device: expected"),
    "absent device": (lambda: devices.resolve_device("xpu"), ValueError, "device: expected one this machine has"),
    # datasets and metrics
    "split": (lambda: small_digits("test"), ValueError, "split: expected one of 'all', 'train', 'held_out'"),
    "gaussians": (lambda: gaussians(0), ValueError, "n: expected a whole number"),
    "moons": (lambda: moons(-1), ValueError, "n: expected a whole number"),
    "spiral": (lambda: spiral(2.5), ValueError, "n: expected a whole number"),
    "folder of nobody": (lambda: image_folder("~nobody-there/a", 8), FileNotFoundError, "path: .*there/a does not"),
    "one feature row": (lambda: frechet(torch.zeros(1, 3), torch.zeros(5, 3)), ValueError, "a: expected at least 2"),
    "other features": (lambda: frechet(torch.zeros(5, 3), torch.zeros(5, 4)), ValueError, "b: expected 3 features"),
    "NaN features": (lambda: frechet(torch.zeros(5, 3) / 0, torch.zeros(5, 3)), ValueError, "a: expected finite"),
    "no samples": (lambda: nn_distance_ratio(NOISE[:0], NOISE, NOISE), ValueError, "samples: expected at least one"),
    "no alt text": (lambda: plots.image_grid(NOISE, alt=" "), ValueError, "alt: expected words"),
    "NaN picture": (lambda: plots.image_grid(NOISE / 0, alt="noise"), ValueError, "images: expected numbers"),
    "flat picture": (lambda: plots.image_grid(torch.zeros(8, 8), alt="noise"), ValueError, "images: expected pictures"),
    "unknown recipe": (lambda: pretrained_path("cats"), FileNotFoundError, "cats.safetensors: not there"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names_the_argument(case):
    call, kind, message = CASES[case]
    with pytest.raises(kind, match=message):
        call()


def test_nan_loss_stops_the_training_and_keeps_the_checkpoint(tmp_path):
    path, model = tmp_path / "run.safetensors", tiny()
    steps = train(model, PICTURES, 10, checkpoint=path, checkpoint_every=2, batch=4)
    for _ in range(4):
        next(steps)
    with torch.no_grad():
        model.net.conv_out.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="loss: expected a finite number, got nan at step 5"):
        list(steps)
    kept, metadata = load(path)
    assert metadata["training"]["step"] == 4
    assert all(torch.isfinite(w).all() for w in kept.parameters())


@pytest.fixture
def shelf(tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, tiny(), data="none")
    return path


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors: no such checkpoint"):
        load(tmp_path / "nothing.safetensors")


def test_truncated_checkpoint(shelf):
    content = shelf.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1):
        shelf.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model.safetensors: no whole safetensors file"):
            load(shelf)


def test_altered_checkpoint(shelf):
    content = bytearray(shelf.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    shelf.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.safetensors: altered since it was written"):
        load(shelf)


def test_foreign_checkpoint(shelf):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, shelf)
    with pytest.raises(CheckpointError, match="not one that learn_diffusion wrote"):
        load(shelf)
    shelf.write_bytes(b"PK\x03\x04 a zip file, as torch.save writes it")
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        load(shelf)


def test_too_new_checkpoint(shelf, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    save(shelf, tiny())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="written in format 99, this version reads 1; update learn_diffusion"):
        load(shelf)


def test_checkpoint_that_names_an_unknown_class(shelf, monkeypatch):
    class Evil(torch.nn.Linear):
        arguments = {"in_features": 1, "out_features": 1}  # noqa: RUF012

    monkeypatch.setitem(checkpoints.NETS, "Evil", Evil)
    save(shelf, Evil(1, 1))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="unknown network 'Evil', expected one of UNet"):
        load(shelf)


def test_checkpoint_that_asks_for_a_giant_network(shelf, monkeypatch):
    """A header is cheap to forge: the sizes it asks for are compared before anything is allocated."""
    model = tiny()
    model.net.config = {**model.net.config, "widths": [200_000, 200_000]}
    save(shelf, model)
    with pytest.raises(CheckpointError, match="its weights do not fit the model it describes"):
        load(shelf)


def test_checkpoint_that_asks_for_a_giant_table(shelf):
    """Of noise levels, which would be made at the first picture: long after the file was taken for a good one."""
    model = Denoiser(UNet(widths=(8, 8)), DDPM(), "eps")
    object.__setattr__(model.schedule, "T", 10**12)
    save(shelf, model)
    with pytest.raises(CheckpointError, match="describes no model .*: T: expected at most 1000000 steps"):
        load(shelf)


def test_model_that_cannot_be_described(shelf):
    with pytest.raises(TypeError, match="model: expected a Denoiser or one of UNet"):
        save(shelf, torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="about: expected what JSON can say"):
        save(shelf, tiny(), picture=torch.zeros(3))
    load(shelf)  # what stood there before is whole


def test_no_space_left_keeps_the_old_file(shelf, monkeypatch):
    before = shelf.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(OSError, match=r"model.safetensors: could not write .* MB \(No space left on device\)"):
        save(shelf, tiny())
    assert shelf.read_bytes() == before
    assert list(shelf.parent.iterdir()) == [shelf]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"model.safetensors: could not write .*No such file or directory"):
        save(tmp_path / "nowhere" / "model.safetensors", tiny())


def test_checkpoint_of_another_training(tmp_path):
    path = tmp_path / "run.safetensors"
    list(train(tiny(), PICTURES, 2, checkpoint=path, batch=4))
    with pytest.raises(ValueError, match="checkpoint: .* is another training .*differs in lr.* resume=False"):
        first(train(tiny(), PICTURES, 2, checkpoint=path, batch=4, lr=1e-4))
    with pytest.raises(ValueError, match="differs in model"):
        first(train(tiny(patch_size=2), PICTURES, 2, checkpoint=path, batch=4))
    assert first(train(tiny(), PICTURES, 3, checkpoint=path, batch=4, resume=False)).step == 1


def test_checkpoint_that_is_no_training(shelf):
    with pytest.raises(ValueError, match="holds a model, not a training that can go on"):
        first(train(tiny(), PICTURES, 2, checkpoint=shelf))
