/* Paths whose values do not count as a change: `fetched_at`, `meta.seen`, `items.#.rank`, `tags.0`.
 *
 * Which patterns are still possible at a place of a value is a bit mask that goes down with the walk. A
 * member or element that a whole pattern names is treated as absent. */
#ifndef LJ_JSON_IGNORE_H
#define LJ_JSON_IGNORE_H
#include <stdint.h>
#include <string.h>

#define LJ_IGNORE_MAX 64 /* patterns: bits of the mask */

typedef struct {
    const uint8_t *text;
    size_t size;
    int64_t index; /* the element a numeric segment names in an array; -1: none */
    int every;     /* "#": each element of an array */
} lj_segment;

typedef struct {
    const lj_segment *segments;
    const uint32_t *first; /* pattern i is segments[first[i]] .. segments[first[i + 1] - 1] */
    uint32_t patterns;
} lj_ignore;

static inline uint64_t lj_ignore_all(const lj_ignore *ignore) {
    if (ignore == NULL || ignore->patterns == 0) return 0;
    return ignore->patterns == 64 ? ~0ULL : (1ULL << ignore->patterns) - 1;
}

/* The mask below a member (`index` -1) or element of a container at `depth` (0: the record itself);
 * `*drop` becomes 1 when this very place is ignored. */
static inline uint64_t lj_ignore_step(const lj_ignore *ignore, uint64_t live, uint32_t depth,
                                      const uint8_t *name, size_t size, int64_t index, int *drop) {
    uint64_t below = 0;
    *drop = 0;
    while (live) {
        uint32_t i = (uint32_t)__builtin_ctzll(live);
        const lj_segment *segment = &ignore->segments[ignore->first[i] + depth];
        int match;
        live &= live - 1;
        if (index >= 0) match = segment->every || segment->index == index;
        else match = segment->size == size && memcmp(segment->text, name, size) == 0;
        if (!match) continue;
        if (ignore->first[i] + depth + 1 == ignore->first[i + 1]) *drop = 1;
        else below |= 1ULL << i;
    }
    return below;
}
#endif
