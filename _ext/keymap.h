/* keymap: 64-bit hash of a value -> the rows that have it. 16 bytes a row while values are unique.
 *
 * Open addressing with linear probing and backward-shift deletion (Knuth, TAOCP vol. 3, 6.4, algorithm R).
 * A slot holds one reference inline, or a pointer (top bit set) to a growable list when several rows share
 * the hash; so a hot value costs O(1) to add and a scan of its own list to remove, never a long probe.
 * A reference is a nonzero number below 2^63; what it means is the caller's. Not thread-safe; pointers from
 * km_find are valid until the next change.
 */
#ifndef LJ_KEYMAP_H
#define LJ_KEYMAP_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KM_LIST ((uint64_t)1 << 63)

typedef struct { uint64_t hash, ref; } KmSlot;
typedef struct { uint32_t n, cap; uint64_t refs[]; } KmList;
typedef struct { KmSlot *slots; uint64_t mask, used; uint64_t list_bytes; } KeyMap;

static inline KmList *km_list(uint64_t ref) { return (KmList *)(uintptr_t)(ref & ~KM_LIST); }

static inline void km_clear(KeyMap *m) {
    if (m->slots)
        for (uint64_t i = 0; i <= m->mask; i++)
            if (m->slots[i].ref & KM_LIST) free(km_list(m->slots[i].ref));
    free(m->slots);
    memset(m, 0, sizeof *m);
}

static inline uint64_t km_bytes(const KeyMap *m) {
    return m->slots ? (m->mask + 1) * sizeof(KmSlot) + m->list_bytes : 0;
}

/* The slot that holds `hash`, or the empty slot where it belongs. */
static inline KmSlot *km_slot(const KeyMap *m, uint64_t hash) {
    uint64_t i = hash & m->mask;
    while (m->slots[i].ref && m->slots[i].hash != hash) i = (i + 1) & m->mask;
    return &m->slots[i];
}

/* 0, or -1 when memory ran out (the map is unchanged). */
static inline int km_grow(KeyMap *m) {
    uint64_t size = m->slots ? (m->mask + 1) * 2 : 64;
    KmSlot *slots = (KmSlot *)calloc(size, sizeof(KmSlot));
    if (!slots) return -1;
    KeyMap bigger = {slots, size - 1, m->used, m->list_bytes};
    if (m->slots)
        for (uint64_t i = 0; i <= m->mask; i++)
            if (m->slots[i].ref) *km_slot(&bigger, m->slots[i].hash) = m->slots[i];
    free(m->slots);
    *m = bigger;
    return 0;
}

static inline int km_add(KeyMap *m, uint64_t hash, uint64_t ref) {
    if (!m->slots || (m->used + 1) * 4 > (m->mask + 1) * 3)
        if (km_grow(m)) return -1;
    KmSlot *slot = km_slot(m, hash);
    if (!slot->ref) {
        slot->hash = hash;
        slot->ref = ref;
        m->used++;
        return 0;
    }
    KmList *list;
    if (!(slot->ref & KM_LIST)) {
        list = (KmList *)malloc(sizeof(KmList) + 4 * sizeof(uint64_t));
        if (!list) return -1;
        list->n = 1;
        list->cap = 4;
        list->refs[0] = slot->ref;
        m->list_bytes += sizeof(KmList) + 4 * sizeof(uint64_t);
    } else {
        list = km_list(slot->ref);
        if (list->n == list->cap) {
            KmList *more = (KmList *)realloc(list, sizeof(KmList) + 2ull * list->cap * sizeof(uint64_t));
            if (!more) return -1;
            m->list_bytes += (uint64_t)more->cap * sizeof(uint64_t);
            more->cap *= 2;
            list = more;
        }
    }
    list->refs[list->n++] = ref;
    slot->ref = (uint64_t)(uintptr_t)list | KM_LIST;
    return 0;
}

static inline void km_vacate(KeyMap *m, KmSlot *slot) {
    uint64_t hole = (uint64_t)(slot - m->slots), i = hole;
    m->used--;
    for (;;) {
        i = (i + 1) & m->mask;
        if (!m->slots[i].ref) break;
        uint64_t home = m->slots[i].hash & m->mask;
        if (((i - home) & m->mask) >= ((i - hole) & m->mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].ref = 0;
}

/* Remove one (hash, ref) pair; does nothing when it is not there. */
static inline void km_remove(KeyMap *m, uint64_t hash, uint64_t ref) {
    if (!m->slots) return;
    KmSlot *slot = km_slot(m, hash);
    if (!slot->ref) return;
    if (!(slot->ref & KM_LIST)) {
        if (slot->ref == ref) km_vacate(m, slot);
        return;
    }
    KmList *list = km_list(slot->ref);
    /* From the back: what was added last is what changes most. */
    for (uint32_t i = list->n; i-- > 0;)
        if (list->refs[i] == ref) {
            list->refs[i] = list->refs[--list->n];
            break;
        }
    if (list->n == 1) {
        slot->ref = list->refs[0];
        m->list_bytes -= sizeof(KmList) + (uint64_t)list->cap * sizeof(uint64_t);
        free(list);
    }
}

/* The references of `hash`; returns how many. */
static inline uint32_t km_find(const KeyMap *m, uint64_t hash, const uint64_t **refs) {
    if (!m->slots) return 0;
    KmSlot *slot = km_slot(m, hash);
    if (!slot->ref) return 0;
    if (slot->ref & KM_LIST) {
        KmList *list = km_list(slot->ref);
        *refs = list->refs;
        return list->n;
    }
    *refs = &slot->ref;
    return 1;
}
#endif
