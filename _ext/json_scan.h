/* A validating JSON scanner over bytes: RFC 8259, strict, no allocation, no recursion, no Python.
 *
 * Every native module that reads JSON from outside uses this one, so that they all agree on what is valid:
 * UTF-8 without overlong forms or surrogates, no control characters in strings, only the escapes of the
 * RFC, no lone surrogate escapes, numbers by the grammar (their size is the caller's business), the three
 * literals, nesting up to a limit. A failed call returns a code and leaves the byte where it went wrong in
 * `error_at`; the position `at` is then meaningless. Nothing is ever read at or beyond `end`.
 *
 *     lj_json scan;
 *     lj_json_begin(&scan, bytes, size);
 *     if (lj_json_document(&scan, 64) != LJ_JSON_OK) report(scan.error_at - scan.begin);
 */
#ifndef LJ_JSON_SCAN_H
#define LJ_JSON_SCAN_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bits of the container stack in lj_json_value; a larger limit asked for is lowered to this. */
#define LJ_JSON_MAX_DEPTH 1024

typedef enum {
    LJ_JSON_OK = 0,
    LJ_JSON_END,       /* the input ends inside a value */
    LJ_JSON_CHAR,      /* a character that cannot stand here */
    LJ_JSON_CONTROL,   /* a raw control character in a string */
    LJ_JSON_ESCAPE,    /* an escape that JSON does not have */
    LJ_JSON_SURROGATE, /* \uD800..\uDFFF without its other half */
    LJ_JSON_UTF8,      /* bytes that are not UTF-8 */
    LJ_JSON_NUMBER,    /* digits that are not a JSON number: 01, 1., 1e */
    LJ_JSON_DEPTH,     /* nested deeper than the limit */
    LJ_JSON_TRAILING   /* a complete value, and then something else */
} lj_json_code;

typedef struct {
    const uint8_t *begin;
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *error_at;
} lj_json;

/* The inside of a string, without its quotes. */
typedef struct {
    const uint8_t *start;
    size_t size;
    int escaped; /* 1: holds at least one backslash, so the text is what lj_json_unescape makes of it */
} lj_json_text;

static inline void lj_json_begin(lj_json *s, const uint8_t *bytes, size_t size) {
    s->begin = s->at = s->error_at = bytes;
    s->end = bytes + size;
}

static inline lj_json_code lj_json_fail(lj_json *s, lj_json_code code, const uint8_t *where) {
    s->error_at = where;
    return code;
}

static inline void lj_json_skip_space(lj_json *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) s->at++;
}

