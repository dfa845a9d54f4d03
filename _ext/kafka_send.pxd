# Declarations of kafka_send.h.
from libc.stdint cimport int64_t, uint32_t

from buffer cimport LjBuffer
from rdkafka cimport rd_kafka_message_t, rd_kafka_t

cdef extern from "kafka_send.h" nogil:
    enum:
        LJ_OPEN
    ctypedef struct LjText:
        const char *at
        size_t size
    ctypedef struct LjSend:
        LjText pipeline
        LjText query
        LjText key
        LjText rows
        LjText window
        LjText emitted
        LjText sent_key
        int64_t seq
        int is_delete
    ctypedef struct LjReports:
        int *codes
        uint32_t count
        uint32_t batch
        uint32_t failed
    void *lj_report_tag(const LjReports *reports, uint32_t at)
    void lj_send_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) noexcept
    int lj_send_one(
        rd_kafka_t *rk, const char *topic, const LjSend *s, int rows_only, LjBuffer *value, void *tag)
