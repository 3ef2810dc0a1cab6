"""How good is a model? Samples of it, read by a classifier and compared with real pictures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from learn_diffusion import devices, sampling, validation
from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.datasets.mnist import mnist_sample
from learn_diffusion.datasets.scenes import (
    ATTRIBUTES,
    Scene,
    all_scenes,
    canonical_caption,
    draw,
    draw_scenes,
    split_of,
)
from learn_diffusion.denoiser import Denoiser, with_image_cond
from learn_diffusion.editing import ddnm
from learn_diffusion.guidance import cfg
from learn_diffusion.metrics import MeanWithError, frechet, mean_and_spread, nn_distance_ratio
from learn_diffusion.metrics.diversity import within_class_distance
from learn_diffusion.metrics.image_quality import psnr
from learn_diffusion.nets import VAE, AttributeClassifier, Classifier
from learn_diffusion.process import Denoise, randn_like
from learn_diffusion.recipes.transforms import downsample, mask_cond, upsample_bicubic, with_detail
from learn_diffusion.schedules import Schedule

# Seeds of pictures that no training draws: the training of scenes_by_caption has the seed 0
CLASSIFIER_SEEDS = (1_000_001, 1_000_002)
REAL_SEEDS = 2_000_000
GUIDANCE_SCALE = 2.0  # wherever prompt accuracy is measured: fixed before the first model was trained


@torch.no_grad()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of pictures (N, C, H, W) that the classifier reads as their labels (N,)."""
    return (classifier(images).argmax(1) == labels.to(images.device)).float().mean().item()


@torch.no_grad()
def confident_share(classifier: Classifier, images: Tensor, confidence: float = 0.9) -> float:
    """The share of pictures (N, C, H, W) of which the classifier gives one class at least this probability."""
    return (classifier(images).softmax(1).amax(1) >= confidence).float().mean().item()


def _device_of(classifier: nn.Module) -> torch.device:
    return next((w.device for w in classifier.parameters()), torch.device("cpu"))


@torch.no_grad()
def all_features(classifier: Classifier | AttributeClassifier, images: Tensor) -> Tensor:
    """classifier.features of any number of pictures (N, C, H, W), (N, width): 500 at a time, which saves memory."""
    device = _device_of(classifier)
    return torch.cat([classifier.features(part.to(device)) for part in images.split(500)])


@torch.no_grad()
def attribute_accuracy(
    classifier: AttributeClassifier, images: Tensor, truth: Tensor, attributes: Iterable[str]
) -> tuple[dict[str, float], float]:
    """The shares of pictures (N, 3, H, W) in which the classifier reads what truth (N, K) says: of each of the K named
    attributes, and of all in one picture."""
    agree = torch.cat([classifier.read(part) for part in images.split(500)]) == truth.to(images.device)
    return dict(zip(attributes, agree.float().mean(0).tolist(), strict=True)), agree.all(1).float().mean().item()


