/* A growable byte buffer that keeps its memory between batches. Owner: whoever declares it; free with
 * lj_buffer_free. Never shrinks by itself: lj_buffer_trim gives memory back after a large batch. */
#ifndef LJ_BUFFER_H
#define LJ_BUFFER_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t len, cap;
} LjBuffer;

/* Room for `more` bytes after `len`; -1 when memory is out (the contents are kept). */
static inline int lj_buffer_reserve(LjBuffer *b, size_t more) {
    if (b->cap - b->len >= more)
        return 0;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap - b->len < more) {
        if (cap > SIZE_MAX / 2)
            return -1;
        cap *= 2;
    }
    uint8_t *data = (uint8_t *)realloc(b->data, cap);
    if (!data)
        return -1;
    b->data = data;
    b->cap = cap;
    return 0;
}

static inline void lj_buffer_free(LjBuffer *b) {
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

static inline void lj_buffer_trim(LjBuffer *b, size_t keep) {
    if (b->cap > keep)
        lj_buffer_free(b);
}
#endif
