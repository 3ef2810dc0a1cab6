"""Stable Diffusion in the parts of diffusers: the same pictures from their code and ours, files that others read."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may ask a network

from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from huggingface_hub import ModelCard

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.scenes import draw_scenes, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.exercises.chapter_20 import your_timesteps
from learn_diffusion.guidance import cfg
from learn_diffusion.nets import VAE, UNet
from learn_diffusion.pipelines import (
    PREDICTION_TYPES,
    StableDiffusion,
    Table,
    byte_pairs,
    to_pipeline,
    to_scheduler,
    word_tokenizer,
)
from learn_diffusion.process import from_x0
from learn_diffusion.recipes import RECIPES, cards, evaluation, latents, stable
from learn_diffusion.recipes.pretrained import load_autoencoder, pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample
from learn_diffusion.schedules import DDPM, EDM, VP, Cosine, Flow

PROMPT = "a cat wearing sunglasses on the moon"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


def small() -> Denoiser:
    torch.manual_seed(0)
    net = StableDiffusion(["a", "cat", "dog"], widths=(8, 16), text=16, vae_widths=(8, 8, 8), scaling_factor=0.5)
    return Denoiser(net, Cosine(), "x0").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def shipped():
    return checkpoints.load(pretrained_path("stable_scenes"), "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return cards.export("stable_scenes", tmp_path_factory.mktemp("exported") / "new")


def half(x, t):
    """A denoiser that is easy to follow: it believes in half of what it sees, more so where there is less noise."""
    return from_x0(x, (1 - t) * x / 2, *Cosine().at(t, x))


def test_a_words_number_never_changes():
    """Files hold one row of weights a number: numbers that depend on the run would give a word another word's row."""
    assert byte_pairs(["cat", "car", "aa"]) == [("c", "a"), ("a", "a</w>"), ("ca", "r</w>"), ("ca", "t</w>")]
    assert byte_pairs(["cat", "aaa"]) == byte_pairs(["aaa", "cat"])
    shipped = [word_tokenizer(vocabulary())(PROMPT).input_ids for _ in range(3)]
    assert shipped == [[0, 322, 584, 688, 682, 525, 683, 647, 1]] * 3  # those of data/stable_scenes.safetensors


def test_the_tokenizer_reads_each_word_as_one_token_and_refuses_others():
    tokenizer = word_tokenizer(vocabulary())
    assert all(len(tokenizer(word).input_ids) == 3 for word in vocabulary())
    assert len({tokenizer(word).input_ids[1] for word in vocabulary()}) == len(vocabulary())
    with pytest.raises(ValueError, match="words: expected words of letters, got 'r2d2', 'go!'"):
        word_tokenizer(["dog", "r2d2", "go!"])


