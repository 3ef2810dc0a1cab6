"""The recipes on products: the classifier that measures them, text to image, and the upscaler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.products import ATTRIBUTES, Shot, canonical_caption, draw_products, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import AttributeClassifier, UNet
from learn_diffusion.recipes.classifiers import train_attribute_classifier
from learn_diffusion.recipes.evaluation import CLASSIFIER_SEEDS, GUIDANCE_SCALE, attribute_accuracy, upscaled
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import detail_of, downsample, upsample_bicubic, upsample_nearest
from learn_diffusion.schedules import EDM
from learn_diffusion.training import train


def product_classifier(
    steps: int = 1500, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[AttributeClassifier, dict[str, Any]]:
    """A classifier of product pictures: product, colour and backdrop, at 64x64 or upsampled from 32x32 (chapter 18).

    Minutes long: work stays unused.
    """
    data, unseen = (
        draw_products(12_000, seed=CLASSIFIER_SEEDS[0], progress=True),
        draw_products(2_000, CLASSIFIER_SEEDS[1]),
    )
    net, metadata = train_attribute_classifier(data, unseen, ATTRIBUTES, steps, seed, device)
    return net, {"data": "products", **metadata}


def products_by_caption(
    steps: int = 2000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The model of chapter 18: draws a product from a caption, 32x32; scenes_by_caption, fine-tuned on products."""
    torch.manual_seed(seed)
    base, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    net = UNet(**base.net.config | {"words": vocabulary()})
    new = net.state_dict()
    old = {name: value for name, value in base.net.state_dict().items() if value.shape == new[name].shape}
    net.load_state_dict(new | old)  # all but the vocabulary
    data = draw_products(24_000, seed=seed, progress=True)
    *_, end = train(
        Denoiser(net, base.schedule, base.target), downsample(data.images), steps,
        labels=net.text.tokenise(data.captions),
        batch=40, lr=1e-3, optimizer="adamw", seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    model = checkpoints.to_fp16(end.ema.cpu())
    classifier, _ = checkpoints.load(pretrained_path("product_classifier"), "cpu")
    wanted = draw_products(500, seed=CLASSIFIER_SEEDS[1]).attributes
    y = net.text.tokenise([canonical_caption(Shot.of(row)) for row in wanted.tolist()])
    images = sampling.sample(model, (500, 3, 32, 32), y, GUIDANCE_SCALE, steps=15, seed=1)
    each, together = attribute_accuracy(classifier, upsample_nearest(images), wanted, ATTRIBUTES)
    metadata = {"data": "products at 32x32", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return model, {**metadata, "metrics": {"prompt_accuracy": {**each, "all": together}}, "half": True}


def product_upscaler(
    steps: int = 1500, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The upscaler of chapter 18: draws what interpolation from 16x16 to 64x64 lacks, the detail."""
    torch.manual_seed(seed)
    images = draw_products(16_000, seed=seed, progress=True).images
    small = downsample(downsample(images))
    net = UNet(channels=3, widths=(64, 96), patch_size=4, attentions=0, cond_channels=3)
    schedule = EDM(sigma_min=0.01, sigma_max=10.0, sigma_data=0.22)  # detail is fainter than pictures
    # asked for the noise, so few channels cannot carry it through (chapter 16), and pictures come out grainy
    *_, end = train(
        Denoiser(net, schedule, "x0"), detail_of(images, small), steps, image_cond=upsample_bicubic(small),
        batch=24, optimizer="adamw", seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    upscaler = checkpoints.to_fp16(end.ema.cpu())
    real = draw_products(200, seed=CLASSIFIER_SEEDS[1]).images
    small = downsample(downsample(real))
    metrics = {
        "mse": F.mse_loss(upscaled(upscaler, small, seed=1), real).item(),
        "mse_bicubic": F.mse_loss(upsample_bicubic(small), real).item(),
    }
    metadata = {"data": "products", "data_shape": [3, 64, 64], "steps": steps, "seed": seed}
    return upscaler, {**metadata, "metrics": metrics, "half": True}
