"""Chapter 16, Can it draw a pattern that never ends, in the colours you choose?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers

# a picture without a border


def my_wrap(x, k):
    x = torch.cat([x[..., -k:], x, x[..., :k]], dim=-1)  # left and right
    return torch.cat([x[..., -k:, :], x, x[..., :k, :]], dim=-2)  # above and below, corners included


def _margins(before, after):
    """The margins before(x, k) and after(x, k), whose first axis is the height, and then the width alike."""

    def wrap(x, k):
        for _ in range(2):
            x = torch.cat([before(x, k), x, after(x, k)], dim=-2).mT
        return x

    return wrap


def _padded(mode, left=1, right=1):
    return lambda x, k: F.pad(x, 2 * (left * k, right * k), mode=mode)


def empty_corners(x, k):
    across, down = F.pad(x, (k, k, 0, 0), mode="circular"), F.pad(x, (0, 0, k, k), mode="circular")
    return F.pad(across, (0, 0, k, k)) + F.pad(down, (k, k, 0, 0)) - F.pad(x, (k, k, k, k))


def nine_copies(x, k):
    height, width = x.shape[-2:]
    return x.repeat(1, 1, 3, 3)[..., height - k : 2 * height + k, width - k : 2 * width + k]


def _differs(got, expected, x, k):
    parts = {"the middle": np.s_[..., k:-k, k:-k], "the left": np.s_[..., k:-k, :k], "the right": np.s_[..., k:-k, -k:]}
    parts |= {"the top": np.s_[..., :k, k:-k], "the bottom": np.s_[..., -k:, k:-k]}
    off = [name for name, part in parts.items() if not agrees(got[part], expected[part])]
    return f"This differs from a tiled floor: {', '.join(off) or 'the four corners'}."


G = torch.Generator().manual_seed(0)
ROLLED, KERNEL = torch.randn(1, 2, 6, 8, generator=G), torch.randn(3, 2, 3, 3, generator=G)
EARLIER = {}


def _check(my_wrap):
    def seen(x):
        return F.conv2d(numbers(call(my_wrap, x.clone(), 1)).float(), KERNEL)

    if not agrees(seen(ROLLED.roll((2, 3), (2, 3))), seen(ROLLED).roll((2, 3), (2, 3))):
        raise IncorrectAnswer("A filter sees something else on a rolled picture: does it remember an earlier call?")


Exercise(
    "16.torus",
    r"""Take the border away from a convolution. `my_wrap(x, k)` gets pictures (B, C, H, W) and a number of pixels, `k`, at least 1 and smaller than the sides. Return (B, C, H + 2k, W + 2k): the picture in the middle, and on each side `k` pixels of what a tiled floor would show there: on the left the last columns, on the right the first, above the last rows, below the first, and in the corners what lies in the opposite ones.
    (`F.pad` can do it in one word. Do it with slices and `torch.cat`. The check also slides a filter over the result: on a picture that is rolled, it should see the same, rolled.)""",
    hints=[
        "x[..., -k:] are the last k columns, and x[..., :k] the first.",
        "torch.cat([last, x, first], dim=-1) does the width. What does the height need?",
        "Pad the height of what was padded in width already: so the corners come by themselves.",
    ],
    solution=my_wrap,
    inputs=[(torch.randn(2, 3, 6, 5, generator=G), 2), (torch.randn(1, 1, 4, 5, generator=G), 1)],
    result="the padded picture",
    check=_check,
    mistakes={
        "The margin is filled with zeros: that is the border we want to be rid of.": _padded("constant"),
        "The picture repeats its own border. Take the pixels from the opposite side.": _padded("replicate"),
        "The margin is mirrored: it continues the picture with itself, and not with the opposite side.": [
            _padded("reflect"),
            _margins(lambda x, k: x[..., :k, :].flip(-2), lambda x, k: x[..., -k:, :].flip(-2)),
        ],
        "The first columns stand on the left. Left of the first column lies the last one.": _margins(
            lambda x, k: x[..., :k, :], lambda x, k: x[..., -k:, :]
        ),
        "It goes round only left and right. Above and below the floor goes on, too.": lambda x, k: F.pad(
            F.pad(x, (k, k, 0, 0), mode="circular"), (0, 0, k, k)
        ),
        "The corners are empty. Diagonally across lies the opposite corner.": empty_corners,
        "The right pixels, but the outer columns come from the far side in reverse.": _margins(
            lambda x, k: x[..., -k:, :].flip(-2), lambda x, k: x[..., :k, :].flip(-2)
        ),
        "The picture itself should stand in the middle, from row and column {k} on, as it was.": [
            _padded("circular", 0, 2),
            _padded("circular", 2, 0),
        ],
        "does it remember an earlier call?": lambda x, k: EARLIER.setdefault(x.shape, my_wrap(x, k)),
    },
    variants=[nine_copies, _padded("circular")],
    right="Every side shows what a tiled floor would, and a filter does not know where the picture begins.",
    otherwise=_differs,
)

# colours that are wished for


def my_pull(x, x0, palette, strength, alpha, sigma):
    off = x0[:, None] - palette[:, :, None, None]  # (B, K, 3, H, W): every pixel against every colour
    nearest = off.square().sum(2).argmin(1)  # (B, H, W)
    wanted = palette[nearest].movedim(-1, 1)  # (B, 3, H, W)
    x0 = x0 + strength * (wanted - x0)
    return x0, (x - alpha * x0) / sigma


def _pull(wanted):
    """Towards wanted(x0, palette)."""

    def pull(x, x0, palette, strength, alpha, sigma):
        x0 = x0 + strength * (wanted(x0, palette) - x0)
        return x0, (x - alpha * x0) / sigma

    return pull


def _closest(distance):
    """Towards the colour of the smallest distance(off), of off (B, K, 3, H, W)."""
    return _pull(
        lambda x0, palette: palette[distance(x0[:, None] - palette[:, :, None, None]).argmin(1)].movedim(-1, 1)
    )


def _by_channel(x0, palette):
    nearest = (x0[:, None] - palette[:, :, None, None]).abs().argmin(1)  # (B, 3, H, W)
    return torch.stack([palette[:, c][nearest[:, c]] for c in range(3)], dim=1)


def pixel_by_pixel(x, x0, palette, strength, alpha, sigma):
    new = x0.clone()
    for b, row, column in torch.cartesian_prod(*(torch.arange(n) for n in (len(x0), *x0.shape[2:]))).tolist():
        pixel = x0[b, :, row, column]
        colour = min(palette, key=lambda c, pixel=pixel: ((c - pixel) ** 2).sum().item())
        new[b, :, row, column] = (1 - strength) * pixel + strength * colour
    return [new.numpy(), ((x - alpha * new) / sigma).numpy()]


def _pictures():
    g = torch.Generator().manual_seed(0)
    palette, x0 = torch.rand(4, 3, generator=g) * 2 - 1, torch.rand(2, 3, 7, 6, generator=g) * 2 - 1
    alpha, sigma = torch.tensor(0.7), torch.tensor(0.3)  # not on the circle
    x = alpha * x0 + sigma * torch.randn(x0.shape, generator=g)
    return [(x, x0, palette, strength, alpha, sigma) for strength in (0.25, 1.0, 0.0)]


Exercise(
    "16.palette",
    r"""Write the hard way of pulling towards a palette. `my_pull(x, x0, palette, strength, alpha, sigma)` gets noised pictures and what the model believes of them, both (B, 3, H, W), a palette (K, 3), a share `strength` from 0 to 1, and $\alpha$ and $\sigma$.
    For every pixel find the palette's nearest colour (the smallest sum of squared differences over the three channels), and move the pixel that share of the way towards it. Return the new $\hat x_0$, and the $\hat\varepsilon$ that makes $x_t = \alpha\hat x_0 + \sigma\hat\varepsilon$ true again.""",
    hints=[
        "off = x0[:, None] - palette[:, :, None, None] is (B, K, 3, H, W): every pixel against every colour.",
        "nearest = off.square().sum(2).argmin(1) is (B, H, W); palette[nearest] is (B, H, W, 3); movedim(-1, 1) puts the channels first.",
        "x0 + strength * (wanted - x0), and then solve the sentence for eps.",
    ],
    solution=my_pull,
    inputs=_pictures,
    result=("the new x0", "eps"),
    mistakes={
        "The two results are exchanged: the new x0 comes first, then eps.": lambda *args: my_pull(*args)[::-1],
        "At strength {strength:g} every pixel takes its palette colour whole. It should go that share of the way.": (
            lambda x, x0, palette, strength, *rest: my_pull(x, x0, palette, 1.0, *rest)
        ),
        "The shares are exchanged: strength 0 should leave the picture, and strength 1 should snap it.": (
            lambda x, x0, palette, strength, *rest: my_pull(x, x0, palette, 1 - strength, *rest)
        ),
        "The pixels move away from their colours. The step is the wanted colour minus the pixel.": (
            lambda x, x0, palette, strength, *rest: my_pull(x, x0, palette, -strength, *rest)
        ),
        "Each channel looks for its own nearest value, and so mixes colours that the palette does not have.": (
            _pull(_by_channel)
        ),
        "The nearest colour is sought by sums of absolute differences. Square them.": _closest(
            lambda off: off.abs().sum(2)
        ),
        "All pixels go towards the mean of the palette.": _pull(lambda x0, palette: palette.mean(0)[:, None, None]),
        "That is the farthest colour of the palette.": _closest(lambda off: -off.square().sum(2)),
        "One colour was chosen for the whole picture. Choose one for every pixel.": _closest(
            lambda off: off.square().sum((2, 3, 4))[..., None, None]
        ),
        "The colours nearest to the noised x were chosen. Ask what the model believes, x0.": (
            lambda x, x0, palette, strength, *rest: _pull(lambda *_: my_pull(x, x, palette, 1.0, *rest)[0])(
                x, x0, palette, strength, *rest
            )
        ),
        "The noise is still the old one: alpha * x0 + sigma * eps is no longer x.": (
            lambda x, x0, palette, strength, alpha, sigma: (
                my_pull(x, x0, palette, strength, alpha, sigma)[0],
                (x - alpha * x0) / sigma,
            )
        ),
        "The new x0 is right, but alpha * x0 + sigma * eps is not x: eps is (x - alpha * x0) / sigma.": [
            lambda *args: my_pull(*args[:-1], 1.0),
            lambda x, x0, palette, strength, alpha, sigma: my_pull(x, x0, palette, strength, -alpha, sigma),
        ],
    },
    variants=[pixel_by_pixel],
    right="Every pixel goes towards its nearest colour, and the sentence stays true.",
)
