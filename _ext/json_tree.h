/* A JSON text as a flat array of nodes, and the differences of two such trees.
 *
 * A node's subtree is the nodes up to its `end`; children follow their parent in the order of the text.
 * Strings and names are unescaped once, into one block. Built and walked only for records that changed; the
 * recursion of the comparison is bounded by the depth limit of the parse. */
#ifndef LJ_JSON_TREE_H
#define LJ_JSON_TREE_H
#include <stdio.h>

#include "json_fault.h"
#include "json_ignore.h"
#include "json_number.h"
#include "json_put.h"

typedef struct {
    const uint8_t *start; /* the value's text, verbatim */
    const uint8_t *text;  /* a string's unescaped text */
    const uint8_t *name;  /* of a member, unescaped; NULL for elements */
    uint32_t size, text_size, name_size;
    uint32_t end;
    uint32_t occurrence; /* which of the members of one name: 0 the first */
    uint8_t type;        /* '{' '[' '"' '0' 't' 'f' 'n' */
} lj_node;

typedef struct {
    lj_node *nodes;
    uint32_t count, capacity;
    uint8_t *texts; /* as large as the document: unescaping never grows */
    size_t texts_used;
    lj_json scan;
} lj_tree;

static inline void lj_tree_free(lj_tree *t) {
    free(t->nodes);
    free(t->texts);
    memset(t, 0, sizeof *t);
}

static inline const uint8_t *lj_tree_text(lj_tree *t, const lj_json_text *string, uint32_t *size) {
    uint8_t *out;
    *size = (uint32_t)string->size;
    if (!string->escaped) return string->start;
    if (t->texts == NULL) {
        t->texts = (uint8_t *)malloc((size_t)(t->scan.end - t->scan.begin));
        if (t->texts == NULL) return NULL;
    }
    out = t->texts + t->texts_used;
    *size = (uint32_t)lj_json_unescape(string, out);
    t->texts_used += *size;
    return out;
}

static inline int lj_tree_node(lj_tree *t, uint32_t *at) {
    if (t->count == LJ_RECORD_VALUES) return (int)lj_json_fail(&t->scan, (lj_json_code)LJ_FAULT_SIZE, t->scan.at);
    if (t->count == t->capacity) {
        uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
        lj_node *nodes = (lj_node *)realloc(t->nodes, capacity * sizeof *nodes);
        if (nodes == NULL) return LJ_FAULT_MEMORY;
        t->nodes = nodes;
        t->capacity = capacity;
    }
    *at = t->count++;
    memset(&t->nodes[*at], 0, sizeof *t->nodes);
    return 0;
}

static int lj_tree_value(lj_tree *t, uint32_t depth_left, const uint8_t *name, uint32_t name_size);

static inline int lj_tree_container(lj_tree *t, uint32_t depth_left, int object) {
    lj_json *s = &t->scan;
    uint8_t closing = object ? '}' : ']';
    int code, first = 1;
    s->at++;
    for (;; first = 0) {
        const uint8_t *name = NULL;
        uint32_t name_size = 0;
        lj_json_skip_space(s);
        if (first && s->at < s->end && *s->at == closing) break;
        if (object) {
            lj_json_text string;
            if ((code = (int)lj_json_name(s, &string))) return code;
            if ((name = lj_tree_text(t, &string, &name_size)) == NULL) return LJ_FAULT_MEMORY;
        }
        if ((code = lj_tree_value(t, depth_left, name, name_size))) return code;
        lj_json_skip_space(s);
        if (s->at == s->end) return (int)lj_json_fail(s, LJ_JSON_END, s->at);
        if (*s->at == closing) break;
        if (*s->at != ',') return (int)lj_json_fail(s, LJ_JSON_CHAR, s->at);
        s->at++;
    }
    s->at++;
    return 0;
}

static int lj_tree_value(lj_tree *t, uint32_t depth_left, const uint8_t *name, uint32_t name_size) {
    lj_json *s = &t->scan;
    lj_node *node;
    const uint8_t *start;
    uint32_t at;
    int code;
    lj_json_skip_space(s);
    start = s->at;
    if (start == s->end) return (int)lj_json_fail(s, LJ_JSON_END, start);
    if ((code = lj_tree_node(t, &at))) return code;
    t->nodes[at].name = name;
    t->nodes[at].name_size = name_size;
    t->nodes[at].start = start;
    t->nodes[at].type = *start;
    if (*start == '{' || *start == '[') {
        if (depth_left == 0) return (int)lj_json_fail(s, LJ_JSON_DEPTH, start);
        if ((code = lj_tree_container(t, depth_left - 1, *start == '{'))) return code;
    } else if (*start == '"') {
        lj_json_text string;
        uint32_t size;
        if ((code = (int)lj_json_string(s, &string))) return code;
        if ((t->nodes[at].text = lj_tree_text(t, &string, &size)) == NULL) return LJ_FAULT_MEMORY;
        t->nodes[at].text_size = size;
    } else {
        if ((code = (int)lj_json_scalar(s))) return code;
        if (*start == '-' || (*start >= '0' && *start <= '9')) t->nodes[at].type = '0';
    }
    node = &t->nodes[at];
    node->size = (uint32_t)(s->at - start);
    node->end = t->count;
    return 0;
}

