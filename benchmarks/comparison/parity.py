"""Do our samplers, diffusers' schedulers and azula's samplers draw the same picture, from the same noise and network?

Ours and diffusers' follow Ho's table of 1000 betas, where diffusers' step i is our t = (i + 1) / 1000. The network is
the model of handwriting in data/, in double precision and converted to that schedule, so that what is left is the
samplers' own. diffusers keeps its tables in single precision; the last column puts our table, in double precision, in
their place. With azula every point is compared at which a sampler asks the network.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from comparison.baselines import peer
from learn_diffusion import checkpoints
from learn_diffusion.process import Denoise, Estimate
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.samplers import ddim, dpmpp_2m, final_sample, heun
from learn_diffusion.schedules import DDPM, EDM, Cosine, Flow, Schedule, convert_schedule
from tools.tables import Table

PATH = DDPM()
SHAPE = (1, 28, 28)


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
ANCESTRAL = partial(ddim, eta=1.0)
ALIKE = (
    Case("ddim", "DDIMScheduler", UNCLIPPED, ddim, "spacing trailing, no clipping"),
    Case("ddim, eta 1", "DDPMScheduler", UNCLIPPED, ANCESTRAL, "spacing trailing, no clipping, the same noise"),
    Case("ddim, eta 1", "DDIMScheduler, eta 1", UNCLIPPED, ANCESTRAL, "spacing trailing, no clipping, the same noise"),
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
    """The model of handwriting in double precision, on its own schedule, the cosine."""
    model, _ = checkpoints.load(pretrained_path("mnist_by_label"), "cpu")
    return model.double().eval()


def ours(case: Case, denoise: Denoise, x: Tensor, grid: Tensor, generator: torch.Generator) -> Tensor:
    """Our sampler: on the EDM schedule along the scheduler's own sigmas (grid), else along DDPM's own grid."""
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
    z = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seed = lambda: torch.Generator().manual_seed(1)  # noqa: E731
    if case.sigmas:
        levels = made.sigmas.double().unique().flip(0)
        return (ours(case, denoise, z * levels[0], levels, seed())
                - theirs(case, made, denoise, z * levels[0], seed())).abs().max().item()  # fmt: skip
    one = ours(case, denoise, z, PATH.timesteps(steps), seed())
    start = z if "Heun" not in case.theirs else z * (1 + made.sigmas[0].double() ** 2).sqrt()
    return (one - theirs(case, made, denoise, start, seed())).abs().max().item()


# ---- azula: sampler, its class, schedule, its class and range; both from TOP to BOTTOM, short of the ends, where azula
# divides by 0

TOP, BOTTOM = 0.99, 0.01
CIRCLE = (Cosine(), "CosineSchedule", (0, 0))
LINE = (Flow(), "RectifiedSchedule", (0, 0))
SIGMAS = (EDM(), "VESchedule", (EDM.sigma_min, EDM.sigma_max))
AZULA = (
    ("ddim", "DDIMSampler", ddim, *CIRCLE),
    ("ddim, eta 1", "DDPMSampler", ANCESTRAL, *CIRCLE),
    ("ddim", "EulerSampler", ddim, *CIRCLE),
    ("ddim", "EulerSampler", ddim, *LINE),
    ("heun on EDM", "HeunSampler", heun, *SIGMAS),
    ("dpmpp_2m", "xEABSampler", dpmpp_2m, *CIRCLE),
)


def asked_at(denoise: Denoise, points: list[Tensor]) -> Denoise:
    """The same function; points collects where it is asked."""

    def asked(x: Tensor, t: Tensor) -> Estimate:
        points.append(x)
        return denoise(x, t)

    return asked


def from_azula(
    model: Denoise, ours: Callable, theirs: str, schedule: Schedule, steps: int, z: Tensor, made: Any
) -> float:
    """The largest difference at any point where the two ask the network, and at the end. made: azula's schedule."""
    azula, denoise, points = peer("azula"), convert_schedule(model, Cosine(), schedule), ([], [])
    levels = torch.linspace(TOP, BOTTOM, steps + 1, dtype=torch.float64)
    # on EDM the level is sigma itself; azula's t is even in its logarithm
    t = made.sigma if isinstance(schedule, EDM) else (lambda u: u)
    x = z * made.sigma(levels[0])

    class Asked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.schedule = made

        def forward(self, x: Tensor, u: Tensor) -> SimpleNamespace:
            return SimpleNamespace(mean=asked_at(denoise, points[1])(x, t(u)).x0)

    extra = {"generator": torch.Generator().manual_seed(1)} if ours is ANCESTRAL else {}
    points[0].append(final_sample(ours(asked_at(denoise, points[0]), schedule, x, t(levels), **extra)))
    torch.manual_seed(1)
    sampler = getattr(azula.sample, theirs)(
        Asked(), start=TOP, stop=BOTTOM, steps=steps, silent=True, dtype=torch.float64
    )
    points[1].append(sampler(x))
    return max((one - two).abs().max().item() for one, two in zip(*points, strict=True))


def beside_azula(model: Denoise, all_steps: list[int], n: int) -> Table:
    """Every sampler that azula has too, on the schedules that both have."""
    azula = peer("azula")
    table = Table(
        f"Largest difference of a pixel between ours and azula's, wherever they ask the network, {n} pictures",
        ("ours", "azula", "schedule", "steps", "difference"),
        notes=[
            f"double precision; t from {TOP} to {BOTTOM}, on EDM even in log(sigma); azula's reach their ends",
            "xEABSampler integrates the straight line through the last two estimates exactly, dpmpp_2m by its value in "
            "the middle of a step, as in the paper: they are not the same thing",
        ],
    )  # fmt: skip
    z = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for (name, theirs, ours, schedule, cls, ends), steps in product(AZULA, all_steps):
        made = getattr(azula.noise, cls)(*ends)
        if not isinstance(schedule, EDM):
            ts = torch.linspace(TOP, BOTTOM, 100, dtype=torch.float64)
            for one, two in zip((schedule.alpha(ts), schedule.sigma(ts)), made(ts), strict=True):
                torch.testing.assert_close(one, two)
        found = from_azula(model, ours, theirs, schedule, steps, z, made)
        table.rows.append((name, theirs, type(schedule).__name__, steps, found))
    return table


def run(options: Namespace) -> Iterator[Table]:
    """The largest difference of every case at every number of steps."""
    peer("diffusers")
    peer("azula")
    model = network()
    denoise = convert_schedule(model, Cosine(), PATH)
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
    yield beside_azula(model, options.steps, options.n)
