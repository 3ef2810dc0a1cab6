"""Training on a GPU, ours and diffusers side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import torch

from side_by_side.throughput import compare
from tools.tables import Table


def run(options: Namespace) -> Iterator[Table]:
    """The table of throughput on cuda; a line where there is none."""
    if not torch.cuda.is_available():
        print("no GPU here")
        return
    yield from compare(["diffusers"], torch.device("cuda"), options)
