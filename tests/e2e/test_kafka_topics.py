"""Which topics a kafka source finds, where it begins, and what it says of topics that are gone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.test_kafka import JOIN_S, kafka_config, rows, soon
from tests.faults.test_process_kafka import health
from tests.harness.broker import Broker
from tests.harness.certificates import Authority
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.waiting import eventually

LOOKS_OFTEN: dict[str, Any] = {
    "session.timeout.ms": 2000, "heartbeat.interval.ms": 200,
    "topic.metadata.refresh.interval.ms": 500,
}  # fmt: skip


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


def test_topics_by_pattern_with_headers(broker: Broker, launch: Launcher) -> None:
    broker.create("eu.orders", "us.orders", "eu.users")
    at = Listener()
    config = kafka_config(
        broker, at, "^[a-z]+\\.orders$", {"rows": "SELECT key, payload FROM orders"},
        topic_map={"^[a-z]+\\.orders$": "orders"}, meta="origin", key_path=["shop", "id"],
        group_id="by-pattern", options=LOOKS_OFTEN, auto_offset_reset="latest",
    )  # fmt: skip
    launch(config, at.health)
    soon(lambda: health(at)["partitions"] == 6)
    value = json.dumps({"shop": "eu", "id": 1})
    broker.produce("eu.orders", [(None, value)], headers=[("trace", b"t1"), ("raw", b"\xff")])
    broker.produce("us.orders", [(None, json.dumps({"shop": "us", "id": 2}))])
    broker.produce("eu.users", [(None, json.dumps({"shop": "eu", "id": 3}))])
    soon(lambda: set(rows(at)) == {"eu:1", "us:2"})
    origin = rows(at)["eu:1"]["origin"]
    assert (origin["topic"], origin["offset"]) == ("eu.orders", 0)
    assert origin["headers"] == {"trace": "t1", "raw": {"base64": "/w=="}}
    # One that comes later is read from its beginning, although the group begins at the end.
    broker.create("cn.orders", partitions=1)
    broker.produce("cn.orders", [(None, json.dumps({"shop": "cn", "id": 4}))])
    soon(lambda: set(rows(at)) == {"eu:1", "us:2", "cn:4"})


def test_a_topic_that_is_missing_is_named_until_it_is_there(
    broker: Broker, launch: Launcher
) -> None:
    at = Listener()
    pipeline = launch(kafka_config(broker, at, "missing", options=LOOKS_OFTEN), at.health)
    soon(lambda: "missing" in health(at).get("reason", ""))
    broker.create("missing")
    broker.produce("missing", [("a", b"1")])
    soon(lambda: rows(at) == {"a": 1})
    soon(lambda: health(at)["status"] == "ok")
    assert pipeline.stop() == 0


@pytest.mark.parametrize("rule", ["stop", "earliest"])
def test_a_topic_made_anew_with_more_messages_is_told(
    broker: Broker, launch: Launcher, rule: str
) -> None:
    """While nobody reads: this broker answers a fetch of a topic that is gone with a tag that makes
    librdkafka read a name that is not there.
    """
    topic = f"again-{rule}"
    broker.create(topic, partitions=1)
    at = Listener()
    pipeline = launch(kafka_config(broker, at, topic, on_lost_offset=rule), at.health)
    broker.produce(topic, [("old", b"1")])
    soon(lambda: rows(at) == {"old": 1})
    assert pipeline.stop() == 0
    broker.delete(topic)
    broker.create(topic, partitions=1)
    broker.produce(topic, [(f"new{n}", b"2") for n in range(5)])
    pipeline.start()
    soon(lambda: "read up to 1, and then made anew" in pipeline.log())
    if rule == "stop":
        soon(lambda: health(at)["stopped_partitions"] == 1)
        assert "made anew" in health(at)["reason"]
        assert rows(at) == {"old": 1}
    else:
        soon(lambda: rows(at) == {"old": 1} | {f"new{n}": 2 for n in range(5)})
        assert health(at)["stopped_partitions"] == 0
        pipeline.restart()
        broker.produce(topic, [("more", b"3")])
        soon(lambda: rows(at).get("more") == 3)
        assert pipeline.log().count("made anew") == 1


def test_a_huge_message_is_reported_and_the_next_one_is_read(
    broker: Broker, launch: Launcher
) -> None:
    broker.create("huge", partitions=1)
    at = Listener()
    pipeline = launch(kafka_config(broker, at, "huge"), at.health)
    large = json.dumps("x" * 3_000_000)
    producer = Producer({
        "bootstrap.servers": broker.brokers, "message.max.bytes": 10_000_000, "log_level": 0,
    })  # fmt: skip
    producer.produce("huge", large, "large")
    assert producer.flush(JOIN_S) == 0
    broker.produce("huge", [("small", b"1")])
    soon(lambda: rows(at) == {"small": 1})
    assert "bad message at huge[0] offset 0" in pipeline.log()


def test_results_wait_for_a_topic_that_is_made_later(broker: Broker, launch: Launcher) -> None:
    at = Listener()
    options = {"allow.auto.create.topics": False}
    settings = {"brokers": broker.brokers, "topic": "later", "timeout": "2s", "options": options}
    config = push_config(
        at, {"rows": "SELECT key, payload FROM t"},
        sinks=[{"name": "out", "type": "kafka", "config": settings}],
        delivery={"guarantee": "at_least_once", "dlq": {"retry_interval": "200ms"}},
    )  # fmt: skip
    pipeline = launch(config, at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", "a", 1)])
    eventually(lambda: "FAILED sink send" in pipeline.log(), JOIN_S)
    broker.create("later")
    soon(lambda: [m.key() for m in broker.read("later", 1)] == [b"a"])


def test_settings_that_the_client_does_not_take_refuse_the_start(
    broker: Broker, launch: Launcher
) -> None:
    at = Listener()
    config = kafka_config(broker, at, "t", options={"security.protocol": "hunter2"})
    pipeline = launch.prepare(config, health_url=at.health)
    assert pipeline.run_to_exit() == 2
    text = pipeline.output()
    assert "security.protocol" in text
    assert "hunter2" not in text


def test_tls_with_a_client_certificate_both_ways(tmp_path: Path, launch: Launcher) -> None:
    authority = Authority(tmp_path)
    broker = Broker(authority=authority)
    try:
        broker.create("in", "back")
        at = Listener()
        cert_file, key_file = map(str, authority.client("litejoin"))
        files = {"ca_file": str(authority.ca_file), "cert_file": cert_file, "key_file": key_file}
        security = {"protocol": "ssl", **files}
        config = kafka_config(broker, at, "in", security=security)
        settings = {"brokers": broker.brokers, "topic": "back", "security": security}
        config["sinks"].append({"name": "back", "type": "kafka", "config": settings})
        config["joins"][0] = {
            "name": "rows", "query": 'SELECT key, payload FROM "in"', "sinks": ["out", "back"],
        }  # fmt: skip
        pipeline = launch(config, at.health)
        broker.produce("in", [("a", b"1")])
        soon(lambda: [m.key() for m in broker.read("back", 1)] == [b"a"])
        assert pipeline.stop() == 0
        # Without its certificate it is refused, and is not well.
        del security["cert_file"], security["key_file"]
        pipeline.file.write_text(json.dumps(config))
        pipeline.start()
        soon(lambda: health(at)["status"] == "degraded")
        assert health(at)["state"] == "joining"
        assert pipeline.stop() == 0
    finally:
        broker.close()
