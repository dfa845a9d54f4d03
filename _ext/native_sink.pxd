# Declarations of native_sink.h, and nothing else.
from libc.stdint cimport uint64_t

cdef extern from "native_sink.h" nogil:
    enum:
        LJ_NATIVE_OK
        LJ_NATIVE_UNSURE
        LJ_NATIVE_STATE
    ctypedef struct LjSink:
        void *context
        int (*want)(void *context, const void *key, size_t key_size) noexcept nogil
        int (*row)(void *context, const void *key, size_t key_size, const void *row, size_t row_size,
                   uint64_t hash) noexcept nogil
    ctypedef struct LjNativeJoin:
        int (*read)(LjNativeJoin *self, const LjSink *sink) noexcept nogil
