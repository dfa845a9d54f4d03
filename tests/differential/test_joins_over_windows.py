"""Joins over windows on random streams, with crashes and full disks: what every join shows is its
query, by plain SQL, over the topics and over what the windows show.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from litejoin.plan.nodes import Plan
from tests.differential.views import views_over
from tests.differential.window_pipeline import Sent, WindowPipeline
from tests.harness.results import canonical, canonical_rows
from tests.unit.plan.documents import plan_of

SEEDS = range(5)
STEPS = 25
START_MS = 1_700_000_000_000

WINDOWS = """\
sources:
  - {name: in, type: http, topics: [orders, users], config: {addr: "127.0.0.1:8080"}}
sinks: [{name: out, type: stdout}]
windows:
  - name: per-user
    type: tumbling
    size: 5s
    allowed_lateness: {LATENESS}
    emit: {EMIT}
    on_late: {LATE}
    time_path: at
    topic: orders
    sink: out
    key_column: user
    query: SELECT payload ->> '$.user' AS user, count(*) AS n, sum(payload ->> '$.v') AS total
      FROM orders GROUP BY 1
  - name: busy
    type: sliding
    size: 6s
    slide: 2s
    time_path: at
    topic: orders
    sink: out
    query: SELECT payload ->> '$.user' AS user, count(*) AS "n of all" FROM orders GROUP BY 1
  - name: visits
    type: session
    gap: 2s
    allowed_lateness: {LATENESS}
    on_late: {LATE}
    partition_by: user
    time_path: at
    topic: orders
    sink: out
    query: SELECT count(*) AS n, max(payload ->> '$.v') AS most, min(key) AS key FROM orders
joins:
"""

JOINS = {
    "named": """SELECT u.key, u.payload ->> '$.name' AS name, w.n, w.total, w.window_start_ms
        FROM users u LEFT JOIN "per-user" w ON w.user = u.key""",
    "rich": """SELECT w.user, w.n, u.payload ->> '$.town' AS town, w.timestamp_ms - w.window_end_ms
        > 0 AS fired FROM "per-user" w LEFT JOIN users u ON u.key = w.key WHERE w.total > 1""",
    "towns": """SELECT u.payload ->> '$.town' AS town, count(*) AS users, sum(w.n) AS n
        FROM "per-user" w JOIN users u ON u.key = w.user GROUP BY 1""",
    "both": """SELECT w.user, w.n, b."n of all" AS more, b.key AS nobody FROM "per-user" w
        LEFT JOIN busy b ON b.user = w.user""",
    "over": """SELECT u.key, r.n, v.n AS visits, v.most, v.key AS first FROM users u
        JOIN rich r ON r.user = u.key LEFT JOIN visits v ON v.payload ->> '$.key' = u.key""",
    "orders-of": """SELECT o.key, o.payload ->> '$.v' AS v, w.n FROM orders o
        JOIN "per-user" w ON w.user = o.payload ->> '$.user'""",
    "top": """SELECT user, n FROM "per-user" ORDER BY n DESC, user LIMIT 2""",
}  # fmt: skip


def plan(rng: random.Random) -> Plan:
    lateness, late = rng.choice(["0s", "3s"]), rng.choice(["drop", "update"])
    emit = rng.choice(["close", "update"])
    text = WINDOWS.replace("{LATENESS}", lateness).replace("{LATE}", late).replace("{EMIT}", emit)
    for name, query in JOINS.items():
        text += f"  - name: {name}\n    sink: out\n    query: {json.dumps(query)}\n"
    return plan_of(text)


class Stream:
    """Orders in event time, some late, and users that come, change and go."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._now_ms = rng, START_MS
        self.topics: dict[str, dict[str, str]] = {"orders": {}, "users": {}}

    def flush(self) -> list[Sent]:
        rng = self._rng
        self._now_ms += rng.choice([0, 300, 1_000, 2_500, 9_000])
        sent = [self._order() for _ in range(rng.choice([0, 1, 4, 12]))]
        sent += [self._user() for _ in range(rng.choice([0, 0, 1, 2]))]
        for each in sent:
            rows = self.topics[each.topic]
            if each.payload is None:
                rows.pop(each.key, None)
            else:
                rows[each.key] = each.payload
        return sent

    def _order(self) -> Sent:
        rng = self._rng
        at = self._now_ms - rng.randrange(rng.choice([1, 1, 1_500, 7_000]))
        user = rng.choice(["a", "b", "c", 7, None])
        payload = {"at": at, "user": user, "v": rng.choice([1, 2.5, None])}
        return Sent(f"o{rng.randrange(6)}", json.dumps(payload), 0)

    def _user(self) -> Sent:
        rng = self._rng
        payload = {"name": rng.choice("xyz"), "town": rng.choice(["Ulm", "Bonn", None])}
        gone = rng.random() < 0.25
        return Sent(rng.choice("abc7"), None if gone else json.dumps(payload), 0, "users")


def check(made: Plan, pipe: WindowPipeline, topics: dict[str, dict[str, str]]) -> None:
    shown: dict[str, list[dict[str, Any]]] = {}
    for body in pipe.current():
        shown.setdefault(body["query"], []).append(body)
    held = {
        topic: [(key, payload, 0) for key, payload in rows.items()]
        for topic, rows in topics.items()
    }
    db = views_over(made, held, shown)
    for join in made.joins:
        wanted: dict[str, list[dict[str, Any]]] = {}
        cursor = db.execute(f'SELECT * FROM "{join.name}"')
        for row in cursor:
            named = dict(zip(join.columns, row, strict=True))
            wanted.setdefault(canonical(named[join.key_column]), []).append(named)
        found = {canonical(b["key"]): canonical_rows(b["rows"]) for b in shown.get(join.name, [])}
        assert found == {key: canonical_rows(rows) for key, rows in wanted.items()}, join.name


@pytest.mark.parametrize("seed", SEEDS)
def test_a_join_over_windows_is_its_query_over_what_they_show(tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"over windows {seed}")
    made = plan(rng)
    assert {join.name for join in made.joins if join.strategy == "full"} == {"top"}
    pipe = WindowPipeline(
        tmp_path, made.windows, shards=rng.choice([1, 3]), start_ms=START_MS + 10**7,
        joins=made.joins, topics=made.topics,
    )  # fmt: skip
    stream = Stream(rng)
    for _ in range(STEPS):
        sent = stream.flush()
        pipe.clock.advance(1_100)
        way = rng.choice(["send", "send", "send", "crash", "full disk"])
        if way == "crash":
            if sent:
                pipe.write(sent)
            pipe.reopen()
            pipe.fire()
        elif way == "full disk":
            pipe.send_on_full_disk(*sent)
        else:
            pipe.send(*sent)
        pipe.settle()
        check(made, pipe, stream.topics)
    assert pipe.failures == []
    pipe.close()
