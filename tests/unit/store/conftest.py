"""Opens stores in a temporary directory and closes them, whatever the test did."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.writer import ShardStore

Opener = Callable[..., ShardStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Opener]:
    opened = []

    def open_it(shard_count: int = 2, **options: object) -> ShardStore:
        arguments: dict[str, object] = {"pipeline": "p", "synchronous": "normal", **options}
        store = ShardStore.open(tmp_path / "data", shard_count=shard_count, **arguments)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def upserts() -> Callable[..., bytes]:
    def build(topic: int, count: int, payload: str = "{}", timestamp_ms: int = 1) -> bytes:
        return pack_rows(
            Row(topic, RowKind.UPSERT, timestamp_ms, f"k{n}".encode(), payload.encode())
            for n in range(count)
        )

    return build
