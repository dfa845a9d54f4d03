# Declarations of json_fault.h.
cdef extern from "json_fault.h" nogil:
    enum:
        LJ_FAULT_MEMORY
        LJ_FAULT_SIZE
        LJ_FAULT_PATH
        LJ_FAULT_SHAPE
        LJ_FAULT_BODY
    const char *lj_fault_text(int code)
