"""Stored data over time: starting with many rows, archiving them, asking them, and what that costs.

    python -m bench.e2e.storage [--rows N] [--folder DIR]

One data directory of 8 shards with N rows of 200 bytes (default 10^7, about 5 GB of disk) goes
through all of it: a start, the archive's worker moving every row into Parquet files, and queries by
key over them. Beside it, a smaller one takes pushes with and without a compaction going on.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import TICKS, daemon
from bench.e2e.pipeline import post_all, requests
from bench.yardsticks.workload import write_workload
from litejoin.archive.duck import Duck
from litejoin.archive.frames import LENGTH, pack
from litejoin.archive.relation import TierTables
from litejoin.archive.tiers import Tiers
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.layout import Layout
from litejoin.store.writer import ShardStore

SHARDS = 8
BATCH_ROWS = 20_000
LIMIT_BYTES = 256 * 1024 * 1024
OLD_MS = 2 * 3_600_000
PAYLOAD_BYTES = 200
ASKED = 50
JOIN = """  - name: one
    query: SELECT key, payload ->> '$.n' AS n FROM rows WHERE key = 'k00000001'
    sink: out
"""
KEYED_JOIN = """  - name: keyed
    query: SELECT key, payload ->> '$.n' AS n FROM rows
    sink: out
"""
PUSHED_JOIN = (
    JOIN
    + """  - name: totals
    query: SELECT key, json_extract(payload, '$.amount') AS amount FROM orders
    sink: out
"""
)


def payload(number: int) -> bytes:
    text = f'{{"n": {number}, "user": "u{number % 9973}", "note": "'
    rng = random.Random(number)
    return (text + rng.randbytes((PAYLOAD_BYTES - len(text) - 2) // 2).hex() + '"}').encode()


def open_store(folder: Path) -> ShardStore:
    return ShardStore.open(
        folder / "data", pipeline="bench", shard_count=SHARDS, synchronous="normal",
        has_time_index=lambda _: True,
    )  # fmt: skip


def fill(folder: Path, rows: int, at_ms: int) -> float:
    """Write the rows as an ingest would; rows a second."""
    store = open_store(folder)
    topic, seconds = store.create_topic("rows"), 0.0
    for first in range(0, rows, BATCH_ROWS):
        batch = pack_rows(
            Row(topic, RowKind.UPSERT, at_ms + n % 1000, b"k%08d" % n, payload(n))
            for n in range(first, min(rows, first + BATCH_ROWS))
        )
        started = time.perf_counter()
        flush = store.flush([batch])
        seconds += time.perf_counter() - started
        store.trim_batches(dict.fromkeys(range(SHARDS), flush.seq))
    store.close()
    return rows / seconds


class WorkerChild:
    """The archive's worker as the runtime starts it, asked in turn."""

    def __init__(self, folder: Path, epoch: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "litejoin.archive.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.ask(
            "open", data_dir=str(folder / "data"), epoch=epoch, shard_count=SHARDS,
            compression="snappy", memory_limit_bytes=LIMIT_BYTES,
            target_file_bytes=128 * 1024 * 1024, local_retention_ms=10**12, keeps_copies=False,
        )  # fmt: skip

    def ask(self, do: str, **arguments: object) -> tuple[dict[str, Any], bytes]:
        sent, got = self._process.stdin, self._process.stdout
        assert sent and got
        sent.write(pack({"do": do, **arguments}))
        sent.flush()
        header = json.loads(got.read(LENGTH.unpack(got.read(LENGTH.size))[0]))
        if "error" in header:
            raise RuntimeError(header["error"])
        return header, got.read(header.pop("size", 0))

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


