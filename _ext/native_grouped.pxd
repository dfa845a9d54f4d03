# Declarations of native_grouped.h and what it includes, and nothing else.
from libc.stdint cimport int64_t

from csqlite3 cimport sqlite3_stmt
from native_join cimport LjCheck, LjFinder, LjJoin, LjPlace, LjRef, LjRows
from native_sink cimport LjNativeJoin, LjSink

cdef extern from "native_grouped.h" nogil:
    enum:
        LJ_TERMS
        LJ_ARGUMENTS
        LJ_COUNT
        LJ_SUM
        LJ_AVG
        LJ_TOTAL
        LJ_MIN
        LJ_MAX
    ctypedef struct LjArgument:
        int sums
        int least
        int greatest
    ctypedef struct LjAggregate:
        int name
        int argument
    ctypedef struct LjGroups:
        int n_terms
        int key_term
        int n_arguments
        int n_aggregates
        LjArgument *arguments
        LjAggregate *aggregates
        int64_t join_id
        sqlite3_stmt *select
        sqlite3_stmt *put
        sqlite3_stmt *remove
        sqlite3_stmt *of_key
        sqlite3_stmt *number
    ctypedef struct LjRoot:
        LjJoin walk
        int *number
        LjPlace *terms
        LjPlace *arguments
        int core
        LjCheck *on
        LjCheck *last
        int n_on
        int n_last
        LjFinder probe
        LjPlace source
        LjRef now
        LjRef other
        LjRef none
    ctypedef struct LjGrouped:
        LjNativeJoin base
        LjRows *rows
        int n_refs
        int key_ref
        int reads_rows
        LjRoot *roots
        LjFinder by
        LjGroups groups
        LjJoin shown
        LjSink sink
        sqlite3_stmt *affect
        int n_unsure
    int lj_collect_want(void *context, const void *key, size_t size) noexcept
    int lj_collect_row(void *context, const void *key, size_t key_size, const void *row, size_t size,
                       unsigned long long hash) noexcept
    int lj_grouped_read(LjNativeJoin *base, const LjSink *sink) noexcept
    int lj_grouped_rebuild(LjGrouped *grouped) noexcept
    void lj_grouped_free(LjGrouped *grouped)
