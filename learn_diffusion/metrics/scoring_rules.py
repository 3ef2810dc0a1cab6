"""How good is a whole set of draws, where one true answer is known for each question?"""

from __future__ import annotations

import torch
from torch import Tensor

from learn_diffusion import validation


def energy_score(draws: Tensor, truth: Tensor) -> Tensor:
    """E|X - y| - E|X - X'| / 2 of draws X for a truth y, in the data's units (Gneiting and Raftery 2007, eq. 22).

    draws (S, B, ...), S >= 2 draws for each of B questions; truth (B, ...). Returns (B,). Strictly proper: on average
    it is lowest for draws from the true posterior. Unbiased, for X' is another draw than X.
    """
    validation.floats("draws", draws)
    if draws.shape[1:] != truth.shape or len(draws) < 2:
        raise ValueError(
            f"draws: expected at least 2 draws for each truth, (S, {', '.join(map(str, truth.shape))}), "
            f"got {tuple(draws.shape)}"
        )
    x = draws.reshape(*draws.shape[:2], -1).transpose(0, 1)  # (B, S, D)
    y = truth.reshape(len(truth), -1)  # (B, D)
    away = (x - y[:, None]).norm(dim=2).mean(1)
    apart = torch.stack([torch.pdist(each).mean() for each in x])
    return away - apart / 2
