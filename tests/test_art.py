"""The data of the chapter on art: fabrics without an edge of their own, in the colours they say."""

from __future__ import annotations

import torch

from learn_diffusion.datasets.patterns import (
    PALETTES,
    colours,
    draw_patterns,
    draw_sketches,
    nearest_ink,
    palette,
    squared_distances,
    swap_palette,
)


def test_patterns_are_pictures_and_their_palettes():
    made = draw_patterns(60, seed=3)
    assert made.pictures.shape == (60, 3, 32, 32)
    assert made.pictures.dtype == torch.float32
    assert made.pictures.abs().max() <= 1
    assert made.labels.dtype == torch.int64
    assert made.labels.unique().tolist() == list(range(len(PALETTES)))


def test_patterns_never_change():
    """Every number printed anywhere was measured on these fabrics."""
    made = draw_patterns(3, seed=0, height=8, width=12)
    assert made.labels.tolist() == [5, 3, 3]
    levels = (made.pictures[1, :, 2, 3:6] * 127.5 + 127.5).round().int()
    assert (levels - torch.tensor([[47, 47, 61], [138, 138, 152], [138, 138, 147]])).abs().max() <= 1
    again = draw_patterns(3, seed=0, height=8, width=12)
    assert torch.equal(made.pictures, again.pictures)
    assert torch.equal(made.labels, again.labels)
    assert not torch.equal(made.pictures, draw_patterns(3, seed=1, height=8, width=12).pictures)


def test_every_pixel_is_an_ink_or_a_mixture_of_inks():
    made = draw_patterns(40, seed=4)
    for picture, label in zip(made.pictures, made.labels.tolist(), strict=True):
        inks = palette(list(PALETTES)[label])
        off = torch.cdist(picture.flatten(1).T, inks).amin(1)
        assert (off < 1e-3).float().mean() > 0.6  # the rest lies on an outline
        assert (picture.amax((1, 2)) <= inks.amax(0) + 1e-5).all()
        assert (picture.amin((1, 2)) >= inks.amin(0) - 1e-5).all()


def test_patterns_have_no_edge_of_their_own():
    """Border and middle have the same statistics: a large fabric is as good as many small ones."""
    jumps = draw_patterns(500, seed=5).pictures.diff(dim=3).abs().mean((0, 1, 2))  # (31,): across each vertical line
    assert (jumps / jumps.mean() - 1).abs().max() < 0.1
    large = draw_patterns(30, seed=6, height=48, width=160).pictures
    assert abs(large.diff(dim=3).abs().mean() / jumps.mean() - 1) < 0.08
    assert abs(large.diff(dim=2).abs().mean() / jumps.mean() - 1) < 0.08


def test_patterns_do_not_tile():
    made = draw_patterns(200, seed=7).pictures
    across = (made[..., 0] - made[..., -1]).abs().mean()
    inside = (made[..., 16] - made[..., 15]).abs().mean()
    assert across > 2.5 * inside


def test_palettes_are_five_colours_each():
    for name, hexes in PALETTES.items():
        assert palette(name).shape == (5, 3), name
        assert len(set(hexes)) == 5
    torch.testing.assert_close(colours(["#000000", "#ff0080"]), torch.tensor([[-1.0, -1, -1], [1, -1, 1 / 255]]))


def test_the_nearest_ink_and_its_distance():
    inks = colours(["#000000", "#ffffff", "#ff0000"])
    picture = torch.tensor([[-0.9, -0.8, -1], [0.9, 0.9, 1], [0.7, -0.9, -0.8]]).T[None, :, None]  # three pixels
    assert nearest_ink(picture, inks).tolist() == [[[0, 1, 2]]]
    torch.testing.assert_close(squared_distances(picture, inks)[0, :, 0, 0], torch.tensor([0.05, 10.85, 3.65]))


def test_a_palette_is_found_and_swapped():
    pages = draw_sketches(6, seed=2)  # one in each palette
    inks = colours(["#111111", "#333333", "#555555", "#777777", "#999999"])
    swapped = swap_palette(pages, inks)
    for page, name, again in zip(pages, PALETTES, swapped, strict=True):
        ink = nearest_ink(page[None], palette(name))
        assert torch.equal(again, inks[ink[0]].movedim(-1, 0))
        assert ink.unique().tolist() == [0, 1, 3]  # a ground, strokes and spots
    print_again = swap_palette(draw_patterns(30, seed=8).pictures, palette("shore"))
    torch.testing.assert_close(swap_palette(print_again, palette("shore")), print_again)


def test_sketches_reproduce_and_are_tiles():
    pages = draw_sketches(12, seed=1)
    assert torch.equal(pages, draw_sketches(12, seed=1))
    assert not torch.equal(pages, draw_sketches(12, seed=2))
    spots = [(nearest_ink(page[None], palette(list(PALETTES)[i % 6])) == 3).sum() for i, page in enumerate(pages)]
    assert min(spots) > 110  # two spots of radius 5, of which strokes hide a little: the border cuts none off
