"""Cut-outs of made-up printed fabrics: leaves, blossoms and dots, tossed on a ground, in five colours that go together.

Each fabric is endless: its motifs sit on a lattice that goes on in all directions, turned, shifted and shaken, so a
cut-out has no edge of its own and looks like any other. No cut-out tiles, for nothing repeats. That makes a cut-out
fair to learn from, and a larger one a fair floor for every way to make tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import checks

COLOURS = ("ground", "leaf", "its lit half", "blossom", "heart and dots")
CELL = 11.5  # pixels from motif to motif
SHAKEN = 0.16  # cells: how far a motif may stand from its place, in each direction
CHUNK = 128  # fabrics at a time, so that memory does not grow with n
TABLE = 64  # cells a side whose motifs differ; a fabric would repeat after so many


class Fabrics(NamedTuple):
    """n cut-outs, and the colours that each was printed in."""

    pictures: Tensor  # (n, 3, height, width), float32 in [-1, 1]
    palettes: Tensor  # (n, 5, 3), float32 in [-1, 1], in the order of COLOURS


def patterns(n: int, seed: int = 0, height: int = 32, width: int = 32) -> Fabrics:
    """n cut-outs of n fabrics.

    height, width  in pixels, at least 1. Any size shows the same motifs, at the same scale
    seed           a whole number from 0; the same seed gives the same fabrics

    Raises ValueError that names a bad argument. Source: drawn here, by the rules below; nothing is measured.
    """
    for name, value in (("n", n), ("height", height), ("width", width)):
        checks.positive_int(name, value)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: expected a whole number from 0, got {seed!r}")
    rng = np.random.default_rng(seed)
    parts = [_printed(rng, min(CHUNK, n - i), height, width) for i in range(0, n, CHUNK)]
    pictures, palettes = (np.concatenate(both) for both in zip(*parts, strict=True))
    return Fabrics(torch.from_numpy(2 * pictures - 1).float(), torch.from_numpy(2 * palettes - 1).float())


def _printed(rng: np.random.Generator, n: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 3, H, W) and palettes (n, 5, 3) in [0, 1]: one layer of colour over the other, as a printer does."""
    palettes = _palettes(rng, n)
    picture = np.broadcast_to(palettes[:, 0, :, None, None], (n, 3, height, width))
    dots, leaf, lit, blossom, heart = _layers(rng, n, height, width)
    for cover, colour in ((dots, 4), (leaf, 1), (lit, 2), (blossom, 3), (heart, 4)):
        picture = picture + cover[:, None] * (palettes[:, colour, :, None, None] - picture)
    return picture, palettes


def _palettes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Five colours each, (n, 5, 3) in [0, 1]: two hues and one between them, on a ground that is light or dark."""
    light = rng.random(n) < 0.6
    hue = 2 * np.pi * rng.random(n)
    other = hue + rng.choice([-1, 1], n) * rng.uniform(1.6, 2.8, n)  # radians round the circle of hues
    between = (hue + other) / 2

    def colour(lightness, chroma, hue, spread=0.02):
        return _rgb(np.where(light, *lightness) + spread * rng.standard_normal(n), np.where(light, *chroma), hue)

    return np.stack(
        [
            colour((0.94, 0.28), (0.025, 0.045), between),
            colour((0.46, 0.56), (0.085, 0.09), hue),
            colour((0.62, 0.72), (0.10, 0.10), hue),
            colour((0.66, 0.72), (0.14, 0.13), other),
            colour((0.80, 0.90), (0.12, 0.08), other + 0.7 * (between - other)),
        ],
        axis=1,
    )


def _rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """OKLCH to sRGB in [0, 1], (n, 3): equal steps of lightness look equal in all hues (Ottosson 2020)."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    l_, m_, s_ = (
        lightness + u * a + v * b
        for u, v in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
    )
    lms = np.stack([l_, m_, s_], axis=-1) ** 3
    mix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(lms @ mix.T, 0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


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
    leaf = np.maximum(np.abs(v) - 3.1 * (1 - (u / 6.2) ** 2), np.abs(u) - 6.2)
    radius = np.hypot(u, v) + 1e-6
    c = u / radius  # the cosine of the angle; that of five times the angle is a polynomial in it
    petals = radius - 4.2 - ((16 * c * c - 20) * c * c + 5) * c
    covers = (leaf, np.maximum(leaf, 0.25 - v), petals, radius - 1.8)
    return tuple(np.where(is_leaf == (k < 2), _cover(d), 0) for k, d in enumerate(covers))


def _cover(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel lies inside, from its middle's distance to the outline, in pixels: no stairs."""
    return np.clip(0.5 - distance, 0, 1)
