"""The handouts: every chapter is on them with what its notebook asks, and each part is one printed page."""

from __future__ import annotations

import re

import nbformat
import pytest

pytest.importorskip("jupyter_book", reason='no Jupyter Book found: pip install -e ".[book]"')

from tools import ROOT
from tools.accessibility import AXE, findings
from tools.website import handouts, landing

PREDICTS_NOTHING = {"B_conventions"}  # tables to look things up
NO_BOX = {"00_start_here", "18_product_pictures", "20_stable_diffusion", "A_failure_museum", "B_conventions"}


@pytest.fixture
def opened(browser, tmp_path):
    (tmp_path / "handouts.html").write_text(handouts.page(), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "handouts.html").as_uri())
    yield page
    page.close()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_gives_a_sentence_a_prediction_and_its_exercises(path):
    nb = nbformat.read(path, as_version=4)
    assert bool(handouts.words(nb)) == (path.stem not in NO_BOX)
    assert bool(handouts.prediction(nb)) == (path.stem not in PREDICTS_NOTHING)
    assert len(handouts.prediction(nb)) < 400
    shown = " ".join(str(cell.get("outputs")) for cell in nb.cells)
    declared = set(re.findall(r"Exercise (\w+\.\w+)\.\*\*", shown))
    assert set(handouts.exercises(nb)) == declared
    assert declared


def test_each_part_is_one_a4_page(opened, tmp_path):
    parts = list(landing.parts())
    assert opened.locator("section").count() == len(parts)
    assert opened.locator("article").count() == sum(len(pages) for _, pages in parts)
    printed = opened.pdf(path=tmp_path / "handouts.pdf", prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == len(parts)  # each part begins a page, so none has two
    width, height = map(float, re.search(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", printed).groups())
    assert (width, height) == pytest.approx((595, 842), abs=1)  # points


def test_nothing_is_wider_than_the_sheet_and_markup_does_not_show(opened):
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": 688, "height": 1000})  # 182 mm
    assert opened.evaluate("document.documentElement.scrollWidth") <= 688
    text = opened.locator("main").inner_text()
    assert not re.search(r"\*\*|[$&\\]|\]\(|\{\{", text)


def test_it_passes_the_accessibility_checker(opened):
    if not AXE.exists():
        pytest.skip("no axe-core found: npm ci in book/ brings it")
    opened.add_script_tag(path=AXE)
    assert findings(opened, "{preload: false}") == []
