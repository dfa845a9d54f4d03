"""What moving expired rows into the archive costs the pushes that arrive meanwhile.

Called by bench.e2e.storage. A pipeline has expired rows and takes arrays of 100 over four
connections, as fast as it answers, for the same time with and without the archive; the two take
turns. Without, the expired rows lie still. What was written into files and what was deleted from
SQLite in that time is counted by /health: a run in which nothing moved proves nothing.
"""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, takewhile
from pathlib import Path
from typing import Any

from bench.e2e.daemon import Daemon, daemon
from bench.e2e.pipeline import ARRAY, post_all, requests
from bench.yardsticks.workload import write_workload

OLD_MS = 2 * 3_600_000
PASSES = 3
"""Versions of the workload that are sent in turn: each row is a change, however long it takes."""

JOINS = """  - name: one
    query: SELECT key, payload ->> '$.n' AS n FROM rows WHERE key = 'k00000001'
    sink: out
  - name: totals
    query: SELECT key, json_extract(payload, '$.amount') AS amount FROM orders
    sink: out
"""

Fill = Callable[[Path, int, int], float]
"""Writes rows as of a time into a folder's data directory."""


@contextmanager
def expired_rows(parent: Path, rows: int, fill: Fill) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        fill(folder, rows, time.time_ns() // 1_000_000 - OLD_MS)
        yield folder
    finally:
        shutil.rmtree(folder)


def prepare(parent: Path, *, share: int = 1) -> list[bytes]:
    """Requests with rows that are not old."""
    workload = parent / "workload.jsonl"
    write_workload(workload, share=share)
    messages = [json.loads(line) for line in workload.read_bytes().splitlines()]
    made, now_s = [], time.time()
    for number in range(PASSES):
        for message in messages:
            message["timestamp"] = now_s
            message["payload"]["pass"] = number
        made += requests([json.dumps(message).encode() for message in messages])
    return made


def counted(running: Daemon) -> dict[str, int]:
    archive = running.health().get("archive", {})
    return {name: archive.get(name, 0) for name in ("written", "moved")}


def push(port: int, prepared: list[bytes], seconds: float) -> float:
    """Rows a second, over `seconds`."""
    started, sent = time.perf_counter(), 0

    def is_time(_: bytes) -> bool:
        nonlocal sent
        sent += 1
        return time.perf_counter() - started < seconds

    post_all(port, takewhile(is_time, cycle(prepared)))
    return (sent - 1) * ARRAY / (time.perf_counter() - started)


def push_beside(
    folder: Path, prepared: list[bytes], rows: int, seconds: float, *, archive: bool
) -> dict[str, float]:
    switched = f", archive: {{enabled: {str(archive).lower()}, compaction_interval: 100ms}}"
    kept = "retention: {duration: 1h, clean_interval: 1h}\n"
    with daemon(folder, JOINS, storage=switched, more=kept) as running:
        while archive and not counted(running)["moved"]:
            time.sleep(0.01)
        before = counted(running)
        rate = push(running.port, prepared, seconds)
        after = counted(running)
        found = {f"{name}_rows": after[name] - before[name] for name in after}
        if archive:
            assert found["moved_rows"] > 0, "nothing was moved beside the pushes"
            found["left_rows"] = rows - after["moved"]
        return {"rows_per_s": rate, **found}


def pushes(
    parent: Path, fill: Fill, *, rounds: int, rows: int, seconds: float, share: int = 1
) -> dict[str, Any]:
    prepared = prepare(parent, share=share)
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(rounds * 2):
        archive = bool((number + number // 2) % 2)
        with expired_rows(parent, rows, fill) as folder:
            found[archive].append(push_beside(folder, prepared, rows, seconds, archive=archive))
    pairs = zip(found[True], found[False], strict=True)
    beside = found[True]
    return {
        "seconds": seconds,
        "rows_per_s_alone": [round(each["rows_per_s"]) for each in found[False]],
        "rows_per_s_beside": [round(each["rows_per_s"]) for each in beside],
        "lost": round(
            1 - statistics.median(a["rows_per_s"] / b["rows_per_s"] for a, b in pairs), 3
        ),
        "rows_written_meanwhile": [each["written_rows"] for each in beside],
        "rows_deleted_meanwhile": [each["moved_rows"] for each in beside],
        "rows_left": [each["left_rows"] for each in beside],
    }
