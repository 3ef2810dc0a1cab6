"""Is it a copy? Each picture beside the nearest of the originals, and beside the next one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learn_diffusion import validation

COPIED = 1 / 3  # below this ratio a picture counts as a copy


class Nearest(NamedTuple):
    """The nearest original of each picture."""

    index: Tensor  # (N,) int64
    ratio: Tensor  # (N,) its distance over that of the next one: near 1 where several are as near, 0 for a copy

    @property
    def copied(self) -> float:
        """The share of copies, from 0 to 1."""
        return (self.ratio < COPIED).float().mean().item()


def nearest_original(pictures: Tensor, originals: Tensor, places: Tensor | None = None) -> Nearest:
    """The original nearest to each picture, and how much nearer it is than the next (Yoon et al. 2023, with 1/3).

    pictures (N, ...), originals (M, ...) of the same shape, M of 2 or more; distances are Euclidean.
    places   (M, 2), the row and column where a crop was cut out of one picture: crops that overlap the nearest one are
             no rivals of it, for they show the same thing

    Raises ValueError for shapes that do not agree, or if no rival is left.
    """
    for name, x in (("pictures", pictures), ("originals", originals)):
        validation.floats(name, x)
        validation.finite(name, x)
    if len(originals) < 2 or pictures.shape[1:] != originals.shape[1:]:
        raise ValueError(f"originals: expected 2 or more of the shape of pictures, {tuple(pictures.shape[1:])}, "
                         f"got {tuple(originals.shape)}")  # fmt: skip
    if places is not None and places.shape != (len(originals), 2):
        raise ValueError(f"places: expected ({len(originals)}, 2), one for each original, got {tuple(places.shape)}")
    far = torch.cdist(pictures.flatten(1), originals.flatten(1))
    first, index = far.min(dim=1)
    if places is None:
        same = torch.arange(len(originals), device=far.device) == index[:, None]
    else:
        side = torch.tensor(originals.shape[-2:], device=places.device)
        same = ((places - places[index][:, None]).abs() < side).all(dim=-1)
    second = far.masked_fill_(same, torch.inf).min(dim=1).values
    if second.isinf().any():
        raise ValueError("places: expected an original that does not overlap the nearest one, got none")
    return Nearest(index, torch.where(second > 0, first / second, 1.0))
