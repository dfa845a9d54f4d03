# Declarations of blake2b.h.
cdef extern from "blake2b.h" nogil:
    ctypedef struct LjBlake:
        pass
    void lj_blake_begin(LjBlake *s, size_t digest)
    void lj_blake_add(LjBlake *s, const void *data, size_t size)
    void lj_blake_end(LjBlake *s, char *hex)
