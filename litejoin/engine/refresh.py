"""How one join is brought up to date: by native code, by its delta statements, or in full.

Called by `engine` for every join that a flush touches or that is owed, inside the transaction on
state.db. Each level leaves to the next what it cannot do; they append the same results. Statements
that run too long are stopped, and full re-evaluations do not take all of the thread.
"""

from collections.abc import Sequence
from typing import Any

import apsw

from litejoin._ext.evaluate import Evaluator
from litejoin._ext.topic import TopicTables
from litejoin.clock import Clock
from litejoin.engine import deadlines
from litejoin.engine.joins import Join
from litejoin.engine.native import NativeLevel
from litejoin.engine.state import StateDatabase
from litejoin.errors import QueryError

FULL_COST_FACTOR = 4
"""A full re-evaluation that took t ms is not repeated for 4 t ms: at most a fifth of the thread's
time."""

EXPIRY_MS = 1_000
"""A join that follows the clock is evaluated in full so often, or less if that takes long."""

EMIT, EMIT_DIFFERENCES, RECORD_DIFFERENCES = 0, 1, 2
"""What a refresh does with results, as the evaluator takes it: as the join's `emit` says; with
those that differ only; or with those, without telling anybody."""


class Refresher:
    """Evaluates joins over the rows that the readers show. On the engine's thread but for
    `interrupt_if_overdue` and `stop_full`.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        native: NativeLevel,
        tables: TopicTables,
        state: StateDatabase,
        host: apsw.Connection,
        readers: Sequence[apsw.Connection],
        clock: Clock,
    ) -> None:
        self._evaluator, self._native, self._tables = evaluator, native, tables
        self._state, self._host, self._readers, self._clock = state, host, readers, clock
        self._deadline_ms: int | None = None
        self._delta_ms = deadlines.DELTA_MS
        self._stopping = False
        self.in_full = False
        """A full re-evaluation runs."""
        self.left_out: frozenset[int] = frozenset()
        """Quarantined shards: results that need their rows stay as they are."""

    def allow(self, changes: Sequence[bytes]) -> None:
        """Delta statements may take as long as these changes deserve."""
        self._delta_ms = deadlines.delta_ms(changes)

    def refresh(
        self, join: Join, touched: Sequence[int], head: int, failures: list[str], *, wait: bool
    ) -> int:
        """Append what has changed in a join's results behind log position `head`; returns the new
        head.

        `touched`: the references whose topics have changed. `wait`: a full re-evaluation may be put
        off until it is not too often. What cannot be computed is added to `failures`, and its old
        result stays. Raises StorageError when state.db cannot be written.
        """
        now = self._clock.monotonic_ms()
        self._deadline_ms = now + self._delta_ms
        try:
            if join.plan.strategy == "full" and touched:
                join.due = True
            if join.plan.emit_expired and now >= join.expire_at_ms:
                join.due = True
            if join.due and touched:
                self._native.lose(join.handle)
            if join.due and wait and now < join.not_before_ms:
                return head
            if not join.due and not touched:
                return head
            before = head
            if join.due:
                head = self._full(join, head, failures)
            else:
                head = self._delta(join, touched, head, failures)
            join.evaluations += 1
            join.results += head - before
            # Whole milliseconds: too much as often as too little, so the sum is right.
            join.spent_ms += self._clock.monotonic_ms() - now
            return head
        finally:
            self._deadline_ms = None

    def _delta(self, join: Join, touched: Sequence[int], head: int, failures: list[str]) -> int:
        if self.left_out:
            self._native.lose(join.handle)
        else:
            now_ms = self._clock.now_ms()
            native = self._native.refresh(join.handle, head, self._state.tail, now_ms)
            if native is not None:
                if self._native.left(join.handle):
                    return self._affected(join, native, failures)
                return native
        # A result that is overlooked for lack of a row would wait for that row anyway.
        self._tables.tolerate(bool(self.left_out))
        try:
            for reference in touched:
                self._affect(join, reference, failures)
        except QueryError:
            # It took too long: there may be many keys, and little to compute.
            self._evaluator.set_affected(())
            return self._full(join, head, failures)
        finally:
            self._tables.tolerate(False)
        return self._affected(join, head, failures)

    def _affect(self, join: Join, reference: int, failures: list[str]) -> None:
        """Collect the result keys that changed rows of a reference touch. A row that they cannot be
        computed for is reported, and the others go on.
        """
        try:
            self._evaluator.affect(join.handle, reference)
        except QueryError as error:
            if error.extended & 0xFF == apsw.SQLITE_INTERRUPT:
                raise
            topic, _ = join.references[reference]
            try:
                self._affect_part(join, reference, 0, self._tables.versions(topic), failures)
            finally:
                self._tables.show_versions()

    def _affect_part(
        self, join: Join, reference: int, first: int, count: int, failures: list[str]
    ) -> None:
        self._tables.show_versions(first, count)
        try:
            self._evaluator.affect(join.handle, reference)
        except QueryError as error:
            if error.extended & 0xFF == apsw.SQLITE_INTERRUPT:
                raise
            if count > 1:
                half = count // 2
                self._affect_part(join, reference, first, half, failures)
                self._affect_part(join, reference, first + half, count - half, failures)
            elif first % 2:  # a new version; an old one was reported when it was new
                key = self._tables.version_key(join.references[reference][0], first)
                topic = join.plan.references[reference].topic
                failures.append(
                    f"join {join.plan.name}: message {key!r:.200} of {topic}: its result key cannot"
                    f" be computed: {error}"
                )

    def _affected(self, join: Join, head: int, failures: list[str]) -> int:
        """A key whose rows cannot be computed is reported; the others go on."""
        try:
            return self._run(join.handle, head)
        except QueryError as error:
            keys = self._evaluator.affected()
            if len(keys) > 1:
                # What is too large at once may not be so in halves; else: who is it?
                size = (len(keys) + 1) // 2 if error.extended & 0xFF == apsw.SQLITE_TOOBIG else 1
                head = self._parts(join, keys, size, head, failures)
            elif keys:
                failures.append(
                    self._waits(join, error)
                    or f"join {join.plan.name}: key {keys[0]!r:.200} cannot be evaluated: {error}"
                )
            self._evaluator.set_affected(())
            return head

    def _parts(
        self, join: Join, keys: Sequence[Any], size: int, head: int, failures: list[str]
    ) -> int:
        for at in range(0, len(keys), size):
            self._deadline_ms = self._clock.monotonic_ms() + self._delta_ms
            self._evaluator.set_affected(keys[at : at + size])
            head = self._affected(join, head, failures)
        return head

    def _full(self, join: Join, head: int, failures: list[str]) -> int:
        started = self._clock.monotonic_ms()
        if self._stopping:
            join.due = True
            return head
        join.due = False
        readers = [r for shard, r in enumerate(self._readers) if shard not in self.left_out]
        rows = deadlines.rows_of(readers, join.topics)
        self._deadline_ms, self.in_full = started + deadlines.full_ms(rows), True
        mode = EMIT
        if join.rebuild:
            silent = join.plan.on_change == "silent"
            mode = RECORD_DIFFERENCES if silent else EMIT_DIFFERENCES
        try:
            most = deadlines.full_bytes(rows, readers)
            head = self._run(join.full_handle, head, most, mode)
            join.rebuild = False
            return head
        except QueryError as error:
            if self._stopping:
                join.due = True  # noted as owed: the next start makes up for it
            else:
                failures.append(
                    self._waits(join, error)
                    or f"join {join.plan.name}: the query cannot be evaluated: {error}"
                )
            return head
        finally:
            self.in_full = False
            done = self._clock.monotonic_ms()
            join.not_before_ms = done + FULL_COST_FACTOR * (done - started)
            join.expire_at_ms = max(join.not_before_ms, done + EXPIRY_MS)

    def _waits(self, join: Join, error: QueryError) -> str:
        """The failure of a result that needs a row of a shard which was left out; "" for others."""
        if not self.left_out or error.extended & 0xFF != apsw.SQLITE_CANTOPEN:
            return ""
        return f"join {join.plan.name}: results wait for a quarantined shard: {error}"

    def _run(self, handle: int, head: int, most: int = 0, mode: int = EMIT) -> int:
        most, now_ms = most or deadlines.DELTA_BYTES, self._clock.now_ms()
        return self._evaluator.refresh(handle, head, self._state.tail, now_ms, most, mode)

    # -- from other threads

    def interrupt_if_overdue(self) -> bool:
        """Called from any thread: stop a statement that has run past its deadline."""
        deadline = self._deadline_ms
        overdue = deadline is not None and self._clock.monotonic_ms() >= deadline
        if not overdue and not (self._stopping and self.in_full):
            return False
        self._host.interrupt()
        return True

    def stop_full(self) -> None:
        """Called from any thread when the process is to end: no full re-evaluation is begun any
        more and a running one is interrupted. What is owed is noted, and made up for at the next
        start.
        """
        self._stopping = True
        if self.in_full:
            self._host.interrupt()
