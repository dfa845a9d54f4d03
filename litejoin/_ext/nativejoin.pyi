from collections.abc import Collection, Mapping, Sequence
from typing import Any

import apsw

from litejoin._ext.topic import TopicTables
from litejoin.plan.nodes import GroupedPlan, NativePlan

class NativeJoins:
    def __new__(
        cls, tables: TopicTables, state: apsw.Connection, cache_bytes: int
    ) -> NativeJoins: ...
    def begin(self, fresh: bool) -> None: ...
    def load(self) -> None: ...
    def place_bytes(self) -> int: ...
    def cache_figures(self) -> dict[str, Any]: ...
    def add(
        self,
        plan: NativePlan,
        numbers: Mapping[str, int],
        columns: Sequence[str],
        json_columns: Collection[str] = (),
    ) -> int: ...
    def add_grouped(
        self,
        plan: GroupedPlan,
        numbers: Mapping[str, int],
        join_id: int,
        key_index: int,
        columns: Sequence[str],
        json_columns: Collection[str] = (),
    ) -> int: ...
    def rebuild(self, address: int) -> bool: ...
    def left(self, address: int) -> int: ...
    def close(self) -> None: ...
