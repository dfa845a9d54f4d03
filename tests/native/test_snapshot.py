"""The readers' snapshots: all move together, and none is held after release."""

import struct
from pathlib import Path

import apsw

from litejoin._ext.snapshot import Snapshots
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.writer import ShardStore


def keys(readers: list[apsw.Connection]) -> set[str]:
    return {key for reader in readers for (key,) in reader.execute("SELECT key FROM t1")}


def test_a_flush_is_seen_after_move_and_not_before(tmp_path: Path) -> None:
    store = ShardStore.open(tmp_path / "d", pipeline="p", shard_count=4, synchronous="normal")
    topic = store.create_topic("orders")
    readers = list(store.open_readers())
    snapshots = Snapshots(readers)
    assert snapshots.move() == 0

    names = [f"k{i}" for i in range(20)]
    rows = [Row(topic, RowKind.UPSERT, 1, name.encode(), b"{}") for name in names]
    first = store.flush([pack_rows(rows[:10])])
    assert keys(readers) == set()
    assert snapshots.move() == first.seq
    second = store.flush([pack_rows(rows[10:])])
    assert keys(readers) == set(names[:10])
    assert snapshots.move() == second.seq
    newest = [reader.execute("SELECT max(seq) FROM batches").get for reader in readers]
    assert list(struct.unpack("<4q", snapshots.seqs)) == newest
    assert keys(readers) == set(names)

    snapshots.release()
    assert not any(reader.in_transaction for reader in readers)
    snapshots.release()
    snapshots.close()
    snapshots.close()
    store.close()
