"""How many messages a kafka source is behind, by partition."""

import logging
from typing import Any

from litejoin.clock import Clock

SAID_EVERY_MS = 30_000
SHOWN = 20
"""Partitions in one line of the log, the furthest behind first."""

log = logging.getLogger("litejoin.source")


class Lag:
    """Measured on the consumer's thread; `partitions` is read on any."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name, self._clock = name, clock
        self._say_at_ms = clock.monotonic_ms() + SAID_EVERY_MS
        self._said = 0
        self.partitions: dict[str, int] = {}
        """`topic[number]` -> messages between the position and the end of the partition."""

    def measure(self, consumer: Any) -> None:
        """Look, and log it every half minute until nothing is behind. Asks no broker."""
        found: dict[str, int] = {}
        for partition in consumer.position(consumer.assignment()):
            _, high = consumer.get_watermark_offsets(partition, cached=True)
            if high >= 0 and partition.offset >= 0:
                name = f"{partition.topic}[{partition.partition}]"
                found[name] = max(0, high - partition.offset)
        self.partitions = found
        behind = sum(found.values())
        now_ms = self._clock.monotonic_ms()
        if (behind or self._said) and now_ms >= self._say_at_ms:
            self._say_at_ms, self._said = now_ms + SAID_EVERY_MS, behind
            worst = sorted(found.items(), key=lambda item: -item[1])[:SHOWN]
            shown = " ".join(f"{name}={lag}" for name, lag in worst if lag)
            log.info("kafka-source %s: lag %d messages %s", self._name, behind, shown)
