/* The native level: one join of equalities, evaluated without running its SQL.
 *
 * References (native_program.h) are numbered in the order of evaluation; number 0 is the one that the result
 * key comes from. lj_native_read: for each changed row, old and new version, walk the steps to reference 0
 * and note its keys; then for each key, nested loops over the probes, each row checked, its columns written
 * as JSON. Compiled by nativejoin.pyx from plan/native.py's description. */
#ifndef LJ_NATIVE_JOIN_H
#define LJ_NATIVE_JOIN_H
#include "native_program.h"

typedef struct { LjPlace place; int is_json; lj_out name; } LjOutput;

/* A key of reference 0 to recompute; `key_at` is the place of its text in `texts` (found by key). With
 * `known` its row is at hand: `row`, or none when `gone`; `copied` rows hold places in `texts`. */
typedef struct {
    uint64_t hash;
    size_t key_at;
    uint32_t key_len;
    uint8_t known, gone, copied;
    LjVersion row;
} LjWant;

typedef struct {
    LjNativeJoin base;
    LjRows *rows;
    int n_refs;
    LjRef *refs;
    LjFinder by;      /* how rows of reference 0 are found for a result key */
    int key_value;    /* of reference 0 */
    int n_outputs;
    LjOutput *outputs;
    const LjSink *sink;
    LjWant *wants;
    uint32_t n_wants, cap_wants;
    KeyMap wanted;    /* hash -> want + 1 */
    KeyMap walked;    /* hash of a value + the number of its reference, from where the way back was gone */
    LjBuffer texts;
    lj_out key, row, plain;
} LjJoin;

static inline const LjValue *lj_value_of(const LjJoin *join, LjPlace place) {
    return &join->refs[place.ref].values[place.value];
}

/* ---------------------------------------------------------------- keys to recompute */

static inline size_t lj_keep_text(LjBuffer *texts, LjSlice text) {
    size_t at = texts->len;
    if (lj_buffer_reserve(texts, text.len + 1) < 0) return SIZE_MAX;
    if (text.len) memcpy(texts->data + at, text.at, text.len);
    texts->len += text.len;
    return at;
}

static inline LjWant *lj_want_find(LjJoin *join, uint64_t hash, const LjValue *key) {
    const uint64_t *refs;
    uint32_t n = km_find(&join->wanted, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        LjWant *want = &join->wants[refs[i] - 1];
        if (!join->by.by_key || (want->key_len == key->size
            && memcmp(join->texts.data + want->key_at, key->text, key->size) == 0))
            return want;
    }
    return NULL;
}

/* Note a result key; NULL when memory is out. */
static inline LjWant *lj_want(LjJoin *join, const LjValue *key) {
    uint64_t hash = lj_value_hash(key, 0);
    LjSlice text = {key->text, key->size};
    join->key.buffer.len = 0;
    lj_value_put_key(&join->key, key);
    if (join->key.failed || join->sink->want(join->sink->context, join->key.buffer.data, join->key.buffer.len))
        return NULL;
    LjWant *want = lj_want_find(join, hash, key);
    if (want) return want;
    if (join->n_wants == join->cap_wants) {
        LjWant *more = (LjWant *)realloc(join->wants, ((size_t)join->cap_wants * 2 + 64) * sizeof(LjWant));
        if (!more) return NULL;
        join->wants = more;
        join->cap_wants = join->cap_wants * 2 + 64;
    }
    want = &join->wants[join->n_wants];
    memset(want, 0, sizeof *want);
    want->hash = hash;
    if (join->by.by_key) {
        want->key_at = lj_keep_text(&join->texts, text);
        want->key_len = key->size;
        if (want->key_at == SIZE_MAX) return NULL;
    }
    if (km_add(&join->wanted, hash, join->n_wants + 1)) return NULL;
    join->n_wants++;
    return want;
}

/* The row of a wanted key as its shard has it now. */
static inline int lj_want_copy(LjJoin *join, LjWant *want, const LjVersion *row) {
    if (!join->by.by_key || want->known) return 0;
    size_t key = lj_keep_text(&join->texts, row->key), payload = lj_keep_text(&join->texts, row->payload);
    size_t changes = row->changes.at ? lj_keep_text(&join->texts, row->changes) : 0;
    if (key == SIZE_MAX || payload == SIZE_MAX || changes == SIZE_MAX) return -1;
    want->row = *row;
    want->row.key.at = (const char *)(uintptr_t)key;
    want->row.payload.at = (const char *)(uintptr_t)payload;
    if (row->changes.at) want->row.changes.at = (const char *)(uintptr_t)(changes + 1);
    want->known = want->copied = 1;
    return 0;
}

