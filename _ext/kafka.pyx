"""Packs what a Kafka consumer fetched into one row batch, without Python code per message.

`sources/kafka` calls it with the list that confluent-kafka's `consume` returns. Every method call on a
message is the client's own cost; between them only C runs. Knows nothing of offsets that are stored.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

cimport cython
cimport json_scan
from fnv cimport lj_fnv1a32
from rows cimport LJ_DELETE, LJ_UPSERT, LjRowHead, lj_is_text

import json

from litejoin._ext.gjson import key_of
from litejoin._ext.ingest import JSON_REASONS as _JSON_REASONS
from litejoin.errors import JsonError

cdef enum:
    CREATE_TIME = 1  # confluent_kafka.TIMESTAMP_CREATE_TIME
    MAX_DEPTH = 64


@cython.final
cdef class Packer:
    """Packs messages of one source. One thread uses it.

    `topics`: Kafka topic -> catalogue number. `key_paths`: compiled gjson paths; empty: the message's key.
    `as_text`: values are stored as JSON strings; else they must be JSON. `meta`, if any, is given each
    message that has a value, and its JSON; it returns what is stored, or raises ValueError.
    """

    cdef dict topics
    cdef tuple key_paths
    cdef object meta
    cdef bint as_text
    cdef uint32_t shards
    cdef Py_ssize_t max_key_bytes, max_row_bytes
    cdef uint8_t *out
    cdef size_t used, capacity

    def __cinit__(
        self, dict topics not None, tuple key_paths not None, *, bint as_text, uint32_t shards,
        Py_ssize_t max_key_bytes, Py_ssize_t max_row_bytes, object meta=None,
    ):
        self.topics = topics
        self.key_paths = key_paths
        self.as_text = as_text
        self.shards = shards
        self.max_key_bytes = max_key_bytes
        self.max_row_bytes = max_row_bytes
        self.meta = meta

    def __dealloc__(self):
        free(self.out)

    def pack(self, list messages not None, dict done not None, int64_t now_ms):
        """(row batch, rows, next offset by (topic, partition), [(message, reason)] that cannot be rows).

        `done`: (topic, partition) -> next offset of each shard, where shards have got differently far;
        what a shard has is not packed for it again. Messages must be without an error.
        """
        cdef uint32_t rows = 0
        cdef int64_t offset = 0
        cdef object name, last_name = None, number = None, shard_offsets = None
        cdef int partition, last_partition = -1
        next_offsets, faults = {}, []
        self.used = 0
        for message in messages:
            name = message.topic()
            partition = message.partition()
            if partition != last_partition or name != last_name:
                if last_name is not None:
                    next_offsets[last_name, last_partition] = offset + 1
                last_name, last_partition = name, partition
                number = self.topics[name]
                shard_offsets = done.get((name, partition)) if done else None
            offset = message.offset()
            reason = self._row(message, <uint16_t>number, offset, shard_offsets, now_ms, &rows)
            if reason is not None:
                faults.append((message, reason))
        if last_name is not None:
            next_offsets[last_name, last_partition] = offset + 1
        return PyBytes_FromStringAndSize(<char *>self.out, <Py_ssize_t>self.used), rows, next_offsets, faults

    cdef object _row(
        self, object message, uint16_t number, int64_t offset, list shard_offsets, int64_t now_ms, uint32_t *rows
    ):
        """Append one row; the reason when the message cannot be one."""
        cdef const uint8_t *at
        cdef Py_ssize_t size
        value = message.value()
        key = message.key()
        if value is not None:
            if self.as_text:
                try:
                    value = json.dumps(value.decode(), ensure_ascii=False).encode()
                except UnicodeDecodeError:
                    return "the value is not UTF-8"
            reason = json_fault(<bytes>value)
            if reason is not None:
                return reason
            if is_null(<bytes>value):
                value = None
        if value is not None:
            try:
                if self.key_paths:
                    key = key_of(<bytes>value, self.key_paths)
                if self.meta is not None:
                    value = self.meta(message, value)
            except (JsonError, ValueError) as error:
                return str(error)
        if key is None:
            return "the message has no key"
        if not PyBytes_Check(key):
            key = (<str>key).encode()
        at, size = <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
        if size == 0 or size > self.max_key_bytes:
            return f"the key has {size} bytes, not 1 to {self.max_key_bytes}"
        if not lj_is_text(at, <size_t>size):
            return "the key is not UTF-8 without NUL"
        if value is not None and size + PyBytes_GET_SIZE(value) > self.max_row_bytes:
            return f"key and value are larger than {self.max_row_bytes} bytes"
        if shard_offsets is not None:
            if offset < <int64_t>shard_offsets[lj_fnv1a32(<const char *>at, <size_t>size) % self.shards]:
                return None
        kind, stamp_ms = message.timestamp()
        self._append(number, now_ms if kind != CREATE_TIME or stamp_ms < 0 else stamp_ms, <bytes>key, value)
        rows[0] += 1
        return None

    cdef int _append(self, uint16_t number, int64_t stamp_ms, bytes key, object value) except -1:
        cdef LjRowHead head
        cdef size_t value_size = 0 if value is None else <size_t>PyBytes_GET_SIZE(value)
        cdef size_t key_size = <size_t>PyBytes_GET_SIZE(key)
        cdef size_t body = sizeof(head) + key_size + value_size
        memset(&head, 0, sizeof(head))
        head.size = <uint32_t>((body + 7) & ~<size_t>7)
        head.table = number
        head.kind = LJ_DELETE if value is None else LJ_UPSERT
        head.timestamp_ms = stamp_ms
        head.key_len = <uint32_t>key_size
        head.payload_len = <uint32_t>value_size
        self._reserve(head.size)
        cdef uint8_t *at = self.out + self.used
        memcpy(at, &head, sizeof(head))
        memcpy(at + sizeof(head), PyBytes_AS_STRING(key), key_size)
        if value is not None:
            memcpy(at + sizeof(head) + key_size, PyBytes_AS_STRING(value), value_size)
        memset(at + body, 0, head.size - body)
        self.used += head.size
        return 0

    cdef int _reserve(self, size_t more) except -1:
        cdef size_t wanted = self.capacity
        cdef void *grown
        if self.used + more > wanted:
            while self.used + more > wanted:
                wanted = wanted * 2 if wanted else 65536
            grown = realloc(self.out, wanted)
            if grown == NULL:
                raise MemoryError()
            self.out, self.capacity = <uint8_t *>grown, wanted
        return 0


cdef object json_fault(bytes value):
    """Why a value is not JSON, None when it is."""
    cdef json_scan.lj_json scan
    cdef json_scan.lj_json_code code
    json_scan.lj_json_begin(&scan, <const uint8_t *>PyBytes_AS_STRING(value), <size_t>PyBytes_GET_SIZE(value))
    code = json_scan.lj_json_document(&scan, MAX_DEPTH)
    if code == json_scan.LJ_JSON_OK:
        return None
    return f"the value is not JSON: {_JSON_REASONS[code]} at byte {scan.error_at - scan.begin}"


cdef bint is_null(bytes value):
    """Whether valid JSON is `null`: its first letter, after white space, says so."""
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(value)
    while at[0] in (0x20, 0x09, 0x0A, 0x0D):
        at += 1
    return at[0] == 0x6E
