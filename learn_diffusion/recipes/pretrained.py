"""Where the pretrained models lie: one file for each recipe, data/NAME.safetensors."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"


def pretrained_path(name: str) -> Path:
    """The file of a recipe, data/NAME.safetensors. Raises FileNotFoundError that says how to make it."""
    path = DATA / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `learn-diffusion train {name}` trains it")
    return path
