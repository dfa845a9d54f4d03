"""Incremental equals from scratch: after every flush, the delivered state of each join is what
plain SQLite computes over the final contents of the topics, whatever the query, history, shard
count and restarts.

A failing seed replays with LITEJOIN_SEED=<seed>; LITEJOIN_HISTORIES=<n> runs more of them,
LITEJOIN_LEVEL=native or delta one level only.
"""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

import apsw
import pytest

from litejoin.errors import CorruptionError
from litejoin.records import Row, RowKind
from tests.differential.pipeline import TOPICS, EnginePipeline, engine_pipeline, make_plans
from tests.differential.queries import FULL, QUERIES
from tests.harness.results import canonical
from tests.reference.oracle import Oracle

HISTORIES = int(os.environ.get("LITEJOIN_HISTORIES", "2"))
STEPS = 12

KEYS = {
    "orders": [f"o{i}" for i in range(7)],
    "users": ["u1", "u2", "u3", "7", "7.0", "ü"],
    "products": ["p1", "p2", "7"],
}
FIELDS = {
    "orders": ("user_id", "product_id", "amount", "size", "tags"),
    "users": ("name", "region"),
    "products": ("title", "size", "owner"),
}


def random_payload(rng: random.Random, topic: str) -> str:
    value = {
        "user_id": rng.choice(["u1", "u2", "u3", "7", 7, 7.0, None, "ü"]),
        "product_id": rng.choice(["p1", "p2", 7]),
        "amount": rng.choice([1, 50, 50.5, 99, "100", None]),
        "size": rng.choice([5, 5.0, "5", None, True, 2**53 + 1, 0.1]),
        "tags": rng.choice([[], ["a"], ["a", "b", {"c": 1}], None]),
        "name": rng.choice(["Ann", "Bob", 'q"\\\n', "日本"]),
        "region": rng.choice(["r1", "r2", None]),
        "title": rng.choice(["t", 1.5]),
        "owner": rng.choice(["u1", "u2", "7"]),
    }
    chosen = {field: value[field] for field in FIELDS[topic] if rng.random() < 0.9}
    return json.dumps(chosen, ensure_ascii=rng.random() < 0.5)


def random_batch(
    rng: random.Random, oracle: Oracle, numbers: Mapping[str, int], now_ms: int
) -> list[Row]:
    rows = []
    for _ in range(rng.choice([1, 1, 2, 5, 12])):
        topic = rng.choice(["orders", "orders", "users", "products"])
        key = rng.choice(KEYS[topic])
        payload = None if rng.random() < 0.25 else random_payload(rng, topic)
        oracle.put(topic, key, payload, now_ms)
        kind = RowKind.DELETE if payload is None else RowKind.UPSERT
        rows.append(Row(numbers[topic], kind, now_ms, key.encode(), (payload or "").encode()))
    return rows


def assert_equal_to_oracle(p: EnginePipeline, oracle: Oracle, where: str) -> None:
    p.settle()
    state, replayed = p.state(), p.replayed()
    for name, query in p.queries.items():
        expected: dict[str, list[str]] = {}
        for row in oracle.rows(query):
            expected.setdefault(canonical(next(iter(row.values()))), []).append(canonical(row))
        for source, found in (("state", state), ("log", replayed)):
            got = {key: sorted(rows) for key, rows in found.get(name, {}).items()}
            want = {key: sorted(rows) for key, rows in expected.items()}
            assert got == want, f"{where}: {name} ({source})"


def seeds() -> list[int]:
    fixed = os.environ.get("LITEJOIN_SEED")
    return [int(fixed)] if fixed else list(range(HISTORIES))


def levels() -> list[str]:
    forced = os.environ.get("LITEJOIN_LEVEL")
    return [forced] if forced else ["native", "delta"]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("seed", seeds())
def test_incremental_equals_from_scratch(tmp_path: Path, seed: int, level: str) -> None:
    rng = random.Random(seed)
    print(f"seed {seed} level {level}")
    shards = rng.choice([1, 2, 8])
    oracle = Oracle(TOPICS)
    with engine_pipeline(tmp_path / "data", shards, QUERIES, level) as p:
        for step in range(STEPS):
            p.clock.advance(rng.choice([0, 1, 1500]))
            pending: list[bytes] = []
            for _ in range(rng.choice([1, 1, 3])):
                changes, seq = p.write(random_batch(rng, oracle, p.numbers, p.clock.now_ms()))
                pending += changes
            if rng.random() < 0.25:
                # Written but never evaluated: what kill -9 between the two leaves behind.
                p.close()
                p.open()
            else:
                p.engine.apply(pending, seq)
            assert_equal_to_oracle(p, oracle, f"seed {seed} step {step} shards {shards}")
    oracle.close()


