"""How much do samples of one kind differ?"""

from __future__ import annotations

import torch
from torch import Tensor

from learn_diffusion import validation


def within_class_distance(features: Tensor, labels: Tensor) -> float:
    """Mean distance between two rows of features (N, D) with the same label (N,), averaged over the labels.

    0 where all of a label are copies of one. Each label needs two rows. Where samples do not show what their label
    says, they differ for that reason alone: read it only where they do.
    """
    validation.floats("features", features, ndim=2)
    validation.finite("features", features)
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels: expected a tensor, got {type(labels).__name__}")
    if labels.shape != (len(features),):
        raise ValueError(f"labels: expected one for each of {len(features)} rows, got shape {tuple(labels.shape)}")
    kinds = [validation.to_double(features[labels == label]) for label in labels.unique()]
    if min(map(len, kinds), default=0) < 2:
        raise ValueError("labels: expected at least two rows of every label")
    return torch.stack([torch.pdist(kind).mean() for kind in kinds]).mean().item()
