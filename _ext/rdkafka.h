/* The functions of librdkafka that the native Kafka modules call, found at run time in the copy that
 * confluent-kafka brings: one library in the process, no headers and no linking when we are built.
 * Types and numbers are those of librdkafka's public interface, which only ever grows (2.0 and later). */
#ifndef LJ_RDKAFKA_H
#define LJ_RDKAFKA_H
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_headers_s rd_kafka_headers_t;
typedef struct rd_kafka_error_s rd_kafka_error_t;

typedef struct {
    int err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *opaque;
} rd_kafka_message_t;

/* One argument of produceva. */
typedef struct {
    int type;
    union {
        const char *text;
        int number;
        struct { const void *at; size_t size; } memory;
        struct { const char *name; const void *at; ssize_t size; } header;
        void *opaque;
        char room[64];
    } u;
} rd_kafka_vu_t;

enum { LJ_RK_TOPIC = 1, LJ_RK_VALUE = 4, LJ_RK_KEY = 5, LJ_RK_OPAQUE = 6, LJ_RK_FLAGS = 7, LJ_RK_HEADER = 9 };
enum { LJ_RK_COPY = 2, LJ_RK_PRODUCER = 0, LJ_RK_PURGE_QUEUE = 1, LJ_RK_PURGE_FLIGHT = 2 };
enum { LJ_RK_QUEUE_FULL = -184, LJ_RK_INVALID_MSG = 2, LJ_RK_TOO_LARGE = 10, LJ_RK_INVALID_RECORD = 87 };
enum { LJ_RK_OLDEST = 0x02000000 };

/* 1 for what the message itself is at fault for: it never gets through. */
static inline int lj_rk_is_final(int code) {
    return code == LJ_RK_TOO_LARGE || code == LJ_RK_INVALID_MSG || code == LJ_RK_INVALID_RECORD;
}

typedef int lj_rk_on_new(rd_kafka_t *, const rd_kafka_conf_t *, void *, char *, size_t);

typedef struct {
    int (*version)(void);
    const char *(*err2name)(int);
    const char *(*err2str)(int);
    rd_kafka_conf_t *(*conf_new)(void);
    void (*conf_destroy)(rd_kafka_conf_t *);
    int (*conf_set)(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
    void (*conf_set_opaque)(rd_kafka_conf_t *, void *);
    void (*conf_set_dr_msg_cb)(rd_kafka_conf_t *, void (*)(rd_kafka_t *, const rd_kafka_message_t *, void *));
    void (*conf_set_error_cb)(rd_kafka_conf_t *, void (*)(rd_kafka_t *, int, const char *, void *));
    int (*conf_interceptor_add_on_new)(rd_kafka_conf_t *, const char *, lj_rk_on_new *, void *);
    rd_kafka_t *(*new_handle)(int, rd_kafka_conf_t *, char *, size_t);
    void (*destroy)(rd_kafka_t *);
    int (*poll)(rd_kafka_t *, int);
    int (*flush)(rd_kafka_t *, int);
    int (*purge)(rd_kafka_t *, int);
    int (*outq_len)(rd_kafka_t *);
    int (*fatal_error)(rd_kafka_t *, char *, size_t);
    rd_kafka_error_t *(*produceva)(rd_kafka_t *, const rd_kafka_vu_t *, size_t);
    int (*error_code)(const rd_kafka_error_t *);
    void (*error_destroy)(rd_kafka_error_t *);
    rd_kafka_queue_t *(*queue_new)(rd_kafka_t *);
    rd_kafka_queue_t *(*queue_get_partition)(rd_kafka_t *, const char *, int32_t);
    void (*queue_forward)(rd_kafka_queue_t *, rd_kafka_queue_t *);
    void (*queue_destroy)(rd_kafka_queue_t *);
    ssize_t (*consume_batch_queue)(rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t);
    void (*message_destroy)(rd_kafka_message_t *);
    const char *(*message_errstr)(const rd_kafka_message_t *);
    int64_t (*message_timestamp)(const rd_kafka_message_t *, int *);
    int (*message_headers)(const rd_kafka_message_t *, rd_kafka_headers_t **);
    int (*header_get_all)(const rd_kafka_headers_t *, size_t, const char **, const void **, size_t *);
    const char *(*topic_name)(const rd_kafka_topic_t *);
} LjRdKafka;

static LjRdKafka lj_rk;

/* Find everything through a shared object that is loaded and linked with librdkafka. Returns NULL, or the
 * name of what is missing. */
static inline const char *lj_rk_load(const char *file) {
    void *from = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!from)
        return "the library";
    const struct { const char *name; void *at; } wanted[] = {
        {"rd_kafka_version", &lj_rk.version},
        {"rd_kafka_err2name", &lj_rk.err2name},
        {"rd_kafka_err2str", &lj_rk.err2str},
        {"rd_kafka_conf_new", &lj_rk.conf_new},
        {"rd_kafka_conf_destroy", &lj_rk.conf_destroy},
        {"rd_kafka_conf_set", &lj_rk.conf_set},
        {"rd_kafka_conf_set_opaque", &lj_rk.conf_set_opaque},
        {"rd_kafka_conf_set_dr_msg_cb", &lj_rk.conf_set_dr_msg_cb},
        {"rd_kafka_conf_set_error_cb", &lj_rk.conf_set_error_cb},
        {"rd_kafka_conf_interceptor_add_on_new", &lj_rk.conf_interceptor_add_on_new},
        {"rd_kafka_new", &lj_rk.new_handle},
        {"rd_kafka_destroy", &lj_rk.destroy},
        {"rd_kafka_poll", &lj_rk.poll},
        {"rd_kafka_flush", &lj_rk.flush},
        {"rd_kafka_purge", &lj_rk.purge},
        {"rd_kafka_outq_len", &lj_rk.outq_len},
        {"rd_kafka_fatal_error", &lj_rk.fatal_error},
        {"rd_kafka_produceva", &lj_rk.produceva},
        {"rd_kafka_error_code", &lj_rk.error_code},
        {"rd_kafka_error_destroy", &lj_rk.error_destroy},
        {"rd_kafka_queue_new", &lj_rk.queue_new},
        {"rd_kafka_queue_get_partition", &lj_rk.queue_get_partition},
        {"rd_kafka_queue_forward", &lj_rk.queue_forward},
        {"rd_kafka_queue_destroy", &lj_rk.queue_destroy},
        {"rd_kafka_consume_batch_queue", &lj_rk.consume_batch_queue},
        {"rd_kafka_message_destroy", &lj_rk.message_destroy},
        {"rd_kafka_message_errstr", &lj_rk.message_errstr},
        {"rd_kafka_message_timestamp", &lj_rk.message_timestamp},
        {"rd_kafka_message_headers", &lj_rk.message_headers},
        {"rd_kafka_header_get_all", &lj_rk.header_get_all},
        {"rd_kafka_topic_name", &lj_rk.topic_name},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *found = dlsym(from, wanted[i].name);
        if (!found)
            return wanted[i].name;
        *(void **)wanted[i].at = found;
    }
    return lj_rk.version() < LJ_RK_OLDEST ? "version 2.0" : NULL;
}
#endif
