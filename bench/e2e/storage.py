"""Stored data over time: starting with many rows, archiving them, asking them, and what that costs.

    python -m bench.e2e.storage [--rows N] [--folder DIR] [--parts A,B --keep DIR]

One data directory of 8 shards with N rows of 200 bytes (default 10^7, about 5 GB of disk) goes
through all of it: a start, the archive's worker moving every row into Parquet files, and queries by
key over them. Beside it, a smaller one takes pushes with and without a compaction going on. Parts
can be run by themselves: `--parts fill --keep DIR` first, then what works on DIR.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import TICKS, daemon
from bench.e2e.storage_integrity import integrity
from bench.e2e.storage_pushes import OLD_MS, pushes
from litejoin.archive.duck import Duck
from litejoin.archive.frames import LENGTH, pack
from litejoin.archive.relation import TierTables
from litejoin.archive.tiers import Tiers
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.layout import Layout
from litejoin.store.writer import ShardStore

PARTS = ("fill", "start", "compaction", "query", "integrity", "pushes")
SHARDS = 8
BATCH_ROWS = 20_000
LIMIT_BYTES = 256 * 1024 * 1024
PAYLOAD_BYTES = 200
ASKED = 50
WARMING = 200
JOIN = """  - name: one
    query: SELECT key, payload ->> '$.n' AS n FROM rows WHERE key = 'k00000001'
    sink: out
"""
KEYED_JOIN = """  - name: keyed
    query: SELECT key, payload ->> '$.n' AS n FROM rows
    sink: out
"""


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
    """Write the rows as an ingest would, in the order of their times; rows a second."""
    store = open_store(folder)
    topic, seconds = store.create_topic("rows"), 0.0
    for first in range(0, rows, BATCH_ROWS):
        batch = pack_rows(
            Row(topic, RowKind.UPSERT, at_ms + n // 10_000, b"k%08d" % n, payload(n))
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
        sent, got = self._process.stdin, self._process.stdout
        assert sent and got
        sent.close()
        self._process.wait(30)
        got.close()


def compact(folder: Path, rows: int) -> dict[str, float]:
    """Everything into files, and out of SQLite."""
    store = open_store(folder)
    topic = store.create_topic("rows")
    store.keep_deletes({topic})
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


def keys_to_ask(rows: int, seed: int) -> list[int]:
    """Some of every file, which a process compares with its hash when it first reads it, and then
    any.
    """
    rng = random.Random(seed)
    return [
        *(rows * n // WARMING for n in range(WARMING)),
        *(rng.randrange(rows) for _ in range(ASKED)),
    ]


def answer_times(took: list[float]) -> dict[str, float]:
    """The first query of a process, the slowest of those that read a file first, and the rest."""
    warm = sorted(took[WARMING:])
    return {
        "first_ms": round(took[0], 1),
        "slowest_first_read_ms": round(max(took[:WARMING]), 1),
        "p50_ms": round(statistics.median(warm), 1),
        "max_ms": round(warm[-1], 1),
    }


def ask(folder: Path, rows: int) -> dict[str, float]:
    """Queries by key."""
    with tempfile.TemporaryDirectory() as spill:
        duck, verified = Duck(LIMIT_BYTES, Path(spill)), set[tuple[str, int]]()
        took = []
        for number in keys_to_ask(rows, seed=1):
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
    return {"archived_rows": rows, **answer_times(took)}


def ask_snapshot(folder: Path, rows: int) -> dict[str, float]:
    """The same through GET /snapshot of a running pipeline."""
    kept = "retention: {duration: 1h}\n"
    took = []
    with daemon(folder, KEYED_JOIN, storage=", archive: {enabled: true}", more=kept) as running:
        since = int(time.time()) - 10 * OLD_MS // 1000
        for number in keys_to_ask(rows, seed=2):
            url = f"http://127.0.0.1:{running.port}/snapshot?join=keyed&from={since}"
            started = time.perf_counter()
            with urllib.request.urlopen(f"{url}&keys=k{number:08d}", timeout=60) as answer:
                results = json.load(answer)
            took.append((time.perf_counter() - started) * 1000)
            assert [result["rows"][0]["n"] for result in results] == [number], results
    return answer_times(took)


def start(folder: Path) -> dict[str, float]:
    """The time until /health says ok, in a process of its own: with the files in the page cache,
    and without.
    """
    with daemon(folder, JOIN) as running:
        found = {"start_s": round(running.started_s, 2), "rss_mb": round(running.rss_mb(), 1)}
    for path in (folder / "data").iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    with daemon(folder, JOIN) as running:
        return {**found, "start_uncached_s": round(running.started_s, 2)}


def stored(folder: Path, rows: int, parts: set[str]) -> dict[str, Any]:
    """The parts that work on the data directory in `folder`, in the order in which they can."""
    figures: dict[str, Any] = {}
    if "fill" in parts:
        (folder / "data").mkdir(parents=True)
        written = fill(folder, rows, time.time_ns() // 1_000_000 - OLD_MS)
        figures["rows_per_s_filled"] = round(written)
    if "start" in parts:
        figures["start"] = start(folder)
    if "compaction" in parts:
        figures["compaction"] = compact(folder, rows)
    if "query" in parts:
        figures["query_by_key"] = ask(folder, rows)
        figures["snapshot_by_key"] = ask_snapshot(folder, rows)
    return figures


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Stored data over time")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=2, help="of pushes with and without archive")
    parser.add_argument("--seconds", type=float, default=15.0, help="of pushes each time")
    parser.add_argument("--folder", type=Path, help="where the data directories go")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, by comma")
    parser.add_argument(
        "--keep", type=Path, help="use this data directory and leave it there for other parts"
    )
    options = parser.parse_args(arguments)
    parts = set(options.parts.split(","))
    if unknown := parts - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parent = Path(tempfile.mkdtemp(prefix="litejoin-bench-", dir=options.folder))
    try:
        figures = {
            "rows": options.rows,
            "payload_bytes": len(payload(options.rows // 2)),
            **stored(options.keep or parent / "long", options.rows, parts),
        }
        shutil.rmtree(parent / "long", ignore_errors=True)
        if "integrity" in parts:
            figures["integrity"] = integrity(parent, payload, min(options.rows, 200_000))
        if "pushes" in parts:
            rows = min(options.rows, 4_000_000)
            figures["pushes"] = pushes(
                parent, fill, rounds=options.rounds, rows=rows, seconds=options.seconds
            )
        report.write("storage", figures)
    finally:
        shutil.rmtree(parent)


if __name__ == "__main__":
    main()
