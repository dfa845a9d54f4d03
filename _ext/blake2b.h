/* BLAKE2b (RFC 7693) without a key: the hash that ids of results are made of (litejoin/records.py).
 *
 * lj_blake_begin, lj_blake_add (any number of times), lj_blake_end; a state may be copied in between. */
#ifndef LJ_BLAKE2B_H
#define LJ_BLAKE2B_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t h[8];
    uint64_t bytes;
    uint8_t block[128];
    size_t held, digest;
} LjBlake;

static const uint64_t LJ_BLAKE_IV[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

static const uint8_t LJ_BLAKE_ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static inline uint64_t lj_blake_turn(uint64_t v, int n) {
    return v >> n | v << (64 - n);
}

static inline void lj_blake_mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y) {
    v[a] += v[b] + x;
    v[d] = lj_blake_turn(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = lj_blake_turn(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = lj_blake_turn(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = lj_blake_turn(v[b] ^ v[c], 63);
}

static inline void lj_blake_block(LjBlake *s, int is_last) {
    uint64_t v[16], m[16];
    memcpy(m, s->block, sizeof m); /* little endian, as every machine we run on */
    memcpy(v, s->h, sizeof s->h);
    memcpy(v + 8, LJ_BLAKE_IV, sizeof LJ_BLAKE_IV);
    v[12] ^= s->bytes;
    if (is_last)
        v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *o = LJ_BLAKE_ORDER[round % 10];
        for (int i = 0; i < 4; i++)
            lj_blake_mix(v, i, 4 + i, 8 + i, 12 + i, m[o[2 * i]], m[o[2 * i + 1]]);
        for (int i = 0; i < 4; i++)
            lj_blake_mix(v, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[o[8 + 2 * i]], m[o[9 + 2 * i]]);
    }
    for (int i = 0; i < 8; i++)
        s->h[i] ^= v[i] ^ v[8 + i];
}

static inline void lj_blake_begin(LjBlake *s, size_t digest) {
    memset(s, 0, sizeof *s);
    memcpy(s->h, LJ_BLAKE_IV, sizeof s->h);
    s->h[0] ^= 0x01010000 ^ digest;
    s->digest = digest;
}

/* A full block is kept until more comes: the last one is marked. */
static inline void lj_blake_add(LjBlake *s, const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    while (size) {
        if (s->held == sizeof s->block) {
            s->bytes += s->held;
            lj_blake_block(s, 0);
            s->held = 0;
        }
        size_t taken = sizeof s->block - s->held < size ? sizeof s->block - s->held : size;
        memcpy(s->block + s->held, at, taken);
        s->held += taken;
        at += taken;
        size -= taken;
    }
}

/* `hex` gets two letters for each byte of the digest. */
static inline void lj_blake_end(LjBlake *s, char *hex) {
    s->bytes += s->held;
    memset(s->block + s->held, 0, sizeof s->block - s->held);
    lj_blake_block(s, 1);
    const uint8_t *digest = (const uint8_t *)s->h;
    for (size_t i = 0; i < s->digest; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
}
#endif
