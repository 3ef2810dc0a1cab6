"""Chapter 20, Stable Diffusion."""

from __future__ import annotations

import torch

from learn_diffusion.exercises.core import Exercise
from learn_diffusion.schedules import VP, Cosine

# a table of theirs on a schedule of ours


def your_level(alphas_cumprod, schedule):
    logsnr = torch.log(alphas_cumprod / (1 - alphas_cumprod))
    return schedule.t_of_logsnr(logsnr)


def _tables():
    """The table of Stable Diffusion 1.5 (square roots of beta evenly spaced), and that of DDPM; every 37th row."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    linear = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return [((1 - beta).cumprod(0)[::37], schedule) for beta in (betas, linear) for schedule in (Cosine(), VP())]


def _level(logsnr):
    return lambda alphas_cumprod, schedule: schedule.t_of_logsnr(logsnr(alphas_cumprod))


Exercise(
    "20.table",
    """Translate a schedule. `alphas_cumprod` (N,) are rows of a scheduler's table. For each, find the level t at which *our* schedule has as much noise for as much picture: the same log-SNR. `schedule.t_of_logsnr(logsnr)` finds the level of a log-SNR (chapter 02). `your_level(alphas_cumprod, schedule)`
    returns the levels, (N,). They say which of our levels each row of their table is.""",
    hints=[
        "`alphas_cumprod` is alpha_bar, which is alpha squared; and sigma squared is 1 - alpha_bar.",
        "The log-SNR is log(alpha^2 / sigma^2) = log(alpha_bar / (1 - alpha_bar)).",
    ],
    solution=your_level,
    inputs=_tables,
    mistakes={
        "This is the place of a row in the table. What counts is how much noise it has.": lambda table, schedule: (
            (torch.arange(len(table), dtype=table.dtype) + 1) / len(table)
        ),
        "`alphas_cumprod` is alpha *squared*; here it is squared once more.": _level(
            lambda a: torch.log(a**2 / (1 - a**2))
        ),
        "The signal-to-noise ratio compares squares: alpha^2 / sigma^2, and not alpha / sigma.": _level(
            lambda a: torch.log(a / (1 - a)) / 2
        ),
        "Upside down: this is the log of noise over signal.": _level(lambda a: torch.log((1 - a) / a)),
        "This is log(alpha_bar). The noise has grown too: divide by 1 - alpha_bar.": _level(torch.log),
        "This is the ratio itself. `t_of_logsnr` asks for its logarithm.": _level(lambda a: a / (1 - a)),
    },
    variants=[_level(torch.logit), _level(lambda a: 2 * (a.sqrt().log() - (1 - a).sqrt().log()))],
    result="the levels",
    right="Row by row the same noise, though neither the numbers of the rows nor the levels agree.",
)

# which rows are asked


def your_timesteps(steps, rows, spacing):
    ratio = rows // steps
    if spacing == "leading":
        return torch.arange(steps).flip(0) * ratio + 1
    return torch.arange(steps, 0, -1) * ratio - 1


def _timesteps(leading, trailing):
    return lambda steps, rows, spacing: (leading if spacing == "leading" else trailing)(steps, rows // steps)


def _leading(steps, ratio):
    return your_timesteps(steps, steps * ratio, "leading")


def _trailing(steps, ratio):
    return your_timesteps(steps, steps * ratio, "trailing")


Exercise(
    "20.spacing",
    """A scheduler has `rows` rows (0 to rows - 1) and takes `steps` steps, which divide them. `your_timesteps(steps, rows, spacing)` returns the rows at which it asks the network, from noise to picture, (steps,) whole numbers. `"leading"`: the *first* row of each of `steps` equal blocks, and then one further (so that row 0 is never asked).
    `"trailing"`: the *last* row of each block. With 4 steps and 1000 rows: 751, 501, 251, 1, and 999, 749, 499, 249.""",
    hints=[
        "A block has rows // steps rows. The first rows of the blocks are torch.arange(steps) * (rows // steps).",
        "From noise to picture means: the largest row first. .flip(0) turns a row of numbers round.",
        "The last row of a block is one before the first of the next.",
    ],
    solution=your_timesteps,
    inputs=[
        (4, 1000, "leading"),
        (4, 1000, "trailing"),
        (20, 1000, "leading"),
        (20, 1000, "trailing"),
        (10, 50, "leading"),
        (10, 50, "trailing"),
    ],
    mistakes={
        "From noise to picture: the largest row comes first.": lambda *args: your_timesteps(*args).flip(0),
        "`leading` is off by one: one further than the first row of each block.": _timesteps(
            lambda steps, ratio: torch.arange(steps).flip(0) * ratio, _trailing
        ),
        "`trailing` is off by one: rows are counted from 0, so the last is rows - 1.": _timesteps(
            _leading, lambda steps, ratio: torch.arange(steps, 0, -1) * ratio
        ),
        "This gives `leading` for both.": _timesteps(_leading, _leading),
        "This gives `trailing` for both.": _timesteps(_trailing, _trailing),
        "The two are exchanged: `leading` takes the first row of a block.": _timesteps(_trailing, _leading),
        "This goes evenly from the last row to the first, and so takes rows inside of the blocks (it is called `linspace`).": (
            lambda steps, rows, spacing: torch.linspace(rows - 1, 0, steps).round().long()
        ),
    },
    variants=[
        lambda steps, rows, spacing: (
            [row * (rows // steps) + 1 for row in reversed(range(steps))]
            if spacing == "leading"
            else [rows - 1 - row * (rows // steps) for row in range(steps)]
        )
    ],
    result="the rows",
    key=lambda rows: torch.as_tensor(rows, dtype=torch.float64),
    right="`leading` never asks at the noisiest rows, and yet is handed pure noise.",
)

# whose scale is it?


def your_scale(cond, uncond, guided):
    way = cond - uncond
    return ((guided - uncond) * way).sum() / way.square().sum()


def _guided():
    g = torch.Generator().manual_seed(0)
    cases = []
    for scale in (3.0, 1.5, -0.5, 7.5):
        cond, uncond = torch.randn(2, 2, 3, 4, generator=g, dtype=torch.float64)
        cases.append((cond, uncond, uncond + scale * (cond - uncond)))
    return cases


Exercise(
    "20.scale",
    """A colleague's code guides with `w = 2`. Is that `guidance_scale=2`, or 3? Do not ask: measure. You get what a model answers with the words, `cond`, without them, `uncond`, and what the code makes of the two, `guided` (tensors of one shape). `your_scale(cond, uncond, guided)` returns the `guidance_scale` of diffusers, a number w
    for which guided = uncond + w (cond - uncond).""",
    hints=[
        "guided - uncond is w times cond - uncond.",
        "Divide one by the other; for one number from many, use inner products: (a * b).sum() / (b * b).sum().",
    ],
    solution=your_scale,
    inputs=_guided,
    mistakes={
        "This is the w of Ho and Salimans, (1 + w) cond - w uncond, which is one less.": lambda cond, uncond, guided: (
            your_scale(cond, uncond, guided) - 1
        ),
        "This is one too much: guided - uncond is w times the way, not w - 1 times.": lambda cond, uncond, guided: (
            your_scale(cond, uncond, guided) + 1
        ),
        "The way is counted from `uncond`: subtract it from `guided` too.": lambda cond, uncond, guided: (
            (guided * (cond - uncond)).sum() / (cond - uncond).square().sum()
        ),
        "The two ends are exchanged: w = 1 is `cond`.": lambda cond, uncond, guided: your_scale(uncond, cond, guided),
        "The sign is lost: where w is negative, `guided` lies on the other side of `uncond`.": lambda cond, uncond, guided: (
            (guided - uncond).norm() / (cond - uncond).norm()
        ),
        "The sign is wrong: w = 1 should give 1.": lambda cond, uncond, guided: -your_scale(cond, uncond, guided),
        "This divides by the wrong end: how far is guided from uncond, against cond *from uncond*?": (
            lambda cond, uncond, guided: ((guided - uncond) * cond).sum() / cond.square().sum()
        ),
    },
    variants=[
        lambda cond, uncond, guided: ((guided - uncond) / (cond - uncond)).median(),
    ],
    result="the scale",
    right="w = {expected:g} in the last case. Whatever a text calls it, what counts is where `guided` lies on the line.",
)
