"""What the widgets write into a notebook: sizes, bytes, words, errors. test_browser.py looks at what readers get."""

from __future__ import annotations

import asyncio
import html
import io
import json
import re
import subprocess
import sys
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image

from learn_diffusion.datasets.digits import small_digits
from learn_diffusion.widgets import Interactive, Scrubber
from learn_diffusion.widgets.images import GAP_COLOUR, data_uri, encode, png, tile, to_uint8
from learn_diffusion.widgets.scrubber import BUDGET, script

N = 51
LABELS = [f"t = {i / (N - 1):.2f}" for i in range(N)]
ALT = "A digit dissolves into noise."


def dissolving(x0: torch.Tensor) -> torch.Tensor:
    """x0 (B, C, H, W) on its way to noise: (N, B, C, H, W)."""
    angle = torch.linspace(0, torch.pi / 2, N).reshape(N, 1, 1, 1, 1)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    return angle.cos() * x0 + angle.sin() * noise


@pytest.fixture(scope="module")
def film() -> torch.Tensor:
    """One digit on its way to noise: (N, 1, 8, 8)."""
    return dissolving(small_digits()[0][:1])[:, 0]


def sheet_of(page: str) -> np.ndarray:
    """The picture in the first <img> of a page: (H, W, 3) bytes."""
    code = re.search(r'src="data:image/webp;base64,([^"]+)"', page).group(1)
    return np.asarray(Image.open(io.BytesIO(b64decode(code))).convert("RGB"))


def settings_of(page: str) -> dict:
    return json.loads(html.unescape(re.search(r'data-scrubber="([^"]*)"', page).group(1)))


# ---- pictures


def test_bytes_of_the_whole_range_and_beyond():
    x = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0]).reshape(1, 1, 5)
    np.testing.assert_array_equal(to_uint8(x)[0, :, 0], [0, 0, 128, 255, 255])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bytes_of_every_precision_also_with_a_gradient(dtype):
    x = torch.full((2, 3, 4, 5), 1.0, dtype=dtype, requires_grad=True)
    assert to_uint8(x).shape == (2, 4, 5, 3)
    assert to_uint8(x).min() == 255


def test_channels_stay_in_their_order():
    x = np.stack([np.full((2, 2), v) for v in (-1.0, 0.0, 1.0)])
    np.testing.assert_array_equal(to_uint8(x)[0, 0], [0, 128, 255])


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((2, 2, 4, 4)), ValueError, r"C = 1 or 3.*\(2, 2, 4, 4\)"),
        (np.zeros((4, 4)), ValueError, r"\(4, 4\)"),
        (np.zeros((0, 1, 4, 4)), ValueError, r"\(0, 1, 4, 4\)"),
        (np.full((1, 2, 2), np.nan), ValueError, "NaN in 4 of 4"),
        (np.zeros((1, 2, 2), int), TypeError, "int64"),
        (np.zeros((4, 4, 1), np.uint8), ValueError, "H, W, 3"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(x, error, words):
    with pytest.raises(error, match=f"^frames: expected .*{words}"):
        to_uint8(x, "frames")


def test_tiles_stand_in_reading_order():
    batch = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(3, axis=-1) + np.zeros((1, 2, 2, 1), np.uint8)
    sheet, gap = tile(batch, gap=1)[..., 0], GAP_COLOUR[0]  # three columns, two rows
    np.testing.assert_array_equal(sheet[0], [0, 0, gap, 1, 1, gap, 2, 2])
    np.testing.assert_array_equal(sheet[2], [gap] * 8)
    np.testing.assert_array_equal(sheet[3], [3, 3, gap, 4, 4, gap, gap, gap])
    np.testing.assert_array_equal(tile(np.stack([batch, batch]), 5, 0)[1, 0, :, 0], np.arange(5).repeat(2))


def test_a_png_holds_every_pixel_as_a_square():
    rgb = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    shown = np.asarray(Image.open(io.BytesIO(png(rgb, zoom=4))))
    np.testing.assert_array_equal(shown, rgb.repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(rgb)))), rgb)


def test_a_file_is_exact_where_it_may_be():
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    file, mime = encode(rgb)
    assert mime == "image/webp"
    assert data_uri(file, mime).startswith("data:image/webp;base64,")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), rgb)


def test_colour_noise_keeps_its_colours_within_a_budget():
    """Lossy WebP of any quality is 70 levels off here: it stores colour at half the resolution."""
    rgb = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    budget = len(encode(rgb)[0]) // 2
    file, _ = encode(rgb, budget)
    shown = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), float)
    assert len(file) <= budget
    assert np.abs(shown - rgb).max() <= 255 / 14  # at least eight levels


# ---- Scrubber


