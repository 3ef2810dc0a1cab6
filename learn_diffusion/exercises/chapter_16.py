"""Chapter 16, Can it draw a pattern that never ends, in the colours you choose?"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from learn_diffusion.exercises.core import Exercise, IncorrectAnswer, agrees, call, numbers, pair

# a picture without a border

torus = Exercise(
    "16.torus",
    r"""Take the border away from a convolution. `my_wrap(x, k)` gets pictures (B, C, H, W) and a number of pixels, `k`, at least 1 and smaller than the sides. Return (B, C, H + 2k, W + 2k): the picture in the middle, and on each side `k` pixels of what a tiled floor would show there: on the left the last columns, on the right the first, above the last rows, below the first, and in the corners what lies in the opposite ones.
    (`F.pad` can do it in one word. Do it with slices and `torch.cat`. The check also slides a filter over the result: on a picture that is rolled, it should see the same, rolled.)""",
    hints=[
        "x[..., -k:] are the last k columns, and x[..., :k] the first.",
        "torch.cat([last, x, first], dim=-1) does the width. What does the height need?",
        "Pad the height of what was padded in width already: so the corners come by themselves.",
    ],
)


def _plain(x, k):
    return F.pad(x, (k, k, k, k), mode="circular")


@torus.oracle
def _(my_wrap):
    g = torch.Generator().manual_seed(0)
    for shape, k in (((2, 3, 6, 5), 2), ((1, 1, 4, 5), 1)):  # with k = 1 some mistakes look alike
        x = torch.randn(shape, generator=g)
        *first, height, width = shape
        out = call(my_wrap, x.clone(), k)
        out = numbers(out, (*first, height + 2 * k, width + 2 * k), "the padded picture")
        if agrees(out, _plain(x, k)):
            continue
        if not agrees(out[..., k:-k, k:-k], x):
            raise IncorrectAnswer(
                f"The picture itself should stand in the middle, from row and column {k} on, as it was."
            )
        for wrong, says in _KNOWN:
            if agrees(out, wrong(x, k)):
                raise IncorrectAnswer(says)
        raise IncorrectAnswer(_where_it_differs(out, _plain(x, k), k))
    x, kernel = torch.randn(1, 2, 6, 8, generator=g), torch.randn(3, 2, 3, 3, generator=g)

    def seen(x):
        return F.conv2d(numbers(call(my_wrap, x.clone(), 1)).float(), kernel)

    if not agrees(seen(x.roll((2, 3), (2, 3))), seen(x).roll((2, 3), (2, 3))):
        raise IncorrectAnswer(
            "A filter sees something else on a rolled picture: does your function remember an earlier call?"
        )
    return "Every side shows what a tiled floor would, and a filter does not know where the picture begins."


def _where_it_differs(out, right, k):
    names = {
        "the left": (..., slice(k, -k), slice(None, k)),
        "the right": (..., slice(k, -k), slice(-k, None)),
        "the top": (..., slice(None, k), slice(k, -k)),
        "the bottom": (..., slice(-k, None), slice(k, -k)),
    }
    off = [name for name, part in names.items() if not agrees(out[part], right[part])]
    return f"These sides differ from a tiled floor: {', '.join(off)}." if off else "The four corners are not right."


@torus.answer
def my_wrap(x, k):
    x = torch.cat([x[..., -k:], x, x[..., :k]], dim=-1)  # left and right
    return torch.cat([x[..., -k:, :], x, x[..., :k, :]], dim=-2)  # above and below, corners included


@torus.mutant("filled with zeros")
def zeros(x, k):
    return F.pad(x, (k, k, k, k))


@torus.mutant("repeats its own border")
def repeats_the_border(x, k):
    return F.pad(x, (k, k, k, k), mode="replicate")


@torus.mutant("mirrored")
def mirrors(x, k):
    return F.pad(x, (k, k, k, k), mode="reflect")


def _mirrors_with_the_border(x, k):
    x = torch.cat([x[..., :k].flip(-1), x, x[..., -k:].flip(-1)], dim=-1)
    return torch.cat([x[..., :k, :].flip(-2), x, x[..., -k:, :].flip(-2)], dim=-2)


@torus.mutant("first columns stand on the left")
def wrong_way_round(x, k):
    x = torch.cat([x[..., :k], x, x[..., -k:]], dim=-1)
    return torch.cat([x[..., :k, :], x, x[..., -k:, :]], dim=-2)


@torus.mutant("only left and right")
def only_the_width(x, k):
    return F.pad(F.pad(x, (k, k, 0, 0), mode="circular"), (0, 0, k, k))


@torus.mutant("corners are empty")
def empty_corners(x, k):
    out = _plain(x, k)
    for rows in (slice(None, k), slice(-k, None)):
        for columns in (slice(None, k), slice(-k, None)):
            out[..., rows, columns] = 0
    return out


@torus.mutant("the outer columns come from the far side in reverse")
def reversed_columns(x, k):
    x = torch.cat([x[..., -k:].flip(-1), x, x[..., :k].flip(-1)], dim=-1)
    return torch.cat([x[..., -k:, :].flip(-2), x, x[..., :k, :].flip(-2)], dim=-2)


_KNOWN = [
    (zeros, "The margin is filled with zeros: that is the border we want to be rid of."),
    (repeats_the_border, "The picture repeats its own border. Take the pixels from the opposite side."),
    (mirrors, "The margin is mirrored: it continues the picture with itself, and not with the opposite side."),
    (_mirrors_with_the_border, "The margin is mirrored: it continues the picture with itself."),
    (wrong_way_round, "The first columns stand on the left. Left of the first column lies the last one."),
    (only_the_width, "It goes round only left and right. Above and below the floor goes on, too."),
    (empty_corners, "The corners are empty. Diagonally across lies the opposite corner."),
    (reversed_columns, "The right pixels, but the outer columns come from the far side in reverse."),
]


@torus.variant
def by_remainders(x, k):
    rows = torch.arange(-k, x.shape[-2] + k) % x.shape[-2]
    columns = torch.arange(-k, x.shape[-1] + k) % x.shape[-1]
    return x[..., rows, :][..., columns]


@torus.variant
def nine_copies(x, k):
    floor = x.repeat(1, 1, 3, 3)
    height, width = x.shape[-2:]
    return floor[..., height - k : 2 * height + k, width - k : 2 * width + k]


# colours that are wished for

palette = Exercise(
    "16.palette",
    r"""Write the hard way of pulling towards a palette. `my_pull(x, x0, palette, scale, alpha, sigma)` gets noised pictures and what the model believes of them, both (B, 3, H, W), a palette (K, 3), a share `scale` from 0 to 1, and $\alpha$ and $\sigma$.
    For every pixel find the palette's nearest colour (the smallest sum of squared differences over the three channels), and move the pixel that share of the way towards it. Return the new $\hat x_0$, and the $\hat\varepsilon$ that makes $x_t = \alpha\hat x_0 + \sigma\hat\varepsilon$ true again.""",
    hints=[
        "off = x0[:, None] - palette[:, :, None, None] is (B, K, 3, H, W): every pixel against every colour.",
        "nearest = off.square().sum(2).argmin(1) is (B, H, W); palette[nearest] is (B, H, W, 3); movedim(-1, 1) puts the channels first.",
        "x0 + scale * (wanted - x0), and then solve the sentence for eps.",
    ],
)


