"""Do our samplers and diffusers' schedulers draw the same picture, from the same noise, with the same network?

Both follow Ho's table of 1000 betas, where diffusers' step i is our t = (i + 1) / 1000. The network is the model of
digits in data/, in double precision and converted to that schedule, so that what is left is the samplers' own.
diffusers keeps its tables in single precision; the last column puts our table, in double precision, in their place.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from comparison.baselines import peer
from learn_diffusion import checkpoints
from learn_diffusion.process import Denoise
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, Cosine, convert_schedule
from tools.tables import Table

PATH = DDPM()


@dataclass(frozen=True)
class Case:
    """One of our samplers and the scheduler that should do the same."""

    ours: str
    theirs: str
    settings: dict  # of the scheduler
    sampler: Callable
    settings_in_words: str
    sigmas: bool = False  # the scheduler works on x / alpha, from sigma / alpha to 0: our EDM schedule


EQUAL = {"timestep_spacing": "trailing"}
UNCLIPPED = {**EQUAL, "clip_sample": False}
DDPM = partial(ddim, eta=1.0)
ALIKE = (
    Case("ddim", "DDIMScheduler", UNCLIPPED, ddim, "spacing trailing, no clipping"),
    Case("ddim, eta 1", "DDPMScheduler", UNCLIPPED, DDPM, "spacing trailing, no clipping, the same noise"),
    Case("ddim, eta 1", "DDIMScheduler, eta 1", UNCLIPPED, DDPM, "spacing trailing, no clipping, the same noise"),
    Case("ddim on EDM", "EulerDiscreteScheduler", EQUAL, ddim, "spacing trailing; ours on its sigmas", True),
    Case("heun on EDM", "HeunDiscreteScheduler", EQUAL, heun, "spacing trailing; ours on its sigmas", True),
    Case("dpmpp_2m", "DPMSolverMultistepScheduler", {**EQUAL, "final_sigmas_type": "zero"}, dpmpp_2m,
         "spacing trailing, last step to sigma 0"),
)  # fmt: skip
UNLIKE = (
    Case("heun", "HeunDiscreteScheduler", EQUAL, heun,
         "ours is even in t on DDPM, theirs in sigma / alpha; Heun depends on that choice"),
    Case("ddim", "DDIMScheduler", {"clip_sample": False}, ddim,
         "its default spacing, leading, begins below the top of the table"),
    Case("dpmpp_2m", "DPMSolverMultistepScheduler", {}, dpmpp_2m, "its default spacing, linspace, is another grid"),
)  # fmt: skip


def network() -> Denoise:
    """The model of digits in double precision, converted from its own schedule to DDPM."""
    model, _ = checkpoints.load(pretrained_path("digits_by_label"), "cpu")
    return convert_schedule(model.double().eval(), Cosine(), PATH)


def ours(case: Case, denoise: Denoise, x: Tensor, grid: Tensor, generator: torch.Generator) -> Tensor:
    """Our sampler: on the EDM schedule along the scheduler's own sigmas (grid), else along DDPM' own grid."""
    extra = {"generator": generator} if case.ours.startswith("ddim") else {}
    if case.sigmas:
        schedule = EDM(sigma_max=grid[0].item())
        return final_sample(case.sampler(convert_schedule(denoise, PATH, schedule), schedule, x, grid, **extra))
    return final_sample(case.sampler(denoise, PATH, x, grid, **extra))


def scheduler(case: Case, steps: int, double: bool):
    """diffusers' scheduler with that many steps; with `double`, our table in place of its single-precision one."""
    cls = getattr(peer("diffusers"), case.theirs.split(",")[0])
    made = cls(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **case.settings)
    made.set_timesteps(steps)
    if double:
        made.betas = PATH.betas()
        made.alphas = 1 - made.betas
        made.alphas_cumprod = made.alphas.cumprod(0)
        made.one, made.final_alpha_cumprod = torch.tensor(1.0).double(), torch.tensor(1.0).double()
        if hasattr(made, "sigmas"):
            nsr = (1 / made.alphas_cumprod - 1).sqrt()
            made.sigmas = torch.cat([nsr[made.timesteps.round().long()], nsr.new_zeros(1)])
            if "Heun" in case.theirs:  # it holds the inner levels twice, once for each of its two calls
                first = nsr[made.timesteps[:1].long()]
                made.sigmas = torch.cat(
                    [first, nsr[made.timesteps[1::2].long()].repeat_interleave(2), nsr.new_zeros(1)]
                )
    return made


def theirs(case: Case, made, denoise: Denoise, x: Tensor, generator: torch.Generator) -> Tensor:
    """diffusers' sampling loop, with our network's noise as the model's output."""
    extra = {"generator": generator} if case.theirs.startswith("DD") else {}
    if case.theirs.endswith("eta 1"):
        extra["eta"] = 1.0
    for i in made.timesteps:
        eps = denoise(made.scale_model_input(x, i).double(), (i.double() + 1) / 1000).eps
        x = made.step(eps, i, x, **extra).prev_sample
    return x


@torch.no_grad()
def difference(case: Case, denoise: Denoise, steps: int, n: int, double: bool) -> float:
    """The largest difference between the two pictures, whose values lie in [-1, 1]."""
    made = scheduler(case, steps, double)
    z = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seed = lambda: torch.Generator().manual_seed(1)  # noqa: E731
    if case.sigmas:
        levels = made.sigmas.double().unique().flip(0)
        return (ours(case, denoise, z * levels[0], levels, seed())
                - theirs(case, made, denoise, z * levels[0], seed())).abs().max().item()  # fmt: skip
    one = ours(case, denoise, z, PATH.timesteps(steps), seed())
    start = z if "Heun" not in case.theirs else z * (1 + made.sigmas[0].double() ** 2).sqrt()
    return (one - theirs(case, made, denoise, start, seed())).abs().max().item()


def run(options: Namespace) -> Iterator[Table]:
    """The largest difference of every case at every number of steps."""
    peer("diffusers")
    denoise = network()
    columns = ("ours", "diffusers", "steps", "difference", "with double tables", "settings")
    alike = Table(
        f"Largest difference of a pixel between ours and diffusers', {options.n} pictures in [-1, 1]", columns,
        notes=[
            "the same network in double precision, the same noise, Ho's 1000 betas; diffusers' step i is our "
            "t = (i + 1) / 1000",
            "difference: with diffusers' tables of betas and sigmas as they come, in single precision. With double "
            "tables Euler and DPM-Solver++ still compute each step in single precision, and DDPM adds noise of "
            "standard deviation 1e-10 in the last step, where its variance is kept from reaching 0",
        ],
    )  # fmt: skip
    unlike = Table("The same, with settings that are not the same thing", columns)
    for table, cases in ((alike, ALIKE), (unlike, UNLIKE)):
        for case, steps in product(cases, options.steps):
            found = [difference(case, denoise, steps, options.n, double) for double in (False, True)]
            table.rows.append((case.ours, case.theirs, steps, *found, case.settings_in_words))
    yield alike
    yield unlike
