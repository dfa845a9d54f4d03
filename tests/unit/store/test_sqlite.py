"""One SQLite in the process, new enough, and the same for Python and native code."""

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from litejoin._ext import bridge
from litejoin.errors import StartRefusedError
from litejoin.store import sqlite


def test_native_modules_see_apsws_sqlite() -> None:
    sqlite.load_native()
    assert bridge.source_id() == apsw.sqlite3_sourceid()


def test_an_old_sqlite_is_refused_with_the_way_out() -> None:
    with pytest.raises(StartRefusedError, match=r"3\.40\.1 is too old: 3\.51\.3") as error:
        sqlite.check_version("3.40.1")
    assert "apsw" in error.value.hint
    sqlite.check_version("3.51.3")
    sqlite.check_version("4.0.0")


def test_a_second_copy_of_sqlite_is_refused() -> None:
    with pytest.raises(StartRefusedError, match="two copies"):
        sqlite.check_source_id("2026-10-16 a", "2022-12-28 b")


def test_a_read_only_connection_cannot_write(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.db"
    writer = sqlite.open_database(path)
    writer.execute("CREATE TABLE t(a)")
    reader = sqlite.open_readonly(path)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("INSERT INTO t VALUES(1)")
    reader.close()
    writer.close()


def test_the_standard_librarys_sqlite_is_never_imported() -> None:
    code = (
        "import sys, litejoin.store.sqlite as s; s.load_native(); "
        "sys.exit('sqlite3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def logged(path: Path) -> None:
    """A file whose newest row is in its write-ahead log only, as a copy of a live one has it."""
    connection = sqlite.open_database(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES(1)")
    connection.wal_checkpoint()
    connection.execute("INSERT INTO t VALUES(2)")
    copies = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
    connection.close()
    for name, content in copies.items():
        path.with_name(path.name + name).write_bytes(content)


def test_a_log_without_its_index_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    logged(path)
    connection = sqlite.open_untouched(path, tmp_path / "d.db-wal")
    assert connection.execute("SELECT count(*) FROM t").get == 2
    connection.close()


def test_a_file_on_read_only_media_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.db"
    connection = sqlite.open_database(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES(1), (2)")
    connection.close()
    asked: list[object] = []
    monkeypatch.setattr(sqlite.os, "access", lambda *of: bool(asked.append(of)))
    reader = sqlite.open_readonly(path)
    assert reader.execute("SELECT count(*) FROM t").get == 2
    assert list(tmp_path.iterdir()) == [path]
    assert asked == [(tmp_path, os.W_OK)]
    reader.close()
