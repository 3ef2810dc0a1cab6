"""Small people who walk: sprites of 24x16 pixels in colour, eight frames a walk, seen from the side.

A frame is a stencil (which part of the body each pixel shows) filled with a character's own colours. The stencil is
known for every character and phase, so what a model draws can be compared with what it should have drawn, part by part.
"""

from __future__ import annotations

from functools import cache
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn_diffusion import validation

HEIGHT, WIDTH, PHASES = 24, 16, 8
# parts of a stencil; sleeves and the far leg lie in shadow, so that limbs can be told apart
PARTS = ["backdrop", "hair", "skin", "eye", "shirt", "trousers", "shoe", "hat", "sleeve", "far trousers"]
LETTERS = dict(zip(".HSETPOC", range(8), strict=True))
HATS = ["none", "cap", "wide"]

HEADS = {
    "short": """
................
.....HHHHH......
....HHHHHHH.....
....HHHHSSH.....
....HHSSSSS.....
....HHSESSE.....
....HSSSSSS.....
.....SSSSSS.....
......SSSS......
.......SS.......""",
    "long": """
................
.....HHHHH......
....HHHHHHH.....
...HHHHHSSH.....
...HHHSSSSS.....
...HHHSESSE.....
...HHHSSSSS.....
...HHHSSSSS.....
...HHH.SSS......
....HH.SS.......""",
}
TORSO = """
.....TTTTTT.....
.....TTTTTT.....
.....TTTTTT.....
.....TTTTTT.....
......TTTTT.....
......PPPPP....."""
BRIMS = {
    "cap": """
.....CCCCC......
....CCCCCCC.....
....CCCCCCCCC...""",
    "wide": """
......CCCC......
.....CCCCCC.....
..CCCCCCCCCCC...""",
}


class Walkers(NamedTuple):
    """n walking characters, every phase of each."""

    frames: Tensor  # (n, 8, 3, 24, 16) float32 in [-1, 1]
    parts: Tensor  # (n, 8, 24, 16) int64: which of PARTS each pixel shows


def walkers(n: int, seed: int = 0) -> Walkers:
    """n random characters: hair, shirt, trousers and hat in any colours, many skins, short or long hair, a hat or none.

    Phase k of 8 follows phase k - 1, and phase 0 follows phase 7. The same seed gives the same characters; character i
    depends on n as well. Raises ValueError that names a bad argument. Source: drawn here.
    """
    validation.positive_int("n", n)
    rng = np.random.default_rng(validation.whole_number("seed", seed))
    style = rng.integers(len(HEADS), size=n), rng.integers(len(HATS), size=n)
    stencils = np.array([[_stencils(head, hat) for hat in HATS] for head in HEADS])  # (2, 3, 8, 24, 16)
    parts = stencils[style]  # (n, 8, 24, 16)
    colours = _colours(rng, n)  # (n, parts, 3)
    frames = colours[np.arange(n)[:, None, None, None], parts]  # (n, 8, 24, 16, 3)
    return Walkers(
        torch.from_numpy(np.moveaxis(frames, -1, 2).copy()).float(), torch.from_numpy(parts.astype(np.int64))
    )


def _colours(rng: np.random.Generator, n: int) -> np.ndarray:
    """The colour of each part of each character, (n, parts, 3) in [-1, 1]."""
    rgb = np.zeros((n, len(PARTS), 3))
    rgb[:, PARTS.index("backdrop")] = 0.86, 0.90, 0.94
    rgb[:, PARTS.index("eye")] = 0.08, 0.08, 0.12
    rgb[:, PARTS.index("shoe")] = 0.20, 0.14, 0.12
    tone = rng.random((n, 1))
    rgb[:, PARTS.index("skin")] = tone * (0.96, 0.80, 0.68) + (1 - tone) * (0.42, 0.27, 0.18)
    for name in ("hair", "shirt", "hat"):
        rgb[:, PARTS.index(name)] = rng.uniform(0.05, 0.95, (n, 3))
    # not darker: in black trousers nobody can tell the near leg from the far one, and so the phase
    rgb[:, PARTS.index("trousers")] = rng.uniform(0.4, 0.95, (n, 3))
    for dark, name in (("sleeve", "shirt"), ("far trousers", "trousers")):
        rgb[:, PARTS.index(dark)] = 0.55 * rgb[:, PARTS.index(name)]
    return 2 * rgb - 1


