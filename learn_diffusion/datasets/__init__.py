"""Functions that return tensors: pictures are float32 (N, C, H, W) in [-1, 1], points are float32 (N, 2)."""

from learn_diffusion.datasets.advection import dye
from learn_diffusion.datasets.benchmarks import cifar10, fashion_mnist, mnist
from learn_diffusion.datasets.digits import digits
from learn_diffusion.datasets.folder import folder
from learn_diffusion.datasets.patterns import PALETTES, colours, palette, patterns
from learn_diffusion.datasets.products import products
from learn_diffusion.datasets.scenes import labelled_scenes, scenes
from learn_diffusion.datasets.sprites import walkers
from learn_diffusion.datasets.terrain import terrain
from learn_diffusion.datasets.toy2d import gaussians, lattice, lattice_centres, moons, spiral

__all__ = [
    "PALETTES",
    "cifar10",
    "colours",
    "digits",
    "dye",
    "fashion_mnist",
    "folder",
    "gaussians",
    "labelled_scenes",
    "lattice",
    "lattice_centres",
    "mnist",
    "moons",
    "palette",
    "patterns",
    "products",
    "scenes",
    "spiral",
    "terrain",
    "walkers",
]
