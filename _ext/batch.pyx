"""The batch writer: packed rows into the shards of one group, one transaction a shard, without the GIL.

A flush has two phases. `prepare` checks every row before the first SQL statement, sorts each shard's
rows by key, makes several rows of a key one, and applies them in an open transaction per shard; in the
same pass it reads the old versions and computes the checksums. `commit` commits all, so that a caller
can hold a lock around the commits only. `write` does both.

Tables are numbered, never named: t<N> topics, d<N> deleted keys of archived ones, s<N> diff state of api
sources, `batches` the change rows of each transaction with the new payloads elided. Twin: tests/reference/batch.py.

Rules: the writer uses its connections alone, one thread at a time. Every return code is looked at in
the line of the call. C memory belongs to the `_Shard` array and is freed by `close`. This is one file
because modules here cannot share cdef code; what needs no SQLite is in rows.h and changes.h.
"""

from collections import namedtuple

cimport csqlite3 as sq
from buffer cimport LjBuffer, lj_buffer_free, lj_buffer_reserve, lj_buffer_trim
from changes cimport (
    LJ_HAS_NEW, LJ_HAS_OLD, LJ_MESSAGE, LJ_NEW_CHANGES, LJ_NEW_UPDATED, LJ_OLD_CHANGES, LJ_OLD_UPDATED,
    LjChange, lj_change_append, lj_change_elide)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from fnv cimport lj_fnv1a32
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset
from rows cimport (
    LJ_EXACT, LJ_EXPIRE, LJ_KNOWN, LJ_STATE_UPSERT, LJ_UPSERT, LjEntries, LjRow,
    lj_entries_add, lj_entries_free, lj_entries_sort, lj_fold, lj_row_at, lj_row_check)
from rowsum cimport LJ_NO_EXTRA, lj_row_checksum, lj_row_hash, lj_row_seal
from together cimport lj_together
from xxh64 cimport lj_xxh64

from litejoin._ext import bridge
from litejoin.errors import CorruptionError, StorageError, StorageFullError, StorageIOError

WriteResult = namedtuple(
    "WriteResult", ["changes", "rows", "unchanged", "committed", "full_shards", "messages", "refused"])

cdef enum:
    MAX_SHARDS = 256  # the shard's number is one byte of a change row
    # Prepared statements cost a few KB each: with more tables than this in use on one connection they
    # are dropped and made again as needed, so that 1,000 topics do not hold 100 MB.
    MAX_PREPARED_TABLES = 96
    # Buffers above this are given back after a flush; below, they are kept for the next one.
    KEEP_BYTES = 1 << 20
    TABLES = 1 << 16  # a table's number is two bytes of a row
    # Of a shard's place in the group: never in it, or left out of it for good.
    ELSEWHERE = -1
    LEFT_OUT = -2
    # What is kept of a topic besides its rows.
    KEEPS_MESSAGES = 1
    KEEPS_DELETES = 2

cdef struct _Table:
    sq.sqlite3_stmt *upsert
    sq.sqlite3_stmt *remove
    sq.sqlite3_stmt *note_delete
    sq.sqlite3_stmt *drop_delete
    int64_t next_id

cdef struct _Shard:
    sq.sqlite3 *db
    sq.sqlite3_stmt *begin
    sq.sqlite3_stmt *commit
    sq.sqlite3_stmt *rollback
    sq.sqlite3_stmt *record
    sq.sqlite3_stmt *trim
    _Table **tables  # topic N at 2 * N, state table N at 2 * N + 1
    uint32_t table_cap
    uint32_t prepared
    LjEntries entries
    LjBuffer changes
    LjBuffer messages  # every upsert of a kept topic, in order of arrival
    LjBuffer body
    int64_t trim_to  # batch records up to here are applied
    int64_t trimming  # deleted up to here in the open transaction
    int64_t trimmed  # and up to here for good
    int wal_pages
    int64_t rows
    int64_t unchanged
    int number
    bint wrote
    bint full
    # What lj_replace has to know of the row that is being written, and says of the one it found.
    LjRow *row
    bint found
    bint replaced
    bint drop_noops
    bint versions
    bint plain
    bint checksums

cdef struct _Failure:
    int rc
    int extended
    int shard
    char message[400]

cdef struct _Commit:
    _Shard *shard
    int rc
    _Failure failure

cdef struct _Options:
    int64_t seq
    bint drop_noops
    bint want_changes
    bint records
    bint checksums
    bint plain  # no old versions, for nobody: benchmarks
    const uint8_t *kept  # by topic number: KEEPS_MESSAGES, KEEPS_DELETES


cdef int _fail(_Failure *failure, _Shard *s, int rc, const char *doing) noexcept nogil:
    """Keep SQLite's own words for the first failure. Returns `rc`."""
    if failure.rc == 0:
        failure.extended = sq.sqlite3_extended_errcode(s.db)
        if failure.extended & 0xff != rc & 0xff:
            failure.extended = rc  # ours (no memory), not the connection's last one
        failure.rc = rc & 0xff
        failure.shard = s.number
        snprintf(failure.message, sizeof(failure.message), b"%s: %s", doing, sq.sqlite3_errmsg(s.db))
    return rc


# --- statements ---------------------------------------------------------------------------------

