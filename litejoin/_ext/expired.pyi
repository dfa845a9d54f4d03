"""Expired rows of a topic, from its shards into Arrow columns for Parquet."""

from collections.abc import Iterable

import apsw

class ExpiredRows:
    """Rows of one topic, by its number. One thread at a time."""

    damaged: list[str]
    """Keys of rows that are not what was written; they were left out. At most 100 are named."""

    def __new__(cls, topic: int) -> ExpiredRows: ...
    def __len__(self) -> int: ...
    @property
    def size_bytes(self) -> int:
        """Keys, payloads and changes held."""

    def read(
        self,
        connection: apsw.Connection,
        shard: int,
        cutoff_ms: int,
        after: tuple[int, int],
        max_bytes: int,
        *,
        deletes: bool = False,
    ) -> tuple[bool, tuple[int, int]]:
        """Add the shard's rows with `timestamp_ms` <= `cutoff_ms` that follow `after`, a pair of
        timestamp and row id, oldest first, until `max_bytes` are held. `deletes`: of the deleted
        keys, not of the rows. Returns whether that was all and the pair to go on after. Blocks;
        releases the GIL.

        Raises CorruptionError, StorageError and MemoryError.
        """

    def days(self) -> list[tuple[int, int, int]]:
        """Put the rows in order. Returns of each day (counted from 1970-01-01) its number, the
        index of its first row and the number of its rows.
        """

    def columns(self, first: int, count: int) -> tuple[bytes, ...]:
        """Rows as Arrow buffers: key offsets and bytes, payload offsets and bytes, offsets, bytes
        and validity bits of changes, timestamps in ms, ops, checksums. Offsets are int32, numbers
        int64. Raises ValueError before `days`, and beyond 2 GiB of text.
        """

def pack_expiries(topic: int, rows: Iterable[tuple[str, int]]) -> bytes: ...