def _wanted(x0, colours, by=lambda off: off.square().sum(2)):
    nearest = by(x0[:, None] - colours[:, :, None, None]).argmin(1)
    return colours[nearest].movedim(-1, 1)


def _completed(x, x0, alpha, sigma):
    return x0, (x - alpha * x0) / sigma


@palette.oracle
def _(my_pull):
    g = torch.Generator().manual_seed(0)
    colours = torch.rand(4, 3, generator=g) * 2 - 1
    alpha, sigma = torch.tensor(0.8), torch.tensor(0.6)
    x0 = torch.rand(2, 3, 7, 6, generator=g) * 2 - 1
    x = alpha * x0 + sigma * torch.randn(x0.shape, generator=g)
    for scale in (0.25, 1.0, 0.0):
        args = (x.clone(), x0.clone(), colours.clone(), scale, alpha.clone(), sigma.clone())
        new, eps = pair(call(my_pull, *args), "the new x0 and the eps that goes with it")
        new, eps = numbers(new, x0.shape, "the new x0"), numbers(eps, x0.shape, "eps")
        right = x0 + scale * (_wanted(x0, colours) - x0)
        if not agrees(new, right):
            if agrees(eps, right):
                raise IncorrectAnswer("The two results are exchanged: the new x0 comes first, then eps.")
            _explain(new, x0, colours, scale)
            b, c, row, column = (int(i[0]) for i in torch.where((new - right).abs() == (new - right).abs().max()))
            raise IncorrectAnswer(
                f"At scale {scale}, channel {c} of the pixel in row {row}, column {column} of picture {b} should become "
                f"{right[b, c, row, column]:.3f}, and becomes {new[b, c, row, column]:.3f}."
            )
        if agrees(eps, (x - alpha * right) / sigma):
            continue
        if agrees(eps, (x - alpha * x0) / sigma):
            raise IncorrectAnswer("The noise is still the old one: alpha * x0 + sigma * eps is no longer x.")
        raise IncorrectAnswer(
            "The new x0 is right, but alpha * x0 + sigma * eps is not x: eps is (x - alpha * x0) / sigma."
        )
    return "Every pixel goes towards its nearest colour, and the sentence stays true."


