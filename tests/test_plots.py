"""Figures: always with alt text, the same bytes each time, integer zoom, colours that can be told apart in grey."""

from __future__ import annotations

import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from learn_diffusion import plots
from learn_diffusion.samplers import ddim


def page(shown) -> str:
    return shown._repr_mimebundle_()["text/html"]


def line(alt="A line that rises."):
    with plots.axes(alt=alt, show=False) as ax:
        ax.plot([0, 1, 2], [0, 1, 4], color=plots.DATA)
    return ax.figure


def test_pictures_are_described_shown_at_integer_zoom_and_not_smoothed():
    shown = plots.image_grid(torch.zeros(6, 1, 8, 8), alt='Six "grey" <squares>.', caption="Grey & grey.", columns=3)
    text = page(shown)
    assert 'alt="Six &quot;grey&quot; &lt;squares&gt;."' in text
    assert "Grey &amp; grey." in text
    assert "image-rendering:pixelated" in text
    width = int(re.search(r'width="(\d+)"', text).group(1))
    assert width % (3 * 8 + 2) == 0
    assert shown._repr_mimebundle_()["text/plain"] == '[picture: Six "grey" <squares>.]'
    smooth = page(plots.image_grid(torch.zeros(6, 1, 8, 8), alt="Six.", smooth=True))
    assert "image-rendering:auto" in smooth
    assert "pixelated" not in smooth


def test_a_figure_gives_the_same_bytes_each_time_and_small_ones_are_svg():
    one, two = (page(plots.figure(line(), alt="A line that rises.")) for _ in range(2))
    assert one == two
    assert "data:image/svg+xml" in one


def test_a_crowded_figure_becomes_png():
    with plots.axes(alt="Many dots.", show=False) as ax:
        ax.scatter(*torch.randn(2, 5000), s=2)
    assert "data:image/png" in page(plots.figure(ax.figure, alt="Many dots."))


def test_a_crowded_figure_stays_small_and_sharp():
    with plots.axes(alt="Many lines.", show=False, figsize=(9, 3.4), ncols=2) as panels:
        for ax in panels:
            for k in range(8):
                ax.plot(torch.linspace(0, 6, 900).mul(k).sin() + 0.02 * torch.rand(900))
    text = page(plots.figure(panels[0].figure, alt="Many lines."))
    assert "data:image/png" in text
    assert len(text) < 150_000  # in full colour it would have 348,000


def test_a_frame_is_bytes_of_the_figures_size_and_few_colours():
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(2, 1.5), dpi=100)
    fig.add_subplot().plot([0, 1], color=plots.ESTIMATE)
    drawn = plots.figure_to_array(fig, colours=8)
    assert drawn.shape == (150, 200, 3)
    assert len({tuple(pixel) for row in drawn for pixel in row}) <= 8
    assert plt.get_fignums() == []


def test_a_frame_keeps_greys_grey_and_each_idea_its_colour():
    """A palette of the commonest colours paints a few black pixels blue, and dots in a colour that no idea has."""
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(3, 1.5), dpi=100)
    left, right = fig.add_axes([0, 0, 0.5, 1]), fig.add_axes([0.5, 0, 0.5, 1])
    for i, colour in enumerate((plots.DATA, plots.ESTIMATE)):
        left.plot([0, 1], [i, 1 - i], color=colour, linewidth=3)
    ramp = np.zeros((9, 40)) + np.arange(9)[:, None]
    ramp[8, 2:] = 0  # two black squares
    right.imshow(ramp, cmap="Greys", vmin=0, vmax=8, aspect="auto")
    right.scatter(np.linspace(3, 38, 30), np.full(30, 2.0), s=4, color=plots.NOISE)
    for ax in (left, right):
        ax.set_axis_off()
    drawn = plots.figure_to_array(fig)
    black = drawn[145, 152].astype(int)
    assert black.max() < 30
    colours = {tuple(pixel) for row in drawn for pixel in row}
    for wanted in (plots.DATA, plots.ESTIMATE, plots.NOISE):
        rgb = np.array([int(wanted[i : i + 2], 16) for i in (1, 3, 5)])
        assert min(np.abs(rgb - np.array(seen, int)).max() for seen in colours) < 24