def compact(folder: Path, rows: int) -> dict[str, float]:
    """Everything into files, and out of SQLite."""
    store = open_store(folder)
    topic = store.create_topic("rows")
    worker = WorkerChild(folder, store.epoch)
    now_ms = time.time_ns() // 1_000_000
    worker.ask("begin", topic=topic, cutoff_ms=now_ms)
    writing = deleting = cpu = 0.0
    moved, is_last = 0, False
    while not is_last:
        started, before = time.perf_counter(), worker.cpu_s()
        chunk, _ = worker.ask("chunk", topic=topic, now_ms=now_ms)
        writing += time.perf_counter() - started
        cpu += worker.cpu_s() - before
        moved, is_last = moved + chunk["rows"], chunk["is_last"]
        started = time.perf_counter()
        for file in chunk["files"]:
            delete(store, worker, file)
        deleting += time.perf_counter() - started
    assert moved == rows, (moved, rows)
    started = time.perf_counter()
    merged = 0
    while found := worker.ask("upkeep", now_ms=now_ms)[0]["merged"]:
        merged += found
    merging = time.perf_counter() - started
    found = {
        "rows_per_core_s": round(rows / cpu),
        "rows_per_s_written": round(rows / writing),
        "rows_per_s_deleted": round(rows / deleting),
        "rows_per_s_in_all": round(rows / (writing + deleting)),
        "merged_files": merged,
        "merge_s": round(merging, 2),
        "worker_peak_rss_mb": round(worker.peak_mb(), 1),
        "limit_mb": LIMIT_BYTES / 2**20,
    }
    worker.close()
    store.close()
    return found


def delete(store: ShardStore, worker: WorkerChild, file: int) -> None:
    fresh = True
    while True:
        header, batch = worker.ask("expiries", file=file, fresh=fresh)
        if not header["rows"]:
            break
        fresh = False
        flush = store.flush([batch])
        store.trim_batches(dict.fromkeys(range(SHARDS), flush.seq))
    worker.ask("settle", file=file)


def ask(folder: Path, rows: int) -> dict[str, float]:
    """Queries by key: the first one of a process, and those after it."""
    with tempfile.TemporaryDirectory() as spill:
        duck, verified = Duck(LIMIT_BYTES, Path(spill)), set[tuple[str, int]]()
        rng = random.Random(1)
        took = []
        for _ in range(ASKED + 1):
            number = rng.randrange(rows)
            sql = f"SELECT key, payload ->> '$.n' FROM rows WHERE key = 'k{number:08d}'"
            started = time.perf_counter()
            tiers = Tiers(Layout(folder / "data"), SHARDS, duck, verified=verified)
            tables = TierTables(tiers, {"rows": 1})
            connection = tables.open()
            answer = connection.execute(sql).fetchall()
            took.append((time.perf_counter() - started) * 1000)
            assert answer == [(f"k{number:08d}", number)], answer
            assert tiers.archived_rows == rows
            connection.close()
            tiers.close()
        duck.close()
    warm = sorted(took[1:])
    return {
        "archived_rows": rows,
        "first_ms": round(took[0], 1),
        "p50_ms": round(statistics.median(warm), 1),
        "max_ms": round(warm[-1], 1),
    }


def ask_snapshot(folder: Path, rows: int) -> dict[str, float]:
    """The same through GET /snapshot of a running pipeline."""
    kept = "retention: {duration: 1h}\n"
    rng, took = random.Random(2), []
    with daemon(folder, KEYED_JOIN, storage=", archive: {enabled: true}", more=kept) as running:
        since = int(time.time()) - 10 * OLD_MS // 1000
        for _ in range(ASKED + 1):
            number = rng.randrange(rows)
            url = f"http://127.0.0.1:{running.port}/snapshot?join=keyed&from={since}"
            started = time.perf_counter()
            with urllib.request.urlopen(f"{url}&keys=k{number:08d}", timeout=60) as answer:
                results = json.load(answer)
            took.append((time.perf_counter() - started) * 1000)
            assert [result["rows"][0]["n"] for result in results] == [number], results
    warm = sorted(took[1:])
    return {
        "first_ms": round(took[0], 1),
        "p50_ms": round(statistics.median(warm), 1),
        "max_ms": round(warm[-1], 1),
    }


