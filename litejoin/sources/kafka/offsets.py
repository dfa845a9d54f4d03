"""How far each shard has got in each Kafka partition.

A batch of messages spreads over shards, and each shard commits by itself. So each shard holds, in
the transaction of its rows, the next offset of every partition of the batch: one state row per
partition and shard, whose key is chosen to live in that shard. After a crash the source goes on at
the smallest of them, and what a shard has already is not given to it again: no message is lost, and
none is applied twice, not even for a moment.

    key    JSON [group, topic, partition, n]; n is the first that lives in the shard
    hash   16 bytes, big endian: the mark of the topic (0: not known), the next offset

The mark is what tells a topic from one of the same name that was made later.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from litejoin._ext.route import shard_of
from litejoin.records import Row, RowKind
from litejoin.sources.base import SourceState

Partition = tuple[str, int]
"""Kafka topic and partition number."""

HASH_BYTES = 16
OFFSET_BITS = 64


class StoredOffsets:
    """The rows of one source and consumer group. Makes and reads them; others write them."""

    def __init__(self, state: SourceState, group: str, shards: int) -> None:
        self._state = state
        self._group = group
        self._shards = shards
        self.marks: dict[Partition, int] = {}
        """Of the topic whose offsets are stored; written with them."""

    async def load(self) -> dict[Partition, list[int]]:
        """The next offset of each shard, by partition; 0 for a shard that has stored none. The
        marks too.

        Blocks a thread, not the event loop. Raises CorruptionError and StorageError.
        """
        found: dict[Partition, list[int]] = {}
        for key, value in await self._state.hashes():
            group, topic, partition, _ = json.loads(key)
            if group == self._group:
                shards = found.setdefault((topic, partition), [0] * self._shards)
                mark, shards[shard_of(key, self._shards)] = _parts(value)
                self.marks[topic, partition] = mark or self.marks.get((topic, partition), 0)
        return found

    def rows(self, offsets: Mapping[Partition, Sequence[int]], now_ms: int) -> Iterable[Row]:
        """The state rows that say how far each shard is."""
        number = self._state.number
        for (topic, partition), shards in offsets.items():
            mark = self.marks.get((topic, partition), 0) << OFFSET_BITS
            for key, offset in zip(self._keys(topic, partition), shards, strict=True):
                value = (mark | offset).to_bytes(HASH_BYTES, "big")
                yield Row(number, RowKind.STATE_UPSERT, now_ms, key, b"", value)

    def _keys(self, topic: str, partition: int) -> tuple[bytes, ...]:
        return _keys_by_shard(self._group, topic, partition, self._shards)


def spread_offsets(
    rows: Iterable[tuple[str, bytes]], old: int, new: int
) -> Iterator[tuple[str, bytes]]:
    """The state rows (key, hash) of another number of shards: each goes on at the smallest offset
    of the old ones. For `litejoin reshard`.
    """
    found: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for key, value in rows:
        group, topic, partition, _ = json.loads(key)
        found.setdefault((group, topic, partition), []).append(_parts(value))
    for (group, topic, partition), stored in found.items():
        smallest = min(offset for _, offset in stored) if len(stored) == old else 0
        both = max(mark for mark, _ in stored) << OFFSET_BITS | smallest
        for raw in _keys_by_shard(group, topic, partition, new):
            yield raw.decode(), both.to_bytes(HASH_BYTES, "big")


def _parts(value: bytes) -> tuple[int, int]:
    """(mark, next offset)."""
    return divmod(int.from_bytes(value, "big"), 1 << OFFSET_BITS)


@lru_cache(maxsize=10_000)
def _keys_by_shard(group: str, topic: str, partition: int, shards: int) -> tuple[bytes, ...]:
    found: dict[int, bytes] = {}
    n = 0
    while len(found) < shards:
        key = json.dumps([group, topic, partition, n]).encode()
        found.setdefault(shard_of(key, shards), key)
        n += 1
    return tuple(found[shard] for shard in range(shards))