cdef int _compile(_Shard *s, const char *sql, unsigned int number, sq.sqlite3_stmt **stmt) noexcept nogil:
    """Prepare `sql`, whose %u is the table's number, unless it is prepared already."""
    cdef char text[400]
    if stmt[0] != NULL:
        return sq.SQLITE_OK
    snprintf(text, sizeof(text), sql, number)
    return sq.sqlite3_prepare_v3(s.db, text, -1, sq.SQLITE_PREPARE_PERSISTENT, stmt, NULL)


cdef int _run(sq.sqlite3_stmt *stmt) noexcept nogil:
    """Step a statement that gives no rows, and reset it. The reset repeats the step's error code."""
    cdef int rc = sq.sqlite3_step(stmt)
    if rc == sq.SQLITE_DONE:
        return sq.sqlite3_reset(stmt)
    sq.sqlite3_reset(stmt)
    return rc if rc != sq.SQLITE_ROW else sq.SQLITE_ERROR


cdef void _drop_table(_Table *t) noexcept nogil:
    # finalize repeats the code of the last step, which has been looked at.
    sq.sqlite3_finalize(t.upsert)
    sq.sqlite3_finalize(t.remove)
    sq.sqlite3_finalize(t.note_delete)
    sq.sqlite3_finalize(t.drop_delete)
    free(t)


cdef void _drop_tables(_Shard *s) noexcept nogil:
    cdef uint32_t i
    for i in range(s.table_cap):
        if s.tables[i] != NULL:
            _drop_table(s.tables[i])
            s.tables[i] = NULL
    s.prepared = 0


cdef int _load_next_id(_Shard *s, unsigned int n, _Table *t) noexcept nogil:
    cdef sq.sqlite3_stmt *stmt = NULL
    cdef int rc = _compile(s, b"SELECT coalesce(max(id), 0) FROM t%u", n, &stmt)
    if rc == sq.SQLITE_OK:
        rc = sq.sqlite3_step(stmt)
        if rc == sq.SQLITE_ROW:
            t.next_id = sq.sqlite3_column_int64(stmt, 0) + 1
            rc = sq.SQLITE_OK
    sq.sqlite3_finalize(stmt)
    return rc


cdef int _compile_topic(_Shard *s, unsigned int n, _Table *t) noexcept nogil:
    # ON CONFLICT cannot return the old version, and finding it first costs a second descent into the
    # table; so the statement shows it to lj_replace, which notes it and says whether to go on.
    # Ids are given out here, rising, and never twice while the process lives: an id names one row of a
    # flush even when rows were deleted in it.
    return (
        _load_next_id(s, n, t)
        or _compile(
            s, b"INSERT INTO t%u(id,key,payload,timestamp_ms,op,changes,checksum)"
            b" VALUES(?1,?2,?3,?4,?8,?5,?6) ON CONFLICT(key) DO UPDATE"
            b" SET payload=?3,timestamp_ms=?4,op=2,changes=?5,checksum=?7"
            b" WHERE lj_replace(id,payload,timestamp_ms,op,changes,checksum)", n, &t.upsert)
        or _compile(
            s, b"DELETE FROM t%u WHERE key=?2 AND lj_replace(id,payload,timestamp_ms,op,changes,checksum)",
            n, &t.remove)
    )


cdef int _compile_plain(_Shard *s, unsigned int n, _Table *t) noexcept nogil:
    return (
        _compile(
            s, b"INSERT INTO t%u(key,payload,timestamp_ms,op,changes,checksum)"
            b" VALUES(?2,?3,?4,?8,?5,?6) ON CONFLICT(key) DO UPDATE"
            b" SET payload=?3,timestamp_ms=?4,op=2,changes=?5,checksum=?7", n, &t.upsert)
        or _compile(s, b"DELETE FROM t%u WHERE key=?2", n, &t.remove)
    )


cdef int _compile_state(_Shard *s, unsigned int n, _Table *t) noexcept nogil:
    return (
        _compile(s, b"DELETE FROM s%u WHERE key=?1", n, &t.remove)
        or _compile(
            s, b"INSERT INTO s%u(key,hash,payload,checksum) VALUES(?1,?2,?3,?4) ON CONFLICT(key)"
            b" DO UPDATE SET hash=excluded.hash,payload=excluded.payload,checksum=excluded.checksum",
            n, &t.upsert)
    )


cdef int _grow_tables(_Shard *s, uint32_t slot) noexcept nogil:
    cdef uint32_t cap = (slot | 63) + 1
    cdef _Table **tables = <_Table **>realloc(s.tables, cap * sizeof(_Table *))
    if tables == NULL:
        return sq.SQLITE_NOMEM
    memset(tables + s.table_cap, 0, (cap - s.table_cap) * sizeof(_Table *))
    s.tables = tables
    s.table_cap = cap
    return sq.SQLITE_OK


cdef int _table(_Shard *s, bint state, unsigned int number, _Table **found) noexcept nogil:
    """The prepared statements of a table, made when first needed."""
    cdef uint32_t slot = 2 * number + state
    cdef _Table *t
    cdef int rc
    if slot >= s.table_cap:
        rc = _grow_tables(s, slot)
        if rc != sq.SQLITE_OK:
            return rc
    if s.tables[slot] == NULL:
        if s.prepared >= MAX_PREPARED_TABLES:
            _drop_tables(s)
        t = <_Table *>calloc(1, sizeof(_Table))
        if t == NULL:
            return sq.SQLITE_NOMEM
        if state:
            rc = _compile_state(s, number, t)
        else:
            rc = _compile_plain(s, number, t) if s.plain else _compile_topic(s, number, t)
        if rc != sq.SQLITE_OK:
            _drop_table(t)
            return rc
        s.tables[slot] = t
        s.prepared += 1
    found[0] = s.tables[slot]
    return sq.SQLITE_OK


