"""The VFS that gathers the frames of a transaction: the same files as without it, and fewer writes.

What counts is what others see: a connection over SQLite's own VFS, and the bytes on the disk at any
moment, which is what kill -9 leaves.
"""

import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from litejoin._ext import wal_vfs
from litejoin.store.sqlite import load_native, open_database

PAGE_SIZES = (512, 1024, 4096, 65536)


class SeenVFS(apsw.VFS):
    """SQLite's own files below the gathering VFS: counts writes to logs, and fails on demand."""

    def __init__(self, name: str) -> None:
        self.writes = 0
        self.fails_at: int | None = None
        """Of the writes from here on, the one that fails."""
        self.error: type[apsw.Error] = apsw.IOError
        super().__init__(name, "")

    def xOpen(self, name: str, flags: list[int]) -> "SeenFile":
        return SeenFile(self, name, flags)

    def write(self) -> None:
        self.writes += 1
        if self.fails_at is not None:
            self.fails_at -= 1
            if self.fails_at < 0:
                self.fails_at = None
                raise self.error


class SeenFile(apsw.VFSFile):
    def __init__(self, vfs: SeenVFS, name: str, flags: list[int]) -> None:
        self._vfs, self._is_wal = vfs, bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._is_wal:
            self._vfs.write()
        super().xWrite(data, offset)


@pytest.fixture(scope="module")
def below() -> SeenVFS:
    """Stays registered: the VFS above it has its address."""
    load_native()
    made = SeenVFS("seen")
    wal_vfs.register("gathering", "seen")
    return made


@pytest.fixture
def seen(below: SeenVFS) -> Iterator[SeenVFS]:
    below.writes, below.fails_at, below.error = 0, None, apsw.IOError
    yield below
    below.fails_at = None


def opened(path: Path, vfs: str = "gathering", page_bytes: int = 4096) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.set_busy_timeout(5000)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v TEXT NOT NULL)")
    return connection


def put(connection: apsw.Connection, keys: range, value: str) -> None:
    connection.executemany("INSERT OR REPLACE INTO t VALUES(?, ?)", ((k, value) for k in keys))


def on_disk(path: Path, copies: Path) -> dict[int, str]:
    """The rows that a machine finds whose process was killed just now, by another SQLite."""
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    for file in (path, Path(f"{path}-wal")):
        if file.exists():
            shutil.copy(file, copies / file.name)
    with sqlite3.connect(copies / path.name) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = dict(connection.execute("SELECT k, v FROM t").fetchall())
    connection.close()
    return rows


def test_a_transaction_is_one_write(tmp_path: Path, seen: SeenVFS) -> None:
    connection = opened(tmp_path / "a.db")
    put(connection, range(100), "x")
    seen.writes = 0
    with connection:
        put(connection, range(100), "y" * 500)
    assert seen.writes == 1
    with connection:
        put(connection, range(5000), "z" * 500)  # 2.5 MB, by 120 KiB
    assert 20 <= seen.writes <= 30
    connection.close()


def test_every_page_size(tmp_path: Path, seen: SeenVFS) -> None:
    for page_bytes in PAGE_SIZES:
        path = tmp_path / f"{page_bytes}.db"
        connection = opened(path, page_bytes=page_bytes)
        for n in range(3):
            with connection:
                put(connection, range(2000), f"{n}" * 300)
            assert set(on_disk(path, tmp_path / "copy").values()) == {f"{n}" * 300}
        connection.close()


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
# apsw also shows what the failing file raised: the caller here is C, which cannot take it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_fails_is_told_by_the_commit(
    tmp_path: Path, seen: SeenVFS, error: type[apsw.Error]
) -> None:
    """Whichever write it is: nothing of the transaction is seen, and the next one goes on."""
    path, seen.error = tmp_path / "a.db", error
    connection = opened(path)
    with connection:
        put(connection, range(2000), "0" * 500)
    before, failed = "0" * 500, 0
    for failing in range(12):
        value = chr(ord("a") + failing) * 500
        connection.execute("BEGIN")
        seen.fails_at = failing
        try:
            put(connection, range(2000), value)
            connection.execute("COMMIT")
            before = value
        except error:
            failed += 1
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        seen.fails_at = None
        assert set(on_disk(path, tmp_path / "copy").values()) == {before}
        assert {v for (v,) in connection.execute("SELECT v FROM t")} == {before}
    assert failed >= 8
    connection.close()


