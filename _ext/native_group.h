/* The accumulators of groups: those of one flush in memory, all of them in state.db.
 *
 *   groups   join_id, key, terms, body      one row a group
 *
 * `key` is the result key as JSON, `terms` the values of GROUP BY's terms: for each a byte for its kind and its
 * bytes. `body` is what lj_group_write puts there, an XXH64 of it behind it. A group is read when a flush
 * first touches it and written at the end, in the caller's transaction. */
#ifndef LJ_NATIVE_GROUP_H
#define LJ_NATIVE_GROUP_H
#include "buffer.h"
#include "keymap.h"
#include "native_extreme.h"
#include "native_sink.h"
#include "native_sum.h"

#define LJ_TERMS 8
#define LJ_ARGUMENTS 32

enum { LJ_TERM_NULL = 0, LJ_TERM_INTEGER, LJ_TERM_REAL, LJ_TERM_TEXT };
enum { LJ_COUNT, LJ_SUM, LJ_AVG, LJ_TOTAL, LJ_MIN, LJ_MAX };

/* What is kept of an argument beside how many are not NULL. */
typedef struct { int sums, least, greatest; } LjArgument;

typedef struct { int name, argument; /* -1: every row */ } LjAggregate;

typedef struct {
    int64_t n; /* not NULL */
    LjSum sum;
    LjExtremes *least, *greatest;
} LjKept;

typedef struct {
    size_t id_at;  /* in `texts`: the key, then the terms */
    uint32_t key_len, id_len;
    int64_t rows;
    int64_t dressed[LJ_TERMS]; /* rows whose term is a real that equals the integer it is grouped with */
    int is_stored;
    LjKept *kept;
} LjGroup;

typedef struct {
    int n_terms, key_term, n_arguments, n_aggregates;
    LjArgument arguments[LJ_ARGUMENTS];
    LjAggregate aggregates[LJ_ARGUMENTS];
    LjGroup *items;
    uint32_t n, cap;
    KeyMap by_id; /* hash of the id -> group + 1 */
    LjBuffer texts, body;
    lj_out key;
    int64_t join_id;
    sqlite3_stmt *select, *put, *remove, *of_key; /* on state.db */
    sqlite3_stmt *number;                         /* on the host: SELECT sum(?1) */
} LjGroups;

static inline void lj_group_clear(const LjGroups *groups, LjGroup *group) {
    group->rows = 0;
    memset(group->dressed, 0, sizeof group->dressed);
    for (int i = 0; i < groups->n_arguments; i++) {
        LjKept *kept = &group->kept[i];
        kept->n = 0;
        lj_sum_init(&kept->sum);
        for (int end = 0; end < 2; end++) {
            LjExtremes *list = end ? kept->greatest : kept->least;
            if (!list) continue;
            lj_extremes_free(list);
            lj_extremes_init(list);
        }
    }
}

static inline void lj_group_free(const LjGroups *groups, LjGroup *group) {
    for (int i = 0; group->kept && i < groups->n_arguments; i++) {
        if (group->kept[i].least) lj_extremes_free(group->kept[i].least);
        if (group->kept[i].greatest) lj_extremes_free(group->kept[i].greatest);
        free(group->kept[i].least);
        free(group->kept[i].greatest);
    }
    free(group->kept);
    group->kept = NULL;
}

static inline int lj_group_make(const LjGroups *groups, LjGroup *group) {
    group->kept = (LjKept *)calloc((size_t)groups->n_arguments + 1, sizeof(LjKept));
    if (!group->kept) return -1;
    for (int i = 0; i < groups->n_arguments; i++) {
        LjKept *kept = &group->kept[i];
        const LjArgument *wanted = &groups->arguments[i];
        if (wanted->least) kept->least = (LjExtremes *)calloc(1, sizeof(LjExtremes));
        if (wanted->greatest) kept->greatest = (LjExtremes *)calloc(1, sizeof(LjExtremes));
        if ((wanted->least && !kept->least) || (wanted->greatest && !kept->greatest)) return -1;
    }
    lj_group_clear(groups, group);
    return 0;
}