/* Length of the UTF-8 sequence at p (first byte >= 0x80), or 0. Unicode 15, table 3-7. */
static inline size_t lj_json_utf8_size(const uint8_t *p, const uint8_t *end) {
    size_t left = (size_t)(end - p);
    uint8_t a = p[0], low = 0x80, high = 0xBF;
    size_t size, i;
    if (a < 0xC2) return 0;
    if (a < 0xE0) size = 2;
    else if (a < 0xF0) {
        size = 3;
        if (a == 0xE0) low = 0xA0;
        if (a == 0xED) high = 0x9F;
    } else if (a < 0xF5) {
        size = 4;
        if (a == 0xF0) low = 0x90;
        if (a == 0xF4) high = 0x8F;
    } else return 0;
    if (left < size || p[1] < low || p[1] > high) return 0;
    for (i = 2; i < size; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return size;
}

/* Value of four hex digits, or -1. */
static inline int lj_json_hex4(const uint8_t *p, const uint8_t *end) {
    int value = 0, i;
    if (end - p < 4) return -1;
    for (i = 0; i < 4; i++) {
        uint8_t c = p[i];
        int digit;
        if (c >= '0' && c <= '9') digit = c - '0';
        else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        else return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* One escape: p is at the backslash; returns the byte after it, or NULL with the error set. */
static inline const uint8_t *lj_json_escape(lj_json *s, const uint8_t *p, lj_json_code *code) {
    int unit;
    if (s->end - p < 2) {
        *code = lj_json_fail(s, LJ_JSON_END, s->end);
        return NULL;
    }
    switch (p[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return p + 2;
    case 'u':
        break;
    default:
        *code = lj_json_fail(s, LJ_JSON_ESCAPE, p);
        return NULL;
    }
    unit = lj_json_hex4(p + 2, s->end);
    if (unit < 0) {
        *code = lj_json_fail(s, LJ_JSON_ESCAPE, p);
        return NULL;
    }
    if (unit < 0xD800 || unit > 0xDFFF) return p + 6;
    if (unit < 0xDC00 && s->end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
        int second = lj_json_hex4(p + 8, s->end);
        if (second >= 0xDC00 && second <= 0xDFFF) return p + 12;
    }
    *code = lj_json_fail(s, LJ_JSON_SURROGATE, p);
    return NULL;
}

/* First byte at or after p that is not plain text of a string: a quote, backslash, control or non-ASCII
 * byte; `end` if there is none. Eight bytes a step; the lowest marker bit of the mask is exact. */
static inline const uint8_t *lj_json_plain(const uint8_t *p, const uint8_t *end) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
    while (end - p >= 8) {
        uint64_t w, quote, slash, mask;
        memcpy(&w, p, 8);
        quote = w ^ (ones * '"');
        slash = w ^ (ones * '\\');
        mask = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((w - ones * 0x20) & ~w) | w) & tops;
        if (mask) return p + (__builtin_ctzll(mask) >> 3);
        p += 8;
    }
#endif
    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') p++;
    return p;
}

/* A string: `at` is on its opening quote, afterwards behind the closing one. */
static inline lj_json_code lj_json_string(lj_json *s, lj_json_text *text) {
    const uint8_t *p = s->at + 1;
    lj_json_code code = LJ_JSON_OK;
    text->start = p;
    text->escaped = 0;
    for (;;) {
        p = lj_json_plain(p, s->end);
        if (p == s->end) return lj_json_fail(s, LJ_JSON_END, p);
        if (*p == '"') break;
        if (*p == '\\') {
            text->escaped = 1;
            p = lj_json_escape(s, p, &code);
            if (p == NULL) return code;
        } else if (*p < 0x20) {
            return lj_json_fail(s, LJ_JSON_CONTROL, p);
        } else {
            size_t size = lj_json_utf8_size(p, s->end);
            if (size == 0) return lj_json_fail(s, LJ_JSON_UTF8, p);
            p += size;
        }
    }
    text->size = (size_t)(p - text->start);
    s->at = p + 1;
    return LJ_JSON_OK;
}

static inline int lj_json_digits(lj_json *s) {
    const uint8_t *first = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
    return s->at > first;
}

/* A number: `at` is on its minus or first digit, afterwards on the first byte that is not part of it. */
static inline lj_json_code lj_json_number(lj_json *s) {
    const uint8_t *first = s->at, *digits;
    if (*s->at == '-') s->at++;
    digits = s->at;
    if (!lj_json_digits(s)) return lj_json_fail(s, LJ_JSON_NUMBER, first);
    if (*digits == '0' && s->at - digits > 1) return lj_json_fail(s, LJ_JSON_NUMBER, first);
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!lj_json_digits(s)) return lj_json_fail(s, LJ_JSON_NUMBER, first);
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
        if (!lj_json_digits(s)) return lj_json_fail(s, LJ_JSON_NUMBER, first);
    }
    return LJ_JSON_OK;
}

static inline lj_json_code lj_json_literal(lj_json *s, const char *word, size_t size) {
    if ((size_t)(s->end - s->at) < size || memcmp(s->at, word, size) != 0)
        return lj_json_fail(s, LJ_JSON_CHAR, s->at);
    s->at += size;
    return LJ_JSON_OK;
}

/* A string, number or literal at `at`; anything else is LJ_JSON_CHAR. `at` < `end`. */
static inline lj_json_code lj_json_scalar(lj_json *s) {
    lj_json_text ignored;
    switch (*s->at) {
    case '"': return lj_json_string(s, &ignored);
    case 't': return lj_json_literal(s, "true", 4);
    case 'f': return lj_json_literal(s, "false", 5);
    case 'n': return lj_json_literal(s, "null", 4);
    case '-': case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        return lj_json_number(s);
    default: return lj_json_fail(s, LJ_JSON_CHAR, s->at);
    }
}

/* The name of a member and its colon; `at` is where the quote must be. */
static inline lj_json_code lj_json_name(lj_json *s, lj_json_text *name) {
    lj_json_code code;
    if (s->at == s->end) return lj_json_fail(s, LJ_JSON_END, s->at);
    if (*s->at != '"') return lj_json_fail(s, LJ_JSON_CHAR, s->at);
    code = lj_json_string(s, name);
    if (code != LJ_JSON_OK) return code;
    lj_json_skip_space(s);
    if (s->at == s->end) return lj_json_fail(s, LJ_JSON_END, s->at);
    if (*s->at != ':') return lj_json_fail(s, LJ_JSON_CHAR, s->at);
    s->at++;
    return LJ_JSON_OK;
}

