# C declarations of key_list.h, and nothing else.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "key_list.h" nogil:
    ctypedef struct LjKeyList:
        char *at
        int has_number
    void lj_keys_clear(LjKeyList *list)
    int lj_keys_add(LjKeyList *list, const char *text, uint32_t length, uint64_t hash)
    int lj_keys_next(LjKeyList *list, const char **text, uint32_t *length, uint64_t *hash)
