"""The inpainting tasks of chapter 13, and the model that was trained with masks."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion import checkpoints
from learn_diffusion.datasets.scenes import ATTRIBUTES, split_of
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


def test_half_of_each_picture_is_known_and_every_half_comes_up():
    x0 = torch.rand(200, 1, 8, 6, generator=gen()) * 0.9 + 0.1  # nowhere 0
    cond = transforms.random_half_cond(x0, gen(1))
    kept = cond[:, 1:] > 0.5
    assert torch.equal(cond[:, :1], torch.where(kept, x0, 0.0))
    upper, left = torch.zeros(1, 8, 6, dtype=torch.bool), torch.zeros(1, 8, 6, dtype=torch.bool)
    upper[:, :4], left[..., :3] = True, True
    counts = [(kept == half).flatten(1).all(1).sum().item() for half in (upper, ~upper, left, ~left)]
    assert sum(counts) == 200
    assert min(counts) > 30


def test_nearest_completions_look_at_what_is_known_only():
    pictures = torch.tensor([[0.0, 9.0], [1.0, -9.0], [3.0, 0.0]]).reshape(3, 1, 1, 2)
    mask = torch.tensor([[[[True, False]]]])
    found = evaluation.nearest_completions(torch.tensor([[[[0.8, 9.0]]], [[[5.0, 0.0]]]]), mask, pictures, 2)
    assert found.shape == (2, 2, 1, 1, 2)
    assert found[:, :, 0, 0, 1].tolist() == [[-9.0, 0.0], [9.0, -9.0]]


def test_scene_accuracy_counts_each_attribute_and_all_four():
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    known, _, _ = evaluation.inpainting_tasks(8, seed=4)
    olds, news = evaluation.one_word(8, "accessory", seed=4)
    right, wrong = (evaluation.scene_accuracy(classifier, known, scenes) for scenes in (olds, news))
    assert right == dict.fromkeys([*ATTRIBUTES, "all four"], 1.0)
    assert wrong == {**right, "accessory": 0.0, "all four": 0.0}


def test_the_inpainting_model_inpaints():
    model, metadata = checkpoints.load(pretrained_path("scenes_by_mask"), "cpu")
    assert pretrained_path("scenes_by_mask").stat().st_size <= 5e6
    painter, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    known, wanted, mask = evaluation.inpainting_tasks(24, seed=8)
    filled = evaluation.inpaint(model, known, mask, evaluation.scene_tokens(model, wanted), steps=12)
    kept = mask.expand_as(known)
    assert torch.equal(filled[kept], known[kept])
    assert evaluation.scene_accuracy(classifier, filled, wanted)["all four"] > 0.7
    held_only = evaluation.inpaint(painter, known, mask, evaluation.scene_tokens(painter, wanted), steps=2)
    assert torch.equal(held_only[kept], known[kept])  # a model without an image condition is only held
    assert metadata["metrics"]["repaired"]["all"] > 0.85
