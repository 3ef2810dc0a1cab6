"""How a scene is drawn: polygons on a canvas of 192x192, then averaged down to 32x32, or any side that divides 192.

Coordinates run from 0 to 32, x to the right and y down, for places; subjects are drawn around the middle of their own
head, at (0, 0), about 14 wide, and are then scaled, tilted, mirrored and moved. Every random choice comes from the
random.Random that is handed in, and every corner is rounded to a whole pixel of the large canvas, so that a seed gives
the same picture on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi, radians, sin, sqrt
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 32  # of the picture in units of length, and in pixels where no other side is asked for
FINE = 6  # canvas pixels to a unit, each way

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

BLACK, WHITE = (20, 18, 24), (255, 255, 255)
TURNS = [(cos(2 * pi * i / 20), sin(2 * pi * i / 20)) for i in range(20)]


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """Twenty corners around (x, y)."""
    return [(x + rx * c, y + ry * s) for c, s in TURNS]


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """The corners of an upright rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def curve(f: Callable[[float], float], x0: float, x1: float, n: int = 16) -> Points:
    """n points of the graph of f from x0 to x1."""
    return [(x, f(x)) for x in (x0 + (x1 - x0) * i / (n - 1) for i in range(n))]


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (factor < 1) or lighter, in range."""
    return tuple(int(min(255, c * factor)) for c in colour)


def blend(a: Colour, b: Colour, w: float) -> Colour:
    """From a (w = 0) to b (w = 1)."""
    return tuple(int(p + w * (q - p)) for p, q in zip(a, b, strict=True))


def vary(colour: Colour, r: Random, amount: int = 12) -> Colour:
    """A neighbouring colour, each channel up to `amount` away."""
    return tuple(min(255, max(0, c + r.randint(-amount, amount))) for c in colour)


class Brush:
    """Draws in 32-unit coordinates, after a scale, a tilt, a mirror (-1 or 1) and a move."""

    def __init__(self):
        self.image = Image.new("RGB", (SIDE * FINE, SIDE * FINE))
        self._draw = ImageDraw.Draw(self.image)
        self.place(0, 0)

    def place(self, x: float, y: float, scale: float = 1.0, tilt: float = 0.0, mirror: int = 1) -> None:
        """Where (0, 0) lies from now on, and how what follows is scaled, tilted (radians) and mirrored."""
        self._x, self._y, self._scale, self._mirror = x, y, scale, mirror
        self._cos, self._sin = scale * cos(tilt), scale * sin(tilt)

    def _corners(self, points: Points) -> list[tuple[int, int]]:
        def corner(x: float, y: float) -> tuple[int, int]:
            right = self._mirror * (self._cos * x - self._sin * y)
            down = self._sin * x + self._cos * y
            return round(FINE * (self._x + right)), round(FINE * (self._y + down))

        return [corner(x, y) for x, y in points]

    def fill(self, points: Points, colour: Colour, line: Colour | None = None, width: float = 0.55) -> None:
        """A filled polygon, with an outline where a line colour is given."""
        corners = self._corners(points)
        self._draw.polygon(corners, fill=colour)
        if line is not None:
            self._stroke([*corners, corners[0], corners[1]], line, width)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """A thick open line."""
        self._stroke(self._corners(points), colour, width)

    def _stroke(self, corners: list[tuple[int, int]], colour: Colour, width: float) -> None:
        self._draw.line(corners, fill=colour, width=max(1, round(width * FINE * self._scale)), joint="curve")


# --- places: each paints the whole picture ----------------------------------------------------------------------------


def _sky(b: Brush, top: Colour, bottom: Colour, down_to: float) -> None:
    bands = 14
    for i in range(bands):
        y0, y1 = down_to * i / bands, down_to * (i + 1) / bands
        b.fill(box(-1, y0, 33, y1 + 0.3), blend(top, bottom, i / (bands - 1)))


def _ground(b: Brush, r: Random, y: float, swell: float, colour: Colour) -> None:
    p, q = r.uniform(0, 2 * pi), r.uniform(0, 2 * pi)
    edge = curve(lambda x: y + swell * (sin(0.16 * x + p) + 0.5 * sin(0.37 * x + q)), -1, 33)
    b.fill([(-1, 33), *edge, (33, 33)], colour)


def _a_side(r: Random, margin: float, spread: float) -> float:
    """An x near the left or the right edge."""
    x = r.uniform(margin, margin + spread)
    return x if r.random() < 0.5 else SIDE - x


def _moon(b: Brush, r: Random) -> None:
    b.fill(box(-1, -1, 33, 33), vary((10, 10, 28), r, 6))
    for _ in range(r.randint(14, 24)):
        star = r.uniform(0.25, 0.5)
        b.fill(ellipse(r.uniform(0, 32), r.uniform(0, 21), star, star), (255, 255, 235))
    x, y, size = _a_side(r, 3, 4), r.uniform(3, 7), r.uniform(2.3, 3.2)  # the Earth
    b.fill(ellipse(x, y, size, size), (50, 110, 220))
    b.fill(ellipse(x - 0.3 * size, y - 0.2 * size, 0.5 * size, 0.4 * size), (80, 180, 90))
    b.fill(ellipse(x + 0.4 * size, y + 0.4 * size, 0.35 * size, 0.3 * size), (80, 180, 90))
    rim, dust = r.uniform(19.5, 22.5), vary((178, 178, 186), r, 10)
    b.fill([(-2, 33), *curve(lambda x: rim + 1.8 * ((x - 16) / 16) ** 2, -2, 34), (34, 33)], dust)
    for _ in range(r.randint(5, 8)):
        x, y, size = r.uniform(0, 32), r.uniform(rim + 2.2, 31), r.uniform(1.1, 2.3)
        b.fill(ellipse(x, y, size, 0.55 * size), shade(dust, 0.62))
        b.fill(ellipse(x + 0.15, y + 0.3, 0.8 * size, 0.36 * size), shade(dust, 0.78))


def _beach(b: Brush, r: Random) -> None:
    _sky(b, vary((95, 190, 245), r), (190, 232, 250), 17)
    sun = _a_side(r, 3, 4)
    b.fill(ellipse(sun, r.uniform(3.5, 6), 2.6, 2.6), (255, 225, 70))
    horizon, shore = r.uniform(14.5, 17), r.uniform(20.5, 22.5)
    b.fill(box(-1, horizon, 33, shore + 2), vary((35, 120, 205), r))
    for _ in range(4):
        x, y = r.uniform(0, 30), r.uniform(horizon + 1, shore - 1)
        b.line([(x, y), (x + r.uniform(2, 4), y)], (150, 205, 245), 0.45)
    _ground(b, r, shore, 0.4, (235, 245, 250))
    _ground(b, r, shore + 0.9, 0.4, vary((243, 218, 150), r, 8))
    x, y = (5.0 if sun > 16 else 27.0) + r.uniform(-1.5, 1.5), r.uniform(13, 15)  # a parasol, away from the sun
    b.line([(x, y), (x, 25.5)], (120, 90, 60), 0.7)
    for i in range(4):
        left = -4.8 + 2.4 * i
        top = curve(lambda u: y - 3.8 * sqrt(max(0.0, 1 - (u / 4.8) ** 2)), left, left + 2.4, 5)
        stripe = (255, 250, 245) if i % 2 else (232, 60, 60)
        b.fill([*((x + u, v) for u, v in top), (x + left + 2.4, y), (x + left, y)], stripe)


def _forest(b: Brush, r: Random) -> None:
    _sky(b, vary((150, 205, 190), r), (205, 232, 190), 24)
    for trees, foot, height, green in ((7, 20, 11, (70, 130, 85)), (6, 23, 15, (28, 92, 48))):
        for i in range(trees):
            x, h, w = (i + 0.5) * 32 / trees + r.uniform(-1.6, 1.6), height * r.uniform(0.8, 1.15), r.uniform(2.4, 3.4)
            leaves = vary(green, r, 10)
            b.fill(box(x - 0.6, foot - 3, x + 0.6, foot + 1), (92, 60, 36))
            for k in range(3):
                y, half = foot - 1.5 - 0.27 * h * k, w * (1 - 0.24 * k)
                b.fill([(x - half, y), (x + half, y), (x, y - 0.46 * h)], shade(leaves, 1 + 0.07 * k))
    grass = vary((88, 150, 62), r, 10)
    _ground(b, r, 22.5, 0.5, grass)
    for _ in range(7):
        x, y = r.uniform(0, 32), r.uniform(25, 31)
        b.line([(x, y), (x + 0.3, y - 1.2)], shade(grass, 0.7), 0.45)
    if r.random() < 0.6:  # a toadstool
        x, y = _a_side(r, 2, 5), r.uniform(25.5, 29)
        b.fill(box(x - 0.5, y, x + 0.5, y + 1.6), (245, 235, 215))
        b.fill(curve(lambda u: y - 1.4 * sqrt(max(0.0, 1 - ((u - x) / 1.6) ** 2)), x - 1.6, x + 1.6, 8), (215, 45, 45))


def _city(b: Brush, r: Random) -> None:
    _sky(b, vary((28, 18, 70), r, 8), (110, 50, 120), 24)
    x = r.uniform(-2, 0)
    while x < 32:
        w, h = r.uniform(4, 6.5), r.uniform(9, 19)
        b.fill(box(x, 25 - h, x + w, 26), vary(r.choice([(48, 48, 92), (36, 40, 74), (66, 50, 98)]), r, 6))
        for row in range(int((h - 2.7) / 2.2) + 1):
            for column in range(int((w - 2.1) / 1.9) + 1):
                if r.random() < 0.62:
                    u, v = x + 0.9 + 1.9 * column, 26.2 - h + 2.2 * row
                    b.fill(box(u, v, u + 1, v + 1.1), r.choice([(255, 220, 95), (255, 240, 160), (255, 190, 70)]))
        x += w + r.uniform(0, 0.5)
    b.fill(box(-1, 24, 33, 33), vary((72, 72, 84), r, 6))
    b.fill(box(-1, 24, 33, 25), (125, 125, 135))
    dash = r.uniform(-3, 3)
    for i in range(5):
        b.fill(box(dash + 7.5 * i, 28.6, dash + 7.5 * i + 4, 29.5), (240, 225, 120))


def _snow(b: Brush, r: Random) -> None:
    _sky(b, vary((150, 190, 228), r), (222, 236, 248), 24)
    for x in (r.uniform(2, 10), r.uniform(22, 30)):
        h, w = r.uniform(11, 15), r.uniform(8, 11)
        b.fill([(x - w, 22), (x + w, 22), (x, 22 - h)], vary((108, 128, 165), r, 8))
        cap = [(-0.36, 0.64), (-0.1, 0.55), (0.1, 0.68), (0.36, 0.64), (0, 1)]
        b.fill([(x + u * w, 22 - v * h) for u, v in cap], (250, 252, 255))
    _ground(b, r, 21.5, 0.7, (214, 228, 244))
    _ground(b, r, 24, 0.6, (246, 250, 255))
    for _ in range(r.randint(26, 38)):
        flake = r.uniform(0.3, 0.6)
        b.fill(ellipse(r.uniform(0, 32), r.uniform(0, 31), flake, flake), WHITE)


def _desert(b: Brush, r: Random) -> None:
    _sky(b, vary((250, 165, 80), r), (255, 222, 150), 21)
    sun, sand = _a_side(r, 4, 4), vary((222, 160, 82), r, 8)
    b.fill(ellipse(sun, r.uniform(4, 8), 2.8, 2.8), (255, 245, 200))
    _ground(b, r, 19.5, 1.2, shade(sand, 0.84))
    _ground(b, r, 23, 0.9, sand)
    sides = [r.uniform(2.5, 6), r.uniform(26, 29.5)]
    for x in sides if r.random() < 0.55 else [sides[sun < 16]]:  # a cactus, away from the sun; often a second
        y, h, green = r.uniform(23.5, 26), r.uniform(8, 11), vary((52, 138, 70), r, 8)
        b.fill(box(x - 1.1, y - h, x + 1.1, y), green)
        b.fill(ellipse(x, y - h, 1.1, 1.1), green)
        for side in (-1, 1):
            arm = y - h * r.uniform(0.4, 0.65)
            b.fill(box(x, arm - 0.7, x + side * 2.8, arm + 0.7), green)
            b.fill(box(x + side * 2.7 - 0.7, arm - 2.8, x + side * 2.7 + 0.7, arm + 0.7), green)
    for _ in range(4):
        x, y = r.uniform(0, 30), r.uniform(26, 31)
        b.line([(x, y), (x + 2.5, y)], shade(sand, 0.86), 0.4)


def _sea(b: Brush, r: Random) -> None:
    _sky(b, vary((60, 205, 215), r, 10), vary((8, 70, 120), r, 8), 33)
    for _ in range(3):  # light from above
        x = r.uniform(0, 32)
        b.fill([(x, -1), (x + 2.2, -1), (x - 2, 14), (x - 5, 14)], (105, 222, 226))
    floor = r.uniform(25, 27)
    for x in (r.uniform(1, 4), r.uniform(5, 8), r.uniform(24, 27), r.uniform(28, 31)):  # weed
        tall, phase = r.uniform(8, 15), r.uniform(0, 2 * pi)
        stem = [(x + 1.0 * sin(phase + 0.7 * k), floor + 2 - tall * k / 8) for k in range(9)]
        b.line(stem, vary((30, 130, 70), r, 14), 1.3)
    _ground(b, r, floor, 0.5, vary((205, 190, 140), r, 8))
    x, y = _a_side(r, 2, 5), r.uniform(28, 30)  # a starfish
    arms = [
        (x + (2.0 if k % 2 else 0.8) * sin(pi * k / 5), y - (2.0 if k % 2 else 0.8) * cos(pi * k / 5))
        for k in range(10)
    ]
    b.fill(arms, (240, 105, 80))
    for _ in range(r.randint(9, 14)):
        x, y, size = r.uniform(0, 32), r.uniform(0, 24), r.uniform(0.5, 1.0)
        b.fill(ellipse(x, y, size, size), (215, 250, 255))
        b.fill(ellipse(x, y, 0.55 * size, 0.55 * size), (110, 205, 220))


PLACES = {
    "moon": _moon,
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "snow": _snow,
    "desert": _desert,
    "sea": _sea,
}


# --- subjects: each draws itself around its head and says where things can be worn ------------------------------------


class Anchors(NamedTuple):
    """Where accessories go, in the subject's own coordinates."""

    eyes: tuple[float, float, float]  # middle x, y, and half the distance between them
    top: tuple[float, float]  # of the head
    neck: tuple[float, float, float]  # middle x, y, and half its width
    hand: tuple[float, float]  # where a string is held


