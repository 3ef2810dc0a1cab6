"""Bad input: one clear error each, which begins with the argument's name."""

from __future__ import annotations

import errno
import os
from math import inf, nan

import numpy as np
import pytest
import torch

from learn_diffusion import checkpoints, devices, plots, validation
from learn_diffusion.checkpoints import CheckpointError, load, save
from learn_diffusion.datasets import advection
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.image_files import image_folder
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.datasets.patterns import colours, draw_patterns, palette
from learn_diffusion.datasets.products import Shot, backdrops, draw_products
from learn_diffusion.datasets.scenes import Scene, all_scenes, canonical_caption, draw_scenes
from learn_diffusion.datasets.sprites import walkers
from learn_diffusion.datasets.terrain import height_maps
from learn_diffusion.datasets.toy2d import gaussians, moons, spiral
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import autoguidance, cfg, classifier_guidance, clip_x0, guidance_interval
from learn_diffusion.metrics import (
    density_coverage,
    frechet,
    kernel_distance,
    modes,
    nn_distance_ratio,
    precision_recall,
    with_standard_error,
)  # fmt: skip
from learn_diffusion.mixture import GaussianMixture
from learn_diffusion.nets import MLP, VAE, Classifier, DiT, UNet
from learn_diffusion.nets.text import TextEncoder, Tokeniser, record_attention
from learn_diffusion.process import from_x0, renoise
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow
from learn_diffusion.training import EMA, loss, train

