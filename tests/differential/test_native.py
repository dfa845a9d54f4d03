"""The native level against the delta level: same histories, same bytes in the results log.

What only the native level does: values of JSON paths without SQLite, rows from change sets and from
the cache, falling back when a row is not certain.
"""

import json
import random
from pathlib import Path

import apsw
import pytest

from litejoin.errors import CorruptionError
from litejoin.plan.delta import IndexRegistry
from litejoin.plan.native import native_plan
from litejoin.plan.shape import NotPlain
from litejoin.records import Row, RowKind
from tests.differential.pipeline import TOPICS, EnginePipeline, engine_pipeline, make_plans
from tests.differential.queries import QUERIES

DELTA_ONLY = {
    "self": "a condition over several references is no equality",
    "tags": "the table-valued function json_each",
    "ordered": "ORDER BY",
}

VALUES = {
    "paths": """SELECT key, payload ->> 'a' AS a, json_extract(payload, '$.a') AS b,
        json_extract(payload, '$.a.b') AS deep, payload ->> '$.a.b.c' AS deeper, timestamp, payload
        FROM orders""",
    "as-text": """SELECT o.key AS k, p.key AS p, o.payload ->> 'a' AS a FROM orders o
        JOIN products p ON p.key = o.payload ->> 'a'""",
    "as-value": """SELECT o.key AS k, p.key AS p, o.payload ->> 'a' AS a, p.payload ->> 'a' AS b
        FROM orders o JOIN products p ON p.payload ->> 'a' = o.payload ->> 'a'""",
    "by-value": """SELECT o.payload ->> 'a' AS a, o.key AS k, p.key AS p FROM orders o
        LEFT JOIN products p ON p.key = o.payload ->> 'a'""",
    "left-where": """SELECT o.key AS k, p.key AS p FROM orders o
        LEFT JOIN products p ON p.key = o.payload ->> 'a' WHERE p.timestamp > 0""",
    "left-where-equal": """SELECT o.key AS k, p.key AS p FROM orders o
        LEFT JOIN products p ON p.key = o.payload ->> 'a' WHERE p.payload ->> 'a' = 1""",
    "beside": """SELECT o.key AS k, p.payload ->> 'a' AS a, o.payload ->> 'a' AS b FROM orders o
        JOIN products p ON p.key = o.key AND p.payload ->> 'a' = o.payload ->> 'a'""",
    "beside-left": """SELECT o.key AS k, p.key AS p FROM orders o
        LEFT JOIN products p ON p.key = o.key AND p.payload ->> 'a' = o.payload ->> 'a'""",
}

FRAGMENTS = [
    "1", "-1", "0", "-0", "0.0", "-0.0", "1.0", "1.50", "45.10", "0.0001", "0.00001", "1e3", "1E-3",
    "123456789012345678", "1234567890123456789", "9223372036854775808", "123456789012345.0",
    "12345678901234.5", "1234567890.12345", "1234567890.123456", "0.1", "100000.000", "3.0000000",
    '"1"', '"1.0"', '"text"', '"\\u0041"', '"a\\nb"', '""', '"日本"', "true", "false", "null",
    "[]", "[1]", "{}", '{"b":1}', '{"b":2.50,"c":3}', '{"b":{"c":4.5}}', '{"b":[1],"b":2}',
    '{"b":null,"b":2}', '{ "b" : "x" }', '{"\\u0062":7}',
]  # fmt: skip


def document(rng: random.Random) -> str:
    value = rng.choice(FRAGMENTS)
    if rng.random() < 0.3:
        value = f"{rng.uniform(-1e6, 1e6):.{rng.randint(1, 9)}f}"
    members = [f'"a":{value}', '"z":[1,{"a":2}]', f'"a":{rng.choice(FRAGMENTS)}', '"A" : 5']
    chosen = [m for m in members if rng.random() < 0.7]
    space = rng.choice(["", " "])
    return "{" + f"{space},{space}".join(chosen) + "}"


