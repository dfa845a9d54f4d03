# Declarations of change_row.h.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef extern from "change_row.h" nogil:
    ctypedef struct LjSlice:
        const char *at
        uint32_t len
    ctypedef struct LjVersion:
        LjSlice key
        LjSlice payload
        LjSlice changes
        int64_t timestamp_ms
        int updated
    ctypedef struct LjChangeRow:
        uint16_t topic
        uint8_t shard
        uint8_t flags
        uint8_t passed
        int64_t rowid
        LjVersion now
        LjVersion old
    size_t lj_read_change(const char *p, size_t left, LjChangeRow *out)
