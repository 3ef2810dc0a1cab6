"""Small additions to a trained network: low-rank updates of its layers (LoRA), and a branch that reads a picture.

LoRA files have the form of PEFT's: adapter_model.safetensors with names such as
`base_model.model.down.0.conv1.lora_A.weight`, and adapter_config.json.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from learn_diffusion import validation
from learn_diffusion.checkpoints import atomic_write
from learn_diffusion.nets import UNet
from learn_diffusion.nets.text import embed_condition
from learn_diffusion.nets.unet import Attention, Block

PREFIX = "base_model.model."  # of the names in PEFT's files
FILES = "adapter_model.safetensors", "adapter_config.json"


@final
class LoRA(nn.Module):
    """A linear layer or a convolution, frozen, plus strength * alpha / rank * B(A(x)) (Hu et al. 2021, eq. 3).

    A goes down to `rank` channels and starts random; B goes up again and starts at zero, so that at first nothing
    changes. Of a convolution, A has the kernel and B is 1x1, as in PEFT. At strength 0 the answer is the layer's own.
    alpha: None makes it the rank, so that B A is added as it is. Raises TypeError for other layers.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float | None = None):
        super().__init__()
        self.rank, self.strength = validation.positive_int("rank", rank), 1.0
        self.layer, self.alpha = layer, float(rank if alpha is None else alpha)
        if isinstance(layer, nn.Linear):
            self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
            self.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1:
            shape = layer.kernel_size, layer.stride, layer.padding, layer.dilation
            self.lora_A = nn.Conv2d(layer.in_channels, rank, *shape, bias=False, padding_mode=layer.padding_mode)
            self.lora_B = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            raise TypeError(f"layer: expected Linear, or Conv2d of one group, got {layer}")
        nn.init.zeros_(self.lora_B.weight)
        self.to(layer.weight).layer.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.strength * self.alpha / self.rank * self.lora_B(self.lora_A(x))

    @torch.no_grad()
    def merged(self) -> nn.Linear | nn.Conv2d:
        """One layer with the weights W + strength * alpha / rank * B A."""
        layer, product = copy.deepcopy(self.layer), self.lora_B.weight.flatten(1) @ self.lora_A.weight.flatten(1)
        layer.weight += self.strength * self.alpha / self.rank * product.view(layer.weight.shape)
        return layer


