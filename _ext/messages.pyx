"""Reads message rows into a table: event time, partition values, and which messages have none of them.

Called by the engine's windows once a flush and stream. The caller's INSERT gets, per message of the topic,
?1 time in ms, ?2 a rising number, ?3 key, ?4 payload, ?5.. the JSON text at each partition path: NULL where
there is nothing, an empty blob where the payload is no JSON.
Runs without the GIL but for the messages that it names. Twin: tests/reference/messages.py.

Interface: one prepared statement on a connection that the caller owns; close before the connection.
"""

from collections import namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from change_row cimport LjChangeRow, lj_read_change
from changes cimport LJ_MESSAGE
from csqlite3 cimport *
from gjson_path cimport (
    lj_gjson, lj_gjson_free, lj_gjson_load, lj_gjson_none, lj_gjson_run, lj_gjson_trim, lj_gjson_value)
from json_scan cimport LJ_JSON_OK, lj_json, lj_json_begin, lj_json_document, lj_json_skip_space
from window_time cimport lj_window_time

from litejoin._ext import bridge
from litejoin.errors import StorageError, StorageFullError, StorageIOError

Read = namedtuple("Read", ["rows", "oldest_ms", "newest_ms", "refused", "unplaced"])

cdef enum:
    MAX_PARTITIONS = 16
    MAX_DEPTH = 1024

# What became of a message.
cdef enum:
    TAKEN = 0
    NO_JSON = 1
    NO_TIME = 2
    BAD_TIME = 3
    TOO_OLD = 4
    TOO_NEW = 5
    UNPLACED = 6
    FAILED = -1
    NO_MEMORY = -2

cdef dict REASONS = {
    NO_JSON: "the payload is not JSON",
    NO_TIME: "there is no event time",
    BAD_TIME: "the event time cannot be read",
    TOO_OLD: "the event time is before 1970",
    TOO_NEW: "the event time is too far in the future",
    UNPLACED: "the payload is not JSON",
}


