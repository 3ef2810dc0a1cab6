"""Models of the course for other people: a folder with its weights and a model card, as model hubs read them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from learn_diffusion import checkpoints
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.recipes import RECIPES
from learn_diffusion.recipes.pretrained import DATA, pretrained_path
from learn_diffusion.validation import one_of

# how the names of recipes begin, and the data card in data/README.md of what they learned from; the first that fits
DATA_CARDS = {
    "digits_gan": "MNIST's sample", "digits_diffusion": "MNIST's sample", "mnist": "MNIST's sample", "digit": "digits",
    "product": "products", "dahlia": "two photographs", "scene": "scenes", "latent_scenes": "scenes",
    "stable_scenes": "scenes",
}  # fmt: skip
INTENDED = """To learn and to teach how diffusion models work: to draw with, to take apart, to change.
Not for anything that depends on what a picture shows."""


def data_card(name: str) -> dict[str, str]:
    """The data card of what a recipe learned from, from data/README.md: "What", "Licence", "Limits" ... -> text."""
    title = next((card for begin, card in DATA_CARDS.items() if name.startswith(begin)), None)
    cards = (DATA / "README.md").read_text(encoding="utf-8").split(f"## Data card: {title}\n")
    if len(cards) != 2:
        raise ValueError(f"name: expected a recipe of DATA_CARDS whose card is in data/README.md, got {name!r}")
    text = cards[1].split("\n## ")[0]
    parts = re.split(r"^- \*\*(.+?)\.\*\* ", text, flags=re.MULTILINE)[1:]
    return {key: " ".join(said.split()) for key, said in zip(parts[::2], parts[1::2], strict=True)}


def model_card(name: str) -> str:
    """The model card of a recipe's model, as Markdown behind metadata in YAML (Mitchell et al. 2019; the form of
    Hugging Face): licence, data, metrics, intended use and limits, from the header of its file and from data/README.md.
    """
    one_of("name", name, RECIPES)
    return _model_card(name, *checkpoints.load(pretrained_path(name), "cpu"))


def _model_card(name: str, model: nn.Module, about: Mapping[str, Any]) -> str:
    recipe, pipeline = RECIPES.get(str(about.get("recipe"))), _is_pipeline(model)
    card = data_card(about["recipe"]) if recipe else _own_data(about)
    licence = re.match(r"CC (BY(?:-SA)?) (\d\.\d)", card.get("Licence", ""))
    words = bool(getattr(getattr(model, "net", None), "text", None))
    head = {
        "license": f"cc-{licence[1]}-{licence[2]}".lower() if licence else "mit" if recipe else "unknown",
        "library_name": "diffusers" if pipeline else "learn_diffusion",
        "tags": ["diffusion", "education", "learn_diffusion"],
    }
    if words:
        head |= {"language": ["en"], "pipeline_tag": "text-to-image"}
    elif isinstance(model, Denoiser):
        head["pipeline_tag"] = "unconditional-image-generation"
    first = recipe.__doc__.splitlines()[0] if recipe else "A model that learn_diffusion saved."
    use = _PIPELINE if pipeline else _CHECKPOINT + _DECODER * ("autoencoder" in about)
    trained = ("recipe", "steps", "seed", "seconds", "hardware", "package", "torch")
    return "\n".join([
        "---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "",
        f"# {name}", "", first, "", "## Use", "", "```python", use, "```", "",
        INTENDED, "", "## Data", "", card["What"], "", card["Where from"], "",
        f"Licence: {card.get('Licence', 'MIT, as the code that draws them.')}", "", "## Training", "",
        *(f"- {key}: {about[key]}" for key in trained if key in about), "", "## Metrics", "",
        "| metric | value |", "|---|---|",
        *(f"| {key} | {value} |" for key, value in _rows(_named(about.get("metrics", "not measured")))), "",
        "## Limits", "", card["Limits"], "",
    ])  # fmt: skip


def export(name: str | Path, folder: str | Path) -> Path:
    """Write the model of a recipe, or of a file of your own, into a new folder, with its model card: as a pipeline of
    diffusers where it is one, in single precision; else as its checkpoint, with that of its autoencoder. Returns the
    folder.

    Raises ValueError for an unknown name, FileNotFoundError for a model that was not trained, FileExistsError for a
    folder with something in it.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        one_of("name", name, RECIPES)
        path = pretrained_path(name)
    model, about = checkpoints.load(path, "cpu")
    folder, card = Path(folder), _model_card(path.stem, model, about)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"folder: expected a new or empty folder, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    if _is_pipeline(model):
        from learn_diffusion.pipelines import to_pipeline

        to_pipeline(model).save_pretrained(folder)
    else:
        shutil.copyfile(path, folder / "model.safetensors")
        if decoder := about.get("autoencoder"):
            shutil.copyfile(pretrained_path(decoder), folder / "autoencoder.safetensors")
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


_PIPELINE = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("FOLDER")
pipeline("a cat wearing sunglasses on the moon", guidance_scale=3.0).images[0].save("cat.png")"""
_CHECKPOINT = """from learn_diffusion import checkpoints

model, metadata = checkpoints.load("FOLDER/model.safetensors")"""
_DECODER = """
autoencoder, _ = checkpoints.load("FOLDER/autoencoder.safetensors")"""


def _is_pipeline(model: object) -> bool:
    return type(getattr(model, "net", None)).__name__ == "StableDiffusion"


def _own_data(about: Mapping[str, Any]) -> dict[str, str]:
    """What a header says of the data of a model that no recipe made; the rest is for whoever publishes it."""
    said = json.dumps(about["data"]) if "data" in about else "Its file does not say: write here what it learned from."
    return {
        "What": said, "Where from": "", "Licence": "write here under which one you publish it",
        "Limits": "Write here what it draws badly, and what is missing in its data.",
    }  # fmt: skip


def _named(metrics: Any) -> Mapping[str, Any]:
    return metrics if isinstance(metrics, Mapping) else {"all": metrics}


def _rows(metrics: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, one a row; a mean with its spread is one value."""
    for key, value in metrics.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value.keys() == {"mean", "std"}:
            yield name, f"{value['mean']:.4g} ± {value['std']:.2g}"
        elif isinstance(value, Mapping):
            yield from _rows(value, f"{name}, ")
        else:
            yield name, ", ".join(map(_said, value if isinstance(value, list) else [value]))


def _said(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
