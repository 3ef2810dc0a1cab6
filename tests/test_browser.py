"""The widgets where readers meet them: in a page on disk, and in a real JupyterLab."""

from __future__ import annotations

import html
import os
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from learn_diffusion.widgets import PaintedMask, Scrubber
from tools import ROOT
from tools.browser import jupyter_lab, open_notebook, run_all

N = 21  # frames
LABELS = [f"t = {i / (N - 1):.2f}" for i in range(N)]
ALT = "A white square fades to grey."
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><body>'


@pytest.fixture
def path(tmp_path) -> Path:
    """A page with two scrubbers, the second of them twice: no frame looks like another."""
    square = np.full((8, 8), -1.0)
    square[2:6, 2:6] = 1
    fading = np.linspace(1, 0, N)[:, None, None] * square
    one = Scrubber(fading, LABELS, alt=ALT, play_ms=60, name="time")
    two = Scrubber(
        {"x_t": fading, "x0_hat": fading[::-1]},
        LABELS,
        alt=ALT,
        start=5,
        caption="Left fades, right comes.",
        smooth=True,
    )
    path = tmp_path / "page.html"
    path.write_text(HEAD + "<p>between</p>".join(scrubber.html for scrubber in (one, two, two)), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, path):
    """Opens the page with a context's options. At the end the console must be empty, and the network unasked."""
    contexts, complaints, requests = [], [], []

    def open_page(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_function("document.querySelectorAll('[data-state=ready]').length === 3")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def pixels(canvas) -> str:
    return canvas.evaluate("canvas => canvas.toDataURL()")


def frame(canvas) -> int:
    return int(canvas.get_attribute("data-frame"))


def drag(page, slider, start: float, end: float) -> None:
    """The mouse goes down at the share start of the slider's length, moves in steps, and is let go at end."""
    slider.hover()  # scrolls there, and waits until the page has come to rest
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], middle, steps=5)
    page.mouse.up()


def test_the_mouse_scrubs_one_scrubber_and_leaves_the_others_alone(opened):
    page = opened()
    canvas, slider = page.locator("canvas").first, page.locator("input").first
    before, others = pixels(canvas), [pixels(page.locator("canvas").nth(i)) for i in range(1, 5)]
    drag(page, slider, 0.1, 0.5)
    assert 8 <= frame(canvas) <= 12
    assert pixels(canvas) != before
    assert [pixels(page.locator("canvas").nth(i)) for i in range(1, 5)] == others


def test_the_canvas_shows_the_frame_itself_in_square_pixels(opened):
    page = opened()
    canvas, slider = page.locator("canvas").first, page.locator("input").first
    slider.focus()
    page.keyboard.press("End")
    grey = "canvas => [...canvas.getContext('2d').getImageData(4, 4, 1, 1).data]"
    assert canvas.evaluate(grey) == [128, 128, 128, 255]  # 0 in [-1, 1], the last frame's only value
    assert canvas.evaluate("c => [c.width, c.height, c.clientWidth, c.clientHeight]") == [8, 8, 280, 280]
    for i, drawn in enumerate(["pixelated", "auto"]):
        assert page.locator("canvas").nth(i).evaluate("c => getComputedStyle(c).imageRendering") == drawn


def test_keys_move_the_slider_and_the_words_follow(opened):
    page = opened()
    canvas, slider = page.locator("canvas").first, page.locator("input").first
    slider.focus()
    seen = [pixels(canvas)]
    for key, expected in [("ArrowRight", 1), ("End", N - 1), ("ArrowLeft", N - 2), ("PageDown", None), ("Home", 0)]:
        page.keyboard.press(key)
        i = frame(canvas)
        assert expected is None or i == expected
        assert page.locator("output").first.text_content() == LABELS[i]
        assert slider.get_attribute("aria-valuetext") == LABELS[i]
        assert canvas.get_attribute("aria-label") == f"{ALT}, {LABELS[i]}"
        seen.append(pixels(canvas))
    assert seen[0] == seen[-1]
    assert len(set(seen)) == 5


def test_a_screen_reader_finds_names_and_roles(opened):
    page = opened()
    slider = page.get_by_role("slider", name="time", exact=True)
    assert slider.count() == 1
    assert page.get_by_role("button", name="Play").count() == 3
    assert page.get_by_role("img", name=f"{ALT}, x0_hat, {LABELS[5]}").count() == 2
    for control in page.locator("input, button").all():  # JupyterLab looks at the focused element, not above it
        assert control.get_attribute("data-lm-suppress-shortcuts") == "true"
    assert page.locator("[id]").count() == 0  # nothing that two scrubbers could share


