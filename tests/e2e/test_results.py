"""One result at a time: what is emitted, what is not, and what it carries (product 5)."""

import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.results import Delivered, check_shape
from tests.harness.scripted import WebhookReceiver
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually

AT = Listener()

LEFT = (
    "SELECT o.key AS order_id, json_extract(o.payload, '$.amount') AS amount, u.payload ->>"
    " '$.name' AS name"
    " FROM orders o LEFT JOIN users u ON json_extract(o.payload, '$.user_id') = u.key"
)
JOINS: dict[str, Any] = {
    "left": LEFT,
    "every": {"query": "SELECT key, payload FROM orders", "emit": "all"},
    "keep": {
        "query": "SELECT key, payload ->> '$.amount' AS amount FROM orders",
        "on_delete": "ignore",
    },
    "parsed": {"query": "SELECT key, payload FROM orders", "json_columns": ["payload"]},
    "by-status": "SELECT payload ->> '$.status' AS status, key FROM orders",
    "pair": "SELECT 'all' AS k, COUNT(*) AS n FROM pairs a JOIN pairs b ON a.payload ->> '$.peer'"
    " = b.key",
}


@pytest.fixture(scope="module", autouse=True)
def pipeline(launch_shared: Launcher) -> None:
    launch_shared(push_config(AT, JOINS, storage={"shard_count": 8}), AT.health)


@pytest.fixture
def client() -> Iterator[IngestClient]:
    with IngestClient(AT.url) as made:
        yield made


MARKS = count()


def apply(client: IngestClient, stream: Subscriber, join: str, row: dict[str, Any]) -> None:
    """Send a change of orders and wait until it has been evaluated: those that wait are one step.

    A row behind it in the same request tells, whether or not the change has a result.
    """
    mark = f"mark-{next(MARKS)}"
    client.send([row, message("orders", mark, {"amount": 0})])
    stream.wait(lambda s: of(s, mark, join))


def test_an_update_a_rewrite_and_a_delete_emit_two_upserts_and_one_delete(
    client: IngestClient,
) -> None:
    with Subscriber(AT.url, "left") as stream:
        for payload in (
            {"amount": 1},
            {"amount": 1},
            {"amount": 1.0},
            {"amount": 2},
            None,
            None,
            {"amount": 2},
        ):
            apply(client, stream, "left", message("orders", "life", payload))
        results = of(stream, "life")
    assert [r["op"] for r in results] == ["upsert", "upsert", "delete", "upsert"]
    assert [r["rows"] for r in results] == [
        [{"order_id": "life", "amount": n, "name": None}] if n else [] for n in (1, 2, 0, 2)
    ]
    Delivered().take(results)


def of(stream: Subscriber, key: str, join: str = "left") -> list[dict[str, Any]]:
    return [r for r in stream.results(join) if r["key"] == key]


def test_an_unread_field_changes_nothing(client: IngestClient) -> None:
    with Subscriber(AT.url, "left") as stream:
        for payload in ({"amount": 1, "note": "a"}, {"note": "b", "amount": 1}, {"amount": 3}):
            apply(client, stream, "left", message("orders", "unread", payload))
        assert [r["rows"][0]["amount"] for r in of(stream, "unread")] == [1, 3]


def test_one_request_with_both_sides_never_shows_half_a_join(client: IngestClient) -> None:
    keys = [f"half-{i}" for i in range(60)]
    rows = []
    for i, key in enumerate(keys):
        sides = [
            message("orders", key, {"user_id": f"u-{key}", "amount": i}),
            message("users", f"u-{key}", {"name": key}),
        ]
        rows += sides if i % 2 else sides[::-1]
    with Subscriber(AT.url, "left") as stream:
        client.send(rows)
        stream.wait(lambda s: {r["key"] for r in s.results("left")} >= set(keys))
        time.sleep(0.2)
        results = [r for r in stream.results("left") if r["key"] in keys]
    assert [r for r in results if r["rows"][0]["name"] is None] == []
    assert len(results) == len(keys), "each key once"


