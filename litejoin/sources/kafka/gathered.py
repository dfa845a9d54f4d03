"""Messages of one consumer that wait, packed, until the batch before them is durable. No I/O."""

from collections.abc import Mapping

from litejoin.sources.kafka.offsets import Partition


class Gathered:
    """Packed rows, and how far the partitions are when they are durable."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.rows = 0
        self.bytes = 0
        self.offsets: dict[Partition, int] = {}

    def add(self, batch: bytes, rows: int, offsets: Mapping[Partition, int]) -> None:
        """Messages that come after those before, of each partition."""
        self._parts.append(batch)
        self.rows += rows
        self.bytes += len(batch)
        self.offsets.update(offsets)

    def batch(self) -> bytes:
        """All rows in the order in which they came."""
        return b"".join(self._parts)
