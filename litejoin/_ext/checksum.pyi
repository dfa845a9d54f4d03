"""Checksums of stored data. Pure functions, any thread."""

def xxh64(data: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """XXH64 of the bytes, unsigned. Releases the GIL."""

def row_checksum(
    kind: int,
    table: int,
    op: int,
    timestamp_ms: int,
    key: bytes,
    payload: bytes,
    extra: bytes | None,
) -> int:
    """The signed 64-bit checksum of a stored row: `kind` 0 topic, 1 state (_ext/rowsum.h)."""
