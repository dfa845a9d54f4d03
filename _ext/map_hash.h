/* The hash of the engine's maps, which live in memory only: keyed with a secret of the process, because
 * whoever sends messages chooses the keys. Of a hash that is known, thousands of keys with one value are made
 * in seconds, and every look-up of one of them would go through all of them; a seed alone does not help
 * XXH64, whose lanes let differences through whatever they start with.
 *
 * wyhash, final version 4, with a random secret, written from its public description
 * (https://github.com/wangyi-fudan/wyhash; the hash of Go's and Zig's maps is of the same kind).
 *
 * lj_map_hash(data, size, tag): values of different tags are different values. Each native module has its own
 * copy of the secret and sets it once with lj_set_map_secret(bridge.map_secret()), before the first map. */
#ifndef LJ_MAP_HASH_H
#define LJ_MAP_HASH_H
#include "xxh64.h"

enum { LJ_MAP_SECRET_WORDS = 4 };
static uint64_t lj_map_secret[LJ_MAP_SECRET_WORDS];

static inline void lj_set_map_secret(const char *secret) { memcpy(lj_map_secret, secret, sizeof lj_map_secret); }

static inline uint64_t lj_map_mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t lj_map_hash(const void *data, size_t size, uint64_t tag) {
    const uint8_t *p = (const uint8_t *)data;
    const uint64_t *secret = lj_map_secret;
    uint64_t a = 0, b = 0, seed = tag ^ lj_map_mix(tag ^ secret[0], secret[1]);
    if (size > 16) {
        size_t left = size;
        if (left > 48) {
            uint64_t second = seed, third = seed;
            for (; left > 48; left -= 48, p += 48) {
                seed = lj_map_mix(lj_load64(p) ^ secret[1], lj_load64(p + 8) ^ seed);
                second = lj_map_mix(lj_load64(p + 16) ^ secret[2], lj_load64(p + 24) ^ second);
                third = lj_map_mix(lj_load64(p + 32) ^ secret[3], lj_load64(p + 40) ^ third);
            }
            seed ^= second ^ third;
        }
        for (; left > 16; left -= 16, p += 16)
            seed = lj_map_mix(lj_load64(p) ^ secret[1], lj_load64(p + 8) ^ seed);
        a = lj_load64(p + left - 16);
        b = lj_load64(p + left - 8);
    } else if (size >= 4) {
        size_t middle = (size >> 3) << 2;
        a = ((uint64_t)lj_load32(p) << 32) | lj_load32(p + middle);
        b = ((uint64_t)lj_load32(p + size - 4) << 32) | lj_load32(p + size - 4 - middle);
    } else if (size) {
        a = ((uint64_t)p[0] << 16) | ((uint64_t)p[size >> 1] << 8) | p[size - 1];
    }
    unsigned __int128 product = (unsigned __int128)(a ^ secret[1]) * (b ^ seed);
    return lj_map_mix((uint64_t)product ^ secret[0] ^ size, (uint64_t)(product >> 64) ^ secret[1]);
}
#endif
