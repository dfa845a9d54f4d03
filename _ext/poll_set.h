/* What an api source knows of its upstream, and one poll held against it: key -> hash of the record.
 *
 * A walk is one poll over all its pages; a page is one body. Records stay slices of the body; only those
 * that were created or updated become a change. A record is first held against the one that came at its
 * place in the walk before, by length and XXH64 of its bytes: an unchanged poll is read at the speed of the
 * hash, without parsing. Then by key, by its bytes, and last by its JSON hash (json_hash.h).
 *
 * Memory: 48 bytes an entry, 4 in the order of the walk, 5-11 in the slots, and the key.
 * This is one file because the set and the walk over it share their layout. */
#ifndef LJ_POLL_SET_H
#define LJ_POLL_SET_H
#include "gjson_path.h"
#include "json_hash.h"
#include "rows.h"

#define LJ_NO_ENTRY 0xffffffffu

enum { LJ_CREATED = 1, LJ_UPDATED = 2 };

typedef struct {
    lj_hash128 hash;
    uint64_t raw; /* XXH64 of the record's bytes as they came last */
    uint64_t key_at : 48, key_size : 16;
    uint32_t raw_size; /* 0: the bytes are not known (loaded from the store) */
    uint32_t position; /* in the walk that saw it last */
    uint32_t seen;     /* number of that walk */
    /* known: durable; missed: the last complete walk lacked it; twin: the last walk that saw it saw it on two pages */
    uint32_t change : 29, known : 1, missed : 1, twin : 1;
} lj_entry;

typedef struct {
    lj_entry *entries;
    uint32_t count, capacity, known;
    uint32_t *slots; /* entry + 1; 0 is free */
    uint32_t mask;
    LjBuffer keys;
    uint32_t *order, *next; /* entries in the order of the last walk and of this one */
    uint32_t order_count, next_count, next_capacity, cursor;
    uint32_t walk;
    uint32_t page_start; /* next_count before the page being compared */
    uint64_t seed;
    lj_gjson response, *key_paths;
    uint32_t key_count, max_depth;
    int first_wins; /* of two records with one key in a walk the first stands, not the last */
    const lj_ignore *ignore;
    lj_hasher hasher;
    lj_out key;
} lj_set;

typedef struct {
    lj_hash128 hash;
    uint64_t raw;
    const uint8_t *start;
    uint32_t size, entry;
    uint8_t op, dropped;
} lj_change;

typedef struct {
    lj_change *changes;
    uint32_t count, capacity;
    uint64_t records, created, updated, duplicates, keyless;
    uint64_t first_keyless;
    int keyless_code, single;
    int code; /* of the first fault */
    const uint8_t *base, *error_at;
    lj_gjson_value found; /* memory of a response that a path built */
} lj_page;

static inline void lj_page_free(lj_page *p) {
    free(p->changes);
    lj_gjson_none(&p->found);
    memset(p, 0, sizeof *p);
}

static inline void lj_set_free(lj_set *s) {
    uint32_t i;
    for (i = 0; i < s->key_count; i++) lj_gjson_free(&s->key_paths[i]);
    lj_gjson_free(&s->response);
    free(s->key_paths);
    free(s->entries);
    free(s->slots);
    free(s->order);
    free(s->next);
    lj_buffer_free(&s->keys);
    lj_buffer_free(&s->key.buffer);
    lj_hasher_free(&s->hasher);
    memset(s, 0, sizeof *s);
}

static inline uint32_t lj_set_slot(const lj_set *s, const uint8_t *key, size_t size) {
    uint32_t slot = (uint32_t)lj_xxh64(key, size, s->seed) & s->mask;
    for (; s->slots[slot]; slot = (slot + 1) & s->mask) {
        const lj_entry *e = &s->entries[s->slots[slot] - 1];
        if (e->key_size == size && memcmp(s->keys.data + e->key_at, key, size) == 0) break;
    }
    return slot;
}

