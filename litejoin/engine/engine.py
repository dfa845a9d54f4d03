"""The engine: change sets in, results out.

Called by the runtime's evaluator thread, and by nobody else. `apply` takes the flushes since the
last call, evaluates every join they touch at one consistent state of the topics, and commits the
new results together with how far it has come. It never writes a shard and never delivers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import apsw

from litejoin._ext.evaluate import Evaluator
from litejoin._ext.snapshot import Snapshots
from litejoin._ext.topic import TopicTables
from litejoin.clock import Clock
from litejoin.engine.joins import Join, add_join
from litejoin.engine.native import NativeLevel
from litejoin.engine.recovery import BatchRecords, unapplied_changes
from litejoin.engine.refresh import Refresher
from litejoin.engine.state import Owed, StateDatabase
from litejoin.engine.windows.windows import Windows
from litejoin.errors import CorruptionError, StorageFullError
from litejoin.plan.nodes import JoinPlan, TopicPlan, WindowPlan
from litejoin.store.sqlite import open_memory


@dataclass(frozen=True, slots=True)
class Applied:
    """What one `apply` did."""

    head: int
    results: int
    failures: tuple[str, ...]
    wake_in_ms: int | None
    """When a postponed full re-evaluation is due; None when nothing waits."""
    is_early: bool = False
    """Nothing was done: the shards show a flush already whose changes are to be given, too."""


class Engine:
    """Keeps the results of all joins up to date. One thread at a time; every method blocks."""

    def __init__(
        self,
        topics: Sequence[TopicPlan],
        joins: Sequence[JoinPlan],
        numbers: Mapping[str, int],
        readers: Sequence[apsw.Connection],
        state_path: Path,
        synchronous: Literal["full", "normal"],
        gate: AbstractContextManager[object],
        clock: Clock,
        windows: Sequence[WindowPlan] = (),
        *,
        row_cache_bytes: int,
        is_replicated: bool = False,
    ) -> None:
        self._clock, self._gate, self._readers = clock, gate, readers
        self._numbers = numbers
        self.state = StateDatabase(state_path, synchronous, is_replicated=is_replicated)
        self._host = open_memory()
        self._tables = TopicTables(self._host, readers)
        self._snapshots = Snapshots(readers)
        for topic in topics:
            self._tables.define(
                topic.name, numbers[topic.name], [i.definition for i in topic.indexes]
            )
        self._evaluator = Evaluator(self._host, self.state.connection)
        self._native = NativeLevel(
            self._tables, self._evaluator, numbers, self.state, clock, row_cache_bytes
        )
        self._refresher = Refresher(
            self._evaluator, self._native, self._tables, self.state, self._host, readers, clock
        )
        self._retry = False
        self._plans, self._window_plans = joins, windows
        self._windows = (
            Windows(windows, numbers, self.state, state_path, clock) if windows else None
        )
        self._messages: Sequence[bytes] = ()
        """Message rows that the transaction at hand takes in."""
        self._joins: list[Join] = []
        self.changes = 0
        """Changed rows taken in since the start. Any thread may read it."""

    # -- start

    def leave_out(self, shards: Iterable[int]) -> None:
        """Read these shards no more: they are quarantined.

        A result that needs a row of theirs, or might, is not made any more, which is reported; the
        old one stays. Every join is noted as owed, so that the start after the repair computes it
        anew.
        """
        for shard in sorted(set(shards) - self.left_out):
            self._tables.leave_out(shard)
            self._snapshots.leave_out(shard)
            self._refresher.left_out |= {shard}

    @property
    def left_out(self) -> frozenset[int]:
        """Quarantined shards: results that need their rows stay as they are."""
        return self._refresher.left_out

    def _add_join(self, plan: JoinPlan) -> Join:
        join_id, changed = self.state.join_id(plan.name, plan.definition)
        join = add_join(self._evaluator, join_id, plan)
        join.rebuild = changed or join_id in self.state.rebuilding
        # With a shard out of service it cannot be computed; it stays owed.
        join.due = (join.rebuild or join_id in self.state.owed) and not self.left_out
        if plan.strategy != "full":
            is_owed = join.rebuild or join_id in self.state.owed
            self._native.add(join.handle, plan, join_id, is_owed=is_owed)
        join.references = [(self._numbers[r.topic], i) for i, r in enumerate(plan.references)]
        windows = {self._numbers[name] for name in plan.windows}
        join.topics = frozenset(number for number, _ in join.references) - windows
        return join

    def start(self, records: BatchRecords) -> Applied:
        """Build the key maps, then catch up with the flushes that no result was made from yet.

        A join that is new, whose query changed or whose re-evaluation was still owed is computed
        from the stored topics, and what differs from its old results is emitted, or recorded only
        (`on_change`). Windows that were due when the process ended fire before any message is taken
        in.
        """
        window_ids = self._start_windows()
        self.move_snapshot()
        self._tables.load()
        self._native.begin(fresh=False)
        self._add_joins(window_ids)
        self._native.load()
        window_failures = self._windows.catch_up(self._follow_windows) if self._windows else ()
        unapplied = unapplied_changes(records, self._readers, self.state.applied)
        self._take_changes(unapplied.changes, maps_current=True)
        self._native.begin(fresh=True)
        self._messages = unapplied.messages
        self.state.begin()
        try:
            applied = self._evaluate(unapplied.newest, wait=False)
            return replace(applied, failures=(*window_failures, *applied.failures))
        except BaseException:
            self.state.rollback()
            raise

    def _start_windows(self) -> set[int]:
        """Make what windows need, and the relations that joins read; returns their join ids."""
        if self._windows is None:
            return set()
        ids = self._windows.start()
        self._windows.relations.define(self._tables, self._window_plans)
        self._numbers = {**self._numbers, **self._windows.relations.numbers}
        return ids

    def _add_joins(self, window_ids: set[int]) -> None:
        """Know the joins. Those that are to be computed anew are owed from this commit on."""
        self.state.begin()
        try:
            self._joins = [self._add_join(join) for join in self._plans]
            self.state.forget_joins({j.join_id for j in self._joins} | window_ids)
            self.state.commit(self.state.head, self.state.applied, *self._owed())
        except BaseException:
            self.state.rollback()
            raise

    def _owed(self) -> Owed:
        return (
            frozenset(join.join_id for join in self._joins if join.due or self.left_out),
            frozenset(join.join_id for join in self._joins if join.rebuild),
        )

    # -- the main path

    def move_snapshot(self) -> int:
        """Let the readers see everything committed so far, at the boundary between two flushes.

        Returns the newest flush of it that has a batch record; records are kept until the flush is
        applied.
        """
        with self._gate:
            newest = self._snapshots.move()
        self.state.shards = self._snapshots.seqs
        return newest

    def release_snapshot(self) -> None:
        """Let go of the snapshot while idle, so that checkpoints can reset the write-ahead logs."""
        self._snapshots.release()

    def apply(self, changes: Sequence[bytes], seq: int, messages: Sequence[bytes] = ()) -> Applied:
        """Take in the change rows of all flushes up to `seq` and bring every join up to date;
        `messages`, their message rows, go to the windows. When the answer `is_early`, call again
        with those of the flushes that have followed as well.

        Raises StorageFullError or StorageIOError when the results could not be committed; after
        the former the same call can be repeated.
        """
        newest = self.move_snapshot()
        if newest > seq and self._native.reads_rows and not self._retry:
            return Applied(self.state.head, 0, (), self._wake_in_ms(), is_early=True)
        self._take_changes(changes, maps_current=self._retry)
        self._native.begin(fresh=newest <= seq)
        self._retry = True
        self._messages = messages
        applied = self._transaction(seq)
        self._retry = False
        return applied

    def _take_changes(self, changes: Sequence[bytes], *, maps_current: bool) -> None:
        self.changes += self._tables.apply(changes, maps_current=maps_current)
        self._refresher.allow(changes)

    def idle(self) -> Applied:
        """Run the full re-evaluations that were postponed and are due now, if any are."""
        wait_ms = self._wake_in_ms()
        if wait_ms is None or wait_ms > 0:
            self.release_snapshot()
            return Applied(self.state.head, 0, (), wait_ms)
        newest = self.move_snapshot()
        self._native.begin(fresh=newest <= self.state.applied)
        return self._transaction(self.state.applied)

    def _transaction(self, seq: int) -> Applied:
        with self._undone_on_failure():
            self.state.begin()
            try:
                return self._evaluate(seq, wait=True)
            except BaseException as error:
                self.state.rollback()
                if isinstance(error, apsw.FullError):
                    raise StorageFullError(f"no space left for state.db: {error}") from error
                raise

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """When a transaction fails, memory goes back to what was before it."""
        owed = [(join.due, join.rebuild) for join in self._joins]
        try:
            yield
        except BaseException:
            self._native.rolled_back()
            for join, (was_due, rebuild) in zip(self._joins, owed, strict=True):
                join.due, join.rebuild = was_due or join.due, rebuild
            if self._windows:
                self._tables.apply(self._windows.rolled_back())
                self._tables.clear()
            raise

    def fire_windows(self, written_upto_ms: int | None) -> Applied | None:
        """Evaluate the windows that are due, in a transaction of their own; None without windows.

        `written_upto_ms`: the wall time before which every message that was received has been
        applied; None when that is not known.
        """
        if self._windows is None:
            return None
        with self._undone_on_failure():
            results, failures = self._windows.fire(written_upto_ms, self._follow_windows)
        wake_in_ms = 0 if self._windows.has_more else self._wake_in_ms()
        return Applied(self.state.head, results, failures, wake_in_ms)

    def join_figures(self) -> dict[str, dict[str, float]]:
        """By join, since the start: evaluations, the time they took, results. Any thread."""
        return {join.plan.name: join.figures() for join in self._joins}

    def _follow_windows(self, head: int, failures: list[str]) -> tuple[int, Owed]:
        """Bring the joins that read windows up to date with their results, in the transaction that
        changes these. Returns the new head, and the joins that are owed.
        """
        changes = self._windows.relations.follow() if self._windows else []
        if changes:
            self.move_snapshot()
            self._take_changes(changes, maps_current=False)
            head = self._evaluate_joins(head, failures, wait=True)
            self._raise_damage()
            self._tables.clear()
        return head, self._owed()

    def windows_health(self) -> dict[str, dict[str, object]]:
        """By window: late and refused messages. Any thread."""
        return self._windows.health() if self._windows else {}

    def _evaluate(self, seq: int, *, wait: bool) -> Applied:
        failures: list[str] = []
        before = self.state.head
        head = self._evaluate_joins(before, failures, wait=wait)
        if not self.left_out:
            self._native.rebuild()
        owed = self._owed()
        if self._windows and self._messages:
            head = self._windows.take(self._messages, head)
            head, owed = self._follow_windows(head, failures)
        self._raise_damage()
        self.state.commit(head, seq, *owed)
        if self._windows:
            self._windows.relations.committed()
        self._tables.clear()
        self._messages = ()
        return Applied(head, head - before, tuple(failures), self._wake_in_ms())

    def _evaluate_joins(self, head: int, failures: list[str], *, wait: bool) -> int:
        changed = set(self._tables.changed())
        for join in self._joins:
            touched = [reference for topic, reference in join.references if topic in changed]
            head = self._refresher.refresh(join, touched, head, failures, wait=wait)
        return head

    def _raise_damage(self) -> None:
        """What was read of a damaged row is nothing; without its shard it can be done again."""
        shard = self._tables.damaged()
        if shard >= 0:
            raise CorruptionError(
                f"shard {shard}: a row or page is not what was written", shard=shard
            )

    def _wake_in_ms(self) -> int | None:
        waits = [j.not_before_ms for j in self._joins if j.due]
        waits += [j.expire_at_ms for j in self._joins if j.plan.emit_expired and not j.due]
        return max(0, min(waits) - self._clock.monotonic_ms()) if waits else None

    # -- the side doors

    def interrupt_if_overdue(self) -> bool:
        """Called from any thread: stop a statement that has run past its deadline."""
        return self._refresher.interrupt_if_overdue()

    def stop_full(self) -> None:
        """Called from any thread when the process is to end: no full re-evaluation is begun any
        more and a running one is interrupted. What is owed is noted, and made up for at the next
        start.
        """
        self._refresher.stop_full()

    def trim(self, low: int) -> bool:
        """Shorten the results log behind the lowest cursor; True when more could go."""
        return self.state.trim(low)

    def row_cache_figures(self) -> dict[str, object]:
        """Bytes in use, and look-ups by whether they found their row. Any thread."""
        return self._native.cache_figures()

    def memory_bytes(self) -> int:
        """Bytes held by the key maps."""
        return self._tables.memory_bytes() + self._native.memory_bytes()

    def close(self) -> None:
        """Free statements, close the state database. The readers stay open: they are the
        store's.
        """
        self._native.close()
        self._evaluator.close()
        if self._windows:
            self._windows.close()
        self._tables.close()
        self.release_snapshot()
        self._snapshots.close()
        self._host.close()
        self.state.close()
