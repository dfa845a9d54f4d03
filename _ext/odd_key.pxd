# C declarations of odd_key.h, and nothing else.
from libc.stdint cimport int64_t

cdef extern from "odd_key.h" nogil:
    int lj_is_odd_number(const char *at, size_t size)
    int lj_integer_text(int64_t value, char *out)
