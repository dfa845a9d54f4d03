# Declarations of window_time.h.
from libc.stdint cimport int64_t, uint8_t

cdef extern from "window_time.h" nogil:
    int lj_window_time(int format, const uint8_t *p, size_t size, int64_t *ms)
