"""Keeps the current rows of each join in PostgreSQL tables: upsert by key, delete on delete.

Written in batches on one thread. The rows and the position they belong to commit in one
transaction, and the position is read again (and locked) in each: a batch that is offered again, by
whatever process, is recognised and left out. A server that is down is waited for; a value that a
column cannot hold refuses its result only. A table that is gone is built anew, and with
at_least_once what a server has lost (it was restored, another one took over) comes again: delivery
goes back to the position that is stored there. A table that nobody's position speaks for (its sink
wrote to another one meanwhile, or had the join no more) is built anew, too.

    table               columns                             meaning
    <join>              see postgres_table                  current rows
    _litejoin_cursors   pipeline, sink, join, epoch, pos    results of the join are in up to pos
    _litejoin_tables    pipeline, sink, join, table         and this is the table that they are in
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import msgspec
import psycopg
from psycopg import conninfo, errors

from litejoin.errors import SinkError
from litejoin.plan.nodes import Plan, PostgresSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.postgres_table import PostgresTable, check_name
from litejoin.sinks.workers import Workers

CURSORS = "_litejoin_cursors"
TABLES = "_litejoin_tables"

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS {CURSORS}(pipeline text, sink text, "join" text, epoch text NOT NULL,
    pos bigint NOT NULL, PRIMARY KEY(pipeline, sink, "join"));
CREATE TABLE IF NOT EXISTS {TABLES}(pipeline text, sink text, "join" text, "table" text NOT NULL,
    PRIMARY KEY(pipeline, sink, "join"))
"""

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 60_000
"""A lock that somebody holds on a table ends as a failed attempt, not as a hang."""

CLOSE_TIMEOUT_S = 1.0

REFUSED = (
    ValueError, msgspec.MsgspecError, psycopg.DataError, psycopg.IntegrityError,
    errors.DatatypeMismatch, errors.TooManyColumns, errors.ProgramLimitExceeded,
)  # fmt: skip
"""One result cannot be stored, and will not be as the table is."""

log = logging.getLogger("litejoin.postgres")

Work = Callable[[], list[Outcome]]