def _explain(new, x0, colours, scale):
    """Raise Wrong where the new x0 is one of the usual mistakes."""

    def towards(wanted, share=scale):
        return agrees(new, x0 + share * (wanted - x0))

    nearest = _wanted(x0, colours)
    if towards(nearest, 1.0):
        raise IncorrectAnswer(
            f"At scale {scale} every pixel takes its palette colour whole. It should go that share of the way."
        )
    if towards(nearest, 1 - scale):
        raise IncorrectAnswer("The shares are exchanged: scale 0 should leave the picture, and scale 1 should snap it.")
    if towards(nearest, -scale):
        raise IncorrectAnswer("The pixels move away from their colours. The step is the wanted colour minus the pixel.")
    if towards(
        torch.stack([c[(x0[:, i, None] - c[:, None, None]).abs().argmin(1)] for i, c in enumerate(colours.T)], 1)
    ):
        raise IncorrectAnswer(
            "Each channel looks for its own nearest value, and so mixes colours that the palette does not have."
        )
    if towards(_wanted(x0, colours, lambda off: off.abs().sum(2))):
        raise IncorrectAnswer("The nearest colour is sought by sums of absolute differences. Square them.")
    if towards(colours.mean(0)[:, None, None]):
        raise IncorrectAnswer("All pixels go towards the mean of the palette.")
    if towards(_wanted(x0, colours, lambda off: -off.square().sum(2))):
        raise IncorrectAnswer("That is the farthest colour of the palette.")
    if towards(
        _wanted(x0, colours, lambda off: off.square().sum((2, 3, 4), keepdim=True)[:, :, 0].expand_as(off[:, :, 0]))
    ):
        raise IncorrectAnswer("One colour was chosen for the whole picture. Choose one for every pixel.")


@palette.answer
def my_pull(x, x0, palette, scale, alpha, sigma):
    off = x0[:, None] - palette[:, :, None, None]  # (B, K, 3, H, W): every pixel against every colour
    nearest = off.square().sum(2).argmin(1)  # (B, H, W)
    wanted = palette[nearest].movedim(-1, 1)  # (B, 3, H, W)
    x0 = x0 + scale * (wanted - x0)
    return x0, (x - alpha * x0) / sigma


