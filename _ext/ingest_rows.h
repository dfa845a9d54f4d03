/* From the JSON text of a request to one packed row batch (litejoin/records.py has the layout).
 *
 * A request is one row object, an array of them, or NDJSON. A row has the members `topic`, `key`, `payload`
 * and optionally `timestamp`, in any order, each once, no others. Runs without the GIL on a body that the
 * caller keeps alive; stops at the first fault, and then the whole batch is worthless.
 */
#ifndef LJ_INGEST_ROWS_H
#define LJ_INGEST_ROWS_H
#include "ingest_time.h"
#include "ingest_topics.h"
#include "json_scan.h"

typedef enum {
    LJ_ROW_OK = 0,
    LJ_ROW_JSON,            /* json_code says what */
    LJ_ROW_EMPTY_BODY,
    LJ_ROW_BODY_TYPE,       /* neither an object nor an array */
    LJ_ROW_TRAILING,        /* data after the object or array */
    LJ_ROW_SEPARATOR,       /* NDJSON: data after the object on its line */
    LJ_ROW_TOO_MANY,
    LJ_ROW_NOT_OBJECT,
    LJ_ROW_UNKNOWN_FIELD,
    LJ_ROW_DUPLICATE_FIELD,
    LJ_ROW_NO_TOPIC,
    LJ_ROW_TOPIC_TYPE,
    LJ_ROW_TOPIC_NAME,
    LJ_ROW_NO_KEY,
    LJ_ROW_KEY_TYPE,
    LJ_ROW_KEY_EMPTY,
    LJ_ROW_KEY_LONG,
    LJ_ROW_KEY_NUL,
    LJ_ROW_NO_PAYLOAD,
    LJ_ROW_PAYLOAD_JSON,    /* json_code says what, `inner` where in the payload's own text */
    LJ_ROW_TIMESTAMP_TYPE,
    LJ_ROW_TIMESTAMP_TEXT,
    LJ_ROW_TIMESTAMP_RANGE,
    LJ_ROW_TOO_LARGE,
    LJ_ROW_NO_MEMORY
} lj_row_code;

enum { LJ_HAS_TOPIC = 1, LJ_HAS_KEY = 2, LJ_HAS_PAYLOAD = 4, LJ_HAS_TIMESTAMP = 8 };
enum { LJ_KIND_UPSERT = 1, LJ_KIND_DELETE = 2 }; /* RowKind */

#define LJ_ROW_HEADER 32
/* A row is stored in at most this much more than its JSON takes: the shortest row around a key and a
 * payload is {"topic":"t","key":"","payload":} = 33 bytes, stored as 32 of header and up to 7 of padding. */
#define LJ_ROW_GROWTH 8
#define LJ_ROW_SHORTEST 33

typedef struct {
    uint32_t max_rows, max_depth;
    size_t max_key_bytes, max_row_bytes; /* of the stored key; of stored key + payload */
} lj_row_limits;

/* Names of topics that are not in the table: size byte, row index (4 bytes), name; one after another. */
typedef struct {
    uint8_t *bytes;
    size_t used, capacity;
} lj_unknown;

typedef struct {
    lj_json json;
    const lj_topics *topics;
    lj_row_limits limits;
    int64_t now_ms;
    uint8_t *out; /* at least size of the body + LJ_ROW_GROWTH * (body / LJ_ROW_SHORTEST + 1) */
    size_t out_size, out_capacity;
    uint32_t rows;
    lj_unknown unknown;
    lj_json_text last_topic; /* rows of one request mostly name one topic */
    uint16_t last_number;
    lj_json_code json_code;
    size_t inner;
    lj_json_text field; /* the name, for LJ_ROW_UNKNOWN_FIELD and LJ_ROW_DUPLICATE_FIELD */
} lj_ingest;

typedef struct {
    unsigned has;
    lj_json_text topic, key, payload; /* payload: the string's inside, or the value as it stands */
    int payload_is_text, payload_is_null;
    int64_t timestamp_ms;
    const uint8_t *key_at, *topic_at, *payload_at;
} lj_pushed;

