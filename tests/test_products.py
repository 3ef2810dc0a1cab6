"""The data of the chapter on product pictures, and what is measured on them."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import torch

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.products import (
    ATTRIBUTES,
    Shot,
    backdrops,
    canonical_caption,
    caption,
    draw_products,
    paints,
    vocabulary,
    with_another,
)
from learn_diffusion.recipes import evaluation, transforms
from learn_diffusion.recipes.pretrained import pretrained_path

MUG = Shot("mug", "red", "table")


def test_products_are_pictures_with_captions_and_masks():
    some = draw_products(30, seed=1)
    assert some.images.shape == (30, 3, 64, 64)
    assert some.images.dtype == torch.float32
    assert some.images.abs().max() <= 1
    assert some.attributes.shape == (30, 3)
    assert len(some.captions) == 30
    for mask in (some.inside, some.outline, some.shadow):
        assert mask.shape == (30, 1, 64, 64)
        assert mask.dtype == torch.bool
        assert mask.flatten(1).any(1).all()
    assert (some.inside <= some.outline).all()
    assert not (some.shadow & some.outline).any()
    rim = torch.cat([m[..., 0] for m in (some.outline, some.outline.mT)])
    assert not rim.any(), "a product runs out of its picture"


def test_pictures_never_change():
    """Every number printed anywhere was measured on these pictures."""
    every = [Shot(p, c, b) for p, c, b in zip(*(list(values) for values in ATTRIBUTES.values()), strict=True)]
    pixels = ((draw_products(6, seed=0, only=every).images + 1) * 127.5).round().to(torch.uint8)
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "4fa07d1ffccd4f88"


def test_a_picture_depends_on_its_seed_and_place_alone():
    assert torch.equal(draw_products(5, seed=2).images[:3], draw_products(3, seed=2).images)
    assert not torch.equal(draw_products(3, seed=2).images, draw_products(3, seed=3).images)


def test_the_same_shot_in_another_colour_differs_on_the_product_alone():
    red, blue = draw_products(8, seed=4, only=[MUG]), draw_products(8, seed=4, only=[MUG._replace(colour="blue")])
    differs = (red.images != blue.images).any(1, keepdim=True)
    assert torch.equal(red.outline, blue.outline)
    assert not (differs & ~red.outline).any()
    assert (differs & red.outline).sum() > 0.5 * red.outline.sum()


def test_the_same_shot_before_another_backdrop_keeps_the_product():
    table, beach = draw_products(8, seed=4, only=[MUG]), draw_products(8, seed=4, only=[MUG._replace(backdrop="beach")])
    inside = table.inside.expand_as(table.images)
    assert torch.equal(table.inside, beach.inside)
    assert torch.equal(table.shadow, beach.shadow)
    assert torch.equal(table.images[inside], beach.images[inside])
    assert not torch.equal(table.images, beach.images)


def test_an_empty_backdrop_is_what_stands_behind_the_product():
    names = list(ATTRIBUTES["backdrop"])
    shots = draw_products(len(names), seed=5, only=[MUG._replace(backdrop=name) for name in names])
    nothing = backdrops(names, seed=5)
    elsewhere = ~(shots.outline | shots.shadow)
    far = torch.nn.functional.max_pool2d((~elsewhere).float(), 3, 1, 1) == 0  # the shadow's rim is half in it
    assert torch.equal(nothing[far.expand_as(nothing)], shots.images[far.expand_as(nothing)])
    lit, dark = (x.mean(1, keepdim=True)[shots.shadow] + 1 for x in (nothing, shots.images))
    assert abs((dark.sum() / lit.sum()).item() - 0.58) < 0.02


def test_captions_say_what_is_there_in_known_words():
    assert canonical_caption(MUG) == "a red mug on a wooden table"
    said = [caption(MUG, Random(i)) for i in range(300)]
    assert {word for text in said for word in text.split()} <= set(vocabulary())
    assert 0.6 < sum("red" in text for text in said) / 300 < 0.9
    assert all("mug" in text for text in said)
    assert len(set(said)) > 15


def test_shots_and_numbers_agree():
    shot = Shot("clock", "green", "street")
    assert Shot.of(shot.indices()) == shot
    assert draw_products(1, seed=0, only=[shot]).attributes.tolist() == [shot.indices()]


def test_another_value_of_one_attribute():
    r = np.random.default_rng(0)
    drawn = [with_another(MUG, "colour", r) for _ in range(60)]
    assert {shot.colour for shot in drawn} == set(ATTRIBUTES["colour"]) - {"red"}
    assert {shot._replace(colour="red") for shot in drawn} == {MUG}


def test_a_hue_is_shifted_where_the_mask_is_true_and_nowhere_else():
    """A picture in one paint, half in shadow, becomes the other paint, half in shadow."""
    old, new = paints([MUG]), paints([MUG._replace(colour="blue")])
    shade = torch.cat([torch.ones(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5)], dim=2)
    before, after = ((colour[..., None, None] + 1) * shade - 1 for colour in (old, new))
    mask = torch.zeros(1, 1, 8, 4, dtype=torch.bool)
    mask[..., 1:] = True
    found = transforms.shift_hue(before, mask, old, new)
    torch.testing.assert_close(found[..., 1:], after[..., 1:])
    assert torch.equal(found[..., :1], before[..., :1])
    grey = paints([MUG._replace(colour="white")])
    for old in (grey, torch.full((1, 3), -1.0)):  # and black
        assert transforms.shift_hue(before, mask, old, new).abs().max() <= 1
    assert transforms.shift_hue(0 * before - 1, mask, torch.full((1, 3), -1.0), new).isfinite().all()


# ---- what ships ----


def load(name):
    return checkpoints.load(pretrained_path(name), "cpu")


def test_the_classifier_reads_products():
    classifier, metadata = load("product_classifier")
    some = draw_products(100, seed=evaluation.CLASSIFIER_SEEDS[1] + 1)
    assert evaluation.attribute_accuracy(classifier, some.images, some.attributes, ATTRIBUTES)[1] >= 0.97
    small = transforms.upsample_nearest(transforms.downsample(some.images))
    assert evaluation.attribute_accuracy(classifier, small, some.attributes, ATTRIBUTES)[1] >= 0.97
    assert metadata["metrics"]["held_out_accuracy"] >= 0.99


def test_the_model_draws_what_it_is_asked_for():
    model, metadata = load("products_by_caption")
    classifier, _ = load("product_classifier")
    wanted = draw_products(24, seed=evaluation.CLASSIFIER_SEEDS[1] + 2).attributes
    y = model.net.text.tokenise([canonical_caption(Shot.of(row)) for row in wanted.tolist()])
    images = sampling.sample(model, (24, 3, 32, 32), y, evaluation.GUIDANCE_SCALE, steps=10)
    assert evaluation.attribute_accuracy(classifier, transforms.upsample_nearest(images), wanted, ATTRIBUTES)[1] >= 0.75
    assert metadata["metrics"]["prompt_accuracy"]["all"] >= 0.9


def test_the_upscaler_draws_detail_and_its_mean_beats_interpolation():
    upscaler, metadata = load("product_upscaler")
    real = draw_products(12, seed=evaluation.CLASSIFIER_SEEDS[1] + 3).images
    small = transforms.downsample(transforms.downsample(real))
    drawn = [evaluation.upscaled(upscaler, small, seed, steps=10) for seed in range(4)]
    assert drawn[0].shape == real.shape
    assert drawn[0].abs().max() <= 1
    mean_error = (torch.stack(drawn).mean(0) - real).square().mean().item()
    assert mean_error < (transforms.upsample_bicubic(small) - real).square().mean().item()
    assert (drawn[0] - drawn[1]).abs().mean() > 0.005
    assert metadata["metrics"]["mse"] < 2 * metadata["metrics"]["mse_bicubic"]


def test_detail_is_what_interpolation_lacks():
    real = draw_products(8, seed=3).images
    small = transforms.downsample(transforms.downsample(real))
    detail = transforms.detail_of(real, small)
    assert detail.abs().max() <= 1
    again = transforms.with_detail(small, detail)
    whole = (real - transforms.upsample_bicubic(small)).abs() <= transforms.DETAIL
    torch.testing.assert_close(again[whole], real[whole], atol=1e-5, rtol=0)
    assert whole.float().mean() > 0.99
    torch.testing.assert_close(transforms.with_detail(small, 0 * detail), transforms.upsample_bicubic(small))


def test_enlarged_is_bicubic_and_in_range():
    flat = torch.full((1, 3, 16, 16), 0.25)
    torch.testing.assert_close(transforms.upsample_bicubic(flat), torch.full((1, 3, 64, 64), 0.25))
    assert transforms.upsample_bicubic(torch.randn(2, 3, 16, 16)).abs().max() <= 1