# --- rows ---------------------------------------------------------------------------------------

cdef int _note(_Shard *s, int64_t row_id, sq.sqlite3_value **old) noexcept nogil:
    """Append the change row of `s.row`; `old` are the columns lj_replace was shown, or NULL."""
    cdef LjRow *row = s.row
    cdef LjChange head
    cdef const void *old_payload = NULL
    cdef const void *old_changes = NULL
    memset(&head, 0, sizeof(head))
    head.topic = row.head.table
    head.shard = <uint8_t>s.number
    head.id = row_id
    head.key_len = row.head.key_len
    if row.head.kind == LJ_UPSERT:
        head.flags = LJ_HAS_NEW
        head.new_ts = row.head.timestamp_ms
        head.new_len = row.head.payload_len
        head.new_changes_len = row.head.extra_len
        if row.head.extra_len:
            head.flags |= LJ_NEW_CHANGES
        if old != NULL or row.head.flags & LJ_KNOWN:
            head.flags |= LJ_NEW_UPDATED
    if old != NULL:
        head.flags |= LJ_HAS_OLD
        old_payload = sq.sqlite3_value_blob(old[1])
        head.old_len = <uint32_t>sq.sqlite3_value_bytes(old[1])
        head.old_ts = sq.sqlite3_value_int64(old[2])
        if sq.sqlite3_value_int64(old[3]) == 2:
            head.flags |= LJ_OLD_UPDATED
        if sq.sqlite3_value_type(old[4]) != sq.SQLITE_NULL:
            head.flags |= LJ_OLD_CHANGES
            old_changes = sq.sqlite3_value_blob(old[4])
            head.old_changes_len = <uint32_t>sq.sqlite3_value_bytes(old[4])
    if lj_change_append(
            &s.changes, &head, row.key, row.payload, row.extra, old_payload, old_changes) < 0:
        return sq.SQLITE_NOMEM
    return sq.SQLITE_OK


cdef bint _is_as_written(_Shard *s, sq.sqlite3_value **old) noexcept nogil:
    """Does the old version's checksum fit? A damaged one must neither be replaced, which would hide the
    damage, nor reach the joins as the old version."""
    cdef LjRow *row = s.row
    cdef const void *payload = sq.sqlite3_value_blob(old[1])
    cdef uint32_t payload_len = <uint32_t>sq.sqlite3_value_bytes(old[1])
    cdef const void *changes = NULL
    cdef uint32_t changes_len = LJ_NO_EXTRA
    if sq.sqlite3_value_type(old[4]) != sq.SQLITE_NULL:
        changes = sq.sqlite3_value_blob(old[4])
        changes_len = <uint32_t>sq.sqlite3_value_bytes(old[4])
    return sq.sqlite3_value_int64(old[5]) == lj_row_checksum(
        0, row.head.table, <uint32_t>sq.sqlite3_value_int64(old[3]), sq.sqlite3_value_int64(old[2]),
        row.key, row.head.key_len, payload, payload_len, changes, changes_len)


cdef bint _outlives(LjRow *row, sq.sqlite3_value **old) noexcept nogil:
    """Is the stored row another version than the one that an expiry means?"""
    if row.head.flags & LJ_EXACT:
        return sq.sqlite3_value_int64(old[5]) != row.head.timestamp_ms
    return sq.sqlite3_value_int64(old[2]) > row.head.timestamp_ms  # written again since then


cdef void _replace(sq.sqlite3_context *context, int count, sq.sqlite3_value **old) noexcept nogil:
    """SQL function lj_replace(id, payload, timestamp_ms, op, changes, checksum): may `s.row` replace
    this row?"""
    cdef _Shard *s = <_Shard *>sq.sqlite3_user_data(context)
    cdef LjRow *row = s.row
    cdef const void *payload
    s.found = True
    if s.checksums and not _is_as_written(s, old):
        sq.sqlite3_result_error(context, b"a row fails its checksum", -1)
        sq.sqlite3_result_error_code(context, sq.SQLITE_CORRUPT)
        return
    if row.head.flags & LJ_EXPIRE and _outlives(row, old):
        sq.sqlite3_result_int(context, 0)
        return
    if s.drop_noops and row.head.kind == LJ_UPSERT:
        payload = sq.sqlite3_value_blob(old[1])
        if (<uint32_t>sq.sqlite3_value_bytes(old[1]) == row.head.payload_len
                # SQLite gives no pointer for an empty value, and memcmp must not be asked about none.
                and (row.head.payload_len == 0 or memcmp(payload, row.payload, row.head.payload_len) == 0)):
            s.unchanged += 1
            sq.sqlite3_result_int(context, 0)
            return
    if s.versions and _note(s, sq.sqlite3_value_int64(old[0]), old) != sq.SQLITE_OK:
        sq.sqlite3_result_error_nomem(context)
        return
    s.wrote = s.replaced = True
    sq.sqlite3_result_int(context, 1)


