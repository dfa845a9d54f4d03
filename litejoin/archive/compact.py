"""Compaction: expired rows out of SQLite into Parquet files, a bounded chunk of them at a time.

Called by the archive's worker. Reads the shards through read-only connections of its own and never
deletes a row: once a file is recorded, `expiries` gives the deletions that the pipeline's own
writer makes, read from the file itself. What is deleted is therefore what the file has, version by
version; a row that was written again meanwhile is another version, and stays.
"""

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor

import apsw

from litejoin._ext.expired import ExpiredRows, pack_expiries
from litejoin._ext.route import shard_of
from litejoin.archive.arrow import RowStream
from litejoin.archive.duck import Duck
from litejoin.archive.manifest import ArchiveFile, Manifest
from litejoin.archive.paths import ArchivePaths
from litejoin.archive.seal import Sealer
from litejoin.errors import StorageError

EXPIRY_ROWS = 1_000
"""Rows that one transaction deletes: pushes wait for the same writer."""

START = (-(2**63), -(2**63))
_EXPIRIES = "SELECT key, checksum FROM read_parquet(?)"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one step of a compaction did."""

    files: tuple[ArchiveFile, ...]
    damaged: tuple[str, ...]
    """Keys of rows that are not what was written: they stay in SQLite."""
    is_last: bool


@dataclass
class _Progress:
    """How far a round has come in a topic: rows that could not be moved are not found again."""

    cutoff_ms: int
    deletes: dict[int, tuple[int, int]]
    """By shard with deletes left: the last one that was read."""
    rows: dict[int, tuple[int, int]]
    """By shard with rows left: the last one that was read."""


class Compactor:
    """Moves the rows of one topic after the other. One thread; every method blocks."""

    def __init__(
        self,
        paths: ArchivePaths,
        manifest: Manifest,
        duck: Duck,
        readers: Sequence[apsw.Connection],
        *,
        compression: str,
        chunk_bytes: int,
    ) -> None:
        self._paths, self._manifest, self._duck = paths, manifest, duck
        self._readers = readers
        self._compression, self._chunk_bytes = compression, chunk_bytes
        self._sealer = Sealer(paths, manifest, duck)
        self._progress: dict[int, _Progress] = {}

    def begin(self, topic: int, cutoff_ms: int, left_out: Collection[int] = ()) -> None:
        """Start a round: rows of the topic that are as old as `cutoff_ms`, or older. `left_out`:
        shards that are quarantined.
        """
        shards = [shard for shard in range(len(self._readers)) if shard not in left_out]
        starts = dict.fromkeys(shards, START)
        self._progress[topic] = _Progress(cutoff_ms, dict(starts), starts)

    def chunk(self, topic: int, now_ms: int) -> Chunk:
        """Write the next rows and record their files.

        Raises StorageFullError, StorageIOError, CorruptionError and StorageError; nothing is
        recorded then, and every row is still where it was.
        """
        progress = self._progress[topic]
        rows = self._read(topic, progress)
        seq = self._manifest.next_seq()
        files = tuple(
            self._write(rows, topic, day, first, count, seq, now_ms)
            for day, first, count in rows.days()
        )
        if files:
            self._manifest.record(files, (), now_ms)
        is_last = not progress.rows and not progress.deletes
        return Chunk(files, tuple(rows.damaged), is_last)

    def _read(self, topic: int, progress: _Progress) -> ExpiredRows:
        rows = ExpiredRows(topic)
        # Deletes first: of a key that is in one chunk twice the row is then the later version.
        self._fill(rows, progress.cutoff_ms, progress.deletes, deletes=True)
        self._fill(rows, progress.cutoff_ms, progress.rows, deletes=False)
        return rows

    def _fill(
        self,
        rows: ExpiredRows,
        cutoff_ms: int,
        left: dict[int, tuple[int, int]],
        *,
        deletes: bool,
    ) -> None:
        shards = sorted(left)
        for turn, shard in enumerate(shards):
            room = (self._chunk_bytes - rows.size_bytes) // (len(shards) - turn)
            size = rows.size_bytes + max(1, room)
            done, left[shard] = rows.read(
                self._readers[shard], shard, cutoff_ms, left[shard], size, deletes=deletes
            )
            if done:
                del left[shard]

    def _write(
        self,
        rows: ExpiredRows,
        topic: int,
        day: int,
        first: int,
        count: int,
        seq: int,
        now_ms: int,
    ) -> ArchiveFile:
        columns = rows.columns(first, count)
        checksum = reduce(xor, array("q", columns[-1]))
        number, path = self._sealer.begin()
        try:
            self._duck.write(RowStream(columns, count), seq, path, self._compression)
        except StorageError:
            path.unlink(missing_ok=True)
            raise
        return self._sealer.seal(number, topic, day, count, checksum, now_ms)

    def expiries(self, number: int) -> Iterator[tuple[bytes, int]]:
        """Row batches that delete the file's rows from SQLite, and how many rows each has.

        Deletes nothing twice: a batch may be submitted again after a crash.
        """
        file = self._manifest.file(number)
        path = str(self._paths.file(file.name))
        shards = len(self._readers)
        pairs: list[list[tuple[str, int]]] = [[] for _ in range(shards)]
        for key, checksum in self._duck.rows(_EXPIRIES, (path,), path):
            # Rows of one shard: the flush that deletes them is one transaction, not one a shard.
            mine = pairs[shard_of(key, shards)]
            mine.append((key, checksum))
            if len(mine) == EXPIRY_ROWS:
                yield pack_expiries(file.topic, mine), len(mine)
                mine.clear()
        for left in filter(None, pairs):
            yield pack_expiries(file.topic, left), len(left)