static inline LjVersion lj_want_row(const LjJoin *join, const LjWant *want) {
    LjVersion row = want->row;
    const char *texts = (const char *)join->texts.data;
    if (!want->copied) return row;
    row.key.at = texts + (uintptr_t)row.key.at;
    row.payload.at = texts + (uintptr_t)row.payload.at;
    if (row.changes.at) row.changes.at = texts + (uintptr_t)row.changes.at - 1;
    return row;
}

/* ---------------------------------------------------------------- finding rows */

typedef int (*LjVisit)(LjJoin *join, int ref);

static inline int lj_step_back(LjJoin *join, int ref);

/* Look at one row of a reference: its values are computed and the statement that showed it is free again
 * before the visit goes on to other rows. `current`: the row is in its shard, not an old version. */
static inline int lj_look(LjJoin *join, int ref, const LjVersion *row, int current, sqlite3_stmt *stmt, LjVisit visit) {
    int failed = lj_program_run(&join->refs[ref], row, !current);
    if (!failed && ref == 0 && visit == lj_step_back) {
        LjWant *want = lj_want(join, &join->refs[0].values[join->key_value]);
        if (!want || (current && lj_want_copy(join, want, row))) failed = LJ_NATIVE_MEMORY;
        visit = NULL;
    }
    if (stmt) sqlite3_reset(stmt);
    return failed || !visit ? failed : visit(join, ref);
}

/* The old versions of this flush that a value finds. */
static inline int lj_find_olds(LjJoin *join, int ref, const LjFinder *finder, uint64_t hash, LjSlice key, LjVisit visit) {
    LjTopic *topic = join->rows->host->topics[join->refs[ref].slot];
    const KeyMap *map = finder->by_key ? &topic->old_keys : &topic->indexes[finder->index].olds;
    const uint64_t *refs;
    uint32_t n = km_find(map, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        const LjVersion *old = &topic->changes[refs[i] - 1].old;
        if (finder->by_key && (old->key.len != key.len || memcmp(old->key.at, key.at, key.len))) continue;
        int failed = lj_look(join, ref, old, 0, NULL, visit);
        if (failed) return failed;
    }
    return LJ_NATIVE_OK;
}

/* The current rows of a reference by the hash of an indexed value. */
static inline int lj_find_hash(LjJoin *join, int ref, int index, uint64_t hash, LjVisit visit) {
    int slot = join->refs[ref].slot;
    const uint64_t *refs;
    uint32_t n = km_find(&join->rows->host->topics[slot]->indexes[index].rows, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        LjVersion row;
        sqlite3_stmt *stmt = NULL;
        int there, failed = lj_rows_by_ref(join->rows, slot, refs[i], &row, &there, &stmt);
        if (!failed && there) failed = lj_look(join, ref, &row, 1, stmt, visit);
        else if (stmt) sqlite3_reset(stmt);
        if (failed) return failed;
    }
    return LJ_NATIVE_OK;
}

static inline int lj_find_key(LjJoin *join, int ref, LjSlice key, LjVisit visit) {
    LjVersion row;
    sqlite3_stmt *stmt = NULL;
    int there, failed = lj_rows_by_key(join->rows, join->refs[ref].slot, key, &row, &there, &stmt);
    if (!failed && there) return lj_look(join, ref, &row, 1, stmt, visit);
    if (stmt) sqlite3_reset(stmt);
    return failed;
}

/* Rows that a value may match: the conditions decide. `olds`: old versions, too. */
static inline int lj_find(LjJoin *join, int ref, const LjFinder *finder, const LjValue *value, int olds, LjVisit visit) {
    LjSlice key = {value->text, value->size};
    uint64_t hash;
    int failed;
    if (value->kind == SQLITE_NULL || (finder->by_key && value->kind == SQLITE_BLOB)) return LJ_NATIVE_OK;
    hash = lj_value_hash(value, finder->by_key || finder->is_text);
    failed = finder->by_key ? lj_find_key(join, ref, key, visit) : lj_find_hash(join, ref, finder->index, hash, visit);
    return failed || !olds ? failed : lj_find_olds(join, ref, finder, hash, key, visit);
}

/* From a row of a reference to the result keys that it can be part of. The same value leads to the same keys:
 * many rows of one order, or a row that changed in each of the flushes that are evaluated together. */