static inline lj_row_code lj_ingest_fail(lj_ingest *in, lj_row_code code, const uint8_t *where) {
    in->json.error_at = where;
    return code;
}

static inline lj_row_code lj_ingest_json(lj_ingest *in, lj_json_code code) {
    in->json_code = code;
    return LJ_ROW_JSON;
}

static inline unsigned lj_field_of(const lj_json_text *name) {
    switch (name->size) {
    case 3: return memcmp(name->start, "key", 3) == 0 ? LJ_HAS_KEY : 0;
    case 5: return memcmp(name->start, "topic", 5) == 0 ? LJ_HAS_TOPIC : 0;
    case 7: return memcmp(name->start, "payload", 7) == 0 ? LJ_HAS_PAYLOAD : 0;
    case 9: return memcmp(name->start, "timestamp", 9) == 0 ? LJ_HAS_TIMESTAMP : 0;
    default: return 0;
    }
}

/* Which member this name is; 0: none of ours. A name may be written with escapes. */
static inline unsigned lj_field(const lj_json_text *name) {
    uint8_t plain[64];
    lj_json_text text = {plain, 0, 0};
    if (!name->escaped) return lj_field_of(name);
    if (name->size > sizeof plain) return 0;
    text.size = lj_json_unescape(name, plain);
    return lj_field_of(&text);
}

static inline lj_row_code lj_read_text(lj_ingest *in, lj_json_text *text, lj_row_code wrong_type) {
    lj_json_code code;
    if (*in->json.at != '"') return lj_ingest_fail(in, wrong_type, in->json.at);
    code = lj_json_string(&in->json, text);
    return code == LJ_JSON_OK ? LJ_ROW_OK : lj_ingest_json(in, code);
}

static inline lj_row_code lj_read_payload(lj_ingest *in, lj_pushed *row) {
    const uint8_t *start = in->json.at;
    lj_json_code code;
    row->payload_at = start;
    if (*start == '"') {
        row->payload_is_text = 1;
        code = lj_json_string(&in->json, &row->payload);
    } else {
        code = lj_json_value(&in->json, in->limits.max_depth);
        row->payload.start = start;
        row->payload.size = (size_t)(in->json.at - start);
        row->payload_is_null = *start == 'n';
    }
    return code == LJ_JSON_OK ? LJ_ROW_OK : lj_ingest_json(in, code);
}

static inline lj_row_code lj_read_timestamp(lj_ingest *in, lj_pushed *row) {
    const uint8_t *start = in->json.at;
    uint8_t plain[64];
    lj_json_text text;
    lj_json_code code;
    int fits;
    if (*start == '"') {
        code = lj_json_string(&in->json, &text);
        if (code != LJ_JSON_OK) return lj_ingest_json(in, code);
        if (text.size > sizeof plain) return lj_ingest_fail(in, LJ_ROW_TIMESTAMP_TEXT, start);
        text.size = lj_json_unescape(&text, plain);
        fits = lj_time_rfc3339(plain, plain + text.size, &row->timestamp_ms);
        return fits ? LJ_ROW_OK : lj_ingest_fail(in, LJ_ROW_TIMESTAMP_TEXT, start);
    }
    code = lj_json_value(&in->json, in->limits.max_depth);
    if (code != LJ_JSON_OK) return lj_ingest_json(in, code);
    if (*start == 'n') return LJ_ROW_OK; /* null: as if it were not there */
    if (*start != '-' && (*start < '0' || *start > '9'))
        return lj_ingest_fail(in, LJ_ROW_TIMESTAMP_TYPE, start);
    fits = lj_time_number(start, in->json.at, &row->timestamp_ms);
    return fits ? LJ_ROW_OK : lj_ingest_fail(in, LJ_ROW_TIMESTAMP_RANGE, start);
}

