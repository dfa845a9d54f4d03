# Declarations of changes.h.
from buffer cimport LjBuffer
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef extern from "changes.h" nogil:
    enum:
        LJ_HAS_NEW
        LJ_HAS_OLD
        LJ_NEW_UPDATED
        LJ_OLD_UPDATED
        LJ_NEW_CHANGES
        LJ_OLD_CHANGES
        LJ_ELIDED
        LJ_MESSAGE
    ctypedef struct LjChange:
        uint32_t size
        uint16_t topic
        uint8_t shard
        uint8_t flags
        int64_t id
        int64_t new_ts
        int64_t old_ts
        uint32_t key_len
        uint32_t new_len
        uint32_t new_changes_len
        uint32_t old_len
        uint32_t old_changes_len
        uint32_t reserved
    int lj_change_append(
        LjBuffer *out, LjChange *head, const void *key, const void *fresh,
        const void *fresh_changes, const void *old, const void *old_changes)
    int lj_change_elide(LjBuffer *out, const uint8_t *rows, size_t len)
