/* Is a text a number in unusual dress? SQLite compares such a key with a number by its value, when the number has
 * numeric affinity; '7' is found by its text, but '7.0', '007' and ' 7' equal 7 as well.
 * https://www.sqlite.org/datatype3.html#affinity */
#ifndef LJ_ODD_KEY_H
#define LJ_ODD_KEY_H
#include <stdint.h>
#include <stddef.h>

static inline int lj_is_space(char c) { return c == ' ' || (c >= 9 && c <= 13); }
static inline int lj_is_digit(char c) { return c >= '0' && c <= '9'; }

/* 1: a well-formed number that is not the plain text of an integer of at most 18 digits. */
static inline int lj_is_odd_number(const char *at, size_t size) {
    const char *p = at, *end = at + size;
    size_t digits = 0;
    int plain = 1;
    while (p < end && lj_is_space(*p)) { p++; plain = 0; }
    if (p < end && (*p == '-' || *p == '+')) { plain &= *p == '-'; p++; }
    const char *first = p;
    while (p < end && lj_is_digit(*p)) { p++; digits++; }
    if (!digits || digits > 18 || (*first == '0' && (digits > 1 || p - at > 1))) plain = 0;
    if (p < end && *p == '.') {
        plain = 0;
        for (p++; p < end && lj_is_digit(*p); p++) digits++;
    }
    if (!digits) return 0;
    if (p < end && (*p == 'e' || *p == 'E')) {
        plain = 0;
        p++;
        if (p < end && (*p == '-' || *p == '+')) p++;
        if (p == end || !lj_is_digit(*p)) return 0;
        while (p < end && lj_is_digit(*p)) p++;
    }
    while (p < end && lj_is_space(*p)) { p++; plain = 0; }
    return p == end && !plain;
}

/* The plain text of an integer, at most 20 characters; returns its length. */
static inline int lj_integer_text(int64_t value, char *out) {
    char digits[20];
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    int n = 0, size = 0;
    do digits[n++] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) out[size++] = '-';
    while (n) out[size++] = digits[--n];
    return size;
}
#endif
