"""Cut-outs of made-up printed fabrics: leaves, blossoms and dots, tossed on a ground, in one of six palettes.

Each fabric is endless: its motifs sit on a lattice that goes on in all directions, turned, shifted and shaken, so a
cut-out has no edge of its own and looks like any other. No cut-out tiles, for nothing repeats. That makes a cut-out
fair to learn from, and a larger one a fair floor for every way to make tiles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation

PALETTES = {  # the colours of the ground, of leaves, of their lit halves, of blossoms, of hearts and dots
    "meadow": ("#f7f1df", "#3f7d4e", "#6fae6a", "#d9607a", "#f2b84b"),
    "lilac": ("#efe6f5", "#5b6b3a", "#8f9f57", "#8d63c4", "#f0b6d2"),
    "shore": ("#dff0ec", "#2f6a93", "#58a0c0", "#e8835a", "#f6cf72"),
    "night": ("#1f2a4a", "#2f8a8a", "#66bfae", "#f0806a", "#ffd9a0"),
    "bark": ("#3a2420", "#b5562f", "#dc8a4e", "#f3dcb4", "#8fb08a"),
    "plum": ("#46203f", "#8f9a4a", "#c3c26c", "#e77fae", "#ffe3d0"),
}
CELL = 15.0  # pixels from motif to motif
SHAKEN = 0.14  # cells: how far a motif may stand from its place, in each direction
CHUNK = 128  # fabrics at a time, so that memory does not grow with n
TABLE = 64  # cells a side whose motifs differ; a fabric would repeat after so many


class Fabrics(NamedTuple):
    """n cut-outs, and what each was printed in."""

    pictures: Tensor  # (n, 3, height, width), float32 in [-1, 1]
    labels: Tensor  # (n,) int64: which of PALETTES, in their order


def palette(name: str) -> Tensor:
    """The five colours of one of PALETTES, (5, 3), float32 in [-1, 1]. Raises ValueError for another name."""
    if name not in PALETTES:
        raise ValueError(f"name: expected one of {', '.join(PALETTES)}, got {name!r}")
    return colours(PALETTES[name])


def colours(hexes: Sequence[str]) -> Tensor:
    """Colours as the web writes them, "#f7f1df", as a tensor (K, 3), float32 in [-1, 1]."""
    for code in hexes:
        if not re.fullmatch("#[0-9a-fA-F]{6}", code):
            raise ValueError(f"hexes: expected colours such as '#f7f1df', got {code!r}")
    return torch.tensor([list(bytes.fromhex(code[1:])) for code in hexes]) / 127.5 - 1


def draw_patterns(n: int, seed: int = 0, height: int = 32, width: int = 32) -> Fabrics:
    """n cut-outs of n fabrics.

    height, width  in pixels, at least 1. Any size shows the same motifs, at the same scale
    seed           a whole number from 0; the same seed gives the same fabrics

    Raises ValueError that names a bad argument. Source: drawn here, by the rules below; nothing is measured.
    """
    for name, value in (("n", n), ("height", height), ("width", width)):
        validation.positive_int(name, value)
    rng = np.random.default_rng(validation.whole_number("seed", seed))
    parts = [_printed(rng, min(CHUNK, n - i), height, width) for i in range(0, n, CHUNK)]
    pictures, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    return Fabrics(torch.from_numpy(pictures).float(), torch.from_numpy(labels))


def _printed(rng: np.random.Generator, n: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 3, H, W) and labels (n,): one layer of colour over the other, as a printer does."""
    labels = rng.integers(0, len(PALETTES), n)
    inks = np.stack([palette(name).numpy() for name in PALETTES])[labels][..., None, None]  # (n, 5, 3, 1, 1)
    picture = np.broadcast_to(inks[:, 0], (n, 3, height, width))
    dots, leaf, lit, blossom, heart = _layers(rng, n, height, width)
    for cover, ink in ((dots, 4), (leaf, 1), (lit, 2), (blossom, 3), (heart, 4)):
        picture = picture + cover[:, None] * (inks[:, ink] - picture)
    return picture, labels


