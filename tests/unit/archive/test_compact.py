"""Expired rows go into verified files and only then out of SQLite, version by version."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin._ext.route import shard_of
from litejoin.archive.manifest import FileState
from litejoin.errors import StorageError, StorageFullError, StorageIOError
from litejoin.records import Row, RowKind, pack_rows
from tests.harness.archive import HOUR_MS, NOW_MS, Archive, round_rows

DAY_MS = 24 * HOUR_MS


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "data")
    yield archive
    archive.close()


def test_only_expired_rows_move(archive: Archive) -> None:
    archive.write([("old", '{"a":1}', NOW_MS - 5), ("edge", "2", NOW_MS), ("new", "3", NOW_MS + 1)])
    assert archive.compact() == 2
    assert archive.hot() == [("new", "3", NOW_MS + 1, "created")]
    assert archive.archived() == {
        ("old", '{"a":1}', NOW_MS - 5, "created"): 1,
        ("edge", "2", NOW_MS, "created"): 1,
    }
    assert {file.state for file in archive.files()} == {FileState.SETTLED}
    assert archive.compact() == 0


def test_files_are_their_owners_alone(archive: Archive, tmp_path: Path) -> None:
    archive.write([("old", "1", NOW_MS - 5)])
    archive.compact()
    (path,) = tmp_path.rglob("*.parquet")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_of_one_topic_and_day_and_in_order_of_keys(archive: Archive) -> None:
    archive.write([(f"k{n}", "1", NOW_MS - n * DAY_MS // 10) for n in range(50)])
    archive.compact()
    files = archive.files()
    assert len({file.day for file in files}) == len(files) > 4
    assert sum(file.rows for file in files) == 50
    for file in files:
        assert file.min_ms // DAY_MS == file.max_ms // DAY_MS == file.day
        assert file.name.startswith(f"t{archive.topic}/20")


def test_values_come_out_as_they_went_in(archive: Archive) -> None:
    rows = [("é", '{"ü":"\\u0000 x"}', -1), ("日本", "", -DAY_MS), ("'", "1e400", NOW_MS)]
    archive.write(rows)
    archive.compact()
    assert archive.archived() == {(*row, "created"): 1 for row in rows}


def test_changes_and_checksums_are_kept(archive: Archive) -> None:
    row = Row(archive.topic, RowKind.UPSERT, 5, b"k", b'{"a":2}', b'{"a":[1,2]}')
    archive.store.flush([pack_rows([row])])
    archive.compact()
    (file,) = archive.files()
    assert file.checksum != 0
    assert archive.hot() == []


def test_a_row_written_again_meanwhile_stays(archive: Archive) -> None:
    archive.write([("a", "1", NOW_MS - 9), ("b", "1", NOW_MS - 9)])
    archive.worker.begin(archive.topic, NOW_MS)
    (number,) = archive.worker.chunk(archive.topic, NOW_MS)["files"]
    # As old as what was archived, or older: only the version tells.
    archive.write([("a", "2", NOW_MS - 9), ("b", "2", NOW_MS - 99)])
    archive.delete_rows_of(number)
    kept = [("a", "2", NOW_MS - 9, "updated"), ("b", "2", NOW_MS - 99, "updated")]
    assert archive.hot() == kept
    archive.compact()
    assert archive.hot() == []
    assert set(kept) < set(archive.archived())


def test_a_quarantined_shard_is_left_out(archive: Archive) -> None:
    archive.write(round_rows(0))
    archive.worker.begin(archive.topic, NOW_MS, [1])
    archive.worker.chunk(archive.topic, NOW_MS)
    moved = {key for key, *_ in archive.archived()}
    assert moved == {key for key, *_ in archive.hot() if shard_of(key.encode(), 2) == 0}


def test_many_chunks_move_each_row_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", memory_limit_bytes=12 << 20)
    payload = '"' + "x" * 900 + '"'
    archive.write([(f"k{n}", payload, NOW_MS - n) for n in range(4000)])
    assert archive.compact() == 4000
    assert len(archive.files()) > 2
    assert archive.hot() == []
    assert set(archive.archived().values()) == {1}
    archive.close()


def test_a_round_finds_no_row_twice_that_is_not_deleted_yet(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", memory_limit_bytes=12 << 20)
    payload = '"' + "x" * 900 + '"'
    archive.write([(f"k{n}", payload, NOW_MS - n) for n in range(4000)])
    archive.worker.begin(archive.topic, NOW_MS)
    chunks = [archive.worker.chunk(archive.topic, NOW_MS)]
    while not chunks[-1]["is_last"]:
        chunks.append(archive.worker.chunk(archive.topic, NOW_MS))
        assert len(chunks) < 20
    assert len(chunks) > 2
    assert sum(chunk["rows"] for chunk in chunks) == 4000
    assert set(archive.archived().values()) == {1}
    archive.close()


def test_a_damaged_row_stays_and_is_named(archive: Archive) -> None:
    archive.write([("good", "1", 1), ("bad", "1", 1)])
    for connection in archive.store._connections:
        connection.execute(f"UPDATE t{archive.topic} SET payload = '2' WHERE key = 'bad'")
    archive.worker.begin(archive.topic, NOW_MS)
    chunks = [archive.worker.chunk(archive.topic, NOW_MS)]
    while not chunks[-1]["is_last"]:
        chunks.append(archive.worker.chunk(archive.topic, NOW_MS))
    assert [key for chunk in chunks for key in chunk["damaged"]] == ["bad"]
    for chunk in chunks:
        for number in chunk["files"]:
            archive.delete_rows_of(number)
    assert [row[0] for row in archive.hot()] == ["bad"]


@pytest.mark.parametrize("errno, kind", [(28, StorageFullError), (5, StorageIOError)])
def test_a_failed_fsync_loses_nothing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, errno: int, kind: type[StorageError]
) -> None:
    archive.write([("a", "1", 1)])

    def fail(fd: int) -> None:
        raise OSError(errno, "no")

    with monkeypatch.context() as patch:
        patch.setattr("litejoin.archive.files.os.fsync", fail)
        with pytest.raises(kind):
            archive.compact()
    assert archive.files() == []
    assert list(archive.paths.temporary.iterdir()) == []
    assert len(archive.hot()) == 1
    archive.compact()
    assert len(archive.archived()) == 1
    assert archive.hot() == []


def test_a_file_is_durable_by_content_and_name_before_it_is_recorded(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write([("a", "1", 1)])
    seen: list[str] = []

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        seen.append(f"sync {path.relative_to(archive.paths.root)}")

    with monkeypatch.context() as patch:
        patch.setattr("litejoin.archive.files.os.fsync", fsync)
        patch.setattr("litejoin.archive.steps.reached", seen.append)
        archive.compact()
    (file,) = archive.files()
    day, topic = Path(file.name).parent, Path(file.name).parent.parent
    assert seen[: seen.index("begin")] == [
        "write", "written", "sync tmp/1.parquet", "fsynced",
        "sync .", f"sync {topic}", "rename", "renamed", f"sync {day}", "synced",
    ]  # fmt: skip


def test_a_file_that_is_not_what_was_read_is_not_recorded(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write([("a", "1", 1), ("b", "1", 1)])
    with monkeypatch.context() as patch:
        patch.setattr("litejoin.archive.compact.xor", lambda a, b: 7)
        with pytest.raises(StorageError, match="re-read"):
            archive.compact()
    assert archive.files() == []
    assert len(archive.hot()) == 2


def test_small_files_become_one(archive: Archive) -> None:
    for number in range(9):
        archive.write(round_rows(number))
        archive.compact()
    before = archive.archived()
    assert len(archive.files()) == 9
    assert archive.worker.upkeep(NOW_MS)["merged"] == 9
    assert len(archive.files()) == 1
    assert archive.archived() == before
    on_disk = len(list(archive.paths.root.glob("t*/*/*.parquet")))
    assert on_disk == 10  # readers that began before may still open the old ones
    archive.worker.upkeep(NOW_MS + HOUR_MS)
    assert len(list(archive.paths.root.glob("t*/*/*.parquet"))) == 1


def test_old_files_go_when_no_copy_is_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", local_retention_ms=10 * HOUR_MS)
    archive.write(round_rows(0))
    archive.compact()
    assert archive.worker.upkeep(NOW_MS + 10 * HOUR_MS - 1)["dropped"] == 0
    assert archive.worker.upkeep(NOW_MS + 10 * HOUR_MS)["dropped"] > 0
    assert archive.files() == []
    archive.worker.upkeep(NOW_MS + 11 * HOUR_MS)
    assert list(archive.paths.root.glob("t*/*/*.parquet")) == []
    archive.close()


def test_a_lost_file_is_named_at_the_next_start(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.write(round_rows(0))
    archive.compact()
    lost = archive.files()[0]
    archive.paths.file(lost.name).unlink()
    archive.close()
    again = Archive(tmp_path / "data")
    assert again.opened["missing"] == [lost.name]
    again.close()


def test_a_file_whose_rows_sqlite_still_has_is_left_alone(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", local_retention_ms=HOUR_MS)
    for number in range(9):
        archive.write(round_rows(number))
        archive.worker.begin(archive.topic, NOW_MS)
        while not archive.worker.chunk(archive.topic, NOW_MS)["is_last"]:
            pass
    before = archive.files()
    assert {file.state for file in before} == {FileState.RECORDED}
    done = archive.worker.upkeep(NOW_MS + 11 * HOUR_MS)
    assert (done["merged"], done["dropped"]) == (0, 0)
    assert archive.files() == before
    archive.close()


def test_where_copies_are_kept_no_local_file_goes_without_one(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data", local_retention_ms=HOUR_MS, keeps_copies=True)
    archive.write(round_rows(0))
    archive.compact()
    assert archive.worker.upkeep(NOW_MS + 11 * HOUR_MS)["dropped"] == 0
    for file in archive.files():
        assert file.is_local and archive.paths.file(file.name).exists()
    archive.close()


def test_a_file_that_was_renamed_and_not_recorded_is_deleted_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("cut short")

    archive = Archive(tmp_path / "data")
    archive.write([("a", "1", NOW_MS)])
    with monkeypatch.context() as patch:
        patch.setattr("litejoin.archive.manifest.Manifest.record", fail)
        with pytest.raises(StorageError, match="cut short"):
            archive.compact()
    (orphan,) = archive.paths.root.glob("t*/*/*.parquet")
    archive.close()
    again = Archive(tmp_path / "data")
    assert not orphan.exists()
    assert again.opened["missing"] == []
    assert len(again.hot()) == 1
    again.close()


def test_rows_that_were_not_deleted_before_a_restart_are_deleted_after_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.write(round_rows(0))
    archive.worker.begin(archive.topic, NOW_MS)
    numbers = archive.worker.chunk(archive.topic, NOW_MS)["files"]
    archive.close()
    again = Archive(tmp_path / "data")
    assert again.opened["pending"] == numbers
    again.settle_pending()
    assert again.hot() == []
    assert {file.state for file in again.files()} == {FileState.SETTLED}
    again.close()