def histories(
    folder: Path, batches: list[list[tuple[str, str, str | None]]], queries: dict[str, str]
) -> list[list[tuple[str, str, str, int]]]:
    """The results log of each level, rows of a flush in order of join and key."""
    logs = []
    for level in ("native", "delta"):
        with engine_pipeline(folder / level, 2, queries, level) as p:
            for batch in batches:
                p.engine.apply(*p.write([row(p, *change) for change in batch]))
            logs.append(p.log())
    return logs


def row(p: EnginePipeline, topic: str, key: str, payload: str | None) -> Row:
    kind = RowKind.DELETE if payload is None else RowKind.UPSERT
    return Row(p.numbers[topic], kind, 1_700_000_000_123, key.encode(), (payload or "").encode())


@pytest.mark.parametrize("seed", range(4))
def test_values_are_sqlites_own(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    keys = ["1", "1.0", "text", "0", "日本", "3", "45.1", "true", "A", *map(str, range(40))]
    batches = [
        [(rng.choice(["orders", "products"]), rng.choice(keys), document(rng)) for _ in range(60)]
        for _ in range(8)
    ]
    native, delta = histories(tmp_path, batches, VALUES)
    assert native == delta
    assert len(native) > 500


def test_every_double_is_the_one_that_sqlite_reads(tmp_path: Path) -> None:
    rng = random.Random(5)
    batch: list[tuple[str, str, str | None]] = []
    for i in range(3000):
        digits = rng.randint(1, 15)
        whole = rng.randint(0, digits - 1)
        text = "".join(rng.choices("0123456789", k=digits))
        number = f"{int(text[:whole] or '0')}.{text[whole:]}"
        batch.append(("orders", f"k{i}", f'{{"a":{number}}}'))
    native, delta = histories(tmp_path, [batch], {"paths": VALUES["paths"]})
    assert native == delta


def test_the_queries_that_are_native() -> None:
    _, joins = make_plans(QUERIES, 8)
    assert {join.name for join in joins if join.strategy == "delta"} >= set(DELTA_ONLY)
    assert {join.name for join in joins if join.strategy == "native"} > {"inner", "left", "three"}


@pytest.mark.parametrize(("name", "reason"), DELTA_ONLY.items())
def test_what_is_not_native_says_why(name: str, reason: str) -> None:
    with pytest.raises(NotPlain, match=reason):
        native_plan(name, QUERIES[name], 0, TOPICS, IndexRegistry())


@pytest.mark.parametrize("row_cache_bytes", [0, 2000])
def test_a_row_cache_that_is_too_small_loses_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_cache_bytes: int
) -> None:
    """A ring of some ten rows wraps around all the time, and rows come from shards as well."""
    monkeypatch.setattr(EnginePipeline, "row_cache_bytes", row_cache_bytes)
    rng = random.Random(3)
    batches: list[list[tuple[str, str, str | None]]] = []
    for _ in range(60):
        batch: list[tuple[str, str, str | None]] = []
        for _ in range(rng.randint(1, 12)):
            topic, key = rng.choice(["orders", "users"]), f"u{rng.randrange(25)}"
            value = json.dumps(
                {"user_id": f"u{rng.randrange(25)}", "name": "N" * rng.choice([1, 9, 60, 300])}
            )
            batch.append((topic, key, None if rng.random() < 0.2 else value))
        batches.append(batch)
    queries = {name: QUERIES[name] for name in ("inner", "left", "user-side")}
    native, delta = histories(tmp_path, batches, queries)
    assert native == delta
    assert len(native) > 300


def test_a_damaged_partner_is_never_joined(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, {"j": QUERIES["inner"]}) as p:
        p.engine.apply(*p.write([row(p, "users", "u1", '{"name": "Ann"}')]))
    with engine_pipeline(tmp_path / "d", 1, {"j": QUERIES["inner"]}) as p:
        damage = apsw.Connection(str(tmp_path / "d" / "shard-0000.db"))
        damage.execute('UPDATE t2 SET payload = \'{"name": "Eve"}\'')
        damage.close()
        with pytest.raises(CorruptionError, match="shard 0"):
            p.engine.apply(*p.write([row(p, "orders", "o1", '{"user_id": "u1"}')]))
        assert p.state() == {}


