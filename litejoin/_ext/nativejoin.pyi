from collections.abc import Collection, Mapping, Sequence

from litejoin._ext.topic import TopicTables
from litejoin.plan.nodes import NativePlan

class NativeJoins:
    def __new__(cls, tables: TopicTables, cache_bytes: int) -> NativeJoins: ...
    def begin(self, fresh: bool) -> None: ...
    def add(
        self,
        plan: NativePlan,
        numbers: Mapping[str, int],
        columns: Sequence[str],
        json_columns: Collection[str] = (),
    ) -> int: ...
    def close(self) -> None: ...
