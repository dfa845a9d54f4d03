"""The engine's native level: joins of equalities, evaluated without running SQL for each change.

Called by `engine`, which keeps the delta statements of the same joins ready: whenever native code
meets a row that it cannot read or compute, the whole evaluation of that join falls back to them,
and they say what is wrong. Results are appended by the evaluator. The groups of joins with GROUP BY
are kept in state.db, in the transaction that applies their changes; once they cannot be kept up
(a row that cannot be computed), they are dropped, and made anew from the topics later.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from litejoin._ext.evaluate import Evaluator
from litejoin._ext.nativejoin import NativeJoins
from litejoin._ext.topic import TopicTables
from litejoin.clock import Clock
from litejoin.engine import deadlines
from litejoin.engine.state import StateDatabase
from litejoin.plan.nodes import JoinPlan

GROUPS_LAYOUT = 1
"""Of what the accumulators hold; groups of another layout are made anew."""

REBUILD_COST_FACTOR = 4
REBUILD_PAUSE_MS = 10_000
MAX_REBUILD_PAUSE_MS = 3_600_000
"""Groups that could not be made are tried again after a pause that doubles, and at most a fifth of
the thread's time goes into it: the row that is in the way may stay for long."""


@dataclass
class _Grouped:
    """The groups of one join."""

    join_id: int
    address: int
    layout: str
    reads_rows: bool
    is_kept: bool = False
    pause_ms: int = REBUILD_PAUSE_MS
    not_before_ms: int = 0


class NativeLevel:
    """The compiled native joins over one set of topic tables. One thread at a time."""

    def __init__(
        self,
        tables: TopicTables,
        evaluator: Evaluator,
        numbers: Mapping[str, int],
        state: StateDatabase,
        clock: Clock,
        row_cache_bytes: int,
    ) -> None:
        """`row_cache_bytes`: for rows of topics that are looked up by key; used as it fills."""
        self._evaluator, self._numbers = evaluator, numbers
        self._state, self._clock = state, clock
        self._joins = NativeJoins(tables, state.connection, row_cache_bytes)
        self._addresses: dict[int, int] = {}
        self._grouped: dict[int, _Grouped] = {}
        self._kept_before: dict[int, bool] = {}
        self._is_fresh = False
        self.reads_rows = False
        """A join must see the shards as they are right after the changes, and no later."""

    def add(self, handle: int, plan: JoinPlan, join_id: int, *, is_owed: bool) -> None:
        """Compile the native form of the join that the evaluator knows as `handle`, if it has
        one. `is_owed`: its results are to be computed anew, and so are its groups.
        """
        if plan.native is not None:
            self._addresses[handle] = self._joins.add(
                plan.native, self._numbers, plan.columns, plan.json_columns
            )
        if plan.grouped is not None:
            address = self._joins.add_grouped(
                plan.grouped, self._numbers, join_id, plan.key_index, plan.columns,
                plan.json_columns,
            )  # fmt: skip
            layout = f"{GROUPS_LAYOUT}:{plan.definition}"
            made = _Grouped(join_id, address, layout, plan.grouped.reads_rows)
            made.is_kept = self._state.has_groups(join_id, layout)
            # A start that is tried again compiles its joins anew.
            others = {h: g for h, g in self._grouped.items() if g.join_id != join_id}
            self._grouped = others | {handle: made}
            if is_owed:
                self.lose(handle)
            self.reads_rows = self.reads_rows or made.reads_rows

    def begin(self, *, fresh: bool) -> None:
        """The topic tables hold the changes of another flush; see NativeJoins.begin."""
        self._is_fresh = fresh
        self._kept_before = {handle: g.is_kept for handle, g in self._grouped.items()}
        self._joins.begin(fresh)

    def load(self) -> None:
        """All joins are there: note where the rows are that they look up by key. Blocks."""
        self._joins.load()

    def refresh(self, handle: int, head: int, tail: int, now_ms: int) -> int | None:
        """The new head of the results log; None when the delta level has to do it."""
        grouped = self._grouped.get(handle)
        if grouped is None:
            address = self._addresses.get(handle)
            if address is None:
                return None
            return self._evaluator.refresh_native(
                handle, address, head, tail, now_ms, deadlines.DELTA_BYTES
            )
        if not grouped.is_kept:
            return None
        done = self._evaluator.refresh_native(
            handle, grouped.address, head, tail, now_ms, deadlines.DELTA_BYTES
        )
        if done is None:
            self.lose(handle)
        return done

    def left(self, handle: int) -> int:
        """How many keys the last `refresh` has left to the delta level, in "lj:affected"."""
        grouped = self._grouped.get(handle)
        return self._joins.left(grouped.address) if grouped else 0

    # -- groups

    def lose(self, handle: int) -> None:
        """The changes at hand do not go into the groups of this join: drop them."""
        grouped = self._grouped.get(handle)
        if grouped is not None and grouped.is_kept:
            grouped.is_kept = False
            self._state.lose_groups(grouped.join_id)

    def rebuild(self) -> None:
        """Make the groups that are not kept from the topics, where the shards show the state that
        this transaction applies. Blocks, some microseconds for each row.
        """
        for grouped in self._grouped.values():
            now_ms = self._clock.monotonic_ms()
            if grouped.is_kept or not self._is_fresh or now_ms < grouped.not_before_ms:
                continue
            self._state.lose_groups(grouped.join_id)
            if self._joins.rebuild(grouped.address):
                self._state.keep_groups(grouped.join_id, grouped.layout)
                grouped.is_kept, grouped.pause_ms = True, REBUILD_PAUSE_MS
                continue
            self._state.lose_groups(grouped.join_id)
            done_ms = self._clock.monotonic_ms()
            pause_ms = max(grouped.pause_ms, REBUILD_COST_FACTOR * (done_ms - now_ms))
            grouped.not_before_ms = done_ms + pause_ms
            grouped.pause_ms = min(2 * grouped.pause_ms, MAX_REBUILD_PAUSE_MS)

    def rolled_back(self) -> None:
        """The transaction is undone: what is kept in state.db is what was before `begin`."""
        for handle, is_kept in self._kept_before.items():
            self._grouped[handle].is_kept = is_kept

    def cache_figures(self) -> dict[str, object]:
        """Of the row cache; see NativeJoins.cache_figures. Any thread."""
        return self._joins.cache_figures()

    def memory_bytes(self) -> int:
        """Bytes of what is noted of the places of rows; the cache is told apart."""
        return self._joins.place_bytes()

    def close(self) -> None:
        """Finalize the statements. Idempotent."""
        self._joins.close()
