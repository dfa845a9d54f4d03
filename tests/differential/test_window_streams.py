"""Several windows of every kind on one topic, over streams with everything that goes wrong.

Random definitions (kinds, partitions, keys, lateness, `on_late`, `emit`, days of time zones, event
and ingestion time) share one topic; messages come out of order, repeated, late, without a usable
time, with values that a query cannot take; the source falls idle, the wall clock jumps, the process
dies before and after a flush is applied, and the disk is full. After every step, what a receiver
holds equals plain SQL from scratch.

One seed fails again with `pytest "tests/differential/test_window_streams.py::<test>[<seed>]"`;
`LITEJOIN_TEST_STREAMS` sets how many there are.
"""

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from litejoin.clock import SteadyClock
from litejoin.engine.windows.watermark import MAX_AHEAD_MS
from litejoin.plan.compile_panes import NoPanes, compile_panes
from litejoin.plan.nodes import Place, WindowPlan
from tests.differential.window_pipeline import Sent, WindowPipeline
from tests.reference.window_streams import (
    GridOracle,
    SessionOracle,
    StreamOracle,
    View,
    received,
)

SEEDS = range(int(os.environ.get("LITEJOIN_TEST_STREAMS", "24")))
STEPS = 25
HOUR_MS = 3_600_000
SECONDS, HOURS = 1, 7_200
"""How many milliseconds a random millisecond is: days need streams of weeks."""

STARTS = {
    SECONDS: [1_700_000_000_000],
    HOURS: [1_774_602_000_000, 1_792_760_000_000],  # before clocks change in Berlin and Havana
}

QUERIES = [
    # (query, columns, index of the key)
    ("SELECT count(*) AS n, sum(payload ->> '$.v') AS total, max(payload ->> '$.v') AS most,"
     " avg(payload ->> '$.f') AS mean FROM orders", ("n", "total", "most", "mean"), None),
    ("SELECT count(*) AS n, min(payload ->> '$.v') AS least FROM orders"
     " WHERE payload ->> '$.v' > 1",
     ("n", "least"), None),
    ("SELECT payload ->> '$.g' AS g, count(*) AS n, sum(payload ->> '$.f') AS total FROM orders"
     " GROUP BY 1 ORDER BY 1", ("g", "n", "total"), 0),
    ("SELECT payload ->> '$.g' AS g, count(*) AS n FROM orders GROUP BY 1 HAVING count(*) < 3"
     " ORDER BY 1", ("g", "n"), 0),
    ("SELECT payload ->> '$.g' AS g, count(*) AS n FROM orders GROUP BY 1 ORDER BY n DESC, g"
     " LIMIT 1", ("g", "n"), 0),
    ("SELECT count(*) AS n, sum(json_array_length(payload ->> '$.l')) AS total FROM orders",
     ("n", "total"), None),
    ("SELECT DISTINCT json_array_length(payload ->> '$.l') AS length FROM orders ORDER BY 1",
     ("length",), None),
    ("SELECT count(DISTINCT payload ->> '$.g') AS n, min(timestamp_ms) AS first FROM orders",
     ("n", "first"), None),
]  # fmt: skip


@dataclass(frozen=True)
class Random:
    """One message of a stream, with what the oracle needs to know of it."""

    payload: str
    ingested_ms: int
    event_ms: int | None
    partitions: dict[str, Any] | None
    """None: the payload is no JSON."""


class Definitions:
    """Random windows of one seed."""

    def __init__(self, rng: random.Random, unit: int) -> None:
        self._rng, self._unit = rng, unit
        self._idle_ms = rng.choice([3_000, 20_000, 10**9]) * unit
        self._other_idle_ms = rng.choice([self._idle_ms, 9_000 * unit])

    def window(self, number: int) -> WindowPlan:
        rng, unit = self._rng, self._unit
        query, columns, key_index = rng.choice(QUERIES)
        partition_by = rng.choice([None, "p", "q"])
        kind = rng.choice(["tumbling", "sliding", "session"])
        is_day = unit == HOURS and kind == "tumbling"
        size = rng.choice([1_000, 7_000, 10_000]) * unit
        if is_day:
            size = rng.choice([1, 2, 7]) * 24 * HOUR_MS
        try:
            panes = None if is_day else compile_panes(query, columns)
        except NoPanes:
            panes = None
        return WindowPlan(
            name=f"w{number}", type=kind, topic="orders", query=query, place=Place(1, 1),  # type: ignore[arg-type]
            size_ms=None if kind == "session" else size,
            slide_ms=rng.choice([1_000 * unit, 300 * unit, size]) if kind == "sliding" else None,
            gap_ms=rng.choice([500, 3_000]) * unit if kind == "session" else None,
            buffer_bound_ms=None, sinks=(), columns=columns, panes=panes,
            allowed_lateness_ms=rng.choice([0, 2_000, 15_000]) * unit,
            key_index=key_index if partition_by is None else None,
            time_path=rng.choice(["at", "at", None]), partition_by=partition_by,
            on_late=rng.choice(["drop", "update"]), emit=rng.choice(["close", "update"]),
            timezone=rng.choice(["Europe/Berlin", "America/Havana"]) if is_day else None,
            offset_ms=rng.choice([0, 5 * HOUR_MS if is_day else 250]) if kind != "session" else 0,
            idle_timeout_ms=rng.choice([self._idle_ms, self._other_idle_ms]),
        )  # fmt: skip


