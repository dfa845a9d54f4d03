"""The manifest's format: older ones are brought forward, newer ones are refused and left alone."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from litejoin.archive.duck import Duck
from litejoin.archive.manifest import FORMAT, Manifest
from litejoin.archive.tiers import Tiers
from litejoin.errors import CorruptionError, StartRefusedError
from tests.harness.archive import NOW_MS, Archive, round_rows


def make_format_1(path: Path) -> None:
    """As the first version wrote it."""
    connection = apsw.Connection(str(path))
    connection.execute("ALTER TABLE files DROP COLUMN is_upload_begun")
    connection.execute("UPDATE meta SET value = 1 WHERE name = 'format'")
    connection.close()


def test_an_older_format_is_brought_forward(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.write(round_rows(0))
    archive.compact()
    before = archive.files()
    archive.close()
    make_format_1(archive.paths.manifest)
    with pytest.raises(StartRefusedError, match="format 1"):
        Manifest.read(archive.paths.manifest)
    again = Archive(tmp_path / "data")
    assert again.files() == before
    assert not any(file.is_upload_begun for file in before)
    again.close()


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.worker._manifest._connection.execute(
        "UPDATE meta SET value = ? WHERE name = 'format'", (FORMAT + 1,)
    )
    archive.close()
    before = archive.paths.manifest.read_bytes()
    for opened in (
        lambda: Manifest.open(archive.paths.manifest, archive.store.epoch),
        lambda: Manifest.read(archive.paths.manifest),
    ):
        with pytest.raises(StartRefusedError, match=f"format {FORMAT + 1}"):
            opened()
    assert archive.paths.manifest.read_bytes() == before


def test_the_archive_of_another_directory_is_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.close()
    with pytest.raises(StartRefusedError, match="another data_dir"):
        Manifest.open(archive.paths.manifest, "another epoch")


def compacted(root: Path, *numbers: int) -> Archive:
    """An archive of some rounds, closed."""
    archive = Archive(root)
    for number in numbers:
        archive.write(round_rows(number))
        archive.compact()
    archive.close()
    return archive


def listing(archive: Archive) -> list[str]:
    return sorted(str(path) for path in archive.paths.root.rglob("*.*"))


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_files_whose_manifest_is_gone_are_kept_and_told(
    tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    archive = compacted(tmp_path / "data", 0)
    lose(archive.paths.manifest)
    before = listing(archive)
    assert before
    with pytest.raises(StartRefusedError, match=r"manifest\.db is missing, and files"):
        Archive(tmp_path / "data")
    duck = Duck(64 << 20, None)
    with pytest.raises(StartRefusedError, match=r"manifest\.db is missing, and files"):
        Tiers(archive.store.layout, 2, duck)
    duck.close()
    assert listing(archive) == before


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    archive = compacted(tmp_path / "data", 0)
    archive.paths.manifest.write_bytes(b"no database" * 1000)
    with pytest.raises(CorruptionError, match=r"manifest\.db: file is not a database"):
        Manifest.read(archive.paths.manifest)


def test_files_newer_than_the_manifest_are_kept_and_told(tmp_path: Path) -> None:
    archive = compacted(tmp_path / "data", 0)
    older = archive.paths.manifest.read_bytes()
    compacted(tmp_path / "data", 1)
    archive.paths.manifest.write_bytes(older)
    before = listing(archive)
    with pytest.raises(StartRefusedError, match=r"is newer than archive/manifest\.db"):
        Archive(tmp_path / "data")
    assert listing(archive) == before


def test_files_that_a_lost_manifest_may_have_named_are_kept(tmp_path: Path) -> None:
    archive = compacted(tmp_path / "data", 0)
    older = archive.paths.manifest.read_bytes()
    compacted(tmp_path / "data", 1)
    archive.paths.manifest.write_bytes(older)  # as it comes back from the object store
    manifest = Manifest.join(archive.paths.manifest)
    manifest.skip_numbers()
    manifest.close()
    with pytest.raises(StartRefusedError, match=r"is newer than archive/manifest\.db"):
        Archive(tmp_path / "data")
    for path in set(archive.paths.present()) - {
        archive.paths.file(f.name) for f in archive.files()
    }:
        path.unlink()
    again = compacted(tmp_path / "data", 2)
    assert len(again.files()) == len(list(again.paths.present())) == 2


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    archive = compacted(tmp_path / "data", 0)
    folder = archive.paths.file(archive.files()[0].name).parent
    others = [folder / "mine.parquet", folder / "00000000-00000001.parquet"]
    for path in others:
        path.write_bytes(b"not ours")
    compacted(tmp_path / "data", 1)
    assert all(path.read_bytes() == b"not ours" for path in others)


def test_a_file_that_was_dropped_does_not_come_back_when_its_rows_are_gone(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.write(round_rows(0))
    archive.worker.begin(archive.topic, NOW_MS)
    (number,) = archive.worker.chunk(archive.topic, NOW_MS)["files"]
    archive.worker._manifest.drop([number], NOW_MS)
    archive.worker.settle(number)
    assert archive.files() == []
    archive.close()
