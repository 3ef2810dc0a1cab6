"""The recipes on digits: the classifiers that measure them, and the model of chapter 00."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import checkpoints, devices
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.metrics import nn_distance_ratio
from learn_diffusion.nets import Classifier, UNet
from learn_diffusion.recipes.classifiers import fit
from learn_diffusion.recipes.evaluation import (
    accuracy,
    confident_share,
    digit_floor,
    digit_quality,
    digits_of,
    mnist_scores,
    prompt_accuracy,
)
from learn_diffusion.recipes.pretrained import pretrained_path
from learn_diffusion.recipes.transforms import downsample, random_warp
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
    net = checkpoints.to_fp16(net.cpu())  # what comes back from the file
    metrics = {"held_out_accuracy": accuracy(net, *small_digits("held_out"))}
    about = {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed}
    return net, {**about, "metrics": metrics, "half": True}


def mnist_classifier(
    steps: int = 2000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """A classifier of MNIST's digits at 28x28; its features measure every distance on them.

    Minutes long, and not resumed where it was killed: work stays unused.
    """
    return _mnist_classifier(28, steps, seed, device)


def mnist_classifier_14(
    steps: int = 2000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """The same at 14x14, with the same features but for the weights: its distances are others.

    Minutes long, and not resumed where it was killed: work stays unused.
    """
    return _mnist_classifier(14, steps, seed, device)


def _mnist_classifier(
    side: int, steps: int, seed: int, device: str | torch.device | None
) -> tuple[Classifier, dict[str, Any]]:
    """Trained on 4000 digits, each warped anew whenever it is shown, with a little noise."""
    torch.manual_seed(seed)
    device = devices.resolve_device(device)
    g = torch.Generator(device).manual_seed(seed)
    images, labels = (part.to(device) for part in mnist_sample("train"))
    net = Classifier(side=side, pools=2 if side == 28 else 1)
    net = net.to(device, memory_format=torch.channels_last)  # at 28x28 a third quicker than without

    def loss(rows: Tensor) -> Tensor:
        x = random_warp(images[rows], g)
        x = x if side == 28 else downsample(x)
        return F.cross_entropy(net(x + 0.1 * torch.randn(x.shape, generator=g, device=device)), labels[rows])

    fit(loss, net, len(images), steps, 2e-3, g)
    data = digits_of(net)
    net.cpu().eval().calibrate(data("train")[0])
    net = checkpoints.to_fp16(net)  # what comes back from the file
    unseen, truth = data("held_out")
    floor = digit_floor(net, each=100)
    metrics = {
        "held_out_accuracy": accuracy(net, unseen, truth), "held_out_confident": confident_share(net, unseen),
        "floor": floor.value, "floor_std": floor.error,
    }  # fmt: skip
    about = {"data": "mnist_sample train", "data_shape": [1, side, side], "steps": steps, "seed": seed}
    return net, {**about, "metrics": metrics, "half": True}


def digits_by_label(
    steps: int = 4000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The 8x8 digits of chapter A: draws any of the ten digits on request, or one of its own choice."""
    torch.manual_seed(seed)
    images, labels = small_digits("train")
    untrained = Denoiser(UNet(widths=(32, 64), classes=10), Cosine(), "v")
    *_, end = train(
        untrained, images, steps, labels=labels, optimizer="adamw",
        seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    model = checkpoints.to_fp16(end.ema.cpu())
    classifier, _ = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
    wanted = torch.arange(500) % 10
    metrics = digit_quality(lambda x, t: model(x, t, wanted), model.schedule, classifier)
    metrics["prompt_accuracy"] = prompt_accuracy(model, classifier)
    about = {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed}
    return model, {**about, "metrics": metrics, "half": True}


def mnist_by_label(
    steps: int = 12_000, seed: int = 0, device: str | torch.device | None = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """Draws MNIST's digits at 28x28: any of the ten on request, or one of its own choice."""
    torch.manual_seed(seed)
    images, labels = mnist_sample("train")
    untrained = Denoiser(UNet(widths=(32, 64), patch_size=2, classes=10), Cosine(), "x0")
    *_, end = train(
        untrained, images, steps, labels=labels,
        batch=32, lr=1e-3, cond_drop=0.2,
        seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    model = checkpoints.to_fp16(end.ema.cpu())  # what comes back from the file
    classifier, _ = checkpoints.load(pretrained_path("mnist_classifier"), "cpu")
    found = mnist_scores(model, classifier, wanted=torch.arange(1000) % 10)
    free = mnist_scores(model, classifier)
    floor = digit_floor(classifier, each=100)
    metrics = {
        "frechet": found.frechet.value, "frechet_std": found.frechet.error,
        "frechet_without_label": free.frechet.value, "frechet_without_label_std": free.frechet.error,
        "floor": floor.value, "floor_std": floor.error,
        "confident": found.confident.value, "prompt_accuracy": found.obeyed.value,
        "nn_distance_ratio": nn_distance_ratio(found.pictures, images, mnist_sample("held_out")[0]),
    }  # fmt: skip
    about = {"data": "mnist_sample train", "data_shape": [1, 28, 28], "steps": steps, "seed": seed}
    return model, {**about, "metrics": metrics, "half": True}
