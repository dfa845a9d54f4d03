/* Reads change rows (changes.h has their layout) as two versions of a topic row. Every length is checked
 * against the bytes that are there, so a cut or foreign buffer is an error. */
#ifndef LJ_CHANGE_ROW_H
#define LJ_CHANGE_ROW_H
#include "changes.h"

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
    uint8_t passed; /* LJ_HAS_NEW, LJ_HAS_OLD: of these versions another change of the key tells more */
    int64_t rowid;
    LjVersion now, old;
} LjChangeRow;

static inline LjSlice lj_slice(const char **at, uint32_t len) {
    LjSlice slice = {*at, len};
    *at += len;
    return slice;
}

/* Bytes consumed, or 0 when the buffer does not hold a whole, consistent row. */
static inline size_t lj_read_change(const char *p, size_t left, LjChangeRow *out) {
    LjChange head;
    if (left < sizeof head) return 0;
    memcpy(&head, p, sizeof head);
    uint64_t need = (uint64_t)sizeof head + head.key_len + head.new_len + head.new_changes_len
                    + head.old_len + head.old_changes_len;
    if (head.size > left || head.size % 8 || need > head.size) return 0;
    const char *at = p + sizeof head;
    out->topic = head.topic;
    out->shard = head.shard;
    out->flags = head.flags;
    out->passed = 0;
    out->rowid = head.id;
    out->now.key = out->old.key = lj_slice(&at, head.key_len);
    out->now.payload = lj_slice(&at, head.new_len);
    out->now.changes = lj_slice(&at, head.new_changes_len);
    out->old.payload = lj_slice(&at, head.old_len);
    out->old.changes = lj_slice(&at, head.old_changes_len);
    if (!(head.flags & LJ_NEW_CHANGES)) out->now.changes.at = NULL;
    if (!(head.flags & LJ_OLD_CHANGES)) out->old.changes.at = NULL;
    out->now.timestamp_ms = head.new_ts;
    out->old.timestamp_ms = head.old_ts;
    out->now.updated = (head.flags & LJ_NEW_UPDATED) != 0;
    out->old.updated = (head.flags & LJ_OLD_UPDATED) != 0;
    return head.size;
}
#endif