/* Parse one document of less than 4 GiB; `bytes` must outlive the tree. */
static inline int lj_tree_parse(lj_tree *t, const uint8_t *bytes, size_t size, uint32_t max_depth) {
    int code;
    memset(t, 0, sizeof *t);
    lj_json_begin(&t->scan, bytes, size);
    if (size > UINT32_MAX) return LJ_FAULT_BODY;
    if (max_depth > LJ_JSON_MAX_DEPTH) max_depth = LJ_JSON_MAX_DEPTH;
    if ((code = lj_tree_value(t, max_depth, NULL, 0))) return code;
    lj_json_skip_space(&t->scan);
    if (t->scan.at != t->scan.end) return (int)lj_json_fail(&t->scan, LJ_JSON_TRAILING, t->scan.at);
    return 0;
}

/* What a comparison writes to: the members of the changes object; no `out` = stop at the first difference.
 * A long name above many changed members would be repeated in each of their paths: beyond `limit` bytes the
 * whole record is reported as one change instead. */
typedef struct {
    lj_tree *before, *after;
    const lj_ignore *ignore;
    lj_out *out, *path;
    size_t limit;
    int different;
} lj_diff;

static inline int lj_diff_done(const lj_diff *d) {
    return d->out == NULL ? d->different : d->out->failed || d->out->buffer.len > d->limit;
}

static inline int lj_node_name_order(const lj_node *a, const lj_node *b) {
    uint32_t common = a->name_size < b->name_size ? a->name_size : b->name_size;
    int order = common ? memcmp(a->name, b->name, common) : 0;
    return order ? order : a->name_size < b->name_size ? -1 : a->name_size > b->name_size;
}

static inline int lj_node_order(const void *x, const void *y) {
    const lj_node *a = *(const lj_node *const *)x, *b = *(const lj_node *const *)y;
    int order = lj_node_name_order(a, b);
    return order ? order : a < b ? -1 : a > b;
}

/* The members of an object in the order of name and text; counts occurrences of a name. */
static inline lj_node **lj_tree_members(lj_tree *t, uint32_t parent, uint32_t *count) {
    uint32_t child, n = 0, i;
    lj_node **members;
    for (child = parent + 1; child < t->nodes[parent].end; child = t->nodes[child].end) n++;
    *count = n;
    members = (lj_node **)malloc((n + 1) * sizeof *members);
    if (members == NULL) return NULL;
    for (child = parent + 1, i = 0; i < n; child = t->nodes[child].end) members[i++] = &t->nodes[child];
    qsort(members, n, sizeof *members, lj_node_order);
    for (i = 1; i < n; i++)
        if (lj_node_name_order(members[i - 1], members[i]) == 0) members[i]->occurrence = members[i - 1]->occurrence + 1;
    return members;
}

static inline const lj_node *lj_member_find(lj_node **members, uint32_t count, const lj_node *like) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = lj_node_name_order(members[middle], like);
        if (order == 0) order = members[middle]->occurrence < like->occurrence ? -1 : members[middle]->occurrence > like->occurrence;
        if (order == 0) return members[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static inline int lj_path_is_plain(const uint8_t *name, size_t size) {
    size_t i;
    for (i = 0; i < size; i++) {
        uint8_t c = name[i];
        int letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) return 0;
    }
    return size > 0;
}

/* Append one step to the path; returns the length to go back to. */
static inline size_t lj_path_push(lj_diff *d, const lj_node *node, int64_t index) {
    size_t mark = d->path->buffer.len;
    char number[32];
    if (d->out == NULL) return mark;
    if (node->name == NULL) {
        lj_put(d->path, number, (size_t)snprintf(number, sizeof number, "[%lld]", (long long)index));
        return mark;
    }
    lj_put1(d->path, '.');
    if (lj_path_is_plain(node->name, node->name_size)) lj_put(d->path, node->name, node->name_size);
    else lj_put_string(d->path, node->name, node->name_size);
    if (node->occurrence)
        lj_put(d->path, number, (size_t)snprintf(number, sizeof number, "(%u)", node->occurrence + 1));
    return mark;
}

static inline void lj_diff_report(lj_diff *d, const lj_node *before, const lj_node *after) {
    d->different = 1;
    if (d->out == NULL) return;
    lj_put1(d->out, d->out->buffer.len ? ',' : '{');
    lj_put_string(d->out, d->path->buffer.data, d->path->buffer.len);
    lj_put(d->out, ":[", 2);
    if (before) lj_put(d->out, before->start, before->size);
    else lj_put(d->out, "null", 4);
    lj_put1(d->out, ',');
    if (after) lj_put(d->out, after->start, after->size);
    else lj_put(d->out, "null", 4);
    lj_put1(d->out, ']');
}

