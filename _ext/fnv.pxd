# Declarations of fnv.h.
cdef extern from "fnv.h" nogil:
    unsigned int lj_fnv1a32(const void *data, size_t size)
