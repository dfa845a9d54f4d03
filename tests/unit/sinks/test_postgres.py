"""The postgres sink on a real server: the tables hold exactly the results up to their position."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from litejoin.errors import SinkError
from litejoin.plan.nodes import PostgresSinkPlan, Secret
from litejoin.records import Result
from litejoin.sinks.base import BatchSink, Outcome
from litejoin.sinks.postgres import CURSORS, PostgresSink
from tests.harness.ports import free_port
from tests.harness.postgres import PostgresServer, postgres_server
from tests.unit.delivery.harness import join_plan, make_plan
from tests.unit.sinks.test_sqlite import result


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def offered(sink: PostgresSink, results: Sequence[Result]) -> list[Outcome]:
    """As delivery does: once more when the sink says how far it is, as it does when it connects."""
    outcomes = list(await sink.deliver_batch(results))
    if outcomes[0].again_from is None:
        return outcomes
    return list(await sink.deliver_batch(results))


class Database:
    """A database of one test; `send` opens the sink anew, as after a restart."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        self.dsn = server.dsn(name)
        self.connection = psycopg.connect(self.dsn, autocommit=True)

    def sink(self, *joins: str, table: str | None = None, dsn: str = "") -> PostgresSink:
        plan = PostgresSinkPlan("pg", "at_least_once", Secret(dsn or self.dsn), table)
        joined = [join_plan(name, "pg") for name in joins or ("orders",)]
        return PostgresSink(plan, make_plan(Path("data"), joined, [plan]))

    def send(self, *results: Result, parked: bool = False, **options: Any) -> list[Outcome]:
        async def story() -> list[Outcome]:
            sink = self.sink(**options)
            await sink.open()
            try:
                if parked:
                    return [await sink.deliver(r) for r in results]
                return await offered(sink, results)
            finally:
                await sink.close()

        return asyncio.run(story())

    def rows(self, sql: str = 'SELECT * FROM "orders" ORDER BY _seq, _row') -> list[dict[str, Any]]:
        cursor = self.connection.execute(sql.encode())
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    database = Database(server, f"t{abs(hash(request.node.name)) % 10**12}")
    yield database
    database.connection.close()


def delivered(outcomes: list[Outcome]) -> bool:
    return {o.status for o in outcomes} == {"delivered"}


def test_rows_are_upserted_by_key_and_deletes_remove_them(database: Database) -> None:
    assert delivered(
        database.send(result(1, "a", {"id": "a", "n": 1}), result(2, "b", {"id": "b", "n": 2}))
    )
    assert delivered(database.send(result(3, "a", {"id": "a", "n": 9}), result(4, "b")))
    assert database.rows() == [{"_key": '"a"', "_row": 0, "_seq": 3, "key": "a", "id": "a", "n": 9}]


def test_within_a_batch_the_last_result_of_a_key_counts(database: Database) -> None:
    assert delivered(
        database.send(
            result(1, "a", {"n": 1}), result(2, "a"), result(3, "a", {"n": 3}, {"n": 4}),
            result(4, "b", {"n": 5}), result(5, "b"),
        )
    )  # fmt: skip
    assert [(r["_key"], r["_row"], r["n"]) for r in database.rows()] == [
        ('"a"', 0, 3),
        ('"a"', 1, 4),
    ]


def test_columns_have_the_type_of_their_first_value(database: Database) -> None:
    row = '{"t":"x","n":9007199254740993.5,"b":true,"o":{"a": 1.50},"l":[1],"no":null}'
    assert delivered(database.send(result(1, None, row)))
    (stored,) = database.rows()
    assert (stored["t"], str(stored["n"]), stored["b"]) == ("x", "9007199254740993.5", True)
    assert (stored["o"], stored["l"]) == ({"a": 1.5}, [1])
    assert "no" not in stored
    assert stored["_key"] == "null"


def test_a_table_made_beforehand_keeps_its_types(database: Database) -> None:
    database.connection.execute(
        "CREATE TABLE orders(_key text, _row int, _seq bigint, PRIMARY KEY(_key, _row),"
        " n double precision, day date, tags jsonb)"
    )
    row = {"n": 1, "day": "2026-11-24", "tags": ["x"]}
    assert delivered(database.send(result(1, "a", row)))
    (stored,) = database.rows()
    assert (stored["n"], str(stored["day"]), stored["tags"]) == (1.0, "2026-11-24", ["x"])


def test_only_the_result_that_cannot_be_stored_is_refused(database: Database) -> None:
    outcomes = database.send(
        result(1, "a", {"n": 1}), result(2, "b", {"n": "many"}), result(3, "c", {"n": 3}),
        result(4, "d", {"t": "a\0b"}), result(5, "e", {"x" * 64: 1}), result(6, "f", {"n": 6}),
    )  # fmt: skip
    assert [o.status for o in outcomes] == ["delivered", "reject", "delivered", "reject", "reject",
                                            "delivered"]  # fmt: skip
    assert "many" in outcomes[1].error
    assert [r["n"] for r in database.rows()] == [1, 3, 6]


