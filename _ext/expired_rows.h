/* Rows of one topic on their way into Parquet: kept in an arena, put in order of (day, key, op).
 *
 * Plain C over memory, no SQLite and no Python: the first half of expired.pyx. A sorted file lets a reader
 * skip row groups by the smallest and largest key of each. */
#ifndef LJ_EXPIRED_ROWS_H
#define LJ_EXPIRED_ROWS_H
#include "buffer.h"

#define LJ_DAY_MS 86400000

/* Key, payload and changes follow each other in the arena from `at`. */
typedef struct {
    int64_t day;
    uint64_t prefix; /* the first 8 bytes of the key as a big endian number */
    size_t at;
    uint32_t key_len, payload_len, changes_len; /* changes_len: LJ_NO_EXTRA for NULL */
    uint32_t op;
    int64_t timestamp_ms, checksum;
} LjExpired;

typedef struct {
    LjBuffer arena;
    LjExpired *items;
    size_t len, cap;
} LjExpiredRows;

static inline void lj_expired_free(LjExpiredRows *r) {
    lj_buffer_free(&r->arena);
    free(r->items);
    memset(r, 0, sizeof *r);
}

/* The day of a time, counted from 1970-01-01; earlier days are negative. */
static inline int64_t lj_day(int64_t timestamp_ms) {
    int64_t day = timestamp_ms / LJ_DAY_MS;
    return day - (timestamp_ms % LJ_DAY_MS < 0);
}

/* Append a row whose lengths, times, op and checksum are set; -1 when memory is out. */
static inline int lj_expired_add(LjExpiredRows *r, LjExpired row, const void *key, const void *payload,
                                 const void *changes, uint32_t changes_len) {
    if (r->len == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 1024;
        LjExpired *items = (LjExpired *)realloc(r->items, cap * sizeof *items);
        if (!items)
            return -1;
        r->items = items;
        r->cap = cap;
    }
    if (lj_buffer_reserve(&r->arena, (size_t)row.key_len + row.payload_len + changes_len) < 0)
        return -1;
    uint8_t first[8] = {0};
    memcpy(first, key, row.key_len < 8 ? row.key_len : 8);
    memcpy(&row.prefix, first, 8);
    row.prefix = __builtin_bswap64(row.prefix);
    row.day = lj_day(row.timestamp_ms);
    row.at = r->arena.len;
    uint8_t *p = r->arena.data + r->arena.len;
    memcpy(p, key, row.key_len);
    if (row.payload_len)
        memcpy(p + row.key_len, payload, row.payload_len);
    if (changes_len)
        memcpy(p + row.key_len + row.payload_len, changes, changes_len);
    r->arena.len += (size_t)row.key_len + row.payload_len + changes_len;
    r->items[r->len++] = row;
    return 0;
}

static int lj_expired_order(const void *a, const void *b, void *arena) {
    const LjExpired *x = (const LjExpired *)a, *y = (const LjExpired *)b;
    if (x->day != y->day)
        return x->day < y->day ? -1 : 1;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    uint32_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
    int order = memcmp((const uint8_t *)arena + x->at, (const uint8_t *)arena + y->at, n);
    if (order || x->key_len != y->key_len)
        return order ? order : x->key_len < y->key_len ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op; /* a row before the delete that was before it: see the writer */
}

static inline void lj_expired_sort(LjExpiredRows *r) {
    if (r->len > 1)
        qsort_r(r->items, r->len, sizeof *r->items, lj_expired_order, r->arena.data);
}
#endif
