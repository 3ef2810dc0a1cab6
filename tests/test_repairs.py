"""The tasks of chapter 13, and the model that was trained with masks."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion import checkpoints, drawing, recipes
from learn_diffusion.datasets.scenes import ATTRIBUTES, describe, kind
from learn_diffusion.denoiser import hinted
from learn_diffusion.editing import hold
from learn_diffusion.guidance import cfg


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_one_word_differs_and_nothing_else(attribute):
    olds, news = recipes.one_word(60, attribute, seed=3)
    for old, new in zip(olds, news, strict=True):
        assert [name for name in ATTRIBUTES if getattr(old, name) != getattr(new, name)] == [attribute]
        assert kind(old) == kind(new) == "seen"


def test_repairs_are_real_scenes_with_a_hole_over_what_was_worn():
    known, wishes, mask = recipes.repairs(200, seed=4)
    assert known.shape == (200, 3, 32, 32)
    assert -1 <= known.min() < known.max() <= 1
    olds, news = recipes.one_word(200, "accessory", seed=4)
    assert wishes == news
    judge, _ = checkpoints.load(recipes.shipped("scene_judge"), "cpu")
    assert recipes.right(judge, known, torch.tensor([scene.indices() for scene in olds]))[1] > 0.97
    hidden = torch.where(mask, known, 0.0)
    still_worn = (judge.read(hidden)[:, 1] == torch.tensor([scene.indices()[1] for scene in olds])).float()
    dressed = torch.tensor([scene.accessory != "nothing" for scene in olds])
    assert still_worn[dressed].mean() < 0.2  # a guess
    area = (~mask).float().mean((1, 2, 3))
    assert area.min() > 0.2
    assert area.max() < 0.95
    again = recipes.repairs(200, seed=4)
    assert torch.equal(again[0], known)
    assert torch.equal(again[2], mask)


def test_a_hint_shows_what_is_known_and_where():
    x0 = torch.rand(50, 3, 16, 16, generator=gen()) * 0.9 + 0.1  # nowhere 0
    hint = recipes.something_known(x0, gen(1))
    assert hint.shape == (50, 4, 16, 16)
    kept = hint[:, 3:] > 0.5
    assert torch.equal(hint[:, 3:], kept.float())
    assert torch.equal(hint[:, :3], torch.where(kept, x0, 0.0))
    share = kept.float().mean((1, 2, 3))
    assert (share == 0).float().mean().item() == pytest.approx(0.1, abs=0.09)
    assert share.max() < 1
    assert share[share > 0].std() > 0.1


def test_the_repairer_repairs():
    repairer, about = checkpoints.load(recipes.shipped("scenes_by_mask"), "cpu")
    assert recipes.shipped("scenes_by_mask").stat().st_size <= 5e6
    judge, _ = checkpoints.load(recipes.shipped("scene_judge"), "cpu")
    known, wishes, mask = recipes.repairs(24, seed=8)
    y = repairer.net.text.tokenise([describe(wish) for wish in wishes])
    path = repairer.schedule
    denoise = hold(cfg(hinted(repairer, recipes.known_hint(known, mask)), y, recipes.SCALE), path, known, mask)
    filled = drawing.walk(denoise, path, drawing.start(path, known.shape), 12)
    kept = mask.expand_as(known)
    assert torch.equal(filled[kept], known[kept])
    truth = torch.tensor([wish.indices() for wish in wishes])
    assert recipes.right(judge, filled, truth)[1] > 0.7
    assert about["metrics"]["repaired"]["all"] > 0.85
