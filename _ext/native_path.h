/* JSON paths of a payload without SQLite, where the answer is certain to be SQLite's.
 *
 * lj_paths_read fills the values of several paths in one pass over an object, or says that it cannot be
 * sure and SQLite must be asked. Sure: strict RFC 8259 JSON, plain member names, the first of equal names,
 * strings without escapes, integers of up to 18 digits, reals of up to 15 digits without an exponent
 * (their double is the quotient of two exact doubles, and their shortest text is their own), true and
 * false (1 and 0), null. Not sure: anything else, such as an object as the value. */
#ifndef LJ_NATIVE_PATH_H
#define LJ_NATIVE_PATH_H
#include "native_value.h"

#define LJ_PATH_STEPS 8
#define LJ_NUMBER_ROOM 24 /* bytes of the text of a number */

typedef struct {
    int value; /* which value of the row it is */
    int steps;
    LjSlice names[LJ_PATH_STEPS];
} LjPath;

static inline int lj_path_integer(const uint8_t *p, size_t size, LjValue *out, char **room) {
    size_t negative = *p == '-', i;
    int64_t whole = 0;
    if (size - negative > 18 || (negative && p[1] == '0')) return 0;
    for (i = negative; i < size; i++) whole = whole * 10 + (p[i] - '0');
    out->kind = SQLITE_INTEGER;
    out->integer = negative ? -whole : whole;
    /* The text of an integer without leading zeros is its own. */
    memcpy(*room, p, size);
    out->text = *room;
    out->size = (uint32_t)size;
    out->as_text = 1;
    *room += size;
    return 1;
}

static inline int lj_path_real(const uint8_t *p, size_t size, const uint8_t *dot, LjValue *out, char **room) {
    static const double power[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const uint8_t *end = p + size, *at = p;
    int negative = *p == '-', zeros = 0, seen = 0;
    int64_t digits = 0;
    if (size > 17) return 0;
    while (end > dot + 2 && end[-1] == '0') end--; /* as %.15g has it; one digit stays behind the dot */
    for (at += negative; at < end; at++) {
        if (at == dot) continue;
        digits = digits * 10 + (*at - '0');
        seen++;
        if (digits == 0 && at > dot) zeros++;
    }
    /* Below 1e-4 the shortest text has an exponent; -0.0 is printed in its own way. */
    if (seen > 15 || (zeros > 3 && digits) || (negative && digits == 0)) return 0;
    out->kind = SQLITE_FLOAT;
    out->real = (double)digits / power[end - dot - 1];
    if (negative) out->real = -out->real;
    memcpy(*room, p, (size_t)(end - p));
    out->text = *room;
    out->size = (uint32_t)(end - p);
    out->as_json = 1;
    *room += end - p;
    return 1;
}

static inline int lj_path_number(const uint8_t *p, size_t size, LjValue *out, char **room) {
    const uint8_t *dot = NULL;
    for (size_t i = 0; i < size; i++) {
        if (p[i] == 'e' || p[i] == 'E') return 0;
        if (p[i] == '.') dot = p + i;
    }
    return dot ? lj_path_real(p, size, dot, out, room) : lj_path_integer(p, size, out, room);
}

/* The scalar at [p, end) that a scan has accepted. */
static inline int lj_path_scalar(const uint8_t *p, const uint8_t *end, LjValue *out, char **room) {
    memset(out, 0, sizeof *out);
    switch (*p) {
    case '"':
        out->kind = SQLITE_TEXT;
        out->text = (const char *)p + 1;
        out->size = (uint32_t)(end - p - 2);
        return memchr(out->text, '\\', out->size) == NULL;
    case 'n': out->kind = SQLITE_NULL; return 1;
    case 't': case 'f': {
        uint8_t digit = *p == 't' ? '1' : '0';
        return lj_path_integer(&digit, 1, out, room);
    }
    case '{': case '[': return 0;
    default: return lj_path_number(p, (size_t)(end - p), out, room);
    }
}

/* One object of the document at `depth` names down; `live` are the paths that lead here. */
static inline int lj_paths_object(lj_json *s, const LjPath *paths, int n, int depth, uint64_t live,
                                  uint64_t *found, LjValue *values, char **room) {
    lj_json_text name;
    s->at++;
    lj_json_skip_space(s);
    if (s->at < s->end && *s->at == '}') { s->at++; return 1; }
    for (;;) {
        uint64_t here = 0, deeper = 0;
        lj_json_skip_space(s);
        if (lj_json_name(s, &name) != LJ_JSON_OK || name.escaped) return 0;
        for (int i = 0; i < n; i++) {
            const LjSlice *wanted = &paths[i].names[depth];
            if (!(live >> i & 1) || (*found >> i & 1) || wanted->len != name.size
                || memcmp(wanted->at, name.start, name.size))
                continue;
            /* The first of equal names is the one, whatever is in it. */
            *found |= 1ull << i;
            if (paths[i].steps == depth + 1) here |= 1ull << i;
            else deeper |= 1ull << i;
        }
        lj_json_skip_space(s);
        const uint8_t *first = s->at;
        if (deeper && s->at < s->end && *s->at == '{') {
            uint64_t below = ~deeper;
            if (here || depth + 1 >= LJ_PATH_STEPS
                || !lj_paths_object(s, paths, n, depth + 1, deeper, &below, values, room))
                return 0;
        } else {
            if (lj_json_value(s, 64) != LJ_JSON_OK) return 0;
            for (int i = 0; here && i < n; i++)
                if ((here >> i & 1) && !lj_path_scalar(first, s->at, &values[paths[i].value], room)) return 0;
        }
        lj_json_skip_space(s);
        if (s->at == s->end) return 0;
        if (*s->at == '}') { s->at++; return 1; }
        if (*s->at++ != ',') return 0;
    }
}

/* 1: all values are in place (a missing one is NULL); 0: ask SQLite. `room` holds LJ_NUMBER_ROOM bytes a
 * path; texts point into the payload. */
static inline int lj_paths_read(const LjPath *paths, int n, LjSlice payload, LjValue *values, char *room) {
    uint64_t found = 0;
    lj_json s;
    for (int i = 0; i < n; i++) {
        memset(&values[paths[i].value], 0, sizeof(LjValue));
        values[paths[i].value].kind = SQLITE_NULL;
    }
    lj_json_begin(&s, (const uint8_t *)payload.at, payload.len);
    lj_json_skip_space(&s);
    if (s.at == s.end || *s.at != '{') return 0;
    if (!lj_paths_object(&s, paths, n, 0, ~0ull, &found, values, &room)) return 0;
    lj_json_skip_space(&s);
    return s.at == s.end;
}
#endif
