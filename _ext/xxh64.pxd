# Declarations of xxh64.h.
cdef extern from "xxh64.h" nogil:
    unsigned long long lj_xxh64(const void *data, size_t size, unsigned long long seed)
