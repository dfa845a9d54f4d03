"""Reads stored rows and compares each with its checksum: for the scrub, `litejoin check` and the API sources.

A statement a call, so that no transaction stays open between chunks; the GIL is released while rows are
read. Twin: `row_checksum` of tests/reference/checksum.py over the same rows.
"""

from collections import namedtuple

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from buffer cimport LjBuffer, lj_buffer_free, lj_buffer_reserve
from csqlite3 cimport *
from rowsum cimport LJ_NO_EXTRA, lj_row_checksum

from litejoin._ext import bridge
from litejoin.errors import CorruptionError, StorageError

Verified = namedtuple("Verified", ["rows", "bytes", "last_id"])

cdef const char *TOPIC_ROWS = (
    "SELECT id, key, payload, timestamp_ms, op, changes, checksum FROM %c%d WHERE id > ?1 ORDER BY id LIMIT ?2")
cdef const char *STATE_ROWS = (
    "SELECT id, key, payload, 0, 0, hash, checksum FROM s%d WHERE id > ?1 ORDER BY id LIMIT ?2")

cdef const char *STATE_ROW = "SELECT id, key, payload, 0, 0, hash, checksum FROM s%d WHERE key = ?1"

ctypedef struct Found:
    const char *key
    int key_size
    int size  # of the payload, -1: no such row


cdef bint is_as_written(sqlite3_stmt *stmt, int table, bint state, int64_t *size) noexcept nogil:
    cdef const void *key = sqlite3_column_blob(stmt, 1)
    cdef uint32_t key_len = <uint32_t>sqlite3_column_bytes(stmt, 1)
    cdef const void *payload = sqlite3_column_blob(stmt, 2)
    cdef uint32_t payload_len = <uint32_t>sqlite3_column_bytes(stmt, 2)
    cdef const void *extra = sqlite3_column_blob(stmt, 5)
    cdef uint32_t extra_len = <uint32_t>sqlite3_column_bytes(stmt, 5)
    size[0] += key_len + payload_len + extra_len
    if sqlite3_column_type(stmt, 5) == SQLITE_NULL:
        extra_len = LJ_NO_EXTRA
    return sqlite3_column_int64(stmt, 6) == lj_row_checksum(
        state, <uint32_t>table, <uint32_t>sqlite3_column_int64(stmt, 4), sqlite3_column_int64(stmt, 3),
        key, key_len, payload, payload_len, extra, extra_len)


def verify_rows(connection, str letter, int table, long long after_id, int limit):
    cdef sqlite3 *db
    cdef sqlite3_stmt *stmt = NULL
    cdef char *sql
    cdef int rc
    cdef int64_t rows = 0, size = 0, last_id = after_id
    cdef bint sound = True, state = letter == "s"
    cdef int first = ord(letter)
    lj_set_api(<size_t>bridge.api_pointer())
    db = <sqlite3 *><size_t>connection.sqlite3_pointer()
    with nogil:
        sql = sqlite3_mprintf(STATE_ROWS, table) if state else sqlite3_mprintf(TOPIC_ROWS, first, table)
        rc = SQLITE_NOMEM if sql == NULL else sqlite3_prepare_v3(db, sql, -1, 0, &stmt, NULL)
        sqlite3_free(sql)
        if rc == SQLITE_OK:
            rc = sqlite3_bind_int64(stmt, 1, after_id) or sqlite3_bind_int64(stmt, 2, limit)
        while rc == SQLITE_OK or rc == SQLITE_ROW:
            rc = sqlite3_step(stmt)
            if rc == SQLITE_ROW:
                rows += 1
                last_id = sqlite3_column_int64(stmt, 0)
                sound = is_as_written(stmt, table, state, &size)
                if not sound:
                    break
    message = sqlite3_errmsg(db).decode("utf-8", "replace")
    sqlite3_finalize(stmt)
    name = f"{letter}{table}"
    if not sound:
        raise CorruptionError(f"row {last_id} of {name} fails its checksum", extended=SQLITE_CORRUPT)
    fail(rc, name, message)
    return Verified(rows, size, last_id)


cdef fail(int rc, str name, str message):
    if rc == SQLITE_NOMEM:
        raise MemoryError
    if rc != SQLITE_DONE:
        is_damage = rc & 0xFF in (SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_IOERR)
        raise (CorruptionError if is_damage else StorageError)(f"{name}: {message}", extended=rc)


cdef int read_state(sqlite3_stmt *stmt, int table, Found *row, LjBuffer *out, bint *sound) noexcept nogil:
    """SQLITE_DONE, also when there is no such row; `sound`: what there is is what was written."""
    cdef int64_t size = 0
    cdef int rc = sqlite3_bind_text(stmt, 1, row.key, row.key_size, SQLITE_STATIC)
    row.size = -1
    if rc != SQLITE_OK:
        return rc
    rc = sqlite3_step(stmt)
    if rc == SQLITE_ROW:
        sound[0] = is_as_written(stmt, table, True, &size)
        if not sound[0]:
            return SQLITE_CORRUPT
        row.size = sqlite3_column_bytes(stmt, 2)
        if lj_buffer_reserve(out, <size_t>row.size + 1) < 0:
            return SQLITE_NOMEM
        if row.size:
            memcpy(out.data + out.len, sqlite3_column_blob(stmt, 2), <size_t>row.size)
        out.len += <size_t>row.size
        rc = SQLITE_DONE
    if rc == SQLITE_DONE:
        sqlite3_reset(stmt)
    return rc


def read_states(connection, int table, list keys not None):
    cdef sqlite3 *db
    cdef sqlite3_stmt *stmt = NULL
    cdef char *sql
    cdef int rc
    cdef Py_ssize_t i, at = 0, count = len(keys)
    cdef bint sound = True
    cdef LjBuffer out
    cdef bytes key
    cdef Found *rows = <Found *>calloc(<size_t>count + 1, sizeof(Found))
    if rows == NULL:
        raise MemoryError
    memset(&out, 0, sizeof(out))
    try:
        for i, key in enumerate(keys):
            rows[i].key = key
            rows[i].key_size = <int>len(key)
        lj_set_api(<size_t>bridge.api_pointer())
        db = <sqlite3 *><size_t>connection.sqlite3_pointer()
        with nogil:
            sql = sqlite3_mprintf(STATE_ROW, table)
            rc = SQLITE_NOMEM if sql == NULL else sqlite3_prepare_v3(db, sql, -1, 0, &stmt, NULL)
            sqlite3_free(sql)
            if rc == SQLITE_OK:
                rc = SQLITE_DONE
            while rc == SQLITE_DONE and at < count:
                rc = read_state(stmt, table, &rows[at], &out, &sound)
                at += 1
        message = sqlite3_errmsg(db).decode("utf-8", "replace")
        sqlite3_finalize(stmt)
        if not sound:
            name = keys[at - 1].decode("utf-8", "replace")[:80]
            raise CorruptionError(f"the state row of {name!r} (s{table}) is not what was written", extended=rc)
        fail(rc, f"s{table}", message)
        found, at = [], 0
        for i in range(count):
            found.append(None if rows[i].size < 0 else PyBytes_FromStringAndSize(<const char *>out.data + at, rows[i].size))
            at += max(rows[i].size, 0)
        return found
    finally:
        free(rows)
        lj_buffer_free(&out)