/* Slots for `count` entries at a load of at most 3/4; all entries are put in anew. */
static inline int lj_set_rehash(lj_set *s, uint32_t count) {
    uint64_t size = 64;
    uint32_t *slots, i;
    while (size * 3 / 4 <= count) size *= 2;
    slots = (uint32_t *)calloc(size, sizeof *slots);
    if (slots == NULL) return LJ_FAULT_MEMORY;
    free(s->slots);
    s->slots = slots;
    s->mask = (uint32_t)(size - 1);
    for (i = 0; i < s->count; i++) {
        const lj_entry *e = &s->entries[i];
        s->slots[lj_set_slot(s, s->keys.data + e->key_at, e->key_size)] = i + 1;
    }
    return 0;
}

/* The entry of a key, made when it is new (not known then); LJ_NO_ENTRY when memory is out. */
static inline uint32_t lj_set_entry(lj_set *s, const uint8_t *key, size_t size) {
    uint32_t slot;
    lj_entry *e;
    if (s->slots == NULL && lj_set_rehash(s, 0)) return LJ_NO_ENTRY;
    slot = lj_set_slot(s, key, size);
    if (s->slots[slot]) return s->slots[slot] - 1;
    if (s->count == (1u << 30) - 1) return LJ_NO_ENTRY;
    if ((uint64_t)(s->count + 1) * 4 > ((uint64_t)s->mask + 1) * 3) {
        if (lj_set_rehash(s, s->count + s->count / 2 + 1)) return LJ_NO_ENTRY;
        slot = lj_set_slot(s, key, size);
    }
    if (s->count == s->capacity) {
        uint32_t capacity = s->capacity ? s->capacity + s->capacity / 2 : 64;
        lj_entry *entries = (lj_entry *)realloc(s->entries, capacity * sizeof *entries);
        if (entries == NULL) return LJ_NO_ENTRY;
        s->entries = entries;
        s->capacity = capacity;
    }
    if (lj_buffer_reserve(&s->keys, size + 1) < 0) return LJ_NO_ENTRY;
    e = &s->entries[s->count];
    memset(e, 0, sizeof *e);
    e->key_at = s->keys.len;
    e->key_size = (uint16_t)size;
    memcpy(s->keys.data + s->keys.len, key, size);
    s->keys.len += size;
    s->slots[slot] = ++s->count;
    return s->count - 1;
}

/* Give back the room of entries that are no longer known; their order of the last walk goes with them. */
static inline int lj_set_compact(lj_set *s) {
    uint32_t i, kept = 0;
    size_t keys = 0;
    if (s->count - s->known < 1024 || s->count - s->known < s->known / 2) return 0;
    for (i = 0; i < s->count; i++) {
        lj_entry e = s->entries[i];
        if (!e.known) continue;
        memmove(s->keys.data + keys, s->keys.data + e.key_at, e.key_size); /* keys lie in entry order */
        e.key_at = keys;
        keys += e.key_size;
        s->entries[kept++] = e;
    }
    s->count = kept;
    s->keys.len = keys;
    s->order_count = 0;
    return lj_set_rehash(s, kept);
}

static inline int lj_set_begin(lj_set *s) {
    s->walk++;
    s->next_count = s->cursor = 0;
    return lj_set_compact(s);
}

/* The walk is over and saw every page: its order is what the next one is held against. */
static inline void lj_set_finish(lj_set *s) {
    uint32_t *order = s->order;
    s->order = s->next;
    s->order_count = s->next_count;
    s->next = order;
    free(s->next);
    s->next = NULL;
    s->next_count = s->next_capacity = 0;
}

