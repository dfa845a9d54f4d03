"""Evaluates joins: runs their delta queries and appends what changed to the results log.

For one join and one flush: the affected result keys are collected in "lj:affected" (by `affect`),
the refresh query recomputes their rows, rows are grouped by key, each group is compared by hash
with the stored result state, and what differs is written to `state` and `log` (by `refresh`). All
of it without the GIL; the caller owns the transaction on the state database. Reads come first: when
the user's query fails, nothing has been written.

The hash of a group is a sum of the XXH64 of its rows' JSON, so that the order in which SQLite
happens to find rows does not matter; a query with its own ORDER BY chains them instead. Keys are
compared by their JSON text, where a real with a whole value is written as an integer, as SQL
compares them. This is one file because modules here cannot share cdef code.
"""

from cpython.exc cimport PyErr_Occurred
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memset

from csqlite3 cimport *
from buffer cimport lj_buffer_free
from native_sink cimport LJ_NATIVE_STATE, LJ_NATIVE_UNSURE, LjNativeJoin, LjSink
from json_out cimport (lj_is_json, lj_out, lj_put, lj_put_hex, lj_put_integer, lj_put_real,
lj_put_text)
from map_hash cimport lj_map_hash, lj_set_map_secret
from whole cimport lj_is_whole
from xxh64 cimport lj_xxh64

from litejoin._ext import bridge
from litejoin.errors import QueryError, StorageError, StorageFullError, StorageIOError

cdef enum:
    UPSERT = 1
    DELETE = 2
    # A current result that nobody is told of: store/log.py leaves it out of what it delivers.
    RECORDED = 3

# What a refresh does with the differences it finds, as `refresh` is told.
cdef enum:
    EMIT = 0
    EMIT_DIFFERENCES = 1
    RECORD_DIFFERENCES = 2

# The evaluator's own statements, as indexes into `own`.
cdef enum:
    SELECT_AFFECTED
    CLEAR_AFFECTED
    ALL_STATE
    PUT_STATE
    DELETE_STATE
    APPEND_LOG
    DELETE_LOG
    OWN_STATEMENTS

cdef const char *SQL_SELECT_AFFECTED = 'SELECT v FROM "lj:affected"'
cdef const char *SQL_CLEAR_AFFECTED = 'DELETE FROM "lj:affected"'
cdef const char *SQL_ALL_STATE = "SELECT key, hash FROM state WHERE join_id = ?1"
# Finding the old state first would cost a second descent into the table; so the statements show it to
# lj_stored, which notes it and says whether to go on.
cdef const char *SQL_PUT_STATE = (
    "INSERT INTO state(join_id, key, hash, pos) VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
    " SET hash = excluded.hash, pos = excluded.pos WHERE lj_stored(hash, pos)")
cdef const char *SQL_DELETE_STATE = (
    "DELETE FROM state WHERE join_id = ?1 AND key = ?2 AND lj_stored(hash, pos)")
cdef const char *SQL_APPEND_LOG = (
    "INSERT INTO log(pos, join_id, op, emit_at_ms, key, rows) VALUES(?1, ?2, ?3, ?4, ?5, ?6)")

cdef const char *SQL_DELETE_LOG = "DELETE FROM log WHERE pos = ?1"

# The JSON of one result: what a sink is sent at once, and what fits a value of state.db by far.
cdef size_t MAX_RESULT_BYTES = 64 * 1024 * 1024

# SQLITE_LIMIT_LENGTH
cdef int LIMIT_LENGTH = 0

# Memory that a refresh leaves behind for the next one.
cdef size_t KEPT_BYTES = 8 * 1024 * 1024

# A row of a group: its JSON in the arena, chained in the order of arrival.
cdef struct RowPart:
    size_t at
    size_t size
    uint32_t next

cdef struct Group:
    size_t key_at
    uint32_t key_size
    uint32_t rows
    uint32_t first
    uint32_t last
    size_t size
    uint64_t hash
    # Only where all keys of a join are compared.
    bint known
    int64_t old_hash

cdef struct Groups:
    # Everything a refresh has read. Offsets, not pointers: the arena moves as it grows.
    lj_out arena
    Group *items
    uint32_t n
    uint32_t cap
    RowPart *parts
    uint32_t n_parts
    uint32_t cap_parts
    uint32_t *slots
    uint32_t mask
    size_t max_bytes
    bint too_large
    bint failed

