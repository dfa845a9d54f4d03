/* The `timestamp` of a pushed row: Unix seconds, Unix milliseconds or RFC 3339, to Unix milliseconds.
 *
 * Integer arithmetic only: no locale, no rounding surprises. Digits beyond a millisecond are cut off.
 * A number of 10^11 or more is milliseconds: as seconds it would be the year 5138, as milliseconds it is
 * 1973 or later, so no time that a live system sends is read wrongly.
 */
#ifndef LJ_INGEST_TIME_H
#define LJ_INGEST_TIME_H
#include <stdint.h>

#define LJ_TIME_MIN_MS (-62135596800000LL) /* 0001-01-01T00:00:00Z, the first that RFC 3339 output has */
#define LJ_TIME_MAX_MS 253402300799999LL   /* 9999-12-31T23:59:59.999Z */
#define LJ_TIME_AS_MS 100000000000000LL    /* 10^11 seconds in ms: from here on the number was in ms */

/* mantissa * 10^exponent, cut to an integer; -1 when it does not fit (mantissa >= 0). */
static inline int64_t lj_time_scale(int64_t mantissa, int64_t exponent) {
    for (; exponent > 0 && mantissa; exponent--) {
        if (mantissa > INT64_MAX / 10) return -1;
        mantissa *= 10;
    }
    for (; exponent < 0 && mantissa; exponent++) mantissa /= 10;
    return mantissa;
}

/* The exponent of a number: digits with an optional sign; large ones saturate. */
static inline int64_t lj_time_exponent(const uint8_t *p, const uint8_t *end) {
    int64_t value = 0;
    int negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    for (; p < end; p++)
        if (value < 1000000) value = value * 10 + (*p - '0');
    return negative ? -value : value;
}

/* A valid JSON number; 1 and *ms, or 0 when it is outside the years 1 to 9999. */
static inline int lj_time_number(const uint8_t *p, const uint8_t *end, int64_t *ms) {
    int64_t mantissa = 0, exponent = 0, value;
    int negative = *p == '-', fraction = 0;
    if (negative) p++;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = 1;
        } else if (mantissa < 100000000000000000LL) { /* 18 digits are exact; later ones are cut off */
            mantissa = mantissa * 10 + (*p - '0');
            exponent -= fraction;
        } else {
            exponent += !fraction;
        }
    }
    if (p < end) exponent += lj_time_exponent(p + 1, end);
    value = lj_time_scale(mantissa, exponent + 3);
    if (value < 0 || value >= LJ_TIME_AS_MS) value = lj_time_scale(mantissa, exponent);
    if (value < 0) return 0;
    if (negative) value = -value;
    *ms = value;
    return value >= LJ_TIME_MIN_MS && value <= LJ_TIME_MAX_MS;
}

/* `count` digits as a number, or -1. */
static inline int lj_time_digits(const uint8_t *p, int count) {
    int value = 0, i;
    for (i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

/* Days from 1970-01-01 in the Gregorian calendar; month 1..12. */
static inline int64_t lj_time_days(int year, int month, int day) {
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static inline int lj_time_month_days(int year, int month) {
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

/* The offset at the end of an RFC 3339 time in minutes; 0 when it is not one. */
static inline int lj_time_offset(const uint8_t *p, const uint8_t *end, int *minutes) {
    int hour, minute;
    if (end - p == 1 && (*p == 'Z' || *p == 'z')) {
        *minutes = 0;
        return 1;
    }
    if (end - p != 6 || (*p != '+' && *p != '-') || p[3] != ':') return 0;
    hour = lj_time_digits(p + 1, 2);
    minute = lj_time_digits(p + 4, 2);
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59) return 0;
    *minutes = (hour * 60 + minute) * (*p == '-' ? -1 : 1);
    return 1;
}

/* RFC 3339 with an offset, such as 2026-11-23T12:00:00.5+01:00; 1 and *ms, or 0. A leap second counts
 * as the second after it. */
static inline int lj_time_rfc3339(const uint8_t *p, const uint8_t *end, int64_t *ms) {
    int year, month, day, hour, minute, second, offset, fraction = 0, scale = 100;
    if (end - p < 20) return 0;
    year = lj_time_digits(p, 4);
    month = lj_time_digits(p + 5, 2);
    day = lj_time_digits(p + 8, 2);
    hour = lj_time_digits(p + 11, 2);
    minute = lj_time_digits(p + 14, 2);
    second = lj_time_digits(p + 17, 2);
    if (p[4] != '-' || p[7] != '-' || p[13] != ':' || p[16] != ':') return 0;
    if (p[10] != 'T' && p[10] != 't' && p[10] != ' ') return 0;
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > lj_time_month_days(year, month)) return 0;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return 0;
    p += 19;
    if (*p == '.') {
        const uint8_t *first = ++p;
        for (; p < end && *p >= '0' && *p <= '9'; p++, scale /= 10) fraction += (*p - '0') * scale;
        if (p == first) return 0;
    }
    if (!lj_time_offset(p, end, &offset)) return 0;
    *ms = ((lj_time_days(year, month, day) * 24 + hour) * 60 + minute - offset) * 60000LL;
    *ms += second * 1000LL + fraction;
    return *ms >= LJ_TIME_MIN_MS && *ms <= LJ_TIME_MAX_MS;
}

#endif