/* ---------------------------------------------------------------- as bytes */

#define LJ_BODY_VERSION 1

static inline int lj_body_put(LjBuffer *out, const void *at, size_t size) {
    if (lj_buffer_reserve(out, size) < 0) return -1;
    memcpy(out->data + out->len, at, size);
    out->len += size;
    return 0;
}

#define LJ_BODY_PUT(out, value) lj_body_put(out, &(value), sizeof(value))

static inline int lj_extremes_write(LjBuffer *out, const LjExtremes *list) {
    uint8_t head[2] = {(uint8_t)(list->whole | list->lost << 1), (uint8_t)list->n};
    int failed = LJ_BODY_PUT(out, head);
    for (int i = 0; !failed && i < list->n; i++) {
        const LjExtreme *e = &list->at[i];
        failed = LJ_BODY_PUT(out, e->kind) || LJ_BODY_PUT(out, e->n);
        if (failed) break;
        if (e->kind == SQLITE_INTEGER) failed = LJ_BODY_PUT(out, e->integer);
        else if (e->kind == SQLITE_FLOAT) failed = LJ_BODY_PUT(out, e->real);
        else failed = LJ_BODY_PUT(out, e->size) || lj_body_put(out, e->size ? e->text : "", e->size);
    }
    return failed;
}

static inline int lj_sum_write(LjBuffer *out, const LjSum *sum) {
    int failed = LJ_BODY_PUT(out, sum->whole) || LJ_BODY_PUT(out, sum->whole_size) || LJ_BODY_PUT(out, sum->reals);
    if (failed || !sum->reals) return failed;
    return LJ_BODY_PUT(out, sum->odd) || LJ_BODY_PUT(out, sum->real) || LJ_BODY_PUT(out, sum->real_size)
           || LJ_BODY_PUT(out, sum->grain);
}

/* The group as bytes in `body`; -1: no memory. */
static inline int lj_group_write(LjGroups *groups, const LjGroup *group) {
    LjBuffer *out = &groups->body;
    uint8_t version = LJ_BODY_VERSION;
    out->len = 0;
    int failed = LJ_BODY_PUT(out, version) || LJ_BODY_PUT(out, group->rows)
                 || lj_body_put(out, group->dressed, (size_t)groups->n_terms * sizeof(int64_t));
    for (int i = 0; !failed && i < groups->n_arguments; i++) {
        const LjKept *kept = &group->kept[i];
        failed = LJ_BODY_PUT(out, kept->n) || (groups->arguments[i].sums && lj_sum_write(out, &kept->sum))
                 || (kept->least && lj_extremes_write(out, kept->least))
                 || (kept->greatest && lj_extremes_write(out, kept->greatest));
    }
    uint64_t check = failed ? 0 : lj_xxh64(out->data, out->len, 0);
    return failed || LJ_BODY_PUT(out, check);
}

typedef struct { const uint8_t *at, *end; int failed; } LjReading;

static inline void lj_body_take(LjReading *in, void *to, size_t size) {
    if (in->failed || (size_t)(in->end - in->at) < size) {
        in->failed = 1;
        memset(to, 0, size);
        return;
    }
    memcpy(to, in->at, size);
    in->at += size;
}

#define LJ_BODY_TAKE(in, value) lj_body_take(in, &(value), sizeof(value))

