"""Import a peer when it is needed, and say in one line what to do where it is missing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import MagicMock

PEERS = {
    "diffusers": "diffusers",
    "denoising-diffusion-pytorch": "denoising_diffusion_pytorch",
    "smalldiffusion": "smalldiffusion",
}
# two peers import these for data sets and scores that are not used here
UNUSED = ("torchvision", "pytorch_fid", "pytorch_fid.fid_score", "pytorch_fid.inception")


class MissingPeerError(Exception):
    """A peer, or something that it needs, is not installed; the message says how to get it."""


def peer(name: str) -> ModuleType:
    """The module of the peer of that name on PyPI. Raises MissingPeerError where it cannot be imported."""
    try:
        if name == "diffusers":
            return importlib.import_module("diffusers")
        importlib.import_module("accelerate")  # looks for torchvision itself, so it comes before the stand-ins
        with stand_ins():
            return importlib.import_module(PEERS[name])
    except ModuleNotFoundError as error:
        raise MissingPeerError(
            f"{name} is not installed here (no module {error.name}): `make peers` installs it into .venv-peers; "
            f"then use .venv-peers/bin/python"
        ) from None


@contextmanager
def stand_ins() -> Iterator[None]:
    """While a peer is imported, empty modules stand in for what it imports, nothing here uses, and is not installed."""
    missing = [name for name in UNUSED if importlib.util.find_spec(name.split(".")[0]) is None]
    sys.modules.update({name: MagicMock() for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
