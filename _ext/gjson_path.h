/* Evaluates compiled gjson paths over valid JSON text. Plain C, no Python; allocates only for results that
 * are not a slice of the text (collected arrays, modifiers).
 *
 * Program (bytes, little endian, made by gjson.pyx; lj_gjson_load trusts nothing in it):
 *     u32 magic, u32 ops, u32 main      ops [0, main) are the path, the others are left sides of queries
 *     40 bytes an op: u32 kind, u32 oper, u32 text, u32 text_size, u32 sub, u32 sub_size,
 *                     u32 value, u32 value_size, i64 index
 *     the texts
 *
 * This is one file because the operators of a path call one another. */
#ifndef LJ_GJSON_PATH_H
#define LJ_GJSON_PATH_H
#include <stdio.h>

#include "json_number.h"
#include "json_put.h"
#include "json_scan.h"

#define LJ_GJSON_MAGIC 0x31506a4cu
#define LJ_GJSON_MAX_OPS 256u
#define LJ_GJSON_HEAD 12u

enum { LJ_OP_NAME = 1, LJ_OP_WILD, LJ_OP_EACH, LJ_OP_QUERY, LJ_OP_QUERY_ALL, LJ_OP_PIPE, LJ_OP_MODIFIER };
enum { LJ_IS_THERE = 0, LJ_IS_EQUAL, LJ_IS_OTHER, LJ_IS_LESS, LJ_IS_AT_MOST, LJ_IS_MORE, LJ_IS_AT_LEAST, LJ_IS_LIKE, LJ_IS_UNLIKE };
enum { LJ_MOD_THIS = 1, LJ_MOD_REVERSE, LJ_MOD_KEYS, LJ_MOD_VALUES, LJ_MOD_FLATTEN, LJ_MOD_FROMSTR };

typedef struct {
    uint32_t kind, oper, text, text_size, sub, sub_size, value, value_size;
    int64_t index; /* NAME: the element it names in an array; QUERY: 1 when the value is a number */
} lj_gjson_op;

typedef struct {
    lj_gjson_op *ops;
    uint32_t count, main;
    const uint8_t *texts;
} lj_gjson;

/* A result: `found`, and a slice of the text, or of `owned` memory that the caller frees. */
typedef struct {
    const uint8_t *start;
    size_t size;
    uint8_t *owned;
    int found;
} lj_gjson_value;

static inline void lj_gjson_free(lj_gjson *g) {
    free(g->ops);
    memset(g, 0, sizeof *g);
}

static inline int lj_gjson_inside(uint32_t at, uint32_t size, size_t whole) { return (uint64_t)at + size <= whole; }

/* -1: not a program; -2: out of memory. `bytes` must outlive `g`. */
static inline int lj_gjson_load(lj_gjson *g, const uint8_t *bytes, size_t size) {
    uint32_t head[3], i;
    size_t texts;
    memset(g, 0, sizeof *g);
    if (size < LJ_GJSON_HEAD) return -1;
    memcpy(head, bytes, LJ_GJSON_HEAD);
    if (head[0] != LJ_GJSON_MAGIC || head[1] > LJ_GJSON_MAX_OPS || head[2] > head[1]) return -1;
    if (size - LJ_GJSON_HEAD < head[1] * sizeof(lj_gjson_op)) return -1;
    texts = size - LJ_GJSON_HEAD - head[1] * sizeof(lj_gjson_op);
    g->ops = (lj_gjson_op *)malloc((head[1] + 1) * sizeof(lj_gjson_op));
    if (g->ops == NULL) return -2;
    memcpy(g->ops, bytes + LJ_GJSON_HEAD, head[1] * sizeof(lj_gjson_op));
    g->count = head[1];
    g->main = head[2];
    g->texts = bytes + size - texts;
    for (i = 0; i < g->count; i++) {
        const lj_gjson_op *op = &g->ops[i];
        /* A left side lies behind its query, so evaluation cannot loop. */
        if (op->kind < LJ_OP_NAME || op->kind > LJ_OP_MODIFIER || !lj_gjson_inside(op->text, op->text_size, texts) ||
            !lj_gjson_inside(op->value, op->value_size, texts) || !lj_gjson_inside(op->sub, op->sub_size, g->count) ||
            (op->sub_size && op->sub <= i)) {
            lj_gjson_free(g);
            return -1;
        }
    }
    return 0;
}

