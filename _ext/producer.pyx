"""The kafka sink's producer: results go to librdkafka and their outcomes come back, in C.

A batch is built, queued and awaited without the GIL; librdkafka's delivery reports are noted in an array.
Twin of the message itself: `Result.body` and `Result.id`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from buffer cimport LjBuffer, lj_buffer_free, lj_buffer_trim
from kafka_send cimport LJ_OPEN, LjReports, LjSend, LjText, lj_report_tag, lj_send_one, lj_send_report
from rdkafka cimport *

import json

from litejoin.records import rfc3339

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    ERROR_BYTES = 512
    KEPT_BYTES = 1048576
    WAIT_MS = 100  # between two looks at the deadline


cdef void heard(rd_kafka_t *rk, int code, const char *reason, void *opaque) noexcept nogil:
    """librdkafka's word on a connection. `opaque` is the first field of a Producer's Shared."""
    cdef Shared *shared = <Shared *>opaque
    with gil:
        try:
            (<object>shared.on_error)(lj_rk.err2name(code).decode(), reason.decode("utf-8", "replace"))
        except Exception:
            pass  # a logger that fails must not end a delivery


cdef struct Shared:
    # LjReports comes first: the delivery report takes the opaque for one.
    LjReports reports
    void *on_error


cdef int64_t now_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef class Producer:
    """See the stub for the contract."""

    cdef rd_kafka_t *_rk
    cdef Shared _shared
    cdef LjBuffer _value
    cdef object _on_error
    cdef bytes _topic
    cdef bint _rows_only, _in_order

    def __cinit__(self, str library not None, dict options not None, str topic not None, *,
                  bint rows_only, bint in_order, on_error):
        cdef char error[ERROR_BYTES]
        cdef rd_kafka_conf_t *conf
        missing = lj_rk_load(library.encode())
        if missing != NULL:
            raise ImportError(f"librdkafka of confluent-kafka has not {missing.decode()}")
        self._on_error = on_error
        self._shared.on_error = <void *>on_error
        self._topic = topic.encode()
        self._rows_only, self._in_order = rows_only, in_order
        conf = lj_rk.conf_new()
        for name, value in options.items():
            if lj_rk.conf_set(conf, str(name).encode(), str(value).encode(), error, ERROR_BYTES):
                lj_rk.conf_destroy(conf)
                raise ValueError(error.decode("utf-8", "replace"))
        lj_rk.conf_set_opaque(conf, &self._shared)
        lj_rk.conf_set_dr_msg_cb(conf, lj_send_report)
        lj_rk.conf_set_error_cb(conf, heard)
        self._rk = lj_rk.new_handle(LJ_RK_PRODUCER, conf, error, ERROR_BYTES)
        if self._rk == NULL:
            lj_rk.conf_destroy(conf)
            raise ValueError(error.decode("utf-8", "replace"))

    def close(self):
        cdef rd_kafka_t *rk = self._rk
        self._rk = NULL
        if rk != NULL:
            with nogil:
                lj_rk.purge(rk, LJ_RK_PURGE_QUEUE | LJ_RK_PURGE_FLIGHT)
                lj_rk.flush(rk, WAIT_MS)
                lj_rk.destroy(rk)

    def __dealloc__(self):
        self.close()
        lj_buffer_free(&self._value)
        free(self._shared.reports.codes)

    def poll(self):
        if self._rk != NULL:
            with nogil:
                lj_rk.poll(self._rk, 0)

    def fatal(self):
        cdef char error[ERROR_BYTES]
        if self._rk == NULL or not lj_rk.fatal_error(self._rk, error, ERROR_BYTES):
            return None
        return error.decode("utf-8", "replace")

    def send(self, results not None, int64_t timeout_ms):
        cdef uint32_t count = <uint32_t>len(results), i
        cdef LjSend *sends
        cdef const char *topic = PyBytes_AS_STRING(self._topic)
        cdef list kept = []
        if self._rk == NULL:
            raise RuntimeError("the producer is closed")
        sends = <LjSend *>calloc(count + 1, sizeof(LjSend))
        free(self._shared.reports.codes)
        self._shared.reports.codes = <int *>calloc(count + 1, sizeof(int))
        if sends == NULL or self._shared.reports.codes == NULL:
            free(sends)
            raise MemoryError()
        self._shared.reports.batch += 1
        self._shared.reports.count = count
        self._shared.reports.failed = 0
        try:
            for i in range(count):
                self._shared.reports.codes[i] = LJ_OPEN
                read_result(results[i], &sends[i], kept)
            with nogil:
                self._deliver(topic, sends, count, now_ms() + timeout_ms)
        finally:
            free(sends)
            lj_buffer_trim(&self._value, KEPT_BYTES)
        return self._failures(count)

    cdef list _failures(self, uint32_t count):
        cdef uint32_t i
        cdef int code
        found = []
        for i in range(count):
            code = self._shared.reports.codes[i]
            if code:
                text = "LATE: the broker did not answer in time"
                if code != LJ_OPEN:
                    text = f"{lj_rk.err2name(code).decode()}: {lj_rk.err2str(code).decode()}"
                found.append((i, bool(lj_rk_is_final(code)), text))
        return found

    cdef int _deliver(self, const char *topic, LjSend *sends, uint32_t count, int64_t until_ms) noexcept nogil:
        """Queue everything, wait for every report. Once a message has failed that is to be sent again,
        what is only queued is given up, so that it does not overtake."""
        cdef LjReports *reports = &self._shared.reports
        cdef uint32_t i
        cdef int code
        for i in range(count):
            code = LJ_RK_QUEUE_FULL
            while code == LJ_RK_QUEUE_FULL and now_ms() < until_ms:
                code = lj_send_one(
                    self._rk, topic, &sends[i], self._rows_only, &self._value, lj_report_tag(reports, i))
                if code == LJ_RK_QUEUE_FULL:
                    lj_rk.poll(self._rk, WAIT_MS)
            if code:
                reports.codes[i] = code
        while lj_rk.flush(self._rk, WAIT_MS) and now_ms() < until_ms:
            if reports.failed and self._in_order:
                lj_rk.purge(self._rk, LJ_RK_PURGE_QUEUE)
        if lj_rk.outq_len(self._rk):
            lj_rk.purge(self._rk, LJ_RK_PURGE_QUEUE | LJ_RK_PURGE_FLIGHT)
            lj_rk.flush(self._rk, WAIT_MS)
        return 0


cdef int text_of(object text, LjText *into) except -1:
    cdef Py_ssize_t size = 0
    into.at = PyUnicode_AsUTF8AndSize(text, &size)
    into.size = <size_t>size
    return 0


cdef int read_result(object result, LjSend *send, list kept) except -1:
    """The texts of one result, which lives while the batch is sent; what is made for it is kept too."""
    cdef str key = result.key
    text_of(result.pipeline, &send.pipeline)
    text_of(result.query, &send.query)
    text_of(key, &send.key)
    text_of(result.rows, &send.rows)
    emitted = rfc3339(result.emit_at_ms)
    kept.append(emitted)
    text_of(emitted, &send.emitted)
    if result.start_ms is None:
        send.window.at, send.window.size = "", 0
    else:
        window = f'"window":{{"start":"{rfc3339(result.start_ms)}","end":"{rfc3339(result.end_ms)}"}},'
        kept.append(window)
        text_of(window, &send.window)
    send.seq = result.pos
    send.is_delete = result.op == 2
    plain_key(key, &send.sent_key, &send.key, kept)
    return 0


cdef int plain_key(str key, LjText *sent, LjText *given, list kept) except -1:
    """A text without its quotes, anything else as JSON."""
    cdef size_t i
    sent.at, sent.size = given.at, given.size
    if given.size < 2 or given.at[0] != 0x22:
        return 0
    for i in range(given.size):
        if given.at[i] == 0x5C:
            plain = json.loads(key).encode("utf-8", "surrogatepass")
            kept.append(plain)
            sent.at, sent.size = PyBytes_AS_STRING(plain), <size_t>PyBytes_GET_SIZE(plain)
            return 0
    sent.at, sent.size = given.at + 1, given.size - 2
    return 0
