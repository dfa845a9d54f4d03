"""Which shard a key lives in. Pure functions, any thread."""

def fnv1a32(key: bytes | str) -> int:
    """FNV-1a 32 of the key's UTF-8 bytes. Raises UnicodeEncodeError for a lone surrogate."""

def shard_of(key: bytes | str, shards: int) -> int:
    """`fnv1a32(key) % shards`; ValueError when `shards` < 1."""

def shards_of(batch: bytes, shards: int) -> list[int]:
    """The shards in which the rows of a batch live, rising. `shards`: 1 to 256. Raises ValueError
    for another number, and for bytes that are not a row batch.
    """
