"""Kafka when things go wrong: crashes, rebalances, brokers that vanish, topics made anew."""

import json
import random
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_kafka import kafka_config, rows, soon
from tests.harness.broker import Broker
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually

KEYS = 40


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


class Load:
    """Produces rising numbers for random keys until stopped; remembers the last of each key."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.last: dict[str, int] = {}
        self.sent = 0
        self._broker, self._topic = broker, topic
        self._random = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            batch = []
            for _ in range(200):
                self.sent += 1
                key = f"k{self._random.randrange(KEYS)}"
                self.last[key] = self.sent
                batch.append((key, str(self.sent)))
            self._broker.produce(self._topic, batch)

    def stop(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join(30)
        return self.last


def test_kill_9_loses_no_message_and_takes_none_twice(broker: Broker, launch: Launcher) -> None:
    broker.create("load", partitions=3)
    at = Listener()
    config = kafka_config(broker, at, "load") | {"storage": {"shard_count": 3}}
    pipeline = launch(config, at.health)
    seen: dict[str, int] = {}

    def watch(event_id: str | None) -> str:
        """Read results for a while; of a key no value may ever be older than one before."""
        with Subscriber(at.url, "rows", last_event_id=event_id) as stream:
            stream.wait(lambda s: len(s.results()) > 300, 40)
            pipeline.kill()
            stream.wait(lambda s: s.closed, 10)
            for result in stream.results():
                value = int(result["rows"][0]["payload"])
                assert value > seen.get(result["key"], 0), "a message was applied again"
                seen[result["key"]] = value
            return stream.last_id

    load, last_id = Load(broker, "load"), None
    for _ in range(3):
        last_id = watch(last_id)
        pipeline.start()
    wanted = load.stop()
    soon(lambda: rows(at) == wanted)
    assert pipeline.stop() == 0


def test_a_process_stopped_beyond_its_session_goes_on(broker: Broker, launch: Launcher) -> None:
    broker.create("frozen")
    at = Listener()
    pipeline = launch(kafka_config(broker, at, "frozen"), at.health)
    load = Load(broker, "frozen")
    soon(lambda: len(rows(at)) > 10)
    pipeline.signal(signal.SIGSTOP)
    threading.Event().wait(4)
    pipeline.signal(signal.SIGCONT)
    wanted = load.stop()
    soon(lambda: rows(at) == wanted)


def health(at: Listener) -> dict[str, Any]:
    with IngestClient(at.url) as client:
        found: dict[str, Any] = client.get("/health").body["sources"]["in"]
        return found


def test_a_topic_made_anew_stops_its_partitions(broker: Broker, launch: Launcher) -> None:
    broker.create("anew", partitions=1)
    at = Listener()
    pipeline = launch(kafka_config(broker, at, "anew"), at.health)
    broker.produce("anew", [(f"k{n}", b"1") for n in range(20)])
    soon(lambda: len(rows(at)) == 20)
    broker.stop()
    soon(lambda: health(at)["status"] == "degraded")
    broker.start()  # it has forgotten everything
    broker.create("anew", partitions=1)
    broker.produce("anew", [("new", b"2")])
    soon(lambda: "anew[0] stopped: it was read up to 20, and then made anew" in pipeline.log())
    assert "made anew" in health(at)["reason"]
    assert "new" not in rows(at)
    assert pipeline.stop() == 0
    goes_on = kafka_config(broker, at, "anew", on_lost_offset="earliest")
    pipeline.file.write_text(json.dumps(goes_on))
    pipeline.start()
    soon(lambda: rows(at).get("new") == 2)


def sink_config(broker: Broker, at: Listener, **config: Any) -> dict[str, Any]:
    settings = {"brokers": broker.brokers, "topic": "out", "timeout": "2s", **config}
    sinks = [{"name": "out", "type": "kafka", "config": settings}]
    retries = {"dlq": {"retry_interval": "200ms", "max_backoff": "1s"}}
    return push_config(
        at, {"rows": "SELECT key, payload FROM t"}, sinks=sinks,
        delivery={"guarantee": "at_least_once", **retries},
    )  # fmt: skip


def outputs(broker: Broker, count: int) -> dict[str, Any]:
    return {
        m.key().decode(): json.loads(m.value())["rows"][0]["payload"]
        for m in broker.read("out", count)
    }


def test_results_wait_for_brokers_that_are_down(broker: Broker, launch: Launcher) -> None:
    broker.create("out")
    at = Listener()
    pipeline = launch(sink_config(broker, at), at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", "before", 1)])
    soon(lambda: outputs(broker, 1) == {"before": "1"})
    broker.stop()
    with IngestClient(at.url) as client:
        client.send([message("t", f"k{n}", n) for n in range(30)])
    soon(lambda: "FAILED sink send" in pipeline.log())
    broker.start()  # it has forgotten everything, what it knew of our producer too
    broker.create("out")
    soon(lambda: outputs(broker, 30) == {f"k{n}": str(n) for n in range(30)})


def test_a_result_too_large_for_kafka_is_parked(broker: Broker, launch: Launcher) -> None:
    broker.create("out")
    at = Listener()
    pipeline = launch(
        sink_config(broker, at, options={"message.max.bytes": 10_000}, compression="none"),
        at.health,
    )
    with IngestClient(at.url) as client:
        client.send([message("t", "huge", "x" * 50_000), message("t", "small", 1)])
    soon(lambda: outputs(broker, 1) == {"small": "1"})
    eventually(lambda: "MSG_SIZE_TOO_LARGE" in pipeline.log())
