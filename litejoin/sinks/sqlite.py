"""Keeps the current rows of each join in a table of a SQLite file that belongs to the user.

The rows of a batch and the position of the last one are one transaction, so the file always holds
exactly the results up to a position: what is delivered again after a crash is recognised and left
out. This is the one sink for which "exactly once" holds. A file or a table that was deleted is
built anew: delivery goes back to the position in the file. So is a table that nobody's position
speaks for: its sink wrote to another one meanwhile, or had the join no more.

    table               columns                       meaning
    <join>              see sqlite_table              current rows
    _litejoin_cursors   sink, join, pipeline, pos     results of the join are in up to pos
    _litejoin_tables    sink, join, table             and this is the table that they are in
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

import apsw
import msgspec

from litejoin.errors import SinkError
from litejoin.plan.nodes import Plan, SqliteSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.paths import check_own_file
from litejoin.sinks.sqlite_table import ResultTable
from litejoin.sinks.workers import Workers
from litejoin.store.sqlite import open_database

CURSORS = "_litejoin_cursors"
TABLES = "_litejoin_tables"

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS {CURSORS}(sink TEXT NOT NULL, "join" TEXT NOT NULL,
    pipeline TEXT NOT NULL, pos INTEGER NOT NULL, PRIMARY KEY(sink, "join")) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {TABLES}(sink TEXT NOT NULL, "join" TEXT NOT NULL,
    "table" TEXT NOT NULL, PRIMARY KEY(sink, "join")) WITHOUT ROWID;
"""

REFUSED = (
    apsw.SQLError, apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError, apsw.RangeError,
    msgspec.MsgspecError,
)  # fmt: skip
"""One result cannot be stored, and never will be: too many columns, a value too large."""

AWAY = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError)
"""The file cannot be had now; another time it may."""

BUSY_MS = 2_000
"""How long a batch waits for another program's write; then it is offered again."""

log = logging.getLogger("litejoin.sqlite")


