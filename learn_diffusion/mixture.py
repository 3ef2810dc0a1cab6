"""A mixture of Gaussian blobs, some classes of them: the data of which denoiser and classifier are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.process import Estimate, from_x0
from learn_diffusion.schedules import Schedule


@dataclass(frozen=True)
class GaussianMixture:
    """Called like a Denoiser: (x_t (B, D), t) -> E[x0 | x_t] and the noise that goes with it, without a network.

    centres (K, D), share (K,) of all data in each blob, classes (K,) whole numbers: which class a blob belongs to;
    width is the standard deviation of every blob along every axis.
    """

    centres: Tensor
    share: Tensor
    classes: Tensor
    width: float
    schedule: Schedule

    def __post_init__(self):
        validation.floats("centres", self.centres, ndim=2)
        validation.floats("share", self.share, ndim=1)
        validation.finite("centres", self.centres)
        n = len(self.centres)
        if len(self.share) != n or not (self.share >= 0).all() or abs(self.share.sum().item() - 1) > 1e-3:
            raise ValueError(f"share: expected {n} shares that add up to 1, got {self.share.tolist()}")
        if not isinstance(self.classes, Tensor) or self.classes.shape != (n,):
            raise ValueError(f"classes: expected a tensor of {n} whole numbers, got {self.classes!r:.80}")
        validation.number("width", self.width)
        if self.width < 0:
            raise ValueError(f"width: expected a standard deviation of 0 or more, got {self.width}")

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None, cond_mask: Tensor | None = None) -> Estimate:
        """y (B,): of the class that each row asks for; where cond_mask (B,) is False, the row asks for nothing."""
        alpha, sigma = self.schedule.at(t, x)
        odds = self._log_blobs(x, t)
        if y is not None:
            asked = y[:, None] == self.classes
            self._known(y, asked.any(1))
            odds = odds.where(asked if cond_mask is None else asked | ~cond_mask[:, None], -torch.inf)
        pull = alpha * self.width**2 / (alpha**2 * self.width**2 + sigma**2)
        inside = self.centres + pull * (x[:, None] - alpha * self.centres)  # (B, K, D): E[x0 | x_t, blob]
        return from_x0(x, (odds.softmax(1)[:, :, None] * inside).sum(1), alpha, sigma)

    def log_prob(self, y: int, x: Tensor, t: Tensor) -> Tensor:
        """log p(y | x_t) of each row of x_t (B, D), (B,): what a perfect classifier of noised points says."""
        odds = self._log_blobs(x, t)
        return odds[:, self.classes == y].logsumexp(1) - odds.logsumexp(1)

    def log_density(self, x: Tensor, t: Tensor, y: int | None = None) -> Tensor:
        """log p_t(x_t), or log p_t(x_t | y), of each row of x_t (B, D), (B,); both lack the same constant."""
        odds = self._log_blobs(x, t)
        if y is None:
            return odds.logsumexp(1)
        self._known(y, (self.classes == y).any())
        return odds[:, self.classes == y].logsumexp(1) - self.share[self.classes == y].sum().log()

    def _known(self, y: Tensor | int, found: Tensor) -> None:
        if validation.readable(found) and not bool(found.all()):
            raise ValueError(f"y: expected classes among {self.classes.unique().tolist()}, got {y!r:.80}")

    def _log_blobs(self, x: Tensor, t: Tensor) -> Tensor:
        """log(share times density) of each blob, (B, K), up to a constant of this level."""
        if x.ndim != 2 or x.shape[1] != self.centres.shape[1]:
            raise ValueError(f"x: expected points (B, {self.centres.shape[1]}), got shape {tuple(x.shape)}")
        alpha, sigma = self.schedule.at(t, x)
        off = x[:, None] - alpha * self.centres
        return self.share.log() - off.square().sum(2) / (2 * (alpha**2 * self.width**2 + sigma**2))
