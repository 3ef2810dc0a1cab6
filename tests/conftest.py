"""The built website, once for each worker."""

from __future__ import annotations

import sys

import pytest
from browser import ROOT, served

sys.path.insert(0, str(ROOT / "book"))


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