@pytest.mark.parametrize("seed", range(6))
def test_any_history_leaves_what_sqlite_leaves(tmp_path: Path, seen: SeenVFS, seed: int) -> None:
    """Spilled pages, savepoints, rollbacks, checkpoints and logs that start again, in any order;
    after each step the disk, a reader beside it and a second writer see what was committed.
    """
    print(f"seed {seed}")
    rng, path = random.Random(seed), tmp_path / "a.db"
    page_bytes = rng.choice(PAGE_SIZES)
    connection = opened(path, page_bytes=page_bytes)
    connection.execute(f"PRAGMA synchronous = {rng.choice(['NORMAL', 'FULL'])}")
    connection.execute(f"PRAGMA cache_size = {rng.choice([2, 10, 2000])}")
    connection.execute(f"PRAGMA journal_size_limit = {rng.choice([-1, 0, 100_000])}")
    plain = opened(path, vfs="unix")
    rows: dict[int, str] = {}
    for step in range(60):
        rows = changed(rng, rng.choice([connection, connection, connection, plain]), rows, step)
        if rng.random() < 0.3:
            mode = rng.choice(
                [apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_RESTART,
                 apsw.SQLITE_CHECKPOINT_TRUNCATE]
            )  # fmt: skip
            rng.choice([connection, plain]).wal_checkpoint(mode=mode)
        assert dict(plain.execute("SELECT k, v FROM t").fetchall()) == rows, step
        assert dict(connection.execute("SELECT k, v FROM t").fetchall()) == rows, step
        assert on_disk(path, tmp_path / "copy") == rows, step
    connection.close()
    plain.close()


def changed(
    rng: random.Random, connection: apsw.Connection, rows: dict[int, str], step: int
) -> dict[int, str]:
    """One transaction of several statements, some of them undone; the rows after it."""
    after = dict(rows)
    connection.execute("BEGIN IMMEDIATE")
    for part in range(rng.randint(1, 4)):
        inner = dict(after)
        connection.execute("SAVEPOINT s")
        first, count = rng.randrange(3000), rng.choice([1, 10, 400])
        value = f"{step}.{part}" * rng.choice([1, 50, 300])
        put(connection, range(first, first + count), value)
        inner.update(dict.fromkeys(range(first, first + count), value))
        gone = rng.randrange(3000)
        connection.execute("DELETE FROM t WHERE k BETWEEN ? AND ?", (gone, gone + 50))
        inner = {k: v for k, v in inner.items() if not gone <= k <= gone + 50}
        if rng.random() < 0.3:
            connection.execute("ROLLBACK TO s")
        else:
            after = inner
        connection.execute("RELEASE s")
    if rng.random() < 0.2:
        connection.execute("ROLLBACK")
        return rows
    connection.execute("COMMIT")
    return after


def test_data_files_are_opened_with_it(tmp_path: Path) -> None:
    """Writers gather; readers use SQLite's own."""
    writer = open_database(tmp_path / "a.db")
    writer.execute("CREATE TABLE t(a)")
    reader = open_database(tmp_path / "a.db", readonly=True)
    assert writer.open_vfs == "litejoin"
    assert reader.open_vfs != "litejoin"
    reader.close()
    writer.close()


@pytest.mark.parametrize("vfs", ["litejoin", "gathering"])
def test_its_clock_is_that_of_the_system(tmp_path: Path, seen: SeenVFS, vfs: str) -> None:
    connection = opened(tmp_path / "a.db", vfs)
    before = time.time()
    now = connection.execute("SELECT unixepoch('now', 'subsec'), (julianday() - 2440587.5) * 86400")
    for seconds in now.fetchall()[0]:
        assert before - 0.01 <= seconds <= time.time() + 0.01
    assert connection.execute("SELECT length(randomblob(8)), changes()").get
    connection.close()


def test_an_unknown_base_is_refused() -> None:
    load_native()
    with pytest.raises(RuntimeError, match="over 'nothing'"):
        wal_vfs.register("another", "nothing")


def test_no_extension_is_loaded_through_it(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.db")
    connection.enable_load_extension(True)
    with pytest.raises(apsw.ExtensionLoadingError):
        connection.load_extension("nothing")
    connection.close()
