/* The sum of the numbers of a group, kept so that a number can be taken out again.
 *
 * Integers are summed in 128 bits. Reals are summed as integers of 2^-128 in 256 bits, exactly. SQLite adds with
 * the compensation of Kahan, Babuska and Neumaier: the error of each addition is exact, and only the sum of the
 * errors is rounded. With n numbers whose magnitudes add up to M its result is the exact sum, off by at most
 * (n u)^2 M / 2 (u = 2^-53), then rounded once. Where the exact sum less and plus that bound round to one double,
 * that double is SQLite's, whatever the order; where all numbers are multiples of one power of two that 2^53 times
 * holds M, there is no error at all. Else the sum is not certain and the group is read again.
 * https://www.sqlite.org/src/file/src/func.c (sumStep, kahanBabuskaStep) */
#ifndef LJ_NATIVE_SUM_H
#define LJ_NATIVE_SUM_H
#include <math.h>
#include <stdint.h>

#define LJ_FIXED_BITS 128  /* behind the point */
#define LJ_FIXED_TOP 80    /* magnitudes below 2^80: 2^47 of them add up without overflow */
#define LJ_GRAIN_NONE 127  /* no number has a bit yet */
#define LJ_KAHAN_WHOLE (1ll << 52) /* integers from here on are added in two parts */

typedef __int128 LjWide;

typedef struct { uint64_t word[4]; } LjFixed; /* two's complement, the lowest first */

typedef struct {
    int64_t n;      /* numbers, all kinds */
    int64_t reals;
    int64_t odd;    /* reals that are infinite, too large or too fine: none of them is in the sums */
    LjWide whole, whole_size; /* of the integers: their sum, and that of their magnitudes */
    LjFixed real, real_size;
    int grain;      /* every real is a multiple of 2^grain */
} LjSum;

static inline void lj_sum_init(LjSum *sum) {
    memset(sum, 0, sizeof *sum);
    sum->grain = LJ_GRAIN_NONE;
}

static inline void lj_fixed_plus(LjFixed *to, const LjFixed *more, int negative) {
    unsigned __int128 carry = negative ? 1 : 0;
    for (int i = 0; i < 4; i++) {
        carry += (unsigned __int128)to->word[i] + (negative ? ~more->word[i] : more->word[i]);
        to->word[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

static inline int lj_fixed_negative(const LjFixed *value) { return (int)(value->word[3] >> 63); }

/* size * 2^exponent, which must not reach below the last bit; `up` rounds what does. */
static inline LjFixed lj_fixed_of(uint64_t size, int exponent, int up) {
    LjFixed out = {{0, 0, 0, 0}};
    int shift = exponent + LJ_FIXED_BITS;
    if (shift < 0) {
        size = (shift > -64 ? size >> -shift : 0) + (uint64_t)(up && size != 0);
        shift = 0;
    }
    unsigned __int128 wide = (unsigned __int128)size << (shift % 64);
    out.word[shift / 64] = (uint64_t)wide;
    if (shift / 64 < 3) out.word[shift / 64 + 1] = (uint64_t)(wide >> 64);
    return out;
}

static inline LjFixed lj_fixed_whole(LjWide value) {
    LjFixed out = {{0, 0, (uint64_t)value, (uint64_t)(value >> 64)}};
    return out;
}

/* The nearest double, ties to even. */
static inline double lj_fixed_round(const LjFixed *value) {
    LjFixed size = {{0, 0, 0, 0}};
    int negative = lj_fixed_negative(value), top = 3;
    lj_fixed_plus(&size, value, negative);
    while (top >= 0 && !size.word[top]) top--;
    if (top < 0) return 0.0;
    int lead = __builtin_clzll(size.word[top]);
    uint64_t head = size.word[top] << lead, rest = 0;
    if (top) {
        if (lead) head |= size.word[top - 1] >> (64 - lead);
        rest = lead ? size.word[top - 1] << lead : size.word[top - 1];
        for (int i = 0; i < top - 1; i++) rest |= size.word[i];
    }
    /* 64 bits with a sticky last one: the conversion rounds them once, as the whole would be. */
    double out = ldexp((double)(head | (uint64_t)(rest != 0)), top * 64 - lead - LJ_FIXED_BITS);
    return negative ? -out : out;
}

/* The odd part of a finite double and the power of two that goes with it. */
static inline uint64_t lj_real_parts(double value, int *exponent) {
    int e = 0;
    uint64_t size = (uint64_t)ldexp(frexp(fabs(value), &e), 53);
    if (!size) { *exponent = LJ_GRAIN_NONE; return 0; }
    int zeros = __builtin_ctzll(size);
    *exponent = e - 53 + zeros;
    return size >> zeros;
}

/* Put a number in (sign 1) or take it out (-1). */
static inline void lj_sum_whole(LjSum *sum, int64_t value, int sign) {
    LjWide wide = value;
    sum->n += sign;
    sum->whole += sign * wide;
    sum->whole_size += sign * (wide < 0 ? -wide : wide);
}

static inline void lj_sum_real(LjSum *sum, double value, int sign) {
    int exponent = 0;
    sum->n += sign;
    sum->reals += sign;
    if (!isfinite(value) || fabs(value) >= ldexp(1, LJ_FIXED_TOP)) {
        sum->odd += sign;
        return;
    }
    uint64_t size = lj_real_parts(value, &exponent);
    if (size && exponent < -LJ_FIXED_BITS) {
        sum->odd += sign;
        return;
    }
    LjFixed fixed = size ? lj_fixed_of(size, exponent, 0) : (LjFixed){{0, 0, 0, 0}};
    lj_fixed_plus(&sum->real, &fixed, (value < 0) != (sign < 0));
    lj_fixed_plus(&sum->real_size, &fixed, sign < 0);
    if (exponent < sum->grain) sum->grain = exponent;
}

/* 1 and the sum of at least one real beside others; 0: not certain. */
static inline int lj_sum_of_reals(const LjSum *sum, double *out) {
    if (sum->odd || sum->whole_size >= ((LjWide)1 << 62)) return 0;
    LjFixed exact = sum->real, size = sum->real_size, bound;
    LjFixed whole = lj_fixed_whole(sum->whole), whole_size = lj_fixed_whole(sum->whole_size);
    lj_fixed_plus(&exact, &whole, 0);
    lj_fixed_plus(&size, &whole_size, 0);
    double most = lj_fixed_round(&size) * (1 + 1e-12);
    int grain = sum->whole_size && sum->grain > 0 ? 0 : sum->grain;
    *out = lj_fixed_round(&exact);
    if (most <= ldexp(1, 53 + grain)) return 1;
    double steps = 2.0 * (double)sum->n + 2, error = steps * ldexp(1, -53);
    double off = error * error / 2 * most;
    /* A large sum of integers leaves up to 2^14 among the errors when the first real comes. */
    if (sum->whole_size >= LJ_KAHAN_WHOLE) off += error * 32768;
    else off /= 4; /* and only then is a number added in two steps */
    int exponent = 0;
    uint64_t parts = lj_real_parts(off * 1.01, &exponent);
    if (off >= ldexp(1, LJ_FIXED_TOP)) return 0;
    bound = lj_fixed_of(parts, parts ? exponent : 0, 1);
    LjFixed low = exact, high = exact;
    lj_fixed_plus(&low, &bound, 1);
    lj_fixed_plus(&high, &bound, 0);
    double least = lj_fixed_round(&low), greatest = lj_fixed_round(&high);
    return least == greatest && least != 0;
}
#endif
