/* The changes of a page (poll_set.h) as packed rows for the writer (layout: litejoin/records.py).
 *
 * A change becomes a topic row and a state row of one key, next to each other: the same shard takes both in
 * one transaction. */
#ifndef LJ_POLL_PACK_H
#define LJ_POLL_PACK_H
#include "json_tree.h"
#include "poll_set.h"

#define LJ_SET_CHANGES_BYTES (16u << 20) /* a larger `changes` text is left out of the row */

typedef struct {
    uint16_t topic, state;
    int64_t timestamp_ms;
    int keep_records; /* diff: the state row holds the record, an update its changes */
    int emit;         /* 0: state rows only */
} lj_pack;

static inline void lj_pack_row(lj_out *out, uint8_t kind, uint8_t flags, uint16_t table, int64_t timestamp_ms, const uint8_t *key, uint32_t key_len,
                               const uint8_t *payload, uint32_t payload_len, const void *extra, uint32_t extra_len) {
    static const uint8_t zeros[8];
    LjRowHead head;
    size_t body = sizeof head + key_len + payload_len + extra_len;
    memset(&head, 0, sizeof head);
    head.size = (uint32_t)((body + 7) & ~(size_t)7);
    head.table = table;
    head.kind = kind;
    head.flags = flags;
    head.timestamp_ms = timestamp_ms;
    head.key_len = key_len;
    head.payload_len = payload_len;
    head.extra_len = extra_len;
    lj_put(out, &head, sizeof head);
    lj_put(out, key, key_len);
    lj_put(out, payload, payload_len);
    lj_put(out, extra, extra_len);
    lj_put(out, zeros, head.size - body);
}

/* What changed against the stored record. 1: nothing (a replay: the state has this record already). */
static inline int lj_pack_changes(const lj_set *s, const lj_change *change, const uint8_t *before, size_t before_size, lj_out *changes) {
    lj_tree old, new;
    int different = 1;
    changes->buffer.len = 0;
    memset(&new, 0, sizeof new);
    if (lj_tree_parse(&old, before, before_size, s->max_depth) == 0 &&
        lj_tree_parse(&new, change->start, change->size, s->max_depth) == 0 &&
        lj_tree_diff(&old, &new, s->ignore, changes, &different)) changes->buffer.len = 0;
    lj_tree_free(&old);
    lj_tree_free(&new);
    if (changes->buffer.len > LJ_SET_CHANGES_BYTES) changes->buffer.len = 0;
    return !different;
}

/* Packed rows of the changes [start, stop); `befores[i]` is the stored record of the i-th update among them.
 * Returns the rows, or -1 when memory is out. `*same` counts updates that the state already had. */
static inline int64_t lj_page_pack(const lj_set *s, const lj_page *p, uint32_t start, uint32_t stop, const lj_pack *how,
                                   const uint8_t *const *befores, const size_t *before_sizes, lj_out *out, uint64_t *same) {
    lj_out changes;
    int64_t rows = 0;
    uint32_t i, updates = 0;
    memset(&changes, 0, sizeof changes);
    for (i = start; i < stop && i < p->count; i++) {
        const lj_change *change = &p->changes[i];
        const lj_entry *e = &s->entries[change->entry];
        const uint8_t *key = s->keys.data + e->key_at;
        int emit = how->emit;
        if (change->dropped) continue;
        changes.buffer.len = 0;
        if (change->op == LJ_UPDATED && befores) {
            const uint8_t *before = befores[updates];
            if (before && lj_pack_changes(s, change, before, before_sizes[updates], &changes)) {
                (*same)++;
                emit = 0;
            }
            updates++;
        }
        if (emit) {
            lj_pack_row(out, LJ_UPSERT, change->op == LJ_UPDATED ? LJ_KNOWN : 0, how->topic, how->timestamp_ms, key,
                        e->key_size, change->start, change->size, changes.buffer.data, (uint32_t)changes.buffer.len);
            rows++;
        }
        lj_pack_row(out, LJ_STATE_UPSERT, 0, how->state, how->timestamp_ms, key, e->key_size, change->start,
                    how->keep_records ? change->size : 0, &change->hash, sizeof change->hash);
        rows++;
    }
    if (changes.failed) out->failed = 1;
    lj_buffer_free(&changes.buffer);
    return out->failed ? -1 : rows;
}
#endif
