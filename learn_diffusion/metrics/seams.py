"""Does a picture that was put together from parts show where? Ratios for what we think of, a classifier for the rest.

A line at s runs between pixels s - 1 and s; the line at 0 runs between the last and the first, where a tile meets
itself. Seams are compared with other lines of the same pictures: 1 (or one half, for the classifier) means that they
do not stand out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.metrics.error_bars import MeanWithError, ratio_of_means
from learn_diffusion.metrics.two_sample import told_apart

STRIP = 16  # pixels a side of what the classifier sees


def seam_ratio(pictures: Tensor, seams: Sequence[int], others: Sequence[int], rows: bool = False) -> MeanWithError:
    """Mean absolute jump across the lines `seams` over that across the lines `others`, for pictures (n, C, H, W).

    Lines are vertical; rows: horizontal ones too, at the same places. 1: seams do not stand out. The error is one
    standard error over pictures. A jump falls also where two parts are blended: see contrast_ratio.
    """
    validation.floats("pictures", pictures, ndim=4)
    at_seams, elsewhere = (_jump(pictures, lines, rows) for lines in (seams, others))
    return ratio_of_means(at_seams, elsewhere)


def _jump(pictures: Tensor, lines: Sequence[int], rows: bool) -> Tensor:
    """Mean absolute difference across the lines, (n,)."""
    s = torch.tensor(lines)
    across = (pictures[..., s] - pictures[..., s - 1]).abs().mean((1, 2, 3))
    return across + _jump(pictures.mT, lines, False) if rows else across


def contrast_ratio(pictures: Tensor, band: int = 8) -> MeanWithError:
    """Contrast in the first `band` rows and columns of pictures (n, C, H, W) over contrast elsewhere.

    Contrast is the mean squared distance from the picture's mean colour. Where two independent pictures fade into each
    other it falls (to one half in the middle): below 1, the band is washed out. The error is one standard error.
    """
    validation.floats("pictures", pictures, ndim=4)
    off = (pictures - pictures.mean((2, 3), keepdim=True)).square()
    edge = (off[..., :band].mean((1, 2, 3)) + off[..., :band, :].mean((1, 2, 3))) / 2
    return ratio_of_means(edge, off[..., band:, band:].mean((1, 2, 3)))


def seam_accuracy(
    pictures: Tensor, seams: Sequence[int], others: Sequence[int], folds: int = 4, seed: int = 0
) -> MeanWithError:
    """How often a classifier tells strips with a vertical seam in their middle from strips without. 0.5: it cannot.

    Pictures (n, 1, H, W), H a multiple of 16, are cut into strips of 16x16 around each line; as many lines of both
    kinds, so that guessing gives 0.5. The classifier, see told_apart, sees the jumps, kinks and spread of each column.
    The error is one standard error over pictures.
    """
    validation.floats("pictures", pictures, ndim=4)
    if len(seams) != len(others):
        raise ValueError(f"others: expected {len(seams)} lines, as many as seams, got {len(others)}")
    if pictures.shape[1] != 1 or pictures.shape[2] % STRIP:
        raise ValueError(f"pictures: expected (n, 1, H, W), H a multiple of {STRIP}, got {tuple(pictures.shape)}")
    return told_apart(_strip_features(pictures, seams), _strip_features(pictures, others), folds, seed)


def _strip_features(pictures: Tensor, lines: Sequence[int]) -> Tensor:
    """Jumps, kinks and spread of the strips around the lines, column by column, (n, strips, 45)."""
    half = STRIP // 2
    cut = torch.stack([pictures[:, 0, :, s - half : s + half] for s in lines], dim=1)  # (n, lines, H, 16)
    strips = cut.unflatten(2, (-1, STRIP)).transpose(1, 2)  # (n, rows of strips, lines, 16, 16)
    jumps = strips.diff(dim=-1).abs().mean(-2)
    kinks = strips.diff(n=2, dim=-1).abs().mean(-2)
    return torch.cat([jumps, kinks, strips.std(-2)], dim=-1).flatten(1, 2)
