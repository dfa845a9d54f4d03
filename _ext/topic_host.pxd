# Declarations of topic_host.h, and nothing else.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from change_row cimport LjChangeRow, LjSlice, LjVersion
from ckeymap cimport KeyMap
from csqlite3 cimport sqlite3, sqlite3_stmt

cdef extern from "topic_host.h" nogil:
    enum:
        LJ_SHARD_SHIFT
    uint64_t LJ_NULL_HASH
    enum:
        LJ_PATH_STEPS
    ctypedef struct LjPath:
        int value
        int steps
        LjSlice names[8]
    ctypedef struct Pooled "LjPooled":
        sqlite3_stmt *stmt
        Pooled *next
    ctypedef struct Index "LjIndex":
        bint is_text
        bint as_text
        sqlite3_stmt *evaluate
        LjPath path
        char *names
        KeyMap rows
        KeyMap olds
    ctypedef struct Topic "LjTopic":
        uint16_t number
        int shards
        sqlite3 **readers
        sqlite3 *own_reader
        int n_indexes
        Index *indexes
        LjChangeRow *changes
        uint32_t n_changes
        uint32_t cap_changes
        bint passed_known
        KeyMap old_keys
        Pooled **idle
        KeyMap odd_rows
        KeyMap odd_olds
        bint odd_ready
    ctypedef struct Host "LjHost":
        int owners
        sqlite3 *db
        int shards
        sqlite3 **readers
        int n_topics
        Topic **topics
        sqlite3_stmt *to_number
        uint8_t *out
        bint any_out
        bint blind
        bint tolerant
        uint64_t first_shown
        uint64_t n_shown
        int damaged
    int lj_topic_slot(const Host *host, int number)
    int lj_index_path_hash(const Index *index, const LjVersion *row, uint64_t *hash)
