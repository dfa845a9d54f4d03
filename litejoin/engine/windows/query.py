"""Runs a window's query over the messages of one span, on a read-only connection.

The topic's name is a temporary view over the stream's buffer, cut to the span and the partition by
three functions that SQLite calls once a run. The connection sees what is committed, so the buffer's
transaction comes first. A query that runs too long is interrupted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from litejoin.clock import Clock
from litejoin.engine.windows.spans import Span
from litejoin.errors import QueryError
from litejoin.store.sqlite import bound_values, open_database

DEADLINE_MS = 30_000
"""A query over one span that runs longer is interrupted and reported, as those of joins are."""

MAX_BYTES = 256 * 1024 * 1024
"""Texts of one span's rows: a message can say how many there are (json_each of a list in it)."""

STEPS_BETWEEN_CHECKS = 100_000
"""SQLite instructions between two looks at the clock: about a millisecond."""

VISIBLE = ("key", "payload", "timestamp")
HIDDEN = ("timestamp_ms", "op", "changes")
"""Columns of a topic that `SELECT *` does not give: in the view only where a query names them."""

_EXPRESSIONS = {
    "timestamp": "time_ms / 1000",
    "timestamp_ms": "time_ms",
    "op": "'created'",
    "changes": "NULL",
}

Value = None | int | float | str | bytes


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


class SpanQuery:
    """One window's query. One thread at a time."""

    def __init__(
        self,
        path: Path,
        topic: str,
        table: str,
        partition: str | None,
        query: str,
        columns: Sequence[str],
        clock: Clock,
        *,
        without: int | None = None,
        leaves_out: Callable[[int], bool] | None = None,
    ) -> None:
        """`without`: not the messages that the window of this number dropped. `leaves_out`: not
        those for whose number it is true; it is asked for each, so only where some are known.
        """
        self._clock = clock
        self._span = Span(0, 0)
        self._partition: Value = None
        self._started_ms = 0
        self._query = query
        self._table, self._column = table, partition
        self.connection = open_database(path, readonly=True)
        bound_values(self.connection)
        self._limit(leaves_out)
        hidden = [name for name in HIDDEN if name in query.lower()]
        shown = [f"{_EXPRESSIONS.get(name, name)} AS {name}" for name in (*VISIBLE, *hidden)]
        cut = "time_ms >= lj_from() AND time_ms < lj_to()"
        if partition is not None:
            cut += f" AND {partition} IS lj_partition()"
        if leaves_out is not None:
            cut += " AND NOT lj_leaves_out(n)"
        if without is not None:
            cut += (
                " AND NOT EXISTS (SELECT 1 FROM window_dropped d"
                f" WHERE d.join_id = {without} AND d.time_ms = {table}.time_ms"
                f" AND d.n = {table}.n)"
            )
        self.connection.execute(
            f"CREATE TEMP VIEW {quoted(topic)} AS SELECT {', '.join(shown)}"
            f" FROM {table} WHERE {cut}"
        )
        self.connection.execute("PRAGMA query_only = ON")
        found = self.connection.execute(query)
        try:
            width = len(found.description)
        except apsw.ExecutionCompleteError:
            width = len(columns)
        finally:
            found.close()
        if width != len(columns):
            raise QueryError(f"the query returns {width} columns, {len(columns)} were planned")

    def _limit(self, leaves_out: Callable[[int], bool] | None) -> None:
        def function(name: str, call: Any) -> None:
            self.connection.create_scalar_function(name, call, 0, deterministic=True)

        function("lj_from", lambda: self._span.start_ms)
        function("lj_to", lambda: self._span.end_ms)
        function("lj_partition", lambda: self._partition)
        if leaves_out is not None:
            asked: Any = leaves_out
            self.connection.create_scalar_function("lj_leaves_out", asked, 1)
        self.connection.set_progress_handler(self._overdue, STEPS_BETWEEN_CHECKS)

    def _overdue(self) -> bool:
        return self._clock.monotonic_ms() - self._started_ms > DEADLINE_MS

    def partitions(self, span: Span) -> list[Value]:
        """The values of the partition path among the messages of a span; [None] without one.

        Raises QueryError.
        """
        column = self._column or "NULL"
        sql = f"SELECT DISTINCT {column} FROM {self._table} WHERE time_ms >= ? AND time_ms < ?"
        found = self._run(sql, (span.start_ms, span.end_ms))
        return [value for (value,) in found if value != b""]  # NOWHERE

    def rows(self, span: Span, partition: Value) -> list[tuple[Value, ...]]:
        """The query's rows over the messages of a span. Raises QueryError."""
        self._span, self._partition = span, partition
        return self._run(self._query, most=MAX_BYTES)

    def numbers(self, span: Span) -> list[int]:
        """The numbers of the messages of a span, whatever their partition. Raises QueryError."""
        sql = f"SELECT n FROM {self._table} WHERE time_ms >= ? AND time_ms < ? ORDER BY n"
        return [int(str(number)) for (number,) in self._run(sql, (span.start_ms, span.end_ms))]

    def message(self, time_ms: int, number: int) -> tuple[str, str]:
        """Key and payload of a message. Raises QueryError."""
        sql = f"SELECT key, payload FROM {self._table} WHERE time_ms = ? AND n = ?"
        ((key, payload),) = self._run(sql, (time_ms, number))
        return str(key), str(payload)

    def _run(
        self, sql: str, bindings: Sequence[Value] = (), *, most: int | None = None
    ) -> list[tuple[Value, ...]]:
        self._started_ms = self._clock.monotonic_ms()
        try:
            found = self.connection.execute(sql, bindings)
            return list(found.fetchall() if most is None else _bounded(found, most))
        except apsw.Error as error:
            raise QueryError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _bounded(found: Iterable[tuple[Value, ...]], most: int) -> Iterator[tuple[Value, ...]]:
    """The rows. Raises apsw.TooBigError when their texts have more than `most` characters: it may
    be the fault of a message, like a value that is too long.
    """
    size = 0
    for row in found:
        for value in row:
            if isinstance(value, (str, bytes)):
                size += len(value)
        if size > most:
            raise apsw.TooBigError(f"the rows of one span have more than {most >> 20} MiB")
        yield row
