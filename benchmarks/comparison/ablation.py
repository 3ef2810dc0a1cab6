"""What is ours in it: a tenth of the seconds of `quality` for all, a part of our recipe taken away, or its network.

The peers' networks are of about our size, each with its project's own loss and sampler.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from comparison.quality import RECIPES, SHARE, compare
from tools.tables import Table


def run(options: Namespace) -> Iterator[Table]:
    """The trials, and the table."""
    title = f"Fréchet distance to held-out digits at 28x28: all in {SHARE:.0%} of the seconds"
    yield from compare(title, [name for name in RECIPES if not name.endswith("stock")], options)
