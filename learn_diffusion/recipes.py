"""The trainings behind every file in data/: `learn-diffusion train NAME` makes data/NAME.safetensors again.

A recipe is a plain function that trains a model, measures it, and returns (model, about): about goes into the header of
the file. Its first line says what it makes. Every recipe takes the same four arguments, all with a default:

    steps   optimiser steps
    seed    of everything random in it
    device  where to train, see devices.resolve_device
    work    a file for training.train's checkpoint, so that a killed run goes on; None keeps nothing

`runs.make` runs one: it adds up the time, writes the file, and takes the work file away.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import trange

from learn_diffusion import checkpoints, devices, race, sampling
from learn_diffusion.datasets import digits, labelled_scenes, products
from learn_diffusion.datasets.products import ATTRIBUTES as PRODUCT_ATTRIBUTES
from learn_diffusion.datasets.products import Shot
from learn_diffusion.datasets.products import canonical_caption as product_caption
from learn_diffusion.datasets.products import vocabulary as product_words
from learn_diffusion.datasets.scenes import ATTRIBUTES, Scene, all_scenes, canonical_caption, draw, split_of, vocabulary
from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.editing import ddnm
from learn_diffusion.guidance import cfg, clip_x0
from learn_diffusion.metrics import AllMetrics, all_metrics, frechet, nn_distance_ratio
from learn_diffusion.nets import AttributeClassifier, Classifier, UNet
from learn_diffusion.process import Denoise
from learn_diffusion.samplers import ddim
from learn_diffusion.schedules import EDM, Cosine, Schedule
from learn_diffusion.training import train

DATA = Path(__file__).resolve().parent.parent / "data"

# Seeds of pictures that no training draws: the training of scenes_by_caption has the seed 0
JUDGE_SEEDS = (1_000_001, 1_000_002)
REAL_SEEDS = 2_000_000
SCALE = 2.0  # of guidance, wherever prompt accuracy is measured: fixed before the first model was trained

Device = str | torch.device | None


def pretrained_path(name: str) -> Path:
    """The file of a recipe, data/NAME.safetensors. Raises FileNotFoundError that says how to make it."""
    path = DATA / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `learn-diffusion train {name}` trains it")
    return path


def digit_classifier(
    steps: int = 1000, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Classifier, dict[str, Any]]:
    """A classifier of digits; its features are the ruler of every distance measured on digits.

    Seconds long: a killed run starts again, and work stays unused.
    """
    torch.manual_seed(seed)
    device = devices.resolve_device(device)
    g = torch.Generator(device).manual_seed(seed)
    images, labels = (part.to(device) for part in digits("train"))
    net = Classifier().to(device)

    def error(rows: Tensor) -> Tensor:
        noisy = images[rows] + 0.1 * torch.randn(len(rows), *images.shape[1:], generator=g, device=device)
        return F.cross_entropy(net(noisy), labels[rows])

    _fit(net, error, len(images), steps, 1e-3, g)
    net.eval().calibrate(images)
    metrics = {"held_out_accuracy": accuracy(net.cpu(), *digits("held_out"))}
    return net, {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": metrics}


def digits_by_label(
    steps: int = 4000, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The painter of chapter 00: draws any of the ten digits on request, or one of its own choice."""
    torch.manual_seed(seed)
    images, labels = digits("train")
    model = Denoiser(UNet(widths=(32, 64), classes=10), Cosine(), "v")
    *_, end = train(model, images, steps, labels=labels, seed=seed, device=device, checkpoint=work, progress=True)
    painter = end.ema.cpu()
    reader, _ = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
    wanted = torch.arange(500) % 10
    metrics = digit_quality(lambda x, t: painter(x, t, wanted), painter.schedule, reader)
    metrics["prompt_accuracy"] = prompt_accuracy(painter, reader)
    return painter, {"data": "digits train", "data_shape": [1, 8, 8], "steps": steps, "seed": seed, "metrics": metrics}