cdef struct Join:
    int64_t id
    int key_index
    int n_columns
    lj_out *names
    uint8_t *is_json
    bint ordered
    bint emit_all
    bint emit_deletes
    bint full
    sqlite3_stmt *refresh
    sqlite3_stmt *refresh_null
    sqlite3_stmt **affected
    int n_affected

# What a statement on `state` is about: in, the hash of the new result, and whether an equal one goes as
# well; out, the position of the old one, if there was one.
cdef struct Stored:
    int64_t hash
    bint takes_equal
    bint known
    int64_t pos


cdef void note_stored(sqlite3_context *context, int count, sqlite3_value **old) noexcept nogil:
    cdef Stored *stored = <Stored *>sqlite3_user_data(context)
    stored.known = True
    stored.pos = sqlite3_value_int64(old[1])
    sqlite3_result_int(context, stored.takes_equal or sqlite3_value_int64(old[0]) != stored.hash)


# Where a failure came from: the user's query on the host, or our statements on the state database.
cdef enum:
    FAILED_QUERY = -1
    FAILED_STATE = -2
    FAILED_MEMORY = -3


# ---------------------------------------------------------------- groups

cdef void groups_reset(Groups *g, size_t max_bytes) noexcept nogil:
    g.max_bytes = max_bytes
    g.too_large = False
    g.arena.buffer.len = 0
    g.arena.failed = 0
    g.n = 0
    g.n_parts = 0
    g.failed = False
    if g.slots != NULL:
        memset(g.slots, 0, (<size_t>g.mask + 1) * sizeof(uint32_t))


cdef void groups_free(Groups *g) noexcept nogil:
    lj_buffer_free(&g.arena.buffer)
    free(g.items)
    free(g.parts)
    free(g.slots)
    memset(g, 0, sizeof(Groups))


cdef bint groups_rehash(Groups *g) noexcept nogil:
    cdef uint32_t size = (g.mask + 1) * 2 if g.slots != NULL else 1024
    cdef uint32_t *slots = <uint32_t *>calloc(size, sizeof(uint32_t))
    cdef uint32_t i, slot
    if slots == NULL:
        return False
    free(g.slots)
    g.slots = slots
    g.mask = size - 1
    for i in range(g.n):
        slot = <uint32_t>lj_map_hash(g.arena.buffer.data + g.items[i].key_at, g.items[i].key_size, 0) & g.mask
        while slots[slot]:
            slot = (slot + 1) & g.mask
        slots[slot] = i + 1
    return True


cdef Group *group_of(Groups *g, size_t key_at, bint create) noexcept nogil:
    """The group of the key that was just written at the arena's end; the key is taken back when
    known."""
    cdef uint32_t size = <uint32_t>(g.arena.buffer.len - key_at)
    cdef uint32_t slot
    cdef Group *group
    cdef Group *more
    if g.arena.failed or ((g.slots == NULL or g.n * 2 >= g.mask) and not groups_rehash(g)):
        g.failed = True
        return NULL
    slot = <uint32_t>lj_map_hash(g.arena.buffer.data + key_at, size, 0) & g.mask
    while g.slots[slot]:
        group = &g.items[g.slots[slot] - 1]
        if group.key_size == size and memcmp(g.arena.buffer.data + group.key_at, g.arena.buffer.data + key_at,
        size) == 0:
            g.arena.buffer.len = key_at
            return group
        slot = (slot + 1) & g.mask
    if not create:
        g.arena.buffer.len = key_at
        return NULL
    if g.n == g.cap:
        more = <Group *>realloc(g.items, (<size_t>g.cap * 2 + 256) * sizeof(Group))
        if more == NULL:
            g.failed = True
            return NULL
        g.items = more
        g.cap = g.cap * 2 + 256
    group = &g.items[g.n]
    memset(group, 0, sizeof(Group))
    group.key_at = key_at
    group.key_size = size
    g.n += 1
    g.slots[slot] = g.n
    return group