def scene_accuracy(classifier: AttributeClassifier, images: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """The shares of pictures (N, 3, H, W) in which the classifier reads what each of the N scenes says: of each
    attribute by its name, and "all four" in one picture."""
    truth = torch.tensor([scene.indices() for scene in scenes])
    each, together = attribute_accuracy(classifier, images, truth, ATTRIBUTES)
    return {**each, "all four": together}


def nearest_completions(known: Tensor, mask: Tensor, pictures: Tensor, n: int) -> Tensor:
    """A baseline that copies: of each known picture (B, C, H, W), the n pictures (M, C, H, W) that are nearest to it
    where mask (1, 1, H, W) is True, nearest first: (n, B, C, H, W)."""
    seen, others = (torch.where(mask, x, 0.0).flatten(1) for x in (known, pictures))
    return pictures[torch.cdist(seen, others).topk(n, largest=False).indices.T]


def digits_of(classifier: nn.Module) -> Callable[[str], tuple[Tensor, Tensor]]:
    """The digits that a classifier reads: small_digits at 8x8, mnist_sample at 28x28 and 14x14."""
    side = classifier.config["side"]
    return small_digits if side == 8 else partial(mnist_sample, side=side)


def sample_digits(
    denoise: Denoise,
    schedule: Schedule,
    n: int,
    steps: int = 15,
    seed: int = 0,
    device: str | torch.device | None = None,
    side: int = 28,
) -> Tensor:
    """n pictures (n, 1, side, side) in [-1, 1] drawn with DPM-Solver++(2M) from the noise of this seed.

    device  where denoise computes; None: what resolve_device chooses
    """
    noise = sampling.initial_noise(schedule, (n, 1, side, side), seed)
    return sampling.run_sampler(denoise, schedule, noise.to(devices.resolve_device(device)), steps)


@torch.no_grad()
def noisy_accuracy(
    log_probs: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    t: float | Tensor,
    seed: int = 1,
    device: str | torch.device | None = None,
    data: Callable[[str], tuple[Tensor, Tensor]] = mnist_sample,
) -> float:
    """The share of held-out digits, noised to level t, that log_probs(x_t (B, C, H, W), t), (B, 10), reads right.

    device  where log_probs computes; None: what resolve_device chooses
    data    images and labels of a split: mnist_sample, or small_digits
    """
    images, labels = (x.to(devices.resolve_device(device)) for x in data("held_out"))
    level = torch.as_tensor(t)
    xt = schedule.add_noise(images, randn_like(images, torch.Generator().manual_seed(seed)), level)
    return accuracy(lambda x: log_probs(x, level), xt, labels)


class DigitScores(NamedTuple):
    """What digit_scores and digit_runs find: of one set of pictures numbers, of R runs tensors (R,)."""

    accuracy: Any  # share that the classifier reads as the digit that was wanted
    variety: Any  # within_class_distance, in the classifier's features
    frechet: Any  # distance to the held-out digits

    def row(self) -> list[str]:
        """Mean and spread over runs, for a table."""
        each, digits = map(mean_and_spread, self), (".1%", ".2f", ".2f")
        return [format(value, spec) for value, spec in zip(each, digits, strict=True)]


@torch.no_grad()
def digit_scores(classifier: Classifier, images: Tensor, wanted: Tensor) -> DigitScores:
    """Do pictures (N, 1, H, W) show the digits that were wanted (N,), how much do they vary, how far are they from the
    held-out digits of the classifier's size?"""
    features, target = (all_features(classifier, x) for x in (images, digits_of(classifier)("held_out")[0]))
    variety = within_class_distance(features, wanted.to(features.device))
    return DigitScores(accuracy(classifier, images, wanted), variety, frechet(features, target))


def digit_runs(
    classifier: Classifier, schedule: Schedule, wanted: Tensor, denoisers: Iterable[Denoise], steps: int = 8
) -> tuple[DigitScores, Tensor]:
    """The scores of what each of R >= 2 denoisers draws of the digits wanted (N,), from noise of a seed of its own; and
    what the first drew, (N, 1, H, W), of the size that the classifier reads."""
    how = {"device": _device_of(classifier), "side": classifier.config["side"]}
    drawn = [sample_digits(each, schedule, len(wanted), steps, seed, **how) for seed, each in enumerate(denoisers)]
    scores = torch.tensor([digit_scores(classifier, images, wanted) for images in drawn])
    return DigitScores(*scores.T), drawn[0]


def score_panels(
    runs: Mapping[str, Mapping[float, tuple[DigitScores, Tensor]]], titles: Sequence[str]
) -> dict[str, dict[str, tuple[list[float], ...]]]:
    """For plots.curve_panels: what digit_runs found, {model: {strength: runs}}, as curves of mean and spread, one panel
    for each of the three numbers."""
    panels: dict[str, dict[str, tuple[list[float], ...]]] = {title: {} for title in titles}
    for name, by_strength in runs.items():
        for i, title in enumerate(titles):
            told = [mean_and_spread(scores[i]) for scores, _ in by_strength.values()]
            panels[title][name] = list(by_strength), [m.value for m in told], [m.error for m in told]
    return panels


def balanced_rows(labels: Tensor, each: int, seed: int = 0) -> Tensor:
    """Rows (each * K,) of `each` random pictures of every class in labels (N,), none twice, class by class."""
    validation.positive_int("each", each)
    g = torch.Generator().manual_seed(seed)
    rows = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    smallest = min(map(len, rows), default=0)
    if each > smallest:
        raise ValueError(f"each: expected at most {smallest}, the size of the smallest class, got {each}")
    return torch.cat([row[torch.randperm(len(row), generator=g)[:each]] for row in rows])


def digit_floor(classifier: Classifier, each: int = 20, draws: int = 20) -> MeanWithError:
    """Real against real: the Frechet distance of `each` training digits of every class to all held-out ones, digits of
    the size that the classifier reads.

    Mean and standard deviation over draws; what is drawn with as many of every digit can be compared with it. (Random
    rows, whose class counts differ, would be farther: of small_digits 0.7 in place of 0.4 at 500.) The draws share
    training digits, so that with many of each they differ a little less than new digits would.
    """
    data = digits_of(classifier)
    images, labels = data("train")
    target, features = all_features(classifier, data("held_out")[0]), all_features(classifier, images)
    return mean_and_spread([frechet(features[balanced_rows(labels, each, seed)], target) for seed in range(draws)])


def real_against_real(features: Tensor, target: Tensor, draws: int) -> list[float]:
    """Real against real, of each draw: the Frechet distance of random rows of features (N, D), as many as target (M, D)
    has, to target. Class counts are left to chance, as in pictures that are drawn without labels; see digit_floor."""
    orders = [torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)) for seed in range(draws)]
    return [frechet(features[order[: len(target)].to(features.device)], target) for order in orders]


