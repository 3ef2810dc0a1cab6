"""Latent diffusion: what the autoencoder is trained by, what it keeps, and a model of its codes from end to end."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.scenes import draw_scenes, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import VAE, UNet
from learn_diffusion.recipes import evaluation, latents, transforms
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.run import run_recipe
from learn_diffusion.schedules import Cosine
from tools.notebooks import NOTEBOOKS, ROOT

CHAPTER = (NOTEBOOKS / "14_latents_and_transformers.ipynb").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shipped():
    return checkpoints.load(pretrained_path("scene_autoencoder"), "cpu")


def few(draw):
    return lambda n, *seed, **options: draw(min(n, 8), *seed, **options)


def test_edge_loss_sees_edges_and_no_brightness():
    x = torch.zeros(1, 1, 4, 4)
    x[..., 2:] = 1.0
    assert latents.edge_loss(x, x + 0.3) < 1e-6
    assert_close(latents.edge_loss(x, torch.zeros_like(x)), torch.tensor(4 / 12))  # 4 of 12 steps to the right, by 1
    assert_close(latents.edge_loss(x, x.mT), torch.tensor(2 * 4 / 12))


def test_the_loss_is_errors_and_what_codes_say():
    torch.manual_seed(0)
    vae, x = VAE(widths=(8, 16)), torch.rand(2, 3, 8, 8) * 2 - 1
    free, paid = (latents.vae_loss(vae, x, torch.Generator().manual_seed(0), kl_weight=w) for w in (0.0, 0.5))
    assert_close(paid - free, 0.5 * vae.encode(x).kl().mean())


def test_an_autoencoder_trains_by_any_loss_repeats_and_leaves_the_codes_their_spread():
    images = draw_scenes(16, seed=0).images

    def error(vae, x, g):
        return (vae.decode(vae.encode(x).mean) - x).square().mean()

    def trained():
        torch.manual_seed(0)
        vae = VAE(widths=(8, 16))
        before = error(vae, images, None).item()
        return before, latents.train_vae(vae, images, 60, error, batch=4)

    (before, vae), (_, again) = trained(), trained()
    with torch.no_grad():
        assert error(vae, images, None) < before / 2
    assert not vae.training
    assert vae.scale == 1
    assert all(torch.equal(w, its) for w, its in zip(vae.parameters(), again.parameters(), strict=True))


def test_the_codes_are_of_scenes_and_their_mirror_images(monkeypatch):
    monkeypatch.setattr(latents, "draw_scenes", few(draw_scenes))
    torch.manual_seed(0)
    vae = VAE(widths=(8, 16)).eval()
    codes, captions = latents.scene_codes(vae, 1008, seed=3)
    assert codes.shape == (32, 4, 16, 16)  # two parts, of eight here
    first, second = draw_scenes(8, seed=3, side=64), draw_scenes(8, seed=1003, side=64)
    assert captions == 2 * (first.captions + second.captions)
    assert_close(codes[:8], evaluation.encode(vae, first.images))
    assert_close(codes[24:], evaluation.encode(vae, second.images.flip(3)))


def test_codes_need_not_lie_where_pictures_do_and_pictures_are_decoded(shipped):
    """No code is clipped on the way, and every picture is."""
    vae, _ = shipped
    scenes = draw_scenes(4, seed=5, side=64)
    codes = evaluation.encode(vae, scenes.images)
    assert codes.abs().max() > 2
    knows = Denoiser(torch.nn.Identity(), Cosine(), "x0")
    knows.net.forward = lambda x, logsnr, y=None: codes
    drawn = sampling.sample(knows, codes.shape, steps=3, vae=vae)
    assert_close(drawn, sampling.decode(vae, codes), atol=1e-3, rtol=0)
    assert drawn.abs().max() <= 1


def test_what_ships_keeps_unseen_scenes(shipped):
    vae, metadata = shipped
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    found = evaluation.reconstruction_quality(vae, classifier, n=100)
    assert found["psnr"] > 28
    assert found["all_attributes"] > 0.95
    assert abs(found["psnr"] - metadata["metrics"]["psnr"]) < 0.7
    codes = evaluation.encode(vae, draw_scenes(100, seed=6, side=64).images)
    assert_close(codes.std(), torch.tensor(1.0), atol=0.05, rtol=0)
    assert sum(w.numel() for w in vae.parameters()) < 1.5e6
    assert pretrained_path("scene_autoencoder").stat().st_size < 3e6


def test_chapter_14_says_of_it_what_its_header_says(shipped):
    about = shipped[1]
    assert CHAPTER.count(f"{about['seconds'] / 60:.0f} minutes") == 3
    assert f"{about['metrics']['psnr']:.1f} dB here" in CHAPTER
    assert f"for {about['steps'][1]:,} steps with the encoder held fixed" in CHAPTER


def test_the_table_of_chapter_14_is_the_measured_one():
    kept = json.loads((ROOT / "benchmarks" / "results" / "latents.json").read_text(encoding="utf-8"))
    for name, steps, _, _, _, right, distance in kept["tables"][0]["rows"]:
        (model, grid), (value, error) = name.rsplit(", ", 1), map(float, distance.split(" ± "))
        cells = model, grid.replace("x", " x "), r"[\d.]+", f"{steps:.0f}", right, f"{value:.0f} ± {error:.0f}"
        assert re.search(r" \| ".join(cells), CHAPTER), name


def test_what_ships_draws_combinations_that_it_never_saw(shipped):
    model, metadata = checkpoints.load(pretrained_path("latent_scenes_by_caption"), "cpu")
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    wanted = evaluation.some_scenes("unseen triple", 48, seed=9)
    images = evaluation.sample_scenes(model, wanted, seed=9, steps=10, vae=shipped[0])
    assert images.shape == (48, 3, 64, 64)
    right = evaluation.scene_accuracy(classifier, transforms.downsample(images), wanted)["all four"]
    assert right > 0.8
    assert abs(right - metadata["metrics"]["unseen triple, all"]["mean"]) < 0.15
    files = [pretrained_path(name).stat().st_size for name in ("latent_scenes_by_caption", metadata["autoencoder"])]
    assert sum(files) < 15e6
    reads, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")  # the text encoder, as it came
    assert all(map(torch.equal, model.net.text.state_dict().values(), reads.net.text.state_dict().values()))


@pytest.fixture
def small(monkeypatch):
    """Few pictures, and few samples to measure."""
    for module in (latents, evaluation):
        monkeypatch.setattr(module, "draw_scenes", few(draw_scenes))
    quality = partial(evaluation.scene_quality, n=8, n_seen=8, seeds=(1, 2), steps=2)
    monkeypatch.setattr(latents, "scene_quality", quality)


def test_the_autoencoder_is_made_as_its_header_says(small, tmp_path, shipped):
    again, metadata = checkpoints.load(run_recipe("scene_autoencoder", tmp_path / "a", steps=2, more=1), "cpu")
    assert metadata.keys() == shipped[1].keys()
    assert metadata["metrics"].keys() == shipped[1]["metrics"].keys()
    assert again.config == shipped[0].config


def test_the_decoder_learns_on_while_the_codes_stay_what_painters_know(small):
    (short, _), (long, about) = (latents.scene_autoencoder(2, more, device="cpu") for more in (0, 2))
    assert about["steps"] == [2, 2]
    short, long = short.state_dict(), long.state_dict()
    changed = {name.split(".")[0] for name in short if not torch.equal(short[name], long[name])}
    assert changed == {"decoder"}


def test_a_decoder_is_trained_by_its_errors_on_codes_that_are_drawn(shipped):
    vae, x = shipped[0], draw_scenes(2, seed=6, side=64).images
    paid = latents.decoder_loss(vae, x, torch.Generator().manual_seed(0))
    free = latents.vae_loss(vae, x, torch.Generator().manual_seed(0), kl_weight=0.0)
    assert paid.dtype == torch.float32
    assert_close(paid, free, atol=0.0, rtol=0.02)  # one is computed in bfloat16


def test_a_second_round_is_kept_until_the_model_is_and_knows_what_another_training_left(monkeypatch, small, tmp_path):
    def trained():
        steps = []

        def counted(*arguments, **options):
            for end in train(*arguments, **options):
                steps.append(end.step)
                yield end

        monkeypatch.setattr(latents, "train", counted)
        torch.manual_seed(0)
        vae, net = VAE(widths=(8, 16)), UNet(channels=4, widths=(8, 16), attentions=1, words=vocabulary())
        model = latents.train_on_codes(Denoiser(net, Cosine(), "x0"), vae, (2, 2), 0, "cpu", tmp_path / "work")
        return steps, model.state_dict().values()

    train = latents.train
    (tmp_path / "work1").write_text("what a second round of another training left")
    (steps, model), (again, same) = trained(), trained()
    assert steps == [1, 2, 1, 2]
    assert again == [2, 2]  # as if it had been killed while it was measured
    assert all(map(torch.equal, model, same))


def test_a_model_of_codes_trains_is_resumed_and_draws_pictures(small, tmp_path, shipped):
    model, about = latents.latent_scenes_by_caption(2, 1, device="cpu", work=tmp_path / "work")
    same, _ = latents.latent_scenes_by_caption(2, 1, device="cpu", work=tmp_path / "work")  # finished: codes agree
    assert all(map(torch.equal, model.state_dict().values(), same.state_dict().values()))
    assert about["data_shape"] == [4, 16, 16]
    assert {"frechet", "floor", "unseen pair, all"} <= about["metrics"].keys()
    scenes = evaluation.some_scenes("seen", 3, seed=0)
    assert evaluation.sample_scenes(model, scenes, steps=2, vae=shipped[0]).shape == (3, 3, 64, 64)
