/* What stands behind the topic tables: topics, their key maps and the changes of the flush being evaluated.
 *
 * Owned and changed by topic.pyx; the native executor (nativejoin.pyx) reads it through the address that
 * TopicTables.pointer() gives. One thread at a time. */
#ifndef LJ_TOPIC_HOST_H
#define LJ_TOPIC_HOST_H
#include "keymap.h"
#include "native_path.h"

/* A row reference in a key map: shard in bits 55..62, row id below. Row ids start at 1, so never 0. */
#define LJ_SHARD_SHIFT 55

/* A prepared statement lent to one cursor at a time: a self join needs two of a kind at once. */
typedef struct LjPooled {
    sqlite3_stmt *stmt;
    struct LjPooled *next;
} LjPooled;

/* One indexed expression: `rows` value hash -> row references, `olds` value hash -> change number + 1. With
 * `path.steps` the expression is that path into the payload, hashed as TEXT if `as_text`; the statement
 * is asked where the path reader is not sure. */
typedef struct {
    int is_text, as_text;
    sqlite3_stmt *evaluate;
    LjPath path;
    char *names; /* the bytes of the path's names */
    KeyMap rows, olds;
} LjIndex;

/* 1 and the hash of the value, or 0. */
static inline int lj_index_path_hash(const LjIndex *index, const LjVersion *row, uint64_t *hash) {
    char room[LJ_NUMBER_ROOM];
    LjValue value;
    if (!index->path.steps || !lj_paths_read(&index->path, 1, row->payload, &value, room)) return 0;
    if (index->as_text && value.kind == SQLITE_FLOAT) return 0;
    *hash = lj_value_hash(&value, index->as_text);
    return 1;
}

typedef struct {
    uint16_t number;
    /* Where its rows are: the host's shards, or one connection of its own. */
    int shards;
    sqlite3 **readers;
    sqlite3 *own_reader;
    int n_indexes;
    LjIndex *indexes;
    LjChangeRow *changes;
    uint32_t n_changes, cap_changes;
    int passed_known; /* `passed` of the changes is as they say */
    KeyMap old_keys; /* lj_map_hash of the key, tag 1 -> change number + 1 of those with an old version */
    LjPooled **idle;
    /* Keys that are numbers in unusual dress ('7.0', '007', ' 7'): hash of the number -> row references, filled
     * when the first number is compared with a key; and of old versions, -> change number + 1. */
    KeyMap odd_rows, odd_olds;
    int odd_ready;
} LjTopic;

/* Shared by the Python object and SQLite's module registration; freed when both have let go. */
typedef struct {
    int owners;
    sqlite3 *db;
    int shards;
    sqlite3 **readers;
    int n_topics;
    LjTopic **topics;
    sqlite3_stmt *to_number;
    uint8_t *out;   /* shard -> it was left out: its rows are not to be read */
    int any_out;
    int blind;      /* a shard was left out before the key maps were built: they lack its rows */
    int tolerant;   /* rows of shards that were left out count as absent instead of failing the query */
    uint64_t first_shown, n_shown; /* versions that delta tables show: twice a change's number, + 1: the new one;
                                      none shown: all of them */
    int damaged;    /* the first shard in which damage was met, or -1 */
} LjHost;

/* The place of the topic with a catalogue number; -1: there is none. */
static inline int lj_topic_slot(const LjHost *host, int number) {
    for (int i = 0; i < host->n_topics; i++)
        if (host->topics[i]->number == number) return i;
    return -1;
}
#endif
