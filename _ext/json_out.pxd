# Declarations of json_out.h and of the buffer it writes to (json_put.h).
from buffer cimport LjBuffer
from libc.stdint cimport int64_t

cdef extern from "json_out.h" nogil:
    ctypedef struct lj_out:
        LjBuffer buffer
        int failed
    void lj_put(lj_out *out, const void *bytes, size_t size)
    void lj_put_integer(lj_out *out, int64_t value)
    void lj_put_real(lj_out *out, double value)
    void lj_put_text(lj_out *out, const char *bytes, size_t size)
    void lj_put_hex(lj_out *out, const void *bytes, size_t size)
    int lj_is_json(const char *bytes, size_t size)
