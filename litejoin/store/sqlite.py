"""The one SQLite of the process: apsw's, shared with the native modules.

Every connection to a data file is opened here. Two copies of SQLite in one process break POSIX
locks (closing one copy's file handle drops the other's), so nothing else may open a data file: not
the standard library's module, not DuckDB, not a plain open().
"""

import os
import threading
from pathlib import Path
from urllib.parse import quote

import apsw

from litejoin._ext import bridge, wal_vfs
from litejoin.errors import StartRefusedError

MINIMUM_VERSION = (3, 51, 3)
"""Older ones have the WAL-reset bug: a write and a checkpoint at once can corrupt a file."""

BUSY_TIMEOUT_MS = 5_000
"""Only admin connections ever wait: each file has one writer. Enough for a checkpoint to end."""

REPLICATED_BUSY_TIMEOUT_MS = 60_000
"""Where Litestream writes beside us: when it has to start a long log again, it holds the file's
write lock while it copies the whole file once."""

QUERY_VALUE_BYTES = 64 * 1024 * 1024
"""The longest value that a user's query may read or make: printf('%*d', ...) and its kin would fill
the memory with a width that a message names. As much as one result may have: native joins, which
ask no query, know no other bound, and levels must agree."""

WRITING_VFS = "litejoin"
"""Of connections that write: the frames of a transaction go to the log together."""

_load_lock = threading.Lock()


def load_native() -> None:
    """Load SQLite's routine table for the native modules, once; refuse a SQLite that is too old.

    Raises StartRefusedError. Not blocking for longer than a shared object's load.
    """
    with _load_lock:
        if bridge.api_pointer():
            return
        check_version(apsw.sqlite_lib_version())
        # Allocation statistics take a process-wide mutex on every malloc: two writer threads would
        # queue there. They can only be switched off while SQLite is shut down, so never under an
        # embedder's open connections.
        if not apsw.connections():
            apsw.shutdown()
            apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, False)
            apsw.initialize()
        connection = apsw.Connection(":memory:")
        try:
            connection.enable_load_extension(True)
            connection.load_extension(bridge.__file__, bridge.ENTRY_POINT)
        finally:
            connection.close()
        check_source_id(apsw.sqlite3_sourceid(), bridge.source_id())
        wal_vfs.register(WRITING_VFS)


def check_version(version: str) -> None:
    """Raises StartRefusedError when `version` ("3.54.1") is older than MINIMUM_VERSION."""
    if tuple(int(part) for part in version.split(".")[:3]) < MINIMUM_VERSION:
        raise StartRefusedError(
            f"SQLite {version} is too old: {'.'.join(map(str, MINIMUM_VERSION))} or newer is "
            "needed",
            hint="pip install --upgrade apsw",
        )


def check_source_id(ours: str, native: str) -> None:
    """Raises StartRefusedError when the native modules would run on another SQLite than apsw's."""
    if ours != native:
        raise StartRefusedError(
            f"two copies of SQLite in one process: apsw has {ours!r}, the native modules see "
            f"{native!r}",
            hint="rebuild litejoin in this environment: pip install --force-reinstall litejoin",
        )


def open_database(
    path: Path | str, *, readonly: bool = False, create: bool = True
) -> apsw.Connection:
    """Open a data file for one thread at a time. Raises apsw.CantOpenError and friends."""
    load_native()
    flags, vfs = apsw.SQLITE_OPEN_NOMUTEX, None
    if readonly:
        flags |= apsw.SQLITE_OPEN_READONLY
    else:
        flags |= apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        vfs = WRITING_VFS
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def open_readonly(path: Path | str) -> apsw.Connection:
    """Open an existing data file for reading only; on media that cannot be written, too."""
    file = Path(path)
    if os.access(file.parent, os.W_OK):
        connection = open_database(file, readonly=True)
    else:
        connection = open_untouched(file, file.with_name(file.name + "-wal"))
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_untouched(path: Path, wal: Path) -> apsw.Connection:
    """Open an existing data file so that nothing beside it is made or changed, not even its -shm.

    A file whose daemon lives, or was killed, has a -shm: it is read as it is, and SQLite makes an
    index of the -wal in memory where it cannot trust it. After a clean end there is no -wal. A copy
    may have a -wal without its -shm: without one SQLite would not see what is in it, and makes it.
    """
    load_native()
    shm = wal.with_name(wal.name.removesuffix("-wal") + "-shm")
    if shm.exists():
        options = "mode=ro&readonly_shm=1"
    elif wal.exists() and wal.stat().st_size:
        options = "mode=ro"
    else:
        options = "immutable=1"
    flags = apsw.SQLITE_OPEN_NOMUTEX | apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"file:{quote(str(path.absolute()))}?{options}", flags=flags)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def open_memory() -> apsw.Connection:
    """An in-memory database: the host of topic tables and user queries, which never sees a file."""
    connection = open_database(":memory:")
    bound_values(connection)
    return connection


def bound_values(connection: apsw.Connection) -> None:
    """Let a connection for user queries refuse values over QUERY_VALUE_BYTES ("too big")."""
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, QUERY_VALUE_BYTES)
