"""Figures: always with alt text, the same bytes each time, integer zoom, colours that can be told apart in grey."""

from __future__ import annotations

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
    assert not plt.get_fignums()  # nothing stays open
