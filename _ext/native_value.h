/* SQL values outside SQLite: hash, equality and JSON text exactly as SQLite and the delta level have them.
 *
 * A text or blob is a slice of memory that the holder keeps. A number may carry its text: `as_text` is what
 * SQL compares when the other side is TEXT, `as_json` what is delivered (a real whose shortest form the
 * payload already spells). */
#ifndef LJ_NATIVE_VALUE_H
#define LJ_NATIVE_VALUE_H
#include "json_out.h"
#include "change_row.h"
#include "map_hash.h"
#include "sqlite_bridge.h"

/* The hash of SQL NULL in a key map: found by IS NULL only. */
#define LJ_NULL_HASH 0x9E3779B97F4A7C15ull

typedef struct {
    uint8_t kind;    /* SQLITE_NULL, SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB */
    uint8_t as_text; /* a number: `text` is its SQL text */
    uint8_t as_json; /* a real: `text` is its JSON text */
    uint32_t size;
    const char *text;
    int64_t integer;
    double real;
} LjValue;

/* A real that SQL and JSON take for an integer. 2^63 itself is out of range of an int64. */
static inline int lj_value_is_whole(const LjValue *v) {
    return v->kind == SQLITE_FLOAT && v->real >= -9223372036854775808.0 && v->real < 9223372036854775808.0
           && (double)(int64_t)v->real == v->real;
}

/* As value_hash of topic.pyx. A number under TEXT carries `as_text`. */
static inline uint64_t lj_value_hash(const LjValue *v, int is_text) {
    int64_t whole = v->integer;
    switch (v->kind) {
    case SQLITE_NULL: return LJ_NULL_HASH;
    case SQLITE_TEXT: return lj_map_hash(v->text, v->size, 1);
    case SQLITE_BLOB: return lj_map_hash(v->text, v->size, 2);
    }
    if (is_text) return lj_map_hash(v->text, v->size, 1);
    if (v->kind == SQLITE_FLOAT) {
        if (!lj_value_is_whole(v)) return lj_map_hash(&v->real, sizeof v->real, 4);
        whole = (int64_t)v->real;
    }
    return lj_map_hash(&whole, sizeof whole, 3);
}

/* `a = b`, where one side has TEXT affinity and the other none or TEXT (is_text), or neither has any. */
static inline int lj_value_equal(const LjValue *a, const LjValue *b, int is_text) {
    int numbers = (a->kind == SQLITE_INTEGER || a->kind == SQLITE_FLOAT)
                  && (b->kind == SQLITE_INTEGER || b->kind == SQLITE_FLOAT);
    if (a->kind == SQLITE_NULL || b->kind == SQLITE_NULL) return 0;
    if (is_text || !numbers) {
        if (is_text ? a->kind == SQLITE_BLOB || b->kind == SQLITE_BLOB : a->kind != b->kind) return 0;
        return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
    }
    if (a->kind == SQLITE_INTEGER && b->kind == SQLITE_INTEGER) return a->integer == b->integer;
    if (a->kind == SQLITE_FLOAT && b->kind == SQLITE_FLOAT) return a->real == b->real;
    const LjValue *real = a->kind == SQLITE_FLOAT ? a : b, *integer = a->kind == SQLITE_FLOAT ? b : a;
    return lj_value_is_whole(real) && (int64_t)real->real == integer->integer;
}

static inline void lj_value_put(lj_out *out, const LjValue *v, int is_json) {
    switch (v->kind) {
    case SQLITE_NULL: lj_put(out, "null", 4); break;
    case SQLITE_INTEGER: lj_put_integer(out, v->integer); break;
    case SQLITE_FLOAT:
        if (v->as_json) lj_put(out, v->text, v->size);
        else lj_put_real(out, v->real);
        break;
    case SQLITE_TEXT:
        if (is_json && lj_is_json(v->text, v->size)) lj_put(out, v->text, v->size);
        else lj_put_text(out, v->text, v->size);
        break;
    default: lj_put_hex(out, v->text, v->size);
    }
}

/* A result key: a whole real is written as an integer, as SQL compares them. */
static inline void lj_value_put_key(lj_out *out, const LjValue *v) {
    if (lj_value_is_whole(v)) lj_put_integer(out, (int64_t)v->real);
    else lj_value_put(out, v, 0);
}
#endif
