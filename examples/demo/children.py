"""The demo's two child processes: the upstream API and the pipeline. Ends what it started only."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_S = 20.0
"""A cold start on a small machine takes about 1 s."""
STOP_S = 30.0
"""The pipeline's own grace period is 25 s."""


USUAL_PORT = 9100
"""The default of `server.addr`, and so what people remember."""


class StartError(Exception):
    """A child did not come up; the text says which and shows what it printed."""


class Child:
    """A process in a session of its own, so that Ctrl-C reaches it only through us."""

    def __init__(self, name: str, command: list[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self._log = log
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            env=os.environ | env,
            start_new_session=True,
        )

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once `ready()`; raise StartError when the child ends or takes too long."""
        deadline = time.monotonic() + START_S
        while not ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                state = "did not answer in time" if code is None else f"ended with exit code {code}"
                raise StartError(f"{self.name} {state}; it printed:\n{self.output()[-4000:]}")
            time.sleep(0.02)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> int:
        """Ask politely, wait, insist; returns the exit code."""
        if self._process.stdin:
            self._process.stdin.close()
        if not self.ended():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


def start_upstream(folder: Path, seed: int, every_s: float) -> tuple[Child, str]:
    """The upstream API and its URL."""
    command = [sys.executable, str(HERE / "upstream.py"), "--port", "0"]
    command += ["--seed", str(seed), "--every", str(every_s)]
    child = Child("the upstream API", command, folder / "upstream.log", {})
    child.wait_until(lambda: child.output().endswith("\n"))
    return child, child.output().strip()


def start_pipeline(folder: Path, upstream: str) -> tuple[Child, str]:
    """`litejoin run` with the demo's config, and the URL it listens on."""
    port = free_port(USUAL_PORT)
    try:
        return start_pipeline_on(port, folder, upstream)
    except StartError:
        if port != USUAL_PORT:
            raise
        # Somebody may have taken the port between our look and the pipeline's.
        return start_pipeline_on(free_port(0), folder, upstream)


def start_pipeline_on(port: int, folder: Path, upstream: str) -> tuple[Child, str]:
    """The same, on this port."""
    env = {
        "DEMO_DATA_DIR": str(folder / "data"),
        "DEMO_UPSTREAM": upstream,
        "DEMO_ADDR": f"127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "litejoin", "run", "-c", str(HERE / "demo.yaml")]
    child = Child("litejoin", command, folder / "litejoin.log", env)
    # Its own word: on a busy port /health would be somebody else's.
    child.wait_until(lambda: "litejoin: ready" in child.output())
    return child, f"http://127.0.0.1:{port}"


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("no free TCP port on 127.0.0.1")
