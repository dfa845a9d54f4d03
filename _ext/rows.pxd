# Declarations of rows.h.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "rows.h" nogil:
    enum:
        LJ_UPSERT
        LJ_DELETE
        LJ_STATE_UPSERT
        LJ_STATE_DELETE
        LJ_EXPIRE
        LJ_EXACT
        LJ_KNOWN
    ctypedef struct LjRowHead:
        uint32_t size
        uint16_t table
        uint8_t kind
        uint8_t flags
        int64_t timestamp_ms
        uint32_t key_len
        uint32_t payload_len
        uint32_t extra_len
        uint32_t reserved
    ctypedef struct LjRow:
        LjRowHead head
        const uint8_t *key
        const uint8_t *payload
        const uint8_t *extra
        uint64_t hash
    ctypedef struct LjEntry:
        uint64_t group
        uint64_t prefix
        uint64_t hash
        const uint8_t *row
    ctypedef struct LjEntries:
        LjEntry *items
        size_t len
    LjRow lj_row_at(const uint8_t *p)
    int lj_is_text(const uint8_t *p, size_t n)
    const char *lj_row_check(const uint8_t *p, size_t left)
    int lj_entries_add(LjEntries *e, const uint8_t *p, uint64_t hash)
    void lj_entries_sort(LjEntries *e)
    void lj_entries_free(LjEntries *e)
    LjRow lj_fold(const LjEntries *e, size_t at, size_t *next)