/* The children of the array or object whose text starts at `start`. */
typedef struct {
    lj_json scan;
    lj_json_text name;
    const uint8_t *start; /* of the child's value */
    const uint8_t *whole; /* of the child with its name */
    size_t size;
    int object, first;
} lj_children;

static inline void lj_children_begin(lj_children *c, const uint8_t *start, size_t size) {
    lj_json_begin(&c->scan, start, size);
    c->object = *start == '{';
    c->first = 1;
    c->scan.at++;
}

/* 1 and a child, or 0. The child's end is found only when `measure`. */
static inline int lj_children_next(lj_children *c, int measure) {
    lj_json_skip_space(&c->scan);
    if (c->scan.at == c->scan.end || *c->scan.at == '}' || *c->scan.at == ']') return 0;
    if (!c->first) {
        c->scan.at++; /* the comma */
        lj_json_skip_space(&c->scan);
    }
    c->first = 0;
    c->whole = c->scan.at;
    if (c->object && lj_json_name(&c->scan, &c->name)) return 0;
    lj_json_skip_space(&c->scan);
    c->start = c->scan.at;
    if (measure) {
        if (lj_json_value(&c->scan, LJ_JSON_MAX_DEPTH)) return 0;
        c->size = (size_t)(c->scan.at - c->start);
    }
    return 1;
}

static inline size_t lj_utf8_step(const uint8_t *p, const uint8_t *end) {
    size_t size = *p < 0x80 ? 1 : lj_json_utf8_size(p, end);
    return size ? size : 1;
}

/* `*` any characters, `?` one, `\x` x itself. Linear space, quadratic time at worst. */
static inline int lj_gjson_like(const uint8_t *p, size_t size, const uint8_t *pattern, size_t pattern_size) {
    const uint8_t *end = p + size, *q = pattern, *q_end = pattern + pattern_size, *star = NULL, *mark = p;
    while (p < end) {
        if (q < q_end && *q == '*') {
            star = ++q;
            mark = p;
            continue;
        }
        if (q < q_end && *q == '?') {
            q++;
            p += lj_utf8_step(p, end);
            continue;
        }
        if (q < q_end) {
            const uint8_t *literal = *q == '\\' && q + 1 < q_end ? q + 1 : q;
            if (*literal == *p) {
                q = literal + 1;
                p++;
                continue;
            }
        }
        if (star == NULL) return 0;
        q = star;
        mark += lj_utf8_step(mark, end);
        p = mark;
    }
    while (q < q_end && *q == '*') q++;
    return q == q_end;
}

/* 1, 0, or -1 when memory is out. */
static inline int lj_gjson_name_is(const lj_json_text *name, const uint8_t *text, size_t size, int wild) {
    uint8_t small[256], *out = small;
    const uint8_t *plain = name->start;
    size_t plain_size = name->size;
    int same;
    if (name->escaped) {
        if (name->size > sizeof small && (out = (uint8_t *)malloc(name->size)) == NULL) return -1;
        plain_size = lj_json_unescape(name, out);
        plain = out;
    }
    same = wild ? lj_gjson_like(plain, plain_size, text, size) : plain_size == size && memcmp(plain, text, size) == 0;
    if (out != small) free(out);
    return same;
}

/* Replace a value by a slice of itself. */
static inline void lj_gjson_narrow(lj_gjson_value *v, const uint8_t *start, size_t size) {
    v->start = start;
    v->size = size;
}

static inline void lj_gjson_none(lj_gjson_value *v) {
    free(v->owned);
    memset(v, 0, sizeof *v);
}

static inline int lj_gjson_own(lj_gjson_value *v, lj_out *out) {
    free(v->owned);
    v->owned = out->buffer.data;
    v->start = v->owned;
    v->size = out->buffer.len;
    v->found = 1;
    return out->failed ? -1 : 0;
}

