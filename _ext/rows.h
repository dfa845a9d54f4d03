/* Packed rows (layout: litejoin/records.py): checked, put in order, several rows of a key made one.
 * Plain C over memory, no SQLite and no Python: the first half of the batch writer.
 *
 * lj_row_check   is the row at `p` well formed? returns NULL or the reason
 * lj_entries_*   the rows of one shard, by (kind of table, table, key), stable
 * lj_fold        the one row that several rows of a key amount to */
#ifndef LJ_ROWS_H
#define LJ_ROWS_H
#include "buffer.h"
#include "changes.h"

enum { LJ_UPSERT = 1, LJ_DELETE = 2, LJ_STATE_UPSERT = 3, LJ_STATE_DELETE = 4 };
/* With LJ_EXACT `timestamp_ms` of an expiry is the checksum of the version it deletes, and of no other. */
enum { LJ_EXPIRE = 1, LJ_EXACT = 2 };
/* On an upsert: the source had a record of the key before, whether the topic has a row of it or not. */
enum { LJ_KNOWN = 4 };
/* Far above what sources let in; keeps a change row (two versions of a row) inside its u32 size. */
enum { LJ_MAX_KEY = 64 * 1024, LJ_MAX_VALUE = 64 * 1024 * 1024, LJ_HASH_BYTES = 16 };

typedef struct {
    uint32_t size;
    uint16_t table;
    uint8_t kind, flags;
    int64_t timestamp_ms;
    uint32_t key_len, payload_len, extra_len, reserved;
} LjRowHead;

_Static_assert(sizeof(LjRowHead) == 32, "packed rows have a 32-byte head");

/* A row as the writer works on it; the pointers are into the batch. */
typedef struct {
    LjRowHead head;
    const uint8_t *key, *payload, *extra;
    uint64_t hash; /* see LjEntry */
} LjRow;

static inline LjRow lj_row_at(const uint8_t *p) {
    LjRow row;
    memcpy(&row.head, p, sizeof row.head);
    row.key = p + sizeof row.head;
    row.payload = row.key + row.head.key_len;
    row.extra = row.payload + row.head.payload_len;
    row.hash = 0;
    return row;
}

/* 1 when the bytes are UTF-8 (no surrogates, no overlong forms, <= U+10FFFF) without a NUL. */
static inline int lj_is_text(const uint8_t *p, size_t n) {
    const uint8_t *end = p + n;
    while (p < end) {
        if (end - p >= 8) {
            uint64_t v;
            memcpy(&v, p, 8);
            if (!((v | ((v - 0x0101010101010101ULL) & ~v)) & 0x8080808080808080ULL)) {
                p += 8;
                continue;
            }
        }
        uint8_t c = *p;
        if (c < 0x80) {
            if (!c)
                return 0;
            p++;
        } else if (c < 0xE0) {
            if (c < 0xC2 || end - p < 2 || (p[1] & 0xC0) != 0x80)
                return 0;
            p += 2;
        } else if (c < 0xF0) {
            if (end - p < 3 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80)
                return 0;
            if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F))
                return 0;
            p += 3;
        } else {
            if (c > 0xF4 || end - p < 4 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80
                || (p[3] & 0xC0) != 0x80)
                return 0;
            if ((c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] > 0x8F))
                return 0;
            p += 4;
        }
    }
    return 1;
}

static inline const char *lj_row_check(const uint8_t *p, size_t left) {
    if (left < sizeof(LjRowHead))
        return "cut inside the head";
    LjRow row = lj_row_at(p);
    const LjRowHead *h = &row.head;
    uint64_t body = (uint64_t)h->key_len + h->payload_len + h->extra_len;
    if (h->size > left || h->size % 8 || h->size < sizeof *h + body)
        return "size does not fit the row";
    if (h->kind < LJ_UPSERT || h->kind > LJ_STATE_DELETE)
        return "unknown kind";
    if (h->flags & ~(h->kind == LJ_DELETE ? LJ_EXPIRE | LJ_EXACT : h->kind == LJ_UPSERT ? LJ_KNOWN : 0) ||
        h->flags == LJ_EXACT)
        return "unknown flags";
    if (h->reserved)
        return "reserved bytes are not zero";
    if (!h->key_len)
        return "empty key";
    if (h->key_len > LJ_MAX_KEY)
        return "key longer than 64 KiB";
    if (h->payload_len > LJ_MAX_VALUE || h->extra_len > LJ_MAX_VALUE)
        return "value longer than 64 MiB";
    if (h->kind == LJ_STATE_UPSERT && h->extra_len != LJ_HASH_BYTES)
        return "a state row's hash has 16 bytes";
    if (!lj_is_text(row.key, h->key_len))
        return "key is not UTF-8 text without NUL";
    if (!lj_is_text(row.payload, h->payload_len))
        return "payload is not UTF-8 text without NUL";
    if (h->kind == LJ_UPSERT && !lj_is_text(row.extra, h->extra_len))
        return "changes are not UTF-8 text without NUL";
    return NULL;
}

/* `group`: topic tables first, then state tables, each by number. `prefix`: the first 8 bytes of the
 * key that differ within the shard's rows, as a big endian number, so that few comparisons read keys.
 * `hash` is what the caller has computed of the row (lj_row_hash), or 0. */
