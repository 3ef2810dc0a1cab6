"""A real browser and a real JupyterLab; nothing of the user's own settings is read or written."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from nbformat.sign import NotebookNotary

NO_CHROMIUM = "no Chromium found: apt-get install chromium, or set LEARN_DIFFUSION_CHROMIUM"
ARGUMENTS = [
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 120  # seconds for JupyterLab or a kernel to start on a busy machine


def installed(variable: str, *names: str) -> str | None:
    """The path of the first of these programs that is there; the environment's variable decides where it is set."""
    asked = os.environ.get(variable)
    return next(filter(None, map(shutil.which, [asked] if asked else names)), None)


def chromium() -> str | None:
    """The path of an installed browser; LEARN_DIFFUSION_CHROMIUM decides where it is set."""
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
    return installed("LEARN_DIFFUSION_CHROMIUM", *names)


@contextmanager
def launched() -> Iterator[Any]:
    """A headless Playwright browser; skips the test where none is installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright found: pip install playwright")
    path = chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS, headless=True)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(pages: Path) -> Iterator[str]:
    """The files of a folder behind a server on this machine, which like GitHub Pages answers with 404.html where it
    has no file: its address.
    """

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def send_error(self, code, *args):
            if code != 404 or not (pages / "404.html").is_file():
                return super().send_error(code, *args)
            self.send_response(code)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((pages / "404.html").read_bytes())

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Lab(NamedTuple):
    """A running JupyterLab."""

    url: str  # ends with a slash
    token: str
    folder: Path  # what it serves

    def place(self, source: Path) -> str:
        """Copy a notebook into the served folder, trusted, so that its stored sliders work at once; its name there."""
        notebook = nbformat.read(source, as_version=4)
        NotebookNotary(data_dir=str(self.folder.parent / "data")).sign(notebook)
        nbformat.write(notebook, self.folder / source.name)
        return source.name

    def post(self, path: str) -> None:
        request = urllib.request.Request(
            self.url + path, method="POST", headers={"Authorization": f"token {self.token}"}
        )
        urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def jupyter_lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab serving folder / "served", with settings, kernels' history and logs of its own beside it."""
    pytest.importorskip("jupyterlab", reason='no JupyterLab found: pip install "learn_diffusion[course]"')
    served, runtime = folder / "served", folder / "runtime"
    served.mkdir()
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(_command(served), env=_environment(folder), stdout=log, stderr=subprocess.STDOUT)
    try:
        lab = _wait_for(server, runtime, served, folder / "lab.log")
        try:
            yield lab
        finally:
            lab.post("api/shutdown")  # ends the kernels too
            server.wait(30)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _command(served: Path) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        "--LabApp.expose_app_in_browser=True",  # window.jupyterapp, for the tests' eyes
        f"--ServerApp.root_dir={served}",
    ]


def _environment(folder: Path) -> dict[str, str]:
    """Settings of its own, and no news pop-up."""
    page_config = folder / "config" / "labconfig" / "page_config.json"
    page_config.parent.mkdir(parents=True)
    page_config.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return {**os.environ, **{name: str(folder / place) for name, place in own.items()}}


def _wait_for(server: subprocess.Popen, runtime: Path, served: Path, log: Path) -> Lab:
    """The Lab, once it answers. The port may be another than the one asked for: the server writes down its own."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        for written in runtime.glob("jpserver-*.json"):
            try:
                info = json.loads(written.read_text())
                urllib.request.urlopen(f"{info['url']}api/status?token={info['token']}", timeout=5).close()
                return Lab(info["url"], info["token"], served)
            except (OSError, ValueError):
                pass  # half written, or not listening yet
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


READY = """() => {
  const dialog = document.querySelector('.jp-Dialog');
  if (dialog) return dialog.innerText;
  const session = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  const kernel = session?.session?.kernel;
  return session?.isReady && kernel?.status === 'idle' && kernel.connectionStatus === 'connected' && 'ready';
}"""
DONE = """() => {
  const cells = [...jupyterapp.shell.currentWidget.content.model.cells].filter((cell) => cell.type === 'code');
  const failed = cells.flatMap((cell) => cell.outputs.toJSON()).find((output) => output.output_type === 'error');
  if (failed) return `${failed.ename}: ${failed.evalue}`;
  return cells.every((cell) => cell.executionCount !== null) && 'done';
}"""


def open_notebook(page: Any, lab: Lab, notebook: str) -> None:
    """Open a notebook of the Lab and wait for its kernel."""
    page.goto(f"{lab.url}lab/workspaces/{Path(notebook).stem}/tree/{notebook}?token={lab.token}")  # no other tabs
    ready = page.wait_for_function(READY, timeout=1000 * PATIENCE).json_value()  # earlier, Run All asks for a kernel
    assert ready == "ready", f"JupyterLab asks about {notebook}: {ready}"


def run_all(page: Any, lab: Lab, notebook: str, seconds: float = 300) -> None:
    """Open a notebook as a student does, and run all its cells."""
    open_notebook(page, lab, notebook)
    page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    end = page.wait_for_function(DONE, timeout=1000 * seconds).json_value()
    assert end == "done", f"{notebook} stopped: {end}"
