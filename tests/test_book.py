"""The website: built with warnings as errors, every chapter on it, nothing asked of other hosts, the sliders alive."""

from __future__ import annotations

import re

import pytest
import yaml
from browser import ROOT, launched
from test_notebooks import missing_alt

from learn_diffusion import targets
from notebooks import NOTEBOOKS

build = pytest.importorskip("build", reason="the book's folder is missing")

PIXELS = """slider => [...slider.closest('.ld-scrubber').querySelectorAll('canvas')].map((c) => c.toDataURL())"""


def chapters(pages):
    return sorted((pages / "notebooks").glob("*.html"))


def test_every_notebook_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [name for name in files if name.startswith("notebooks/")] == [
        f"notebooks/{path.stem}" for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    ]


def test_the_page_on_adding_your_own_runs_from_top_to_bottom(monkeypatch):
    monkeypatch.setattr(targets, "TARGETS", dict(targets.TARGETS))  # the page adds one
    boxes = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "book" / "add_your_own.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(boxes) == 7
    names = {}
    for box in boxes:
        exec(compile(box, "add_your_own.md", "exec"), names)


def test_every_notebook_is_a_page(pages):
    assert [path.stem for path in chapters(pages)] == [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    assert "Where formulas" not in (pages / "index.html").read_text()
    for path in chapters(pages):
        assert "<math" in path.read_text() or path.stem.startswith("00"), f"{path.name}: no formula was set"


def test_a_failing_build_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "assemble", lambda source: source.mkdir(parents=True))
    with pytest.raises(SystemExit, match="The book was not built"):
        build.build(tmp_path)


def test_every_picture_has_alt_text(pages):
    for path in [pages / "index.html", *chapters(pages)]:
        assert missing_alt(path.read_text(encoding="utf-8")) == [], path.name


def test_no_page_names_a_file_on_another_host(pages):
    """Scripts, styles, fonts, pictures; links that a reader may click are another matter."""
    for path in pages.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="(https?:)?//', text)
        fetched += re.findall(r'<link[^>]*rel="(?:stylesheet|preload|icon)"[^>]*href="(https?:)?//', text)
        assert not fetched, path.name


def test_the_pages_ask_no_other_host_and_complain_of_nothing(site, pages):
    with launched() as browser:
        page = browser.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for path in [pages / "index.html", *chapters(pages)]:
            page.goto(f"{site}/{path.relative_to(pages)}", wait_until="networkidle")
        assert [url for url in asked if not url.startswith((site, "data:"))] == []
        assert complaints == []


def test_the_sliders_move_on_the_built_pages(site, pages):
    """On every chapter, every slider: its canvas changes under the keyboard, with no kernel anywhere."""
    with launched() as browser:
        page = browser.new_page()
        moved = 0
        for path in chapters(pages):
            page.goto(f"{site}/notebooks/{path.name}")
            page.wait_for_function(
                "() => document.querySelectorAll('.ld-scrubber canvas').length >="
                " document.querySelectorAll('.ld-scrubber').length"
            )
            for slider in page.locator(".ld-scrubber input[type=range]").all():
                seen = []
                for key in ("Home", "End"):
                    slider.press(key)
                    seen.append(slider.evaluate(PIXELS))
                assert seen[0] != seen[1], path.name
                moved += 1
        assert moved >= len(chapters(pages))


def test_a_chapter_fits_a_telephone(site):
    with launched() as browser:
        page = browser.new_page(viewport={"width": 360, "height": 700})
        page.goto(f"{site}/notebooks/01_adding_noise.html", wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
