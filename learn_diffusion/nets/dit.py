"""A diffusion transformer in place of the UNet: patches of the picture are tokens, and every token looks at all others.

DiT of Peebles and Xie 2023: no levels, no convolutions, no skips; one width from end to end. The noise level comes in
through the norms (adaptive layer norm), whose scales, shifts and gates start at zero, so that every block starts as
the identity (adaLN-zero). Words come in through cross-attention, as in the UNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn_diffusion.nets.embedding import Embedding
from learn_diffusion.nets.text import CrossAttention, TextEncoder, attention, embed_condition
from learn_diffusion.validation import whole_number


def patchify(x: Tensor, patch_size: int) -> Tensor:
    """Pictures (B, C, H, W) as tokens (B, H W / patch_size^2, C patch_size^2), row by row."""
    return F.pixel_unshuffle(x, patch_size).flatten(2).mT


def unpatchify(tokens: Tensor, patch_size: int, height: int) -> Tensor:
    """patchify undone: tokens as pictures (B, C, height, W)."""
    return F.pixel_shuffle(tokens.mT.unflatten(2, (height // patch_size, -1)), patch_size)


def positions(height: int, width: int, features: int, device: torch.device) -> Tensor:
    """Where each token is, (height * width, features): sines and cosines of its row and of its column.

    Wavelengths run from 6 tokens to 600. features must be divisible by 4.
    """
    frequencies = 100.0 ** -torch.linspace(0, 1, features // 4, device=device)
    row, column = (torch.arange(n, device=device)[:, None] * frequencies for n in (height, width))
    row, column = row[:, None].expand(-1, width, -1), column.expand(height, -1, -1)
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=2).flatten(0, 1)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention to words (B, L, c_words) where they are given, and an MLP on each token."""

    def __init__(self, width: int, c_words: int = 0, heads: int = 4):
        super().__init__()
        self.heads = gcd(heads, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adaln = nn.Linear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross = CrossAttention(width, c_words, heads) if c_words else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.adaln.weight)
        nn.init.zeros_(self.adaln.bias)

    def forward(self, x: Tensor, emb: Tensor, words: Tensor | None = None) -> Tensor:
        B, N, C = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaln(emb)[:, None].chunk(6, dim=2)
        h = self.norm(x) * (1 + scale1) + shift1
        q, k, v = self.qkv(h).view(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        x = x + gate1 * self.out(attention(q, k, v)[0].transpose(1, 2).reshape(B, N, C))
        if self.cross is not None:
            x = self.cross(x, words)
        return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)


@final
class DiT(nn.Module):
    """forward(x (B, channels + cond_channels, H, W), logsnr (B,), cond) -> (B, channels, H, W), as UNet.

    cond is None, or labels (B,) where classes > 0, or captions as tokens (B, L) where words are given.

    width       features a token, a multiple of 4
    depth       blocks
    patch_size  side of the patches that become tokens; H and W must be divisible by it
    classes, words, text, cond_channels  as in UNet
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 128,
        depth: int = 4,
        patch_size: int = 2,
        classes: int = 0,
        words: Sequence[str] = (),
        text: int = 96,
        cond_channels: int = 0,
    ):
        super().__init__()
        words = words if isinstance(words, str) else list(words)
        counts = {"channels": channels, "width": width, "depth": depth, "patch_size": patch_size, "text": text}
        self.config = {name: whole_number(name, n, 1) for name, n in counts.items()}
        self.config |= {
            "classes": whole_number("classes", classes),
            "cond_channels": whole_number("cond_channels", cond_channels),
        }
        self.config["words"] = list(words)
        if width % 4:
            raise ValueError(f"width: expected a multiple of 4, got {width}")
        if classes and words:
            raise ValueError("classes, words: expected at most one of the two: labels or captions")
        self.side = self.config["patch_size"]
        width, text, pixels = self.config["width"], self.config["text"], self.side**2
        self.embedding = Embedding(width, self.config["classes"])
        self.text = TextEncoder(words, text) if words else None
        self.pooled_text = nn.Linear(text, width) if words else None
        self.linear_in = nn.Linear((self.config["channels"] + self.config["cond_channels"]) * pixels, width)
        self.blocks = nn.ModuleList(DiTBlock(width, text if words else 0) for _ in range(self.config["depth"]))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adaln = nn.Linear(width, 2 * width)
        self.linear_out = nn.Linear(width, self.config["channels"] * pixels)
        for layer in (self.adaln, self.linear_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def outer(self) -> list[nn.Module]:
        """The layers that touch data, noise level or labels: see optim.hidden_matrices."""
        return [self.embedding, self.linear_in, self.linear_out]

    def forward(self, x: Tensor, logsnr: Tensor, cond: Tensor | None = None) -> Tensor:
        channels, p = self.config["channels"] + self.config["cond_channels"], self.side
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % p or x.shape[3] % p:
            raise ValueError(
                f"x: this network takes (B, {channels}, H, W), H and W divisible by {p}; got {tuple(x.shape)}"
            )
        emb, words = embed_condition(self, logsnr, cond)
        height, width = x.shape[2:]
        h = self.linear_in(patchify(x, p))
        h = h + positions(height // p, width // p, h.shape[2], x.device).to(h.dtype)
        for block in self.blocks:
            h = block(h, emb, words)
        shift, scale = self.adaln(emb)[:, None].chunk(2, dim=2)
        return unpatchify(self.linear_out(self.norm(h) * (1 + scale) + shift), p, height)