/* The value of one member; `at` is behind its colon. */
static inline lj_row_code lj_read_member(lj_ingest *in, lj_pushed *row, unsigned field) {
    lj_json_skip_space(&in->json);
    if (in->json.at == in->json.end)
        return lj_ingest_json(in, lj_json_fail(&in->json, LJ_JSON_END, in->json.at));
    switch (field) {
    case LJ_HAS_TOPIC:
        row->topic_at = in->json.at;
        return lj_read_text(in, &row->topic, LJ_ROW_TOPIC_TYPE);
    case LJ_HAS_KEY:
        row->key_at = in->json.at;
        return lj_read_text(in, &row->key, LJ_ROW_KEY_TYPE);
    case LJ_HAS_PAYLOAD:
        return lj_read_payload(in, row);
    default:
        return lj_read_timestamp(in, row);
    }
}

/* All members of one row object; `at` is on its brace, afterwards behind the closing one. */
static inline lj_row_code lj_read_row(lj_ingest *in, lj_pushed *row) {
    lj_json *s = &in->json;
    s->at++;
    lj_json_skip_space(s);
    if (s->at < s->end && *s->at == '}') {
        s->at++;
        return LJ_ROW_OK;
    }
    for (;;) {
        const uint8_t *start = s->at;
        lj_json_code code = lj_json_name(s, &in->field);
        unsigned field;
        lj_row_code outcome;
        if (code != LJ_JSON_OK) return lj_ingest_json(in, code);
        field = lj_field(&in->field);
        if (field == 0) return lj_ingest_fail(in, LJ_ROW_UNKNOWN_FIELD, start);
        if (row->has & field) return lj_ingest_fail(in, LJ_ROW_DUPLICATE_FIELD, start);
        row->has |= field;
        outcome = lj_read_member(in, row, field);
        if (outcome != LJ_ROW_OK) return outcome;
        lj_json_skip_space(s);
        if (s->at == s->end) return lj_ingest_json(in, lj_json_fail(s, LJ_JSON_END, s->at));
        if (*s->at == '}') {
            s->at++;
            return LJ_ROW_OK;
        }
        if (*s->at != ',') return lj_ingest_json(in, lj_json_fail(s, LJ_JSON_CHAR, s->at));
        s->at++;
        lj_json_skip_space(s);
    }
}

static inline int lj_unknown_add(lj_unknown *names, const uint8_t *name, size_t size, uint32_t row) {
    if (names->capacity - names->used < size + 5) {
        size_t wider = names->capacity * 2 + 1024;
        uint8_t *bytes = (uint8_t *)realloc(names->bytes, wider);
        if (bytes == NULL) return 0;
        names->bytes = bytes;
        names->capacity = wider;
    }
    names->bytes[names->used] = (uint8_t)size;
    memcpy(names->bytes + names->used + 1, &row, 4);
    memcpy(names->bytes + names->used + 5, name, size);
    names->used += size + 5;
    return 1;
}

/* Catalogue number of the row's topic; an unknown one is remembered and numbered 0. */
static inline lj_row_code lj_number_topic(lj_ingest *in, const lj_pushed *row, uint16_t *number) {
    uint8_t plain[LJ_TOPIC_MAX_BYTES * 6];
    lj_json_text name = row->topic;
    const lj_topic *known;
    if (in->rows && name.size == in->last_topic.size &&
        memcmp(name.start, in->last_topic.start, name.size) == 0) {
        *number = in->last_number;
        return LJ_ROW_OK;
    }
    if (name.escaped && name.size <= sizeof plain) {
        name.size = lj_json_unescape(&name, plain);
        name.start = plain;
    }
    known = lj_topics_find(in->topics, name.start, name.size);
    if (known == NULL) {
        if (!lj_topic_name_ok(name.start, name.size))
            return lj_ingest_fail(in, LJ_ROW_TOPIC_NAME, row->topic_at);
        if (!lj_unknown_add(&in->unknown, name.start, name.size, in->rows))
            return lj_ingest_fail(in, LJ_ROW_NO_MEMORY, row->topic_at);
    }
    *number = known ? known->number : 0;
    in->last_number = *number;
    in->last_topic = row->topic;
    return LJ_ROW_OK;
}

