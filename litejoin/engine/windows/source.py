"""Where a grid window's rows come from: its panes where they are certain, else its messages."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b

import apsw

from litejoin.engine.windows.faults import Fails, Fault, find_by_number, find_faults
from litejoin.engine.windows.panes import Panes, Rows
from litejoin.engine.windows.query import Value
from litejoin.engine.windows.spans import Span
from litejoin.engine.windows.window import Context, column_of
from litejoin.errors import QueryError
from litejoin.plan.nodes import WindowPlan

PANES_VERSION = 2
"""Of what panes hold; another one makes them anew from the messages."""

NO_END_MS = 2**62

log = logging.getLogger("litejoin.windows")


class RowSource:
    """One thread; the caller's transactions."""

    def __init__(self, plan: WindowPlan, context: Context, width_ms: int, from_ms: int) -> None:
        self._plan, self._context = plan, context
        self._broken_upto_ms: int | None = None
        self.read_again = 0
        """Spans that were worked out from their messages although the window has panes."""
        self._panes: Panes | None = None
        if plan.panes is None or not plan.uses_panes:
            return
        self._definition = blake2b(
            repr((PANES_VERSION, plan.definition, plan.panes)).encode(), digest_size=16
        ).hexdigest()
        self._panes = Panes(
            context.db, context.join_id, plan.panes, width_ms, plan.size_ms or 1, plan.offset_ms,
            column_of(plan),
        )  # fmt: skip
        try:
            self._panes.prepare(self._definition, partial(self._fill, self._panes, from_ms))
        except (apsw.SQLError, QueryError) as error:
            self._break(error)

    def add(self, from_ms: int) -> None:
        """Take the fresh messages from a time on in."""
        panes = self._panes
        if panes is None:
            return
        try:
            if self._broken_upto_ms is None:
                self._add_fresh(panes, from_ms)
            elif from_ms > self._broken_upto_ms:
                # What could not be worked out is gone.
                panes.rebuild(self._definition, partial(self._fill, panes, from_ms))
                self._broken_upto_ms = None
                self._add_fresh(panes, from_ms)
        except (apsw.SQLError, QueryError) as error:
            self._break(error)

    def _add_fresh(self, panes: Panes, from_ms: int) -> None:
        buffer = self._context.buffer
        try:
            panes.add(buffer.fresh, from_ms)
        except apsw.SQLError:
            span = Span(from_ms, NO_END_MS)
            fails = self._fails(panes, buffer.fresh)
            faults = find_by_number(span, fails, buffer.fresh_numbers(from_ms))
            if not faults:
                raise
            panes.add(buffer.fresh, from_ms, self._note(faults, buffer.fresh))

    def _fill(self, panes: Panes, from_ms: int) -> None:
        """Add the messages of the buffer."""
        buffer, query = self._context.buffer, self._context.query
        try:
            panes.add(buffer.table, from_ms)
        except apsw.SQLError:
            span = Span(from_ms, buffer.newest_ms + 1)
            faults = find_faults(span, self._fails(panes, buffer.table), query.numbers)
            if not faults:
                raise
            panes.add(buffer.table, from_ms, self._note(faults, buffer.table))

    def _fails(self, panes: Panes, table: str) -> Fails:
        def fails(span: Span, numbers: range) -> str | None:
            try:
                panes.check(table, span, numbers)
            except apsw.SQLError as error:
                return str(error)
            return None

        return self._context.query.in_time(fails)

    def _note(self, faults: Sequence[Fault], table: str) -> list[int]:
        for fault in faults:
            key, payload, time_ms = self._context.buffer.message(table, fault.number)
            self._context.query.note(replace(fault, time_ms=time_ms), key, payload)
        return [fault.number for fault in faults]

    def _break(self, error: Exception) -> None:
        assert self._panes is not None
        self._panes.forget()
        self._broken_upto_ms = self._context.buffer.newest_ms
        log.warning(
            "windows: %s: its panes cannot be kept while messages give %s; its spans are read"
            " from their messages", self._plan.name, error,
        )  # fmt: skip

    def by_partition(self, span: Span) -> dict[Value, Rows]:
        """The partitions that have messages in a span, with the query's rows where panes give them;
        None: `read` does.
        """
        if self._plan.partition_by is None:
            first_ms = self._context.buffer.first_from(span.start_ms)
            if first_ms is None or first_ms >= span.end_ms:
                return {}
            return {None: self._from_panes(span, None)}
        if self._panes is not None and self._broken_upto_ms is None:
            return self._panes.by_partition(span)
        return dict.fromkeys(self._context.query.partitions(span))

    def rows(self, span: Span, partition: Value) -> list[tuple[Value, ...]]:
        """The query's rows over a span. Raises QueryError."""
        rows = self._from_panes(span, partition)
        return self.read(span, partition) if rows is None else rows

    def _from_panes(self, span: Span, partition: Value) -> Rows:
        if self._panes is None or self._broken_upto_ms is not None:
            return None
        return self._panes.rows(span, partition)

    def read(self, span: Span, partition: Value) -> list[tuple[Value, ...]]:
        """The query's rows over a span, from its messages. Raises QueryError."""
        self.read_again += self._panes is not None
        return self._context.query.rows(span, partition)

    def trim(self, before_ms: int) -> None:
        """Remove panes that end before a time."""
        if self._panes is not None:
            self._panes.trim(before_ms)

    def close(self) -> None:
        """Close the panes' own database."""
        if self._panes is not None:
            self._panes.close()