def test_the_bundle_has_words_for_every_front_end(film):
    scrubber = Scrubber(film, LABELS, alt=ALT)
    bundle = scrubber._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/plain"] == repr(scrubber) == f"Scrubber(51 frames: {ALT})"


def test_the_same_input_gives_the_same_bytes(film):
    assert Scrubber(film, LABELS, alt=ALT).html == Scrubber(film.numpy(), tuple(LABELS), alt=ALT).html


def test_the_still_picture_says_what_it_is(film):
    page = Scrubber({"x_t": film, "x0_hat": film}, LABELS, alt=ALT, caption="Watch the 0.").html
    (alt,) = re.findall(r'<img alt="([^"]*)"', page)
    assert (
        alt
        == f"{ALT} (51 frames in reading order, from t = 0.00 to t = 1.00, each with x_t, x0_hat from left to right)"
    )
    still = page.split("<script>")[0]  # what is left of it on GitHub
    assert "Watch the 0." in still
    assert "image-rendering:pixelated" in still
    assert int(re.search(r'<img [^>]* width="(\d+)"', still).group(1)) > 400


@pytest.mark.parametrize("panels", [1, 2])
def test_the_sheet_holds_the_frames_where_the_script_looks_for_them(film, panels):
    films = {f"panel {k}": film.flip(0) if k else film for k in range(panels)}
    page = Scrubber(films, LABELS, alt=ALT).html
    sheet, settings = sheet_of(page), settings_of(page)
    for i in (0, 17, N - 1):
        left, top = i % settings["columns"] * settings["stride"][0], i // settings["columns"] * settings["stride"][1]
        for panel, frames in zip(settings["panels"], films.values(), strict=True):
            x = left + panel["left"]
            shown = sheet[top : top + panel["height"], x : x + panel["width"]]
            np.testing.assert_array_equal(shown, to_uint8(frames[i]))


@pytest.mark.parametrize(
    ("shape", "width", "height"),
    [((3, 8, 8), 8, 8), ((3, 1, 8, 8), 8, 8), ((3, 3, 8, 6), 6, 8), ((3, 4, 1, 8, 8), 17, 17), ((3, 1, 3, 8, 8), 8, 8)],
)
def test_frames_of_every_kind(shape, width, height):
    panel = settings_of(Scrubber(torch.zeros(shape), LABELS[:3], alt=ALT).html)["panels"][0]
    assert (panel["width"], panel["height"]) == (width, height)


def test_rendered_frames_and_panels_of_two_sizes():
    rendered = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8)
    page = Scrubber({"curve": rendered, "x_t": np.zeros((4, 8, 8))}, LABELS[:4], alt=ALT).html
    curve, x_t = settings_of(page)["panels"]
    assert (curve["width"], curve["height"], x_t["width"], x_t["height"]) == (30, 20, 8, 8)
    assert x_t["zoom"] > curve["zoom"]  # so that both are about as large on the screen


def test_columns_and_zoom_are_the_authors_choice():
    page = Scrubber(torch.zeros(3, 8, 1, 8, 8), LABELS[:3], alt=ALT, columns=8, zoom=5).html
    (panel,) = settings_of(page)["panels"]
    assert (panel["width"], panel["height"], panel["zoom"]) == (71, 8, 5)


def test_hostile_words_stay_words(film):
    evil = "\"'><script>alert(1)</script>&amp;"
    page = Scrubber({evil: film}, [evil] * N, alt=evil, caption=evil, name=evil).html
    assert page.count("<script>") == page.count("</script>") == 1
    assert html.escape(evil) in page
    assert settings_of(page)["labels"] == [evil] * N
    tags = re.sub(r'"[^"]*"', "", page.split("<script>")[0])  # without attributes' values
    assert set(re.findall(r"</?\w+", tags)) == {
        "<figure",
        "</figure",
        "<img",
        "<div",
        "</div",
        "<figcaption",
        "</figcaption",
    }


def test_nothing_but_data_is_loaded(film):
    page = Scrubber(film, LABELS, alt=ALT).html
    assert [address[:5] for address in re.findall(r'(?:src|href)="([^"]*)"', page)] == ["data:"]
    assert "http" not in script("scrubber.js")


def test_the_script_is_small_and_free_of_comments():
    assert len(script("scrubber.js").encode()) < 4096
    assert "//" not in script("scrubber.js")
    assert "</" not in script("scrubber.js")


@pytest.mark.parametrize(("pictures", "most"), [(1, 12), (4, 25), (16, 80)])
def test_digits_stay_exact_and_small(pictures, most):
    x = dissolving(small_digits()[0][:pictures])
    page = Scrubber(x, LABELS, alt=ALT).html
    assert len(page.encode()) < most * 1024
    np.testing.assert_array_equal(sheet_of(page)[:8, :8], to_uint8(x[0, 0]))


