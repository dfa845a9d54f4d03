"""The deep check compares everything that is stored with its checksum."""

from collections.abc import Callable

import pytest

from litejoin.errors import CorruptionError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store import verify
from litejoin.store.sqlite import open_database
from tests.unit.store.conftest import Opener


@pytest.mark.parametrize("place", ["min(id)", "max(id) / 2", "max(id)"])
def test_every_row_is_compared_however_many_there_are(
    open_store: Opener,
    upserts: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.setattr(verify, "CHUNK_ROWS", 10)
    store = open_store(1)
    store.flush([upserts(store.create_topic("orders"), 35)])
    store.close()
    connection = open_database(store.layout.shard(0))
    assert verify.check_rows(connection, 0, lambda count: None).rows == 35
    connection.execute(f"UPDATE t1 SET payload = '[]' WHERE id = (SELECT {place} FROM t1)")
    with pytest.raises(CorruptionError, match="shard 0"):
        verify.check_rows(connection, 0, lambda count: None)
    connection.close()


def test_what_a_source_knows_is_compared_too(open_store: Opener) -> None:
    store = open_store(1)
    number = store.source_state("api").number
    store.flush([pack_rows([Row(number, RowKind.STATE_UPSERT, 1, b"k", b"{}", bytes(16))])])
    store.close()
    connection = open_database(store.layout.shard(0))
    assert verify.check_rows(connection, 0, lambda count: None).rows == 1
    connection.execute("UPDATE s1 SET hash = zeroblob(15) || x'01'")
    with pytest.raises(CorruptionError, match="shard 0"):
        verify.check_rows(connection, 0, lambda count: None)
    connection.close()


def test_what_is_kept_of_deletes_is_compared_too(open_store: Opener) -> None:
    store = open_store(1)
    number = store.create_topic("orders")
    store.keep_deletes({number})
    store.flush([pack_rows([Row(number, RowKind.DELETE, 1, b"k")])])
    store.close()
    connection = open_database(store.layout.shard(0))
    assert verify.check_rows(connection, 0, lambda count: None).rows == 1
    connection.execute(f"UPDATE d{number} SET timestamp_ms = 2")
    with pytest.raises(CorruptionError, match=f"shard 0: row 1 of d{number} fails its checksum"):
        verify.check_rows(connection, 0, lambda count: None)
    connection.close()


def test_the_pages_are_sqlites_own_to_judge(open_store: Opener) -> None:
    store = open_store(1)
    store.close()
    connection = open_database(store.layout.shard(0))
    verify.check_pages(connection, 0)
    connection.execute("CREATE TABLE x(a); INSERT INTO x VALUES(NULL)")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE x(a NOT NULL)' WHERE name = 'x'"
    )
    connection.execute("PRAGMA writable_schema = RESET")
    with pytest.raises(CorruptionError, match="shard 0: NULL value in x.a"):
        verify.check_pages(connection, 0)
    connection.close()
