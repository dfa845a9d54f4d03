# Declarations of json_ignore.h, json_hash.h, json_tree.h and json_put.h: what comparing two records takes.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from buffer cimport LjBuffer
from json_scan cimport lj_json

cdef extern from "json_ignore.h" nogil:
    enum:
        LJ_IGNORE_MAX
    ctypedef struct lj_segment:
        const uint8_t *text
        size_t size
        int64_t index
        int every
    ctypedef struct lj_ignore:
        const lj_segment *segments
        const uint32_t *first
        uint32_t patterns

cdef extern from "json_hash.h" nogil:
    ctypedef struct lj_hash128:
        uint64_t h1
        uint64_t h2
    ctypedef struct lj_hasher:
        lj_json scan
    void lj_hasher_free(lj_hasher *h)
    int lj_hash_document(lj_hasher *h, const uint8_t *bytes, size_t size, const lj_ignore *ignore,
                         uint32_t max_depth, lj_hash128 *out)

cdef extern from "json_put.h" nogil:
    ctypedef struct lj_out:
        LjBuffer buffer
        int failed

cdef extern from "json_tree.h" nogil:
    ctypedef struct lj_tree:
        lj_json scan
    void lj_tree_free(lj_tree *t)
    int lj_tree_parse(lj_tree *t, const uint8_t *bytes, size_t size, uint32_t max_depth)
    int lj_tree_diff(lj_tree *before, lj_tree *after, const lj_ignore *ignore, lj_out *out, int *different)
