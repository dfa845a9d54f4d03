"""Where partitions start, and which shards are ahead after a crash. One thread; no storage."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from litejoin.errors import LiteJoinError
from litejoin.plan.nodes import KafkaSourcePlan
from litejoin.sources.kafka.offsets import Partition

ASK_S = 10.0
"""How long the broker may take to answer a question about a partition."""

log = logging.getLogger("litejoin.source")


class LostPositionError(LiteJoinError):
    """The messages after the stored position are not there any more. `at`: the position."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class Positions:
    """How far the shards are in each partition, as far as this process knows."""

    def __init__(self, plan: KafkaSourcePlan, shards: int) -> None:
        self._plan = plan
        self._shards = shards
        self._next: dict[Partition, list[int]] = {}
        self.begun: set[str] = set()
        """Entries of the config's `topics` of which something was read before: a partition or topic
        that has come since is read from its beginning."""
        self._held: dict[Partition, int] = {}
        self._lost: dict[Partition, int] = {}
        self.ahead: dict[Partition, list[int]] = {}
        """Partitions of which some shards have more than others: what they have is skipped."""

    def load(self, stored: Mapping[Partition, list[int]]) -> None:
        """What the shards have stored."""
        self._next = dict(stored)
        self.ahead = {p: shards for p, shards in stored.items() if min(shards) != max(shards)}

    def begin(self, partition: Partition, offset: int) -> list[int]:
        """Where a partition begins, or goes on after a loss; the shards' offsets to store."""
        self._next[partition] = [offset] * self._shards
        self.ahead.pop(partition, None)
        return self._next[partition]

    def after(self, offsets: Mapping[Partition, int]) -> dict[Partition, Sequence[int]]:
        """What the shards will have when everything before `offsets` is written."""
        return {
            partition: [max(offset, shard) for shard in self.ahead[partition]]
            if partition in self.ahead
            else [offset] * self._shards
            for partition, offset in offsets.items()
        }

    def reached(self, offsets: Mapping[Partition, int]) -> None:
        """Everything before `offsets` is durable."""
        for partition, shards in self.after(offsets).items():
            self._next[partition] = list(shards)
            if partition in self.ahead and offsets[partition] >= max(self.ahead[partition]):
                del self.ahead[partition]

    def durable(self, partition: Partition) -> int:
        """Where to go on reading: everything before is in every shard."""
        shards = self._next.get(partition)
        return min(shards) if shards else self._lost[partition]

    def hold(self, message: Any) -> None:
        """A message that came although its partition was paused: it is fetched again."""
        if message is not None and message.error() is None:
            self._held.setdefault((message.topic(), message.partition()), message.offset())

    def held(self) -> dict[Partition, int]:
        """The first message of each partition that has to be fetched again; forgotten here."""
        held, self._held = self._held, {}
        return held

    def start_of(
        self, consumer: Any, partition: Any, entry: str, *, lost: str = "", is_same: bool = False
    ) -> tuple[int, bool]:
        """(offset to start at, whether it is to be stored). Asks the broker; blocks.

        `entry` of the config means the topic. `lost`: why what is stored says nothing any more;
        `is_same`: the topic is known to be the one that was read, so its end may be told wrongly,
        but not have come before what was read. Raises LostPositionError, and KafkaException when
        the broker does not answer.
        """
        low, high = consumer.get_watermark_offsets(partition, timeout=ASK_S)
        stored = self._next.get((partition.topic, partition.partition))
        if stored is not None:
            end = max(high, min(stored)) if is_same else high
            return self._checked(partition, min(stored), low, end, lost)
        committed = consumer.committed([partition], timeout=ASK_S)[0].offset
        if committed >= 0:
            if low < committed <= high:
                log.warning(
                    "kafka-source %s: %s[%d] starts at %d, where group %s is; messages %d to %d"
                    " are not read (another group_id reads them)",
                    self._plan.name, partition.topic, partition.partition, committed,
                    self._plan.group_id, low, committed - 1,
                )  # fmt: skip
            return self._checked(partition, committed, low, high)[0], True
        if self._plan.auto_offset_reset == "earliest" or entry in self.begun:
            return low, True
        return high, True

    def _checked(
        self, partition: Any, stored: int, low: int, high: int, lost: str = ""
    ) -> tuple[int, bool]:
        if low <= stored <= high and not lost:
            return stored, False
        what = (
            f"it was read up to {stored}, and {lost}; it has {low} to {high - 1}"
            if lost
            else f"messages {stored} to {low - 1} were removed before they were read"
            if stored < low
            else f"it ends at {high}, but was read up to {stored}: it was made anew"
        )
        name = f"{partition.topic}[{partition.partition}]"
        if self._plan.on_lost_offset == "stop":
            self._lost[partition.topic, partition.partition] = stored
            raise LostPositionError(
                f"{name} stopped: {what} (on_lost_offset says how to go on)", stored
            )
        at = low if self._plan.on_lost_offset == "earliest" else high
        log.error("kafka-source %s: %s: %s; goes on at %d", self._plan.name, name, what, at)
        return at, True
