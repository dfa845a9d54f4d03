"""A real Chromium without a window, driven over its DevTools protocol (a pipe, JSON, NUL-ended).

Owns: one browser process with a new profile, one page. It ends with `close`, or by itself when the
pipe breaks. Remembers what went wrong in the page and every address that it asked for.

Protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

from tests.harness.process import REPOSITORY
from tests.harness.waiting import SLOW, eventually

STAMP = REPOSITORY / ".venv/.chromium"
"""Written by tools/chromium: the path of a browser that works."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_S = 20.0


def find_browser() -> str:
    """Its path. Fails with the way out when there is none."""
    known = [STAMP.read_text().strip()] if STAMP.exists() else []
    found = next(filter(None, map(shutil.which, [*known, *NAMES])), None)
    assert found, "no browser for the tests of the live page: make .venv/.chromium installs one"
    return found


def _high(descriptor: int) -> int:
    """The same file under a number that the shell does not use for another."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    finally:
        os.close(descriptor)


class Browser:
    """A browser with one page."""

    def __init__(self, profile: Path) -> None:
        """`profile`: a directory that is there for nobody else."""
        self.faults: list[str] = []
        """Exceptions of scripts, what a policy refused, errors on the console."""
        self.requests: list[dict[str, Any]] = []
        """Every request of the page: `url`, `method`, `headers`."""
        self._buffer = b""
        self._last = 0
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        ends = _high(commands), _high(answers)
        script = f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}'
        command = [find_browser(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, *command], pass_fds=ends, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in ends:
            os.close(end)
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser, its helpers too."""
        with suppress(OSError):
            os.close(self._commands)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait(10)
        os.close(self._answers)

    # -- the protocol ------------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._last += 1
        command: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        for message in self._messages():
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._note(message.get("method", ""), message.get("params", {}))
        raise AssertionError(f"{method}: the browser ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + ANSWER_S * SLOW
        while True:
            while b"\0" not in self._buffer:
                left_s = max(0.0, deadline - time.monotonic())
                ready, _, _ = select([self._answers], [], [], left_s)
                assert ready, f"no answer of the browser, exit code {self._process.poll()}"
                more = os.read(self._answers, 1 << 16)
                if not more:
                    return
                self._buffer += more
            line, _, self._buffer = self._buffer.partition(b"\0")
            yield json.loads(line)

    def _note(self, event: str, what: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(what["request"])
        elif event == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(what["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.faults.append(json.dumps(what["args"]))
        elif event == "Log.entryAdded" and what["entry"]["source"] != "network":
            self.faults.append(what["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.faults.append(f"dialog: {what['message']}")

    # -- as its user -------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        eventually(lambda: self.run("[document.URL, document.readyState]") == [url, "complete"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What the first element shows; "" when it is not there or hidden."""
        shown = "((found) => found?.checkVisibility() ? found.innerText : '')"
        return str(self.run(f"{shown}(document.querySelector({json.dumps(selector)}))"))

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """A key of the keyboard: "Enter", "Tab", " "."""
        code, text = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}[key]
        pressed = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self) -> bytes:
        """The whole page as PNG, for people."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])
