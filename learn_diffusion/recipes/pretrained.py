"""Where the pretrained models lie: one file for each recipe, data/NAME.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from learn_diffusion import checkpoints

DATA = Path(__file__).resolve().parents[2] / "data"


def pretrained_path(name: str) -> Path:
    """The file of a recipe, data/NAME.safetensors. Raises FileNotFoundError that says how to make it."""
    path = DATA / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `learn-diffusion train {name}` trains it")
    return path


def load_autoencoder(
    model: nn.Module, metadata: Mapping[str, Any], device: str | torch.device | None = None
) -> nn.Module | None:
    """What decodes the codes that a loaded model draws: its network's own autoencoder, or the one that the header
    names, in eval mode on the device. None for a model that draws pictures."""
    if own := getattr(getattr(model, "net", None), "autoencoder", None):
        return own
    return checkpoints.load(pretrained_path(metadata["autoencoder"]), device)[0] if "autoencoder" in metadata else None
