"""Are patterns like real ones? Their shapes, the shares of their colours, and what they keep of a sketch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from learn_diffusion import validation
from learn_diffusion.metrics.distributions import frechet
from learn_diffusion.metrics.error_bars import MeanWithError

LAGS = (1, 2, 3, 5, 8)  # pixels: the grain of a pattern, the size of its motifs, and their spacing


def autocorrelation(pictures: Tensor, lags: Sequence[int] = LAGS) -> Tensor:
    """Correlation of pixels so many steps apart, down and across together, of pictures (n, C, H, W): (n, lags)."""
    x = pictures - pictures.mean((2, 3), keepdim=True)
    power = x.square().mean((1, 2, 3))
    across = [(x[..., k:] * x[..., :-k]).mean((1, 2, 3)) / power for k in lags]
    down = [(x[..., k:, :] * x[..., :-k, :]).mean((1, 2, 3)) / power for k in lags]
    return (torch.stack(across, 1) + torch.stack(down, 1)) / 2


def texture_distance(pictures: Tensor, real: Tensor, redraws: int = 40, seed: int = 0) -> MeanWithError:
    """Fréchet distance between the autocorrelations of pictures (n, C, H, W) and of real ones (m, C, H, W).

    Each correlation is measured in standard deviations of the real ones. It knows shapes and neither colours nor
    places: a scaled or inverted picture has the same. The error is that of a bootstrap over pictures (Efron 1979), with
    the real ones as they are.
    """
    validation.floats("pictures", pictures, ndim=4)
    validation.floats("real", real, ndim=4)
    validation.whole_number("redraws", redraws, 2)
    b = autocorrelation(real)
    centre, unit = b.mean(0), b.std(0)
    a, b = ((x - centre) / unit for x in (autocorrelation(pictures), b))
    g = torch.Generator().manual_seed(seed)
    picks = [torch.randint(len(a), (len(a),), generator=g) for _ in range(redraws)]
    scatter = torch.tensor([frechet(a[pick], b) for pick in picks]).std()
    return MeanWithError(frechet(a, b), scatter.item())


def ink_shares(ink: Tensor, inks: int) -> Tensor:
    """Shares of the pixels in each of so many inks, (n, inks), from the ink of each pixel, int64 (n, H, W)."""
    return F.one_hot(ink, inks).float().mean((1, 2))


def wrong_share(ink: Tensor, shares: Tensor) -> Tensor:
    """The part of the pixels that would have to change their ink to meet the shares (K,): total variation, (n,)."""
    return (ink_shares(ink, len(shares)) - shares).abs().sum(1) / 2


def flat_share(pictures: Tensor, levels: float = 8.0) -> Tensor:
    """The part of horizontal neighbours of one colour, in every channel to `levels` of 255, (n,)."""
    return (127.5 * pictures.diff(dim=3).abs().amax(1) < levels).float().mean((1, 2))


def coarse_correlation(pictures: Tensor, reference: Tensor, block: int = 4) -> Tensor:
    """Correlation of pictures with reference, (n, C, H, W) both, seen from far away: as blocks of pixels, (n,)."""
    validation.same_shape("pictures", pictures, "reference", reference)
    return F.cosine_similarity(coarse(pictures, block), coarse(reference, block))


def coarse(pictures: Tensor, block: int = 4) -> Tensor:
    """What is left of pictures (n, C, H, W) from far away: means of blocks, without the mean colour, (n, D)."""
    blocks = F.avg_pool2d(pictures, block)
    return (blocks - blocks.mean((2, 3), keepdim=True)).flatten(1)
