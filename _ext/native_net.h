/* The changes of a flush by key, and rows as they were in between: what delta rules of several references
 * need.
 *
 * A key may change several times in the flushes that are evaluated together: its net change leads from the
 * first old version to the last new one. Built when first asked for, dropped with the next changes. */
#ifndef LJ_NATIVE_NET_H
#define LJ_NATIVE_NET_H
#include "change_row.h"
#include "keymap.h"
#include "map_hash.h"
#include "topic_host.h"

typedef struct { LjSlice key; const LjVersion *old, *now; } LjNetChange;

typedef struct {
    LjNetChange *items;
    uint32_t n, cap;
    KeyMap by_key; /* lj_map_hash of the key, tag 1 -> item + 1 */
    KeyMap by_ref; /* hash of the row reference -> item + 1 */
    int is_ready, is_elided; /* elided: a new version is not at hand */
} LjNet;

static inline uint64_t lj_ref_hash(uint64_t ref) { return lj_map_hash(&ref, sizeof ref, 0); }

static inline uint32_t lj_net_find(const LjNet *net, LjSlice key) {
    const uint64_t *refs;
    uint32_t n = km_find(&net->by_key, lj_map_hash(key.at, key.len, 1), &refs);
    for (uint32_t i = 0; i < n; i++) {
        const LjNetChange *item = &net->items[refs[i] - 1];
        if (item->key.len == key.len && memcmp(item->key.at, key.at, key.len) == 0) return (uint32_t)refs[i];
    }
    return 0;
}

/* The item of a row that a key map refers to, + 1; 0: the flush has not changed it. */
static inline uint32_t lj_net_find_ref(const LjNet *net, uint64_t ref) {
    const uint64_t *refs;
    return km_find(&net->by_ref, lj_ref_hash(ref), &refs) ? (uint32_t)refs[0] : 0;
}

static inline int lj_net_add(LjNet *net, const LjChangeRow *change) {
    uint32_t found = lj_net_find(net, change->old.key);
    LjNetChange *item;
    if (!found) {
        if (net->n == net->cap) {
            LjNetChange *more = (LjNetChange *)realloc(net->items, ((size_t)net->cap * 2 + 64) * sizeof(LjNetChange));
            if (!more) return -1;
            net->items = more;
            net->cap = net->cap * 2 + 64;
        }
        found = ++net->n;
        item = &net->items[found - 1];
        item->key = change->old.key;
        item->old = change->flags & LJ_HAS_OLD ? &change->old : NULL;
        if (km_add(&net->by_key, lj_map_hash(item->key.at, item->key.len, 1), found)) return -1;
    }
    item = &net->items[found - 1];
    item->now = change->flags & LJ_HAS_NEW ? &change->now : NULL;
    uint64_t ref = (uint64_t)change->shard << LJ_SHARD_SHIFT | (uint64_t)change->rowid;
    if (item->now && change->flags & LJ_ELIDED) net->is_elided = 1;
    return item->now && lj_net_find_ref(net, ref) != found ? km_add(&net->by_ref, lj_ref_hash(ref), found) : 0;
}

static inline void lj_net_clear(LjNet *net) {
    net->n = 0;
    net->is_ready = net->is_elided = 0;
    km_clear(&net->by_key);
    km_clear(&net->by_ref);
}

static inline void lj_net_free(LjNet *net) {
    lj_net_clear(net);
    free(net->items);
    memset(net, 0, sizeof *net);
}

/* 0, or -1 when memory is out. */
static inline int lj_net_make(LjNet *net, const LjTopic *topic) {
    if (net->is_ready) return 0;
    lj_net_clear(net);
    for (uint32_t i = 0; i < topic->n_changes; i++)
        if (lj_net_add(net, &topic->changes[i])) return -1;
    net->is_ready = 1;
    return 0;
}
#endif