PATH = Cosine()
PICTURES = torch.zeros(4, 1, 8, 8)
NOISE = torch.zeros(4, 1, 8, 8)
ROWS, ONE = torch.randn(20, 4), torch.zeros(1)
BLOBS = GaussianMixture(torch.eye(2), torch.full((2,), 0.5), torch.arange(2), 0.1, PATH)
DRAGON = Scene("dragon", "nothing", "moon", "blue")
TOKENISE, ENCODE = Tokeniser(["a", "cat"], length=8), TextEncoder(["a", "cat"], 16, length=8)


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
    "uint8 pictures": (lambda: PATH.add_noise(PICTURES.to(torch.uint8), NOISE, 0.5), TypeError, "x0"),
    "int pictures": (lambda: PATH.add_noise(PICTURES.long(), NOISE, 0.5), TypeError, "x0"),
    "numpy pictures": (lambda: PATH.add_noise(np.zeros((4, 1)), NOISE, 0.5), TypeError, "x0"),
    "eps of another shape": (lambda: PATH.add_noise(PICTURES, NOISE[:2], 0.5), ValueError, "eps"),
    "pictures in [0, 255]": (lambda: first(train(tiny(), PICTURES + 255, 1)), ValueError, "data"),
    "pictures in [0, 2]": (lambda: first(train(tiny(), PICTURES + 2, 1)), ValueError, "data"),
    "NaN pictures": (lambda: first(train(tiny(), PICTURES / 0, 1)), ValueError, "data"),
    "uint8 data": (lambda: first(train(tiny(), PICTURES.to(torch.uint8), 1)), TypeError, "data"),
    "no data": (lambda: first(train(tiny(), PICTURES[:0], 1)), ValueError, "data"),
    "one picture": (lambda: first(train(tiny(), PICTURES[0], 1)), ValueError, "data"),
    "loss of uint8": (lambda: loss(tiny(), PICTURES.to(torch.uint8), torch.rand(4)), TypeError, "x0"),
    "loss out of range": (lambda: loss(tiny(), PICTURES - 3, torch.rand(4)), ValueError, "x0"),
    "picture the UNet cannot halve": (lambda: tiny()(torch.zeros(2, 1, 7, 7), 0.5), ValueError, "x"),
    "channels": (lambda: tiny()(torch.zeros(2, 3, 8, 8), 0.5), ValueError, "x"),
    "points for an MLP": (lambda: MLP()(torch.zeros(2, 3), torch.zeros(2)), ValueError, "x"),
    # noise levels
    "t above the path": (lambda: PATH.add_noise(PICTURES, NOISE, 1.5), ValueError, "t"),
    "t below the path": (lambda: PATH.add_noise(PICTURES, NOISE, -0.1), ValueError, "t"),
    "a step index for t": (lambda: DDPM().add_noise(PICTURES, NOISE, 500), ValueError, "t"),
    "NaN for t": (lambda: PATH.add_noise(PICTURES, NOISE, float("nan")), ValueError, "t"),
    "t of another batch": (lambda: PATH.add_noise(PICTURES, NOISE, torch.rand(3)), ValueError, "t"),
    "t for a denoiser": (lambda: tiny()(NOISE, 2.0), ValueError, "t"),
    "t for the loss": (lambda: loss(tiny(), PICTURES, torch.full((4,), 2.0)), ValueError, "t"),
    "sigma above EDM's": (lambda: EDM().add_noise(PICTURES, NOISE, 100.0), ValueError, "t"),
    "renoise backwards": (lambda: renoise(PATH, NOISE, 0.6, 0.4), ValueError, "t"),
    "an increasing grid": (lambda: run(ddim, ts=PATH.timesteps(4).flip(0)), ValueError, "ts"),
    "an increasing grid, heun": (lambda: run(heun, ts=PATH.timesteps(4).flip(0)), ValueError, "ts"),
    "an increasing grid, 2m": (lambda: run(dpmpp_2m, ts=PATH.timesteps(4).flip(0)), ValueError, "ts"),
    "a repeated level": (lambda: run(ddim, ts=torch.tensor([1.0, 0.5, 0.5])), ValueError, "ts"),
    "a grid beyond the path": (lambda: run(ddim, ts=torch.tensor([2.0, 0.5])), ValueError, "ts"),
    "a grid of one level": (lambda: run(ddim, ts=torch.tensor([1.0])), ValueError, "ts"),
    "a grid of step indices": (lambda: run(ddim, ts=torch.arange(4, -1, -1)), TypeError, "ts"),
    "renoise beyond the path": (lambda: renoise(PATH, NOISE, 0.2, 3.0), ValueError, "t"),
    "renoise from pure noise": (lambda: renoise(PATH, NOISE, 1.0, 1.0), ValueError, "s"),
    "renoise uint8": (lambda: renoise(PATH, NOISE.to(torch.uint8), 0.2, 0.4), TypeError, "x"),
    "renoise, another batch": (lambda: renoise(PATH, NOISE, torch.rand(3), 1.0), ValueError, "s"),
    "NaN in a grid": (lambda: run(ddim, ts=torch.tensor([1.0, float("nan"), 0.0])), ValueError, "ts"),
    "a list for a grid": (lambda: run(ddim, ts=[1.0, 0.0]), TypeError, "ts"),
    "NaN noise": (lambda: run(ddim, x=NOISE / 0), ValueError, "x"),
    "steps of a grid": (lambda: PATH.timesteps(0), ValueError, "steps"),
    "no steps": (lambda: final_sample(iter([])), ValueError, "states"),
    "uint8 noise": (lambda: run(ddim, x=NOISE.to(torch.uint8)), TypeError, "x"),
    "eta": (lambda: run(ddim, eta=1.5), ValueError, "eta"),
    # parts
    "unknown target": (lambda: Denoiser(UNet(), PATH, "noise"), ValueError, "target"),
    "a name for a schedule": (lambda: Denoiser(UNet(), "cosine", "v"), TypeError, "schedule"),
    "eps at zero SNR": (lambda: Denoiser(UNet(), Flow(), "eps")(NOISE, 1.0), ValueError, "t"),
    "DDPM T": (lambda: DDPM(T=0), ValueError, "T"),
    "DDPM T, a giant": (lambda: DDPM(T=10**12), ValueError, "T"),
    "DDPM, a text": (lambda: DDPM(beta_1="1e-4"), ValueError, "beta_1"),
    "DDPM, NaN": (lambda: DDPM(beta_T=float("nan")), ValueError, "beta_T"),
    "DDPM order": (lambda: DDPM(beta_1=0.5, beta_T=0.1), ValueError, "beta_1, beta_T"),
    "VP": (lambda: VP(beta_min=-1), ValueError, "beta_min"),
    "VP without end": (lambda: VP(beta_max=float("inf")), ValueError, "beta_max"),
    "VP beyond floats": (lambda: VP(beta_max=10**400), ValueError, "beta_max"),
    "EDM without end": (lambda: EDM(sigma_max=float("inf")), ValueError, "sigma_max"),
    "EDM": (lambda: EDM(sigma_min=2, sigma_max=1), ValueError, "sigma_max"),
    "clip": (lambda: clip_x0(exact, PATH, 1, -1), ValueError, "lo, hi"),
    "labels for a net without": (lambda: tiny()(NOISE, 0.5, torch.zeros(4).long()), ValueError, "cond"),
    "a label out of range": (lambda: tiny(classes=3)(NOISE, 0.5, torch.full((4,), 3)), ValueError, "cond"),
    "labels of another batch": (lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(3).long()), ValueError, "y"),
    "float labels": (lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(4)), ValueError, "cond"),
    "keep of another batch": (
        lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(4).long(), torch.ones(3).bool()), ValueError, "cond_mask",
    ),
    "float keep": (lambda: tiny(classes=3)(NOISE, 0.5, torch.zeros(4).long(), torch.ones(4)), ValueError, "cond_mask"),
    "float64 pictures": (lambda: tiny()(NOISE.double(), 0.5), TypeError, "x"),
    # training
    "float64 data": (lambda: first(train(tiny(), PICTURES.double(), 1)), TypeError, "data"),
    "a list of data": (lambda: first(train(tiny(), [0.0], 1)), TypeError, "data"),
    "a bare network": (lambda: first(train(UNet(), PICTURES, 1)), TypeError, "model"),
    "loss, t of another batch": (lambda: loss(tiny(), PICTURES, torch.rand(3)), ValueError, "t"),
    "loss, eps of another shape": (lambda: loss(tiny(), PICTURES, torch.rand(4), eps=NOISE[:1]), ValueError, "eps"),
    "loss, whole numbers for eps": (lambda: loss(tiny(), PICTURES, torch.rand(4), eps=NOISE.long()), TypeError, "eps"),
    "loss, a number for eps": (lambda: loss(tiny(), PICTURES, torch.rand(4), eps=0.5), TypeError, "eps"),
    "halflife of 0": (lambda: first(train(tiny(), PICTURES, 1, halflife=0)), ValueError, "halflife"),
    "learning rate": (lambda: first(train(tiny(), PICTURES, 1, lr=-1.0)), ValueError, "lr"),
    "NaN learning rate": (lambda: first(train(tiny(), PICTURES, 1, lr=float("nan"))), ValueError, "lr"),
    "label drop": (lambda: first(train(tiny(), PICTURES, 1, cond_drop=2.0)), ValueError, "cond_drop"),
    "a list of labels": (lambda: first(train(tiny(classes=2), PICTURES, 1, labels=[0, 1, 0, 1])), TypeError, "labels"),
    "a number for a hint": (lambda: first(train(tiny(), PICTURES, 1, image_cond=3)), TypeError, "image_cond"),
    "labels for a training without": (
        lambda: first(train(tiny(), PICTURES, 1, labels=torch.zeros(4).long())), ValueError, "cond",
    ),
    "labels out of range": (
        lambda: first(train(tiny(classes=2), PICTURES, 1, labels=torch.full((4,), 7))), ValueError, "labels",
    ),
    "pictures of other channels": (lambda: first(train(tiny(), PICTURES.repeat(1, 3, 1, 1), 1)), ValueError, "data"),
    "a model of another schedule": (
        lambda: ddim(tiny(), VP(), NOISE, VP().timesteps(2)), ValueError, "schedule",
    ),
    "a schedule's class": (lambda: ddim(tiny(), Cosine, NOISE, Cosine().timesteps(2)), TypeError, "schedule"),
    "clipped on another schedule": (lambda: clip_x0(tiny(), VP()), ValueError, "schedule"),
    "shares of a mixture": (
        lambda: GaussianMixture(torch.zeros(2, 2), torch.tensor([1.5, -0.5]), torch.zeros(2), 0.1, Cosine()),
        ValueError, "share",
    ),
    "points of another dimension": (lambda: BLOBS(torch.zeros(5, 1), torch.tensor(0.5)), ValueError, "x"),
    "pictures for features": (lambda: frechet(PICTURES, PICTURES), ValueError, "a"),
    "steps": (lambda: first(train(tiny(), PICTURES, 0)), ValueError, "steps"),
    "batch": (lambda: first(train(tiny(), PICTURES, 1, batch=0)), ValueError, "batch"),
    "grad_accum_steps": (lambda: first(train(tiny(), PICTURES, 1, grad_accum_steps=0)), ValueError, "grad_accum_steps"),
    "half a part": (lambda: first(train(tiny(), PICTURES, 1, grad_accum_steps=2.5)), ValueError, "grad_accum_steps"),
    "more parts than rows": (lambda: train(tiny(), PICTURES, 1, batch=4, grad_accum_steps=5), ValueError, "batch"),
    "checkpoint_every": (lambda: first(train(tiny(), PICTURES, 1, checkpoint_every=0)), ValueError, "checkpoint_every"),
    "too few labels": (
        lambda: first(train(tiny(classes=2), PICTURES, 1, labels=torch.zeros(3).long())), ValueError, "labels",
    ),
    "halflife": (lambda: EMA(tiny(), halflife=0), ValueError, "halflife"),
    "device": (lambda: first(train(tiny(), PICTURES, 1, device="tpu3")), ValueError, "device"),
    "absent device": (lambda: devices.resolve_device("xpu"), ValueError, "device"),
    # datasets and metrics
    "split": (lambda: small_digits("test"), ValueError, "split"),
    "split of MNIST": (lambda: mnist_sample("all"), ValueError, "split"),
    "side of MNIST": (lambda: mnist_sample("train", side=32), ValueError, "side"),
    "pools": (lambda: Classifier(pools=3), ValueError, "pools"),
    "gaussians": (lambda: gaussians(0), ValueError, "n"),
    "moons": (lambda: moons(-1), ValueError, "n"),
    "spiral": (lambda: spiral(2.5), ValueError, "n"),
    "folder of nobody": (lambda: image_folder("~nobody-there/a", 8), FileNotFoundError, "path"),
    "one feature row": (lambda: frechet(torch.zeros(1, 3), torch.zeros(5, 3)), ValueError, "a"),
    "other features": (lambda: frechet(torch.zeros(5, 3), torch.zeros(5, 4)), ValueError, "b"),
    "NaN features": (lambda: frechet(torch.zeros(5, 3) / 0, torch.zeros(5, 3)), ValueError, "a"),
    "no samples": (lambda: nn_distance_ratio(NOISE[:0], NOISE, NOISE), ValueError, "samples"),
    "no alt text": (lambda: plots.image_grid(NOISE, alt=" "), ValueError, "alt"),
    "NaN picture": (lambda: plots.image_grid(NOISE / 0, alt="noise"), ValueError, "images"),
    "flat picture": (lambda: plots.image_grid(torch.zeros(8, 8), alt="noise"), ValueError, "images"),
    "unknown recipe": (lambda: pretrained_path("cats"), FileNotFoundError, ".*cats.safetensors"),
    "scenes, n": (lambda: draw_scenes(0), ValueError, "n"),
    "scenes, none": (lambda: draw_scenes(1, only=[]), ValueError, "only"),
    "products, none": (lambda: draw_products(1, only=[]), ValueError, "only"),
    "scenes, seed": (lambda: draw_scenes(2, seed=-1), ValueError, "seed"),
    "scenes, side": (lambda: draw_scenes(1, side=60), ValueError, "side"),
    "scenes, unknown subject": (lambda: draw_scenes(1, only=[DRAGON]), ValueError, "subject"),
    "scenes, unknown place": (lambda: canonical_caption(Scene("cat", "nothing", "x", "blue")), ValueError, "place"),
    "scenes, unknown kind": (lambda: all_scenes("unseen"), ValueError, "which"),
    "products, n": (lambda: draw_products(0), ValueError, "n"),
    "products, seed": (lambda: draw_products(1, seed=-1), ValueError, "seed"),
    "products, unknown product": (lambda: draw_products(1, only=[Shot("cup", "red", "table")]), ValueError, "product"),
    "products, unknown colour": (lambda: draw_products(1, only=[Shot("mug", "pink", "table")]), ValueError, "colour"),
    "backdrops": (lambda: backdrops(["moon"]), ValueError, "names"),
    "patterns, n": (lambda: draw_patterns(0), ValueError, "n"),
    "patterns, height": (lambda: draw_patterns(2, height=0), ValueError, "height"),
    "patterns, width": (lambda: draw_patterns(2, width=3.5), ValueError, "width"),
    "patterns, seed": (lambda: draw_patterns(2, seed=True), ValueError, "seed"),
    "palette": (lambda: palette("beige"), ValueError, "name"),
    "colours": (lambda: colours(["#12345"]), ValueError, "hexes"),
    "terrain, n": (lambda: height_maps(0), ValueError, "n"),
    "terrain, height": (lambda: height_maps(2, height=0), ValueError, "height"),
    "terrain, width": (lambda: height_maps(2, width=3.5), ValueError, "width"),
    "terrain, seed": (lambda: height_maps(2, seed=-1), ValueError, "seed"),
    "walkers, n": (lambda: walkers(0), ValueError, "n"),
    "walkers, seed": (lambda: walkers(1, seed="a"), ValueError, "seed"),
    "dye": (lambda: advection.dye(0), ValueError, "n"),
    "draw_settings": (lambda: advection.draw_settings(2.5), ValueError, "n"),
    "stirred, shape": (lambda: advection.stirred(torch.zeros(3, 6)), ValueError, "settings"),
    "stirred, a list": (lambda: advection.stirred([0.5] * 5), TypeError, "settings"),
    "stirred, whole numbers": (lambda: advection.stirred(torch.zeros(1, 5).long()), TypeError, "settings"),
    "stroke, c": (lambda: advection.stroke(torch.zeros(8, 8), ONE, ONE), ValueError, "c"),
    "stroke, distance": (lambda: advection.stroke(torch.zeros(2, 8, 8), ONE, ONE), ValueError, "distance"),
    "stroke, phase": (lambda: advection.stroke(torch.zeros(1, 8, 8), ONE, torch.zeros(2)), ValueError, "phase"),
    "stroke, kappa": (lambda: advection.stroke(torch.zeros(1, 8, 8), ONE, ONE, kappa=-1.0), ValueError, "kappa"),
    "stroke, steps": (lambda: advection.stroke(torch.zeros(1, 8, 8), ONE, ONE, steps=0), ValueError, "steps"),
    "kernel_distance, a": (lambda: kernel_distance(ROWS[:1], ROWS), ValueError, "a"),
    "kernel_distance, b": (lambda: kernel_distance(ROWS, ROWS[:, :3]), ValueError, "b"),
    "precision_recall": (lambda: precision_recall(ROWS[:3], ROWS), ValueError, "samples"),
    "density_coverage": (lambda: density_coverage(ROWS, ROWS[:5]), ValueError, "real"),
    "modes": (lambda: modes(ROWS, ROWS, 0.0), ValueError, "radius"),
    "with_standard_error": (lambda: with_standard_error(frechet, ROWS, ROWS, draws=0), ValueError, "draws"),
    # guidance, text, figures
    "cfg, scale": (lambda: cfg(exact, None, inf), ValueError, "scale"),
    "autoguidance, scale": (lambda: autoguidance(exact, exact, nan), ValueError, "scale"),
    "classifier, scale": (lambda: classifier_guidance(exact, lambda x, t: x.sum(1), PATH, "3"), ValueError, "scale"),
    "interval": (lambda: guidance_interval(exact, exact, PATH, 2.0, -2.0), ValueError, "lo, hi"),
    "an empty interval": (lambda: guidance_interval(exact, exact, PATH, 1.0, 1.0), ValueError, "lo, hi"),
    "an interval from NaN": (lambda: guidance_interval(exact, exact, PATH, nan, 1.0), ValueError, "lo, hi"),
    "an interval to NaN": (lambda: guidance_interval(exact, exact, PATH, 0.0, nan), ValueError, "lo, hi"),
    "labels and captions": (lambda: UNet(classes=3, words=["a"]), ValueError, "classes, words"),
    "labels and captions, DiT": (lambda: DiT(classes=3, words=["a"]), ValueError, "classes, words"),
    "width of a DiT": (lambda: DiT(width=18), ValueError, "width"),
    "picture the DiT cannot cut": (lambda: DiT()(torch.zeros(2, 1, 7, 7), torch.zeros(2)), ValueError, "x"),
    "widths of a VAE": (lambda: VAE(widths=(8,)), ValueError, "widths"),
    "picture the VAE cannot halve twice": (lambda: VAE().encode(torch.zeros(2, 3, 6, 8)), ValueError, "x"),
    "code of other channels": (lambda: VAE().decode(torch.zeros(2, 3, 4, 4)), ValueError, "z"),
    "record_attention": (lambda: record_attention(UNet()).__enter__(), ValueError, "net"),
    "captions, a string": (lambda: TOKENISE("a cat"), TypeError, "captions"),
    "captions, a number": (lambda: TOKENISE([3]), TypeError, "captions"),
    "no words": (lambda: TOKENISE(["?!"]), ValueError, "prompt"),
    "unknown words": (lambda: TOKENISE(["a dog"]), ValueError, "prompt"),
    "too many words": (lambda: TOKENISE(["cat " * 1000]), ValueError, "prompt"),
    "tokens of another length": (lambda: ENCODE(torch.zeros(2, 5).long()), ValueError, "cond"),
    "float tokens": (lambda: ENCODE(torch.zeros(2, 8)), ValueError, "cond"),
    "tokens out of range": (lambda: ENCODE(torch.full((2, 8), 99)), ValueError, "cond"),

}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names_the_argument(case):
    call, kind, argument = CASES[case]
    with pytest.raises(kind, match=f"^{argument}: "):
        call()