@torch.no_grad()
def digit_quality(denoise: Denoise, schedule: Schedule, classifier: Classifier, seeds: int = 3) -> dict[str, Any]:
    """How far are 500 samples from 500 held-out real digits? As a table: Frechet distance, error bar, floor, copies.

    The error bar is the standard deviation over sampling seeds; the floor is 500 training digits against the held-out
    ones, over as many random draws.
    """
    train_images, unseen = small_digits("train")[0], small_digits("held_out")[0]
    target, device = all_features(classifier, unseen), _device_of(classifier)
    floors = real_against_real(all_features(classifier, train_images), target, seeds)
    distances, ratios = [], []
    for seed in range(seeds):
        samples = sample_digits(denoise, schedule, len(unseen), seed=seed, device=device, side=8)
        distances.append(frechet(all_features(classifier, samples), target))
        ratios.append(nn_distance_ratio(samples.cpu(), train_images, unseen))
    return {
        "frechet": mean(distances), "frechet_std": stdev(distances),
        "floor": mean(floors), "floor_std": stdev(floors),
        "nn_distance_ratio": mean(ratios),
    }  # fmt: skip


class MnistScores(NamedTuple):
    """What mnist_scores finds, over seeds of sampling: means and standard deviations, and the first pictures."""

    frechet: MeanWithError  # distance to the held-out digits, in the classifier's features
    confident: MeanWithError  # share that the classifier reads with a probability of 0.9 or more
    obeyed: MeanWithError | None  # share read as the digit that was asked for; None where none was
    pictures: Tensor  # (n, 1, side, side) of the first seed


