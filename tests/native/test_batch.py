"""The native writer does what its twin does: same tables, same change rows, same batch records."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin._ext.batch import BatchWriter
from litejoin._ext.checksum import xxh64
from litejoin._ext.route import shard_of
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.changes import Change, Version, unpack_changes
from litejoin.store.shard import (
    Identity,
    create_deletes_table,
    create_state_table,
    create_topic_table,
    initialize,
)
from litejoin.store.sqlite import open_memory
from tests.reference.batch import TwinWriter
from tests.reference.checksum import row_checksum

SHARDS = 3
TOPICS = (1, 2)
ARCHIVED = 2
"""The topic whose deletes are kept. Its rows expire version by version."""
SOURCE = 1


def open_shards(count: int = SHARDS) -> list[tuple[int, apsw.Connection]]:
    pairs = []
    for number in range(count):
        connection = open_memory()
        initialize(connection, Identity(number, "e"))
        for topic in TOPICS:
            create_topic_table(connection, topic, time_index=topic == 2)
        create_deletes_table(connection, ARCHIVED)
        create_state_table(connection, SOURCE)
        pairs.append((number, connection))
    return pairs


def dump(pairs: list[tuple[int, apsw.Connection]]) -> list[object]:
    tables = ["t1", "t2", "s1", "batches"]
    return [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        for _, connection in pairs
        for table in tables
    ] + deletes(pairs)


def deletes(pairs: list[tuple[int, apsw.Connection]]) -> list[object]:
    columns = "key, payload, timestamp_ms, op, changes, checksum"
    return [
        row
        for _, connection in pairs
        for row in connection.execute(f"SELECT {columns} FROM d{ARCHIVED} ORDER BY key")
    ]


@pytest.fixture
def shards() -> Iterator[list[tuple[int, apsw.Connection]]]:
    pairs = open_shards()
    yield pairs
    for _, connection in pairs:
        connection.close()


def upsert(key: str, payload: str, ts: int = 5, *, topic: int = 1, changes: str = "") -> Row:
    return Row(topic, RowKind.UPSERT, ts, key.encode(), payload.encode(), changes.encode())


def delete(key: str, ts: int = 5, *, topic: int = 1, expire: bool = False) -> Row:
    return Row(topic, RowKind.DELETE, ts, key.encode(), expire=expire)


def expire_version(of: Row, *, updated: bool = False) -> Row:
    """The expiry of exactly the version that an upsert wrote."""
    op, extra = 2 if updated else 1, of.extra or None
    checksum = row_checksum(0, of.table, op, of.timestamp_ms, of.key, of.payload, extra)
    return Row(of.table, RowKind.DELETE, checksum, of.key, expire=True, exact=True)


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
keys = st.sampled_from(["a", "b", "order_1", "order_10", "order_2", "é", "日"]) | texts.filter(bool)
times = st.integers(0, 9)
topics = st.sampled_from(TOPICS)
payloads = st.sampled_from(["{}", "1", ""]) | texts
changes = st.sampled_from(["", '{"a":[1,2]}'])
hashes = st.binary(min_size=16, max_size=16)
upserts = st.builds(
    lambda k, p, t, n, c, known: replace(upsert(k, p, t, topic=n, changes=c), known=known),
    keys, payloads, times, topics, changes, st.booleans(),
)  # fmt: skip
rows = st.one_of(
    upserts,
    st.builds(lambda of, updated: expire_version(of, updated=updated), upserts, st.booleans()),
    st.builds(
        lambda k, t, n, e: delete(k, t, topic=n, expire=e and n != ARCHIVED),
        keys, times, topics, st.booleans(),
    ),
    st.builds(
        lambda k, p, h: Row(SOURCE, RowKind.STATE_UPSERT, 0, k.encode(), p.encode(), h),
        keys, texts, hashes,
    ),
    st.builds(lambda k: Row(SOURCE, RowKind.STATE_DELETE, 0, k.encode()), keys),
)  # fmt: skip
flushes = st.lists(
    st.tuples(st.lists(st.lists(rows, max_size=12), max_size=3), st.booleans()), max_size=4
)


@given(flushes)
def test_native_equals_the_twin(flushes: list[tuple[list[list[Row]], bool]]) -> None:
    native, plain = open_shards(), open_shards()
    writer, twin = BatchWriter(native, SHARDS), TwinWriter(plain, SHARDS, {ARCHIVED})
    writer.keep_deletes(ARCHIVED)
    for seq, (batches, drop_noops) in enumerate(flushes, 1):
        packed = [pack_rows(batch) for batch in batches]
        got = writer.write(packed, seq, drop_noops=drop_noops)
        want = twin.write(packed, seq, drop_noops=drop_noops)
        assert list(unpack_changes(got.changes)) == list(unpack_changes(want.changes))
        assert got.changes == want.changes
        assert (got.rows, got.unchanged) == (want.rows, want.unchanged)
        assert list(got.committed) == want.committed
        assert dump(native) == dump(plain)
    writer.close()
    for _, connection in native + plain:
        connection.close()


def test_what_the_source_has_known_is_updated_in_a_topic_without_it(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    writer = BatchWriter(shards, SHARDS)
    batch = [upsert("new", "1"), replace(upsert("known", "1"), known=True)]
    changes = unpack_changes(writer.write([pack_rows(batch)], 1).changes)
    assert {c.key: (c.old, c.new and c.new.updated) for c in changes} == {
        b"new": (None, False), b"known": (None, True),
    }  # fmt: skip
    stored = dict(
        row for _, connection in shards for row in connection.execute("SELECT key, op FROM t1")
    )
    assert stored == {"new": 1, "known": 2}
    writer.close()


@pytest.mark.parametrize("together", [False, True])
def test_a_large_shuffled_batch_equals_the_twin(together: bool) -> None:
    choose = random.Random(7)
    native, plain = open_shards(), open_shards()
    writer, twin = BatchWriter(native, SHARDS, together=together), TwinWriter(plain, SHARDS)
    for seq in (1, 2, 3):
        batch = [
            upsert(f"customer-{choose.randrange(700):06d}-{'x' * choose.randrange(9)}", f"{n}", n)
            if choose.random() < 0.8
            else delete(f"customer-{choose.randrange(700):06d}-", n, expire=choose.random() < 0.5)
            for n in range(2000)
        ]
        packed = [pack_rows(batch[:900]), pack_rows(batch[900:])]
        assert writer.write(packed, seq).changes == twin.write(packed, seq).changes
    assert dump(native) == dump(plain)
    writer.close()


def test_the_old_version_is_the_one_before_the_flush(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    writer = BatchWriter(shards, SHARDS)
    writer.write([pack_rows([upsert("k", "1", 1)])], 1)
    result = writer.write([pack_rows([upsert("k", "2", 2), delete("k"), upsert("k", "3", 3)])], 2)
    shard = shard_of("k", SHARDS)
    assert list(unpack_changes(result.changes)) == [
        Change(1, shard, 1, b"k", Version(b"3", 3, updated=True), Version(b"1", 1, updated=False))
    ]
    assert result.rows == 3
    assert result.committed == (shard,)
    writer.close()


@pytest.mark.parametrize("payload", ["1", ""])
def test_a_rewrite_with_the_same_payload_is_a_change_unless_dropped(
    shards: list[tuple[int, apsw.Connection]], payload: str
) -> None:
    writer = BatchWriter(shards, SHARDS)
    writer.write([pack_rows([upsert("k", payload, 1)])], 1)
    dropped = writer.write([pack_rows([upsert("k", payload, 2)])], 2, drop_noops=True)
    assert dropped == (b"", 1, 1, (), (), (), ())
    kept = writer.write([pack_rows([upsert("k", payload, 3)])], 3)
    assert next(unpack_changes(kept.changes)).new == Version(payload.encode(), 3, updated=True)
    assert next(unpack_changes(kept.changes)).old == Version(payload.encode(), 1, updated=False)
    writer.close()


def test_an_expiry_spares_a_row_written_since(shards: list[tuple[int, apsw.Connection]]) -> None:
    writer = BatchWriter(shards, SHARDS)
    writer.write([pack_rows([upsert("old", "1", 10), upsert("new", "1", 11)])], 1)
    expiries = [delete("old", 10, expire=True), delete("new", 10, expire=True)]
    result = writer.write([pack_rows(expiries)], 2)
    assert [(c.key, c.new) for c in unpack_changes(result.changes)] == [(b"old", None)]
    writer.close()


def test_an_exact_expiry_deletes_one_version_and_no_other(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    writer = BatchWriter(shards, SHARDS)
    versions = [upsert("same", "1", 10), upsert("late", "1", 10), upsert("rich", "1", 9)]
    versions.append(upsert("noted", "1", 10, changes='{"a":[1,2]}'))
    writer.write([pack_rows(versions)], 1)
    # Another payload of the same time, and one that is older than what was read.
    writer.write([pack_rows([upsert("late", "2", 10), upsert("rich", "2", 3)])], 2)
    expiries = pack_rows([expire_version(version) for version in versions])
    result = writer.write([expiries], 3)
    gone = {c.key for c in unpack_changes(result.changes) if c.new is None}
    assert gone == {b"same", b"noted"}
    assert not writer.write([expiries], 4).changes
    fresh = [expire_version(upsert("late", "2", 10), updated=True), upsert("late", "3", 1)]
    result = writer.write([pack_rows(fresh[::-1] + fresh[:1])], 5)
    assert [c.new and c.new.payload for c in unpack_changes(result.changes)] == [b"3"]
    writer.close()


def expire_delete(of: Row) -> Row:
    """The expiry of what is kept of a delete."""
    checksum = row_checksum(0, of.table, 3, of.timestamp_ms, of.key, b"", None)
    return Row(of.table, RowKind.DELETE, checksum, of.key, expire=True, exact=True)


def test_a_delete_is_kept_until_it_expires(shards: list[tuple[int, apsw.Connection]]) -> None:
    writer = BatchWriter(shards[:1], 1)
    writer.keep_deletes(ARCHIVED)
    gone, absent = delete("gone", 7, topic=ARCHIVED), delete("absent", 8, topic=ARCHIVED)
    writer.write([pack_rows([upsert("gone", "1", topic=ARCHIVED)])], 1)
    result = writer.write([pack_rows([gone, absent, delete("elsewhere", 9)])], 2)
    assert [c.key for c in unpack_changes(result.changes)] == [b"gone"]
    kept = [("absent", "", 8, 3, None), ("gone", "", 7, 3, None)]
    assert [row[:5] for row in deletes(shards)] == kept
    again = writer.write([pack_rows([delete("absent", 9, topic=ARCHIVED)])], 3)
    assert ([row[:5] for row in deletes(shards)], again.committed) == (kept, ())
    # Nothing else was written, and it has to be committed as well.
    assert writer.write([pack_rows([expire_delete(gone)])], 4).committed == (0,)
    assert [row[0] for row in deletes(shards)] == ["absent"]
    writer.close()


def test_a_row_that_moves_takes_the_delete_before_it_along(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    writer = BatchWriter(shards[:1], 1)
    writer.keep_deletes(ARCHIVED)
    rows = [upsert(key, "1", topic=ARCHIVED) for key in ("moves", "stays")]
    writer.write([pack_rows([delete(key, 9, topic=ARCHIVED) for key in ("moves", "stays")])], 1)
    writer.write([pack_rows(rows)], 2)
    writer.write([pack_rows([upsert("stays", "2", topic=ARCHIVED)])], 3)
    writer.write([pack_rows([expire_version(row) for row in rows])], 4)
    assert [row[0] for row in deletes(shards)] == ["stays"]
    writer.close()


def test_ids_are_not_used_twice(shards: list[tuple[int, apsw.Connection]]) -> None:
    writer = BatchWriter(shards[:1], 1)
    seen = []
    for seq in range(1, 5):
        result = writer.write([pack_rows([upsert(f"k{seq}", "1"), delete(f"k{seq - 1}")])], seq)
        seen += [c.id for c in unpack_changes(result.changes) if c.new]
    assert seen == [1, 2, 3, 4]
    writer.close()


def test_a_group_writes_only_its_shards(shards: list[tuple[int, apsw.Connection]]) -> None:
    writers = [BatchWriter(shards[:1], SHARDS), BatchWriter(shards[1:], SHARDS)]
    batch = pack_rows([upsert(f"k{n}", "1") for n in range(60)])
    results = [writer.write([batch], 1) for writer in writers]
    assert sum(result.rows for result in results) == 60
    assert results[0].committed == (0,)
    assert results[1].committed == (1, 2)
    for number, connection in shards:
        stored = connection.execute("SELECT key FROM t1").fetchall()
        assert {shard_of(key, SHARDS) for (key,) in stored} == {number}
    for writer in writers:
        writer.close()


def test_prepare_shows_nothing_until_commit(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection, reader = apsw.Connection(str(path)), apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL")
    initialize(connection, Identity(0, "e"))
    create_topic_table(connection, 1, time_index=False)
    writer = BatchWriter([(0, connection)], 1)
    count = "SELECT count(*) FROM t1"
    writer.prepare([pack_rows([upsert("k", "1")])], 1)
    assert reader.execute(count).fetchone() == (0,)
    writer.rollback()
    writer.prepare([pack_rows([upsert("k", "1")])], 1)
    assert writer.commit().rows == 1
    assert reader.execute(count).fetchone() == (1,)
    writer.close()


def test_batch_records_hold_the_changes_without_new_payloads(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    writer = BatchWriter(shards[:1], 1)
    writer.write([pack_rows([upsert("k", "old", 1)])], 1)
    writer.write([pack_rows([upsert("k", "new", 2, changes="{}")])], 2)
    records = shards[0][1].execute("SELECT seq, body, checksum FROM batches").fetchall()
    (change,) = unpack_changes(records[1][1])
    assert change.elided
    assert change.new == Version(b"", 2, updated=True, changes=b"{}")
    assert change.old == Version(b"old", 1, updated=False)
    for seq, body, checksum in records:
        assert xxh64(body, seq) == checksum % (1 << 64)
    writer.close()


def test_trim_deletes_applied_records_with_the_next_transaction(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    writer = BatchWriter(shards[:1], 1)
    for seq in (1, 2, 3):
        writer.write([pack_rows([upsert("k", f"{seq}")])], seq)
    writer.trim(0, 2)
    assert shards[0][1].execute("SELECT count(*) FROM batches").fetchone() == (3,)
    writer.write([pack_rows([upsert("k", "4")])], 4)
    assert shards[0][1].execute("SELECT seq FROM batches").fetchall() == [(3,), (4,)]
    with pytest.raises(ValueError, match="shard 1 is not in this group"):
        writer.trim(1, 2)
    writer.close()


def test_plain_upserts_store_the_same_rows(shards: list[tuple[int, apsw.Connection]]) -> None:
    writer = BatchWriter(shards[:1], 1, checksums=False, records=False, plain=True)
    for payload in ("1", "2"):
        batch = pack_rows([upsert(f"k{n}", payload) for n in range(3)])
        assert writer.write([batch], 1, want_changes=False).changes == b""
    stored = shards[0][1].execute("SELECT key, payload, op FROM t1").fetchall()
    assert stored == [("k0", "2", 2), ("k1", "2", 2), ("k2", "2", 2)]
    writer.close()


def test_many_tables_do_not_keep_many_statements(
    shards: list[tuple[int, apsw.Connection]],
) -> None:
    connection = shards[0][1]
    for topic in range(3, 250):
        create_topic_table(connection, topic, time_index=False)
    writer = BatchWriter(shards[:1], 1)
    for seq in (1, 2):
        writer.write([pack_rows([upsert("k", f"{seq}", topic=n) for n in range(1, 250)])], seq)
    assert connection.execute("SELECT payload FROM t249").fetchall() == [("2",)]
    writer.close()
