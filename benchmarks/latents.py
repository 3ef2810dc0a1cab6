"""Pixels or codes, UNet or transformer, after equal seconds of training: `python benchmarks/latents.py [NAME ...]`.

Captioned cats at 64x64, the small world of chapter 14. Every model is trained for the same seconds of one core, with
the same optimizer, target and frozen text encoder, with three seeds. What is measured is how often a picture shows all
four of what its caption says, as the shipped classifier reads it at 32x32; the Fréchet distance of drawn pictures to
real ones of the same scenes; and what a picture costs.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import torch

from learn_diffusion import checkpoints, devices, sampling
from learn_diffusion.datasets.scenes import Scene, draw_scenes, split_of, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.metrics import frechet, mean_and_spread
from learn_diffusion.nets import DiT, UNet
from learn_diffusion.recipes.evaluation import all_features, encode, scene_accuracy, scene_tokens
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import downsample
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train
from tools.tables import Table, machine, markdown, write

RESULTS = Path(__file__).resolve().parent / "results"
SECONDS, BATCH, SCALE = 60, 32, 2.0
BARS = "all four right", "distance"
WORDS = vocabulary()
UNETS = {"widths": (64, 96), "blocks": (1, 0), "words": WORDS}
NETS = {  # by what they draw, and the grid they see: the side, 64 or 16, over patch_size
    "pixels, UNet, 8x8": lambda: UNet(channels=3, patch_size=8, **UNETS),
    "pixels, UNet, 16x16": lambda: UNet(channels=3, patch_size=4, **UNETS),
    "codes, UNet, 8x8": lambda: UNet(channels=4, patch_size=2, **UNETS),
    "codes, UNet, 16x16": lambda: UNet(channels=4, patch_size=1, **UNETS),
    "codes, DiT, 8x8": lambda: DiT(channels=4, width=128, depth=4, patch_size=2, words=WORDS),
    "codes, small UNet, 8x8": lambda: UNet(channels=4, patch_size=2, **UNETS | {"widths": (40, 64)}),
    "codes, small DiT, 8x8": lambda: DiT(channels=4, width=80, depth=3, patch_size=2, words=WORDS),
}  # fmt: skip
WORLD = [
    Scene(*parts)
    for parts in product(("cat",), ("sunglasses", "hat", "balloon"), ("moon", "beach", "forest"), ("orange", "blue"))
]


class Bench:
    """The data, the judge and the autoencoder, made once."""

    def __init__(self) -> None:
        self.vae, self.judge, painter = (
            checkpoints.load(pretrained_path(name), "cpu")[0]
            for name in ("scene_autoencoder", "scene_classifier", "scenes_by_caption")
        )
        self.text = painter.net.text.requires_grad_(False)
        known = [scene for scene in WORLD if split_of(scene) == "seen"]
        self.asked = known * 25
        drawn = draw_scenes(2000, seed=1, only=known, side=64)
        self.pixels, self.captions = torch.cat([drawn.images, drawn.images.flip(3)]), 2 * drawn.captions
        self.codes = encode(self.vae, self.pixels)

    def trial(self, name: str, seed: int) -> dict[str, float]:
        """One training, measured."""
        data, vae = (self.pixels, None) if name.startswith("pixels") else (self.codes, self.vae)
        labels, found = self.text.tokenise(self.captions), {}

        def run(steps: int) -> tuple[Denoiser, float]:
            torch.manual_seed(seed)
            net = NETS[name]()
            net.text = self.text
            begun = time.process_time()
            *_, end = train(
                Denoiser(net, Cosine(), "x0"), data, steps, labels=labels, batch=BATCH, seed=seed, device="cpu"
            )
            return end.ema, time.process_time() - begun

        few, more = run(10)[1], run(50)[1]  # the start of a training is no step's fault
        found["steps"] = round((SECONDS - few) / (more - few) * 40)
        model, found["training, s"] = run(found["steps"])
        found["million weights"] = sum(w.numel() for w in model.net.parameters()) / 1e6
        begun = time.process_time()
        drawn = downsample(self.draw(model, vae, seed))
        found["ms a picture"] = 1000 * (time.process_time() - begun) / len(drawn)
        found["all four right"] = self.share(drawn)
        found["distance"] = self.distance(drawn, seed)
        return found

    def draw(self, model: Denoiser, vae: torch.nn.Module | None, seed: int) -> torch.Tensor:
        shape = (3, 64, 64) if vae is None else (4, 16, 16)
        tokens = scene_tokens(model, self.asked)
        return sampling.sample(model, (len(tokens), *shape), tokens, SCALE, 10, seed, vae)

    def share(self, pictures: torch.Tensor) -> float:
        """How many show all four of what was asked for."""
        return scene_accuracy(self.judge, pictures, self.asked)["all four"]

    def distance(self, pictures: torch.Tensor, seed: int) -> float:
        """The Fréchet distance to real pictures of the same scenes, both at 32x32."""
        real = draw_scenes(len(pictures), seed=2 + seed, only=self.asked).images
        return frechet(all_features(self.judge, pictures), all_features(self.judge, real))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", choices=[[], *NETS], help="which; none: all")
    chosen = parser.parse_args().nets or list(NETS)
    devices.disable_malloc_trim()
    torch.set_num_threads(1)
    start, bench, rows = time.perf_counter(), Bench(), []
    for name in chosen:
        trials = [bench.trial(name, seed) for seed in (0, 1, 2)]
        row = {key: mean_and_spread([trial[key] for trial in trials]) for key in trials[0]}
        rows.append([name, *(f"{x:.2f}" if key in BARS else float(f"{x.value:.3g}") for key, x in row.items())])
        print(rows[-1], flush=True)
    real = draw_scenes(len(bench.asked), seed=1_000, only=bench.asked).images
    table = Table(
        f"{SECONDS} s of training each, on one core of {machine()}",
        ["model", *row],
        rows,
        [
            f"Batches of {BATCH}, Muon, x0, guidance {SCALE:g}, 10 steps of DPM-Solver++(2M); three trainings; mean ± "
            "standard deviation where one is given. 8x8, 16x16: what the network sees, after patches were folded into "
            "channels. The autoencoder's own training is not counted.",
            f"Of real pictures: all four right {bench.share(real):.2f}, distance {bench.distance(real, 0):.2f}.",
        ],
    )
    print(markdown(table))
    if chosen == list(NETS):  # a part would leave the page without the others
        write(RESULTS / "latents.json", "python benchmarks/latents.py", [table], time.perf_counter() - start)


if __name__ == "__main__":
    main()
