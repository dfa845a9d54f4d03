"""The message buffer of a stream: the messages of one topic by one time path, in state.db.

    window_streams   id, definition (topic, time path and format), newest_ms, next_n
    window_<id>      time_ms, n, key, payload, p_<hash>, ..  PRIMARY KEY(time_ms, n)

All windows of a topic with one time path share a buffer; `p_<hash>` are the values of their
partition paths, each with an index: NOWHERE where the payload is no JSON, and windows by that
path leave the message out. `n` rises in the order of arrival. New messages pass
through a temporary table, so that lateness, sessions and panes are worked out for a batch at once.
Everything runs in the caller's transaction; the buffer knows nothing of results.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import apsw

from litejoin._ext.gjson import compile_path
from litejoin._ext.messages import MessageReader
from litejoin.engine.windows.watermark import NEVER_MS
from litejoin.errors import JsonError

SCHEMA = """
CREATE TABLE IF NOT EXISTS window_streams(
  id INTEGER PRIMARY KEY, definition TEXT UNIQUE NOT NULL, newest_ms INTEGER NOT NULL,
  next_n INTEGER NOT NULL);
"""

log = logging.getLogger("litejoin.windows")

TIME_FORMATS = {"auto": 0, "rfc3339": 1, "unix_s": 2, "unix_ms": 3}

MAX_DEPTH = 1024
"""Of a message's JSON, as _ext/messages.pyx has it."""

TRIM_ROWS = 20_000
"""Messages removed in one step, so that results do not wait for house-keeping."""


NOWHERE = "x''"
"""In SQL: the partition of a message whose payload is no JSON. No value of JSON is a blob."""


def partition_column(path: str) -> str:
    """The column of a partition path: the same in every run, whatever other windows there are."""
    return f"p_{blake2b(path.encode(), digest_size=8).hexdigest()}"


def forget_others(db: apsw.Connection, kept: set[int]) -> None:
    """Drop the buffers of streams that no window reads any more."""
    for (number,) in db.execute("SELECT id FROM window_streams").fetchall():
        if number not in kept:
            with db:
                db.execute(f"DROP TABLE IF EXISTS window_{number}")
                db.execute("DELETE FROM window_streams WHERE id = ?", (number,))


@dataclass(frozen=True, slots=True)
class Refused:
    """A message without a usable event time, or in no partition."""

    reason: str
    key: str
    payload: str
    ingested_ms: int


@dataclass(slots=True)
class Fresh:
    """What the message rows of one or more flushes gave."""

    rows: int = 0
    """Messages taken in."""
    oldest_ms: int = 2**62
    refused: list[Refused] = field(default_factory=list)
    """Those without a usable event time."""
    unplaced: list[Refused] = field(default_factory=list)
    """Those among the taken ones that are in no partition."""


