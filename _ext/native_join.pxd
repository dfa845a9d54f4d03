# Declarations of native_join.h, and nothing else.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from csqlite3 cimport sqlite3_stmt
from json_out cimport lj_out
from native_sink cimport LjNativeJoin, LjSink
from topic_host cimport Host, LjPath

cdef extern from "native_join.h" nogil:
    enum:
        LJ_NATIVE_REFS
        LJ_NATIVE_VALUES
        LJ_FAST_NONE
        LJ_FAST_KEY
        LJ_FAST_PAYLOAD
        LJ_FAST_TIMESTAMP
        LJ_FAST_TIMESTAMP_MS
        LJ_FAST_PATH
    ctypedef struct LjCache:
        size_t bytes
        uint64_t hits
        uint64_t misses
    size_t lj_cache_bytes(const LjCache *c) nogil
    ctypedef struct LjNet:
        pass
    ctypedef struct LjPlaces:
        pass
    ctypedef struct LjRows:
        Host *host
        LjCache cache
        int n_topics
        uint8_t *cached
        LjPlaces *places
        sqlite3_stmt **reads
        LjNet *nets
    ctypedef struct LjPlace:
        int ref
        int value
    enum:
        LJ_RIGHT_NONE
        LJ_RIGHT_LITERAL
    ctypedef struct LjValue:
        uint8_t kind
        uint32_t size
        const char *text
        int64_t integer
    ctypedef struct LjCheck:
        LjPlace left
        LjPlace right
        int is_text
        LjValue literal
    ctypedef struct LjFinder:
        int by_key
        int index
        int is_text
    ctypedef struct LjRef:
        int slot
        int outer
        int n_values
        uint8_t fast[32]
        uint8_t as_text[32]
        int all_fast
        int n_paths
        LjPath paths[32]
        sqlite3_stmt *program
        LjPlace source
        LjFinder probe
        int parent
        int near
        LjFinder step
        LjCheck *on
        LjCheck *where
        int n_on
        int n_where
    ctypedef struct LjOutput:
        LjPlace place
        int is_json
        lj_out name
    ctypedef struct LjJoin:
        LjNativeJoin base
        LjRows *rows
        int n_refs
        LjRef *refs
        LjFinder by
        int key_value
        int n_outputs
        LjOutput *outputs
        const LjSink *sink
    int lj_native_read(LjNativeJoin *base, const LjSink *sink) noexcept
    void lj_native_free(LjJoin *join)
    void lj_rows_begin(LjRows *rows, int fresh)
    void lj_rows_load(LjRows *rows)
    uint64_t lj_rows_place_bytes(const LjRows *rows)
    void lj_rows_free(LjRows *rows)
