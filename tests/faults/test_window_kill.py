"""kill -9 at any instant while windows of every kind are open: every acknowledged message counts
once, one without an answer at most once, all windows agree on which, and each fires once (semantics
7, 11).

`LITEJOIN_TEST_KILLS` sets the rounds of kill -9 (default 3); `LITEJOIN_TEST_SEED` another stream.
"""

import json
import os
import random
import threading
from typing import Any

import urllib3

from tests.harness.configs import Listener
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.sse import Subscriber
from tests.reference.window_streams import GridOracle, Message, SessionOracle, received
from tests.unit.plan.documents import plan_of

ROUNDS = int(os.environ.get("LITEJOIN_TEST_KILLS", "3"))
SEED = int(os.environ.get("LITEJOIN_TEST_SEED", "7"))
START_MS = 1_760_000_000_000
SUMS = "SELECT count(*) AS n, sum(payload ->> '$.v') AS total FROM orders"
BUSY = (
    "SELECT payload ->> '$.u' AS u, count(*) AS n FROM orders GROUP BY 1 ORDER BY n DESC, u LIMIT 2"
)
JITTER_MS = 2_000
EVENT = {"topic": "orders", "sink": "out", "time_path": "at", "time_format": "unix_ms",
         "idle_timeout": "10h", "allowed_lateness": "2s"}  # fmt: skip

WINDOWS = [
    {"name": "each", "type": "tumbling", "size": "10s", "query": SUMS, "partition_by": "u"},
    {"name": "ids", "type": "tumbling", "size": "10s",
     "query": "SELECT payload ->> '$.id' AS id FROM orders"},
    {"name": "busy", "type": "tumbling", "size": "20s", "query": BUSY, "key_column": "u",
     "emit": "update"},
    {"name": "sliding", "type": "sliding", "size": "30s", "slide": "5s", "query": SUMS},
    {"name": "visit", "type": "session", "gap": "3s", "query": SUMS, "partition_by": "u"},
    {"name": "long", "type": "session", "gap": "4s", "query": SUMS, "partition_by": "u",
     "emit": "update", "on_late": "update"},
    {"name": "day", "type": "tumbling", "size": "24h", "timezone": "Europe/Berlin", "query": SUMS,
     "emit": "update"},
]  # fmt: skip


def config(push: Listener, sse: Listener) -> str:
    return json.dumps({
        "storage": {"shard_count": 2, "data_dir": "data"},
        "sources": [{"type": "http", "name": "in", "topics": ["orders"],
                     "config": {"addr": f"127.0.0.1:{push.port}"}}],
        "windows": [{**EVENT, **window} for window in WINDOWS],
        "sinks": [{"type": "sse", "name": "out", "config": {"addr": f"127.0.0.1:{sse.port}"}}],
    })  # fmt: skip


class Writer:
    """Posts batches. Of one without an answer any part may have been taken in: it is not sent
    again, as what is sent twice counts twice.
    """

    def __init__(self, url: str) -> None:
        self._url, self._rng = url, random.Random(SEED)
        self._now_ms, self._number = START_MS, 0
        self.messages: dict[str, Message] = {}
        self.acked: set[str] = set()

    def _batch(self) -> dict[str, dict[str, Any]]:
        rng = self._rng
        found: dict[str, dict[str, Any]] = {}
        for _ in range(rng.choice([1, 5, 40])):
            self._now_ms += rng.choice([0, 0, 30, 500, 4_000 if rng.random() < 0.1 else 10])
            at_ms = self._now_ms - rng.randrange(JITTER_MS)
            found |= self._row(rng.choice("xyz"), at_ms, rng.choice("abcd"))
        return found

    def _row(self, key: str, at_ms: int, user: str) -> dict[str, dict[str, Any]]:
        self._number += 1
        name = f"m{self._number}"
        fields = {"id": name, "at": at_ms, "u": user, "v": self._rng.randrange(100)}
        self.messages[name] = Message(at_ms, json.dumps(fields), {"u": user})
        return {name: message("orders", key, fields)}

    def write_until_it_breaks(self) -> None:
        """Returns when a request gets no answer."""
        with IngestClient(self._url) as client:
            while True:
                batch = self._batch()
                try:
                    client.send(list(batch.values()))
                except urllib3.exceptions.HTTPError:
                    return
                self.acked |= batch.keys()

    def finish(self) -> None:
        """Send a message that closes what came before, and one that closes that one's windows."""
        with IngestClient(self._url) as client:
            for after_ms in (60_000, 120_000):
                row = self._row("end", self._now_ms + after_ms, "end")
                client.send(list(row.values()))


def counted(results: list[dict[str, Any]]) -> list[str]:
    """The ids of the messages in all windows of 'ids'."""
    return [row["id"] for r in results if r["query"] == "ids" for row in r["rows"]]


def expected(text: str, messages: list[Message]) -> dict[str, Any]:
    """No message is later than the lateness, so order and crashes make no difference."""
    views = {}
    for plan in plan_of(text).windows:
        oracle = SessionOracle(plan) if plan.type == "session" else GridOracle(plan)
        oracle.take(messages)
        oracle.fire(max(m.time_ms for m in messages) - plan.allowed_lateness_ms)
        views[plan.name] = oracle.view
    return views


def test_kill_9_under_load_with_windows_of_every_kind(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    text = config(push, sse)
    pipeline = launch(text, sse.health)
    writer, rng = Writer(push.url), random.Random(SEED)
    for _ in range(ROUNDS):
        thread = threading.Thread(target=writer.write_until_it_breaks, daemon=True)
        thread.start()
        thread.join(rng.uniform(0.2, 1.5))
        pipeline.kill()
        thread.join(30)
        assert not thread.is_alive()
        pipeline.start()
    writer.finish()
    names = [str(window["name"]) for window in WINDOWS]
    epoch = json.loads((pipeline.work_dir / "data" / "manifest.json").read_text())["epoch"]
    with Subscriber(sse.url, "*", last_event_id=f"{epoch[:8]}-0") as stream:
        *_, last, closing = writer.messages
        stream.wait(lambda s: last in counted(s.results()), timeout_s=60)
        ids = counted(stream.results())
        assert len(ids) == len(set(ids)), "no message counts twice"
        assert writer.acked <= set(ids), "no acknowledged message is lost"
        wanted = expected(text, [writer.messages[each] for each in [*ids, closing]])
        stream.wait(lambda s: received(s.results(), names) == wanted, timeout_s=60)
        results = stream.results()
    for name in ("each", "sliding", "visit"):
        places = [(r["key"], r["window"]["start"]) for r in results if r["query"] == name]
        assert len(places) == len(set(places)), "each window fires once"