def _layers(rng: np.random.Generator, n: int, height: int, width: int) -> list[np.ndarray]:
    """How much of each pixel dots, leaves, their lit halves, blossoms and hearts cover, (n, H, W) each, 0 to 1."""
    turn, direction = 2 * np.pi * rng.random((2, n, 1, 1))
    tossed = rng.choice([0.5, np.pi], (n, 1, 1))  # motifs point one way, more or less, or any way
    leafy, dotted = rng.choice([0.4, 0.6, 0.8], (n, 1, 1)), rng.random((n, 1, 1)) < 0.6
    start = TABLE * rng.random((2, n, 1, 1))
    shakes = CELL * SHAKEN * (2 * rng.random((2, n, TABLE, TABLE)) - 1)
    angles = direction + tossed * (2 * rng.random((n, TABLE, TABLE)) - 1)
    leaves = rng.random((n, TABLE, TABLE)) < leafy
    cells = np.stack([*shakes, np.cos(angles), np.sin(angles), leaves], axis=-1).astype(np.float32)

    y, x = np.arange(height)[:, None], np.arange(width)
    across = (np.cos(turn) * x + np.sin(turn) * y) / CELL + start[0]  # (n, H, W): where a pixel lies, in cells
    along = (np.cos(turn) * y - np.sin(turn) * x) / CELL + start[1]
    layers = [np.zeros((n, height, width), np.float32) for _ in range(5)]
    first = TABLE * TABLE * np.arange(n)[:, None, None]  # of each fabric's cells, in the flat table
    for di in (-1, 0, 1):
        i = np.floor(across).astype(int) + di
        drop = 0.5 * (i % 2)  # every second column hangs half a cell lower
        for dj in (-1, 0, 1):
            j = np.floor(along - drop).astype(int) + dj
            right, down = (CELL * part.astype(np.float32) for part in (across - i, along - j - drop))  # from its corner
            cell = cells.reshape(-1, 5).take(first + TABLE * (i % TABLE) + j % TABLE, axis=0)
            shake, shake_too, cos, sin, leaf = np.moveaxis(cell, -1, 0)
            u, v = right - CELL / 2 - shake, down - CELL / 2 - shake_too  # from the motif's middle
            covers = _motif(cos * u + sin * v, cos * v - sin * u, leaf > 0)
            dot = np.where(dotted, _cover(np.hypot(right, down) - 1.3), 0)
            for layer, cover in zip(layers, (dot, *covers), strict=True):
                np.maximum(layer, cover, out=layer)
    return layers


def _motif(u: np.ndarray, v: np.ndarray, is_leaf: np.ndarray) -> tuple[np.ndarray, ...]:
    """A leaf or a blossom, (u, v) pixels away from its middle: what leaf, lit half, blossom and heart cover."""
    leaf = np.maximum(np.abs(v) - 4.3 * (1 - (u / 8.2) ** 2), np.abs(u) - 8.2)
    radius = np.hypot(u, v) + 1e-6
    c = u / radius  # the cosine of the angle; that of five times the angle is a polynomial in it
    petals = radius - 5.6 - 1.3 * ((16 * c * c - 20) * c * c + 5) * c
    covers = (leaf, np.maximum(leaf, 0.25 - v), petals, radius - 2.5)
    return tuple(np.where(is_leaf == (k < 2), _cover(d), 0) for k, d in enumerate(covers))


def _cover(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel lies inside, from its middle's distance to the outline, in pixels: no stairs."""
    return np.clip(0.5 - distance, 0, 1)


# ---- inks: what a printer does with a picture ----


def squared_distances(pictures: Tensor, inks: Tensor) -> Tensor:
    """Of each pixel of pictures (n, 3, H, W) to each ink (K, 3), summed over the channels: (n, K, H, W)."""
    return (pictures[:, None] - inks[:, :, None, None]).square().sum(2)


def nearest_ink(pictures: Tensor, inks: Tensor) -> Tensor:
    """Which of the inks (K, 3) is nearest to each pixel of pictures (n, 3, H, W): int64 (n, H, W)."""
    return squared_distances(pictures, inks).argmin(1)


def swap_palette(pictures: Tensor, inks: Tensor) -> Tensor:
    """Find the one of PALETTES that each picture (n, 3, H, W) was printed in, and print it in other inks (5, 3).

    Ground for ground, leaf for leaf, in the order of PALETTES: the nearest palette by mean squared distance, then each
    pixel's nearest colour in it.
    """
    known = [palette(name) for name in PALETTES]
    off = torch.stack([squared_distances(pictures, own).amin(1).mean((1, 2)) for own in known])
    pairs = zip(pictures.split(1), off.argmin(0).tolist(), strict=True)
    return torch.cat([inks[nearest_ink(picture, known[k])].movedim(-1, 1) for picture, k in pairs])


def draw_sketches(n: int, seed: int = 0) -> Tensor:
    """n rough drawings (n, 3, 32, 32), in [-1, 1]: two strokes and two spots on a ground, each a tile of its own.

    The palettes come in turn. The same seed gives the same drawings.
    """
    validation.positive_int("n", n)
    g = torch.Generator().manual_seed(validation.whole_number("seed", seed))
    return torch.stack([_sketch(g, palette(list(PALETTES)[i % len(PALETTES)])) for i in range(n)])


def _sketch(g: torch.Generator, inks: Tensor) -> Tensor:
    """Stroke and spot, and below them spot and stroke, shaken: (3, 32, 32). What crosses the border comes back."""
    inks = inks[:, :, None, None]
    y, x = torch.arange(32)[:, None], torch.arange(32)
    page, place = inks[0].expand(3, 32, 32), 32 * torch.rand(2, generator=g)
    for k in range(4):
        shake, turn = 5 * torch.rand(2, generator=g), torch.pi * torch.rand(1, generator=g)
        down, right = place + 16 * torch.tensor([k // 2, k % 2]) + shake
        v, u = (y - down + 16) % 32 - 16, (x - right + 16) % 32 - 16
        along, aside = turn.cos() * u + turn.sin() * v, turn.cos() * v - turn.sin() * u
        stroke, spot = (along / 8) ** 2 + (aside / 4) ** 2 < 1, u**2 + v**2 < 5**2
        page = torch.where(stroke, inks[1], page) if k in (0, 3) else torch.where(spot, inks[3], page)
    return page
