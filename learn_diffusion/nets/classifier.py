"""Classifiers: their predictions check samples, their features measure the distance to real data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn_diffusion.nets.embedding import Embedding


@final
class Classifier(nn.Module):
    """forward(x (B, channels, side, side)) -> class scores (B, classes); features(x) -> (B, width).

    pools  how often it halves the side: 1, or 2 for larger pictures; the side must be divisible by 2^pools
    """

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 64, side: int = 8, pools: int = 1):
        super().__init__()
        if pools not in (1, 2):
            raise ValueError(f"pools: expected 1 or 2, got {pools!r}")
        self.config = {"channels": channels, "classes": classes, "width": width, "side": side, "pools": pools}
        early = [nn.MaxPool2d(2)] * (pools - 1)  # halve before the costly layers
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.SiLU(), *early,
            nn.Conv2d(32, 64, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.Flatten(),
            nn.Linear(64 * (side // 2**pools) ** 2, width),
        )  # fmt: skip
        self.head = nn.Linear(width, classes)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.layers(x)))

    def features(self, x: Tensor) -> Tensor:
        """The layer before the last, (B, width), in units of its standard deviation over the training digits."""
        return (self.layers(x) - self.mean) / self.std

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Fix the units of the features: mean 0 and standard deviation 1, feature by feature, over x (B, ...)."""
        raw = torch.cat([self.layers(part) for part in x.split(500)])  # all at once may not fit into memory
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0))


@final
class NoisyClassifier(nn.Module):
    """forward(x_t (B, 1, side, side), log-SNR (B,)) -> log p(y | x_t) of every class, (B, classes).

    Told the noise level as a denoiser is: what classifier guidance needs (Dhariwal and Nichol 2021).
    """

    def __init__(self, classes: int = 10, width: int = 128, side: int = 8):
        super().__init__()
        self.config = {"classes": classes, "width": width, "side": side}
        self.level, self.first = Embedding(width), nn.Linear(side**2, width)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, classes))

    def forward(self, x: Tensor, logsnr: Tensor) -> Tensor:
        told = self.level(logsnr.clamp(-20, 20).to(x).expand(len(x)))
        return self.rest(self.first(x.flatten(1)) + told).log_softmax(1)


@final
class AttributeClassifier(nn.Module):
    """Classifies several attributes: forward(x (B, channels, side, side)) -> [scores (B, n) for n in sizes].

    sizes   how many values each attribute has
    width   features before the last layer; features(x) -> (B, width)

    The side must be divisible by 8.
    """

    def __init__(self, sizes: Sequence[int], channels: int = 3, width: int = 96, side: int = 32):
        super().__init__()
        self.config = {"sizes": list(sizes), "channels": channels, "width": width, "side": side}
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 96, 3, padding=1), nn.GroupNorm(8, 96), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(96 * (side // 8) ** 2, width),
        )  # fmt: skip
        self.head = nn.Linear(width, sum(sizes))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.head(F.silu(self.features(x))).split(self.config["sizes"], dim=1))

    def features(self, x: Tensor) -> Tensor:
        """The layer before the last, (B, width)."""
        return self.layers(x)

    def read(self, x: Tensor) -> Tensor:
        """The most likely value of each attribute, (B, number of attributes) int64."""
        return torch.stack([scores.argmax(1) for scores in self(x)], dim=1)
