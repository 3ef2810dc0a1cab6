"""The trainings behind every file in data/: `learn-diffusion train NAME` makes data/NAME.safetensors again.

A recipe is a plain function that trains a model, measures it, and returns (model, about): about goes into the header of
the file. Its first line says what it makes. Every recipe takes the same four arguments, all with a default:

    steps   optimiser steps
    seed    of everything random in it
    device  where to train, see devices.resolve_device
    work    a file for training.train's checkpoint, so that a killed run can be resumed; None keeps nothing

`run.run_recipe` runs one and writes its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from learn_diffusion.recipes.digits import (
    digit_classifier,
    digits_by_label,
    mnist_by_label,
    mnist_classifier,
    mnist_classifier_14,
)
from learn_diffusion.recipes.gan_comparison import digits_diffusion, digits_gan, scenes_diffusion, scenes_gan
from learn_diffusion.recipes.latents import latent_scenes_by_caption, scene_autoencoder
from learn_diffusion.recipes.photographs import dahlia
from learn_diffusion.recipes.products import product_classifier, product_upscaler, products_by_caption
from learn_diffusion.recipes.scenes import scene_classifier, scenes_by_caption, scenes_by_mask
from learn_diffusion.recipes.stable import stable_scenes

RECIPES: dict[str, Callable[..., tuple[nn.Module, dict[str, Any]]]] = {
    recipe.__name__: recipe
    for recipe in (
        digit_classifier, digits_by_label, mnist_by_label, mnist_classifier, mnist_classifier_14,
        scene_classifier, scenes_by_caption, scenes_by_mask,
        scene_autoencoder, latent_scenes_by_caption, stable_scenes,
        product_classifier, products_by_caption, product_upscaler,
        digits_gan, digits_diffusion, scenes_gan, scenes_diffusion,
        dahlia,
    )
}  # fmt: skip
