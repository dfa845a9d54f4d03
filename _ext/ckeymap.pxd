# C declarations of keymap.h, and nothing else.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "keymap.h" nogil:
    ctypedef struct KeyMap:
        pass
    void km_clear(KeyMap *m)
    uint64_t km_bytes(const KeyMap *m)
    int km_add(KeyMap *m, uint64_t hash, uint64_t ref)
    void km_remove(KeyMap *m, uint64_t hash, uint64_t ref)
    uint32_t km_find(const KeyMap *m, uint64_t hash, const uint64_t **refs)
