/* A 128-bit hash of a JSON value that is equal for JSON-equal values.
 *
 * Two XXH64 with different seeds over a normal form: strings unescaped, numbers as exact decimals, members
 * sorted by the hash of their name (the n-th member of one name stays the n-th), elements chained with their
 * index, ignored places left out. Validates what it reads, allocates only the list of open members. */
#ifndef LJ_JSON_HASH_H
#define LJ_JSON_HASH_H
#include <stdlib.h>

#include "json_fault.h"
#include "json_ignore.h"
#include "json_number.h"

#define LJ_HASH_SEED_1 0x6c6974656a6f696eULL
#define LJ_HASH_SEED_2 0x9d3f0a5b71c2e846ULL

enum { LJ_TAG_NULL = 1, LJ_TAG_TRUE, LJ_TAG_FALSE, LJ_TAG_NUMBER, LJ_TAG_STRING, LJ_TAG_NAME, LJ_TAG_ARRAY, LJ_TAG_OBJECT };

typedef struct {
    uint64_t h1, h2;
} lj_hash128;

typedef struct {
    lj_hash128 name, value;
    uint64_t position;
} lj_hash_member;

typedef struct {
    lj_json scan;
    const lj_ignore *ignore;
    lj_hash_member *members;
    size_t count, capacity;
    uint8_t *text; /* the last unescaped string */
    size_t text_capacity;
    uint32_t values, max_depth;
} lj_hasher;

static inline void lj_hasher_free(lj_hasher *h) {
    free(h->members);
    free(h->text);
    h->members = NULL;
    h->text = NULL;
    h->capacity = h->text_capacity = 0;
}

static inline lj_hash128 lj_hash_bytes(const void *bytes, size_t size, uint64_t tag) {
    lj_hash128 out = {lj_xxh64(bytes, size, LJ_HASH_SEED_1 + tag), lj_xxh64(bytes, size, LJ_HASH_SEED_2 + tag)};
    return out;
}

/* The unescaped text of a string; NULL when memory is out. */
static inline const uint8_t *lj_hasher_text(lj_hasher *h, const lj_json_text *string, size_t *size) {
    *size = string->size;
    if (!string->escaped) return string->start;
    if (h->text_capacity < string->size) {
        uint8_t *text = (uint8_t *)realloc(h->text, string->size);
        if (text == NULL) return NULL;
        h->text = text;
        h->text_capacity = string->size;
    }
    *size = lj_json_unescape(string, h->text);
    return h->text;
}

static inline int lj_hash_member_order(const void *x, const void *y) {
    const lj_hash_member *a = (const lj_hash_member *)x, *b = (const lj_hash_member *)y;
    if (a->name.h1 != b->name.h1) return a->name.h1 < b->name.h1 ? -1 : 1;
    if (a->name.h2 != b->name.h2) return a->name.h2 < b->name.h2 ? -1 : 1;
    return a->position < b->position ? -1 : 1;
}

static inline void lj_hash_members_sort(lj_hash_member *members, size_t count) {
    size_t i;
    if (count > 24) {
        qsort(members, count, sizeof *members, lj_hash_member_order);
        return;
    }
    for (i = 1; i < count; i++) {
        lj_hash_member member = members[i];
        size_t at = i;
        while (at > 0 && lj_hash_member_order(&member, &members[at - 1]) < 0) {
            members[at] = members[at - 1];
            at--;
        }
        members[at] = member;
    }
}

static inline int lj_hash_push(lj_hasher *h, lj_hash128 name, lj_hash128 value) {
    lj_hash_member *member;
    if (h->count == h->capacity) {
        size_t capacity = h->capacity ? h->capacity * 2 : 64;
        lj_hash_member *members = (lj_hash_member *)realloc(h->members, capacity * sizeof *members);
        if (members == NULL) return LJ_FAULT_MEMORY;
        h->members = members;
        h->capacity = capacity;
    }
    member = &h->members[h->count];
    member->name = name;
    member->value = value;
    member->position = h->count++;
    return 0;
}

static int lj_hash_value(lj_hasher *h, uint32_t depth, uint64_t live, lj_hash128 *out);

static inline int lj_hash_object(lj_hasher *h, uint32_t depth, uint64_t live, lj_hash128 *out) {
    size_t base = h->count, i;
    int code, drop = 0, first = 1;
    h->scan.at++;
    for (;; first = 0) {
        lj_json_text string;
        lj_hash128 name, value;
        const uint8_t *text;
        size_t size;
        uint64_t below = 0;
        lj_json_skip_space(&h->scan);
        if (first && h->scan.at < h->scan.end && *h->scan.at == '}') break;
        code = (int)lj_json_name(&h->scan, &string);
        if (code) return code;
        if ((text = lj_hasher_text(h, &string, &size)) == NULL) return LJ_FAULT_MEMORY;
        if (live) below = lj_ignore_step(h->ignore, live, depth, text, size, -1, &drop);
        if (drop) {
            code = (int)lj_json_value(&h->scan, h->max_depth - depth - 1);
            drop = 0;
        } else {
            name = lj_hash_bytes(text, size, LJ_TAG_NAME);
            code = lj_hash_value(h, depth + 1, below, &value);
            if (code == 0) code = lj_hash_push(h, name, value);
        }
        if (code) return code;
        lj_json_skip_space(&h->scan);
        if (h->scan.at == h->scan.end) return (int)lj_json_fail(&h->scan, LJ_JSON_END, h->scan.at);
        if (*h->scan.at == '}') break;
        if (*h->scan.at != ',') return (int)lj_json_fail(&h->scan, LJ_JSON_CHAR, h->scan.at);
        h->scan.at++;
    }
    h->scan.at++;
    lj_hash_members_sort(h->members + base, h->count - base);
    for (i = base; i < h->count; i++) h->members[i].position = 0;
    *out = lj_hash_bytes(h->count == base ? NULL : h->members + base, (h->count - base) * sizeof(lj_hash_member), LJ_TAG_OBJECT);
    h->count = base;
    return 0;
}

