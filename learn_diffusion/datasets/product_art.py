"""How a product picture is drawn: a backdrop, a shadow, and a thing that stands on it.

The brush is that of scene_art, and so are its rules: polygons on a canvas six times 32 pixels wide, every corner on a
whole pixel of it, every random choice from the Random that is handed in. A product is drawn around the middle of its
base, at (0, 0), with y down: what is above the floor has y < 0.
"""

from __future__ import annotations

from math import cos, pi, sin
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from learn_diffusion.datasets.scene_art import (
    FINE,
    WHITE,
    Brush,
    Colour,
    Points,
    blend,
    box,
    curve,
    ellipse,
    shade,
    vary,
)  # fmt: skip

SIDE = 64  # of the finished picture, in pixels
FLOOR = 20.0  # where wall and floor meet, in units of 1/32 picture
DARK = 0.58  # of the light that a shadow leaves
OUTLINE = 0.5

# --- products ---------------------------------------------------------------------------------------------------------


def _mug(b: Brush, c: Colour, edge: Colour) -> None:
    ring = [*ellipse(5.2, -6.0, 3.1, 3.0), *ellipse(5.2, -6.0, 3.1, 3.0)[:2]]
    b.line(ring, edge, 2.1)
    b.line(ring, c, 1.1)
    sides = [(-5.4, -11.5), (5.4, -11.5), (5.0, -0.9), (3.6, 0), (-3.6, 0), (-5.0, -0.9)]
    b.fill(sides, c, edge, OUTLINE)
    b.fill(box(-5.2, -4.6, 5.2, -3.2), blend(c, WHITE, 0.55))
    b.fill([(-4.3, -9.5), (-3.2, -9.5), (-3.0, -1.6), (-3.9, -1.6)], blend(c, WHITE, 0.35))
    b.fill(ellipse(0, -11.5, 5.4, 1.7), shade(c, 0.9), edge, OUTLINE)
    b.fill(ellipse(0, -11.2, 4.3, 1.1), (74, 44, 28))


def _shoe(b: Brush, c: Colour, edge: Colour) -> None:
    upper = [
        (-8.2, -1.6),
        (-8.4, -8.6),
        (-7.2, -9.8),
        (-3.4, -8.8),
        (-1.2, -6.6),
        (4.2, -4.8),
        (8.2, -3.6),
        (9.0, -1.6),
    ]
    b.fill(upper, c, edge, OUTLINE)
    b.fill([(-8.2, -1.6), (-8.4, -8.6), (-6.4, -8.6), (-5.6, -1.6)], shade(c, 0.72), edge, OUTLINE)
    b.fill([(4.6, -1.6), (5.2, -4.5), (8.2, -3.6), (9.0, -1.6)], (240, 240, 236), edge, OUTLINE)
    b.fill([(-2.6, -1.9), (-1.2, -1.9), (0.6, -5.2), (-0.6, -5.5)], blend(c, WHITE, 0.7))
    for x, y in ((-2.6, -7.9), (-0.9, -6.6), (1.4, -5.8)):
        b.line([(x, y), (x + 1.5, y + 1.6)], (245, 245, 242), 0.6)
    b.fill([(-8.8, -1.8), (9.3, -1.8), (9.2, -0.4), (8.6, 0), (-8.2, 0), (-8.8, -0.5)], (240, 240, 236), edge, OUTLINE)


def _bag(b: Brush, c: Colour, edge: Colour) -> None:
    arc = curve(lambda x: -9.4 - 5.2 * (1 - (x / 4.0) ** 2) ** 0.5 if abs(x) < 4 else -9.4, -4, 4, 13)
    b.line(arc, edge, 1.9)
    b.line(arc, shade(c, 0.75), 1.0)
    b.fill([(-6.2, -10), (6.2, -10), (8.2, -1.2), (7.4, 0), (-7.4, 0), (-8.2, -1.2)], c, edge, OUTLINE)
    b.fill([(-6.2, -10), (6.2, -10), (6.8, -6.6), (0, -4.6), (-6.8, -6.6)], shade(c, 0.82), edge, OUTLINE)
    b.fill(ellipse(0, -5.0, 1.25, 1.25), (244, 200, 70), (130, 95, 20), 0.4)
    b.line([(-7.2, -1.5), (7.2, -1.5)], blend(c, WHITE, 0.5), 0.4)


