"""The original's configs run, against local stand-ins, and their sinks are told what the oracle
says.

Each file of tests/configs/conformance runs from a copy in which only the texts listed in the test
are replaced: hosts by loopback stand-ins, ports by free ones, and (04 only) the two intervals, so
that a test does not take minutes. Everything else is byte for byte the original's file.
"""

import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import yaml

from tests.harness.configs import CONFORMANCE, Listener, substitute
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.results import Delivered, State, difference, snapshot_state
from tests.harness.scripted import Reply, Upstream, WebhookReceiver
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually, never
from tests.reference.oracle import Oracle


def stand_in(name: str, replacements: dict[str, str]) -> str:
    return substitute((CONFORMANCE / name).read_text(encoding="utf-8"), replacements)


def queries(text: str) -> dict[str, str]:
    return {join["name"]: join["query"] for join in yaml.safe_load(text)["joins"]}


class Shop:
    """Pushes messages to a pipeline and to the oracle alike."""

    def __init__(self, client: IngestClient) -> None:
        self.client = client
        self.oracle = Oracle(("orders", "users", "products"))

    def send(self, rows: list[dict[str, Any]]) -> None:
        self.client.send(rows)
        for row in rows:
            text = row["payload"]
            if text is not None and not isinstance(text, str):
                text = json.dumps(text)
            stamp = row.get("timestamp")
            self.oracle.put(row["topic"], row["key"], text, stamp and stamp * 1000)


def order(n: int, **fields: Any) -> dict[str, Any]:
    return message("orders", f"order_{n}", fields, as_text=n % 2 == 0)


def test_01_a_polled_object_reaches_its_subscriber(launch: Launcher, upstream: Upstream) -> None:
    sse = Listener()
    text = stand_in(
        "01-weather-poll.yaml",
        {
            "https://api.openweathermap.org": upstream.url,
            '":9100"': f'":{sse.port}"',
            "interval: 30s": "interval: 1s",
        },
    )
    london: dict[str, Any] = {
        "id": 2643743,
        "main": {"temp": 281.5},
        "weather": [{"description": "light rain"}],
        "name": "London",
    }
    upstream.default = lambda _request: Reply(200, json.dumps(london).encode())
    launch(text, sse.health, env={"OWM_KEY": "s3cret-key"})
    with Subscriber(sse.url, "temperature", replay=True) as stream:
        first = stream.wait_results(1, timeout_s=15)[0]
        assert (first["query"], first["key"]) == ("temperature", "2643743")
        assert first["rows"] == [{"station": "2643743", "temp": 281.5, "sky": "light rain"}]
        london["main"]["temp"] = 280
        second = stream.wait_results(2, timeout_s=15)[1]
        assert second["rows"][0]["temp"] == 280
        london["weather"][0]["id"] = 500  # a field the query does not read
        upstream.wait_polls(2)
        time.sleep(0.2)
        assert len(stream.results()) == 2
    assert upstream.seen()[0].path == "/data/2.5/weather?q=London&appid=s3cret-key"


def test_01_the_key_in_the_url_is_never_logged(launch: Launcher, upstream: Upstream) -> None:
    sse = Listener()
    text = stand_in(
        "01-weather-poll.yaml",
        {
            "https://api.openweathermap.org": upstream.url,
            '":9100"': f'":{sse.port}"',
            "interval: 30s": "interval: 1s",
        },
    )
    upstream.always(Reply(500, b"no"))
    pipeline = launch(text, sse.health, env={"OWM_KEY": "s3cret-key"})
    eventually(lambda: "poll failed" in pipeline.log())
    health = IngestClient(sse.url).get("/health")
    assert "s3cret-key" not in pipeline.output() + str(health.body)


def test_02_orders_join_users_at_the_webhook(launch: Launcher, receiver: WebhookReceiver) -> None:
    push = Listener()
    text = stand_in(
        "02-orders-users.yaml",
        {'":8080"': f'":{push.port}"', "http://localhost:9000": receiver.url},
    )
    pipeline = launch(text, push.health)
    query = queries(text)["order-user-join"]
    source = random.Random(2)
    with IngestClient(push.url) as client:
        shop = Shop(client)
        for step in range(12):
            rows = []
            for _ in range(20):
                n, user = source.randrange(40), f"user_{source.randrange(8)}"
                kind = source.random()
                if kind < 0.6:
                    rows.append(order(n, user_id=user, amount=source.randrange(400) / 4))
                elif kind < 0.75:
                    rows.append(message("orders", f"order_{n}", None))
                elif kind < 0.9:
                    rows.append(message("users", user, {"name": f"N{step}", "email": f"{n}@x.org"}))
                else:
                    rows.append(message("users", user, None))
            shop.send(rows)
        shop.send(
            [
                message(
                    "orders", "too-old", {"user_id": "user_1", "amount": 1}, int(time.time()) - 7200
                )
            ]
        )
        eventually(lambda: not wrong(receiver, "order-user-join", shop.oracle.groups(query)))
    time.sleep(0.3)
    assert not wrong(receiver, "order-user-join", shop.oracle.groups(query))
    assert {request.path for request in receiver.seen()} == {"/webhook"}
    assert not [r for r in receiver.seen() if r.json["key"] == "too-old"]
    assert pipeline.stop() == 0