/* Writes the key to `out` and checks it. */
static inline lj_row_code lj_write_key(lj_ingest *in, const lj_pushed *row, uint8_t *out, size_t *size) {
    if (row->key.escaped) {
        *size = lj_json_unescape(&row->key, out);
        if (memchr(out, 0, *size)) return lj_ingest_fail(in, LJ_ROW_KEY_NUL, row->key_at);
    } else {
        *size = row->key.size; /* no NUL: a raw one is not JSON */
        memcpy(out, row->key.start, *size);
    }
    if (*size == 0) return lj_ingest_fail(in, LJ_ROW_KEY_EMPTY, row->key_at);
    if (*size > in->limits.max_key_bytes) return lj_ingest_fail(in, LJ_ROW_KEY_LONG, row->key_at);
    return LJ_ROW_OK;
}

/* Writes the payload to `out`: the bytes of the value, or the text of the string, which must be JSON. */
static inline lj_row_code lj_write_payload(lj_ingest *in, const lj_pushed *row, uint8_t *out, size_t *size) {
    lj_json inner;
    lj_json_code code;
    *size = row->payload.size;
    if (row->payload_is_null) {
        *size = 0;
        return LJ_ROW_OK;
    }
    if (!row->payload_is_text || !row->payload.escaped) memcpy(out, row->payload.start, *size);
    else *size = lj_json_unescape(&row->payload, out);
    if (!row->payload_is_text) return LJ_ROW_OK;
    lj_json_begin(&inner, out, *size);
    code = lj_json_document(&inner, in->limits.max_depth);
    if (code == LJ_JSON_OK) return LJ_ROW_OK;
    in->json_code = code;
    in->inner = (size_t)(inner.error_at - inner.begin);
    return lj_ingest_fail(in, LJ_ROW_PAYLOAD_JSON, row->payload_at);
}

static inline void lj_put32(uint8_t *out, uint32_t value) {
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)(value >> 16);
    out[3] = (uint8_t)(value >> 24);
}

static inline void lj_put_header(uint8_t *out, uint32_t size, uint16_t table, uint8_t kind, int64_t timestamp_ms,
                                 uint32_t key_size, uint32_t payload_size) {
    lj_put32(out, size);
    out[4] = (uint8_t)table;
    out[5] = (uint8_t)(table >> 8);
    out[6] = kind;
    out[7] = 0;
    lj_put32(out + 8, (uint32_t)(uint64_t)timestamp_ms);
    lj_put32(out + 12, (uint32_t)((uint64_t)timestamp_ms >> 32));
    lj_put32(out + 16, key_size);
    lj_put32(out + 20, payload_size);
    lj_put32(out + 24, 0);
    lj_put32(out + 28, 0);
}

/* Check a row that was read and append it to the batch. `start` is its brace. */
static inline lj_row_code lj_pack_row(lj_ingest *in, const lj_pushed *row, const uint8_t *start) {
    uint8_t *out = in->out + in->out_size;
    size_t key_size, payload_size, used, size;
    uint16_t table;
    lj_row_code code;
    if (!(row->has & LJ_HAS_TOPIC)) return lj_ingest_fail(in, LJ_ROW_NO_TOPIC, start);
    if (!(row->has & LJ_HAS_KEY)) return lj_ingest_fail(in, LJ_ROW_NO_KEY, start);
    if (!(row->has & LJ_HAS_PAYLOAD)) return lj_ingest_fail(in, LJ_ROW_NO_PAYLOAD, start);
    /* Cannot be reached while LJ_ROW_GROWTH holds; a wrong proof must not write out of bounds. */
    if (in->out_capacity - in->out_size < LJ_ROW_HEADER + row->key.size + row->payload.size + 8)
        return lj_ingest_fail(in, LJ_ROW_NO_MEMORY, start);
    code = lj_number_topic(in, row, &table);
    if (code != LJ_ROW_OK) return code;
    code = lj_write_key(in, row, out + LJ_ROW_HEADER, &key_size);
    if (code != LJ_ROW_OK) return code;
    code = lj_write_payload(in, row, out + LJ_ROW_HEADER + key_size, &payload_size);
    if (code != LJ_ROW_OK) return code;
    if (key_size + payload_size > in->limits.max_row_bytes)
        return lj_ingest_fail(in, LJ_ROW_TOO_LARGE, start);
    used = LJ_ROW_HEADER + key_size + payload_size;
    size = (used + 7) & ~(size_t)7;
    memset(out + used, 0, size - used);
    lj_put_header(out, (uint32_t)size, table, row->payload_is_null ? LJ_KIND_DELETE : LJ_KIND_UPSERT,
                  row->timestamp_ms, (uint32_t)key_size, (uint32_t)payload_size);
    in->out_size += size;
    in->rows++;
    return LJ_ROW_OK;
}

