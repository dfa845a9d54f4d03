/* JSON numbers as exact decimals: equality, order and hash, never through a double.
 *
 * A number that the scanner accepted is 0.d1d2..dn x 10^magnitude with d1 and dn not 0; the digits stay
 * where they are in the text, with a point perhaps among them. 0, -0 and 0e9 are one number. An exponent
 * beyond 18 digits is not computed with: such a number (`huge`) equals only its own spelling. */
#ifndef LJ_JSON_NUMBER_H
#define LJ_JSON_NUMBER_H
#include "xxh64.h"

#define LJ_EXPONENT_DIGITS 18 /* 10^18 plus any text length still fits 63 bits */
#define LJ_MANTISSA_DIGITS 19 /* 10^19 - 1 fits 64 bits */

typedef struct {
    const uint8_t *text; /* the whole number */
    size_t size;
    const uint8_t *first; /* d1; NULL for zero */
    size_t digits;        /* n; 0 for zero */
    int64_t magnitude;
    int negative;
    int huge;
} lj_decimal;

/* `text` is a number that lj_json_number accepted. */
static inline void lj_decimal_read(lj_decimal *d, const uint8_t *text, size_t size) {
    const uint8_t *p = text, *end = text + size;
    size_t seen = 0; /* digits from d1 on */
    int fraction = 0;
    memset(d, 0, sizeof *d);
    d->text = text;
    d->size = size;
    if (*p == '-') {
        d->negative = 1;
        p++;
    }
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = 1;
            continue;
        }
        if (d->first == NULL && *p == '0') {
            if (fraction) d->magnitude--;
            continue;
        }
        if (d->first == NULL) d->first = p;
        seen++;
        if (*p != '0') d->digits = seen;
        if (!fraction) d->magnitude++;
    }
    if (d->first == NULL) {
        d->negative = 0;
        d->magnitude = 0;
        return;
    }
    if (p < end) {
        int64_t exponent = 0;
        int minus = 0, count = 0;
        p++;
        if (*p == '-' || *p == '+') minus = *p++ == '-';
        while (p < end && *p == '0') p++;
        for (; p < end; p++, count++) {
            if (count == LJ_EXPONENT_DIGITS) {
                d->huge = 1;
                return;
            }
            exponent = exponent * 10 + (*p - '0');
        }
        d->magnitude += minus ? -exponent : exponent;
    }
}

/* The i-th digit lies at or behind `p`; steps over the point. */
static inline const uint8_t *lj_decimal_digit(const uint8_t *p) { return *p == '.' ? p + 1 : p; }

static inline int lj_decimal_digits_compare(const lj_decimal *a, const lj_decimal *b) {
    size_t i, common = a->digits < b->digits ? a->digits : b->digits;
    const uint8_t *p = a->first, *q = b->first;
    for (i = 0; i < common; i++, p++, q++) {
        p = lj_decimal_digit(p);
        q = lj_decimal_digit(q);
        if (*p != *q) return *p < *q ? -1 : 1;
    }
    return a->digits == b->digits ? 0 : a->digits < b->digits ? -1 : 1;
}

static inline int lj_decimal_equal(const lj_decimal *a, const lj_decimal *b) {
    if (a->huge || b->huge) return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
    return a->negative == b->negative && a->magnitude == b->magnitude && a->digits == b->digits &&
           (a->digits == 0 || lj_decimal_digits_compare(a, b) == 0);
}

/* -1, 0 or 1; 2 when a huge number stands in the way. */
static inline int lj_decimal_compare(const lj_decimal *a, const lj_decimal *b) {
    int sign_a = a->digits == 0 ? 0 : a->negative ? -1 : 1, sign_b = b->digits == 0 ? 0 : b->negative ? -1 : 1;
    int order;
    if (a->huge || b->huge) return lj_decimal_equal(a, b) ? 0 : 2;
    if (sign_a != sign_b) return sign_a < sign_b ? -1 : 1;
    if (sign_a == 0) return 0;
    if (a->magnitude != b->magnitude) order = a->magnitude < b->magnitude ? -1 : 1;
    else order = lj_decimal_digits_compare(a, b);
    return sign_a * order;
}

/* 8 bytes that equal numbers share. */
static inline uint64_t lj_decimal_hash(const lj_decimal *d, uint64_t seed) {
    uint8_t head[24];
    uint64_t words[3];
    const uint8_t *p = d->first;
    size_t i;
    if (d->huge) return lj_xxh64(d->text, d->size, seed + 1);
    words[0] = (uint64_t)d->magnitude;
    words[1] = (uint64_t)d->digits << 1 | (uint64_t)d->negative;
    words[2] = 0;
    if (d->digits <= LJ_MANTISSA_DIGITS) {
        for (i = 0; i < d->digits; i++, p++) {
            p = lj_decimal_digit(p);
            words[2] = words[2] * 10 + (uint64_t)(*p - '0');
        }
    } else {
        for (i = 0; i < d->digits; i++, p++) { /* FNV-like step, mixed by XXH64 below */
            p = lj_decimal_digit(p);
            words[2] = lj_xxh64_round(words[2], (uint64_t)*p);
        }
    }
    for (i = 0; i < 3; i++) {
        uint64_t w = words[i];
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        w = __builtin_bswap64(w);
#endif
        memcpy(head + 8 * i, &w, 8);
    }
    return lj_xxh64(head, sizeof head, seed);
}
#endif
