"""One SQLite in the process, new enough, and the same for Python and native code."""

import subprocess
import sys

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