static inline int lj_gjson_member(lj_gjson_value *v, const uint8_t *text, size_t size, int wild) {
    lj_children c;
    lj_children_begin(&c, v->start, v->size);
    while (lj_children_next(&c, 0)) {
        int same = lj_gjson_name_is(&c.name, text, size, wild);
        if (same < 0) return -1;
        if (lj_json_value(&c.scan, LJ_JSON_MAX_DEPTH)) break;
        if (same) {
            lj_gjson_narrow(v, c.start, (size_t)(c.scan.at - c.start));
            return 0;
        }
    }
    lj_gjson_none(v);
    return 0;
}

static inline void lj_gjson_element(lj_gjson_value *v, int64_t index) {
    lj_children c;
    lj_children_begin(&c, v->start, v->size);
    while (index >= 0 && lj_children_next(&c, 1)) {
        if (index-- == 0) {
            lj_gjson_narrow(v, c.start, c.size);
            return;
        }
    }
    lj_gjson_none(v);
}

static int lj_gjson_run(const lj_gjson *g, uint32_t at, uint32_t stop, const uint8_t *start, size_t size, lj_gjson_value *v);

static inline int lj_gjson_order_is(int order, uint32_t oper) {
    switch (oper) {
    case LJ_IS_EQUAL: return order == 0;
    case LJ_IS_OTHER: return order != 0;
    case LJ_IS_LESS: return order < 0;
    case LJ_IS_AT_MOST: return order <= 0;
    case LJ_IS_MORE: return order > 0;
    case LJ_IS_AT_LEAST: return order >= 0;
    default: return 0;
    }
}

static inline int lj_gjson_string_matches(const lj_gjson *g, const lj_gjson_op *op, const lj_gjson_value *v) {
    const uint8_t *text = g->texts + op->value;
    lj_json_text string = {v->start + 1, v->size - 2, 0};
    uint8_t *plain;
    size_t size, common;
    int match;
    if ((plain = (uint8_t *)malloc(v->size)) == NULL) return -1;
    size = lj_json_unescape(&string, plain);
    if (op->oper == LJ_IS_LIKE || op->oper == LJ_IS_UNLIKE) {
        match = lj_gjson_like(plain, size, text, op->value_size) == (op->oper == LJ_IS_LIKE);
    } else {
        common = size < op->value_size ? size : op->value_size;
        match = common ? memcmp(plain, text, common) : 0;
        if (match == 0) match = size < op->value_size ? -1 : size > op->value_size;
        match = lj_gjson_order_is(match, op->oper);
    }
    free(plain);
    return match;
}

/* Does a found value satisfy the query's comparison? gjson's rules: by the type of the value. */
static inline int lj_gjson_matches(const lj_gjson *g, const lj_gjson_op *op, const lj_gjson_value *v) {
    const uint8_t *text = g->texts + op->value;
    int is_true = op->value_size == 4 && memcmp(text, "true", 4) == 0;
    int is_false = op->value_size == 5 && memcmp(text, "false", 5) == 0;
    if (!v->found) return 0;
    if (op->oper == LJ_IS_THERE) return 1;
    switch (*v->start) {
    case '"': return lj_gjson_string_matches(g, op, v);
    case '{': case '[': case 'n': return 0;
    case 't':
        return op->oper == LJ_IS_EQUAL ? is_true : op->oper == LJ_IS_OTHER ? !is_true
             : op->oper == LJ_IS_MORE ? is_false : op->oper == LJ_IS_AT_LEAST;
    case 'f':
        return op->oper == LJ_IS_EQUAL ? is_false : op->oper == LJ_IS_OTHER ? !is_false
             : op->oper == LJ_IS_LESS ? is_true : op->oper == LJ_IS_AT_MOST;
    default: {
        lj_decimal a, b;
        int order;
        if (op->index != 1) return op->oper == LJ_IS_OTHER;
        lj_decimal_read(&a, v->start, v->size);
        lj_decimal_read(&b, text, op->value_size);
        order = lj_decimal_compare(&a, &b);
        return order == 2 ? op->oper == LJ_IS_OTHER : lj_gjson_order_is(order, op->oper);
    }
    }
}

