"""The state database: result state, results log and how far the engine has come.

Owned by the engine's thread, which alone writes it; delivery reads it with its own connections.
Layout:

    joins   id, name, definition       a join and the text its results were made with
    log     pos, join_id, op, emit_at_ms, key, rows
                                       results in order; pos never repeats, and is `seq`
    state   join_id, key, hash, pos    the current result of each key; pos = its entry in log
    groups  join_id, key, terms, body  the accumulators of a group (_ext/native_group.h)
    grouped join_id, layout            joins whose groups are as of 'applied', and what they hold
    meta    'head'                     last position given out
            'tail'                     every entry after it is still in log, older ones stay only
                                       while they are the current result of their key
            'applied'                  last flush whose changes are in
            'shards'                   newest flush of each shard when that was so, 8 bytes each,
                                       little endian
            'lost'                     [[after, upto], ..]: positions that a restore has left out
            'owed'                     ids of joins whose full re-evaluation was postponed, JSON
            'epoch'                    of the data directory
            'rebuilding'               ids of joins whose results were made with another definition
"""

import json
from pathlib import Path
from typing import Any, Literal

import apsw

from litejoin.errors import StartRefusedError
from litejoin.store.checkpoint import Checkpointer, limit_log
from litejoin.store.sqlite import REPLICATED_BUSY_TIMEOUT_MS, open_database

SCHEMA = """
CREATE TABLE IF NOT EXISTS joins(
  id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, definition TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS log(
  pos INTEGER PRIMARY KEY, join_id INTEGER NOT NULL, op INTEGER NOT NULL,
  emit_at_ms INTEGER NOT NULL, key TEXT NOT NULL, rows TEXT NOT NULL,
  start_ms INTEGER, end_ms INTEGER);
CREATE TABLE IF NOT EXISTS state(
  join_id INTEGER NOT NULL, key TEXT NOT NULL, hash INTEGER NOT NULL, pos INTEGER NOT NULL,
  PRIMARY KEY(join_id, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups(
  join_id INTEGER NOT NULL, key TEXT NOT NULL, terms BLOB NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY(join_id, key, terms)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grouped(join_id INTEGER PRIMARY KEY, layout TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES('head', 0), ('tail', 0), ('applied', 0), ('owed', '[]'),
  ('rebuilding', '[]'), ('shards', x'');
"""

_APPLY = """
UPDATE meta SET value = iif(name = 'applied', ?1, ?2) WHERE name IN ('applied', 'shards')"""

CACHE_KIB = 8_192
"""Page cache of the writer: the upper levels of `state` of a million keys; the rest is the
system's cache."""

TRIM_CHUNK = 1_000
"""Log entries looked at in one trim: about a millisecond on the engine's thread."""

LOG_WINDOW = 100_000
"""Results kept behind every cursor, so that an SSE client that was away can resume."""


Owed = tuple[frozenset[int], frozenset[int]]
"""Joins whose full re-evaluation was postponed, and those of them whose definition is new."""


