"""A small variational autoencoder: pictures to a short code, and back.

Most of what a picture's pixels say is needless for knowing what is in it. The encoder says the rest in a code of a
quarter of the side, and a diffusion model that draws such codes has a sixteenth of the places to fill (Rombach et al.
2022). It answers with a mean and a variance for every number of the code: noise is added in training, and a price paid
for saying more than noise would (Kingma and Welling 2014), so that codes near each other are pictures near each other.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn_diffusion.nets.unet import GroupNorm
from learn_diffusion.validation import whole_number


class Normal(NamedTuple):
    """Independent normal distributions, one for each number of a code."""

    mean: Tensor  # (B, latent, H / 4, W / 4)
    logvar: Tensor  # the same; logarithm of the variance

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw, of the shape of mean; a generator of the CPU gives the same on every device."""
        mean, device = self.mean, self.mean.device if generator is None else generator.device
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=device).to(mean.device)
        return mean + (self.logvar / 2).exp() * noise

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from N(0, 1) in nats, number by number, of the shape of mean: what each says."""
        return (self.mean**2 + self.logvar.exp() - 1 - self.logvar) / 2


class Block(nn.Module):
    """The UNet's residual block, without a noise level to be told."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(c_in), GroupNorm(c_out)
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@final
class VAE(nn.Module):
    """encode(x (B, channels, H, W)) -> Normal of codes (B, latent, H/4, W/4); decode(z) -> (B, channels, H, W).

    channels  of the pictures, in [-1, 1]
    latent    channels of the code
    widths    channels of the layers at half and at a quarter of the side

    H and W must be divisible by 4. `scale` is a buffer, saved with the weights: 1 in training, and then, by
    `standardise`, what brings codes to standard deviation 1. encode multiplies by it and decode divides, so that
    outside a code is as strong as the noise that a diffusion model adds to it.
    """

    def __init__(self, channels: int = 3, latent: int = 4, widths: tuple[int, int] = (48, 128)):
        super().__init__()
        channels, latent = whole_number("channels", channels, 1), whole_number("latent", latent, 1)
        if not hasattr(widths, "__len__") or len(widths) != 2:
            raise ValueError(f"widths: expected two whole numbers above 0, such as (48, 128), got {widths!r}")
        fine, coarse = (whole_number("widths", width, 1) for width in widths)
        self.config = {"channels": channels, "latent": latent, "widths": [fine, coarse]}
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),  # half of the side at once: layers at full side would cost more than all others
            nn.Conv2d(4 * channels, fine, 3, padding=1), Block(fine, fine),
            nn.Conv2d(fine, fine, 3, stride=2, padding=1), Block(fine, coarse),
            GroupNorm(coarse), nn.SiLU(), nn.Conv2d(coarse, 2 * latent, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, coarse, 3, padding=1), Block(coarse, coarse), Block(coarse, coarse),
            nn.Upsample(scale_factor=2, mode="nearest"), Block(coarse, fine), Block(fine, fine),
            GroupNorm(fine), nn.SiLU(), nn.Conv2d(fine, 4 * channels, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.register_buffer("scale", torch.ones(()))
        self.to(memory_format=torch.channels_last)

    @property
    def outer(self) -> list[nn.Module]:
        """The layers that touch pictures or codes: see optim.hidden_matrices."""
        return [self.encoder[1], self.encoder[-1], self.decoder[0], self.decoder[-2]]

    def encode(self, x: Tensor) -> Normal:
        """The distributions of the codes of pictures x (B, channels, H, W)."""
        channels = self.config["channels"]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"x: expected (B, {channels}, H, W), H and W divisible by 4, got {tuple(x.shape)}")
        mean, logvar = self.encoder(x.contiguous(memory_format=torch.channels_last)).chunk(2, dim=1)
        return Normal(self.scale * mean, logvar.clamp(-20, 10) + 2 * self.scale.log())

    def decode(self, z: Tensor) -> Tensor:
        """The pictures (B, channels, 4 h, 4 w) of codes z (B, latent, h, w)."""
        if z.ndim != 4 or z.shape[1] != self.config["latent"]:
            raise ValueError(f"z: expected (B, {self.config['latent']}, h, w), got {tuple(z.shape)}")
        return self.decoder((z / self.scale).contiguous(memory_format=torch.channels_last))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Normal]:
        """x (B, channels, H, W) encoded, drawn and decoded, of the same shape; and the distributions of the codes."""
        code = self.encode(x)
        return self.decode(code.sample(generator)), code

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Fix the scale, so that the codes of pictures like x (N, channels, H, W) have standard deviation 1."""
        self.scale.fill_(1.0)
        self.scale.copy_(1 / torch.cat([self.encode(part).mean for part in x.split(100)]).std())