static inline int lj_step_back(LjJoin *join, int ref) {
    const LjRef *from = &join->refs[ref];
    const LjValue *near = &from->values[from->near];
    const uint64_t *refs;
    uint64_t hash = lj_value_hash(near, from->step.by_key || from->step.is_text) + (uint64_t)ref;
    if (km_find(&join->walked, hash, &refs)) return LJ_NATIVE_OK;
    if (km_add(&join->walked, hash, 1)) return LJ_NATIVE_MEMORY;
    return lj_find(join, from->parent, &from->step, near, 1, lj_step_back);
}

/* ---------------------------------------------------------------- affected keys */

static inline int lj_checks(const LjJoin *join, const LjCheck *checks, int n) {
    for (int i = 0; i < n; i++) {
        const LjCheck *check = &checks[i];
        const LjValue *left = lj_value_of(join, check->left);
        if (check->right.ref == LJ_RIGHT_NONE) {
            if (left->kind != SQLITE_INTEGER || !left->integer) return 0;
            continue;
        }
        const LjValue *right = check->right.ref == LJ_RIGHT_LITERAL ? &check->literal : lj_value_of(join, check->right);
        if (!lj_value_equal(left, right, check->is_text)) return 0;
    }
    return 1;
}

static inline int lj_affected_by(LjJoin *join, int ref, const LjChangeRow *change) {
    LjRef *from = &join->refs[ref];
    int failed = LJ_NATIVE_OK;
    if (change->flags & LJ_HAS_OLD) {
        failed = lj_program_run(from, &change->old, 1);
        if (!failed) failed = lj_step_back(join, ref);
    }
    if (failed || !(change->flags & LJ_HAS_NEW) || (change->flags & LJ_ELIDED)) return failed;
    failed = lj_program_run(from, &change->now, 1);
    return failed ? failed : lj_step_back(join, ref);
}

/* 1 in `passes` when a version fulfils the conditions on reference 0 alone: others have no result. */
static inline int lj_passes(LjJoin *join, const LjVersion *version, int *passes) {
    LjRef *ref = &join->refs[0];
    if (!version || *passes) return LJ_NATIVE_OK;
    int failed = lj_program_run(ref, version, 1);
    if (!failed) *passes = lj_checks(join, ref->where, ref->n_where);
    return failed;
}

/* A changed row of reference 0: its own key. The newest version comes last and stays. */
static inline int lj_affected_itself(LjJoin *join, const LjChangeRow *change) {
    LjRef *ref = &join->refs[0];
    const LjVersion *versions[2] = {change->flags & LJ_HAS_OLD ? &change->old : NULL,
                                    (change->flags & LJ_HAS_NEW) && !(change->flags & LJ_ELIDED) ? &change->now : NULL};
    if (join->by.by_key) {
        LjValue key = {.kind = SQLITE_TEXT, .text = change->old.key.at, .size = change->old.key.len};
        if (ref->n_where && !(change->flags & LJ_ELIDED)) {
            /* Neither had a result before nor has one now, unless another change of this key notes it. */
            int passes = 0, failed = lj_passes(join, versions[0], &passes);
            if (!failed) failed = lj_passes(join, versions[1], &passes);
            if (failed) return failed;
            if (!passes && !lj_want_find(join, lj_value_hash(&key, 0), &key)) return LJ_NATIVE_OK;
        }
        LjWant *want = lj_want(join, &key);
        if (!want) return LJ_NATIVE_MEMORY;
        if (!join->rows->fresh || change->flags & LJ_ELIDED) return LJ_NATIVE_OK;
        want->known = 1;
        want->copied = 0;
        want->gone = !versions[1];
        if (versions[1]) want->row = *versions[1];
        return LJ_NATIVE_OK;
    }
    for (int i = 0; i < 2; i++) {
        int failed = versions[i] ? lj_program_run(ref, versions[i], 1) : LJ_NATIVE_OK;
        if (failed) return failed;
        if (versions[i] && !lj_want(join, &ref->values[join->key_value])) return LJ_NATIVE_MEMORY;
    }
    return LJ_NATIVE_OK;
}

static inline int lj_affected(LjJoin *join) {
    for (int ref = 0; ref < join->n_refs; ref++) {
        const LjTopic *topic = join->rows->host->topics[join->refs[ref].slot];
        for (uint32_t i = 0; i < topic->n_changes; i++) {
            const LjChangeRow *change = &topic->changes[i];
            int failed = ref ? lj_affected_by(join, ref, change) : lj_affected_itself(join, change);
            if (failed) return failed;
        }
    }
    return LJ_NATIVE_OK;
}

/* ---------------------------------------------------------------- results */

