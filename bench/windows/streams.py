"""Windows under load, store and engine without HTTP, in simulated stream time.

    python -m bench.windows.streams [--messages 1000000] [--minutes 60]

`tumbling`: messages into 1 min tumbling windows, GROUP BY over 1,000 groups, with the windows
firing: messages per second of wall time, and CPU microseconds a message. `sliding`: 10 min / 1 s at
5,000 messages per second of stream time: the share of one core that a real-time stream would take
(CPU seconds per second of stream time) and the resident memory, by tenth of the run: both should be
flat. The same for a quarter of the time with GROUP BY over 1,000 groups (1,000 rows a result, each
second) and with `partition_by` (1,000 results each second).
"""

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

from bench import report
from litejoin.plan.compile_panes import compile_panes
from litejoin.plan.nodes import Place, WindowPlan
from litejoin.records import Row, RowKind, pack_rows
from tests.differential.window_pipeline import WindowPipeline

START_MS = 1_700_000_000_000
GROUPS = 1_000
TUMBLING_RATE = 5_000
SLIDING_RATE = 5_000
FLUSH_ROWS = 5_000

PAYLOAD = b'{"at":%d,"g":"g%03d","v":%d,"name":"a message of the usual size","flag":true}'

GROUPED = (
    "SELECT payload ->> '$.g' AS g, count(*) AS n, sum(payload ->> '$.v') AS total FROM orders"
    " GROUP BY payload ->> '$.g'"
)
TOTAL = (
    "SELECT count(*) AS n, sum(payload ->> '$.v') AS total, avg(payload ->> '$.v') AS mean,"
    " max(payload ->> '$.v') AS most FROM orders"
)


def window(
    kind: str,
    query: str,
    size_ms: int,
    slide_ms: int | None,
    columns: int,
    partition_by: str | None = None,
) -> WindowPlan:
    names = tuple(f"c{number}" for number in range(columns))
    return WindowPlan(
        name="w", type=kind, topic="orders", query=query, place=Place(1, 1), size_ms=size_ms,  # type: ignore[arg-type]
        slide_ms=slide_ms, gap_ms=None, buffer_bound_ms=None, sinks=(), columns=names,
        time_path="at", panes=compile_panes(query, names), partition_by=partition_by,
    )  # fmt: skip


def batch(first: int, count: int, rate: int) -> bytes:
    """`count` messages of a stream with `rate` messages a second."""
    rows = []
    for number in range(first, first + count):
        at = START_MS + number * 1000 // rate
        payload = PAYLOAD % (at, number * 7919 % GROUPS, number % 1000)
        rows.append(Row(1, RowKind.UPSERT, at, b"key-%d" % (number % 50_000), payload))
    return pack_rows(rows)


class Timed:
    """Sends batches and counts what store and engine take, without the making of the batches."""

    def __init__(self, root: Path, plan: WindowPlan) -> None:
        self.pipe = WindowPipeline(root, [plan], shards=8, start_ms=START_MS + 10**10)
        self.wall_s = self.cpu_s = 0.0

    def send(self, packed: bytes, stream_ms: int) -> None:
        self.pipe.clock.advance(stream_ms)
        wall, cpu = time.perf_counter(), time.process_time()
        flush = self.pipe.store.flush([packed])
        self.pipe.engine.apply(flush.changes, flush.seq, flush.messages)
        self.pipe.store.trim_batches(dict.fromkeys(range(8), flush.seq))
        self.pipe.fire()
        self.pipe.engine.release_snapshot()
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def tumbling(root: Path, messages: int) -> dict[str, float]:
    timed = Timed(root, window("tumbling", GROUPED, 60_000, None, 3))
    for first in range(0, messages, FLUSH_ROWS):
        packed = batch(first, min(FLUSH_ROWS, messages - first), TUMBLING_RATE)
        timed.send(packed, FLUSH_ROWS * 1000 // TUMBLING_RATE)
    results = timed.pipe.engine.state.head
    timed.pipe.close()
    return {
        "messages_per_s": round(messages / timed.wall_s),
        "cpu_us_per_message": round(timed.cpu_s / messages * 1e6, 2),
        "results": results,
    }


def sliding(
    root: Path, minutes: int, query: str, columns: int, partition_by: str | None = None
) -> dict[str, object]:
    timed = Timed(root, window("sliding", query, 600_000, 1_000, columns, partition_by))
    seconds = minutes * 60
    shares, memory, before = [], [], 0.0
    for second in range(seconds):
        timed.send(batch(second * SLIDING_RATE, SLIDING_RATE, SLIDING_RATE), 1_000)
        if (second + 1) % max(1, seconds // 10) == 0:
            shares.append(round((timed.cpu_s - before) / max(1, seconds // 10), 3))
            memory.append(round(resident_mb(), 1))
            before = timed.cpu_s
    results = timed.pipe.engine.state.head
    timed.pipe.close()
    return {"core_share_by_tenth": shares, "rss_mb_by_tenth": memory, "results": results}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--messages", type=int, default=1_000_000)
    arguments.add_argument("--minutes", type=int, default=60)
    options = arguments.parse_args()
    root = Path(tempfile.mkdtemp(prefix="litejoin-windows-"))
    try:
        found = {
            "tumbling_1m_1000_groups": tumbling(root / "tumbling", options.messages),
            "sliding_10m_1s_5000_per_s": sliding(root / "sliding", options.minutes, TOTAL, 4),
            "the_same_1000_groups": sliding(root / "groups", options.minutes // 4, GROUPED, 3),
            "the_same_1000_partitions": sliding(
                root / "partitions", options.minutes // 4, TOTAL, 4, "g"
            ),
        }
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report.write("windows", found)


if __name__ == "__main__":
    main()