def _lamp(b: Brush, c: Colour, edge: Colour) -> None:
    b.fill([(-4.2, 0), (-3.6, -1.4), (3.6, -1.4), (4.2, 0)], (120, 116, 112), (50, 48, 46), OUTLINE)
    b.fill(box(-0.7, -8.2, 0.7, -1.4), (176, 172, 166), (50, 48, 46), 0.4)
    b.fill(ellipse(0, -8.2, 2.6, 0.9), (255, 242, 190))
    b.fill([(-3.2, -15.6), (3.2, -15.6), (6.6, -8.2), (-6.6, -8.2)], c, edge, OUTLINE)
    b.fill([(-2.4, -15.2), (-0.6, -15.2), (-1.4, -8.6), (-4.8, -8.6)], blend(c, WHITE, 0.4))
    b.line([(-6.4, -8.8), (6.4, -8.8)], blend(c, WHITE, 0.7), 0.7)


def _teapot(b: Brush, c: Colour, edge: Colour) -> None:
    handle = [(-5.2 - 3.4 * sin(pi * k / 10), -5.6 - 3.4 * cos(pi * k / 10)) for k in range(11)]
    b.line(handle, edge, 2.1)
    b.line(handle, c, 1.1)
    b.fill([(4.6, -3.0), (8.4, -7.6), (9.6, -8.6), (10.4, -7.8), (8.6, -4.6), (5.0, -1.4)], c, edge, OUTLINE)
    b.fill(box(-3.4, -1.0, 3.4, 0), shade(c, 0.75), edge, OUTLINE)
    b.fill(ellipse(0, -5.2, 6.6, 4.7), c, edge, OUTLINE)
    b.fill(ellipse(-2.6, -6.8, 1.7, 1.3), blend(c, WHITE, 0.6))
    b.fill(ellipse(0, -9.4, 3.6, 1.1), shade(c, 0.85), edge, OUTLINE)
    b.fill(ellipse(0, -11.0, 1.15, 1.15), blend(c, WHITE, 0.3), edge, OUTLINE)
    b.line(curve(lambda x: -3.4 + 0.016 * x * x, -6.0, 6.0), blend(c, WHITE, 0.6), 0.7)


def _clock(b: Brush, c: Colour, edge: Colour) -> None:
    for side in (-1, 1):
        b.line([(side * 3.2, -2.4), (side * 4.6, 0)], edge, 1.5)
        b.fill([(side * 4.6 + 2.5 * x, -12.4 + 1.7 * y) for x, y in ellipse(0, 0, 1, 1)], shade(c, 0.82), edge, OUTLINE)
    b.line([(0, -13.4), (0, -14.9)], edge, 0.9)
    b.fill(ellipse(0, -7.0, 6.5, 6.5), c, edge, OUTLINE)
    b.fill(ellipse(0, -7.0, 4.7, 4.7), (246, 244, 236), edge, 0.4)
    for k in range(4):
        x, y = cos(pi * k / 2), sin(pi * k / 2)
        b.line([(3.5 * x, -7 + 3.5 * y), (4.3 * x, -7 + 4.3 * y)], (70, 70, 74), 0.55)
    b.line([(0, -7), (0, -10.3)], (40, 40, 44), 0.6)
    b.line([(0, -7), (2.4, -5.9)], (40, 40, 44), 0.75)


PRODUCTS = {"mug": _mug, "shoe": _shoe, "bag": _bag, "lamp": _lamp, "teapot": _teapot, "clock": _clock}
HALF = {"mug": 6.0, "shoe": 9.0, "bag": 8.0, "lamp": 4.5, "teapot": 6.5, "clock": 5.5}  # half the width of the base
COLOURS: dict[str, Colour] = {
    "red": (214, 48, 44), "blue": (52, 98, 204), "green": (58, 148, 78), "yellow": (242, 196, 48),
    "white": (238, 236, 230), "black": (52, 52, 58),
}  # fmt: skip

# --- backdrops: each paints the whole picture -------------------------------------------------------------------------


def _fade(b: Brush, top: Colour, bottom: Colour, y0: float, y1: float) -> None:
    for i in range(12):
        a, e = y0 + (y1 - y0) * i / 12, y0 + (y1 - y0) * (i + 1) / 12
        b.fill(box(-1, a, 33, e + 0.3), blend(top, bottom, i / 11))


