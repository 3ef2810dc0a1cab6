"""Sample from a trained model: its conditioning, and the way from noise to pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from learn_diffusion import devices, validation
from learn_diffusion.denoiser import Denoiser, check_known
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.process import Denoise
from learn_diffusion.samplers import SAMPLERS, final_sample
from learn_diffusion.schedules import Schedule

BATCH = 64  # pictures at a time: enough to be fast, and memory does not grow with the number asked for


def initial_noise(schedule: Schedule, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Noise of this shape (n, C, H, W) where the schedule begins, the same on every device."""
    generator = torch.Generator().manual_seed(validation.whole_number("seed", seed, 0))
    noise = torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")
    return noise * schedule.sigma(torch.tensor(schedule.t_max, device="cpu"))


def run_sampler(
    denoise: Denoise, schedule: Schedule, noise: Tensor, steps: int, clip: bool = True, sampler: str = "dpmpp_2m"
) -> Tensor:
    """From noise (n, C, H, W) to pictures in [-1, 1], with x0 clipped.

    clip=False: to an autoencoder's codes, which may lie anywhere. sampler: a name of samplers.SAMPLERS.
    """
    validation.one_of("sampler", sampler, SAMPLERS)
    devices.disable_malloc_trim()
    denoise = clip_x0(denoise, schedule) if clip else denoise
    return final_sample(SAMPLERS[sampler](denoise, schedule, noise, schedule.timesteps(steps)))


def sample(
    model: Denoiser, shape: Sequence[int], y: Tensor | None = None, scale: float = 3.0, steps: int = 20, seed: int = 0,
    vae: nn.Module | None = None, sampler: str = "dpmpp_2m",
) -> Tensor:  # fmt: skip
    """Pictures of this shape (n, C, H, W), float32 in [-1, 1], on the model's device.

    y        (n, ...) conditions, see `condition`; None: unconditional
    scale    of classifier-free guidance: 1 is the conditional model, above 1 it is followed more closely
    vae      the autoencoder that decodes what the model draws, a code of this shape; None: the model draws pictures
    sampler  a name of samplers.SAMPLERS: "ddim", "heun" (two calls a step) or "dpmpp_2m"

    Raises ValueError that names a bad argument.
    """
    if not isinstance(model, Denoiser):
        hint = "; load gives (model, metadata)" if isinstance(model, tuple) else ""
        raise TypeError(f"model: expected a Denoiser, got {type(model).__name__}{hint}")
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape: expected (n, C, H, W), got {type(shape).__name__}")
    shape = [validation.positive_int("shape", n) for n in shape]
    if y is not None and (not isinstance(y, Tensor) or y.shape[:1] != (shape[0],)):
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"y: expected a tensor of conditions, one for each of {shape[0]} pictures, got {got}")
    if y is not None and validation.readable(y):
        check_known("y", y, model.net)
    device = model.device
    noises = initial_noise(model.schedule, shape, seed).to(device).split(BATCH)
    guided = [model] * len(noises) if y is None else [cfg(model, part, scale) for part in y.to(device).split(BATCH)]
    batches = zip(guided, noises, strict=True)
    drawn = [run_sampler(denoise, model.schedule, noise, steps, vae is None, sampler) for denoise, noise in batches]
    return torch.cat(drawn if vae is None else [decode(vae, codes) for codes in drawn])


@torch.no_grad()
def decode(vae: nn.Module, codes: Tensor) -> Tensor:
    """The pictures in [-1, 1] of codes (n, C, h, w), as many at a time as in sample."""
    return torch.cat([vae.decode(part).clamp(-1, 1) for part in codes.split(BATCH)])


def condition(model: Denoiser, n: int, prompt: str | None = None, label: int | None = None) -> Tensor | None:
    """Conditioning tensor, repeated n times: tokens (n, L) of a prompt, labels (n,), or None where neither is given.

    Raises ValueError for what the model does not take: a prompt without words it knows, a label out of range.
    """
    validation.positive_int("n", n)
    text, classes = _senses(model)
    if prompt is not None and text is None:
        raise ValueError(f"prompt: this model reads no words; it takes {takes(model)}")
    if label is not None and not classes:
        raise ValueError(f"label: this model knows no labels; it takes {takes(model)}")
    if label is not None:
        label = validation.whole_number("label", label, 0, classes - 1)
    if prompt is not None:
        return text.tokenise([prompt]).repeat(n, 1)
    return None if label is None else torch.full((n,), label)


def takes(model: Denoiser) -> str:
    """The condition that the model takes, in words."""
    text, classes = _senses(model)
    if text is not None:
        return f"a prompt of up to {text.tokenise.length} words"
    return f"a label from 0 to {classes - 1}" if classes else "no condition, neither a prompt nor a label"


def picture_shape(model: Denoiser, metadata: Mapping[str, Any], size: int | None = None) -> tuple[int, int, int]:
    """(C, H, W) of the pictures a loaded model draws: about["data_shape"], or squares of side `size` where it is given.

    Raises ValueError where neither says it, or where the network cannot draw that size.
    """
    channels, side = model.net.config.get("channels"), getattr(model.net, "side", 1)
    if channels is None:
        raise ValueError(f"model: expected a network that draws pictures, got {type(model.net).__name__}")
    if size is None and "data_shape" not in metadata:
        raise ValueError("size: this file does not say how large its pictures are; pass the side in pixels (digits: 8)")
    shape = metadata["data_shape"] if size is None else [channels, size, size]
    sides = shape[1:] if isinstance(shape, list) and shape[:1] == [channels] else []
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 and s % side == 0 for s in sides):
        raise ValueError(
            f"size: this network draws {channels} channels with sides divisible by {side}, "
            f"got (channels, height, width) = {shape}"
        )
    return tuple(shape)


def _senses(model: Denoiser) -> tuple[Any, int]:
    """The text encoder, or None, and the number of labels, 0 for none."""
    return getattr(model.net, "text", None), getattr(model.net, "config", {}).get("classes", 0)
