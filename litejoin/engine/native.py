"""The engine's native level: joins of equalities, evaluated without running SQL for each change.

Called by `engine`, which keeps the delta statements of the same joins ready: whenever native code
meets a row that it cannot read or compute, the whole evaluation of that join falls back to them,
and they say what is wrong. Never writes: the evaluator appends what changed.
"""

from collections.abc import Mapping

from litejoin._ext.evaluate import Evaluator
from litejoin._ext.nativejoin import NativeJoins
from litejoin._ext.topic import TopicTables
from litejoin.plan.nodes import JoinPlan

CACHE_BYTES = 24 * 1024 * 1024
"""Newest rows of the topics that joins look up by key: 200,000 small rows. Memory is used as it
fills.
"""


class NativeLevel:
    """The compiled native joins over one set of topic tables. One thread at a time."""

    def __init__(
        self, tables: TopicTables, evaluator: Evaluator, numbers: Mapping[str, int]
    ) -> None:
        self._evaluator, self._numbers = evaluator, numbers
        self._joins = NativeJoins(tables, CACHE_BYTES)
        self._addresses: dict[int, int] = {}

    def add(self, handle: int, plan: JoinPlan) -> None:
        """Compile the native form of the join that the evaluator knows as `handle`, if it has
        one.
        """
        if plan.native is not None:
            self._addresses[handle] = self._joins.add(
                plan.native, self._numbers, plan.columns, plan.json_columns
            )

    def begin(self, *, fresh: bool) -> None:
        """The topic tables hold the changes of another flush; see NativeJoins.begin."""
        self._joins.begin(fresh)

    def refresh(self, handle: int, head: int, tail: int, now_ms: int) -> int | None:
        """The new head of the results log; None when the delta level has to do it."""
        address = self._addresses.get(handle)
        if address is None:
            return None
        return self._evaluator.refresh_native(handle, address, head, tail, now_ms)

    def close(self) -> None:
        """Finalize the statements. Idempotent."""
        self._joins.close()