def _studio(b: Brush, r: Random) -> None:
    grey = r.randint(196, 214)
    _fade(b, (grey, grey, grey + 4), (grey + 26, grey + 26, grey + 28), -1, FLOOR + 1)
    _fade(b, (grey + 22, grey + 22, grey + 24), (grey + 8, grey + 8, grey + 12), FLOOR + 1, 33)


def _table(b: Brush, r: Random) -> None:
    b.fill(box(-1, -1, 33, FLOOR), vary((226, 208, 178), r, 8))
    x, y = r.uniform(3, 22), r.uniform(2, 4)  # a picture on the wall
    b.fill(box(x, y, x + 6.5, y + 5.5), (250, 248, 240), (110, 78, 50), 0.7)
    b.fill([(x + 0.8, y + 5), (x + 2.6, y + 2.2), (x + 4, y + 4), (x + 4.8, y + 3), (x + 5.8, y + 5)], (120, 160, 140))
    wood = vary((166, 112, 64), r, 10)
    b.fill(box(-1, FLOOR, 33, 33), wood)
    for k, y in enumerate((FLOOR, FLOOR + 2.6, FLOOR + 5.8, FLOOR + 9.4)):
        b.line([(-1, y), (33, y)], shade(wood, 0.66), 0.5 if k else 0.9)
        for _ in range(3):
            x, below = r.uniform(-1, 28), y + r.uniform(0.9, 2.0)
            b.line([(x, below), (x + r.uniform(2, 5), below)], shade(wood, 0.85), 0.3)


def _kitchen(b: Brush, r: Random) -> None:
    tile = vary((206, 226, 230), r, 8)
    b.fill(box(-1, -1, 33, FLOOR), tile)
    dx, dy = r.uniform(0, 4), r.uniform(0, 4)
    for k in range(10):
        b.line([(dx + 4 * k - 4, -1), (dx + 4 * k - 4, FLOOR)], WHITE, 0.5)
    for k in range(6):
        b.line([(-1, dy + 4 * k - 4), (33, dy + 4 * k - 4)], WHITE, 0.5)
    for _ in range(3):
        x, y = dx + 4 * r.randint(0, 6), dy + 4 * r.randint(0, 2)
        b.fill(box(x + 0.3, y + 0.3, x + 3.7, y + 3.7), vary((96, 158, 178), r, 12))
    stone = vary((110, 112, 122), r, 6)
    b.fill(box(-1, FLOOR, 33, 33), stone)
    b.fill(box(-1, FLOOR, 33, FLOOR + 0.9), shade(stone, 1.35))
    for _ in range(34):
        x, y = r.uniform(0, 32), r.uniform(FLOOR + 1.4, 32)
        b.fill(box(x, y, x + 0.5, y + 0.4), shade(stone, r.choice([0.75, 1.3])))


def _beach(b: Brush, r: Random) -> None:
    _fade(b, vary((98, 186, 240), r, 10), (196, 232, 248), -1, FLOOR - 5)
    x = r.uniform(4, 28)
    b.fill(ellipse(x, r.uniform(3, 5), 2.3, 2.3), (255, 232, 110))
    b.fill(box(-1, FLOOR - 5, 33, FLOOR), vary((40, 126, 200), r, 10))
    for _ in range(4):
        x, y = r.uniform(0, 29), r.uniform(FLOOR - 4.2, FLOOR - 1.2)
        b.line([(x, y), (x + 2.8, y)], (170, 214, 244), 0.45)
    sand = vary((240, 214, 150), r, 8)
    b.fill(box(-1, FLOOR - 0.6, 33, FLOOR + 0.4), (246, 250, 252))
    b.fill(box(-1, FLOOR + 0.2, 33, 33), sand)
    for _ in range(26):
        x, y = r.uniform(0, 32), r.uniform(FLOOR + 1, 32)
        b.fill(box(x, y, x + 0.5, y + 0.4), shade(sand, r.choice([0.84, 1.08])))


