"""The order of the files, the tests that need a browser or the website, and what these share."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager

import pytest
from filelock import FileLock

from learn_diffusion import devices
from tools.browser import launched, served

WEB = (  # pytest -m web
    *("test_browser", "test_book", "test_firefox", "test_handouts", "test_playground", "test_points", "test_slides"),
)
# files that take minutes: begun first, or one worker would sit through them at the end while the others are done
SLOW = *WEB, "test_robustness", "test_training", "test_distributed", "test_bundle"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in WEB:
            item.add_marker("web")
    items.sort(key=lambda item: item.path.stem not in SLOW)


@pytest.fixture(autouse=True)
def on_the_cpu(request, monkeypatch):
    """What asks for no device computes on the CPU, on a machine with a GPU too: numbers are those of the CPU."""
    if request.node.path.stem != "test_cuda":
        monkeypatch.setenv(devices.DEVICE, "cpu")


@pytest.fixture(autouse=True)
def no_loop(request):
    """A browser keeps an event loop running in this thread; tests that need none see none, whatever ran before them."""
    running = None if request.node.get_closest_marker("web") else asyncio._get_running_loop()
    if running:
        asyncio._set_running_loop(None)
    yield
    if running:
        asyncio._set_running_loop(running)


@pytest.fixture(scope="session")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder of the built pages, built by whichever worker comes first."""
    pytest.importorskip("jupyter_book", reason='no Jupyter Book found: pip install -e ".[book]"')
    from tools.website import build  # needs the book's requirements

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers of this run
    with FileLock(folder / "book.lock"):
        if not (done := folder / "book_is_built").exists():
            build.build(folder / "book")
            done.touch()
    return folder / "book" / "_build" / "html"


@pytest.fixture(scope="session")
def site(pages):
    """The built pages behind a server on this machine: its address."""
    with served(pages) as address:
        yield address


@contextmanager
def opened(browser, site: str, name: str, script: str = ""):
    """A page of the site; at the end no script may have failed, and no other host may have been asked."""
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.add_init_script(script)
    complaints, requests = [], []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{site}/{name}.html")
    yield page
    page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((site, "data:", "blob:"))] == []
