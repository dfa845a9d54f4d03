# Declarations of buffer.h.
from libc.stdint cimport uint8_t

cdef extern from "buffer.h" nogil:
    ctypedef struct LjBuffer:
        uint8_t *data
        size_t len
        size_t cap
    int lj_buffer_reserve(LjBuffer *b, size_t more)
    void lj_buffer_free(LjBuffer *b)
    void lj_buffer_trim(LjBuffer *b, size_t keep)
