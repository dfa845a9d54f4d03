"""A flipped bit anywhere in a shard or its write-ahead log is named, or changes nothing at all."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.errors import LiteJoinError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.check import check_directory
from litejoin.store.layout import Layout, wal_of
from litejoin.store.sqlite import open_untouched
from litejoin.store.writer import ShardStore

FLIPS = 150
Stored = dict[str, tuple[str, int]]


def fill(store: ShardStore, number: int) -> Stored:
    """Write some keys, some of them again; what they are now."""
    topic = store.create_topic("orders")
    rows = {
        f"k{n}": (f'{{"n":{number + n},"pad":"{"x" * 100}"}}', n)
        for n in range(0, 300, 1 + number % 2)
    }
    batch = [
        Row(topic, RowKind.UPSERT, time_ms, key.encode(), payload.encode())
        for key, (payload, time_ms) in rows.items()
    ]
    store.flush([pack_rows(batch)])
    return rows


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stored]:
    """The files of a process that was killed: half of what it wrote is still in the logs."""
    folder = tmp_path_factory.mktemp("flips")
    wanted: Stored = {}
    store = ShardStore.open(folder / "a", pipeline="p", shard_count=2, synchronous="normal")
    for number in range(6):
        wanted |= fill(store, number)
    store.close()
    store = ShardStore.open(folder / "a", pipeline="p", shard_count=2, synchronous="normal")
    for number in range(6, 12):
        wanted |= fill(store, number)
    shutil.copytree(folder / "a", folder / "killed")
    store.close()
    return folder / "killed", wanted


def stored(layout: Layout) -> Stored:
    """All rows of both shards, as a reader finds them."""
    found: Stored = {}
    for shard in range(2):
        path = layout.shard(shard)
        connection = open_untouched(path, wal_of(path))
        for key, payload, time_ms in connection.execute(
            "SELECT key, payload, timestamp_ms FROM t1"
        ):
            found[key] = (payload, time_ms)
        connection.close()
    return found


def places(path: Path) -> Iterator[tuple[int, int]]:
    """Bytes and bits, the same ones each time, everywhere in the file and in its first page."""
    source = random.Random(20261130)
    size = path.stat().st_size
    for number in range(FLIPS):
        at = source.randrange(size if number % 5 else min(size, 4096))
        yield at, source.randrange(8)


@pytest.mark.parametrize("file", ["shard-0000.db", "shard-0001.db-wal"])
def test_a_flipped_bit_is_named_or_changes_nothing(
    killed: tuple[Path, Stored], tmp_path: Path, file: str
) -> None:
    source, wanted = killed
    assert stored(Layout(source)) == wanted
    named = 0
    for at, bit in places(source / file):
        folder = tmp_path / "flipped"
        shutil.copytree(source, folder)
        data = bytearray((folder / file).read_bytes())
        data[at] ^= 1 << bit
        (folder / file).write_bytes(data)
        layout = Layout(folder)
        try:
            found = list(check_directory(layout, 2, folder / "dlq.db", deep=True))
            is_named = any(finding.status != "ok" for finding in found)
        except LiteJoinError:
            is_named = True
        if not is_named:
            assert stored(layout) == wanted, f"byte {at}, bit {bit}"
        named += is_named
        shutil.rmtree(folder)
    assert named > FLIPS / 3
