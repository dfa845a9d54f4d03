from collections.abc import Callable
from typing import Any, final

from litejoin._ext.gjson import Path

@final
class Packer:
    def __new__(
        cls,
        topics: dict[str, int],
        key_paths: tuple[Path, ...],
        *,
        as_text: bool,
        shards: int,
        max_key_bytes: int,
        max_row_bytes: int,
        meta: Callable[[Any, bytes], bytes] | None = None,
    ) -> Packer: ...
    def pack(
        self, messages: list[Any], done: dict[tuple[str, int], list[int]], now_ms: int
    ) -> tuple[bytes, int, dict[tuple[str, int], int], list[tuple[Any, str]]]: ...