def test_a_batch_that_comes_again_changes_nothing(database: Database) -> None:
    database.send(result(1, "a", {"n": 1}), result(5, "a", {"n": 5}))
    database.connection.execute("UPDATE orders SET n = 100")
    assert delivered(database.send(result(1, "a", {"n": 1}), result(5, "a", {"n": 5})))
    assert [r["n"] for r in database.rows()] == [100], "left out, so not written over"
    assert delivered(database.send(result(1, "a", {"n": 1}), parked=True))
    assert [r["n"] for r in database.rows()] == [1], "a parked one is written wherever it stands"
    assert database.rows(f"SELECT pos FROM {CURSORS}") == [{"pos": 5}]


def test_a_parked_result_does_not_move_the_position(database: Database) -> None:
    database.send(result(5, "a", {"n": 1}))
    assert delivered(database.send(result(9, "b", {"n": 2}), parked=True))
    assert database.rows(f"SELECT pos FROM {CURSORS}") == [{"pos": 5}]
    database.send(result(7, "c", {"n": 3}))
    assert {r["key"] for r in database.rows()} == {"a", "b", "c"}


def test_a_parked_result_of_another_history_or_join_is_rejected(database: Database) -> None:
    database.send(result(5, "a", {"n": 1}))
    (other,) = database.send(result(1, "b", {"n": 2}, pipeline="shop/another"), parked=True)
    (gone,) = database.send(result(4, "b", {"n": 2}, join="gone"), parked=True)
    assert (other.status, gone.status) == ("reject", "reject")
    assert "another data directory" in other.error
    assert "no results of gone" in gone.error
    assert [r["key"] for r in database.rows()] == ["a"]


def test_another_data_directory_starts_the_table_anew(database: Database) -> None:
    database.send(result(7, "a", {"n": 1}))
    database.send(result(1, "b", {"n": 2}, pipeline="shop/another-epoch-00"))
    assert [r["_key"] for r in database.rows()] == ['"b"']


def test_several_joins_have_several_tables(database: Database) -> None:
    results = [result(1, "a", {"n": 1}), result(2, "a", {"m": 2}, join="users-2")]
    assert delivered(database.send(*results, **{"table": None}))
    assert [r["m"] for r in database.rows('SELECT * FROM "users-2"')] == [2]
    with pytest.raises(SinkError, match="several joins"):
        asyncio.run(database.sink("orders", "users", table="t").open())


def test_a_table_that_is_not_ours_is_left_alone(database: Database) -> None:
    database.connection.execute("CREATE TABLE orders(n int)")
    outcomes = database.send(result(1, "a", {"n": 1}))
    assert outcomes[0].status == "retry"
    assert "not made by litejoin" in outcomes[0].error
    assert database.rows("SELECT * FROM orders") == []


def test_a_server_that_is_down_is_waited_for(database: Database) -> None:
    dsn = f"postgresql://lj:hunter2222@127.0.0.1:{free_port()}/x"

    async def story() -> Outcome:
        sink = database.sink(dsn=dsn)
        assert isinstance(sink, BatchSink)
        await sink.open()
        outcome = (await sink.deliver_batch([result(1, "a", {"n": 1})]))[0]
        await sink.close()
        return outcome

    outcome = asyncio.run(story())
    assert outcome.status == "retry"
    assert "hunter2222" not in outcome.error


def test_a_connection_that_is_cut_is_made_again(database: Database) -> None:
    async def story() -> list[str]:
        sink = database.sink()
        await sink.open()
        first = await offered(sink, [result(1, "a", {"n": 1})])
        database.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'litejoin pg'"
        )
        second = await sink.deliver_batch([result(2, "a", {"n": 2})])
        third = await offered(sink, [result(2, "a", {"n": 2})])
        await sink.close()
        return [o[0].status for o in (first, second, third)]

    assert asyncio.run(story()) == ["delivered", "retry", "delivered"]
    assert [r["n"] for r in database.rows()] == [2]


def test_a_connection_string_that_is_none_refuses_the_start(database: Database) -> None:
    with pytest.raises(SinkError, match="connection string") as refused:
        asyncio.run(database.sink(dsn="host=x hunter2222").open())
    assert "hunter2222" not in str(refused.value)


def test_names_are_names_whatever_they_hold(database: Database) -> None:
    odd = {'a "b"': 1, "x y": 2, "select": 3, "Total": 4, "total": 5, "ctid": 6, "_key": 7, "%s": 8}
    assert delivered(database.send(result(1, "a", odd)))
    (row,) = database.rows()
    assert [
        row[name] for name in ('a "b"', "x y", "select", "Total", "total", "ctid_", "_key_", "%s")
    ] == [*range(1, 9)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_table_is_the_last_result_of_each_key_whatever_is_sent_twice(
    database: Database, seed: int
) -> None:
    """Batches from random positions on, as after crashes, against a dictionary."""
    dice = random.Random(seed)
    log = []
    for pos in range(1, 200):
        rows = [{"n": pos * 10 + n} for n in range(dice.choice((0, 1, 1, 3)))]
        log.append(result(pos, dice.randrange(12), *rows))
    at = 0
    while at < len(log):
        start = max(0, at - dice.randrange(20))
        at = min(len(log), at + dice.randrange(1, 30))
        assert delivered(database.send(*log[start:at]))
    expected = {r.key: [row["n"] for row in json.loads(r.rows)] for r in log}
    found: dict[str, list[int]] = {}
    for row in database.rows():
        found.setdefault(row["_key"], []).append(int(row["n"]))
    assert found == {key: numbers for key, numbers in expected.items() if numbers}