cdef int _bind_version(sq.sqlite3_stmt *stmt, LjRow *row, _Options *o) noexcept nogil:
    cdef const uint8_t *extra = row.extra if row.head.extra_len else NULL
    cdef uint32_t op = 2 if row.head.flags & LJ_KNOWN else 1
    cdef int64_t inserted = 0, updated = 0
    if o.checksums:
        inserted = lj_row_seal(row.hash, op)
        updated = lj_row_seal(row.hash, 2)
    return (
        sq.sqlite3_bind_text(stmt, 3, <const char *>row.payload, <int>row.head.payload_len, sq.SQLITE_STATIC)
        or sq.sqlite3_bind_int64(stmt, 4, row.head.timestamp_ms)
        or sq.sqlite3_bind_text(stmt, 5, <const char *>extra, <int>row.head.extra_len, sq.SQLITE_STATIC)
        or sq.sqlite3_bind_int64(stmt, 6, inserted)
        or sq.sqlite3_bind_int64(stmt, 7, updated)
        or sq.sqlite3_bind_int64(stmt, 8, op)
    )


cdef int _apply_topic(_Shard *s, _Table *t, LjRow *row, _Options *o) noexcept nogil:
    cdef bint upsert = row.head.kind == LJ_UPSERT
    cdef sq.sqlite3_stmt *stmt = t.upsert if upsert else t.remove
    cdef int rc = sq.sqlite3_bind_text(
        stmt, 2, <const char *>row.key, <int>row.head.key_len, sq.SQLITE_STATIC)
    s.row = row
    s.found = o.plain
    s.replaced = False
    if rc == sq.SQLITE_OK and upsert:
        rc = _bind_version(stmt, row, o)
        if rc == sq.SQLITE_OK and not o.plain:
            rc = sq.sqlite3_bind_int64(stmt, 1, t.next_id)
    rc = rc or _run(stmt)
    if o.plain:
        s.wrote = True
    elif rc == sq.SQLITE_OK and upsert and not s.found:
        s.wrote = True
        t.next_id += 1
        if s.versions:
            rc = _note(s, t.next_id - 1, NULL)
    elif rc == sq.SQLITE_OK and not upsert and o.kept[row.head.table] & KEEPS_DELETES:
        rc = _drop_delete(s, t, row) if row.head.flags & LJ_EXPIRE else _note_delete(s, t, row)
    return rc


cdef int _note_delete(_Shard *s, _Table *t, LjRow *row) noexcept nogil:
    """Keep that the key of an archived topic was deleted: the archive may have a version of it, whether
    there was a row or not. Where there was none, an earlier delete is still the one that counts."""
    cdef int rc = (
        _compile(
            s, b"INSERT INTO d%u(key,payload,timestamp_ms,op,checksum) VALUES(?1,'',?2,3,?3) ON CONFLICT(key)"
            b" DO UPDATE SET timestamp_ms=?2,checksum=?3 WHERE ?4", row.head.table, &t.note_delete)
        or sq.sqlite3_bind_text(
            t.note_delete, 1, <const char *>row.key, <int>row.head.key_len, sq.SQLITE_STATIC)
        or sq.sqlite3_bind_int64(t.note_delete, 2, row.head.timestamp_ms)
        or sq.sqlite3_bind_int64(t.note_delete, 3, lj_row_checksum(
            0, row.head.table, 3, row.head.timestamp_ms, row.key, row.head.key_len, b"", 0, NULL, LJ_NO_EXTRA))
        or sq.sqlite3_bind_int64(t.note_delete, 4, s.found)
        or _run(t.note_delete)
    )
    s.wrote = s.wrote or sq.sqlite3_changes(s.db) != 0
    return rc


cdef int _drop_delete(_Shard *s, _Table *t, LjRow *row) noexcept nogil:
    """A delete that the archive has, or that was before the row which has just moved there: were it moved
    after that row, it would hide it."""
    cdef int rc = (
        _compile(s, b"DELETE FROM d%u WHERE key=?1 AND (checksum=?2 OR ?3)", row.head.table, &t.drop_delete)
        or sq.sqlite3_bind_text(
            t.drop_delete, 1, <const char *>row.key, <int>row.head.key_len, sq.SQLITE_STATIC)
        or sq.sqlite3_bind_int64(t.drop_delete, 2, row.head.timestamp_ms)
        or sq.sqlite3_bind_int64(t.drop_delete, 3, s.replaced)
        or _run(t.drop_delete)
    )
    s.wrote = s.wrote or sq.sqlite3_changes(s.db) != 0
    return rc


cdef int _apply_state(_Shard *s, _Table *t, LjRow *row, _Options *o) noexcept nogil:
    cdef const uint8_t *payload = row.payload if row.head.payload_len else NULL
    cdef sq.sqlite3_stmt *stmt = t.upsert if row.head.kind == LJ_STATE_UPSERT else t.remove
    cdef int64_t checksum
    cdef int rc = sq.sqlite3_bind_text(stmt, 1, <const char *>row.key, <int>row.head.key_len, sq.SQLITE_STATIC)
    s.wrote = True
    if rc == sq.SQLITE_OK and stmt == t.upsert:
        checksum = lj_row_checksum(
            1, row.head.table, 0, 0, row.key, row.head.key_len, row.payload, row.head.payload_len,
            row.extra, row.head.extra_len)
        rc = (
            sq.sqlite3_bind_blob(stmt, 2, row.extra, <int>row.head.extra_len, sq.SQLITE_STATIC)
            or sq.sqlite3_bind_text(stmt, 3, <const char *>payload, <int>row.head.payload_len, sq.SQLITE_STATIC)
            or sq.sqlite3_bind_int64(stmt, 4, checksum)
        )
    return rc or _run(stmt)


