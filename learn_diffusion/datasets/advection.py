"""A dye that is stirred and spreads: simulated fields with sharp fronts, for measuring at a few places.

The box is periodic and has side 1. The concentration c of the dye obeys the advection-diffusion equation

    dc/dt + u . grad c = kappa laplace c.

The flow u comes in two strokes of duration 1: first along y, then along x. A stroke along x moves the row at height y
by distance * sin(2 pi (y - phase)), the sine flow of Pierrehumbert (1994).
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from learn_diffusion import validation

KAPPA = 4e-4  # in squared sides of the box for the time of one stroke
SIDE, FINE = 32, 2  # cells a side; the solver's grid is FINE times as fine
STROKES = 2
SETTINGS = 1 + 2 * STROKES  # numbers that make a field, see draw_settings
CHUNK = 512  # fields simulated at a time: about 50 MB


def stroke(c: Tensor, distance: Tensor, phase: Tensor, kappa: float = KAPPA, steps: int = 2) -> Tensor:
    """One stroke along x while the dye spreads, by Strang splitting: spread for half a step, move, spread for half.

    c                (N, H, W) concentrations; W lies along x; the box is periodic
    distance, phase  (N,) in sides of the box
    kappa            diffusivity, 0 or more

    Both parts are exact in Fourier space: spreading multiplies the wave (k_x, k_y) by exp(-kappa |2 pi k|^2 time), and
    moving a row multiplies its wave k_x by exp(-2 pi i k_x shift). What is left is the error of the splitting, which
    falls with 1 / steps^2, and waves too short for the grid, which kappa has to damp. Torch can differentiate it.
    Raises TypeError or ValueError that names a bad argument.
    """
    validation.floats("c", c, ndim=3)
    validation.floats("distance", distance, ndim=1)
    validation.same_shape("phase", phase, "distance", distance)
    validation.positive_int("steps", steps)
    if len(distance) != len(c):
        raise ValueError(f"distance: expected one for each of the {len(c)} fields, got {len(distance)}")
    if not 0 <= kappa < float("inf"):
        raise ValueError(f"kappa: expected a diffusivity of 0 or more, got {kappa}")
    H, W = c.shape[1:]
    k_x = torch.fft.rfftfreq(W, 1 / W, dtype=c.dtype)  # (W // 2 + 1,)
    k_y = torch.fft.fftfreq(H, 1 / H, dtype=c.dtype)[:, None]  # (H, 1)
    y = torch.arange(H, dtype=c.dtype) / H
    shift = distance[:, None] * torch.sin(2 * pi * (y - phase[:, None])) / steps  # (N, H)
    move = torch.exp(-2j * pi * shift[..., None] * k_x)  # (N, H, W // 2 + 1)
    spread = torch.exp(-kappa * (2 * pi) ** 2 * (k_x**2 + k_y**2) / (2 * steps))
    waves = torch.fft.rfft2(c)
    for _ in range(steps):
        waves = spread * torch.fft.fft(move * torch.fft.ifft(spread * waves, dim=1), dim=1)
    return torch.fft.irfft2(waves, s=(H, W))


def draw_settings(n: int, seed: int = 0) -> Tensor:
    """The five numbers that make a field, for n fields, (n, 5) float32, all in sides of the box.

    Column 0 is the height of the dyed band, from 0 to 0.25. Then, for each of the two strokes, its distance, from 0.2
    to 0.4, and its phase, from 0 to 0.25. All are uniform and independent: an apparatus never set up twice alike.
    """
    validation.positive_int("n", n)
    g = torch.Generator().manual_seed(validation.whole_number("seed", seed))
    u = torch.rand(n, SETTINGS, generator=g, dtype=torch.float32)
    low, width = torch.tensor([[0, 0.2, 0, 0.2, 0], [0.25, 0.2, 0.25, 0.2, 0.25]], dtype=torch.float32)
    return low + width * u


def stirred(settings: Tensor) -> Tensor:
    """The fields that these settings make, after the last stroke: (N, 5) -> (N, 1, 32, 32), in [-1, 1] up to 1e-3.

    1 is dye, -1 is clear water. Each value is the mean over a cell. Before the first stroke the dye fills half of the
    box, a level band with soft edges. Torch can differentiate it. Raises TypeError or ValueError for other settings.
    """
    validation.floats("settings", settings, ndim=2)
    if settings.shape[1] != SETTINGS:
        raise ValueError(
            f"settings: expected (N, {SETTINGS}), a height and a distance and a phase for each of {STROKES} strokes, "
            f"got {tuple(settings.shape)}"
        )
    n = SIDE * FINE
    y = torch.arange(n, dtype=settings.dtype) / n
    band = torch.tanh(4 * torch.cos(2 * pi * (y - settings[:, :1])))  # (N, n)
    c = band[:, :, None].expand(-1, -1, n)  # (N, y, x)
    c = stroke(c.mT, settings[:, 1], settings[:, 2]).mT  # along y: turn the box, stroke along x, turn it back
    c = stroke(c, settings[:, 3], settings[:, 4])
    return c.unflatten(2, (SIDE, FINE)).unflatten(1, (SIDE, FINE)).mean((2, 4))[:, None]


def dye(n: int, seed: int = 0) -> Tensor:
    """n fields of stirred dye, (n, 1, 32, 32) float32 in [-1, 1]: draw_settings, then stirred.

    The same n and seed give the same fields, up to rounding; another n may give others.
    """
    settings = draw_settings(n, seed)
    return torch.cat([stirred(some) for some in settings.split(CHUNK)]).clamp(-1, 1)
