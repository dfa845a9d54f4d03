"""What replication costs a push: POST to 200, one in flight, with an embedded Litestream and not.

    python -m bench.e2e.replication [ROUNDS]

Two pipelines run side by side and take turns, so that both meet the same neighbours; the one whose
turn it is not is idle, and so is its Litestream. Each turn is SECONDS of pushes, back to back or
paced. At the end the replica is restored and its rows are counted against what was acknowledged.
"""

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw

from bench import report
from bench.e2e.daemon import Daemon, daemon
from bench.e2e.pipeline import JOIN

SECONDS = 2.0
PACE_S = 0.005
"""Between two paced pushes: 200 a second."""

KEYS = 100_000


class Pusher:
    """Pushes orders to one pipeline, one at a time."""

    def __init__(self, running: Daemon) -> None:
        self._socket = socket.create_connection(("127.0.0.1", running.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.keys: set[int] = set()
        self.sent = 0

    def turn(self, pace_s: float) -> list[float]:
        """Seconds to each acknowledgement of one turn."""
        times = []
        ends = time.perf_counter() + SECONDS
        while time.perf_counter() < ends:
            times.append(self._push())
            if pace_s:
                time.sleep(pace_s)
        return times

    def _push(self) -> float:
        number = self.sent * 7919 % KEYS
        body = b'{"topic":"orders","key":"o%08d","payload":{"user_id":"u%07d","amount":%d.25}}' % (
            number,
            number % 1000,
            self.sent,
        )
        head = b"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        started = time.perf_counter()
        self._socket.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert self._socket.recv(65536).startswith(b"HTTP/1.1 200")
        self.sent += 1
        self.keys.add(number)
        return time.perf_counter() - started


def share(times: list[float], part: float) -> float:
    """A percentile in milliseconds."""
    return round(sorted(times)[int(len(times) * part)] * 1e3, 4)


def compare(off: Pusher, on: Pusher, rounds: int, pace_s: float) -> dict[str, object]:
    """Alternate; the growth is that of the median turn against its neighbour."""
    times: dict[str, list[float]] = {"off": [], "on": []}
    growths = []
    for n in range(rounds):
        turns = {}
        for name, pusher in (("off", off), ("on", on))[:: 1 if n % 2 else -1]:
            turns[name] = pusher.turn(pace_s)
            times[name] += turns[name]
        growths.append(share(turns["on"], 0.5) / share(turns["off"], 0.5) - 1)
    found: dict[str, object] = {
        f"{name}_p{round(part * 100)}_ms": share(times[name], part)
        for name in times
        for part in (0.5, 0.99)
    }
    found["p50_growth_percent"] = round(statistics.median(growths) * 100, 2)
    found["pushes"] = {name: len(each) for name, each in times.items()}
    return found


def restored_rows(folder: Path) -> int:
    """Rows of the replica, restored as a user does it."""
    target = folder / "restored"
    config = folder / "bench.yaml"
    subprocess.run(
        [sys.executable, "-m", "litejoin", "restore", "-c", config, "--to", target, "--verify"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    rows = 0
    for path in target.glob("shard-*.db"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        rows += int(connection.execute("SELECT count(*) FROM t1").get)
        connection.close()
    return rows


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    figures: dict[str, object] = {"rounds": rounds, "turn_s": SECONDS}
    folder = Path(tempfile.mkdtemp(prefix="litejoin-bench-"))
    try:
        settings = f"enabled: true, mode: embedded, replica_url: 'file://{folder}/replica'"
        for name in ("off", "on"):
            (folder / name).mkdir()
        with daemon(folder / "off", JOIN) as one:
            with daemon(folder / "on", JOIN, more=f"replication: {{{settings}}}\n") as other:
                off, on = Pusher(one), Pusher(other)
                compare(off, on, 2, 0)  # warm
                figures["back_to_back"] = compare(off, on, rounds, 0)
                figures["paced_200_per_s"] = compare(off, on, rounds, PACE_S)
                other.wait_until_evaluated()
        found = restored_rows(folder / "on")
        assert found == len(on.keys), f"{found} rows restored, {len(on.keys)} acknowledged"
        figures["restored_rows"] = found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.write("replication", figures)


if __name__ == "__main__":
    main()