static int lj_diff_value(lj_diff *d, uint32_t a, uint32_t b, uint32_t depth, uint64_t live);

/* A child that only one side has, or both (then compared), below a container at `depth`. */
static inline int lj_diff_child(lj_diff *d, const lj_node *a, const lj_node *b, int64_t index, uint32_t depth, uint64_t live) {
    const lj_node *any = a ? a : b;
    uint64_t below = 0;
    int drop = 0, code = 0;
    size_t mark;
    if (live) below = lj_ignore_step(d->ignore, live, depth, any->name, any->name_size, index, &drop);
    if (drop) return 0;
    mark = lj_path_push(d, any, index);
    if (a && b) code = lj_diff_value(d, (uint32_t)(a - d->before->nodes), (uint32_t)(b - d->after->nodes), depth + 1, below);
    else lj_diff_report(d, a, b);
    d->path->buffer.len = mark;
    return code;
}

static inline int lj_diff_array(lj_diff *d, uint32_t a, uint32_t b, uint32_t depth, uint64_t live) {
    const lj_node *x = d->before->nodes, *y = d->after->nodes;
    uint32_t i = a + 1, j = b + 1;
    int64_t index;
    int code;
    for (index = 0; i < x[a].end || j < y[b].end; index++) {
        const lj_node *left = i < x[a].end ? &x[i] : NULL, *right = j < y[b].end ? &y[j] : NULL;
        if (lj_diff_done(d)) return 0;
        if ((code = lj_diff_child(d, left, right, index, depth, live))) return code;
        if (left) i = left->end;
        if (right) j = right->end;
    }
    return 0;
}

static inline int lj_diff_object(lj_diff *d, uint32_t a, uint32_t b, uint32_t depth, uint64_t live) {
    uint32_t left_count, right_count, child;
    lj_node **left = lj_tree_members(d->before, a, &left_count), **right = lj_tree_members(d->after, b, &right_count);
    int code = left == NULL || right == NULL ? LJ_FAULT_MEMORY : 0;
    /* In the order of the old text, then what the new one adds, in its order. */
    for (child = a + 1; !code && child < d->before->nodes[a].end; child = d->before->nodes[child].end) {
        const lj_node *node = &d->before->nodes[child];
        if (lj_diff_done(d)) break;
        code = lj_diff_child(d, node, lj_member_find(right, right_count, node), -1, depth, live);
    }
    for (child = b + 1; !code && child < d->after->nodes[b].end; child = d->after->nodes[child].end) {
        const lj_node *node = &d->after->nodes[child];
        if (lj_diff_done(d)) break;
        if (lj_member_find(left, left_count, node) == NULL) code = lj_diff_child(d, NULL, node, -1, depth, live);
    }
    free(left);
    free(right);
    return code;
}

static inline int lj_node_scalar_equal(const lj_node *x, const lj_node *y) {
    if (x->type == '"') return x->text_size == y->text_size && memcmp(x->text, y->text, x->text_size) == 0;
    if (x->type == '0') {
        lj_decimal m, n;
        lj_decimal_read(&m, x->start, x->size);
        lj_decimal_read(&n, y->start, y->size);
        return lj_decimal_equal(&m, &n);
    }
    return 1;
}

static int lj_diff_value(lj_diff *d, uint32_t a, uint32_t b, uint32_t depth, uint64_t live) {
    const lj_node *x = &d->before->nodes[a], *y = &d->after->nodes[b];
    if (x->size == y->size && memcmp(x->start, y->start, x->size) == 0) return 0;
    if (x->type != y->type) lj_diff_report(d, x, y);
    else if (x->type == '{') return lj_diff_object(d, a, b, depth, live);
    else if (x->type == '[') return lj_diff_array(d, a, b, depth, live);
    else if (!lj_node_scalar_equal(x, y)) lj_diff_report(d, x, y);
    return 0;
}

/* 0 and `*different`, or the code of memory. With `out` (empty) it becomes the changes object. */
static inline int lj_tree_diff(lj_tree *before, lj_tree *after, const lj_ignore *ignore, lj_out *out, int *different) {
    lj_out path;
    size_t texts = (size_t)before->nodes[0].size + after->nodes[0].size;
    lj_diff d = {before, after, ignore, out, &path, 4 * texts + 65536, 0};
    int code;
    memset(&path, 0, sizeof path);
    lj_put1(&path, '$');
    code = lj_diff_value(&d, 0, 0, 0, lj_ignore_all(ignore));
    if (out != NULL && out->buffer.len > d.limit) {
        out->buffer.len = 0;
        path.buffer.len = 1;
        lj_diff_report(&d, &before->nodes[0], &after->nodes[0]);
    }
    if (out != NULL && d.different) lj_put1(out, '}');
    if (path.failed || (out != NULL && out->failed)) code = LJ_FAULT_MEMORY;
    lj_buffer_free(&path.buffer);
    *different = d.different;
    return code;
}
#endif
