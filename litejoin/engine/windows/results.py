"""Writes the results of windows into the results log and the current results.

One result a key and span. The current result of a key is that of its newest span: a closed window
replaces the one before it, and keys that only the one before had leave the snapshot without a
delete, for what it counted is still true. Runs in the caller's transaction.
"""

import json
import math
from collections.abc import Collection, Iterable, Sequence

import apsw

from litejoin._ext.checksum import xxh64
from litejoin.engine.windows.query import Value
from litejoin.engine.windows.spans import Span
from litejoin.records import ResultOp

MAX_CURRENT = 10_000
"""Current results kept for a window of sessions, newest first: keys may come without end."""


class ResultWriter:
    """Appends to `log` and keeps `state`. One thread at a time; the caller owns the transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self.head = 0
        """The last position given out."""
        self.emit_at_ms = 0
        self._touched: dict[int, set[str]] = {}
        """Keys of watched windows whose current result may have changed."""

    def watch(self, join_id: int, keys: set[str]) -> None:
        """Note from now on which keys of a window are touched, and take these for touched."""
        self._touched[join_id] = keys

    def take_touched(self) -> dict[int, set[str]]:
        """The keys touched since the last call, by window."""
        found = {join_id: keys for join_id, keys in self._touched.items() if keys}
        self._touched.update({join_id: set() for join_id in found})
        return found

    def _touch(self, join_id: int, *keys: str) -> None:
        if join_id in self._touched:
            self._touched[join_id].update(keys)

    def begin(self, head: int, emit_at_ms: int) -> None:
        """Positions follow `head` from now on."""
        self.head, self.emit_at_ms = head, emit_at_ms

    def put(
        self,
        join_id: int,
        span: Span | None,
        key: str,
        rows: Sequence[str],
        *,
        only_changed: bool = False,
    ) -> None:
        """Append a result and make it the current one of its key, unless that is of a later span.

        `key` and `rows` are JSON texts. `only_changed`: not when it is the current result already.
        """
        body = f"[{','.join(rows)}]"
        if only_changed and span and self._is_current(join_id, span, key, body):
            return
        pos = self._append(join_id, span, ResultOp.UPSERT, key, body)
        self._touch(join_id, key)
        self._db.execute(
            "INSERT INTO state(join_id, key, hash, pos) VALUES(?1, ?2, ?3, ?4)"
            " ON CONFLICT(join_id, key) DO UPDATE SET hash = excluded.hash, pos = excluded.pos"
            " WHERE coalesce((SELECT start_ms FROM log WHERE log.pos = state.pos), 0) <= ?5",
            (join_id, key, _signed(xxh64(body.encode())), pos, span.start_ms if span else 0),
        )

    def _is_current(self, join_id: int, span: Span, key: str, body: str) -> bool:
        row = self._db.execute(
            "SELECT 1 FROM state JOIN log USING(pos) WHERE state.join_id = ?1 AND state.key = ?2"
            " AND start_ms = ?3 AND end_ms = ?4 AND rows = ?5",
            (join_id, key, span.start_ms, span.end_ms, body),
        ).fetchone()
        return row is not None

    def delete(self, join_id: int, span: Span, key: str) -> None:
        """Append the delete of a span that is no more; it leaves the current results if it is one
        of them.
        """
        pos = self._append(join_id, span, ResultOp.DELETE, key, "[]")
        self._touch(join_id, key)
        self._db.execute(
            "DELETE FROM state WHERE join_id = ?1 AND key = ?2 AND EXISTS"
            " (SELECT 1 FROM log WHERE log.pos = state.pos AND log.start_ms = ?3 AND ?4 > 0)",
            (join_id, key, span.start_ms, pos),
        )

    def _append(self, join_id: int, span: Span | None, op: ResultOp, key: str, rows: str) -> int:
        self.head += 1
        start_ms, end_ms = (span.start_ms, span.end_ms) if span else (None, None)
        self._db.execute(
            "INSERT INTO log(pos, join_id, op, emit_at_ms, key, rows, start_ms, end_ms)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            (self.head, join_id, int(op), self.emit_at_ms, key, rows, start_ms, end_ms),
        )
        return self.head

    def forget_before(self, join_id: int, span: Span) -> None:
        """Leave only the results of this span and later ones current."""
        gone = self._db.execute(
            "DELETE FROM state WHERE join_id = ?1 AND (SELECT start_ms FROM log"
            " WHERE log.pos = state.pos) < ?2 RETURNING key",
            (join_id, span.start_ms),
        ).fetchall()
        self._touch(join_id, *(str(key) for (key,) in gone))

    def forget_oldest(self, join_id: int) -> None:
        """Keep the newest MAX_CURRENT current results of a window."""
        gone = self._db.execute(
            "DELETE FROM state WHERE join_id = ?1 AND pos <= (SELECT pos FROM state"
            " WHERE join_id = ?1 ORDER BY pos DESC LIMIT 1 OFFSET ?2) RETURNING key",
            (join_id, MAX_CURRENT),
        ).fetchall()
        self._touch(join_id, *(str(key) for (key,) in gone))


class RowText:
    """Rows of a query as JSON texts, grouped by result key."""

    def __init__(
        self, columns: Sequence[str], key_index: int | None, json_columns: Collection[str]
    ) -> None:
        self._names = [f"{json.dumps(name, ensure_ascii=False)}:" for name in columns]
        self._is_json = [name in json_columns for name in columns]
        self._key_index = key_index

    def grouped(self, rows: Iterable[tuple[Value, ...]], partition: Value) -> dict[str, list[str]]:
        """Key -> rows, in the query's order. Without a key column the partition is the key."""
        groups: dict[str, list[str]] = {}
        for row in rows:
            value = partition if self._key_index is None else row[self._key_index]
            groups.setdefault(key_text(value), []).append(self._row(row))
        return groups

    def _row(self, row: tuple[Value, ...]) -> str:
        parts = [
            name + _text(value, is_json=is_json)
            for name, value, is_json in zip(self._names, row, self._is_json, strict=True)
        ]
        return f"{{{','.join(parts)}}}"


def key_text(value: Value) -> str:
    """A key as JSON; a whole real is an integer, as in the keys of joins."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    return _text(value, is_json=False)


def _text(value: Value, *, is_json: bool) -> str:
    if isinstance(value, bytes):
        value = value.hex()
    elif isinstance(value, float) and not math.isfinite(value):
        return "null" if math.isnan(value) else ("9e999" if value > 0 else "-9e999")
    elif isinstance(value, str) and is_json:
        try:
            json.loads(value)
        except ValueError:
            pass
        else:
            return value
    return json.dumps(value, ensure_ascii=False)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
