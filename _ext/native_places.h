/* Row ids by key, of topics that joins look up by key: a row that is not in the cache is read by its id, one
 * descent into the table, where the index on `key` would take another before it.
 *
 * A hint and no more: the row that is read tells whether it has the key, and a key that is not here is looked
 * up in the index. So 8 bytes do for a row: half of the key's hash, and half of an id (the shard follows from
 * the key). Open addressing with linear probing; what would take too long to find, because many keys were
 * made to have one hash, is not kept. */
#ifndef LJ_NATIVE_PLACES_H
#define LJ_NATIVE_PLACES_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LJ_PLACES_PROBES = 256, LJ_PLACES_EQUAL = 4 };

typedef struct { uint32_t hash, id; } LjPlaced; /* id 0: free */
typedef struct { LjPlaced *slots; uint64_t mask, used; } LjPlaces;

static inline uint32_t lj_places_half(uint64_t key_hash) { return (uint32_t)(key_hash >> 32); }

static inline uint64_t lj_places_bytes(const LjPlaces *p) { return p->slots ? (p->mask + 1) * sizeof(LjPlaced) : 0; }

/* The ids that a key may have, LJ_PLACES_EQUAL at most; returns how many. */
static inline int lj_places_find(const LjPlaces *p, uint64_t key_hash, int64_t *ids) {
    uint32_t hash = lj_places_half(key_hash);
    int n = 0;
    if (!p->slots) return 0;
    for (uint64_t i = hash, end = i + LJ_PLACES_PROBES; i < end && p->slots[i & p->mask].id; i++) {
        const LjPlaced *slot = &p->slots[i & p->mask];
        if (slot->hash == hash && n < LJ_PLACES_EQUAL) ids[n++] = slot->id;
    }
    return n;
}

/* Where a pair is, or the free slot where it belongs; NULL: nowhere, for the reasons above. */
static inline LjPlaced *lj_places_slot(const LjPlaces *p, uint32_t hash, uint32_t id) {
    int equal = 0;
    for (uint64_t i = hash, end = i + LJ_PLACES_PROBES; i < end; i++) {
        LjPlaced *slot = &p->slots[i & p->mask];
        if (!slot->id || (slot->hash == hash && slot->id == id)) return slot;
        equal += slot->hash == hash;
        if (equal == LJ_PLACES_EQUAL) return NULL;
    }
    return NULL;
}

static inline int lj_places_grow(LjPlaces *p) {
    LjPlaces bigger = {NULL, p->slots ? p->mask * 2 + 1 : 63, 0};
    bigger.slots = (LjPlaced *)calloc(bigger.mask + 1, sizeof(LjPlaced));
    if (!bigger.slots) return -1;
    for (uint64_t i = 0; p->slots && i <= p->mask; i++) {
        LjPlaced *slot = p->slots[i].id ? lj_places_slot(&bigger, p->slots[i].hash, p->slots[i].id) : NULL;
        if (!slot) continue;
        *slot = p->slots[i];
        bigger.used++;
    }
    free(p->slots);
    *p = bigger;
    return 0;
}

/* Note the id of a key; the same pair may come again. Without memory the key stays unknown. */
static inline void lj_places_add(LjPlaces *p, uint64_t key_hash, int64_t id) {
    if (id <= 0 || id > UINT32_MAX) return;
    if ((!p->slots || (p->used + 1) * 4 > (p->mask + 1) * 3) && lj_places_grow(p)) return;
    LjPlaced *slot = lj_places_slot(p, lj_places_half(key_hash), (uint32_t)id);
    if (!slot || slot->id) return;
    *slot = (LjPlaced){lj_places_half(key_hash), (uint32_t)id};
    p->used++;
}

/* Forget a pair, if it is there; those behind it move up, so that no free slot hides them. */
static inline void lj_places_remove(LjPlaces *p, uint64_t key_hash, int64_t id) {
    if (!p->slots || id <= 0 || id > UINT32_MAX) return;
    LjPlaced *slot = lj_places_slot(p, lj_places_half(key_hash), (uint32_t)id);
    if (!slot || !slot->id) return;
    uint64_t hole = (uint64_t)(slot - p->slots);
    p->used--;
    for (uint64_t i = (hole + 1) & p->mask; p->slots[i].id; i = (i + 1) & p->mask) {
        if (((i - p->slots[i].hash) & p->mask) < ((i - hole) & p->mask)) continue;
        p->slots[hole] = p->slots[i];
        hole = i;
    }
    p->slots[hole].id = 0;
}

static inline void lj_places_clear(LjPlaces *p) {
    free(p->slots);
    memset(p, 0, sizeof *p);
}
#endif
