/* Writes SQLite values as JSON into a growing buffer (json_put.h). No Python.
 *
 * Text: RFC 8259 strings; bytes that are not UTF-8 become U+FFFD. Integers: digits. Reals: the shortest of
 * %.15g and %.17g that reads back as the same double, with ".0" where it would look like an integer; an
 * infinity is 9.0e+999, as SQLite's own JSON functions write it. Blobs: a string of hex digits.
 */
#ifndef LJ_JSON_OUT_H
#define LJ_JSON_OUT_H
#include <math.h>
#include <stdio.h>
#include "json_put.h"
#include "json_scan.h"

static inline void lj_put_integer(lj_out *b, int64_t value) {
    char digits[20], *end = digits + sizeof digits, *p = end;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do { *--p = (char)('0' + left % 10); left /= 10; } while (left);
    if (value < 0) *--p = '-';
    lj_put(b, p, (size_t)(end - p));
}

static inline void lj_put_real(lj_out *b, double value) {
    char text[40];
    if (isinf(value)) {
        if (value < 0) lj_put(b, "-", 1);
        lj_put(b, "9.0e+999", 8);
        return;
    }
    int size = snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value) size = snprintf(text, sizeof text, "%.17g", value);
    lj_put(b, text, (size_t)size);
    if (!strpbrk(text, ".e")) lj_put(b, ".0", 2);
}

static inline void lj_put_text(lj_out *b, const char *bytes, size_t size) {
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = (const uint8_t *)bytes, *end = p + size;
    lj_put(b, "\"", 1);
    while (p < end) {
        const uint8_t *plain = lj_json_plain(p, end);
        if (plain > p) { lj_put(b, p, (size_t)(plain - p)); p = plain; if (p == end) break; }
        uint8_t c = *p;
        if (c >= 0x80) {
            size_t n = lj_json_utf8_size(p, end);
            if (n) { lj_put(b, p, n); p += n; }
            else { lj_put(b, "\xef\xbf\xbd", 3); p++; }
            continue;
        }
        char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        switch (c) {
        case '"': case '\\': escape[1] = (char)c; lj_put(b, escape, 2); break;
        case '\n': lj_put(b, "\\n", 2); break;
        case '\r': lj_put(b, "\\r", 2); break;
        case '\t': lj_put(b, "\\t", 2); break;
        default: lj_put(b, escape, 6);
        }
        p++;
    }
    lj_put(b, "\"", 1);
}

static inline void lj_put_hex(lj_out *b, const void *bytes, size_t size) {
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = (const uint8_t *)bytes;
    lj_put1(b, '"');
    for (size_t i = 0; i < size; i++) {
        char pair[2] = {hex[p[i] >> 4], hex[p[i] & 15]};
        lj_put(b, pair, 2);
    }
    lj_put1(b, '"');
}

/* 1 when the bytes are one valid JSON value. */
static inline int lj_is_json(const char *bytes, size_t size) {
    lj_json scan;
    lj_json_begin(&scan, (const uint8_t *)bytes, size);
    return lj_json_document(&scan, 1000) == LJ_JSON_OK;
}
#endif
