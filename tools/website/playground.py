"""What the playground page runs: `fill(FOLDER)` writes the shipped models as ONNX, their words and a picture to repair.

The weights stay in half precision, and are cast to float32 as the network is loaded: half the download.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import warnings
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor

from learn_diffusion import checkpoints, sampling
from learn_diffusion.datasets.scenes import canonical_caption
from learn_diffusion.denoiser import Denoiser
from learn_diffusion.nets import VAE
from learn_diffusion.nets.text import record_attention
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.pretrained import load_autoencoder, pretrained_path
from learn_diffusion.widgets import PaintedMask
from learn_diffusion.widgets.images import to_uint8
from tools import ROOT
from tools.readme_images import PROMPT

BOOK = ROOT / "book"
MODELS = {"digits": "mnist_by_label", "scenes": "latent_scenes_by_caption", "repair": "scenes_by_mask"}
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
WAIT = "<p data-wait>To try this, the page needs a web server, and a browser of 2024 or newer that runs scripts.</p>"
OPSET = 18
LARGE = 1024  # numbers; smaller weights stay in float32


def transpose(g, matrix):
    """How ONNX says x.mT, which torch's exporter does not know."""
    rank = matrix.type().dim()
    return g.op("Transpose", matrix, perm_i=[*range(rank - 2), rank - 1, rank - 2])


class Repair(NamedTuple):
    """The picture that the playground offers to repair."""

    known: Tensor  # (3, H, W)
    mask: Tensor  # (H, W) bool, True where it is kept
    was: str  # what it shows
    asked: str  # what it should show


@cache
def repair() -> Repair:
    """One of chapter 13's tasks: a scene, a hole where something is worn, and other words for it."""
    known, wanted, mask = evaluation.inpainting_tasks(8, seed=11)
    olds, _ = evaluation.one_word(8, "accessory", seed=11)
    i = next(i for i, scene in enumerate(wanted) if scene.accessory in ("crown", "sunglasses", "hat"))
    return Repair(known[i], mask[i, 0], canonical_caption(olds[i]), canonical_caption(wanted[i]))


class Guess(torch.nn.Module):
    """x0 as a model guesses it, whatever its target is: forward(x (n, C, H, W), logsnr (n,), cond (n, ...)).

    Of a model that reads words also its attention (n, L, pixels): the mean over its heads and layers.
    """

    def __init__(self, model: Denoiser):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, logsnr: Tensor, cond: Tensor) -> tuple[Tensor, ...]:
        net = self.model.net
        noisy = x[:, : net.config["channels"]]
        alpha, sigma = (level.sigmoid().sqrt()[:, None, None, None] for level in (logsnr, -logsnr))
        a, b = self.model.target_coefficients(alpha, sigma)
        with record_attention(net) if net.text else nullcontext([]) as maps:
            x0 = (sigma * net(x, logsnr, cond) - b * noisy) / (sigma * a - alpha * b)
        return (x0, torch.stack(maps).mean(0).mT) if maps else (x0,)


class Decode(torch.nn.Module):
    """forward(z (n, latent, h, w)) -> pictures (n, C, 4 h, 4 w) in [-1, 1]."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor) -> Tensor:
        return self.vae.decode(z).clamp(-1, 1)


def guess(model: Denoiser, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The network (x (n, C, H, W), logsnr (n,), cond (n, ...) int64) -> what Guess says, for any n, as ONNX."""
    net, config = model.net, model.net.config
    x = torch.randn(2, shape[0] + config["cond_channels"], *shape[1:])
    cond = torch.zeros(2, net.text.tokenise.length if net.text else 1, dtype=torch.int64).squeeze(1)
    outputs = ["x0", "attention"] if net.text else ["x0"]
    return exported(Guess(model), {"x": x, "logsnr": torch.zeros(2), "cond": cond}, outputs)


