"""Partial results give what the query gives, or nothing."""

import json
import math
import random
import re
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin.engine.windows.exact import fits_sql, limbs_sql, real_sum
from litejoin.engine.windows.panes import Panes
from litejoin.engine.windows.spans import Span
from litejoin.plan.compile_panes import NoPanes, compile_panes
from litejoin.store.sqlite import open_memory

QUERY = (
    "SELECT payload ->> '$.g' AS g, count(*) AS n, count(payload ->> '$.v') AS c,"
    " sum(payload ->> '$.v') AS total, avg(payload ->> '$.v') AS mean,"
    " min(payload ->> '$.v') AS lo, max(payload ->> '$.v') AS hi FROM orders AS o"
    " WHERE o.key <> 'no' GROUP BY payload ->> '$.g'"
)
NAMES = ("g", "n", "c", "total", "mean", "lo", "hi")

Stored = list[tuple[int, int, str, str]]


def pane_rows(
    messages: Stored, batches: int, query: str, names: tuple[str, ...], span: Span
) -> Any:
    plan = compile_panes(query, names)
    db = open_memory()
    db.execute("CREATE TABLE b(time_ms, n, key, payload)")
    panes = Panes(db, 1, plan, 10, 5_000, 3, None)
    panes.prepare("d", lambda: panes.add("b", 0))
    for number in range(batches):
        db.execute("DELETE FROM b")
        db.executemany("INSERT INTO b VALUES(?, ?, ?, ?)", messages[number::batches])
        panes.add("b", 0)
    found = panes.rows(span, None)
    panes.close()
    return found


def plain_rows(messages: Stored, query: str, span: Span) -> Any:
    db = open_memory()
    db.execute("CREATE TABLE orders(key, payload, timestamp, timestamp_ms)")
    db.executemany(
        "INSERT INTO orders VALUES(?3, ?4, ?1 / 1000, ?1)",
        [m for m in messages if span.start_ms <= m[0] < span.end_ms],
    )
    return list(db.execute(query))


def stream(rng: random.Random, values: list[Any], count: int) -> Stored:
    return [
        (
            rng.randrange(10_000), number, rng.choice(["k", "no", "x"]),
            json.dumps({"v": rng.choice(values), "g": rng.choice(["a", "b", None, 7])}),
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_panes_equal_the_query_for_integers_and_everyday_reals(seed: int) -> None:
    rng = random.Random(seed)
    cents = [round(rng.uniform(-500, 500), 2) for _ in range(50)]
    values = rng.choice([[1, 5, -7, 2**39, None], cents, [*cents, 3, None], ["a", "b", None]])
    messages = stream(rng, values, 400)
    start = 3 + 10 * rng.randrange(-5, 500)
    span = Span(start, start + 10 * rng.choice([1, 7, 40, 300]))
    found = pane_rows(messages, rng.choice([1, 7]), QUERY, NAMES, span)
    if found is None:
        # Texts have no exact sum; among reals and integers, an extreme may be 3 or 3.0.
        assert isinstance(values[0], str) or {type(v) for v in values} >= {int, float}
    else:
        assert [tuple(map(repr, row)) for row in found] == [
            tuple(map(repr, row)) for row in plain_rows(messages, QUERY, span)
        ]


@pytest.mark.parametrize(
    "values",
    [[1, 1.0], [1e300, -1e300, 1], [2**62, 2**62, -(2**62)], ["5", 3], [1e-300], [0.0, -0.0]],
)  # fmt: skip
def test_what_is_not_certain_is_left_to_the_query(values: list[Any]) -> None:
    messages = stream(random.Random(1), values, 50)
    assert pane_rows(messages, 2, QUERY, NAMES, Span(3, 10_003)) is None


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=60))
def test_a_sum_of_reals_is_sqlites_or_none(values: list[float]) -> None:
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE t(v)")
    db.executemany("INSERT INTO t VALUES(?)", [(v,) for v in values])
    high, middle, low = limbs_sql("v")
    row = db.execute(
        f"SELECT sum(v), min({fits_sql('v')}), sum({high}), sum({middle}), sum({low}),"
        " total(abs(v)) FROM t"
    ).fetchone()
    assert row is not None
    expected, fits, *limbs, magnitude = row
    found = real_sum(0, tuple(limbs), len(values), magnitude) if fits else None
    assert found is None or repr(found) == repr(expected)
    if all(math.ldexp(v, 60).is_integer() for v in values) and abs(expected) > 1e-3:
        assert fits


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT key, payload FROM orders", "no aggregate"),
        ("SELECT key, max(payload), timestamp FROM orders GROUP BY key", "neither a group"),
        ("SELECT count(>DISTINCT key), 1, 2 FROM orders", "DISTINCT"),
        ("SELECT >max(1, 2), count(*), 3 FROM orders", "several values"),
        ("SELECT count(*) >OVER (), 1, 2 FROM orders", "OVER"),
        ("SELECT count(*), >random(), 1 FROM orders", "random()"),
        ("SELECT sum(a.payload), 1, 2 FROM orders a>, orders b", "the topic alone"),
        ("SELECT count(*), >group_concat(key), 1 FROM orders", "group_concat()"),
        ("SELECT count(*), (>SELECT 1), 2 FROM orders", "a query within"),
        ("SELECT count(*), 1, 2 FROM orders GROUP BY >7", "GROUP BY names no column"),
        ("SELECT count(*), 1, 2 FROM orders GROUP BY >nothing", "GROUP BY nothing"),
    ],
)
def test_other_queries_are_run_over_their_messages(query: str, reason: str) -> None:
    """`>` marks the place that is shown."""
    with pytest.raises(NoPanes, match=re.escape(reason)) as found:
        compile_panes(query.replace(">", ""), ("a", "b", "c"))
    assert found.value.offset == max(query.find(">"), 0)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT round(avg(payload ->> 'v'), 2) AS m, sum(timestamp) / count(*) AS t FROM orders",
        "SELECT key, count(*) AS n FROM orders GROUP BY 1 HAVING count(*) > 3 ORDER BY n DESC, key",
        "SELECT upper(key) AS k, count(*) AS n FROM orders WHERE payload LIKE '%v%' GROUP BY k",
    ],
)
def test_what_is_made_of_aggregates_comes_from_panes(query: str) -> None:
    messages = stream(random.Random(3), [1, 2, 3], 60)
    span = Span(3, 10_003)
    assert pane_rows(messages, 3, query, ("a", "b"), span) == plain_rows(messages, query, span)
