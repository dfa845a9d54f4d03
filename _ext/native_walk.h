/* The joined rows that go and come with the changes of a flush, for a query whose groups are accumulators.
 *
 * The changes are applied one row at a time, in the order of references and rows: with the row under way,
 * references before its own show their new rows, those behind it the old ones. So every joined row that goes or
 * comes is met once, whatever else the flush has changed. Each reference has a root: the walk that starts at it. A
 * row of an optional reference (LEFT JOIN) also takes the row of NULLs away or brings it back, where no other row
 * is left in its place. native_grouped.h makes results of what lj_changes has done to the groups. */
#ifndef LJ_NATIVE_WALK_H
#define LJ_NATIVE_WALK_H
#include "native_group.h"
#include "native_join.h"

typedef struct {
    LjJoin walk;        /* references from the changed one on; only refs and n_refs are used */
    int number[LJ_NATIVE_REFS]; /* which of the query's each is */
    LjPlace terms[LJ_TERMS], arguments[LJ_ARGUMENTS];
    int core;           /* of an optional reference: those placed before its LEFT JOIN is decided; else 0 */
    LjCheck *on, *last; /* its ON; the conditions of WHERE on it */
    int n_on, n_last;
    LjFinder probe;     /* its other rows, by `source` */
    LjPlace source;
    LjRef now, other, none; /* programs like that of the changed one, with values of their own */
} LjRoot;

typedef struct {
    LjNativeJoin base;
    LjRows *rows;
    int n_refs, key_ref;
    int reads_rows;     /* other rows than those that have changed are looked at */
    LjRoot *roots;
    LjFinder by;        /* how rows of `key_ref` are found for a result key */
    LjGroups groups;
    LjJoin shown;       /* its reference 0 is the result row of a group: outputs, key */
    LjSink sink;
    const LjSink *out;
    LjBuffer lines;     /* result rows of one key: length, hash, text */
    KeyMap keys;        /* hash of a result key -> its first group + 1 */
    LjGroup stored;     /* one read from state.db to be shown */
    sqlite3_stmt *affect; /* notes a key for the delta level */
    int n_unsure;       /* keys noted so by the last read */
    /* the change under way */
    LjRoot *root;
    int at_ref, sign, is_decided, only; /* only: the one group that is read again, + 1 */
    uint32_t at_item;
} LjGrouped;

/* ---------------------------------------------------------------- rows as they were */

static inline const LjVersion *lj_seen(const LjGrouped *g, int number, const LjNet *net, uint32_t item) {
    const LjNetChange *change = &net->items[item - 1];
    int is_new = number < g->at_ref || (number == g->at_ref && item < g->at_item);
    return is_new ? change->now : change->old;
}

typedef int (*LjMeet)(LjGrouped *g, int level);

/* Look at a row for a reference; `into` gets its values. */
static inline int lj_meet(LjGrouped *g, int level, LjRef *into, const LjVersion *row, int stable, sqlite3_stmt *stmt,
                          LjMeet meet) {
    int failed = lj_program_run(into, row, stable);
    if (stmt) sqlite3_reset(stmt);
    return failed ? failed : meet(g, level);
}

static inline int lj_meet_key(LjGrouped *g, int level, int number, LjRef *into, LjSlice key, LjMeet meet) {
    LjNet *net = &g->rows->nets[into->slot];
    uint32_t item = lj_net_find(net, key);
    if (item) {
        const LjVersion *seen = lj_seen(g, number, net, item);
        int is_itself = number == g->at_ref && item == g->at_item;
        return seen && !is_itself ? lj_meet(g, level, into, seen, 1, NULL, meet) : LJ_NATIVE_OK;
    }
    LjVersion row;
    sqlite3_stmt *stmt = NULL;
    int there, failed = lj_rows_by_key(g->rows, into->slot, key, &row, &there, &stmt);
    if (!failed && there) return lj_meet(g, level, into, &row, 0, stmt, meet);
    if (stmt) sqlite3_reset(stmt);
    return failed;
}

/* Rows that are in their shard with the value now. */
static inline int lj_meet_rows(LjGrouped *g, int level, int number, LjRef *into, int index, uint64_t hash, LjMeet meet) {
    LjNet *net = &g->rows->nets[into->slot];
    const uint64_t *refs;
    uint32_t n = km_find(&g->rows->host->topics[into->slot]->indexes[index].rows, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t item = lj_net_find_ref(net, refs[i]);
        int there, failed;
        if (item) {
            const LjNetChange *change = &net->items[item - 1];
            int is_itself = number == g->at_ref && item == g->at_item;
            if (is_itself || !change->now || lj_seen(g, number, net, item) != change->now) continue;
            failed = lj_meet(g, level, into, change->now, 1, NULL, meet);
        } else {
            LjVersion row;
            sqlite3_stmt *stmt = NULL;
            failed = lj_rows_by_ref(g->rows, into->slot, refs[i], &row, &there, &stmt);
            if (!failed && there) failed = lj_meet(g, level, into, &row, 0, stmt, meet);
            else if (stmt) sqlite3_reset(stmt);
        }
        if (failed) return failed;
    }
    return LJ_NATIVE_OK;
}