static inline int lj_set_place(lj_set *s, uint32_t entry) {
    if (s->next_count == s->next_capacity) {
        uint32_t capacity = s->next_capacity ? s->next_capacity * 2 : s->order_count + 64;
        uint32_t *next = (uint32_t *)realloc(s->next, capacity * sizeof *next);
        if (next == NULL) return LJ_FAULT_MEMORY;
        s->next = next;
        s->next_capacity = capacity;
    }
    s->entries[entry].twin = s->entries[entry].seen == s->walk && s->entries[entry].position < s->page_start;
    s->entries[entry].position = s->next_count;
    s->entries[entry].seen = s->walk;
    s->entries[entry].missed = 0;
    s->next[s->next_count++] = entry;
    return 0;
}

static inline int lj_page_add(lj_page *p, lj_change change, lj_entry *e) {
    if (p->count == p->capacity) {
        uint32_t capacity = p->capacity ? p->capacity * 2 : 16;
        lj_change *changes = (lj_change *)realloc(p->changes, capacity * sizeof *changes);
        if (changes == NULL) return LJ_FAULT_MEMORY;
        p->changes = changes;
        p->capacity = capacity;
    }
    e->change = p->count & 0x1fffffff;
    p->changes[p->count++] = change;
    if (change.op == LJ_CREATED) p->created++;
    else p->updated++;
    return 0;
}

/* A key twice in a walk: the last record of a page stands. */
static inline void lj_page_drop(lj_page *p, uint32_t entry, const lj_entry *e) {
    lj_change *change = e->change < p->count ? &p->changes[e->change] : NULL;
    p->duplicates++;
    if (change == NULL || change->entry != entry || change->dropped) return;
    change->dropped = 1;
    if (change->op == LJ_CREATED) p->created--;
    else p->updated--;
}

/* One record that is not where it was, or not as it was. */
static inline int lj_page_record(lj_set *s, lj_page *p, const uint8_t *start, size_t size) {
    lj_change change;
    lj_entry *e;
    uint32_t entry, was;
    int code, awaited;
    if (size > LJ_MAX_VALUE) {
        p->error_at = start;
        return LJ_FAULT_RECORD;
    }
    code = lj_key_of(s->key_paths, s->key_count, start, size, &s->key);
    if (code == LJ_KEY_MEMORY) return LJ_FAULT_MEMORY;
    if (code) {
        if (p->keyless++ == 0) {
            p->first_keyless = p->records - 1;
            p->keyless_code = code;
        }
        return 0;
    }
    entry = lj_set_entry(s, s->key.buffer.data, s->key.buffer.len);
    if (entry == LJ_NO_ENTRY) return LJ_FAULT_MEMORY;
    e = &s->entries[entry];
    if (e->seen == s->walk) {
        if (s->first_wins) {
            p->duplicates++;
            return 0;
        }
        lj_page_drop(p, entry, e);
    }
    was = e->position;
    awaited = e->known && e->twin && e->seen != s->walk;
    if ((code = lj_set_place(s, entry))) return code;
    if (was < s->order_count && s->order[was] == entry) s->cursor = was + 1;
    memset(&change, 0, sizeof change);
    change.raw = lj_xxh64(start, size, s->seed);
    if (e->known && e->raw_size == size && e->raw == change.raw) return 0;
    code = lj_hash_document(&s->hasher, start, size, s->ignore, s->max_depth, &change.hash);
    if (code) {
        p->error_at = s->hasher.scan.error_at;
        return code;
    }
    if (e->known && e->hash.h1 == change.hash.h1 && e->hash.h2 == change.hash.h2) {
        e->raw = change.raw;
        e->raw_size = (uint32_t)size;
        return 0;
    }
    /* The last walk brought this key once more on a later page, and that record stands. If it does not come
     * again, the next walk takes this one: without the wait, two records of one key would be two changes a poll. */
    if (awaited) return 0;
    change.start = start;
    change.size = (uint32_t)size;
    change.entry = entry;
    change.op = e->known ? LJ_UPDATED : LJ_CREATED;
    return lj_page_add(p, change, e);
}

