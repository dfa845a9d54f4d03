"""An archive driven by hand, in the test's process: the worker's own methods over a real store.

`python -m tests.harness.archive DATA_DIR` reads numbers of steps, one a line, and for each plays
one round in a process of its own, which it leaves with code 9 before that step of the protocol; it
answers with the code, 0 when there are fewer steps. With the settings of an object store (JSON) as
a second argument the steps are those of copying. Processes are forked: loading DuckDB anew for each
would take most of the time.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from litejoin.archive import steps
from litejoin.archive.cloud import CloudSettings, ObjectStore
from litejoin.archive.copies import Copies
from litejoin.archive.duck import load_duckdb
from litejoin.archive.manifest import ArchiveFile, Manifest
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.worker import Worker
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.layout import Layout
from litejoin.store.writer import ShardStore

HOUR_MS = 3_600_000
NOW_MS = 1_764_000_000_000
KILLED = 9
ROUND_ROWS = 40
"""Rows that each round of `play` writes and finds expired."""

ArchivedRow = tuple[str, str, int, str]
"""key, payload, timestamp in ms, op."""


class Archive:
    """A store with one topic, `orders`, and its archive."""

    def __init__(self, data_dir: Path, shard_count: int = 2, **settings: object) -> None:
        self.store = ShardStore.open(
            data_dir, pipeline="p", shard_count=shard_count, synchronous="normal",
            has_time_index=lambda _: True,
        )  # fmt: skip
        self.topic = self.store.create_topic("orders")
        self.store.keep_deletes({self.topic})
        self.paths = ArchivePaths(Layout(data_dir).archive)
        options: dict[str, Any] = {
            "compression": "snappy", "memory_limit_bytes": 64 << 20, "target_file_bytes": 1 << 20,
            "local_retention_ms": 1000 * HOUR_MS, "keeps_copies": False, **settings,
        }  # fmt: skip
        self.worker = Worker()
        try:
            self.opened = self.worker.open(str(data_dir), self.store.epoch, shard_count, **options)
        except BaseException:
            self.close()
            raise

    def write(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Upsert keys with payloads and times."""
        self.store.flush([
            pack_rows(
                Row(self.topic, RowKind.UPSERT, time_ms, key.encode(), payload.encode())
                for key, payload, time_ms in rows
            )
        ])  # fmt: skip

    def delete(self, *keys: str, time_ms: int = NOW_MS) -> None:
        """Delete keys, as a source does."""
        rows = (Row(self.topic, RowKind.DELETE, time_ms, key.encode()) for key in keys)
        self.store.flush([pack_rows(rows)])

    def settle_pending(self) -> None:
        """What a start does first: delete the rows of files that were recorded before."""
        for file in self.opened["pending"]:
            self.delete_rows_of(file)

    def delete_rows_of(self, file: int) -> None:
        """The deletions of one file, as the runtime makes them."""
        fresh = True
        while True:
            header, batch = self.worker.expiries(file, fresh)
            if not header["rows"]:
                break
            fresh = False
            steps.reached("delete")
            self.store.flush([batch])
        self.worker.settle(file)

    def compact(self, cutoff_ms: int = NOW_MS, now_ms: int = NOW_MS) -> int:
        """A round over the topic. Returns how many rows went into files."""
        self.worker.begin(self.topic, cutoff_ms)
        rows = 0
        while True:
            chunk = self.worker.chunk(self.topic, now_ms)
            rows += chunk["rows"]
            for file in chunk["files"]:
                self.delete_rows_of(file)
            if chunk["is_last"]:
                return rows

    def hot(self) -> list[ArchivedRow]:
        """The rows of the topic in SQLite."""
        readers = self.store.open_readers()
        sql = (
            "SELECT key, payload, timestamp_ms, iif(op = 1, 'created', 'updated')"
            f" FROM t{self.topic}"
        )
        return sorted(row for reader in readers for row in reader.execute(sql))

    def deletes(self) -> list[str]:
        """The deleted keys that SQLite still has."""
        readers = self.store.open_readers()
        return sorted(k for r in readers for (k,) in r.execute(f"SELECT key FROM d{self.topic}"))

    def files(self) -> list[ArchiveFile]:
        """The files that queries read."""
        manifest = Manifest.read(self.paths.manifest)
        try:
            return manifest.files()
        finally:
            manifest.close()

    def archived(self) -> Counter[ArchivedRow]:
        """Every row of the files that queries read, and how often it is there."""
        duckdb: Any = load_duckdb()
        found: Counter[ArchivedRow] = Counter()
        for file in self.files():
            sql = "SELECT key, payload, epoch_ms(timestamp), op FROM read_parquet(?)"
            found.update(duckdb.sql(sql, params=[str(self.paths.file(file.name))]).fetchall())
        return found

    def copies(self, settings: CloudSettings) -> Copies:
        """The copies in an object store."""
        return Copies(self.paths, Manifest.join(self.paths.manifest), ObjectStore(settings))

    def close(self) -> None:
        """Close worker and store."""
        self.worker.close()
        self.store.close()


def round_rows(number: int) -> list[tuple[str, str, int]]:
    """The rows of a round of `play`: half of the keys are those of the round before."""
    return [
        (f"k{number * ROUND_ROWS // 2 + n}", f'{{"round":{number}}}', NOW_MS - n)
        for n in range(ROUND_ROWS)
    ]


def stop_at(stop_before: int) -> None:
    """Leave the process before that step."""
    count = 0

    def count_steps(_step: str) -> None:
        nonlocal count
        count += 1
        if count == stop_before:
            os._exit(KILLED)

    steps.hook = count_steps


def play(data_dir: Path, stop_before: int) -> None:
    """One round of everything: finish what is pending, compact, merge, drop, delete."""
    archive = Archive(data_dir, target_file_bytes=1 << 30)
    stop_at(stop_before)
    archive.settle_pending()
    archive.compact()
    # Later, so that the files of earlier rounds are merged, and those that were merged deleted.
    for hours in (2, 4):
        archive.worker.upkeep(NOW_MS + hours * HOUR_MS)
    archive.close()


def play_copies(data_dir: Path, stop_before: int, settings: CloudSettings) -> None:
    """Compact, then a round of copying: copy, merge, drop, delete here, delete there."""
    archive = Archive(
        data_dir, target_file_bytes=1 << 30, keeps_copies=True, local_retention_ms=HOUR_MS
    )
    archive.settle_pending()
    archive.compact()
    copies = archive.copies(settings)
    stop_at(stop_before)
    for hours in (0, 2, 4):
        for file in copies.waiting():
            copies.copy(file.id)
        archive.worker.upkeep(NOW_MS + hours * HOUR_MS)
        copies.delete_dropped(NOW_MS + hours * HOUR_MS)
    archive.close()


if __name__ == "__main__":
    load_duckdb()
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            if len(sys.argv) > 2:
                given = CloudSettings(**json.loads(sys.argv[2]))
                play_copies(Path(sys.argv[1]), int(line), given)
            else:
                play(Path(sys.argv[1]), int(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
