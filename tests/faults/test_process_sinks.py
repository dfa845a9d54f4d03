"""Every kind of sink over kill -9 at random instants, and a hung receiver over SIGTERM.

`LITEJOIN_TEST_KILLS` sets the kills (default 10; the long lane says 100), `LITEJOIN_TEST_STOPS` the
stops beside a hung sink (default 3; 30), LITEJOIN_SEED replays a run.
"""

import json
import os
import random
import re
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_process_kill import Client, kill_under_load
from tests.faults.test_process_stop import Load, keys_in
from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.results import canonical, canonical_rows, difference, snapshot_state
from tests.harness.scripted import Reply, Request, WebhookReceiver
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import SLOW, eventually
from tests.reference.oracle import Oracle

KILLS = int(os.environ.get("LITEJOIN_TEST_KILLS", "10"))
STOPS = int(os.environ.get("LITEJOIN_TEST_STOPS", "3"))
SEED = os.environ.get("LITEJOIN_SEED")

JOIN = (
    "SELECT o.key AS id, o.payload ->> '$.v' AS v, u.payload ->> '$.v' AS user_v"
    " FROM orders o LEFT JOIN users u ON o.payload ->> '$.user_id' = u.key"
)
SINKS = ("hook", "table", "lines")
RETRY = {"retry_interval": "50ms", "backoff_multiplier": 1.5, "max_backoff": "200ms"}

FAULTS: tuple[Reply, ...] = (
    Reply(500), Reply(503, headers={"Retry-After": "0"}), Reply(reset=True), Reply(hang=True),
    Reply(200, b"x" * 1000, cut_after=10), Reply(200, b"x" * 100_000_000),
)  # fmt: skip


def flaky(dice: random.Random, share: float) -> Callable[[Request], Reply]:
    """Answers with a fault to a share of the requests; a hang is rare, for it costs its timeout."""
    weights = [5, 5, 5, 1, 5, 1]
    return lambda _: dice.choices(FAULTS, weights)[0] if dice.random() < share else Reply()


def check_order(lives: list[list[dict[str, Any]]]) -> None:
    """In each life of the process a key's results arrive first in rising seq; an id has one body.

    After a kill -9 what had no outcome on disk comes again, in the same order.
    """
    bodies: dict[str, str] = {}
    for life in lives:
        newest: dict[str, int] = defaultdict(int)
        met: set[str] = set()
        for result in life:
            body = json.dumps(result, sort_keys=True)
            assert bodies.setdefault(result["id"], body) == body, "one id, two bodies"
            if result["id"] not in met:
                key = canonical(result["key"])
                assert result["seq"] > newest[key], f"old after new: {body}"
                newest[key] = result["seq"]
                met.add(result["id"])


