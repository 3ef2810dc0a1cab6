"""Stable Diffusion, small: the networks of a StableDiffusionPipeline as one network of this course, and back.

A latent diffusion model in the ecosystem's own parts (Rombach et al. 2022): AutoencoderKL, UNet2DConditionModel and
CLIPTextModel of diffusers and transformers, trained by this course's `train`. Needs diffusers and
transformers; nothing else in the package does.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log, pi
from typing import TYPE_CHECKING, final

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from learn_diffusion import checkpoints
from learn_diffusion.denoiser import LOGSNR_RANGE, Denoiser
from learn_diffusion.nets.text import Tokeniser
from learn_diffusion.nets.vae import Normal
from learn_diffusion.schedules import Cosine, Schedule

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

STEPS = 1000  # rows in the table of a scheduler
PREDICTION_TYPES = {"x0": "sample", "eps": "epsilon", "v": "v_prediction"}  # targets under the names of diffusers
LENGTH = 18  # tokens a caption: 16 words between a mark for the start and one for the end


def byte_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of pieces to be joined, in order, until each word is one piece: the most frequent pair first, and of
    equally frequent ones the first of the alphabet (byte-pair encoding, Sennrich et al. 2016).

    transformers could learn them, but it settles ties by chance: a saved model's words would change their numbers.
    """
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in words]
    joined = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        joined.append(best := min(pairs, key=lambda pair: (-pairs[pair], pair)))
        for word in pieces:
            for i in range(len(word) - 1):  # a word that grows shorter has no pair at its old end
                if tuple(word[i : i + 2]) == best:
                    word[i : i + 2] = ["".join(best)]
    return joined


def word_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """A tokenizer of byte pairs, as Stable Diffusion's, that reads each of these words as one token.

    Any other word falls into letters and pairs of them that no training has met: nothing is refused. Raises ValueError
    for words that it would not read as one token: those with digits or signs.
    """
    pairs, letters = byte_pairs(words), sorted(ByteLevel.alphabet())
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokens = special + letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in pairs]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=LENGTH)
    if several := [word for word in words if len(tokenizer(word).input_ids) != 3]:
        raise ValueError(f"words: expected words of letters, got {', '.join(map(repr, several))}")
    return tokenizer


class Reader:
    """Captions to tokens (B, LENGTH) of a tokenizer, with the course's errors for words that no training has met."""

    def __init__(self, words: Sequence[str], tokenizer: CLIPTokenizer):
        self._ours, self._tokenizer, self.length = Tokeniser(words), tokenizer, LENGTH - 2

    def __call__(self, captions: Sequence[str]) -> Tensor:
        self._ours(captions)  # raises
        plain = [" ".join(self._ours.split(caption)) for caption in captions]
        return torch.tensor(self._tokenizer(plain, padding="max_length").input_ids).reshape(len(plain), LENGTH)


class CLIPText(nn.Module):
    """tokens (B, LENGTH) -> (B, LENGTH, width): CLIP's text encoder and its tokenizer. A word sees those before it."""

    def __init__(self, words: Sequence[str], width: int):
        super().__init__()
        self.tokenizer = tokenizer = word_tokenizer(words)
        self.tokenise = Reader(words, tokenizer)
        self.encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=width,
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )  # fmt: skip
        empty = torch.full((LENGTH,), tokenizer.pad_token_id)
        empty[0] = tokenizer.bos_token_id
        self.register_buffer("empty", empty, persistent=False)  # "", which a dropped caption is replaced by

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(torch.where(tokens < 0, self.empty, tokens)).last_hidden_state


