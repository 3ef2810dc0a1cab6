"""Trials for the comparison of chapter 15, as many for both methods: `python benchmarks/gan_comparison.py digits`.

Each trial is one training with other settings, on one core, for about half the seconds of the comparison; the best goes
into `gan_comparison.SETTINGS`, and the steps that fit into the seconds become the default of the recipes. Then
`learn-diffusion train digits_gan` and its like run the comparison itself.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from learn_diffusion import devices
from learn_diffusion.metrics import frechet
from learn_diffusion.recipes import gan_comparison

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS = 150.0  # of one training in the comparison
TRIAL = 80.0  # of a trial
SEED = 100  # of the trials; the comparison has others
TRIALS = {
    "gan": (
        {"batch": 64, "lr": 5e-4, "gamma": 1.0},
        {"batch": 64, "lr": 1e-3, "gamma": 1.0},
        {"batch": 32, "lr": 5e-4, "gamma": 1.0},
        {"batch": 32, "lr": 1e-3, "gamma": 1.0},
        {"batch": 32, "lr": 1e-3, "gamma": 0.2},
        {"batch": 32, "lr": 2e-3, "gamma": 1.0},
        {"batch": 16, "lr": 1e-3, "gamma": 1.0},
        {"batch": 16, "lr": 2e-3, "gamma": 0.2},
    ),
    "diffusion": (
        {"batch": 64, "lr": 1e-3},
        {"batch": 64, "lr": 2e-3},
        {"batch": 64, "lr": 4e-3},
        {"batch": 32, "lr": 1e-3},
        {"batch": 32, "lr": 2e-3},
        {"batch": 32, "lr": 4e-3},
        {"batch": 16, "lr": 1e-3},
        {"batch": 16, "lr": 2e-3},
    ),
}


def trial(name: str, method: str, settings: dict[str, float], seconds: float) -> dict[str, float]:
    """One training on one core: how many steps, in how many seconds, and how far from real pictures it came."""
    torch.set_num_threads(1)
    images, real, features = gan_comparison.eval_data(name)
    steps = gan_comparison.steps_in(seconds, method, images, **settings)
    begun = time.process_time()
    *_, model = gan_comparison.train_model(method, images, steps, SEED, **settings)
    spent = time.process_time() - begun
    sheet = gan_comparison.sample_images(model, tuple(real.shape[1:]), len(real), seed=SEED)
    return {"steps": steps, "seconds": round(spent, 1), "frechet": frechet(features(sheet), features(real))}


def kept(path: Path, seconds: float, restart: bool) -> list[dict]:
    """The trials that were run before, if they had as many seconds."""
    if restart or not path.exists():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    return before["trials"] if before["seconds"] == seconds else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["digits", "scenes"])
    parser.add_argument("--seconds", type=float, default=TRIAL, help="of one trial")
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time, one core each")
    parser.add_argument("--restart", action="store_true", help="run trials again that were kept")
    options = parser.parse_args()
    path, seconds = RESULTS / f"gan_comparison_{options.name}.json", options.seconds
    before = {json.dumps([row["method"], row["settings"]]): row for row in kept(path, seconds, options.restart)}
    jobs = [(who, settings) for pair in zip(*TRIALS.values(), strict=True)
            for who, settings in zip(TRIALS, pair, strict=True)]  # fmt: skip
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        running = {json.dumps(job): pool.submit(trial, options.name, *job, seconds)
                   for job in jobs if json.dumps(job) not in before}  # fmt: skip
        hardware = devices.hardware(torch.device("cpu"))
        for who, settings in jobs:
            job = json.dumps([who, settings])
            if job in running:
                before[job] = {"method": who, "settings": settings, **running[job].result()}
            print(before[job], flush=True)
            rows = [before[each] for each in map(json.dumps, jobs) if each in before]  # those of before a break, too
            whole = {"name": options.name, "seconds": seconds, "seed": SEED, "hardware": hardware, "trials": rows}
            path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")  # a run broken off goes on from here
    for who in TRIALS:
        best = min((row for row in rows if row["method"] == who), key=lambda row: row["frechet"])
        steps = round(best["steps"] * SECONDS / best["seconds"])
        print(f"best {who}: {best['settings']}, {steps} steps in {SECONDS:.0f} s")
    print(f"kept in {path}")


if __name__ == "__main__":
    main()