class World:
    """A pipeline and its oracle, moved together."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self._rng = rng
        self._unit = rng.choice([SECONDS, SECONDS, HOURS])
        definitions = Definitions(rng, self._unit)
        self.plans = [definitions.window(number) for number in range(rng.choice([1, 2, 3]))]
        start_ms = rng.choice(STARTS[self._unit])
        self.pipe = WindowPipeline(root, self.plans, shards=rng.choice([1, 3]), start_ms=start_ms)
        self.clock = self.pipe.clock
        self._steady = SteadyClock(self.clock)
        self.streams: list[StreamOracle] = []
        for path, idle_ms in dict.fromkeys((p.time_path, p.idle_timeout_ms) for p in self.plans):
            same = (path, idle_ms)
            plans = [p for p in self.plans if (p.time_path, p.idle_timeout_ms) == same]
            self.streams.append(_stream(plans, path, idle_ms))
            self.streams[-1].fire(None, 0)

    def messages(self) -> list[Random]:
        rng, unit = self._rng, self._unit
        now_ms = self.clock.now_ms()
        found = []
        for _ in range(rng.choice([0, 1, 3, 12])):
            late_ms = rng.choice([0, 0, 100, 1_500, 9_000, 40_000]) * unit
            event_ms: int | None = now_ms - rng.randrange(late_ms + 1)
            ingested_ms = now_ms - rng.choice([0, 0, 50, 2_000, 30_000]) * unit
            fields: dict[str, Any] = {
                "at": event_ms, "v": rng.choice([1, 2, -5, 10**6, None]), "g": rng.choice("xyz"),
                "f": rng.choice([0.25, 2.5, -3, 100]), "p": rng.choice(["a", "b", 7, None]),
                "q": rng.choice(["a", True, 1.5]), "l": rng.choice(["[]", "[1,2]", "[", None, "x"]
                if rng.random() < 0.3 else ["[1]"]),
            }  # fmt: skip
            if rng.random() < 0.05:
                far_ms = now_ms + 2 * HOUR_MS
                bad = rng.choice([None, "soon", -5, far_ms, "9999-12-31T00:00:00Z", {}])
                fields["at"], event_ms = bad, bad if bad == far_ms else None
            partitions: dict[str, Any] | None = {
                "p": fields["p"],
                "q": 1 if fields["q"] is True else fields["q"],
            }
            text = json.dumps(fields)
            if rng.random() < 0.05:
                text, event_ms, partitions = text[:-1], None, None  # no JSON
            found += [Random(text, ingested_ms, event_ms, partitions)] * rng.choice([1, 1, 2])
        return found

    def step(self) -> None:
        rng = self._rng
        self.clock.advance(rng.choice([1_100, 1_100, 2_000, 4_000, 30_000]) * self._unit)
        messages = self.messages()
        sent = [Sent(rng.choice(["k1", "k2"]), m.payload, m.ingested_ms) for m in messages]
        if sent and rng.random() < 0.1:
            sent.append(Sent("k1", None, self.clock.now_ms()))  # a delete is no message
        chance = rng.random()
        if chance < 0.12:
            if sent:
                self.pipe.write(sent)
            self._reopen()
            if sent:
                self._take(messages)
            self._fire(None)
        elif chance < 0.2:
            self._send(messages, sent)
            self._reopen()
        elif chance < 0.26:
            self.pipe.send_on_full_disk(*sent)
            if sent:
                self._take(messages)
            self._fire(None, pipe=False)
        else:
            self._send(messages, sent)
        if rng.random() < 0.1:
            self.clock.jump(rng.choice([-10, 10]) * HOUR_MS * (10 if self._unit == HOURS else 1))
        if rng.random() < 0.5:
            self._fire(self.clock.now_ms())

    def _send(self, messages: list[Random], sent: list[Sent]) -> None:
        if sent:
            self.pipe.send(*sent)
            self._take(messages)
            self._fire(None, pipe=False)

    def _take(self, messages: list[Random]) -> None:
        latest_ms = self._steady.now_ms() + MAX_AHEAD_MS
        for stream in self.streams:
            stream.take(messages, latest_ms, self.clock.monotonic_ms())

    def _fire(self, written_upto_ms: int | None, *, pipe: bool = True) -> None:
        if pipe:
            self.pipe.fire(written_upto_ms)
        if not self._steady.is_settled():
            written_upto_ms = None
        for stream in self.streams:
            stream.fire(written_upto_ms, self.clock.monotonic_ms())

    def _reopen(self) -> None:
        self.pipe.close()
        db = apsw.Connection(str(self.pipe.store.layout.state), flags=apsw.SQLITE_OPEN_READONLY)
        closed_ms = dict(
            db.execute(
                "SELECT name, closed_ms FROM window_progress JOIN joins ON join_id = joins.id"
            )
        )
        db.close()
        self.pipe.open()
        self._steady = SteadyClock(self.clock)
        for stream in self.streams:
            stream.restart(closed_ms, self.clock.monotonic_ms())

    def expected(self) -> dict[str, View]:
        return {w.plan.name: w.view for stream in self.streams for w in stream.windows}


def _stream(plans: list[WindowPlan], path: str | None, idle_ms: int) -> StreamOracle:
    return StreamOracle(
        [SessionOracle(p) if p.type == "session" else GridOracle(p) for p in plans],
        (lambda m: m.ingested_ms) if path is None else (lambda m: m.event_ms),
        path is not None,
        idle_ms,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_receiver_holds_what_plain_sql_gives(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, random.Random(seed))
    for step in range(STEPS):
        world.step()
        bodies = world.pipe.bodies()
        assert received(bodies, [p.name for p in world.plans]) == world.expected(), step
    for plan in world.plans:
        if (plan.emit, plan.on_late) == ("close", "drop"):
            mine = [(b["key"], b["window"]["start"]) for b in bodies if b["query"] == plan.name]
            assert len(set(map(str, mine))) == len(mine), "each window fires once"
    world.pipe.close()
