"""What a GPU says: `python benchmarks/gpu.py`, at most nine minutes. Writes benchmarks/results/gpu.json.

Runs tests/test_cuda.py on it, times a training step and 20 sampling steps (as they are, and compiled), with their
share of the card's own peak, beside a UNet of diffusers where that is installed; and trains the digits' and the small
text model, with their quality and seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from comparison.timing import flops, peak, repeats, seconds
from torch import Tensor

from learn_diffusion import checkpoints, devices, sampling
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.scenes import draw_scenes, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import cfg
from learn_diffusion.nets import UNet
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import downsample
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
from tools.tables import Table, markdown

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"


def models() -> dict[str, tuple[Denoiser, tuple[int, ...], Tensor]]:
    """name -> (model, shape of a batch, conditions)."""
    digits = Denoiser(UNet(classes=10), Cosine(), "v")
    net = UNet(channels=3, widths=(48, 96), words=vocabulary(), attentions=1)
    tokens = net.text.tokenise(["an orange cat on the moon"] * 64)
    return {
        "digits, 8x8": (digits, (64, 1, 8, 8), torch.arange(64) % 10),
        "text, 16x16": (Denoiser(net, Cosine(), "v"), (64, 3, 16, 16), tokens),
    }


def timings(device: torch.device, budget: float) -> Table:
    """A step of training, and 20 steps of guided sampling."""
    table = Table("ms at batch 64", ("model", "what", "ms", "FLOP/s, share of peak"))
    best = peak(device)
    for name, (model, shape, y) in models().items():
        model, data, y = model.to(device), torch.rand(shape, device=device) * 2 - 1, y.to(device)
        for compiled in (False, True)[: 1 + (device.type == "cuda")]:
            steps = train(model, data, 10_000, labels=y, device=device, compile=compiled)
            work = flops(lambda steps=steps: next(steps)) if not compiled else work  # noqa: F821
            each = seconds(lambda steps=steps: next(steps), repeats(lambda steps=steps: next(steps), budget))
            table.rows.append(
                (name, f"training step{', compiled' * compiled}", each * 1e3, f"{work / each / best:.1%}")
            )
            steps.close()
        noise = sampling.initial_noise(model.schedule, shape).to(device)

        def draw(model=model, y=y, noise=noise) -> Tensor:
            return sampling.run_sampler(cfg(model, y, 3.0), model.schedule, noise, 20)

        work, each = flops(draw), seconds(draw, repeats(draw, budget))
        table.rows.append((name, "20 sampling steps", each * 1e3, f"{work / each / best:.1%}"))
    return table


def peers(device: torch.device, budget: float) -> Table:
    """One call and its way back: our UNet beside one of diffusers with about as many weights."""
    table = Table("A call and its way back at (64, 3, 32, 32), ms", ("network", "weights", "ms", "ms, compiled"))
    x, level = torch.randn(64, 3, 32, 32, device=device), torch.full((64,), 0.5, device=device)
    ours = UNet(channels=3, widths=(32, 64)).to(device)
    calls = {"learn_diffusion": (ours, lambda net: net(x, level))}
    try:
        from diffusers import UNet2DModel
    except ImportError:
        print("diffusers is not installed: its row is missing (make peers)")
    else:
        theirs = UNet2DModel(
            32, 3, 3, block_out_channels=(32, 48), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        calls["diffusers"] = (theirs.to(device), lambda net: net(x, level).sample)
    for name, (net, call) in calls.items():
        work = lambda net=net, call=call: call(net).square().mean().backward()  # noqa: E731
        plain = seconds(work, repeats(work, budget))
        if device.type == "cuda":
            net.compile()
        compiled = seconds(work, repeats(work, budget))
        table.rows.append((name, sum(w.numel() for w in net.parameters()), plain * 1e3, compiled * 1e3))
    return table


def trainings(device: torch.device, steps: int) -> Table:
    """Seconds to the models of two chapters, and how good they are."""
    table = Table("Trained here", ("model", "steps", "seconds", "quality"))
    (images, labels), (classifier, _) = (
        small_digits("train"),
        checkpoints.load(pretrained_path("digit_classifier"), "cpu"),
    )
    model = Denoiser(UNet(classes=10), Cosine(), "v")
    start = time.perf_counter()
    *_, end = train(model, images, steps, labels=labels, batch=64, device=device)
    end.loss  # noqa: B018  waits for the last step
    took = time.perf_counter() - start
    quality = evaluation.digit_quality(end.ema.cpu(), model.schedule, classifier)
    table.rows.append(("digits, 8x8", steps, took, f"Frechet {quality['frechet']:.2f}, real {quality['floor']:.2f}"))

    scenes = draw_scenes(2000, seed=0)
    net = UNet(channels=3, widths=(48, 96), words=vocabulary(), attentions=1)
    model, captions = Denoiser(net, Cosine(), "v"), net.text.tokenise(scenes.captions)
    start = time.perf_counter()
    *_, end = train(model, downsample(scenes.images), 2 * steps, labels=captions, batch=64, device=device)
    loss = end.loss
    table.rows.append(("text, 16x16", 2 * steps, time.perf_counter() - start, f"loss {loss:.3f}"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rehearse", action="store_true", help="on whatever there is, a few steps each; writes nothing"
    )
    rehearse = parser.parse_args().rehearse
    if not (torch.cuda.is_available() or rehearse):
        sys.exit("no GPU at hand")
    device, budget, steps = devices.resolve_device(), 0.05 if rehearse else 2.0, 4 if rehearse else 2000
    found = {"device": devices.hardware(device), "torch": torch.__version__, "cuda": torch.version.cuda}
    print(*found.values())
    if not rehearse:
        tests = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "test_cuda.py")]
        found["tests"] = subprocess.run(tests, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()[-1]
        print(found["tests"])
    for table in (timings(device, budget), peers(device, budget), trainings(device, steps)):
        print(markdown(table), flush=True)
        found[table.title] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    if not rehearse:
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
