"""Generator and critic of a GAN.

Both are plain residual networks without normalisation, whose blocks start as the identity: the backbone that Huang et
al. (2024) found to be enough once the loss is well behaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """x + what two 3x3 convolutions make of x; the second starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, 0.2)), 0.2))


@final
class Generator(nn.Module):
    """forward(z (B, latent)) -> pictures (B, channels, side, side), whose values belong into [-1, 1].

    Nothing squeezes them into that range: a tanh at the end saturates on pictures with much black, and what is
    saturated learns no more.

    side      of the pictures; divisible by patch_size * 2^(levels - 1)
    widths    channels of each level, the finest first, as in UNet
    blocks    residual blocks a level
    latent    numbers that decide what is drawn: standard normal noise
    patch_size draw patches of this side as channels: 2 makes a 32x32 picture cost what 16x16 costs
    """

    def __init__(
        self,
        channels: int = 1,
        side: int = 8,
        widths: Sequence[int] = (64, 96),
        blocks: int = 2,
        latent: int = 64,
        patch_size: int = 1,
    ):
        super().__init__()
        widths = tuple(widths)
        self.config = {
            "channels": channels, "side": side, "widths": list(widths), "blocks": blocks, "latent": latent,
            "patch_size": patch_size,
        }  # fmt: skip
        self.patch_size = patch_size
        coarsest = _coarsest(side, widths, patch_size)
        self.proj_in = nn.Linear(latent, widths[-1] * coarsest**2)
        layers: list[nn.Module] = [nn.Unflatten(1, (widths[-1], coarsest, coarsest))]
        for level, width in reversed(list(enumerate(widths))):
            layers += [Block(width) for _ in range(blocks)]
            if level:
                layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(width, widths[level - 1], 1)]
        self.layers = nn.Sequential(*layers)
        self.conv_out = nn.Conv2d(widths[0], channels * patch_size**2, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.config["latent"]:
            raise ValueError(f"z: this network takes (B, {self.config['latent']}), got {tuple(z.shape)}")
        h = F.leaky_relu(self.layers(self.proj_in(z)), 0.2)
        return F.pixel_shuffle(self.conv_out(h), self.patch_size)


@final
class Critic(nn.Module):
    """forward(pictures (B, channels, side, side)) -> how real each looks, (B,). Arguments as in Generator."""

    def __init__(
        self,
        channels: int = 1,
        side: int = 8,
        widths: Sequence[int] = (64, 96),
        blocks: int = 2,
        patch_size: int = 1,
    ):
        super().__init__()
        widths = tuple(widths)
        self.config = {
            "channels": channels, "side": side, "widths": list(widths), "blocks": blocks, "patch_size": patch_size,
        }  # fmt: skip
        coarsest = _coarsest(side, widths, patch_size)
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(patch_size), nn.Conv2d(channels * patch_size**2, widths[0], 3, padding=1)
        ]  # fmt: skip
        for level, width in enumerate(widths):
            if level:
                layers += [nn.Conv2d(widths[level - 1], width, 1), nn.AvgPool2d(2)]
            layers += [Block(width) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(widths[-1] * coarsest**2, 1))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        channels, side = self.config["channels"], self.config["side"]
        if x.shape[1:] != (channels, side, side):
            raise ValueError(f"x: this network takes (B, {channels}, {side}, {side}), got {tuple(x.shape)}")
        return self.layers(x).squeeze(1)


def _coarsest(side: int, widths: Sequence[int], patch_size: int) -> int:
    """The side of the picture at the last level."""
    shrunk = patch_size * 2 ** (len(widths) - 1)
    if side % shrunk:
        raise ValueError(f"side: expected a side divisible by {shrunk} with {len(widths)} widths, got {side}")
    return side // shrunk
