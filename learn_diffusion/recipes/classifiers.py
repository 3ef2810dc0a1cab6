"""The training loop of the classifiers that measure what models draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import trange

from learn_diffusion import checkpoints, devices
from learn_diffusion.datasets.products import Products
from learn_diffusion.datasets.scenes import Scenes
from learn_diffusion.nets import AttributeClassifier, NoisyClassifier
from learn_diffusion.process import randn_like
from learn_diffusion.recipes.evaluation import attribute_accuracy
from learn_diffusion.recipes.transforms import downsample, upsample_nearest
from learn_diffusion.schedules import Schedule


def fit(loss: Callable[[Tensor], Tensor], net: nn.Module, n: int, steps: int, lr: float, g: torch.Generator) -> None:
    """Train net: loss(rows) is its loss on 64 rows of n, drawn from g; the learning rate anneals to 0."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05, fused=True)
    anneal = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in trange(steps, desc=type(net).__name__):
        value = loss(torch.randint(n, (64,), generator=g, device=g.device))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        anneal.step()


def train_noisy_classifier(
    images: Tensor, labels: Tensor, schedule: Schedule, steps: int = 1000, seed: int = 0
) -> Callable[[Tensor, Tensor], Tensor]:
    """A classifier of noised pictures: (x_t (B, 1, H, W), t () or (B,)) -> log p(y | x_t), (B, 10).

    Trained at every level of the schedule; seconds long for digits.
    """
    torch.manual_seed(seed)
    net, g = NoisyClassifier(side=images.shape[-1]).to(images.device), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05, fused=True)
    for step in range(steps):
        rows = torch.randint(len(images), (128,), generator=g)
        t = schedule.time_at(torch.rand(128, generator=g)).to(images.device)
        xt = schedule.add_noise(images[rows], randn_like(images[rows], g), t)
        loss = F.nll_loss(net(xt, schedule.logsnr(t)), labels[rows].to(images.device))
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return lambda x, t: net(x, schedule.logsnr(torch.as_tensor(t)))


def train_attribute_classifier(
    data: Scenes | Products, unseen: Scenes | Products, attributes: Mapping[str, Sequence[str]],
    steps: int, seed: int, device: str | torch.device | None,
) -> tuple[AttributeClassifier, dict[str, Any]]:  # fmt: skip
    """A classifier of these attributes, and its recipe's header, measured on unseen pictures.

    It learns from pictures with a little noise, half of them at half the side and upsampled again: it shall read what a
    model draws, at either size. Minutes long, and not resumed where it was killed.
    """
    torch.manual_seed(seed)
    device = devices.resolve_device(device)
    g = torch.Generator(device).manual_seed(seed)
    images, truth = data.images.to(device), data.attributes.to(device)
    side = images.shape[-1]
    net = AttributeClassifier([len(values) for values in attributes.values()], side=side).to(device)

    def loss(rows: Tensor) -> Tensor:
        x = images[rows]
        small = torch.rand(len(rows), 1, 1, 1, generator=g, device=device) < 0.5
        level = 0.3 * torch.rand(len(rows), 1, 1, 1, generator=g, device=device)
        x = torch.where(small, upsample_nearest(downsample(x)), x)
        x = x + level * torch.randn(x.shape, generator=g, device=device)
        return sum(F.cross_entropy(scores, truth[rows, i]) for i, scores in enumerate(net(x)))

    fit(loss, net, len(images), steps, 2e-3, g)
    net = checkpoints.to_fp16(net.eval().cpu())  # what comes back from the file
    small = upsample_nearest(downsample(unseen.images))
    metrics = {
        "held_out_accuracy": attribute_accuracy(net, unseen.images, unseen.attributes, attributes)[1],
        f"held_out_accuracy_{side // 2}x{side // 2}": attribute_accuracy(net, small, unseen.attributes, attributes)[1],
    }
    return net, {"data_shape": [3, side, side], "steps": steps, "seed": seed, "metrics": metrics, "half": True}
