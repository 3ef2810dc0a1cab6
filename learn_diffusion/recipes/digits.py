"""The recipes on digits: the classifier that measures them, and the model of chapter 00."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import checkpoints, devices
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import Classifier, UNet
from learn_diffusion.recipes.classifiers import fit
from learn_diffusion.recipes.evaluation import accuracy, digit_quality, prompt_accuracy
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.schedules import Cosine
from learn_diffusion.training import train


def digit_classifier(
    steps: int = 1000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """A classifier of digits; its features measure every distance on digits.

    Seconds long: work stays unused.
    """
    torch.manual_seed(seed)
    device = devices.resolve_device(device)
    g = torch.Generator(device).manual_seed(seed)
    images, labels = (part.to(device) for part in small_digits("train"))
    net = Classifier().to(device)

    def loss(rows: Tensor) -> Tensor:
        noisy = images[rows] + 0.1 * torch.randn(len(rows), *images.shape[1:], generator=g, device=device)
        return F.cross_entropy(net(noisy), labels[rows])

    fit(loss, net, len(images), steps, 1e-3, g)
    net.eval().calibrate(images)
    metrics = {"held_out_accuracy": accuracy(net.cpu(), *small_digits("held_out"))}
    return net, {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": metrics}


def digits_by_label(
    steps: int = 4000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The model of chapter 00: draws any of the ten digits on request, or one of its own choice."""
    torch.manual_seed(seed)
    images, labels = small_digits("train")
    untrained = Denoiser(UNet(widths=(32, 64), classes=10), Cosine(), "v")
    *_, end = train(untrained, images, steps, labels=labels, seed=seed, device=device, checkpoint=work, progress=True)
    model = end.ema.cpu()
    classifier, _ = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
    wanted = torch.arange(500) % 10
    metrics = digit_quality(lambda x, t: model(x, t, wanted), model.schedule, classifier)
    metrics["prompt_accuracy"] = prompt_accuracy(model, classifier)
    return model, {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": metrics}
