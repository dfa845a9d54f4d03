"""Is a shard's file what was written into it? The rows by their checksums, the pages by SQLite.

Called by the start (`look`: milliseconds), by the scrub and by `litejoin check` (all of it). Reads
only, and in short transactions but for the page check, which needs one. Every finding is a
CorruptionError that names the shard.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import apsw

from litejoin._ext.checksum import xxh64
from litejoin._ext.verify import verify_rows
from litejoin.errors import CorruptionError, StorageError
from litejoin.store.failures import read_error
from litejoin.store.tables import Table, tables_of

CHUNK_ROWS = 2_000
"""Rows read in one transaction: a few milliseconds."""

LOOK_ROWS = 200
"""Newest rows of each table that are read at start: what a crash can have torn is there."""

HINT = "litejoin check --deep says more; restore the shard's file from a backup"

Pause = Callable[[int], None]
"""Called between chunks with the bytes read: holds the reader back, and raises to end it."""


@dataclass(slots=True)
class Counted:
    """What was read of a shard."""

    rows: int = 0
    bytes: int = 0


def look(connection: apsw.Connection, shard: int) -> None:
    """Read the newest batch record and the newest rows of every table."""
    with as_damage(shard):
        _check_records(connection, shard, "ORDER BY seq DESC LIMIT 1")
        for table in tables_of(connection):
            query = f"SELECT coalesce(max(id), 0) FROM {table.name}"
            newest = int(connection.execute(query).get)
            _verify(connection, shard, table, max(0, newest - LOOK_ROWS))


def check_rows(connection: apsw.Connection, shard: int, pause: Pause) -> Counted:
    """Compare every row and every batch record with its checksum."""
    counted = Counted()
    with as_damage(shard):
        _check_records(connection, shard, "ORDER BY seq")
        for table in tables_of(connection):
            last_id = -(2**63)
            while True:
                with _names(shard):
                    found = verify_rows(connection, table.letter, table.number, last_id, CHUNK_ROWS)
                if not found.rows:
                    break
                last_id = found.last_id
                counted.rows += found.rows
                counted.bytes += found.bytes
                pause(found.bytes)
    return counted


def check_pages(connection: apsw.Connection, shard: int) -> None:
    """SQLite's own check of every page, and of each index against its table. One transaction."""
    with as_damage(shard):
        for (line,) in connection.execute("PRAGMA integrity_check(1)"):
            if line != "ok":
                # SQLite may say it in several lines.
                raise CorruptionError(
                    f"shard {shard}: {' '.join(str(line).split())}", shard=shard, hint=HINT
                )


def _check_records(connection: apsw.Connection, shard: int, order: str) -> None:
    for seq, body, checksum in connection.execute(f"SELECT * FROM batches {order}"):
        if xxh64(body, seq) != checksum % (1 << 64):
            raise CorruptionError(
                f"shard {shard}: the batch record of flush {seq} is not what was written",
                shard=shard,
                hint=HINT,
            )


def _verify(connection: apsw.Connection, shard: int, table: Table, after_id: int) -> None:
    with _names(shard):
        verify_rows(connection, table.letter, table.number, after_id, LOOK_ROWS)


@contextmanager
def _names(shard: int) -> Iterator[None]:
    """The native reader does not know which shard it reads."""
    try:
        yield
    except StorageError as error:
        raise type(error)(
            f"shard {shard}: {error}", extended=error.extended, shard=shard, hint=HINT
        ) from error


@contextmanager
def opening(open_it: Callable[[], apsw.Connection], shard: int) -> Iterator[apsw.Connection]:
    """A connection for a check of this shard; a file that cannot be opened is damaged."""
    with as_damage(shard):
        connection = open_it()
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def as_damage(shard: int) -> Iterator[None]:
    """What SQLite, or a value of another type than was written, says of a damaged file."""
    try:
        yield
    except apsw.Error as error:
        raise read_error(error, shard) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise CorruptionError(f"shard {shard}: {error}", shard=shard, hint=HINT) from error
