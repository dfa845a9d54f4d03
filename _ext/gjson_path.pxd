# Declarations of gjson_path.h.
from libc.stdint cimport uint8_t, uint32_t

from json_diff cimport lj_out

cdef extern from "gjson_path.h" nogil:
    enum:
        LJ_GJSON_MAGIC
        LJ_GJSON_MAX_OPS
        LJ_KEY_OK
        LJ_KEY_MEMORY
        LJ_KEY_MISSING
        LJ_KEY_TYPE
        LJ_KEY_TEXT
    ctypedef struct lj_gjson:
        uint32_t main
    ctypedef struct lj_gjson_value:
        const uint8_t *start
        size_t size
        uint8_t *owned
        int found
    int lj_gjson_load(lj_gjson *g, const uint8_t *bytes, size_t size)
    void lj_gjson_free(lj_gjson *g)
    int lj_gjson_run(const lj_gjson *g, uint32_t at, uint32_t stop, const uint8_t *start, size_t size,
                     lj_gjson_value *v)
    size_t lj_gjson_trim(const uint8_t *start, const uint8_t *end)
    void lj_gjson_none(lj_gjson_value *v)
    int lj_key_of(const lj_gjson *paths, uint32_t count, const uint8_t *start, size_t size, lj_out *out)