static inline void lj_extremes_read(LjReading *in, LjExtremes *list) {
    uint8_t head[2];
    LJ_BODY_TAKE(in, head);
    list->whole = head[0] & 1;
    list->lost = head[0] >> 1;
    if (head[1] > LJ_EXTREMES) in->failed = 1;
    for (int i = 0; !in->failed && i < head[1]; i++) {
        LjExtreme *e = &list->at[i];
        memset(e, 0, sizeof *e);
        LJ_BODY_TAKE(in, e->kind);
        LJ_BODY_TAKE(in, e->n);
        if (e->kind == SQLITE_INTEGER) LJ_BODY_TAKE(in, e->integer);
        else if (e->kind == SQLITE_FLOAT) LJ_BODY_TAKE(in, e->real);
        else {
            LJ_BODY_TAKE(in, e->size);
            if (in->failed || (size_t)(in->end - in->at) < e->size) { in->failed = 1; break; }
            e->text = e->size ? (char *)malloc(e->size) : NULL;
            if (e->size && !e->text) { in->failed = 1; break; }
            lj_body_take(in, e->text, e->size);
        }
        list->n = i + 1;
    }
}

static inline void lj_sum_read(LjReading *in, LjSum *sum) {
    LJ_BODY_TAKE(in, sum->whole);
    LJ_BODY_TAKE(in, sum->whole_size);
    LJ_BODY_TAKE(in, sum->reals);
    if (!sum->reals) return;
    LJ_BODY_TAKE(in, sum->odd);
    LJ_BODY_TAKE(in, sum->real);
    LJ_BODY_TAKE(in, sum->real_size);
    LJ_BODY_TAKE(in, sum->grain);
}

/* A cleared group from its bytes; -1: they are not what was written. */
static inline int lj_group_read(const LjGroups *groups, LjGroup *group, const void *bytes, size_t size) {
    uint8_t version = 0;
    uint64_t check = 0;
    if (size < sizeof check) return -1;
    LjReading in = {(const uint8_t *)bytes, (const uint8_t *)bytes + size - sizeof check, 0};
    memcpy(&check, in.end, sizeof check);
    if (lj_xxh64(bytes, size - sizeof check, 0) != check) return -1;
    LJ_BODY_TAKE(&in, version);
    LJ_BODY_TAKE(&in, group->rows);
    lj_body_take(&in, group->dressed, (size_t)groups->n_terms * sizeof(int64_t));
    for (int i = 0; !in.failed && i < groups->n_arguments; i++) {
        LjKept *kept = &group->kept[i];
        LJ_BODY_TAKE(&in, kept->n);
        if (groups->arguments[i].sums) lj_sum_read(&in, &kept->sum);
        kept->sum.n = kept->n;
        if (kept->least) lj_extremes_read(&in, kept->least);
        if (kept->greatest) lj_extremes_read(&in, kept->greatest);
    }
    return in.failed || version != LJ_BODY_VERSION || in.at != in.end ? -1 : 0;
}

/* ---------------------------------------------------------------- terms */

static inline int lj_term_write(LjBuffer *out, const LjValue *v) {
    uint8_t kind = v->kind == SQLITE_NULL ? LJ_TERM_NULL : v->kind == SQLITE_TEXT ? LJ_TERM_TEXT
                 : v->kind == SQLITE_FLOAT && !lj_value_is_whole(v) ? LJ_TERM_REAL : LJ_TERM_INTEGER;
    int64_t whole = v->kind == SQLITE_FLOAT ? (kind == LJ_TERM_INTEGER ? (int64_t)v->real : 0) : v->integer;
    if (LJ_BODY_PUT(out, kind)) return -1;
    switch (kind) {
    case LJ_TERM_NULL: return 0;
    case LJ_TERM_INTEGER: return LJ_BODY_PUT(out, whole);
    case LJ_TERM_REAL: return LJ_BODY_PUT(out, v->real);
    default: return LJ_BODY_PUT(out, v->size) || lj_body_put(out, v->size ? v->text : "", v->size);
    }
}

