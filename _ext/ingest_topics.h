/* Topic names to catalogue numbers: a small open-addressing table that a scan reads without the GIL.
 *
 * Only grows. The owner never adds while a scan runs.
 */
#ifndef LJ_INGEST_TOPICS_H
#define LJ_INGEST_TOPICS_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LJ_TOPIC_MAX_BYTES 128 /* security.md: [A-Za-z_][A-Za-z0-9_.-]{0,127} */

typedef struct {
    uint8_t size; /* 0: free */
    uint8_t name[LJ_TOPIC_MAX_BYTES];
    uint16_t number;
} lj_topic;

typedef struct {
    lj_topic *slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t used;
} lj_topics;

static inline int lj_topic_name_ok(const uint8_t *name, size_t size) {
    size_t i;
    if (size == 0 || size > LJ_TOPIC_MAX_BYTES) return 0;
    for (i = 0; i < size; i++) {
        uint8_t c = name[i];
        int letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        int later = (c >= '0' && c <= '9') || c == '.' || c == '-';
        if (!letter && !(later && i > 0)) return 0;
    }
    return 1;
}

/* The slot that holds the name, or the free one where it belongs; the table is never full. */
static inline lj_topic *lj_topics_slot(const lj_topics *t, const uint8_t *name, size_t size) {
    uint32_t hash = 2166136261u, at;
    size_t i;
    for (i = 0; i < size; i++) hash = (hash ^ name[i]) * 16777619u;
    for (at = hash & (t->capacity - 1); t->slots[at].size; at = (at + 1) & (t->capacity - 1))
        if (t->slots[at].size == size && memcmp(t->slots[at].name, name, size) == 0) break;
    return &t->slots[at];
}

static inline const lj_topic *lj_topics_find(const lj_topics *t, const uint8_t *name, size_t size) {
    const lj_topic *slot;
    if (t->capacity == 0 || size == 0 || size > LJ_TOPIC_MAX_BYTES) return NULL;
    slot = lj_topics_slot(t, name, size);
    return slot->size ? slot : NULL;
}

static inline int lj_topics_grow(lj_topics *t) {
    lj_topics wider = {NULL, t->capacity ? t->capacity * 2 : 16, t->used};
    uint32_t i;
    wider.slots = (lj_topic *)calloc(wider.capacity, sizeof(lj_topic));
    if (wider.slots == NULL) return 0;
    for (i = 0; i < t->capacity; i++)
        if (t->slots[i].size)
            *lj_topics_slot(&wider, t->slots[i].name, t->slots[i].size) = t->slots[i];
    free(t->slots);
    *t = wider;
    return 1;
}

/* Add or renumber a topic whose name passed lj_topic_name_ok; 0 when memory is out. */
static inline int lj_topics_put(lj_topics *t, const uint8_t *name, size_t size, uint16_t number) {
    lj_topic *slot;
    if ((t->used + 1) * 2 > t->capacity && !lj_topics_grow(t)) return 0;
    slot = lj_topics_slot(t, name, size);
    t->used += slot->size == 0;
    slot->size = (uint8_t)size;
    memcpy(slot->name, name, size);
    slot->number = number;
    return 1;
}

#endif