def test_a_later_flush_is_never_mixed_with_an_earlier_one(tmp_path: Path) -> None:
    """The order moves on and its old user goes, all in a flush that the shards already show while
    the one before is evaluated: no result may pair the old order with no user.
    """
    with engine_pipeline(tmp_path / "d", 2, {"j": QUERIES["left"]}) as p:
        users = [row(p, "users", u, '{"name": "N", "region": "r2"}') for u in ("u1", "u2")]
        p.engine.apply(*p.write(users))
        first = p.write([row(p, "orders", "o1", '{"user_id": "u1"}')])
        second = p.write([row(p, "orders", "o1", '{"user_id": "u2"}'), row(p, "users", "u1", None)])
        p.engine.apply(*first)
        p.engine.apply(*second)
        found = [[r["u"] for r in json.loads(rows)] for _, _, rows, _ in p.log()]
        assert found == [["u2"]]


def test_a_row_of_a_later_flush_is_not_paired_with_a_remembered_one(tmp_path: Path) -> None:
    """Both change in a flush that the shards already show: half of it may not be told before."""
    query = """SELECT o.key AS k, o.payload ->> '$.n' AS n, u.payload ->> '$.n' AS m
        FROM orders o JOIN users u ON u.key = o.payload ->> '$.u'"""
    with engine_pipeline(tmp_path / "d", 2, {"j": query}) as p:
        p.engine.apply(*p.write([row(p, "users", "u1", '{"n": 1}')]))
        p.engine.apply(*p.write([row(p, "orders", "o0", '{"n": 0, "u": "u1"}')]))
        first = p.write([row(p, "orders", "o1", '{"n": 1, "u": "u1"}')])
        second = p.write(
            [row(p, "orders", "o1", '{"n": 2, "u": "u1"}'), row(p, "users", "u1", '{"n": 2}')]
        )
        p.engine.apply(*first)
        p.engine.apply(*second)
        found = [json.loads(rows)[0] for _, key, rows, _ in p.log() if key == '"o1"']
        assert [(each["n"], each["m"]) for each in found] == [(2, 2)]


def test_a_payload_that_is_no_json_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, {"j": QUERIES["projection"]}) as p:
        rows = [row(p, "orders", "o1", '{"amount": 1}'), row(p, "orders", "o2", "{bad")]
        applied = p.engine.apply(*p.write(rows))
        assert set(p.state()["j"]) == {'"o1"'}
        assert "'o2'" in applied.failures[0]
        assert "malformed JSON" in applied.failures[0]


@pytest.mark.parametrize("level", ["native", "delta"])
def test_flushes_that_are_evaluated_together_look_for_the_same_rows_once(
    tmp_path: Path, level: str
) -> None:
    """An engine that is behind catches up: a row that changes in each flush costs it once."""
    query = (
        "SELECT o.key AS k, i.payload ->> 'n' AS n FROM orders o"
        " LEFT JOIN products i ON i.payload ->> 'order' = o.key"
    )
    queries = {"inner": QUERIES["inner"], "j": query}
    with engine_pipeline(tmp_path / "d", 2, queries, level) as p:
        orders = [row(p, "orders", f"o{n}", '{"user_id": "u1"}') for n in range(50)]
        p.engine.apply(*p.write([row(p, "users", "u1", "{}"), *orders]))

        def reads_of(numbers: range) -> int:
            changes: list[bytes] = []
            for n in numbers:
                item = f'{{"order": "o{n % 3}", "n": {n}}}'
                items = [row(p, "products", f"p{i}", item) for i in range(9)]
                more, seq = p.write([row(p, "users", "u1", f'{{"name": "{n}"}}'), *items])
                changes += more
            with p.reads("orders") as reads:
                p.engine.apply(changes, seq)
            return len(reads)

        reads_of(range(1))
        one, many = reads_of(range(1, 2)), reads_of(range(2, 21))
        # From the first old version and from the last new one; natively by o0, too, in between.
        assert many == one + (level == "native")
        assert p.state()["inner"]['"o7"'] == ['{"k":"o7","name":"20","u":"u1"}']
        assert [len(p.state()["j"][f'"o{n}"']) for n in range(3)] == [1, 1, 9]
