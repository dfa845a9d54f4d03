"""Where a key lives: FNV-1a 32 of its UTF-8 bytes, modulo the shard count.

Used by the HTTP and debug paths and by tests; the batch writer and the topic table use the same inline
function from fnv.h. Twin: tests/reference/route.py.
"""

from fnv cimport lj_fnv1a32


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
