/* A query with GROUP BY whose groups are accumulators: from the changes of a flush (native_walk.h) to groups, and
 * from groups (native_group.h) to results. Compiled by nativejoin.pyx from plan/native_groups.py's description. */
#ifndef LJ_NATIVE_GROUPED_H
#define LJ_NATIVE_GROUPED_H
#include "native_walk.h"

#define LJ_SPILL 20000 /* groups held in memory while all are made: some 10 MB */

/* ---------------------------------------------------------------- reading a group again */

static inline int lj_again(LjGrouped *g, uint32_t number) {
    LjGroup *group = &g->groups.items[number];
    LjValue key;
    LjReading in = {g->groups.texts.data + group->id_at + group->key_len,
                    g->groups.texts.data + group->id_at + group->id_len, 0};
    for (int i = 0; i <= g->groups.key_term; i++)
        if (!lj_term_read(&in, &key)) return LJ_NATIVE_UNSURE;
    char *text = NULL;
    if (key.kind == SQLITE_TEXT) {
        /* The buffer of ids moves while groups are met. */
        text = (char *)malloc(key.size + 1);
        if (!text) return LJ_NATIVE_MEMORY;
        memcpy(text, key.text, key.size);
        key.text = text;
    }
    lj_group_clear(&g->groups, group);
    g->root = &g->roots[g->key_ref];
    g->at_ref = g->n_refs; /* every row as it is now */
    g->only = (int)number + 1;
    g->sign = 1;
    LjRef *first = &g->root->walk.refs[0];
    int failed = key.kind == SQLITE_NULL
                     ? lj_meet_rows(g, 0, g->key_ref, first, g->by.index, LJ_NULL_HASH, lj_placed)
                     : lj_meet_all(g, 0, g->key_ref, first, &g->by, &key, lj_placed);
    g->only = 0;
    free(text);
    return failed;
}

/* ---------------------------------------------------------------- results */

static inline int lj_collect_want(void *context, const void *key, size_t size) {
    (void)context; (void)key; (void)size;
    return 0;
}

static inline int lj_collect_row(void *context, const void *key, size_t key_size, const void *row, size_t size, uint64_t hash) {
    LjBuffer *lines = &((LjGrouped *)context)->lines;
    (void)key; (void)key_size;
    return LJ_BODY_PUT(lines, size) || LJ_BODY_PUT(lines, hash) || lj_body_put(lines, row, size) ? -1 : 0;
}

static inline void lj_bind_value(sqlite3_stmt *stmt, int at, const LjValue *v) {
    switch (v->kind) {
    case SQLITE_NULL: sqlite3_bind_null(stmt, at); break;
    case SQLITE_INTEGER: sqlite3_bind_int64(stmt, at, v->integer); break;
    case SQLITE_FLOAT: sqlite3_bind_double(stmt, at, v->real); break;
    case SQLITE_TEXT: sqlite3_bind_text(stmt, at, v->text, (int)v->size, SQLITE_TRANSIENT); break;
    default: sqlite3_bind_blob(stmt, at, v->text, (int)v->size, SQLITE_TRANSIENT);
    }
}

/* Add the row of a group to `lines`, if HAVING lets it. UNSURE: only its rows can tell. */
static inline int lj_line(LjGrouped *g, const LjGroup *group, const uint8_t *terms, size_t size) {
    LjRef *ref = &g->shown.refs[0];
    LjValue shown[LJ_TERMS], value;
    int there = 0, n = g->groups.n_terms;
    if (!group->rows) return LJ_NATIVE_OK;
    if (!lj_terms_shown(&g->groups, group, terms, size, shown)) return LJ_NATIVE_UNSURE;
    for (int i = 0; i < n; i++) lj_bind_value(ref->program, i + 1, &shown[i]);
    for (int i = 0; i < g->groups.n_aggregates; i++) {
        if (!lj_aggregate_shown(group, &g->groups.aggregates[i], &value)) return LJ_NATIVE_UNSURE;
        lj_bind_value(ref->program, n + 1 + i, &value);
    }
    int failed = lj_program_step(ref, &there);
    return failed || !there ? failed : lj_emit(&g->shown);
}

