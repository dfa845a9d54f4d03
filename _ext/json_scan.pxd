# C declarations of the shared JSON scanner, and nothing else.
from libc.stdint cimport uint8_t, uint32_t

cdef extern from "json_scan.h" nogil:
    enum:
        LJ_JSON_MAX_DEPTH

    ctypedef enum lj_json_code:
        LJ_JSON_OK
        LJ_JSON_END
        LJ_JSON_CHAR
        LJ_JSON_CONTROL
        LJ_JSON_ESCAPE
        LJ_JSON_SURROGATE
        LJ_JSON_UTF8
        LJ_JSON_NUMBER
        LJ_JSON_DEPTH
        LJ_JSON_TRAILING

    ctypedef struct lj_json:
        const uint8_t *begin
        const uint8_t *at
        const uint8_t *end
        const uint8_t *error_at

    ctypedef struct lj_json_text:
        const uint8_t *start
        size_t size
        int escaped

    void lj_json_begin(lj_json *s, const uint8_t *bytes, size_t size)
    void lj_json_skip_space(lj_json *s)
    lj_json_code lj_json_string(lj_json *s, lj_json_text *text)
    lj_json_code lj_json_number(lj_json *s)
    lj_json_code lj_json_scalar(lj_json *s)
    lj_json_code lj_json_name(lj_json *s, lj_json_text *name)
    lj_json_code lj_json_value(lj_json *s, uint32_t max_depth)
    lj_json_code lj_json_document(lj_json *s, uint32_t max_depth)
    size_t lj_json_unescape(const lj_json_text *text, uint8_t *out)
