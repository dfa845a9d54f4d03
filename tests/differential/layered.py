"""Rounds of the differential machine over whole configs: windows, joins that read them, and joins
that read those joins.

What every join shows must be its query, by plain SQL, over the topics and over what the windows
show (that windows show the right thing is proven elsewhere). Some flushes are lost to a crash
before they are evaluated, some fail for a full disk first.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import apsw

from litejoin.plan.nodes import Plan
from tests.differential.grammar import TOPICS, Generated, QueryMaker
from tests.differential.machine import (
    KEYS,
    NUMBERS,
    SCALARS,
    TAGS,
    Difference,
    Tally,
    check_no_scan,
    key_of,
)
from tests.differential.terms import Input
from tests.differential.views import views_over
from tests.differential.window_pipeline import Sent, WindowPipeline
from tests.harness.results import canonical
from tests.unit.plan.documents import plan_of

START_MS = 1_700_000_000_000
BASE, OVER, STEPS = 5, 11, 8
"""Joins over topics, joins over what there is, flushes."""

WINDOW_QUERY = (
    "SELECT payload ->> '$.user' AS user, count(*) AS n, max(key) AS last FROM orders GROUP BY 1"
)
WINDOW_INPUTS = [
    Input("per-user", ("user", "n", "last"), "window input"),
    Input("per-user", ("key", "n", "user"), "window input"),
    Input("busy", ("user", "n", "last"), "window input"),
    Input("visits", ("last", "n"), "window input"),
]
UNREADABLE = {"clock", "random()", "order by", "limit"}
"""Constructs of joins that no other join reads here: theirs are results of a moment, or of a choice
that is SQLite's."""


def _input(name: str, kind: str = "join input") -> Input:
    return Input(name, (f"{name}x0", f"{name}x1"), kind)