/* The value of the next term; texts stay where they are. 0: the bytes are not terms. */
static inline int lj_term_read(LjReading *in, LjValue *v) {
    uint8_t kind = 0;
    memset(v, 0, sizeof *v);
    LJ_BODY_TAKE(in, kind);
    v->kind = kind == LJ_TERM_NULL ? SQLITE_NULL : kind == LJ_TERM_TEXT ? SQLITE_TEXT
            : kind == LJ_TERM_REAL ? SQLITE_FLOAT : SQLITE_INTEGER;
    if (kind == LJ_TERM_INTEGER) LJ_BODY_TAKE(in, v->integer);
    if (kind == LJ_TERM_REAL) LJ_BODY_TAKE(in, v->real);
    if (kind == LJ_TERM_TEXT) {
        LJ_BODY_TAKE(in, v->size);
        if (in->failed || (size_t)(in->end - in->at) < v->size) return 0;
        v->text = (const char *)in->at;
        in->at += v->size;
    }
    return !in->failed;
}

/* The terms of a group as they are shown. 0: 1 and 1.0 are in one group, or 0.0 and -0.0 may be: which of them is
 * shown is the one that SQLite meets first. */
static inline int lj_terms_shown(const LjGroups *groups, const LjGroup *group, const uint8_t *terms, size_t size,
                                 LjValue *out) {
    LjReading in = {terms, terms + size, 0};
    for (int i = 0; i < groups->n_terms; i++) {
        if (!lj_term_read(&in, &out[i])) return 0;
        if (!group->dressed[i]) continue;
        if (group->dressed[i] != group->rows || out[i].integer == 0) return 0;
        out[i].kind = SQLITE_FLOAT;
        out[i].real = (double)out[i].integer;
    }
    return 1;
}

/* ---------------------------------------------------------------- finding groups */

static inline void lj_groups_reset(LjGroups *groups) {
    for (uint32_t i = 0; i < groups->n; i++) lj_group_free(groups, &groups->items[i]);
    groups->n = 0;
    groups->texts.len = 0;
    km_clear(&groups->by_id);
}

static inline int lj_groups_load(LjGroups *groups, LjGroup *group) {
    sqlite3_stmt *stmt = groups->select;
    const char *id = (const char *)groups->texts.data + group->id_at;
    int failed = LJ_NATIVE_OK;
    sqlite3_bind_int64(stmt, 1, groups->join_id);
    sqlite3_bind_text(stmt, 2, id, (int)group->key_len, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, id + group->key_len, (int)(group->id_len - group->key_len), SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        const void *bytes = sqlite3_column_blob(stmt, 0);
        group->is_stored = 1;
        if (lj_group_read(groups, group, bytes, (size_t)sqlite3_column_bytes(stmt, 0))) failed = LJ_NATIVE_UNSURE;
    } else if (rc != SQLITE_DONE) {
        failed = LJ_NATIVE_STATE;
    }
    sqlite3_reset(stmt);
    return failed;
}

/* The group of these terms, as of this flush; it is made when there is none. */
static inline int lj_groups_find(LjGroups *groups, const LjValue *const *terms, LjGroup **out) {
    LjBuffer *texts = &groups->texts;
    size_t at = texts->len;
    groups->key.buffer.len = 0;
    groups->key.failed = 0;
    lj_value_put_key(&groups->key, terms[groups->key_term]);
    uint32_t key_len = (uint32_t)groups->key.buffer.len;
    int failed = groups->key.failed || lj_body_put(texts, groups->key.buffer.data, key_len);
    for (int i = 0; !failed && i < groups->n_terms; i++) {
        if (terms[i]->kind == SQLITE_BLOB) return LJ_NATIVE_UNSURE;
        failed = lj_term_write(texts, terms[i]);
    }
    if (failed) return LJ_NATIVE_MEMORY;
    uint32_t id_len = (uint32_t)(texts->len - at), n;
    uint64_t hash = lj_map_hash(texts->data + at, id_len, 0);
    const uint64_t *refs;
    n = km_find(&groups->by_id, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        LjGroup *group = &groups->items[refs[i] - 1];
        if (group->id_len != id_len || memcmp(texts->data + group->id_at, texts->data + at, id_len)) continue;
        texts->len = at;
        *out = group;
        return LJ_NATIVE_OK;
    }
    if (groups->n == groups->cap) {
        LjGroup *more = (LjGroup *)realloc(groups->items, ((size_t)groups->cap * 2 + 64) * sizeof(LjGroup));
        if (!more) return LJ_NATIVE_MEMORY;
        groups->items = more;
        groups->cap = groups->cap * 2 + 64;
    }
    LjGroup *group = &groups->items[groups->n++];
    memset(group, 0, sizeof *group);
    group->id_at = at;
    group->key_len = key_len;
    group->id_len = id_len;
    if (lj_group_make(groups, group) || km_add(&groups->by_id, hash, groups->n)) return LJ_NATIVE_MEMORY;
    *out = group;
    return lj_groups_load(groups, group);
}