/* Old versions with the value, of rows that are still seen as they were. */
static inline int lj_meet_olds(LjGrouped *g, int level, int number, LjRef *into, int index, uint64_t hash, LjMeet meet) {
    const LjTopic *topic = g->rows->host->topics[into->slot];
    LjNet *net = &g->rows->nets[into->slot];
    const uint64_t *refs;
    uint32_t n = km_find(&topic->indexes[index].olds, hash, &refs);
    for (uint32_t i = 0; i < n; i++) {
        const LjVersion *old = &topic->changes[refs[i] - 1].old;
        uint32_t item = lj_net_find(net, old->key);
        if (!item || net->items[item - 1].old != old || (number == g->at_ref && item == g->at_item)) continue;
        if (lj_seen(g, number, net, item) != old) continue;
        int failed = lj_meet(g, level, into, old, 1, NULL, meet);
        if (failed) return failed;
    }
    return LJ_NATIVE_OK;
}

/* Rows of a reference that a value may match, as they are seen at this change: the conditions decide. */
static inline int lj_meet_all(LjGrouped *g, int level, int number, LjRef *into, const LjFinder *finder,
                              const LjValue *value, LjMeet meet) {
    LjSlice key = {value->text, value->size};
    if (value->kind == SQLITE_NULL || (finder->by_key && value->kind == SQLITE_BLOB)) return LJ_NATIVE_OK;
    if (finder->by_key) return lj_meet_key(g, level, number, into, key, meet);
    uint64_t hash = lj_value_hash(value, finder->is_text);
    int failed = lj_meet_rows(g, level, number, into, finder->index, hash, meet);
    return failed ? failed : lj_meet_olds(g, level, number, into, finder->index, hash, meet);
}

/* ---------------------------------------------------------------- joined rows */

/* A joined row is in place: it comes or goes. */
static inline int lj_joined(LjGrouped *g) {
    LjRoot *root = g->root;
    const LjValue *terms[LJ_TERMS], *arguments[LJ_ARGUMENTS];
    LjGroup *group;
    if (root->core && !lj_checks(&root->walk, root->last, root->n_last)) return LJ_NATIVE_OK;
    for (int i = 0; i < g->groups.n_terms; i++) terms[i] = lj_value_of(&root->walk, root->terms[i]);
    for (int i = 0; i < g->groups.n_arguments; i++) arguments[i] = lj_value_of(&root->walk, root->arguments[i]);
    int failed = lj_groups_find(&g->groups, terms, &group);
    if (failed || (g->only && group != &g->groups.items[g->only - 1])) return failed;
    return lj_group_change(&g->groups, group, terms, arguments, g->sign);
}

static inline int lj_decide(LjGrouped *g);

static inline int lj_down(LjGrouped *g, int level);

static inline int lj_placed(LjGrouped *g, int level) {
    LjJoin *walk = &g->root->walk;
    LjRef *ref = &walk->refs[level];
    if (!lj_checks(walk, ref->on, ref->n_on)) return LJ_NATIVE_OK;
    ref->matched = 1;
    return lj_checks(walk, ref->where, ref->n_where) ? lj_down(g, level + 1) : LJ_NATIVE_OK;
}

static inline int lj_down(LjGrouped *g, int level) {
    LjRoot *root = g->root;
    LjJoin *walk = &root->walk;
    if (root->core && level == root->core && !g->is_decided) return lj_decide(g);
    if (level == walk->n_refs) return lj_joined(g);
    LjRef *ref = &walk->refs[level];
    ref->matched = 0;
    int failed = lj_meet_all(g, level, root->number[level], ref, &ref->probe, lj_value_of(walk, ref->source), lj_placed);
    if (failed || !ref->outer || ref->matched) return failed;
    failed = lj_program_run(ref, NULL, 0);
    if (failed || !lj_checks(walk, ref->where, ref->n_where)) return failed;
    return lj_down(g, level + 1);
}

/* ---------------------------------------------------------------- LEFT JOIN */

static inline void lj_show(LjRef *to, const LjRef *from) {
    memcpy(to->values, from->values, (size_t)to->n_values * sizeof(LjValue));
}

enum { LJ_FOUND = -1 };

static inline int lj_matches(LjGrouped *g, int level) {
    LjRoot *root = g->root;
    LjValue kept[LJ_NATIVE_VALUES];
    size_t size = (size_t)root->walk.refs[0].n_values * sizeof(LjValue);
    (void)level;
    memcpy(kept, root->walk.refs[0].values, size);
    lj_show(&root->walk.refs[0], &root->none);
    int matches = lj_checks(&root->walk, root->on, root->n_on);
    memcpy(root->walk.refs[0].values, kept, size);
    return matches ? LJ_FOUND : LJ_NATIVE_OK;
}

