"""A residual multilayer perceptron, for points in the plane and other short vectors."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from learn_diffusion.nets.embedding import Embedding
from learn_diffusion.validation import whole_number


class Block(nn.Module):
    """x + what two layers make of x at this noise level."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(width, 2 * width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.layers[-1].weight)  # each block starts as the identity
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.film(emb).chunk(2, dim=1)
        return x + self.layers(self.norm(x) * (1 + scale) + shift)


@final
class MLP(nn.Module):
    """forward(x (B, dim), logsnr (B,), cond (B,) labels or None) -> (B, dim)."""

    def __init__(self, dim: int = 2, width: int = 128, blocks: int = 3, classes: int = 0):
        super().__init__()
        dim, width = whole_number("dim", dim, 1), whole_number("width", width, 1)
        blocks, classes = whole_number("blocks", blocks), whole_number("classes", classes)
        self.config = {"dim": dim, "width": width, "blocks": blocks, "classes": classes}
        self.embedding = Embedding(width, classes)
        self.proj_in = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.proj_out = nn.Linear(width, dim)

    @property
    def outer(self) -> list[nn.Module]:
        """The layers that touch data, noise level or labels: see optim.hidden_matrices."""
        return [self.embedding, self.proj_in, self.proj_out]

    def forward(self, x: Tensor, logsnr: Tensor, cond: Tensor | None = None) -> Tensor:
        dim = self.config["dim"]
        if x.ndim != 2 or x.shape[1] != dim:
            raise ValueError(f"x: this network takes (B, {dim}), got {tuple(x.shape)}")
        emb = F.silu(self.embedding(logsnr, cond))
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, emb)
        return self.proj_out(F.silu(h))
