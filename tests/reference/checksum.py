"""Twin of litejoin._ext.checksum, over the xxhash package."""

import struct

from xxhash import xxh64_intdigest

HEAD = struct.Struct("<IIqIIII")
TAIL = struct.Struct("<Q")
NO_EXTRA = 0xFFFFFFFF


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64, unsigned."""
    return xxh64_intdigest(data, seed)


def row_checksum(
    kind: int,
    table: int,
    op: int,
    timestamp_ms: int,
    key: bytes,
    payload: bytes,
    extra: bytes | None,
) -> int:
    """The chain of rowsum.h, as a signed number."""
    extra_len = NO_EXTRA if extra is None else len(extra)
    head = HEAD.pack(table, kind, timestamp_ms, len(key), len(payload), extra_len, 0)
    value = 0
    middle = (key, payload) if extra is None else (key, payload, extra)
    for part in (head, *middle, TAIL.pack(op)):
        value = xxh64(part, value)
    return value - (1 << 64) if value >> 63 else value