/* Validate and step over one value, with the space before it. A scalar has depth 0, `[]` depth 1. */
static inline lj_json_code lj_json_value(lj_json *s, uint32_t max_depth) {
    uint64_t is_object[LJ_JSON_MAX_DEPTH / 64];
    uint32_t depth = 0;
    lj_json_code code;
    lj_json_text name;
    if (max_depth > LJ_JSON_MAX_DEPTH) max_depth = LJ_JSON_MAX_DEPTH;

value:
    lj_json_skip_space(s);
    if (s->at == s->end) return lj_json_fail(s, LJ_JSON_END, s->at);
    if (*s->at == '{' || *s->at == '[') {
        uint64_t bit = 1ULL << (depth & 63);
        int object = *s->at == '{';
        if (depth == max_depth) return lj_json_fail(s, LJ_JSON_DEPTH, s->at);
        if (object) is_object[depth >> 6] = (depth & 63 ? is_object[depth >> 6] : 0) | bit;
        else is_object[depth >> 6] = (depth & 63 ? is_object[depth >> 6] : 0) & ~bit;
        depth++;
        s->at++;
        lj_json_skip_space(s);
        if (s->at < s->end && *s->at == (object ? '}' : ']')) goto close;
        if (!object) goto value;
        code = lj_json_name(s, &name);
        if (code != LJ_JSON_OK) return code;
        goto value;
    }
    code = lj_json_scalar(s);
    if (code != LJ_JSON_OK) return code;
    goto after;

close:
    s->at++;
    depth--;

after:
    if (depth == 0) return LJ_JSON_OK;
    lj_json_skip_space(s);
    if (s->at == s->end) return lj_json_fail(s, LJ_JSON_END, s->at);
    {
        int object = (int)(is_object[(depth - 1) >> 6] >> ((depth - 1) & 63) & 1);
        if (*s->at == (object ? '}' : ']')) goto close;
        if (*s->at != ',') return lj_json_fail(s, LJ_JSON_CHAR, s->at);
        s->at++;
        if (!object) goto value;
        lj_json_skip_space(s);
        code = lj_json_name(s, &name);
        if (code != LJ_JSON_OK) return code;
        goto value;
    }
}

/* One value and nothing but space around it. */
static inline lj_json_code lj_json_document(lj_json *s, uint32_t max_depth) {
    lj_json_code code = lj_json_value(s, max_depth);
    if (code != LJ_JSON_OK) return code;
    lj_json_skip_space(s);
    if (s->at != s->end) return lj_json_fail(s, LJ_JSON_TRAILING, s->at);
    return LJ_JSON_OK;
}

static inline uint8_t *lj_json_put_utf8(uint8_t *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (uint8_t)c;
    } else if (c < 0x800) {
        *out++ = (uint8_t)(0xC0 | c >> 6);
        *out++ = (uint8_t)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *out++ = (uint8_t)(0xE0 | c >> 12);
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        *out++ = (uint8_t)(0x80 | (c & 0x3F));
    } else {
        *out++ = (uint8_t)(0xF0 | c >> 18);
        *out++ = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        *out++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        *out++ = (uint8_t)(0x80 | (c & 0x3F));
    }
    return out;
}

/* The text of a string that lj_json_string accepted. `out` holds at least text->size bytes (it never
 * grows); returns the bytes written. */
static inline size_t lj_json_unescape(const lj_json_text *text, uint8_t *out) {
    const uint8_t *p = text->start, *end = text->start + text->size;
    uint8_t *first = out;
    while (p < end) {
        const uint8_t *slash = (const uint8_t *)memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash ? slash : end) - p);
        memcpy(out, p, plain);
        out += plain;
        p += plain;
        if (p == end) break;
        switch (p[1]) {
        case 'b': *out++ = '\b'; break;
        case 'f': *out++ = '\f'; break;
        case 'n': *out++ = '\n'; break;
        case 'r': *out++ = '\r'; break;
        case 't': *out++ = '\t'; break;
        case 'u': {
            uint32_t c = (uint32_t)lj_json_hex4(p + 2, end);
            p += 4;
            if (c >= 0xD800 && c <= 0xDFFF) {
                c = 0x10000 + ((c - 0xD800) << 10) + ((uint32_t)lj_json_hex4(p + 4, end) - 0xDC00);
                p += 6;
            }
            out = lj_json_put_utf8(out, c);
            break;
        }
        default: *out++ = p[1];
        }
        p += 2;
    }
    return (size_t)(out - first);
}

#endif
