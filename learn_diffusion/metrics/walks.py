"""Films of sprites that walk, against the true frames: the phase that the legs show, and whether colours stay."""

from __future__ import annotations

from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.datasets.sprites import Walkers

LEGS = 15  # the first row of the legs: above it, head and body


def phases(film: Tensor, cast: Walkers) -> Tensor:
    """The phase whose true legs are nearest to those of each frame of film (n, T, 3, 24, 16): int64 (n, T)."""
    _check(film, cast)
    off = film[:, :, None, :, LEGS:] - cast.frames[:, None, :, :, LEGS:]
    return off.square().mean((3, 4, 5)).argmin(2)


def colour_error(film: Tensor, cast: Walkers) -> Tensor:
    """Mean absolute error of colour over head and body, without the backdrop, in levels of 255: (n, T).

    Against the nearest true frame, so that a wrong phase is not counted twice.
    """
    _check(film, cast)
    body = (cast.parts[:, :, :LEGS] > 0)[:, :, None]  # (n, 8, 1, 15, 16)
    off = (film[:, :, None, :, :LEGS] - cast.frames[:, None, :, :, :LEGS]).abs() * body[:, None]
    values = 3 * body.sum((2, 3, 4))[:, None]  # (n, 1, 8): of each true frame
    return 127.5 * (off.sum((3, 4, 5)) / values).amin(2)


def _check(film: Tensor, cast: Walkers) -> None:
    validation.floats("film", film, ndim=5)
    if len(film) != len(cast.frames) or film.shape[2:] != cast.frames.shape[2:]:
        expected = (len(cast.frames), "T", *cast.frames.shape[2:])
        raise ValueError(f"film: expected one for each character, {expected}, got {tuple(film.shape)}")


def steps_on(shown: Tensor) -> Tensor:
    """The part of a film's steps that go to the next of 8 phases, (n,), from the phases shown, int64 (n, T)."""
    return (shown.diff(dim=1) % 8 == 1).float().mean(1)