def _eye(b: Brush, x: float, y: float, rx: float, ry: float) -> None:
    b.fill(ellipse(x, y, rx, ry), BLACK)
    b.fill(ellipse(x + 0.3 * rx, y - 0.35 * ry, 0.36 * rx, 0.32 * ry), WHITE)


def _body(b: Brush, c: Colour, edge: Colour, belly: float) -> None:
    b.fill(ellipse(0, 9.6, 4.6, 5.2), c, edge)
    b.fill(ellipse(0, 10.4, 2.6, 3.2), blend(c, WHITE, belly))
    for side in (-1, 1):
        b.fill(ellipse(side * 2.4, 14.2, 2.1, 1.35), c, edge)


def _cat(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    tail = [(3.5, 12.5), (7.2, 12), (8.4, 9), (7.6, 6.6)]
    b.line(tail, edge, 2.4)
    b.line(tail, c, 1.5)
    _body(b, c, edge, 0.45)
    for side in (-1, 1):
        b.fill([(side * 6.6, -1.5), (side * 6.3, -9.2), (side * 1.2, -5)], c, edge)
        b.fill([(side * 5.6, -4), (side * 5.6, -7.4), (side * 3, -5)], (245, 160, 170))
    b.fill(ellipse(0, 0, 7.2, 5.7), c, edge)
    for x in (-1.6, 0, 1.6):
        b.line([(x, -5.2), (0.8 * x, -3.4)], shade(c, 0.62), 0.6)
    for side in (-1, 1):
        b.fill(ellipse(side * 3.1, -0.6, 1.5, 1.6), (190, 225, 70), BLACK, 0.4)
        b.fill(ellipse(side * 3.1, -0.6, 0.55, 1.4), BLACK)
        for y in (1.8, 3):
            b.line([(side * 3.4, 2.2 + 0.2 * y), (side * 8.6, y)], blend(edge, WHITE, 0.35), 0.35)
    b.fill(ellipse(0, 2.6, 2.5, 1.7), blend(c, WHITE, 0.55))
    b.fill([(-1, 1.5), (1, 1.5), (0, 2.7)], (235, 95, 120))
    return Anchors((0, -0.5, 3.1), (0, -5.3), (0, 6.2, 4.2), (-4.4, 9.5))


def _dog(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    tail = [(3.5, 12.5), (7, 9.5), (7.4, 7.2)]
    b.line(tail, edge, 2.7)
    b.line(tail, c, 1.8)
    _body(b, c, edge, 0.5)
    b.fill(ellipse(0, -0.2, 5.9, 6), c, edge)
    ear = [(4, -5.2), (6.6, -5), (8.4, -0.5), (8.2, 4.2), (6.6, 5), (5.3, 2.4), (5.2, -1.5)]
    for side in (-1, 1):
        b.fill([(side * x, y) for x, y in ear], shade(c, 0.55), shade(c, 0.33))
    b.fill(ellipse(0, 2.9, 3.7, 2.9), blend(c, WHITE, 0.65))
    for side in (-1, 1):
        _eye(b, side * 2.7, -1, 1.15, 1.3)
    b.fill(ellipse(0, 1.5, 1.75, 1.2), BLACK)
    b.line([(0, 2.2), (0, 3.6)], BLACK, 0.45)
    b.fill([(-1.2, 3.6), (1.2, 3.6), (1.0, 6.1), (0, 6.7), (-1.0, 6.1)], (240, 90, 110))
    return Anchors((0, -0.9, 2.9), (0, -5.7), (0, 6.4, 4.2), (-4.4, 9.5))


def _rabbit(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    b.fill(ellipse(4.8, 12.2, 1.9, 1.9), WHITE, edge)
    _body(b, c, edge, 0.5)
    lean = r.uniform(-0.6, 0.6)
    for side in (-1, 1):
        slant = 0.18 * (lean + 0.12 * side)
        b.fill([(x + 3.1 * side - slant * y, y - 8.6) for x, y in ellipse(0, 0, 1.8, 5.6)], c, edge)
        b.fill([(x + 3.1 * side - slant * y, y - 8.4) for x, y in ellipse(0, 0, 0.85, 4.2)], (250, 165, 180))
    b.fill(ellipse(0, 0.2, 5.7, 5.5), c, edge)
    for side in (-1, 1):
        _eye(b, side * 2.7, -0.6, 1.05, 1.45)
        b.fill(ellipse(side * 1.3, 2.9, 1.7, 1.4), blend(c, WHITE, 0.75))
    b.fill([(-0.9, 1.3), (0.9, 1.3), (0, 2.3)], (240, 110, 135))
    b.fill(box(-0.95, 3.6, 0.95, 5.3), WHITE, edge, 0.35)
    return Anchors((0, -0.5, 2.8), (0, -4.8), (0, 6.2, 4.1), (-4.4, 9.5))


def _bird(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    for side in (-1, 1):
        b.line([(side * 1.7, 12.5), (side * 1.7, 15.4), (side * 3, 15.6)], (235, 140, 35), 0.8)
    b.fill([(-3, 10), (-9, 12.5), (-8.4, 14), (-3, 13.2)], shade(c, 0.7), edge)
    b.fill(ellipse(0, 8.4, 5.8, 5.4), c, edge)
    b.fill(ellipse(0.3, 9.6, 3.3, 3.6), blend(c, WHITE, 0.6))
    for side in (-1, 1):
        b.fill([(side * 4, 5.6), (side * 7.4, 7), (side * 8, 11.6), (side * 4.8, 10.4)], shade(c, 0.72), edge)
    for x in (-1.6, 0, 1.6):
        b.line([(0, -4.5), (x, -8.2 + 0.5 * abs(x))], shade(c, 0.75), 1.1)
    b.fill(ellipse(0, -0.2, 5.2, 5), c, edge)
    for side in (-1, 1):
        b.fill(ellipse(side * 2.5, -1, 1.5, 1.6), WHITE, edge, 0.3)
        b.fill(ellipse(side * 2.3, -0.9, 0.75, 0.85), BLACK)
    b.fill([(-2.5, 1.2), (2.5, 1.2), (0, 4.6)], (255, 170, 30), (190, 105, 10), 0.4)
    return Anchors((0, -0.8, 2.7), (0, -4.6), (0, 5.0, 3.9), (-6.8, 9.5))


def _fish(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    fin = shade(c, 0.72)
    b.fill([(-6.5, 5), (-12.2, -0.4), (-10.9, 5.2), (-12.2, 11)], fin, edge)
    b.fill([(-4.5, 0.5), (-3, -3.4), (2, -2.6), (3.4, 0)], fin, edge)
    b.fill([(-2.5, 10), (-1, 13.4), (2.4, 13), (2.4, 9)], fin, edge)
    b.fill([(x * (1 if x > 0 else 1.12), y) for x, y in ellipse(0, 5, 8.2, 6.2)], c, edge)
    for x in (-6, -3.6):
        b.line([(x + 1.0, 1), (x + 1.8, 5), (x + 1.0, 9)], blend(c, WHITE, 0.6), 1.0)
    b.fill([(-1, 6.4), (-3.6, 8.6), (-1, 9.6), (1, 7.6)], fin, edge, 0.4)
    for x in (2.2, 5.6):
        b.fill(ellipse(x, 2.9, 1.5, 1.6), WHITE, edge, 0.35)
        b.fill(ellipse(x + 0.3, 3, 0.75, 0.85), BLACK)
    b.line([(4, 7.6), (5.8, 8.0), (7.2, 7)], BLACK, 0.6)
    return Anchors((4.0, 3.0, 2.5), (2.4, -1.2), (-0.4, 8.4, 4.4), (-1.6, 9))


def _robot(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    for side in (-1, 1):
        arm = [(side * 4, 8), (side * 6.9, 9.5), (side * 7.1, 12.2)]
        b.line(arm, edge, 2.0)
        b.line(arm, shade(c, 0.8), 1.2)
        b.fill(box(side * 2.4 - 1.3, 13.6, side * 2.4 + 1.3, 15.6), shade(c, 0.7), edge)
    b.fill(box(-4.8, 5.6, 4.8, 14), c, edge)
    b.fill(box(-3, 9.6, 3, 12.4), shade(c, 0.5))
    for x, lamp in ((-1.9, (240, 70, 70)), (0, (250, 210, 60)), (1.9, (80, 220, 110))):
        b.fill(ellipse(x, 11, 0.7, 0.7), lamp)
    b.line([(0, -5), (0, -8.4)], edge, 0.9)
    b.fill(ellipse(0, -9, 1.3, 1.3), (245, 60, 60), edge, 0.35)
    for side in (-1, 1):
        b.fill(box(side * 7.1 - 1, -1.8, side * 7.1 + 1, 1.8), shade(c, 0.65), edge)
    b.fill(box(-6.3, -5.4, 6.3, 5), c, edge)
    for side in (-1, 1):
        b.fill(box(side * 2.8 - 1.6, -2.3, side * 2.8 + 1.6, 0.8), (95, 245, 250), edge, 0.4)
        b.fill(box(side * 2.8 - 0.6, -1.3, side * 2.8 + 0.6, -0.2), BLACK)
    b.fill(box(-3, 2.4, 3, 3.9), (235, 240, 245), edge, 0.35)
    for x in (-1.5, 0, 1.5):
        b.line([(x, 2.4), (x, 3.9)], edge, 0.45)
    return Anchors((0, -0.7, 2.9), (0, -5), (0, 5.9, 4.6), (-7, 11.5))


def _elephant(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    b.line([(4, 11), (6.6, 11.6), (7, 13.4)], edge, 0.9)
    _body(b, c, edge, 0.3)
    for side in (-1, 1):
        b.fill(ellipse(side * 7.4, -0.6, 4.3, 5.2), shade(c, 0.9), edge)
        b.fill(ellipse(side * 7.4, -0.4, 2.7, 3.5), blend(c, (245, 160, 170), 0.6))
    b.fill(ellipse(0, -0.4, 5.6, 5.4), c, edge)
    trunk = [(0, 2), (0, 5.2), (0.4, 7.6), (2, 9.2), (4, 8.8)]
    b.line(trunk, edge, 3.4)
    b.line(trunk, c, 2.5)
    for y in (4.2, 5.8):
        b.line([(-1.1, y), (1.1, y)], shade(c, 0.62), 0.4)
    for side in (-1, 1):
        _eye(b, side * 2.8, -1, 1.0, 1.2)
        b.fill([(side * 1.8, 3.2), (side * 3.4, 2.8), (side * 3.2, 6.4)], (255, 252, 235), edge, 0.3)
    return Anchors((0, -0.9, 2.8), (0, -5.3), (0, 6.6, 4.4), (-4.4, 9.5))


def _octopus(b: Brush, r: Random, c: Colour, edge: Colour) -> Anchors:
    for x in (-1.7, 1.7, -4.6, 4.6):  # the outer arms in front, ends curled outwards
        wave, side = r.uniform(-0.5, 0.5), 1 if x > 0 else -1
        arm = [
            (0.75 * x, 4),
            (x, 8.5),
            (1.15 * x + wave, 12),
            (1.3 * x + 0.4 * side, 14.3),
            (1.3 * x + 2.4 * side, 13.6),
        ]
        b.line(arm, edge, 3.0)
        b.line(arm, c, 1.9)
    b.fill(ellipse(0, -0.6, 7.0, 6.9), c, edge)
    b.fill(ellipse(0, 5.2, 4.9, 2.4), c)
    for x, y, size in ((-4, -4, 0.9), (-2.3, -5.4, 0.6), (4.3, -3.6, 0.8)):
        b.fill(ellipse(x, y, size, size), blend(c, WHITE, 0.5))
    for side in (-1, 1):
        b.fill(ellipse(side * 2.7, 0, 1.7, 1.9), WHITE, edge, 0.35)
        b.fill(box(side * 2.7 - 1.0, -0.25, side * 2.7 + 1.0, 0.6), BLACK)
    b.line([(-1.6, 3.2), (0, 3.9), (1.6, 3.2)], edge, 0.6)
    return Anchors((0, 0, 2.8), (0, -6.7), (0, 6.2, 4.6), (-5.6, 12))


SUBJECTS = {
    "cat": _cat, "dog": _dog, "rabbit": _rabbit, "bird": _bird, "fish": _fish, "robot": _robot, "elephant": _elephant,
    "octopus": _octopus,
}  # fmt: skip
COLOURS: dict[str, Colour] = {
    "orange": (238, 140, 45), "gray": (140, 144, 152), "white": (240, 238, 232), "brown": (142, 90, 52),
    "blue": (80, 135, 225), "pink": (244, 150, 185),
}  # fmt: skip


# --- accessories ------------------------------------------------------------------------------------------------------


def _nothing(b: Brush, r: Random, at: Anchors) -> None:
    pass


def _sunglasses(b: Brush, r: Random, at: Anchors) -> None:
    x, y, half = at.eyes
    b.line([(x - half - 3.2, y - 1.0), (x + half + 3.2, y - 1.0)], (12, 12, 16), 0.9)
    for side in (-1, 1):
        lens = [(0.55, -1.6), (half + 2.3, -1.6), (half + 2.1, 0.8), (half + 1, 1.9), (1.4, 1.8), (0.7, 0.5)]
        b.fill([(x + side * u, y + v) for u, v in lens], (14, 14, 20), (5, 5, 8), 0.5)
        b.line([(x + side * half - 0.9, y - 0.6), (x + side * half - 0.1, y - 1.0)], (215, 235, 255), 0.65)


def _hat(b: Brush, r: Random, at: Anchors) -> None:
    (x, y), c = at.top, vary((205, 35, 50), r, 14)
    crown = [(-3.5, 0.6), (-3.8, -5.4), (3.8, -5.4), (3.5, 0.6)]
    b.fill([(x + u, y + v) for u, v in crown], c, shade(c, 0.5))
    b.fill(box(x - 3.5, y - 1.7, x + 3.5, y - 0.2), (250, 235, 200))
    b.fill(ellipse(x, y + 0.7, 6.3, 1.35), c, shade(c, 0.5))


def _crown(b: Brush, r: Random, at: Anchors) -> None:
    x, y = at.top
    rim = [(-4.2, 1.2), (-4.8, -4.4), (-2.2, -1.9), (0, -5.4), (2.2, -1.9), (4.8, -4.4), (4.2, 1.2)]
    b.fill([(x + u, y + v) for u, v in rim], (255, 210, 40), (150, 100, 10), 0.5)
    for u, jewel in ((-2.4, (225, 40, 70)), (0, (50, 110, 230)), (2.4, (225, 40, 70))):
        b.fill(ellipse(x + u, y - 0.4, 0.75, 0.75), jewel)


def _scarf(b: Brush, r: Random, at: Anchors) -> None:
    (x, y, half), c, stripe = at.neck, vary((40, 165, 75), r, 14), (250, 245, 215)
    end = [(0.8, 0), (3.6, 0), (4.2, 7), (1.4, 7)]
    b.fill([(x + u, y + v) for u, v in end], c, shade(c, 0.5), 0.5)
    b.fill([(x + u, y + v) for u, v in ((1.1, 3.6), (3.9, 3.6), (4.0, 5), (1.3, 5))], stripe)
    wide = half + 0.6
    b.fill(
        [(x + u, y + v) for u, v in ((-wide, -1.3), (wide, -1.3), (wide, 1.3), (0, 1.9), (-wide, 1.3))],
        c,
        shade(c, 0.5),
        0.5,
    )
    for u in (-3.2, -0.2, 2.6):
        b.fill([(x + u + p, y + q) for p, q in ((-0.6, -1.1), (0.6, -1.1), (0.5, 1.4), (-0.7, 1.4))], stripe)


def _balloon(b: Brush, r: Random, at: Anchors) -> None:
    (x, y), c = at.hand, vary((165, 60, 215), r, 14)
    float_x, float_y = -10.6 + r.uniform(-0.8, 0.8), -5.5 + r.uniform(-1.5, 1.5)
    b.line(
        [(x, y), (0.5 * (x + float_x) - 0.7, 0.5 * (y + float_y + 3.6)), (float_x, float_y + 3.6)],
        (245, 245, 245),
        0.45,
    )
    b.fill(
        [(float_x - 0.8, float_y + 4.6), (float_x + 0.8, float_y + 4.6), (float_x, float_y + 3.2)],
        c,
        shade(c, 0.5),
        0.3,
    )
    b.fill(ellipse(float_x, float_y, 3.3, 3.9), c, shade(c, 0.5), 0.5)
    b.fill(ellipse(float_x - 1.1, float_y - 1.5, 0.7, 1.0), blend(c, WHITE, 0.75))


ACCESSORIES = {
    "nothing": _nothing, "sunglasses": _sunglasses, "hat": _hat, "scarf": _scarf, "crown": _crown, "balloon": _balloon,
}  # fmt: skip


# --- the picture ------------------------------------------------------------------------------------------------------


def draw(subject: str, accessory: str, place: str, colour: str, r: Random, side: int = SIDE) -> np.ndarray:
    """One picture, (side, side, 3) uint8: where, how large, how tilted and in what light is drawn from r.

    The side, a divisor of 192, only says how far the canvas is averaged down: everything else is the same at any.
    """
    b = Brush()
    PLACES[place](b, r)
    scale, tilt, x = r.uniform(0.88, 1.06), radians(r.uniform(-7, 7)), 16 + r.uniform(-4, 4)
    mirror = r.choice((-1, 1))
    if accessory == "balloon":  # where there is room for it
        mirror = 1 if x > 16 else -1
        x += 2 * mirror
    afloat = subject == "fish" or place == "sea"
    y = r.uniform(11.5, 14.5) if afloat else 27.5 - 14.6 * scale + r.uniform(-1, 2)
    if subject == "fish":
        x += 2 * mirror
        y -= 1.5
    if not afloat:
        foot = y + 15.5 * scale
        under = b.image.getpixel((min(SIDE * FINE - 1, round(FINE * x)), min(SIDE * FINE - 1, round(FINE * foot))))
        b.fill(ellipse(x, foot - 0.5, 6 * scale, 1.1 * scale), shade(under, 0.72))
    b.place(x, y, scale, tilt, mirror)
    c = vary(COLOURS[colour], r)
    at = SUBJECTS[subject](b, r, c, shade(c, 0.42))
    ACCESSORIES[accessory](b, r, at)
    pixels = np.asarray(b.image.reduce(SIDE * FINE // side), dtype=np.int32)
    light = np.array([r.randint(249, 261) for _ in range(3)]) + r.randint(
        -22, 12
    )  # in 256ths: whole numbers round alike
    return np.minimum(255, pixels * light // 256).astype(np.uint8)
