# Declarations of poll_set.h and poll_pack.h.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from buffer cimport LjBuffer
from gjson_path cimport lj_gjson
from json_diff cimport lj_hash128, lj_ignore, lj_out

cdef extern from "poll_set.h" nogil:
    enum:
        LJ_CREATED
        LJ_UPDATED
        LJ_NO_ENTRY
    ctypedef struct lj_entry:
        lj_hash128 hash
        uint64_t key_at
        uint64_t key_size
        uint32_t seen
        uint32_t known
        uint32_t missed
    ctypedef struct lj_set:
        lj_entry *entries
        uint32_t count
        uint32_t capacity
        uint32_t known
        uint32_t mask
        uint32_t order_count
        uint32_t *slots
        LjBuffer keys
        uint32_t walk
        uint64_t seed
        lj_gjson response
        lj_gjson *key_paths
        uint32_t key_count
        uint32_t max_depth
        int first_wins
        const lj_ignore *ignore
    ctypedef struct lj_change:
        const uint8_t *start
        uint32_t size
        uint32_t entry
        uint8_t op
        uint8_t dropped
    ctypedef struct lj_page:
        lj_change *changes
        uint32_t count
        uint64_t records
        uint64_t created
        uint64_t updated
        uint64_t duplicates
        uint64_t keyless
        uint64_t first_keyless
        int keyless_code
        int single
        int code
        const uint8_t *base
        const uint8_t *error_at
    void lj_set_free(lj_set *s)
    void lj_page_free(lj_page *p)
    uint32_t lj_set_entry(lj_set *s, const uint8_t *key, size_t size)
    uint32_t lj_set_slot(const lj_set *s, const uint8_t *key, size_t size)
    int lj_set_begin(lj_set *s)
    void lj_set_finish(lj_set *s)
    int lj_page_compare(lj_set *s, lj_page *p, const uint8_t *bytes, size_t size)
    void lj_page_apply(lj_set *s, const lj_page *p, uint32_t start, uint32_t stop)

cdef extern from "poll_pack.h" nogil:
    ctypedef struct lj_pack:
        uint16_t topic
        uint16_t state
        int64_t timestamp_ms
        int keep_records
        int emit
    int64_t lj_page_pack(const lj_set *s, const lj_page *p, uint32_t start, uint32_t stop, const lj_pack *how,
                         const uint8_t *const *befores, const size_t *before_sizes, lj_out *out, uint64_t *same)