def test_a_field_is_dark_where_it_is_dense_and_its_arrows_have_one_length():
    density = torch.zeros(20, 20)
    density[:5, :5] = 1  # lower left
    spots, arrows = torch.tensor([[0.5, 0.5], [0.5, -0.5]]), torch.tensor([[9.0, 0.0], [0.1, 0.0]])
    frame = plots.field_to_array(density, spots, arrows, limit=1.0).astype(int)
    assert frame.shape == (300, 300, 3)
    assert frame[290, 10].sum() < 500 < 700 < frame[10, 10].sum()
    pink = (frame[:, :, 0] > 150) & (frame[:, :, 1] < 120)
    lengths = [np.ptp(pink[rows].nonzero()[1]) for rows in (slice(0, 150), slice(150, 300))]
    assert lengths[0] == lengths[1] > 10, "a long arrow and a short one are drawn alike, above and below"
    assert pink[:, 225:].sum() > pink[:, :220].sum(), "both begin at x = 0.5 and point to the right"


def test_two_fields_stand_beside_the_map_of_their_distance():
    apart = torch.zeros(20, 20)
    apart[:5, :5] = 3.0  # lower left
    spots, first, second = torch.tensor([[0.0, 0.5]]), torch.tensor([[1.5, 0.0]]), torch.tensor([[-1.5, 0.0]])
    frame = plots.two_fields_to_array(spots, first, second, apart, torch.tensor([[0.5, 0.5]]), limit=1.0).astype(int)
    assert frame.shape == (270, 540, 3)
    left, right = frame[:, :270], frame[:, 270:]
    blue, pink = (left[:, :, 2] > left[:, :, 0] + 60), (left[:, :, 0] > left[:, :, 1] + 60)
    assert blue.nonzero()[1].mean() > 140 > 130 > pink.nonzero()[1].mean(), "one points right, the other left"
    assert right[260, 10].sum() < 100 < 700 < right[10, 10].sum()
    orange = right[60:75, 195:210]
    assert (orange[:, :, 0] > orange[:, :, 2] + 100).any(), "a point at (0.5, 0.5)"


def test_a_film_shows_each_picture_above_its_mark():
    at = torch.linspace(0, 1, 12)
    images = torch.where(at < 0.2, -1.0, 1.0)[:, None, None, None].expand(12, 1, 8, 8)  # three black ones, then white
    frame = plots.film_to_array(images, (at, torch.zeros(12)), (at, torch.zeros(12)), "y").astype(int)
    assert frame.shape == (260, 560, 3)
    dark = (frame[30].sum(1) < 60).nonzero()[0]  # in the row of pictures
    orange = (np.abs(frame[70:210] - [236, 160, 44]).sum(2) < 90).nonzero()[1]  # the marks
    left, step = orange.min(), np.ptp(orange) / 11
    assert step > 40
    assert left - 20 < dark.min() < left
    assert left + 2 * step < dark.max() < left + 2.6 * step, "the third picture is above the third mark"


def test_axes_shows_the_figure_and_closes_it(monkeypatch):
    import IPython.display
    import matplotlib.pyplot as plt

    seen = []
    monkeypatch.setattr(IPython.display, "display", seen.append)
    with plots.axes(alt="Two empty frames.", ncols=2) as (left, right):
        left.plot([0, 1])
        right.plot([1, 0])
    assert [shown.alt for shown in seen] == ["Two empty frames."]
    assert plt.get_fignums() == []


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alt: expected words"):
        plots.figure(line(), alt="")


def test_table_reads_the_same_as_text():
    shown = plots.table([[1, "a"], [20, "b<c"]], header=["number", "name"])
    assert repr(shown).splitlines() == ["number  name", "     1     a", "    20   b<c"]
    assert "b&lt;c" in page(shown)
    assert re.search(r'<th scope="col"[^>]*>number</th>', page(shown))


def test_source_shows_the_package_as_it_is():
    text = plots.source(ddim)._repr_mimebundle_()["text/markdown"]
    assert text.startswith("```python\ndef ddim(")
    assert text.endswith("```")


