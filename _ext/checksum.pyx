"""XXH64 and the checksum of stored rows, for the cold paths of Python: marks, batch records, checks.

The hot paths use the inline functions of xxh64.h and rowsum.h. Twin: tests/reference/checksum.py.
"""

from rowsum cimport LJ_NO_EXTRA, lj_row_checksum
from xxh64 cimport lj_xxh64


def xxh64(const unsigned char[::1] data not None, unsigned long long seed=0) -> int:
    cdef size_t size = <size_t>data.shape[0]
    cdef const void *start = &data[0] if size else NULL
    cdef unsigned long long value
    with nogil:
        value = lj_xxh64(start, size, seed)
    return value


def row_checksum(
    unsigned int kind, unsigned int table, unsigned int op, long long timestamp_ms,
    bytes key not None, bytes payload not None, bytes extra,
) -> int:
    cdef const char *extra_start = NULL
    cdef unsigned int extra_len = LJ_NO_EXTRA
    if extra is not None:
        extra_start = extra
        extra_len = <unsigned int>len(extra)
    return lj_row_checksum(
        kind, table, op, timestamp_ms, <const char *>key, <unsigned int>len(key),
        <const char *>payload, <unsigned int>len(payload), extra_start, extra_len)
