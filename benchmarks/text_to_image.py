"""How often does the text model draw what its prompt asks for? `python benchmarks/text_to_image.py [--seed 100]`.

Fresh seeds, unless told otherwise; guidance and steps are those of the recipe.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

from learn_diffusion import checkpoints
from learn_diffusion.recipes import evaluation
from learn_diffusion.recipes.pretrained import load_autoencoder, pretrained_path
from learn_diffusion.recipes.transforms import downsample
from tools.tables import Table, machine, markdown

MODELS = ("scenes_by_caption", "latent_scenes_by_caption")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000, help="pictures of each kind of caption")
    parser.add_argument("--seed", type=int, help="of scenes and noise; without it, a fresh one")
    parser.add_argument("--model", default="latent_scenes_by_caption", choices=MODELS)
    args = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10_000, 2**31) if args.seed is None else args.seed
    classifier, _ = checkpoints.load(pretrained_path("scene_classifier"), "cpu")
    model, metadata = checkpoints.load(pretrained_path(args.model), "cpu")
    vae = load_autoencoder(model, metadata, "cpu")
    table = Table(
        f"{args.model}, {args.n} pictures of each kind, guidance {evaluation.GUIDANCE_SCALE}, seeds from {seed}, on "
        f"{machine()}",
        ("captions", "subject", "accessory", "place", "colour", "all four right"),
    )
    for kind in ("seen", "unseen triple", "unseen pair"):
        wanted = evaluation.some_scenes(kind, args.n, seed)
        images = evaluation.sample_scenes(model, wanted, seed, vae=vae)
        images = images if vae is None else downsample(images)
        each = evaluation.scene_accuracy(classifier, images, wanted)
        together = each.pop("all four")
        error = (together * (1 - together) / args.n) ** 0.5
        table.rows.append((kind, *(f"{share:.1%}" for share in each.values()), f"{together:.1%} ± {error:.1%}"))
    print(markdown(table))


if __name__ == "__main__":
    main()