@final
class Autoencoder(nn.Module):
    """An AutoencoderKL as nets.VAE: encode(x) -> Normal of codes of standard deviation 1, decode(z) -> pictures."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae, self.scale = vae, vae.config.scaling_factor
        self.config = {"latent": vae.config.latent_channels}

    def encode(self, x: Tensor) -> Normal:
        """The distributions of the codes of pictures x (B, 3, H, W)."""
        code = self.vae.encode(x).latent_dist
        return Normal(self.scale * code.mean, code.logvar + 2 * log(self.scale))

    def decode(self, z: Tensor) -> Tensor:
        """The pictures (B, 3, 4 h, 4 w) of codes z (B, channels, h, w)."""
        return self.vae.decode(z / self.scale).sample


@final
class StableDiffusion(nn.Module):
    """forward(x (B, channels, h, w), logsnr (B,), cond (B, LENGTH) or None) -> like x: codes, from words.

    words    the vocabulary of captions
    widths   channels of the UNet at full and at half the side of a code; words are read at half the side
    text     features a word
    vae_widths  channels of the autoencoder at the side of the picture, at half and at a quarter of it
    scaling_factor  what brings the autoencoder's codes to standard deviation 1
    channels  of a code

    The UNet is told the step i of 1000 that belongs to the log-SNR on the cosine schedule: t = (i + 1) / 1000.
    """

    def __init__(
        self, words: Sequence[str], widths: Sequence[int] = (64, 112), text: int = 96,
        vae_widths: Sequence[int] = (24, 48, 72), scaling_factor: float = 1.0, channels: int = 4,
    ):  # fmt: skip
        super().__init__()
        self.config = {
            "channels": channels, "words": list(words), "widths": list(widths), "text": text,
            "vae_widths": list(vae_widths), "scaling_factor": float(scaling_factor),
        }  # fmt: skip
        self.side = 2
        self.unet = UNet2DConditionModel(
            sample_size=16, in_channels=channels, out_channels=channels, block_out_channels=list(widths),
            layers_per_block=1, down_block_types=["DownBlock2D"] * 2, mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=["UpBlock2D"] * 2, transformer_layers_per_block=2, cross_attention_dim=text,
            attention_head_dim=4, norm_num_groups=8, use_linear_projection=True, resnet_time_scale_shift="scale_shift",
            addition_embed_type="text", addition_embed_type_num_heads=4,  # a summary of the words goes to every block
        )  # fmt: skip
        self.text = CLIPText(words, text)
        self.vae = AutoencoderKL(
            sample_size=64, block_out_channels=list(vae_widths), layers_per_block=1, latent_channels=channels,
            down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3, norm_num_groups=8,
            mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False,
            scaling_factor=float(scaling_factor),
        )  # fmt: skip
        ends = self.vae.encoder, self.vae.decoder
        self.vae.outer = [layer for end in ends for layer in (end.conv_in, end.conv_out)]  # see optim.hidden_matrices
        self.to(memory_format=torch.channels_last)

    @property
    def outer(self) -> list[nn.Module]:
        """The layers that touch data, noise level or words: see optim.hidden_matrices."""
        unet, embeddings = self.unet, self.text.encoder.embeddings
        return [unet.conv_in, unet.time_embedding, unet.conv_out, embeddings, *self.vae.outer]

    def forward(self, x: Tensor, logsnr: Tensor, cond: Tensor | None = None) -> Tensor:
        channels = self.config["channels"]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"x: expected (B, {channels}, h, w), h and w divisible by 2, got {tuple(x.shape)}")
        words = self.text(self.text.empty.expand(len(x), -1) if cond is None else cond)
        t = torch.atan((-logsnr / 2).exp()) * (2 / pi)  # where the cosine schedule has this log-SNR
        t = torch.where(logsnr > LOGSNR_RANGE[0], t, 1.0)  # Denoiser ends there: pure noise
        return self.unet(x.contiguous(memory_format=torch.channels_last), STEPS * t - 1, words).sample

    @property
    def autoencoder(self) -> Autoencoder:
        """What decodes the codes that this network draws."""
        return Autoencoder(self.vae)


checkpoints.NETS[StableDiffusion.__name__] = StableDiffusion


def to_scheduler(schedule: Schedule, target: str) -> DDIMScheduler:
    """The scheduler of diffusers that walks along a schedule: its row i of 1000 is t = (i + 1) / 1000.

    It takes the steps of `ddim` with eta 0: evenly spaced from t = 1 ("trailing"), the last one to alpha = 1. Raises
    ValueError for a schedule that diffusers cannot hold in a table (alpha^2 + sigma^2 = 1, t up to 1), or a target
    that it has no name for.
    """
    t = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if schedule.t_max != 1 or not torch.allclose(alpha**2 + sigma**2, torch.ones_like(t)):
        raise ValueError(f"schedule: expected one with alpha^2 + sigma^2 = 1 and t from 0 to 1, got {schedule}")
    if target not in PREDICTION_TYPES:
        raise ValueError(f"target: expected one of {', '.join(PREDICTION_TYPES)}, got {target!r}")
    if target == "eps" and alpha[-1] == 0:  # its first step would divide by it
        raise ValueError(f"target: 'eps' does not determine the picture at t = 1 of {schedule}, where alpha is 0")
    return DDIMScheduler(
        num_train_timesteps=STEPS, trained_betas=(1 - (alpha[1:] / alpha[:-1]) ** 2).tolist(),
        prediction_type=PREDICTION_TYPES[target], clip_sample=False, set_alpha_to_one=True, steps_offset=1,
        timestep_spacing="trailing",
    )  # fmt: skip


@final
class Table(Schedule):
    """The noise schedule of a scheduler of diffusers: row i of its alphas_cumprod (T,) is t = (i + 1) / T, and t = 0 is
    the data. Between rows log(alpha_bar) is linear. A last row of 0 has no logarithm: rescale_betas_zero_snr=True puts
    2^-24 there."""

    def __init__(self, alphas_cumprod: Tensor):
        if not (alphas_cumprod > 0).all():
            raise ValueError(f"alphas_cumprod: expected numbers above 0, got {alphas_cumprod.min().item()}")
        self._log = torch.cat([torch.zeros(1), alphas_cumprod.double().log().cpu()])

    def _log_alpha_bar(self, t: Tensor) -> Tensor:
        log, i = self._log.to(t.device), t.double() * (len(self._log) - 1)
        low = i.detach().floor().long().clamp(0, len(log) - 2)
        return log[low] + (i - low) * (log[low + 1] - log[low])

    def alpha(self, t: Tensor) -> Tensor:
        return (self._log_alpha_bar(t) / 2).exp().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self._log_alpha_bar(t))).sqrt().to(t.dtype)


def to_pipeline(model: Denoiser) -> StableDiffusionPipeline:
    """The pipeline of a Denoiser whose network is a StableDiffusion; it shares the networks."""
    from diffusers import StableDiffusionPipeline  # warns that torchvision is missing, which nothing here needs

    net = getattr(model, "net", model)
    if not isinstance(net, StableDiffusion):
        raise TypeError(f"model: expected a Denoiser of a StableDiffusion, got one of {type(net).__name__}")
    if not isinstance(model.schedule, Cosine):
        raise ValueError(f"model: expected one of the cosine schedule, got {model.schedule}")
    return StableDiffusionPipeline(
        vae=net.vae, text_encoder=net.text.encoder, tokenizer=net.text.tokenizer, unet=net.unet,
        scheduler=to_scheduler(model.schedule, model.target), safety_checker=None, feature_extractor=None,
        image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