def scene_classifier(
    steps: int = 2500, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[AttributeClassifier, dict[str, Any]]:
    """A reader of scenes: subject, accessory, place and colour; its features are the ruler of distances on scenes.

    It learns all combinations, held-out ones too, from pictures with a little noise, half of them at 16x16 blown up: it
    shall read what a model draws, at either size. Minutes long: a killed run starts again, and work stays unused.
    """
    torch.manual_seed(seed)
    device = devices.resolve_device(device)
    g = torch.Generator(device).manual_seed(seed)
    drawn = labelled_scenes(24_000, seed=JUDGE_SEEDS[0], hold_out=False, progress=True)
    images, truth = drawn.images.to(device), drawn.attributes.to(device)
    net = AttributeClassifier([len(values) for values in ATTRIBUTES.values()]).to(device)

    def error(rows: Tensor) -> Tensor:
        x = images[rows]
        small = torch.rand(len(rows), 1, 1, 1, generator=g, device=device) < 0.5
        level = 0.3 * torch.rand(len(rows), 1, 1, 1, generator=g, device=device)
        x = torch.where(small, upsample_nearest(downsample(x)), x) + level * torch.randn(
            x.shape, generator=g, device=device
        )
        return sum(F.cross_entropy(scores, truth[rows, i]) for i, scores in enumerate(net(x)))

    _fit(net, error, len(images), steps, 2e-3, g)
    net = checkpoints.to_fp16(net.eval().cpu())  # what comes back from the file
    unseen = labelled_scenes(4_000, seed=JUDGE_SEEDS[1], hold_out=False)
    metrics = {
        "held_out_accuracy": right(net, unseen.images, unseen.attributes)[1],
        "held_out_accuracy_16x16": right(net, upsample_nearest(downsample(unseen.images)), unseen.attributes)[1],
    }
    metadata = {"data": "scenes, all combinations", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return net, {**metadata, "metrics": metrics, "half": True}


def scenes_by_caption(
    steps: int = 6500, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The painter of chapter 12: draws a scene from a caption, combinations among them that it never saw."""
    torch.manual_seed(seed)
    drawn = labelled_scenes(64_000, seed=seed, hold_out=True, progress=True)
    net = UNet(channels=3, widths=(48, 112), blocks=(1, 0), patch_size=2, attentions=3, vocabulary=vocabulary())
    model = Denoiser(net, Cosine(), "v")
    *_, end = train(
        model, drawn.images, steps, labels=net.text.tokenise(drawn.captions),
        batch=40, seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    painter = checkpoints.to_fp16(end.ema.cpu())  # what comes back from the file
    judge, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    metadata = {"data": "scenes, hold_out=True", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return painter, {**metadata, "metrics": scene_quality(painter, judge), "half": True}


def scenes_by_mask(
    steps: int = 1000, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The repairer of chapter 13: scenes_by_caption, taught for a while to look at what is known of a picture."""
    torch.manual_seed(seed)
    painter, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    net = UNet(**painter.net.config | {"cond_channels": 4})
    old, new = painter.net.state_dict(), net.state_dict()
    first = torch.zeros_like(new["conv_in.weight"])  # deaf to the hints at first
    first[:, : old["conv_in.weight"].shape[1]] = old["conv_in.weight"]
    net.load_state_dict(old | {"conv_in.weight": first})
    drawn = labelled_scenes(24_000, seed=seed, hold_out=True, progress=True)
    *_, end = train(
        Denoiser(net, painter.schedule, painter.target), drawn.images, steps,
        labels=net.text.tokenise(drawn.captions), image_cond=random_mask_cond,
        batch=40, lr=1e-3, seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    repairer = checkpoints.to_fp16(end.ema.cpu())
    judge, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    known, wishes, mask = inpainting_tasks(500, seed=1)
    y = net.text.tokenise([canonical_caption(wish) for wish in wishes])
    denoise = cfg(with_image_cond(repairer, mask_cond(known, mask)), y, SCALE)
    noise = sampling.initial_noise(repairer.schedule, known.shape, seed=1)
    filled = sampling.run_sampler(ddnm(denoise, repairer.schedule, known, mask), repairer.schedule, noise, 20)
    each, together = right(judge, filled, torch.tensor([wish.indices() for wish in wishes]))
    metadata = {"data": "scenes, hold_out=True", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return repairer, {**metadata, "metrics": {"repaired": {**each, "all": together}}, "half": True}


def product_classifier(
    steps: int = 1500, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[AttributeClassifier, dict[str, Any]]:
    """A reader of product pictures: product, colour and backdrop, at 64x64 or at 32x32 blown up (chapter 18).

    Minutes long: a killed run starts again, and work stays unused.
    """
    torch.manual_seed(seed)
    device = devices.resolve_device(device)
    g = torch.Generator(device).manual_seed(seed)
    drawn = products(12_000, seed=JUDGE_SEEDS[0], progress=True)
    images, truth = drawn.images.to(device), drawn.attributes.to(device)
    net = AttributeClassifier([len(values) for values in PRODUCT_ATTRIBUTES.values()], side=64).to(device)

    def error(rows: Tensor) -> Tensor:
        x = images[rows]
        small = torch.rand(len(rows), 1, 1, 1, generator=g, device=device) < 0.5
        level = 0.3 * torch.rand(len(rows), 1, 1, 1, generator=g, device=device)
        x = torch.where(small, upsample_nearest(downsample(x)), x) + level * torch.randn(
            x.shape, generator=g, device=device
        )
        return sum(F.cross_entropy(scores, truth[rows, i]) for i, scores in enumerate(net(x)))

    _fit(net, error, len(images), steps, 2e-3, g)
    net = checkpoints.to_fp16(net.eval().cpu())  # what comes back from the file
    unseen = products(2_000, seed=JUDGE_SEEDS[1])
    metrics = {
        "held_out_accuracy": product_right(net, unseen.images, unseen.attributes)[1],
        "held_out_accuracy_32x32": product_right(net, upsample_nearest(downsample(unseen.images)), unseen.attributes)[
            1
        ],
    }
    metadata = {"data": "products", "data_shape": [3, 64, 64], "steps": steps, "seed": seed}
    return net, {**metadata, "metrics": metrics, "half": True}


def products_by_caption(
    steps: int = 2000, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The painter of chapter 18: draws a product from a caption, 32x32. It starts as scenes_by_caption, which can draw
    already, and learns other things to draw."""
    torch.manual_seed(seed)
    artist, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    net = UNet(**artist.net.config | {"words": product_words()})
    new = net.state_dict()
    old = {name: value for name, value in artist.net.state_dict().items() if value.shape == new[name].shape}
    net.load_state_dict(new | old)  # all but the vocabulary
    drawn = products(24_000, seed=seed, progress=True)
    *_, end = train(
        Denoiser(net, artist.schedule, artist.target), downsample(drawn.images), steps,
        labels=net.text.tokenise(drawn.captions),
        batch=40, lr=1e-3, seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    painter = checkpoints.to_fp16(end.ema.cpu())
    judge, _ = checkpoints.load(pretrained_path("product_classifier"), "cpu")
    wanted = products(500, seed=JUDGE_SEEDS[1]).attributes
    y = net.text.tokenise([product_caption(Shot.of(row)) for row in wanted.tolist()])
    images = sampling.sample(painter, (500, 3, 32, 32), y, SCALE, steps=15, seed=1)
    each, together = product_right(judge, upsample_nearest(images), wanted)
    metadata = {"data": "products at 32x32", "data_shape": [3, 32, 32], "steps": steps, "seed": seed}
    return painter, {**metadata, "metrics": {"prompt_accuracy": {**each, "all": together}}, "half": True}


def product_upscaler(
    steps: int = 1500, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[Denoiser, dict[str, Any]]:
    """The upscaler of chapter 18: draws what interpolation from 16x16 to 64x64 lacks, the detail."""
    torch.manual_seed(seed)
    images = products(16_000, seed=seed, progress=True).images
    small = downsample(downsample(images))
    net = UNet(channels=3, widths=(64, 96), patch_size=4, attentions=0, cond_channels=3)
    path = EDM(sigma_min=0.01, sigma_max=10.0, sigma_data=0.22)  # detail is fainter than pictures
    # asked for the noise, so few channels cannot carry it through (chapter 16), and pictures come out grainy
    *_, end = train(
        Denoiser(net, path, "x0"), detail_of(images, small), steps, image_cond=upsample_bicubic(small),
        batch=24, seed=seed, device=device, checkpoint=work, progress=True,
    )  # fmt: skip
    upscaler = checkpoints.to_fp16(end.ema.cpu())
    real = products(200, seed=JUDGE_SEEDS[1]).images
    small = downsample(downsample(real))
    metrics = {
        "mse": F.mse_loss(upscaled(upscaler, small, seed=1), real).item(),
        "mse_bicubic": F.mse_loss(upsample_bicubic(small), real).item(),
    }
    metadata = {"data": "products", "data_shape": [3, 64, 64], "steps": steps, "seed": seed}
    return upscaler, {**metadata, "metrics": metrics, "half": True}


def digits_gan(
    steps: int = 1506, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A GAN that draws digits, for the race of chapter 15: three trainings, the first of which is kept."""
    return _raced("digits", "gan", steps, seed, device)


def digits_diffusion(
    steps: int = 1316, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Its rival: a diffusion model of the same size, trained for the same seconds."""
    return _raced("digits", "diffusion", steps, seed, device)


def scenes_gan(
    steps: int = 1479, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """A GAN that draws scenes at 16x16, for the race of chapter 15: three trainings, the first of which is kept."""
    return _raced("scenes", "gan", steps, seed, device)


def scenes_diffusion(
    steps: int = 1204, seed: int = 0, device: Device = None, work: Path | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Its rival: a diffusion model of the same size, trained for the same seconds."""
    return _raced("scenes", "diffusion", steps, seed, device)


class Track(NamedTuple):
    """What is raced on, and how it is measured."""

    train: Tensor  # pictures to learn from
    real: Tensor  # as many unseen ones as are drawn, to measure against
    look: Callable[[Tensor], Tensor]  # pictures -> features


def eval_data(name: str) -> Track:
    """The pictures of a race, "digits" (1, 8, 8) or "scenes" (3, 16, 16). Drawing the scenes takes seconds."""
    if name == "digits":
        reader, _ = checkpoints.load(pretrained_path("digit_classifier"), "cpu")
        return Track(digits("train")[0], digits("held_out")[0], torch.no_grad()(reader.features))
    judge, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    train, real = (downsample(labelled_scenes(n, seed=REAL_SEEDS + seed, hold_out=False).images)
                   for n, seed in ((8_000, 100), (1_000, 101)))  # fmt: skip

    @torch.no_grad()
    def look(images: Tensor) -> Tensor:  # in parts: all at once would take gigabytes
        return torch.cat([judge.features(upsample_nearest(part)) for part in images.split(500)])

    return Track(train, real, look)


TRAININGS = 3  # of each contender in a race
SHEETS = 3  # of pictures that each training is measured on; its metrics are their means, its curve is of the first


def _raced(name: str, contender: str, steps: int, seed: int, device: Device) -> tuple[nn.Module, dict[str, Any]]:
    """Train and measure TRAININGS times, with the seeds seed, seed + 1 ...; the first model, and all that was measured.

    On one core of the CPU, whatever else there is: its seconds are what is being raced for. Minutes long: a killed run
    starts again. Raises ValueError for another device.
    """
    if device is not None and torch.device(device).type != "cpu":
        raise ValueError(f"device: expected 'cpu' or None, the race is run on one core of a processor, got {device!r}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _one_core(name, contender, steps, seed)
    finally:
        torch.set_num_threads(threads)


def _one_core(name: str, contender: str, steps: int, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    train_images, real, look = eval_data(name)
    settings, shape = race.SETTINGS[name, contender], tuple(real.shape[1:])
    target, learned_from = look(real), look(train_images)
    marks = {max(1, round(steps * share)): share for share in (0.25, 0.5, 0.75, 1.0)}
    kept, curve, found, seconds = None, [], [], []
    for k in range(TRAININGS):
        spent, points, clock = 0.0, {}, time.process_time()
        for step, model in enumerate(race.training(contender, train_images, steps, seed + k, **settings), 1):
            if step in marks:
                spent += time.process_time() - clock
                now = checkpoints.to_fp16(model)  # what comes back from the file
                sheet = look(race.drawn(now, shape, len(real), seed=1 + k))
                points[marks[step]] = frechet(sheet, target)
                clock = time.process_time()
        # noise of its own for each training, or what one noise happens to do would look like what all trainings do
        others = [look(race.drawn(now, shape, len(real), seed=1 + k + TRAININGS * j)) for j in range(1, SHEETS)]
        each = [all_metrics(one, target, learned_from) for one in (sheet, *others)]
        found.append(AllMetrics(*map(mean, zip(*each, strict=True))))
        kept = kept or now
        curve.append(points)
        seconds.append(round(spent, 1))
    metrics = {key: [getattr(one, key) for one in found] for key in AllMetrics._fields}
    return kept, {
        "data": name, "data_shape": list(shape), "steps": steps, "seed": seed, "settings": settings,
        "training_seconds": seconds, "curve": curve, "metrics": metrics, "half": True,
    }  # fmt: skip


DETAIL = 0.8  # the largest difference from interpolation that is kept; it may be up to 2, and seldom is above this


def detail_of(images: Tensor, small: Tensor) -> Tensor:
    """What interpolated small pictures (N, 3, 16, 16) lack of the large ones (N, 3, 64, 64), in units of DETAIL."""
    return ((images - upsample_bicubic(small)) / DETAIL).clamp(-1, 1)


def with_detail(small: Tensor, detail: Tensor) -> Tensor:
    """The large pictures (N, 3, 64, 64) with this detail, in range: undoes detail_of, but for what was cut off."""
    return (upsample_bicubic(small) + DETAIL * detail).clamp(-1, 1)


def upscaled(upscaler: Denoiser, small: Tensor, seed: int = 0, steps: int = 15) -> Tensor:
    """Pictures (N, 3, 64, 64) drawn from small ones (N, 3, 16, 16)."""
    large = upsample_bicubic(small)
    noise = sampling.initial_noise(upscaler.schedule, large.shape, seed)
    return with_detail(small, sampling.run_sampler(with_image_cond(upscaler, large), upscaler.schedule, noise, steps))


def upsample_bicubic(small: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at four times the side, by bicubic interpolation, in range: what the upscaler looks at."""
    return F.interpolate(small, scale_factor=4, mode="bicubic", align_corners=False).clamp(-1, 1)


@torch.no_grad()
def product_right(judge: AttributeClassifier, images: Tensor, truth: Tensor) -> tuple[dict[str, float], float]:
    """As `right`, for pictures of products (N, 3, 64, 64) and truth (N, 3)."""
    agree = torch.cat([judge.read(part) for part in images.split(500)]) == truth
    each = dict(zip(PRODUCT_ATTRIBUTES, agree.float().mean(0).tolist(), strict=True))
    return each, agree.all(1).float().mean().item()


def mask_cond(known: Tensor, mask: Tensor) -> Tensor:
    """What a repairer sees, (B, C + 1, H, W): the known pixels, 0 where nothing is known, and the mask as 0 or 1."""
    mask = mask.expand(len(known), 1, *known.shape[2:]).to(known.dtype)
    return torch.cat([known * mask, mask], dim=1)


def random_mask_cond(x0: Tensor, g: torch.Generator) -> Tensor:
    """A mask_cond of pictures x0 (B, C, H, W), each with a hole of its own: a box of random size and place. One in ten
    is all hole, so that the model can still draw from nothing."""
    B, _, H, W = x0.shape
    u = torch.rand(5, B, 1, 1, generator=g, device=x0.device)
    height, width = H * (0.25 + 0.6 * u[0]), W * (0.25 + 0.6 * u[1])
    top, left = u[2] * (H - height), u[3] * (W - width)
    row, column = torch.arange(H, device=x0.device)[:, None] + 0.5, torch.arange(W, device=x0.device) + 0.5
    hole = (row > top) & (row < top + height) & (column > left) & (column < left + width)
    return mask_cond(x0, ~(hole | (u[4] < 0.1))[:, None])


def one_word(n: int, attribute: str, seed: int) -> tuple[list[Scene], list[Scene]]:
    """n seen scenes, and beside each another seen one that differs in one attribute."""
    r = random.Random(seed)
    scenes = some_scenes("seen", n, seed)
    return scenes, [r.choice(_with_another(scene, attribute)) for scene in scenes]


def _with_another(scene: Scene, attribute: str) -> list[Scene]:
    others = (scene._replace(**{attribute: value}) for value in ATTRIBUTES[attribute])
    return [other for other in others if other != scene and split_of(other) == "seen"]


def inpainting_tasks(n: int, seed: int) -> tuple[Tensor, list[Scene], Tensor]:
    """n tasks: real scenes (n, 3, 32, 32), what they shall show instead, and masks (n, 1, 32, 32), True = kept.

    What is asked for is another accessory; the hole is a random box around the upper part of the picture that covers
    all of the old one: no method could mend what it must keep.
    """
    scenes, wishes = one_word(n, "accessory", seed)
    pictures, mask = [], torch.ones(n, 1, 32, 32, dtype=torch.bool)
    for i, (scene, wish) in enumerate(zip(scenes, wishes, strict=True)):
        pose = (seed << 32) + i
        worn, bare = (draw(*each, random.Random(pose)) for each in (scene, scene._replace(accessory="nothing")))
        pictures.append(torch.from_numpy(worn))
        r = random.Random(-1 - pose)
        width, height = r.randint(20, 26), r.randint(16, 21)
        left, top = round(16 - width / 2 + r.uniform(-3, 3)), round(10 - height / 2 + r.uniform(-3, 3))
        right, bottom = left + width, top + height
        if "balloon" in (scene.accessory, wish.accessory):  # it floats beside the figure, on a string
            left, right, bottom = 0, 32, max(bottom, 24)
        elif scene.accessory != "nothing":
            differs = abs(worn.astype(int) - bare).max(2) > 60  # more than the light, which is drawn anew
            rows, columns = differs.nonzero()
            left, right = min(left, columns.min()), max(right, columns.max() + 1)
            top, bottom = min(top, rows.min()), max(bottom, rows.max() + 1)
        mask[i, :, max(0, top) : bottom, max(0, left) : right] = False
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1, wishes, mask


def _fit(net: nn.Module, error: Callable[[Tensor], Tensor], n: int, steps: int, lr: float, g: torch.Generator) -> None:
    """Train a classifier: error(rows) is its loss on 64 rows of n, drawn from g; the learning rate anneals to 0."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.05, fused=True)
    anneal = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in trange(steps, desc=type(net).__name__):
        loss = error(torch.randint(n, (64,), generator=g, device=g.device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        anneal.step()


@torch.no_grad()
def accuracy(reader: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of pictures (N, C, H, W) that the reader reads as their labels (N,)."""
    return (reader(images).argmax(1) == labels).float().mean().item()


def sample_digits(denoise: Denoise, schedule: Schedule, n: int, steps: int = 15, seed: int = 0) -> Tensor:
    """n pictures (n, 1, 8, 8) in [-1, 1] drawn with DPM-Solver++(2M) from the noise of this seed."""
    return sampling.run_sampler(denoise, schedule, sampling.initial_noise(schedule, (n, 1, 8, 8), seed), steps)


@torch.no_grad()
def digit_quality(denoise: Denoise, schedule: Schedule, reader: Classifier, seeds: int = 3) -> dict[str, Any]:
    """How far are 500 samples from 500 held-out real digits? As a table: Frechet distance, error bar, floor, copies.

    The error bar is the standard deviation over sampling seeds; the floor is 500 training digits against the held-out
    ones, over as many random draws.
    """
    train_images, unseen = digits("train")[0], digits("held_out")[0]
    target = reader.features(unseen)
    distances, ratios, floors = [], [], []
    for seed in range(seeds):
        samples = sample_digits(denoise, schedule, len(unseen), seed=seed)
        distances.append(frechet(reader.features(samples), target))
        ratios.append(nn_distance_ratio(samples, train_images, unseen))
        rows = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(seed))[: len(unseen)]
        floors.append(frechet(reader.features(train_images[rows]), target))
    return {
        "frechet": mean(distances), "frechet_std": stdev(distances),
        "floor": mean(floors), "floor_std": stdev(floors),
        "nn_distance_ratio": mean(ratios),
    }  # fmt: skip


@torch.no_grad()
def prompt_accuracy(model: Denoiser, reader: Classifier, n: int = 500) -> float:
    """The share of n samples that the reader reads as the digit that was asked for."""
    wanted = torch.arange(n) % 10
    samples = sample_digits(lambda x, t: model(x, t, wanted), model.schedule, n)
    return accuracy(reader, samples, wanted)


def downsample(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at half the side, each new pixel the mean of four."""
    return F.avg_pool2d(images, 2)


def upsample_nearest(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) at twice the side, each pixel four times: how the judge reads small ones."""
    return F.interpolate(images, scale_factor=2, mode="nearest")


@torch.no_grad()
def right(judge: AttributeClassifier, images: Tensor, truth: Tensor) -> tuple[dict[str, float], float]:
    """The shares of pictures (N, 3, 32, 32) in which the judge reads what truth (N, 4) says: attribute by attribute,
    and all four in one picture."""
    agree = torch.cat([judge.read(part) for part in images.split(500)]) == truth
    return dict(zip(ATTRIBUTES, agree.float().mean(0).tolist(), strict=True)), agree.all(1).float().mean().item()


def sample_scenes(
    model: Denoiser, scenes: Sequence[Scene], seed: int = 0, scale: float = SCALE, steps: int = 15
) -> Tensor:
    """One picture of each scene, (n, 3, 32, 32) in [-1, 1], from the plainest caption that says all of it."""
    y = model.net.text.tokenise([canonical_caption(scene) for scene in scenes])
    return sampling.sample(model, (len(scenes), 3, 32, 32), y, scale, steps, seed)


def some_scenes(split_of: str, n: int, seed: int) -> list[Scene]:
    """n scenes of a kind ("seen", "unseen triple", "unseen pair"), all of them in turn, in an order of this seed."""
    every = all_scenes(split_of)
    random.Random(seed).shuffle(every)
    return [every[i % len(every)] for i in range(n)]


def scene_quality(
    model: Denoiser,
    judge: AttributeClassifier,
    n: int = 340,
    n_seen: int = 1000,
    seeds: Sequence[int] = (1, 2, 3),
    **how: Any,
) -> dict[str, Any]:
    """How often is all that a caption asks for in the picture, and how far are the pictures from real ones?

    For each kind of caption: the share of n pictures a seed (n_seen of seen captions) with all four attributes right,
    and that of each attribute; mean over seeds, and standard deviation. Fréchet distances are between n_seen pictures
    and as many real ones of the same scenes; the floor is other real ones against them. how: see sample_scenes.
    """
    table: dict[str, list[float]] = {}
    for seed in seeds:
        for which in ("seen", "unseen triple", "unseen pair"):
            wanted = some_scenes(which, n_seen if which == "seen" else n, seed)
            images = sample_scenes(model, wanted, seed, **how)
            each, all_right = right(judge, images, torch.tensor([scene.indices() for scene in wanted]))
            for name, share in {**each, "all": all_right}.items():
                table.setdefault(f"{which}, {name}", []).append(share)
            if which == "seen":
                real, other = (labelled_scenes(len(wanted), REAL_SEEDS + 2 * seed + i, only=wanted) for i in (0, 1))
                with torch.no_grad():
                    target, drawn, floor = (judge.features(x) for x in (real.images, images, other.images))
                table.setdefault("frechet", []).append(frechet(drawn, target))
                table.setdefault("floor", []).append(frechet(floor, target))
    return {name: {"mean": mean(values), "std": stdev(values)} for name, values in table.items()}


def samples_png() -> list[Path]:
    """The pictures of the README: data/samples.png, ten walks of digits_by_label, one a column, noise on top; and
    data/prompt.png, walks of scenes_by_caption towards one prompt."""
    from learn_diffusion.widgets.images import png, tile, to_uint8

    model, _ = checkpoints.load(pretrained_path("digits_by_label"), "cpu")
    rows = _walks(model, torch.arange(10), (10, 1, 8, 8), scale=1.0, stops=(8, 16, 24, 32, 40, 50))
    digits_png = DATA / "samples.png"
    checkpoints.atomic_write(digits_png, png(tile(to_uint8(rows), columns=10), zoom=8))
    model, _ = checkpoints.load(pretrained_path("scenes_by_caption"), "cpu")
    prompt = sampling.condition(model, 8, "a cat wearing sunglasses on the moon")
    rows = _walks(model, prompt, (8, 3, 32, 32), scale=SCALE, stops=(20, 30, 40, 50))
    prompt_png = DATA / "prompt.png"
    checkpoints.atomic_write(prompt_png, png(tile(to_uint8(rows), columns=8), zoom=3))
    return [digits_png, prompt_png]


def _walks(model: Denoiser, y: Tensor, shape: tuple[int, ...], scale: float, stops: Sequence[int]) -> Tensor:
    """Fifty steps of DDIM towards y: the noise, and what stands after each of the stops, one after the other."""
    path, noise = model.schedule, sampling.initial_noise(model.schedule, shape)
    states = list(ddim(clip_x0(cfg(model, y, scale), path), path, noise, path.timesteps(50)))
    return torch.cat([noise, *(states[stop - 1].x for stop in stops)])


RECIPES: dict[str, Callable[..., tuple[nn.Module, dict[str, Any]]]] = {
    "digit_classifier": digit_classifier,
    "digits_by_label": digits_by_label,
    "scene_classifier": scene_classifier,
    "scenes_by_caption": scenes_by_caption,
    "scenes_by_mask": scenes_by_mask,
    "product_classifier": product_classifier,
    "products_by_caption": products_by_caption,
    "product_upscaler": product_upscaler,
    "digits_gan": digits_gan,
    "digits_diffusion": digits_diffusion,
    "scenes_gan": scenes_gan,
    "scenes_diffusion": scenes_diffusion,
}
