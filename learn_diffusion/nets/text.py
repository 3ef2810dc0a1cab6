"""Text conditioning: a tokeniser, a small transformer encoder, and cross-attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from math import gcd
from typing import final
from unicodedata import category, normalize

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD = 0  # fills a caption up to full length
NULL_TOKEN = -1  # every token of a dropped caption


@final
class Tokeniser:
    """Captions to whole numbers: word i of the vocabulary is i + 1, 0 is padding, -1 a dropped caption.

    words   the vocabulary, lower case
    length  tokens a caption; longer captions are refused, shorter ones filled up
    """

    def __init__(self, words: Sequence[str], length: int = 16):
        self.words, self.length = list(words), length
        if isinstance(words, str) or not all(isinstance(word, str) for word in self.words):
            raise TypeError(f"words: expected strings, got {words!r:.80}")
        self._number = {word: i + 1 for i, word in enumerate(self.words)}

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Tokens (B, length) int64. Raises TypeError or ValueError that names the word and its nearest known ones."""
        if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
            raise TypeError(f"captions: expected a list of strings, got {captions!r:.80}")
        return torch.tensor([self._encode(caption) for caption in captions]).reshape(len(captions), self.length)

    def split(self, caption: str) -> list[str]:
        """The words of a caption as the network will read them: lower case, without punctuation. An emoji is a word."""
        return "".join(
            c if c.isalnum() or category(c) == "So" else " " for c in normalize("NFKC", caption).lower()
        ).split()

    def _encode(self, caption: str) -> list[int]:
        found = self.split(caption)
        if not found:
            raise ValueError("prompt: expected at least one word, such as 'a cat'; for any picture at all, pass none")
        if len(found) > self.length:
            raise ValueError(f"prompt: expected at most {self.length} words, got {len(found)}: {caption[:60]!r}...")
        if unknown := [word for word in found if word not in self._number]:
            raise ValueError(f"prompt: this model never learned {self._advice(unknown)}")
        return [self._number[word] for word in found] + [PAD] * (self.length - len(found))

    def _advice(self, unknown: Sequence[str]) -> str:
        lines = []
        for word in dict.fromkeys(unknown):
            near = get_close_matches(word, self.words, n=3, cutoff=0.6)
            lines.append(f"{word[:40]!r} (nearest: {', '.join(near)})" if near else f"{word[:40]!r}")
        return f"{', '.join(lines)}. It knows: {', '.join(self.words)}"


class TextBlock(nn.Module):
    """Self-attention, then an MLP on each token."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = gcd(heads, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        B, L, C = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, L, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(attention(q, k, v)[0].transpose(1, 2).reshape(B, L, C))
        return x + self.mlp(self.norm2(x))


@final
class TextEncoder(nn.Module):
    """tokens (B, L) int64 -> one row of features for each word, (B, L, width)."""

    def __init__(self, words: Sequence[str], width: int = 96, layers: int = 2, length: int = 16):
        super().__init__()
        self.tokenise = Tokeniser(words, length)
        self.token_embedding = nn.Embedding(len(words) + 2, width)  # two more rows: dropped, padding
        self.position = nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.02))
        self.layers = nn.ModuleList(TextBlock(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        length, known = self.tokenise.length, len(self.tokenise.words)
        if tokens.ndim != 2 or tokens.shape[1] != length or tokens.is_floating_point():
            raise ValueError(
                f"cond: this network reads captions as tokens (B, {length}) of whole numbers, "
                f"see net.text.tokenise; got {tokens.dtype} of shape {tuple(tokens.shape)}"
            )
        if tokens.device.type == "cpu" and bool(((tokens < NULL_TOKEN) | (tokens > known)).any()):
            raise ValueError(f"cond: expected tokens from -1 to {known}; see net.text.tokenise")
        x = self.token_embedding(tokens - NULL_TOKEN) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention: every query takes a weighted mean of the values. Returns (result, weights).

    Written out: at a few dozen tokens this trains faster on a CPU than scaled_dot_product_attention.
    """
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)  # (B, heads, queries, keys)
    return weights.to(v.dtype) @ v, weights


class CrossAttention(nn.Module):
    """Cross-attention: queries from pixels (B, N, channels), keys and values from words (B, L, w)."""

    def __init__(self, channels: int, width: int, heads: int = 4):
        super().__init__()
        self.heads = gcd(heads, channels)
        self.norm = nn.LayerNorm(channels)
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(width, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.weights = nn.Identity()  # the attention passes through here, so that `record_attention` can see it
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, words: Tensor) -> Tensor:
        B, N, C = tokens.shape
        q = self.q(self.norm(tokens)).view(B, N, self.heads, -1).transpose(1, 2)
        k, v = self.kv(words).view(B, -1, 2, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        mixed, weights = attention(q, k, v)
        self.weights(weights)
        return tokens + self.out(mixed.transpose(1, 2).reshape(B, N, C))


def embed_condition(net: nn.Module, logsnr: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """What the blocks of a network are told: its embedding (B, c_emb), and the encoded words (B, L, text) or None.

    net has embedding, and text and pooled_text, which are None where it reads no captions; logsnr (B,); cond as UNet
    takes it.
    """
    if net.text is None:
        return F.silu(net.embedding(logsnr, cond)), None
    if cond is None:
        cond = torch.full((len(logsnr), net.text.tokenise.length), NULL_TOKEN, device=logsnr.device)
    words = net.text(cond)
    return F.silu(net.embedding(logsnr) + net.pooled_text(words.mean(1))), words


@contextmanager
def record_attention(net: nn.Module) -> Iterator[list[Tensor]]:
    """Context manager: the list collects one (B, H*W, L) tensor of attention weights for each cross-attention and call,
    pixel by token, averaged over heads; each row sums to 1."""
    maps: list[Tensor] = []
    hooks = [
        layer.weights.register_forward_hook(lambda _, __, weights: maps.append(weights.detach().float().mean(1)))
        for layer in net.modules()
        if isinstance(layer, CrossAttention)
    ]
    if not hooks:
        raise ValueError("net: expected a network that reads captions; this one has no cross-attention")
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
