"""Points in the plane, for seeing with the eyes what happens in 64 dimensions."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from learn_diffusion import validation


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(validation.whole_number("seed", seed))


def gaussians(n: int, seed: int = 0, modes: int = 8, std: float = 0.08) -> tuple[Tensor, Tensor]:
    """n points from `modes` equal Gaussians of width std on the unit circle: points (n, 2), mode of each (n,) int64."""
    validation.positive_int("n", n)
    validation.positive_int("modes", modes)
    g = _generator(seed)
    mode = torch.randint(modes, (n,), generator=g)
    angle = (2 * pi * mode.float()) / modes
    centre = torch.stack([angle.cos(), angle.sin()], dim=1)
    return centre + std * torch.randn(n, 2, generator=g, dtype=torch.float32), mode


def lattice(n: int, seed: int = 0, side: int = 5, std: float = 0.02) -> tuple[Tensor, Tensor]:
    """n points from side * side equal Gaussians of width std, whose centres fill [-1, 1]^2 evenly: the classical test
    for modes that a generator leaves out (Srivastava et al. 2017 have it, ours is rescaled).

    Returns points (n, 2), and the mode of each (n,) int64: mode m has its centre at lattice_centres(side)[m].
    """
    validation.positive_int("n", n)
    g = _generator(seed)
    centres = lattice_centres(side)
    mode = torch.randint(len(centres), (n,), generator=g)
    return centres[mode] + std * torch.randn(n, 2, generator=g, dtype=torch.float32), mode


def lattice_centres(side: int = 5) -> Tensor:
    """The centres of lattice's modes, (side * side, 2)."""
    validation.positive_int("side", side)
    line = torch.linspace(-1, 1, side, dtype=torch.float32) if side > 1 else torch.zeros(1, dtype=torch.float32)
    return torch.cartesian_prod(line, line).reshape(-1, 2)


def moons(n: int, seed: int = 0, std: float = 0.05) -> tuple[Tensor, Tensor]:
    """n points from two interleaved half circles of radius 0.7, blurred by std: points (n, 2), moon (n,) int64."""
    validation.positive_int("n", n)
    g = _generator(seed)
    moon = torch.randint(2, (n,), generator=g)
    angle = pi * torch.rand(n, generator=g, dtype=torch.float32)
    side = 1.0 - 2.0 * moon.float()
    arc = torch.stack([0.7 * side * angle.cos() - 0.35 * side, 0.7 * side * angle.sin() - 0.175 * side], dim=1)
    return arc + std * torch.randn(n, 2, generator=g, dtype=torch.float32), moon


def spiral(n: int, seed: int = 0, std: float = 0.02) -> Tensor:
    """n points along a spiral of two turns that ends on the unit circle, blurred by std: points (n, 2)."""
    validation.positive_int("n", n)
    g = _generator(seed)
    u = torch.rand(n, generator=g, dtype=torch.float32).sqrt()  # evenly along the curve, whose length grows like u^2
    arc = torch.stack([u * (4 * pi * u).cos(), u * (4 * pi * u).sin()], dim=1)
    return arc + std * torch.randn(n, 2, generator=g, dtype=torch.float32)
