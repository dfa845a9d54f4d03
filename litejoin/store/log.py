"""The read side of the results log in state.db.

Owned by whoever reads results: delivery's dispatchers, the SSE hub, the command line. Only reads;
the engine is the one writer. Each ResultLog is one connection for one thread; `clone` gives another
thread its own.

    table   columns used                               meaning
    joins   id, name                                   catalogue of joins
    log     pos, join_id, op, emit_at_ms, key, rows,   results; key and rows are JSON text,
            start_ms, end_ms                           the span of a window's (else NULL)
                                                       op 3: a current result that is not delivered
    state   join_id, key, pos                          the current result of each key
    meta    'head', 'tail', 'lost'                     last position given out; as in LogReader

No read holds a transaction open between calls: a slow reader never keeps the WAL from being
checkpointed.
"""

import json
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from litejoin.records import Result, ResultOp
from litejoin.store.sqlite import open_readonly

SCAN_POSITIONS = 8192
"""Positions one filtered read looks at: bounds the time of a read (about 2 ms) when few match."""

READ_CHARS = 4 * 1024 * 1024
"""Of rows in one `read`, from which on it takes no more: a batch of large results is one of few, so
that memory does not grow with a backlog of them."""

FETCH_POSITIONS = 1024
"""Positions that `fetch` looks at; SQLite takes 32,766 parameters, memory wants fewer."""

RECORDED = 3
"""`op` of a current result that nobody is told of (a join's `on_change: silent`)."""

_OPS = {**{int(op): op for op in ResultOp}, RECORDED: ResultOp.UPSERT}
"""Looked up rather than called: the enum's constructor costs as much as the rest of a row."""

_COLUMNS = "pos, join_id, op, emit_at_ms, key, rows, start_ms, end_ms"