/* Every group of a result key, from state.db. */
static inline int lj_lines(LjGrouped *g, const LjGroup *one) {
    LjGroups *groups = &g->groups;
    sqlite3_stmt *stmt = groups->of_key;
    int rc, failed = LJ_NATIVE_OK;
    if (!g->stored.kept && lj_group_make(groups, &g->stored)) return LJ_NATIVE_MEMORY;
    sqlite3_bind_int64(stmt, 1, groups->join_id);
    sqlite3_bind_text(stmt, 2, (const char *)groups->texts.data + one->id_at, (int)one->key_len, SQLITE_STATIC);
    while (!failed && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const void *terms = sqlite3_column_blob(stmt, 0), *body = sqlite3_column_blob(stmt, 1);
        size_t size = (size_t)sqlite3_column_bytes(stmt, 0), body_size = (size_t)sqlite3_column_bytes(stmt, 1);
        lj_group_clear(groups, &g->stored);
        if (lj_group_read(groups, &g->stored, body, body_size)) failed = LJ_NATIVE_UNSURE;
        else failed = lj_line(g, &g->stored, (const uint8_t *)terms, size);
    }
    if (!failed && rc != SQLITE_DONE) failed = LJ_NATIVE_STATE;
    sqlite3_reset(stmt);
    return failed;
}

/* Leave a key to the delta level, which reads its rows. */
static inline int lj_leave(LjGrouped *g, const uint8_t *terms, size_t size) {
    LjReading in = {terms, terms + size, 0};
    LjValue key;
    for (int i = 0; i <= g->groups.key_term; i++)
        if (!lj_term_read(&in, &key)) return LJ_NATIVE_UNSURE;
    lj_bind_value(g->affect, 1, &key);
    int rc = sqlite3_step(g->affect);
    sqlite3_reset(g->affect);
    g->n_unsure++;
    return rc == SQLITE_DONE ? LJ_NATIVE_OK : LJ_NATIVE_UNSURE;
}

/* Hand over the result of the key that a group has. */
static inline int lj_hand_over(LjGrouped *g, const LjGroup *group) {
    const char *key = (const char *)g->groups.texts.data + group->id_at;
    const uint8_t *terms = (const uint8_t *)key + group->key_len;
    size_t size = group->id_len - group->key_len, at = 0;
    g->lines.len = 0;
    int failed = g->groups.n_terms == 1 ? lj_line(g, group, terms, size) : lj_lines(g, group);
    if (failed == LJ_NATIVE_UNSURE) return lj_leave(g, terms, size);
    if (!failed && g->out->want(g->out->context, key, group->key_len)) failed = LJ_NATIVE_MEMORY;
    while (!failed && at < g->lines.len) {
        size_t length;
        uint64_t hash;
        memcpy(&length, g->lines.data + at, sizeof length);
        memcpy(&hash, g->lines.data + at + sizeof length, sizeof hash);
        at += sizeof length + sizeof hash;
        if (g->out->row(g->out->context, key, group->key_len, g->lines.data + at, length, hash)) failed = LJ_NATIVE_MEMORY;
        at += length;
    }
    return failed;
}

/* True when another group of this key was met before. */
static inline int lj_is_shown(LjGrouped *g, uint32_t number, int *failed) {
    const LjGroup *group = &g->groups.items[number];
    const uint8_t *texts = g->groups.texts.data;
    uint64_t hash = lj_map_hash(texts + group->id_at, group->key_len, 0);
    const uint64_t *refs;
    uint32_t n = km_find(&g->keys, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        const LjGroup *other = &g->groups.items[refs[i] - 1];
        if (other->key_len == group->key_len && memcmp(texts + other->id_at, texts + group->id_at, group->key_len) == 0)
            return 1;
    }
    if (km_add(&g->keys, hash, number + 1)) *failed = LJ_NATIVE_MEMORY;
    return 0;
}

static inline int lj_store_all(LjGrouped *g) {
    int failed = LJ_NATIVE_OK;
    for (uint32_t i = 0; !failed && i < g->groups.n; i++) failed = lj_groups_store(&g->groups, &g->groups.items[i]);
    return failed;
}