/* 1 when the bytes at `at` are those of the record that came here in the last walk; steps over them. */
static inline int lj_page_same(lj_set *s, lj_json *scan) {
    const lj_entry *e;
    const uint8_t *behind;
    uint32_t entry;
    if (s->cursor >= s->order_count) return 0;
    entry = s->order[s->cursor];
    e = &s->entries[entry];
    if (!e->known || e->seen == s->walk || e->raw_size == 0 || (size_t)(scan->end - scan->at) <= e->raw_size) return 0;
    behind = scan->at + e->raw_size;
    /* Equal bytes with a separator behind them are the whole record (a number might go on). */
    if (*behind != ',' && *behind != ']' && *behind != ' ' && *behind != '\n' && *behind != '\r' && *behind != '\t') return 0;
    if (lj_xxh64(scan->at, e->raw_size, s->seed) != e->raw) return 0;
    if (lj_set_place(s, entry)) return 0;
    s->cursor++;
    scan->at = behind;
    return 1;
}

static inline int lj_page_value(lj_page *p, lj_json *scan, uint32_t depth_left) {
    int code = (int)lj_json_value(scan, depth_left);
    if (code) p->error_at = scan->error_at;
    return code;
}

static inline int lj_page_fault(lj_page *p, lj_json *scan, int code) {
    p->error_at = scan->at;
    return code;
}

/* The value at the end of the response path: an array of records, or one record. */
static inline int lj_page_records(lj_set *s, lj_page *p, lj_json *scan, uint32_t depth) {
    const uint8_t *start = scan->at;
    int code, first = 1;
    if (*start == '{') {
        if ((code = lj_page_value(p, scan, s->max_depth - depth))) return code;
        p->single = 1;
        p->records = 1;
        return lj_page_record(s, p, start, (size_t)(scan->at - start));
    }
    if (*start != '[') {
        if ((code = lj_page_value(p, scan, s->max_depth - depth))) return code;
        scan->at = start;
        return lj_page_fault(p, scan, LJ_FAULT_SHAPE);
    }
    if (depth == s->max_depth) return lj_page_fault(p, scan, LJ_JSON_DEPTH);
    scan->at++;
    for (;; first = 0) {
        lj_json_skip_space(scan);
        if (first && scan->at < scan->end && *scan->at == ']') break;
        start = scan->at;
        p->records++;
        if (!lj_page_same(s, scan)) {
            if ((code = lj_page_value(p, scan, s->max_depth - depth - 1))) return code;
            if ((code = lj_page_record(s, p, start, (size_t)(scan->at - start)))) return code;
        }
        lj_json_skip_space(scan);
        if (scan->at == scan->end) return lj_page_fault(p, scan, LJ_JSON_END);
        if (*scan->at == ']') break;
        if (*scan->at != ',') return lj_page_fault(p, scan, LJ_JSON_CHAR);
        scan->at++;
    }
    scan->at++;
    return 0;
}

static inline int lj_path_is_straight(const lj_gjson *g) {
    uint32_t i;
    for (i = 0; i < g->main; i++) {
        uint32_t kind = g->ops[i].kind;
        if (kind != LJ_OP_NAME && kind != LJ_OP_WILD && kind != LJ_OP_PIPE &&
            !(kind == LJ_OP_MODIFIER && g->ops[i].oper == LJ_MOD_THIS)) return 0;
    }
    return 1;
}

