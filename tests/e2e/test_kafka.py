"""Kafka in and out through the real daemon and a real broker."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from litejoin._ext.producer import Producer
from litejoin.kafka import library_file
from litejoin.records import Result, ResultOp
from tests.harness.broker import Broker
from tests.harness.configs import CONFORMANCE, Listener, push_config, substitute
from tests.harness.fixtures import Launcher
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

JOIN_S = 40.0
"""A consumer group forms in seconds, more on a busy machine."""


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


def soon(check: Callable[[], Any]) -> None:
    eventually(check, JOIN_S, every_s=0.1)


def kafka_config(
    broker: Broker, at: Listener, topic: str, joins: dict[str, str] | None = None, **config: Any
) -> dict[str, Any]:
    """One kafka source over one topic, its group named after it."""
    joins = joins or {"rows": f'SELECT key, payload, timestamp_ms FROM "{topic}"'}
    built = push_config(at, joins)
    # This broker lets a new member wait for half its session timeout.
    options = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}
    settings = {"brokers": broker.brokers, "group_id": f"group-{topic}", "options": options}
    settings |= config
    built["sources"] = [{"name": "in", "type": "kafka", "topics": [topic], "config": settings}]
    return built


def rows(at: Listener, join: str = "rows") -> dict[str, Any]:
    found = snapshot(at.url, join).results
    return {r["key"]: json.loads(r["rows"][0]["payload"]) for r in found}


def test_conformance_05_runs_unchanged(broker: Broker, launch: Launcher) -> None:
    text = (CONFORMANCE / "05-kafka.yaml").read_text(encoding="utf-8")
    text = substitute(text, {"localhost:9092": broker.brokers})
    broker.create("orders", "users")
    broker.create("joined-events", partitions=2)
    at = Listener()
    # This broker lets a new member wait for half its session timeout, 45 s by default.
    patience = "sources[0].config.options={session.timeout.ms: 2000, heartbeat.interval.ms: 200}"
    args = ["--set", f"server.addr={at.addr}", "--set", patience]
    pipeline = launch(text, at.health, args=args)
    broker.produce("users", [("u1", b'{"name":"Ann"}')])
    broker.produce("orders", [(f"o{n}", b'{"user_id":"u1","n":%d}' % n) for n in range(50)])

    def joined() -> dict[str, Any]:
        latest: dict[str, Any] = {}
        for message in broker.read("joined-events", 50):
            latest[message.key().decode()] = message.value() and json.loads(message.value())
        return latest

    def complete() -> bool:
        found = joined()
        return len(found) == 50 and all(
            each["rows"][0]["user_data"] == '{"name":"Ann"}' for each in found.values()
        )

    soon(complete)
    broker.produce("orders", [("o7", None)])
    soon(lambda: joined()["o7"] is None)
    assert pipeline.stop() == 0


def test_messages_become_rows_with_their_own_time(broker: Broker, launch: Launcher) -> None:
    broker.create("times")
    at = Listener()
    launch(kafka_config(broker, at, "times"), at.health)
    broker.produce("times", [("a", b'{"n": 1}')], timestamp=1_700_000_000_123)
    broker.produce("times", [("b", b"[2]"), ("c", b"3")])
    soon(lambda: rows(at) == {"a": {"n": 1}, "b": [2], "c": 3})
    stamps = {r["key"]: r["rows"][0]["timestamp_ms"] for r in snapshot(at.url, "rows").results}
    assert stamps["a"] == 1_700_000_000_123
    broker.produce("times", [("a", None), ("b", b"null")])
    soon(lambda: rows(at) == {"c": 3})


def test_keys_come_from_the_value_where_key_path_says_so(broker: Broker, launch: Launcher) -> None:
    broker.create("keyed")
    at = Listener()
    launch(kafka_config(broker, at, "keyed", key_path=["region", "id"]), at.health)
    broker.produce("keyed", [(None, b'{"region":"eu","id":7,"v":1}')])
    soon(lambda: set(rows(at)) == {"eu:7"})


def test_texts_are_stored_as_json_strings(broker: Broker, launch: Launcher) -> None:
    broker.create("texts")
    at = Listener()
    launch(kafka_config(broker, at, "texts", value_format="text"), at.health)
    broker.produce("texts", [("a", b'no "json"\n'), ("b", b"null")])
    soon(lambda: rows(at) == {"a": 'no "json"\n', "b": "null"})


BAD = [
    (None, b"1"),
    ("text", b"{broken"),
    ("utf-8", b'"\xff"'),
    (b"\xff\xfe", b"1"),
    ("", b"1"),
    ("x" * 600, b"1"),
    ("depth", b"[" * 100 + b"]" * 100),
]


def test_bad_messages_are_reported_and_stop_nobody(broker: Broker, launch: Launcher) -> None:
    broker.create("poison", partitions=1)
    at = Listener()
    pipeline = launch(kafka_config(broker, at, "poison"), at.health)
    broker.produce("poison", [("before", b"1"), *BAD, ("after", b"2")])
    soon(lambda: rows(at) == {"before": 1, "after": 2})
    lines = [line for line in pipeline.log().splitlines() if "bad message" in line]
    assert len(lines) == len(BAD)
    assert all("poison[0] offset" in line for line in lines)


def test_bad_messages_can_be_kept_in_a_topic(broker: Broker, launch: Launcher) -> None:
    broker.create("kept", partitions=1)
    at = Listener()
    joins = {"rows": "SELECT key, payload FROM kept", "bad": 'SELECT key, payload FROM "in.dlq"'}
    launch(kafka_config(broker, at, "kept", joins, on_bad_message="dlq"), at.health)
    broker.produce("kept", [("a", b"{"), (None, b"\xff"), ("b", b"1")])
    soon(lambda: rows(at) == {"b": 1})
    soon(lambda: set(rows(at, "bad")) == {"kept/0/0", "kept/0/1"})
    bad = rows(at, "bad")
    assert bad["kept/0/0"]["value"] == "{"
    assert "not JSON" in bad["kept/0/0"]["reason"]
    assert (bad["kept/0/1"]["key"], bad["kept/0/1"]["value_base64"]) == (None, "/w==")


def test_a_bad_message_can_stop_its_partition(broker: Broker, launch: Launcher) -> None:
    broker.create("halting", partitions=2)
    at = Listener()
    pipeline = launch(kafka_config(broker, at, "halting", on_bad_message="stop"), at.health)
    broker.produce("halting", [("a", b"1"), ("bad", b"{"), ("b", b"2")], partition=0)
    broker.produce("halting", [("c", b"3")], partition=1)
    soon(lambda: rows(at) == {"a": 1, "c": 3})
    soon(lambda: "halting[0] stopped: bad message at 1" in pipeline.log())
    broker.produce("halting", [("d", b"4")], partition=1)
    soon(lambda: rows(at) == {"a": 1, "c": 3, "d": 4})


def results(count: int) -> list[Result]:
    """Results with keys, spans and texts of all kinds."""
    return [
        Result(
            pos=n * 1_000_003,
            query="rows" if n % 2 else "a.much-longer_name" * 6,
            key=json.dumps(["text", n])
            if n % 3
            else json.dumps(f'k{n} "\u00e9\\\n', ensure_ascii=False),
            rows=json.dumps([{"n": "x" * n, "u": "\u20ac"}], ensure_ascii=False),
            op=ResultOp.UPSERT if n % 4 else ResultOp.DELETE,
            emit_at_ms=1_700_000_000_000 + n,
            pipeline="shop/0123abcd",
            start_ms=1_000 * n if n % 5 == 0 else None,
            end_ms=2_000 * n if n % 5 == 0 else None,
        )
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("rows_only", [False, True])
def test_messages_are_the_results_to_the_byte(broker: Broker, rows_only: bool) -> None:
    topic = f"bytes-{rows_only}"
    broker.create(topic)
    producer = Producer(
        library_file(), {"bootstrap.servers": broker.brokers, "enable.idempotence": "true"},
        topic, rows_only=rows_only, in_order=True, on_error=lambda *_: None,
    )  # fmt: skip
    sent = results(300)
    assert producer.send(sent, 30_000) == []
    producer.close()
    by_id = {dict(m.headers())["litejoin-id"].decode(): m for m in broker.read(topic, len(sent))}
    assert len(by_id) == len(sent)
    for result in sent:
        message = by_id[result.id]
        assert dict(message.headers())["litejoin-seq"] == b"%d" % result.pos
        assert dict(message.headers())["litejoin-query"].decode() == result.query
        key = json.loads(result.key)
        assert message.key().decode() == (key if isinstance(key, str) else result.key)
        value = result.rows.encode() if rows_only else result.body()
        assert message.value() == (None if result.op is ResultOp.DELETE else value)


def test_settings_that_librdkafka_does_not_take_are_named(broker: Broker) -> None:
    with pytest.raises(ValueError, match="no.such.setting"):
        Producer(
            library_file(), {"no.such.setting": "1"}, "t",
            rows_only=False, in_order=True, on_error=lambda *_: None,
        )  # fmt: skip