cdef class MessageReader:
    """See the stub for the contract."""

    cdef sqlite3 *_db
    cdef sqlite3_stmt *_insert
    cdef object _connection
    cdef list _programs  # the loaded paths point into them
    cdef lj_gjson _time
    cdef lj_gjson _partitions[MAX_PARTITIONS]
    cdef int _count
    cdef bint _has_time
    cdef int _format
    cdef uint32_t _topic

    def __cinit__(self, connection, str sql, int topic, *, time_path=None, int time_format=0, partitions=()):
        lj_set_api(<size_t>bridge.api_pointer())
        self._connection = connection
        self._db = <sqlite3 *><size_t>connection.sqlite3_pointer()
        self._topic = <uint32_t>topic
        self._programs = []
        self._format = time_format
        if time_path is not None:
            self._load(&self._time, time_path)
            self._has_time = True
        if len(partitions) > MAX_PARTITIONS:
            raise ValueError(f"{len(partitions)} partition paths, {MAX_PARTITIONS} are possible")
        for program in partitions:
            self._load(&self._partitions[self._count], program)
            self._count += 1
        text = sql.encode()
        rc = sqlite3_prepare_v3(
            self._db, text, <int>len(text), SQLITE_PREPARE_PERSISTENT, &self._insert, NULL)
        if rc != SQLITE_OK:
            raise StorageError(f"messages: {sqlite3_errmsg(self._db).decode('utf-8', 'replace')}")

    cdef int _load(self, lj_gjson *path, bytes program) except -1:
        if lj_gjson_load(path, <const uint8_t *><const char *>program, <size_t>len(program)):
            raise ValueError("not a compiled path")
        self._programs.append(program)
        return 0

    def __dealloc__(self):
        cdef int i
        sqlite3_finalize(self._insert)
        if self._has_time:
            lj_gjson_free(&self._time)
        for i in range(self._count):
            lj_gjson_free(&self._partitions[i])

    def close(self):
        sqlite3_finalize(self._insert)
        self._insert = NULL

    cdef int _find(self, const lj_gjson *path, const uint8_t *start, size_t size, lj_gjson_value *found) noexcept nogil:
        memset(found, 0, sizeof(lj_gjson_value))
        return lj_gjson_run(path, 0, path.main, start, size, found)

    cdef int _event_time(self, const uint8_t *start, size_t size, int64_t *ms) noexcept nogil:
        cdef lj_gjson_value found
        cdef int outcome = TAKEN
        if self._find(&self._time, start, size, &found):
            outcome = NO_MEMORY
        elif not found.found or (found.size == 4 and found.start[0] == b"n"[0]):
            outcome = NO_TIME
        elif not lj_window_time(self._format, found.start, found.size, ms):
            outcome = BAD_TIME
        lj_gjson_none(&found)
        return outcome

    cdef int _bind_partitions(self, const uint8_t *start, size_t size) noexcept nogil:
        cdef lj_gjson_value found
        cdef int i, rc
        for i in range(self._count):
            if self._find(&self._partitions[i], start, size, &found):
                return SQLITE_NOMEM
            if found.found:
                rc = sqlite3_bind_text(
                    self._insert, 5 + i, <const char *>found.start, <int>found.size, SQLITE_TRANSIENT)
            else:
                rc = sqlite3_bind_null(self._insert, 5 + i)
            lj_gjson_none(&found)
            if rc != SQLITE_OK:
                return rc
        return SQLITE_OK

    cdef int _bind_nowhere(self) noexcept nogil:
        cdef int i, rc
        for i in range(self._count):
            rc = sqlite3_bind_blob(self._insert, 5 + i, b"", 0, SQLITE_STATIC)
            if rc != SQLITE_OK:
                return rc
        return SQLITE_OK

    cdef int _put(
        self, LjChangeRow *row, int64_t number, int64_t latest_ms, int64_t *ms, int *rc
    ) noexcept nogil:
        """Insert one message; says what became of it."""
        cdef lj_json scan
        cdef const uint8_t *start = <const uint8_t *>row.now.payload.at
        cdef size_t size = row.now.payload.len
        cdef int outcome
        cdef int taken = TAKEN
        ms[0] = row.now.timestamp_ms
        if self._has_time or self._count:
            lj_json_begin(&scan, start, size)
            if lj_json_document(&scan, MAX_DEPTH) == LJ_JSON_OK:
                lj_json_begin(&scan, start, size)
                lj_json_skip_space(&scan)
                size = lj_gjson_trim(scan.at, scan.end)
                start = scan.at
            elif self._has_time:
                return NO_JSON
            else:
                taken = UNPLACED
        if self._has_time:
            outcome = self._event_time(start, size, ms)
            if outcome != TAKEN:
                return outcome
        if ms[0] < 0:
            return TOO_OLD
        if ms[0] > latest_ms:
            return TOO_NEW
        rc[0] = (
            (self._bind_partitions(start, size) if taken == TAKEN else self._bind_nowhere())
            or sqlite3_bind_int64(self._insert, 1, ms[0])
            or sqlite3_bind_int64(self._insert, 2, number)
            or sqlite3_bind_text(
                self._insert, 3, row.now.key.at, <int>row.now.key.len, SQLITE_STATIC)
            or sqlite3_bind_text(
                self._insert, 4, row.now.payload.at, <int>row.now.payload.len, SQLITE_STATIC)
        )
        if rc[0] == SQLITE_OK:
            rc[0] = sqlite3_step(self._insert)
            sqlite3_reset(self._insert)
        return taken if rc[0] == SQLITE_DONE else FAILED

    def read(self, bytes chunk not None, long long first, long long latest_ms):
        cdef const char *data = PyBytes_AS_STRING(chunk)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(chunk)
        cdef size_t at = 0
        cdef size_t step = 0
        cdef int64_t rows = 0, oldest = 0, newest = 0, ms = 0
        cdef int outcome = TAKEN, rc = SQLITE_OK
        cdef LjChangeRow row
        if self._insert == NULL:
            raise RuntimeError("the reader is closed")
        refused, unplaced = [], []
        while at < size:
            with nogil:
                while at < size:
                    step = lj_read_change(data + at, size - at, &row)
                    if step == 0:
                        break
                    at += step
                    if row.topic != self._topic or not row.flags & LJ_MESSAGE:
                        continue
                    outcome = self._put(&row, first + rows, latest_ms, &ms, &rc)
                    if outcome != TAKEN and outcome != UNPLACED:
                        break
                    oldest = ms if rows == 0 or ms < oldest else oldest
                    newest = ms if rows == 0 or ms > newest else newest
                    rows += 1
                    if outcome == UNPLACED:
                        break
            if step == 0:
                raise ValueError(f"bad message row at byte {at}")
            if outcome == NO_MEMORY:
                raise MemoryError
            if outcome == FAILED:
                self._failed(rc)
            if outcome != TAKEN:
                (unplaced if outcome == UNPLACED else refused).append((
                    REASONS[outcome],
                    PyBytes_FromStringAndSize(row.now.key.at, <Py_ssize_t>row.now.key.len),
                    PyBytes_FromStringAndSize(row.now.payload.at, <Py_ssize_t>row.now.payload.len),
                    row.now.timestamp_ms,
                ))
                outcome = TAKEN
        return Read(rows, oldest, newest, refused, unplaced)

    cdef _failed(self, int rc):
        message = sqlite3_errmsg(self._db).decode("utf-8", "replace")
        if rc & 0xff == SQLITE_NOMEM:
            raise MemoryError(message)
        kind = {SQLITE_FULL: StorageFullError, SQLITE_IOERR: StorageIOError}.get(rc & 0xff, StorageError)
        raise kind(f"state.db: {message}", extended=sqlite3_extended_errcode(self._db))
