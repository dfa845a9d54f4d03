"""The sqlite sink: the file holds exactly the results up to its position, with real columns."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import structs

from litejoin.errors import SinkError
from litejoin.plan.nodes import Plan, SqliteSinkPlan
from litejoin.records import Result, ResultOp
from litejoin.sinks.base import BatchSink, Outcome
from litejoin.sinks.sqlite import SqliteSink
from litejoin.store.sqlite import open_database, open_readonly
from tests.unit.delivery.harness import join_plan, make_plan

PIPELINE = "shop/0123456789abcdef"
EPOCH = "0123456789abcdef"


def result(
    pos: int, key: Any, *rows: Any, join: str = "orders", pipeline: str = PIPELINE
) -> Result:
    op = ResultOp.UPSERT if rows else ResultOp.DELETE
    text = "[" + ",".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "]"
    return Result(pos, join, json.dumps(key), text, op, 0, pipeline)


class File:
    """A sink's file, opened anew for each batch as after a crash."""

    def __init__(self, folder: Path, *joins: str, table: str | None = None) -> None:
        self.path = folder / "out.db"
        (folder / "data").mkdir(exist_ok=True)
        sink = SqliteSinkPlan("local", "at_least_once", self.path, table)
        plans = [join_plan(name, "local") for name in joins or ("orders",)]
        self.plan: Plan = make_plan(folder / "data", plans, [sink])
        self.sink_plan = sink

    def send(self, *results: Result, parked: bool = False) -> list[Outcome]:
        async def story() -> Sequence[Outcome]:
            sink = SqliteSink(self.sink_plan, self.plan)
            assert isinstance(sink, BatchSink)
            await sink.open()
            try:
                if parked:
                    return [await sink.deliver(r) for r in results]
                return await sink.deliver_batch(results)
            finally:
                await sink.close()

        return list(asyncio.run(story()))

    def position(self, epoch: str = EPOCH) -> int | None:
        async def story() -> int | None:
            sink = SqliteSink(self.sink_plan, self.plan)
            await sink.open()
            position = sink.position(epoch)
            await sink.close()
            return position

        return asyncio.run(story())

    def rows(self, sql: str = 'SELECT * FROM "orders" ORDER BY _seq, _row') -> list[dict[str, Any]]:
        """Read the file as a user does, each row as a dict."""
        db = open_readonly(self.path)
        cursor = db.execute(sql)
        found = [dict(zip(names(cursor), row, strict=True)) for row in cursor]
        db.close()
        return found


def names(cursor: apsw.Cursor) -> list[str]:
    return [column[0] for column in cursor.get_description()]


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def delivered(outcomes: list[Outcome]) -> bool:
    return {o.status for o in outcomes} <= {"delivered"}


def test_rows_are_upserted_by_key_and_deletes_remove_them(file: File) -> None:
    assert delivered(
        file.send(result(1, "a", {"id": "a", "n": 1}), result(2, "b", {"id": "b", "n": 2}))
    )
    assert delivered(file.send(result(3, "a", {"id": "a", "n": 9}), result(4, "b")))
    assert not (file.path.parent / "out.db-wal").exists()
    assert file.rows() == [{"_key": '"a"', "_row": 0, "_seq": 3, "key": "a", "id": "a", "n": 9}]


def test_each_window_of_a_key_has_rows_of_its_own(file: File) -> None:
    def of(pos: int, start_ms: int, n: int) -> Result:
        return structs.replace(result(pos, "a", {"n": n}), start_ms=start_ms, end_ms=start_ms + 9)

    file.send(of(1, 0, 1), of(2, 10, 5), of(3, 0, 2))
    assert [(r["key"], r["window_start"], r["window_end"], r["n"]) for r in file.rows()] == [
        ("a", 10, 19, 5),
        ("a", 0, 9, 2),
    ]


def test_a_result_of_many_rows_replaces_all_rows_of_its_key(file: File) -> None:
    file.send(result(1, 1, {"n": 1}, {"n": 2}, {"n": 3}))
    file.send(result(2, 1, {"n": 7}, {"n": 8}))
    assert [(r["_row"], r["n"], r["key"]) for r in file.rows()] == [(0, 7, 1), (1, 8, 1)]


