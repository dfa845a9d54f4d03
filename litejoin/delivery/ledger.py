"""dlq.db: what delivery must remember over a restart.

Owned by the keeper's thread in a running pipeline; the `dlq` commands open the same file from
another process (SQLite's locks keep the two apart). Blocking, one thread at a time.

    table    columns                                        meaning
    meta     name, value                                    'format', 'epoch' of the data directory,
                                                            'go on SINK': when `dlq retry` asked for
                                                            it in Unix ms; of every sink without
    cursors  sink, pos                                      every result up to pos has an outcome
    routes   sink, join, done                               see delivery.routes
    dlq      sink, id, pos, pipeline, join, key, op, rows,  one parked or waiting result: all that
    its
             emit_at_ms, attempts, created_at_ms,           body is made of, and when it is tried
             next next_retry_at_ms, error, start_ms, end_ms,     (NULL: not by itself)
             checksum
    sizes    sink, entries, bytes                           kept by triggers, whoever writes

A cursor and the entries it passed over are committed together, so whatever part of the file a power
cut takes away, no result is in neither place.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import apsw

from litejoin._ext.checksum import xxh64
from litejoin.errors import StartRefusedError
from litejoin.plain_files import check_plain
from litejoin.records import Result, ResultOp
from litejoin.store.files import create_private, make_directory
from litejoin.store.sqlite import REPLICATED_BUSY_TIMEOUT_MS, open_database, open_readonly

FORMAT = 1

ENTRY_OVERHEAD_BYTES = 256
"""What an entry costs beside key, rows and error: columns, two index entries, page slack."""

DAMAGED = "damaged: the stored entry is not what was written"

DUE_CHARS = 4 * 1024 * 1024
"""Of rows in one look for due entries, from which on it takes no more."""

MAX_ERROR_CHARS = 500
"""An error text is for people; a receiver must not be able to fill the disk with it."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors(sink TEXT PRIMARY KEY, pos INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS routes(
  sink TEXT NOT NULL, "join" TEXT NOT NULL, done INTEGER NOT NULL, PRIMARY KEY(sink, "join")
  ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dlq(
  number INTEGER PRIMARY KEY, sink TEXT NOT NULL, id TEXT NOT NULL, pos INTEGER NOT NULL,
  pipeline TEXT NOT NULL, "join" TEXT NOT NULL, key TEXT NOT NULL, op INTEGER NOT NULL,
  rows TEXT NOT NULL, emit_at_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,
  created_at_ms INTEGER NOT NULL, next_retry_at_ms INTEGER, error TEXT NOT NULL,
  checksum INTEGER NOT NULL, start_ms INTEGER, end_ms INTEGER, UNIQUE(sink, id));