static inline void lj_put_row(const LjJoin *join, lj_out *out, int plain_numbers) {
    for (int i = 0; i < join->n_outputs; i++) {
        const LjOutput *column = &join->outputs[i];
        const LjValue *v = lj_value_of(join, column->place);
        lj_put(out, column->name.buffer.data, column->name.buffer.len);
        if (plain_numbers && lj_value_is_whole(v)) lj_value_put_key(out, v);
        else lj_value_put(out, v, column->is_json);
    }
    lj_put(out, "}", 1);
}

static inline int lj_emit(LjJoin *join) {
    lj_out *hashed = &join->row;
    int whole = 0;
    join->key.buffer.len = join->row.buffer.len = join->plain.buffer.len = 0;
    lj_value_put_key(&join->key, &join->refs[0].values[join->key_value]);
    lj_put_row(join, &join->row, 0);
    for (int i = 0; i < join->n_outputs && !whole; i++) whole = lj_value_is_whole(lj_value_of(join, join->outputs[i].place));
    if (whole) {
        /* The hash takes 1.0 for 1: a change from one to the other is none to a reader. */
        hashed = &join->plain;
        lj_put_row(join, hashed, 1);
    }
    if (join->key.failed || join->row.failed || join->plain.failed) return LJ_NATIVE_MEMORY;
    return join->sink->row(join->sink->context, join->key.buffer.data, join->key.buffer.len, join->row.buffer.data,
                           join->row.buffer.len, lj_xxh64(hashed->buffer.data, hashed->buffer.len, 0))
               ? LJ_NATIVE_MEMORY
               : LJ_NATIVE_OK;
}

static inline int lj_descend(LjJoin *join, int level);

/* A row of this level is in place: go on when its conditions hold. */
static inline int lj_try(LjJoin *join, int level) {
    LjRef *ref = &join->refs[level];
    if (!lj_checks(join, ref->on, ref->n_on)) return LJ_NATIVE_OK;
    ref->matched = 1;
    if (!lj_checks(join, ref->where, ref->n_where)) return LJ_NATIVE_OK;
    return lj_descend(join, level + 1);
}

static inline int lj_descend(LjJoin *join, int level) {
    if (level == join->n_refs) return lj_emit(join);
    LjRef *ref = &join->refs[level];
    ref->matched = 0;
    int failed = lj_find(join, level, &ref->probe, lj_value_of(join, ref->source), 0, lj_try);
    if (failed || !ref->outer || ref->matched) return failed;
    failed = lj_program_run(ref, NULL, 0);
    if (failed || !lj_checks(join, ref->where, ref->n_where)) return failed;
    return lj_descend(join, level + 1);
}

static inline int lj_recompute(LjJoin *join, const LjWant *want) {
    if (!join->by.by_key) return lj_find_hash(join, 0, join->by.index, want->hash, lj_try);
    if (!want->known) {
        LjSlice key = {(const char *)join->texts.data + want->key_at, want->key_len};
        return lj_find_key(join, 0, key, lj_try);
    }
    if (want->gone) return LJ_NATIVE_OK;
    LjVersion row = lj_want_row(join, want);
    return lj_look(join, 0, &row, 0, NULL, lj_try);
}

static inline int lj_native_read(LjNativeJoin *base, const LjSink *sink) {
    LjJoin *join = (LjJoin *)base;
    join->sink = sink;
    join->n_wants = 0;
    join->texts.len = 0;
    join->key.failed = join->row.failed = join->plain.failed = 0;
    km_clear(&join->wanted);
    km_clear(&join->walked);
    int failed = lj_affected(join);
    for (uint32_t i = 0; !failed && i < join->n_wants; i++) failed = lj_recompute(join, &join->wants[i]);
    return failed;
}

static inline void lj_native_clear(LjJoin *join) {
    for (int i = 0; join->refs && i < join->n_refs; i++) {
        LjRef *ref = &join->refs[i];
        sqlite3_finalize(ref->program);
        lj_buffer_free(&ref->memory);
        free(ref->on);
        free(ref->where);
    }
    for (int i = 0; join->outputs && i < join->n_outputs; i++) lj_buffer_free(&join->outputs[i].name.buffer);
    km_clear(&join->wanted);
    km_clear(&join->walked);
    lj_buffer_free(&join->texts);
    lj_buffer_free(&join->key.buffer);
    lj_buffer_free(&join->row.buffer);
    lj_buffer_free(&join->plain.buffer);
    free(join->wants);
    free(join->outputs);
    free(join->refs);
}

static inline void lj_native_free(LjJoin *join) {
    lj_native_clear(join);
    free(join);
}
#endif
