/* The newest versions of rows that joins look up by key, in a ring of fixed size: what is oldest is
 * overwritten. Filled from change sets and from reads, so an entry is always the row as of the changes taken
 * in; a row that is not here is read from its shard. An entry may move or go with every put. */
#ifndef LJ_NATIVE_CACHE_H
#define LJ_NATIVE_CACHE_H
#include "map_hash.h"
#include "topic_host.h"

typedef struct {
    uint64_t hash;
    uint32_t size; /* of the whole entry, a multiple of 8; the rest of the ring is skipped by size 0 */
    uint16_t topic;
    uint8_t updated, dead;
    uint32_t key_len, payload_len, changes_len, has_changes;
    int64_t timestamp_ms;
    char bytes[];
} LjCached;

typedef struct {
    uint8_t *ring;
    size_t bytes; /* of the ring: a fixed size, made when first used */
    size_t head, tail; /* the oldest entry is at tail; head == tail: empty */
    int wrapped;       /* head is behind tail: [tail, last) and [0, head) are in use */
    size_t last;
    KeyMap by_key;     /* hash -> offset + 8 */
    uint64_t hits, misses; /* of lj_cache_get */
} LjCache;

static inline uint64_t lj_cache_hash(uint16_t topic, LjSlice key) { return lj_map_hash(key.at, key.len, topic + 1ull); }

static inline LjCached *lj_cache_at(const LjCache *c, size_t at) { return (LjCached *)(c->ring + at); }

static inline LjCached *lj_cache_find(const LjCache *c, uint16_t topic, LjSlice key, uint64_t hash) {
    const uint64_t *refs;
    uint32_t n = km_find(&c->by_key, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        LjCached *e = lj_cache_at(c, refs[i] - 8);
        if (e->topic == topic && e->key_len == key.len && memcmp(e->bytes, key.at, key.len) == 0) return e;
    }
    return NULL;
}

static inline void lj_cache_kill(LjCache *c, LjCached *e) {
    km_remove(&c->by_key, e->hash, (uint64_t)((uint8_t *)e - c->ring) + 8);
    e->dead = 1;
}

static inline void lj_cache_drop(LjCache *c, uint16_t topic, LjSlice key) {
    LjCached *e = c->ring ? lj_cache_find(c, topic, key, lj_cache_hash(topic, key)) : NULL;
    if (e) lj_cache_kill(c, e);
}

static inline void lj_cache_forget_oldest(LjCache *c) {
    LjCached *e = lj_cache_at(c, c->tail);
    if (!e->dead) lj_cache_kill(c, e);
    c->tail += e->size;
    if (c->wrapped && c->tail == c->last) {
        c->tail = 0;
        c->wrapped = 0;
    }
}

/* Room for `size` bytes at head, or NULL when there can be none. */
static inline LjCached *lj_cache_room(LjCache *c, size_t size) {
    if (!c->ring && !(c->ring = (uint8_t *)malloc(c->bytes))) return NULL;
    if (size > c->bytes / 8) return NULL;
    for (;;) {
        if (c->wrapped) {
            if (c->tail - c->head >= size) break;
            lj_cache_forget_oldest(c);
        } else {
            if (c->bytes - c->head >= size) break;
            c->last = c->head;
            c->wrapped = c->tail != c->last; /* else nothing is left in it */
            c->head = 0;
            if (!c->wrapped) c->tail = 0;
        }
    }
    return lj_cache_at(c, c->head);
}

/* Remember a row in place of an older version. A row that cannot be kept is only not kept. */
static inline void lj_cache_put(LjCache *c, uint16_t topic, const LjVersion *row) {
    size_t size = (sizeof(LjCached) + row->key.len + row->payload.len + row->changes.len + 7) & ~(size_t)7;
    uint64_t hash = lj_cache_hash(topic, row->key);
    LjCached *e;
    lj_cache_drop(c, topic, row->key);
    e = lj_cache_room(c, size);
    if (!e || km_add(&c->by_key, hash, c->head + 8)) return;
    e->hash = hash;
    e->size = (uint32_t)size;
    e->topic = topic;
    e->updated = (uint8_t)row->updated;
    e->dead = 0;
    e->key_len = row->key.len;
    e->payload_len = row->payload.len;
    e->changes_len = row->changes.len;
    e->has_changes = row->changes.at != NULL;
    e->timestamp_ms = row->timestamp_ms;
    memcpy(e->bytes, row->key.at, row->key.len);
    memcpy(e->bytes + row->key.len, row->payload.at, row->payload.len);
    if (row->changes.len) memcpy(e->bytes + row->key.len + row->payload.len, row->changes.at, row->changes.len);
    c->head += size;
}

/* `hash`: lj_cache_hash of both. */
static inline int lj_cache_get(LjCache *c, uint16_t topic, LjSlice key, uint64_t hash, LjVersion *out) {
    LjCached *e = c->ring ? lj_cache_find(c, topic, key, hash) : NULL;
    if (!e) {
        c->misses++;
        return 0;
    }
    c->hits++;
    out->key.at = e->bytes;
    out->key.len = e->key_len;
    out->payload.at = e->bytes + e->key_len;
    out->payload.len = e->payload_len;
    out->changes.at = e->has_changes ? e->bytes + e->key_len + e->payload_len : NULL;
    out->changes.len = e->changes_len;
    out->timestamp_ms = e->timestamp_ms;
    out->updated = e->updated;
    return 1;
}

/* Bytes of the ring in use, and of the map over it. */
static inline size_t lj_cache_bytes(const LjCache *c) {
    return (c->wrapped ? c->last - c->tail + c->head : c->head - c->tail) + (size_t)km_bytes(&c->by_key);
}

static inline void lj_cache_free(LjCache *c) {
    km_clear(&c->by_key);
    free(c->ring);
    memset(c, 0, sizeof *c);
}
#endif
