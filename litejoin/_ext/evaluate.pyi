from collections.abc import Collection, Iterable, Sequence

import apsw

class Evaluator:
    def __new__(cls, host: apsw.Connection, state: apsw.Connection) -> Evaluator: ...
    def add_join(
        self,
        join_id: int,
        columns: Sequence[str],
        key_index: int,
        *,
        json_columns: Collection[str] = (),
        ordered: bool = False,
        emit_all: bool = False,
        emit_deletes: bool = True,
        refresh_sql: str,
        refresh_null_sql: str | None = None,
        affected_sql: Iterable[str] = (),
        full: bool = False,
    ) -> int: ...
    def affect(self, handle: int, reference: int) -> None: ...
    def affected(self) -> list[None | int | float | bytes | str]: ...
    def set_affected(self, keys: Iterable[None | int | float | bytes | str]) -> None: ...
    def refresh(
        self,
        handle: int,
        head: int,
        tail: int,
        emit_at_ms: int,
        max_bytes: int,
        mode: int = 0,
    ) -> int: ...
    def refresh_native(
        self, handle: int, native: int, head: int, tail: int, emit_at_ms: int, max_bytes: int
    ) -> int | None: ...
    def close(self) -> None: ...