@torch.no_grad()
def mnist_scores(
    model: Denoiser,
    classifier: Classifier,
    n: int = 1000,
    wanted: Tensor | None = None,
    scale: float = 1.0,
    steps: int = 15,
    seeds: Sequence[int] = (0, 1, 2),
) -> MnistScores:
    """n pictures a seed, of the digits wanted (n,) or of any, beside the 1000 held-out digits of mnist_sample.

    Model and classifier on one device. scale: of guidance, 1 for none. The distance depends on n: compare equal ones.
    """
    side = classifier.config["side"]
    target = all_features(classifier, mnist_sample("held_out", side)[0])
    drawn = [sampling.sample(model, (n, 1, side, side), wanted, scale, steps, seed) for seed in seeds]
    distances = [frechet(all_features(classifier, pictures), target) for pictures in drawn]
    confident = [confident_share(classifier, pictures) for pictures in drawn]
    obeyed = None if wanted is None else [accuracy(classifier, pictures, wanted) for pictures in drawn]
    return MnistScores(
        mean_and_spread(distances), mean_and_spread(confident), obeyed and mean_and_spread(obeyed), drawn[0]
    )


@torch.no_grad()
def prompt_accuracy(model: Denoiser, classifier: Classifier, n: int = 500) -> float:
    """The share of n samples that the classifier reads as the digit that was asked for."""
    wanted = torch.arange(n, device=model.device) % 10
    side = classifier.config["side"]
    samples = sample_digits(lambda x, t: model(x, t, wanted), model.schedule, n, device=model.device, side=side)
    return accuracy(classifier, samples, wanted)


def scene_tokens(model: Denoiser, scenes: Sequence[Scene]) -> Tensor:
    """Of each scene, the tokens (n, L) of the plainest caption that says all of it, for a model that reads captions."""
    return model.net.text.tokenise([canonical_caption(scene) for scene in scenes])


def sample_scenes(
    model: Denoiser, scenes: Sequence[Scene], seed: int = 0, scale: float = GUIDANCE_SCALE, steps: int = 15,
    vae: VAE | None = None,
) -> Tensor:  # fmt: skip
    """One picture of each scene, (n, 3, 32, 32) in [-1, 1], from its scene_tokens; (n, 3, 64, 64) where the model draws
    the codes of a vae."""
    shape = (3, 32, 32) if vae is None else (vae.config["latent"], 16, 16)
    return sampling.sample(model, (len(scenes), *shape), scene_tokens(model, scenes), scale, steps, seed, vae)


@torch.no_grad()
def encode(vae: VAE, images: Tensor) -> Tensor:
    """The mean codes of pictures (N, C, H, W); 100 at a time, as all at once may not fit into memory."""
    return torch.cat([vae.encode(part).mean for part in images.split(100)])


@torch.no_grad()
def reconstruction_quality(vae: VAE, classifier: AttributeClassifier, n: int = 1000) -> dict[str, float]:
    """What an autoencoder keeps of n unseen scenes of all combinations at 64x64: mean PSNR in dB, the share whose four
    attributes the classifier reads right at 32x32, and the same of the pictures themselves."""
    images, _, truth = draw_scenes(n, seed=CLASSIFIER_SEEDS[1], hold_out=False, side=64)
    again = sampling.decode(vae, encode(vae, images))
    read, original = (attribute_accuracy(classifier, downsample(x), truth, ATTRIBUTES)[1] for x in (again, images))
    return {"psnr": psnr(again, images).mean().item(), "all_attributes": read, "all_attributes_original": original}


def some_scenes(split: str, n: int, seed: int) -> list[Scene]:
    """n scenes of a split ("seen", "unseen triple", "unseen pair"), all of them in turn, in an order of this seed."""
    every = all_scenes(split)
    random.Random(seed).shuffle(every)
    return [every[i % len(every)] for i in range(n)]


