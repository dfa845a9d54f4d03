"""kill -9 at any instant: nothing acked is lost, joined state equals plain SQLite, ids stay
(semantics 1, 5, 7, 9).

`LITEJOIN_TEST_KILLS` sets the rounds of kill -9 under load (default 3); the seed of each is its
number.
"""

import json
import os
import random
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

import apsw
import pytest
import urllib3

from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.results import Delivered, difference, snapshot_state
from tests.harness.scripted import WebhookReceiver
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually
from tests.reference.oracle import Oracle

ROUNDS = int(os.environ.get("LITEJOIN_TEST_KILLS", "3"))

JOINS = {
    "raw-orders": "SELECT key, payload FROM orders",
    "raw-users": "SELECT key, payload FROM users",
    "joined": (
        "SELECT o.key AS order_id, json_extract(o.payload, '$.v') AS v, json_extract(u.payload,"
        " '$.v') AS user_v"
        " FROM orders o LEFT JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
    ),
    "totals": (
        "SELECT json_extract(payload, '$.user_id') AS user, COUNT(*) AS n,"
        " SUM(json_extract(payload, '$.v')) AS sum"
        " FROM orders GROUP BY user"
    ),
    "top": "SELECT key, json_extract(payload, '$.v') AS v FROM orders ORDER BY v DESC, key LIMIT 5",
}


