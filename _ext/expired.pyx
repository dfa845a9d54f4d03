"""Expired rows of one topic, from its shards into columns for Parquet.

Called by the archive's worker process, on read-only connections of its own. Each row is held against its
checksum while it is read: one that is not what was written stays where it is, and is named. The rows are
put in order of day and key, and given out as Arrow buffers (https://arrow.apache.org/docs/format/Columnar.html).
Reading and sorting run without the GIL. C memory belongs to the object and is freed with it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from csqlite3 cimport *
from expired_rows cimport (
    LjExpired, LjExpiredRows, lj_expired_add, lj_expired_free, lj_expired_sort)
from rowsum cimport LJ_NO_EXTRA, lj_row_checksum

from litejoin._ext import bridge
from litejoin.errors import CorruptionError, StorageError
from litejoin.records import ROW_HEADER

cdef enum:
    MAX_DAMAGED = 100  # keys that are named; the rest of them stay as they are, too
    DELETE_KIND = 2
    EXACT_EXPIRY = 3


cdef class ExpiredRows:
    """See the stub for the contract."""

    cdef LjExpiredRows _rows
    cdef int _topic
    cdef bint _sorted
    cdef readonly list damaged

    def __cinit__(self, int topic):
        if not bridge.api_pointer():
            raise RuntimeError("load_native() of litejoin.store.sqlite has not run")
        lj_set_api(<size_t>bridge.api_pointer())
        self._topic = topic
        self.damaged = []

    def __dealloc__(self):
        lj_expired_free(&self._rows)

    def __len__(self):
        return self._rows.len

    @property
    def size_bytes(self):
        return self._rows.arena.len

    def read(self, connection, int shard, long long cutoff_ms, after, size_t max_bytes, *, bint deletes=False):
        cdef sqlite3 *db = <sqlite3 *><size_t>connection.sqlite3_pointer()
        cdef sqlite3_stmt *stmt = NULL
        cdef LjExpired row
        cdef int64_t last_ms, last_id
        cdef int rc
        cdef bint good = True
        last_ms, last_id = after
        self._sorted = False
        sql = (
            f"SELECT id, key, payload, timestamp_ms, op, changes, checksum FROM {'d' if deletes else 't'}{self._topic}"
            " WHERE timestamp_ms <= ?1 AND (timestamp_ms, id) > (?2, ?3) ORDER BY timestamp_ms, id"
        ).encode()
        rc = sqlite3_prepare_v3(db, sql, -1, 0, &stmt, NULL)
        try:
            if rc == SQLITE_OK:
                rc = (sqlite3_bind_int64(stmt, 1, cutoff_ms) or sqlite3_bind_int64(stmt, 2, last_ms)
                      or sqlite3_bind_int64(stmt, 3, last_id))
            while rc == SQLITE_OK:
                with nogil:
                    rc = self._take(stmt, max_bytes, &last_ms, &last_id, &good)
                if not good and len(self.damaged) < MAX_DAMAGED:
                    self.damaged.append(self._key(stmt))
            if rc != SQLITE_DONE and rc != SQLITE_ROW:
                self._failed(db, shard, rc)
        finally:
            sqlite3_finalize(stmt)
        return rc == SQLITE_DONE, (last_ms, last_id)

    cdef int _take(
        self, sqlite3_stmt *stmt, size_t max_bytes, int64_t *last_ms, int64_t *last_id, bint *good
    ) noexcept nogil:
        """SQLITE_DONE: no more rows. SQLITE_ROW: no more room. SQLITE_OK: call again, after looking at `good`."""
        cdef LjExpired row
        cdef const void *key
        cdef const void *payload
        cdef const void *changes
        cdef uint32_t changes_len
        cdef int rc
        good[0] = True
        while self._rows.arena.len < max_bytes:
            rc = sqlite3_step(stmt)
            if rc != SQLITE_ROW:
                return rc
            memset(&row, 0, sizeof(row))
            changes = NULL
            row.changes_len = LJ_NO_EXTRA
            key = sqlite3_column_text(stmt, 1)
            row.key_len = <uint32_t>sqlite3_column_bytes(stmt, 1)
            payload = sqlite3_column_text(stmt, 2)
            row.payload_len = <uint32_t>sqlite3_column_bytes(stmt, 2)
            row.timestamp_ms = sqlite3_column_int64(stmt, 3)
            row.op = <uint32_t>sqlite3_column_int64(stmt, 4)
            if sqlite3_column_type(stmt, 5) != SQLITE_NULL:
                changes = sqlite3_column_text(stmt, 5)
                row.changes_len = <uint32_t>sqlite3_column_bytes(stmt, 5)
            row.checksum = sqlite3_column_int64(stmt, 6)
            last_ms[0] = row.timestamp_ms
            last_id[0] = sqlite3_column_int64(stmt, 0)
            if key == NULL or payload == NULL:
                return SQLITE_NOMEM
            if row.checksum != lj_row_checksum(
                    0, <uint32_t>self._topic, row.op, row.timestamp_ms, key, row.key_len, payload,
                    row.payload_len, changes, row.changes_len):
                good[0] = False
                return SQLITE_OK
            changes_len = 0 if row.changes_len == LJ_NO_EXTRA else row.changes_len
            if lj_expired_add(&self._rows, row, key, payload, changes, changes_len) < 0:
                return SQLITE_NOMEM
        return SQLITE_ROW

    cdef object _key(self, sqlite3_stmt *stmt):
        cdef const char *text = <const char *>sqlite3_column_text(stmt, 1)
        return text[:sqlite3_column_bytes(stmt, 1)].decode("utf-8", "replace")

    cdef _failed(self, sqlite3 *db, int shard, int rc):
        text = f"shard {shard}: {sqlite3_errmsg(db).decode('utf-8', 'replace')} (SQLite {rc})"
        if rc == SQLITE_NOMEM:
            raise MemoryError(text)
        kind = CorruptionError if rc & 0xff in (SQLITE_CORRUPT, SQLITE_NOTADB) else StorageError
        raise kind(text, extended=rc, shard=shard)

    def days(self):
        cdef size_t i, first = 0
        with nogil:
            if not self._sorted:
                lj_expired_sort(&self._rows)
        self._sorted = True
        found = []
        for i in range(1, self._rows.len + 1):
            if i == self._rows.len or self._rows.items[i].day != self._rows.items[first].day:
                found.append((self._rows.items[first].day, first, i - first))
                first = i
        return found

    def columns(self, size_t first, size_t count):
        if not self._sorted or first + count > self._rows.len:
            raise ValueError(f"rows {first} to {first + count} of {self._rows.len}, or not in order yet")
        keys = self._text(first, count, 0)
        payloads = self._text(first, count, 1)
        changes = self._text(first, count, 2)
        return (*keys, *payloads, *changes, self._validity(first, count), *self._numbers(first, count))

    cdef object _text(self, size_t first, size_t count, int part):
        """The offsets and the bytes of one text column."""
        cdef bytes offsets = PyBytes_FromStringAndSize(NULL, (count + 1) * 4)
        cdef int32_t *ends = <int32_t *>PyBytes_AS_STRING(offsets)
        cdef LjExpired *row
        cdef const uint8_t *start = NULL
        cdef uint8_t *out
        cdef uint32_t size
        cdef size_t i, total = 0
        cdef bytes data
        for i in range(first, first + count):
            total += self._part(&self._rows.items[i], part, &start)
        if total > 0x7fffffff:
            raise ValueError("more than 2 GiB of text in one part of a file")
        data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
        out = <uint8_t *>PyBytes_AS_STRING(data)
        total = 0
        ends[0] = 0
        with nogil:
            for i in range(count):
                size = self._part(&self._rows.items[first + i], part, &start)
                if size:
                    memcpy(out + total, start, size)
                total += size
                ends[i + 1] = <int32_t>total
        return offsets, data

    cdef uint32_t _part(self, LjExpired *row, int part, const uint8_t **start) noexcept nogil:
        start[0] = self._rows.arena.data + row.at
        if part == 0:
            return row.key_len
        start[0] += row.key_len
        if part == 1:
            return row.payload_len
        start[0] += row.payload_len
        return 0 if row.changes_len == LJ_NO_EXTRA else row.changes_len

    cdef bytes _validity(self, size_t first, size_t count):
        """One bit a row: are there changes?"""
        cdef size_t i, size = (count + 7) // 8
        cdef bytes bits = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(bits)
        memset(out, 0, size)
        for i in range(count):
            if self._rows.items[first + i].changes_len != LJ_NO_EXTRA:
                out[i >> 3] |= <uint8_t>(1 << (i & 7))
        return bits

    cdef object _numbers(self, size_t first, size_t count):
        """Times, operations and checksums, 8 bytes each."""
        cdef bytes times = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * 8))
        cdef bytes ops = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * 8))
        cdef bytes sums = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(count * 8))
        cdef int64_t *time = <int64_t *>PyBytes_AS_STRING(times)
        cdef int64_t *op = <int64_t *>PyBytes_AS_STRING(ops)
        cdef int64_t *checksum = <int64_t *>PyBytes_AS_STRING(sums)
        cdef size_t i
        for i in range(count):
            time[i] = self._rows.items[first + i].timestamp_ms
            op[i] = self._rows.items[first + i].op
            checksum[i] = self._rows.items[first + i].checksum
        return times, ops, sums


def pack_expiries(int topic, rows):
    """Exact expiries (Row.exact) as one row batch, of pairs of key and checksum."""
    cdef Py_ssize_t body, size
    parts = []
    pack = ROW_HEADER.pack
    for key, checksum in rows:
        data = key.encode()
        body = ROW_HEADER.size + len(data)
        size = (body + 7) & ~7
        parts.append(pack(size, topic, DELETE_KIND, EXACT_EXPIRY, checksum, len(data), 0, 0, 0))
        parts.append(data)
        parts.append(b"\0" * (size - body))
    return b"".join(parts)
