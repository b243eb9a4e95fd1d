"""A headless Chromium, driven over its DevTools protocol: the standard library is enough for that.

The protocol goes through two pipes, JSON texts with a null byte after each. Source: the DevTools protocol's
documentation (chromedevtools.github.io/devtools-protocol), and Chromium's switch --remote-debugging-pipe.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"
SECONDS = 60
"""So long an answer may take."""


def find() -> str | None:
    """Return the program, or None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """A browser with one page."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, answers
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium said nothing for {SECONDS} s")
            read = os.read(self._answers, 1 << 20)
            if not read:
                raise RuntimeError("Chromium ended")
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, width: int = 1280, height: int = 800, dark: bool = False, scripts: bool = True) -> None:
        """Open a file in a window of that size, and wait until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call(
            "Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}]
        )
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        for url in ("about:blank", path.resolve().as_uri()):  # a page apart, so that the same one is loaded anew
            self.events.clear()
            self.call("Page.navigate", url=url)
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self._next()

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; an exception in it is an error here."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", "an exception"))
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, as Tab or Enter."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def complaints(self) -> list[str]:
        """Return what the page wrote to the console, what it threw, and what it asked of a network."""
        self.run("0")  # what happened before is told before
        said = []
        for event in self.events:
            about = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append(about["exceptionDetails"]["exception"].get("description", "an exception"))
            elif event["method"] == "Runtime.consoleAPICalled":
                said.append(f"{about['type']}: {about['args']}")
            elif event["method"] == "Log.entryAdded":
                said.append(about["entry"]["text"])
            elif event["method"] == "Network.requestWillBeSent":
                url = about["request"]["url"]
                said += [] if url.startswith(("file:", "data:", "about:")) else [f"asked for {url}"]
        return said

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        size = self.run("({width: innerWidth, height: document.documentElement.scrollHeight})")
        clip = {"clip": {"x": 0, "y": 0, "scale": 1, **size}} if whole else {}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """Yield a running Chromium; it ends with the block."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The child reads file descriptor 3 and writes to 4; no sandbox, which root in a container has not.
        command = ["bash", "-c", f'exec "$@" 3<&{in_read} 4>&{out_write}', "bash", find(), "--headless",
                   "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-sandbox", "--disable-gpu",
                   "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "about:blank"]  # fmt: skip
        process = subprocess.Popen(command, pass_fds=[in_read, out_write], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
        os.close(in_read)
        os.close(out_write)
        try:
            yield Browser(in_write, out_read)
        finally:
            os.close(in_write)
            process.terminate()
            process.wait(timeout=SECONDS)
            os.close(out_read)
