"""Kafka in: a backlog of a topic into the shards, joined, beside the client library alone.

    python -m bench.e2e.kafka [N]

N orders and a tenth of users are in the broker before anything starts. `client` is a bare
confluent-kafka loop that consumes them and does nothing; `consume` a pipeline that only stores them
(its one join reads another topic); `joined` one that joins orders with users and delivers to a
Kafka topic. Time counts from the first message to the last one durable; for `joined` to the last
result at the broker. The broker (tansu) runs on the same processors and takes its share.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import Daemon, daemon
from tests.harness.broker import Broker

JOINED = """  - name: enriched
    query: |
      SELECT o.key AS order_id, o.payload ->> '$.amount' AS amount, u.payload ->> '$.name' AS user
      FROM orders o JOIN users u ON o.payload ->> '$.user_id' = u.key
    sink: back
"""
STORED = "  - {name: other, query: SELECT key FROM elsewhere, sink: out}\n"


def fill(broker: Broker, orders: int) -> int:
    users = orders // 10
    broker.create("users", "orders", partitions=4)
    broker.create("back", partitions=4)
    broker.produce("users", ((f"u{n}", b'{"name":"Name %d"}' % n) for n in range(users)))
    broker.produce(
        "orders",
        (
            (f"o{n}", b'{"user_id":"u%d","amount":%d.5}' % (n * 31 % users, n))
            for n in range(orders)
        ),
    )
    return orders + users


def client_alone(broker: Broker, count: int) -> float:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": broker.brokers, "group.id": "alone", "log_level": 0,
        "enable.auto.commit": False, "auto.offset.reset": "earliest",
    })  # fmt: skip
    consumer.assign([TopicPartition(t, p, 0) for t in ("users", "orders") for p in range(4)])
    seen, started = 0, 0.0
    while seen < count:
        found = consumer.consume(5_000, timeout=0.05)
        if found and not started:
            started = time.perf_counter()
        seen += sum(1 for m in found if m.error() is None and m.key() and m.value())
    took = time.perf_counter() - started
    consumer.close()
    return took


def source(broker: Broker, group: str) -> str:
    options = "{session.timeout.ms: 2000, heartbeat.interval.ms: 200}"
    return (
        "  - type: kafka\n    name: in\n    topics: [users, orders]\n    config:"
        f" {{brokers: '{broker.brokers}', group_id: {group}, options: {options}}}\n"
    )


def messages(running: Daemon) -> int:
    return int(running.health()["sources"]["in"]["messages"])


def until(check: Any, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError("the backlog was not worked off")
        time.sleep(0.05)  # asking costs the pipeline time too


def pipeline(broker: Broker, count: int, joins: str, group: str, sinks: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="litejoin-bench-") as folder, daemon(
        Path(folder), joins, sources=source(broker, group), sinks=sinks
    ) as running:  # fmt: skip
        until(lambda: messages(running) > 0)
        started, cpu = time.perf_counter(), running.cpu_s()
        first = messages(running)
        until(lambda: messages(running) >= count)
        running.wait_until_evaluated()
        if sinks:
            until(lambda: not running.health()["sinks"]["back"]["lag_results"])
        took = time.perf_counter() - started
        return {
            "messages_per_s": round((count - first) / took),
            "cpu_us_per_message": round((running.cpu_s() - cpu) / (count - first) * 1e6, 1),
            "peak_rss_mb": round(running.rss_mb("VmHWM"), 1),
        }


def main() -> None:
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    broker = Broker()
    try:
        count = fill(broker, orders)
        alone = count / client_alone(broker, count)
        config = f"{{brokers: '{broker.brokers}', topic: back}}"
        sink = f", {{name: back, type: kafka, config: {config}}}"
        consume = pipeline(broker, count, STORED, "stored", "")
        joined = pipeline(broker, count, JOINED, "joined", sink)
    finally:
        broker.stop()
    report.write(
        "kafka",
        {
            "messages": count,
            "client_alone_per_s": round(alone),
            "consume": consume,
            "consume_vs_client": round(consume["messages_per_s"] / alone, 3),
            "joined": joined,
        },
    )


if __name__ == "__main__":
    main()