def test_a_caption_is_read_as_the_pipeline_reads_it_and_unknown_words_are_named():
    text = small().net.text
    theirs = text.tokenizer(["a cat", ""], padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(text.tokenise(["A cat!"]), theirs[:1])
    assert torch.equal(text.empty, theirs[1])
    with pytest.raises(ValueError, match=r"prompt: this model never learned 'cot' \(nearest: cat\)"):
        text.tokenise(["a cot"])


def test_a_dropped_caption_is_the_empty_one():
    model, x, t = small(), torch.randn(2, 4, 16, 16), torch.tensor([0.3, 0.9])
    y = model.net.text.tokenise(["a cat", "a dog"])
    without = model(x, t, y, torch.tensor([False, False])).x0
    assert_close(without, model(x, t).x0)
    assert_close(without, model(x, t, model.net.text.empty.expand(2, -1)).x0)
    assert not torch.allclose(without, model(x, t, y).x0)


def test_the_unet_is_told_the_row_of_the_table_with_this_noise(monkeypatch):
    model, told = small(), []
    monkeypatch.setattr(model.net.unet, "forward", lambda x, step, words: told.append(step) or Answer(x))
    for i in (1, 50, 500, 999):
        model(torch.randn(1, 4, 16, 16), torch.tensor(i / 1000))
    assert_close(torch.cat(told), torch.tensor([0.0, 49.0, 499.0, 998.0]), atol=2e-2, rtol=0)


class Answer:
    def __init__(self, sample):
        self.sample = sample


@pytest.mark.parametrize("schedule", [Cosine(), VP(), DDPM()], ids=str)
@pytest.mark.parametrize("target", PREDICTION_TYPES)
def test_a_scheduler_takes_the_steps_of_ddim(schedule, target):
    if target == "eps" and schedule == Cosine():
        pytest.skip("at t = 1 noise does not say what the picture is")
    scheduler = to_scheduler(schedule, target)
    assert scheduler.config.prediction_type == PREDICTION_TYPES[target]
    scheduler.set_timesteps(10)
    x = start = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    model = Denoiser(torch.nn.Identity(), schedule, target)
    for i in scheduler.timesteps:
        t = (i.double() + 1) / 1000
        alpha, sigma = schedule.at(t, x)
        est = from_x0(x, half(x, t).x0, alpha, sigma)
        a, b = model.target_coefficients(alpha, sigma)
        x = scheduler.step((a * est.x0 + b * est.eps).float(), i, x).prev_sample

    def believe(x, t):
        return from_x0(x, half(x, t).x0, *schedule.at(t, x))

    assert_close(x, final_sample(ddim(believe, schedule, start, schedule.timesteps(10))), atol=1e-4, rtol=0)


@pytest.mark.parametrize("schedule", [EDM(), Flow()], ids=str)
def test_a_schedule_that_no_table_holds_is_refused(schedule):
    with pytest.raises(ValueError, match="schedule: expected one with alpha"):
        to_scheduler(schedule, "x0")
    with pytest.raises(ValueError, match="target: expected one of x0, eps, v, got 'u'"):
        to_scheduler(Cosine(), "u")


def test_a_table_is_the_schedule_it_was_made_from():
    schedule, t = DDPM(), torch.tensor([0.0, 0.001, 0.0315, 0.5, 1.0], dtype=torch.float64)
    table = Table(to_scheduler(schedule, "eps").alphas_cumprod)
    assert_close(table.alpha(t), schedule.alpha(t), atol=1e-5, rtol=0)
    assert_close(table.sigma(t), schedule.sigma(t), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="alphas_cumprod: expected numbers above 0, got 0"):
        Table(to_scheduler(Cosine(), "x0").alphas_cumprod)


def test_on_one_table_their_solver_is_ours():
    scheduler = DPMSolverMultistepScheduler.from_config(
        to_scheduler(Cosine(), "x0").config, rescale_betas_zero_snr=True, final_sigmas_type="zero"
    )
    table = Table(scheduler.alphas_cumprod)
    scheduler.set_timesteps(10)
    x = start = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for i in scheduler.timesteps:
        x = scheduler.step(half(x, (i.double() + 1) / 1000).x0.float(), i, x).prev_sample

    def believe(x, t):
        return from_x0(x, half(x, t).x0, *table.at(t, x))

    assert_close(x, final_sample(dpmpp_2m(believe, table, start, table.timesteps(10))), atol=1e-4, rtol=0)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_spacings_of_the_exercise_are_those_of_diffusers(spacing):
    scheduler = DDIMScheduler(num_train_timesteps=1000, timestep_spacing=spacing, steps_offset=1)
    for steps in (4, 20, 50):
        scheduler.set_timesteps(steps)
        assert scheduler.timesteps.tolist() == your_timesteps(steps, 1000, spacing).tolist()


def test_it_is_saved_and_loaded_and_becomes_a_pipeline_that_draws_the_same(tmp_path):
    model = small()
    checkpoints.save(tmp_path / "model", model)
    again, _ = checkpoints.load(tmp_path / "model", "cpu")
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))
    to_pipeline(again).save_pretrained(tmp_path / "folder")
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "folder")
    pipe.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 5, "guidance_scale": 3.0, "generator": torch.Generator().manual_seed(0)}
    x = 2 * pipe("a cat", output_type="pt", **how).images - 1
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    guided = cfg(model, model.net.text.tokenise(["a cat"]), 3.0)
    codes = final_sample(ddim(guided, model.schedule, noise, model.schedule.timesteps(5)))
    assert_close(x, sampling.decode(load_autoencoder(model, {}), codes), atol=1e-3, rtol=0)


