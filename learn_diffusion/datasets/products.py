"""Captioned product pictures, 64x64 in colour, drawn by rules: "a red mug on a wooden table".

A shot is a product, a colour and a backdrop: 6 x 6 x 6 = 216, each drawn in endless variations. It is known of every
picture where the product is and where its shadow falls. And the same shot can be had again in another colour, or before
another backdrop: no photographer can do that, and it makes every edit measurable.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.datasets.product_art import BACKDROPS, COLOURS, PRODUCTS, SIDE, empty, shoot

ATTRIBUTES: dict[str, list[str]] = {
    "product": list(PRODUCTS), "colour": list(COLOURS), "backdrop": list(BACKDROPS),
}  # fmt: skip
# how captions say it; the first wording of each is the plainest
WHERE = {
    "studio": ["in a studio", "in the studio"],
    "table": ["on a wooden table", "on the table"],
    "kitchen": ["in a kitchen", "in the kitchen"],
    "beach": ["on the beach", "at the beach"],
    "garden": ["in a garden", "in the garden"],
    "street": ["in a street", "on the pavement"],
}
OPENINGS = ["", "", "", "a picture of ", "a photo of "]


class Shot(NamedTuple):
    """What is in a picture; each field is one of ATTRIBUTES[field]."""

    product: str
    colour: str
    backdrop: str

    @classmethod
    def of(cls, indices: Sequence[int]) -> Shot:
        """The shot with these indices."""
        return cls(*(names[i] for names, i in zip(ATTRIBUTES.values(), indices, strict=True)))

    def indices(self) -> list[int]:
        """The attributes as numbers, in the order of ATTRIBUTES."""
        return [names.index(value) for names, value in zip(ATTRIBUTES.values(), self, strict=True)]


class Products(NamedTuple):
    """n captioned pictures, and what is where in each."""

    images: Tensor  # (n, 3, 64, 64) float32 in [-1, 1]
    captions: list[str]
    attributes: Tensor  # (n, 3) int64: product, colour, backdrop as numbers, see ATTRIBUTES
    inside: Tensor  # (n, 1, 64, 64) bool: this pixel is all product
    outline: Tensor  # (n, 1, 64, 64) bool: this pixel has some of the product in it
    shadow: Tensor  # (n, 1, 64, 64) bool: this pixel is floor in the product's shadow


def draw_products(n: int, seed: int = 0, only: Sequence[Shot] | None = None, progress: bool = False) -> Products:
    """n pictures with captions, attributes and masks; picture i depends on (seed, i) and its shot alone.

    seed      a whole number from 0. The same seed with another colour in `only` is the same picture in that colour;
              with another backdrop the same product, at the same spot
    only      draw these shots in turn, instead of random ones
    progress  show a tqdm bar; a thousand pictures take about three seconds

    Raises ValueError that names a bad argument. Source: drawn here.
    """
    validation.positive_int("n", n)
    seed = validation.whole_number("seed", seed, 0, 2**32 - 1)
    if only is not None and not only:
        raise ValueError("only: expected at least one shot, got none")
    for shot in only or []:
        _check(shot)
    from tqdm.auto import trange

    pixels, masks = np.empty((n, SIDE, SIDE, 3), np.uint8), np.empty((3, n, 1, SIDE, SIDE), bool)
    captions, attributes = [], []
    for i in trange(n, desc="drawing products", disable=not progress):
        choice, pose, scenery = _randoms(seed, i)
        shot = Shot(*(only[i % len(only)] if only else (choice.choice(names) for names in ATTRIBUTES.values())))
        captions.append(caption(shot, choice))
        attributes.append(shot.indices())
        pixels[i], masks[0, i, 0], masks[1, i, 0], masks[2, i, 0] = shoot(*shot, pose, scenery)
    return Products(_pictures(pixels), captions, torch.tensor(attributes), *torch.from_numpy(masks))


def backdrops(names: Sequence[str], seed: int = 0) -> Tensor:
    """Empty backdrops, (len(names), 3, 64, 64) in [-1, 1]: those that draw_products with this seed would draw."""
    for name in names:
        validation.one_of("names", name, list(BACKDROPS))
    pixels = np.stack([empty(name, _randoms(seed, i)[2]) for i, name in enumerate(names)])
    return _pictures(pixels)


def _randoms(seed: int, i: int) -> tuple[Random, Random, Random]:
    """For choice and caption, pose, and scenery of picture i."""
    return tuple(Random((((seed << 32) + i) << 2) + k) for k in range(3))


def _pictures(pixels: np.ndarray) -> Tensor:
    """(N, 64, 64, 3) bytes as (N, 3, 64, 64) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def with_another(shot: Shot, attribute: str, rng: np.random.Generator) -> Shot:
    """The same shot with another value of one of ATTRIBUTES, each of the others with the same probability."""
    validation.one_of("attribute", attribute, list(ATTRIBUTES))
    others = [value for value in ATTRIBUTES[attribute] if value != getattr(shot, attribute)]
    return shot._replace(**{attribute: str(rng.choice(others))})


def paints(shots: Sequence[Shot]) -> Tensor:
    """The colours of these products as they are in full light, (n, 3) in [-1, 1]: red, green, blue."""
    return torch.tensor([COLOURS[shot.colour] for shot in shots]) / 127.5 - 1


def canonical_caption(shot: Shot) -> str:
    """The plainest caption that says everything: "a red mug on a wooden table"."""
    _check(shot)
    return f"a {shot.colour} {shot.product} {WHERE[shot.backdrop][0]}"


def caption(shot: Shot, r: Random) -> str:
    """One way to say what is in a picture. The colour is left out one time in four, the backdrop one time in eight."""
    noun = f"a {shot.colour} {shot.product}" if r.random() < 3 / 4 else f"a {shot.product}"
    where = r.choice(WHERE[shot.backdrop]) if r.random() < 7 / 8 else ""
    if where and r.random() < 0.2:
        return f"{where} there is {noun}"
    return (r.choice(OPENINGS) + f"{noun} {where}").strip()


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted: the vocabulary of a model trained on products."""
    phrases = [
        *PRODUCTS,
        *COLOURS,
        *OPENINGS,
        "a there is",
        *(phrase for wordings in WHERE.values() for phrase in wordings),
    ]
    return sorted(set(" ".join(phrases).split()))


def _check(shot: Shot) -> None:
    for (name, choices), value in zip(ATTRIBUTES.items(), shot, strict=True):
        validation.one_of(name, value, choices)