def upsert(p: EnginePipeline, topic: str, key: str, payload: str) -> Row:
    return Row(p.numbers[topic], RowKind.UPSERT, 1, key.encode(), payload.encode())


def test_the_strategies_are_what_the_queries_allow() -> None:
    _, joins = make_plans(QUERIES, 8)
    assert {join.name for join in joins if join.strategy == "full"} == FULL


def test_a_changed_query_emits_only_the_differences(tmp_path: Path) -> None:
    select = "SELECT key, payload ->> '$.a' AS a FROM orders WHERE payload ->> '$.a'"
    with engine_pipeline(tmp_path / "d", 2, {"j": f"{select} > 1"}) as p:
        p.engine.apply(*p.write([upsert(p, "orders", f"k{i}", f'{{"a": {i}}}') for i in range(6)]))
    with engine_pipeline(tmp_path / "d", 2, {"j": f"{select} < 4"}) as p:
        emitted = sorted((key, op) for _, key, _, op in p.log()[4:])
        assert emitted == [('"k0"', 1), ('"k1"', 1), ('"k4"', 2), ('"k5"', 2)]


def test_a_key_that_cannot_be_computed_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    query = {"j": "SELECT key, abs(payload ->> '$.n') AS n FROM orders"}
    with engine_pipeline(tmp_path / "d", 2, query) as p:
        numbers = enumerate([1, -(2**63), 3])
        rows = [upsert(p, "orders", f"k{i}", f'{{"n": {n}}}') for i, n in numbers]
        applied = p.engine.apply(*p.write(rows))
        assert set(p.state()["j"]) == {'"k0"', '"k2"'}
        assert len(applied.failures) == 1
        assert "'k1'" in applied.failures[0]
        assert "integer overflow" in applied.failures[0]


@pytest.mark.parametrize("level", ["native", "delta"])
def test_what_a_row_without_a_key_held_up_is_made_up_for_when_it_is_repaired(
    tmp_path: Path, level: str
) -> None:
    query = {"j": "SELECT abs(payload ->> '$.n') AS k, count(*) AS c FROM orders GROUP BY 1"}
    with engine_pipeline(tmp_path / "d", 2, query, level) as p:
        for numbers in ({"k0": 1, "k1": 2}, {"k2": -(2**63), "k3": 1}, {"k4": 2}, {"k2": 5}):
            rows = [upsert(p, "orders", key, f'{{"n": {n}}}') for key, n in numbers.items()]
            applied = p.engine.apply(*p.write(rows))
            p.settle()
            assert bool(applied.failures) == ("k3" in numbers)
        assert p.state()["j"] == {
            "1": ['{"c":2,"k":1}'], "2": ['{"c":2,"k":2}'], "5": ['{"c":1,"k":5}'],
        }  # fmt: skip


def test_one_flush_of_both_sides_emits_no_intermediate_row(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 8, {"j": QUERIES["left"]}) as p:
        order = upsert(p, "orders", "o1", '{"user_id": "u1"}')
        user = upsert(p, "users", "u1", '{"name": "Ann", "region": "r2"}')
        p.engine.apply(*p.write([order, user]))
        assert [rows for _, _, rows, _ in p.log()] == ['[{"k":"o1","u":"u1","name":"Ann"}]']


def test_a_damaged_row_is_never_evaluated(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 1, {"j": QUERIES["projection"]}, "delta") as p:
        changes, seq = p.write([upsert(p, "orders", "o1", '{"amount": 1}')])
        damage = apsw.Connection(str(tmp_path / "d" / "shard-0000.db"))
        damage.execute("UPDATE t1 SET payload = '{\"amount\": 2}'")
        damage.close()
        with pytest.raises(CorruptionError, match="shard 0"):
            p.engine.apply(changes, seq)
        assert p.state() == {}


def test_a_damaged_row_is_never_taken_in_by_a_restart(tmp_path: Path) -> None:
    """It is none of the newest rows, which the start looks at."""
    with engine_pipeline(tmp_path / "d", 1, {"j": QUERIES["projection"]}) as p:
        p.write([upsert(p, "orders", f"k{n}", '{"amount": 1}') for n in range(300)])
        p.close()
        damage = apsw.Connection(str(tmp_path / "d" / "shard-0000.db"))
        damage.execute("UPDATE t1 SET payload = '{\"amount\": 2}' WHERE id = 1")
        damage.close()
        with pytest.raises(CorruptionError, match="shard 0"):
            p.open()
        assert p.state() == {}