# --- shards -------------------------------------------------------------------------------------

cdef int _apply_rows(_Shard *s, _Options *o, _Failure *failure) noexcept nogil:
    cdef size_t at = 0
    cdef LjRow row
    cdef _Table *t = NULL
    cdef bint state
    cdef char doing[40]
    cdef int rc
    while at < s.entries.len:
        row = lj_fold(&s.entries, at, &at)
        state = row.head.kind >= LJ_STATE_UPSERT
        rc = _table(s, state, row.head.table, &t)
        if rc == sq.SQLITE_OK:
            rc = _apply_state(s, t, &row, o) if state else _apply_topic(s, t, &row, o)
        if rc != sq.SQLITE_OK:
            snprintf(doing, sizeof(doing), b"table %c%u", <int>(b"s"[0] if state else b"t"[0]), <unsigned int>row.head.table)
            return _fail(failure, s, rc, doing)
    return sq.SQLITE_OK


cdef int _append_record(_Shard *s, _Options *o) noexcept nogil:
    """Insert the batch record, and delete those that are applied, in the open transaction."""
    cdef int rc
    s.body.len = 0
    if lj_change_elide(&s.body, s.changes.data, s.changes.len) < 0:
        return sq.SQLITE_NOMEM
    if s.messages.len:
        if lj_buffer_reserve(&s.body, s.messages.len) < 0:
            return sq.SQLITE_NOMEM
        memcpy(s.body.data + s.body.len, s.messages.data, s.messages.len)
        s.body.len += s.messages.len
    rc = (
        sq.sqlite3_bind_int64(s.record, 1, o.seq)
        or sq.sqlite3_bind_blob64(
            s.record, 2, s.body.data if s.body.data else <const void *>b"", s.body.len, sq.SQLITE_STATIC)
        or sq.sqlite3_bind_int64(s.record, 3, <int64_t>lj_xxh64(s.body.data, s.body.len, <unsigned long long>o.seq))
        or _run(s.record)
    )
    if rc == sq.SQLITE_OK and s.trim_to > s.trimmed:
        s.trimming = s.trim_to
        rc = sq.sqlite3_bind_int64(s.trim, 1, s.trimming) or _run(s.trim)
    return rc


cdef int _end(_Shard *s) noexcept nogil:
    """Leave no transaction open. SQLite may have rolled back already (disk full, I/O error)."""
    if sq.sqlite3_get_autocommit(s.db) == 0:
        _run(s.rollback)  # even when it says no, the transaction ends: looked at in the next line
    return sq.SQLITE_OK if sq.sqlite3_get_autocommit(s.db) else sq.SQLITE_ERROR


cdef int _apply_shard(_Shard *s, _Options *o, _Failure *failure) noexcept nogil:
    cdef int rc
    s.drop_noops = o.drop_noops
    s.versions = o.want_changes or o.records
    lj_entries_sort(&s.entries)
    rc = _run(s.begin)
    if rc != sq.SQLITE_OK:
        return _fail(failure, s, rc, b"begin")
    rc = _apply_rows(s, o, failure)
    s.wrote = s.wrote or s.messages.len != 0
    if rc == sq.SQLITE_OK and s.wrote and o.records:
        rc = _append_record(s, o)
        if rc != sq.SQLITE_OK:
            _fail(failure, s, rc, b"table batches")
    if rc == sq.SQLITE_OK and not s.wrote:
        rc = _end(s)
    return rc


cdef int _count_pages(void *context, sq.sqlite3 *db, const char *name, int pages) noexcept nogil:
    """SQLite's WAL hook, called after each commit. It takes the place of automatic checkpoints."""
    (<_Shard *>context).wal_pages = pages
    return sq.SQLITE_OK


cdef void _forget(_Shard *s) noexcept nogil:
    """Drop what a shard would have reported; its transaction is over."""
    s.changes.len = 0
    s.messages.len = 0
    s.rows = 0
    s.unchanged = 0
    s.wrote = False


cdef int _give_up(_Shard *s, int rc, _Failure *failure) noexcept nogil:
    """Roll back a shard whose disk is full, so that the others go on. Any other code stays a failure."""
    cdef int ended = _end(s)
    if rc & 0xff != sq.SQLITE_FULL or ended != sq.SQLITE_OK:
        return rc
    _forget(s)
    s.full = True
    failure.rc = 0
    return sq.SQLITE_OK


cdef int _apply_all(_Shard *shards, int count, _Options *o, _Failure *failure) noexcept nogil:
    cdef int i, rc
    for i in range(count):
        if shards[i].entries.len:
            rc = _apply_shard(&shards[i], o, failure)
            if rc != sq.SQLITE_OK:
                rc = _give_up(&shards[i], rc, failure)
                if rc != sq.SQLITE_OK:
                    return rc
    return sq.SQLITE_OK


cdef int _commit_one(_Shard *s, _Failure *failure) noexcept nogil:
    cdef int rc = _run(s.commit)
    if rc == sq.SQLITE_OK:
        s.trimmed = s.trimming
        return rc
    _fail(failure, s, rc, b"commit")
    return _give_up(s, rc, failure)


