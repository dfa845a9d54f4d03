/* The checksum of a stored row (column `checksum` of t<N> and s<N>).
 *
 * A chain of XXH64, each part seeded with the hash before it, the first with 0:
 *     head     32 bytes, little endian: u32 table, u32 kind (0 topic row, 1 state row),
 *              i64 timestamp_ms, u32 key_len, u32 payload_len, u32 extra_len (0xffffffff: NULL), u32 0
 *     key, payload, extra (left out when NULL)
 *     op       u64, little endian: last, since the writer learns it last
 * State rows have op 0 and timestamp 0; their `extra` is the record's hash. The row id is not part of
 * it: it names the place, not the content. SQLite stores the value as a signed 64-bit integer. */
#ifndef LJ_ROWSUM_H
#define LJ_ROWSUM_H
#include "xxh64.h"

#define LJ_NO_EXTRA 0xffffffffu

static inline void lj_store64(uint8_t *p, uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, 8);
}

/* Everything but the op. */
static inline uint64_t lj_row_hash(uint32_t kind, uint32_t table, int64_t timestamp_ms,
                                   const void *key, uint32_t key_len,
                                   const void *payload, uint32_t payload_len,
                                   const void *extra, uint32_t extra_len) {
    uint8_t head[32];
    lj_store64(head, (uint64_t)table | (uint64_t)kind << 32);
    lj_store64(head + 8, (uint64_t)timestamp_ms);
    lj_store64(head + 16, (uint64_t)key_len | (uint64_t)payload_len << 32);
    lj_store64(head + 24, extra_len);
    uint64_t h = lj_xxh64(head, sizeof head, 0);
    h = lj_xxh64(key, key_len, h);
    h = lj_xxh64(payload, payload_len, h);
    return extra_len == LJ_NO_EXTRA ? h : lj_xxh64(extra, extra_len, h);
}

static inline int64_t lj_row_seal(uint64_t hash, uint32_t op) {
    uint8_t tail[8];
    lj_store64(tail, op);
    return (int64_t)lj_xxh64(tail, sizeof tail, hash);
}

static inline int64_t lj_row_checksum(uint32_t kind, uint32_t table, uint32_t op, int64_t timestamp_ms,
                                      const void *key, uint32_t key_len,
                                      const void *payload, uint32_t payload_len,
                                      const void *extra, uint32_t extra_len) {
    return lj_row_seal(lj_row_hash(kind, table, timestamp_ms, key, key_len, payload, payload_len,
                                   extra, extra_len), op);
}
#endif
