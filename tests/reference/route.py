"""Twin of litejoin._ext.route: the specification in plain Python."""

from litejoin.records import unpack_rows


def fnv1a32(key: bytes | str) -> int:
    """FNV-1a 32 over the UTF-8 bytes."""
    value = 2166136261
    for byte in key.encode() if isinstance(key, str) else key:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def shard_of(key: bytes | str, shards: int) -> int:
    """The shard of a key."""
    return fnv1a32(key) % shards


def shards_of(batch: bytes, shards: int) -> list[int]:
    """The shards in which the rows of a batch live, rising."""
    return sorted({shard_of(row.key, shards) for row in unpack_rows(batch)})
