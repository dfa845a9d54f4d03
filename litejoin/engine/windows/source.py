"""Where a grid window's rows come from: its panes where they are certain, else its messages."""

import logging
from hashlib import blake2b

import apsw

from litejoin.engine.windows.panes import Panes
from litejoin.engine.windows.query import Value
from litejoin.engine.windows.spans import Span
from litejoin.engine.windows.window import Context, column_of
from litejoin.plan.nodes import WindowPlan

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
            repr((plan.definition, plan.panes)).encode(), digest_size=16
        ).hexdigest()
        self._panes = Panes(
            context.db, context.join_id, plan.panes, width_ms, plan.size_ms or 1, plan.offset_ms,
            column_of(plan),
        )  # fmt: skip
        try:
            self._panes.prepare(self._definition, context.buffer.table, from_ms)
        except apsw.SQLError as error:
            self._break(error)

    def add(self, from_ms: int) -> None:
        """Take the fresh messages from a time on in."""
        panes, buffer = self._panes, self._context.buffer
        if panes is None:
            return
        try:
            if self._broken_upto_ms is None:
                panes.add(buffer.fresh, from_ms)
            elif from_ms > self._broken_upto_ms:
                # The message that could not be worked out is gone.
                panes.rebuild(self._definition, buffer.table, from_ms)
                self._broken_upto_ms = None
                panes.add(buffer.fresh, from_ms)
        except apsw.SQLError as error:
            self._break(error)

    def _break(self, error: apsw.Error) -> None:
        assert self._panes is not None
        self._panes.forget()
        self._broken_upto_ms = self._context.buffer.newest_ms
        log.warning(
            "windows: %s: its panes cannot be kept while a message gives %s; its spans are read"
            " from their messages", self._plan.name, error,
        )  # fmt: skip

    def partitions(self, span: Span) -> list[Value]:
        """The partitions that have messages in a span."""
        if self._plan.partition_by is None:
            first_ms = self._context.buffer.first_from(span.start_ms)
            return [] if first_ms is None or first_ms >= span.end_ms else [None]
        if self._panes is not None and self._broken_upto_ms is None:
            return self._panes.partitions(span)
        return self._context.query.partitions(span)

    def rows(self, span: Span, partition: Value) -> list[tuple[Value, ...]]:
        """The query's rows over a span. Raises QueryError."""
        if self._panes is not None:
            if self._broken_upto_ms is None:
                rows = self._panes.rows(span, partition)
                if rows is not None:
                    return rows
            self.read_again += 1
        return self._context.query.rows(span, partition)

    def trim(self, before_ms: int) -> None:
        """Remove panes that end before a time."""
        if self._panes is not None:
            self._panes.trim(before_ms)

    def close(self) -> None:
        """Close the panes' own database."""
        if self._panes is not None:
            self._panes.close()