/* 1, 0 or -1: is the element what the query asks for? */
static inline int lj_gjson_asked(const lj_gjson *g, const lj_gjson_op *op, const lj_children *c) {
    lj_gjson_value left;
    int match;
    if (op->sub_size && *c->start != '{' && *c->start != '[') return 0;
    if (lj_gjson_run(g, op->sub, op->sub + op->sub_size, c->start, c->size, &left) < 0) return -1;
    match = lj_gjson_matches(g, op, &left);
    lj_gjson_none(&left);
    return match;
}

/* `#.rest`, `#(query)#.rest`: the array of what `rest` finds in each element; `op` NULL: every element. */
static inline int lj_gjson_collect(const lj_gjson *g, const lj_gjson_op *op, uint32_t at, uint32_t stop, lj_gjson_value *v) {
    lj_children c;
    lj_out out;
    memset(&out, 0, sizeof out);
    lj_put1(&out, '[');
    lj_children_begin(&c, v->start, v->size);
    while (lj_children_next(&c, 1)) {
        lj_gjson_value found;
        int asked = op ? lj_gjson_asked(g, op, &c) : 1;
        if (asked == 0) continue;
        if (asked < 0 || lj_gjson_run(g, at, stop, c.start, c.size, &found) < 0) {
            lj_buffer_free(&out.buffer);
            return -1;
        }
        if (found.found) {
            if (out.buffer.len > 1) lj_put1(&out, ',');
            lj_put(&out, found.start, found.size);
        }
        lj_gjson_none(&found);
    }
    lj_put1(&out, ']');
    return lj_gjson_own(v, &out);
}

static inline int lj_gjson_first(const lj_gjson *g, const lj_gjson_op *op, lj_gjson_value *v) {
    lj_children c;
    lj_children_begin(&c, v->start, v->size);
    while (lj_children_next(&c, 1)) {
        int asked = lj_gjson_asked(g, op, &c);
        if (asked < 0) return -1;
        if (asked) {
            lj_gjson_narrow(v, c.start, c.size);
            return 0;
        }
    }
    lj_gjson_none(v);
    return 0;
}

static inline int lj_gjson_count(lj_gjson_value *v) {
    lj_children c;
    lj_out out;
    unsigned long long count = 0;
    char digits[24];
    memset(&out, 0, sizeof out);
    lj_children_begin(&c, v->start, v->size);
    while (lj_children_next(&c, 1)) count++;
    lj_put(&out, digits, (size_t)snprintf(digits, sizeof digits, "%llu", count));
    return lj_gjson_own(v, &out);
}

/* Elements or members written in the order that `modifier` makes of them. */
static inline int lj_gjson_rewrite(uint32_t modifier, lj_gjson_value *v) {
    int object = *v->start == '{', keep_names = object && modifier == LJ_MOD_REVERSE;
    struct { const uint8_t *start; size_t size; } *parts = NULL;
    size_t count = 0, capacity = 0, i;
    lj_children c;
    lj_out out;
    memset(&out, 0, sizeof out);
    lj_children_begin(&c, v->start, v->size);
    while (lj_children_next(&c, 1)) {
        if (count == capacity) {
            void *grown = realloc(parts, (capacity = capacity ? capacity * 2 : 16) * sizeof *parts);
            if (grown == NULL) {
                free(parts);
                return -1;
            }
            parts = grown;
        }
        parts[count].start = keep_names ? c.whole : modifier == LJ_MOD_KEYS ? c.name.start - 1 : c.start;
        parts[count].size = keep_names ? (size_t)(c.scan.at - c.whole) : modifier == LJ_MOD_KEYS ? c.name.size + 2 : c.size;
        if (modifier == LJ_MOD_FLATTEN && *c.start == '[') {
            const uint8_t *p = c.start + 1, *end = c.start + c.size - 1;
            while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
            if (p == end) continue; /* an empty array adds nothing */
            parts[count].start = c.start + 1;
            parts[count].size = c.size - 2;
        }
        count++;
    }
    lj_put1(&out, keep_names ? '{' : '[');
    for (i = 0; i < count; i++) {
        size_t at = modifier == LJ_MOD_REVERSE ? count - 1 - i : i;
        if (i) lj_put1(&out, ',');
        lj_put(&out, parts[at].start, parts[at].size);
    }
    lj_put1(&out, keep_names ? '}' : ']');
    free(parts);
    return lj_gjson_own(v, &out);
}