class PostgresSink:
    """A database with a table for each join, or for the one join when `table` is set."""

    max_in_flight = 1
    max_batch = 500

    def __init__(self, plan: PostgresSinkPlan, pipeline: Plan) -> None:
        self.name = plan.name
        self._plan = plan
        self._joins = pipeline.results_of(plan.name)
        late = {window.late_name for window in pipeline.windows}
        self._database = _Database(plan, self._joins, late)
        self._workers: Workers[None, Work, list[Outcome]] | None = None

    async def open(self) -> None:
        """Raises SinkError for a connection string or names that can never work."""
        try:
            conninfo.conninfo_to_dict(self._plan.dsn)
        except psycopg.Error:
            # Its own text repeats the connection string.
            raise SinkError(
                f"sink {self.name}: `dsn` is not a connection string",
                hint="write it as postgresql://user:password@host:5432/database",
            ) from None
        if self._plan.table and len(self._joins) > 1:
            raise SinkError(
                f"sink {self.name}: `table` is set, but several joins write to the sink",
                hint="leave `table` out (one table a join), or make one sink for each join",
            )
        for name in [self._plan.table] if self._plan.table else self._joins:
            try:
                check_name(name, "table")
            except ValueError as error:
                raise SinkError(f"sink {self.name}: {error}", hint="set `table`") from None
        self._workers = Workers(f"lj-sink-{self.name}", 1, lambda: None, lambda _, work: work())

    def position(self, epoch: str) -> int | None:
        """None: the server may be down now; it is asked with every batch."""
        return None

    async def ask(self, pipeline: str) -> Outcome:
        """Connect, and say how far the database is."""
        return (await self._submit(partial(self._database.ask, pipeline)))[0]

    async def deliver(self, result: Result) -> Outcome:
        """Store one parked result, whatever the stored position."""
        return (await self._submit(partial(self._database.store, [result], True)))[0]

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Store results in one transaction; those that are there already are left out."""
        return await self._submit(partial(self._database.store, results, False))

    async def _submit(self, work: Work) -> list[Outcome]:
        assert self._workers is not None
        return await self._workers.submit(work)

    async def close(self) -> None:
        """Close the connection; a server that hangs is not waited for."""
        if self._workers is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._submit(self._database.close)
            self._workers.stop()


class _LostTableError(Exception):
    """A table is gone whose join is stored up to a position. Never leaves this module."""

    def __init__(self, table: str, join: str) -> None:
        super().__init__(f"the table {table} is gone")
        self.join = join


FAILED = (psycopg.Error, SinkError, _LostTableError, *REFUSED)
"""The batch is offered again, over another connection."""


class _Database:
    """The connection; used by the sink's thread only."""

    def __init__(
        self, plan: PostgresSinkPlan, joins: Collection[str], late: Collection[str]
    ) -> None:
        """`late`: names of late messages, of which there may be none for ever."""
        self._plan = plan
        self._joins = joins
        self._late = late
        self._is_known = False
        """It was asked how far it is, over this connection."""
        self._connection: psycopg.Connection[Any] | None = None
        self._tables: dict[str, PostgresTable] = {}
        self._begun: set[str] = set()
        """Joins of which it has a position."""
        self._anew: set[str] = set()
        """Joins whose position was forgotten since the start."""

    def store(self, results: Sequence[Result], parked: bool) -> list[Outcome]:
        """Store in one transaction. Blocking; never raises."""
        try:
            return self._store(results, parked)
        except FAILED as error:
            self._disconnect()
            return [Outcome("retry", self._described(error))] * len(results)

    def ask(self, pipeline: str) -> list[Outcome]:
        """One outcome: see `AskedSink`. Blocking; never raises."""
        try:
            return [self._news(self._connected(), pipeline) or DELIVERED]
        except FAILED as error:
            self._disconnect()
            return [Outcome("retry", self._described(error))]

    def close(self) -> list[Outcome]:
        """Disconnect."""
        self._disconnect()
        return []

    def _store(self, results: Sequence[Result], parked: bool) -> list[Outcome]:
        connection, pipeline = self._connected(), results[0].pipeline
        if not parked and (news := self._news(connection, pipeline)):
            return [news] * len(results)
        try:
            try:
                return self._transaction(results, parked, one_by_one=False)
            except REFUSED:
                # One of them cannot be stored at all: find out which.
                return self._transaction(results, parked, one_by_one=True)
        except _LostTableError as lost:
            if parked:
                raise
            self._rebuild(connection, pipeline, lost)
            return [self._again(connection, pipeline, str(lost))] * len(results)

    def _news(self, connection: psycopg.Connection[Any], pipeline: str) -> Outcome | None:
        """How far the database is, once a connection."""
        if self._is_known:
            return None
        is_short = self._settle(connection, pipeline)
        self._is_known = True
        if is_short or self._plan.guarantee == "at_least_once":
            return self._again(connection, pipeline, "connected")
        return None

    def _settle(self, connection: psycopg.Connection[Any], pipeline: str) -> bool:
        """Forget the positions that are of no table of ours any more, and empty the tables of ours
        that no position speaks for. True: there are joins of which it has nothing.
        """
        self._begun.clear()
        with connection.transaction():
            stored = self._stored(connection, pipeline)
            left, claimed = self._compare(connection, pipeline)
            self._forget(connection, pipeline, left)
            empty = [join for join in self._joins if join in left or join not in stored]
            for join in empty:
                table = self._table(connection, join)
                if not {None, self._target(join)} & claimed:
                    table.clear()
            with connection.cursor() as cursor:
                cursor.executemany(
                    f'INSERT INTO {TABLES}(pipeline, sink, "join", "table")'
                    ' VALUES(%s, %s, %s, %s) ON CONFLICT(pipeline, sink, "join")'
                    ' DO UPDATE SET "table" = excluded."table"',
                    [(*self._ours(pipeline), join, self._target(join)) for join in self._joins],
                )
        return not self._counted().isdisjoint(empty)

    def _compare(
        self, connection: psycopg.Connection[Any], pipeline: str
    ) -> tuple[set[str], set[str | None]]:
        """Joins that go to another table now, or nowhere; and the tables of which other sinks have
        a position. None: it was noted by a version that did not say of which.
        """
        left, claimed = set[str](), set[str | None]()
        rows = connection.execute(
            f'SELECT pipeline, sink, "join", "table" FROM {CURSORS}'
            f' LEFT JOIN {TABLES} USING(pipeline, sink, "join")'
        )
        for its_pipeline, sink, join, table in rows:
            if (its_pipeline, sink) != self._ours(pipeline):
                claimed.add(table)
            elif join not in self._joins:
                left.add(join)
            elif table not in (None, self._target(join)):
                log.info("sink %s: results of %s go to table %s instead of %s; it is filled anew",
                         sink, join, self._target(join), table)  # fmt: skip
                left.add(join)
        return left, claimed

    def _forget(
        self, connection: psycopg.Connection[Any], pipeline: str, joins: Collection[str]
    ) -> None:
        """Of the joins there is nothing, or nothing that counts."""
        connection.execute(
            f'DELETE FROM {CURSORS} WHERE pipeline = %s AND sink = %s AND "join" = ANY(%s)',
            (*self._ours(pipeline), list(joins)),
        )
        self._anew.update(joins)

    def _rebuild(
        self, connection: psycopg.Connection[Any], pipeline: str, lost: _LostTableError
    ) -> None:
        log.warning("sink %s: %s; it is built anew", self._plan.name, lost)
        with connection.transaction():
            self._forget(connection, pipeline, [lost.join])
            PostgresTable(connection, self._target(lost.join))

    def _ours(self, pipeline: str) -> tuple[str, str]:
        return pipeline.rpartition("/")[0], self._plan.name

    def _target(self, join: str) -> str:
        return self._plan.table or join

    def _counted(self) -> set[str]:
        """The joins that say how far the sink is."""
        return {j for j in self._joins if j not in self._late or j in self._anew}

    def _again(self, connection: psycopg.Connection[Any], pipeline: str, reason: str) -> Outcome:
        stored, epoch = self._stored(connection, pipeline), pipeline.rpartition("/")[2]
        found = [stored.get(join, ("", 0)) for join in self._counted()]
        least = min((pos if its == epoch else 0 for its, pos in found), default=0)
        return Outcome("retry", reason, again_from=least)

    def _transaction(
        self, results: Sequence[Result], parked: bool, *, one_by_one: bool
    ) -> list[Outcome]:
        connection = self._connected()
        try:
            with connection.transaction():
                if parked:
                    return [self._put_parked(connection, result, one_by_one) for result in results]
                stored = self._cursors(connection, results[0].pipeline)
                wanted = [r for r in results if r.pos > stored.get(r.query, 0)]
                outcomes: dict[int, Outcome] = {}
                for group in _by_join(wanted):
                    outcomes |= self._put(connection, group, one_by_one)
                self._advance(connection, wanted)
        except BaseException:
            # Tables and columns may have been made and are gone again.
            self._tables.clear()
            raise
        return [outcomes.get(result.pos, DELIVERED) for result in results]

    def _put_parked(
        self, connection: psycopg.Connection[Any], result: Result, one_by_one: bool
    ) -> Outcome:
        """The position stays: what is between the two is still to come."""
        if result.query not in self._joins:
            return Outcome("reject", f"the sink has no results of {result.query} any more")
        stored = self._stored(connection, result.pipeline)
        self._begun = set(stored)
        epoch = result.pipeline.rpartition("/")[2]
        if stored.get(result.query, (epoch, 0))[0] != epoch:
            return Outcome("reject", "this result is of another data directory")
        return self._put(connection, [result], one_by_one).get(result.pos, DELIVERED)

    def _put(
        self, connection: psycopg.Connection[Any], group: Sequence[Result], one_by_one: bool
    ) -> dict[int, Outcome]:
        table = self._table(connection, group[0].query)
        if not one_by_one:
            table.put(group)
            return {}
        refused = {}
        for result in group:
            try:
                with connection.transaction():
                    table.put([result])
            except REFUSED as error:
                self._tables.pop(result.query, None)
                table = self._table(connection, result.query)
                refused[result.pos] = Outcome(
                    "reject", f"this result cannot be stored: {self._described(error)}"
                )
        return refused

    def _table(self, connection: psycopg.Connection[Any], join: str) -> PostgresTable:
        if join not in self._tables:
            table = PostgresTable(connection, self._target(join))
            if table.is_new and join in self._begun:
                raise _LostTableError(self._target(join), join)
            self._tables[join] = table
        return self._tables[join]

    def _cursors(self, connection: psycopg.Connection[Any], pipeline: str) -> dict[str, int]:
        """Positions by join, locked until the commit. Rows of another epoch are forgotten."""
        rows, epoch = self._stored(connection, pipeline), pipeline.rpartition("/")[2]
        self._begun = {join for join, (found, _) in rows.items() if found == epoch}
        for join in rows.keys() - self._begun:
            log.info("sink %s: table of %s starts anew: another data directory",
                     self._plan.name, join)  # fmt: skip
            self._table(connection, join).clear()
        return {join: pos if join in self._begun else 0 for join, (_, pos) in rows.items()}

    def _stored(
        self, connection: psycopg.Connection[Any], pipeline: str
    ) -> dict[str, tuple[str, int]]:
        """Epoch and position by join."""
        rows = connection.execute(
            f'SELECT "join", epoch, pos FROM {CURSORS} WHERE pipeline = %s AND sink = %s'
            " FOR UPDATE",
            self._ours(pipeline),
        ).fetchall()
        return {join: (epoch, pos) for join, epoch, pos in rows}

    def _advance(self, connection: psycopg.Connection[Any], results: Sequence[Result]) -> None:
        last = {result.query: result.pos for result in results}
        if not last:
            return
        name, _, epoch = results[0].pipeline.rpartition("/")
        with connection.cursor() as cursor:
            cursor.executemany(
                f'INSERT INTO {CURSORS}(pipeline, sink, "join", epoch, pos)'
                ' VALUES(%s, %s, %s, %s, %s) ON CONFLICT(pipeline, sink, "join")'
                " DO UPDATE SET epoch = excluded.epoch, pos = excluded.pos",
                [(name, self._plan.name, join, epoch, pos) for join, pos in last.items()],
            )

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self._tables.clear()
        self._is_known = False
        connection = psycopg.connect(
            self._plan.dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S,
            application_name=f"litejoin {self._plan.name}",
        )  # fmt: skip
        try:
            connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
            connection.execute("SET client_min_messages = warning")
            connection.execute(_SCHEMA)
        except psycopg.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection, self._is_known = None, False

    def _described(self, error: Exception) -> str:
        """One line without what the connection string hides."""
        text = " ".join(str(error).split()) or type(error).__name__
        parts = conninfo.conninfo_to_dict(self._plan.dsn)
        password = str(parts.get("password") or "")
        return text.replace(password, "***") if len(password) > 3 else text


def _by_join(results: Sequence[Result]) -> list[list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.query, []).append(result)
    return list(groups.values())
