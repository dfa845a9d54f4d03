# C declarations of the row scanner, and nothing else.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from json_scan cimport lj_json, lj_json_code, lj_json_text

cdef extern from "ingest_rows.h" nogil:
    enum:
        LJ_ROW_GROWTH
        LJ_ROW_SHORTEST

    ctypedef enum lj_row_code:
        LJ_ROW_OK
        LJ_ROW_JSON
        LJ_ROW_EMPTY_BODY
        LJ_ROW_BODY_TYPE
        LJ_ROW_TRAILING
        LJ_ROW_SEPARATOR
        LJ_ROW_TOO_MANY
        LJ_ROW_NOT_OBJECT
        LJ_ROW_UNKNOWN_FIELD
        LJ_ROW_DUPLICATE_FIELD
        LJ_ROW_NO_TOPIC
        LJ_ROW_TOPIC_TYPE
        LJ_ROW_TOPIC_NAME
        LJ_ROW_NO_KEY
        LJ_ROW_KEY_TYPE
        LJ_ROW_KEY_EMPTY
        LJ_ROW_KEY_LONG
        LJ_ROW_KEY_NUL
        LJ_ROW_NO_PAYLOAD
        LJ_ROW_PAYLOAD_JSON
        LJ_ROW_TIMESTAMP_TYPE
        LJ_ROW_TIMESTAMP_TEXT
        LJ_ROW_TIMESTAMP_RANGE
        LJ_ROW_TOO_LARGE
        LJ_ROW_NO_MEMORY

    ctypedef struct lj_topics:
        void *slots
        uint32_t capacity
        uint32_t used

    bint lj_topic_name_ok(const uint8_t *name, size_t size)
    bint lj_topics_put(lj_topics *t, const uint8_t *name, size_t size, uint16_t number)

    ctypedef struct lj_row_limits:
        uint32_t max_rows
        uint32_t max_depth
        size_t max_key_bytes
        size_t max_row_bytes

    ctypedef struct lj_unknown:
        uint8_t *bytes
        size_t used

    ctypedef struct lj_ingest:
        lj_json json
        const lj_topics *topics
        lj_row_limits limits
        int64_t now_ms
        uint8_t *out
        size_t out_size
        size_t out_capacity
        uint32_t rows
        lj_unknown unknown
        lj_json_code json_code
        size_t inner
        lj_json_text field

    lj_row_code lj_ingest_body(lj_ingest *in_, int lines)