class MessageBuffer:
    """One stream's messages. One thread at a time, on a connection it does not own."""

    def __init__(
        self,
        connection: apsw.Connection,
        topic: int,
        time_path: str | None,
        time_format: str,
        partitions: Sequence[str],
    ) -> None:
        self._db = connection
        self.partitions = tuple(partitions)
        definition = json.dumps([topic, time_path, time_format])
        self.id, self.newest_ms, self._next_n = self._load(definition)
        self.table = f"window_{self.id}"
        self.fresh = f"temp.fresh_{self.id}"
        self._make_tables()
        columns = ["time_ms", "n", "key", "payload", *self.partition_columns()]
        self._columns = ", ".join(columns)
        values = [
            f"CASE ?{5 + i} WHEN {NOWHERE} THEN {NOWHERE} ELSE json_extract(?{5 + i}, '$') END"
            for i in range(len(self.partitions))
        ]
        self._reader = MessageReader(
            connection,
            f"INSERT INTO {self.fresh}({self._columns})"
            f" VALUES({', '.join(['?1', '?2', '?3', '?4', *values])})",
            topic,
            time_path=None if time_path is None else compile_path(time_path).program,
            time_format=TIME_FORMATS[time_format],
            partitions=[compile_path(path).program for path in self.partitions],
        )

    def _load(self, definition: str) -> tuple[int, int, int]:
        self._db.execute(
            "INSERT OR IGNORE INTO window_streams(definition, newest_ms, next_n) VALUES(?, ?, 1)",
            (definition, NEVER_MS),
        )
        row = self._db.execute(
            "SELECT id, newest_ms, next_n FROM window_streams WHERE definition = ?", (definition,)
        ).fetchone()
        assert row is not None
        return int(str(row[0])), int(str(row[1])), int(str(row[2]))

    def partition_columns(self) -> list[str]:
        """The names of the columns that hold partition values."""
        return [partition_column(path) for path in self.partitions]

    def _make_tables(self) -> None:
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS {self.table}(time_ms INTEGER NOT NULL, n INTEGER NOT NULL,"
            " key TEXT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY(time_ms, n)) WITHOUT ROWID"
        )
        present = self._db.execute("SELECT name FROM pragma_table_info(?)", (self.table,))
        names = {str(row[0]) for row in present.fetchall()}
        self._drop_columns({name for name in names if name.startswith("p_")})
        for path in self.partitions:
            column = partition_column(path)
            if column not in names:
                self._add_column(column, path)
            self._db.execute(
                f"CREATE INDEX IF NOT EXISTS {self.table}_{column}"
                f" ON {self.table}({column}, time_ms)"
            )
        extra = "".join(f", {column}" for column in self.partition_columns())
        self._db.execute(
            f"CREATE TEMP TABLE fresh_{self.id}(time_ms INTEGER, n INTEGER PRIMARY KEY, key TEXT,"
            f" payload TEXT{extra})"
        )

    def _drop_columns(self, present: set[str]) -> None:
        """Columns of paths that no window has any more: messages come without them from now on."""
        for column in present.difference(self.partition_columns()):
            self._db.execute(f"DROP INDEX IF EXISTS {self.table}_{column}")
            self._db.execute(f"ALTER TABLE {self.table} DROP COLUMN {column}")

    def _add_column(self, column: str, path: str) -> None:
        """The column of a path that is new, with the values of the messages that are held."""
        compiled = compile_path(path)

        def find(payload: str) -> str | bytes | None:
            try:
                found = compiled.get(payload.encode(), MAX_DEPTH)
            except JsonError:
                return b""
            return None if found is None else found.decode()

        asked: Any = find
        with self._db:
            self._db.execute(f"ALTER TABLE {self.table} ADD COLUMN {column}")
            self._db.create_scalar_function("lj_find", asked, 1)
            self._db.execute(f"UPDATE {self.table} SET {column} = lj_find(payload)")
            self._db.execute(
                f"UPDATE {self.table} SET {column} = json_extract({column}, '$')"
                f" WHERE {column} IS NOT {NOWHERE}"
            )
            self._tell_of_held(column, path)
        self._db.create_scalar_function("lj_find", None, 1)

    def _tell_of_held(self, column: str, path: str) -> None:
        sql = f"SELECT count(*) FROM {self.table} WHERE {column} = {NOWHERE}"
        count = int(str(self._db.execute(sql).get))
        if count:
            log.warning(
                "windows: partition_by %s leaves messages out that are held and no JSON: %d",
                path,
                count,
            )

    def read(self, chunks: Iterable[bytes], latest_ms: int) -> Fresh:
        """Put the messages of message rows into the fresh table."""
        fresh = Fresh()
        for chunk in chunks:
            found = self._reader.read(chunk, self._next_n, latest_ms)
            fresh.refused += _refused(found.refused)
            fresh.unplaced += _refused(found.unplaced)
            if found.rows:
                self._next_n += found.rows
                fresh.rows += found.rows
                fresh.oldest_ms = min(fresh.oldest_ms, found.oldest_ms)
                self.newest_ms = max(self.newest_ms, found.newest_ms)
        return fresh

    def keep(self, from_ms: int) -> None:
        """Move fresh messages from that time on into the buffer, forget the others."""
        self._db.execute(
            f"INSERT INTO {self.table}({self._columns}) SELECT {self._columns} FROM {self.fresh}"
            " WHERE time_ms >= ? ORDER BY time_ms, n",
            (from_ms,),
        )
        self._db.execute(f"DELETE FROM {self.fresh}")
        self._db.execute(
            "UPDATE window_streams SET newest_ms = ?, next_n = ? WHERE id = ?",
            (self.newest_ms, self._next_n, self.id),
        )

    def fresh_numbers(self, from_ms: int) -> list[int]:
        """The numbers of the fresh messages from a time on, rising."""
        sql = f"SELECT n FROM {self.fresh} WHERE time_ms >= ? ORDER BY n"
        return [int(str(number)) for (number,) in self._db.execute(sql, (from_ms,))]

    def message(self, table: str, number: int) -> tuple[str, str, int]:
        """Key, payload and time of a message of the buffer or of the fresh ones."""
        row = self._db.execute(
            f"SELECT key, payload, time_ms FROM {table} WHERE n = ?", (number,)
        ).fetchone()
        assert row is not None
        return str(row[0]), str(row[1]), int(str(row[2]))

    def forget_fresh(self) -> None:
        """After a rollback: the numbers and times are again those that are stored."""
        row = self._db.execute(
            "SELECT newest_ms, next_n FROM window_streams WHERE id = ?", (self.id,)
        ).fetchone()
        if row is not None:
            self.newest_ms, self._next_n = int(str(row[0])), int(str(row[1]))

    def first_from(self, time_ms: int) -> int | None:
        """The time of the first message at or after a time."""
        row = self._db.execute(
            f"SELECT min(time_ms) FROM {self.table} WHERE time_ms >= ?", (time_ms,)
        ).fetchone()
        return None if row is None or row[0] is None else int(str(row[0]))

    def trim(self, before_ms: int) -> bool:
        """Remove messages before a time, a step at a time; True when there are more."""
        self._db.execute(
            f"DELETE FROM {self.table} WHERE (time_ms, n) IN (SELECT time_ms, n FROM {self.table}"
            " WHERE time_ms < ? ORDER BY time_ms, n LIMIT ?)",
            (before_ms, TRIM_ROWS),
        )
        return self._db.changes() == TRIM_ROWS

    def close(self) -> None:
        """Free the statement, so that the connection can be closed."""
        self._reader.close()


def _refused(found: Iterable[tuple[str, bytes, bytes, int]]) -> list[Refused]:
    return [
        Refused(reason, key.decode(), payload.decode(), ms) for reason, key, payload, ms in found
    ]
