/* One result as a Kafka message, and the outcomes of a batch of them. Used by producer.pyx, which fills
 * LjSend from Python objects; nothing here needs the GIL.
 *
 *   lj_send_value    the result object (as Result.body writes it), or its rows
 *   lj_send_one      hand one message to librdkafka, which copies it; 0 or its error
 *   lj_send_report   librdkafka's delivery report of one message */
#ifndef LJ_KAFKA_SEND_H
#define LJ_KAFKA_SEND_H
#include <stdio.h>

#include "blake2b.h"
#include "buffer.h"
#include "rdkafka.h"

enum { LJ_ID_LETTERS = 24, LJ_OPEN = 1 };

typedef struct {
    const char *at;
    size_t size;
} LjText;

typedef struct {
    LjText pipeline, query, key, rows, window, emitted;
    LjText sent_key; /* the key as messages have it */
    int64_t seq;
    int is_delete;
} LjSend;

/* What became of each message of the batch in hand: LJ_OPEN, or librdkafka's error, 0 being none. Reports
 * of earlier batches, which were given up, have another number and count for nothing. */
typedef struct {
    int *codes;
    uint32_t count, batch, failed;
} LjReports;

static inline void *lj_report_tag(const LjReports *reports, uint32_t at) {
    return (void *)(uintptr_t)((uint64_t)reports->batch << 32 | at);
}

static void lj_send_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    LjReports *reports = (LjReports *)opaque;
    uint64_t tag = (uint64_t)(uintptr_t)message->opaque;
    (void)rk;
    if (tag >> 32 != reports->batch || (uint32_t)tag >= reports->count)
        return;
    reports->codes[(uint32_t)tag] = message->err;
    reports->failed += message->err != 0 && !lj_rk_is_final(message->err);
}

static inline void lj_put(LjBuffer *out, const char *at, size_t size) {
    memcpy(out->data + out->len, at, size);
    out->len += size;
}

#define LJ_PUT_WORDS(out, words) lj_put(out, words, sizeof words - 1)

static inline void lj_send_id(const LjSend *s, char *hex) {
    char seq[24];
    LjBlake hash;
    lj_blake_begin(&hash, LJ_ID_LETTERS / 2);
    lj_blake_add(&hash, s->pipeline.at, s->pipeline.size);
    lj_blake_add(&hash, "", 1);
    lj_blake_add(&hash, s->query.at, s->query.size);
    lj_blake_add(&hash, "", 1);
    lj_blake_add(&hash, s->key.at, s->key.size);
    lj_blake_add(&hash, "", 1);
    lj_blake_add(&hash, seq, (size_t)snprintf(seq, sizeof seq, "%lld", (long long)s->seq));
    lj_blake_end(&hash, hex);
}

/* -1 when memory is out. */
static inline int lj_send_value(const LjSend *s, const char *id, LjBuffer *out) {
    char seq[24];
    size_t digits = (size_t)snprintf(seq, sizeof seq, "%lld", (long long)s->seq);
    out->len = 0;
    if (lj_buffer_reserve(out, 256 + s->query.size + s->key.size + s->rows.size + s->window.size + s->emitted.size))
        return -1;
    LJ_PUT_WORDS(out, "{\"query\":\"");
    lj_put(out, s->query.at, s->query.size);
    LJ_PUT_WORDS(out, "\",\"key\":");
    lj_put(out, s->key.at, s->key.size);
    LJ_PUT_WORDS(out, ",\"rows\":");
    lj_put(out, s->rows.at, s->rows.size);
    LJ_PUT_WORDS(out, ",");
    lj_put(out, s->window.at, s->window.size);
    LJ_PUT_WORDS(out, "\"emit_at\":\"");
    lj_put(out, s->emitted.at, s->emitted.size);
    if (s->is_delete)
        LJ_PUT_WORDS(out, "\",\"op\":\"delete\",\"seq\":");
    else
        LJ_PUT_WORDS(out, "\",\"op\":\"upsert\",\"seq\":");
    lj_put(out, seq, digits);
    LJ_PUT_WORDS(out, ",\"id\":\"");
    lj_put(out, id, LJ_ID_LETTERS);
    LJ_PUT_WORDS(out, "\"}");
    return 0;
}

static inline void lj_vu_memory(rd_kafka_vu_t *vu, int type, const void *at, size_t size) {
    vu->type = type;
    vu->u.memory.at = at;
    vu->u.memory.size = size;
}

static inline void lj_vu_header(rd_kafka_vu_t *vu, const char *name, const char *at, size_t size) {
    vu->type = LJ_RK_HEADER;
    vu->u.header.name = name;
    vu->u.header.at = at;
    vu->u.header.size = (ssize_t)size;
}

static inline int lj_send_one(
    rd_kafka_t *rk, const char *topic, const LjSend *s, int rows_only, LjBuffer *value, void *tag) {
    char id[LJ_ID_LETTERS], seq[24];
    rd_kafka_vu_t vu[8];
    lj_send_id(s, id);
    if (!s->is_delete && !rows_only && lj_send_value(s, id, value))
        return LJ_RK_QUEUE_FULL;
    vu[0].type = LJ_RK_TOPIC;
    vu[0].u.text = topic;
    vu[1].type = LJ_RK_FLAGS;
    vu[1].u.number = LJ_RK_COPY;
    lj_vu_memory(&vu[2], LJ_RK_KEY, s->sent_key.at, s->sent_key.size);
    if (s->is_delete)
        lj_vu_memory(&vu[3], LJ_RK_VALUE, NULL, 0);
    else if (rows_only)
        lj_vu_memory(&vu[3], LJ_RK_VALUE, s->rows.at, s->rows.size);
    else
        lj_vu_memory(&vu[3], LJ_RK_VALUE, value->data, value->len);
    lj_vu_header(&vu[4], "litejoin-id", id, sizeof id);
    lj_vu_header(&vu[5], "litejoin-seq", seq, (size_t)snprintf(seq, sizeof seq, "%lld", (long long)s->seq));
    lj_vu_header(&vu[6], "litejoin-query", s->query.at, s->query.size);
    vu[7].type = LJ_RK_OPAQUE;
    vu[7].u.opaque = tag;
    rd_kafka_error_t *error = lj_rk.produceva(rk, vu, 8);
    if (!error)
        return 0;
    int code = lj_rk.error_code(error);
    lj_rk.error_destroy(error);
    return code;
}
#endif
