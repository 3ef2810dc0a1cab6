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


def scrubbing(page, address: str, pages: Path) -> list[float]:
    """Milliseconds from an input to changed pixels, of every slider of every chapter."""
    taken = []
    for path in sorted((pages / "notebooks").glob("*.html")):
        page.goto(f"{address}/notebooks/{path.name}")
        page.wait_for_function("!document.querySelector('.ld-scrubber:not([data-state=ready])')")
        for slider in page.locator(".ld-scrubber input[type=range]").all():
            taken += slider.evaluate(SCRUB)
    return taken


def playground(page, address: str, part: str) -> list[float]:
    """Seconds until a model is ready, and of its 20 guided steps. Raises RuntimeError if it fails."""
    root = page.locator(f"[data-playground={part}]")
    state = f"document.querySelector('[data-playground={part}]').dataset.state"
    page.goto(f"{address}/playground.html")
    for button in ("Load the model", "Other noise"):  # the first picture also warms up
        root.get_by_role("button", name=button).click()
        found = page.wait_for_function(f"['done', 'failed'].includes({state}) && {state}", timeout=120_000)
        if found.json_value() == "failed":
            raise RuntimeError(root.locator(".ld-status").text_content())
    return [float(ms) / 1000 for ms in root.evaluate("part => [part.dataset.loaded, part.dataset.ms]")]


def first_slider(page, address: str) -> float:
    """Seconds from the address of the first page to a slider that moves a picture."""
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".ld-scrubber[data-state=ready]", state="attached")
    return time.perf_counter() - start


def trained(page, address: str) -> float:
    """Seconds of training until the samples of "Train a model here" lie on the two moons, to 0.13 on average."""
    page.goto(f"{address}/playground.html")
    page.locator("[data-points]").get_by_role("button", name="train").click()
    page.wait_for_function("() => document.querySelector('[data-points]').dataset.near < 0.13", timeout=120_000)
    return int(page.locator("[data-points]").get_attribute("data-ms")) / 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pages = build.build(Path(folder))
        rows = [["build", "s", time.perf_counter() - start, None]]
        text = (pages / "index.html").read_text(encoding="utf-8")
        shown = [path for path in (pages / "_images").iterdir() if path.name in text]
        weight = len(text.encode()) + sum(path.stat().st_size for path in shown)
        largest = max((pages / "notebooks").glob("*.html"), key=lambda path: path.stat().st_size)
        rows += [
            ["landing page, its pictures too", "MB", weight / 1e6, None],
            [f"largest chapter ({largest.stem})", "MB", largest.stat().st_size / 1e6, None],
        ]
        with served(pages) as address, launched() as browser:
            page, outside = browser.new_page(), []
            page.on(
                "request", lambda sent: sent.url.startswith((address, "data:", "blob:")) or outside.append(sent.url)
            )
            for what, visit in (("first slider", first_slider), ("trained points", trained)):
                taken = [visit(page, address) for _ in range(5)]
                rows.append([what, "s", statistics.median(taken), max(taken)])
            scrubs = scrubbing(page, address, pages)
            rows.append([f"scrub, {len(scrubs)} moves", "ms", statistics.median(scrubs), max(scrubs)])
            for part in ("digits", "scenes", "repair"):
                taken = [playground(page, address, part) for _ in range(5)]
                for what, seconds in zip(("ready", "20 guided steps"), zip(*taken, strict=True), strict=True):
                    rows.append([f"{part}, {what}", "s", statistics.median(seconds), max(seconds)])
            rows.append(["requests to other hosts", "", len(outside), None])
    print(markdown(Table(f"The website on {machine()}", ["what", "unit", "median", "most"], rows)))


if __name__ == "__main__":
    main()
