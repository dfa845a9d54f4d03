/* XXH64, written from the public specification (doc/xxhash_spec.md of the xxHash project).
 *
 * lj_xxh64(data, size, seed): the 64-bit hash of `size` bytes. Reads little endian words, so the value
 * is the same on every platform. `data` may be NULL when `size` is 0. Never allocates. */
#ifndef LJ_XXH64_H
#define LJ_XXH64_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LJ_XXH_P1 0x9E3779B185EBCA87ULL
#define LJ_XXH_P2 0xC2B2AE3D27D4EB4FULL
#define LJ_XXH_P3 0x165667B19E3779F9ULL
#define LJ_XXH_P4 0x85EBCA77C2B2AE63ULL
#define LJ_XXH_P5 0x27D4EB2F165667C5ULL

static inline uint64_t lj_rotl64(uint64_t x, int r) { return (x << r) | (x >> (64 - r)); }

static inline uint64_t lj_load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline uint32_t lj_load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

static inline uint64_t lj_xxh64_round(uint64_t acc, uint64_t lane) {
    return lj_rotl64(acc + lane * LJ_XXH_P2, 31) * LJ_XXH_P1;
}

static inline uint64_t lj_xxh64_merge(uint64_t acc, uint64_t v) {
    return (acc ^ lj_xxh64_round(0, v)) * LJ_XXH_P1 + LJ_XXH_P4;
}

static inline uint64_t lj_xxh64(const void *data, size_t size, uint64_t seed) {
    const uint8_t *p = (const uint8_t *)data;
    size_t left = size;
    uint64_t h;
    if (size >= 32) {
        uint64_t a = seed + LJ_XXH_P1 + LJ_XXH_P2, b = seed + LJ_XXH_P2, c = seed, d = seed - LJ_XXH_P1;
        for (; left >= 32; left -= 32, p += 32) {
            a = lj_xxh64_round(a, lj_load64(p));
            b = lj_xxh64_round(b, lj_load64(p + 8));
            c = lj_xxh64_round(c, lj_load64(p + 16));
            d = lj_xxh64_round(d, lj_load64(p + 24));
        }
        h = lj_rotl64(a, 1) + lj_rotl64(b, 7) + lj_rotl64(c, 12) + lj_rotl64(d, 18);
        h = lj_xxh64_merge(h, a);
        h = lj_xxh64_merge(h, b);
        h = lj_xxh64_merge(h, c);
        h = lj_xxh64_merge(h, d);
    } else {
        h = seed + LJ_XXH_P5;
    }
    h += (uint64_t)size;
    for (; left >= 8; left -= 8, p += 8)
        h = lj_rotl64(h ^ lj_xxh64_round(0, lj_load64(p)), 27) * LJ_XXH_P1 + LJ_XXH_P4;
    if (left >= 4) {
        h = lj_rotl64(h ^ ((uint64_t)lj_load32(p) * LJ_XXH_P1), 23) * LJ_XXH_P2 + LJ_XXH_P3;
        left -= 4;
        p += 4;
    }
    for (; left; left--, p++)
        h = lj_rotl64(h ^ (*p * LJ_XXH_P5), 11) * LJ_XXH_P1;
    h = (h ^ (h >> 33)) * LJ_XXH_P2;
    h = (h ^ (h >> 29)) * LJ_XXH_P3;
    return h ^ (h >> 32);
}
#endif
