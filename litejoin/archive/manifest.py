"""The archive's manifest: its Parquet files, what is in them, and how far each has come.

A small SQLite database with full synchronous commits. Written by the archive's worker and, for what
becomes of the copies in an object store, by the process that makes them; read by queries, which see
one state of it. A file that is not listed is not part of the archive.

    files   one row a file; `name` is relative to the archive directory. `checksum` is the XOR of
            its rows' checksums, `hash` is XXH64 of its bytes, `seq` numbers compactions: of two
            versions of a key the one with the higher seq came later
    meta    'epoch' of the data directory, 'seq' and 'number': the last ones given out. After a copy
            was restored: 'lost_from' to 'lost_upto', the numbers that a lost one may have given out
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path

import apsw

from litejoin.archive import steps
from litejoin.archive.paths import ArchivePaths
from litejoin.errors import CorruptionError, StartRefusedError
from litejoin.store.files import create_private
from litejoin.store.sqlite import open_database, open_readonly


class FileState(IntEnum):
    """How far a file has come."""

    RECORDED = 1
    """It is part of the archive; SQLite may still have its rows, too."""
    SETTLED = 2
    """Its rows are gone from SQLite, but for those that were written again."""
    DROPPED = 3
    """Not part of the archive any more: its rows are in another file, or too old. Still on disk for
    readers that began earlier."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One row of `files`."""

    id: int
    topic: int
    day: int
    name: str
    rows: int
    bytes: int
    hash: int
    checksum: int
    min_key: str
    max_key: str
    min_ms: int
    max_ms: int
    min_seq: int
    max_seq: int
    created_ms: int
    state: FileState = FileState.RECORDED
    dropped_ms: int = 0
    is_local: bool = True
    is_uploaded: bool = False
    """The object store has a copy that was read back."""
    is_upload_begun: bool = False
    """The object store may have something under the file's name."""


