"""The inpainting tasks of chapter 13, and the model that was trained with masks."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.scenes import ATTRIBUTES, canonical_caption, split_of
from learn_diffusion.denoiser import with_image_cond
from learn_diffusion.editing import ddnm
from learn_diffusion.guidance import cfg
from learn_diffusion.recipes import evaluation, transforms
from learn_diffusion.recipes.pretrained import pretrained_path


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_one_word_differs_and_nothing_else(attribute):
    olds, news = evaluation.one_word(60, attribute, seed=3)
    for old, new in zip(olds, news, strict=True):
        assert [name for name in ATTRIBUTES if getattr(old, name) != getattr(new, name)] == [attribute]
        assert split_of(old) == split_of(new) == "seen"


def test_tasks_are_real_scenes_with_a_hole_over_what_was_worn():
    known, wanted, mask = evaluation.inpainting_tasks(200, seed=4)
    assert known.shape == (200, 3, 32, 32)
    assert -1 <= known.min() < known.max() <= 1
    olds, news = evaluation.one_word(200, "accessory", seed=4)
    assert wanted == news
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    assert (
        evaluation.attribute_accuracy(classifier, known, torch.tensor([scene.indices() for scene in olds]), ATTRIBUTES)[
            1
        ]
        > 0.97
    )
    hidden = torch.where(mask, known, 0.0)
    still_worn = (classifier.read(hidden)[:, 1] == torch.tensor([scene.indices()[1] for scene in olds])).float()
    dressed = torch.tensor([scene.accessory != "nothing" for scene in olds])
    assert still_worn[dressed].mean() < 0.2  # a guess
    area = (~mask).float().mean((1, 2, 3))
    assert area.min() > 0.2
    assert area.max() < 0.95
    again = evaluation.inpainting_tasks(200, seed=4)
    assert torch.equal(again[0], known)
    assert torch.equal(again[2], mask)


def test_the_condition_shows_what_is_known_and_where():
    x0 = torch.rand(50, 3, 16, 16, generator=gen()) * 0.9 + 0.1  # nowhere 0
    cond = transforms.random_mask_cond(x0, gen(1))
    assert cond.shape == (50, 4, 16, 16)
    kept = cond[:, 3:] > 0.5
    assert torch.equal(cond[:, 3:], kept.float())
    assert torch.equal(cond[:, :3], torch.where(kept, x0, 0.0))
    share = kept.float().mean((1, 2, 3))
    assert (share == 0).float().mean().item() == pytest.approx(0.1, abs=0.09)
    assert share.max() < 1
    assert share[share > 0].std() > 0.1


def test_the_inpainting_model_inpaints():
    model, metadata = checkpoints.load(pretrained_path("scenes_by_mask"), "cpu")
    assert pretrained_path("scenes_by_mask").stat().st_size <= 5e6
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    known, wanted, mask = evaluation.inpainting_tasks(24, seed=8)
    y = model.net.text.tokenise([canonical_caption(scene) for scene in wanted])
    path = model.schedule
    denoise = ddnm(
        cfg(with_image_cond(model, transforms.mask_cond(known, mask)), y, evaluation.GUIDANCE_SCALE), path, known, mask
    )
    filled = sampling.run_sampler(denoise, path, sampling.initial_noise(path, known.shape), 12)
    kept = mask.expand_as(known)
    assert torch.equal(filled[kept], known[kept])
    truth = torch.tensor([scene.indices() for scene in wanted])
    assert evaluation.attribute_accuracy(classifier, filled, truth, ATTRIBUTES)[1] > 0.7
    assert metadata["metrics"]["repaired"]["all"] > 0.85
