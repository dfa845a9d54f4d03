"""What all kinds of windows have in common: their place in state.db, their results, late messages.

    window_progress   join_id, closed_ms          spans that end up to closed_ms have fired
    window_dirty      join_id, start_ms, end_ms, partition
                                                  spans to evaluate again: a message came after the
                                                  last result
    window_shown      join_id, start_ms, partition, keys
                                                  keys of the results of a span that may change

A window works in two transactions of its caller. `take` notes what a batch of fresh messages means
for it, together with the messages themselves; `fire` evaluates what is due and notes that it did,
together with the results. A crash between the two leaves work that is still due.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import apsw

from litejoin.engine.windows.buffer import NOWHERE, MessageBuffer, partition_column
from litejoin.engine.windows.faults import CarefulQuery, LeftOut
from litejoin.engine.windows.query import Value
from litejoin.engine.windows.results import ResultWriter, RowText, key_text
from litejoin.engine.windows.spans import Span
from litejoin.engine.windows.watermark import NEVER_MS
from litejoin.errors import QueryError
from litejoin.plan.nodes import WindowPlan
from litejoin.records import rfc3339

SCHEMA = """
CREATE TABLE IF NOT EXISTS window_progress(join_id INTEGER PRIMARY KEY, closed_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS window_dirty(
  join_id INTEGER NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, partition,
  UNIQUE(join_id, start_ms, end_ms, partition));
CREATE TABLE IF NOT EXISTS window_shown(
  join_id INTEGER NOT NULL, start_ms INTEGER NOT NULL, partition, keys TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS window_shown_spans ON window_shown(join_id, start_ms, partition);
"""

MAX_FIRINGS = 500
"""Spans and partitions evaluated in one transaction: joins and new messages get their turn."""

SHOWN = 3
"""Messages that one report names."""


@dataclass(slots=True)
class Context:
    """What a window needs from its surroundings."""

    db: apsw.Connection
    writer: ResultWriter
    buffer: MessageBuffer
    query: CarefulQuery
    join_id: int
    late_id: int | None
    """The results log's number of the window's late messages, with `on_late: sink`."""
    failures: list[str] = field(default_factory=list)


class Window(Protocol):
    """One window of the config at work."""

    plan: WindowPlan
    results: "Results"
    late: int
    """Messages that came after all their spans had closed."""

    def take(self, oldest_ms: int) -> None:
        """Look at the fresh messages, the oldest of which has this time."""
        ...

    def needs_from(self) -> int:
        """The time from which messages are still needed."""
        ...

    def fire(self, watermark_ms: int) -> bool:
        """Evaluate what is due at a watermark; True when there is more to do at once."""
        ...

    def committed(self) -> None:
        """The transaction of the last `fire` is done."""
        ...

    def rolled_back(self) -> None:
        """The transaction of the last `take` or `fire` is undone."""
        ...

    def trim(self) -> None:
        """Remove what no span needs any more, beside messages."""
        ...

    def keep_progress(self) -> None:
        """Before messages are removed: the spans that they were in stay closed, also after a
        restart, or a late message would bring a span up to date without them.
        """
        ...

    def health(self) -> dict[str, object]:
        """Figures of this kind of window."""
        ...

    def close(self) -> None:
        """Free what is not the engine's."""
        ...


class Results:
    """Evaluates spans of one window and writes their results."""

    def __init__(self, plan: WindowPlan, context: Context) -> None:
        self.plan, self.context = plan, context
        self._text = RowText(plan.columns, plan.key_index, plan.json_columns)
        self.left_out = 0
        """Messages that could not be evaluated."""

    def emit(
        self,
        span: Span,
        find_rows: Callable[[], list[tuple[Value, ...]]],
        partition: Value,
        *,
        only_changed: bool,
        before: Sequence[str] = (),
    ) -> list[str]:
        """Write the results of a span; returns their keys. A key of `before` that is not among
        them is deleted. A query that fails is reported.
        """
        context = self.context
        try:
            rows = find_rows()
        except QueryError as error:
            self.report(span, error)
            return list(before)
        finally:
            self.tell_left_out()
        groups = self._text.grouped(rows, partition)
        for key, texts in groups.items():
            context.writer.put(context.join_id, span, key, texts, only_changed=only_changed)
        for key in before:
            if key not in groups:
                context.writer.delete(context.join_id, span, key)
        return list(groups)

    def report(self, span: Span, error: QueryError) -> None:
        """The query of a span failed."""
        when = f"from {rfc3339(span.start_ms)} to {rfc3339(span.end_ms)}"
        self.context.failures.append(
            f"window {self.plan.name}: the span {when} cannot be evaluated: {error}"
        )

    def tell_left_out(self) -> None:
        """Leave the messages out that the query could not be run over."""
        self.leave_out(self.context.query.take_told())

    def leave_out(self, told: Sequence[LeftOut]) -> None:
        """Report messages that cannot be evaluated, and send them to the window's late sink."""
        if not told:
            return
        self.left_out += len(told)
        shown = "; ".join(
            f"key {each.key!r} at {rfc3339(each.time_ms)}: {each.reason}" for each in told[:SHOWN]
        )
        more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        self.context.failures.append(
            f"window {self.plan.name}: left out, as it cannot be evaluated with: {shown}{more}"
        )
        for each in told:
            self.put_refused(each.key, each.payload, each.time_ms, each.reason)

    def put_late(self, condition: str, bindings: tuple[Value, ...]) -> None:
        """Send the fresh messages that meet a condition to the window's late sink."""
        context = self.context
        if context.late_id is None:
            return
        rows = context.db.execute(
            f"SELECT key, payload, time_ms FROM {context.buffer.fresh} WHERE {condition}"
            " ORDER BY n",
            bindings,
        ).fetchall()
        for key, payload, time_ms in rows:
            self.put_refused(str(key), str(payload), int(str(time_ms)), "late")

    def put_refused(self, key: str, payload: str, time_ms: int, reason: str) -> None:
        """Send one message to the late sink, payload as it came."""
        context = self.context
        if context.late_id is not None:
            text = (
                f'{{"key":{key_text(key)},"payload":{key_text(payload)},"timestamp_ms":{time_ms},'
                f'"reason":{key_text(reason)}}}'
            )
            context.writer.put(context.late_id, None, key_text(key), [text])


class Shown:
    """The keys that the results of each span have: one that is in none of them later is deleted.

    Only for windows whose results change; in the caller's transaction.
    """

    def __init__(self, db: apsw.Connection, join_id: int) -> None:
        self._db, self._join_id = db, join_id

    def keys(self, start_ms: int, partition: Value) -> list[str]:
        """The keys that were stored last for a span."""
        row = self._db.execute(
            "SELECT keys FROM window_shown WHERE join_id = ? AND start_ms = ? AND partition IS ?",
            (self._join_id, start_ms, partition),
        ).fetchone()
        return [] if row is None else list(json.loads(str(row[0])))

    def store(self, start_ms: int, partition: Value, keys: list[str]) -> None:
        """Replace the keys of a span."""
        place = (self._join_id, start_ms, partition)
        self._db.execute(
            "DELETE FROM window_shown WHERE join_id = ? AND start_ms = ? AND partition IS ?", place
        )
        self._db.execute("INSERT INTO window_shown VALUES(?, ?, ?, ?)", (*place, json.dumps(keys)))

    def trim(self, before_ms: int) -> None:
        """Forget spans that start before a time."""
        self._db.execute(
            "DELETE FROM window_shown WHERE join_id = ? AND start_ms < ?",
            (self._join_id, before_ms),
        )


class Progress:
    """Up to where a window has closed, in memory and in state.db."""

    def __init__(self, db: apsw.Connection, join_id: int) -> None:
        self._db, self._join_id = db, join_id
        self._before_ms = NEVER_MS
        self.rolled_back()

    def committed(self) -> None:
        """The transaction that closed spans is done."""
        self._before_ms = self.closed_ms

    def rolled_back(self) -> None:
        """Go back to what was before the transaction: what closed in it is open again."""
        row = self._db.execute(
            "SELECT closed_ms FROM window_progress WHERE join_id = ?", (self._join_id,)
        ).fetchone()
        self._stored_ms = NEVER_MS if row is None else int(str(row[0]))
        self.closed_ms = max(self._stored_ms, self._before_ms)

    def store(self, closed_ms: int) -> None:
        """Note durably, in the caller's transaction, that spans up to here have fired."""
        closed_ms = max(closed_ms, self._stored_ms)
        self._db.execute(
            "INSERT INTO window_progress VALUES(?1, ?2)"
            " ON CONFLICT(join_id) DO UPDATE SET closed_ms = ?2",
            (self._join_id, closed_ms),
        )
        self._stored_ms = closed_ms
        self.closed_ms = max(self.closed_ms, closed_ms)

    def keep(self) -> None:
        """Before messages are taken in or removed: what closed meanwhile stays closed."""
        if self.closed_ms > self._stored_ms:
            self.store(self.closed_ms)


def update_keep_ms(plan: WindowPlan) -> int:
    """How long after closing a span can still be updated: as long again as it was open."""
    if plan.on_late != "update":
        return 0
    return (plan.size_ms or plan.gap_ms or 0) + plan.allowed_lateness_ms


def column_of(plan: WindowPlan) -> str | None:
    """The buffer's column of the window's partition values."""
    return None if plan.partition_by is None else partition_column(plan.partition_by)


def placed(column: str | None) -> str:
    """SQL: whether a message is in a partition of that column at all."""
    return f"{column or 'NULL'} IS NOT {NOWHERE}"
