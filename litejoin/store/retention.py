"""Retention: finds rows that are older than their topic keeps them, as batches of expiries.

The runtime asks every clean interval and flushes the batches like any other write, so a deletion is
a change that joins see. An expiry only deletes a row that is still as old as it was when it was
found. While the wall clock is not to be believed after a jump nothing is found: rows are kept too
long rather than deleted in a heap.
"""

from collections.abc import Iterator, Mapping, Sequence

import apsw

from litejoin.clock import SteadyClock
from litejoin.errors import CorruptionError, StorageError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.failures import read_error
from litejoin.store.quarantine import Quarantine

CHUNK_ROWS = 1000
"""Keys in one batch: small enough that pushes, which wait for the same writer, do not notice."""


class Retention:
    """Looks for expired rows through read-only connections of its own; one thread at a time."""

    def __init__(
        self,
        readers: Sequence[apsw.Connection],
        clock: SteadyClock,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._readers = readers
        self._clock = clock
        self._quarantine = quarantine

    def expired(self, retention_ms: Mapping[int, int]) -> Iterator[bytes]:
        """Batches of expiries for topics by number, a chunk at a time. Blocks on the disk.

        The caller flushes a batch before it asks for the next: what is flushed is not found again.
        Raises StorageError and its kin.
        """
        for topic, keep_ms in retention_ms.items():
            for shard in range(len(self._readers)):
                if not self._clock.is_settled():
                    return
                if self._quarantine and shard in self._quarantine.shards:
                    continue
                yield from self._expired_in(shard, topic, self._clock.now_ms() - keep_ms)

    def _expired_in(self, shard: int, topic: int, cutoff_ms: int) -> Iterator[bytes]:
        # Each chunk starts after the last one's rows: a flush that failed must not find them for
        # ever.
        after = (-(2**63), -(2**63))
        query = (
            f"SELECT timestamp_ms, id, key FROM t{topic} WHERE timestamp_ms <= ?1"
            " AND (timestamp_ms, id) > (?2, ?3) ORDER BY timestamp_ms, id LIMIT ?4"
        )
        while True:
            try:
                rows = (
                    self._readers[shard].execute(query, (cutoff_ms, *after, CHUNK_ROWS)).fetchall()
                )
            except apsw.Error as error:
                self._damaged(read_error(error, shard))
                return
            if not rows:
                return
            yield pack_rows(
                Row(topic, RowKind.DELETE, cutoff_ms, str(key).encode(), expire=True)
                for _, _, key in rows
            )
            after = (int(str(rows[-1][0])), int(str(rows[-1][1])))

    def _damaged(self, error: StorageError) -> None:
        if self._quarantine is None or not isinstance(error, CorruptionError):
            raise error
        self._quarantine.take(error)
