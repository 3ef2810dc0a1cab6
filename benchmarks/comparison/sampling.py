"""Quality against network calls: the same weights and the same clipping, in our samplers and in diffusers' schedulers.

The model of handwriting in data/ was trained on our cosine schedule. diffusers' nearest one is squaredcos_cap_v2, a
table of 1000 levels; for each of them the model gets the time of the same signal-to-noise ratio.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from math import pi
from statistics import mean, stdev

import torch
from torch import Tensor

from comparison.baselines import peer
from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.guidance import clip_x0
from learn_diffusion.metrics import frechet
from learn_diffusion.process import Denoise
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from tools.tables import Table

SHAPE = (1, 28, 28)
Draw = Callable[[Denoise, int, int, int], Tensor]  # (model, network calls, pictures, seed) -> (n, *SHAPE)


def ours(sampler: Callable, a_step: int, model: Denoiser, calls: int, n: int, seed: int) -> Tensor:
    """Our sampler with that many network calls: a_step of them a step, one in Heun's last."""
    schedule, steps = model.schedule, (calls + a_step - 1) // a_step
    extra = {"generator": torch.Generator().manual_seed(seed + 1)} if "eta" in getattr(sampler, "keywords", {}) else {}
    noise = sampling.initial_noise(schedule, (n, *SHAPE), seed)
    return final_sample(
        sampler(clip_x0(with_labels(model, n), schedule), schedule, noise, schedule.timesteps(steps), **extra)
    )


def with_labels(model: Denoiser, n: int) -> Denoise:
    """The model, conditioned on the digits 0 to 9 in turn."""
    labels = torch.arange(n) % 10
    return lambda x, t: model(x, t, labels)


@torch.no_grad()
def theirs(name: str, settings: dict, a_step: int, model: Denoiser, calls: int, n: int, seed: int) -> Tensor:
    """A scheduler of diffusers around the same model, which answers with v of its clipped estimate."""
    cls = getattr(peer("diffusers"), name)
    made = cls(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", **settings)
    made.set_timesteps((calls + a_step - 1) // a_step)
    g = torch.Generator().manual_seed(seed + 1)
    extra = {"generator": g} if name == "DDPMScheduler" else {}
    x = sampling.initial_noise(model.schedule, (n, *SHAPE), seed) * made.init_noise_sigma
    denoise = clip_x0(with_labels(model, n), model.schedule)
    alpha_bar = made.alphas_cumprod.double()
    for i in made.timesteps:
        seen = made.scale_model_input(x, i).float()
        # Heun's levels may lie between those of the table; it knows where it is
        abar = 1 / (1 + made.sigmas[made.step_index].double() ** 2) if "Heun" in name else alpha_bar[int(i)]
        t = 2 / pi * torch.atan2((1 - abar).sqrt(), abar.sqrt())  # of the cosine path, where the ratio is the same
        est = denoise(seen, t)
        v = abar.sqrt().float() * est.eps - (1 - abar).sqrt().float() * est.x0
        x = made.step(v, i, x, **extra).prev_sample
    return x.float()


TRAILING = {"timestep_spacing": "trailing"}
UNCLIPPED = {"clip_sample": False}
SAMPLERS: dict[str, Draw] = {
    "ours: ddim": partial(ours, ddim, 1),
    "ours: heun": partial(ours, heun, 2),
    "ours: dpmpp_2m": partial(ours, dpmpp_2m, 1),
    "ours: ddim, eta 1": partial(ours, partial(ddim, eta=1.0), 1),
    "diffusers: DDIM": partial(theirs, "DDIMScheduler", UNCLIPPED | TRAILING, 1),
    "diffusers: DDIM, default spacing": partial(theirs, "DDIMScheduler", UNCLIPPED, 1),
    "diffusers: Heun": partial(theirs, "HeunDiscreteScheduler", TRAILING, 2),
    "diffusers: Heun, Karras sigmas, leading": partial(
        theirs, "HeunDiscreteScheduler", {"use_karras_sigmas": True, "timestep_spacing": "leading"}, 2
    ),
    "diffusers: DPMSolverMultistep": partial(theirs, "DPMSolverMultistepScheduler", TRAILING, 1),
    "diffusers: DPMSolverMultistep, default spacing": partial(theirs, "DPMSolverMultistepScheduler", {}, 1),
    "diffusers: UniPC": partial(theirs, "UniPCMultistepScheduler", TRAILING, 1),
    "diffusers: DDPM": partial(theirs, "DDPMScheduler", UNCLIPPED | TRAILING, 1),
}
REFERENCES = ("ours: ddim, eta 1", "diffusers: DDPM")


@torch.no_grad()
def run(options: Namespace) -> Iterator[Table]:
    """Every sampler at every number of calls, beside DDPM with a thousand of them."""
    peer("diffusers")
    model, _ = checkpoints.load(pretrained_path("mnist_by_label"), "cpu")
    reader, _ = checkpoints.load(pretrained_path("mnist_classifier"), "cpu")
    model.eval()
    held_out, train = (mnist_sample(split)[0][: options.n] for split in ("held_out", "train"))
    floor = frechet(reader.features(train), reader.features(held_out))
    table = Table(
        f"Fréchet distance of {options.n} samples to as many held-out digits, {options.seeds} seeds",
        ("sampler", "calls", "distance", "± over seeds"),
        notes=[
            f"training digits against held-out ones: {floor:.3g}",
            "the same weights, clipping and labels; diffusers' schedule is squaredcos_cap_v2, spacing trailing unless "
            "the row says otherwise; Heun takes two calls a step, and one in the last: an odd number of calls",
        ],
    )  # fmt: skip
    found = {}
    target = reader.features(held_out)
    for name, draw in SAMPLERS.items():
        for calls in [*([options.reference] if name in REFERENCES else []), *options.calls]:
            if "eun" in name and calls % 2 == 0:
                calls -= 1
            drawn = [draw(model, calls, options.n, 100 + seed) for seed in range(options.seeds)]
            distances = [frechet(reader.features(x), target) for x in drawn]
            found[name, calls] = mean(distances), stdev(distances) if len(distances) > 1 else 0.0
            table.rows.append((name, calls, *found[name, calls]))
            print(f"  {name}, {calls} calls: {found[name, calls][0]:.2f}", flush=True)
    yield table
    yield few(found, options.reference)


def few(found: dict[tuple[str, int], tuple[float, float]], reference: int) -> Table:
    """The fewest calls with which each sampler is within the error bar of the long DDPM."""
    far, bar = found[REFERENCES[0], reference]
    table = Table(
        f"Fewest calls within the error bar of our {reference}-call DDPM, {far:.3g} ± {bar:.1g}",
        ("sampler", "calls", "distance", "times fewer calls"),
        notes=[f"a distance of at most {far + bar:.3g}; '-' where none of the tried numbers of calls reached it"],
    )
    for name in dict.fromkeys(name for name, _ in found):
        good = [calls for (who, calls), (d, _) in found.items() if who == name and d <= far + bar]
        least = min(good, default=None)
        table.rows.append((name, least, *((found[name, least][0], reference / least) if least else (None, None))))
    return table
