"""Orders and users as a load on Kafka, and what a join of them has to come to in the end.

The oracle is plain SQLite over the last message of each key.
"""

import json
import random
import threading
from typing import Any

import apsw

from tests.harness.broker import Broker

QUERY = (
    "SELECT o.key AS id, o.payload ->> '$.n' AS n, u.payload ->> '$.name' AS name"
    " FROM orders o LEFT JOIN users u ON o.payload ->> '$.user_id' = u.key"
)
USERS = 20


class Shop:
    """Writes to `orders` and `users` until stopped: updates, deletes, orders that change hands."""

    def __init__(self, broker: Broker, *, orders: int = 300) -> None:
        """`orders`: how many different ones there are."""
        self._broker, self._orders = broker, orders
        self._random = random.Random(11)
        self._last: dict[str, dict[str, str | None]] = {"orders": {}, "users": {}}
        self._sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def write(self, count: int) -> None:
        """A batch of messages; the broker has them when this returns."""
        batches: dict[str, list[tuple[str, str | None]]] = {"orders": [], "users": []}
        for _ in range(count):
            topic, key, value = self._change()
            self._last[topic][key] = value
            batches[topic].append((key, value))
        for topic, batch in batches.items():
            self._broker.produce(topic, batch)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.write(100)

    def _change(self) -> tuple[str, str, str | None]:
        self._sent += 1
        pick, is_delete = self._random.randrange, self._random.random() < 0.1
        if self._random.random() < 0.2:
            return "users", f"u{pick(USERS)}", None if is_delete else f'{{"name":"N{self._sent}"}}'
        value = json.dumps({"user_id": f"u{pick(USERS)}", "n": self._sent})
        return "orders", f"o{pick(self._orders)}", None if is_delete else value

    def wanted(self) -> dict[str, Any]:
        """The rows of each key of the join, by plain SQLite."""
        connection = apsw.Connection(":memory:")
        for topic, rows in self._last.items():
            connection.execute(f"CREATE TABLE {topic}(key TEXT PRIMARY KEY, payload TEXT)")
            kept = [(key, value) for key, value in rows.items() if value is not None]
            connection.executemany(f"INSERT INTO {topic} VALUES (?, ?)", kept)
        found = {
            row[0]: dict(zip(("id", "n", "name"), row, strict=True))
            for row in connection.execute(QUERY)
        }
        connection.close()
        return found


class Results:
    """Follows a topic of results from its beginning: the last rows of each key."""

    def __init__(self, broker: Broker, topic: str) -> None:
        from confluent_kafka import Consumer, TopicPartition

        self._consumer = Consumer({
            "bootstrap.servers": broker.brokers, "group.id": f"follow-{topic}", "log_level": 0,
            "enable.auto.commit": False, "reconnect.backoff.max.ms": 500,
        })  # fmt: skip
        partitions = broker.admin.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self.rows: dict[str, Any] = {}
        self.seqs: dict[str, list[int]] = {}
        """Of each key, in the order of its partition."""

    def read(self) -> int:
        """Take in what is there; how many messages that was."""
        found = [m for m in self._consumer.consume(5_000, timeout=0.2) if m.error() is None]
        for message in found:
            key, value = message.key().decode(), message.value()
            self.seqs.setdefault(key, []).append(int(dict(message.headers())["litejoin-seq"]))
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = json.loads(value)["rows"][0]
        return len(found)

    def are(self, wanted: dict[str, Any]) -> bool:
        """Whether nothing more comes, and the last rows of each key are these."""
        while self.read():
            pass
        return self.rows == wanted

    def close(self) -> None:
        self._consumer.close()
