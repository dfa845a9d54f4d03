"""Twin of litejoin._ext.batch: the same flush, row by row, over apsw.

Each key's rows are played one after the other on its stored version; only the outcome is written.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import apsw

from litejoin.records import Row, RowKind, unpack_rows
from litejoin.store.changes import Change, Version, pack_changes
from tests.reference.checksum import row_checksum, xxh64
from tests.reference.route import shard_of


@dataclass
class TwinResult:
    """What a flush did."""

    changes: bytes = b""
    rows: int = 0
    unchanged: int = 0
    committed: list[int] = field(default_factory=list)


class TwinWriter:
    """Writes batches as BatchWriter does; no faults are handled."""

    def __init__(
        self,
        connections: Sequence[tuple[int, apsw.Connection]],
        shard_count: int,
        keeps_deletes: Collection[int] = (),
    ) -> None:
        """`keeps_deletes`: topics whose deletes are kept. They get exact expiries and no others."""
        self._keeps_deletes = keeps_deletes
        self._connections = dict(connections)
        self._shard_count = shard_count
        self._next_ids: dict[tuple[int, int], int] = {}

    def write(self, batches: Sequence[bytes], seq: int, *, drop_noops: bool = False) -> TwinResult:
        """One flush."""
        rows = [row for batch in batches for row in unpack_rows(batch)]
        result = TwinResult()
        for shard in sorted(self._connections):
            mine = [row for row in rows if shard_of(row.key, self._shard_count) == shard]
            result.rows += len(mine)
            if mine:
                self._write_shard(shard, mine, seq, drop_noops, result)
        return result

    def _write_shard(
        self, shard: int, rows: list[Row], seq: int, drop_noops: bool, result: TwinResult
    ) -> None:
        changes: list[Change] = []
        keys = sorted({(row.kind >= RowKind.STATE_UPSERT, row.table, row.key) for row in rows})
        wrote = False
        connection = self._connections[shard]
        connection.execute("BEGIN IMMEDIATE")
        for is_state, table, key in keys:
            group = [
                row for row in rows
                if (row.kind >= RowKind.STATE_UPSERT, row.table, row.key) == (is_state, table, key)
            ]  # fmt: skip
            if is_state:
                self._write_state(connection, group[-1])
                wrote = True
                continue
            before = connection.total_changes()
            change = self._write_topic(connection, shard, group, drop_noops)
            wrote = wrote or connection.total_changes() != before
            if change == "unchanged":
                result.unchanged += 1
            elif isinstance(change, Change):
                changes.append(change)
                wrote = True
        if wrote:
            body = pack_changes([_elided(change) for change in changes])
            connection.execute(
                "INSERT INTO batches VALUES(?,?,?)", (seq, body, _signed(xxh64(body, seq)))
            )
            result.committed.append(shard)
        connection.execute("COMMIT")
        result.changes += pack_changes(changes)

    def _write_state(self, connection: apsw.Connection, row: Row) -> None:
        table = f"s{row.table}"
        if row.kind is RowKind.STATE_DELETE:
            connection.execute(f"DELETE FROM {table} WHERE key=?", (row.key.decode(),))
            return
        checksum = row_checksum(1, row.table, 0, 0, row.key, row.payload, row.extra)
        payload = row.payload.decode() if row.payload else None
        connection.execute(
            f"INSERT INTO {table}(key,hash,payload,checksum) VALUES(?1,?2,?3,?4)"
            " ON CONFLICT(key) DO UPDATE SET hash=?2,payload=?3,checksum=?4",
            (row.key.decode(), row.extra, payload, checksum),
        )

    def _write_topic(
        self, connection: apsw.Connection, shard: int, group: list[Row], drop_noops: bool
    ) -> Change | str | None:
        number, key = group[0].table, group[0].key
        stored = connection.execute(
            f"SELECT id,payload,timestamp_ms,op,changes FROM t{number} WHERE key=?", (key.decode(),)
        ).fetchone()
        old = None
        if stored:
            changes = stored[4].encode() if stored[4] is not None else None
            old = Version(stored[1].encode(), stored[2], stored[3] == 2, changes)
        played = _without_idle_expiries(group)
        new = _play(old, played, lambda v: _checksum(number, key, v))
        if number in self._keeps_deletes:
            self._keep_delete(connection, played, was_stored=bool(old), moved=new is not old)
        if new is old:
            return None
        if new and old and drop_noops and new.payload == old.payload:
            return "unchanged"
        row_id = stored[0] if stored else self._take_id(connection, shard, number)
        self._store(connection, number, row_id, key, new)
        return Change(number, shard, row_id, key, new, old)

    def _keep_delete(
        self, connection: apsw.Connection, group: list[Row], *, was_stored: bool, moved: bool
    ) -> None:
        row = group[-1]
        table, key, time_ms = f"d{row.table}", row.key.decode(), row.timestamp_ms
        if row.kind is not RowKind.DELETE:
            return
        if row.exact:
            which = "key=? AND (checksum=? OR ?)"
            connection.execute(f"DELETE FROM {table} WHERE {which}", (key, time_ms, moved))
            return
        if was_stored:
            connection.execute(f"DELETE FROM {table} WHERE key=?", (key,))
        checksum = row_checksum(0, row.table, 3, time_ms, row.key, b"", None)
        connection.execute(
            f"INSERT OR IGNORE INTO {table}(key,payload,timestamp_ms,op,checksum)"
            " VALUES(?,'',?,3,?)",
            (key, time_ms, checksum),
        )

    def _take_id(self, connection: apsw.Connection, shard: int, number: int) -> int:
        if (shard, number) not in self._next_ids:
            top = connection.execute(f"SELECT coalesce(max(id),0) FROM t{number}").fetchone()[0]
            self._next_ids[shard, number] = top + 1
        self._next_ids[shard, number] += 1
        return self._next_ids[shard, number] - 1

    def _store(
        self, connection: apsw.Connection, number: int, row_id: int, key: bytes, new: Version | None
    ) -> None:
        connection.execute(f"DELETE FROM t{number} WHERE id=?", (row_id,))
        if new is None:
            return
        op, checksum = 2 if new.updated else 1, _checksum(number, key, new)
        changes = new.changes.decode() if new.changes is not None else None
        connection.execute(
            f"INSERT INTO t{number} VALUES(?,?,?,?,?,?,?)",
            (row_id, key.decode(), new.payload.decode(), new.timestamp_ms, op, changes, checksum),
        )


def _checksum(number: int, key: bytes, row: Version) -> int:
    op = 2 if row.updated else 1
    return row_checksum(0, number, op, row.timestamp_ms, key, row.payload, row.changes)


def _without_idle_expiries(group: list[Row]) -> list[Row]:
    """An exact expiry acts only on what was stored before the flush, and beside no other expiry."""
    kept = [row for row in group[1:] if not row.exact and not (row.expire and group[0].exact)]
    return [group[0], *kept]


def _play(
    old: Version | None, group: list[Row], checksum: Callable[[Version], int]
) -> Version | None:
    current = old
    for row in group:
        if row.kind is RowKind.UPSERT:
            updated = old is not None or row.known
            current = Version(row.payload, row.timestamp_ms, updated, row.extra or None)
        elif row.exact:
            current = None if current and checksum(current) == row.timestamp_ms else current
        elif not row.expire or (current and current.timestamp_ms <= row.timestamp_ms):
            current = None
    return current


def _elided(change: Change) -> Change:
    return replace(change, elided=change.new is not None)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
