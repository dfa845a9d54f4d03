/* The native level: one join of equalities, evaluated without running its SQL.
 *
 * References are numbered in the order of evaluation; number 0 is the one that the result key comes from. A
 * reference has a *program*: the values that the join needs of one of its rows, computed together, by
 * lj_paths_read where that is sure and by a prepared `SELECT value, ... ` over the row where not. So every
 * value is SQLite's own. A *probe* finds the rows of a reference for a value of an earlier one, a *step* those
 * of an earlier one for a value of it (the way back from a changed row to the result keys).
 *
 * lj_native_read: for each changed row, old and new version, walk the steps to reference 0 and note its
 * keys; then for each key, nested loops over the probes, each row checked, its columns written as JSON.
 * Compiled by nativejoin.pyx from plan/native.py's description. */
#ifndef LJ_NATIVE_JOIN_H
#define LJ_NATIVE_JOIN_H
#include "native_path.h"
#include "native_rows.h"

#define LJ_NATIVE_REFS 8
#define LJ_NATIVE_VALUES 32

typedef struct { int ref, value; } LjPlace;

/* `left = right`; or `left = literal`, or `left` is true, as `right.ref` says. */
enum { LJ_RIGHT_NONE = -1, LJ_RIGHT_LITERAL = -2 };

typedef struct {
    LjPlace left, right;
    int is_text;
    LjValue literal;
} LjCheck;

/* How rows are found by a value: by their key, or by a key map of the topic. */
typedef struct {
    int by_key; /* else `index` */
    int index;
    int is_text;
} LjFinder;

enum { LJ_FAST_NONE = 0, LJ_FAST_KEY, LJ_FAST_PAYLOAD, LJ_FAST_TIMESTAMP, LJ_FAST_TIMESTAMP_MS, LJ_FAST_PATH };

typedef struct {
    int slot, outer;
    int n_values;
    uint8_t fast[LJ_NATIVE_VALUES], as_text[LJ_NATIVE_VALUES];
    int all_fast, n_paths;
    LjPath paths[LJ_NATIVE_VALUES];
    sqlite3_stmt *program;
    LjPlace source;   /* the value that probes this reference (not for 0) */
    LjFinder probe;
    int parent, near; /* the step back: value `near` of this one finds rows of `parent` (not for 0) */
    LjFinder step;
    LjCheck *on, *where;
    int n_on, n_where;
    int matched;      /* a row of an outer reference was found */
    /* the row being looked at */
    LjValue values[LJ_NATIVE_VALUES];
    LjBuffer memory;
} LjRef;

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
    LjBuffer texts;
    lj_out key, row, plain;
} LjJoin;

static inline const LjValue *lj_value_of(const LjJoin *join, LjPlace place) {
    return &join->refs[place.ref].values[place.value];
}

/* ---------------------------------------------------------------- programs */

static inline void lj_program_fast_columns(LjRef *ref, const LjVersion *row) {
    for (int i = 0; i < ref->n_values; i++) {
        LjValue *v = &ref->values[i];
        LjSlice slice = ref->fast[i] == LJ_FAST_KEY ? row->key : row->payload;
        if (ref->fast[i] == LJ_FAST_PATH) continue;
        memset(v, 0, sizeof *v);
        if (ref->fast[i] == LJ_FAST_KEY || ref->fast[i] == LJ_FAST_PAYLOAD) {
            v->kind = SQLITE_TEXT;
            v->text = slice.at;
            v->size = slice.len;
            continue;
        }
        int64_t ms = row->timestamp_ms, seconds = ms / 1000 - (ms % 1000 < 0);
        v->kind = SQLITE_INTEGER;
        v->integer = ref->fast[i] == LJ_FAST_TIMESTAMP ? seconds : ms;
    }
}

/* 1: done; 0: SQLite must compute; -1: no memory. `stable`: the row's bytes outlive the flush. */
static inline int lj_program_fast(LjRef *ref, const LjVersion *row, int stable) {
    LjVersion kept = *row;
    size_t texts = stable ? 0 : (size_t)row->key.len + row->payload.len;
    if (!ref->all_fast) return 0;
    ref->memory.len = 0;
    if (lj_buffer_reserve(&ref->memory, texts + (size_t)ref->n_paths * LJ_NUMBER_ROOM + 1) < 0) return -1;
    char *at = (char *)ref->memory.data;
    if (!stable) {
        memcpy(at, row->key.at, row->key.len);
        memcpy(at + row->key.len, row->payload.at, row->payload.len);
        kept.key.at = at;
        kept.payload.at = at + row->key.len;
    }
    lj_program_fast_columns(ref, &kept);
    if (ref->n_paths == 0) return 1;
    if (!lj_paths_read(ref->paths, ref->n_paths, kept.payload, ref->values, at + texts)) return 0;
    for (int i = 0; i < ref->n_values; i++)
        if (ref->as_text[i] && ref->values[i].kind == SQLITE_FLOAT) return 0;
    return 1;
}

