/* Rows of topics for the native executor: from the change set, the cache or their shard.
 *
 * Every row read from a shard is compared with its checksum first. One thread at a time. */
#ifndef LJ_NATIVE_ROWS_H
#define LJ_NATIVE_ROWS_H
#include "fnv.h"
#include "native_cache.h"
#include "native_net.h"
#include "native_places.h"
#include "native_sink.h"
#include "rowsum.h"

typedef struct {
    LjHost *host;
    LjCache cache;
    int fresh;            /* the shards show no later flush than the changes: both may be mixed */
    int n_topics;
    uint8_t *cached;      /* topic slot -> its rows are looked up by key, and kept in the cache */
    LjPlaces *places;     /* topic slot -> row ids by lj_cache_hash, of those topics */
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

/* The current row that a key map refers to. */
static inline int lj_rows_by_ref(LjRows *rows, int slot, uint64_t ref, LjVersion *row, int *there, sqlite3_stmt **stmt) {
    int shard = (int)(ref >> LJ_SHARD_SHIFT);
    *there = 0;
    int failed = lj_rows_statement(rows, slot, shard, 1, stmt);
    if (failed) return failed;
    sqlite3_bind_int64(*stmt, 1, (sqlite3_int64)(ref & (((uint64_t)1 << LJ_SHARD_SHIFT) - 1)));
    return lj_rows_step(rows, slot, *stmt, row, there);
}

/* The row of a key by the id that it is known to have; `there` is 0 when it is not known, or not there. */
static inline int lj_rows_by_place(LjRows *rows, int slot, int shard, LjSlice key, uint64_t key_hash, LjVersion *row,
                                   int *there, sqlite3_stmt **stmt) {
    int64_t ids[LJ_PLACES_EQUAL];
    int n = lj_places_find(&rows->places[slot], key_hash, ids);
    for (int i = 0; i < n; i++) {
        int failed = lj_rows_by_ref(rows, slot, (uint64_t)shard << LJ_SHARD_SHIFT | (uint64_t)ids[i], row, there, stmt);
        if (failed || (*there && row->key.len == key.len && memcmp(row->key.at, key.at, key.len) == 0)) return failed;
        sqlite3_reset(*stmt);
        *there = 0;
    }
    *stmt = NULL;
    return LJ_NATIVE_OK;
}

/* The current row of a key. `stmt` is what to reset after its use, or NULL. */
static inline int lj_rows_by_key(LjRows *rows, int slot, LjSlice key, LjVersion *row, int *there, sqlite3_stmt **stmt) {
    uint16_t number = rows->host->topics[slot]->number;
    int failed = LJ_NATIVE_OK, cached = rows->cached[slot];
    uint64_t hash = cached ? lj_cache_hash(number, key) : 0;
    *stmt = NULL;
    *there = 0;
    if (cached && rows->fresh && lj_cache_get(&rows->cache, number, key, hash, row)) {
        *there = 1;
        return LJ_NATIVE_OK;
    }
    if (rows->host->shards == 0) return LJ_NATIVE_OK;
    int shard = (int)(lj_fnv1a32(key.at, key.len) % (uint32_t)rows->host->shards);
    if (cached) failed = lj_rows_by_place(rows, slot, shard, key, hash, row, there, stmt);
    if (!failed && !*there) {
        failed = lj_rows_statement(rows, slot, shard, 0, stmt);
        if (failed) return failed;
        sqlite3_bind_text(*stmt, 1, key.at, (int)key.len, SQLITE_STATIC);
        failed = lj_rows_step(rows, slot, *stmt, row, there);
    }
    if (!failed && *there && cached && rows->fresh) lj_cache_put(&rows->cache, number, row);
    return failed;
}

/* Take a change of a topic that is looked up by key. A row has its id for as long as its key is there. */
static inline void lj_rows_note(LjRows *rows, int slot, const LjChangeRow *change) {
    uint16_t number = rows->host->topics[slot]->number;
    int had = (change->flags & LJ_HAS_OLD) != 0, has = (change->flags & LJ_HAS_NEW) != 0;
    uint64_t hash = had == has ? 0 : lj_cache_hash(number, change->old.key);
    if (had && !has) lj_places_remove(&rows->places[slot], hash, change->rowid);
    if (has && !had) lj_places_add(&rows->places[slot], hash, change->rowid);
    if ((change->flags & LJ_HAS_NEW) && !(change->flags & LJ_ELIDED))
        lj_cache_put(&rows->cache, number, &change->now);
    else
        lj_cache_drop(&rows->cache, number, change->old.key);
}

/* Take in the changes of the flush. */
static inline void lj_rows_begin(LjRows *rows, int fresh) {
    rows->fresh = fresh;
    for (int slot = 0; slot < rows->n_topics; slot++) lj_net_clear(&rows->nets[slot]);
    for (int slot = 0; slot < rows->n_topics; slot++) {
        const LjTopic *topic = rows->host->topics[slot];
        for (uint32_t i = 0; rows->cached[slot] && i < topic->n_changes; i++) lj_rows_note(rows, slot, &topic->changes[i]);
    }
}

/* Note where the rows of one shard are; what cannot be read now is looked up when it is needed. */
static inline void lj_rows_place(LjRows *rows, int slot, int shard) {
    uint16_t number = rows->host->topics[slot]->number;
    sqlite3_stmt *stmt = NULL;
    char *sql = sqlite3_mprintf("SELECT id, key FROM t%d INDEXED BY t%d_key", (int)number, (int)number);
    int rc = sql ? sqlite3_prepare_v2(rows->host->readers[shard], sql, -1, &stmt, NULL) : SQLITE_NOMEM;
    sqlite3_free(sql);
    while (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        LjSlice key = {(const char *)sqlite3_column_text(stmt, 1), 0};
        key.len = (uint32_t)sqlite3_column_bytes(stmt, 1);
        if (key.at) lj_places_add(&rows->places[slot], lj_cache_hash(number, key), sqlite3_column_int64(stmt, 0));
    }
    sqlite3_finalize(stmt);
}

/* Note where all rows are that are looked up by key. */
static inline void lj_rows_load(LjRows *rows) {
    for (int slot = 0; slot < rows->n_topics; slot++)
        for (int shard = 0; rows->cached[slot] && shard < rows->host->shards; shard++)
            if (!rows->host->out[shard]) lj_rows_place(rows, slot, shard);
}

static inline uint64_t lj_rows_place_bytes(const LjRows *rows) {
    uint64_t bytes = 0;
    for (int slot = 0; slot < rows->n_topics; slot++) bytes += lj_places_bytes(&rows->places[slot]);
    return bytes;
}

static inline void lj_rows_free(LjRows *rows) {
    for (int i = 0; rows->reads && i < rows->n_topics * rows->host->shards * 2; i++) sqlite3_finalize(rows->reads[i]);
    for (int slot = 0; rows->nets && slot < rows->n_topics; slot++) lj_net_free(&rows->nets[slot]);
    lj_cache_free(&rows->cache);
    for (int slot = 0; rows->places && slot < rows->n_topics; slot++) lj_places_clear(&rows->places[slot]);
    free(rows->nets);
    free(rows->places);
    rows->nets = NULL;
    rows->places = NULL;
    free(rows->reads);
    free(rows->cached);
    rows->reads = NULL;
    rows->cached = NULL;
    rows->n_topics = 0;
}
#endif
