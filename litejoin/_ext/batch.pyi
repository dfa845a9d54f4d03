"""The batch writer on SQLite's C API: packed rows (litejoin.records) into numbered tables."""

from collections.abc import Container, Iterable
from typing import NamedTuple

import apsw
from typing_extensions import disjoint_base

class WriteResult(NamedTuple):
    """What one flush of a group did."""

    changes: bytes
    """Change rows (litejoin.store.changes) of the committed shards, by shard, then topic, then
    key.
    """
    rows: int
    """Packed rows taken in by shards that committed (or had nothing to write)."""
    unchanged: int
    """Keys whose upsert was dropped because the stored payload is the same (`drop_noops`)."""
    committed: tuple[int, ...]
    """Shards that committed a transaction, and with it a batch record of this `seq`."""
    full_shards: tuple[int, ...]
    """Shards rolled back because the disk is full; the rows of these are not stored."""
    messages: tuple[bytes, ...]
    """Message rows (ChangeFlag.MESSAGE) of kept topics, one bytes a committed shard, in order of
    arrival.
    """
    refused: tuple[int, ...]
    """Batches, by their place in the flush, with a row of a shard that was left out: nothing of
    them is stored, or of a piecewise one the rows of other shards.
    """

@disjoint_base
class BatchWriter:
    """Writes the rows of a group of shards. Not thread safe: a second thread gets RuntimeError.

    Uses the connections alone and keeps them referenced; `close` before closing them. Rows of
    shards outside the group are skipped, so that several groups can be given the same batches.
    `together`: shards commit at the same time, each on a thread of its own, which pays when every
    commit waits for a sync. `checksums`, `records` and `plain` (old versions are not looked at) are
    for benchmarks only.
    """

    def __new__(
        cls,
        connections: Iterable[tuple[int, apsw.Connection]],
        shard_count: int,
        *,
        together: bool = False,
        checksums: bool = True,
        records: bool = True,
        plain: bool = False,
    ) -> BatchWriter: ...
    def keep_messages(self, topic: int) -> None:
        """From now on every upsert of the topic also becomes a message row, in the result and in
        the batch record, though its key is written again in the same flush.
        """

    def keep_deletes(self, topic: int) -> None:
        """From now on a delete of a key of the topic, of a row or of none, is kept in d<topic>, and
        an exact expiry also deletes what is there: the version that it names, and the delete that
        was before the row which it deletes.
        """

    def prepare(
        self,
        batches: Iterable[bytes],
        seq: int,
        *,
        drop_noops: bool = False,
        want_changes: bool = True,
        piecewise: Container[int] = (),
    ) -> None:
        """Apply all rows in open transactions, one a shard. Blocks; releases the GIL.

        `piecewise`: places of batches of which the rows of other shards are stored when one of
        their shards was left out.

        `seq` numbers the batch records and must rise. Raises ValueError before any SQL when a batch
        is malformed, and StorageError, StorageIOError, CorruptionError or MemoryError after rolling
        back every shard. A full disk only rolls back its shard (`WriteResult.full_shards`).
        """

    def commit(self) -> WriteResult:
        """Commit what `prepare` left open. Blocks; releases the GIL.

        An error here, other than a full disk, leaves some shards committed and others rolled back:
        the caller must end the process and let recovery read the batch records.
        """

    def rollback(self) -> None:
        """Drop what `prepare` left open."""

    def write(
        self,
        batches: Iterable[bytes],
        seq: int,
        *,
        drop_noops: bool = False,
        want_changes: bool = True,
    ) -> WriteResult:
        """`prepare` and `commit`."""

    def trim(self, shard: int, seq: int) -> None:
        """Let the shard's next transaction delete its batch records up to `seq`. Never blocks."""

    def leave_out(self, shard: int) -> None:
        """From now on write nothing into this shard, whose connection stays open until `close`.
        Batches with a row of it are refused (`WriteResult.refused`).
        """

    def wal_pages(self) -> dict[int, int]:
        """Pages in the WAL after the last commit of each shard. Any thread."""

    def close(self) -> None:
        """Roll back, finalize every statement and free the memory. May be called twice."""