def last_rows(results: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The state that a receiver has who keeps the newest result of each key."""
    newest: dict[str, dict[str, Any]] = {}
    for result in results:
        key = canonical(result["key"])
        if result["seq"] >= newest.get(key, result)["seq"]:
            newest[key] = result
    return {k: canonical_rows(r["rows"]) for k, r in newest.items() if r["op"] == "upsert"}


def table_rows(path: Path) -> dict[str, tuple[str, ...]]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = db.execute('SELECT _key, id, v, user_v FROM "joined"').fetchall()
    finally:
        db.close()
    return {
        canonical(json.loads(key)): canonical_rows([{"id": id_, "v": v, "user_v": user_v}])
        for key, id_, v, user_v in rows
    }


def keys_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return [key for (key,) in db.execute('SELECT key FROM "j" ORDER BY key')]


def file_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_every_sink_ends_right_over_kills_at_random_instants(
    launch: Launcher, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    seed = int(SEED or random.SystemRandom().randrange(2**32))
    print(f"replay with LITEJOIN_SEED={seed}")
    dice, at = random.Random(seed), Listener()
    sinks: list[dict[str, Any]] = [
        http_sink(f"{receiver.url}/hook", max_in_flight=4, timeout="1s"),
        {"name": "table", "type": "sqlite", "config": {"path": str(tmp_path / "out.db")}},
        {"name": "lines", "type": "file", "config": {"path": str(tmp_path / "out.jsonl")}},
    ]
    config = push_config(
        at, {"joined": JOIN}, topics=["orders", "users"],
        sinks=[*sinks, {"name": "live", "type": "sse", "config": {"addr": at.addr}}],
        storage={"shard_count": 2}, delivery={"guarantee": "at_least_once", "dlq": RETRY},
    )  # fmt: skip
    receiver.default = flaky(dice, 0.25)
    pipeline = launch(config, at.health)
    clients = [Client(at.url, n, seed) for n in range(2)]
    marks = []
    for _ in range(KILLS):
        kill_under_load(pipeline, clients, dice.uniform(0.02, 0.6))
        time.sleep(0.1)  # what the dead process has sent has arrived
        marks.append(len(receiver.seen()))
        pipeline.start(40)
        for client in clients:
            client.settle()
    receiver.default = lambda _: Reply()
    want = expected(clients)
    # Asked of the pipeline: to read a hundred thousand deliveries again and again takes the
    # receiver, which is in this process, longer than to receive them.
    eventually(partial(everything_ended, at.url), 120, every_s=0.2)
    eventually(partial(agrees, lambda: last_rows(taken(receiver)), want), 60)
    eventually(partial(agrees, lambda: table_rows(tmp_path / "out.db"), want), 30)
    eventually(partial(agrees, lambda: last_rows(file_results(tmp_path / "out.jsonl")), want), 30)
    shown = snapshot_state(snapshot(at.url, "joined").results)["joined"]
    assert not difference(shown, want)
    accepted = receiver.delivered()  # also those whose answer was cut: it took them
    check_order(
        [
            [r.json for r in accepted if a <= r.number < b]
            for a, b in pairwise([0, *marks, len(receiver.seen())])
        ]
    )
    lines = [result["seq"] for result in file_results(tmp_path / "out.jsonl")]
    assert lines == sorted(set(lines)), "each once, in the order of the log"
    assert sum(c.requests for c in clients) > KILLS
    pipeline.stop()


def everything_ended(url: str) -> bool:
    """Every result has an outcome at every sink, and none waits for a retry."""
    with IngestClient(url) as client:
        sinks = client.get("/health").body["sinks"]
    left = {name: (sinks[name]["lag"], sinks[name]["dlq_entries"]) for name in SINKS}
    assert set(left.values()) == {(0, 0)}, left
    return True


def expected(clients: list[Client]) -> dict[str, tuple[str, ...]]:
    """The join over everything that was acked, by plain SQLite."""
    oracle = Oracle(("orders", "users"))
    for client in clients:
        for (topic, key), text in client.acked.items():
            if text is not None:
                oracle.put(topic, key, text)
    groups: dict[str, tuple[str, ...]] = oracle.groups(JOIN)
    oracle.close()
    return groups


def taken(receiver: WebhookReceiver) -> list[dict[str, Any]]:
    return [request.json for request in receiver.delivered()]


def agrees(
    look: Callable[[], dict[str, tuple[str, ...]]], want: dict[str, tuple[str, ...]]
) -> bool:
    text = difference(look(), want)
    assert not text, text
    return True


@pytest.mark.slow
def test_sigterm_under_load_beside_a_hung_receiver_counts_what_is_left(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    at, acked = Listener(), set[str]()
    config = push_config(
        at, {"rows": "SELECT key, payload FROM t"},
        sinks=[http_sink(f"{receiver.url}/hook", timeout="60s"), sse_sink(at)],
        delivery={"guarantee": "at_least_once", "dlq": RETRY},
    )  # fmt: skip
    receiver.always(Reply(hang=True))
    pipeline = launch(config, at.health, args=("--graceful-timeout", "2s"))
    stored: set[str] = set()
    for number in range(STOPS):
        before = len(pipeline.log())
        with Load(at.url, name=f"r{number}", rows=5, pause_s=0.01) as load:
            eventually(lambda load=load: len(load.acked) >= 60, 20)
            began = time.monotonic()
            pipeline.signal(signal.SIGTERM)
            assert pipeline.wait_exit(30) == 0
            assert time.monotonic() - began < 6 * SLOW
        acked |= set(load.acked)
        told = re.search(r"(\d+) results for sink hook are left", pipeline.log()[before:])
        assert told is not None, pipeline.log()[before:]
        pipeline.start(40)
        stored = keys_in(at.url)
        assert acked <= stored
        assert int(told[1]) == len(stored), "nothing was taken, so everything is left"
    receiver.close()
    receiver.default = lambda _: Reply()
    receiver.up()
    eventually(lambda: {r.json["key"] for r in receiver.delivered()} == stored, 90)
    assert pipeline.stop() == 0


def test_results_made_anew_reach_sinks_that_know_later_positions(
    launch: Launcher, tmp_path: Path
) -> None:
    """state.db is deleted, as somebody would to have all results computed again."""
    at, path = Listener(), tmp_path / "out.db"
    config = push_config(
        at,
        {"j": {"query": "SELECT key, payload FROM t", "sinks": ["out", "table"]}},
        sinks=[
            sse_sink(at),
            {"name": "table", "type": "sqlite", "config": {"path": str(path)}},
        ],
        delivery={"guarantee": "at_least_once"},
    )
    pipeline = launch(config, at.health)
    with IngestClient(at.url) as client:
        for number in range(50):
            client.send([message("t", "k", {"n": number})])
        eventually(lambda: keys_of(path) == ["k"])
    before = snapshot(at.url).position
    assert pipeline.stop() == 0
    for file in (pipeline.work_dir / "data").glob("state.db*"):
        file.unlink()
    pipeline.start()
    with IngestClient(at.url) as client, Subscriber(at.url, last_event_id=before) as stream:
        client.send([message("t", "other", {"n": 1})])
        eventually(lambda: keys_of(path) == ["k", "other"])
        stream.wait(lambda s: s.named("reset"))
        stream.wait_results(2)
    assert pipeline.stop() == 0