/* ---------------------------------------------------------------- changing a group */

/* Texts and blobs as SUM takes them; SQLite knows how. */
static inline int lj_number_of(LjGroups *groups, const LjValue *v, LjValue *out) {
    sqlite3_stmt *stmt = groups->number;
    if (v->kind == SQLITE_TEXT) sqlite3_bind_text(stmt, 1, v->text, (int)v->size, SQLITE_STATIC);
    else sqlite3_bind_blob(stmt, 1, v->text, (int)v->size, SQLITE_STATIC);
    memset(out, 0, sizeof *out);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        out->kind = (uint8_t)sqlite3_column_type(stmt, 0);
        out->integer = sqlite3_column_int64(stmt, 0);
        out->real = sqlite3_column_double(stmt, 0);
    }
    sqlite3_reset(stmt);
    return rc == SQLITE_ROW ? LJ_NATIVE_OK : LJ_NATIVE_UNSURE;
}

/* Put a row's argument in (sign 1) or take it out (-1). */
static inline int lj_kept_change(LjGroups *groups, LjKept *kept, const LjArgument *wanted, const LjValue *v, int sign) {
    LjValue number = *v;
    int failed = LJ_NATIVE_OK;
    if (v->kind == SQLITE_NULL) return LJ_NATIVE_OK;
    kept->n += sign;
    if (wanted->sums) {
        if (v->kind == SQLITE_TEXT || v->kind == SQLITE_BLOB) failed = lj_number_of(groups, v, &number);
        if (failed) return failed;
        if (number.kind == SQLITE_INTEGER) lj_sum_whole(&kept->sum, number.integer, sign);
        else lj_sum_real(&kept->sum, number.real, sign);
    }
    for (int down = 0; down < 2; down++) {
        LjExtremes *list = down ? kept->greatest : kept->least;
        if (!list) continue;
        failed = lj_extremes_change(list, v, down, sign);
        if (failed) return failed < 0 ? LJ_NATIVE_MEMORY : LJ_NATIVE_UNSURE;
    }
    return kept->n < 0 || kept->sum.reals < 0 ? LJ_NATIVE_UNSURE : LJ_NATIVE_OK;
}

/* Put a row in or take it out. UNSURE: what is taken out never came in. */
static inline int lj_group_change(LjGroups *groups, LjGroup *group, const LjValue *const *terms,
                                  const LjValue *const *arguments, int sign) {
    int failed = LJ_NATIVE_OK;
    group->rows += sign;
    for (int i = 0; i < groups->n_terms; i++)
        group->dressed[i] += terms[i]->kind == SQLITE_FLOAT && lj_value_is_whole(terms[i]) ? sign : 0;
    for (int i = 0; !failed && i < groups->n_arguments; i++)
        failed = lj_kept_change(groups, &group->kept[i], &groups->arguments[i], arguments[i], sign);
    return failed;
}