class SqliteSink:
    """A SQLite file with a table for each join, or for the one join when `table` is set."""

    max_in_flight = 1
    max_batch = 500

    def __init__(self, plan: SqliteSinkPlan, pipeline: Plan) -> None:
        self.name = plan.name
        self._plan = plan
        columns = {join.name: join.columns for join in pipeline.joins}
        self._columns = {name: columns.get(name, ()) for name in pipeline.results_of(plan.name)}
        self._pipeline = pipeline
        self._file: _File | None = None
        self._workers: Workers[None, tuple[Sequence[Result], bool], list[Outcome]] | None = None

    async def open(self) -> None:
        """Open or create the file and its tables; one that is locked, or on a full disk, is opened
        later.

        Raises SinkError for a path or table that is not ours to write.
        """
        check_own_file(self.name, self._plan.path, self._pipeline)
        if self._plan.path.name.startswith(":"):
            raise SinkError(
                f"sink {self.name}: {self._plan.path} is not a file of its own for SQLite",
                hint="name a file, such as results.db",
            )
        if self._plan.table and len(self._columns) > 1:
            raise SinkError(
                f"sink {self.name}: `table` is set, but several joins write to the sink",
                hint="leave `table` out (one table a join), or make one sink for each join",
            )
        try:
            late = {window.late_name for window in self._pipeline.windows}
            self._file = _File(self._plan, self._columns, late)
        except apsw.Error as error:
            raise SinkError(f"sink {self.name}: cannot open {self._plan.path}: {error}") from error
        file = self._file
        self._workers = Workers(
            f"lj-sink-{self.name}", 1, lambda: None, lambda _, work: file.store(*work)
        )

    def position(self, epoch: str) -> int | None:
        """The position up to which the file holds every join of the sink; 0 for another epoch."""
        assert self._file is not None
        return self._file.position(epoch)

    async def deliver(self, result: Result) -> Outcome:
        """Store one parked result, whatever the file's position."""
        return (await self._submit([result], True))[0]

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Store results in one transaction; those the file has already are left out."""
        return await self._submit(results, False)

    async def _submit(self, results: Sequence[Result], parked: bool) -> list[Outcome]:
        assert self._workers is not None
        return await self._workers.submit((results, parked))

    async def close(self) -> None:
        """Close the file after the batch that is being written, if there is one."""
        if self._workers is not None and self._file is not None:
            await self._workers.submit(((), False))
            self._workers.stop()
            self._file.close()


class _LostTableError(Exception):
    """A table is gone in which the file has a join up to a position. Never leaves this module."""

    def __init__(self, table: str, join: str, cursor: tuple[str, int]) -> None:
        super().__init__(f"the table {table} is gone")
        self.join, self.cursor = join, cursor


class _File:
    """The open file. After opening used by the sink's thread only."""

    def __init__(
        self,
        plan: SqliteSinkPlan,
        columns: Mapping[str, tuple[str, ...]],
        late: Collection[str],
    ) -> None:
        """`late`: names of late messages, of which there may be none for ever."""
        self._plan = plan
        self._columns = columns
        self._late = late
        self._cursors: dict[str, tuple[str, int]] = {}
        try:
            self._open()
        except AWAY as error:
            # Nothing is known of it: whatever it has is offered again, and left out.
            log.warning("sink %s: %s cannot be opened now: %s", plan.name, plan.path, error)

    def _open(self) -> None:
        plan = self._plan
        is_new = not plan.path.exists() or not plan.path.stat().st_size
        self._identity: tuple[int, int] | None = None
        """Of the file that is open: another one may have its name meanwhile. None: none is."""
        self._tables: dict[str, ResultTable] = {}
        self._anew: set[str] = set()
        """Joins whose position was forgotten since."""
        self._db = open_database(plan.path)
        self._db.set_busy_timeout(BUSY_MS)
        if is_new:
            # So that readers do not stop the sink, nor it them. An existing file keeps its mode.
            self._db.execute("PRAGMA journal_mode = WAL").fetchall()
        safe = plan.guarantee == "at_least_once"
        self._db.execute(f"PRAGMA synchronous = {'FULL' if safe else 'NORMAL'}")
        self._cursors = {}
        try:
            with self._db:
                self._prepare()
            self._identity = _identity(plan.path)
        except (SinkError, apsw.Error, OSError):
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute(_SCHEMA).fetchall()
        self._tables.clear()
        claimed = self._read_cursors()
        for join in self._columns:
            self._begin(join, claimed)
        sql = f'SELECT "join", "table" FROM {TABLES} WHERE sink = ?'
        noted = set(self._db.execute(sql, (self._plan.name,)))
        self._db.executemany(
            f"INSERT OR REPLACE INTO {TABLES} VALUES(?, ?, ?)",
            [(self._plan.name, *note) for join in self._columns
             if (note := (join, self._target(join))) not in noted],
        )  # fmt: skip

    def _read_cursors(self) -> set[str | None]:
        """Forget the positions that are of no table of ours any more; returns the tables of which
        other sinks of the file have one. None: it was noted by a version that did not say of which.
        """
        claimed: set[str | None] = set()
        sql = (
            f'SELECT c.sink, c."join", pipeline, pos, "table" FROM {CURSORS} c'
            f' LEFT JOIN {TABLES} t ON t.sink = c.sink AND t."join" = c."join"'
        )
        rows = cast(list[tuple[str, str, str, int, str | None]], self._db.execute(sql).fetchall())
        for sink, join, pipeline, pos, table in rows:
            if sink != self._plan.name:
                claimed.add(table and table.casefold())
            elif join not in self._columns:
                self._forget(join)
            elif (table or self._target(join)).casefold() != self._target(join).casefold():
                log.info("sink %s: results of %s go to table %s instead of %s; it is filled anew",
                         self._plan.name, join, self._target(join), table)  # fmt: skip
                self._forget(join)
            else:
                self._cursors[join] = (pipeline, pos)
        return claimed

    def _begin(self, join: str, claimed: Collection[str | None]) -> None:
        try:
            table = self._table(join)
        except _LostTableError as lost:
            log.warning("sink %s: %s; it is built anew", self._plan.name, lost)
            self._forget(join)
            table = self._table(join)
        if join not in self._cursors and not {None, self._target(join).casefold()} & set(claimed):
            table.clear()

    def _target(self, join: str) -> str:
        return self._plan.table or join

    def _table(self, join: str) -> ResultTable:
        table = self._tables.get(join)
        if table is None:
            name = self._target(join)
            if name.casefold() in (CURSORS, TABLES):
                raise SinkError(f"sink {self._plan.name}: a table cannot be named {name}")
            table = ResultTable(self._db, name, self._columns[join])
            if table.is_new and join in self._cursors:
                raise _LostTableError(name, join, self._cursors[join])
            self._tables[join] = table
        return table

    def _forget(self, join: str) -> None:
        """Of the join there is nothing, or nothing that counts."""
        self._db.execute(
            f'DELETE FROM {CURSORS} WHERE sink = ? AND "join" = ?', (self._plan.name, join)
        )
        self._cursors.pop(join, None)
        self._anew.add(join)

    def position(self, epoch: str) -> int:
        """See SqliteSink.position."""
        counted = [j for j in self._columns if j not in self._late or j in self._anew]
        found = [self._cursors.get(join, ("", 0)) for join in counted]
        return min((pos if p.endswith(f"/{epoch}") else 0 for p, pos in found), default=0)

    def store(self, results: Sequence[Result], parked: bool) -> list[Outcome]:
        """Store in one transaction. Blocking; never raises."""
        if not results:
            return []
        try:
            try:
                return self._store(results, parked)
            except _LostTableError as lost:
                if parked:
                    raise
                self._rebuild(lost)
                return [self._again(str(lost), results[0])] * len(results)
        except (apsw.Error, ValueError, OSError, SinkError, _LostTableError) as error:
            return [Outcome("retry", f"{self._plan.path}: {error}")] * len(results)

    def _store(self, results: Sequence[Result], parked: bool) -> list[Outcome]:
        if self._identity is None or self._identity != _identity(self._plan.path):
            if parked:
                raise SinkError("the file was moved or replaced")
            if self._has_less_than_before():
                return [self._again("the file was moved or replaced", results[0])] * len(results)
        try:
            return self._transaction(results, parked, one_by_one=False)
        except (ValueError, *REFUSED):
            # One of them cannot be stored at all: find out which.
            return self._transaction(results, parked, one_by_one=True)

    def _has_less_than_before(self) -> bool:
        """Open the file that has the name now, and compare."""
        had, self._identity = self._cursors, None
        self._db.close()
        try:
            self._open()
        except BaseException:
            self._cursors = had
            raise
        # Where a file's identity is not stable (some network file systems) it has the same.
        found = [(self._cursors.get(join, ("", 0)), cursor) for join, cursor in had.items()]
        is_less = any(now[0] != then[0] or now[1] < then[1] for now, then in found)
        if is_less:
            log.warning("sink %s: %s was moved or replaced", self._plan.name, self._plan.path)
        return is_less

    def _rebuild(self, lost: _LostTableError) -> None:
        log.warning("sink %s: %s; it is built anew", self._plan.name, lost)
        try:
            with self._db:
                self._forget(lost.join)
                self._table(lost.join)
        except BaseException:
            self._cursors[lost.join] = lost.cursor
            raise

    def _again(self, reason: str, result: Result) -> Outcome:
        epoch = result.pipeline.rpartition("/")[2]
        return Outcome("retry", f"{self._plan.path}: {reason}", again_from=self.position(epoch))

    def _transaction(
        self, results: Sequence[Result], parked: bool, *, one_by_one: bool
    ) -> list[Outcome]:
        cursors = dict(self._cursors)
        try:
            with self._db:
                outcomes = [self._put(r, cursors, parked, one_by_one) for r in results]
                self._db.executemany(
                    f"INSERT OR REPLACE INTO {CURSORS} VALUES(?, ?, ?, ?)",
                    [(self._plan.name, join, *cursor) for join, cursor in cursors.items()
                     if cursor != self._cursors.get(join)],
                )  # fmt: skip
        except BaseException:
            # Columns may have been added and are gone again: what we knew of the tables is void.
            self._tables.clear()
            raise
        self._cursors = cursors
        return outcomes

    def _put(
        self, result: Result, cursors: dict[str, tuple[str, int]], parked: bool, one_by_one: bool
    ) -> Outcome:
        if result.query not in self._columns:
            return Outcome("reject", f"the sink has no results of {result.query} any more")
        table = self._table(result.query)
        pipeline, pos = cursors.get(result.query, (result.pipeline, 0))
        if parked:
            # The position stays: what is between the two is still to come.
            if pipeline != result.pipeline:
                return Outcome("reject", "this result is of another data directory")
        elif pipeline != result.pipeline:
            log.info("sink %s: table of %s starts anew: another data directory",
                     self._plan.name, result.query)  # fmt: skip
            table.clear()
        elif result.pos <= pos:
            return DELIVERED
        if not parked:
            cursors[result.query] = (result.pipeline, result.pos)
        if not one_by_one:
            table.put(result)
            return DELIVERED
        try:
            with self._db:
                table.put(result)
        except (ValueError, *REFUSED) as error:
            self._tables.pop(result.query, None)
            return Outcome("reject", f"this result cannot be stored: {error}")
        return DELIVERED

    def close(self) -> None:
        """Checkpoint and close."""
        self._db.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