static inline int lj_program_keep(LjRef *ref, int i) {
    /* Texts move as the memory grows: offsets first, addresses when all are in. */
    LjValue *v = &ref->values[i];
    sqlite3_stmt *stmt = ref->program;
    const void *bytes = NULL;
    memset(v, 0, sizeof *v);
    v->kind = (uint8_t)sqlite3_column_type(stmt, i);
    if (v->kind == SQLITE_INTEGER) v->integer = sqlite3_column_int64(stmt, i);
    if (v->kind == SQLITE_FLOAT) v->real = sqlite3_column_double(stmt, i);
    v->as_text = (v->kind == SQLITE_INTEGER || v->kind == SQLITE_FLOAT) && ref->as_text[i];
    if (v->kind == SQLITE_TEXT || v->as_text) bytes = sqlite3_column_text(stmt, i);
    if (v->kind == SQLITE_BLOB) bytes = sqlite3_column_blob(stmt, i);
    if (v->kind == SQLITE_TEXT || v->kind == SQLITE_BLOB || v->as_text) {
        v->size = (uint32_t)sqlite3_column_bytes(stmt, i);
        if (lj_buffer_reserve(&ref->memory, v->size + 1) < 0) return -1;
        if (v->size) memcpy(ref->memory.data + ref->memory.len, bytes, v->size);
        v->text = (const char *)(uintptr_t)ref->memory.len;
        ref->memory.len += v->size;
    }
    return 0;
}

/* Compute the values of one row; `row` NULL: the row of NULLs that an outer join adds. */
static inline int lj_program_run(LjRef *ref, const LjVersion *row, int stable) {
    sqlite3_stmt *stmt = ref->program;
    int rc, failed = LJ_NATIVE_OK;
    if (row) {
        rc = lj_program_fast(ref, row, stable);
        if (rc) return rc < 0 ? LJ_NATIVE_MEMORY : LJ_NATIVE_OK;
        sqlite3_bind_text(stmt, 1, row->key.at, (int)row->key.len, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, row->payload.at, (int)row->payload.len, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 3, row->timestamp_ms / 1000 - (row->timestamp_ms % 1000 < 0));
        sqlite3_bind_int64(stmt, 4, row->timestamp_ms);
        sqlite3_bind_text(stmt, 5, row->updated ? "updated" : "created", 7, SQLITE_STATIC);
        if (row->changes.at) sqlite3_bind_text(stmt, 6, row->changes.at, (int)row->changes.len, SQLITE_STATIC);
        else sqlite3_bind_null(stmt, 6);
    } else {
        for (int i = 1; i <= 6; i++) sqlite3_bind_null(stmt, i);
    }
    ref->memory.len = 0;
    rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW) failed = rc == SQLITE_NOMEM ? LJ_NATIVE_MEMORY : LJ_NATIVE_UNSURE;
    for (int i = 0; !failed && i < ref->n_values; i++)
        if (lj_program_keep(ref, i)) failed = LJ_NATIVE_MEMORY;
    for (int i = 0; !failed && i < ref->n_values; i++)
        if (ref->values[i].kind == SQLITE_TEXT || ref->values[i].kind == SQLITE_BLOB || ref->values[i].as_text)
            ref->values[i].text = (const char *)ref->memory.data + (uintptr_t)ref->values[i].text;
    sqlite3_reset(stmt);
    return failed;
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

/* From a row of a reference to the result keys that it can be part of. */
static inline int lj_step_back(LjJoin *join, int ref) {
    const LjRef *from = &join->refs[ref];
    return lj_find(join, from->parent, &from->step, &from->values[from->near], 1, lj_step_back);
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
    int failed, has_old = change->flags & LJ_HAS_OLD;
    uint64_t before = 0;
    if (has_old) {
        failed = lj_program_run(from, &change->old, 1);
        if (!failed) failed = lj_step_back(join, ref);
        if (failed) return failed;
        before = lj_value_hash(&from->values[from->near], from->step.by_key || from->step.is_text);
    }
    if (!(change->flags & LJ_HAS_NEW) || (change->flags & LJ_ELIDED)) return LJ_NATIVE_OK;
    failed = lj_program_run(from, &change->now, 1);
    if (failed) return failed;
    /* The same value finds the same rows. */
    if (has_old && lj_value_hash(&from->values[from->near], from->step.by_key || from->step.is_text) == before)
        return LJ_NATIVE_OK;
    return lj_step_back(join, ref);
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
    int failed = lj_affected(join);
    for (uint32_t i = 0; !failed && i < join->n_wants; i++) failed = lj_recompute(join, &join->wants[i]);
    return failed;
}

static inline void lj_native_free(LjJoin *join) {
    for (int i = 0; join->refs && i < join->n_refs; i++) {
        LjRef *ref = &join->refs[i];
        sqlite3_finalize(ref->program);
        lj_buffer_free(&ref->memory);
        free(ref->on);
        free(ref->where);
    }
    for (int i = 0; join->outputs && i < join->n_outputs; i++) lj_buffer_free(&join->outputs[i].name.buffer);
    km_clear(&join->wanted);
    lj_buffer_free(&join->texts);
    lj_buffer_free(&join->key.buffer);
    lj_buffer_free(&join->row.buffer);
    lj_buffer_free(&join->plain.buffer);
    free(join->wants);
    free(join->outputs);
    free(join->refs);
    free(join);
}
#endif