def add_lora(net: nn.Module, rank: int, alpha: float | None = None, targets: Sequence[str] | None = None) -> None:
    """Freeze net, and put a LoRA around its layers, in place.

    targets  names of layers, or how they end (["qkv", "conv1"]); None: every Linear and Conv2d

    Raises TypeError for one name that is not in a list, ValueError where no layer fits, or net has adapters already.
    """
    validation.positive_int("rank", rank)
    if isinstance(targets, str):
        raise TypeError(f"targets: expected a list of names of layers, got {targets!r}")
    if any(isinstance(m, LoRA) for m in net.modules()):
        raise ValueError("net: expected a network without adapters; merge_lora makes it one")
    ends = None if targets is None else tuple(f".{name}" for name in targets)
    layers = {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    chosen = [name for name in layers if ends is None or f".{name}".endswith(ends)]
    if not chosen:
        raise ValueError(f"targets: expected names of layers of {type(net).__name__}, got {targets}")
    net.requires_grad_(False)
    for name in chosen:
        net.set_submodule(name, LoRA(layers[name], rank, alpha))


def loras(net: nn.Module) -> dict[str, LoRA]:
    """The adapters in net, by the name of their layer. Raises ValueError where there are none."""
    if not (found := {name: m for name, m in net.named_modules() if isinstance(m, LoRA)}):
        raise ValueError("net: expected a network with adapters, see add_lora")
    return found


def set_strength(net: nn.Module, strength: float) -> None:
    """Multiply every adapter of net by this: 0 gives the old network exactly, 1 the trained one."""
    validation.number("strength", strength)
    for lora in loras(net).values():
        lora.strength = float(strength)


def merge_lora(net: nn.Module) -> None:
    """Put one layer, W + strength * alpha / rank * B A, in the place of each LoRA: a plain network again, frozen."""
    for name, lora in loras(net).items():
        net.set_submodule(name, lora.merged())


def lora_state(net: nn.Module) -> dict[str, Tensor]:
    """The trained weights alone, under PEFT's names: base_model.model.NAME.lora_A.weight, and lora_B."""
    parts = ("lora_A.weight", "lora_B.weight")
    return {f"{PREFIX}{name}.{part}": m.get_parameter(part).data for name, m in loras(net).items() for part in parts}


def save_lora(folder: str | Path, net: nn.Module, base: str = "") -> None:
    """Write the adapters of net, of one rank and alpha, into a new or an old folder. base: which model they are for."""
    any_one, folder = next(iter(loras(net).values())), Path(folder)
    config = {
        "peft_type": "LORA", "base_model_name_or_path": base, "r": any_one.rank, "lora_alpha": any_one.alpha,
        "target_modules": list(loras(net)), "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: w.cpu().contiguous() for name, w in lora_state(net).items()}
    atomic_write(folder / FILES[0], save(state, {"format": "pt"}))
    atomic_write(folder / FILES[1], json.dumps(config, indent=2).encode())


def load_lora(folder: str | Path, net: nn.Module) -> None:
    """Add the adapters that save_lora wrote to net, in place. Raises ValueError for those of another network."""
    weights, text = (Path(folder) / name for name in FILES)
    config, state = json.loads(text.read_text(encoding="utf-8")), load(weights.read_bytes())
    trained = [w for w in net.parameters() if w.requires_grad]
    add_lora(net, config["r"], config["lora_alpha"], config["target_modules"])
    mine = lora_state(net)
    if {name: w.shape for name, w in mine.items()} != {name: w.shape for name, w in state.items()}:
        for name, lora in loras(net).items():
            net.set_submodule(name, lora.layer)
        for w in trained:
            w.requires_grad_(True)
        raise ValueError(f"folder: expected adapters of this network, got others in {folder}")
    for name, w in state.items():
        mine[name].copy_(w)


@final
class Controlled(nn.Module):
    """A frozen UNet with a trained copy of its way down that also reads a picture (ControlNet, Zhang et al. 2023).

    net       the UNet; channels: of the picture, an image condition: Denoiser(Controlled(net), ...) takes image_cond
    strength  what the copy finds is multiplied by it, and added to the skips and to the middle

    It is added through 1x1 convolutions that start at zero: at first, and at strength 0, the answer is that of net.
    """

    def __init__(self, net: UNet, channels: int = 1):
        super().__init__()
        if not isinstance(net, UNet) or net.config["cond_channels"]:
            raise TypeError(f"net: expected a UNet without an image condition, got {type(net).__name__}")
        self.net, self.text, self.strength = net.requires_grad_(False), net.text, 1.0
        self.config = {**net.config, "cond_channels": validation.positive_int("channels", channels)}
        self.read = nn.Conv2d(channels * net.patch_size**2, net.conv_in.out_channels, 3, padding=1)
        self.copied = copy.deepcopy(nn.ModuleList([net.conv_in, *net.down, net.middle[0]])).requires_grad_(True)
        widths = [m.conv2.out_channels if isinstance(m, Block) else m.out_channels for m in self.copied]
        self.zeros = nn.ModuleList(nn.Conv2d(c, c, 1) for c in widths)
        for weight in self.zeros.parameters():
            nn.init.zeros_(weight)
        self.outer = [self.net, self.read, self.copied[0]]  # see optim.hidden_matrices
        weight = net.conv_in.weight
        self.to(weight.device, weight.dtype, memory_format=torch.channels_last)

    def forward(self, x: Tensor, logsnr: Tensor, cond: Tensor | None = None) -> Tensor:
        net, channels = self.net, self.net.config["channels"]
        x, picture = (F.pixel_unshuffle(part, net.patch_size) for part in (x[:, :channels], x[:, channels:]))
        with torch.no_grad():  # nothing here is trained
            emb, words = embed_condition(net, logsnr, cond)
            h, skips = x, []
            for layer in [net.conv_in, *net.down]:
                skips.append(h := _run(layer, h, emb))
            for layer in net.middle:
                h = _run(layer, h, emb, words)
        k, added = self.copied[0](x) + self.read(picture), []
        for layer, zero in zip([nn.Identity(), *self.copied[1:]], self.zeros, strict=True):
            added.append(self.strength * zero(k := _run(layer, k, emb)))
        h = h + added.pop()
        for layer in net.up:
            h = _run(layer, torch.cat([h, skips.pop() + added.pop()], 1) if isinstance(layer, Block) else h, emb)
        return F.pixel_shuffle(net.conv_out(F.silu(net.norm(h))), net.patch_size)


def _run(layer: nn.Module, h: Tensor, emb: Tensor, words: Tensor | None = None) -> Tensor:
    """A layer of the UNet with what it is told."""
    return layer(h, emb) if isinstance(layer, Block) else layer(h, words) if isinstance(layer, Attention) else layer(h)


def edges(pictures: Tensor, threshold: float = 0.5) -> Tensor:
    """Where pictures (N, C, H, W) jump from one pixel to the next, in any channel: (N, 1, H, W), 0 or 1."""
    validation.floats("pictures", pictures, ndim=4)
    right, below = (F.pad(pictures.diff(dim=d).abs().amax(1, True), p) for d, p in ((3, (1, 0)), (2, (0, 0, 1, 0))))
    return (torch.maximum(right, below) > threshold).to(pictures.dtype)


def edge_likeness(edges_a: Tensor, edges_b: Tensor) -> Tensor:
    """How far edge pictures (N, 1, H, W) agree, (N,): their correlation, blurred by 3x3 so that near misses count."""
    a, b = (F.avg_pool2d(e, 3, 1, 1, count_include_pad=False).flatten(1) for e in (edges_a, edges_b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)


def add_word(net: nn.Module, word: str, like: str) -> None:
    """Give a net that reads captions one more word, in place: its row of features starts as that of a known word."""
    text = net.text
    known, old = text.tokenise.words, text.token_embedding.weight
    validation.one_of("like", like, known)
    if word in known or text.tokenise.split(word) != [word]:
        raise ValueError(f"word: expected one new word in lower case, got {word!r}")
    row = old[text.tokenise([like])[0, :1] + 1]  # row 0 is that of a dropped caption
    text.token_embedding = nn.Embedding.from_pretrained(torch.cat([old, row]).detach())
    text.tokenise = type(text.tokenise)([*known, word], text.tokenise.length)
    net.config["words"] = text.tokenise.words