_COLUMNS = tuple(field.name for field in fields(ArchiveFile))
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS files(id INTEGER PRIMARY KEY, {", ".join(_COLUMNS[1:])}, UNIQUE(name));
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
"""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM files"
_FLAGS = ("is_local", "is_uploaded", "is_upload_begun")
FORMAT = 2
_STEPS = {1: "ALTER TABLE files ADD COLUMN is_upload_begun DEFAULT 0"}
"""What makes the next format of each older one."""

LOST_NUMBERS = 100_000
"""More than are given out between two copies of the manifest."""


class Manifest:
    """An open manifest. One thread at a time; every method blocks on the disk."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path, epoch: str) -> "Manifest":
        """For the one writer; made if it is new. Raises StartRefusedError for another directory's
        archive, and where files are there that only a manifest that is gone knows.
        """
        refuse_without_manifest(path)
        if not path.exists():
            create_private(path)
        manifest = cls.join(path)
        connection = manifest._connection
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        with connection:
            connection.execute(_SCHEMA)
            rows = (("epoch", epoch), ("seq", 0), ("number", 0), ("format", FORMAT))
            connection.executemany("INSERT OR IGNORE INTO meta VALUES(?, ?)", rows)
        if manifest.meta("epoch") != epoch:
            connection.close()
            raise StartRefusedError(
                f"{path} is the archive of another data_dir",
                hint="move the archive directory away, or restore the data_dir it belongs to",
            )
        manifest._migrate(path)
        return manifest

    @classmethod
    def join(cls, path: Path) -> "Manifest":
        """For a second writer, while the first is there."""
        connection = open_database(path, create=False)
        # A transaction that reads first could otherwise not write after the other writer did.
        connection.transaction_mode = "IMMEDIATE"
        connection.execute("PRAGMA synchronous = FULL")
        return cls(connection)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """For readers. Raises CorruptionError for a file that is none, and StartRefusedError for
        another format.
        """
        try:
            manifest = cls(open_readonly(path))
            found = manifest.meta("format")
        except apsw.Error as error:
            raise CorruptionError(f"{path}: {error}", hint="put manifest.db back") from error
        if found != FORMAT:
            manifest.close()
            raise _other_format(path, found)
        return manifest

    def _migrate(self, path: Path) -> None:
        """Bring an older format forward, in one transaction."""
        with self._connection:
            found = self.meta("format")
            while found in _STEPS:
                self._connection.execute(_STEPS[_number(found)])
                found = 1 + _number(found)
                self._connection.execute(
                    "UPDATE meta SET value = ? WHERE name = 'format'", (found,)
                )
        if found != FORMAT:
            self.close()
            raise _other_format(path, found)

    @property
    def epoch(self) -> str:
        """The epoch of the data directory."""
        return str(self.meta("epoch"))

    def meta(self, name: str) -> object:
        """A value of `meta`."""
        return self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get

    def files(self, *states: FileState, topic: int | None = None) -> list[ArchiveFile]:
        """Files in some states, oldest compaction first; without states those that queries read."""
        marks = ", ".join(map(str, map(int, states or (FileState.RECORDED, FileState.SETTLED))))
        sql = f"{_SELECT} WHERE state IN ({marks}) AND topic = coalesce(?, topic) ORDER BY id"
        return [_file(row) for row in self._connection.execute(sql, (topic,))]

    def file(self, number: int) -> ArchiveFile:
        """One file. Raises KeyError."""
        row = self._connection.execute(f"{_SELECT} WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise KeyError(number)
        return _file(row)

    def write_copy(self, path: Path) -> None:
        """Write all of it, as of now, into a new file."""
        self._connection.execute("VACUUM INTO ?", (str(path),))

    def skip_numbers(self) -> None:
        """Give out no number again that a newer manifest, which was lost, may have given out."""
        sql = "UPDATE meta SET value = value + ? WHERE name IN ('seq', 'number')"
        with self._connection:
            last = _number(self.meta("number"))
            lost = (("lost_from", last + 1), ("lost_upto", last + LOST_NUMBERS))
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", lost)
            self._connection.execute(sql, (LOST_NUMBERS,))

    def gave_out(self, number: int) -> bool:
        """False for the number of a file that only a newer manifest, which was lost, can know."""
        lost_from, lost_upto = self.meta("lost_from"), self.meta("lost_upto")
        if lost_from is not None and _number(lost_from) <= number <= _number(lost_upto):
            return False
        return number <= _number(self.meta("number"))

    def is_dropped(self, number: int) -> bool:
        """True when the file is not part of the archive any more."""
        sql = "SELECT 1 FROM files WHERE id = ? AND state <> ?"
        return self._connection.execute(sql, (number, int(FileState.DROPPED))).get is None

    def names(self) -> set[str]:
        """The names of all files, dropped ones too."""
        return {str(name) for (name,) in self._connection.execute("SELECT name FROM files")}

    def next_seq(self) -> int:
        """The seq of the next compaction; given out when its files are recorded."""
        return 1 + _number(self.meta("seq"))

    def next_number(self) -> int:
        """The number of the next file, given out at once and never again."""
        with self._connection:
            number = 1 + _number(self.meta("number"))
            self._connection.execute("UPDATE meta SET value = ? WHERE name = 'number'", (number,))
        return number

    def record(self, files: Sequence[ArchiveFile], replaced: Iterable[int], now_ms: int) -> None:
        """Make files part of the archive, and drop those whose rows they have: one transaction."""
        marks = ", ".join("?" for _ in _COLUMNS)
        steps.reached("begin")
        with self._connection:
            for file in files:
                values = tuple(getattr(file, name) for name in _COLUMNS)
                self._connection.execute(f"INSERT INTO files VALUES({marks})", values)
                sql = "UPDATE meta SET value = max(value, ?) WHERE name = 'seq'"
                self._connection.execute(sql, (file.max_seq,))
            self._set_dropped(replaced, now_ms)
            steps.reached("commit")
        steps.reached("committed")

    def drop(self, numbers: Iterable[int], now_ms: int) -> None:
        """Files that are not part of the archive any more."""
        steps.reached("begin")
        with self._connection:
            self._set_dropped(numbers, now_ms)
            steps.reached("commit")
        steps.reached("committed")

    def _set_dropped(self, numbers: Iterable[int], now_ms: int) -> None:
        sql = "UPDATE files SET state = ?, dropped_ms = ? WHERE id = ?"
        values = ((int(FileState.DROPPED), now_ms, number) for number in numbers)
        self._connection.executemany(sql, values)

    def settle(self, number: int) -> None:
        """SQLite no longer has the file's rows."""
        sql = "UPDATE files SET state = ? WHERE id = ? AND state = ?"
        values = (int(FileState.SETTLED), number, int(FileState.RECORDED))
        steps.reached("commit")
        self._connection.execute(sql, values)
        steps.reached("committed")

    def begin_upload(self, number: int) -> bool:
        """Note that an object of the file may be there from now on; False when the file was dropped
        meanwhile.
        """
        sql = "UPDATE files SET is_upload_begun = 1 WHERE id = ? AND state <> ?"
        steps.reached("commit")
        self._connection.execute(sql, (number, int(FileState.DROPPED)))
        steps.reached("committed")
        return self._connection.changes() == 1

    def set_uploaded(self, number: int) -> None:
        """The copy in the object store was read back, and is what the file is."""
        steps.reached("commit")
        self._connection.execute("UPDATE files SET is_uploaded = 1 WHERE id = ?", (number,))
        steps.reached("committed")

    def set_removed(self, number: int, *, local: bool) -> None:
        """The local file, or else the object, is gone. A dropped file without both is forgotten."""
        gone = "is_local = 0" if local else "is_uploaded = 0, is_upload_begun = 0"
        steps.reached("commit")
        with self._connection:
            self._connection.execute(f"UPDATE files SET {gone} WHERE id = ?", (number,))
            sql = (
                "DELETE FROM files WHERE id = ? AND state = ? AND NOT is_local"
                " AND NOT is_upload_begun"
            )
            self._connection.execute(sql, (number, int(FileState.DROPPED)))
        steps.reached("committed")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def refuse_without_manifest(path: Path) -> None:
    """Raise StartRefusedError where there are files and no manifest: what is in them is unknown."""
    is_there = path.exists() and (path.stat().st_size > 0 or not path.is_file())
    if not is_there and any(ArchivePaths(path.parent).present()):
        raise StartRefusedError(
            f"{path} is missing, and files of the archive are there",
            hint="put manifest.db back, or move the files away to do without their rows",
        )


def _file(row: Sequence[object]) -> ArchiveFile:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = FileState(_number(values["state"]))
    values.update({name: bool(values[name]) for name in _FLAGS})
    return ArchiveFile(**values)  # type: ignore[arg-type]


def _other_format(path: Path, found: object) -> StartRefusedError:
    return StartRefusedError(
        f"{path} has format {found!r}; this version reads format {FORMAT}",
        hint="use the version that made it, or a newer one",
    )


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value
