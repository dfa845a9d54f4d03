/* Change rows: what one flush did to the topics, written by the batch writer, read by the engine.
 * The field table is in litejoin/store/changes.py; this is the same layout as a struct.
 *
 * lj_change_append   writes a row with the old version's bytes copied, returns 0 or -1 (memory)
 * lj_change_elide    copies rows without their new payloads: the body of a batch record */
#ifndef LJ_CHANGES_H
#define LJ_CHANGES_H
#include "buffer.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed rows are little endian and read in place: this machine is not supported"
#endif

enum {
    LJ_HAS_NEW = 1,
    LJ_HAS_OLD = 2,
    LJ_NEW_UPDATED = 4,
    LJ_OLD_UPDATED = 8,
    LJ_NEW_CHANGES = 16,
    LJ_OLD_CHANGES = 32,
    LJ_ELIDED = 64,
    LJ_MESSAGE = 128 /* not a change: one message as it arrived, for windows */
};

typedef struct {
    uint32_t size;
    uint16_t topic;
    uint8_t shard, flags;
    int64_t id, new_ts, old_ts;
    uint32_t key_len, new_len, new_changes_len, old_len, old_changes_len, reserved;
} LjChange;

_Static_assert(sizeof(LjChange) == 56, "change rows have a 56-byte head");

/* The five parts, in the order of the layout; lengths are in `head`, a part of length 0 may be NULL. */
static inline int lj_change_append(LjBuffer *out, LjChange *head, const void *key, const void *fresh,
                                   const void *fresh_changes, const void *old, const void *old_changes) {
    size_t body = (size_t)head->key_len + head->new_len + head->new_changes_len + head->old_len
                  + head->old_changes_len;
    size_t size = (sizeof *head + body + 7) & ~(size_t)7;
    if (size > UINT32_MAX || lj_buffer_reserve(out, size) < 0)
        return -1;
    head->size = (uint32_t)size;
    head->reserved = 0;
    uint8_t *p = out->data + out->len;
    memset(p + size - 8, 0, 8);
    memcpy(p, head, sizeof *head);
    p += sizeof *head;
#define LJ_PART(from, n) if (n) { memcpy(p, from, n); p += n; }
    LJ_PART(key, head->key_len)
    LJ_PART(fresh, head->new_len)
    LJ_PART(fresh_changes, head->new_changes_len)
    LJ_PART(old, head->old_len)
    LJ_PART(old_changes, head->old_changes_len)
#undef LJ_PART
    out->len += size;
    return 0;
}

static inline int lj_change_elide(LjBuffer *out, const uint8_t *rows, size_t len) {
    if (lj_buffer_reserve(out, len) < 0)
        return -1;
    for (size_t at = 0; at < len;) {
        LjChange head;
        memcpy(&head, rows + at, sizeof head);
        const uint8_t *key = rows + at + sizeof head;
        const uint8_t *rest = key + head.key_len + head.new_len;
        at += head.size;
        head.new_len = 0;
        head.flags |= head.flags & LJ_HAS_NEW ? LJ_ELIDED : 0;
        if (lj_change_append(out, &head, key, NULL, rest, rest + head.new_changes_len,
                             rest + head.new_changes_len + head.old_len) < 0)
            return -1;
    }
    return 0;
}
#endif
