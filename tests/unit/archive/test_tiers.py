"""Both tiers as one: the same SQL as over all rows in plain SQLite, each row counted once."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from litejoin.archive.duck import Duck
from litejoin.archive.hot import HotRows
from litejoin.archive.relation import TierTables
from litejoin.archive.tiers import Tiers
from litejoin.errors import CorruptionError
from litejoin.store.layout import Layout
from litejoin.store.sqlite import open_memory
from tests.harness.archive import HOUR_MS, NOW_MS, Archive

Row = tuple[str, str, int]

DUCK = Duck(64 << 20, Path(tempfile.gettempdir()))
"""Opened by the first test: that takes longer than any of them."""

QUERIES = (
    "SELECT key, payload, timestamp FROM orders ORDER BY key",
    "SELECT count(*), sum(payload ->> '$.n'), min(timestamp_ms) FROM orders",
    "SELECT key, payload ->> '$.n' FROM orders WHERE key = 'k7'",
    "SELECT key, payload FROM orders WHERE key IN ('k1', 'k2', 'nobody', 'k30') ORDER BY key DESC",
    "SELECT key FROM orders WHERE key > 'k3' AND key NOT IN ('k4') ORDER BY 1",
    "SELECT key FROM orders WHERE key = 5 OR key = CAST('5' AS INTEGER) ORDER BY 1",
    "SELECT key FROM orders WHERE key = 'K7' COLLATE NOCASE",
    "SELECT a.key, b.key FROM orders a JOIN orders b ON b.key = 'k' || (a.payload ->> '$.n')"
    " ORDER BY 1, 2",
    "SELECT payload ->> '$.n' AS n, count(*) FROM orders GROUP BY n HAVING count(*) > 1 ORDER BY n",
    "SELECT key, json_extract(payload, '$.n') * 1e0, typeof(payload) FROM orders"
    " WHERE timestamp >= 1763990000 ORDER BY key",
    "SELECT o.key, (SELECT count(*) FROM orders i WHERE i.key < o.key) FROM orders o"
    " ORDER BY o.key LIMIT 9",
)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "data")
    yield archive
    archive.close()


def asked(archive: Archive, sql: str, as_of_ms: int | None = None) -> tuple[list[Any], TierTables]:
    tiers = Tiers(Layout(archive.paths.root.parent), 2, DUCK, as_of_ms=as_of_ms)
    tables = TierTables(tiers, {"orders": archive.topic})
    connection = tables.open()
    try:
        return connection.execute(sql).fetchall(), tables
    finally:
        connection.close()
        tiers.close()


def plain(rows: dict[str, Row], sql: str) -> list[Any]:
    connection = open_memory()
    connection.execute("CREATE TABLE orders(key TEXT, payload TEXT, timestamp, timestamp_ms)")
    connection.executemany(
        "INSERT INTO orders VALUES(?, ?, ?, ?)",
        [(key, payload, ms // 1000, ms) for key, payload, ms in rows.values()],
    )
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_queries_answer_as_plain_sqlite_over_all_rows(archive: Archive) -> None:
    choose = random.Random(5)
    rows: dict[str, Row] = {}
    for step in range(6):
        written = {
            key: (key, f'{{"n": {choose.randrange(40)}}}', NOW_MS + (step - 9) * HOUR_MS + n)
            for n, key in enumerate(choose.sample([f"k{n}" for n in range(40)], 15))
        }
        archive.write(written.values())
        rows.update(written)
        archive.compact(NOW_MS + (choose.randrange(step + 1) - 9) * HOUR_MS + 7)
        if step == 3:
            archive.worker.upkeep(NOW_MS + 5 * HOUR_MS)
        for sql in QUERIES:
            assert asked(archive, sql)[0] == plain(rows, sql), sql


def test_a_row_in_the_middle_of_a_compaction_is_counted_once(archive: Archive) -> None:
    archive.write([(f"k{n}", "1", NOW_MS - n) for n in range(30)])
    archive.worker.begin(archive.topic, NOW_MS)
    files = archive.worker.chunk(archive.topic, NOW_MS)["files"]
    assert asked(archive, "SELECT count(*) FROM orders")[0] == [(30,)]
    archive.delete_rows_of(files[0])
    assert asked(archive, "SELECT count(*) FROM orders")[0] == [(30,)]


def test_the_latest_version_of_the_asked_time_wins(archive: Archive) -> None:
    for hours, text in ((-9, "1"), (-6, "2"), (-3, "3")):
        archive.write([("k", text, NOW_MS + hours * HOUR_MS)])
        archive.compact(NOW_MS - 5 * HOUR_MS)
    sql = "SELECT payload FROM orders"
    for hours, found in ((-10, []), (-8, [("1",)]), (-5, [("2",)]), (0, [("3",)])):
        assert asked(archive, sql, NOW_MS + hours * HOUR_MS)[0] == found
        by_key = asked(archive, f"{sql} WHERE key = 'k'", NOW_MS + hours * HOUR_MS)[0]
        assert by_key == found
    assert asked(archive, sql)[0] == [("3",)]


def test_a_row_that_arrived_late_is_the_current_one(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 10)])
    archive.compact()
    archive.write([("k", "2", NOW_MS - 20)])
    assert asked(archive, "SELECT payload FROM orders")[0] == [("2",)]
    archive.compact()
    assert asked(archive, "SELECT payload FROM orders")[0] == [("2",)]
    assert asked(archive, "SELECT payload FROM orders WHERE key = 'k'")[0] == [("2",)]


def test_few_keys_do_not_read_everything(archive: Archive) -> None:
    archive.write([(f"k{n}", f'{{"n": {n + 1}}}', NOW_MS - n) for n in range(300)])
    archive.compact()
    sql = "SELECT b.key FROM orders a JOIN orders b ON b.key = 'k' || (a.payload ->> '$.n')"
    rows, tables = asked(archive, f"{sql} WHERE a.key IN ('k1', 'k5')")
    assert sorted(rows) == [("k2",), ("k6",)]
    assert not tables.scanned
    rows, tables = asked(archive, sql)
    assert len(rows) == 299
    assert tables.scanned == {"orders"}


def test_a_flipped_bit_anywhere_in_a_file_is_named(archive: Archive) -> None:
    archive.write([(f"k{n}", f'{{"n": {n}}}', NOW_MS - 1) for n in range(50)])
    archive.compact()
    (file,) = archive.files()
    path = archive.paths.file(file.name)
    sound, source = path.read_bytes(), random.Random(20261130)
    places = [
        0,
        3,
        len(sound) - 1,
        len(sound) - 5,
        *(source.randrange(len(sound)) for _ in range(60)),
    ]
    for place in places:
        body = bytearray(sound)
        body[place] ^= 1 << source.randrange(8)
        path.write_bytes(body)
        with pytest.raises(CorruptionError, match=file.name):
            asked(archive, "SELECT count(*) FROM orders")
    path.write_bytes(sound)
    assert asked(archive, "SELECT count(*) FROM orders")[0] == [(50,)]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_named_and_never_read(archive: Archive, damage: str) -> None:
    archive.write([(f"k{n}", "1", NOW_MS - 1) for n in range(50)])
    archive.compact()
    (file,) = archive.files()
    path = archive.paths.file(file.name)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 4
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(body if damage == "flip" else body[:-9])
    for sql in ("SELECT count(*) FROM orders", "SELECT payload FROM orders WHERE key = 'k3'"):
        with pytest.raises(CorruptionError, match=file.name):
            asked(archive, sql)


def test_a_row_that_is_archived_while_a_query_begins_is_in_one_of_both(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(layout: Layout, shard_count: int) -> HotRows:
        archive.compact()
        return HotRows(layout, shard_count)

    archive.write([("old", "1", NOW_MS - 5), ("new", "2", NOW_MS + HOUR_MS)])
    with monkeypatch.context() as patch:
        patch.setattr("litejoin.archive.tiers.HotRows", late)
        found, _ = asked(archive, "SELECT key FROM orders ORDER BY key")
    assert found == [("new",), ("old",)]
    assert [row[0] for row in archive.hot()] == ["new"]


def test_as_of_the_very_moment_of_a_row_it_is_there(archive: Archive) -> None:
    archive.write([("a", "1", NOW_MS - 5), ("hot", "1", NOW_MS + 5)])
    archive.compact()
    sql = "SELECT key FROM orders ORDER BY key"
    assert asked(archive, sql, NOW_MS - 6)[0] == []
    assert asked(archive, sql, NOW_MS - 5)[0] == [("a",)]
    assert asked(archive, sql, NOW_MS + 4)[0] == [("a",)]
    assert asked(archive, sql, NOW_MS + 5)[0] == [("a",), ("hot",)]


@pytest.mark.parametrize("where", ["", " WHERE key = 'a'"])
def test_a_row_that_is_not_what_was_written_is_never_shown(archive: Archive, where: str) -> None:
    archive.write([("a", "1", NOW_MS)])
    for connection in archive.store._connections:
        connection.execute(f"UPDATE t{archive.topic} SET payload = '2'")
    with pytest.raises(CorruptionError, match="the row of key 'a'"):
        asked(archive, f"SELECT payload FROM orders{where}")


def test_what_duckdb_reads_is_not_believed_without_its_checksum(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write([("a", "1", NOW_MS - 5)])
    archive.compact()
    read = DUCK.rows

    def wrong(*arguments: Any) -> Iterator[tuple[Any, ...]]:
        for key, _, *rest in read(*arguments):
            yield key, "2", *rest

    monkeypatch.setattr(DUCK, "rows", wrong)
    with pytest.raises(CorruptionError, match="the row of key 'a'"):
        asked(archive, "SELECT payload FROM orders")


def test_without_a_shard_no_query_over_all_rows_is_answered(archive: Archive) -> None:
    archive.write([("a", "1", NOW_MS - 5)])
    archive.compact()
    archive.store.quarantine.add(1, "for a test")
    with pytest.raises(CorruptionError, match="shard 1 is quarantined"):
        asked(archive, "SELECT payload FROM orders")