@cache
def _stencils(head: str, hat: str) -> np.ndarray:
    """The eight stencils of one style, (8, 24, 16)."""
    return np.stack([_stencil(head, hat, phase) for phase in range(PHASES)])


def _stencil(head: str, hat: str, phase: int) -> np.ndarray:
    """One frame as numbers of PARTS, (24, 16). Limbs swing like a sine; the foot that comes forward is lifted."""
    swing, lift = sin(2 * pi * phase / PHASES), cos(2 * pi * phase / PHASES)
    body = np.zeros((HEIGHT, WIDTH), int)
    sink = 1 if abs(swing) > 0.9 else 0  # legs apart: the body is lower
    hip, shoulder = (15.0 + sink, 8.0), (11.0 + sink, 8.0)
    _arm(body, shoulder, 0.75 * swing, PARTS.index("sleeve"))
    _leg(body, hip, -0.62 * swing, max(0.0, -lift), PARTS.index("far trousers"))
    _leg(body, hip, 0.62 * swing, max(0.0, lift), PARTS.index("trousers"))
    upper = _read(HEADS[head] + TORSO)
    if hat != "none":
        brim = _read(BRIMS[hat])
        upper[:3] = np.where(brim > 0, brim, 0)  # hair under a hat is out of sight
    there = upper > 0
    body[sink : sink + len(upper)][there] = upper[there]
    _arm(body, shoulder, -0.75 * swing, PARTS.index("sleeve"))
    return body


def _read(drawing: str) -> np.ndarray:
    return np.array([[LETTERS[letter] for letter in row] for row in drawing.split()])


def _leg(body: np.ndarray, hip: tuple[float, float], angle: float, lift: float, part: int) -> None:
    """Thigh, shin and shoe, into body (24, 16). angle: forward from straight down, radians; lift: 0 on the ground."""
    knee = _limb(body, hip, angle + 0.35 * lift, 3.5, part)
    foot = _limb(body, knee, angle - 0.95 * lift, 3.5, part)
    row, column = min(round(foot[0]), HEIGHT - 1), round(foot[1])
    body[row, column - 1 : column + 3] = PARTS.index("shoe")


def _arm(body: np.ndarray, shoulder: tuple[float, float], angle: float, part: int) -> None:
    hand = _limb(body, shoulder, angle, 4.0, part)
    row, column = round(hand[0]), round(hand[1])
    body[row : row + 2, column - 1 : column + 1] = PARTS.index("skin")


def _limb(body: np.ndarray, top: tuple[float, float], angle: float, length: float, part: int) -> tuple[float, float]:
    """A stroke two pixels wide; returns where it ends."""
    for way in np.linspace(0, length, 12):
        row, column = round(top[0] + way * cos(angle)), round(top[1] + way * sin(angle))
        body[max(row, 0) : min(row + 1, HEIGHT), column - 1 : column + 1] = part
    return top[0] + length * cos(angle), top[1] + length * sin(angle)


def paste(scene: np.ndarray, sprite: Tensor, top: int, left: int) -> np.ndarray:
    """A copy of scene (H, W, 3), uint8, with a sprite (3, 24, 16) in [-1, 1] at this place.

    The backdrop, whose colour is that of the sprite's upper left pixel, is left out, as games do.
    """
    solid = (sprite - sprite[:, :1, :1]).abs().amax(0).numpy() > 0.25
    rgb = ((sprite + 1) * 127.5).clamp(0, 255).byte().movedim(0, -1).numpy()
    scene = scene.copy()
    scene[top : top + len(solid), left : left + solid.shape[1]][solid] = rgb[solid]
    return scene
