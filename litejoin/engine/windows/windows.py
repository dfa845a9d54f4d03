"""All windows of a pipeline: built from their plans, fed with message rows, fired as time passes.

Used by the engine, on its thread. `take` runs inside the transaction that applies a flush, so that
a message is in the buffer exactly when the flush is applied. `fire` is a transaction of its own:
results, and the note that they were made, commit together. It reads through read-only connections,
which see the buffer of the transactions before.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import apsw

from litejoin.clock import Clock, SteadyClock
from litejoin.engine.state import Owed, StateDatabase
from litejoin.engine.windows import buffer as buffers
from litejoin.engine.windows import sessions, window
from litejoin.engine.windows.buffer import MessageBuffer
from litejoin.engine.windows.faults import CarefulQuery
from litejoin.engine.windows.grid import GridWindow
from litejoin.engine.windows.query import SpanQuery
from litejoin.engine.windows.relations import Relations
from litejoin.engine.windows.results import ResultWriter
from litejoin.engine.windows.sessions import SessionWindow
from litejoin.engine.windows.stream import Stream
from litejoin.engine.windows.watermark import NEVER_MS, Progress
from litejoin.engine.windows.window import Context, Window, column_of
from litejoin.errors import StorageFullError, StorageIOError
from litejoin.plan.nodes import WindowPlan

TRIM_EVERY_MS = 1_000

Follow = Callable[[int, list[str]], tuple[int, Owed]]
"""Evaluates the joins that read windows, in the transaction that fires these: (head of the results
log, failures, to which it adds) -> (new head, what is owed)."""

log = logging.getLogger("litejoin.windows")


@contextmanager
def _state_errors() -> Iterator[None]:
    """SQLite's errors as ours: a full disk is waited out, an I/O error ends the process."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageFullError(
            f"state.db: {error}", hint="free disk space; writing goes on by itself"
        ) from error
    except apsw.IOError as error:
        raise StorageIOError(
            f"state.db: {error}", hint="check the disk (dmesg), then start again"
        ) from error