def test_colour_pictures_fit_the_budget_nearly_exact():
    x = dissolving(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    scrubber = Scrubber(x[::2], LABELS[::2], alt=ALT)
    assert 0.5 * BUDGET < len(json.dumps(scrubber._repr_mimebundle_())) <= BUDGET  # as a notebook stores it
    error = sheet_of(scrubber.html)[:32, :32].astype(float) - to_uint8(x[0, 0])
    assert np.abs(error).max() <= 255 / 14


@pytest.mark.parametrize(("shape", "fit"), [((N, 9, 3, 32, 32), r"about \d+ of them would"), ((2, 3, 300, 300), "two")])
def test_what_does_not_fit_is_refused_with_advice(shape, fit):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=rf"^panels: {shape[0]} frames take \d+ KiB and do not fit in 100 KiB; {fit}"):
        Scrubber(x, LABELS[: shape[0]], alt=ALT)


def test_the_advice_is_good():
    x = torch.randn(N, 9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="about") as error:
        Scrubber(x, LABELS, alt=ALT)
    n = int(re.search(r"about (\d+)", str(error.value)).group(1))
    assert 2 <= n < N
    Scrubber(x[:n], LABELS[:n], alt=ALT)


def test_huge_frames_are_refused_before_they_are_encoded():
    with pytest.raises(ValueError, match="pixels and do not fit"):
        Scrubber(np.zeros((4, 1200, 1200, 3), np.uint8), LABELS[:4], alt=ALT)


BLANK = np.zeros((4, 1, 8, 8))
FOUR = LABELS[:4]


@pytest.mark.parametrize(
    ("panels", "labels", "options", "error", "words"),
    [
        (BLANK, FOUR[:3], {}, ValueError, "labels: expected 4, one for each frame, got 3"),
        (BLANK, "abcd", {}, TypeError, "labels: expected 4 texts"),
        (BLANK, [1, 2, 3, 4], {}, TypeError, r"labels\[0\]: expected a text, got int"),
        (BLANK, ["a", "b", " ", "d"], {}, ValueError, r"labels\[2\]: .*empty"),
        (BLANK, FOUR, {"alt": " "}, ValueError, "alt: .*empty"),
        (BLANK, FOUR, {"alt": None}, TypeError, "alt: expected a text, got NoneType"),
        (BLANK, FOUR, {"name": ""}, ValueError, "name: "),
        (BLANK, FOUR, {"start": 4}, ValueError, "start: expected a whole number from 0 to 3, got 4"),
        (BLANK, FOUR, {"start": -1}, ValueError, "start: "),
        (BLANK, FOUR, {"start": 1.5}, ValueError, "start: "),
        (BLANK, FOUR, {"zoom": 0}, ValueError, "zoom: "),
        (BLANK, FOUR, {"columns": 0}, ValueError, "columns: "),
        (BLANK, FOUR, {"play_ms": 0}, ValueError, "play_ms: "),
        ({}, FOUR, {}, ValueError, "panels: expected at least one"),
        ({"a": BLANK, "b": BLANK[:3]}, FOUR, {}, ValueError, r"panels\['b'\]: expected 4 frames.*, got 3"),
        ({"a": BLANK * np.nan}, FOUR, {}, ValueError, r"panels\['a'\]: .*NaN in 256 of 256"),
        (np.zeros((4, 2, 8, 8)), FOUR, {}, ValueError, "panels: expected .*C = 1 or 3"),
        (np.zeros((4, 8)), FOUR, {}, ValueError, r"panels: expected frames .* got shape \(4, 8\)"),
        (np.zeros((4, 1, 8, 8), int), FOUR, {}, TypeError, "panels: expected floats"),
        (BLANK[:1], FOUR[:1], {}, ValueError, "panels: expected at least two frames"),
    ],
)
def test_errors_name_the_argument(panels, labels, options, error, words):
    with pytest.raises(error, match=f"^{words}"):
        Scrubber(panels, labels, **{"alt": ALT, **options})


def test_alt_cannot_be_forgotten():
    with pytest.raises(TypeError, match="alt"):
        Scrubber(BLANK, FOUR)


# ---- Interactive

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def slider():
    return pytest.importorskip("ipywidgets").IntSlider(value=1, min=0, max=10)


def grey(level: int) -> torch.Tensor:
    """Four squares (4, 1, 8, 8), the lighter the higher the level."""
    if level > 8:
        raise ValueError("no level\nabove <8>")
    return torch.full((4, 1, 8, 8), level / 4 - 1)


