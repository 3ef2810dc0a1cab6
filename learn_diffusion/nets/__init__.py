"""Networks. They know nothing of diffusion: forward(x, logsnr, cond) maps a batch and a number to a batch.

Each keeps the arguments it was built with in `.config`, so that a checkpoint can say how to build it again.
"""

from learn_diffusion.nets.classifier import AttributeClassifier, Classifier, NoisyClassifier
from learn_diffusion.nets.dit import DiT
from learn_diffusion.nets.gan import Critic, Generator
from learn_diffusion.nets.mlp import MLP
from learn_diffusion.nets.unet import UNet
from learn_diffusion.nets.vae import VAE

__all__ = ["MLP", "VAE", "AttributeClassifier", "Classifier", "Critic", "DiT", "Generator", "NoisyClassifier", "UNet"]