cdef void *_commit_task(void *item) noexcept nogil:
    cdef _Commit *task = <_Commit *>item
    task.rc = _commit_one(task.shard, &task.failure)
    return NULL


cdef int _commit_all(_Shard *shards, int count, _Failure *failure) noexcept nogil:
    """One after the other: without a sync a commit is a write into the page cache."""
    cdef int i, rc
    for i in range(count):
        if shards[i].wrote:
            rc = _commit_one(&shards[i], failure)
            if rc != sq.SQLITE_OK:
                return rc
    return sq.SQLITE_OK


cdef int _commit_together(_Shard *shards, _Commit *tasks, int count, _Failure *failure) noexcept nogil:
    """At the same time: the syncs of several files share the file system's journal and the disk's
    queue, and take about as long as one. The first failure by shard is the one that is told.
    """
    cdef void *items[MAX_SHARDS]
    cdef int i, wrote = 0
    for i in range(count):
        if shards[i].wrote:
            tasks[wrote].shard = &shards[i]
            tasks[wrote].rc = sq.SQLITE_OK
            tasks[wrote].failure.rc = 0
            items[wrote] = &tasks[wrote]
            wrote += 1
    lj_together(_commit_task, items, wrote)
    for i in range(wrote):
        if tasks[i].rc != sq.SQLITE_OK:
            failure[0] = tasks[i].failure
            return tasks[i].rc
    return sq.SQLITE_OK


