/* FNV-1a, 32 bits (draft-eastlake-fnv): which shard a key lives in. Changing this function moves every
 * stored key, so its name is written in the manifest ("fnv1a32"). */
#ifndef LJ_FNV_H
#define LJ_FNV_H
#include <stddef.h>
#include <stdint.h>

static inline uint32_t lj_fnv1a32(const void *data, size_t size) {
    const uint8_t *p = (const uint8_t *)data;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}
#endif