def test_colours_can_be_told_apart_without_colour():
    def lightness(colour):
        r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        y = sum(w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
                for w, c in zip((0.2126, 0.7152, 0.0722), (r, g, b), strict=True))  # fmt: skip
        return 116 * y ** (1 / 3) - 16

    dark, middle, light = map(lightness, (plots.DATA, plots.ESTIMATE, plots.NOISE))
    assert middle - dark > 20
    assert light - middle > 20


def test_points_and_curves_show_what_they_are_given():
    x = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    assert "one panel" in page(plots.points({"data": x, "both": [(x, plots.NOISE), (-x, plots.DATA)]}, alt="one panel"))
    lines = {"a": ([1, 2], [3, 4], [0.1, 0.2]), "b": ([1, 2], [5, 6])}
    assert "two" in page(plots.curves(lines, alt="two lines", floor=2.0, xlabel="NFE", yscale="log"))
    with pytest.raises(ValueError, match="lines: expected at most"):
        plots.curves({str(i): ([0], [0]) for i in range(9)}, alt="many")
    for wrong in (
        lambda: plots.curves({"a": ([1, 2], [1, 2, 3])}, alt="one too many"),
        lambda: plots.curve_panels({"a": {"a": ([1, 2], [1, 2, 3])}}, alt="one too many"),
        lambda: plots.points({"data": torch.zeros(3)}, alt="no points"),
        lambda: plots.heatmaps({"a": torch.zeros(3)}, alt="no field"),
    ):
        with pytest.raises((ValueError, TypeError)):
            wrong()
    assert not plt.get_fignums()  # nothing stays open


def test_panels_of_curves_are_one_figure_with_each_title():
    panels = {"up": {"a": ([1, 2], [1, 2]), "b": ([1, 2], [2, 3], [0.1, 0.1])}, "down": {"a": ([1, 2], [2, 1])}}
    shown = plots.curve_panels(panels, alt="One rises, one falls.", floors={"down": 1.5}, xlabel="w")
    assert 'alt="One rises, one falls."' in page(shown)
    wide = int(re.search(r'width="(\d+)"', page(shown)).group(1))
    one = int(re.search(r'width="(\d+)"', page(plots.curve_panels({"up": panels["up"]}, alt="One."))).group(1))
    assert wide > 1.7 * one
    with pytest.raises(ValueError, match="lines: expected at most 6"):
        plots.curve_panels({"many": {str(i): ([0], [0]) for i in range(7)}}, alt="Too many.")


def test_heatmaps_have_one_scale_and_leave_out_what_is_not_known(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "figure", lambda fig, **words: shown.append(fig))
    field = torch.tensor([[0.5, torch.nan]])
    plots.heatmaps({"seen": field, "doubt": (field.abs(), 0.4)}, alt="Two fields.", columns=3)
    seen, doubt, empty = shown[0].axes
    assert (seen.get_title(), doubt.get_title(), len(empty.images)) == ("seen", "doubt", 0)
    assert (seen.images[0].get_clim(), doubt.images[0].get_clim()) == ((-1, 1), (0, 0.4))
    assert seen.images[0].to_rgba(seen.images[0].get_array())[0, 1, 3] == 0  # NaN: nothing is drawn


def test_points_and_paths_land_on_their_pixels():
    dot, path = torch.tensor([[0.5, 0.5]]), torch.tensor([[[-0.9, -0.5], [0.9, -0.5]]])
    frame = plots.points_to_array([(path, plots.NOISE, 2.0), (dot, plots.DATA, 60)], limit=1.0)
    assert frame.shape == (260, 260, 3)

    def inked(y, x):  # the row of pixels counts from above
        return frame[round((1 - y) / 2 * 260), round((x + 1) / 2 * 260)].min() < 128

    assert inked(0.5, 0.5)
    assert inked(-0.5, -0.8)
    assert inked(-0.5, 0.8)
    assert not inked(0.0, 0.0)
    assert not inked(-0.5, 0.96)


def test_ticks_that_were_asked_for_are_the_only_ones_on_a_logarithmic_axis():
    where = {"xscale": "log", "xticks": [2, 3, 5], "xticklabels": ["2", "3", "5"]}
    text = page(plots.curves({"a": ([2, 3, 5], [1, 2, 3])}, alt="A line.", **where))
    svg = base64.b64decode(re.search(r"base64,([^\"]+)", text).group(1)).decode()
    assert len(re.findall(r'id="xtick_', svg)) == 3