CREATE INDEX IF NOT EXISTS dlq_key ON dlq(sink, "join", key);
CREATE INDEX IF NOT EXISTS dlq_due ON dlq(sink, next_retry_at_ms) WHERE next_retry_at_ms NOT NULL;
CREATE INDEX IF NOT EXISTS dlq_age ON dlq(created_at_ms);
CREATE TABLE IF NOT EXISTS sizes(
  sink TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS dlq_grown AFTER INSERT ON dlq BEGIN
  INSERT INTO sizes VALUES(new.sink, 1, length(new.rows) + length(new.key) + {ENTRY_OVERHEAD_BYTES})
  ON CONFLICT(sink) DO UPDATE SET entries = entries + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER IF NOT EXISTS dlq_shrunk AFTER DELETE ON dlq BEGIN
  UPDATE sizes SET entries = entries - 1,
    bytes = bytes - (length(old.rows) + length(old.key) + {ENTRY_OVERHEAD_BYTES})
  WHERE sink = old.sink;
END;
"""

_HAS_WINDOWS = "SELECT 1 FROM pragma_table_info('dlq') WHERE name = 'start_ms'"

ENTRY_COLUMNS = (
    'sink, pos, "join", key, rows, op, emit_at_ms, pipeline, attempts, created_at_ms,'
    " next_retry_at_ms, error, start_ms, end_ms, checksum"
)


log = logging.getLogger("litejoin.delivery")


@dataclass(frozen=True, slots=True)
class Entry:
    """One result in the dead-letter queue of one sink. Times are Unix milliseconds."""

    sink: str
    result: Result
    attempts: int
    created_at_ms: int
    next_retry_at_ms: int | None
    """None: parked, only `dlq retry` sends it again."""
    error: str


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Put an entry in; one that is there already (a redelivery after a crash) stays as it is."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Reschedule:
    """A retry failed: remember when to try next (None: park)."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Remove:
    """Take an entry out: it was delivered."""

    sink: str
    id: str


@dataclass(frozen=True, slots=True)
class Supersede:
    """`result` was delivered: take out every entry of its key that is not newer. `itself` False: it
    may have been, so it stays, and what is older goes.
    """

    sink: str
    result: Result
    itself: bool = True


Change = Enqueue | Reschedule | Remove | Supersede


@dataclass(frozen=True, slots=True)
class Size:
    """How full the queue of one sink is."""

    entries: int = 0
    bytes: int = 0


class Ledger:
    """The open file. Raises StartRefusedError for a file that is not ours, else apsw.Error."""

    def __init__(
        self, path: Path, *, durable: bool, create: bool = True, is_replicated: bool = False
    ) -> None:
        """`is_replicated`: the write-ahead log is left to Litestream (see store.checkpoint)."""
        self._is_replicated = is_replicated
        with _refusing(path):
            if create and not path.exists():
                make_directory(path.parent)
                create_private(path)  # results may be confidential
            self._open(path, durable)

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """An existing file that is not changed: it may be a copy that cannot be written, and who
        writes it is not waited for. Only what selects can be called.
        """
        ledger = cls.__new__(cls)
        with _refusing(path):
            ledger.db = open_readonly(path)
            if ledger.db.execute(_HAS_WINDOWS).get is None:
                raise StartRefusedError(
                    f"{path} was not opened by a pipeline of this version yet",
                    hint="start the pipeline once",
                )
            ledger._check_format(path)
        return ledger

    def _open(self, path: Path, durable: bool) -> None:
        self.db = open_database(path, create=False)
        self.db.execute("PRAGMA journal_mode = WAL").fetchall()
        if self._is_replicated:
            self.db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            self.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.db.set_busy_timeout(REPLICATED_BUSY_TIMEOUT_MS)
        self.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with self.db:
            self.db.execute(_SCHEMA).fetchall()
            if self.db.execute(_HAS_WINDOWS).get is None:
                # Made by a version without windows.
                self.db.execute("ALTER TABLE dlq ADD COLUMN start_ms INTEGER")
                self.db.execute("ALTER TABLE dlq ADD COLUMN end_ms INTEGER")
            self._check_format(path)

    def _check_format(self, path: Path) -> None:
        found = self.db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        if found is None:
            self.db.execute("INSERT INTO meta VALUES('format', ?)", (FORMAT,))
        elif found[0] != FORMAT:
            raise StartRefusedError(
                f"{path} has format {found[0]}, this version reads format {FORMAT}",
                hint="run the version of litejoin that wrote it, or move the file away",
            )

    def cursors(self, epoch: str) -> dict[str, int]:
        """The stored cursors. Those of another epoch point into another log and are forgotten."""
        with self.db:
            stored = self.db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
            if stored is None or stored[0] != epoch:
                self.db.execute("DELETE FROM cursors")
                self.db.execute("DELETE FROM routes")
                self.db.execute("INSERT OR REPLACE INTO meta VALUES('epoch', ?)", (epoch,))
        return self.stored_cursors()

    def stored_cursors(self) -> dict[str, int]:
        """The cursor of each sink, those included that the config names no more."""
        rows = self.db.execute("SELECT sink, pos FROM cursors").fetchall()
        return dict(cast(list[tuple[str, int]], rows))

    def commit(
        self, cursors: Mapping[str, int], changes: Iterable[Change]
    ) -> list[tuple[str, str]]:
        """Apply changes in order and the cursors with them, in one transaction.

        Returns (sink, id) of every superseded entry.
        """
        superseded: list[tuple[str, str]] = []
        with self.db:
            for change in changes:
                superseded += self._apply(change)
            self.db.executemany(
                "INSERT OR REPLACE INTO cursors VALUES(?, ?)",
                cursors.items(),
            )
        return superseded

    def _apply(self, change: Change) -> list[tuple[str, str]]:
        match change:
            case Enqueue(entry):
                marks = ",".join("?" * 16)
                sql = f"INSERT OR IGNORE INTO dlq({ENTRY_COLUMNS}, id) VALUES({marks})"
                self.db.execute(sql, (*_columns(entry), entry.result.id))
            case Reschedule(entry):
                self.db.execute(
                    "UPDATE dlq SET attempts = ?, next_retry_at_ms = ?, error = ?"
                    " WHERE sink = ? AND id = ?",
                    (entry.attempts, entry.next_retry_at_ms, entry.error[:MAX_ERROR_CHARS],
                     entry.sink, entry.result.id),
                )  # fmt: skip
            case Remove(sink, entry_id):
                self.db.execute("DELETE FROM dlq WHERE sink = ? AND id = ?", (sink, entry_id))
            case Supersede(sink, result, itself):
                gone = self.db.execute(
                    'DELETE FROM dlq WHERE sink = ? AND "join" = ? AND key = ? AND start_ms IS ?'
                    " AND (pos <= ? OR pipeline <> ?) RETURNING id",
                    (
                        sink,
                        result.query,
                        result.key,
                        result.start_ms,
                        result.pos if itself else result.pos - 1,
                        result.pipeline,
                    ),
                ).fetchall()
                return [(sink, str(row[0])) for row in gone if row[0] != result.id]
        return []

    def ask_to_go_on(self, sink: str | None, now_ms: int) -> None:
        """Note that a sink that has stopped shall send again; None: every one."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (_go_on(sink), now_ms))

    def asked_to_go_on_ms(self, sink: str) -> int:
        """When somebody asked last for a sink to send again, in Unix milliseconds; 0: never."""
        sql = "SELECT max(value) FROM meta WHERE name IN (?, ?)"
        row = self.db.execute(sql, (_go_on(sink), _go_on(None))).fetchone()
        return row[0] or 0 if row else 0

    def sizes(self) -> dict[str, Size]:
        """Entries and bytes by sink."""
        rows = self.db.execute("SELECT sink, entries, bytes FROM sizes WHERE entries > 0")
        return {sink: Size(entries, size) for sink, entries, size in rows}

    def due(self, sink: str, now_ms: int, limit: int) -> tuple[list[Entry], int | None]:
        """Entries of a sink to try now, at most one a key and that the oldest of those due, and
        when the next one after them falls due (None: none waits).
        """
        rows = self.db.execute(
            f"SELECT {ENTRY_COLUMNS} FROM dlq WHERE sink = ? AND next_retry_at_ms <= ?"
            " ORDER BY next_retry_at_ms, pos LIMIT ?",
            (sink, now_ms, limit),
        )
        taken, left = list[tuple[Any, ...]](), DUE_CHARS
        for row in rows:
            taken.append(row)
            left -= len(row[4])
            if left <= 0:
                break
        rows.close()
        entries = [entry for row in taken if (entry := self._checked(row)) is not None]
        oldest: dict[tuple[str, str], Entry] = {}
        for entry in sorted(entries, key=lambda e: e.result.pos):
            oldest.setdefault((entry.result.query, entry.result.identity), entry)
        after = self.db.execute(
            "SELECT min(next_retry_at_ms) FROM dlq WHERE sink = ? AND next_retry_at_ms > ?",
            (sink, now_ms),
        ).fetchone()
        return list(oldest.values()), after[0] if after else None

    def is_gone(self, entry: Entry) -> bool:
        """True when an entry was superseded, purged or expired since it was read."""
        sql = "SELECT 1 FROM dlq WHERE sink = ? AND id = ?"
        return self.db.execute(sql, (entry.sink, entry.result.id)).fetchone() is None

    def _checked(self, row: tuple[Any, ...]) -> Entry | None:
        """A damaged entry is never sent: it is parked, and says so."""
        entry = entry_of(row)
        if entry is None:
            self.db.execute(
                "UPDATE dlq SET next_retry_at_ms = NULL, error = ? WHERE sink = ? AND checksum = ?",
                (DAMAGED, row[0], row[-1]),
            )
            log.error(
                "dlq: an entry of sink %s at position %s is damaged and parked", row[0], row[1]
            )
        return entry

    def expire(self, created_before_ms: int) -> list[tuple[str, str]]:
        """Take out entries older than the ttl; returns (sink, id) of each."""
        sql = "DELETE FROM dlq WHERE created_at_ms < ? RETURNING sink, id"
        gone = self.db.execute(sql, (created_before_ms,)).fetchall()
        return cast(list[tuple[str, str]], gone)

    def clamp_retries(self, latest_ms: int) -> None:
        """Bring retry times within reach, for a wall clock that was set back between two runs."""
        self.db.execute(
            "UPDATE dlq SET next_retry_at_ms = ? WHERE next_retry_at_ms > ?", (latest_ms, latest_ms)
        )

    def close(self) -> None:
        """Checkpoint and close, so that no -wal file is left unless it is replicated."""
        self.db.close()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        check_plain(path)
        yield
    except (
        OSError,
        apsw.CantOpenError,
        apsw.CorruptError,
        apsw.NotADBError,
        apsw.ReadOnlyError,
    ) as error:
        raise StartRefusedError(
            f"{path} cannot be used as dead-letter queue: {error}",
            hint="check delivery.dlq.path and its permissions",
        ) from error


def _go_on(sink: str | None) -> str:
    return f"go on {sink}" if sink else "go on"


def _columns(entry: Entry) -> tuple[Any, ...]:
    result = entry.result
    return (
        entry.sink, result.pos, result.query, result.key, result.rows, int(result.op),
        result.emit_at_ms, result.pipeline, entry.attempts, entry.created_at_ms,
        entry.next_retry_at_ms, entry.error[:MAX_ERROR_CHARS], result.start_ms, result.end_ms,
        checksum(result),
    )  # fmt: skip


def entry_of(row: tuple[Any, ...]) -> Entry | None:
    """An entry from its ENTRY_COLUMNS; None when it is not what was written."""
    sink, pos, join, key, rows, op, emit_at_ms, pipeline, attempts, created, due, error = row[:12]
    start_ms, end_ms, sum_ = row[12:]
    result = Result(pos, join, key, rows, ResultOp(op), emit_at_ms, pipeline, start_ms, end_ms)
    return Entry(sink, result, attempts, created, due, error) if checksum(result) == sum_ else None


def checksum(result: Result) -> int:
    """XXH64 of the body as a signed number: SQLite never says that a stored bit has flipped."""
    value = xxh64(result.body())
    return value - (1 << 64) if value >> 63 else value