class ResultLog:
    """A reader of one pipeline's results log; the `LogReader` of litejoin.sinks.base.

    Raises apsw.Error as it is: a state.db that cannot be read is for the caller to judge.
    """

    def __init__(self, path: Path, pipeline_name: str, epoch: str) -> None:
        self.epoch = epoch
        self.pipeline = f"{pipeline_name}/{epoch}"
        self._name = pipeline_name
        self._path = path
        self._connection = open_readonly(path)
        self._names: dict[int, str] = {}

    def head(self) -> int:
        """The last position given out; 0 when there is none."""
        return self._meta("head")

    def tail(self) -> int:
        """Every result after this position is still in the log."""
        return self._meta("tail")

    def lost(self) -> Sequence[tuple[int, int]]:
        """Positions (after, upto) that a restore has left out (engine.restored)."""
        sql = "SELECT value FROM meta WHERE name = 'lost'"
        return [
            (after, upto) for after, upto in json.loads(self._connection.execute(sql).get or "[]")
        ]

    def read(
        self,
        after: int,
        limit: int,
        queries: Collection[str] | None = None,
        upto: int | None = None,
    ) -> tuple[list[Result], int]:
        """Results with `after` < pos <= `upto` in log order, and the position covered by them;
        without those that are only recorded.

        The head is read before the rows, so everything up to it is visible to the second statement.
        """
        end = self.head() if upto is None else upto
        if end <= after:
            return [], after
        window = min(end, after + SCAN_POSITIONS)
        joins, bindings = self._join_filter(queries) if queries is not None else ("", [])
        of_joins = f" AND +join_id IN ({joins})" if queries is not None else ""
        sql = (
            f"SELECT {_COLUMNS} FROM log WHERE pos > ? AND pos <= ? AND op <> {RECORDED}{of_joins}"
            " ORDER BY pos LIMIT ?"
        )
        results, is_cut = self._first_results(sql, (after, window, *bindings, limit))
        end = window if results or window == end else self._next_entry(window, end)
        return results, results[-1].pos if is_cut or len(results) == limit else end

    def count(self, after: int, queries: Collection[str]) -> int:
        """How many results of the named joins follow a position. Scans them."""
        joins, bindings = self._join_filter(queries)
        sql = f"SELECT count(*) FROM log WHERE pos > ? AND op <> {RECORDED}"
        sql += f" AND +join_id IN ({joins})"
        row = self._connection.execute(sql, (after, *bindings)).fetchone()
        return int(row[0]) if row else 0

    def positions(
        self,
        queries: Collection[str] | None = None,
        keys: Collection[str] | None = None,
        *,
        limit: int,
        emitted_ms: tuple[int | None, int | None] = (None, None),
    ) -> tuple[Sequence[int], int]:
        """Positions of the current results, rising, at most `limit`, and the head of then."""
        where, bindings = self._state_filter(queries, keys, emitted_ms)
        sql = f"SELECT s.pos FROM {where} ORDER BY s.pos LIMIT ?"
        with self._connection:  # one read transaction: the head and the state are of one moment
            head = self.head()
            rows = self._connection.execute(sql, (*bindings, limit))
            positions = array("q", (row[0] for row in rows))
        return positions, head

    def fetch(self, positions: Sequence[int]) -> tuple[list[Result], int]:
        """The results at these positions, rising, until they are READ_CHARS, and how many of the
        positions that covers; those trimmed meanwhile are left out.
        """
        chunk = tuple(positions[:FETCH_POSITIONS])
        sql = f"SELECT {_COLUMNS} FROM log WHERE pos IN ({_marks(chunk)}) ORDER BY pos"
        results, is_cut = self._first_results(sql, chunk)
        return results, bisect_right(chunk, results[-1].pos) if is_cut else len(chunk)

    def last(self, query: str, key: str) -> Result | None:
        """The newest entry of a key (JSON text), a delete too. Scans for a key without a result."""
        marks, ids = self._join_filter((query,))
        where, bindings = self._state_filter((query,), (key,), (None, None), join_log=True)
        columns = ", ".join(f"l.{name}" for name in _COLUMNS.split(", "))
        found = self._results(
            f"SELECT {columns} FROM {where} ORDER BY s.pos DESC LIMIT 1", bindings
        )
        if not found:
            sql = f"SELECT {_COLUMNS} FROM log WHERE key = ? AND join_id IN ({marks})"
            found = self._results(f"{sql} ORDER BY pos DESC LIMIT 1", (key, *ids))
        return found[0] if found else None

    def snapshot(
        self,
        queries: Collection[str] | None = None,
        keys: Collection[str] | None = None,
        limit: int = 10_000,
    ) -> tuple[list[Result], int]:
        """The current results as one list, and the position they are consistent with."""
        where, bindings = self._state_filter(queries, keys, (None, None), join_log=True)
        columns = ", ".join(f"l.{name}" for name in _COLUMNS.split(", "))
        sql = f"SELECT {columns} FROM {where} ORDER BY s.pos LIMIT ?"
        with self._connection:
            head = self.head()
            results = self._results(sql, (*bindings, limit))
        return results, head

    def clone(self) -> "ResultLog":
        """Another reader of the same log, for another thread."""
        return ResultLog(self._path, self._name, self.epoch)

    def close(self) -> None:
        """Close the connection; reading afterwards raises apsw.ConnectionClosedError."""
        self._connection.close()

    def _meta(self, name: str) -> int:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def _next_entry(self, after: int, end: int) -> int:
        """The position before the next entry, so that a trimmed stretch is crossed in one step."""
        row = self._connection.execute(
            "SELECT min(pos) FROM log WHERE pos > ?", (after,)
        ).fetchone()
        return min(end, int(row[0]) - 1) if row and row[0] is not None else end

    def _first_results(self, sql: str, bindings: Sequence[int | str]) -> tuple[list[Result], bool]:
        """Results until they are READ_CHARS, at least one; whether there may be more."""
        left, results = READ_CHARS, []
        for result in self._each_result(sql, bindings):
            results.append(result)
            left -= len(result.rows)
            if left <= 0:
                return results, True
        return results, False

    def _results(self, sql: str, bindings: Sequence[int | str]) -> list[Result]:
        return list(self._each_result(sql, bindings))

    def _each_result(self, sql: str, bindings: Sequence[int | str]) -> Iterator[Result]:
        pipeline, names, ops = self.pipeline, self._names, _OPS
        return (
            Result(
                pos, names.get(join_id) or self._load_name(join_id), key, rows, ops[op],
                emit_at_ms, pipeline, *span,
            )
            for pos, join_id, op, emit_at_ms, key, rows, *span in self._connection.execute(
                sql, bindings
            )
        )  # fmt: skip

    def _load_name(self, join_id: int) -> str:
        self._load_names()
        return self._names[join_id]

    def _load_names(self) -> None:
        self._names.update(self._connection.execute("SELECT id, name FROM joins"))

    def _join_filter(self, queries: Collection[str]) -> tuple[str, list[int]]:
        ids = {name: number for number, name in self._names.items()}
        if not all(name in ids for name in queries):
            self._load_names()
            ids = {name: number for number, name in self._names.items()}
        bindings = [ids[name] for name in sorted(queries) if name in ids]
        return _marks(bindings), bindings

    def _state_filter(
        self,
        queries: Collection[str] | None,
        keys: Collection[str] | None,
        emitted_ms: tuple[int | None, int | None],
        *,
        join_log: bool = False,
    ) -> tuple[str, list[int | str]]:
        """`state s [JOIN log l] WHERE ..` and its bindings."""
        first_ms, last_ms = emitted_ms
        terms, bindings = ["1"], list[int | str]()
        if queries is not None:
            marks, ids = self._join_filter(queries)
            terms.append(f"s.join_id IN ({marks})")
            bindings += ids
        if keys is not None:
            terms.append(f"s.key IN ({_marks(keys)})")
            bindings += keys
        if first_ms is not None:
            terms.append("l.emit_at_ms >= ?")
            bindings.append(first_ms)
        if last_ms is not None:
            terms.append("l.emit_at_ms <= ?")
            bindings.append(last_ms)
        join_log = join_log or first_ms is not None or last_ms is not None
        tables = "state s CROSS JOIN log l ON l.pos = s.pos" if join_log else "state s"
        return f"{tables} WHERE {' AND '.join(terms)}", bindings


def _marks(values: Iterable[object]) -> str:
    return ",".join("?" for _ in values)
