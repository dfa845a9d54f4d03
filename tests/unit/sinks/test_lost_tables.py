"""Sinks that say how far they are: what somebody has deleted there is built anew from the log, and
so is a table that another one stood in for.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import apsw
import psycopg
import pytest

from litejoin.plan.nodes import Plan, PostgresSinkPlan, Secret, SinkPlan, SqliteSinkPlan
from litejoin.sinks import sqlite
from litejoin.sinks.postgres import PostgresSink
from litejoin.sinks.sqlite import SqliteSink
from litejoin.store.sqlite import open_database
from tests.harness.postgres import PostgresServer, postgres_server
from tests.unit.delivery.harness import Running, join_plan, make_plan, running, until
from tests.unit.store.state_writer import StateWriter

ALL = {1: 1, 2: 2, 3: 3, 4: 4}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    """Keys 1 to 4 of each join."""
    writer = StateWriter(tmp_path / "state.db", "orders", "users")
    for join in ("orders", "users"):
        for n in range(1, 5):
            writer.put(join, n, {"n": n})
    yield writer
    writer.close()


def plan_of(folder: Path, sink: SinkPlan, *joins: str) -> Plan:
    joined = [join_plan(name, sink.name) for name in joins or ("orders", "users")]
    return make_plan(folder, joined, [sink])


async def idle(run: Running, name: str) -> None:
    dispatcher = run.delivery._dispatchers[name]
    await until(lambda: dispatcher.is_idle and dispatcher.cursor == run.signal.head, "idle")


class File:
    """A pipeline with a sqlite sink; `rows` looks into its file as others do."""

    def __init__(self, folder: Path, writer: StateWriter) -> None:
        self.path, self.writer = folder / "out.db", writer
        self.sink = SqliteSinkPlan("db", "at_least_once", self.path, None)
        self.plan = plan_of(folder, self.sink)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Running]:
        async with running(self.plan, self.writer, SqliteSink(self.sink, self.plan)) as run:
            await idle(run, "db")
            yield run

    async def put(self, run: Running, key: int) -> None:
        self.writer.put("orders", key, {"n": key})
        run.publish(self.writer)
        await idle(run, "db")

    def rows(self, join: str = "orders") -> dict[int, int]:
        return dict(self.execute(f'SELECT key, n FROM "{join}"'))

    def execute(self, sql: str) -> list[Any]:
        db = open_database(self.path, create=False)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()


@pytest.fixture
def file(tmp_path: Path, writer: StateWriter) -> File:
    return File(tmp_path, writer)


def drop(file: File) -> None:
    file.execute("DROP TABLE orders")


def delete(file: File) -> None:
    for path in file.path.parent.glob("out.db*"):
        path.unlink()


def move(file: File) -> None:
    file.path.rename(file.path.with_name("moved"))


@pytest.mark.parametrize("lose", [drop, delete, move])
@pytest.mark.parametrize("when", ["running", "stopped"])
def test_what_the_file_has_lost_is_there_again(
    file: File, lose: Callable[[File], None], when: Literal["running", "stopped"]
) -> None:
    async def story() -> None:
        async with file.run() as run:
            assert file.rows() == ALL
            if when == "running":
                lose(file)
                await file.put(run, 9)
        if when == "stopped":
            lose(file)
            async with file.run() as run:
                await file.put(run, 9)

    asyncio.run(story())
    assert file.rows() == ALL | {9: 9}
    assert file.rows("users") == ALL


def test_a_file_whose_identity_changes_all_the_time_gets_on(
    file: File, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Some network file systems give another inode number at each look."""
    inodes = iter(range(1_000))
    monkeypatch.setattr(sqlite, "_identity", lambda _: (0, next(inodes)))

    async def story() -> None:
        async with file.run() as run:
            await file.put(run, 9)
            delete(file)
            await file.put(run, 10)

    asyncio.run(story())
    assert file.rows() == ALL | {9: 9, 10: 10}
    assert caplog.text.count("was moved or replaced") == 1