def marks(parent: Path, rounds: int = 5, rows: int = 200_000) -> dict[str, float]:
    """What the high-water mark adds to writing: CPU of the same flushes with and without it."""
    used: dict[bool, list[float]] = {False: [], True: []}
    batches = [
        pack_rows(
            Row(1, RowKind.UPSERT, n, b"k%08d" % n, payload(n)) for n in range(first, first + 1000)
        )
        for first in range(0, rows, 1000)
    ]
    for number in range(rounds * 2):
        folder = Path(tempfile.mkdtemp(dir=parent))
        store = open_store(folder)
        store.create_topic("rows")
        with_mark = bool((number + number // 2) % 2)
        if not with_mark:
            store._record = lambda marks, committed: None  # type: ignore[method-assign]
        before = time.process_time()
        for batch in batches:
            flush = store.flush([batch])
            store.trim_batches(dict.fromkeys(range(SHARDS), flush.seq))
        used[with_mark].append(time.process_time() - before)
        store.close()
        shutil.rmtree(folder)
    with_, without = (statistics.median(used[which]) for which in (True, False))
    return {"cpu_added": round(with_ / without - 1, 3)}


def start(folder: Path) -> dict[str, float]:
    """The time until /health says ok, in a process of its own; the files are in the page cache."""
    with daemon(folder, JOIN) as running:
        return {"start_s": round(running.started_s, 2), "rss_mb": round(running.rss_mb(), 1)}


@contextmanager
def expired_rows(parent: Path, rows: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        fill(folder, rows, time.time_ns() // 1_000_000 - OLD_MS)
        yield folder
    finally:
        shutil.rmtree(folder)


def push_beside(parent: Path, prepared: list[bytes], rows: int, *, archive: bool) -> dict[str, Any]:
    """Rows a second that pushes bring while expired rows are moved, or lie still."""
    switched = f", archive: {{enabled: {str(archive).lower()}, compaction_interval: 100ms}}"
    kept = "retention: {duration: 1h, clean_interval: 1h}\n"
    with (
        expired_rows(parent, rows) as folder,
        daemon(folder, PUSHED_JOIN, storage=switched, more=kept) as running,
    ):
        moved = lambda: running.health().get("archive", {}).get("moved", 0)  # noqa: E731
        while archive and not moved():
            time.sleep(0.01)
        before, started = moved(), time.perf_counter()
        post_all(running.port, prepared)
        seconds = time.perf_counter() - started
        return {"requests_s": len(prepared) / seconds, "moved_meanwhile": moved() - before}


def pushes(parent: Path, rounds: int, rows: int) -> dict[str, Any]:
    workload = parent / "workload.jsonl"
    counted = write_workload(workload)
    now_ms = time.time_ns() // 1_000_000
    lines = []
    for line in workload.read_bytes().splitlines():
        message = json.loads(line)
        message["timestamp"] = now_ms / 1000
        lines.append(json.dumps(message).encode())
    prepared = requests(lines)
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for number in range(rounds * 2):
        archive = bool((number + number // 2) % 2)
        found[archive].append(push_beside(parent, prepared, rows, archive=archive))
    rate = {k: statistics.median(r["requests_s"] for r in v) for k, v in found.items()}
    per_request = counted["messages"] / len(prepared)
    return {
        "rows_per_s_alone": round(rate[False] * per_request),
        "rows_per_s_beside_compaction": round(rate[True] * per_request),
        "lost": round(1 - rate[True] / rate[False], 3),
        "rows_moved_meanwhile": [each["moved_meanwhile"] for each in found[True]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Stored data over time")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=2, help="of pushes with and without archive")
    parser.add_argument("--folder", type=Path, help="where the data directories go")
    options = parser.parse_args()
    parent = Path(tempfile.mkdtemp(prefix="litejoin-bench-", dir=options.folder))
    try:
        folder = parent / "long"
        folder.mkdir()
        written = fill(folder, options.rows, time.time_ns() // 1_000_000 - OLD_MS)
        figures: dict[str, Any] = {
            "rows": options.rows,
            "payload_bytes": len(payload(options.rows // 2)),
            "rows_per_s_filled": round(written),
            "start": start(folder),
            "compaction": compact(folder, options.rows),
            "query_by_key": ask(folder, options.rows),
            "snapshot_by_key": ask_snapshot(folder, options.rows),
            "high_water_mark": marks(parent),
        }
        shutil.rmtree(folder)
        figures["pushes"] = pushes(parent, options.rounds, min(options.rows, 4_000_000))
        report.write("storage", figures)
    finally:
        shutil.rmtree(parent)


if __name__ == "__main__":
    main()