def test_values_keep_their_types(file: File) -> None:
    row = (
        '{"text":"a\\u0000b","whole":9007199254740993,"huge":18446744073709551616,"real":1e2,'
        '"no":null,"yes":true,"list":[1,{"a": 1.50}],"minus":-0.5}'
    )
    file.send(result(1, None, row))
    stored = file.rows()[0]
    assert stored["text"] == "a\0b"
    assert stored["whole"] == 9007199254740993
    assert stored["huge"] == "18446744073709551616"
    assert (stored["real"], stored["minus"]) == (100.0, -0.5)
    assert isinstance(stored["real"], float)
    assert (stored["no"], stored["yes"]) == (None, 1)
    assert stored["list"] == '[1,{"a": 1.50}]'
    assert (stored["_key"], stored["key"]) == ("null", None)


def test_keys_that_differ_in_type_only_are_different(file: File) -> None:
    file.send(*(result(n, key, {"n": n}) for n, key in enumerate([5, "5", None, "null", 5.0], 1)))
    assert len(file.rows()) == 5


def test_new_columns_are_added_and_odd_names_are_names(file: File) -> None:
    odd = {'a "b"': 1, "x y": 2, "select": 3, "Total": 4, "total": 5, "_key": 6, "Key": 7}
    assert delivered(file.send(result(1, "a", {"id": 1}), result(2, "b", odd)))
    row = file.rows()[1]
    assert (row['a "b"'], row["x y"], row["select"]) == (1, 2, 3)
    assert (row["Total"], row["total_2"], row["_key_2"], row["key"]) == (4, 5, 6, 7)
    assert file.rows()[0]["Total"] is None


def test_the_joins_columns_are_there_from_the_start(file: File) -> None:
    assert file.position() == 0
    columns = [c["name"] for c in file.rows("SELECT name FROM pragma_table_info('orders')")]
    assert columns == ["_key", "_row", "_seq", "key", "id", "n"]


def test_what_the_file_has_already_is_left_out(file: File) -> None:
    file.send(result(5, "a", {"n": "new"}))
    assert delivered(file.send(result(3, "a", {"n": "old"}), result(5, "a", {"n": "again"})))
    assert [r["n"] for r in file.rows()] == ["new"]
    assert file.position() == 5


def test_the_position_is_the_least_of_the_sinks_joins(tmp_path: Path) -> None:
    file = File(tmp_path, "orders", "users")
    file.send(result(5, "a", {"n": 1}), result(6, "u", {"n": 1}, join="users"))
    assert file.position() == 5
    assert file.position("another") == 0
    more = File(tmp_path, "orders", "users", "added")
    assert more.position() == 0


def test_a_parked_result_is_stored_although_the_file_is_further(file: File) -> None:
    file.send(result(5, "a", {"n": 1}))
    assert delivered(file.send(result(4, "b", {"n": 2}), parked=True))
    assert {r["key"] for r in file.rows()} == {"a", "b"}
    assert file.position() == 5


def test_a_parked_result_does_not_move_the_position(file: File) -> None:
    """What lies between the two may still come: from a copy of the file that is older."""
    file.send(result(5, "a", {"n": 1}))
    assert delivered(file.send(result(9, "b", {"n": 2}), parked=True))
    assert file.position() == 5
    file.send(result(7, "c", {"n": 3}))
    assert {r["key"] for r in file.rows()} == {"a", "b", "c"}


def test_a_parked_result_of_another_history_or_join_is_rejected(file: File) -> None:
    file.send(result(5, "a", {"n": 1}))
    (other,) = file.send(result(1, "b", {"n": 2}, pipeline="shop/another"), parked=True)
    (gone,) = file.send(result(4, "b", {"n": 2}, join="gone"), parked=True)
    assert (other.status, gone.status) == ("reject", "reject")
    assert "another data directory" in other.error
    assert "no results of gone" in gone.error
    assert [r["key"] for r in file.rows()] == ["a"]


def test_another_data_directory_starts_the_table_anew(file: File) -> None:
    file.send(result(50, "gone", {"n": 1}))
    file.send(result(1, "a", {"n": 1}, pipeline="shop/another"))
    assert [r["key"] for r in file.rows()] == ["a"]
    assert file.position("another") == 1