def test_keyboard_focus_can_be_seen(opened):
    page = opened()
    for _ in range(2):  # the button, then the slider
        page.keyboard.press("Tab")
        outline = (
            "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]; }"
        )
        assert page.evaluate(outline) == ["solid", "3px"]


def test_a_finger_scrubs(opened):
    page = opened(has_touch=True, viewport={"width": 360, "height": 800})
    canvas, slider = page.locator("canvas").first, page.locator("input").first
    before, box = pixels(canvas), slider.bounding_box()
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    assert frame(canvas) > N / 2
    assert pixels(canvas) != before


def test_play_runs_to_the_end_and_begins_again_from_there(opened):
    page = opened()
    canvas, button = page.locator("canvas").first, page.locator("button").first
    button.focus()
    page.keyboard.press("Enter")
    assert button.text_content() == "Pause"
    page.wait_for_function("document.querySelector('button').textContent === 'Play'")
    assert frame(canvas) == N - 1
    page.keyboard.press("Space")
    page.wait_for_function(f"+document.querySelector('canvas').dataset.frame < {N - 1}")
    page.keyboard.press("Space")
    stopped = frame(canvas)
    assert button.text_content() == "Play"
    page.wait_for_timeout(100)
    assert frame(canvas) == stopped


@pytest.mark.parametrize("stop", ["a key", "the mouse", "removal"])
def test_play_stops_for(opened, stop):
    page = opened()
    page.evaluate("window.first = document.querySelector('canvas')")  # also found when it is out of the page
    page.locator("button").first.click()
    page.wait_for_function("+first.dataset.frame > 1")
    if stop == "a key":
        page.locator("input").first.press("ArrowLeft")
    elif stop == "the mouse":
        drag(page, page.locator("input").first, 0.2, 0.2)
    else:
        page.evaluate("document.querySelector('figure').remove()")
    stopped = page.evaluate("first.dataset.frame")
    page.wait_for_timeout(100)
    assert page.evaluate("first.dataset.frame") == stopped
    assert int(stopped) < N - 1


def test_reduced_motion_steps_and_does_not_play(opened):
    page = opened(reduced_motion="reduce")
    canvas, button = page.locator("canvas").first, page.locator("button").first
    assert button.text_content() == "Next"
    button.click()
    page.wait_for_timeout(100)
    assert frame(canvas) == 1
    page.locator("input").first.press("End")
    button.click()
    assert frame(canvas) == 0


def test_without_scripts_the_contact_sheet_stands(opened):
    page = opened(java_script_enabled=False)
    sheet = page.locator("img").first
    assert sheet.is_visible()
    assert sheet.get_attribute("alt").startswith(ALT)
    assert sheet.bounding_box()["width"] > 400  # no postage stamp
    assert page.locator("canvas, input, button").count() == 0
    assert page.get_by_text("each with x_t, x0_hat from left to right").first.is_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_narrow_screen_does_not_scroll_sideways(opened, scripts):
    page = opened(java_script_enabled=scripts, viewport={"width": 360, "height": 800})
    right = max(
        box["x"] + box["width"]
        for element in page.locator("canvas, img, input, button, output").all()
        if (box := element.bounding_box())
    )
    assert right <= 360
    if scripts:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_broken_sheet_leaves_its_alt_text(browser, path):
    path.write_text(path.read_text().replace("base64,", "base64,AAAA"))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('[data-state=still]').length === 3")
    assert page.locator("img").first.get_attribute("alt").startswith(ALT)
    page.close()


# ---- JupyterLab


KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):  # after browser: without one there is no need to start a server
    with jupyter_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


MODE = "() => { const n = jupyterapp.shell.currentWidget.content; return [n.mode, n.activeCellIndex]; }"


def test_a_slider_scrubs_in_jupyterlab(lab, page, tmp_path):
    source = ROOT / "notebooks" / "01_adding_noise.ipynb"
    shutil.copy(source, lab.folder)
    run_all(page, lab, source.name)
    figure = page.locator("figure.ld-scrubber[data-state=ready]").first
    canvas, slider = figure.locator("canvas").first, figure.locator("input")

    before = pixels(canvas)
    drag(page, slider, 0.2, 0.6)
    dragged = frame(canvas)
    assert dragged > 0
    assert pixels(canvas) != before

    cell = page.evaluate(MODE)
    assert cell[0] == "command"  # where JupyterLab takes arrow keys for itself
    before = pixels(canvas)
    page.keyboard.press("ArrowUp")  # selects another cell where the slider does not hold on to it
    assert frame(canvas) == dragged + 1
    assert pixels(canvas) != before
    page.screenshot(path=tmp_path / f"{source.stem}.png")
    page.keyboard.press("ArrowLeft")
    assert frame(canvas) == dragged
    page.keyboard.press("Home")
    assert frame(canvas) == 0
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")  # scrolls the notebook where the button does not hold on to it
    page.wait_for_function("canvas => +canvas.dataset.frame > 0", arg=canvas.element_handle())
    assert page.evaluate(MODE) == cell


CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_slider_of_the_course_moves_by_keyboard_in_jupyterlab(lab, page, tmp_path):
    """The stored outputs of all chapters, in one trusted notebook."""
    outputs = [
        output
        for chapter in CHAPTERS
        for cell in nbformat.read(chapter, as_version=4).cells
        for output in cell.get("outputs", [])
        if "ld-scrubber" in output.get("data", {}).get("text/html", "")
    ]
    assert len(outputs) >= len(CHAPTERS)
    cells = [new_code_cell(outputs=[output]) for output in outputs]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), tmp_path / "sliders.ipynb")
    open_notebook(page, lab, lab.place(tmp_path / "sliders.ipynb"))
    for i in range(len(outputs)):
        page.evaluate(
            "i => jupyterapp.shell.currentWidget.content.scrollToItem(i)", i
        )  # cells appear when they are seen
        figure = page.locator(f".jp-Cell[data-windowed-list-index='{i}'] figure.ld-scrubber[data-state=ready]")
        canvas, slider = figure.locator("canvas"), figure.locator("input")
        slider.press("Home")
        assert frame(canvas.first) == 0
        before = [pixels(one) for one in canvas.all()]
        page.keyboard.press("ArrowRight")
        assert frame(canvas.first) == 1
        page.keyboard.press("End")
        assert frame(canvas.first) == int(slider.get_attribute("max")) > 1
        assert [pixels(one) for one in canvas.all()] != before


# nbval runs every chapter in a kernel. Here one runs before a reader's eyes, with a control that asks the kernel;
# LEARN_DIFFUSION_CHAPTERS=all runs every one.
RUN = (
    CHAPTERS if os.environ.get("LEARN_DIFFUSION_CHAPTERS") == "all" else [ROOT / "notebooks" / "08_walking_back.ipynb"]
)


@pytest.mark.parametrize("chapter", RUN, ids=lambda chapter: chapter.stem)
def test_a_chapter_runs_from_top_to_bottom_in_jupyterlab(lab, page, chapter):
    shutil.copy(chapter, lab.folder)
    run_all(page, lab, chapter.name, seconds=1200)


LIVE = """
import ipywidgets
import numpy as np
from learn_diffusion.widgets import Interactive

def draw(level):
    if level > 8:
        raise ValueError("no level above 8")
    return np.full((4, 1, 8, 8), level / 4 - 1)

Interactive(draw, alt="Four grey squares", level=ipywidgets.IntSlider(value=0, min=0, max=10))
"""


def test_a_live_control_asks_the_kernel_in_jupyterlab(lab, page, tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell(LIVE)], metadata=KERNEL), lab.folder / "live.ipynb")
    run_all(page, lab, "live.ipynb")
    picture = page.locator(".jp-OutputArea-output img[alt^='Four grey squares']")
    handle = page.locator(".noUi-handle")
    handle.wait_for()
    assert picture.count() == 1  # the live view alone, without the still picture

    first = picture.get_attribute("src")
    drag(page, page.locator(".noUi-target"), 0.02, 0.5)
    page.wait_for_function("src => document.querySelector('.jp-OutputArea-output img').src !== src", arg=first)
    assert "(level = 5)" in picture.get_attribute("alt")
    page.get_by_text("drawn in").wait_for()  # a message of its own, after the picture's

    second = picture.get_attribute("src")
    handle.press("ArrowRight")
    page.wait_for_function("src => document.querySelector('.jp-OutputArea-output img').src !== src", arg=second)
    assert "(level = 6)" in picture.get_attribute("alt")

    third = picture.get_attribute("src")
    handle.press("End")
    page.get_by_text("ValueError: no level above 8").wait_for()
    assert picture.get_attribute("src") == third
    page.screenshot(path=tmp_path / "live.png")


PAINT = """
import ipywidgets
import torch
from learn_diffusion.widgets import Interactive, PaintedMask

canvas = PaintedMask(torch.zeros(3, 32, 32), alt="A grey square.")
canvas
"""
PAINTED = """
def draw(mask):
    return torch.where(canvas.read(mask), 1.0, -1.0).expand(3, -1, -1)

Interactive(draw, alt="What was painted", mask=canvas.control)
"""


