/* One change row of a flush, as the batch writer packs it (litejoin/store/changes.py has the table).
 * lj_read_change checks every length against the bytes that are there, so a cut buffer is an error. */
#ifndef LJ_CHANGE_ROW_H
#define LJ_CHANGE_ROW_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    LJ_HAS_NEW = 1, LJ_HAS_OLD = 2, LJ_NEW_UPDATED = 4, LJ_OLD_UPDATED = 8,
    LJ_NEW_CHANGES = 16, LJ_OLD_CHANGES = 32, LJ_NEW_ELIDED = 64
};
#define LJ_CHANGE_HEADER 56u

typedef struct { const char *at; uint32_t len; } LjSlice;

/* One version of a row: what a topic table shows. `changes.at` is NULL for SQL NULL. */
typedef struct {
    LjSlice key, payload, changes;
    int64_t timestamp_ms;
    int updated;
} LjVersion;

typedef struct {
    uint16_t topic;
    uint8_t shard, flags;
    int64_t rowid;
    LjVersion now, old;
} LjChange;

static inline uint32_t lj_le32(const char *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline int64_t lj_le64(const char *p) { int64_t v; memcpy(&v, p, 8); return v; }

/* Bytes consumed, or 0 when the buffer does not hold a whole, consistent row. */
static inline size_t lj_read_change(const char *p, size_t left, LjChange *out) {
    if (left < LJ_CHANGE_HEADER) return 0;
    uint32_t size = lj_le32(p), key = lj_le32(p + 32), now = lj_le32(p + 36), now_changes = lj_le32(p + 40);
    uint32_t old = lj_le32(p + 44), old_changes = lj_le32(p + 48);
    uint64_t need = (uint64_t)LJ_CHANGE_HEADER + key + now + now_changes + old + old_changes;
    if (size > left || size % 8 || need > size) return 0;
    memcpy(&out->topic, p + 4, 2);
    out->shard = (uint8_t)p[6];
    out->flags = (uint8_t)p[7];
    out->rowid = lj_le64(p + 8);
    const char *at = p + LJ_CHANGE_HEADER;
    LjSlice name = {at, key};
    at += key;
    out->now.key = out->old.key = name;
    out->now.timestamp_ms = lj_le64(p + 16);
    out->now.updated = (out->flags & LJ_NEW_UPDATED) != 0;
    out->now.payload.at = at; out->now.payload.len = now; at += now;
    out->now.changes.at = out->flags & LJ_NEW_CHANGES ? at : NULL; out->now.changes.len = now_changes; at += now_changes;
    out->old.timestamp_ms = lj_le64(p + 24);
    out->old.updated = (out->flags & LJ_OLD_UPDATED) != 0;
    out->old.payload.at = at; out->old.payload.len = old; at += old;
    out->old.changes.at = out->flags & LJ_OLD_CHANGES ? at : NULL; out->old.changes.len = old_changes;
    return size;
}
#endif
