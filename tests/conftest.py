"""The order of the files, and the built website, once for each worker."""

from __future__ import annotations

import sys

import pytest
from browser import ROOT, served

sys.path.insert(0, str(ROOT / "book"))


# files that take minutes: begun first, or one worker would sit through them at the end while the others are done
SLOW = "test_robustness", "test_training", "test_browser", "test_book", "test_playground", "test_team", "test_bundle"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in SLOW)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder of the built pages."""
    pytest.importorskip("jupyter_book", reason='no Jupyter Book found: pip install -e ".[book]"')
    build = pytest.importorskip("build", reason="the book's folder is missing")
    return build.build(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="session")
def site(pages):
    """The built pages behind a server on this machine: its address."""
    with served(pages) as address:
        yield address