class StateDatabase:
    """The engine's side of state.db. One thread at a time; every method blocks."""

    def __init__(
        self, path: Path, synchronous: Literal["full", "normal"], *, is_replicated: bool = False
    ) -> None:
        """`is_replicated`: the write-ahead log is left to Litestream (see store.checkpoint).

        Raises StartRefusedError for a file that is no database.
        """
        self._is_replicated = is_replicated
        try:
            self._open(path, synchronous, is_replicated)
        except (apsw.NotADBError, apsw.CorruptError, apsw.CantOpenError) as error:
            raise StartRefusedError(
                f"{path} cannot be used: {error}",
                hint="check the file's owner, or restore it from a backup, with all of data_dir",
            ) from error
        self._wal_pages = 0
        # Takes the place of automatic checkpoints, which would run inside a commit.
        self.connection.set_wal_hook(self._note_wal)
        self._checkpointer = Checkpointer({0: path}, None, copies_back=not is_replicated)

    def _open(
        self, path: Path, synchronous: Literal["full", "normal"], is_replicated: bool
    ) -> None:
        self.connection = open_database(path)
        self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_replicated)
        if is_replicated:
            self.connection.set_busy_timeout(REPLICATED_BUSY_TIMEOUT_MS)
        path.chmod(0o600)
        execute = self.connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA synchronous = {synchronous}")
        execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        limit_log(self.connection)
        execute(SCHEMA)
        if not execute("SELECT 1 FROM pragma_table_info('log') WHERE name = 'start_ms'").get:
            # Made by a version without windows.
            execute("ALTER TABLE log ADD COLUMN start_ms INTEGER")
            execute("ALTER TABLE log ADD COLUMN end_ms INTEGER")
        self.head = self._meta("head")
        self.tail = self._meta("tail")
        self.applied = self._meta("applied")
        self.shards = b""
        """What the next commit that applies a flush notes of the shards."""
        self.owed: frozenset[int] = frozenset(json.loads(self._value("owed")))
        self.rebuilding: frozenset[int] = frozenset(json.loads(self._value("rebuilding")))

    def _meta(self, name: str) -> int:
        return int(self._value(name))

    def _value(self, name: str) -> Any:
        return self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def begin(self) -> None:
        """Start a transaction; waits a moment when the write-ahead log has reached its bound."""
        if self._checkpointer.failure:
            raise self._checkpointer.failure
        self._checkpointer.make_room()
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(
        self,
        head: int,
        applied: int,
        owed: frozenset[int],
        rebuilding: frozenset[int] | None = None,
    ) -> None:
        """Store the positions and commit; they are visible in this object only when that
        succeeded.

        `owed` are the joins whose results do not hold all of `applied` yet: without a note of them
        a restart would take them for finished. `rebuilding` are those of them whose definition is
        new; None: as before.
        """
        rebuilding = self.rebuilding if rebuilding is None else rebuilding
        update = "UPDATE meta SET value = ?2 WHERE name = ?1"
        if head != self.head:
            self.connection.execute(update, ("head", head))
        if applied != self.applied:
            self.connection.execute(_APPLY, (applied, self.shards))
        if owed != self.owed:
            self.connection.execute(update, ("owed", json.dumps(sorted(owed))))
        if rebuilding != self.rebuilding:
            self.connection.execute(update, ("rebuilding", json.dumps(sorted(rebuilding))))
        self.connection.execute("COMMIT")
        self.head, self.applied = head, applied
        self.owed, self.rebuilding = owed, rebuilding
        self._checkpointer.notify({0: self._wal_pages})

    def rollback(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def belong_to(self, epoch: str, path: Path) -> None:
        """Note whose results these are. Raises StartRefusedError for those of another directory."""
        execute = self.connection.execute
        found = execute("SELECT value FROM meta WHERE name = 'epoch'").get
        if found is None:
            execute("INSERT INTO meta VALUES('epoch', ?)", (epoch,))
        elif found != epoch:
            raise StartRefusedError(
                f"{path} holds the results of another data_dir",
                hint="restore the file that belongs here from a backup",
            )

    def join_id(self, name: str, definition: str) -> tuple[int, bool]:
        """The id of a join, and whether it is new or changed since its results were made."""
        execute = self.connection.execute
        row = execute("SELECT id, definition FROM joins WHERE name = ?", (name,)).get
        if row is None:
            execute("INSERT INTO joins(name, definition) VALUES(?, ?)", (name, definition))
            return self.connection.last_insert_rowid(), True
        if row[1] != definition:
            execute("UPDATE joins SET definition = ? WHERE id = ?", (definition, row[0]))
        return row[0], row[1] != definition

    def forget_joins(self, kept: set[int]) -> None:
        """Drop the result state of joins that are no longer in the config; their log entries age
        out, and are not those of a join that takes the name later: it gets another id.
        """
        free = "UPDATE joins SET definition = '', name = '#' || id WHERE id = ?"
        for (join_id,) in self.connection.execute("SELECT id FROM joins").fetchall():
            if join_id not in kept:
                self.connection.execute("DELETE FROM state WHERE join_id = ?", (join_id,))
                self.connection.execute(free, (join_id,))
                self.connection.execute("DELETE FROM grouped WHERE join_id = ?", (join_id,))
                self.connection.execute("DELETE FROM groups WHERE join_id = ?", (join_id,))

    def has_groups(self, join_id: int, layout: str) -> bool:
        """True when the groups of a join are kept, and hold what this layout says."""
        sql = "SELECT 1 FROM grouped WHERE join_id = ? AND layout = ?"
        return self.connection.execute(sql, (join_id, layout)).get is not None

    def keep_groups(self, join_id: int, layout: str) -> None:
        """The groups of a join are all there, as of what this transaction applies."""
        sql = "INSERT OR REPLACE INTO grouped VALUES(?, ?)"
        self.connection.execute(sql, (join_id, layout))

    def lose_groups(self, join_id: int) -> None:
        """Drop the groups of a join: they are not as of what is applied any more."""
        self.connection.execute("DELETE FROM grouped WHERE join_id = ?", (join_id,))
        self.connection.execute("DELETE FROM groups WHERE join_id = ?", (join_id,))

    def trim(self, low: int) -> bool:
        """Remove log entries that every cursor (`low`) has passed and that are not current; True
        if more is left.

        One small transaction. Keeps LOG_WINDOW entries behind the head whatever the cursors say.
        """
        goal = min(low, self.head - LOG_WINDOW)
        if goal <= self.tail:
            return False
        # A restore leaves out positions by the thousand million: entries are counted, not those.
        nth = "SELECT pos FROM log WHERE pos > ? ORDER BY pos LIMIT 1 OFFSET ?"
        entry = self.connection.execute(nth, (self.tail, TRIM_CHUNK - 1)).get
        upto = goal if entry is None else min(goal, int(entry))
        with self.connection:
            self.connection.execute(
                "DELETE FROM log WHERE pos IN (SELECT l.pos FROM log l LEFT JOIN state s"
                " ON s.join_id = l.join_id AND s.key = l.key"
                " WHERE l.pos > ?1 AND l.pos <= ?2 AND s.pos IS NOT l.pos)",
                (self.tail, upto),
            )
            self.connection.execute("UPDATE meta SET value = ? WHERE name = 'tail'", (upto,))
        self.tail = upto
        return upto < goal

    def close(self) -> None:
        """Checkpoint and close: no write-ahead log stays behind unless a reader holds it, or it is
        replicated.
        """
        self._checkpointer.close()
        try:
            if not self._is_replicated:
                self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            pass
        self.connection.close()
