"""How fast and how large the website is: `python benchmarks/website.py` builds it, visits it, and prints a table.

A browser on this machine (Chromium) reads the pages from this machine. Medians of several; nothing here is a test.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tools.browser import launched, served
from tools.tables import Table, machine, markdown
from tools.website import build

TIMES = 5
# Milliseconds from an input to the slider until the canvas holds, and gives back, other pixels.
SCRUB = """async (slider) => {
  const canvas = slider.closest('.ld-scrubber').querySelector('canvas');
  const taken = [];
  for (let i = 0; i < 40; i++) {
    const start = performance.now();
    slider.value = i % 2 ? slider.min : slider.max;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    canvas.getContext('2d').getImageData(0, 0, 1, 1);
    taken.push(performance.now() - start);
    await new Promise(requestAnimationFrame);
  }
  return taken;
}"""


def scrubbing(browser, address: str, pages: Path) -> list[float]:
    """Milliseconds from an input to changed pixels, of every slider of every chapter."""
    taken = []
    for path in sorted((pages / "notebooks").glob("*.html")):
        page = browser.new_page()
        page.goto(f"{address}/notebooks/{path.name}")
        page.wait_for_function("!document.querySelector('.ld-scrubber:not([data-state=ready])')")
        for slider in page.locator(".ld-scrubber input[type=range]").all():
            taken += slider.evaluate(SCRUB)
        page.close()
    return taken


def finished(page, part: str) -> None:
    """Wait until the part has drawn. Raises RuntimeError where it could not."""
    state = f"document.querySelector('[data-playground={part}]').dataset.state"
    found = page.wait_for_function(f"['done', 'failed'].includes({state}) && {state}", timeout=120_000).json_value()
    if found == "failed":
        raise RuntimeError(page.locator(f"[data-playground={part}] .ld-status").text_content())


def playground(browser, address: str) -> dict[str, list[float]]:
    """Seconds until each model is ready, and of its 20 guided steps, several times each."""
    taken: dict[str, list[float]] = {}
    for part in ("digits", "scenes", "repair"):
        for _ in range(TIMES):
            page = browser.new_page()
            page.goto(f"{address}/playground.html")
            root = page.locator(f"[data-playground={part}]")
            root.get_by_role("button", name="Load the model").click()
            finished(page, part)
            root.get_by_role("button", name="Other noise").click()  # the first picture also warms up
            finished(page, part)
            found = root.evaluate("part => [part.dataset.loaded, part.dataset.ms]")
            for what, ms in zip(("ready", "20 guided steps"), found, strict=True):
                taken.setdefault(f"{part}, {what}", []).append(float(ms) / 1000)
            page.close()
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pages = build.build(Path(folder))
        rows = [["build", "s", time.perf_counter() - start, None]]
        sizes = {path.stem: path.stat().st_size / 1e6 for path in (pages / "notebooks").glob("*.html")}
        largest = max(sizes, key=sizes.get)
        rows += [
            ["landing page, its pictures too", "MB", weight(pages), None],
            [f"largest chapter ({largest})", "MB", sizes[largest], None],
        ]
        with served(pages) as address, launched() as browser:
            scrubs = scrubbing(browser, address, pages)
            rows.append([f"scrub, {len(scrubs)} moves", "ms", statistics.median(scrubs), max(scrubs)])
            for what, seconds in playground(browser, address).items():
                rows.append([what, "s", statistics.median(seconds), max(seconds)])
    print(markdown(Table(f"The website on {machine()}", ["what", "unit", "median", "most"], rows)))


def weight(pages: Path) -> float:
    """The landing page and the pictures it shows, in MB."""
    text = (pages / "index.html").read_text(encoding="utf-8")
    shown = [path for path in (pages / "_images").iterdir() if path.name in text]
    return (len(text.encode()) + sum(path.stat().st_size for path in shown)) / 1e6


if __name__ == "__main__":
    main()
