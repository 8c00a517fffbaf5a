"""A real browser without a network, for the pages that batten writes: Chromium in a container of the rig.

It speaks the DevTools protocol over its standard streams (``--remote-debugging-pipe``: messages end with a zero byte,
chromium, content/browser/devtools/devtools_pipe_handler.cc). A page is handed to it as the answer to its one request.
"""

from __future__ import annotations

import base64
import json
import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.rig import base
from tests.rig.docker import LABEL

URL = "http://report.test/"
PATIENCE = 120  # seconds for one answer, on a loaded machine
_FLAGS = "--no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe about:blank"
_COMMAND = f"exec chromium-headless-shell {_FLAGS} 3<&0 4>&1 0</dev/null 1>&2"


class Page:
    """One document in one tab. ``requests`` are the addresses it asked for, ``said`` what stood on its console."""

    def __init__(self, browser: Browser, session: str, html: str) -> None:
        self._browser, self._session, self._html = browser, session, html
        self.requests: list[str] = []
        self.said: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def load(self) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Fetch.enable", patterns=[{"urlPattern": "*"}])
        self.call("Page.navigate", url=URL)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def happened(self, method: str, event: dict[str, Any]) -> None:
        """Note one event of this page, and answer its requests: the document itself, nothing else."""
        if method == "Fetch.requestPaused":
            asked = event["request"]["url"]
            self.requests.append(asked)
            if asked == URL:
                body = base64.b64encode(self._html.encode()).decode()
                headers = [{"name": "Content-Type", "value": "text/html"}]
                answer = {"responseCode": 200, "responseHeaders": headers, "body": body}
                self._browser.send("Fetch.fulfillRequest", self._session, requestId=event["requestId"], **answer)
            else:
                failed = {"requestId": event["requestId"], "errorReason": "Failed"}
                self._browser.send("Fetch.failRequest", self._session, **failed)
        elif method == "Log.entryAdded":
            self.said.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(event["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(event["exceptionDetails"]))

    def look(self, width: int, height: int = 800, scheme: str = "light") -> None:
        """Set the window's size in CSS pixels, and the theme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def evaluate(self, script: str) -> Any:
        """Run a script in the page, whatever its policy says, and return its value."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def pdf(self) -> bytes:
        """Print it on A4, as a person's browser would."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        printed = self.call("Page.printToPDF", **paper)
        return base64.b64decode(printed["data"])


def pages(pdf: bytes) -> int:
    """Count a PDF's pages; Chromium writes their dictionaries uncompressed (skia, src/pdf/SkPDFDocument.cpp)."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


class Browser:
    """A running browser; see :func:`started`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._last, self._buffer = process, 0, b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        self._events: list[tuple[str, str]] = []
        assert process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(process.stdout, selectors.EVENT_READ)

    def open(self, html: str) -> Page:
        """Open a document in a new tab, and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, html)
        page.load()
        return page

    def send(self, method: str, session: str = "", **parameters: Any) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        return self._last

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        number = self.send(method, session, **parameters)
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            self._read(deadline, method)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, event: str, session: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while (event, session) not in self._events:
            self._read(deadline, event)

    def _read(self, deadline: float, awaited: str) -> None:
        """Take what the browser says next."""
        assert self._process.stdout
        ready = self._selector.select(max(0, deadline - time.monotonic()))
        chunk = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
        assert chunk, f"the browser {'ended' if ready else 'does not answer'}: {awaited}"
        *messages, self._buffer = (self._buffer + chunk).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
                continue
            session = message.get("sessionId", "")
            self._events.append((message["method"], session))
            if session in self._pages:
                self._pages[session].happened(message["method"], message["params"])


@contextmanager
def started() -> Iterator[Browser]:
    """A browser, for as long as the block runs. Its container is gone afterwards."""
    image = base.layer("browser", base.debian())
    words = ["docker", "run", "--rm", "--interactive", "--init", "--network", "none", "--label", LABEL]
    words += ["--cap-drop", "ALL", "--memory", "2g", "--pids-limit", "500", image, "sh", "-c", _COMMAND]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        browser = Browser(process)
        try:
            yield browser
        finally:
            if process.poll() is None:
                try:
                    browser.call("Browser.close")
                finally:
                    process.kill()
