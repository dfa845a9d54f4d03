"""Tells a topic from one of the same name that was made later.

Brokers give each topic an id of its own (KIP-516). Offsets alone say nothing when the new topic has
more messages than were read of the old one. Brokers that know no ids leave that check out.
"""

from collections.abc import Collection
from concurrent.futures import Future
from typing import Any

from litejoin.kafka import load_client

ASK_S = 5.0


class Marks:
    """A topic's mark: 64 bits of its id, never 0. One thread; `of` blocks, the others do not."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._kafka = load_client()
        from confluent_kafka.admin import AdminClient

        self._admin = AdminClient(options)
        self._asked: dict[str, Future[Any]] = {}

    def of(self, topics: Collection[str]) -> dict[str, int]:
        """The marks of topics, without those that nobody knows."""
        return self._heard(self._ask(topics))

    def ask(self, topics: Collection[str]) -> None:
        """Ask; `answer` has it later."""
        self._asked = self._ask(topics)

    def answer(self) -> dict[str, int]:
        """What `ask` has brought, once; empty before and after."""
        if not all(future.done() for future in self._asked.values()):
            return {}
        asked, self._asked = self._asked, {}
        return self._heard(asked)

    def _ask(self, topics: Collection[str]) -> dict[str, "Future[Any]"]:
        if not topics:
            return {}
        names = self._kafka.TopicCollection(list(topics))
        found: dict[str, Future[Any]] = self._admin.describe_topics(names, request_timeout=ASK_S)
        return found

    def _heard(self, asked: dict[str, "Future[Any]"]) -> dict[str, int]:
        found = {}
        for topic, future in asked.items():
            try:
                found[topic] = mark_of(future.result(2 * ASK_S).topic_id)
            except (self._kafka.KafkaException, TimeoutError):
                continue  # not allowed, not supported, not there: other checks tell
        return {topic: mark for topic, mark in found.items() if mark}


def mark_of(topic_id: Any) -> int:
    """Of a confluent_kafka.Uuid; 0 when the broker knows no ids."""
    if topic_id is None:
        return 0
    halves = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
    if not any(halves):
        return 0
    return (halves[0] ^ halves[1]) & ((1 << 64) - 1) or 1
