"""The canvas to paint a mask on: what Python writes and reads. What the browser does is in test_browser.py."""

from __future__ import annotations

import html
import json
import re

import pytest
import torch

from learn_diffusion.widgets import Interactive, PaintedMask
from learn_diffusion.widgets.scrubber import script

PICTURE = torch.linspace(-1, 1, 3 * 6 * 10).reshape(3, 6, 10)


def spots(seed: int = 0) -> torch.Tensor:
    return torch.rand(6, 10, generator=torch.Generator().manual_seed(seed)) > 0.5


@pytest.mark.parametrize("mask", [spots(), spots(1), torch.ones(6, 10) > 0, torch.ones(6, 10) < 0])
def test_what_is_written_is_read_again(mask):
    canvas = PaintedMask(PICTURE, alt="A ramp.", start=mask)
    assert torch.equal(canvas.read(canvas.control.value), mask)


def test_pixels_are_read_row_by_row_four_to_a_digit():
    canvas = PaintedMask(PICTURE, alt="A ramp.")
    mask = canvas.read("8" + "0" * 13 + "1")
    assert mask.nonzero().tolist() == [[0, 0], [5, 9]]


def test_nothing_is_painted_at_first():
    assert not PaintedMask(PICTURE, alt="A ramp.").read("0" * 15).any()
    assert PaintedMask(PICTURE, alt="A ramp.").control.value == "0" * 15


def test_the_bundle_is_the_same_in_every_run_and_says_what_it_shows():
    one, two = (PaintedMask(PICTURE, alt='A "ramp" </script>.')._repr_mimebundle_() for _ in range(2))
    assert one == two
    assert one["text/plain"] == 'PaintedMask(A "ramp" </script>.)'
    page = one["text/html"]
    assert 'alt="A &quot;ramp&quot; &lt;/script&gt;."' in page
    assert page.count("</script>") == 1
    settings = json.loads(html.unescape(re.search(r'data-painter="(.*?)"', page).group(1)))
    assert (settings["width"], settings["height"]) == (10, 6)
    assert len(settings["mask"]) == 15


def test_the_control_carries_the_key_that_the_canvas_looks_for():
    canvas = PaintedMask(PICTURE, alt="A ramp.")
    assert canvas.key in canvas.control._dom_classes
    assert canvas.key in canvas._repr_mimebundle_()["text/html"]
    assert canvas.key != PaintedMask(PICTURE, alt="Another.").key


def test_it_drives_a_live_control():
    canvas, seen = PaintedMask(PICTURE, alt="A ramp."), []

    def draw(mask):
        seen.append(canvas.read(mask).sum().item())
        return PICTURE

    live = Interactive(draw, alt="A ramp.", mask=canvas.control)
    canvas.control.value = "f" * 15
    assert seen == [0, 60]
    canvas.control.value = "rubbish"
    assert "expected 15 hexadecimal digits" in live._line.value


def test_the_script_is_small_and_loads_nothing():
    assert len(script("mask_painter.js").encode()) < 6144
    assert "http" not in script("mask_painter.js")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"picture": torch.zeros(2, 3, 8, 8)}, "picture: expected one"),
        ({"picture": torch.zeros(3, 3, 3)}, "picture: expected H . W divisible by 4"),
        ({"alt": " "}, "alt: expected words"),
        ({"brush": -1}, "brush: expected"),
        ({"brush": 1.5}, "brush: expected"),
        ({"start": torch.zeros(6, 10)}, "start: expected a bool mask"),
        ({"start": torch.zeros(10, 6) > 0}, "start: expected a bool mask"),
    ],
)
def test_bad_arguments_are_named(change, says):
    arguments = {"picture": PICTURE, "alt": "A ramp."} | change
    with pytest.raises(ValueError, match=says):
        PaintedMask(arguments.pop("picture"), **arguments)