class Client:
    """One writer over keys of its own. Knows what was acked and what may or may not have been
    taken.
    """

    def __init__(self, url: str, number: int, seed: int) -> None:
        self.acked: dict[tuple[str, str], str | None] = {}
        self.unknown: list[dict[str, Any]] = []
        self.requests = 0
        self._url, self._number = url, number
        self._random = random.Random(seed * 1000 + number)
        self._version = 0

    def batch(self) -> list[dict[str, Any]]:
        rows = []
        for _ in range(self._random.randrange(1, 30)):
            self._version += 1
            key = f"c{self._number}-{self._random.randrange(60)}"
            if self._random.random() < 0.15:
                rows.append(message(self._random.choice(["orders", "users"]), key, None))
            elif self._random.random() < 0.7:
                user = f"c{self._number}-{self._random.randrange(60)}"
                rows.append(message("orders", key, {"user_id": user, "v": self._version}))
            else:
                rows.append(message("users", key, {"v": self._version}))
        return rows

    def write_until_it_breaks(self, stop: threading.Event) -> None:
        """Post batches; the first that gets no 200 is of unknown outcome and ends the work."""
        with IngestClient(self._url, timeout_s=10) as client:
            while not stop.is_set():
                rows = self.batch()
                try:
                    answer = client.offer(rows)
                except urllib3.exceptions.HTTPError:
                    self.unknown = rows
                    return
                if answer.status != 200:
                    self.unknown = rows
                    return
                self.requests += 1
                self._acknowledge(rows)

    def _acknowledge(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            text = None if row["payload"] is None else json.dumps(row["payload"])
            self.acked[row["topic"], row["key"]] = text

    def check(self, found: dict[tuple[str, str], str]) -> None:
        """Every key holds what was acked last, or a row of the request of unknown outcome."""
        maybe: dict[tuple[str, str], list[str | None]] = {}
        for row in self.unknown:
            text = None if row["payload"] is None else json.dumps(row["payload"])
            maybe.setdefault((row["topic"], row["key"]), []).append(text)
        for place in self.acked.keys() | maybe.keys():
            allowed = [self.acked.get(place)] + maybe.get(place, [])[-1:]
            assert found.get(place) in allowed, (
                f"{place}: found {found.get(place)}, allowed {allowed}"
            )

    def settle(self) -> None:
        """Send the request of unknown outcome again, as a caller without an ack does."""
        if self.unknown:
            with IngestClient(self._url) as client:
                client.send(self.unknown)
            self._acknowledge(self.unknown)
            self.unknown = []


def topics(url: str) -> dict[tuple[str, str], str]:
    """(topic, key) -> payload text, as the raw joins show them."""
    found = {}
    for topic in ("orders", "users"):
        for result in snapshot(url, f"raw-{topic}").results:
            found[topic, result["key"]] = result["rows"][0]["payload"]
    return found


def assert_topics(url: str, want: dict[tuple[str, str], str]) -> bool:
    assert topics(url) == want
    return True


def assert_joined(url: str, contents: dict[tuple[str, str], str]) -> bool:
    """Every join shows what plain SQLite makes of these contents."""
    oracle = Oracle(("orders", "users"))
    for (topic, key), text in contents.items():
        oracle.put(topic, key, text)
    for name, query in JOINS.items():
        shown = snapshot_state(snapshot(url, name).results).get(name, {})
        text = difference(shown, oracle.groups(query))
        assert not text, f"{name}:\n{text}"
    oracle.close()
    return True


@pytest.mark.parametrize("guarantee", ["best_effort", "at_least_once"])
def test_kill_9_under_load_loses_nothing_acked(launch: Launcher, guarantee: str) -> None:
    at = Listener()
    config = push_config(at, JOINS, storage={"shard_count": 4}, delivery={"guarantee": guarantee})
    pipeline = launch(config, at.health)
    clients = [Client(at.url, n, seed=ROUNDS) for n in range(3)]
    bodies: dict[str, dict[str, Any]] = {}
    source = random.Random(ROUNDS)
    for number in range(ROUNDS):
        with Subscriber(at.url) as stream:
            kill_under_load(pipeline, clients, source.uniform(0.2, 0.9))
            collect(bodies, stream.results())
        pipeline.start()
        # At once after the start: recovery, not time, must have made it right.
        for client in clients:
            client.check(topics(at.url))
        contents = topics(at.url)
        eventually(partial(assert_joined, at.url, contents))
        for client in clients:
            client.settle()
        acked = {
            place: text for c in clients for place, text in c.acked.items() if text is not None
        }
        eventually(partial(assert_topics, at.url, acked))
        eventually(partial(assert_joined, at.url, acked))
        for name in JOINS:
            collect(bodies, snapshot(at.url, name).results)
        print(
            f"round {number}: {sum(c.requests for c in clients)} requests acked, {len(bodies)}"
            f" results"
        )
    assert sum(c.requests for c in clients) > 10 * ROUNDS


def kill_under_load(pipeline: Any, clients: list[Client], after_s: float) -> None:
    stop = threading.Event()
    threads = [
        threading.Thread(target=c.write_until_it_breaks, args=(stop,), daemon=True) for c in clients
    ]
    for thread in threads:
        thread.start()
    time.sleep(after_s)
    pipeline.kill()
    stop.set()
    for thread in threads:
        thread.join(15)


def collect(bodies: dict[str, dict[str, Any]], results: list[dict[str, Any]]) -> None:
    """Remember results by id; an id that comes again must bring the same body."""
    for result in results:
        assert bodies.setdefault(result["id"], result) == result


@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_an_ack_survives_a_kill_in_the_same_millisecond(launch: Launcher, synchronous: str) -> None:
    at = Listener()
    storage = {"shard_count": 2, "synchronous": synchronous}
    pipeline = launch(
        push_config(at, {"raw-orders": JOINS["raw-orders"]}, storage=storage), at.health
    )
    for n in range(3):
        with IngestClient(at.url) as client:
            client.send([message("orders", f"k{n}-{i}", {"n": n}) for i in range(5)])
            pipeline.kill()
        pipeline.start()
        keys = {result["key"] for result in snapshot(at.url, "raw-orders").results}
        assert {f"k{n}-{i}" for i in range(5)} <= keys


def test_a_subscriber_resumes_over_kills_without_gap_or_overlap(launch: Launcher) -> None:
    """Every key is written once, so a result that is missed or doubled cannot hide behind a later
    one.
    """
    at = Listener()
    pipeline = launch(push_config(at, {"raw-orders": JOINS["raw-orders"]}), at.health)
    acked: list[str] = []
    received: list[tuple[str, dict[str, Any]]] = []
    last: str | None = None
    for n in range(3):
        with Subscriber(at.url, "raw-orders", last_event_id=last) as stream:
            with IngestClient(at.url) as client:
                for i in range(30):
                    keys = [f"r{n}-{i}-{j}" for j in range(5)]
                    client.send([message("orders", key, i) for key in keys])
                    acked += keys
                pipeline.kill()
            stream.wait_closed()
            assert stream.named("reset") == []
            received += [(e.id, e.json) for e in stream.named("join_result")]
            last = stream.last_id or last
        pipeline.start()
    with Subscriber(at.url, "raw-orders", last_event_id=last) as stream:
        missing = set(acked) - {result["key"] for _, result in received}
        stream.wait(lambda s: missing <= {r["key"] for r in s.results()})
        time.sleep(0.2)
        assert stream.named("reset") == []
        received += [(e.id, e.json) for e in stream.named("join_result")]
    assert sorted(result["key"] for _, result in received) == sorted(acked)
    assert len({event_id for event_id, _ in received}) == len(received)
    Delivered().take(result for _, result in received)


def test_at_least_once_delivers_everything_acked_over_an_outage_and_a_kill(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    at = Listener()
    delivery = {
        "guarantee": "at_least_once",
        "dlq": {"retry_interval": "200ms", "max_backoff": "400ms"},
    }
    sinks = [http_sink(receiver.url), sse_sink(at)]
    pipeline = launch(
        push_config(at, {"raw-orders": JOINS["raw-orders"]}, sinks=sinks, delivery=delivery),
        at.health,
    )
    with IngestClient(at.url) as client:
        client.send([message("orders", f"up{i}", 1) for i in range(20)])
        receiver.wait_requests(5)
        client.send([message("orders", f"flight{i}", 1) for i in range(20)])
        receiver.down()
        client.send([message("orders", f"down{i}", 1) for i in range(20)])
        pipeline.kill()
    receiver.up()
    pipeline.start()
    wanted = {f"{name}{i}" for name in ("up", "flight", "down") for i in range(20)}
    eventually(lambda: {r.json["key"] for r in receiver.delivered()} == wanted, 20)
    told = Delivered(in_log_order=False, repeats=True).take(r.json for r in receiver.delivered())
    assert told.state("raw-orders").keys() == {json.dumps(key) for key in wanted}


def test_the_sqlite_sink_holds_each_result_once_over_kills(launch: Launcher) -> None:
    at = Listener()
    sinks = [{"name": "local", "type": "sqlite", "config": {"path": "./out.db"}}, sse_sink(at)]
    query = {"latest": "SELECT key, payload ->> '$.v' AS v FROM orders"}
    pipeline = launch(
        push_config(at, query, sinks=sinks, delivery={"guarantee": "at_least_once"}), at.health
    )
    for n in range(3):
        with IngestClient(at.url) as client:
            client.send([message("orders", f"k{i}", {"v": n}) for i in range(100)])
            client.send(message("orders", f"k{n}", None))
            pipeline.restart()
    want = sorted((f"k{i}", 2) for i in range(100) if i != 2)

    def rows() -> list[tuple[Any, ...]]:
        db = apsw.Connection(str(pipeline.work_dir / "out.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return sorted(db.execute("SELECT key, v FROM latest").fetchall())
        finally:
            db.close()

    eventually(lambda: rows() == want)


# Costs a fraction of a second however few rows there are, so that its re-evaluation is put off.
SLOW_TOTAL = (
    "SELECT 'all' AS k, (SELECT COUNT(*) FROM orders) AS n, (WITH RECURSIVE c(i) AS"
    " (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 400000) SELECT COUNT(*) FROM c) AS work"
)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_re_evaluation_that_was_put_off_is_made_up_for_after_a_restart(
    launch: Launcher, how: str
) -> None:
    at = Listener()
    joins = {"raw-orders": JOINS["raw-orders"], "slow": SLOW_TOTAL}
    pipeline = launch(push_config(at, joins), at.health)
    with IngestClient(at.url) as client, Subscriber(at.url, "raw-orders") as stream:
        for n in range(8):
            client.send(message("orders", f"k{n}", n))
            stream.wait_results(n + 1)
        if how == "kill":
            pipeline.kill()
        else:
            assert pipeline.stop() == 0
    pipeline.start()
    eventually(lambda: snapshot(at.url, "slow").results[0]["rows"][0]["n"] == 8)


def test_a_keyed_request_counts_once_over_kills(launch: Launcher) -> None:
    """A window counts messages, so a row that is taken in twice shows (semantics 1)."""
    at = Listener()
    window = {
        "name": "count", "type": "tumbling", "size": "24h", "topic": "t", "emit": "update",
        "query": "SELECT COUNT(*) AS n FROM t", "sink": "out",
    }  # fmt: skip
    config = push_config(at, {"rows": "SELECT key, payload FROM t"}, topics=["t"], windows=[window])
    pipeline = launch(config, at.health)
    chance = random.Random(7)
    sent = 0
    for life in range(ROUNDS):
        stop = threading.Timer(0.1 + chance.random() / 2, pipeline.kill)
        stop.start()
        key = ""
        with IngestClient(at.url, timeout_s=5) as client, suppress(urllib3.exceptions.HTTPError):
            while True:
                key, rows = f"r{life}-{sent}", [message("t", f"{sent}-{i}", 1) for i in range(40)]
                client.send(rows, Idempotency_Key=key)
                sent += 1
        stop.join()
        pipeline.start()
        with IngestClient(at.url) as client:
            client.send(rows, Idempotency_Key=key)  # what was on its way when it was killed
            sent += 1

    def counted() -> int:
        return sum(r["rows"][0]["n"] for r in snapshot(at.url, "count").results)

    eventually(lambda: counted() >= sent * 40)
    assert counted() == sent * 40


def test_an_idempotency_key_outlives_kill_9(launch: Launcher) -> None:
    at = Listener()
    config = push_config(at, {"rows": "SELECT key, payload FROM t"}, topics=["t"])
    pipeline = launch(config, at.health)
    first, other = message("t", "k", "old"), message("t", "k2", 1)
    with IngestClient(at.url) as client:
        client.send(first, Idempotency_Key="once")
        client.send(message("t", "k", "new"))
    pipeline.restart()
    with IngestClient(at.url) as client:
        client.send(first, Idempotency_Key="once")  # answered as before
        assert client.offer(other, Idempotency_Key="once").status == 422
        client.send(message("t", "k3", 1), Idempotency_Key="twice")
        client.send(message("t", "end", 1))
    keys = {"k", "k3", "end"}
    eventually(lambda: {r["key"] for r in snapshot(at.url, "rows").results} == keys)
    rows = {r["key"]: r["rows"][0]["payload"] for r in snapshot(at.url, "rows").results}
    assert json.loads(rows["k"]) == "new"
