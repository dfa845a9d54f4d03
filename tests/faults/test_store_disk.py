"""Disk full, failed commits and readers in the way: the store recovers, or says it is over."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from litejoin.errors import StorageError, StorageFullError, StorageIOError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store import checkpoint
from litejoin.store.layout import Layout, wal_of
from litejoin.store.writer import ShardStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ShardStore]:
    store = ShardStore.open(tmp_path, pipeline="p", shard_count=2, synchronous="normal")
    yield store
    store.close()


def rows(topic: int, payload: str, count: int = 30) -> bytes:
    return pack_rows(
        Row(topic, RowKind.UPSERT, 1, f"k{n}".encode(), payload.encode()) for n in range(count)
    )


def limit_pages(store: ShardStore, shard: int, pages: int) -> None:
    store._connections[shard].execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_ends_by_itself(store: ShardStore) -> None:
    topic = store.create_topic("orders")
    limit_pages(store, 0, 12)
    limit_pages(store, 1, 12)
    assert store.flush([rows(topic, "x" * 3000)]).full_shards == (0, 1)
    assert store.flush([rows(topic, "1")]).full_shards == ()
    limit_pages(store, 0, 100_000)
    limit_pages(store, 1, 100_000)
    assert store.flush([rows(topic, "x" * 3000)]).full_shards == ()


def test_a_topic_that_found_no_room_is_made_later(store: ShardStore) -> None:
    limit_pages(store, 1, 4)
    with pytest.raises(StorageFullError, match="shard 1"):
        store.create_topic("orders")
    limit_pages(store, 1, 100_000)
    assert store.flush([rows(store.topic_number("orders"), "1")]).rows == 30


def test_a_manifest_that_found_no_room_is_written_later(
    store: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageFullError, match="manifest.json: No space left"):
            store.create_topic("orders")
    assert store.flush([rows(store.topic_number("orders"), "1")]).rows == 30


def test_a_commit_that_failed_half_way_ends_the_store(store: ShardStore) -> None:
    """A commit that a hook refuses stands for an I/O error: the shard before it has committed."""
    topic = store.create_topic("orders")
    store._connections[1].set_commit_hook(lambda: True)
    with pytest.raises(StorageError, match="shard 1: commit"):
        store.flush([rows(topic, "1")])
    store._connections[1].set_commit_hook(None)
    with pytest.raises(StorageIOError, match="a commit failed half way"):
        store.flush([rows(topic, "1")])


def test_marks_that_cannot_be_written_end_the_store(
    store: ShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = store.create_topic("orders")

    def fail(fd: int, data: bytes, offset: int) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", fail)
        with pytest.raises(StorageIOError, match="marks: Input/output error"):
            store.flush([rows(topic, "1")])
    with pytest.raises(StorageIOError, match="marks"):
        store.flush([rows(topic, "1")])


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_marks_are_synced_as_commits_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: Literal["full", "normal"]
) -> None:
    synced = threading.Event()
    monkeypatch.setattr("os.fdatasync", lambda fd: synced.set())
    store = ShardStore.open(tmp_path, pipeline="p", shard_count=1, synchronous=synchronous)
    store.flush([rows(store.create_topic("orders"), "1")])
    assert synced.wait(10 if synchronous == "full" else 0.05) is (synchronous == "full")
    store.close()


def test_marks_that_cannot_be_synced_end_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    store = ShardStore.open(tmp_path, pipeline="p", shard_count=1, synchronous="full")
    topic = store.create_topic("orders")
    with pytest.raises(StorageIOError, match="marks: Input/output error"):
        for n in range(1000):
            store.flush([rows(topic, f"{n}")])
    store.close()


@pytest.fixture
def small_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PASSIVE_PAGES", 100)
    monkeypatch.setattr(checkpoint, "RESTART_PAGES", 300)


@pytest.mark.usefixtures("small_wal")
def test_the_wal_stays_bounded_while_a_reader_comes_and_goes(
    store: ShardStore, tmp_path: Path
) -> None:
    topic = store.create_topic("orders")
    readers = store.open_readers()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for reader in readers:
                reader.execute("BEGIN")
                reader.execute(f"SELECT count(*) FROM t{topic}").fetchall()
                stop.wait(0.002)
                reader.execute("COMMIT")

    thread = threading.Thread(target=read)
    thread.start()
    written = 0
    try:
        for n in range(400):
            store.flush([rows(topic, f"{n}" * 100, 200)])
            written += 2 * 200 * 300
    finally:
        stop.set()
        thread.join()
    sizes = [wal_of(Layout(tmp_path).shard(shard)).stat().st_size for shard in (0, 1)]
    assert sum(sizes) < written / 4


@pytest.mark.usefixtures("small_wal")
def test_a_reader_that_stays_only_costs_disk(store: ShardStore) -> None:
    topic = store.create_topic("orders")
    store.flush([rows(topic, "old")])
    reader = store.open_readers()[0]
    reader.execute("BEGIN")
    before = reader.execute(f"SELECT key, payload FROM t{topic} ORDER BY 1").fetchall()
    for n in range(40):
        store.flush([rows(topic, f"{n}" * 100, 200)])
    assert reader.execute(f"SELECT key, payload FROM t{topic} ORDER BY 1").fetchall() == before
    reader.execute("COMMIT")


def test_a_gate_holder_sees_whole_flushes(store: ShardStore) -> None:
    topic = store.create_topic("orders")
    store.flush([rows(topic, "0")])
    readers = store.open_readers()
    done = threading.Event()

    def write() -> None:
        for n in range(1, 150):
            store.flush([rows(topic, f"{n}")])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen: set[object] = set()
    while not done.is_set():
        with store.commit_gate:
            for reader in readers:
                reader.execute("BEGIN")
                reader.execute("SELECT 1 FROM meta").fetchall()
        payloads = {
            payload
            for reader in readers
            for (payload,) in reader.execute(f"SELECT DISTINCT payload FROM t{topic}")
        }
        for reader in readers:
            reader.execute("COMMIT")
        assert len(payloads) == 1
        seen |= payloads
    thread.join()
    assert len(seen) > 1


def test_a_checkpoint_that_fails_is_not_kept_quiet(tmp_path: Path) -> None:
    checkpointer = checkpoint.Checkpointer({0: tmp_path / "gone.db"}, None)
    checkpointer.notify({0: checkpoint.RESTART_PAGES})
    checkpointer.make_room()
    failure = checkpointer.failure
    checkpointer.close()
    assert isinstance(failure, StorageError)
    assert failure.shard == 0


def test_what_a_checkpoint_met_is_raised_by_the_next_flush(store: ShardStore) -> None:
    topic = store.create_topic("orders")
    assert store._checkpointer
    store._checkpointer.failure = StorageIOError("shard 0: disk I/O error", shard=0)
    with pytest.raises(StorageIOError, match="shard 0: disk I/O error"):
        store.flush([rows(topic, "1")])