cdef bint group_add(Groups *g, Group *group, size_t row_at, uint64_t hashed, bint ordered) noexcept nogil:
    """Add the row that was just written at the arena's end."""
    cdef RowPart *more
    cdef size_t size = g.arena.buffer.len - row_at
    if g.arena.failed:
        return False
    group.size += size
    if g.arena.buffer.len > g.max_bytes or group.size > MAX_RESULT_BYTES:
        g.too_large = True
        return False
    if g.n_parts == g.cap_parts:
        more = <RowPart *>realloc(g.parts, (<size_t>g.cap_parts * 2 + 256) * sizeof(RowPart))
        if more == NULL:
            return False
        g.parts = more
        g.cap_parts = g.cap_parts * 2 + 256
    g.parts[g.n_parts].at = row_at
    g.parts[g.n_parts].size = size
    g.parts[g.n_parts].next = 0
    g.n_parts += 1
    if group.rows:
        g.parts[group.last - 1].next = g.n_parts
    else:
        group.first = g.n_parts
    group.last = g.n_parts
    group.rows += 1
    group.hash = hashed if ordered else group.hash + hashed
    return True


# ---------------------------------------------------------------- what the native level hands over

cdef int sink_want(void *context, const void *key, size_t size) noexcept nogil:
    cdef Groups *g = <Groups *>context
    cdef size_t at = g.arena.buffer.len
    lj_put(&g.arena, key, size)
    return 0 if group_of(g, at, True) != NULL else -1


cdef int sink_row(void *context, const void *key, size_t key_size, const void *row, size_t row_size,
                  uint64_t hashed) noexcept nogil:
    """Rows of keys that nobody asked for are left out."""
    cdef Groups *g = <Groups *>context
    cdef size_t at = g.arena.buffer.len
    cdef Group *group
    lj_put(&g.arena, key, key_size)
    group = group_of(g, at, False)
    if group == NULL:
        return -1 if g.failed else 0
    at = g.arena.buffer.len
    lj_put(&g.arena, row, row_size)
    return 0 if group_add(g, group, at, hashed, False) else -1


# ---------------------------------------------------------------- values to JSON

cdef bint is_whole(sqlite3_stmt *stmt, int column) noexcept nogil:
    """A real that SQL and JSON take for an integer."""
    return sqlite3_column_type(stmt, column) == SQLITE_FLOAT and lj_is_whole(sqlite3_column_double(stmt, column))


cdef void put_value(lj_out *out, sqlite3_stmt *stmt, int column, bint is_json) noexcept nogil:
    cdef int kind = sqlite3_column_type(stmt, column)
    cdef const char *text
    cdef size_t size
    if kind == SQLITE_NULL:
        lj_put(out, "null", 4)
    elif kind == SQLITE_INTEGER:
        lj_put_integer(out, sqlite3_column_int64(stmt, column))
    elif kind == SQLITE_FLOAT:
        lj_put_real(out, sqlite3_column_double(stmt, column))
    elif kind == SQLITE_TEXT:
        text = <const char *>sqlite3_column_text(stmt, column)
        size = <size_t>sqlite3_column_bytes(stmt, column)
        if is_json and lj_is_json(text, size):
            lj_put(out, text, size)
        else:
            lj_put_text(out, text, size)
    else:
        text = <const char *>sqlite3_column_blob(stmt, column)
        lj_put_hex(out, text, <size_t>sqlite3_column_bytes(stmt, column))


cdef void put_key(lj_out *out, sqlite3_stmt *stmt, int column) noexcept nogil:
    if is_whole(stmt, column):
        lj_put_integer(out, <int64_t>sqlite3_column_double(stmt, column))
    else:
        put_value(out, stmt, column, False)


cdef void put_row(lj_out *out, Join *join, sqlite3_stmt *stmt) noexcept nogil:
    cdef int i
    for i in range(join.n_columns):
        lj_put(out, join.names[i].buffer.data, join.names[i].buffer.len)
        put_value(out, stmt, i, join.is_json[i])
    lj_put(out, "}", 1)


cdef uint64_t row_hash(lj_out *scratch, Join *join, sqlite3_stmt *stmt, const void *row, size_t size,
                       uint64_t seed) noexcept nogil:
    """Hash of the row's JSON with 1.0 as 1: a change from one to the other is none to a reader."""
    cdef int i
    cdef bint differs = False
    for i in range(join.n_columns):
        differs = differs or is_whole(stmt, i)
    if not differs:
        return lj_xxh64(row, size, seed)
    scratch.buffer.len = 0
    for i in range(join.n_columns):
        lj_put(scratch, join.names[i].buffer.data, join.names[i].buffer.len)
        if is_whole(stmt, i):
            put_key(scratch, stmt, i)
        else:
            put_value(scratch, stmt, i, join.is_json[i])
    lj_put(scratch, "}", 1)
    return lj_xxh64(scratch.buffer.data, scratch.buffer.len, seed)


