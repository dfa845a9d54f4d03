/* Rows of topics for the native executor: from the change set, the cache or their shard.
 *
 * Every row read from a shard is compared with its checksum first. One thread at a time. */
#ifndef LJ_NATIVE_ROWS_H
#define LJ_NATIVE_ROWS_H
#include "fnv.h"
#include "native_cache.h"
#include "native_net.h"
#include "native_sink.h"
#include "rowsum.h"

typedef struct {
    LjHost *host;
    LjCache cache;
    int fresh;            /* the shards show no later flush than the changes: both may be mixed */
    int n_topics;
    uint8_t *cached;      /* topic slot -> its rows are kept in the cache */
    sqlite3_stmt **reads; /* (slot * shards + shard) * 2: by key, by id; prepared when first used */
    LjNet *nets;          /* topic slot -> the changes of the flush by key */
} LjRows;

static inline int lj_rows_statement(LjRows *rows, int slot, int shard, int by_id, sqlite3_stmt **out) {
    sqlite3_stmt **place = &rows->reads[((size_t)slot * rows->host->shards + shard) * 2 + by_id];
    if (!*place) {
        char *sql = sqlite3_mprintf("SELECT key, payload, timestamp_ms, op, changes, checksum FROM t%d WHERE %s = ?1",
                                    (int)rows->host->topics[slot]->number, by_id ? "id" : "key");
        if (!sql) return LJ_NATIVE_MEMORY;
        int rc = sqlite3_prepare_v3(rows->host->readers[shard], sql, -1, SQLITE_PREPARE_PERSISTENT, place, NULL);
        sqlite3_free(sql);
        if (rc != SQLITE_OK) return LJ_NATIVE_UNSURE;
    }
    *out = *place;
    return LJ_NATIVE_OK;
}

/* A statement over all rows of a topic in one shard; the caller finalizes it. */
static inline int lj_rows_scan(LjRows *rows, int slot, int shard, sqlite3_stmt **out) {
    char *sql = sqlite3_mprintf("SELECT key, payload, timestamp_ms, op, changes, checksum FROM t%d",
                                (int)rows->host->topics[slot]->number);
    if (!sql) return LJ_NATIVE_MEMORY;
    int rc = sqlite3_prepare_v2(rows->host->readers[shard], sql, -1, out, NULL);
    sqlite3_free(sql);
    return rc == SQLITE_OK ? LJ_NATIVE_OK : LJ_NATIVE_UNSURE;
}

/* Step a bound statement and show its row, valid until it is reset; `there` is 0 when there is none. */
static inline int lj_rows_step(LjRows *rows, int slot, sqlite3_stmt *stmt, LjVersion *row, int *there) {
    int rc = sqlite3_step(stmt);
    *there = rc == SQLITE_ROW;
    if (rc == SQLITE_DONE) return LJ_NATIVE_OK;
    if (rc != SQLITE_ROW) return rc == SQLITE_NOMEM ? LJ_NATIVE_MEMORY : LJ_NATIVE_UNSURE;
    /* column_text before column_bytes: the length is that of the UTF-8 form. */
    row->key.at = (const char *)sqlite3_column_text(stmt, 0);
    row->key.len = (uint32_t)sqlite3_column_bytes(stmt, 0);
    row->payload.at = (const char *)sqlite3_column_text(stmt, 1);
    row->payload.len = (uint32_t)sqlite3_column_bytes(stmt, 1);
    row->timestamp_ms = sqlite3_column_int64(stmt, 2);
    row->updated = sqlite3_column_int(stmt, 3) == 2;
    row->changes.at = (const char *)sqlite3_column_text(stmt, 4);
    row->changes.len = (uint32_t)sqlite3_column_bytes(stmt, 4);
    int64_t sum = lj_row_checksum(0, rows->host->topics[slot]->number, (uint32_t)sqlite3_column_int(stmt, 3),
                                  row->timestamp_ms, row->key.at, row->key.len, row->payload.at, row->payload.len,
                                  row->changes.at, row->changes.at ? row->changes.len : LJ_NO_EXTRA);
    return sum == sqlite3_column_int64(stmt, 5) ? LJ_NATIVE_OK : LJ_NATIVE_UNSURE;
}

/* The current row of a key. `stmt` is what to reset after its use, or NULL. */
static inline int lj_rows_by_key(LjRows *rows, int slot, LjSlice key, LjVersion *row, int *there, sqlite3_stmt **stmt) {
    uint16_t number = rows->host->topics[slot]->number;
    *stmt = NULL;
    *there = 0;
    if (rows->fresh && rows->cached[slot] && lj_cache_get(&rows->cache, number, key, row)) {
        *there = 1;
        return LJ_NATIVE_OK;
    }
    if (rows->host->shards == 0) return LJ_NATIVE_OK;
    int shard = (int)(lj_fnv1a32(key.at, key.len) % (uint32_t)rows->host->shards);
    int failed = lj_rows_statement(rows, slot, shard, 0, stmt);
    if (failed) return failed;
    sqlite3_bind_text(*stmt, 1, key.at, (int)key.len, SQLITE_STATIC);
    failed = lj_rows_step(rows, slot, *stmt, row, there);
    if (!failed && *there && rows->fresh && rows->cached[slot]) lj_cache_put(&rows->cache, number, row);
    return failed;
}

/* The current row that a key map refers to. */
static inline int lj_rows_by_ref(LjRows *rows, int slot, uint64_t ref, LjVersion *row, int *there, sqlite3_stmt **stmt) {
    int shard = (int)(ref >> LJ_SHARD_SHIFT);
    *there = 0;
    int failed = lj_rows_statement(rows, slot, shard, 1, stmt);
    if (failed) return failed;
    sqlite3_bind_int64(*stmt, 1, (sqlite3_int64)(ref & (((uint64_t)1 << LJ_SHARD_SHIFT) - 1)));
    return lj_rows_step(rows, slot, *stmt, row, there);
}

/* Take the changes of the flush into the cache. */
static inline void lj_rows_begin(LjRows *rows, int fresh) {
    rows->fresh = fresh;
    for (int slot = 0; slot < rows->n_topics; slot++) lj_net_clear(&rows->nets[slot]);
    for (int slot = 0; slot < rows->n_topics; slot++) {
        const LjTopic *topic = rows->host->topics[slot];
        for (uint32_t i = 0; rows->cached[slot] && i < topic->n_changes; i++) {
            const LjChangeRow *change = &topic->changes[i];
            if ((change->flags & LJ_HAS_NEW) && !(change->flags & LJ_ELIDED))
                lj_cache_put(&rows->cache, topic->number, &change->now);
            else
                lj_cache_drop(&rows->cache, topic->number, change->old.key);
        }
    }
}

static inline void lj_rows_free(LjRows *rows) {
    for (int i = 0; rows->reads && i < rows->n_topics * rows->host->shards * 2; i++) sqlite3_finalize(rows->reads[i]);
    for (int slot = 0; rows->nets && slot < rows->n_topics; slot++) lj_net_free(&rows->nets[slot]);
    lj_cache_free(&rows->cache);
    free(rows->nets);
    rows->nets = NULL;
    free(rows->reads);
    free(rows->cached);
    rows->reads = NULL;
    rows->cached = NULL;
    rows->n_topics = 0;
}
#endif
