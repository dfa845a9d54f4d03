# Declarations of json_out.h.
from libc.stdint cimport int64_t

cdef extern from "json_out.h" nogil:
    ctypedef struct LjBuffer:
        char *bytes
        size_t size
        size_t cap
        int failed
    void lj_put(LjBuffer *b, const void *bytes, size_t size)
    void lj_put_integer(LjBuffer *b, int64_t value)
    void lj_put_real(LjBuffer *b, double value)
    void lj_put_text(LjBuffer *b, const char *bytes, size_t size)
    void lj_put_hex(LjBuffer *b, const void *bytes, size_t size)
    int lj_is_json(const char *bytes, size_t size)
