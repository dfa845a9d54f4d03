/* The smallest (or largest) values of a group, so that an extreme can be taken out again.
 *
 * A list of up to LJ_EXTREMES different values with how often each occurs, in order from the extreme. It holds
 * every value of the group up to its last one; `whole` says that it holds all of them. Values beyond are
 * not kept, so that a list that runs empty is `lost`: the group is read again, once in LJ_EXTREMES removals of
 * its extremes at most. Order and equality are SQLite's: numbers, then texts, then blobs. */
#ifndef LJ_NATIVE_EXTREME_H
#define LJ_NATIVE_EXTREME_H
#include "native_value.h"

#define LJ_EXTREMES 32
#define LJ_EXTREME_TEXT 512 /* bytes: a longer text is not kept, and its group read again */

typedef struct {
    uint8_t kind;
    uint32_t size;
    int64_t n, integer;
    double real;
    char *text;
} LjExtreme;

typedef struct {
    LjExtreme at[LJ_EXTREMES + 1];
    int n, whole, lost;
} LjExtremes;

static inline void lj_extremes_init(LjExtremes *list) {
    memset(list, 0, sizeof *list);
    list->whole = 1;
}

static inline void lj_extremes_free(LjExtremes *list) {
    for (int i = 0; i < list->n; i++) free(list->at[i].text);
    list->n = 0;
}

static inline int lj_order_of_kind(int kind) {
    return kind == SQLITE_TEXT ? 1 : kind == SQLITE_BLOB ? 2 : 0;
}

/* An integer and a real, exactly. */
static inline int lj_order_mixed(int64_t integer, double real) {
    if (real < -9223372036854775808.0) return 1;
    if (real >= 9223372036854775808.0) return -1;
    int64_t whole = (int64_t)real;
    if (integer != whole) return integer < whole ? -1 : 1;
    double rest = real - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

/* As SQL orders them; neither is NULL. */
static inline int lj_order(const LjExtreme *a, const LjExtreme *b) {
    int x = lj_order_of_kind(a->kind), y = lj_order_of_kind(b->kind);
    if (x != y) return x < y ? -1 : 1;
    if (x) {
        uint32_t size = a->size < b->size ? a->size : b->size;
        int order = size ? memcmp(a->text, b->text, size) : 0;
        return order ? order : a->size < b->size ? -1 : a->size > b->size;
    }
    if (a->kind == SQLITE_INTEGER && b->kind == SQLITE_INTEGER)
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    if (a->kind == SQLITE_FLOAT && b->kind == SQLITE_FLOAT) return a->real < b->real ? -1 : a->real > b->real;
    return a->kind == SQLITE_INTEGER ? lj_order_mixed(a->integer, b->real) : -lj_order_mixed(b->integer, a->real);
}

/* The same, with 1 and 1.0, 0.0 and -0.0 apart: each is kept as it came. */
static inline int lj_order_kept(const LjExtreme *a, const LjExtreme *b) {
    int order = lj_order(a, b);
    if (order || lj_order_of_kind(a->kind)) return order;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    return a->kind == SQLITE_FLOAT ? memcmp(&a->real, &b->real, sizeof a->real) : 0;
}

static inline void lj_extremes_drop(LjExtremes *list, int i) {
    free(list->at[i].text);
    memmove(&list->at[i], &list->at[i + 1], (size_t)(list->n - i - 1) * sizeof(LjExtreme));
    list->n--;
}

static inline int lj_extremes_insert(LjExtremes *list, int i, const LjExtreme *value) {
    char *text = NULL;
    if (value->size) {
        text = (char *)malloc(value->size);
        if (!text) return -1;
        memcpy(text, value->text, value->size);
    }
    memmove(&list->at[i + 1], &list->at[i], (size_t)(list->n - i) * sizeof(LjExtreme));
    list->at[i] = *value;
    list->at[i].text = text;
    list->n++;
    if (list->n > LJ_EXTREMES) {
        lj_extremes_drop(list, list->n - 1);
        list->whole = 0;
    }
    return 0;
}

/* Put a value in (sign 1) or take it out (-1); `down`: the largest come first. 0; -1: no memory; 1: a value is
 * taken out that never came in. */
static inline int lj_extremes_change(LjExtremes *list, const LjValue *v, int down, int sign) {
    LjExtreme value = {v->kind, v->kind == SQLITE_TEXT || v->kind == SQLITE_BLOB ? v->size : 0, sign, v->integer,
                       v->real, (char *)(uintptr_t)v->text};
    int i = 0, order = 1;
    if (list->lost) return 0;
    if (value.size > LJ_EXTREME_TEXT) {
        list->lost = 1;
        return 0;
    }
    for (; i < list->n; i++) {
        order = lj_order_kept(&list->at[i], &value);
        if (down) order = -order;
        if (order >= 0) break;
    }
    if (i < list->n && order == 0) {
        list->at[i].n += sign;
        if (list->at[i].n == 0) lj_extremes_drop(list, i);
        if (!list->n && !list->whole) list->lost = 1;
        return 0;
    }
    if (i == list->n && !list->whole) return 0; /* beyond what is kept */
    if (sign < 0) return 1;
    return lj_extremes_insert(list, i, &value);
}

/* 1 and the extreme; 0: the group must be read. The group has values that are not NULL. */
static inline int lj_extremes_first(const LjExtremes *list, LjValue *out) {
    const LjExtreme *first = &list->at[0];
    if (list->lost || !list->n) return 0;
    /* Of 1 and 1.0 it is the one that SQLite met first. */
    if (list->n > 1 && lj_order(first, &list->at[1]) == 0) return 0;
    memset(out, 0, sizeof *out);
    out->kind = first->kind;
    out->integer = first->integer;
    out->real = first->real;
    out->text = first->text ? first->text : "";
    out->size = first->size;
    return 1;
}
#endif