def _garden(b: Brush, r: Random) -> None:
    _fade(b, vary((150, 206, 240), r, 8), (214, 236, 246), -1, FLOOR - 7)
    hedge = vary((62, 124, 62), r, 8)
    p = r.uniform(0, 2 * pi)
    b.fill(
        [(-1, 33), *curve(lambda x: FLOOR - 8.4 + 0.9 * sin(0.9 * x + p) + 0.6 * sin(2.1 * x), -1, 33, 40), (33, 33)],
        hedge,
    )
    for _ in range(16):
        x, y = r.uniform(0, 32), r.uniform(FLOOR - 6.8, FLOOR - 1.5)
        b.fill(ellipse(x, y, 0.75, 0.75), r.choice([(246, 120, 150), (250, 226, 120), (246, 246, 250)]))
    grass = vary((126, 186, 84), r, 8)
    b.fill(box(-1, FLOOR, 33, 33), grass)
    for _ in range(30):
        x, y = r.uniform(0, 32), r.uniform(FLOOR + 1.2, 32)
        b.line([(x, y), (x + r.uniform(-0.4, 0.4), y - 1.2)], shade(grass, r.choice([0.78, 1.15])), 0.35)


def _street(b: Brush, r: Random) -> None:
    brick = vary((172, 92, 74), r, 8)
    b.fill(box(-1, -1, 33, FLOOR), shade(brick, 1.2))
    dx = r.uniform(0, 5)
    for row in range(11):
        y = FLOOR - 2 * (row + 1)
        for k in range(9):
            x = dx + 5 * (k - 2) + 2.5 * (row % 2)
            b.fill(box(x + 0.25, y + 0.25, x + 4.75, y + 1.75), vary(brick, r, 10))
    stone = vary((168, 168, 166), r, 6)
    b.fill(box(-1, FLOOR, 33, 33), stone)
    b.line([(-1, FLOOR), (33, FLOOR)], shade(stone, 0.6), 0.8)
    for y in (FLOOR + 3.4, FLOOR + 8):
        b.line([(-1, y), (33, y)], shade(stone, 0.8), 0.45)
    middle = r.uniform(8, 24)
    for k in range(-3, 4):
        b.line([(middle + 5 * k, FLOOR), (middle + 11 * k, 33)], shade(stone, 0.8), 0.45)


BACKDROPS = {
    "studio": _studio, "table": _table, "kitchen": _kitchen, "beach": _beach, "garden": _garden, "street": _street,
}  # fmt: skip


class Shot(NamedTuple):
    """One picture, and what is where in it; rows run down."""

    pixels: np.ndarray  # (64, 64, 3) uint8
    product: np.ndarray  # (64, 64) bool: the product alone is here
    outline: np.ndarray  # (64, 64) bool: some of the product is here
    shadow: np.ndarray  # (64, 64) bool: nothing but its shadow is here


class Stencil(Brush):
    """A brush that only marks where it has been."""

    def fill(self, points: Points, colour: Colour, line: Colour | None = None, width: float = 0.55) -> None:
        super().fill(points, WHITE, line and WHITE, width)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        super().line(points, WHITE, width)


def empty(backdrop: str, scenery: Random) -> np.ndarray:
    """A backdrop with nothing before it, (64, 64, 3) uint8."""
    b = Brush()
    BACKDROPS[backdrop](b, scenery)
    return np.asarray(b.image.reduce(b.image.width // SIDE))


def shoot(product: str, colour: str, backdrop: str, pose: Random, scenery: Random) -> Shot:
    """Draw a product of a colour before a backdrop.

    The pose and the scenery have a Random each: with the same two, another colour or another backdrop is the same
    picture again, but for that.
    """
    b, stencil = Brush(), Stencil()
    BACKDROPS[backdrop](b, scenery)
    size = pose.uniform(1.0, 1.25)
    x, y = 16 + pose.uniform(-2.5, 2.5), pose.uniform(25.5, 28.5)
    lean, mirror = pose.uniform(-0.03, 0.03), pose.choice([-1, 1])
    paint = vary(COLOURS[colour], pose, 8)
    half = size * HALF[product]
    dark = Image.new("L", b.image.size)
    cast = ellipse(x + 0.45 * half, y + 0.1, 1.25 * half, 1.9 * size)  # light falls from the upper left
    ImageDraw.Draw(dark).polygon([(round(FINE * u), round(FINE * v)) for u, v in cast], fill=255)
    b.image.paste(b.image.point([int(DARK * v) for v in range(256)] * 3), mask=dark)
    for brush in (b, stencil):
        brush.place(x, y, size, lean, mirror)
        PRODUCTS[product](brush, paint, shade(paint, 0.45))
    step = b.image.width // SIDE
    where = stencil.image.getchannel(0)
    covered = np.asarray(where.reduce(step))
    shadow = np.asarray(dark.reduce(step)) == 255
    return Shot(np.asarray(b.image.reduce(step)), covered == 255, covered > 0, shadow & (covered == 0))
