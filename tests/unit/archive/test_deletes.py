"""A key that was deleted stays deleted, wherever its older versions are."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.archive import HOUR_MS, NOW_MS, Archive
from tests.unit.archive.test_tiers import asked

PAYLOADS = "SELECT key, payload FROM orders ORDER BY key"
ONE = "SELECT payload FROM orders WHERE key = 'k'"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "data")
    yield archive
    archive.close()


def shown(archive: Archive, as_of_ms: int | None = None) -> list[tuple[str, str]]:
    """All rows; found in the same way by scan and by key."""
    rows = asked(archive, PAYLOADS, as_of_ms)[0]
    keys = f"SELECT key, payload FROM orders WHERE key IN ('k', {', '.join(KEYS)}) ORDER BY key"
    assert asked(archive, keys, as_of_ms)[0] == rows
    return rows


KEYS = [f"'k{n}'" for n in range(12)]


def test_a_key_deleted_after_it_was_archived_stays_deleted(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9 * HOUR_MS), ("k1", "1", NOW_MS - 9 * HOUR_MS)])
    archive.compact(NOW_MS - 5 * HOUR_MS)
    archive.delete("k", time_ms=NOW_MS - 3 * HOUR_MS)
    assert shown(archive) == [("k1", "1")]
    archive.compact()
    assert archive.deletes() == []
    assert shown(archive) == [("k1", "1")]
    archive.worker.upkeep(NOW_MS + 5 * HOUR_MS)
    assert shown(archive) == [("k1", "1")]


def test_a_newer_version_that_is_deleted_shows_no_older_one(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9 * HOUR_MS)])
    archive.compact(NOW_MS - 5 * HOUR_MS)
    archive.write([("k", "2", NOW_MS)])
    archive.delete("k")
    assert shown(archive) == []


def test_a_key_that_came_back_is_there(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9 * HOUR_MS)])
    archive.compact(NOW_MS - 5 * HOUR_MS)
    archive.delete("k", time_ms=NOW_MS - 4 * HOUR_MS)
    archive.write([("k", "2", NOW_MS - 3 * HOUR_MS)])
    assert shown(archive) == [("k", "2")]
    # In one chunk: the delete, and the row that was written after it.
    archive.compact()
    assert (archive.hot(), archive.deletes()) == ([], [])
    assert shown(archive) == [("k", "2")]
    archive.delete("k")
    assert shown(archive) == []


def test_a_late_row_after_a_delete_is_not_hidden_by_it(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9 * HOUR_MS)])
    archive.compact(NOW_MS - 5 * HOUR_MS)
    archive.delete("k", time_ms=NOW_MS)
    archive.write([("k", "2", NOW_MS - 6 * HOUR_MS)])
    archive.compact(NOW_MS - 5 * HOUR_MS)
    assert archive.hot() == []
    assert shown(archive) == [("k", "2")]
    archive.compact()
    assert shown(archive) == [("k", "2")]


def test_a_delete_counts_from_its_own_time_on(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9 * HOUR_MS)])
    archive.compact(NOW_MS - 8 * HOUR_MS)
    archive.delete("k", time_ms=NOW_MS - 6 * HOUR_MS)
    for cutoff_ms in (NOW_MS - 7 * HOUR_MS, NOW_MS):
        archive.compact(cutoff_ms)
        assert shown(archive, NOW_MS - 7 * HOUR_MS) == [("k", "1")]
        assert shown(archive, NOW_MS - 5 * HOUR_MS) == []
        assert shown(archive) == []


def test_deleting_again_does_not_move_the_delete(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9 * HOUR_MS)])
    archive.compact(NOW_MS - 8 * HOUR_MS)
    archive.delete("k", time_ms=NOW_MS - 6 * HOUR_MS)
    archive.delete("k", time_ms=NOW_MS - 2 * HOUR_MS)
    assert shown(archive, NOW_MS - 5 * HOUR_MS) == []


def test_a_delete_between_a_file_and_the_deletion_of_its_rows_is_kept(archive: Archive) -> None:
    archive.write([("k", "1", NOW_MS - 9)])
    archive.worker.begin(archive.topic, NOW_MS)
    (file,) = archive.worker.chunk(archive.topic, NOW_MS)["files"]
    archive.delete("k", time_ms=NOW_MS - 9)
    archive.delete_rows_of(file)
    assert shown(archive) == []
    archive.compact()
    assert (archive.deletes(), shown(archive)) == ([], [])


def test_moving_a_row_leaves_no_delete(archive: Archive) -> None:
    archive.write([(f"k{n}", "1", NOW_MS) for n in range(12)])
    archive.compact()
    assert (archive.hot(), archive.deletes()) == ([], [])
    assert len(shown(archive)) == 12


def test_a_delete_of_many_chunks_is_moved_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", memory_limit_bytes=12 << 20)
    keys = [f"k{n}" + "x" * 900 for n in range(3000)]
    archive.delete(*keys)
    assert archive.compact() == 3000
    assert archive.deletes() == []
    assert len(archive.files()) > 2
    assert {(op, n) for (_, _, _, op), n in archive.archived().items()} == {("deleted", 1)}
    archive.close()


def test_a_topic_that_is_not_archived_keeps_no_deletes(archive: Archive) -> None:
    other = archive.store.create_topic("other")
    tables = {
        name
        for (name,) in archive.store.open_readers()[0].execute("SELECT name FROM sqlite_schema")
    }
    assert f"t{other}" in tables
    assert f"d{other}" not in tables


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_writes_deletes_and_moves_shows_what_was_written_last(
    archive: Archive, seed: int
) -> None:
    choose = random.Random(seed)
    rows: dict[str, str] = {}

    def change(step: int) -> None:
        key = f"k{choose.randrange(12)}"
        # Some come late, some with times to come.
        time_ms = NOW_MS + (step - 60 + choose.choice((0, 0, 0, -30, 5))) * HOUR_MS + step
        if choose.random() < 0.4:
            archive.delete(key, time_ms=time_ms)
            rows.pop(key, None)
        else:
            archive.write([(key, str(step), time_ms)])
            rows[key] = str(step)

    for step in range(0, 60, 3):
        for later in range(choose.randrange(3)):
            change(step + later)
        archive.worker.begin(archive.topic, NOW_MS + (step - 60 - choose.randrange(12)) * HOUR_MS)
        for file in archive.worker.chunk(archive.topic, NOW_MS)["files"]:
            change(step + 2)
            archive.delete_rows_of(file)
            assert shown(archive) == sorted(rows.items())
        if step % 20 == 18:
            archive.worker.upkeep(NOW_MS + choose.choice((0, 3)) * HOUR_MS)
    archive.compact()
    assert shown(archive) == sorted(rows.items())
