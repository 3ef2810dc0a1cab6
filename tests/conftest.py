"""The built website, once for each worker."""

from __future__ import annotations

import functools
import http.server
import sys
import threading

import pytest
from browser import ROOT

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

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