def test_a_result_that_cannot_be_stored_is_rejected_alone(file: File) -> None:
    wide = {f"c{n}": n for n in range(2_500)}
    outcomes = file.send(result(1, "a", {"n": 1}), result(2, "b", wide), result(3, "c", {"x": 1}))
    assert [o.status for o in outcomes] == ["delivered", "reject", "delivered"]
    assert "too many columns" in outcomes[1].error
    assert [r["key"] for r in file.rows()] == ["a", "c"]
    nul = file.send(result(4, "d", '{"a\\u0000b":1}'), result(5, "e", {"n": 1}))
    assert [o.status for o in nul] == ["reject", "delivered"]
    fresh = file.send(result(6, "f", {"n": 1, "fresh": 2}), result(7, "g", wide))
    assert [o.status for o in fresh] == ["delivered", "reject"], "its new column was rolled back"


def test_a_locked_file_is_a_retry_for_the_whole_batch(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litejoin.sinks.sqlite.BUSY_MS", 20)
    file.send(result(1, "a", {"n": 1}))

    async def story() -> tuple[Sequence[Outcome], Sequence[Outcome]]:
        sink = SqliteSink(file.sink_plan, file.plan)
        await sink.open()
        other = open_database(file.path)
        other.execute("BEGIN IMMEDIATE")
        batch = [result(2, "b", {"n": 1}), result(3, "c", {"new": 1})]
        first = await sink.deliver_batch(batch)
        other.execute("COMMIT")
        other.close()
        second = await sink.deliver_batch(batch)
        await sink.close()
        return first, second

    first, second = asyncio.run(story())
    assert [o.status for o in first] == ["retry", "retry"]
    assert "locked" in first[0].error
    assert delivered(list(second))
    assert [r["key"] for r in file.rows()] == ["a", "b", "c"]


def test_one_table_for_one_join_can_be_named(tmp_path: Path) -> None:
    file = File(tmp_path, table="My Table")
    file.send(result(1, "a", {"n": 1}))
    assert len(file.rows('SELECT * FROM "My Table"')) == 1
    with pytest.raises(SinkError, match="several joins"):
        File(tmp_path, "orders", "users", table="t").send()


def test_a_users_own_table_is_not_touched(file: File) -> None:
    db = open_database(file.path)
    db.execute("CREATE TABLE orders(id); INSERT INTO orders VALUES(1)").fetchall()
    db.close()
    with pytest.raises(SinkError, match="not made by litejoin"):
        file.send()
    assert file.rows("SELECT * FROM orders") == [{"id": 1}]


@pytest.mark.parametrize(
    "name", ["data/state.db", "data/dlq.db", "data/shard-0003.db", "data/lock", "data/marks",
             "data", "data/../data/manifest.json", "nowhere/x.db", "data/shard-0003.db-wal",
             ":memory:"],
)  # fmt: skip
def test_a_path_that_no_sink_may_write_refuses_the_start(file: File, name: str) -> None:
    folder = file.path.parent
    file.sink_plan = replace(file.sink_plan, path=folder / name)
    with pytest.raises(SinkError):
        file.send()
    assert list((folder / "data").iterdir()) == []


def test_a_file_that_is_no_database_refuses_the_start(file: File) -> None:
    file.path.write_bytes(b"something else entirely, longer than a header " * 100)
    with pytest.raises(SinkError, match="cannot open"):
        file.send()
    assert file.path.read_bytes().startswith(b"something else")


def test_any_history_in_any_batches_with_repeats_ends_as_the_current_state(file: File) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    history, state = list[Result](), dict[str, list[int]]()
    for pos in range(1, 300):
        rows = [{"n": rng.randrange(100)} for _ in range(rng.randrange(3))]
        history.append(result(pos, rng.randrange(12), *rows))
        state[history[-1].key] = [r["n"] for r in rows]
    at = 0
    while at < len(history):
        start = max(0, at - rng.randrange(30))
        at = min(len(history), at + rng.randrange(1, 60))
        assert delivered(file.send(*history[start:at]))
    stored: dict[str, list[int]] = {}
    for row in file.rows():
        stored.setdefault(row["_key"], []).append(row["n"])
    assert stored == {key: rows for key, rows in state.items() if rows}
