"""How often is all that a prompt says in the picture? `python benchmarks/text_to_image.py [--seed 100] [--n 1000]`.

Fresh seeds, unless told otherwise; guidance and steps are those fixed in recipes. `--curve FOLDER` reads checkpoints
of a training (at_STEPS.safetensors) and prints how prompt accuracy grows, kind by kind. `--speed` times sampling and
training.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from learn_diffusion import checkpoints, devices, sampling
from learn_diffusion.datasets.scenes import ATTRIBUTES
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.training import loss

KINDS = ("seen", "unseen triple", "unseen pair")


def prompt_accuracy(model, judge, n: int, seed: int) -> None:
    """The share of n pictures of each kind with all four attributes right, and its standard error."""
    how = f"guidance {evaluation.GUIDANCE_SCALE}, 15 steps of DPM-Solver++(2M)"
    print(f"{n} pictures of each kind, {how}, seeds from {seed}")
    print("| captions | subject | accessory | place | colour | all four right |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        wanted = evaluation.some_scenes(kind, n, seed)
        images = evaluation.sample_scenes(model, wanted, seed)
        truth = torch.tensor([scene.indices() for scene in wanted])
        each, together = evaluation.attribute_accuracy(judge, images, truth, ATTRIBUTES)
        cells = [f"{share:.1%}" for share in each.values()]
        error = (together * (1 - together) / n) ** 0.5
        print(f"| {kind} | {' | '.join(cells)} | {together:.1%} ± {error:.1%} |", flush=True)


def curve(folder: Path, judge, n: int, seed: int) -> None:
    """Obedience of the running average as training goes on: is the unseen learned later, and does it ever fall?"""
    print("| optimiser steps | " + " | ".join(f"{kind}, all four right" for kind in KINDS) + " |\n|---|---|---|---|")
    for path in sorted(folder.glob("at_*.safetensors")):
        model, _ = checkpoints.load(path, "cpu")
        cells = []
        for kind in KINDS:
            wanted = evaluation.some_scenes(kind, n, seed)
            images = evaluation.sample_scenes(model, wanted, seed)
            truth = torch.tensor([scene.indices() for scene in wanted])
            share = evaluation.attribute_accuracy(judge, images, truth, ATTRIBUTES)[1]
            cells.append(f"{share:.2f} ± {(share * (1 - share) / n) ** 0.5:.2f}")
        print(f"| {path.stem.removeprefix('at_')} | {' | '.join(cells)} |", flush=True)


def timed(call, repeats: int = 5) -> float:
    """Median seconds of a call, after one that does not count."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return median(taken)


def peak(device: torch.device) -> float:
    """The most this machine multiplies, in FLOP/s: a 1024x1024 matrix product in float32."""
    a = torch.randn(1024, 1024, device=device)
    return 2 * 1024**3 / timed(lambda: (a @ a).sum().item(), 20)


def speed(model, device: torch.device, batch: int = 40) -> None:
    """Seconds for 16 guided pictures; training pictures a second, and FLOP/s against the measured peak."""
    model = model.to(device)
    tokens = model.net.text.tokenise(["a cat wearing sunglasses on the moon"] * batch).to(device)
    taken = timed(
        lambda: sampling.sample(model, (16, 3, 32, 32), tokens[:16], evaluation.GUIDANCE_SCALE, 15).sum().item(), 3
    )
    print(f"16 guided pictures, 15 steps: {taken:.2f} s")
    x, t = torch.rand(batch, 3, 32, 32, device=device) * 2 - 1, torch.rand(batch, device=device)
    model.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    bf16 = devices.use_bf16(device, 32)

    def step():
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss(model, x, t, tokens)
        value.backward()
        optimiser.step()
        value.item()

    with FlopCounterMode(display=False) as counter:
        step()
    taken, most = timed(step, 10), peak(device)
    rate = counter.get_total_flops() / taken
    print(f"training: {batch / taken:.0f} pictures/s, {'bf16' if bf16 else 'fp32'}, {rate / 1e9:.0f} GFLOP/s,")
    print(f"which is {rate / most:.0%} of the {most / 1e9:.0f} GFLOP/s of a float32 matrix product")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="pictures of each kind")
    parser.add_argument("--seed", type=int, default=None, help="of scenes and noise; without it, a fresh one")
    parser.add_argument("--curve", type=Path, help="a folder of checkpoints kept during a training")
    parser.add_argument("--speed", action="store_true", help="time sampling and training")
    parser.add_argument("--device", help="for --speed: cpu, cuda or mps")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(10_000, 2**31) if args.seed is None else args.seed
    judge, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    device = devices.resolve_device(args.device)
    print(f"torch {torch.__version__}, {devices.hardware(device)}")
    if args.curve:
        curve(args.curve, judge, args.n, seed)
        return
    model, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    if args.speed:
        speed(model, device)
    else:
        prompt_accuracy(model, judge, args.n, seed)


if __name__ == "__main__":
    main()