# ---------------------------------------------------------------- reading

cdef int read_affected(Groups *g, sqlite3_stmt *stmt, bint *has_null) noexcept nogil:
    cdef int rc
    cdef size_t at
    has_null[0] = False
    while True:
        rc = sqlite3_step(stmt)
        if rc != SQLITE_ROW:
            sqlite3_reset(stmt)
            return SQLITE_OK if rc == SQLITE_DONE else rc
        if sqlite3_column_type(stmt, 0) == SQLITE_NULL:
            has_null[0] = True
        at = g.arena.buffer.len
        put_key(&g.arena, stmt, 0)
        if group_of(g, at, True) == NULL:
            sqlite3_reset(stmt)
            return SQLITE_NOMEM


cdef int read_rows(Groups *g, lj_out *scratch, Join *join, sqlite3_stmt *stmt) noexcept nogil:
    """Add the query's rows to their groups; rows of keys that nobody asked for are left out."""
    cdef int rc
    cdef size_t at
    cdef uint64_t hashed
    cdef Group *group
    while True:
        rc = sqlite3_step(stmt)
        if rc != SQLITE_ROW:
            sqlite3_reset(stmt)
            return SQLITE_OK if rc == SQLITE_DONE else rc
        at = g.arena.buffer.len
        put_key(&g.arena, stmt, join.key_index)
        group = group_of(g, at, join.full)
        if group == NULL:
            if g.failed:
                sqlite3_reset(stmt)
                return SQLITE_NOMEM
            continue
        at = g.arena.buffer.len
        put_row(&g.arena, join, stmt)
        hashed = row_hash(scratch, join, stmt, g.arena.buffer.data + at, g.arena.buffer.len - at,
                          group.hash if join.ordered else 0)
        if scratch.failed or not group_add(g, group, at, hashed, join.ordered):
            sqlite3_reset(stmt)
            return SQLITE_TOOBIG if g.too_large else SQLITE_NOMEM


