# Declarations of rdkafka.h.
from libc.stdint cimport int32_t, int64_t

cdef extern from "rdkafka.h" nogil:
    ctypedef struct rd_kafka_t:
        pass
    ctypedef struct rd_kafka_conf_t:
        pass
    ctypedef struct rd_kafka_topic_t:
        pass
    ctypedef struct rd_kafka_queue_t:
        pass
    ctypedef struct rd_kafka_headers_t:
        pass
    ctypedef struct rd_kafka_error_t:
        pass
    ctypedef struct rd_kafka_message_t:
        int err
        rd_kafka_topic_t *rkt
        int32_t partition
        void *payload
        size_t len
        void *key
        size_t key_len
        int64_t offset
        void *opaque
    enum:
        LJ_RK_PRODUCER
        LJ_RK_PURGE_QUEUE
        LJ_RK_PURGE_FLIGHT
        LJ_RK_QUEUE_FULL
    ctypedef struct LjRdKafka:
        const char *(*err2name)(int) noexcept nogil
        const char *(*err2str)(int) noexcept nogil
        rd_kafka_conf_t *(*conf_new)() noexcept nogil
        void (*conf_destroy)(rd_kafka_conf_t *) noexcept nogil
        int (*conf_set)(rd_kafka_conf_t *, const char *, const char *, char *, size_t) noexcept nogil
        void (*conf_set_opaque)(rd_kafka_conf_t *, void *) noexcept nogil
        void (*conf_set_dr_msg_cb)(
            rd_kafka_conf_t *, void (*)(rd_kafka_t *, const rd_kafka_message_t *, void *) noexcept nogil) noexcept nogil
        void (*conf_set_error_cb)(
            rd_kafka_conf_t *, void (*)(rd_kafka_t *, int, const char *, void *) noexcept nogil) noexcept nogil
        rd_kafka_t *(*new_handle)(int, rd_kafka_conf_t *, char *, size_t) noexcept nogil
        void (*destroy)(rd_kafka_t *) noexcept nogil
        int (*poll)(rd_kafka_t *, int) noexcept nogil
        int (*flush)(rd_kafka_t *, int) noexcept nogil
        int (*purge)(rd_kafka_t *, int) noexcept nogil
        int (*outq_len)(rd_kafka_t *) noexcept nogil
        int (*fatal_error)(rd_kafka_t *, char *, size_t) noexcept nogil
        rd_kafka_queue_t *(*queue_new)(rd_kafka_t *) noexcept nogil
        rd_kafka_queue_t *(*queue_get_partition)(rd_kafka_t *, const char *, int32_t) noexcept nogil
        void (*queue_forward)(rd_kafka_queue_t *, rd_kafka_queue_t *) noexcept nogil
        void (*queue_destroy)(rd_kafka_queue_t *) noexcept nogil
        ssize_t (*consume_batch_queue)(rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t) noexcept nogil
        void (*message_destroy)(rd_kafka_message_t *) noexcept nogil
        const char *(*message_errstr)(const rd_kafka_message_t *) noexcept nogil
        int64_t (*message_timestamp)(const rd_kafka_message_t *, int *) noexcept nogil
        int (*message_headers)(const rd_kafka_message_t *, rd_kafka_headers_t **) noexcept nogil
        int (*header_get_all)(
            const rd_kafka_headers_t *, size_t, const char **, const void **, size_t *) noexcept nogil
        const char *(*topic_name)(const rd_kafka_topic_t *) noexcept nogil
    LjRdKafka lj_rk
    int lj_rk_is_final(int code)
    const char *lj_rk_load(const char *file)