static inline int lj_gjson_from_string(lj_gjson_value *v) {
    lj_json_text string = {v->start + 1, v->size - 2, 0};
    lj_json scan;
    lj_out out;
    if (*v->start != '"') {
        lj_gjson_none(v);
        return 0;
    }
    memset(&out, 0, sizeof out);
    if (lj_buffer_reserve(&out.buffer, v->size) < 0) return -1;
    out.buffer.len = lj_json_unescape(&string, out.buffer.data);
    lj_gjson_own(v, &out);
    lj_json_begin(&scan, v->start, v->size);
    lj_json_skip_space(&scan);
    v->start = scan.at;
    if (lj_json_value(&scan, LJ_JSON_MAX_DEPTH)) {
        lj_gjson_none(v);
        return 0;
    }
    v->size = (size_t)(scan.at - v->start);
    lj_json_skip_space(&scan);
    if (scan.at != scan.end) lj_gjson_none(v);
    return 0;
}

static inline int lj_gjson_modify(uint32_t modifier, lj_gjson_value *v) {
    int object = *v->start == '{', array = *v->start == '[';
    switch (modifier) {
    case LJ_MOD_REVERSE: return object || array ? lj_gjson_rewrite(modifier, v) : 0;
    case LJ_MOD_VALUES: return object ? lj_gjson_rewrite(modifier, v) : 0;
    case LJ_MOD_FLATTEN: return array ? lj_gjson_rewrite(modifier, v) : 0;
    case LJ_MOD_KEYS:
        if (object) return lj_gjson_rewrite(modifier, v);
        lj_gjson_none(v);
        return 0;
    case LJ_MOD_FROMSTR: return lj_gjson_from_string(v);
    default: return 0;
    }
}

/* One op on a found value; `*at` moves on over what the op took with it. */
static inline int lj_gjson_step(const lj_gjson *g, uint32_t *at, uint32_t stop, lj_gjson_value *v) {
    const lj_gjson_op *op = &g->ops[*at];
    const uint8_t *text = g->texts + op->text;
    uint32_t rest = *at + 1, end = rest;
    int array = *v->start == '[', object = *v->start == '{';
    if (op->kind == LJ_OP_PIPE) return 0;
    if (op->kind == LJ_OP_MODIFIER) return lj_gjson_modify(op->oper, v);
    if (object && op->kind <= LJ_OP_EACH) return lj_gjson_member(v, text, op->text_size, op->kind == LJ_OP_WILD);
    if (!array || op->kind == LJ_OP_WILD) {
        lj_gjson_none(v);
        return 0;
    }
    if (op->kind == LJ_OP_NAME) {
        lj_gjson_element(v, op->index);
        return 0;
    }
    if (op->kind == LJ_OP_QUERY) return lj_gjson_first(g, op, v);
    while (end < stop && g->ops[end].kind != LJ_OP_PIPE) end++;
    if (op->kind == LJ_OP_EACH && end == rest) return lj_gjson_count(v);
    *at = end - 1;
    return lj_gjson_collect(g, op->kind == LJ_OP_QUERY_ALL ? op : NULL, rest, end, v);
}

/* 0, or -1 when memory is out (then nothing is owned). `start` .. is one valid value without space around. */
static int lj_gjson_run(const lj_gjson *g, uint32_t at, uint32_t stop, const uint8_t *start, size_t size, lj_gjson_value *v) {
    v->start = start;
    v->size = size;
    v->owned = NULL;
    v->found = 1;
    for (; at < stop && v->found; at++) {
        if (lj_gjson_step(g, &at, stop, v) < 0) {
            lj_gjson_none(v);
            return -1;
        }
    }
    return 0;
}