def test_the_live_view_and_the_still_picture_travel_together(slider):
    live = Interactive(grey, alt='Four "grey" squares', level=slider)
    bundle = live._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {VIEW, "text/html", "text/plain"}
    assert bundle["text/plain"] == repr(live) == 'Interactive(level: Four "grey" squares)'
    assert 'alt="Four &quot;grey&quot; squares (level = 1)"' in bundle["text/html"]
    assert "This control asks Python: run the notebook to use it." in bundle["text/html"]
    np.testing.assert_array_equal(sheet_of(bundle["text/html"])[:8, :8], to_uint8(grey(1)[0]))


def test_pixels_stay_squares_unless_the_author_says_smooth(slider):
    pixels, smooth = (Interactive(grey, alt=ALT, smooth=smooth, level=slider)._still for smooth in (False, True))
    assert "image-rendering:pixelated" in pixels
    assert "pixelated" not in smooth


def test_the_still_picture_is_the_first_one_and_has_no_seconds(slider):
    live = Interactive(grey, alt=ALT, level=slider)
    before = live._repr_mimebundle_()["text/html"]
    slider.value = 3
    assert live._repr_mimebundle_()["text/html"] == before
    slider.value = 1
    assert Interactive(grey, alt=ALT, level=slider)._repr_mimebundle_()["text/html"] == before


def test_moving_a_control_draws_and_says_how_long_it_took(slider):
    live = Interactive(grey, alt=ALT, level=slider)
    controls, picture, line = live.view.children[:-2], *live.view.children[-2:]
    assert controls == (slider,)
    slider.value = 5
    np.testing.assert_array_equal(sheet_of(picture.value)[:8, :8], to_uint8(grey(5)[0]))
    assert "(level = 5)" in picture.value
    assert re.search(r"drawn in \d+\.\d\d s", line.value)


def test_an_error_is_one_line_and_the_picture_stays(slider):
    live = Interactive(grey, alt=ALT, level=slider)
    picture, line = live.view.children[-2:]
    before = picture.value
    slider.value = 9
    assert "ValueError: no level above &lt;8&gt;" in line.value
    assert "\n" not in line.value
    assert picture.value == before
    slider.value = 8  # and it recovers
    assert "drawn in" in line.value
    assert picture.value != before


def test_an_answer_that_is_no_picture_is_an_error_too(slider):
    live = Interactive(lambda level: grey(1) if level == 1 else "a word", alt=ALT, level=slider)
    slider.value = 2
    assert "TypeError: what draw returned: expected floats" in live.view.children[-1].value


def test_the_first_drawing_may_not_fail(slider):
    slider.value = 9
    with pytest.raises(ValueError, match="no level"):
        Interactive(grey, alt=ALT, level=slider)


def test_moves_that_wait_together_cost_one_drawing(slider):
    drawn = []
    live = Interactive(lambda level: drawn.append(level) or grey(level), alt=ALT, level=slider)

    async def hold_the_arrow_key() -> None:
        for slider.value in (2, 3, 4, 5):
            pass
        await asyncio.sleep(0.3)

    asyncio.run(hold_the_arrow_key())
    assert drawn == [1, 5]
    assert "(level = 5)" in live.view.children[-2].value


def test_controls_are_named_and_wait_for_the_mouse_to_let_go():
    ipywidgets = pytest.importorskip("ipywidgets")
    slider, menu = ipywidgets.FloatSlider(value=0.5), ipywidgets.Dropdown(options=["a", "b"], description="Which?")
    live = Interactive(lambda guidance_scale, which: grey(1)[0], alt=ALT, guidance_scale=slider, which=menu)
    assert (slider.description, menu.description) == ("guidance scale", "Which?")
    assert not slider.continuous_update
    assert "(guidance_scale = 0.5, which = a)" in live._repr_mimebundle_()["text/html"]


def test_live_errors_name_the_argument(slider):
    with pytest.raises(TypeError, match=r"^draw: "):
        Interactive(3, alt=ALT, level=slider)
    with pytest.raises(ValueError, match=r"^alt: "):
        Interactive(grey, alt=" ", level=slider)
    with pytest.raises(ValueError, match=r"^controls: "):
        Interactive(grey, alt=ALT)
    with pytest.raises(TypeError, match=r"^level: expected an ipywidgets control, got int"):
        Interactive(grey, alt=ALT, level=3)


def test_a_scrubber_needs_neither_ipywidgets_nor_torch():
    code = """
import sys
sys.modules["ipywidgets"] = sys.modules["torch"] = None  # as if they were not installed
import numpy as np
from learn_diffusion.widgets import Interactive, Scrubber
Scrubber(np.zeros((2, 8, 8)), ["a", "b"], alt="Nothing")
try:
    Interactive(lambda x: x, alt="Nothing", x=1)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'Interactive needs ipywidgets: pip install "learn_diffusion[course]"'
