"""Random queries over random histories: 500 (query, history) pairs here, more by

    python -m tests.differential.fuzz --pairs 20000

LITEJOIN_SEED=<seed> replays one round, LITEJOIN_ROUNDS=<n> runs more of them.
"""

import os
import random
from pathlib import Path

import pytest

from tests.differential.fuzz import GRAMMARS
from tests.differential.grammar import Generated, QueryMaker
from tests.differential.machine import QUERIES_PER_ROUND, Round, Tally, run_round
from tests.differential.terms import Input

ROUNDS = int(os.environ.get("LITEJOIN_ROUNDS", "24"))
KINDS = {"layered": 6, "killed": 3}
"""Rounds of the other kinds; the grouped and the plain ones have tests of their own."""

CONSTRUCTS = """
    left join/right join/full join/cross join/comma join/using/self join/2-way/3-way/4-way/
    residual/non-equi/in subquery/not in subquery/exists/not exists/exists as value/
    scalar subquery/scalar in where/join in subquery/
    union all/union/except/intersect/cte/derived table/derived union all/grouped source/
    json_each/json_tree/join on json values/nested array/json text/json null/distinct/group by/
    having/count/sum/total/avg/min/max/count distinct/filter/group_concat/json_group_array/
    order by/window function/window input/join input/clock/cast text/cast integer/cast real/
    cast numeric/coalesce/ifnull/nullif/case/lower/concat/length/typeof/quote/collate/is/or/
    row value/in list/limit/random()/recursive/no group by
"""


KNOWN = """
    SELECT lower(d.payload ->> '$.b') AS x0, t.value AS x1 FROM products p
        JOIN users u ON p.key = u.payload ->> '$.a' CROSS JOIN json_tree(p.payload, '$.tags') t
        JOIN products d ON d.key = t.value;
    SELECT t.k AS x0 FROM (SELECT key AS k FROM products) t
        WHERE t.k IN (SELECT CAST(payload ->> '$.a' AS INTEGER) FROM users);
    SELECT p.payload ->> '$.a' AS x0 FROM products p
        WHERE p.payload ->> '$.a' IN (SELECT CAST(u.payload ->> '$.a' AS REAL) FROM users u);
    SELECT a.key AS x0, b.key AS x1 FROM users a JOIN orders b ON a.key = b.key COLLATE NOCASE;
    SELECT key AS x0, payload ->> '$.a' AS x1 FROM users WHERE key = 'U1' COLLATE NOCASE;
    SELECT u.key AS x0 FROM users u
        WHERE u.key IN (SELECT j.value FROM orders o, json_each(o.payload, '$.tags') j);
    SELECT o.key AS x0, u.key AS x1 FROM orders o
        JOIN users u ON u.payload ->> '$.a' IN (o.key, o.payload ->> '$.a');
    SELECT o.key AS x0, u.key AS x1 FROM orders o LEFT JOIN users u
        ON u.key = o.payload ->> '$.a' OR u.key = o.payload ->> '$.b'
"""
"""Queries that once differed."""


class KnownQueries(QueryMaker):
    """Those, again and again."""

    def query(self) -> Generated:
        self.count += 1
        texts = KNOWN.split(";")
        return Generated(texts[self.count % len(texts)].strip())


def seeds() -> list[int]:
    fixed = os.environ.get("LITEJOIN_SEED")
    return [int(fixed)] if fixed else list(range(ROUNDS))


def test_the_grammar_makes_every_construct() -> None:
    inputs = [Input("w", ("user", "n"), "window input"), Input("j", ("x0", "x1"), "join input")]
    maker = QueryMaker(random.Random(1), twins=False, inputs=inputs)
    made = set().union(*(maker.query().tags for _ in range(3_000)))
    assert {name.strip() for name in CONSTRUCTS.split("/")} <= made


@pytest.mark.parametrize("seed", seeds())
def test_any_query_over_any_history_equals_plain_sqlite(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    tally = Tally()
    run_round(seed, tmp_path / "data", tally)
    assert tally.pairs == QUERIES_PER_ROUND


@pytest.mark.parametrize("seed", range(3))
def test_what_once_differed_does_not_any_more(tmp_path: Path, seed: int) -> None:
    run_round(seed, tmp_path / "data", Tally(), Round, KnownQueries)


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_does_over_windows_and_joins_and_after_kill_9(tmp_path: Path, kind: str) -> None:
    fixed = os.environ.get("LITEJOIN_SEED")
    tally = Tally()
    for seed in [int(fixed)] if fixed else range(KINDS[kind]):
        print(f"seed {seed}")
        run_round(seed, tmp_path / str(seed), tally, *GRAMMARS[kind])
    assert tally.pairs % QUERIES_PER_ROUND == 0
    assert tally.events["restarts" if kind == "layered" else "kills"] or fixed
