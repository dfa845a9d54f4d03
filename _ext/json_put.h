/* Writing JSON text into a growable buffer. After a failed allocation a writer takes nothing more and says
 * `failed`, so that it is checked once, at the end. */
#ifndef LJ_JSON_PUT_H
#define LJ_JSON_PUT_H
#include "buffer.h"

typedef struct {
    LjBuffer buffer;
    int failed;
} lj_out;

static inline void lj_put(lj_out *out, const void *bytes, size_t size) {
    if (out->failed || size == 0) return;
    if (lj_buffer_reserve(&out->buffer, size) < 0) {
        out->failed = 1;
        return;
    }
    memcpy(out->buffer.data + out->buffer.len, bytes, size);
    out->buffer.len += size;
}

static inline void lj_put1(lj_out *out, char byte) { lj_put(out, &byte, 1); }

/* A string literal of UTF-8 text with its quotes; escapes only what JSON must. */
static inline void lj_put_string(lj_out *out, const uint8_t *text, size_t size) {
    static const char hex[] = "0123456789abcdef";
    size_t i, plain = 0;
    lj_put1(out, '"');
    for (i = 0; i < size; i++) {
        char escape[6] = {'\\', 'u', '0', '0', hex[text[i] >> 4], hex[text[i] & 15]};
        if (text[i] >= 0x20 && text[i] != '"' && text[i] != '\\') continue;
        lj_put(out, text + plain, i - plain);
        plain = i + 1;
        if (text[i] < 0x20) {
            lj_put(out, escape, 6);
        } else {
            escape[1] = (char)text[i];
            lj_put(out, escape, 2);
        }
    }
    lj_put(out, text + plain, size - plain);
    lj_put1(out, '"');
}
#endif
