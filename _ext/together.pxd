# Declarations of together.h.
cdef extern from "together.h" nogil:
    ctypedef void *(*LjTask)(void *) noexcept nogil
    void lj_together(LjTask task, void **items, int count)
