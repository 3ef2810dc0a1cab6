"""A small UNet: look at the picture coarsely to know what it is, and finely to know where its edges are.

Down the levels the picture shrinks and the channels grow; back up, each level is handed what the way down saw at the
same size (the skips). Every block is told the noise level by a scale and a shift (FiLM). All tensors are channels_last,
which convolutions on CPUs and GPUs alike read faster.
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


class GroupNorm(nn.GroupNorm):
    """In 8 groups, or fewer where 8 do not divide the channels."""

    def __init__(self, channels: int):
        super().__init__(gcd(8, channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not x.requires_grad:  # behind frozen layers: torch's own way back for
            x = x.detach().requires_grad_()  # channels_last ends the process unless it computes x's gradient too
        if x.dtype != torch.bfloat16:
            return super().forward(x)
        # in float32, as on cuda: torch's norm of bfloat16 in channels_last is many times slower on a CPU
        return super().forward(x.float()).to(x.dtype)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions; the second starts at zero, so the block starts as the identity."""

    def __init__(self, c_in: int, c_out: int, c_emb: int):
        super().__init__()
        self.norm1 = GroupNorm(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.film = nn.Linear(c_emb, 2 * c_out)
        self.norm2 = GroupNorm(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(emb)[:, :, None, None].chunk(2, dim=1)
        return self.skip(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention over pixels, and cross-attention to words (B, L, c_words) where they are given."""

    def __init__(self, channels: int, c_words: int = 0, heads: int = 4):
        super().__init__()
        self.heads = gcd(heads, channels)
        self.norm = GroupNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.cross = CrossAttention(channels, c_words, heads) if c_words else None
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, words: Tensor | None = None) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).flatten(2).mT  # (B, H*W, C): pixels are the tokens
        q, k, v = self.qkv(tokens).view(B, H * W, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v)[0].transpose(1, 2).reshape(B, H * W, C)
        h = x.flatten(2).mT + self.out(mixed)
        if self.cross is not None:
            h = self.cross(h, words)
        return h.mT.unflatten(2, (H, W))


@final
class UNet(nn.Module):
    """forward(x (B, channels + cond_channels, H, W), logsnr (B,), cond) -> (B, channels, H, W).

    cond is None, or labels (B,) where classes > 0, or captions as tokens (B, L) where words are given.

    widths      channels of each level; every level has half the side of the one before
    blocks      blocks a level on the way down, one number for all or one each; one more on the way up
    classes     number of labels it can be conditioned on, 0 for none
    patch_size   fold patches of this side into channels first: 2 makes a 32x32 picture cost what 16x16 costs
    attentions  attention layers at the lowest level (self-attention, and cross-attention to words)
    words       the vocabulary of captions, for a network that reads them; net.text.tokenise makes the tokens
    text        features a word
    cond_channels  channels of the image condition, concatenated to the noisy ones in x

    H and W must be divisible by patch_size * 2^(levels - 1).
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (32, 64),
        blocks: int | Sequence[int] = 1,
        classes: int = 0,
        patch_size: int = 1,
        attentions: int = 1,
        words: Sequence[str] = (),
        text: int = 96,
        cond_channels: int = 0,
    ):
        super().__init__()
        try:
            several = tuple(whole_number("widths", w, 1) for w in widths)
        except (TypeError, ValueError):
            several = ()
        if not several:
            raise ValueError(
                f"widths: expected whole numbers above 0, one for each level, such as (32, 64), got {widths!r}"
            )
        widths, words = several, words if isinstance(words, str) else list(words)
        channels, patch_size = whole_number("channels", channels, 1), whole_number("patch_size", patch_size, 1)
        text, cond_channels = whole_number("text", text, 1), whole_number("cond_channels", cond_channels)
        classes, attentions = whole_number("classes", classes), whole_number("attentions", attentions)
        several_blocks = hasattr(blocks, "__len__")
        each = [whole_number("blocks", n) for n in (blocks if several_blocks else [blocks] * len(widths))]
        if len(each) != len(widths):
            raise ValueError(f"blocks: expected one number, or one for each of the {len(widths)} widths; got {blocks}")
        if classes and words:
            raise ValueError("classes, words: expected at most one of the two: labels or captions")
        self.config = {
            "channels": channels, "widths": list(widths), "blocks": each if several_blocks else each[0],
            "classes": classes, "patch_size": patch_size, "attentions": attentions, "words": list(words), "text": text,
            "cond_channels": cond_channels,
        }  # fmt: skip
        self.side = patch_size * 2 ** (len(widths) - 1)
        self.patch_size = patch_size
        c_emb, c_pixel = 4 * widths[0], channels * patch_size**2
        self.embedding = Embedding(c_emb, classes)
        self.text = TextEncoder(words, text) if words else None
        self.pooled_text = nn.Linear(text, c_emb) if words else None  # the mean over words goes to every block
        self.conv_in = nn.Conv2d((channels + cond_channels) * patch_size**2, widths[0], 3, padding=1)

        self.down, skips, c = nn.ModuleList(), [widths[0]], widths[0]
        for level, width in enumerate(widths):
            if level:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
            for _ in range(each[level]):
                self.down.append(Block(c, width, c_emb))
                skips.append(c := width)

        self.middle, c = nn.ModuleList([Block(c, widths[-1], c_emb)]), widths[-1]
        for _ in range(attentions):
            self.middle += [Attention(c, text if words else 0), Block(c, c, c_emb)]

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(each[level] + 1):
                self.up.append(Block(c + skips.pop(), width, c_emb))
                c = width
            if level:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))

        self.norm = GroupNorm(c)
        self.conv_out = nn.Conv2d(c, c_pixel, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        self.to(memory_format=torch.channels_last)

    @property
    def outer(self) -> list[nn.Module]:
        """The layers that touch data, noise level or labels: see optim.hidden_matrices."""
        return [self.embedding, self.conv_in, self.conv_out]

    def forward(self, x: Tensor, logsnr: Tensor, cond: Tensor | None = None) -> Tensor:
        channels = self.config["channels"] + self.config["cond_channels"]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % self.side or x.shape[3] % self.side:
            cond_channels = self.config["cond_channels"]
            note = f" ({cond_channels} of the channels are image_cond's)" if cond_channels else ""
            raise ValueError(
                f"x: this network takes (B, {channels}, H, W){note}, H and W divisible by {self.side}; "
                f"got {tuple(x.shape)}"
            )
        emb, words = self._told(logsnr, cond)
        h = F.pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        skips = [h := self.conv_in(h)]
        for layer in self.down:
            h = layer(h, emb) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, emb) if isinstance(layer, Block) else layer(h, words)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), emb) if isinstance(layer, Block) else layer(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm(h))), self.patch_size)

    def _told(self, logsnr: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The embedding for every block, (B, c_emb), and the encoded words, (B, L, text) or None."""
        return embed_condition(self, logsnr, cond)