def test_a_table_that_is_dropped_before_a_delete_has_the_rest(file: File) -> None:
    async def story() -> None:
        async with file.run() as run:
            drop(file)
            file.writer.put("orders", 2)
            run.publish(file.writer)
            await idle(run, "db")

    asyncio.run(story())
    assert file.rows() == {1: 1, 3: 3, 4: 4}


def test_a_file_that_cannot_be_made_is_tried_again(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with file.run() as run:
            delete(file)
            file.path.mkdir()
            file.writer.put("orders", 9, {"n": 9})
            run.publish(file.writer)
            await until(lambda: "FAILED sink send" in caplog.text)
            file.path.rmdir()
            await idle(run, "db")

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert file.rows() == ALL | {9: 9}


def test_a_full_disk_while_a_table_is_built_anew_forgets_nothing(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position goes with the table or not at all."""
    failures = [apsw.FullError("full")]
    forget = sqlite._File._forget

    def failing(self: sqlite._File, join: str) -> None:
        forget(self, join)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(sqlite._File, "_forget", failing)

    async def story() -> None:
        async with file.run() as run:
            drop(file)
            await file.put(run, 9)

    asyncio.run(story())
    assert not failures
    assert file.rows() == ALL | {9: 9}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


class Tables:
    """A pipeline with a postgres sink."""

    def __init__(self, server: PostgresServer, folder: Path, writer: StateWriter) -> None:
        self.connection = psycopg.connect(server.dsn(), autocommit=True)
        self.connection.execute(
            "DROP TABLE IF EXISTS orders, users, a, b, _litejoin_cursors, _litejoin_tables"
        )
        self.writer = writer
        self.sink = PostgresSinkPlan("pg", "at_least_once", Secret(server.dsn()), None)
        self.plan = plan_of(folder, self.sink)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Running]:
        async with running(self.plan, self.writer, PostgresSink(self.sink, self.plan)) as run:
            await idle(run, self.sink.name)
            yield run

    async def put(self, run: Running, key: int) -> None:
        self.writer.put("orders", key, {"n": key})
        run.publish(self.writer)
        await idle(run, "pg")

    def rows(self, join: str = "orders") -> dict[int, int]:
        found = self.connection.execute(f'SELECT key, n FROM "{join}"'.encode()).fetchall()
        return {int(key): int(n) for key, n in found}

    def lose_table(self) -> None:
        self.connection.execute("DROP TABLE orders")

    def lose_tail(self) -> None:
        """What a standby that takes over may not have: the last commits."""
        self.connection.execute("DELETE FROM users WHERE n > 2")
        self.connection.execute("UPDATE _litejoin_cursors SET pos = 6 WHERE \"join\" = 'users'")
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'litejoin pg'"
        )


@pytest.fixture
def tables(server: PostgresServer, tmp_path: Path, writer: StateWriter) -> Iterator[Tables]:
    tables = Tables(server, tmp_path, writer)
    yield tables
    tables.connection.close()


@pytest.mark.parametrize("lose", [Tables.lose_table, Tables.lose_tail])
@pytest.mark.parametrize("when", ["running", "stopped"])
def test_what_the_database_has_lost_is_there_again(
    tables: Tables, lose: Callable[[Tables], None], when: Literal["running", "stopped"]
) -> None:
    async def story() -> None:
        async with tables.run() as run:
            assert tables.rows() == ALL
            if when == "running":
                lose(tables)
                await tables.put(run, 9)
        if when == "stopped":
            lose(tables)
            async with tables.run() as run:
                await tables.put(run, 9)

    asyncio.run(story())
    assert tables.rows() == ALL | {9: 9}
    assert tables.rows("users") == ALL


@pytest.mark.parametrize("guarantee", ["best_effort", "at_least_once"])
def test_a_database_is_asked_at_the_start_and_not_with_the_next_result(
    tables: Tables, guarantee: str
) -> None:
    def has_all(table: str) -> bool:
        try:
            return tables.rows(table) == ALL
        except psycopg.ProgrammingError:  # no table, or no columns yet
            return False

    async def story() -> None:
        async with tables.run():
            await until(lambda: has_all("orders"))
        configure(tables, "orders", table="b", guarantee=guarantee)
        async with tables.run():
            await until(lambda: has_all("b"))
        if guarantee == "at_least_once":
            tables.connection.execute("DELETE FROM b WHERE n > 2")
            tables.connection.execute("UPDATE _litejoin_cursors SET pos = 2")
            async with tables.run():
                await until(lambda: has_all("b"))

    asyncio.run(story())


@pytest.fixture(params=["file", "tables"])
def target(request: pytest.FixtureRequest) -> File | Tables:
    """One after the other, a sink of each kind."""
    found: File | Tables = request.getfixturevalue(request.param)
    return found


def configure(target: File | Tables, *joins: str, **changes: Any) -> None:
    """As somebody does who changes the config and starts again."""
    target.sink = replace(target.sink, **changes)  # type: ignore[type-var,assignment]
    target.plan = plan_of(target.writer.path.parent, target.sink, *joins)


async def without(target: File | Tables, run: Running, key: int) -> None:
    """A row goes, and the log forgets that it was there."""
    target.writer.put("orders", key)
    run.publish(target.writer)
    await idle(run, target.sink.name)
    target.writer.trim(target.writer.head)


@pytest.mark.parametrize("guarantee", ["best_effort", "at_least_once"])
def test_a_table_that_is_the_target_again_is_filled_anew(
    target: File | Tables, guarantee: str
) -> None:
    expected = dict(ALL)

    async def story() -> None:
        for table, gone in (("a", 1), ("b", 2), ("a", 3), ("b", 4)):
            configure(target, "orders", table=table, guarantee=guarantee)
            async with target.run() as run:
                await without(target, run, gone)
                await target.put(run, 10 * gone)
            del expected[gone]
            expected[10 * gone] = 10 * gone
            assert target.rows(table) == expected

    asyncio.run(story())


def test_the_table_of_a_join_that_comes_back_is_filled_anew(target: File | Tables) -> None:
    async def story() -> None:
        async with target.run():
            pass
        configure(target, "users")
        async with target.run() as run:
            await without(target, run, 2)
            target.writer.put("users", 5, {"n": 5})
            run.publish(target.writer)
            await idle(run, target.sink.name)
        configure(target, "orders", "users")
        async with target.run() as run:
            await target.put(run, 9)

    asyncio.run(story())
    assert target.rows() == {1: 1, 3: 3, 4: 4, 9: 9}
    assert target.rows("users") == ALL | {5: 5}


def test_a_table_that_another_sink_fills_keeps_its_rows(target: File | Tables) -> None:
    """Two sinks may share a table, one for each of two joins with keys of their own."""
    target.writer.add_join("more")
    target.writer.put("more", 11, {"n": 11})

    async def story() -> None:
        for name, join in (("one", "orders"), ("two", "more")):
            configure(target, join, name=name, table="a")
            sink = (SqliteSink if isinstance(target, File) else PostgresSink)(
                target.sink, target.plan  # type: ignore[arg-type]
            )  # fmt: skip
            async with running(target.plan, target.writer, sink) as run:
                await idle(run, name)

    asyncio.run(story())
    assert target.rows("a") == ALL | {11: 11}


@pytest.mark.parametrize("forget", ["DROP TABLE", "DELETE FROM"])
def test_tables_of_a_version_that_noted_none_are_kept(target: File | Tables, forget: str) -> None:
    async def story() -> None:
        async with target.run() as run:
            await target.put(run, 9)
        execute = target.execute if isinstance(target, File) else target.connection.execute
        execute(f"{forget} _litejoin_tables")  # type: ignore[operator]
        execute("UPDATE orders SET n = 100 WHERE key = 1")  # type: ignore[operator]
        async with target.run() as run:
            await target.put(run, 10)

    asyncio.run(story())
    assert target.rows() == ALL | {1: 100, 9: 9, 10: 10}
