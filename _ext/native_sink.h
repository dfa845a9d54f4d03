/* What the native executor hands to the evaluator: which keys it has recomputed, and their rows.
 *
 * The evaluator (evaluate.pyx) owns groups, hashes and the results log; `want` makes the group of a key, so
 * that one that ends without rows is a delete, `row` adds a row to it. Both return 0, or -1 when memory is
 * out. All texts are copied before they return. */
#ifndef LJ_NATIVE_SINK_H
#define LJ_NATIVE_SINK_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *context;
    int (*want)(void *context, const void *key, size_t key_size);
    int (*row)(void *context, const void *key, size_t key_size, const void *row, size_t row_size, uint64_t hash);
} LjSink;

enum {
    LJ_NATIVE_OK = 0,
    LJ_NATIVE_UNSURE = 1, /* a row that cannot be read or computed: the delta level will say why */
    LJ_NATIVE_MEMORY = 2,
    LJ_NATIVE_STATE = 3   /* a statement on state.db has failed */
};

/* One compiled join. `read` recomputes every key that the applied changes touch. */
typedef struct LjNativeJoin {
    int (*read)(struct LjNativeJoin *self, const LjSink *sink);
} LjNativeJoin;
#endif
