"""How a network is told the noise level, and which class to draw."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn


class Embedding(nn.Module):
    """(logsnr (B,), label (B,) or None) -> features (B, width).

    The log-SNR, -20 to 20, is read through sines and cosines of many frequencies, so that a small change of level is
    a visible change of features. Labels are 0 ... classes - 1; -1 and None mean "no label", which has a row of its own.
    """

    def __init__(self, width: int, classes: int = 0):
        super().__init__()
        self.classes = classes
        self.register_buffer("frequencies", torch.exp(torch.linspace(log(0.1), log(4.0), 16)))
        self.layers = nn.Sequential(nn.Linear(33, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, logsnr: Tensor, label: Tensor | None = None) -> Tensor:
        angles = logsnr[:, None] * self.frequencies  # (B, 16)
        h = self.layers(torch.cat([logsnr[:, None] / 10, angles.sin(), angles.cos()], dim=1))
        if self.label is None:
            if label is not None:
                raise ValueError("cond: this network was built without labels (classes=0), so it takes cond=None")
            return h
        if label is None:
            label = torch.full((len(h),), -1, device=h.device)
        elif label.shape != (len(h),) or label.is_floating_point():
            raise ValueError(
                f"cond: expected {len(h)} whole-number labels, got {label.dtype} of shape {tuple(label.shape)}"
            )
        elif label.device.type == "cpu" and len(odd := label[(label < -1) | (label >= self.classes)]):
            raise ValueError(f"cond: expected labels from 0 to {self.classes - 1}, or -1 for none, got {odd.tolist()}")
        return h + self.label(label + 1)
