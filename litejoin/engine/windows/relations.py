"""The current results of windows as relations that joins read.

    t<32768 + join id>   id, key, payload, timestamp_ms, op, changes, checksum

A table in state.db for each window that a join reads, laid out as a topic's in a shard: a row for
each row of each current result, so that what /snapshot shows and what a join reads are the same.
`key` is the result's key and the row's number, `payload` the row as it is delivered, `timestamp_ms`
when it was, `changes` is {"key", "start", "end"} of the result. The tables follow `state` in the
transaction that changes it; the change rows that this takes go to the joins in the same one.
"""

from collections.abc import Iterable, Mapping, Sequence

import apsw

from litejoin._ext.checksum import row_checksum
from litejoin._ext.topic import TopicTables
from litejoin.engine.windows.results import ResultWriter
from litejoin.errors import StorageError
from litejoin.plan.nodes import WindowPlan, relation_of
from litejoin.store.changes import Change, Version, pack_changes

FIRST_NUMBER = 32_768
"""Numbers of topics in change rows have 16 bits; those below are of the manifest."""

_ROWS = (
    "SELECT s.key || '#' || r.key, r.value, l.emit_at_ms,"
    """ '{"key":' || s.key || ',"start":' || l.start_ms || ',"end":' || l.end_ms || '}'"""
    " FROM state s JOIN log l USING(pos), json_each(l.rows) r"
    " WHERE s.join_id = ?1 AND s.key = ?2"
)

Row = tuple[str, int, str]
"""payload, timestamp_ms, changes."""


def drop_others(db: apsw.Connection, kept: Iterable[int]) -> None:
    """Drop the relations of windows that no join reads any more."""
    names = {f"t{number}" for number in kept}
    rows = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 't[0-9]*'")
    for (name,) in rows.fetchall():
        if name not in names:
            db.execute(f"DROP TABLE {name}")


class Relations:
    """The relations of all windows that joins read. One thread; the caller's transactions."""

    def __init__(self, db: apsw.Connection, writer: ResultWriter, windows: Mapping[int, str]):
        """`windows`: join id -> name, of those that are read."""
        self._db, self._writer = db, writer
        self.numbers = {name: FIRST_NUMBER + join_id for join_id, name in windows.items()}
        self._undo: list[Change] = []
        if any(number > 0xFFFF for number in self.numbers.values()):
            raise StorageError("state.db has seen more than 32,767 joins and windows")
        drop_others(db, self.numbers.values())
        for number in self.numbers.values():
            self._make(number)
        for join_id in windows:
            writer.watch(join_id, self._all_keys(join_id))

    def define(self, tables: TopicTables, plans: Sequence[WindowPlan]) -> None:
        """Make the relations known to the queries of joins."""
        for plan in plans:
            if plan.name in self.numbers:
                indexes = [index.definition for index in plan.indexes]
                number = self.numbers[plan.name]
                tables.define(relation_of(plan.name), number, indexes, reader=self._db)

    def _make(self, number: int) -> None:
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS t{number}(id INTEGER PRIMARY KEY, key TEXT NOT NULL,"
            " payload TEXT NOT NULL, timestamp_ms INTEGER NOT NULL, op INTEGER NOT NULL,"
            " changes TEXT, checksum INTEGER NOT NULL)"
        )
        self._db.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS t{number}_key ON t{number}(key)")

    def _all_keys(self, join_id: int) -> set[str]:
        """Keys of results and of rows: at start, one may be ahead of the other."""
        keys = self._db.execute("SELECT key FROM state WHERE join_id = ?", (join_id,)).fetchall()
        # The mark of the row's number is the last one: a key may hold others.
        rows = self._db.execute(f"SELECT key FROM t{FIRST_NUMBER + join_id}").fetchall()
        return {str(key) for (key,) in keys} | {str(key).rpartition("#")[0] for (key,) in rows}

    # -- following the results

    def follow(self) -> list[bytes]:
        """Bring the relations up to date with the results; returns the change rows."""
        changes: list[Change] = []
        for join_id, keys in self._writer.take_touched().items():
            for key in sorted(keys):
                changes += self._follow(join_id, key)
        self._undo += changes
        return [pack_changes(changes)] if changes else []

    def _follow(self, join_id: int, key: str) -> Iterable[Change]:
        number = FIRST_NUMBER + join_id
        found = self._db.execute(_ROWS, (join_id, key))
        wanted = {str(name): (str(p), int(str(ms)), str(of)) for name, p, ms, of in found}
        for row_id, name, old in self._stored(number, key):
            new = wanted.pop(name, None)
            if new == old:
                continue
            if new is None:
                self._db.execute(f"DELETE FROM t{number} WHERE id = ?", (row_id,))
            else:
                self._update(number, row_id, name, new)
            yield _change(number, row_id, name, new, old)
        for name, new in wanted.items():
            yield _change(number, self._insert(number, name, new), name, new, None)

    def _stored(self, number: int, key: str) -> list[tuple[int, str, Row]]:
        # A key is JSON: none is another with "#" behind it.
        rows = self._db.execute(
            f"SELECT id, key, payload, timestamp_ms, changes FROM t{number}"
            " WHERE key >= ?1 || '#' AND key < ?1 || '$'",
            (key,),
        ).fetchall()
        return [
            (int(str(i)), str(name), (str(payload), int(str(ms)), str(of)))
            for i, name, payload, ms, of in rows
        ]

    def _update(self, number: int, row_id: int, name: str, row: Row) -> None:
        self._db.execute(
            f"UPDATE t{number} SET payload = ?, timestamp_ms = ?, op = 2, changes = ?, checksum = ?"
            " WHERE id = ?",
            (*row, _checksum(number, 2, name, row), row_id),
        )

    def _insert(self, number: int, name: str, row: Row) -> int:
        self._db.execute(
            f"INSERT INTO t{number}(key, payload, timestamp_ms, op, changes, checksum)"
            " VALUES(?, ?, ?, 1, ?, ?)",
            (name, *row, _checksum(number, 1, name, row)),
        )
        return self._db.last_insert_rowid()

    # -- transactions

    def committed(self) -> None:
        """The transaction of the last `follow` is done."""
        self._undo.clear()

    def rolled_back(self) -> list[bytes]:
        """The transaction is undone; returns the change rows that undo those of `follow`."""
        self._writer.take_touched()
        back = [Change(c.topic, c.shard, c.id, c.key, c.old, c.new) for c in reversed(self._undo)]
        self._undo.clear()
        return [pack_changes(back)] if back else []


def _change(number: int, row_id: int, name: str, new: Row | None, old: Row | None) -> Change:
    return Change(
        number, 0, row_id, name.encode(),
        None if new is None else _version(new, updated=old is not None),
        None if old is None else _version(old, updated=True),
    )  # fmt: skip


def _version(row: Row, *, updated: bool) -> Version:
    payload, timestamp_ms, of = row
    return Version(payload.encode(), timestamp_ms, updated, of.encode())


def _checksum(number: int, op: int, name: str, row: Row) -> int:
    payload, timestamp_ms, of = row
    return row_checksum(0, number, op, timestamp_ms, name.encode(), payload.encode(), of.encode())
