"""The command line: `learn-diffusion train`, `list`, `sample`, `info`, `export`, `challenge` and `doctor`.

The commands import what they need when they run: PyTorch takes seconds, and --help should not.
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import learn_diffusion

if TYPE_CHECKING:
    from torch import nn


class Checkpoint(click.Path):
    """A file written by save, or the name of a model that ships."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from learn_diffusion.recipes.pretrained import DATA

        path, shipped = Path(super().convert(value, param, ctx)), DATA / f"{value}.safetensors"
        return shipped if shipped.is_file() and not path.exists() else path


SEED = click.IntRange(0, 2**32 - 1)
DEVICE = click.option("--device", help="cpu, cuda or mps; by default cuda where there is one, else cpu.")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. An expected error is one line on stderr: exit code 2 for a wrong command line, 130 for Ctrl-C, 1
    for the others. Anything else is a fault of the program, and shows its traceback.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path in letters that this console lacks is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        commands.main(arguments or ["--help"], prog_name="learn-diffusion", standalone_mode=False)
    except click.Abort:  # Ctrl-C
        _fail("stopped", 130)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (ValueError, OSError, FloatingPointError) as error:
        _fail(str(error), 1)
    except RuntimeError as error:
        from learn_diffusion import devices

        if not devices.is_oom(error):
            raise
        _fail("out of memory: ask for fewer pictures (--n), or close other programs", 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"learn-diffusion: {_printable(' '.join(message.split()))}", err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(learn_diffusion.__version__, prog_name="learn-diffusion")
def commands() -> None:
    """Train the models of the course again, sample from them, and print their headers."""


@commands.command("list")
def list_recipes() -> None:
    """List what ships, and how long it took.

    Times are read from the headers of the files in data/.
    """
    from learn_diffusion import checkpoints
    from learn_diffusion.recipes import RECIPES
    from learn_diffusion.recipes.pretrained import pretrained_path

    for name, recipe in RECIPES.items():
        click.echo(f"{name}\n    {recipe.__doc__.splitlines()[0]}")
        try:
            header = checkpoints.read_metadata(pretrained_path(name))
            click.echo(f"    took {duration(header.get('seconds', math.nan))} on {header['hardware']}")
        except FileNotFoundError:
            click.echo(f"    not trained yet: learn-diffusion train {name}")


@commands.command()
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write. [default: data/RECIPE.safetensors]")
@click.option("--checkpoint-dir", type=click.Path(path_type=Path), help="For resuming. [default: beside --out]")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps, for a shorter run; needs --out.")
@click.option("--seed", type=SEED, help="Of everything random; needs --out.")
@DEVICE
@click.option("--restart", is_flag=True, help="Start again, even where a killed run left a checkpoint.")
def train(recipe: str, out: Path | None, checkpoint_dir: Path | None, restart: bool, **options: Any) -> None:
    """Run a RECIPE and write its file.

    `learn-diffusion list` names the recipes. Trains, measures, and writes metrics, seed, hardware and seconds into the
    header of the file. The same command resumes a killed training of a diffusion model; classifiers, the autoencoder
    and the models of chapter 15 start again.
    """
    from learn_diffusion import checkpoints
    from learn_diffusion.distributed import is_main_process
    from learn_diffusion.recipes.run import run_recipe

    if Path(recipe).is_dir():
        raise click.UsageError(
            f"RECIPE: expected a name of `learn-diffusion list`, got the folder {recipe}; "
            "book/own_pictures.md trains on pictures of your own"
        )
    chosen = {name: value for name, value in options.items() if value is not None}
    if out is None and chosen.keys() & {"steps", "seed"}:
        raise click.UsageError("--steps and --seed make another model than the one in data/: name its file with --out")
    path = run_recipe(recipe, out, checkpoint_dir, restart, **chosen)
    if is_main_process():
        for line in describe(path, *checkpoints.load(path, "cpu")):
            click.echo(_printable(line))


@commands.command()
@click.argument("checkpoint", type=Checkpoint(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The picture to write, a .png.")
@click.option("--prompt", help='What to draw, for a model that reads words: "a cat wearing sunglasses on the moon".')
@click.option("--label", type=int, help="What to draw, for a model that knows labels: 7.")
@click.option("--n", type=click.IntRange(1, 1024), default=1, show_default=True, help="How many pictures.")
@click.option("--steps", type=click.IntRange(1, 1000), default=20, show_default=True, help="From noise to picture.")
@click.option(
    "--guidance-scale", "scale", type=float, help="1 is the conditional model; higher follows it more. [default: 3]"
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the noise: another seed, other pictures.")
@click.option("--sampler", default="dpmpp_2m", show_default=True, help="Or ddim, or heun with two calls a step.")
@click.option("--size", type=click.IntRange(1, 1024), help="Side in pixels, where the file does not say it.")
@click.option("--zoom", type=click.IntRange(1, 64), help="Screen pixels a pixel. [default: about 128 a picture]")
@DEVICE
def sample(
    checkpoint: Path, out: Path, prompt: str | None, label: int | None, n: int, steps: int, scale: float | None,
    seed: int, sampler: str, size: int | None, zoom: int | None, device: str | None,
) -> None:  # fmt: skip
    """Sample from a CHECKPOINT: a file, or a name of `learn-diffusion list`.

    The pictures are written as one PNG, side by side. `learn-diffusion info` says whether a model takes a prompt, a
    label, or neither.
    """
    if out.suffix.lower() != ".png":
        raise click.UsageError(f"--out: expected a name that ends in .png, got {str(out)!r}")
    if scale is not None and not math.isfinite(scale):
        raise click.UsageError(f"--guidance-scale: expected a finite number, got {scale}")
    if scale is not None and prompt is None and label is None:
        raise click.UsageError("--guidance-scale: expected a --prompt or a --label with it")
    from learn_diffusion import checkpoints, devices, sampling
    from learn_diffusion.denoiser import Denoiser
    from learn_diffusion.recipes.pretrained import load_autoencoder
    from learn_diffusion.widgets.images import png, tile, to_uint8

    checkpoints.check_writable("out", out)
    model, header = checkpoints.load(checkpoint, device)
    if not isinstance(model, Denoiser):
        raise ValueError(f"{checkpoint}: expected a Denoiser to sample from, got a {type(model).__name__}")
    shape = sampling.picture_shape(model, header, size)
    y, scale = sampling.condition(model, n, prompt, label), 3.0 if scale is None else scale
    vae = load_autoencoder(model, header, device)
    start = time.perf_counter()
    pictures = sampling.sample(model, (n, *shape), y, scale, steps, seed, vae, sampler)
    seconds = time.perf_counter() - start
    checkpoints.atomic_write(out, png(tile(to_uint8(pictures)), zoom or max(1, 128 // pictures.shape[3])))
    asked = f"label {label}" if prompt is None else repr(prompt)
    asked = "unconditional" if y is None else f"{asked} at guidance scale {scale:g}"
    height, width = pictures.shape[2:]
    click.echo(f"{out}: {asked}; n {n}, {height}x{width} pixels, {steps} steps of {sampler}, seed {seed}")
    click.echo(f"sampled in {seconds:.1f} s on {devices.hardware(next(model.parameters()).device)}")


@commands.command()
@click.argument("checkpoint", type=Checkpoint(path_type=Path))
def info(checkpoint: Path) -> None:
    """Print what a CHECKPOINT holds, from its header: a file, or a name of `learn-diffusion list`."""
    from learn_diffusion import checkpoints

    for line in describe(checkpoint, *checkpoints.load(checkpoint, "cpu")):
        click.echo(_printable(line))


@commands.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
def export(name: str, folder: Path) -> None:
    """Write the model NAME, or a .safetensors file of your own, into FOLDER, with a model card, for others to use.

    stable_scenes becomes a pipeline that diffusers loads; every other model its checkpoint.
    """
    from learn_diffusion.recipes import cards

    cards.export(name, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    click.echo(f"{folder}: {size / 1e6:.1f} MB; its README.md is the model card")


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seeds", type=click.IntRange(2, 100), default=3, show_default=True, help="Trainings, a minute each.")
@click.option(
    "--json", "out", type=click.Path(path_type=Path), help="Also write the score, of each seed, to this file."
)
@DEVICE
def challenge(file: Path, seeds: int, out: Path | None, device: str | None) -> None:
    """Score FILE, an entry of the few-call challenge.

    Trains it for a minute with each seed, and measures what it draws in 1, 2 and 4 calls. book/challenge.md has the
    rules. FILE is run, with all that your account may do: read it first.
    """
    from learn_diffusion import challenge, checkpoints, devices
    from learn_diffusion.metrics import mean_and_spread

    if out is not None:
        checkpoints.check_writable("json", out)
    score = challenge.score(file, seeds, device)
    hardware = devices.hardware(devices.resolve_device(device))
    click.echo(f"{file}: {score.weights:,} weights, at most {max(score.seconds):.1f} s, {seeds} seeds, on {hardware}")
    click.echo("calls  Fréchet distance  copied")
    for calls, distances in score.frechet.items():
        copied = mean_and_spread(score.copied[calls]).value
        click.echo(f"{calls:5}  {f'{mean_and_spread(distances):.2f}':16}  {copied:.1%}")
    click.echo(f" real  {mean_and_spread(score.real):.2f}")
    if out is not None:
        whole = {"file": file.name, "hardware": hardware, **score._asdict()}
        checkpoints.atomic_write(out, (json.dumps(whole, indent=1) + "\n").encode())


@commands.command("doctor")
def run_doctor() -> None:
    """Check the installation and suggest fixes.

    Checks versions, devices, memory, disk, models and Jupyter. Exit code 0 if the course can run, 1 if it cannot.
    """
    from learn_diffusion import doctor

    line = ""
    for line in doctor.report():
        click.echo(line)
    sys.exit(0 if line == doctor.READY else 1)


def describe(path: Path, model: nn.Module, header: Mapping[str, Any]) -> Iterator[str]:
    """What a checkpoint holds and where it comes from, line by line."""
    from learn_diffusion import sampling
    from learn_diffusion.denoiser import Denoiser

    yield f"{path}, {path.stat().st_size / 1e6:.2f} MB"
    net, rows = model, {}
    if isinstance(model, Denoiser):
        net, rows = model.net, {"schedule": str(model.schedule), "target": model.target, "takes": sampling.takes(model)}
    numbers = sum(w.numel() for w in model.parameters())
    rows = {"network": type(net).__name__, "weights": f"{numbers:,} numbers", **rows}
    arguments = {name: value for name, value in net.config.items() if value not in ([], 0)}
    for name, value in {**rows, "arguments": arguments, **header}.items():
        yield from _rows(name, value)


def _rows(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _rows(f"{name}.{key}", inner)
    elif name == "seconds":
        yield f"{name:26} {value:g} ({duration(value)})"
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield f"{name:26} {' '.join(value)}"
    else:
        shown = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
        yield f"{name:26} {shown}"


def _printable(line: str) -> str:
    """Without control characters, which a file's header may hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def duration(seconds: float) -> str:
    """A time in the unit one would say it in."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