class LayeredRound:
    """One config with its history, all of it made from one seed."""

    def __init__(self, seed: int, tally: Tally, queries: type[QueryMaker] = QueryMaker) -> None:
        self.seed, self.tally, self.rng = seed, tally, random.Random(f"layered {seed}")
        self.maker = queries(self.rng, twins=False)
        self.queries: dict[str, Generated] = {}
        self._judge = self._empty()
        self._make(BASE, "b")
        self.maker.inputs = [*WINDOW_INPUTS, *(_input(each) for each in self.queries)] * 2
        self._make(OVER, "l")
        self.plan = plan_of(self._config())
        self.held: dict[str, dict[str, tuple[str, int]]] = {topic: {} for topic in TOPICS}
        self.now_ms = START_MS

    def _empty(self) -> apsw.Connection:
        """A database that knows which queries are valid."""
        db = apsw.Connection(":memory:")
        for topic in TOPICS:
            db.execute(f"CREATE TABLE {topic}(key TEXT, payload TEXT, timestamp INTEGER)")
        for each in WINDOW_INPUTS:
            db.execute(f'CREATE TABLE IF NOT EXISTS "{each.name}"(user, n, last, key)')
        return db

    def _make(self, count: int, prefix: str) -> None:
        """Add queries; each may be read by those that follow."""
        while sum(name.startswith(prefix) for name in self.queries) < count:
            name = f"{prefix}{len(self.queries)}"
            self.maker.x = f"{name}x"
            generated = self.maker.query()
            try:
                self._judge.execute(f"SELECT * FROM ({generated.sql}) LIMIT 0")
            except apsw.SQLError:
                self.tally.refused += 1
                continue
            if generated.tags & UNREADABLE:
                continue
            self._judge.execute(f"CREATE VIEW {name} AS {generated.sql}")
            self.queries[name] = generated
            if self.maker.inputs:
                self.maker.inputs.append(_input(name, "join over joins"))

    def _config(self) -> str:
        rng = self.rng
        shared = {"time_path": "at", "topic": "orders", "sink": "out"}
        late = {
            "allowed_lateness": rng.choice(["0s", "3s"]),
            "on_late": rng.choice(["drop", "update"]),
        }
        emit = {"emit": rng.choice(["close", "update"])}
        grouped = {"query": WINDOW_QUERY, "key_column": "user"}
        visits = "SELECT max(key) AS last, count(*) AS n FROM orders"
        windows = [
            {"name": "per-user", "type": "tumbling", "size": "5s"} | grouped | emit | late,
            {"name": "busy", "type": "sliding", "size": "6s", "slide": "2s"} | grouped,
            {"name": "visits", "type": "session", "gap": "2s", "partition_by": "user"}
            | {"query": visits}
            | late,
        ]
        joins = [
            {"name": name, "sink": "out", "query": each.sql} for name, each in self.queries.items()
        ]
        return json.dumps(
            {
                "sources": [
                    {
                        "name": "in",
                        "type": "http",
                        "topics": list(TOPICS),
                        "config": {"addr": "127.0.0.1:8080"},
                    }
                ],
                "sinks": [{"name": "out", "type": "stdout"}],
                "windows": [window | shared for window in windows],
                "joins": joins,
            }
        )

    def run(self, root: Path) -> None:
        """Raises Difference with the seed, the step and the query."""
        shards = self.rng.choice([1, 2, 8])
        self.tally.events[f"{shards} shards"] += 1
        for plan in self.plan.joins:
            self.tally.add(self.queries[plan.name], plan)
            self.tally.reasons.update(reason.message for reason in plan.reasons)
            check_no_scan(self.seed, plan)
        pipe = WindowPipeline(
            root,
            self.plan.windows,
            shards=shards,
            start_ms=START_MS + 10**7,
            joins=self.plan.joins,
            topics=self.plan.topics,
        )
        try:
            for step in range(STEPS):
                self._step(pipe)
                self._check(self.plan, pipe, step)
        finally:
            pipe.close()

    def _step(self, pipe: WindowPipeline) -> None:
        sent = self._batch()
        pipe.clock.advance(1_100)
        self.tally.events["flushes"] += 1
        way = self.rng.choice(["send", "send", "send", "crash", "full disk"])
        if way == "crash":
            self.tally.events["restarts"] += 1
            pipe.write(sent)
            pipe.reopen()
            pipe.fire()
        elif way == "full disk":
            self.tally.events["full disks"] += 1
            pipe.send_on_full_disk(*sent)
        else:
            pipe.send(*sent)
        pipe.settle()
        if pipe.failures:
            raise Difference(f"seed {self.seed}: {pipe.failures}")

    def _batch(self) -> list[Sent]:
        rng, sent = self.rng, []
        self.now_ms += rng.choice([0, 300, 1_000, 2_500, 9_000])
        for _ in range(rng.choice([1, 4, 12])):
            topic, key = rng.choice(TOPICS), rng.choice(KEYS)
            payload = None if rng.random() < 0.2 else json.dumps(self._payload())
            sent.append(Sent(key, payload, self.now_ms, topic))
            if payload is None:
                self.held[topic].pop(key, None)
            else:
                self.held[topic][key] = (payload, self.now_ms // 1000)
        return sent

    def _payload(self) -> Mapping[str, object]:
        rng = self.rng
        value = {name: rng.choice(SCALARS) for name in ("a", "b", "c") if rng.random() < 0.85}
        late_ms = rng.randrange(rng.choice([1, 1, 1_500, 7_000]))
        return value | {
            "at": self.now_ms - late_ms,
            "user": rng.choice(["u1", "u2", "5", 7, None]),
            "n": rng.choice(NUMBERS),
            "tags": rng.choice(TAGS),
            "o": {"x": rng.choice(SCALARS)},
        }

    def _check(self, plan: Plan, pipe: WindowPipeline, step: int) -> None:
        shown: dict[str, list[dict[str, object]]] = {}
        for body in pipe.current():
            shown.setdefault(body["query"], []).append(body)
        held = {
            topic: [(key, *row) for key, row in rows.items()] for topic, rows in self.held.items()
        }
        db = views_over(plan, held, shown)
        for join in plan.joins:
            self.tally.checks += 1
            want: dict[str, list[str]] = {}
            for row in db.execute(f'SELECT * FROM "{join.name}"'):
                rows = want.setdefault(key_of(row[0]), [])
                rows.append(canonical(dict(zip(join.columns, row, strict=True))))
            got = {
                canonical(body["key"]): sorted(map(canonical, body["rows"]))
                for body in shown.get(join.name, [])
            }
            if got != {key: sorted(rows) for key, rows in want.items()}:
                raise Difference(
                    f"seed {self.seed} step {step} shards {pipe.shards}: {join.name},"
                    f" {join.strategy}\n{join.query}\n  got  {got}\n  want {want}\n"
                    + "\n".join(f"{name}: {each.sql}" for name, each in self.queries.items())
                )
        db.close()
