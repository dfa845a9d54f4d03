"""Rows whose result key cannot be computed: reported, and all others are joined as if they were not
there.
"""

import json
import random
from pathlib import Path

import pytest

from litejoin.records import Row, RowKind
from tests.differential.pipeline import EnginePipeline, Rows, engine_pipeline

WORST = -(2**63)
"""abs() of it overflows, which fails the whole statement."""

QUERIES = {
    "group": "SELECT abs(o.payload ->> 'n') AS k, count(*) AS c FROM orders o{where} GROUP BY 1",
    "join": "SELECT abs(o.payload ->> 'n') AS k, o.key AS o, u.payload ->> 'name' AS name"
    " FROM orders o LEFT JOIN users u ON u.key = o.payload ->> 'user'{where}",
}
GUARD = f" WHERE o.payload ->> 'n' <> {WORST}"


def row(p: EnginePipeline, topic: str, key: str, value: object) -> Row:
    if value is None:
        return Row(p.numbers[topic], RowKind.DELETE, 1, key.encode(), b"")
    return Row(p.numbers[topic], RowKind.UPSERT, 1, key.encode(), json.dumps(value).encode())


def untold(key: str, join: str = "j") -> str:
    return (
        f"join {join}: message {key!r} of orders: its result key cannot be computed:"
        " integer overflow"
    )


@pytest.mark.parametrize("query", QUERIES)
def test_a_row_without_a_key_stops_no_other_row_of_its_flush(tmp_path: Path, query: str) -> None:
    with engine_pipeline(tmp_path / "d", 2, {"j": QUERIES[query].format(where="")}) as p:

        def push(**numbers: int | None) -> tuple[tuple[str, ...], set[str]]:
            rows = [row(p, "orders", k, n if n is None else {"n": n}) for k, n in numbers.items()]
            failures = p.engine.apply(*p.write(rows)).failures
            return failures, set(p.state().get("j", {}))

        assert push(a=1) == ((), {"1"})
        assert push(bad=WORST, b=2, c=3) == ((untold("bad"),), {"1", "2", "3"})
        assert push(b=4, worse=WORST) == ((untold("worse"),), {"1", "3", "4"})
        assert push(bad=5, a=WORST) == ((untold("a"),), {"3", "4", "5"})
        assert push(a=6, worse=None) == ((), {"3", "4", "5", "6"})


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("seed", range(4))
def test_results_are_those_of_the_rows_that_have_one(tmp_path: Path, query: str, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    plain, guarded = (QUERIES[query].format(where=where) for where in ("", GUARD))
    shards = rng.choice([1, 3])
    histories: list[Rows] = []
    for name, sql in (("plain", plain), ("guarded", guarded)):
        rng = random.Random(seed)
        with engine_pipeline(tmp_path / name, shards, {"j": sql}) as p:
            for _ in range(40):
                batch = [some_row(p, rng) for _ in range(rng.randint(1, 12))]
                p.engine.apply(*p.write(batch))
                histories.append(p.state())
    assert histories[:40] == histories[40:]
    assert len({json.dumps(state, sort_keys=True) for state in histories}) > 20


def some_row(p: EnginePipeline, rng: random.Random) -> Row:
    if rng.random() < 0.25:
        value = None if rng.random() < 0.2 else {"name": rng.choice("xyz")}
        return row(p, "users", f"u{rng.randrange(3)}", value)
    number = WORST if rng.random() < 0.3 else rng.randint(-4, 4)
    value = None if rng.random() < 0.15 else {"n": number, "user": f"u{rng.randrange(4)}"}
    return row(p, "orders", f"o{rng.randrange(15)}", value)
