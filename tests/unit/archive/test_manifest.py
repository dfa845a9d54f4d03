"""The manifest's format: older ones are brought forward, newer ones are refused and left alone."""

from pathlib import Path

import apsw
import pytest

from litejoin.archive.manifest import FORMAT, Manifest
from litejoin.errors import StartRefusedError
from tests.harness.archive import Archive, round_rows


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
