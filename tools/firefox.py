"""The Firefox that is installed here, driven by WebDriver BiDi, the protocol it speaks by itself.

Playwright drives a patched Firefox, which pip does not bring. Its version 1.65 speaks BiDi too, but begins with a
command (emulation.setMediaFeaturesOverride) that Firefox 153 does not know. The user's own profile is left alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tools.browser import PATIENCE, installed

NO_FIREFOX = "no Firefox found: apt-get install firefox-esr, or set LEARN_DIFFUSION_FIREFOX"
KEYS = {"Home": "\ue011", "End": "\ue010", "ArrowLeft": "\ue012", "ArrowRight": "\ue014"}  # as WebDriver names them
# A driven Firefox turns its reports and most of its downloads off by itself; these are the rest. All other hosts are
# asked through a proxy, and nothing listens there: what a later Firefox or a page asks for stays on this machine.
PREFERENCES = {
    "media.gmp-manager.updateEnabled": False,
    "services.settings.server": "data:,",  # heeded only where the environment has ALLOWED
    "network.proxy.type": 1,
    "network.proxy.no_proxies_on": "127.0.0.1",
    **{f"network.proxy.{kind}": "127.0.0.1" for kind in ("http", "ssl")},
    **{f"network.proxy.{kind}_port": 9 for kind in ("http", "ssl")},
}
ALLOWED = {"MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"}


def firefox() -> str | None:
    """The path of an installed Firefox; LEARN_DIFFUSION_FIREFOX decides where it is set."""
    return installed("LEARN_DIFFUSION_FIREFOX", "firefox-esr", "firefox")


class Page:
    """A tab. Every method raises RuntimeError with Firefox's own words where a command or a script fails."""

    def __init__(self, connection: Any):
        self.connection, self.sent = connection, 0
        self.complaints: list[str] = []  # errors of scripts, and what they log as errors
        self.requests: list[str] = []  # addresses, those that a Worker asked for too
        self.send("session.new", capabilities={})
        self.send("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self.tab = self.send("browsingContext.getTree")["contexts"][0]["context"]
        viewport = {"width": 1100, "height": 900}
        self.send("browsingContext.setViewport", context=self.tab, viewport=viewport)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command. What is reported before it is kept."""
        self.sent += 1
        self.connection.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while (message := json.loads(self.connection.recv())).get("id") != self.sent:
            report = message.get("params", {})
            if message.get("method") == "network.beforeRequestSent":
                self.requests.append(report["request"]["url"])
            elif report.get("level") == "error":
                self.complaints.append(report["text"])
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['message']}")
        return message["result"]

    def goto(self, url: str) -> None:
        self.send("browsingContext.navigate", context=self.tab, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise; it passes through JSON."""
        asked = f"(async () => JSON.stringify(await ({expression})))()"
        result = self.send("script.evaluate", expression=asked, target={"context": self.tab}, awaitPromise=True)
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"].get("value", "null"))

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """The expression's first value that JavaScript takes for true. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:.0f} s for {expression}")
            time.sleep(0.1)
        return value

    def press(self, key: str) -> None:
        """A key goes down and up, wherever the focus is."""
        strokes = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        self._perform({"type": "key", "id": "keyboard", "actions": strokes})

    def click(self, element: str) -> None:
        """The mouse clicks on the middle of an element, which an expression gives, after it was scrolled to."""
        box = self.evaluate(f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect()))({element})")
        x, y = round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)
        strokes = [{"type": "pointerMove", "x": x, "y": y}]
        strokes += [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]
        self._perform({"type": "pointer", "id": "mouse", "actions": strokes})

    def _perform(self, actions: dict[str, Any]) -> None:
        self.send("input.performActions", context=self.tab, actions=[actions])


@contextmanager
def launched(profile: Path) -> Iterator[Page]:
    """A tab of a headless Firefox, in a profile of its own, an empty folder; skips the test where none is installed."""
    path = firefox()
    if path is None:
        pytest.skip(NO_FIREFOX)
    websocket = pytest.importorskip("websocket", reason="no websocket-client found: it comes with JupyterLab")
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(to)});" for name, to in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with open(profile / "firefox.log", "w") as log:
        process = subprocess.Popen(command, env=os.environ | ALLOWED, stdout=log, stderr=log)
    try:
        address = _address(process, profile)
        connection = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        yield Page(connection)
        connection.close()
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen, profile: Path) -> str:
    """Where Firefox listens, which it writes into its profile."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            found = json.loads((profile / "WebDriverBiDiServer.json").read_text())
            return f"ws://{found['ws_host']}:{found['ws_port']}/session"
        except (OSError, ValueError):
            time.sleep(0.1)  # not there yet, or half written
    raise RuntimeError(f"Firefox did not start:\n{(profile / 'firefox.log').read_text()[-3000:]}")
