"""The few-call challenge, all entries on this machine: `python benchmarks/challenge.py`.

Scores every file of benchmarks/challenge with three seeds, about three minutes an entry on one core, and keeps the
table that the page book/challenge.md shows. Seconds mean more on a faster machine: so all are scored in one run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from learn_diffusion import challenge
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.metrics import mean_and_spread
from learn_diffusion.metrics.copies import nearest_original
from tools.tables import Table, markdown, write

HERE = Path(__file__).resolve().parent


def entries() -> Table:
    """The table, nearest at one call first."""
    table = Table(
        f"The few-call challenge: Fréchet distance of {challenge.PICTURES} pictures",
        ["entry", "weights", "s", *(f"{calls} call{'s' * (calls > 1)}" for calls in challenge.CALLS), "copied"],
        notes=[
            "distance to held-out digits, mean ± standard deviation over three trainings; s: the longest training, "
            "seconds of one core; copied: the largest share of pictures that are copies of training digits; real "
            "digits: as many of the training digits, and the share of held-out digits that would count as copies."
        ],
    )
    found = {path.stem: challenge.score(path) for path in sorted((HERE / "challenge").glob("*.py"))}
    for name, score in sorted(found.items(), key=lambda item: sum(item[1].frechet[1])):
        table.rows.append([name, *score.row()])
    images, unseen = (small_digits(split)[0] for split in ("train", "held_out"))
    real = f"{mean_and_spread(next(iter(found.values())).real):.2f}"
    copied = f"{nearest_original(unseen, images).copied:.1%}"
    table.rows.append(["real digits", None, None, *[real] * len(challenge.CALLS), copied])
    return table


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    table = entries()
    print(markdown(table))
    write(HERE / "results" / "challenge.json", "python benchmarks/challenge.py", [table], time.perf_counter() - start)