/* Validates the value at `scan` and finds the records in it on the way: one pass over the body. */
static int lj_page_descend(lj_set *s, lj_page *p, lj_json *scan, uint32_t at, uint32_t depth, int *found) {
    const lj_gjson *g = &s->response;
    const lj_gjson_op *op;
    int64_t index;
    int code, object, taken = 0;
    lj_json_skip_space(scan);
    if (scan->at == scan->end) return lj_page_fault(p, scan, LJ_JSON_END);
    while (at < g->main && (g->ops[at].kind == LJ_OP_PIPE || g->ops[at].kind == LJ_OP_MODIFIER)) at++;
    if (at == g->main) {
        *found = 1;
        return lj_page_records(s, p, scan, depth);
    }
    op = &g->ops[at];
    object = *scan->at == '{';
    if (!object && *scan->at != '[') return lj_page_value(p, scan, s->max_depth - depth);
    if (depth == s->max_depth) return lj_page_fault(p, scan, LJ_JSON_DEPTH);
    scan->at++;
    for (index = 0;; index++) {
        lj_json_text name;
        int here = op->kind == LJ_OP_NAME && op->index == index;
        lj_json_skip_space(scan);
        if (index == 0 && scan->at < scan->end && *scan->at == (object ? '}' : ']')) break;
        if (object) {
            code = (int)lj_json_name(scan, &name);
            if (code) {
                p->error_at = scan->error_at;
                return code;
            }
            here = lj_gjson_name_is(&name, g->texts + op->text, op->text_size, op->kind == LJ_OP_WILD);
            if (here < 0) return LJ_FAULT_MEMORY;
        }
        if (here && !taken) {
            taken = 1; /* only the first of a name counts, whatever it holds */
            code = lj_page_descend(s, p, scan, at + 1, depth + 1, found);
        } else {
            code = lj_page_value(p, scan, s->max_depth - depth - 1);
        }
        if (code) return code;
        lj_json_skip_space(scan);
        if (scan->at == scan->end) return lj_page_fault(p, scan, LJ_JSON_END);
        if (*scan->at == (object ? '}' : ']')) break;
        if (*scan->at != ',') return lj_page_fault(p, scan, LJ_JSON_CHAR);
        scan->at++;
    }
    scan->at++;
    return 0;
}

/* A path with `#`, queries or modifiers: validate, let it build its result, and read the records from that. */
static inline int lj_page_built(lj_set *s, lj_page *p, const uint8_t *bytes, size_t size) {
    lj_json scan;
    lj_json_begin(&scan, bytes, size);
    p->code = (int)lj_json_document(&scan, s->max_depth);
    if (p->code) {
        p->error_at = scan.error_at;
        return p->code;
    }
    lj_json_begin(&scan, bytes, size);
    lj_json_skip_space(&scan);
    if (lj_gjson_run(&s->response, 0, s->response.main, scan.at, lj_gjson_trim(scan.at, scan.end), &p->found) < 0)
        return p->code = LJ_FAULT_MEMORY;
    if (!p->found.found) return p->code = LJ_FAULT_PATH;
    if (p->found.owned) p->base = p->found.start;
    lj_json_begin(&scan, p->found.start, p->found.size);
    return p->code = lj_page_records(s, p, &scan, 0);
}

/* Hold one page against the set. On a fault nothing of the set that is durable has changed. */
static inline int lj_page_compare(lj_set *s, lj_page *p, const uint8_t *bytes, size_t size) {
    lj_json scan;
    int found = 0;
    p->base = p->error_at = bytes;
    if (size > UINT32_MAX) return p->code = LJ_FAULT_BODY;
    s->page_start = s->next_count;
    if (!lj_path_is_straight(&s->response)) return lj_page_built(s, p, bytes, size);
    lj_json_begin(&scan, bytes, size);
    p->code = lj_page_descend(s, p, &scan, 0, 0, &found);
    if (p->code) return p->code;
    lj_json_skip_space(&scan);
    if (scan.at != scan.end) return p->code = lj_page_fault(p, &scan, LJ_JSON_TRAILING);
    if (!found) p->code = LJ_FAULT_PATH;
    return p->code;
}

/* The rows of these changes are durable: the set now knows them. */
static inline void lj_page_apply(lj_set *s, const lj_page *p, uint32_t start, uint32_t stop) {
    uint32_t i;
    for (i = start; i < stop && i < p->count; i++) {
        const lj_change *change = &p->changes[i];
        lj_entry *e = &s->entries[change->entry];
        if (change->dropped) continue;
        e->hash = change->hash;
        e->raw = change->raw;
        e->raw_size = change->size;
        if (!e->known) s->known++;
        e->known = 1;
    }
}
#endif
