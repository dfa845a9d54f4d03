/* One reference of a native join, and its program: the values that the join needs of one of its rows,
 * computed together, by lj_paths_read where that is sure and by a prepared `SELECT value, ...` over the
 * bound row where not. So every value is SQLite's own.
 *
 * A *probe* finds the rows of a reference for a value of an earlier one, a *step* those of an earlier one for
 * a value of it (the way back from a changed row to the result keys). native_join.h evaluates them. */
#ifndef LJ_NATIVE_PROGRAM_H
#define LJ_NATIVE_PROGRAM_H
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

/* Step the bound program and keep its values; `there` is 0 when it has no row. */
static inline int lj_program_step(LjRef *ref, int *there) {
    sqlite3_stmt *stmt = ref->program;
    int failed = LJ_NATIVE_OK, rc = sqlite3_step(stmt);
    ref->memory.len = 0;
    *there = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) failed = rc == SQLITE_NOMEM ? LJ_NATIVE_MEMORY : LJ_NATIVE_UNSURE;
    for (int i = 0; *there && !failed && i < ref->n_values; i++)
        if (lj_program_keep(ref, i)) failed = LJ_NATIVE_MEMORY;
    for (int i = 0; *there && !failed && i < ref->n_values; i++)
        if (ref->values[i].kind == SQLITE_TEXT || ref->values[i].kind == SQLITE_BLOB || ref->values[i].as_text)
            ref->values[i].text = (const char *)ref->memory.data + (uintptr_t)ref->values[i].text;
    sqlite3_reset(stmt);
    return failed;
}

/* Compute the values of one row; `row` NULL: the row of NULLs that an outer join adds. */
static inline int lj_program_run(LjRef *ref, const LjVersion *row, int stable) {
    sqlite3_stmt *stmt = ref->program;
    int rc, failed;
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
    failed = lj_program_step(ref, &rc);
    return failed || rc ? failed : LJ_NATIVE_UNSURE;
}
#endif