@pytest.mark.parametrize("bad", [inf, -inf, nan, "3", None, torch.ones(2), 10**400], ids=lambda bad: str(bad)[:9])
def test_a_number_is_one_and_finite(bad):
    with pytest.raises(ValueError, match=r"^scale: expected one finite number, got "):
        validation.number("scale", bad)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "3", None, (8, 8)], ids=str)
def test_a_count_is_a_whole_number_from_1(bad):
    with pytest.raises(ValueError, match=r"^n: expected a whole number of at least 1, got "):
        validation.positive_int("n", bad)


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
        config = {"in_features": 1, "out_features": 1}  # noqa: RUF012

    monkeypatch.setitem(checkpoints.NETS, "Evil", Evil)
    save(shelf, Evil(1, 1))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="unknown network 'Evil', expected one of UNet"):
        load(shelf)


def test_checkpoint_that_asks_for_a_giant_network(shelf, monkeypatch):
    """A header is cheap to forge: the sizes it asks for are compared before anything is allocated."""
    model = tiny()
    model.net.config = {**model.net.config, "widths": [200_000, 200_000]}
    monkeypatch.setattr(checkpoints, "_misfit", lambda header, weights: "")
    save(shelf, model)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="its weights do not fit the model it describes"):
        load(shelf)


def test_checkpoint_that_asks_for_a_giant_table(shelf, monkeypatch):
    """Of noise levels, which would be made at the first picture: long after the file was taken for a good one."""
    model = Denoiser(UNet(widths=(8, 8)), DDPM(), "eps")
    object.__setattr__(model.schedule, "T", 10**12)
    monkeypatch.setattr(checkpoints, "_misfit", lambda header, weights: "")
    save(shelf, model)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="describes no model .*: T: expected at most 1000000 steps"):
        load(shelf)


def test_model_that_cannot_be_described(shelf):
    with pytest.raises(TypeError, match="model: expected a Denoiser or one of UNet"):
        save(shelf, torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="picture: expected what JSON can say"):
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
