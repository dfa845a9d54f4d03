"""`litejoin run` as a subprocess for the benchmarks: started, watched, stopped."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

START_TIMEOUT_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Daemon:
    """A running pipeline. `port` serves everything: ingest, SSE and health."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    started_s: float

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self, which: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{which}:")[1].split()[0]) / 1024

    def wait_until_evaluated(self, timeout_s: float = 300) -> int:
        """Wait until the joiner has applied the newest flush; returns the head of the log."""
        state = apsw.Connection(str(self.data_dir / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
        deadline = time.monotonic() + timeout_s
        try:
            while time.monotonic() < deadline:
                newest = self.health()["shards"]["seq"]
                meta = dict(state.execute("SELECT name, value FROM meta").fetchall())
                if meta["applied"] >= newest:
                    return int(meta["head"])
                time.sleep(0.02)
        finally:
            state.close()
        raise TimeoutError("the joiner did not catch up")


@contextmanager
def daemon(
    folder: Path,
    joins: str,
    *,
    storage: str = "",
    server: str = "",
    more: str = "",
    sources: str = "",
    sinks: str = "",
    prefix: Sequence[str] = (),
) -> Iterator[Daemon]:
    """Run a pipeline with one SSE sink `out` in `folder`, which is new.

    `sources` are YAML list items; by default one http source. `storage`, `server` and `sinks` are
    added to theirs in flow style, `more` are other sections. `prefix` goes before the command.
    """
    port = free_port()
    http = f"  - {{type: http, name: in, config: {{addr: '127.0.0.1:{port}'}}}}\n"
    config = folder / "bench.yaml"
    config.write_text(
        f"storage: {{data_dir: {folder}/data, shard_count: 8{storage}}}\n"
        f"server: {{addr: '127.0.0.1:{port}'{server}}}\n{more}"
        f"sources:\n{sources or http}"
        f"joins:\n{joins}"
        f"sinks: [{{type: sse, name: out, config: {{addr: '127.0.0.1:{port}'}}}}{sinks}]\n"
    )
    command = [*prefix, sys.executable, "-m", "litejoin", "run", "-c", str(config)]
    started = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    made = Daemon(process, port, folder / "data", 0.0)
    try:
        while True:
            try:
                if made.health()["status"] in ("ok", "degraded"):
                    break
            except OSError:
                pass
            if process.poll() is not None or time.monotonic() - started > START_TIMEOUT_S:
                raise RuntimeError(f"did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        made.started_s = time.monotonic() - started
        yield made
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