/* Size of a value that starts at `start`, without the space behind it. */
static inline size_t lj_gjson_trim(const uint8_t *start, const uint8_t *end) {
    while (end > start && (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r' || end[-1] == '\t')) end--;
    return (size_t)(end - start);
}

enum { LJ_KEY_OK = 0, LJ_KEY_MEMORY = -1, LJ_KEY_MISSING = 1, LJ_KEY_TYPE = 2, LJ_KEY_TEXT = 3 };
#define LJ_API_KEY_BYTES 512u

/* Append a number so that all its spellings give one text: 8, 8.0 and 80e-1 are "8". Plain digits while
 * they fit a key; a number that is not computed with (lj_decimal.huge) keeps its spelling. */
static inline void lj_key_number(lj_out *out, const uint8_t *text, size_t size) {
    lj_decimal d;
    const uint8_t *digit;
    int64_t i, n, m;
    lj_decimal_read(&d, text, size);
    if (d.huge) {
        lj_put(out, text, size);
        return;
    }
    if (d.first == NULL) {
        lj_put1(out, '0');
        return;
    }
    n = (int64_t)d.digits;
    m = d.magnitude;
    digit = d.first;
    if (d.negative) lj_put1(out, '-');
    if (m > (int64_t)LJ_API_KEY_BYTES || m < -(int64_t)LJ_API_KEY_BYTES) {
        char exponent[32];
        for (i = 0; i < n; digit++) {
            if (*digit == '.') continue;
            lj_put1(out, *digit);
            i++;
        }
        lj_put(out, exponent, (size_t)snprintf(exponent, sizeof exponent, "e%lld", (long long)(m - n)));
        return;
    }
    if (m <= 0) lj_put(out, "0.", 2);
    for (i = m; i < 0; i++) lj_put1(out, '0');
    for (i = 0; i < n; digit++) {
        if (*digit == '.') continue;
        if (i == m && m > 0) lj_put1(out, '.');
        lj_put1(out, *digit);
        i++;
    }
    for (; i < m; i++) lj_put1(out, '0');
}

/* Append the text of a scalar: a string unescaped, a number in one spelling. */
static inline int lj_key_part(lj_out *out, const lj_gjson_value *v) {
    if (!v->found) return LJ_KEY_MISSING;
    if (*v->start == '"') {
        lj_json_text string = {v->start + 1, v->size - 2, 0};
        if (v->size > 6 * LJ_API_KEY_BYTES + 2) return LJ_KEY_TEXT;
        if (lj_buffer_reserve(&out->buffer, v->size) < 0) return LJ_KEY_MEMORY;
        out->buffer.len += lj_json_unescape(&string, out->buffer.data + out->buffer.len);
        return LJ_KEY_OK;
    }
    if (*v->start != '-' && (*v->start < '0' || *v->start > '9')) return LJ_KEY_TYPE;
    if (*v->start != '-' && !memchr(v->start, '.', v->size) && !memchr(v->start, 'e', v->size) && !memchr(v->start, 'E', v->size))
        lj_put(out, v->start, v->size);
    else
        lj_key_number(out, v->start, v->size);
    return LJ_KEY_OK;
}

/* The key of a record into `out` (emptied first): the parts that `paths` find, joined by ":". */
static inline int lj_key_of(const lj_gjson *paths, uint32_t count, const uint8_t *start, size_t size, lj_out *out) {
    uint32_t i;
    out->buffer.len = 0;
    for (i = 0; i < count; i++) {
        lj_gjson_value v;
        int code;
        if (lj_gjson_run(&paths[i], 0, paths[i].main, start, size, &v) < 0) return LJ_KEY_MEMORY;
        if (i) lj_put1(out, ':');
        code = lj_key_part(out, &v);
        lj_gjson_none(&v);
        if (code) return code;
    }
    if (out->failed) return LJ_KEY_MEMORY;
    if (out->buffer.len == 0 || out->buffer.len > LJ_API_KEY_BYTES) return LJ_KEY_TEXT;
    return memchr(out->buffer.data, 0, out->buffer.len) ? LJ_KEY_TEXT : LJ_KEY_OK;
}
#endif
