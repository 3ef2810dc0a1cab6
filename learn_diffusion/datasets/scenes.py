"""Captioned pictures, 32x32 or 64x64 in colour, drawn by rules: "a gray cat wearing sunglasses on the moon".

A scene is a subject, an accessory, a place and a colour: 8 x 6 x 7 x 6 = 2016 scenes, each drawn in endless variations.
Because we choose what is drawn, we can leave combinations out of the training and ask for them afterwards: a model that
draws them has understood the words one by one, and did not look them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.datasets.scene_art import ACCESSORIES, COLOURS, FINE, PLACES, SIDE, SUBJECTS, draw

ATTRIBUTES: dict[str, list[str]] = {
    "subject": list(SUBJECTS), "accessory": list(ACCESSORIES), "place": list(PLACES), "colour": list(COLOURS),
}  # fmt: skip


class Scene(NamedTuple):
    """What is in a picture; each field is one of ATTRIBUTES[field]."""

    subject: str
    accessory: str
    place: str
    colour: str

    def indices(self) -> list[int]:
        """The attributes as numbers, in the order of ATTRIBUTES."""
        return [names.index(value) for names, value in zip(ATTRIBUTES.values(), self, strict=True)]


# Held out: never in the training data when hold_out is True. Chosen before the first model was trained.
# Whole triples (subject, accessory, place); every pair of them is seen in other pictures.
HELD_TRIPLES = [
    ("cat", "sunglasses", "moon"), ("dog", "crown", "beach"), ("rabbit", "hat", "desert"), ("robot", "scarf", "forest"),
    ("bird", "sunglasses", "snow"), ("fish", "hat", "city"), ("elephant", "balloon", "sea"), ("octopus", "hat", "moon"),
    ("cat", "scarf", "city"), ("dog", "balloon", "forest"), ("rabbit", "sunglasses", "sea"), ("robot", "hat", "beach"),
    ("bird", "crown", "desert"), ("fish", "crown", "moon"), ("elephant", "hat", "snow"), ("octopus", "crown", "city"),
    ("cat", "crown", "sea"), ("dog", "hat", "snow"), ("rabbit", "scarf", "beach"), ("robot", "balloon", "city"),
    ("bird", "balloon", "moon"), ("fish", "sunglasses", "beach"), ("elephant", "crown", "desert"),
    ("octopus", "sunglasses", "forest"),
]  # fmt: skip
# Whole pairs: these two never meet in any picture.
HELD_PAIRS = [
    ("rabbit", "crown"), ("robot", "sunglasses"), ("elephant", "scarf"), ("fish", "forest"), ("octopus", "desert"),
]  # fmt: skip


def split_of(scene: Scene) -> str:
    """ "seen", or what makes it new to a model trained with hold_out: "unseen pair" or "unseen triple"."""
    if any(a in scene and b in scene for a, b in HELD_PAIRS):
        return "unseen pair"
    return "unseen triple" if scene[:3] in HELD_TRIPLES else "seen"


# How captions say it. The first wording of each is the plainest.
NOUNS = {"cat": ["cat", "kitten"], "dog": ["dog", "puppy"], "rabbit": ["rabbit", "bunny"]}
ADJECTIVES = {"gray": ["gray", "grey"]}
WORN = {
    "sunglasses": ["wearing sunglasses", "with sunglasses", "in dark glasses"],
    "hat": ["wearing a hat", "with a red hat", "in a hat"],
    "scarf": ["wearing a scarf", "with a scarf", "in a striped scarf"],
    "crown": ["wearing a crown", "with a crown", "with a golden crown"],
    "balloon": ["holding a balloon", "with a balloon", "with a purple balloon"],
}
WHERE = {
    "moon": ["on the moon", "standing on the moon"],
    "beach": ["on the beach", "at the beach", "at the seaside"],
    "forest": ["in the forest", "in a forest", "in the woods"],
    "city": ["in the city", "in the city at night", "in a city"],
    "snow": ["in the snow", "in the snowy mountains"],
    "desert": ["in the desert", "in a desert"],
    "sea": ["under the sea", "under water"],
}
OPENINGS = ["", "", "", "a picture of ", "a drawing of ", "this is "]


def canonical_caption(scene: Scene) -> str:
    """The plainest caption that says everything: "an orange cat wearing sunglasses on the moon"."""
    _check(scene)
    worn = WORN[scene.accessory][0] if scene.accessory != "nothing" else ""
    parts = (scene.colour, scene.subject, worn, WHERE[scene.place][0])
    return _article(" ".join(part for part in parts if part))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(scene: Scene, r: Random) -> str:
    """One way to say what is in a picture: synonyms, order and openings vary. "nothing" is left unsaid, the colour is
    left out half the time, the place one time in eight, and one time in ten the subject is just a creature, so that a
    model learns what each word alone asks for."""
    noun = "creature" if r.random() < 0.1 else r.choice(NOUNS.get(scene.subject, [scene.subject]))
    if r.random() < 0.5:
        noun = f"{r.choice(ADJECTIVES.get(scene.colour, [scene.colour]))} {noun}"
    noun = _article(noun)
    worn = r.choice(WORN[scene.accessory]) if scene.accessory != "nothing" else ""
    where = r.choice(WHERE[scene.place]) if r.random() < 7 / 8 else ""
    parts = [noun, where, worn] if r.random() < 0.25 else [noun, worn, where]
    if where and not where.startswith("standing") and r.random() < 0.2:
        return f"{where} there is {' '.join(part for part in (noun, worn) if part)}"
    return r.choice(OPENINGS) + " ".join(part for part in parts if part)


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted: the vocabulary of a model trained on scenes."""
    phrases = [*SUBJECTS, *COLOURS, *OPENINGS, "creature a an there is"]
    for wordings in (NOUNS, ADJECTIVES, WORN, WHERE):
        phrases += [phrase for choices in wordings.values() for phrase in choices]
    return sorted(set(" ".join(phrases).split()))


