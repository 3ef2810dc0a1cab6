"""The tasks of chapter 13, and the model that was trained with masks."""

from __future__ import annotations

import pytest
import torch

from learn_diffusion import checkpoints, recipes, sampling
from learn_diffusion.datasets.scenes import ATTRIBUTES, canonical_caption, split_of
from learn_diffusion.denoiser import with_image_cond
from learn_diffusion.editing import ddnm
from learn_diffusion.guidance import cfg


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_one_word_differs_and_nothing_else(attribute):
    olds, news = recipes.one_word(60, attribute, seed=3)
    for old, new in zip(olds, news, strict=True):
        assert [name for name in ATTRIBUTES if getattr(old, name) != getattr(new, name)] == [attribute]
        assert split_of(old) == split_of(new) == "seen"


def test_repairs_are_real_scenes_with_a_hole_over_what_was_worn():
    known, wishes, mask = recipes.inpainting_tasks(200, seed=4)
    assert known.shape == (200, 3, 32, 32)
    assert -1 <= known.min() < known.max() <= 1
    olds, news = recipes.one_word(200, "accessory", seed=4)
    assert wishes == news
    judge, _ = checkpoints.load(recipes.pretrained_path("scene_classifier"), "cpu")
    assert recipes.right(judge, known, torch.tensor([scene.indices() for scene in olds]))[1] > 0.97
    hidden = torch.where(mask, known, 0.0)
    still_worn = (judge.read(hidden)[:, 1] == torch.tensor([scene.indices()[1] for scene in olds])).float()
    dressed = torch.tensor([scene.accessory != "nothing" for scene in olds])
    assert still_worn[dressed].mean() < 0.2  # a guess
    area = (~mask).float().mean((1, 2, 3))
    assert area.min() > 0.2
    assert area.max() < 0.95
    again = recipes.inpainting_tasks(200, seed=4)
    assert torch.equal(again[0], known)
    assert torch.equal(again[2], mask)


def test_a_hint_shows_what_is_known_and_where():
    x0 = torch.rand(50, 3, 16, 16, generator=gen()) * 0.9 + 0.1  # nowhere 0
    image_cond = recipes.random_mask_cond(x0, gen(1))
    assert image_cond.shape == (50, 4, 16, 16)
    kept = image_cond[:, 3:] > 0.5
    assert torch.equal(image_cond[:, 3:], kept.float())
    assert torch.equal(image_cond[:, :3], torch.where(kept, x0, 0.0))
    share = kept.float().mean((1, 2, 3))
    assert (share == 0).float().mean().item() == pytest.approx(0.1, abs=0.09)
    assert share.max() < 1
    assert share[share > 0].std() > 0.1


def test_the_repairer_repairs():
    repairer, metadata = checkpoints.load(recipes.pretrained_path("scenes_by_mask"), "cpu")
    assert recipes.pretrained_path("scenes_by_mask").stat().st_size <= 5e6
    judge, _ = checkpoints.load(recipes.pretrained_path("scene_classifier"), "cpu")
    known, wishes, mask = recipes.inpainting_tasks(24, seed=8)
    y = repairer.net.text.tokenise([canonical_caption(wish) for wish in wishes])
    schedule = repairer.schedule
    denoise = ddnm(
        cfg(with_image_cond(repairer, recipes.mask_cond(known, mask)), y, recipes.SCALE), schedule, known, mask
    )
    filled = sampling.run_sampler(denoise, schedule, sampling.initial_noise(schedule, known.shape), 12)
    kept = mask.expand_as(known)
    assert torch.equal(filled[kept], known[kept])
    truth = torch.tensor([wish.indices() for wish in wishes])
    assert recipes.right(judge, filled, truth)[1] > 0.7
    assert metadata["metrics"]["repaired"]["all"] > 0.85