cdef class Evaluator:
    """Joins over one host connection (topic tables) and one state connection (state, log).

    Both are apsw connections that stay open until `close`. One thread at a time.
    """

    cdef sqlite3 *host_db
    cdef sqlite3 *state_db
    cdef object host
    cdef object state
    cdef Join **joins
    cdef int n_joins
    cdef Groups groups
    cdef lj_out body
    cdef int mode
    cdef Stored stored
    cdef sqlite3_stmt *own[OWN_STATEMENTS]

    def __cinit__(self, host, state):
        lj_set_api(<size_t>bridge.api_pointer())
        lj_set_map_secret(bridge.map_secret())
        self.host = host
        self.state = state
        self.host_db = <sqlite3 *><size_t>host.sqlite3_pointer()
        self.state_db = <sqlite3 *><size_t>state.sqlite3_pointer()
        memset(&self.groups, 0, sizeof(Groups))
        memset(&self.body, 0, sizeof(lj_out))
        host.execute('CREATE TABLE IF NOT EXISTS "lj:affected"(v, UNIQUE(v))')
        self.own[SELECT_AFFECTED] = self._prepare(self.host_db, SQL_SELECT_AFFECTED, "affected keys")
        self.own[CLEAR_AFFECTED] = self._prepare(self.host_db, SQL_CLEAR_AFFECTED, "affected keys")
        self.own[ALL_STATE] = self._prepare(self.state_db, SQL_ALL_STATE, "state")
        if sqlite3_create_function_v2(self.state_db, b"lj_stored", 2, SQLITE_UTF8 | SQLITE_DIRECTONLY, &self.stored,
                                      &note_stored, NULL, NULL, NULL) != SQLITE_OK:
            raise QueryError(f"state: {sqlite3_errmsg(self.state_db).decode('utf-8', 'replace')}")
        self.own[PUT_STATE] = self._prepare(self.state_db, SQL_PUT_STATE, "state")
        self.own[DELETE_STATE] = self._prepare(self.state_db, SQL_DELETE_STATE, "state")
        self.own[APPEND_LOG] = self._prepare(self.state_db, SQL_APPEND_LOG, "log")
        self.own[DELETE_LOG] = self._prepare(self.state_db, SQL_DELETE_LOG, "log")

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef int i, j
        cdef Join *join
        for i in range(self.n_joins):
            join = self.joins[i]
            sqlite3_finalize(join.refresh)
            sqlite3_finalize(join.refresh_null)
            for j in range(join.n_affected):
                sqlite3_finalize(join.affected[j])
            for j in range(join.n_columns):
                lj_buffer_free(&join.names[j].buffer)
            free(join.names)
            free(join.is_json)
            free(join.affected)
            free(join)
        free(self.joins)
        self.joins = NULL
        self.n_joins = 0
        if self.own[PUT_STATE] != NULL:
            sqlite3_create_function_v2(
                self.state_db, b"lj_stored", 2, SQLITE_UTF8, NULL, NULL, NULL, NULL, NULL)
        for i in range(OWN_STATEMENTS):
            sqlite3_finalize(self.own[i])
            self.own[i] = NULL
        groups_free(&self.groups)
        lj_buffer_free(&self.body.buffer)
        memset(&self.body, 0, sizeof(lj_out))

    cdef sqlite3_stmt *_prepare(self, sqlite3 *db, bytes sql, str what) except NULL:
        cdef sqlite3_stmt *stmt = NULL
        cdef int rc = sqlite3_prepare_v3(db, sql, <int>len(sql), SQLITE_PREPARE_PERSISTENT, &stmt,
        NULL)
        if rc != SQLITE_OK or stmt == NULL:
            message = sqlite3_errmsg(db).decode("utf-8", "replace")
            raise QueryError(f"{what}: {message}")
        return stmt

    def add_join(self, join_id: int, columns, key_index: int, *, json_columns=(), ordered=False,
    emit_all=False,
                 emit_deletes=True, refresh_sql: str, refresh_null_sql=None, affected_sql=(),
                 full=False) -> int:
        """Compile a join; returns its handle. Raises QueryError when SQLite refuses one of its
        statements.

        `columns`: the names of the result columns. `affected_sql`: one SELECT of result keys a
        reference.
        `full`: `refresh_sql` is the whole query and every key of the join is compared.
        """
        cdef Join *join = <Join *>calloc(1, sizeof(Join))
        cdef Join **more = <Join **>realloc(self.joins, (self.n_joins + 1) * sizeof(Join *))
        cdef bytes prefix
        cdef int i
        if join == NULL or more == NULL:
            free(join)
            raise MemoryError
        self.joins = more
        self.joins[self.n_joins] = join
        self.n_joins += 1
        columns = list(columns)
        affected_sql = list(affected_sql)
        join.id = join_id
        join.key_index = key_index
        join.ordered = ordered
        join.emit_all = emit_all
        join.emit_deletes = emit_deletes
        join.full = full
        join.names = <lj_out *>calloc(len(columns) + 1, sizeof(lj_out))
        join.is_json = <uint8_t *>calloc(len(columns) + 1, 1)
        join.affected = <sqlite3_stmt **>calloc(len(affected_sql) + 1, sizeof(sqlite3_stmt *))
        if join.names == NULL or join.is_json == NULL or join.affected == NULL:
            raise MemoryError
        for i, name in enumerate(columns):
            join.n_columns = i + 1
            lj_put(&join.names[i], "," if i else "{", 1)
            prefix = name.encode()
            lj_put_text(&join.names[i], prefix, len(prefix))
            lj_put(&join.names[i], ":", 1)
            join.is_json[i] = name in json_columns
        join.refresh = self._prepare(self.host_db, refresh_sql.encode(), "refresh query")
        if refresh_null_sql is not None:
            join.refresh_null = self._prepare(self.host_db, refresh_null_sql.encode(), "refresh query")
        for sql in affected_sql:
            text = f'INSERT OR IGNORE INTO "lj:affected"(v) {sql}'
            join.affected[join.n_affected] = self._prepare(self.host_db, text.encode(), "affected keys")
            join.n_affected += 1
        if sqlite3_column_count(join.refresh) != join.n_columns or not 0 <= key_index < join.n_columns:
            raise QueryError(f"the query returns {sqlite3_column_count(join.refresh)} columns,"
                             f" {join.n_columns} were planned")
        return self.n_joins - 1

    def affect(self, handle: int, reference: int) -> None:
        """Collect the result keys that the applied changes of one reference touch. Raises
        QueryError."""
        cdef sqlite3_stmt *stmt = self.joins[handle].affected[reference]
        cdef int rc
        with nogil:
            rc = sqlite3_step(stmt)
            sqlite3_reset(stmt)
        if rc != SQLITE_DONE:
            self._query_failed(rc)

    def affected(self) -> list:
        """The keys collected so far, as SQL values; for the slow path that takes them one by
        one."""
        return [row[0] for row in self.host.execute('SELECT DISTINCT v FROM "lj:affected"')]

    def set_affected(self, keys) -> None:
        """Replace the collected keys."""
        self.host.execute('DELETE FROM "lj:affected"')
        self.host.executemany('INSERT INTO "lj:affected"(v) VALUES(?)', [(key,) for key in keys])

    def refresh(self, handle: int, head: int, tail: int, emit_at_ms: int, max_bytes: int, mode: int = 0) -> int:
        """Recompute the collected keys, write what changed after log position `head`; returns the
        new head.

        An entry of the log at or below `tail` that is no longer the current result of its key is
        removed:
        every reader has passed it, and it was kept only for snapshots. The collected keys are
        cleared. `mode` 1: results that did not change are left out, whatever the join's `emit`; 2: what
        changed becomes the current result without being delivered. Raises QueryError when its results have more
        than `max_bytes` together or one of them is too large, and when the user's query fails (nothing is written
        then, and the keys stay), StorageError when the state database does.
        """
        cdef Join *join = self.joins[handle]
        cdef int64_t pos = head
        cdef int64_t at_ms = emit_at_ms
        cdef int64_t passed = tail
        cdef int rc = SQLITE_OK
        cdef int failed
        cdef bint too_large
        cdef size_t most = max_bytes
        self.mode = mode
        with nogil:
            groups_reset(&self.groups, most)
            failed = self._read(join, &rc)
            if not failed:
                failed = self._write(join, &pos, passed, at_ms, &rc)
            too_large = self.groups.too_large
            self._shrink()
        self.mode = EMIT
        if too_large:
            raise QueryError(too_large_text(max_bytes), extended=SQLITE_TOOBIG)
        if failed == FAILED_MEMORY:
            raise MemoryError
        if failed == FAILED_QUERY:
            raise_pending()
            self._query_failed(rc)
        if failed:
            self._state_failed(rc)
        return pos

    def refresh_native(self, handle: int, native: int, head: int, tail: int, emit_at_ms: int, max_bytes: int):
        """As `refresh`, with the keys and rows of a compiled native join (NativeJoins.add). Returns None,
        with nothing written, when it is not sure of a row or has too many of them: then `affect` and `refresh` are to be used."""
        cdef Join *join = self.joins[handle]
        cdef LjNativeJoin *reader = <LjNativeJoin *><size_t>native
        cdef LjSink sink
        cdef int64_t pos = head
        cdef int64_t at_ms = emit_at_ms
        cdef int64_t passed = tail
        cdef int rc = SQLITE_OK
        cdef int failed, unsure
        cdef size_t most = max_bytes
        sink.context = &self.groups
        sink.want = &sink_want
        sink.row = &sink_row
        with nogil:
            groups_reset(&self.groups, most)
            unsure = reader.read(reader, &sink)
            if self.groups.too_large:
                unsure = LJ_NATIVE_UNSURE
            failed = 0 if unsure else self._write(join, &pos, passed, at_ms, &rc)
            self._shrink()
        if unsure == LJ_NATIVE_UNSURE:
            return None
        if unsure == LJ_NATIVE_STATE:
            self._state_failed(sqlite3_extended_errcode(self.state_db))
        if unsure or failed == FAILED_MEMORY:
            raise MemoryError
        if failed:
            self._state_failed(rc)
        return pos

    cdef void _shrink(self) noexcept nogil:
        """Give back what a large refresh took."""
        if self.groups.arena.buffer.cap + self.body.buffer.cap > KEPT_BYTES:
            groups_free(&self.groups)
            lj_buffer_free(&self.body.buffer)

    cdef int _read(self, Join *join, int *rc) noexcept nogil:
        cdef bint has_null = False
        if not join.full:
            rc[0] = read_affected(&self.groups, self.own[SELECT_AFFECTED], &has_null)
            if rc[0] != SQLITE_OK:
                return FAILED_MEMORY if rc[0] == SQLITE_NOMEM else FAILED_QUERY
            if self.groups.n == 0:
                return 0
        rc[0] = read_rows(&self.groups, &self.body, join, join.refresh)
        if rc[0] == SQLITE_OK and has_null and join.refresh_null != NULL:
            rc[0] = read_rows(&self.groups, &self.body, join, join.refresh_null)
        if rc[0] != SQLITE_OK:
            return FAILED_MEMORY if rc[0] == SQLITE_NOMEM else FAILED_QUERY
        if not join.full:
            rc[0] = sqlite3_step(self.own[CLEAR_AFFECTED])
            sqlite3_reset(self.own[CLEAR_AFFECTED])
            if rc[0] != SQLITE_DONE:
                return FAILED_QUERY
        return 0

    cdef int _write(self, Join *join, int64_t *pos, int64_t tail, int64_t at_ms, int *rc) noexcept nogil:
        cdef Groups *g = &self.groups
        cdef Group *group
        cdef uint32_t i
        cdef bint takes_equal = join.emit_all and self.mode == EMIT
        if join.full:
            rc[0] = self._read_all_state(join)
            if rc[0] != SQLITE_OK:
                return FAILED_MEMORY if rc[0] == SQLITE_NOMEM else FAILED_STATE
        # In key order: neighbours share a page of the state table.
        sort_groups(g)
        for i in range(g.n):
            group = &g.items[i]
            if group.rows and group.known and group.old_hash == <int64_t>group.hash and not takes_equal:
                continue
            self.stored.takes_equal = takes_equal or group.rows == 0
            rc[0] = self._emit(join, group, pos, tail, at_ms)
            if rc[0] != SQLITE_OK:
                return FAILED_MEMORY if rc[0] == SQLITE_NOMEM else FAILED_STATE
        return 0

    cdef int _read_all_state(self, Join *join) noexcept nogil:
        """Mark the groups that have a stored result; a stored key without rows becomes an empty
        group."""
        cdef sqlite3_stmt *stmt = self.own[ALL_STATE]
        cdef Group *group
        cdef size_t at
        cdef int rc
        sqlite3_bind_int64(stmt, 1, join.id)
        while True:
            rc = sqlite3_step(stmt)
            if rc != SQLITE_ROW:
                sqlite3_reset(stmt)
                return SQLITE_OK if rc == SQLITE_DONE else rc
            at = self.groups.arena.buffer.len
            lj_put(&self.groups.arena, sqlite3_column_text(stmt, 0),
            <size_t>sqlite3_column_bytes(stmt, 0))
            group = group_of(&self.groups, at, True)
            if group == NULL:
                sqlite3_reset(stmt)
                return SQLITE_NOMEM
            group.known = True
            group.old_hash = sqlite3_column_int64(stmt, 1)

    cdef int _emit(self, Join *join, Group *group, int64_t *pos, int64_t tail, int64_t at_ms) noexcept nogil:
        """Make the group's rows the current result of its key, unless they are already."""
        cdef sqlite3_stmt *stmt = self.own[PUT_STATE if group.rows else DELETE_STATE]
        cdef int rc
        self.stored.hash = <int64_t>group.hash
        self.stored.known = False
        sqlite3_bind_int64(stmt, 1, join.id)
        sqlite3_bind_text(stmt, 2, <const char *>self.groups.arena.buffer.data + group.key_at, <int>group.key_size,
        SQLITE_STATIC)
        if group.rows:
            sqlite3_bind_int64(stmt, 3, <int64_t>group.hash)
            sqlite3_bind_int64(stmt, 4, pos[0] + 1)
        rc = sqlite3_step(stmt)
        sqlite3_reset(stmt)
        if rc != SQLITE_DONE:
            return rc
        if sqlite3_changes(self.state_db) == 0:
            return SQLITE_OK
        rc = SQLITE_OK
        if group.rows or (join.emit_deletes and self.mode != RECORD_DIFFERENCES):
            pos[0] += 1
            rc = self._append(join, group, pos[0], at_ms)
        if rc == SQLITE_OK and self.stored.known and self.stored.pos <= tail:
            rc = self._forget(self.stored.pos)
        return rc

    cdef int _forget(self, int64_t pos) noexcept nogil:
        cdef int rc
        sqlite3_bind_int64(self.own[DELETE_LOG], 1, pos)
        rc = sqlite3_step(self.own[DELETE_LOG])
        sqlite3_reset(self.own[DELETE_LOG])
        return SQLITE_OK if rc == SQLITE_DONE else rc

    cdef int _append(self, Join *join, Group *group, int64_t pos, int64_t at_ms) noexcept nogil:
        cdef sqlite3_stmt *stmt = self.own[APPEND_LOG]
        cdef RowPart *part
        cdef uint32_t i
        cdef int rc
        self.body.buffer.len = 0
        self.body.failed = 0
        lj_put(&self.body, "[", 1)
        i = group.first
        while i:
            part = &self.groups.parts[i - 1]
            if self.body.buffer.len > 1:
                lj_put(&self.body, ",", 1)
            lj_put(&self.body, self.groups.arena.buffer.data + part.at, part.size)
            i = part.next
        lj_put(&self.body, "]", 1)
        if self.body.failed:
            return SQLITE_NOMEM
        sqlite3_bind_int64(stmt, 1, pos)
        sqlite3_bind_int64(stmt, 2, join.id)
        if self.mode == RECORD_DIFFERENCES:
            sqlite3_bind_int64(stmt, 3, RECORDED)
        else:
            sqlite3_bind_int64(stmt, 3, UPSERT if group.rows else DELETE)
        sqlite3_bind_int64(stmt, 4, at_ms)
        sqlite3_bind_text(stmt, 5, <const char *>self.groups.arena.buffer.data + group.key_at, <int>group.key_size,
        SQLITE_STATIC)
        sqlite3_bind_text(stmt, 6, <const char *>self.body.buffer.data, <int>self.body.buffer.len, SQLITE_STATIC)
        rc = sqlite3_step(stmt)
        sqlite3_reset(stmt)
        return SQLITE_OK if rc == SQLITE_DONE else rc

    cdef _query_failed(self, int rc):
        message = sqlite3_errmsg(self.host_db).decode("utf-8", "replace")
        if rc & 0xFF == SQLITE_TOOBIG:
            message = f"a value has more than {self.host.limit(LIMIT_LENGTH) >> 20} MiB"
        raise QueryError(message, extended=rc)

    cdef _state_failed(self, int rc):
        message = sqlite3_errmsg(self.state_db).decode("utf-8", "replace")
        kind = {SQLITE_FULL: StorageFullError, SQLITE_IOERR: StorageIOError}.get(rc & 0xFF,
        StorageError)
        raise kind(f"state.db: {message}", extended=sqlite3_extended_errcode(self.state_db))

    def close(self) -> None:
        """Finalize every statement, so that the connections can be closed. Idempotent."""
        self._free()


