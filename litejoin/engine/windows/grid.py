"""Tumbling and sliding windows: spans on a grid, fired in order of their ends."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter

from litejoin.engine.windows.panes import Rows
from litejoin.engine.windows.query import Value
from litejoin.engine.windows.source import RowSource
from litejoin.engine.windows.spans import DAY_MS, DayGrid, EvenGrid, Grid, Span
from litejoin.engine.windows.watermark import NEVER_MS
from litejoin.engine.windows.window import (
    MAX_FIRINGS,
    Context,
    Progress,
    Results,
    Shown,
    column_of,
    placed,
    update_keep_ms,
)
from litejoin.errors import QueryError
from litejoin.plan.nodes import WindowPlan

DAY_BUCKET_MS = 1_000
"""Spans of days start and end on whole seconds."""


def grid_of(plan: WindowPlan) -> Grid:
    """The grid of a tumbling or sliding window; days where it has a time zone."""
    size_ms = plan.size_ms or 1
    if plan.timezone is not None:
        return DayGrid(size_ms // DAY_MS, plan.timezone, plan.offset_ms)
    return EvenGrid(size_ms, plan.slide_ms or size_ms, plan.offset_ms)


class GridWindow:
    """See `Window`."""

    def __init__(self, plan: WindowPlan, context: Context) -> None:
        self.plan, self.late = plan, 0
        self.results = Results(plan, context)
        self._context = context
        self._grid = grid_of(plan)
        self._progress = Progress(context.db, context.join_id)
        self._keep_ms = update_keep_ms(plan)
        self._column = column_of(plan)
        results_change = plan.emit == "update" or self._keep_ms > 0
        self._shown = Shown(context.db, context.join_id) if results_change else None
        self._bucket_ms = DAY_BUCKET_MS if plan.timezone else plan.pane_ms
        self._source = RowSource(plan, context, self._bucket_ms, self.needs_from())

    # -- messages

    def take(self, oldest_ms: int) -> None:
        self._progress.keep()
        closed_ms = self._progress.closed_ms
        open_ms = self._grid.open_from(closed_ms)
        self._source.add(self.needs_from())
        self.results.tell_left_out()
        if oldest_ms < open_ms:
            self._take_late(open_ms)
        updates_open = self.plan.emit == "update"
        # A message may be late for one span of a sliding window and in time for the next.
        reach_ms = (self.plan.size_ms or 0) if self._keep_ms else 0
        if updates_open or (self._keep_ms and oldest_ms < open_ms + reach_ms):
            self._note_dirty(self.needs_from(), closed_ms, updates_open=updates_open)

    def _take_late(self, open_ms: int) -> None:
        db, fresh = self._context.db, self._context.buffer.fresh
        is_late = f"time_ms < ? AND {placed(self._column)}"
        row = db.execute(f"SELECT count(*) FROM {fresh} WHERE {is_late}", (open_ms,)).fetchone()
        self.late += int(str(row[0])) if row else 0
        self.results.put_late(is_late, (open_ms,))

    def _note_dirty(self, from_ms: int, closed_ms: int, *, updates_open: bool) -> None:
        """Note the spans that fresh messages are in: closed ones, or with `emit: update` all."""
        db, width = self._context.db, self._bucket_ms
        shift = self.plan.offset_ms % width
        buckets = db.execute(
            f"SELECT DISTINCT (time_ms - ?1 + ?2) / ?2 * ?2 + ?1 - ?2, {self._column or 'NULL'}"
            f" FROM {self._context.buffer.fresh} WHERE time_ms >= ?3 AND {placed(self._column)}"
            " ORDER BY 2, 1",
            (shift, width, from_ms),
        ).fetchall()
        oldest_end_ms = closed_ms - self._keep_ms
        for span, partition in self._holding(buckets):
            if span.end_ms > oldest_end_ms and (updates_open or span.end_ms <= closed_ms):
                self._note(span, partition)

    def _holding(self, buckets: Sequence[tuple[Value, ...]]) -> Iterator[tuple[Span, Value]]:
        """The spans of times by partition, each once and one at a time: a message may be in
        thousands. `buckets` are ordered by partition and time.
        """
        for partition, group in groupby(buckets, key=itemgetter(1)):
            after_ms = NEVER_MS
            for bucket_ms, _ in group:
                for span in self._grid.holding(max(int(str(bucket_ms)), 0)):
                    if span.end_ms > after_ms:
                        after_ms = span.end_ms
                        yield span, partition

    def _note(self, span: Span, partition: Value) -> None:
        place = (self._context.join_id, span.start_ms, span.end_ms, partition)
        known = self._context.db.execute(
            "SELECT 1 FROM window_dirty WHERE join_id = ? AND start_ms = ? AND end_ms = ?"
            " AND partition IS ?",
            place,
        ).fetchone()
        if known is None:
            self._context.db.execute("INSERT INTO window_dirty VALUES(?, ?, ?, ?)", place)

    def needs_from(self) -> int:
        return self._grid.open_from(self._progress.closed_ms - self._keep_ms)

    # -- results

    def fire(self, watermark_ms: int) -> bool:
        budget = MAX_FIRINGS - self._fire_dirty()
        closed_ms = self._progress.closed_ms
        if watermark_ms <= closed_ms:
            return budget <= 0
        last: Span | None = None
        while budget > 0:
            # Empty stretches are crossed in one step, however many spans they have.
            after_ms = last.end_ms if last else closed_ms
            first_ms = self._context.buffer.first_from(self._grid.open_from(after_ms))
            if first_ms is None:
                break
            span = next(self._grid.ending(after_ms, watermark_ms, first_ms), None)
            if span is None:
                break
            budget -= self._fire_span(span)
            last = span
        if last is not None:
            self._context.writer.forget_before(self._context.join_id, last)
            self._progress.store(last.end_ms)
        if budget > 0:
            # Nothing fired between the last span and here: it need not be stored to be true again
            # after a restart.
            self._progress.closed_ms = watermark_ms
        return budget <= 0

    def _fire_span(self, span: Span) -> int:
        if self.plan.emit == "update":
            return 1  # every change of the span has been sent already, as a dirty one
        try:
            found = self._source.by_partition(span)
        except QueryError as error:
            self.results.report(span, error)
            return 1
        for partition, rows in found.items():
            self._emit(
                span, partial(self._rows, span, partition, rows), partition, only_changed=False
            )
        return len(found) + 1

    def _rows(self, span: Span, partition: Value, rows: Rows) -> list[tuple[Value, ...]]:
        return self._source.read(span, partition) if rows is None else rows

    def _emit(
        self,
        span: Span,
        find_rows: Callable[[], list[tuple[Value, ...]]],
        partition: Value,
        *,
        only_changed: bool,
    ) -> None:
        shown = self._shown
        before = shown.keys(span.start_ms, partition) if shown else []
        keys = self.results.emit(
            span, find_rows, partition, only_changed=only_changed, before=before
        )
        if shown and keys != before:
            shown.store(span.start_ms, partition, keys)

    def committed(self) -> None:
        self._progress.committed()

    def rolled_back(self) -> None:
        self._progress.rolled_back()
        self._context.query.rolled_back()

    def trim(self) -> None:
        needs_from_ms, db = self.needs_from(), self._context.db
        before = db.total_changes()
        self._source.trim(needs_from_ms)
        if self._shown:
            self._shown.trim(needs_from_ms)
        self._context.query.forget(needs_from_ms)
        if db.total_changes() > before:
            self.keep_progress()

    def keep_progress(self) -> None:
        self._progress.keep()

    def health(self) -> dict[str, object]:
        return {"read_again": self._source.read_again}

    def close(self) -> None:
        self._source.close()

    def _fire_dirty(self) -> int:
        db, join_id = self._context.db, self._context.join_id
        rows = db.execute(
            "SELECT rowid, start_ms, end_ms, partition FROM window_dirty WHERE join_id = ?"
            " ORDER BY end_ms LIMIT ?",
            (join_id, MAX_FIRINGS),
        ).fetchall()
        for number, start_ms, end_ms, partition in rows:
            span = Span(int(str(start_ms)), int(str(end_ms)))
            value: Value = partition
            self._emit(span, partial(self._source.rows, span, value), value, only_changed=True)
            db.execute("DELETE FROM window_dirty WHERE rowid = ?", (number,))
        return len(rows)
