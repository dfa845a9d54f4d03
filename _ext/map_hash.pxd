# Declarations of map_hash.h.
from libc.stdint cimport uint64_t

cdef extern from "map_hash.h" nogil:
    enum:
        LJ_MAP_SECRET_WORDS
    void lj_set_map_secret(const char *secret)
    uint64_t lj_map_hash(const void *data, size_t size, uint64_t tag)
