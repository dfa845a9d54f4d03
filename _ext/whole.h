/* Is a real one that SQL and JSON take for an integer? 2^63 itself is out of range of an int64. */
#ifndef LJ_WHOLE_H
#define LJ_WHOLE_H
#include <stdint.h>

static inline int lj_is_whole(double real) {
    return real >= -9223372036854775808.0 && real < 9223372036854775808.0 && (double)(int64_t)real == real;
}
#endif
