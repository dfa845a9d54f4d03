"""Where a key lives: FNV-1a 32 of its UTF-8 bytes, modulo the shard count; and where the rows of a
batch do.

Used by the HTTP and debug paths and by tests; the batch writer and the topic table use the same inline
function from fnv.h. Twin: tests/reference/route.py.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from fnv cimport lj_fnv1a32

cdef enum:
    ROW_HEAD = 32  # the layout of a row: litejoin/records.py
    KEY_LEN_AT = 16
    MOST_SHARDS = 256


cdef bytes _utf8(key):
    if isinstance(key, bytes):
        return <bytes>key
    if isinstance(key, str):
        return (<str>key).encode("utf-8")
    raise TypeError(f"a key is bytes or str, not {type(key).__name__}")


def fnv1a32(key) -> int:
    cdef bytes data = _utf8(key)
    return lj_fnv1a32(<const char *>data, <size_t>len(data))


def shard_of(key, int shards) -> int:
    if shards < 1:
        raise ValueError(f"shards must be at least 1, not {shards}")
    cdef bytes data = _utf8(key)
    return lj_fnv1a32(<const char *>data, <size_t>len(data)) % <unsigned int>shards


def shards_of(bytes batch not None, int shards) -> list:
    if not 1 <= shards <= MOST_SHARDS:
        raise ValueError(f"shards must be from 1 to {MOST_SHARDS}, not {shards}")
    cdef const char *data = batch
    cdef size_t size = <size_t>len(batch), at = 0
    cdef uint32_t row = 0, key_len = 0
    cdef bint seen[MOST_SHARDS]
    memset(seen, 0, sizeof(seen))
    while at < size:
        if size - at < ROW_HEAD:
            raise ValueError(f"row batch cut at byte {at}")
        memcpy(&row, data + at, 4)
        memcpy(&key_len, data + at + KEY_LEN_AT, 4)
        if row > size - at or row < ROW_HEAD or row % 8 or key_len > row - ROW_HEAD:
            raise ValueError(f"bad row size at byte {at}")
        seen[lj_fnv1a32(data + at + ROW_HEAD, key_len) % <unsigned int>shards] = True
        at += row
    return [shard for shard in range(shards) if seen[shard]]