@palette.mutant("still the old one")
def old_noise(x, x0, palette, scale, alpha, sigma):
    return my_pull(x, x0, palette, scale, alpha, sigma)[0], (x - alpha * x0) / sigma


@palette.mutant("takes its palette colour whole")
def snaps(x, x0, palette, scale, alpha, sigma):
    return my_pull(x, x0, palette, 1.0, alpha, sigma)


@palette.mutant("shares are exchanged")
def exchanged(x, x0, palette, scale, alpha, sigma):
    return my_pull(x, x0, palette, 1 - scale, alpha, sigma)


@palette.mutant("move away")
def pushes(x, x0, palette, scale, alpha, sigma):
    return my_pull(x, x0, palette, -scale, alpha, sigma)


@palette.mutant("Each channel looks for its own")
def channel_by_channel(x, x0, palette, scale, alpha, sigma):
    off = (x0[:, None] - palette[:, :, None, None]).abs()  # (B, K, 3, H, W)
    wanted = torch.stack([palette[:, c][off[:, :, c].argmin(1)] for c in range(3)], dim=1)
    return _completed(x, x0 + scale * (wanted - x0), alpha, sigma)


@palette.mutant("absolute differences")
def by_absolute_differences(x, x0, palette, scale, alpha, sigma):
    off = x0[:, None] - palette[:, :, None, None]
    wanted = palette[off.abs().sum(2).argmin(1)].movedim(-1, 1)
    return _completed(x, x0 + scale * (wanted - x0), alpha, sigma)


@palette.mutant("results are exchanged")
def noise_first(x, x0, palette, scale, alpha, sigma):
    return my_pull(x, x0, palette, scale, alpha, sigma)[::-1]


@palette.mutant("channel 1 of the pixel")
def from_the_noised(x, x0, palette, scale, alpha, sigma):
    off = x[:, None] - palette[:, :, None, None]
    wanted = palette[off.square().sum(2).argmin(1)].movedim(-1, 1)
    return _completed(x, x0 + scale * (wanted - x0), alpha, sigma)


@palette.mutant("the mean of the palette")
def towards_the_mean(x, x0, palette, scale, alpha, sigma):
    return _completed(x, x0 + scale * (palette.mean(0)[:, None, None] - x0), alpha, sigma)


@palette.mutant("farthest")
def towards_the_farthest(x, x0, palette, scale, alpha, sigma):
    off = x0[:, None] - palette[:, :, None, None]
    wanted = palette[off.square().sum(2).argmax(1)].movedim(-1, 1)
    return _completed(x, x0 + scale * (wanted - x0), alpha, sigma)


@palette.mutant("for the whole picture")
def one_for_all(x, x0, palette, scale, alpha, sigma):
    off = x0[:, None] - palette[:, :, None, None]
    wanted = palette[off.square().sum((2, 3, 4)).argmin(1)][:, :, None, None]
    return _completed(x, x0 + scale * (wanted - x0), alpha, sigma)


@palette.variant
def by_cdist(x, x0, palette, scale, alpha, sigma):
    pixels = x0.movedim(1, -1)  # (B, H, W, 3)
    nearest = torch.cdist(pixels.reshape(1, -1, 3), palette[None])[0].argmin(1)
    wanted = palette[nearest].reshape(pixels.shape).movedim(-1, 1)
    new = torch.lerp(x0, wanted, scale)
    return new, (x - alpha * new) / sigma


@palette.variant
def pixel_by_pixel(x, x0, palette, scale, alpha, sigma):
    new = x0.clone()
    for b, row, column in torch.cartesian_prod(*(torch.arange(n) for n in (len(x0), *x0.shape[2:]))).tolist():
        pixel = x0[b, :, row, column]
        colour = min(palette, key=lambda c, pixel=pixel: ((c - pixel) ** 2).sum().item())
        new[b, :, row, column] = (1 - scale) * pixel + scale * colour
    return [new.numpy(), ((x - alpha * new) / sigma).numpy()]
