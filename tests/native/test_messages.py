"""Message rows: kept for every upsert of a windowed topic, and read with their event time."""

import json
from pathlib import Path

import apsw
import pytest

from litejoin._ext.batch import BatchWriter
from litejoin._ext.gjson import compile_path
from litejoin._ext.messages import MessageReader
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.changes import Change, Version, pack_changes, unpack_changes
from litejoin.store.shard import Identity, create_topic_table, open_writer
from litejoin.store.sqlite import open_memory
from tests.reference import messages as twin

LATEST_MS = 4_000_000_000_000


def chunk(*payloads: str, topic: int = 1) -> bytes:
    return pack_changes(
        Change(topic, 0, 0, f"k{i}".encode(), Version(text.encode(), 5, False), None, message=True)
        for i, text in enumerate(payloads)
    )


def reader(db: apsw.Connection, path: str | None = "at", **options: object) -> MessageReader:
    db.execute("CREATE TABLE IF NOT EXISTS m(t, n, k, p, part)")
    program = None if path is None else compile_path(path).program
    part = "CASE ?5 WHEN x'' THEN x'' ELSE json_extract(?5, '$') END"
    return MessageReader(
        db, f"INSERT INTO m VALUES(?1, ?2, ?3, ?4, {part})", 1,
        time_path=program, partitions=[compile_path("p").program], **options,  # type: ignore[arg-type]
    )  # fmt: skip


def test_event_times_are_those_of_the_twin() -> None:
    values = [
        1_700_000_000, 1_700_000_000.25, 1_700_000_000_123, "2026-11-24T12:00:00Z", "1700000000",
        "2026-11-24T12:00:00.5+01:00", 0, -1, None, True, "soon", {}, [], 1e300,
        "9999-12-31T00:00:00Z",
        253402300799, "2026-13-01T00:00:00Z", "",
    ]  # fmt: skip
    data = chunk(*twin.texts(values), "[]", '{"at"', '{"other": 1}')
    db = open_memory()
    native = reader(db)
    found = native.read(data, 1, LATEST_MS)
    taken, refused = twin.read(data, 1, "at", LATEST_MS)
    assert list(db.execute("SELECT t, k, p FROM m ORDER BY n")) == taken
    assert [key.decode() for _, key, _, _ in found.refused] == refused
    times = [ms for ms, _, _ in taken]
    assert (found.rows, found.oldest_ms, found.newest_ms) == (len(taken), min(times), max(times))
    native.close()


@pytest.mark.parametrize(
    ("time_format", "value", "ms"),
    [
        (1, "2026-11-24T12:00:00Z", 1795521600000), (1, 1_700_000_000, None),
        (2, 1_700_000_000, 1_700_000_000_000), (2, "1.5", 1_500), (2, "2026-11-24T12:00:00Z", None),
        (3, 1_700_000_000, 1_700_000_000), (3, 12.9, 12), (3, 1e3, 1_000), (3, -5, None),
    ],
)  # fmt: skip
def test_a_format_takes_one_spelling(time_format: int, value: object, ms: int | None) -> None:
    db = open_memory()
    native = reader(db, time_format=time_format)
    native.read(chunk(json.dumps({"at": value})), 1, LATEST_MS)
    assert db.execute("SELECT t FROM m").get == ms
    native.close()


def test_partition_values_arrive_as_sql_values() -> None:
    db = open_memory()
    native = reader(db, None)
    texts = ['{"p": "A\\u0041"}', '{"p": 5}', '{"p": 1.5}', "{}", '{"p": {"a": 1}}', '{"p": null}']
    native.read(chunk(*texts), 1, LATEST_MS)
    assert [r[0] for r in db.execute("SELECT part FROM m")] == [
        "AA", 5, 1.5, None, '{"a":1}', None,
    ]  # fmt: skip
    native.close()


def test_a_message_that_is_no_json_is_taken_in_without_a_partition() -> None:
    db = open_memory()
    native = reader(db, None)
    texts = ['{"p": 1}', '{"p": 1', "", '{"p": 2} ', "{} {}", '"p"', "{'p': 1}", '{"p": NaN}']
    found = native.read(chunk(*texts), 1, LATEST_MS)
    nowhere = twin.no_json(texts)
    assert list(db.execute("SELECT n, p FROM m ORDER BY n")) == list(enumerate(texts, 1))
    assert [p for (p,) in db.execute("SELECT p FROM m WHERE part = x''")] == nowhere
    assert found == (len(texts), 5, 5, [], [
        ("the payload is not JSON", f"k{texts.index(text)}".encode(), text.encode(), 5)
        for text in nowhere
    ])  # fmt: skip
    too_new = native.read(chunk("{"), 10, 4)
    assert (too_new.rows, len(too_new.refused), too_new.unplaced) == (0, 1, [])
    native.close()


def test_rows_of_other_topics_and_changes_are_passed_over() -> None:
    db = open_memory()
    native = reader(db, None)
    change = pack_changes([Change(1, 0, 7, b"k", Version(b"{}", 5, False), None)])
    assert native.read(chunk("{}", topic=2) + change, 1, LATEST_MS).rows == 0
    with pytest.raises(ValueError, match="bad message row"):
        native.read(b"\x01" * 30, 1, LATEST_MS)
    native.close()


def test_every_upsert_of_a_kept_topic_is_a_message_also_in_the_batch_record(
    tmp_path: Path,
) -> None:
    db = open_writer(tmp_path / "s.db", Identity(0, "e" * 32), "normal", create=True)
    for topic in (1, 2):
        create_topic_table(db, topic, time_index=False)
    writer = BatchWriter([(0, db)], 1)
    writer.keep_messages(1)
    rows = [
        Row(1, RowKind.UPSERT, 1, b"a", b"1"), Row(1, RowKind.UPSERT, 2, b"a", b"2"),
        Row(1, RowKind.DELETE, 3, b"a"), Row(2, RowKind.UPSERT, 4, b"a", b"3"),
        Row(1, RowKind.UPSERT, 5, b"b", b"4"),
    ]  # fmt: skip
    result = writer.write([pack_rows(rows)], 1)
    again = writer.write([pack_rows(rows[-1:])], 2, drop_noops=True)
    kept = [row for data in result.messages for row in unpack_changes(data)]
    assert [(m.key, m.new.payload, m.new.timestamp_ms) for m in kept if m.new] == [
        (b"a", b"1", 1), (b"a", b"2", 2), (b"b", b"4", 5),
    ]  # fmt: skip
    assert all(m.message and m.topic == 1 for m in kept)
    stored = [body for (body,) in db.execute("SELECT body FROM batches ORDER BY seq")]
    assert [row for row in unpack_changes(stored[0]) if row.message] == kept
    assert again.changes == b"" and len(again.messages) == 1 and len(stored) == 2
    writer.close()
    db.close()