def exported(network: torch.nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    """A network as ONNX, its large weights in half precision, for inputs of any number of rows."""
    file = io.BytesIO()
    torch.onnx.register_custom_op_symbolic("aten::mT", transpose, OPSET)
    rows = {name: {0: "n"} for name in (*inputs, *outputs)}
    with warnings.catch_warnings():
        # The network's checks of its arguments become constants, as they should; torch's newer exporter, which the
        # older one recommends, refuses them.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, tuple(inputs.values()), file, input_names=[*inputs], output_names=outputs, dynamic_axes=rows,
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    made = onnx.load_from_string(file.getvalue())
    halve(made.graph)
    return made


def halve(graph: onnx.GraphProto) -> None:
    """Store large weights as float16, each with a Cast back to float32 before the rest."""
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < LARGE:
            continue
        name, half = weight.name, numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def export(name: str, out: Path) -> dict[str, object]:
    """Write one model to out; what the page has to know about it."""
    model, metadata = checkpoints.load(pretrained_path(MODELS[name]), "cpu")
    model = checkpoints.to_fp16(model)  # as the page will have it
    assert str(model.schedule) == "Cosine()", "diffusion.mjs knows one path"
    content = guess(model, metadata["data_shape"]).SerializeToString()
    (out / f"{name}.onnx").write_bytes(content)
    info = {"file": f"{name}.onnx", "bytes": len(content), "shape": metadata["data_shape"]}
    if "autoencoder" in metadata:
        vae, coded = checkpoints.load(pretrained_path(metadata["autoencoder"]), "cpu")
        content = exported(Decode(vae), {"z": torch.randn(2, *metadata["data_shape"])}, ["x"]).SerializeToString()
        (out / f"{name}_decoder.onnx").write_bytes(content)
        info |= {"decoder": f"{name}_decoder.onnx", "picture": coded["data_shape"]}
        info["bytes"] += len(content)
    if model.net.text:
        return info | {"words": model.net.text.tokenise.words, "length": model.net.text.tokenise.length}
    return info | {"classes": model.net.config["classes"]}


def painter(task: Repair) -> str:
    """The picture of the task with the hole painted on it, as HTML that paints without a kernel."""
    canvas = PaintedMask(task.known, alt=f"{task.was.capitalize()}, partly painted over.", start=~task.mask)
    box = f'<input type="text" autocomplete="off" data-mask value="{canvas.control.value}">'  # a reload begins anew
    box = f'<div class="{canvas.key}" hidden>{box}</div>'
    return f'<div data-playground="repair">{canvas._repr_mimebundle_()["text/html"]}{box}{WAIT}</div>\n'


def stills(out: Path) -> None:
    """What the page shows before, or without, a model: pictures that the models drew, and the one to repair."""
    digits, _ = checkpoints.load(pretrained_path(MODELS["digits"]), "cpu")
    scenes, metadata = checkpoints.load(pretrained_path(MODELS["scenes"]), "cpu")
    vae = load_autoencoder(scenes, metadata, "cpu")
    three = sampling.sample(digits, (1, 1, 28, 28), sampling.condition(digits, 1, label=3), scale=2.0)
    shape = (1, *metadata["data_shape"])
    cat = sampling.sample(scenes, shape, sampling.condition(scenes, 1, prompt=PROMPT), scale=2.0, seed=3, vae=vae)
    for name, picture in {"digits": three[0], "scenes": cat[0], "scene": repair().known}.items():
        Image.fromarray(to_uint8(picture, name)).save(out / f"{name}.png")


def fill(folder: Path) -> None:
    """Write models/ and ort/ into folder, which holds the page's scripts.

    Raises OSError where npm, which brings the runtime, is missing or fails; the still pictures are written even then.
    """
    models, runtime = folder / "models", folder / "ort"
    for made in (models, runtime):
        made.mkdir()
    stills(models)
    installed = packages() / "onnxruntime-web" / "dist"
    for name in RUNTIME:
        shutil.copy(installed / name, runtime)
    manifest = {name: export(name, models) for name in MODELS}
    manifest["scenes"]["prompt"], manifest["repair"]["prompt"] = PROMPT, repair().asked
    manifest["runtime"] = {"bytes": sum((runtime / name).stat().st_size for name in RUNTIME)}
    (models / "manifest.json").write_text(json.dumps(manifest))


def packages() -> Path:
    """book/node_modules, made by npm exactly as package-lock.json says, and again where that is newer."""
    there = BOOK / "node_modules"
    made = there / ".package-lock.json"
    if not made.exists() or made.stat().st_mtime < (BOOK / "package-lock.json").stat().st_mtime:
        npm = shutil.which("npm")
        if npm is None:
            raise OSError("npm was not found: the playground's runtime comes from there. Install Node.js 18 or newer.")
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=BOOK, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"npm ci failed in {BOOK.name}/:\n{done.stderr[-2000:]}")
    return there


if __name__ == "__main__":  # before tests that build the site side by side
    try:
        print(packages())
    except OSError as error:
        print(f"The playground will show still pictures only: {error}")
