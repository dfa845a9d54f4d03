"""Kafka in and out beside the client library alone and beside HTTP, in one run.

    python -m bench.e2e.kafka [ROUNDS] [--share N]

The workload of `pipeline` (302,000 messages) is in the broker before anything starts. `client` is
a bare confluent-kafka loop that consumes it and does nothing; `consume` a pipeline that only stores
it (its one join reads another topic); `joined` one that joins orders with users and delivers to a
Kafka topic; `http` the run of `pipeline`: the same messages pushed as arrays, the same join,
results log out. Time counts from the first message to the last one durable; for `joined` to the
last result at the broker. The broker (tansu) runs on the same processors and takes its share, as
the client of `http` does. Medians over the rounds, run in turn; `share` takes 1/N of the messages.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import report
from bench.e2e.daemon import Daemon, daemon
from bench.e2e.pipeline import JOIN, expected_of, median, requests, run_pipeline
from bench.yardsticks.workload import write_workload
from tests.harness.broker import Broker

STORED = "  - {name: other, query: SELECT key FROM elsewhere, sink: out}\n"
PARTITIONS = 4


def fill(broker: Broker, lines: list[bytes]) -> None:
    """The workload's messages, each topic in its order."""
    rows = defaultdict(list)
    for line in lines:
        message = json.loads(line)
        payload = json.dumps(message["payload"], separators=(",", ":"))
        rows[message["topic"]].append((message["key"], payload))
    broker.create(*rows, partitions=PARTITIONS)
    for topic, messages in rows.items():
        broker.produce(topic, messages)


def client_alone(broker: Broker, count: int) -> dict[str, float]:
    """A loop over `consume` that looks at each key and value."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": broker.brokers, "group.id": "alone", "log_level": 0,
        "enable.auto.commit": False, "auto.offset.reset": "earliest",
    })  # fmt: skip
    consumer.assign(
        [TopicPartition(t, p, 0) for t in ("users", "orders") for p in range(PARTITIONS)]
    )
    seen, started = 0, 0.0
    while seen < count:
        found = consumer.consume(5_000, timeout=0.05)
        if found and not started:
            started = time.perf_counter()
        seen += sum(1 for m in found if m.error() is None and m.key() and m.value())
    took = time.perf_counter() - started
    consumer.close()
    return {"rate": count / took}


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


def pipeline(
    folder: Path, broker: Broker, count: int, joins: str, sinks: str = ""
) -> dict[str, float]:
    folder.mkdir()
    with daemon(folder, joins, sources=source(broker, folder.name), sinks=sinks) as running:
        until(lambda: messages(running) > 0)
        started, cpu = time.perf_counter(), running.cpu_s()
        first = messages(running)
        until(lambda: messages(running) >= count)
        running.wait_until_evaluated()
        if sinks:
            until(lambda: not running.health()["sinks"]["back"]["lag_results"])
        took = time.perf_counter() - started
        return {
            "rate": (count - first) / took,
            "cpu_us": (running.cpu_s() - cpu) / (count - first) * 1e6,
            "rss_mb": running.rss_mb("VmHWM"),
        }


def joined(folder: Path, broker: Broker, count: int) -> dict[str, float]:
    broker.create(folder.name, partitions=PARTITIONS)
    config = f"{{brokers: '{broker.brokers}', topic: {folder.name}}}"
    sink = f", {{name: back, type: kafka, config: {config}}}"
    return pipeline(folder, broker, count, JOIN.replace("sink: out", "sink: back"), sink)


def measure(
    folder: Path, broker: Broker, lines: list[bytes], rounds: int
) -> dict[str, dict[str, float]]:
    fill(broker, lines)
    prepared, count, expected = requests(lines), len(lines), expected_of(lines)
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for n in range(rounds):
        found["client"].append(client_alone(broker, count))
        found["consume"].append(pipeline(folder / f"consume-{n}", broker, count, STORED))
        found["joined"].append(joined(folder / f"joined-{n}", broker, count))
        found["http"].append(run_pipeline(folder / f"http-{n}", prepared, count, expected))
    return {name: median(each) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Kafka in and out beside its yardsticks")
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--share", type=int, default=1)
    options = parser.parse_args()
    folder, broker = Path(tempfile.mkdtemp(prefix="litejoin-bench-")), Broker()
    try:
        workload = folder / "workload.jsonl"
        write_workload(workload, share=options.share)
        lines = workload.read_bytes().splitlines()
        figures = measure(folder, broker, lines, options.rounds)
    finally:
        broker.stop()
        shutil.rmtree(folder)
    report.write(
        "kafka",
        {
            "messages": len(lines),
            "rounds": options.rounds,
            **figures,
            "consume_vs_client": round(figures["consume"]["rate"] / figures["client"]["rate"], 3),
            "joined_vs_http": round(figures["joined"]["rate"] / figures["http"]["rate"], 3),
        },
    )


if __name__ == "__main__":
    main()
