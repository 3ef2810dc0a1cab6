"""Captioned scenes: the same everywhere, nothing held out leaks into training, captions say what is there."""

from __future__ import annotations

import hashlib
from itertools import combinations
from random import Random

import pytest
import torch
import torch.nn.functional as F

from learn_diffusion.datasets.scenes import (
    ATTRIBUTES,
    HELD_PAIRS,
    HELD_TRIPLES,
    NOUNS,
    WHERE,
    WORN,
    Scene,
    all_scenes,
    canonical_caption,
    caption,
    draw_scenes,
    split_of,
    vocabulary,
)  # fmt: skip
from learn_diffusion.nets.text import Tokeniser

CAT = Scene("cat", "sunglasses", "moon", "orange")


@pytest.fixture(scope="module")
def training():
    return draw_scenes(4000, seed=11)


def named(row: torch.Tensor) -> Scene:
    return Scene(*(values[i] for values, i in zip(ATTRIBUTES.values(), row.tolist(), strict=True)))


def test_pictures_are_float32_in_range_and_captions_strings():
    images, captions, _ = draw_scenes(5)
    assert images.shape == (5, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert -1 <= images.min() < -0.5 < 0.5 < images.max() <= 1
    assert len(captions) == 5
    assert all(isinstance(line, str) for line in captions)


def test_the_world_is_as_large_as_promised():
    sizes = {name: len(values) for name, values in ATTRIBUTES.items()}
    assert sizes["subject"] >= 8
    assert sizes["accessory"] >= 6
    assert sizes["place"] >= 7
    assert sizes["colour"] >= 6
    kinds = [len(all_scenes(which)) for which in ("seen", "unseen triple", "unseen pair")]
    assert sum(kinds) == sizes["subject"] * sizes["accessory"] * sizes["place"] * sizes["colour"]
    assert min(kinds) > 100


def test_a_seed_gives_the_same_pictures_on_every_machine():
    drawn = draw_scenes(64, seed=7, hold_out=False)
    bytes_drawn = ((drawn.images + 1) * 127.5).round().to(torch.uint8).numpy().tobytes()
    digest = hashlib.sha256(bytes_drawn + "\n".join(drawn.captions).encode()).hexdigest()
    assert digest == "7ed18e0af1c0756bf614873d5ab60f0ca60513503af6eb484445e4f47c791d42"


def test_picture_i_depends_on_seed_and_i_alone():
    few, many = draw_scenes(4, seed=3), draw_scenes(9, seed=3)
    assert torch.equal(few.images, many.images[:4])
    assert few.captions == many.captions[:4]
    assert not torch.equal(few.images, draw_scenes(4, seed=4).images)


def test_a_seed_draws_the_same_scenes_at_any_side():
    """Every pixel at 32x32 is the mean of four at 64x64, but for roundings, and for light that was cut off at white."""
    small, large = draw_scenes(40, seed=3), draw_scenes(40, seed=3, side=64)
    assert large.images.shape == (40, 3, 64, 64)
    assert large.captions == small.captions
    assert torch.equal(large.attributes, small.attributes)
    off = (F.avg_pool2d(large.images, 2) - small.images).abs() * 127.5
    assert off.mean() < 0.5
    assert off.max() < 10
    assert (F.interpolate(small.images, scale_factor=2) - large.images).abs().max() > 0.5  # there is more to see


def leaks(attributes: torch.Tensor) -> list[Scene]:
    """Scenes that hold a held-out triple or pair, found by comparing sets, not by the function the training uses."""
    triples, pairs = [set(t) for t in HELD_TRIPLES], [set(p) for p in HELD_PAIRS]
    return [s for s in map(named, attributes) if any(part <= set(s) for part in triples + pairs)]


def test_nothing_held_out_leaks_into_training(training):
    assert leaks(training.attributes) == []


def test_the_check_above_can_fail():
    found = {split_of(scene) for scene in leaks(draw_scenes(600, seed=11, hold_out=False).attributes)}
    assert found == {"unseen triple", "unseen pair"}


def test_no_caption_of_the_training_names_a_held_out_combination(training):
    noun = {name: NOUNS.get(name, [name]) for name in ATTRIBUTES["subject"]}
    for subject, accessory, place in HELD_TRIPLES:
        for line in training.captions:
            text = f" {line} "
            says = any(f" {word} " in text for word in noun[subject])
            says = says and any(f" {phrase} " in text for phrase in WORN[accessory])
            assert not (says and any(f" {phrase} " in text for phrase in WHERE[place])), line


def test_held_out_is_what_the_mission_asks_and_its_pairs_are_all_seen():
    assert HELD_TRIPLES[0] == ("cat", "sunglasses", "moon")
    seen = all_scenes("seen")
    pairs = {pair for scene in seen for pair in combinations(scene, 2)}
    for triple in HELD_TRIPLES:
        assert split_of(Scene(*triple, "blue")) == "unseen triple", triple
        assert set(combinations(triple, 2)) <= pairs, f"a pair of {triple} is never seen, so it is no unseen triple"
    for one, other in HELD_PAIRS:
        assert not any({one, other} <= set(scene) for scene in seen)
    for name, values in ATTRIBUTES.items():
        assert {getattr(scene, name) for scene in seen} == set(values)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_attribute_shows_in_the_picture(name):
    """The same seed with one attribute changed: some pixels change much."""
    pictures = [draw_scenes(1, seed=5, only=[CAT._replace(**{name: value})]).images for value in ATTRIBUTES[name]]
    for a, b in combinations(pictures, 2):
        assert ((a - b).abs().amax(1) > 0.4).sum() >= 6, name


def test_captions_say_nothing_that_is_not_there(training):
    phrases = {"subject": NOUNS, "accessory": WORN, "place": WHERE}
    for line, row in zip(training.captions[:800], training.attributes, strict=False):
        scene, text = named(row), f" {line} "
        for name, wordings in phrases.items():
            for value in ATTRIBUTES[name]:
                said = [p for p in wordings.get(value, [value]) if f" {p} " in text]
                # "in a city" is part of no other place, "in a hat" of no other thing: whatever is said must be true
                assert not said or value == getattr(scene, name), (line, scene)
        assert sum(f" {colour} " in text for colour in ATTRIBUTES["colour"]) <= 1


def test_captions_vary_and_leave_things_out():
    lines = {caption(CAT, Random(i)) for i in range(300)}
    assert len(lines) > 100
    assert sum("orange" in line for line in lines) < len(lines)
    assert any("creature" in line for line in lines)
    assert any(not any(phrase in line for phrase in WHERE["moon"]) for line in lines)


def test_every_caption_can_be_read(training):
    tokenise = Tokeniser(vocabulary())
    assert tokenise(training.captions).min() >= 0
    tokenise(
        [canonical_caption(scene) for which in ("seen", "unseen triple", "unseen pair") for scene in all_scenes(which)]
    )
    assert set(vocabulary()) == set(" ".join(labelled_captions()).split()), "a word that no caption holds"


def labelled_captions() -> list[str]:
    every = all_scenes("seen")
    return [caption(every[i % len(every)], Random(i)) for i in range(6000)]


def test_the_plainest_caption_says_everything():
    assert canonical_caption(CAT) == "an orange cat wearing sunglasses on the moon"
    assert canonical_caption(Scene("fish", "nothing", "sea", "blue")) == "a blue fish under the sea"


def test_asked_for_scenes_come_in_turn():
    wanted = [CAT, Scene("fish", "crown", "moon", "blue")]
    assert [named(row) for row in draw_scenes(4, only=wanted).attributes] == wanted * 2