typedef struct {
    uint64_t group, prefix, hash;
    const uint8_t *row;
} LjEntry;

typedef struct {
    LjEntry *items, *spare;
    size_t len, cap;
    const uint8_t *first_key;
    uint32_t common; /* bytes that all keys share at their start */
} LjEntries;

static inline void lj_entries_free(LjEntries *e) {
    free(e->items);
    free(e->spare);
    memset(e, 0, sizeof *e);
}

static inline int lj_entries_grow(LjEntries *e) {
    size_t cap = e->cap ? e->cap * 2 : 256;
    LjEntry *items = (LjEntry *)realloc(e->items, cap * sizeof *items);
    if (!items)
        return -1;
    e->items = items;
    LjEntry *spare = (LjEntry *)realloc(e->spare, cap * sizeof *spare);
    if (!spare)
        return -1;
    e->spare = spare;
    e->cap = cap;
    return 0;
}

static inline int lj_entries_add(LjEntries *e, const uint8_t *p, uint64_t hash) {
    if (e->len == e->cap && lj_entries_grow(e) < 0)
        return -1;
    LjRow row = lj_row_at(p);
    if (!e->len) {
        e->first_key = row.key;
        e->common = row.head.key_len;
    }
    uint32_t same = 0, limit = row.head.key_len < e->common ? row.head.key_len : e->common;
    while (same < limit && row.key[same] == e->first_key[same])
        same++;
    e->common = same;
    LjEntry *entry = &e->items[e->len++];
    entry->group = (uint64_t)(row.head.kind >= LJ_STATE_UPSERT) << 16 | row.head.table;
    entry->row = p;
    entry->hash = hash;
    return 0;
}

static inline uint64_t lj_key_prefix(const uint8_t *key, uint32_t len, uint32_t skip) {
    uint64_t v = 0;
    uint32_t n = len - skip; /* skip <= len: it is the common part */
    if (n >= 8) {
        memcpy(&v, key + skip, 8);
        return __builtin_bswap64(v);
    }
    memcpy(&v, key + skip, n);
    return __builtin_bswap64(v);
}

/* Keys hold no NUL, so a shorter key that is a prefix of a longer one sorts first by prefix already. */
static inline int lj_entry_order(const LjEntry *a, const LjEntry *b, uint32_t skip) {
    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    LjRowHead x, y;
    memcpy(&x, a->row, sizeof x);
    memcpy(&y, b->row, sizeof y);
    uint32_t from = skip + 8;
    uint32_t xn = x.key_len > from ? x.key_len - from : 0, yn = y.key_len > from ? y.key_len - from : 0;
    int order = xn && yn ? memcmp(a->row + 32 + from, b->row + 32 + from, xn < yn ? xn : yn) : 0;
    return order ? order : xn < yn ? -1 : xn > yn;
}

/* Stable: rows of one key keep the order they came in. Bottom-up merges over runs of `items`. */
static inline void lj_entries_sort(LjEntries *e) {
    int sorted = 1;
    for (size_t i = 0; i < e->len; i++) {
        LjRowHead head;
        memcpy(&head, e->items[i].row, sizeof head);
        e->items[i].prefix = lj_key_prefix(e->items[i].row + sizeof head, head.key_len, e->common);
        sorted = sorted && (!i || lj_entry_order(&e->items[i - 1], &e->items[i], e->common) <= 0);
    }
    if (sorted)
        return;
    LjEntry *from = e->items, *to = e->spare;
    for (size_t run = 1; run < e->len; run *= 2) {
        for (size_t start = 0; start < e->len; start += 2 * run) {
            size_t mid = start + run < e->len ? start + run : e->len;
            size_t end = start + 2 * run < e->len ? start + 2 * run : e->len;
            size_t a = start, b = mid, out = start;
            while (a < mid && b < end)
                to[out++] = lj_entry_order(&from[b], &from[a], e->common) < 0 ? from[b++] : from[a++];
            while (a < mid)
                to[out++] = from[a++];
            while (b < end)
                to[out++] = from[b++];
        }
        LjEntry *swap = from;
        from = to;
        to = swap;
    }
    e->items = from;
    e->spare = to;
}

/* The row that the entries from `at` with one key amount to; `*next` is the first entry after them.
 * Last wins, but an expiry deletes only what is not newer than it, and an exact one nothing that a row of
 * the same flush wrote. */
static inline LjRow lj_fold(const LjEntries *e, size_t at, size_t *next) {
    LjRow row = lj_row_at(e->items[at].row);
    row.hash = e->items[at].hash;
    size_t i = at + 1;
    for (; i < e->len && lj_entry_order(&e->items[at], &e->items[i], e->common) == 0; i++) {
        LjRow later = lj_row_at(e->items[i].row);
        later.hash = e->items[i].hash;
        if (!(later.head.flags & LJ_EXPIRE)) {
            row = later;
        } else if ((later.head.flags | row.head.flags) & LJ_EXACT) {
            continue; /* what it leaves is found expired again */
        } else if (row.head.flags & LJ_EXPIRE) {
            if (later.head.timestamp_ms > row.head.timestamp_ms)
                row = later;
        } else if (row.head.kind == LJ_UPSERT && row.head.timestamp_ms <= later.head.timestamp_ms) {
            row = later;
            row.head.flags = 0;
        }
    }
    *next = i;
    return row;
}
#endif
