"""Recipes: a killed run is resumed to the same bytes, and the header says how the file was made."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from learn_diffusion import checkpoints, recipes, training
from learn_diffusion.checkpoints import load
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.classifiers import train_noisy_classifier
from learn_diffusion.recipes.evaluation import noisy_accuracy
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.run import run_recipe
from learn_diffusion.schedules import Cosine

STEPS = 6


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A recipe whose model is too small to be any good; kill(step) stops it after a step, as Ctrl-C would."""

    class Tiny:
        killed_at = None

        def kill(self, step: int, *arguments, **options) -> None:
            self.killed_at = step
            with pytest.raises(KeyboardInterrupt):
                run_recipe("tiny", *arguments, **options)
            self.killed_at = None

        def __call__(self, steps: int = STEPS, seed: int = 0, device=None, work=None):
            torch.manual_seed(seed)
            images, labels = small_digits("train")
            model = Denoiser(UNet(widths=(8, 8), classes=10), Cosine(), "v")
            self.trained = []
            for end in training.train(
                model,
                images,
                steps,
                labels=labels,
                seed=seed,
                device=device,
                checkpoint=work,
                batch=8,
                checkpoint_every=2,
            ):
                self.trained.append(end.step)
                if end.step == self.killed_at:
                    raise KeyboardInterrupt
            return end.ema.cpu(), {"data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": {}}

    recipe = Tiny()
    monkeypatch.setitem(recipes.RECIPES, "tiny", recipe)
    return recipe


def same_weights(a, b) -> bool:
    pairs = zip(load(a, "cpu")[0].state_dict().values(), load(b, "cpu")[0].state_dict().values(), strict=True)
    return all(torch.equal(v, w) for v, w in pairs)


