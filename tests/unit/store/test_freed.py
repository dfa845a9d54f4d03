"""Pages that deleted rows left free go back to the file system, a little at a time."""

from pathlib import Path

import apsw
import pytest

from litejoin.errors import StorageIOError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store import freed
from litejoin.store.shard import PAGE_BYTES
from litejoin.store.writer import ShardStore
from tests.harness.waiting import eventually
from tests.unit.store.conftest import Opener

PAYLOAD = b'"' + b"x" * 1000 + b'"'


def upsert(store: ShardStore, topic: int, keys: range) -> None:
    rows = (Row(topic, RowKind.UPSERT, 1, b"k%d" % n, PAYLOAD) for n in keys)
    store.trim_batches({0: store.flush([pack_rows(rows)]).seq})


def delete(store: ShardStore, topic: int, keys: range) -> None:
    rows = (Row(topic, RowKind.DELETE, 1, b"k%d" % n) for n in keys)
    store.trim_batches({0: store.flush([pack_rows(rows)]).seq})


@pytest.fixture
def store(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> ShardStore:
    """8,000 rows of 1 KB, of which all but a hundred were deleted."""
    monkeypatch.setattr(freed, "KEEP_PAGES", 100)
    store = open_store(shard_count=1)
    topic = store.create_topic("orders")
    upsert(store, topic, range(8_000))
    delete(store, topic, range(100, 8_000))
    upsert(store, topic, range(100))
    return store


def pages(store: ShardStore, what: str) -> int:
    return int(store.open_readers()[0].execute(f"PRAGMA {what}").get)


def test_a_step_gives_back_no_more_than_it_may(store: ShardStore) -> None:
    before = pages(store, "page_count")
    assert store.give_back(300) == 300
    assert pages(store, "page_count") == before - 300


def test_the_file_shrinks_and_keeps_what_it_will_need(store: ShardStore) -> None:
    path = store.layout.shard(0)
    before = pages(store, "page_count")
    while store.give_back(500):
        pass
    kept, used = pages(store, "freelist_count"), pages(store, "page_count")
    assert used < before / 4
    assert kept <= 100 + used // 8 + 1
    assert store.give_back(500) == 0
    topic, rows = store.topics()["orders"], store.open_readers()[0]
    assert rows.execute(f"SELECT count(*) FROM t{topic}").get == 100
    assert rows.execute("PRAGMA integrity_check").get == "ok"
    upsert(store, topic, range(50, 150))
    store.close()
    assert path.stat().st_size <= (used + 300) * PAGE_BYTES


def test_a_file_that_was_not_made_for_it_stays_as_it_is(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "old.db"))
    with connection:
        connection.execute("CREATE TABLE t(x)")
        connection.executemany(
            "INSERT INTO t VALUES(zeroblob(?))", ((9_000,) for _ in range(2_000))
        )
        connection.execute("DELETE FROM t")
    assert connection.execute("PRAGMA freelist_count").get > 3_000
    assert freed.give_back(connection, 500) == 0


def test_an_io_error_ends_the_store(store: ShardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: apsw.Connection, pages: int) -> int:
        error = apsw.IOError("disk I/O error")
        error.extendedresult = apsw.SQLITE_IOERR_WRITE
        raise error

    monkeypatch.setattr("litejoin.store.writer.give_back", fail)
    assert store.give_back(500) == 0
    with pytest.raises(StorageIOError):
        upsert(store, store.topics()["orders"], range(3))


def test_a_long_readers_log_is_cut_off_when_it_ends(
    open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litejoin.store.checkpoint.PASSIVE_PAGES", 100)
    monkeypatch.setattr("litejoin.store.checkpoint.RESTART_PAGES", 300)
    store = open_store(shard_count=1)
    topic = store.create_topic("orders")
    reader = store.open_readers()[0]
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM batches").fetchall()
    for _ in range(20):
        upsert(store, topic, range(400))
    wal = Path(f"{store.layout.shard(0)}-wal")
    grown = wal.stat().st_size
    assert grown > 4 * 300 * PAGE_BYTES
    reader.execute("COMMIT")

    def is_cut() -> bool:
        upsert(store, topic, range(400))
        return wal.stat().st_size < grown / 2

    eventually(is_cut, 30)
