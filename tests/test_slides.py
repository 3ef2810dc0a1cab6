"""The slides: what the plan asks for is on them, and in a browser without network they can be shown."""

from __future__ import annotations

import re

import nbformat
import pytest

pytest.importorskip("jupyter_book", reason='no Jupyter Book found: pip install -e ".[book]"')

from tools import ROOT
from tools.accessibility import AXE, findings
from tools.notebooks import title
from tools.website import slides

HERE = "Reveal.getCurrentSlide()"


@pytest.fixture(scope="module")
def sections() -> list[str]:
    return re.findall(r"<section.*?</section>", slides.deck(), re.S)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """The deck, opened from disk. At the end nothing was asked of a network, and the console is empty."""
    try:
        folder = slides.build(tmp_path_factory.mktemp("deck"))
    except OSError as error:
        pytest.skip(str(error))
    page, complaints, requests = browser.new_page(viewport={"width": 1280, "height": 720}), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.context.on("request", lambda request: requests.append(request.url))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_function("Reveal.isReady() && !document.querySelector('.ld-scrubber:not([data-state=ready])')")
    yield page
    page.close()
    assert not complaints
    assert [url for url in requests if not url.startswith(("file:", "data:", "about:", "blob:"))] == []


def shown(page):
    """Every slide, one after the other, with all that appears on it."""
    for i in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(f"Reveal.slide({i}, 0, 9)")
        yield page.evaluate(f"{HERE}.querySelector('h1').textContent")


def test_every_chapter_of_the_plan_has_its_title_in_the_plans_order_with_notes(sections):
    _, rows, _ = slides.plan()
    assert [row["minute"] for row in rows][:2] == ["0", "12"]
    paths = dict.fromkeys(re.search(r"\((.*)\)", row["chapter"])[1] for row in rows if row["chapter"])
    assert list(slides.SLIDES) == [re.search(r"/([^_]+)", path)[1] for path in paths]
    titles = [slide for slide in sections if 'class="title"' in slide][1:-1]
    for slide, path in zip(titles, paths, strict=True):
        assert f"<h1>{title(nbformat.read(ROOT / path, as_version=4))}</h1>" in slide
        assert '<aside class="notes"><p><strong>minute:</strong>' in slide
        assert "{{" not in slide
    assert "<h4>While chapter 07 trains</h4>" in titles[2]
    assert "If you are late" in sections[0]


def test_the_exercises_of_the_plan_are_on_slides(sections):
    told = " ".join(cell for row in slides.plan()[1] for cell in row.values())
    for name in re.findall(r"`(\d\d\.\w+)`", told):
        assert any(f"Exercise {name}." in slide for slide in sections), name


def test_a_slide_has_at_most_one_figure_and_its_alt_text_is_the_notebooks(sections):
    notebooks = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sum("<figure" in slide for slide in sections) > 15
    for slide in sections:
        assert slide.count("<figure") <= 1
        for image in re.findall(r"<img[^>]*>", slide):
            assert re.search('alt="[^"]+"', image)[0].replace('"', r"\"") in notebooks


def test_a_heading_or_an_output_that_is_gone_is_an_error():
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 01 A topic: why?\n\n## Here\n\n> A box.")])
    assert len(list(slides.slides(nb, "01 A topic", {"Here": "box"}))) == 1
    with pytest.raises(SystemExit, match="no longer has.*There"):
        slides.slides(nb, "01 A topic", {"Here": "box", "There": "picture"})


def test_nothing_is_cut_off_and_pixels_are_squares_of_whole_pixels(opened):
    for name in shown(opened):
        right, bottom = opened.evaluate(f"""() => [...{HERE}.querySelectorAll('*')].filter((e) => !e.closest('aside'))
          .map((e) => e.getBoundingClientRect()).reduce(([x, y], r) => [Math.max(x, r.right), Math.max(y, r.bottom)],
          [0, 0])""")
        assert right <= 1240, name
        assert bottom <= 700, name
        zooms = opened.evaluate(f"""() => [...{HERE}.querySelectorAll('canvas, img[style*=pixelated]')]
          .map((e) => e.getBoundingClientRect().width / (e.naturalWidth ?? e.width))""")
        assert all(zoom >= 3 and zoom == int(zoom) for zoom in zooms), (name, zooms)


def test_a_slider_keeps_its_keys_and_gives_the_others_to_the_slides(opened):
    sliders = 0
    for name in shown(opened):
        slider = opened.locator(".present input[type=range]")
        if not slider.count():
            continue
        sliders += 1
        here = opened.evaluate("Reveal.getIndices().h")
        slider.focus()
        opened.keyboard.press("Home")
        for key, frame in ("ArrowRight", "1"), ("ArrowDown", "0"), ("ArrowUp", "1"), ("ArrowLeft", "0"):
            opened.keyboard.press(key)
            assert slider.input_value() == frame, name
        box = slider.bounding_box()
        opened.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
        assert slider.input_value() == slider.get_attribute("max"), name
        opened.locator(".present button").focus()
        opened.keyboard.press(" ")  # Play, or back to its first frame
        assert int(slider.input_value()) < int(slider.get_attribute("max"))
        assert opened.evaluate("Reveal.getIndices().h") == here
        slider.focus()
        opened.keyboard.press("PageDown")  # as a presenter's remote control does
        assert opened.evaluate("Reveal.getIndices().h") == here + 1
        assert opened.evaluate("document.activeElement === document.body")
    assert sliders == 5


def test_keys_lead_through_the_deck_and_a_question_stands_before_its_answer(opened):
    opened.evaluate("Reveal.slide(0)")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press(" ")
    assert opened.evaluate("Reveal.getIndices().h") == 2
    while not opened.locator(".present .question").count():
        opened.keyboard.press("ArrowRight")
    assert not opened.locator(".present figure").is_visible()
    opened.keyboard.press("ArrowRight")
    assert opened.locator(".present figure").is_visible()


def test_the_speaker_view_shows_the_notes(opened):
    opened.evaluate("Reveal.slide(1)")
    with opened.expect_popup() as popup:
        opened.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("Everybody types a prompt").wait_for()
    popup.value.close()


def test_every_slide_passes_the_accessibility_checker(opened):
    if not AXE.exists():
        pytest.skip("no axe-core found: npm ci in book/ brings it")
    opened.add_script_tag(path=AXE)
    assert findings(opened, "{preload: false}") == []  # the page with its first slide, then each slide alone
    found = [(name, findings(opened, "'.present', {preload: false}")) for name in shown(opened)]
    assert [(name, faults) for name, faults in found if faults] == []
