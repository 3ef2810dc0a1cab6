"""The recipe of a small Stable Diffusion, in the parts of diffusers and transformers, which it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import trange

from learn_diffusion import checkpoints, devices
from learn_diffusion.datasets.scenes import draw_scenes, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import VAE
from learn_diffusion.recipes.evaluation import all_features, reconstruction_quality, scene_quality
from learn_diffusion.recipes.latents import SIDE, reconstruction_loss, train_on_codes, train_vae
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import downsample
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import lr_at_step

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from learn_diffusion.pipelines import CLIPText

TEMPERATURE = 0.1  # of the similarities of captions and pictures


class _SameCodes(nn.Module):
    """The loss by which an autoencoder of diffusers learns the codes of ours: its encoder to give them, its decoder to
    read them. They are known, so it needs no price on codes, and is done in a fraction of the time."""

    def __init__(self, ours: VAE):
        super().__init__()
        self.ours = ours.requires_grad_(False)

    def forward(self, theirs: AutoencoderKL, x: Tensor, generator: torch.Generator) -> Tensor:
        scale, bf16 = self.ours.scale, devices.use_bf16(x.device, x.shape[-1])
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            code = self.ours.encode(x).sample(generator).float()
            mean = theirs.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean.float()
            y = theirs.decode(code / scale).sample.float()
        return reconstruction_loss(y, x) + F.mse_loss(scale * mean, code)


def no_spread(vae: AutoencoderKL) -> None:
    """Let the encoder be sure of its mean: the variance was never trained, and a pipeline that reads a picture draws
    from it."""
    with torch.no_grad():
        last, n = vae.encoder.conv_out, vae.config.latent_channels
        last.weight[n:], last.bias[n:] = 0, -30  # the logarithm of the variance


def train_clip(
    text: CLIPText, features: Tensor, captions: Sequence[str], steps: int = 1500, batch: int = 256, lr: float = 1e-3,
    seed: int = 0,
) -> None:  # fmt: skip
    """Teach a text encoder which caption belongs to which picture, as CLIP (Radford et al. 2021): in a batch, the last
    word's features should be most like those of their own picture, and the other way round.

    features  (N, D) of the pictures, on the device of the encoder
    """
    device = features.device
    g, tokens = torch.Generator(device).manual_seed(seed), text.tokenise(captions).to(device)
    features = (features - features.mean(0)) / features.std(0)
    ends = (tokens == text.tokenizer.eos_token_id).int().argmax(1)  # the first of them: it has seen all the words
    sides = nn.ModuleList([nn.Linear(text.encoder.config.hidden_size, 64), nn.Linear(features.shape[1], 64)]).to(device)
    optimizer = torch.optim.AdamW([*text.parameters(), *sides.parameters()], lr, betas=(0.9, 0.99))
    target = torch.arange(batch, device=device)
    for step in trange(1, steps + 1, desc="CLIP"):
        rows = torch.randint(len(tokens), (batch,), generator=g, device=device)
        said = text(tokens[rows])[target, ends[rows]]
        a, b = (F.normalize(side(x), dim=1) for side, x in zip(sides, (said, features[rows]), strict=True))
        alike = a @ b.T / TEMPERATURE
        optimizer.zero_grad()
        (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)).backward()
        for group in optimizer.param_groups:
            group["lr"] = lr_at_step(step, steps, lr)
        optimizer.step()


def stable_scenes(
    steps: int = 7000, more: int = 5000, seed: int = 0, device: str | torch.device | None = None,
    work: Path | None = None,
) -> tuple[Denoiser, dict[str, Any]]:  # fmt: skip
    """A small Stable Diffusion of scenes at 64x64: `learn-diffusion export` makes a pipeline of diffusers from it.

    Three trainings, one after the other, each on what is trained already: a text encoder, as CLIP, on captions and
    pictures of seen combinations; an autoencoder, which learns the codes of scene_autoencoder; the UNet. Resumed from
    work, the first two are trained again.
    """
    from learn_diffusion.pipelines import StableDiffusion

    torch.manual_seed(seed)
    devices.disable_malloc_trim()
    device = devices.resolve_device(device)
    ours, _ = checkpoints.load(pretrained_path("scene_autoencoder"), device)
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), device)
    net = StableDiffusion(vocabulary(), scaling_factor=ours.scale.item()).to(device)
    images, captions, _ = draw_scenes(12_000, seed=seed, hold_out=True, progress=True, side=SIDE)
    images = images.to(device)
    with torch.no_grad():
        features = torch.cat([all_features(classifier, downsample(part)) for part in images.split(100)])
    train_clip(net.text, features, captions, seed=seed)
    train_vae(net.vae, images, 4000, loss=_SameCodes(ours), seed=seed, progress=True)
    no_spread(net.vae)
    for part in (net.text, net.vae):
        part.requires_grad_(False)
    model = train_on_codes(Denoiser(net, Cosine(), "x0"), ours.cpu(), (steps, more), seed, device, work)
    return model, about(model, [steps, more], seed)


def about(model: Denoiser, steps: list[int], seed: int) -> dict[str, Any]:
    """What its header says."""
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    vae = model.net.autoencoder
    metrics = scene_quality(model, classifier, vae=vae) | reconstruction_quality(vae, classifier)
    metadata = {"data": "codes of scenes, hold_out=True", "data_shape": [4, 16, 16], "steps": steps, "seed": seed}
    return {**metadata, "metrics": metrics, "half": True}
