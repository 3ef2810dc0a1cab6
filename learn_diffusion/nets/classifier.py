"""A small digit reader: its answers judge samples, its inner features measure how far they are from real data."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@final
class Classifier(nn.Module):
    """forward(x (B, channels, H, W)) -> class scores (B, classes); features(x) -> (B, width)."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 64, side: int = 8):
        super().__init__()
        self.arguments = {"channels": channels, "classes": classes, "width": width, "side": side}
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.SiLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.Flatten(),
            nn.Linear(64 * (side // 2) ** 2, width),
        )  # fmt: skip
        self.last = nn.Linear(width, classes)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.silu(self.layers(x)))

    def features(self, x: Tensor) -> Tensor:
        """The layer before the last, (B, width), in units of its standard deviation over the training digits."""
        return (self.layers(x) - self.mean) / self.std

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Fix the units of the features: mean 0 and standard deviation 1, feature by feature, over x (B, ...)."""
        raw = self.layers(x)
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0))