class Windows:
    """One thread at a time; every method blocks."""

    def __init__(
        self,
        plans: Sequence[WindowPlan],
        numbers: Mapping[str, int],
        state: StateDatabase,
        path: Path,
        clock: Clock,
    ) -> None:
        self._plans, self._numbers = plans, numbers
        self._state, self._path = state, path
        self._clock, self._steady = clock, SteadyClock(clock)
        self._writer = ResultWriter(state.connection)
        self._streams: list[Stream] = []
        self._contexts: list[tuple[WindowPlan, Context]] = []
        self._told: dict[str, int] = {}
        self._trim_at_ms = 0
        self._more = False
        self._opened = ExitStack()

    def start(self) -> set[int]:
        """Make what is missing, outside of a transaction; returns the join ids in use.

        Queries are compiled on read-only connections, which must see the buffers.
        """
        db = self._state.connection
        db.execute(buffers.SCHEMA + window.SCHEMA + sessions.SCHEMA)
        ids: set[int] = set()
        by_stream: dict[tuple[str, str | None, str], list[WindowPlan]] = {}
        for plan in self._plans:
            key = (plan.topic.lower(), plan.time_path, plan.time_format)
            by_stream.setdefault(key, []).append(plan)
        for plans in by_stream.values():
            ids |= self._add_stream(plans)
        buffers.forget_others(db, {stream.buffer_id for stream in self._streams})
        self._forget_others(ids)
        read = {context.join_id: plan.name for plan, context in self._contexts if plan.read_by}
        self.relations = Relations(db, self._writer, read)
        return ids

    def _forget_others(self, ids: set[int]) -> None:
        """Remove what windows that are no longer in the config had noted."""
        db = self._state.connection
        for (join_id,) in db.execute("SELECT join_id FROM window_progress").fetchall():
            if join_id not in ids:
                self._forget(int(str(join_id)))
                db.execute(f"DROP TABLE IF EXISTS panes_{join_id}")

    def _add_stream(self, plans: Sequence[WindowPlan]) -> set[int]:
        first = plans[0]
        partitions = dict.fromkeys(p.partition_by for p in plans if p.partition_by is not None)
        buffer = MessageBuffer(
            self._state.connection,
            self._numbers[first.topic],
            first.time_path,
            first.time_format,
            list(partitions),
        )
        self._opened.callback(buffer.close)
        progress = [Progress.of(plan, buffer.newest_ms) for plan in plans]
        made: list[Window] = []
        ids: set[int] = set()
        for plan in plans:
            context = self._context(plan, buffer)
            self._contexts.append((plan, context))
            ids |= {context.join_id} if context.late_id is None else {
                context.join_id, context.late_id
            }  # fmt: skip
            made.append((SessionWindow if plan.type == "session" else GridWindow)(plan, context))
            self._opened.callback(made[-1].close)
        self._streams.append(Stream(buffer, progress, made))
        return ids

    def _context(self, plan: WindowPlan, buffer: MessageBuffer) -> Context:
        with self._state.connection as db:
            join_id, changed = self._state.join_id(plan.name, plan.definition)
            if changed:
                self._forget(join_id)
                if buffer.newest_ms > NEVER_MS:
                    # What other windows hold may be a part of spans that ended before.
                    started_ms = buffer.newest_ms - plan.allowed_lateness_ms
                    window.Progress(db, join_id).store(started_ms)
        late_id = None
        if plan.on_late == "sink":
            late_id, _ = self._state.join_id(plan.late_name, "late")
        # The view of another window's query must not stand in the way: a connection each.
        query = CarefulQuery(
            lambda leaves_out: SpanQuery(
                self._path, plan.topic, buffer.table, column_of(plan), plan.query, plan.columns,
                self._clock, without=join_id if plan.type == "session" else None,
                leaves_out=leaves_out,
            ),
            self._clock,
        )  # fmt: skip
        self._opened.callback(query.close)
        return Context(self._state.connection, self._writer, buffer, query, join_id, late_id)

    def _forget(self, join_id: int) -> None:
        """A window whose spans are other ones than before starts anew."""
        for table in (
            "window_progress",
            "window_dirty",
            "window_sessions",
            "window_dropped",
            "window_shown",
            "state",
        ):
            self._state.connection.execute(f"DELETE FROM {table} WHERE join_id = ?", (join_id,))

    # -- messages

    def take(self, chunks: Sequence[bytes], head: int) -> int:
        """Take message rows in, in the caller's transaction. Late ones with a sink of their own
        are results: returns the new head.
        """
        now_ms, monotonic_ms = self._steady.now_ms(), self._clock.monotonic_ms()
        self._writer.begin(head, self._clock.now_ms())
        with _state_errors():
            for stream in self._streams:
                for each in stream.take(chunks, now_ms, monotonic_ms):
                    for found in stream.windows:
                        found.results.put_refused(
                            each.key, each.payload, each.ingested_ms, each.reason
                        )
        return self._writer.head

    def rolled_back(self) -> list[bytes]:
        """The transaction of `take` or `fire` is undone: what memory knows of it is, too. Returns
        change rows that undo those that `relations` gave.
        """
        for stream in self._streams:
            stream.rolled_back()
        return self.relations.rolled_back()

    # -- results

    def fire(self, written_upto_ms: int | None, follow: Follow) -> tuple[int, tuple[str, ...]]:
        """Evaluate what is due, in a transaction; returns the number of results and the failures.
        When it raises, the transaction is undone and `rolled_back` is to be called.

        `written_upto_ms`: the wall time before which every message that was received is taken in;
        None when that is not known.
        """
        if not self._steady.is_settled():
            written_upto_ms = None
        monotonic_ms = self._clock.monotonic_ms()
        for stream in self._streams:
            stream.tick(written_upto_ms, monotonic_ms)
        failures: list[str] = []
        results = self._fire_all(monotonic_ms, follow, failures)
        self._tell()
        for _, context in self._contexts:
            failures += context.failures
            context.failures.clear()
        return results, tuple(failures)

    def _fire_all(self, monotonic_ms: int, follow: Follow, failures: list[str]) -> int:
        state = self._state
        with _state_errors():
            state.begin()
            try:
                self._writer.begin(state.head, self._clock.now_ms())
                self._more = any([stream.fire() for stream in self._streams])
                self._trim(monotonic_ms)
                head, owed = follow(self._writer.head, failures)
                results = head - state.head
                state.commit(head, state.applied, *owed)
            except BaseException:
                state.rollback()
                raise
        for stream in self._streams:
            for found in stream.windows:
                found.committed()
        self.relations.committed()
        return results

    def catch_up(self, follow: Follow) -> tuple[str, ...]:
        """Fire what was due when the process ended, before any other message is taken in: a
        message that was late then is late now. Returns the failures.
        """
        failures: list[str] = []
        while True:
            failures += self.fire(None, follow)[1]
            if not self._more:
                return tuple(failures)

    def _trim(self, monotonic_ms: int) -> None:
        if monotonic_ms >= self._trim_at_ms:
            more = any([stream.trim() for stream in self._streams])
            self._trim_at_ms = monotonic_ms + (0 if more else TRIM_EVERY_MS)

    def _tell(self) -> None:
        """One line for all late and refused messages since the last one."""
        for name, count, what in self._counts():
            before = self._told.get(name + what, 0)
            if count > before:
                log.warning("windows: %s: %d %s", name, count - before, what)
                self._told[name + what] = count

    def _counts(self) -> list[tuple[str, int, str]]:
        counts = []
        for stream in self._streams:
            for found in stream.windows:
                counts.append(
                    (found.plan.name, found.late, f"late messages ({found.plan.on_late})")
                )
                counts.append((found.plan.name, stream.refused, "messages without a usable time"))
        return counts

    def health(self) -> dict[str, dict[str, object]]:
        """By window: late and refused messages, those left out. Any thread."""
        return {
            found.plan.name: {
                "late": found.late,
                "refused": stream.refused,
                "left_out": found.results.left_out,
                **found.health(),
            }
            for stream in self._streams
            for found in stream.windows
        }

    @property
    def has_more(self) -> bool:
        """`fire` left work that is due already."""
        return self._more

    def close(self) -> None:
        """Close the read-only connections and free statements."""
        self._opened.close()