def test_a_painted_mask_reaches_the_kernel_in_jupyterlab(lab, page, tmp_path):
    cells = [new_code_cell(source) for source in (PAINT, PAINTED)]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), lab.folder / "paint.ipynb")
    run_all(page, lab, "paint.ipynb")
    canvas = page.locator("figure.ld-painter[data-state=ready] canvas")
    picture = page.locator(".jp-OutputArea-output img[alt^='What was painted']")
    picture.wait_for()

    def changed_by(act) -> str:
        before = picture.get_attribute("src")
        act()
        page.wait_for_function(
            "src => document.querySelector(\"img[alt^='What was painted']\").src !== src", arg=before
        )
        return canvas.get_attribute("data-painted")

    assert canvas.get_attribute("data-painted") == "0"
    mouse = changed_by(lambda: drag(page, canvas, 0.2, 0.8))  # a line across, five pixels high
    assert 8 <= int(mouse) <= 13
    page.screenshot(path=tmp_path / "paint.png")
    canvas.focus()
    assert changed_by(lambda: page.keyboard.press("Delete")) == "0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert changed_by(lambda: page.keyboard.press("Space")) == "2"  # 25 of 1024 pixels
    assert "Brush at column 18, row 18" in canvas.get_attribute("aria-label")


def test_a_painter_follows_one_button_and_plain_keys_and_sends_what_it_shows(page, tmp_path):
    mask = PaintedMask(torch.zeros(3, 16, 16), alt="A grey square.")
    body = f'{mask._repr_mimebundle_()["text/html"]}<div class="{mask.key}"><input value=""></div>'
    (tmp_path / "paint.html").write_text(f"<!doctype html><meta charset=utf-8>{body}", encoding="utf-8")
    page.goto((tmp_path / "paint.html").as_uri())
    canvas, box = page.locator("figure.ld-painter[data-state=ready] canvas"), page.locator(f".{mask.key} input")
    canvas.click(button="right")
    assert canvas.get_attribute("data-painted") == "0"
    canvas.focus()
    said = canvas.get_attribute("aria-label")
    page.keyboard.press("Control+ArrowRight")
    assert canvas.get_attribute("aria-label") == said
    page.keyboard.down(" ")
    page.keyboard.press("Tab")  # the key comes up elsewhere
    page.keyboard.up(" ")
    assert mask.read(box.input_value()).sum() == 25


def test_what_is_painted_before_there_is_a_box_is_kept_for_it(page, tmp_path):
    mask = PaintedMask(torch.zeros(3, 16, 16), alt="A grey square.")
    (tmp_path / "paint.html").write_text(f"<!doctype html><meta charset=utf-8>{mask._repr_mimebundle_()['text/html']}")
    page.goto((tmp_path / "paint.html").as_uri())
    canvas, said = page.locator("figure.ld-painter[data-state=ready] canvas"), page.locator("figure.ld-painter output")
    canvas.click(position={"x": 100, "y": 100})
    assert said.text_content().endswith("in a notebook, run the next cell to use it")
    page.evaluate("key => document.body.insertAdjacentHTML('beforeend', `<div class=${key}><input></div>`)", mask.key)
    page.wait_for_function("document.querySelector('div > input:not([type])').value")
    assert mask.read(page.locator(f".{mask.key} input").input_value()).sum() == 25
    page.wait_for_function("document.querySelector('figure.ld-painter output').textContent.endsWith('painted')")


def test_a_painter_whose_box_is_in_another_document_says_what_to_do(page, tmp_path):
    """As in Colab, where each output is a frame of its own."""
    canvas = PaintedMask(torch.zeros(3, 16, 16), alt="A grey square.")
    bodies = canvas._repr_mimebundle_()["text/html"], f'<div class="{canvas.key}"><input value=""></div>'
    frames = "".join(
        f'<iframe id="f{i}" style="width:700px;height:600px" srcdoc="{html.escape(f"<!doctype html>{body}")}"></iframe>'
        for i, body in enumerate(bodies)
    )
    (tmp_path / "colab.html").write_text(f"<!doctype html><meta charset=utf-8>{frames}", encoding="utf-8")
    page.goto((tmp_path / "colab.html").as_uri())
    inside = page.frame_locator("#f0")
    inside.locator("canvas").click(position={"x": 100, "y": 100})
    text = inside.get_by_label("copy this into it").input_value()
    assert canvas.read(text).sum() == 25  # a brush of 5 x 5 pixels