cdef str too_large_text(size_t max_bytes):
    return f"one result has more than {MAX_RESULT_BYTES >> 20} MiB, or all of them more than {max_bytes >> 20} MiB"


cdef int raise_pending() except -1:
    """What a relation that is written in Python raised meanwhile, if one did."""
    return -1 if PyErr_Occurred() is not NULL else 0


# qsort passes no context, so the arena's address travels beside it: each thread sorts its own
# evaluator.
cdef extern from *:
    """
    static __thread const char *lj_sort_arena;
    """
    const char *lj_sort_arena


cdef int compare_groups(const void *a, const void *b) noexcept nogil:
    cdef const Group *x = <const Group *>a
    cdef const Group *y = <const Group *>b
    cdef uint32_t size = x.key_size if x.key_size < y.key_size else y.key_size
    cdef int order = memcmp(lj_sort_arena + x.key_at, lj_sort_arena + y.key_at, size)
    if order:
        return order
    return (x.key_size > y.key_size) - (x.key_size < y.key_size)


cdef void sort_groups(Groups *g) noexcept nogil:
    # The hash table is not used after this: it would point at the places of before.
    global lj_sort_arena
    lj_sort_arena = <const char *>g.arena.buffer.data
    if g.n > 1:
        qsort(g.items, g.n, sizeof(Group), &compare_groups)
