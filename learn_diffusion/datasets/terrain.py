"""Height maps of a made-up land: seas, beaches, hills and ridges, as float pictures. A game's map, without its colours.

Smooth noise gives land and sea, the creases of a second noise give ridges, and a little simulated erosion lets steep
slopes slide. No map has an edge of its own: any cut-out of the same endless land looks like any other (the noise is
stationary), so a map of any size has the statistics of many small ones. That makes it a fair floor for an endless map.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import validation

MARGIN = 32  # pixels cut off: noise made by a Fourier transform meets itself at the border
LONGEST = 30.0  # pixels: waves much longer than this are damped, so that a 32x32 window shows what there is to see
ROUNDS, STEEPEST = 8, 0.09  # of erosion; the step between neighbours (in units of height) that holds
CHUNK = 64  # maps at a time, so that memory does not grow with n
LIMITS = (-0.35, -0.15, -0.05, 0.0, 0.035, 0.16, 0.30, 0.46, 0.64)  # the heights between the tints
TINTS = np.array([  # deep sea, sea, shallows, surf, sand; meadow ... snow
    (24, 60, 110), (44, 98, 150), (92, 150, 188), (150, 200, 210), (238, 226, 176),
    (160, 186, 106), (100, 148, 78), (132, 118, 92), (166, 158, 152), (240, 240, 246),
])  # fmt: skip


def height_maps(n: int, seed: int = 0, height: int = 32, width: int = 32) -> Tensor:
    """n height maps (n, 1, height, width), float32 in [-1, 1]: 0 is the sea level, 1 the highest peak.

    height, width  in pixels, at least 1. Any size shows the same land, at the same scale
    seed           a whole number from 0; the same seed gives the same maps

    Raises ValueError that names a bad argument. Source: drawn here, by the rules below; nothing is measured.
    """
    for name, value in (("n", n), ("height", height), ("width", width)):
        validation.positive_int(name, value)
    rng = np.random.default_rng(validation.whole_number("seed", seed))
    parts = [_maps(rng, min(CHUNK, n - i), height + MARGIN, width + MARGIN) for i in range(0, n, CHUNK)]
    half = MARGIN // 2
    maps = np.concatenate([part[:, half : half + height, half : half + width] for part in parts])
    return torch.from_numpy(maps).float()[:, None]


def _maps(rng: np.random.Generator, n: int, height: int, width: int) -> np.ndarray:
    """n maps (n, height, width), with the border still on."""
    land = _noise(rng, n, height, width, longest=LONGEST, slope=2.2)
    crease = 1 - np.abs(_noise(rng, n, height, width, longest=LONGEST / 2, slope=1.9))  # 1 along lines: the ridges
    uplift = np.clip(land + 0.1, 0, 1.6)  # mountains stand on land
    h = 0.30 * land + 0.24 * uplift * np.clip(crease, -0.4, 1)
    for _ in range(ROUNDS):
        h = _slide(h)
    h = np.where(h < 0, 0.7 * h, h)  # the sea is shallower than the mountains are high
    return np.clip(h, -1, 1)


def _noise(rng: np.random.Generator, n: int, height: int, width: int, longest: float, slope: float) -> np.ndarray:
    """Gaussian noise of variance 1 whose waves of k cycles a pixel have an amplitude like k^-slope, (n, H, W).

    Waves longer than `longest` pixels are damped: a window would not show them, and they could not be learned from it.
    """
    k = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    k[0, 0] = 1.0
    amplitude = k**-slope * (1 - np.exp(-((k * longest) ** 3)))
    amplitude[0, 0] = 0.0  # the mean: half land, half sea, everywhere
    waves = np.fft.rfft2(rng.standard_normal((n, height, width))) * amplitude[:, : width // 2 + 1]
    return np.fft.irfft2(waves, s=(height, width)) / np.sqrt((amplitude**2).mean())


def _slide(h: np.ndarray) -> np.ndarray:
    """One round of thermal erosion: of a drop to a neighbour, what exceeds STEEPEST slides down, an eighth of it."""
    for axis in (1, 2):
        for step in (1, -1):
            drop = h - np.roll(h, step, axis)  # to the neighbour on one side; the border is cut off later
            gone = np.clip(drop - STEEPEST, 0, None) / 8
            h = h - gone + np.roll(gone, -step, axis)
    return h


def relief(heights: Tensor, zoom: int = 2) -> np.ndarray:
    """Height maps (n, 1, H, W) as pictures (n, zoom H, zoom W, 3), uint8: tinted by height, lit from the upper left."""
    validation.floats("heights", heights, ndim=4)
    ground = torch.where(heights > 0, heights, 0.3 * heights)  # water hides most of the slope below it
    down, right = torch.gradient(ground[:, 0], dim=(1, 2))
    slope = 2.5 * (down + right)[:, None]  # above 0 it rises towards the lower right, and faces the light
    light = 1 + _larger(slope / (1 + slope.abs()), zoom)
    light = (8 * light).round() / 8  # few shades, as on a printed map
    rgb = TINTS[np.digitize(_larger(heights, zoom), LIMITS)]  # (n, zoom H, zoom W, 3)
    return (rgb * light[..., None]).clip(0, 255).astype(np.uint8)


def _larger(x: Tensor, zoom: int) -> np.ndarray:
    return F.interpolate(x, scale_factor=zoom, mode="bicubic")[:, 0].numpy()
