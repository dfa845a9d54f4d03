"""SQLite's and the system's errors as ours, for the paths that go through apsw or plain files."""

import errno

import apsw

from litejoin.errors import CorruptionError, StorageError, StorageFullError, StorageIOError

_CORRUPT = (apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB)


def storage_error(error: apsw.Error, shard: int) -> StorageError:
    """The error of our tree for one of apsw's, with SQLite's extended code."""
    extended = getattr(error, "extendedresult", 0)
    primary = extended & 0xFF
    text = f"shard {shard}: {error} (SQLite {extended})"
    if primary == apsw.SQLITE_FULL:
        return StorageFullError(
            text,
            extended=extended,
            shard=shard,
            hint="free disk space; writing goes on by itself",
        )
    if primary == apsw.SQLITE_IOERR:
        return StorageIOError(
            text, extended=extended, shard=shard, hint="check the disk (dmesg), then start again"
        )
    if primary in _CORRUPT:
        return CorruptionError(
            text, extended=extended, shard=shard, hint="restore the shard's file from a backup"
        )
    return StorageError(text, extended=extended, shard=shard)


def read_error(error: apsw.Error, shard: int) -> StorageError:
    """`storage_error` for reading: a page that the disk does not give back is damage to that shard,
    and no commit is in doubt.
    """
    found = storage_error(error, shard)
    if isinstance(found, StorageIOError):
        return CorruptionError(str(found), extended=found.extended, shard=shard, hint=found.hint)
    return found


def file_error(error: OSError, what: str) -> StorageError:
    """The error of our tree for a failed write of a small file."""
    text = f"{what}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(text, hint="free disk space; writing goes on by itself")
    return StorageIOError(text, hint="check the disk (dmesg), then start again")