def test_the_header_says_how_it_was_made_and_nothing_else_stays(tmp_path):
    out = run_recipe("tiny", tmp_path / "a.safetensors", seed=3)
    _, metadata = load(out, "cpu")
    assert metadata["recipe"] == "tiny"
    assert (metadata["steps"], metadata["seed"], metadata["data_shape"]) == (STEPS, 3, [1, 8, 8])
    assert metadata["seconds"] > 0
    assert "resumed_at" not in metadata
    assert " thread" in metadata["hardware"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_killed_twice_and_run_again_gives_the_same_weights(tmp_path, tiny, capsys):
    whole, out = run_recipe("tiny", tmp_path / "whole"), tmp_path / "killed"
    tiny.kill(3, out)
    tiny.kill(5, out)
    assert checkpoints.read(tmp_path / "killed.work")[2]["training"]["step"] == 4
    assert not out.exists()
    capsys.readouterr()
    run_recipe("tiny", out)
    assert "resuming at step 4 from" in capsys.readouterr().out
    assert load(out, "cpu")[1]["resumed_at"] == 4  # its seconds are counted from there
    assert same_weights(out, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def test_killed_while_it_was_measured_trains_no_more(tmp_path, tiny):
    tiny.kill(STEPS, tmp_path / "a")
    (tmp_path / "a.work1").write_text("a second round, which some recipes have")
    out = run_recipe("tiny", tmp_path / "a")
    assert tiny.trained == [STEPS]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert same_weights(out, run_recipe("tiny", tmp_path / "whole"))


def test_restart_starts_again(tmp_path, tiny):
    out = tmp_path / "a"
    tiny.kill(3, out, seed=1)
    with pytest.raises(ValueError, match="is another training .*differs in seed.*--restart"):
        run_recipe("tiny", out, seed=2)
    run_recipe("tiny", out, seed=2, restart=True)
    assert same_weights(out, run_recipe("tiny", tmp_path / "whole", seed=2))


def test_the_checkpoint_can_be_elsewhere_and_a_broken_one_is_named(tmp_path, tiny):
    folder = tmp_path / "work"
    folder.mkdir()
    tiny.kill(3, tmp_path / "a", folder)
    assert [path.name for path in folder.iterdir()] == ["a.work"]
    (folder / "a.work").write_bytes((folder / "a.work").read_bytes()[:-9])
    with pytest.raises(ValueError, match="checkpoint_dir: cannot resume from .*a.work .*truncated.*--restart"):
        run_recipe("tiny", tmp_path / "a", folder)
    run_recipe("tiny", tmp_path / "a", folder, restart=True)
    assert not list(folder.iterdir())


def test_nothing_is_trained_for_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", lambda **options: pytest.fail("trained"))
    with pytest.raises(FileNotFoundError, match="out: .*nowhere.a cannot be written"):
        run_recipe("tiny", tmp_path / "nowhere" / "a")
    with pytest.raises(IsADirectoryError, match="out: expected the name of a file"):
        run_recipe("tiny", tmp_path)
    with pytest.raises(FileNotFoundError, match="checkpoint_dir: .*a.work cannot be written"):
        run_recipe("tiny", tmp_path / "a", tmp_path / "nowhere")
    with monkeypatch.context() as patch:  # tests may run as root, who may write anywhere
        patch.setattr(
            "pathlib.Path.write_bytes", lambda path, content: (_ for _ in ()).throw(PermissionError("denied"))
        )
        with pytest.raises(PermissionError, match="out: .* cannot be written"):
            run_recipe("tiny", tmp_path / "a")
    with pytest.raises(ValueError, match="recipe: expected one of 'digit_classifier', 'digits_by_label', .*got 'cats'"):
        run_recipe("cats", tmp_path / "a")


RUN_HERE = {
    "digit_classifier", "digits_by_label", "mnist_classifier", "mnist_classifier_14", "scene_classifier",
    "product_classifier",
}  # fmt: skip
RUN_ELSEWHERE = {"scene_autoencoder", "latent_scenes_by_caption", "stable_scenes", "dahlia", "digits_gan"}
# what these do is tested part by part: their measuring alone takes minutes; the last three are digits_gan's sisters
NOT_RUN = {
    "mnist_by_label", "scenes_by_caption", "scenes_by_mask", "products_by_caption", "product_upscaler",
    "digits_diffusion", "scenes_gan", "scenes_diffusion",
}  # fmt: skip


def test_a_new_recipe_is_run_by_a_test():
    assert set(recipes.RECIPES) - {"tiny"} == RUN_HERE | RUN_ELSEWHERE | NOT_RUN  # tiny is this module's own


@pytest.mark.parametrize("name", sorted(RUN_HERE))
def test_the_recipes_themselves_run(tmp_path, monkeypatch, name):
    monkeypatch.setattr(evaluation, "sample_digits", partial(evaluation.sample_digits, steps=1))  # the slow part

    def few(draw):  # drawing thousands of pictures is slow too
        return lambda n, *seed, **options: draw(8, *seed, **options)

    monkeypatch.setattr(recipes.scenes, "draw_scenes", few(recipes.scenes.draw_scenes))
    monkeypatch.setattr(recipes.products, "draw_products", few(recipes.products.draw_products))
    model, metadata = load(run_recipe(name, tmp_path / "a", steps=2), "cpu")
    shipped, theirs = load(pretrained_path(name), "cpu")
    assert metadata["metrics"].keys() == theirs["metrics"].keys()
    assert metadata.keys() == theirs.keys()
    assert model.state_dict().keys() == shipped.state_dict().keys()


def test_a_classifier_of_noised_digits_reads_what_noise_leaves():
    schedule, (unseen, truth) = Cosine(), small_digits("held_out")
    read = train_noisy_classifier(*small_digits("train"), schedule, steps=300)
    right = {}
    for t in (0.05, 0.5, 0.98):
        g = torch.Generator().manual_seed(1)
        xt = schedule.add_noise(unseen, torch.randn(unseen.shape, generator=g), t)
        torch.testing.assert_close(read(xt, t).exp().sum(1), torch.ones(len(xt)))
        right[t] = noisy_accuracy(read, schedule, t, data=small_digits)
        assert right[t] == (read(xt, t).argmax(1) == truth).float().mean().item()
    assert right[0.05] > 0.9
    assert right[0.5] > 0.6
    assert right[0.98] < 0.25
