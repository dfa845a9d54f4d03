# Declarations of expired_rows.h.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from buffer cimport LjBuffer

cdef extern from "expired_rows.h" nogil:
    ctypedef struct LjExpired:
        int64_t day
        size_t at
        uint32_t key_len
        uint32_t payload_len
        uint32_t changes_len
        uint32_t op
        int64_t timestamp_ms
        int64_t checksum
    ctypedef struct LjExpiredRows:
        LjBuffer arena
        LjExpired *items
        size_t len
    int lj_expired_add(LjExpiredRows *r, LjExpired row, const void *key, const void *payload,
                       const void *changes, uint32_t changes_len)
    void lj_expired_sort(LjExpiredRows *r)
    void lj_expired_free(LjExpiredRows *r)