def test_one_request_that_changes_both_sides_emits_each_key_once(client: IngestClient) -> None:
    client.send(
        [message("users", f"both-u{i}", {"name": "old"}) for i in range(20)]
        + [
            message("orders", f"both-{i}", {"user_id": f"both-u{i}", "amount": 1})
            for i in range(20)
        ]
    )
    eventually(
        lambda: (
            len(snapshot(AT.url, "left", keys=",".join(f"both-{i}" for i in range(20))).results)
            == 20
        )
    )
    with Subscriber(AT.url, "left") as stream:
        client.send(
            [
                message("orders", f"both-{i}", {"user_id": f"both-u{i}", "amount": 2})
                for i in range(20)
            ]
            + [message("users", f"both-u{i}", {"name": "new"}) for i in range(20)]
        )
        stream.wait_results(20, "left")
        time.sleep(0.2)
        results = stream.results("left")
    assert len(results) == 20
    assert {(r["rows"][0]["amount"], r["rows"][0]["name"]) for r in results} == {(2, "new")}


def test_the_last_message_of_a_key_in_one_request_is_the_only_one_seen(
    client: IngestClient,
) -> None:
    with Subscriber(AT.url, "left") as stream:
        client.send([message("orders", "last", {"amount": n}) for n in range(10)])
        stream.wait(lambda s: of(s, "last"))
        client.send([message("orders", "last", None), message("orders", "last", {"amount": 42})])
        stream.wait(lambda s: of(s, "last") and of(s, "last")[-1]["rows"][0]["amount"] == 42)
        assert [r["rows"][0]["amount"] for r in of(stream, "last")] == [9, 42]


def test_a_row_that_moves_to_another_key_updates_both(client: IngestClient) -> None:
    with Subscriber(AT.url, "by-status") as stream:
        client.send([message("orders", f"move{i}", {"status": "s-open"}) for i in range(2)])
        stream.wait(lambda s: of(s, "s-open", "by-status"))
        client.send(message("orders", "move1", {"status": "s-shut"}))
        stream.wait(
            lambda s: of(s, "s-shut", "by-status") and len(of(s, "s-open", "by-status")) >= 2
        )
        client.send(message("orders", "move0", {"status": "s-shut"}))
        stream.wait(lambda s: of(s, "s-open", "by-status")[-1]["op"] == "delete")
        time.sleep(0.1)
        opened, shut = of(stream, "s-open", "by-status"), of(stream, "s-shut", "by-status")
    assert sorted(r["key"] for r in opened[0]["rows"]) == ["move0", "move1"]
    assert [sorted(r["key"] for r in result["rows"]) for result in opened[1:]] == [["move0"], []]
    assert sorted(r["key"] for r in shut[-1]["rows"]) == ["move0", "move1"]


def test_emit_all_repeats_unchanged_results(client: IngestClient) -> None:
    with Subscriber(AT.url, "every") as stream:
        for _ in range(3):
            apply(client, stream, "every", message("orders", "same", {"amount": 7}))
        results = of(stream, "same", "every")
    assert len({r["id"] for r in results}) == 3
    assert [r["rows"] for r in results] == [results[0]["rows"]] * 3


def test_on_delete_ignore_emits_no_delete(client: IngestClient) -> None:
    with Subscriber(AT.url, "keep") as stream:
        apply(client, stream, "keep", message("orders", "kept", {"amount": 1}))
        apply(client, stream, "keep", message("orders", "kept", None))
        assert [r["op"] for r in of(stream, "kept", "keep")] == ["upsert"]


def test_json_columns_are_delivered_as_json_values(client: IngestClient) -> None:
    payload = {"amount": 1.5, "tags": ["ä", None, {"x": True}]}
    with Subscriber(AT.url, "parsed") as stream:
        client.send(message("orders", "json", payload))
        result = stream.wait(lambda s: of(s, "json", "parsed"))[0]
    assert result["rows"] == [{"key": "json", "payload": payload}]
    plain = eventually(lambda: snapshot(AT.url, "every", keys="json").results)[0]
    assert json.loads(plain["rows"][0]["payload"]) == payload


def test_ids_are_unique_and_seq_rises_within_each_join(client: IngestClient) -> None:
    with Subscriber(AT.url) as stream:
        for n in range(10):
            client.send(
                [message("orders", f"ids{i}", {"amount": n, "status": "x"}) for i in range(10)]
            )
        stream.wait(
            lambda s: [
                r for r in s.results("left") if r["key"] == "ids9" and r["rows"][0]["amount"] == 9
            ]
        )
        results = stream.results()
        events = stream.named("join_result")
    for result in results:
        check_shape(result)
    assert len({r["id"] for r in results}) == len(results)
    for join in JOINS:
        seqs = [r["seq"] for r in results if r["query"] == join]
        assert seqs == sorted(set(seqs)), join
    assert len({event.id for event in events}) == len(events)