/* Does the row's other version, or any other row, take the place that this one has? LJ_FOUND: yes. */
static inline int lj_is_taken(LjGrouped *g, int has_other) {
    LjRoot *root = g->root;
    LjRef *first = &root->walk.refs[0];
    if (has_other) {
        LjValue kept[LJ_NATIVE_VALUES];
        memcpy(kept, first->values, (size_t)first->n_values * sizeof(LjValue));
        lj_show(first, g->sign < 0 ? &root->now : &root->other);
        int matches = lj_checks(&root->walk, root->on, root->n_on);
        memcpy(first->values, kept, (size_t)first->n_values * sizeof(LjValue));
        if (matches) return LJ_FOUND;
    }
    return lj_meet_all(g, 0, root->number[0], &root->none, &root->probe, lj_value_of(&root->walk, root->source), lj_matches);
}

/* Both versions of the row under way are there. */
static inline int lj_has_both(const LjGrouped *g) {
    const LjNetChange *change = &g->rows->nets[g->root->walk.refs[0].slot].items[g->at_item - 1];
    return change->old && change->now;
}

/* All references that are not optional are in place beside a row of the optional one. */
static inline int lj_decide(LjGrouped *g) {
    LjRoot *root = g->root;
    LjRef *first = &root->walk.refs[0];
    LjValue kept[LJ_NATIVE_VALUES];
    size_t size = (size_t)first->n_values * sizeof(LjValue);
    if (!lj_checks(&root->walk, root->on, root->n_on)) return LJ_NATIVE_OK;
    g->is_decided = 1;
    int failed = lj_down(g, root->core);
    if (!failed) failed = lj_is_taken(g, lj_has_both(g));
    if (failed == LJ_NATIVE_OK) {
        memcpy(kept, first->values, size);
        failed = lj_program_run(&root->none, NULL, 0);
        if (!failed) {
            lj_show(first, &root->none);
            g->sign = -g->sign;
            failed = lj_down(g, root->core);
            g->sign = -g->sign;
        }
        memcpy(first->values, kept, size);
    }
    g->is_decided = 0;
    return failed == LJ_FOUND ? LJ_NATIVE_OK : failed;
}

/* ---------------------------------------------------------------- changes */

static inline int lj_same_value(const LjValue *a, const LjValue *b) {
    if (a->kind != b->kind) return 0;
    if (a->kind == SQLITE_INTEGER) return a->integer == b->integer;
    if (a->kind == SQLITE_FLOAT) return memcmp(&a->real, &b->real, sizeof a->real) == 0;
    return a->kind == SQLITE_NULL || (a->size == b->size && memcmp(a->text, b->text, a->size) == 0);
}

static inline int lj_same_values(const LjRef *a, const LjRef *b) {
    for (int i = 0; i < a->n_values; i++)
        if (!lj_same_value(&a->values[i], &b->values[i])) return 0;
    return 1;
}

/* The row under way, in one of its versions. */
static inline int lj_version(LjGrouped *g, const LjRef *version, int sign) {
    LjRoot *root = g->root;
    lj_show(&root->walk.refs[0], version);
    g->sign = sign;
    return lj_placed(g, 0);
}

static inline int lj_change(LjGrouped *g, const LjNetChange *change) {
    LjRoot *root = g->root;
    int failed = change->old ? lj_program_run(&root->other, change->old, 1) : LJ_NATIVE_OK;
    if (!failed && change->now) failed = lj_program_run(&root->now, change->now, 1);
    /* What the query does not look at changes nothing. */
    if (failed || (change->old && change->now && lj_same_values(&root->other, &root->now))) return failed;
    if (change->old) failed = lj_version(g, &root->other, -1);
    if (!failed && change->now) failed = lj_version(g, &root->now, 1);
    return failed;
}

static inline int lj_changes(LjGrouped *g) {
    int failed = LJ_NATIVE_OK;
    for (int ref = 0; ref < g->n_refs; ref++) {
        int slot = g->roots[ref].walk.refs[0].slot;
        LjNet *net = &g->rows->nets[slot];
        if (lj_net_make(net, g->rows->host->topics[slot])) return LJ_NATIVE_MEMORY;
        if (net->is_elided) return LJ_NATIVE_UNSURE;
    }
    g->only = 0;
    for (g->at_ref = 0; !failed && g->at_ref < g->n_refs; g->at_ref++) {
        g->root = &g->roots[g->at_ref];
        const LjNet *net = &g->rows->nets[g->root->walk.refs[0].slot];
        for (g->at_item = 1; !failed && g->at_item <= net->n; g->at_item++)
            failed = lj_change(g, &net->items[g->at_item - 1]);
    }
    return failed;
}
#endif
