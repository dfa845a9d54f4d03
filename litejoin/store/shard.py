"""One shard file: how it is created, opened and checked, and what its tables look like.

    t<N>(id INTEGER PRIMARY KEY, key TEXT, payload TEXT, timestamp_ms INTEGER, op INTEGER,
         changes TEXT, checksum INTEGER)                 topic N: the latest message per key
      t<N>_key(key) unique, t<N>_time(timestamp_ms) where retention needs it
    d<N>(as t<N>)                                        keys of topic N that were deleted, where
      d<N>_key(key) unique, d<N>_time(timestamp_ms)      it is archived; op 3, and no payload
    s<N>(id INTEGER PRIMARY KEY, key TEXT, hash BLOB, payload TEXT, checksum INTEGER)
      s<N>_key(key) unique                               diff state of api source N
    batches(seq INTEGER PRIMARY KEY, body BLOB, checksum INTEGER)
                                                         change rows of each transaction
    meta(name TEXT PRIMARY KEY, value)                   epoch and number of the shard; t<N> and
                                                         s<N>: whose table that is

`op` is 1 created, 2 updated: whether the topic had the key before the flush that wrote it.
`checksum` of a row is that of _ext/rowsum.h; of a batch record it is XXH64 of the body with `seq`
as seed. The explicit ids keep VACUUM from renumbering rows. Opened by the store only; rows are
written by `_ext.batch` only.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apsw

from litejoin.errors import CorruptionError, StartRefusedError
from litejoin.store.checkpoint import limit_log
from litejoin.store.failures import read_error
from litejoin.store.files import create_private
from litejoin.store.layout import wal_of
from litejoin.store.sqlite import REPLICATED_BUSY_TIMEOUT_MS, open_database, open_readonly

Synchronous = Literal["full", "normal"]

PAGE_BYTES = 4096
WRITER_CACHE_KIB = 1024
"""Holds the pages that one transaction dirties; more spills to the WAL early, as gathered
frames. Twice as much brought 3 % on backlogs of random keys; 16 MB a shard 2 % more. Used only
under load."""

READER_CACHE_KIB = 512
"""The upper levels of a shard's trees: a reader drops what it has cached with every flush."""

APPLICATION_ID = 0x4C4A5348  # "LJSH"

DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.IOError)
"""What SQLite raises for a file that is not what was written."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which shard of which data directory a file is; written into it."""

    number: int
    epoch: str


def open_writer(
    path: Path,
    identity: Identity,
    synchronous: Synchronous,
    *,
    create: bool,
    keeps_log: bool = False,
) -> apsw.Connection:
    """The one connection that writes the shard. `create` makes what is missing, private to its
    owner; with `keeps_log` closing it leaves the write-ahead log as it is.

    Raises StartRefusedError when the file cannot be opened or is another shard's, CorruptionError
    when it is damaged; without `create` it is as before then.
    """
    try:
        with ExitStack() as undo:
            if create and not path.exists():
                create_private(path)
            connection = open_database(path, create=False)
            undo.callback(connection.close)
            # Until it is known to be sound: closing must not copy a damaged WAL back. Without one
            # it shall leave nothing behind.
            keep_wal = wal_of(path).exists()
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep_wal)
            if create:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                # Of a file that has tables this changes nothing.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                initialize(connection, identity)
            check_identity(connection, path, identity)
            _tune_writer(connection, synchronous)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps_log)
            if keeps_log:
                connection.set_busy_timeout(REPLICATED_BUSY_TIMEOUT_MS)
            undo.pop_all()
    except DAMAGED as error:
        raise read_error(error, identity.number) from error
    except (apsw.Error, OSError) as error:
        raise StartRefusedError(
            f"shard {path}: {error}", hint="check the file's owner, or restore it from a backup"
        ) from error
    return connection


def _tune_writer(connection: apsw.Connection, synchronous: Synchronous) -> None:
    # Checkpoints run on a thread of their own; inside a commit they are the slowest of commits.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    limit_log(connection)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA trusted_schema = OFF")


def close_writer(connection: apsw.Connection) -> None:
    """Copy the write-ahead log back and close; no log is left where that is possible."""
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.Error:
        pass  # nothing is lost: what is in the WAL is read at the next start
    connection.close()


def open_reader(path: Path) -> apsw.Connection:
    """A read-only connection with a small cache, for one thread at a time."""
    connection = open_readonly(path)
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def initialize(connection: apsw.Connection, identity: Identity) -> None:
    """Create the shard's own tables, in one transaction. Does nothing when they are there."""
    with connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS batches(seq INTEGER PRIMARY KEY, body BLOB NOT NULL,"
            " checksum INTEGER NOT NULL)"
        )
        rows = (("epoch", identity.epoch), ("shard", identity.number))
        connection.executemany("INSERT OR IGNORE INTO meta VALUES(?, ?)", rows)


def check_identity(connection: apsw.Connection, path: Path, identity: Identity) -> None:
    """Raises StartRefusedError for another shard's file, CorruptionError for an empty one."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get:
        raise CorruptionError(
            f"shard {identity.number}: {path.name} is empty or not a shard's file"
            f" ({path.stat().st_size} bytes)",
            shard=identity.number,
            hint="restore the shard's file from a backup",
        )
    found = {str(name): value for name, value in connection.execute("SELECT * FROM meta")}
    if found.get("epoch") != identity.epoch or found.get("shard") != identity.number:
        raise StartRefusedError(
            f"shard {path} belongs to another data_dir or is another shard's file (it says shard"
            f" {found.get('shard')!r})",
            hint="restore the file that belongs here from a backup",
        )


def names_of(connection: apsw.Connection) -> dict[str, str]:
    """Whose the numbered tables of a shard are: by table, the name of the topic or source."""
    query = "SELECT name, value FROM meta WHERE name NOT IN ('epoch', 'shard')"
    return {str(table): str(name) for table, name in connection.execute(query)}


def create_topic_table(connection: apsw.Connection, number: int, *, time_index: bool) -> None:
    """Create the table of a topic; make or drop its time index. Idempotent."""
    _create_rows(connection, f"t{number}")
    if time_index:
        connection.execute(f"CREATE INDEX IF NOT EXISTS t{number}_time ON t{number}(timestamp_ms)")
    else:
        connection.execute(f"DROP INDEX IF EXISTS t{number}_time")


def create_deletes_table(connection: apsw.Connection, number: int) -> None:
    """Create the table of a topic's deleted keys. Idempotent."""
    _create_rows(connection, f"d{number}")
    connection.execute(f"CREATE INDEX IF NOT EXISTS d{number}_time ON d{number}(timestamp_ms)")


def _create_rows(connection: apsw.Connection, table: str) -> None:
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table}(id INTEGER PRIMARY KEY, key TEXT NOT NULL,"
        " payload TEXT NOT NULL, timestamp_ms INTEGER NOT NULL, op INTEGER NOT NULL, changes TEXT,"
        " checksum INTEGER NOT NULL)"
    )
    connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {table}_key ON {table}(key)")


def create_state_table(connection: apsw.Connection, number: int) -> None:
    """Create the diff state table of an api source. Idempotent."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS s{number}(id INTEGER PRIMARY KEY, key TEXT NOT NULL,"
        " hash BLOB NOT NULL, payload TEXT, checksum INTEGER NOT NULL)"
    )
    connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS s{number}_key ON s{number}(key)")


def last_seq(connection: apsw.Connection) -> int:
    """The number of the shard's newest batch record; 0 when it has none."""
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM batches").get)
