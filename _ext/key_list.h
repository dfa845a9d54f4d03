/* The values of `key IN (...)`, copied out of SQLite's list, which may be read in xFilter only.
 * https://www.sqlite.org/c3ref/vtab_in_first.html
 *
 *   hash    8 bytes   of a number: its value's hash; 0 for a text
 *   length  4 bytes   of the key's text; LJ_NO_TEXT for a number that is no whole one
 *   (4 bytes not used), then the text, padded to 8 bytes
 */
#ifndef LJ_KEY_LIST_H
#define LJ_KEY_LIST_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LJ_NO_TEXT UINT32_MAX

typedef struct {
    char *at;
    size_t size, cap, next;
    int has_number;
} LjKeyList;

typedef struct { uint64_t hash; uint32_t length, unused; } LjListed;

static inline void lj_keys_clear(LjKeyList *list) {
    list->size = list->next = 0;
    list->has_number = 0;
}

/* 0, or -1 when memory ran out. `text` is NULL for a number that is no whole one. */
static inline int lj_keys_add(LjKeyList *list, const char *text, uint32_t length, uint64_t hash) {
    LjListed head = {hash, text ? length : LJ_NO_TEXT, 0};
    size_t padded = text ? ((size_t)length + 7) & ~(size_t)7 : 0, needed = list->size + sizeof head + padded;
    if (needed > list->cap) {
        size_t cap = list->cap * 2 > needed ? list->cap * 2 : needed + 256;
        char *more = (char *)realloc(list->at, cap);
        if (!more) return -1;
        list->at = more;
        list->cap = cap;
    }
    memcpy(list->at + list->size, &head, sizeof head);
    if (text) memcpy(list->at + list->size + sizeof head, text, length);
    list->size = needed;
    list->has_number |= hash != 0;
    return 0;
}

/* The next value; `text` is NULL for a number that is no whole one. 0 behind the last. */
static inline int lj_keys_next(LjKeyList *list, const char **text, uint32_t *length, uint64_t *hash) {
    LjListed head;
    if (list->next >= list->size) return 0;
    memcpy(&head, list->at + list->next, sizeof head);
    list->next += sizeof head;
    *hash = head.hash;
    *text = NULL;
    *length = 0;
    if (head.length != LJ_NO_TEXT) {
        *text = list->at + list->next;
        *length = head.length;
        list->next += ((size_t)head.length + 7) & ~(size_t)7;
    }
    return 1;
}
#endif