def scene_quality(
    model: Denoiser,
    classifier: AttributeClassifier,
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
            images = downsample(images) if images.shape[-1] == 64 else images  # as the classifier reads them
            truth = torch.tensor([scene.indices() for scene in wanted])
            each, all_right = attribute_accuracy(classifier, images, truth, ATTRIBUTES)
            for name, share in {**each, "all": all_right}.items():
                table.setdefault(f"{which}, {name}", []).append(share)
            if which == "seen":
                real, other = (draw_scenes(len(wanted), REAL_SEEDS + 2 * seed + i, only=wanted) for i in (0, 1))
                with torch.no_grad():
                    target, drawn, floor = (all_features(classifier, x) for x in (real.images, images, other.images))
                table.setdefault("frechet", []).append(frechet(drawn, target))
                table.setdefault("floor", []).append(frechet(floor, target))
    return {name: {"mean": mean(values), "std": stdev(values)} for name, values in table.items()}


def one_word(n: int, attribute: str, seed: int) -> tuple[list[Scene], list[Scene]]:
    """n seen scenes, and beside each another seen one that differs in one attribute."""
    r = random.Random(seed)
    scenes = some_scenes("seen", n, seed)
    return scenes, [r.choice(_with_another(scene, attribute)) for scene in scenes]


def _with_another(scene: Scene, attribute: str) -> list[Scene]:
    others = (scene._replace(**{attribute: value}) for value in ATTRIBUTES[attribute])
    return [other for other in others if other != scene and split_of(other) == "seen"]


def inpainting_tasks(n: int, seed: int) -> tuple[Tensor, list[Scene], Tensor]:
    """n tasks: real scenes (n, 3, 32, 32), what they should show instead, and masks (n, 1, 32, 32), True = kept.

    What is asked for is another accessory; the hole is a random box around the upper part of the picture that covers
    all of the old one, since no method could change what it must keep.
    """
    scenes, wanted = one_word(n, "accessory", seed)
    pictures, mask = [], torch.ones(n, 1, 32, 32, dtype=torch.bool)
    for i, (scene, other) in enumerate(zip(scenes, wanted, strict=True)):
        pose = (seed << 32) + i
        worn, bare = (draw(*each, random.Random(pose)) for each in (scene, scene._replace(accessory="nothing")))
        pictures.append(torch.from_numpy(worn))
        r = random.Random(-1 - pose)
        width, height = r.randint(20, 26), r.randint(16, 21)
        left, top = round(16 - width / 2 + r.uniform(-3, 3)), round(10 - height / 2 + r.uniform(-3, 3))
        right, bottom = left + width, top + height
        if "balloon" in (scene.accessory, other.accessory):  # it floats beside the figure, on a string
            left, right, bottom = 0, 32, max(bottom, 24)
        elif scene.accessory != "nothing":
            differs = abs(worn.astype(int) - bare).max(2) > 60  # more than the light, which is drawn anew
            rows, columns = differs.nonzero()
            left, right = min(left, columns.min()), max(right, columns.max() + 1)
            top, bottom = min(top, rows.min()), max(bottom, rows.max() + 1)
        mask[i, :, max(0, top) : bottom, max(0, left) : right] = False
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1, wanted, mask


def inpaint(model: Denoiser, known: Tensor, mask: Tensor, y: Tensor, seed: int = 0, steps: int = 20) -> Tensor:
    """Pictures (n, C, H, W) of captions y (n, L) that keep what is known where mask is True. A model that takes an
    image condition is shown what is known; for any other, `ddnm` alone holds it."""
    shown = with_image_cond(model, mask_cond(known, mask)) if model.net.config["cond_channels"] else model
    held = ddnm(cfg(shown, y, GUIDANCE_SCALE), model.schedule, known, mask)
    noise = sampling.initial_noise(model.schedule, known.shape, seed).to(known.device)
    return sampling.run_sampler(held, model.schedule, noise, steps)


def upscaled(upscaler: Denoiser, small: Tensor, seed: int = 0, steps: int = 15) -> Tensor:
    """Pictures (N, 3, 64, 64) drawn from small ones (N, 3, 16, 16)."""
    large = upsample_bicubic(small)
    noise = sampling.initial_noise(upscaler.schedule, large.shape, seed).to(large.device)
    return with_detail(small, sampling.run_sampler(with_image_cond(upscaler, large), upscaler.schedule, noise, steps))