static inline int lj_grouped_read(LjNativeJoin *base, const LjSink *sink) {
    LjGrouped *g = (LjGrouped *)base;
    int failed = LJ_NATIVE_OK;
    if (g->reads_rows && !g->rows->fresh) return LJ_NATIVE_UNSURE;
    g->out = sink;
    g->n_unsure = 0;
    lj_groups_reset(&g->groups);
    km_clear(&g->keys);
    failed = lj_changes(g);
    for (uint32_t i = 0; !failed && i < g->groups.n; i++) {
        if (!lj_group_is_sound(&g->groups, &g->groups.items[i])) failed = LJ_NATIVE_UNSURE;
        else if (g->groups.items[i].rows && lj_group_is_lost(&g->groups, &g->groups.items[i])) failed = lj_again(g, i);
    }
    if (!failed) failed = lj_store_all(g);
    uint32_t n = g->groups.n;
    for (uint32_t i = 0; !failed && i < n; i++) {
        if (g->groups.n_terms > 1 && lj_is_shown(g, i, &failed)) continue;
        if (!failed) failed = lj_hand_over(g, &g->groups.items[i]);
    }
    lj_groups_reset(&g->groups);
    return failed;
}

/* ---------------------------------------------------------------- all groups anew */

static inline int lj_rebuild_shard(LjGrouped *g, sqlite3_stmt *stmt) {
    LjRef *first = &g->root->walk.refs[0];
    int failed = LJ_NATIVE_OK;
    while (!failed) {
        LjVersion row;
        int there;
        failed = lj_rows_step(g->rows, first->slot, stmt, &row, &there);
        if (failed || !there) break;
        failed = lj_program_run(first, &row, 0);
        if (!failed) failed = lj_placed(g, 0);
        if (!failed && g->groups.n > LJ_SPILL) {
            failed = lj_store_all(g);
            lj_groups_reset(&g->groups);
        }
    }
    return failed;
}

/* Make the groups from the topics as the shards show them; state.db holds none of this join. */
static inline int lj_grouped_rebuild(LjGrouped *g) {
    int failed = LJ_NATIVE_OK;
    g->root = &g->roots[0];
    g->at_ref = g->n_refs;
    g->only = 0;
    g->sign = 1;
    lj_groups_reset(&g->groups);
    for (int ref = 0; ref < g->n_refs; ref++) {
        int slot = g->roots[ref].walk.refs[0].slot;
        if (lj_net_make(&g->rows->nets[slot], g->rows->host->topics[slot])) return LJ_NATIVE_MEMORY;
        if (g->rows->nets[slot].is_elided) return LJ_NATIVE_UNSURE;
    }
    for (int shard = 0; !failed && shard < g->rows->host->shards; shard++) {
        sqlite3_stmt *stmt = NULL;
        failed = lj_rows_scan(g->rows, g->root->walk.refs[0].slot, shard, &stmt);
        if (!failed) failed = lj_rebuild_shard(g, stmt);
        sqlite3_finalize(stmt);
    }
    if (!failed) failed = lj_store_all(g);
    lj_groups_reset(&g->groups);
    return failed;
}

static inline void lj_ref_free(LjRef *ref) {
    sqlite3_finalize(ref->program);
    lj_buffer_free(&ref->memory);
    free(ref->on);
    free(ref->where);
    memset(ref, 0, sizeof *ref);
}

static inline void lj_grouped_free(LjGrouped *g) {
    for (int i = 0; g->roots && i < g->n_refs; i++) {
        LjRoot *root = &g->roots[i];
        for (int j = 0; root->walk.refs && j < root->walk.n_refs; j++) lj_ref_free(&root->walk.refs[j]);
        free(root->walk.refs);
        lj_ref_free(&root->now);
        lj_ref_free(&root->other);
        lj_ref_free(&root->none);
        free(root->on);
        free(root->last);
    }
    free(g->roots);
    lj_group_free(&g->groups, &g->stored);
    lj_groups_free(&g->groups);
    lj_buffer_free(&g->lines);
    km_clear(&g->keys);
    sqlite3_finalize(g->affect);
    lj_native_clear(&g->shown);
    free(g);
}
#endif