def test_emit_at_is_the_time_of_the_result_in_utc(client: IngestClient) -> None:
    with Subscriber(AT.url, "left") as stream:
        client.send(message("orders", "when", {"amount": 1}, 1_000_000_000))
        result = stream.wait(lambda s: of(s, "when"))[0]
    check_shape(result)
    assert result["emit_at"].startswith(time.strftime("%Y-%m-%d", time.gmtime())), result["emit_at"]


def test_a_self_join_counts_both_sides(client: IngestClient) -> None:
    with Subscriber(AT.url, "pair") as stream:
        client.send(
            [message("pairs", "p1", {"peer": "p2"}), message("pairs", "p2", {"peer": "p1"})]
        )
        stream.wait(
            lambda s: s.results("pair") and s.results("pair")[-1]["rows"] == [{"k": "all", "n": 2}]
        )
        client.send(message("pairs", "p1", {"peer": "p1"}))
        client.send(message("pairs", "p2", None))
        stream.wait(lambda s: s.results("pair")[-1]["rows"] == [{"k": "all", "n": 1}])


def test_a_poison_message_is_reported_and_stops_nobody_else(launch: Launcher) -> None:
    """Semantics 16: `abs(-2^63)` overflows in SQLite and fails the statement."""
    at = Listener()
    joins = {
        "fragile": "SELECT key, abs(payload ->> '$.n') AS n FROM numbers",
        "sturdy": "SELECT key, payload ->> '$.n' AS n FROM numbers",
    }
    pipeline = launch(push_config(at, joins), at.health)
    with IngestClient(at.url) as sender, Subscriber(at.url) as stream:
        sender.send(message("numbers", "fine", {"n": -1}))
        sender.send(
            [message("numbers", "poison", {"n": -(2**63)}), message("numbers", "beside", {"n": -2})]
        )
        sender.send(message("numbers", "later", {"n": -3}))
        stream.wait(
            lambda s: {"fine", "beside", "later"} <= {r["key"] for r in s.results("fragile")}
        )
        stream.wait(lambda s: len(s.results("sturdy")) == 4)
        eventually(lambda: "poison" in pipeline.log() and "overflow" in pipeline.log())
        sender.send(message("numbers", "poison", {"n": -9}))
        stream.wait(lambda s: of(s, "poison", "fragile"))
        assert of(stream, "poison", "fragile")[-1]["rows"] == [{"key": "poison", "n": 9}]
    pipeline.assert_running()


def test_every_sink_is_told_the_same_results(launch: Launcher, receiver: WebhookReceiver) -> None:
    at = Listener()
    sinks = [sse_sink(at), http_sink(f"{receiver.url}/hook"), {"name": "lines", "type": "stdout"}]
    pipeline = launch(push_config(at, {"left": LEFT}, sinks=sinks), at.health)
    with IngestClient(at.url) as sender, Subscriber(at.url) as stream:
        for n in range(5):
            sender.send(
                [message("orders", f"o{i}", {"amount": n, "user_id": "u"}) for i in range(4)]
            )
        sender.send([message("users", "u", {"name": "Ü\u2028\n"}), message("orders", "o3", None)])
        # Steps between may be left out; the delete is the last result of the last flush.
        stream.wait(lambda s: any(r["op"] == "delete" for r in s.results()))
        told = {r["id"]: r for r in stream.results()}
        eventually(lambda: len(receiver.delivered("/hook")) == len(told))
        printed = eventually(
            lambda: (p := stdout_results(pipeline.log())) and len(p) == len(told) and p
        )
    assert {r["id"]: r for r in printed} == told
    for request in receiver.delivered("/hook"):
        body = request.json
        assert body == told[body["id"]]
        assert request.headers["webhook-id"] == request.headers["idempotency-key"] == body["id"]
        assert request.headers["content-type"].startswith("application/json")
    Delivered(in_log_order=False).take(r.json for r in receiver.delivered("/hook"))


def stdout_results(text: str) -> list[dict[str, Any]]:
    """The result objects among the lines of standard output."""
    lines = [json.loads(line) for line in text.split("\n") if line.startswith('{"')]
    return [line for line in lines if "query" in line and "seq" in line]