/* The order of changes in a flush may take out before it puts in: judged when all are in. */
static inline int lj_group_is_sound(const LjGroups *groups, const LjGroup *group) {
    int sound = group->rows >= 0;
    for (int i = 0; i < groups->n_arguments; i++) {
        const LjKept *kept = &group->kept[i];
        sound = sound && kept->n >= 0 && kept->n <= group->rows && kept->sum.reals >= 0 && kept->sum.odd >= 0;
    }
    return sound;
}

/* ---------------------------------------------------------------- what is shown of it */

static inline int lj_sum_shown(const LjSum *sum, int name, LjValue *out) {
    double real = 0;
    out->kind = SQLITE_FLOAT;
    if (!sum->reals) {
        /* Beyond this an addition may overflow on the way, as the rows' order has it. */
        if (sum->whole_size > (LjWide)INT64_MAX) return 0;
        out->integer = (int64_t)sum->whole;
        if (name == LJ_SUM) out->kind = SQLITE_INTEGER;
        real = (double)out->integer;
    } else if (!lj_sum_of_reals(sum, &real)) {
        return 0;
    }
    out->real = name == LJ_AVG ? real / (double)sum->n : real;
    return 1;
}

/* 1 and the value of an aggregate; 0: the group must be read. */
static inline int lj_aggregate_shown(const LjGroup *group, const LjAggregate *aggregate, LjValue *out) {
    const LjKept *kept = aggregate->argument < 0 ? NULL : &group->kept[aggregate->argument];
    memset(out, 0, sizeof *out);
    out->kind = SQLITE_INTEGER;
    out->integer = kept ? kept->n : group->rows;
    if (aggregate->name == LJ_COUNT) return 1;
    out->kind = aggregate->name == LJ_TOTAL ? SQLITE_FLOAT : SQLITE_NULL;
    if (kept->n == 0) return 1;
    if (aggregate->name == LJ_MIN) return lj_extremes_first(kept->least, out);
    if (aggregate->name == LJ_MAX) return lj_extremes_first(kept->greatest, out);
    return lj_sum_shown(&kept->sum, aggregate->name, out);
}

/* True when reading the group's rows again would help: a list of extremes has run empty. */
static inline int lj_group_is_lost(const LjGroups *groups, const LjGroup *group) {
    for (int i = 0; i < groups->n_arguments; i++) {
        const LjKept *kept = &group->kept[i];
        if (kept->n && ((kept->least && kept->least->lost == 1) || (kept->greatest && kept->greatest->lost == 1)))
            return 1;
    }
    return 0;
}

/* ---------------------------------------------------------------- state.db */

static inline int lj_groups_store(LjGroups *groups, const LjGroup *group) {
    const char *id = (const char *)groups->texts.data + group->id_at;
    sqlite3_stmt *stmt = group->rows ? groups->put : groups->remove;
    if (!group->rows && !group->is_stored) return LJ_NATIVE_OK;
    if (group->rows && lj_group_write(groups, group)) return LJ_NATIVE_MEMORY;
    sqlite3_bind_int64(stmt, 1, groups->join_id);
    sqlite3_bind_text(stmt, 2, id, (int)group->key_len, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, id + group->key_len, (int)(group->id_len - group->key_len), SQLITE_STATIC);
    if (group->rows) sqlite3_bind_blob(stmt, 4, groups->body.data, (int)groups->body.len, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE ? LJ_NATIVE_OK : LJ_NATIVE_STATE;
}

static inline void lj_groups_free(LjGroups *groups) {
    lj_groups_reset(groups);
    free(groups->items);
    groups->items = NULL;
    groups->cap = 0;
    lj_buffer_free(&groups->texts);
    lj_buffer_free(&groups->body);
    lj_buffer_free(&groups->key.buffer);
    sqlite3_finalize(groups->select);
    sqlite3_finalize(groups->put);
    sqlite3_finalize(groups->remove);
    sqlite3_finalize(groups->of_key);
    sqlite3_finalize(groups->number);
}
#endif
