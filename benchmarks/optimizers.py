"""Muon beside AdamW on one network, both targets, learning rates swept for each: `python benchmarks/optimizers.py`.

For each data set (the 8x8 digits of scikit-learn, MNIST at 28x28), every optimizer, target and learning rate is one
training of the same number of steps on one core; the best setting of each optimizer and target is then trained with two
more seeds, and Muon's with half of the steps too: is half of its time enough for what AdamW reaches? What is measured
is the Fréchet distance to held-out digits, in the features of the shipped classifier.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.metrics import frechet, mean_and_spread
from learn_diffusion.nets import UNet
from learn_diffusion.recipes.evaluation import all_features
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
from tools.tables import Table, markdown, write

RESULTS = Path(__file__).resolve().parent / "results"
RATES = {"muon": (1e-3, 2e-3, 4e-3), "adamw": (2e-3, 4e-3, 8e-3)}
STEPS, BATCH = 400, 32
DATA = {
    "digits 8x8": (small_digits, "digit_classifier", {"patch_size": 1}),
    "MNIST 28x28": (mnist_sample, "mnist_classifier", {"patch_size": 2}),
}


def trial(name: str, optimizer: str, target: str, lr: float, seed: int, steps: int = STEPS) -> tuple[float, float]:
    """Seconds of one core that a training took, and how far 500 digits drawn after it are from real ones."""
    torch.set_num_threads(1)
    data, reader, shape = DATA[name]
    images, unseen = data("train")[0], data("held_out")[0]
    classifier, _ = checkpoints.load(pretrained_path(reader), "cpu")
    torch.manual_seed(seed)
    model = Denoiser(UNet(widths=(32, 64), **shape), Cosine(), target)
    begun = time.process_time()
    *_, end = train(model, images, steps, batch=BATCH, lr=lr, optimizer=optimizer, seed=seed, device="cpu")
    seconds = time.process_time() - begun
    drawn = sampling.sample(end.ema, (500, *images.shape[1:]), steps=15, seed=1)
    return seconds, frechet(all_features(classifier, drawn), all_features(classifier, unseen))


def compare(name: str) -> Table:
    """The table of one data set."""
    table = Table(
        f"Optimizers, {name}: batches of {BATCH}",
        ["optimizer", "target", "steps", f"lr tried, distance after {STEPS}", "s", "distance"],
        notes=[
            "lr is AdamW's; Muon's own is ten times that. The lr at the smallest distance was taken. s: seconds of one "
            "core spent training; distance: Fréchet distance of 500 digits, mean ± standard deviation over three "
            "trainings."
        ],
    )
    for target in ("v", "x0"):
        for optimizer, rates in RATES.items():
            first = {lr: trial(name, optimizer, target, lr, 0) for lr in rates}
            best = min(first, key=lambda lr: first[lr][1])
            tried = ", ".join(f"{lr:g}: {distance:.2f}" for lr, (_, distance) in first.items())
            for steps in (STEPS, STEPS // 2) if optimizer == "muon" else (STEPS,):
                again = [trial(name, optimizer, target, best, seed, steps) for seed in (1, 2)]
                start = first[best] if steps == STEPS else trial(name, optimizer, target, best, 0, steps)
                found = [start, *again]
                seconds, distance = (mean_and_spread(values) for values in zip(*found, strict=True))
                table.rows.append([optimizer, target, steps, tried, f"{seconds.value:.0f}", f"{distance:.2f}"])
                print(table.rows[-1], flush=True)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", choices=[[], *DATA], help="which; none: all")
    chosen = parser.parse_args().data or list(DATA)
    start = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tables = list(pool.map(compare, chosen))
    print(*map(markdown, tables), sep="\n\n")
    if chosen == list(DATA):  # a part would leave the page without the others
        write(RESULTS / "optimizers.json", "python benchmarks/optimizers.py", tables, time.perf_counter() - start)
