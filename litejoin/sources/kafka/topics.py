"""Which Kafka topics a source reads, and into which topics here they go."""

import re
from collections.abc import Iterable, Sequence

from litejoin.plan.nodes import KafkaSourcePlan


class Topics:
    """The `topics` of one source: names, and patterns that begin with `^`. One thread."""

    def __init__(self, plan: KafkaSourcePlan, numbers: Sequence[int]) -> None:
        """`numbers`: the catalogue number of each of the plan's topics, in their order."""
        named = dict(zip(plan.kafka_topics, numbers, strict=True))
        self._patterns = [(name, re.compile(name), named[name]) for name in named if name[0] == "^"]
        self.numbers = {name: number for name, number in named.items() if name[0] != "^"}
        """By Kafka topic; the packer reads it. Topics that a pattern found are added by `entry`."""
        self._entries = {name: name for name in self.numbers}
        self.named = tuple(self.numbers)
        """Those that the config names in full."""

    def entry(self, topic: str) -> str:
        """The name or the first pattern of the config that means a Kafka topic."""
        known = self._entries.get(topic)
        if known is not None:
            return known
        for name, pattern, number in self._patterns:
            if pattern.search(topic):
                self.numbers[topic] = number
                return self._entries.setdefault(topic, name)
        raise LookupError(f"nobody asked for the topic {topic}")

    def entries(self, topics: Iterable[str]) -> set[str]:
        """Those of topics that were read before; the config may have dropped some."""
        found = set()
        for topic in topics:
            try:
                found.add(self.entry(topic))
            except LookupError:
                continue
        return found
