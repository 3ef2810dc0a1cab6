"""Ours and each peer behind one interface: a network, the loss of a batch, and samples.

A peer's loss and sampler are its own code; only the loop around them is ours, and the same for all peers.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn_diffusion import sampling
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import UNet
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import loss, sample_timesteps, train

PEERS = {
    "diffusers": "diffusers",
    "denoising-diffusion-pytorch": "denoising_diffusion_pytorch",
    "smalldiffusion": "smalldiffusion",
}
SAMPLERS_ONLY = {"azula": "azula"}  # its networks and losses are not compared
# two peers import these for data sets and scores that are not used here
UNUSED = ("torchvision", "pytorch_fid", "pytorch_fid.fid_score", "pytorch_fid.inception")
Shape = tuple[int, int]  # (channels, side) of a picture


class MissingPeerError(Exception):
    """A peer, or something that it needs, is not installed; the message says how to get it."""


def peer(name: str) -> ModuleType:
    """The module of the peer of that name on PyPI. Raises MissingPeerError if it cannot be imported."""
    missing = []
    try:
        if name != "diffusers":
            importlib.import_module("accelerate")  # looks for torchvision itself, so it comes before the stand-ins
            missing = [part for part in UNUSED if importlib.util.find_spec(part.split(".")[0]) is None]
            sys.modules.update({part: MagicMock() for part in missing})
        return importlib.import_module({**PEERS, **SAMPLERS_ONLY}[name])
    except ModuleNotFoundError as error:
        raise MissingPeerError(
            f"{name} is not installed here (no module {error.name}): `make peers` installs it into .venv-peers; "
            "then use .venv-peers/bin/python"
        ) from None
    finally:
        for part in missing:
            del sys.modules[part]


@dataclass
class Baseline:
    """A network in training."""

    net: nn.Module
    loss: Callable[[Tensor], Tensor]  # data (B, C, H, W) in [-1, 1] -> () tensor
    sample: Callable[[int, int], Tensor]  # (pictures, network calls each) -> (n, C, H, W); random by torch's seed


def ours(net: nn.Module, shape: Shape) -> Baseline:
    """The package's defaults: cosine path, target v, DPM-Solver++(2M)."""
    model = net if isinstance(net, Denoiser) else Denoiser(net, Cosine(), "v")

    def batch_loss(x0: Tensor) -> Tensor:
        return loss(model, x0, sample_timesteps(model.schedule, len(x0), torch.Generator(x0.device)))

    def sample(n: int, calls: int) -> Tensor:
        noise = sampling.initial_noise(model.schedule, (n, shape[0], shape[1], shape[1]), int(torch.randint(2**31, ())))
        return sampling.run_sampler(model, model.schedule, noise, calls)

    return Baseline(model, batch_loss, sample)


def diffusers(net: nn.Module, shape: Shape) -> Baseline:
    """Ho's linear betas and noise prediction, as in its training example; its DPM-Solver++(2M)."""
    lib = peer("diffusers")
    noiser = lib.DDPMScheduler(num_train_timesteps=1000)

    def batch_loss(x0: Tensor) -> Tensor:
        eps, t = torch.randn_like(x0), torch.randint(1000, (len(x0),), device=x0.device)
        return F.mse_loss(net(noiser.add_noise(x0, eps, t), t).sample.float(), eps)

    @torch.no_grad()
    def sample(n: int, calls: int) -> Tensor:
        solver = lib.DPMSolverMultistepScheduler.from_config(noiser.config, timestep_spacing="trailing")
        solver.set_timesteps(calls)
        x = torch.randn(n, shape[0], shape[1], shape[1])
        for t in solver.timesteps:
            x = solver.step(net(x, t).sample, t, x).prev_sample
        return x.clamp(-1, 1)

    return Baseline(net, batch_loss, sample)


