"""Random streams through random windows, with crashes: what fires equals plain SQL from scratch.

One seed fails again with `pytest "tests/differential/test_windows.py::<test>[<seed>]"`.
"""

import json
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from litejoin.plan.compile_panes import NoPanes, compile_panes
from litejoin.plan.nodes import PanePlan, Place, WindowPlan
from tests.differential.window_pipeline import Sent, WindowPipeline
from tests.reference.windows import GridOracle, Message, SessionOracle

SEEDS = range(8)
STEPS = 25
START_MS = 1_700_000_000_000

QUERIES = {
    "SELECT count(*) AS n, sum(payload ->> '$.v') AS total, min(payload ->> '$.v') AS least,"
    " max(payload ->> '$.v') AS most, avg(payload ->> '$.v') AS mean FROM orders": 5,
    "SELECT payload ->> '$.g' AS g, count(*) AS n, sum(payload ->> '$.v') AS total FROM orders"
    " GROUP BY 1 ORDER BY 1": 3,
    "SELECT payload ->> '$.g' AS g, sum(payload ->> '$.f') AS total, avg(payload ->> '$.f') AS mean"
    " FROM orders GROUP BY payload ->> '$.g' ORDER BY g": 3,
    "SELECT DISTINCT payload ->> '$.v' AS v FROM orders ORDER BY 1": 1,
    "SELECT count(DISTINCT payload ->> '$.g') AS n, min(timestamp) AS first FROM orders": 2,
}


def window(kind: str, rng: random.Random, query: str, width: int) -> WindowPlan:
    size = rng.choice([1_000, 7_000, 10_000])
    return WindowPlan(
        name="w",
        type=kind,  # type: ignore[arg-type]
        topic="orders",
        query=query,
        place=Place(1, 1),
        size_ms=None if kind == "session" else size,
        slide_ms=rng.choice([1_000, 300, size]) if kind == "sliding" else None,
        gap_ms=rng.choice([500, 3_000]) if kind == "session" else None,
        buffer_bound_ms=None,
        sinks=(),
        allowed_lateness_ms=rng.choice([0, 2_000, 15_000]),
        columns=columns_of(query, width),
        panes=panes_of(query, columns_of(query, width)),
        emit="close",
        time_path="at",
        partition_by=rng.choice([None, "p"]),
        offset_ms=rng.choice([0, 0, 250]) if kind != "session" else 0,
        idle_timeout_ms=10**9,
    )


def panes_of(query: str, columns: tuple[str, ...]) -> PanePlan | None:
    try:
        return compile_panes(query, columns)
    except NoPanes:
        return None


def columns_of(query: str, width: int) -> tuple[str, ...]:
    names = [part.split()[0].rstrip(",") for part in query.split(" AS ")[1:]]
    assert len(names) == width, names
    return tuple(names)


class Stream:
    """Messages out of order, repeated, late, with idle gaps."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now_ms = START_MS

    def flush(self) -> list[tuple[Sent, Message]]:
        rng = self._rng
        self._now_ms += rng.choice([0, 50, 700, 700, 4_000, 30_000 if rng.random() < 0.3 else 10])
        sent = []
        for _ in range(rng.choice([0, 1, 3, 20])):
            late_ms = rng.choice([0, 0, 100, 1_500, 9_000, 40_000])
            ms = self._now_ms - rng.randrange(late_ms + 1)
            partition = rng.choice(["a", "b", 7, None])
            payload = {
                "at": ms, "v": rng.choice([1, 2, -5, 10**6, None]), "g": rng.choice("xyz"),
                "f": rng.choice([0.1, 2.5, 1e-9, 3, 1e300, -1e300]), "p": partition,
            }  # fmt: skip
            text = json.dumps(payload)
            key = rng.choice(["k1", "k2", f"k{rng.random()}"])
            sent += [(Sent(key, text, 0), (ms, partition, text))] * rng.choice([1, 1, 2])
        return sent


def oracle_of(plan: WindowPlan) -> GridOracle | SessionOracle:
    if plan.type == "session":
        return SessionOracle(plan.query, plan.gap_ms or 0, plan.allowed_lateness_ms)
    return GridOracle(
        plan.query, plan.size_ms or 0, plan.slide_ms or plan.size_ms or 0,
        plan.allowed_lateness_ms, plan.offset_ms,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["tumbling", "sliding", "session"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_fires_is_the_query_over_its_messages(tmp_path: Path, seed: int, kind: str) -> None:
    rng = random.Random(f"{kind}{seed}")
    query, width = rng.choice(list(QUERIES.items()))
    plan = window(kind, rng, query, width)
    pipe = WindowPipeline(tmp_path, [plan], shards=rng.choice([1, 3]), start_ms=START_MS + 10**7)
    oracle, stream = oracle_of(plan), Stream(rng)
    expected: list[Any] = []
    crashes = 0
    for _ in range(STEPS):
        flush = stream.flush()
        if not flush:
            continue
        pipe.clock.advance(1_100)  # so that messages no longer needed are trimmed each time
        messages = [message for _, message in flush]
        if not plan.partition_by:
            messages = [(ms, None, text) for ms, _, text in messages]
        expected += oracle.flush(messages)
        if rng.random() < 0.2:
            crashes += 1
            pipe.write([sent for sent, _ in flush])
            pipe.reopen()
            pipe.fire()
        else:
            pipe.send(*(sent for sent, _ in flush))
    assert pipe.failures == []
    fired = [
        (_ms(b["window"]["start"]), _ms(b["window"]["end"]), b["key"], b["rows"])
        for b in pipe.bodies()
    ]
    pipe.close()
    assert sorted(map(_order, fired)) == sorted(map(_order, expected))
    if not crashes:
        assert pipe.engine.windows_health()["w"]["late"] == oracle.late


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _order(fired: tuple[int, int, Any, list[dict[str, Any]]]) -> str:
    start, end, partition, rows = fired
    return json.dumps([start, end, partition, rows])
