"""The recipes on scenes: the classifier that measures them, text to image, and inpainting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from learn_diffusion import checkpoints
from learn_diffusion.datasets.scenes import ATTRIBUTES, draw_scenes, vocabulary
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import AttributeClassifier, UNet
from learn_diffusion.recipes.classifiers import train_attribute_classifier
from learn_diffusion.recipes.evaluation import (
    CLASSIFIER_SEEDS,
    attribute_accuracy,
    inpaint,
    inpainting_tasks,
    scene_quality,
    scene_tokens,
)
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import random_mask_cond
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train


def scene_classifier(
    steps: int = 2500, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[AttributeClassifier, dict[str, Any]]:
    """A classifier of scenes: subject, accessory, place and colour; its features measure every distance on scenes.

    It learns all combinations, held-out ones too. Minutes long: work stays unused.
    """
    data = draw_scenes(24_000, seed=CLASSIFIER_SEEDS[0], hold_out=False, progress=True)
    unseen = draw_scenes(4_000, seed=CLASSIFIER_SEEDS[1], hold_out=False)
    net, metadata = train_attribute_classifier(data, unseen, ATTRIBUTES, steps, seed, device)
    return net, {"data": "scenes, all combinations", **metadata}


def scenes_by_caption(
    steps: int = 6500, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The model of chapter 12: draws a scene from a caption, combinations among them that it never saw."""
    torch.manual_seed(seed)
    data = draw_scenes(64_000, seed=seed, hold_out=True, progress=True)
    net = UNet(channels=3, widths=(48, 112), blocks=(1, 0), patch_size=2, attentions=3, words=vocabulary())
    *_, end = train(
        Denoiser(net, Cosine(), "v"), data.images, steps, labels=net.text.tokenise(data.captions),
        batch=40, optimizer="adamw", seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    model = checkpoints.to_fp16(end.ema.cpu())  # what comes back from the file
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    metadata = {"data": "scenes, hold_out=True", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return model, {**metadata, "metrics": scene_quality(model, classifier), "half": True}


def scenes_by_mask(
    steps: int = 1000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The inpainting model of chapter 13: scenes_by_caption, fine-tuned with the known part of the picture as input."""
    torch.manual_seed(seed)
    base, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    net = UNet(**base.net.config | {"cond_channels": 4})
    old, new = base.net.state_dict(), net.state_dict()
    first = torch.zeros_like(new["conv_in.weight"])  # the new channels change nothing at first
    first[:, : old["conv_in.weight"].shape[1]] = old["conv_in.weight"]
    net.load_state_dict(old | {"conv_in.weight": first})
    data = draw_scenes(24_000, seed=seed, hold_out=True, progress=True)
    *_, end = train(
        Denoiser(net, base.schedule, base.target), data.images, steps,
        labels=net.text.tokenise(data.captions), image_cond=random_mask_cond,
        batch=40, lr=1e-3, optimizer="adamw", seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    model = checkpoints.to_fp16(end.ema.cpu())
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    known, wanted, mask = inpainting_tasks(500, seed=1)
    filled = inpaint(model, known, mask, scene_tokens(model, wanted), seed=1)
    truth = torch.tensor([scene.indices() for scene in wanted])
    each, together = attribute_accuracy(classifier, filled, truth, ATTRIBUTES)
    metadata = {"data": "scenes, hold_out=True", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return model, {**metadata, "metrics": {"repaired": {**each, "all": together}}, "half": True}