class Scenes(NamedTuple):
    """n captioned pictures and what is in each."""

    images: Tensor  # (n, 3, side, side) float32 in [-1, 1]
    captions: list[str]
    attributes: Tensor  # (n, 4) int64: subject, accessory, place, colour as numbers, see ATTRIBUTES


def draw_scenes(
    n: int, seed: int = 0, hold_out: bool = True, only: Sequence[Scene] | None = None, progress: bool = False,
    side: int = SIDE,
) -> Scenes:  # fmt: skip
    """n pictures with captions and attributes; picture i depends on (seed, i) alone, on any machine.

    hold_out  leave out the scenes of HELD_TRIPLES and HELD_PAIRS
    only      draw these scenes in turn, instead of random ones; hold_out then does not apply
    progress  show a tqdm bar; a thousand pictures take about a second
    side      of the pictures, a divisor of 192; the same seed draws the same scenes at any

    Raises ValueError that names a bad argument.
    """
    validation.positive_int("n", n)
    seed = validation.whole_number("seed", seed, 0, 2**32 - 1)
    if isinstance(side, bool) or not isinstance(side, int) or side < 1 or SIDE * FINE % side:
        raise ValueError(f"side: expected a divisor of {SIDE * FINE}, such as 32 or 64, got {side!r}")
    if only is not None and not only:
        raise ValueError("only: expected at least one scene, got none")
    for scene in only or []:
        _check(scene)
    from tqdm.auto import trange

    pixels, captions, attributes = np.empty((n, side, side, 3), np.uint8), [], []
    for i in trange(n, desc="drawing scenes", disable=not progress):
        r = Random((seed << 32) + i)
        scene = Scene(*only[i % len(only)]) if only else _choose(r, hold_out)
        captions.append(caption(scene, r))
        attributes.append(scene.indices())
        pixels[i] = draw(*scene, r, side)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return Scenes(images.contiguous(), captions, torch.tensor(attributes))


def all_scenes(which: str) -> list[Scene]:
    """Every scene of a kind: "seen", "unseen triple" or "unseen pair"."""
    validation.one_of("which", which, ("seen", "unseen triple", "unseen pair"))
    every = (Scene(s, a, p, c) for s in SUBJECTS for a in ACCESSORIES for p in PLACES for c in COLOURS)
    return [scene for scene in every if split_of(scene) == which]


def _choose(r: Random, hold_out: bool) -> Scene:
    while True:
        scene = Scene(*(r.choice(names) for names in ATTRIBUTES.values()))
        if not hold_out or split_of(scene) == "seen":
            return scene


def _check(scene: Scene) -> None:
    for (name, choices), value in zip(ATTRIBUTES.items(), scene, strict=True):
        validation.one_of(name, value, choices)
