"""The recipes of latent diffusion: an autoencoder of scenes at 64x64, and a model that draws its codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import trange

from learn_diffusion import checkpoints, devices, optim
from learn_diffusion.datasets.scenes import draw_scenes, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import VAE, UNet
from learn_diffusion.recipes.evaluation import encode, reconstruction_quality, scene_quality
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import lr_at_step, train

SIDE = 64
# Between two that were tried, one short training each (about 180 steps): 1e-3 had 20.3 dB, 1e-2 had 19.9 dB.
KL_WEIGHT = 3e-3


def edge_loss(x: Tensor, y: Tensor) -> Tensor:
    """How far the steps from pixel to pixel of pictures x and y (B, C, H, W) are apart, mean of absolute values, ().

    Blur costs little pixel by pixel; this is the price of blurred edges.
    """
    return F.l1_loss(x.diff(dim=3), y.diff(dim=3)) + F.l1_loss(x.diff(dim=2), y.diff(dim=2))


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """The errors of pictures y (B, C, H, W) that should be x, of single pixels and of edges, ()."""
    return F.l1_loss(y, x) + edge_loss(y, x)


def vae_loss(vae: VAE, x: Tensor, generator: torch.Generator, kl_weight: float = KL_WEIGHT) -> Tensor:
    """What an autoencoder is trained by, on pictures x (B, C, H, W): its errors, and what its codes say, ()."""
    y, code = vae(x, generator)
    return reconstruction_loss(y, x) + kl_weight * code.kl().mean()


def decoder_loss(vae: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
    """What a decoder is trained by once the codes are fixed: its errors on pictures x (B, C, H, W), ()."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=devices.use_bf16(x.device, x.shape[-1])):
        y, _ = vae(x, generator)
    return reconstruction_loss(y.float(), x)


def train_vae(
    vae: VAE, images: Tensor, steps: int, loss: Callable[[VAE, Tensor, torch.Generator], Tensor] = vae_loss,
    batch: int = 8, lr: float = 2e-3, seed: int = 0, progress: bool = False,
) -> VAE:  # fmt: skip
    """The same autoencoder, trained on pictures (N, C, H, W) and their mirror images, and put into mode eval.

    images  on the device of the autoencoder
    loss    (vae, x (batch, C, H, W), generator of that device) -> (), what is minimised
    """
    device = images.device
    g, optimizers = torch.Generator(device).manual_seed(seed), optim.optimizers(vae, lr=lr)
    for step in trange(1, steps + 1, desc="VAE", disable=not progress):
        x = images[torch.randint(len(images), (batch,), generator=g, device=device)]
        flip = torch.rand(len(x), 1, 1, 1, generator=g, device=device) < 0.5
        value = loss(vae, torch.where(flip, x.flip(3), x), g)
        vae.zero_grad()
        value.backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr_at_step(step, steps, optimizer.defaults["lr"])
            optimizer.step()
    return vae.eval()


def scene_autoencoder(
    steps: int = 4500, more: int = 12_000, seed: int = 0, device: str | torch.device | None = None,
    work: Path | None = None,
) -> tuple[VAE, dict[str, Any]]:  # fmt: skip
    """An autoencoder of scenes at 64x64, to codes of 4x16x16 and back. Not resumed: work stays unused.

    The decoder is then trained alone for `more` steps. The codes stay as they are, so no model
    that draws them has to be trained again.
    """
    torch.manual_seed(seed)
    devices.disable_malloc_trim()
    device = devices.resolve_device(device)
    images = draw_scenes(12_000, seed=seed, hold_out=True, progress=True, side=SIDE).images.to(device)
    vae = train_vae(VAE().to(device), images, steps, seed=seed, progress=True)
    vae.standardise(images[:1000])
    vae.encoder.requires_grad_(False)
    train_vae(vae, images, more, decoder_loss, lr=1e-3, seed=seed + 1, progress=True)
    vae = checkpoints.to_fp16(vae.cpu())  # what comes back from the file
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    metadata = {"data": "scenes, hold_out=True", "data_shape": [3, SIDE, SIDE], "steps": [steps, more]}
    return vae, {**metadata, "seed": seed, "metrics": reconstruction_quality(vae, classifier), "half": True}


def latent_scenes_by_caption(
    steps: int = 8000, more: int = 3500, seed: int = 0, device: str | torch.device | None = None,
    work: Path | None = None,
) -> tuple[Denoiser, dict[str, Any]]:  # fmt: skip
    """Draws the code of a scene at 64x64 from a caption; scene_autoencoder decodes it.

    Its text encoder is that of scenes_by_caption, frozen: it has read captions of seen combinations only.
    """
    torch.manual_seed(seed)
    devices.disable_malloc_trim()
    vae, _ = checkpoints.load(pretrained_path("scene_autoencoder"), "cpu")
    net = UNet(channels=4, widths=(64, 128), blocks=(1, 1), attentions=3, words=vocabulary())
    net.text = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")[0].net.text.requires_grad_(False)
    model = train_on_codes(Denoiser(net, Cosine(), "x0"), vae, (steps, more), seed, device, work)
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    metadata = {"data": "codes of scenes, hold_out=True", "data_shape": [4, 16, 16], "steps": [steps, more]}
    metadata |= {"seed": seed, "autoencoder": "scene_autoencoder"}
    return model, {**metadata, "metrics": scene_quality(model, classifier, vae=vae), "half": True}


def train_on_codes(
    model: Denoiser, vae: VAE, rounds: Sequence[int], seed: int, device: str | torch.device | None, work: Path | None
) -> Denoiser:
    """model, trained to draw the codes of vae from captions: rounds of so many steps.

    Each round has 24,000 scenes of its own and begins with the average weights of the one before, as their file would
    hold them; the second has half the learning rate, and so on. What work is for the first, a file beside it is for
    each further round.
    """
    files = [work and work.with_name(f"{work.name}{i or ''}") for i in range(len(rounds))]
    if work and not work.exists():  # begun anew: what later rounds left belongs to another training
        for file in files[1:]:
            file.unlink(missing_ok=True)
    for i, (steps, file) in enumerate(zip(rounds, files, strict=True)):
        codes, captions = scene_codes(vae, 24_000, seed + i)
        *_, end = train(
            model, codes, steps, labels=model.net.text.tokenise(captions), batch=40, lr=2e-3 / (1 + i), seed=seed + i,
            device=device, checkpoint=file, progress=True,
        )  # fmt: skip
        model.load_state_dict(checkpoints.to_fp16(end.ema.cpu()).state_dict())
    return model.cpu().eval()


def scene_codes(vae: VAE, n: int, seed: int) -> tuple[Tensor, list[str]]:
    """Codes (2 n, latent, 16, 16) of n scenes and then of their mirror images, hold_out=True, and their captions, which
    know no left and right. Drawn in parts of 1000, with seeds of their own: the pictures never are in memory at once.
    """
    parts, captions = [], []
    for first in trange(0, n, 1000, desc="encoding scenes"):
        images, said, _ = draw_scenes(min(1000, n - first), seed=seed + first, side=SIDE)
        parts.append([encode(vae, images), encode(vae, images.flip(3))])
        captions += said
    return torch.cat([torch.cat(side) for side in zip(*parts, strict=True)]), 2 * captions