def lucidrains(net: nn.Module, shape: Shape) -> Baseline:
    """denoising-diffusion-pytorch's GaussianDiffusion with its defaults: sigmoid betas, v; its DDIM."""
    lib = peer("denoising-diffusion-pytorch")
    whole = lib.GaussianDiffusion(net, image_size=shape[1], auto_normalize=False, sampling_timesteps=20)
    whole.to(next(net.parameters()).device)

    def sample(n: int, calls: int) -> Tensor:
        whole.sampling_timesteps = calls
        return whole.sample(n).clone()

    return Baseline(net, whole, sample)


def smalldiffusion(net: nn.Module, shape: Shape) -> Baseline:
    """smalldiffusion's log-linear sigmas and noise prediction, as in its UNet example; its accelerated sampler."""
    lib = peer("smalldiffusion")
    schedule = lib.ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)

    def batch_loss(x0: Tensor) -> Tensor:
        x0, sigma, eps, _ = lib.generate_train_sample(x0, schedule)
        return type(net).get_loss(net, x0, sigma, eps)

    @torch.no_grad()
    def sample(n: int, calls: int) -> Tensor:
        from accelerate import Accelerator

        *_, x = lib.samples(net, schedule.sample_sigmas(calls), gam=1.6, batchsize=n, accelerator=Accelerator(cpu=True))
        return x.clamp(-1, 1)

    return Baseline(net, batch_loss, sample)


MAKERS = {
    "ours": ours, "diffusers": diffusers, "denoising-diffusion-pytorch": lucidrains, "smalldiffusion": smalldiffusion,
}  # fmt: skip


def matched(name: str, shape: Shape) -> nn.Module:
    """Networks of about 0.65 M parameters, two levels, one block a level and attention at the bottom."""
    channels, side = shape
    if name == "ours":
        return UNet(channels=channels, widths=(32, 64))
    lib = peer(name)
    if name == "diffusers":
        return lib.UNet2DModel(
            sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, norm_num_groups=8,
            block_out_channels=(32, 64), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        )  # fmt: skip
    if name == "denoising-diffusion-pytorch":
        return lib.Unet(28, dim_mults=(1, 2), channels=channels)
    return lib.Scaled(lib.Unet)(
        side, channels, channels, ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(), dropout=0.0
    )


def stock(name: str, shape: Shape) -> nn.Module:
    """The network that each project's first example builds, as far as pictures of 28x28 allow."""
    channels, side = shape
    if name == "ours":
        return UNet(channels=channels, widths=(32, 64), patch_size=2)
    lib = peer(name)
    if name == "diffusers":  # the first three levels of six, and the one before the last with attention
        return lib.UNet2DModel(
            sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=2,
            block_out_channels=(128, 128, 256), down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
    if name == "denoising-diffusion-pytorch":
        return lib.Unet(64, dim_mults=(1, 2, 4), channels=channels)  # 28 is halved twice, not three times
    return lib.Scaled(lib.Unet)(side, channels, channels, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(side // 2,))


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def our_step(net: nn.Module, data: Tensor, batch: int) -> Callable[[], object]:
    """A function that makes one step of training.train, with its defaults, running average included."""
    # of more steps the first are so short that numbers become denormal, which processors multiply many times slower
    steps = train(Denoiser(net, Cosine(), "v"), data, 10_000, batch=batch, device=data.device)
    return lambda: next(steps)


def peer_step(name: str, net: nn.Module, data: Tensor, batch: int, nhwc: bool, bf16: bool) -> Callable[[], object]:
    """A function that makes one step of a peer: its loss, fused AdamW, no running average (which spares it that)."""
    layout = torch.channels_last if nhwc else torch.contiguous_format
    net = copy.deepcopy(net).to(data.device, memory_format=layout).train()
    baseline = MAKERS[name](net, (data.shape[1], data.shape[2]))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        x0 = data[torch.randint(len(data), (batch,), device=data.device)].contiguous(memory_format=layout)
        with torch.autocast(data.device.type, torch.bfloat16) if bf16 else nullcontext():
            value = baseline.loss(x0)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step
