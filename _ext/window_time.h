/* The event time of a message: the JSON value at a window's time_path, to Unix milliseconds.
 *
 * Formats: auto takes RFC 3339 texts and numbers (or texts of a number) as ingest_time.h reads them; the others
 * take one spelling only. Digits beyond a millisecond are cut off. */
#ifndef LJ_WINDOW_TIME_H
#define LJ_WINDOW_TIME_H
#include "ingest_time.h"
#include <stddef.h>

enum { LJ_WINDOW_AUTO = 0, LJ_WINDOW_RFC3339 = 1, LJ_WINDOW_UNIX_S = 2, LJ_WINDOW_UNIX_MS = 3 };

/* The bytes of a JSON number: [-] digits [. digits] [e [+-] digits]. */
static inline int lj_window_is_number(const uint8_t *p, const uint8_t *end) {
    const uint8_t *first;
    if (p < end && *p == '-') p++;
    for (first = p; p < end && *p >= '0' && *p <= '9'; p++) {}
    if (p == first) return 0;
    if (p < end && *p == '.') {
        for (first = ++p; p < end && *p >= '0' && *p <= '9'; p++) {}
        if (p == first) return 0;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '-' || *p == '+')) p++;
        for (first = p; p < end && *p >= '0' && *p <= '9'; p++) {}
        if (p == first) return 0;
    }
    return p == end;
}

/* A number in one unit, `shift` decimal digits above a millisecond; 1 and *ms, or 0 when it does not fit. */
static inline int lj_window_scaled(const uint8_t *p, const uint8_t *end, int shift, int64_t *ms) {
    int64_t mantissa = 0, exponent = shift;
    int negative = *p == '-', fraction = 0;
    if (negative) p++;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = 1;
        } else if (mantissa < 100000000000000000LL) {
            mantissa = mantissa * 10 + (*p - '0');
            exponent -= fraction;
        } else {
            exponent += !fraction;
        }
    }
    if (p < end) exponent += lj_time_exponent(p + 1, end);
    *ms = lj_time_scale(mantissa, exponent);
    if (*ms < 0) return 0;
    if (negative) *ms = -*ms;
    return 1;
}

/* A JSON value, trimmed; 1 and *ms, or 0 when it is no time of the format. */
static inline int lj_window_time(int format, const uint8_t *p, size_t size, int64_t *ms) {
    const uint8_t *end = p + size;
    int is_text = size >= 2 && *p == '"';
    if (is_text) {
        p++;
        end--;
    }
    if (lj_window_is_number(p, end)) {
        if (format == LJ_WINDOW_AUTO) return lj_time_number(p, end, ms);
        if (format == LJ_WINDOW_RFC3339) return 0;
        return lj_window_scaled(p, end, format == LJ_WINDOW_UNIX_S ? 3 : 0, ms);
    }
    if (!is_text || (format != LJ_WINDOW_AUTO && format != LJ_WINDOW_RFC3339)) return 0;
    return lj_time_rfc3339(p, end, ms);
}
#endif
