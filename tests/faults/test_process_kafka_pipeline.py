"""Kafka to join to Kafka under load while things go wrong: in the end the topic of results holds
what plain SQLite makes of the last messages, and of no key an older result came after a newer one.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_kafka import kafka_config, soon
from tests.faults.test_process_kafka import health
from tests.harness.broker import Broker
from tests.harness.configs import Listener
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient
from tests.harness.process import Pipeline
from tests.harness.shop import QUERY, Results, Shop

OUTAGE_S = 30.0
"""Longer than the session, the timeout of a result and the longest wait between connects."""


class Run:
    """A broker behind a relay, a pipeline that joins, and what it has written."""

    def __init__(self, broker: Broker, launch: Launcher) -> None:
        self.broker, self.at = broker, Listener()
        broker.create("orders", "users", "out", partitions=3)
        self.config = shop_config(broker, self.at)
        self.pipeline: Pipeline = launch(self.config, self.at.health)
        self.shop = Shop(broker)
        self.results = Results(broker, "out")

    def sink_lag(self) -> int:
        """Results that the Kafka sink has not delivered yet."""
        with IngestClient(self.at.url) as client:
            return int(client.get("/health").body["sinks"]["back"]["lag_results"])

    def is_right(self) -> None:
        """What was written is what the last messages come to, and each key's order was kept."""
        wanted = self.shop.wanted()
        soon(lambda: self.results.are(wanted))
        for key, seqs in self.results.seqs.items():
            first_times = list(dict.fromkeys(seqs))
            assert first_times == sorted(first_times), f"{key} was overtaken"


def shop_config(broker: Broker, at: Listener) -> dict[str, Any]:
    config = kafka_config(broker, at, "orders", {"joined": QUERY})
    config["sources"][0]["topics"] = ["orders", "users"]
    settings = {"brokers": broker.brokers, "topic": "out", "timeout": "2s"}
    sink = {"name": "back", "type": "kafka", "config": settings}
    config["sinks"].append(sink)
    config["joins"][0] = {"name": "joined", "query": QUERY, "sinks": ["out", "back"]}
    retries = {"retry_interval": "200ms", "max_backoff": "1s"}
    return config | {
        "delivery": {"guarantee": "at_least_once", "dlq": retries},
        "storage": {"shard_count": 3},
    }


@pytest.fixture
def run(launch: Launcher) -> Iterator[Run]:
    broker = Broker(relayed=True)
    try:
        made = Run(broker, launch)
        yield made
        made.results.close()
    finally:
        broker.close()


def test_kill_9_under_load_ends_as_the_oracle_says(run: Run) -> None:
    run.shop.start()
    for _ in range(4):
        soon(lambda: run.results.read() > 0)
        run.pipeline.kill()
        run.pipeline.start()
    run.shop.stop()
    run.is_right()
    assert run.pipeline.stop() == 0


def test_an_outage_of_half_a_minute_costs_nothing(run: Run) -> None:
    run.shop.write(5_000)
    soon(lambda: run.results.read() > 0)
    run.broker.relay.cut()
    threading.Event().wait(OUTAGE_S)
    assert health(run.at)["status"] == "degraded"
    assert health(run.at)["broker_errors"] > 0
    run.broker.relay.restore()
    run.is_right()
    soon(lambda: health(run.at)["status"] == "ok")  # without a message that would say so
    run.shop.write(500)
    run.is_right()


def test_a_slow_broker_is_only_slow(run: Run) -> None:
    run.broker.relay.delay_s = 0.3
    run.shop.write(5_000)
    run.is_right()
    soon(lambda: not any(health(run.at)["lag"].values()))


def test_brokers_lost_in_the_middle_of_batches(run: Run) -> None:
    run.shop = Shop(run.broker, orders=20_000)
    run.broker.relay.delay_s = 0.3  # a batch is on its way for longer than it takes to see that
    for _ in range(3):
        known = failures(run)
        run.shop.write(20_000)
        soon(lambda: run.sink_lag() > 0)
        run.broker.relay.cut()
        soon(lambda before=known: failures(run) > before)
        run.broker.relay.restore()
    run.broker.relay.delay_s = 0.0
    run.is_right()


def failures(run: Run) -> int:
    """How often a batch of results could not be sent."""
    return run.pipeline.log().count("FAILED sink send")


MEMBER = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "log_level": 0,
    "session.timeout.ms": 2000, "heartbeat.interval.ms": 200, "enable.auto.commit": False,
})
consumer.subscribe(["orders", "users"])
while True:
    consumer.poll(0.1)
    if consumer.assignment():
        print("mine", flush=True)
"""


def test_a_second_member_comes_and_goes_twenty_times(run: Run) -> None:
    """It is killed, leaves, or is stopped until the group has given it up."""
    run.shop.start()
    for turn in range(20):
        generations = run.pipeline.log().count(": reads ")
        command = [sys.executable, "-c", MEMBER, run.broker.brokers, "group-orders"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as member:
            assert member.stdout is not None
            try:
                assert member.stdout.readline() == b"mine\n"
                if turn % 5 == 4:
                    member.send_signal(signal.SIGSTOP)
                    soon(lambda before=generations: reads_again(run, before + 2))
                    member.send_signal(signal.SIGCONT)
            finally:
                member.kill()
    run.shop.stop()
    run.is_right()
    assert health(run.at)["partitions"] == 6


def reads_again(run: Run, times: int) -> bool:
    """Whether partitions were given to the pipeline so many times."""
    return run.pipeline.log().count(": reads ") >= times
