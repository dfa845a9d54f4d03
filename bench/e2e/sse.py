"""What SSE delivers: one client that catches up, 50 that follow, 1,000 at 100 results a second.

    python -m bench.e2e.sse

The readers are a process of their own, so the figures need two cores with nothing else on them.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import Daemon, daemon
from bench.e2e.pipeline import post_all, requests

JOIN = """  - name: orders
    query: SELECT key AS order_id, payload FROM orders
    sink: out
"""
LIMITS = ", limits: {max_connections: 1200, max_sse_clients: 1100}"
STORED = 90_000
FOLLOWED = 40_000
CROWD = 1_000
CROWD_RATE = 100
CROWD_S = 10


class Readers:
    """The reading process; `result` waits for its figures."""

    def __init__(self, running: Daemon, clients: int, expected: int, resume: str = "") -> None:
        command = [sys.executable, "-m", "bench.e2e.sse_readers", str(running.port), str(clients)]
        command += [str(expected)] + ([resume] if resume else [])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._out = self._process.stdout
        assert self._out.readline() == "ready\n"

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._out.read())
        self._process.wait()
        found["per_s"] = round(found["events"] / found.pop("seconds"))
        return found


def order(i: int) -> bytes:
    return b'{"topic":"orders","key":"o%07d","payload":{"sent_ns":%d,"amount":%d}}' % (
        i, time.monotonic_ns(), i,
    )  # fmt: skip


def catch_up(running: Daemon) -> dict[str, Any]:
    """One client that resumes at the beginning of the log."""
    post_all(running.port, requests([order(i) for i in range(STORED)]))
    running.wait_until_evaluated()
    epoch = json.loads((running.data_dir / "manifest.json").read_text())["epoch"]
    cpu = running.cpu_s()
    found = Readers(running, 1, STORED, f"{epoch[:8]}-0").result()
    return {"per_s": found["per_s"], "per_cpu_s": round(STORED / (running.cpu_s() - cpu))}


def follow(running: Daemon, clients: int) -> dict[str, Any]:
    """Clients that follow a backlog as fast as it is evaluated."""
    readers = Readers(running, clients, FOLLOWED * clients)
    post_all(running.port, requests([order(i) for i in range(FOLLOWED)]))
    found = readers.result()
    return {"events": found["events"], "per_s": found["per_s"]}


def crowd(running: Daemon) -> dict[str, Any]:
    """Many clients at a steady rate: latency from before the POST to the client's read."""
    readers = Readers(running, CROWD, CROWD * CROWD_RATE * CROWD_S)

    def post() -> None:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            for i in range(CROWD_RATE * CROWD_S):
                time.sleep(max(0.0, started + i / CROWD_RATE - time.monotonic()))
                connection.sendall(requests([order(i)])[0])
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")

    poster = threading.Thread(target=post)
    poster.start()
    found = readers.result()
    poster.join()
    return {**found, "rss_mb": round(running.rss_mb("VmHWM"), 1)}


def measure(work: Any, *arguments: Any) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        with daemon(folder, JOIN, server=LIMITS) as running:
            figures: dict[str, Any] = work(running, *arguments)
    finally:
        shutil.rmtree(folder)
    print(json.dumps({work.__name__: figures}), file=sys.stderr)
    return figures


def main() -> None:
    report.write(
        "sse",
        {
            "one_client_catching_up": measure(catch_up),
            "one_client_following": measure(follow, 1),
            "50_clients_following": measure(follow, 50),
            "1000_clients_at_100_per_s": measure(crowd),
        },
    )


if __name__ == "__main__":
    main()
