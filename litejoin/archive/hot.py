"""The rows and deletes that SQLite still has, as one state of all shards; for queries of both.

Each shard is read in a transaction that begins with this object and ends with it. Read it before
the manifest: a row that is not here any more was recorded before it was deleted.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apsw

from litejoin._ext.checksum import row_checksum
from litejoin._ext.route import shard_of
from litejoin.errors import CorruptionError
from litejoin.store.failures import storage_error
from litejoin.store.layout import Layout
from litejoin.store.quarantine import read_quarantine
from litejoin.store.shard import open_reader

OPS = {1: "created", 2: "updated", 3: "deleted"}
NUMBERS = {"created": 1, "updated": 2, "deleted": 3}
_COLUMNS = "key, payload, timestamp_ms, op, changes, checksum"
_DELETES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'd[0-9]*'"


class TopicRow(NamedTuple):
    """A version of a row of a topic."""

    key: str
    payload: str
    timestamp_ms: int
    op: str
    """created, updated or deleted."""
    changes: str | None


class HotRows:
    """One reader a shard. One thread; close it."""

    def __init__(self, layout: Layout, shard_count: int) -> None:
        """Raises StorageError; CorruptionError for a quarantined shard: its rows are unknown."""
        out = read_quarantine(layout.quarantine)
        if out:
            raise CorruptionError(
                f"shard {min(out)} is quarantined: a query over all rows cannot be answered",
                shard=min(out),
                hint="restore the shard's file from a backup",
            )
        self._readers: list[apsw.Connection] = []
        self._deletes: list[set[str]] = []
        """By shard: the tables of deleted keys. A topic that was never archived has none."""
        try:
            for number in range(shard_count):
                reader = open_reader(layout.shard(number))
                self._readers.append(reader)
                reader.execute("BEGIN")
                reader.execute("SELECT max(seq) FROM batches").fetchall()
                self._deletes.append({str(name) for (name,) in reader.execute(_DELETES)})
        except apsw.Error as error:
            self.close()
            raise storage_error(error, len(self._readers)) from error

    def lookup(self, topic: int, keys: Iterable[str]) -> Iterator[TopicRow]:
        """The rows of some keys. A key may be there twice: a row, and a delete that was before."""
        for key in keys:
            shard = shard_of(key, len(self._readers))
            yield from self._rows(shard, topic, " WHERE key = ?1", (key,))

    def scan(self, topic: int) -> Iterator[TopicRow]:
        """All rows, and deletes."""
        for shard in range(len(self._readers)):
            yield from self._rows(shard, topic, "", ())

    def _rows(
        self, shard: int, topic: int, where: str, bindings: tuple[str, ...]
    ) -> Iterator[TopicRow]:
        sql = f"SELECT {_COLUMNS} FROM t{topic}{where}"
        if f"d{topic}" in self._deletes[shard]:
            sql += f" UNION ALL SELECT {_COLUMNS} FROM d{topic}{where}"
        try:
            for key, payload, time_ms, op, changes, checksum in self._readers[shard].execute(
                sql, bindings
            ):
                row = TopicRow(key, payload, time_ms, OPS.get(op, "?"), changes)
                check(row, topic, checksum, f"shard {shard}")
                yield row
        except apsw.Error as error:
            raise storage_error(error, shard) from error

    def close(self) -> None:
        """End the transactions."""
        for reader in self._readers:
            reader.close()
        self._readers.clear()


def check(row: TopicRow, topic: int, checksum: int, where: str) -> None:
    """Raise CorruptionError when a row is not what was written: it is never shown."""
    extra = row.changes.encode() if row.changes is not None else None
    key, payload = row.key.encode(), row.payload.encode()
    op = NUMBERS.get(row.op, 0)
    if row_checksum(0, topic, op, row.timestamp_ms, key, payload, extra) != checksum:
        raise CorruptionError(
            f"{where}: the row of key {row.key!r:.200} of topic {topic} is not what was written",
            hint="restore the file from a backup",
        )