/* One row at `at`, where something is. */
static inline lj_row_code lj_ingest_row(lj_ingest *in) {
    const uint8_t *start = in->json.at;
    lj_pushed row;
    lj_row_code code;
    if (*start != '{') return lj_ingest_fail(in, LJ_ROW_NOT_OBJECT, start);
    if (in->rows == in->limits.max_rows) return lj_ingest_fail(in, LJ_ROW_TOO_MANY, start);
    memset(&row, 0, sizeof row);
    row.timestamp_ms = in->now_ms;
    code = lj_read_row(in, &row);
    return code == LJ_ROW_OK ? lj_pack_row(in, &row, start) : code;
}

static inline lj_row_code lj_ingest_array(lj_ingest *in) {
    lj_json *s = &in->json;
    lj_row_code code;
    s->at++;
    lj_json_skip_space(s);
    if (s->at < s->end && *s->at == ']') {
        s->at++;
        return LJ_ROW_OK;
    }
    for (;;) {
        if (s->at == s->end) return lj_ingest_json(in, lj_json_fail(s, LJ_JSON_END, s->at));
        code = lj_ingest_row(in);
        if (code != LJ_ROW_OK) return code;
        lj_json_skip_space(s);
        if (s->at == s->end) return lj_ingest_json(in, lj_json_fail(s, LJ_JSON_END, s->at));
        if (*s->at == ']') {
            s->at++;
            return LJ_ROW_OK;
        }
        if (*s->at != ',') return lj_ingest_json(in, lj_json_fail(s, LJ_JSON_CHAR, s->at));
        s->at++;
        lj_json_skip_space(s);
    }
}

static inline lj_row_code lj_ingest_lines(lj_ingest *in) {
    lj_json *s = &in->json;
    while (s->at < s->end) {
        lj_row_code code = lj_ingest_row(in);
        if (code != LJ_ROW_OK) return code;
        while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r')) s->at++;
        if (s->at < s->end && *s->at != '\n') return lj_ingest_fail(in, LJ_ROW_SEPARATOR, s->at);
        lj_json_skip_space(s);
    }
    return LJ_ROW_OK;
}

/* The whole body. On LJ_ROW_OK `out`, `out_size` and `rows` are the batch, unless `unknown` has names. */
static inline lj_row_code lj_ingest_body(lj_ingest *in, int lines) {
    lj_json *s = &in->json;
    lj_row_code code;
    lj_json_skip_space(s);
    if (s->at == s->end) return lj_ingest_fail(in, LJ_ROW_EMPTY_BODY, s->at);
    if (lines) return lj_ingest_lines(in);
    if (*s->at == '{') code = lj_ingest_row(in);
    else if (*s->at == '[') code = lj_ingest_array(in);
    else return lj_ingest_fail(in, LJ_ROW_BODY_TYPE, s->at);
    if (code != LJ_ROW_OK) return code;
    lj_json_skip_space(s);
    return s->at == s->end ? LJ_ROW_OK : lj_ingest_fail(in, LJ_ROW_TRAILING, s->at);
}

#endif