def wrong(receiver: WebhookReceiver, join: str, want: State) -> str:
    told = Delivered(in_log_order=False, repeats=True).take(r.json for r in receiver.delivered())
    return difference(told.state(join), want)


TICKETS = [
    {"id": n, "status": "open" if n % 2 else "closed", "subject": f"Ticket {n} ü"}
    for n in range(1, 7)
]


def run_04(
    launch: Launcher, upstream: Upstream, receiver: WebhookReceiver, health: Listener
) -> Any:
    text = stand_in(
        "04-at-least-once.yaml",
        {
            "https://support.example.com": upstream.url,
            "http://localhost:9000": receiver.url,
            "interval: 1m": "interval: 300ms",
            "retry_interval: 30s": "retry_interval: 200ms",
        },
    )
    upstream.field = "tickets"
    upstream.headers_required = {"Authorization": "Bearer t0ken"}
    pipeline = launch.prepare(
        text,
        health_url=health.health,
        env={"API_TOKEN": "t0ken"},
        args=["--set", f"server.addr={health.addr}"],
    )
    return pipeline.start()


def sqlite_rows(path: Path) -> list[tuple[Any, ...]]:
    """Rows of the sink's table for ticket-feed, read as another program would."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return sorted(db.execute('SELECT key, subject FROM "ticket-feed"').fetchall())
    finally:
        db.close()


def test_04_nothing_at_first_then_changes_outage_and_deletes(
    launch: Launcher, upstream: Upstream, receiver: WebhookReceiver
) -> None:
    upstream.serve(TICKETS)
    pipeline = run_04(launch, upstream, receiver, Listener())
    upstream.wait_polls(3)
    never(lambda: receiver.seen(), 0.3)  # initial_snapshot: false

    changed = [dict(t) for t in TICKETS]
    changed[1] |= {"status": "open", "subject": "Reopened"}
    changed[2]["subject"] = "Renamed"
    receiver.down()
    upstream.serve([*changed, {"id": 7, "status": "open", "subject": "New"}])
    eventually(lambda: "dlq: enqueued result for sink" in pipeline.log())
    upstream.wait_polls(2)
    receiver.up()
    eventually(lambda: {r.json["key"] for r in receiver.delivered("/crm")} == {"2", "3", "7"})
    delivered = {r.json["key"]: r.json for r in receiver.delivered("/crm")}
    assert json.loads(delivered["3"]["rows"][0]["payload"]) == changed[2]
    assert {r.json["query"] for r in receiver.seen()} == {"open-tickets"}
    path = pipeline.work_dir / "tickets.db"
    eventually(lambda: sqlite_rows(path) == [("2", "Reopened"), ("3", "Renamed"), ("7", "New")])

    upstream.serve(
        [t for t in changed if t["id"] not in (3,)]
        + [{"id": 7, "status": "closed", "subject": "New"}]
    )
    gone = eventually(
        lambda: (
            {r.json["key"] for r in receiver.delivered("/crm") if r.json["op"] == "delete"}
            >= {"3", "7"}
        )
    )
    assert gone
    eventually(lambda: sqlite_rows(path) == [("2", "Reopened"), ("7", "New")])
    assert "t0ken" not in pipeline.output()
    assert pipeline.stop() == 0
    assert sqlite_rows(path) == [("2", "Reopened"), ("7", "New")]


def test_04_a_restart_polls_again_and_emits_only_what_changed_meanwhile(
    launch: Launcher, upstream: Upstream, receiver: WebhookReceiver
) -> None:
    upstream.serve(TICKETS)
    pipeline = run_04(launch, upstream, receiver, Listener())
    upstream.wait_polls(2)
    pipeline.kill()
    changed = [dict(t) for t in TICKETS]
    changed[0]["subject"] = "While you were out"
    upstream.serve(changed)
    pipeline.start()
    eventually(lambda: receiver.delivered())
    upstream.wait_polls(2)
    assert [r.json["key"] for r in receiver.delivered()] == ["1"]


def test_06_a_tiered_pipeline_runs(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    text = stand_in("06-tiered.yaml", {'":8080"': f'":{push.port}"', '":9100"': f'":{sse.port}"'})
    pipeline = launch(text, push.health)
    with IngestClient(push.url) as client:
        client.send([order(1, amount=250.5), order(2, amount=99)])
    eventually(lambda: [r["key"] for r in snapshot(sse.url).results] == ["order_1"])
    assert pipeline.stop() == 0


def test_08_a_replicated_pipeline_runs_and_says_how_its_litestream_is_started(
    launch: Launcher,
) -> None:
    push, sse = Listener(), Listener()
    text = stand_in(
        "08-replication.yaml", {'":8080"': f'":{push.port}"', '":9100"': f'":{sse.port}"'}
    )
    # No credentials: they are those of the sidecar alone, and this process cannot ask the replica.
    without = {"AWS_ACCESS_KEY_ID": "", "AWS_PROFILE": "", "HOME": str(launch.base_dir)}
    pipeline = launch(text, push.health, env={**without, "AWS_EC2_METADATA_DISABLED": "true"})
    with IngestClient(push.url) as client:
        client.send([order(1, amount=250.5), order(2, amount=99)])
    eventually(lambda: len(snapshot(sse.url).results) == 2)
    config = pipeline.work_dir / "data" / "litestream.yml"
    assert f"litestream replicate -config {config}" in pipeline.log()
    assert "s3://backups/litejoin/shard-0007.db" in config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    assert pipeline.stop() == 0


def test_07_three_joins_over_three_topics(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    text = stand_in(
        "07-multiway-aggregate.yaml", {'":8080"': f'":{push.port}"', '":9100"': f'":{sse.port}"'}
    )
    launch(text, push.health)
    source = random.Random(7)
    with IngestClient(push.url) as client, Subscriber(sse.url, "*") as stream:
        shop = Shop(client)
        for _ in range(12):
            rows = []
            for _ in range(25):
                n, user, product = (
                    source.randrange(30),
                    f"u{source.randrange(6)}",
                    f"p{source.randrange(4)}",
                )
                kind = source.random()
                if kind < 0.5:
                    tags = source.sample(["a", "b", "c", "ü"], source.randrange(4))
                    rows.append(
                        order(
                            n,
                            user_id=user,
                            product_id=product,
                            amount=source.randrange(80) / 4,
                            tags=tags,
                        )
                    )
                elif kind < 0.65:
                    rows.append(
                        message(
                            "users", user, {"name": user, "region": source.choice(["n", "s", None])}
                        )
                    )
                elif kind < 0.8:
                    rows.append(message("products", product, {"title": f"T{n}"}))
                else:
                    topic, key = source.choice(
                        [("orders", f"order_{n}"), ("users", user), ("products", product)]
                    )
                    rows.append(message(topic, key, None))
            shop.send(rows)
            for name, query in queries(text).items():
                want = shop.oracle.groups(query, "region" if "region" in name else None)
                eventually(partial(is_told, stream, name, want))
                shown = snapshot_state(snapshot(sse.url, name).results)
                assert no_difference(shown.get(name, {}), want)


def is_told(stream: Subscriber, name: str, want: State) -> bool:
    return no_difference(Delivered().take(stream.results(name)).state(name), want)


def no_difference(got: State, want: State) -> bool:
    text = difference(got, want)
    assert not text, text
    return True


def test_07_refuses_topics_that_the_file_does_not_list(launch: Launcher) -> None:
    push, sse = Listener(), Listener()
    text = stand_in(
        "07-multiway-aggregate.yaml", {'":8080"': f'":{push.port}"', '":9100"': f'":{sse.port}"'}
    )
    launch(text, push.health)
    with IngestClient(push.url) as client:
        answer = client.offer([message("orders", "o", 1), message("invoices", "i", 1)])
    assert answer.status in (400, 404)
    assert answer.body["row"] == 1
    assert "invoices" in answer.refusal()


@pytest.mark.parametrize(
    "name", ["01-weather-poll.yaml", "02-orders-users.yaml", "07-multiway-aggregate.yaml"]
)
def test_each_file_is_warned_about_its_public_address_once(
    launch: Launcher, upstream: Upstream, receiver: WebhookReceiver, name: str
) -> None:
    ports = {
        text: Listener()
        for text in ('":8080"', '":9100"')
        if text in (CONFORMANCE / name).read_text()
    }
    replaced = {text: f'":{at.port}"' for text, at in ports.items()}
    if name.startswith("01"):
        replaced["https://api.openweathermap.org"] = upstream.url
    at = next(iter(ports.values()))
    pipeline = launch(stand_in(name, replaced), at.health, env={"OWM_KEY": "k"})
    warnings = [
        line for line in pipeline.log().splitlines() if "WARN" in line and f":{at.port}" in line
    ]
    assert len(warnings) == 1, pipeline.log()
