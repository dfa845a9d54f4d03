/* What stands behind the topic tables: topics, their key maps and the changes of the flush being evaluated.
 *
 * Owned and changed by topic.pyx; the native executor (nativejoin.pyx) reads it through the address that
 * TopicTables.pointer() gives. One thread at a time. */
#ifndef LJ_TOPIC_HOST_H
#define LJ_TOPIC_HOST_H
#include "change_row.h"
#include "keymap.h"
#include "sqlite_bridge.h"

/* A row reference in a key map: shard in bits 55..62, row id below. Row ids start at 1, so never 0. */
#define LJ_SHARD_SHIFT 55

/* The hash of SQL NULL in a key map: found by IS NULL only. */
#define LJ_NULL_HASH 0x9E3779B97F4A7C15ull

/* A prepared statement lent to one cursor at a time: a self join needs two of a kind at once. */
typedef struct LjPooled {
    sqlite3_stmt *stmt;
    struct LjPooled *next;
} LjPooled;

/* One indexed expression: `rows` value hash -> row references, `olds` value hash -> change number + 1. */
typedef struct {
    int is_text;
    sqlite3_stmt *evaluate;
    KeyMap rows, olds;
} LjIndex;

typedef struct {
    uint16_t number;
    int n_indexes;
    LjIndex *indexes;
    LjChangeRow *changes;
    uint32_t n_changes, cap_changes;
    KeyMap old_keys; /* XXH64 of the key, seed 1 -> change number + 1 of those with an old version */
    LjPooled **idle;
} LjTopic;

/* Shared by the Python object and SQLite's module registration; freed when both have let go. */
typedef struct {
    int owners;
    sqlite3 *db;
    int shards;
    sqlite3 **readers;
    int n_topics;
    LjTopic **topics;
} LjHost;
#endif