def test_what_is_no_such_model_is_refused():
    with pytest.raises(TypeError, match="model: expected a Denoiser of a StableDiffusion, got one of UNet"):
        to_pipeline(Denoiser(UNet(channels=4), Cosine(), "x0"))
    with pytest.raises(ValueError, match="model: expected one of the cosine schedule, got VP"):
        to_pipeline(Denoiser(small().net, VP(), "x0"))
    with pytest.raises(ValueError, match=r"x: expected \(B, 4, h, w\), h and w divisible by 2, got \(1, 3, 16, 16\)"):
        small()(torch.randn(1, 3, 16, 16), 0.5)


def test_the_course_needs_none_of_it(tmp_path):
    """Nothing imports diffusers before a model needs it, and where it is missing, the message says what to install."""
    code = (
        "import sys, learn_diffusion.cli, learn_diffusion.recipes, learn_diffusion.recipes.cards\n"
        "assert not {'diffusers', 'transformers'} & sys.modules.keys()\n"
        "sys.modules['diffusers'] = None\n"
        "from learn_diffusion import checkpoints\n"
        "from learn_diffusion.recipes.pretrained import pretrained_path\n"
        "checkpoints.load(pretrained_path('stable_scenes'), 'cpu')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'StableDiffusion needs diffusers: pip install "learn_diffusion[course]"' in done.stderr


def test_three_lines_draw_the_prompt_without_a_network(folder, tmp_path):
    code = (
        "from diffusers import DiffusionPipeline; "
        f"p = DiffusionPipeline.from_pretrained({str(folder)!r}); "
        f"p({PROMPT!r}).images[0].save('cat.png')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | OFFLINE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "cat.png"))
    assert picture.shape == (64, 64, 3)
    assert picture[:8].mean() < 90  # a dark sky
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 20e6


def test_what_ships_draws_combinations_that_it_never_saw(shipped):
    model, metadata = shipped
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    wanted = evaluation.some_scenes("unseen triple", 48, seed=9)
    images = evaluation.sample_scenes(model, wanted, seed=9, steps=10, vae=load_autoencoder(model, metadata))
    right = evaluation.scene_accuracy(classifier, evaluation.downsample(images), wanted)["all four"]
    assert right > metadata["metrics"]["unseen triple, all"]["mean"] - 0.15
    assert right > 0.6


def few(draw):
    return lambda n, *seed, **options: draw(min(n, 8), *seed, **options)


def test_the_recipe_trains_all_three_parts(monkeypatch, tmp_path, shipped):
    for module in (stable, latents, evaluation):
        monkeypatch.setattr(module, "draw_scenes", few(draw_scenes))
    monkeypatch.setattr(stable, "train_clip", partial(stable.train_clip, steps=1, batch=8))
    monkeypatch.setattr(stable, "train_vae", lambda vae, x, steps, **how: latents.train_vae(vae, x, 1, **how))
    quality = partial(evaluation.scene_quality, n=8, n_seen=8, seeds=(1, 2), steps=2)
    monkeypatch.setattr(stable, "scene_quality", quality)
    model, about = stable.stable_scenes(1, 1, device="cpu")
    assert about.keys() <= shipped[1].keys()
    assert about["metrics"].keys() == shipped[1]["metrics"].keys()
    assert model.net.config == shipped[0].net.config


def test_clip_learns_which_caption_belongs_to_which_picture():
    torch.manual_seed(0)
    text = small().net.text.requires_grad_(True)
    captions = ["a cat", "a dog", "cat", "dog a"]
    stable.train_clip(text, torch.eye(4), captions, steps=60, batch=16, lr=3e-3)
    with torch.no_grad():
        said = text(text.tokenise(captions))[:, 1:5].flatten(1)
    assert torch.pdist(said).min() > 0.5  # they can be told apart


def test_an_autoencoder_of_theirs_learns_the_codes_of_ours():
    torch.manual_seed(0)
    ours, theirs = VAE(widths=(8, 16)).eval(), small().net.vae.requires_grad_(True)
    images = draw_scenes(8, seed=0, side=64).images
    loss, g = stable._SameCodes(ours), torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = loss(theirs, images, g)
    latents.train_vae(theirs, images, 30, loss, batch=4)
    with torch.no_grad():
        assert loss(theirs, images, g) < 0.9 * before
    assert all(w.grad is None for w in ours.parameters())
    stable.no_spread(theirs)
    assert theirs.encode(images).latent_dist.std.max() < 1e-6


def test_a_pipeline_that_reads_a_picture_reads_it_without_noise(shipped):
    """image-to-image and inpainting draw from the encoder's distribution: what they keep would be noise."""
    images = draw_scenes(4, seed=0, side=64).images
    assert shipped[0].net.vae.encode(images).latent_dist.std.max() < 1e-6


def test_a_model_without_a_data_card_is_refused():
    with pytest.raises(ValueError, match="^name: expected a recipe of DATA_CARDS whose card is in data/README.md"):
        cards.data_card("shapes_by_label")


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_has_a_card_that_a_hub_can_read(name):
    card = ModelCard(cards.model_card(name))
    data = card.data.to_dict()
    assert data["license"] in ("mit", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-2.0")
    assert data["library_name"] == ("diffusers" if name == "stable_scenes" else "learn_diffusion")
    draws = isinstance(checkpoints.load(pretrained_path(name), "cpu")[0], Denoiser)
    reads = any(word in name for word in ("caption", "mask", "stable"))
    assert data.get("pipeline_tag") == (
        "text-to-image" if reads else "unconditional-image-generation" if draws else None
    )
    for part in ("Use", "Data", "Training", "Metrics", "Limits"):
        text = card.text.split(f"\n## {part}\n")[1].split("\n## ")[0]
        assert len(text.strip()) > 40, part


def test_other_models_are_exported_as_they_are(tmp_path):
    folder = cards.export("latent_scenes_by_caption", tmp_path / "new")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "autoencoder.safetensors", "model.safetensors"
    ]  # fmt: skip
    checkpoints.load(folder / "model.safetensors", "cpu")
    with pytest.raises(FileExistsError, match="folder: expected a new or empty folder"):
        cards.export("digit_classifier", folder)
    with pytest.raises(ValueError, match="name: expected one of"):
        cards.export("no_such_model", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_model_of_ones_own_is_exported_with_a_card_that_says_what_is_still_to_be_written(tmp_path):
    model = Denoiser(UNet(widths=(8, 16)), Cosine(), "eps")
    checkpoints.save(tmp_path / "mine.safetensors", model, data="my pictures", recipe={"steps": 3})
    card = ModelCard.load(cards.export(tmp_path / "mine.safetensors", tmp_path / "new") / "README.md")
    assert card.data.license == "unknown"
    assert "# mine\n" in card.text
    assert '"my pictures"' in card.text
    assert "| all | not measured |" in card.text
    assert checkpoints.load(tmp_path / "new" / "model.safetensors", "cpu")[1]["data"] == "my pictures"

    metrics = {"curve": [[1, 0.5], [2, 0.25]], "fid": None, "words": ["a", "b"], "epochs": 3}
    for number, (value, row) in enumerate([(metrics, "| fid | null |"), (metrics, "| curve | [1, 0.5], [2, 0.25] |"),
                                           (metrics, "| words | a, b |"), (0.83, "| all | 0.83 |")]):  # fmt: skip
        checkpoints.save(tmp_path / "odd.safetensors", model, metrics=value)
        assert row in (cards.export(tmp_path / "odd.safetensors", tmp_path / str(number)) / "README.md").read_text()

    checkpoints.save(tmp_path / "again.safetensors", model, recipe="digit_classifier", metrics={})
    card = ModelCard.load(cards.export(tmp_path / "again.safetensors", tmp_path / "recipe") / "README.md")
    assert card.data.license == "cc-by-4.0"  # that of the recipe's data
