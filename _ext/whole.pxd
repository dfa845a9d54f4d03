# C declarations of whole.h, and nothing else.
cdef extern from "whole.h" nogil:
    int lj_is_whole(double real)