static inline int lj_hash_array(lj_hasher *h, uint32_t depth, uint64_t live, lj_hash128 *out) {
    lj_hash128 chain = {0, 0};
    int64_t index;
    int code, drop = 0;
    h->scan.at++;
    for (index = 0;; index++) {
        lj_hash128 value;
        uint64_t below = 0;
        lj_json_skip_space(&h->scan);
        if (index == 0 && h->scan.at < h->scan.end && *h->scan.at == ']') break;
        if (live) below = lj_ignore_step(h->ignore, live, depth, NULL, 0, index, &drop);
        if (drop) {
            code = (int)lj_json_value(&h->scan, h->max_depth - depth - 1);
            drop = 0;
            if (code) return code;
        } else {
            uint64_t link[5];
            if ((code = lj_hash_value(h, depth + 1, below, &value))) return code;
            link[0] = chain.h1;
            link[1] = chain.h2;
            link[2] = (uint64_t)index;
            link[3] = value.h1;
            link[4] = value.h2;
            chain = lj_hash_bytes(link, sizeof link, LJ_TAG_ARRAY);
        }
        lj_json_skip_space(&h->scan);
        if (h->scan.at == h->scan.end) return (int)lj_json_fail(&h->scan, LJ_JSON_END, h->scan.at);
        if (*h->scan.at == ']') break;
        if (*h->scan.at != ',') return (int)lj_json_fail(&h->scan, LJ_JSON_CHAR, h->scan.at);
        h->scan.at++;
    }
    h->scan.at++;
    *out = lj_hash_bytes(&chain, sizeof chain, LJ_TAG_ARRAY);
    return 0;
}

static int lj_hash_value(lj_hasher *h, uint32_t depth, uint64_t live, lj_hash128 *out) {
    const uint8_t *start;
    int code;
    if (++h->values > LJ_RECORD_VALUES) return (int)lj_json_fail(&h->scan, (lj_json_code)LJ_FAULT_SIZE, h->scan.at);
    lj_json_skip_space(&h->scan);
    start = h->scan.at;
    if (start == h->scan.end) return (int)lj_json_fail(&h->scan, LJ_JSON_END, start);
    switch (*start) {
    case '{': case '[':
        if (depth == h->max_depth) return (int)lj_json_fail(&h->scan, LJ_JSON_DEPTH, start);
        return *start == '{' ? lj_hash_object(h, depth, live, out) : lj_hash_array(h, depth, live, out);
    case '"': {
        lj_json_text string;
        const uint8_t *text;
        size_t size;
        if ((code = (int)lj_json_string(&h->scan, &string))) return code;
        if ((text = lj_hasher_text(h, &string, &size)) == NULL) return LJ_FAULT_MEMORY;
        *out = lj_hash_bytes(text, size, LJ_TAG_STRING);
        return 0;
    }
    default:
        if ((code = (int)lj_json_scalar(&h->scan))) return code;
        if (*start == 't') *out = lj_hash_bytes(NULL, 0, LJ_TAG_TRUE);
        else if (*start == 'f') *out = lj_hash_bytes(NULL, 0, LJ_TAG_FALSE);
        else if (*start == 'n') *out = lj_hash_bytes(NULL, 0, LJ_TAG_NULL);
        else {
            lj_decimal number;
            lj_decimal_read(&number, start, (size_t)(h->scan.at - start));
            out->h1 = lj_decimal_hash(&number, LJ_HASH_SEED_1 + LJ_TAG_NUMBER * 16);
            out->h2 = lj_decimal_hash(&number, LJ_HASH_SEED_2 + LJ_TAG_NUMBER * 16);
        }
        return 0;
    }
}

/* Hash one whole document. `h` keeps its memory for the next call; zero it before the first. On a fault
 * `h->scan.error_at` tells where. */
static inline int lj_hash_document(lj_hasher *h, const uint8_t *bytes, size_t size, const lj_ignore *ignore,
                                   uint32_t max_depth, lj_hash128 *out) {
    int code;
    lj_json_begin(&h->scan, bytes, size);
    h->ignore = ignore;
    h->max_depth = max_depth > LJ_JSON_MAX_DEPTH ? LJ_JSON_MAX_DEPTH : max_depth;
    h->count = 0;
    h->values = 0;
    if ((code = lj_hash_value(h, 0, lj_ignore_all(ignore), out))) return code;
    lj_json_skip_space(&h->scan);
    if (h->scan.at != h->scan.end) return (int)lj_json_fail(&h->scan, LJ_JSON_TRAILING, h->scan.at);
    return 0;
}
#endif
