"""The comparison of `quality`, on scenes at 32x32 in colour, without captions."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from comparison import quality
from tools.tables import Table


def run(options: Namespace) -> Iterator[Table]:
    """The trials, and the table."""
    yield from quality.run(options, "scenes")
