"""A real headless Chromium, driven over the WebDriver protocol with nothing but requests."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver hands out elements."""


class Browser:
    """One page of a running Chromium; methods raise RuntimeError with Chromium's own message."""

    def __init__(self, session: str):
        self._session = session

    def _call(self, method: str, path: str, **body: Any) -> Any:
        reply = requests.request(
            method, self._session + path, json=body if method == "POST" else None, timeout=120
        ).json()["value"]
        if isinstance(reply, dict) and "error" in reply:
            raise RuntimeError(f"{path} {body}: {reply['error']}: {reply['message']}")
        return reply

    def open(self, target: str | Path) -> None:
        """Open a URL or a file and wait until it has loaded."""
        self._call("POST", "/url", url=target.absolute().as_uri() if isinstance(target, Path) else target)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns: ``return document.title``."""
        return self._call("POST", "/execute/sync", script=script, args=list(arguments))

    def resize(self, width: int, height: int) -> None:
        """Set the size of the page itself, below the smallest window too."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def colours(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def find(self, css: str, *, timeout: float = 10.0) -> str:
        """The id of the first element a selector matches, as soon as there is one."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self._call("POST", "/element", using="css selector", value=css)[ELEMENT]
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def click(self, css: str) -> None:
        """Click on an element."""
        self._call("POST", f"/element/{self.find(css)}/click")

    def type(self, css: str, text: str) -> None:
        """Type into a field."""
        self._call("POST", f"/element/{self.find(css)}/value", text=text)

    def press(self, key: str) -> None:
        """Press and release a key: a character, or the name of a key such as ``Enter``."""
        code = f"Digit{key}" if key.isdigit() else f"Key{key.upper()}" if len(key) == 1 and key.isalpha() else key
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.devtools("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, text=text)
        self.devtools("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)

    def enter_frame(self, number: int | None = 0) -> None:
        """Let scripts run in a frame of the page from now on; None: in the page itself."""
        self._call("POST", "/frame", id=number)

    def console(self) -> list[str]:
        """Warnings and errors on the console since the last call."""
        entries = self._call("POST", "/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def requested(self) -> list[str]:
        """Addresses asked for since the last call, other than data: URIs."""
        entries = self._call("POST", "/se/log", type="performance")
        events = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def screenshot(self, target: Path, *, whole: bool = False) -> None:
        """Save a PNG of the view or of the whole page."""
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        target.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own. Skips the test where Chromium or its driver is missing; in CI fails."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("no Chromium with chromedriver here: apt-get install chromium chromium-driver")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = f"http://127.0.0.1:{port}"
    with subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        session = None
        try:
            _wait(server)
            options = {
                "binary": binary,
                "args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--hide-scrollbars",
                ],
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            reply = requests.post(
                f"{server}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=120
            ).json()["value"]
            if "sessionId" not in reply:
                raise RuntimeError(reply["message"])
            session = f"{server}/session/{reply['sessionId']}"
            yield Browser(session)
        finally:
            if session:
                requests.delete(session, timeout=60)
            process.terminate()


def _wait(server: str) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            if requests.get(f"{server}/status", timeout=5).json()["value"]["ready"]:
                return
        except requests.ConnectionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)