cdef void _rollback_all(_Shard *shards, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        _end(&shards[i])
        _forget(&shards[i])


cdef int _keep(_Shard *s, LjRow *row) noexcept nogil:
    """Append a message: a change row of its own kind, whose id is 0."""
    cdef LjChange head
    memset(&head, 0, sizeof(head))
    head.topic = row.head.table
    head.shard = <uint8_t>s.number
    head.flags = LJ_HAS_NEW | LJ_MESSAGE
    head.new_ts = row.head.timestamp_ms
    head.key_len = row.head.key_len
    head.new_len = row.head.payload_len
    return lj_change_append(&s.messages, &head, row.key, row.payload, NULL, NULL, NULL)


cdef uint64_t _hash(LjRow *row) noexcept nogil:
    """Of a topic's new version, all but the op. Computed while the rows are checked, and not when one is
    written: row after row without SQLite in between it takes half the time."""
    cdef const uint8_t *extra = row.extra if row.head.extra_len else NULL
    return lj_row_hash(
        0, row.head.table, row.head.timestamp_ms, row.key, row.head.key_len, row.payload,
        row.head.payload_len, extra, row.head.extra_len if extra else LJ_NO_EXTRA)


cdef const char *_take_rows(
    _Shard *shards, const short *local, uint32_t shard_count, const uint8_t *kept, bint checksums,
    const uint8_t *data, size_t size, size_t *at
) noexcept nogil:
    """Check a batch and hand its rows to their shards. NULL, or what is wrong with the row at `at`."""
    cdef LjRow row
    cdef uint64_t hash
    cdef const char *reason
    cdef short i
    while at[0] < size:
        reason = lj_row_check(data + at[0], size - at[0])
        if reason != NULL:
            return reason
        row = lj_row_at(data + at[0])
        i = local[lj_fnv1a32(row.key, row.head.key_len) % shard_count]
        if i >= 0:
            hash = _hash(&row) if checksums and row.head.kind == LJ_UPSERT else 0
            if lj_entries_add(&shards[i].entries, data + at[0], hash) < 0:
                return b"out of memory"
            if row.head.kind == LJ_UPSERT and kept[row.head.table] & KEEPS_MESSAGES and _keep(&shards[i], &row) < 0:
                return b"out of memory"
            shards[i].rows += 1
        at[0] += row.head.size
    return NULL


cdef const char *_needs_left_out(
    const short *local, uint32_t shard_count, const uint8_t *data, size_t size, size_t *at, bint *needs
) noexcept nogil:
    """Does a batch have a row of a shard that was left out? NULL, or what is wrong with the row at `at`."""
    cdef LjRow row
    cdef const char *reason
    needs[0] = False
    while at[0] < size:
        reason = lj_row_check(data + at[0], size - at[0])
        if reason != NULL:
            return reason
        row = lj_row_at(data + at[0])
        if local[lj_fnv1a32(row.key, row.head.key_len) % shard_count] == LEFT_OUT:
            needs[0] = True
            return NULL
        at[0] += row.head.size
    return NULL


cdef object _error(_Failure *failure):
    rc = failure.rc
    text = f"shard {failure.shard}: {failure.message.decode('utf-8', 'replace')} (SQLite {failure.extended})"
    arguments = {"extended": failure.extended, "shard": failure.shard}
    if rc == sq.SQLITE_NOMEM:
        return MemoryError(text)
    if rc == sq.SQLITE_FULL:
        return StorageFullError(text, hint="free disk space; writing goes on by itself", **arguments)
    if rc == sq.SQLITE_IOERR:
        return StorageIOError(text, hint="check the disk (dmesg), then start again", **arguments)
    if rc in (sq.SQLITE_CORRUPT, sq.SQLITE_NOTADB):
        return CorruptionError(text, hint="restore the shard's file from a backup", **arguments)
    return StorageError(text, **arguments)


cdef class BatchWriter:
    """See the stub for the contract."""

    cdef _Shard *_shards
    cdef int _count
    cdef uint32_t _shard_count
    cdef short _local[MAX_SHARDS]
    cdef _Commit *_commits  # one a shard when they commit together, else NULL
    cdef uint8_t *_kept  # see _Options
    cdef list _connections
    cdef list _refused  # batches of this flush with a row of a shard that was left out
    cdef bint _has_left_out
    cdef _Options _options
    cdef bint _prepared
    cdef bint _busy

    def __cinit__(
            self, connections, int shard_count, *, bint together=False, bint checksums=True,
            bint records=True, bint plain=False):
        cdef int i
        if not bridge.api_pointer():
            raise RuntimeError("load_native() of litejoin.store.sqlite has not run")
        sq.lj_set_api(bridge.api_pointer())
        pairs = list(connections)
        if not 1 <= shard_count <= MAX_SHARDS or not pairs:
            raise ValueError(f"{len(pairs)} connections for {shard_count} shards")
        self._kept = <uint8_t *>calloc(TABLES, 1)
        self._shards = <_Shard *>calloc(len(pairs), sizeof(_Shard))
        if together:
            self._commits = <_Commit *>calloc(len(pairs), sizeof(_Commit))
        if self._shards == NULL or self._kept == NULL or (together and self._commits == NULL):
            raise MemoryError
        self._shard_count = <uint32_t>shard_count
        self._connections = [connection for _, connection in pairs]  # keeps the handles open
        self._options.checksums = checksums
        self._options.records = records
        self._options.plain = plain
        self._options.kept = self._kept
        for i in range(MAX_SHARDS):
            self._local[i] = ELSEWHERE
        for number, connection in pairs:
            if not 0 <= number < shard_count or self._local[number] >= 0:
                raise ValueError(f"shard {number} of {shard_count} is out of range or given twice")
            self._local[number] = <short>self._count
            self._shards[self._count].number = number
            self._shards[self._count].plain = plain
            self._shards[self._count].checksums = checksums
            self._shards[self._count].db = <sq.sqlite3 *><size_t>connection.sqlite3_pointer()
            self._count += 1
            self._open(&self._shards[self._count - 1])

    cdef int _open(self, _Shard *s) except -1:
        cdef _Failure failure
        failure.rc = 0
        cdef int flags = sq.SQLITE_UTF8 | sq.SQLITE_DIRECTONLY
        cdef int rc = (
            sq.sqlite3_create_function_v2(
                s.db, b"lj_replace", 6, flags, s, _replace, NULL, NULL, NULL)
            or _compile(s, b"BEGIN IMMEDIATE", 0, &s.begin)
            or _compile(s, b"COMMIT", 0, &s.commit)
            or _compile(s, b"ROLLBACK", 0, &s.rollback)
        )
        if rc == sq.SQLITE_OK and self._options.records:
            rc = (
                _compile(s, b"INSERT INTO batches(seq,body,checksum) VALUES(?1,?2,?3)", 0, &s.record)
                or _compile(s, b"DELETE FROM batches WHERE seq<=?1", 0, &s.trim)
            )
        if rc != sq.SQLITE_OK:
            _fail(&failure, s, rc, b"prepare")
            raise _error(&failure)
        sq.sqlite3_wal_hook(s.db, _count_pages, s)
        return 0

    def __dealloc__(self):
        self._release()

    cdef void _release(self) noexcept:
        cdef int i
        cdef _Shard *s
        for i in range(self._count):
            s = &self._shards[i]
            _drop_tables(s)
            sq.sqlite3_wal_hook(s.db, NULL, NULL)
            sq.sqlite3_create_function_v2(
                s.db, b"lj_replace", 6, sq.SQLITE_UTF8, NULL, NULL, NULL, NULL, NULL)
            sq.sqlite3_finalize(s.begin)
            sq.sqlite3_finalize(s.commit)
            sq.sqlite3_finalize(s.rollback)
            sq.sqlite3_finalize(s.record)
            sq.sqlite3_finalize(s.trim)
            free(s.tables)
            lj_entries_free(&s.entries)
            lj_buffer_free(&s.changes)
            lj_buffer_free(&s.messages)
            lj_buffer_free(&s.body)
        self._count = 0
        free(self._shards)
        self._shards = NULL
        free(self._commits)
        self._commits = NULL
        free(self._kept)
        self._kept = NULL

    def keep_messages(self, int topic):
        self._keep(topic, KEEPS_MESSAGES)

    def keep_deletes(self, int topic):
        self._keep(topic, KEEPS_DELETES)

    cdef int _keep(self, int topic, uint8_t what) except -1:
        if self._count == 0:
            raise RuntimeError("the writer is closed")
        if not 0 < topic < TABLES:
            raise ValueError(f"{topic} is not the number of a topic")
        self._kept[topic] |= what
        return 0

    def close(self):
        if self._prepared:
            self.rollback()
        self._enter(False)
        self._release()
        self._connections.clear()
        self._busy = False

    cdef int _enter(self, bint prepared) except -1:
        """One thread at a time, in the right order: a caller's mistake must not reach SQLite."""
        if self._busy:
            raise RuntimeError("the writer is in use by another thread")
        if prepared != self._prepared:
            raise RuntimeError("commit or rollback without prepare, or the other way round")
        if self._count == 0 and prepared:
            raise RuntimeError("the writer is closed")
        self._busy = True
        return 0

    def prepare(
        self, batches, long long seq, *, bint drop_noops=False, bint want_changes=True, piecewise=()
    ):
        cdef list held = list(batches)
        cdef _Failure failure
        cdef int rc
        failure.rc = 0
        if self._count == 0:
            raise RuntimeError("the writer is closed")
        self._enter(False)
        try:
            self._options.seq = seq
            self._options.drop_noops = drop_noops
            self._options.want_changes = want_changes
            self._take(held, piecewise)
            with nogil:
                rc = _apply_all(self._shards, self._count, &self._options, &failure)
                if rc != sq.SQLITE_OK:
                    _rollback_all(self._shards, self._count)
            PyErr_Clear()  # a handler in Python that raised: SQLite's code says so already
            if rc != sq.SQLITE_OK:
                raise _error(&failure)
            self._prepared = True
        finally:
            self._busy = False

    cdef int _take(self, list batches, piecewise) except -1:
        cdef int i
        self._refused = []
        for i in range(self._count):
            self._shards[i].entries.len = 0
            self._shards[i].full = False
            _forget(&self._shards[i])
        for index, batch in enumerate(batches):
            if not isinstance(batch, bytes):
                raise TypeError(f"a batch is bytes, not {type(batch).__name__}")
            if self._has_left_out and self._is_refused(index, batch) and index not in piecewise:
                continue
            self._take_batch(index, batch)
        return 0

    cdef bint _is_refused(self, index, bytes batch) except -1:
        cdef size_t at = 0
        cdef bint needs = False
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(batch)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(batch)
        cdef const char *reason
        with nogil:
            reason = _needs_left_out(self._local, self._shard_count, data, size, &at, &needs)
        if reason != NULL:
            raise ValueError(f"batch {index}, row at byte {at}: {reason.decode()}")
        if needs:
            self._refused.append(index)
        return needs

    cdef int _take_batch(self, index, bytes batch) except -1:
        cdef size_t at = 0
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(batch)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(batch)
        cdef const char *reason
        with nogil:
            reason = _take_rows(
                self._shards, self._local, self._shard_count, self._kept, self._options.checksums,
                data, size, &at)
        if reason != NULL:
            raise ValueError(f"batch {index}, row at byte {at}: {reason.decode()}")
        return 0

    def commit(self):
        cdef _Failure failure
        cdef int rc
        failure.rc = 0
        self._enter(True)
        try:
            with nogil:
                if self._commits != NULL:
                    rc = _commit_together(self._shards, self._commits, self._count, &failure)
                else:
                    rc = _commit_all(self._shards, self._count, &failure)
                if rc != sq.SQLITE_OK:
                    _rollback_all(self._shards, self._count)
            PyErr_Clear()
            if rc != sq.SQLITE_OK:
                raise _error(&failure)
            return self._result()
        finally:
            self._prepared = False
            self._busy = False

    cdef object _result(self):
        cdef int i
        cdef size_t total = 0, at = 0
        cdef int64_t rows = 0, unchanged = 0
        cdef _Shard *s
        cdef bytes changes = b""
        messages = []
        committed = []
        full = []
        for i in range(self._count):
            s = &self._shards[i]
            total += s.changes.len
            rows += s.rows
            unchanged += s.unchanged
            if s.wrote:
                committed.append(s.number)
            if s.full:
                full.append(s.number)
        if self._options.want_changes and total:
            changes = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
        for i in range(self._count):
            s = &self._shards[i]
            if self._options.want_changes and s.changes.len:
                memcpy(PyBytes_AS_STRING(changes) + at, s.changes.data, s.changes.len)
                at += s.changes.len
            if s.messages.len:
                messages.append(PyBytes_FromStringAndSize(<const char *>s.messages.data, <Py_ssize_t>s.messages.len))
            lj_buffer_trim(&s.changes, KEEP_BYTES)
            lj_buffer_trim(&s.messages, KEEP_BYTES)
            lj_buffer_trim(&s.body, KEEP_BYTES)
        return WriteResult(
            changes, rows, unchanged, tuple(committed), tuple(full), tuple(messages), tuple(self._refused))

    def rollback(self):
        self._enter(True)
        with nogil:
            _rollback_all(self._shards, self._count)
        self._prepared = False
        self._busy = False

    def write(self, batches, long long seq, *, bint drop_noops=False, bint want_changes=True):
        self.prepare(batches, seq, drop_noops=drop_noops, want_changes=want_changes)
        return self.commit()

    def trim(self, int shard, long long seq):
        if not 0 <= shard < MAX_SHARDS or self._local[shard] == ELSEWHERE:
            raise ValueError(f"shard {shard} is not in this group")
        cdef _Shard *s
        if self._local[shard] >= 0:
            s = &self._shards[self._local[shard]]
            if seq > s.trim_to:
                s.trim_to = seq

    def leave_out(self, int shard):
        if not 0 <= shard < MAX_SHARDS or self._local[shard] == ELSEWHERE:
            raise ValueError(f"shard {shard} is not in this group")
        self._enter(False)
        if self._local[shard] >= 0:
            _drop_tables(&self._shards[self._local[shard]])
            self._shards[self._local[shard]].entries.len = 0
            _forget(&self._shards[self._local[shard]])
            self._local[shard] = LEFT_OUT
            self._has_left_out = True
        self._busy = False

    def wal_pages(self):
        cdef int i
        return {self._shards[i].number: self._shards[i].wal_pages for i in range(self._count)}
