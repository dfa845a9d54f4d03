"""The archive's worker: the process in which DuckDB runs.

Started by litejoin.archive.process as `python -m litejoin.archive.worker`; answers one request
after the other from stdin, and ends with its parent. It reads the shards and owns the archive
directory; only the pipeline's own writer deletes rows.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import apsw

from litejoin.archive.compact import Compactor
from litejoin.archive.duck import Duck
from litejoin.archive.frames import Header
from litejoin.archive.manifest import FileState, Manifest
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.serving import Answer, serve_parent
from litejoin.archive.upkeep import Upkeep
from litejoin.store.files import make_directory
from litejoin.store.layout import Layout
from litejoin.store.shard import open_reader

CHUNK_SHARE = 0.08
"""Of the memory limit: raw rows of one chunk, which are held twice while they are written."""

MIN_CHUNK_BYTES = 1024 * 1024


class Worker:
    """The methods that requests name. One thread."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._expiries: dict[int, Iterator[tuple[bytes, int]]] = {}

    def open(
        self,
        data_dir: str,
        epoch: str,
        shard_count: int,
        compression: str,
        memory_limit_bytes: int,
        target_file_bytes: int,
        local_retention_ms: int,
        keeps_copies: bool,
    ) -> Header:
        """Take the archive directory; wait for the end of a worker that a killed parent left."""
        layout = Layout(Path(data_dir))
        paths = ArchivePaths(layout.archive)
        make_directory(paths.root)
        make_directory(paths.temporary)
        self._lock(paths.lock)
        self._manifest = Manifest.open(paths.manifest, epoch)
        self._closing.callback(self._manifest.close)
        # It reads each file once, to compare it with what was to be written.
        duck = Duck(memory_limit_bytes, paths.temporary, keeps_files=False)
        self._closing.callback(duck.close)
        self._compactor = Compactor(
            paths,
            self._manifest,
            duck,
            self._open_readers(layout, shard_count),
            compression=compression,
            chunk_bytes=max(MIN_CHUNK_BYTES, int(memory_limit_bytes * CHUNK_SHARE)),
        )
        self._upkeep = Upkeep(
            paths,
            self._manifest,
            duck,
            compression=compression,
            target_bytes=target_file_bytes,
            local_retention_ms=local_retention_ms,
            keeps_copies=keeps_copies,
        )
        missing = self._upkeep.sweep()
        pending = self._manifest.files(FileState.RECORDED)
        return {"missing": missing, "pending": [file.id for file in pending]}

    def _lock(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._closing.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)

    def _open_readers(self, layout: Layout, shard_count: int) -> Sequence[apsw.Connection]:
        readers = [open_reader(layout.shard(number)) for number in range(shard_count)]
        for reader in readers:
            self._closing.callback(reader.close)
        return readers

    def begin(self, topic: int, cutoff_ms: int, left_out: Sequence[int] = ()) -> Header:
        """A round over one topic, but for some shards."""
        self._compactor.begin(topic, cutoff_ms, left_out)
        return {}

    def chunk(self, topic: int, now_ms: int) -> Header:
        """The next rows of the round, as files."""
        chunk = self._compactor.chunk(topic, now_ms)
        return {
            "files": [file.id for file in chunk.files],
            "rows": sum(file.rows for file in chunk.files),
            "damaged": list(chunk.damaged),
            "is_last": chunk.is_last,
        }

    def expiries(self, file: int, fresh: bool) -> Answer:
        """The next deletions of a file's rows; no rows when there are no more."""
        if fresh or file not in self._expiries:
            self._expiries = {file: self._compactor.expiries(file)}
        batch, rows = next(self._expiries[file], (b"", 0))
        return {"rows": rows}, batch

    def settle(self, file: int) -> Header:
        """SQLite has deleted the file's rows."""
        self._manifest.settle(file)
        return {}

    def upkeep(self, now_ms: int) -> Header:
        """Merges, retention, deletions; then the sizes."""
        merged = self._upkeep.merge(now_ms)
        dropped = self._upkeep.enforce_retention(now_ms)
        self._upkeep.remove_dropped(now_ms)
        return {"merged": merged, "dropped": dropped, **asdict(self._upkeep.sizes())}

    def close(self) -> None:
        """Let go of everything."""
        self._closing.close()


if __name__ == "__main__":
    serve_parent(Worker())
