"""The topic virtual table: one topic over all shards, as a SQL relation.

For each topic three tables are made in the host connection (an in-memory database that never sees a file):
  "orders"        the current rows
  "orders:delta"  the old and new versions of the rows that changed in the flush being evaluated
  "orders:both"   the current rows and, beside them, the old versions of the flush
Columns: key, payload, timestamp and, hidden from `SELECT *`, timestamp_ms, op, changes, "lj:1", "lj:2"...
("lj:n" is the value of the topic's n-th indexed expression.) An equality on `key` goes to one shard by
FNV-1a, an equality on "lj:n" to the key map of that expression and from there to the rows by id; anything
else scans, at a cost that tells SQLite's planner not to.

Interface: https://www.sqlite.org/vtab.html. One thread at a time; every callback runs without the GIL.
This is one file because modules here cannot share cdef code, and every part of it is one of SQLite's callbacks.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport atoi, calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strlen

from change_row cimport LjChangeRow, LjVersion, lj_read_change
from changes cimport LJ_ELIDED, LJ_HAS_NEW, LJ_HAS_OLD
from ckeymap cimport KeyMap, km_add, km_bytes, km_clear, km_find, km_remove
from csqlite3 cimport *
from fnv cimport lj_fnv1a32
from key_list cimport LjKeyList, lj_keys_add, lj_keys_clear, lj_keys_next
from map_hash cimport lj_map_hash, lj_set_map_secret
from topic_host cimport (LJ_NULL_HASH, LJ_PATH_STEPS, LJ_SHARD_SHIFT, Host, Index, Pooled, Topic,
                         lj_index_path_hash, lj_topic_slot)
from odd_key cimport lj_integer_text, lj_is_odd_number
from rowsum cimport LJ_NO_EXTRA, lj_row_checksum
from whole cimport lj_is_whole

from litejoin._ext import bridge
from litejoin.errors import CorruptionError, StorageError

cdef enum:
    CURRENT = 0
    DELTA = 1
    BOTH = 2

cdef enum:
    BY_KEY = 0
    BY_ID = 1
    ALL = 2
    KINDS = 3

# idxNum of a plan; an index plan is PLAN_INDEX + the number of the indexed expression, + PLAN_NULL for
# IS NULL (SQLITE_LIMIT_COLUMN keeps the numbers far below it).
cdef enum:
    PLAN_SCAN = 0
    PLAN_KEY = 1
    PLAN_DELTA = 2
    PLAN_KEYS = 3
    PLAN_INDEX = 16
    PLAN_NULL = 4096

cdef enum:
    COL_KEY = 0
    COL_PAYLOAD = 1
    COL_TIMESTAMP = 2
    COL_TIMESTAMP_MS = 3
    COL_OP = 4
    COL_CHANGES = 5
    COL_INDEX = 6

cdef const char *ROW_COLUMNS = "id, key, payload, timestamp_ms, op, changes, checksum"

cdef enum:
    FEW = 8

cdef struct Hashes:
    # The values of one row under one index; more than one where a function takes the row apart.
    uint64_t *at
    uint32_t n
    uint32_t cap
    uint64_t few[FEW]

cdef struct Table:
    sqlite3_vtab base
    Host *host
    Topic *topic
    int mode

cdef struct Cursor:
    sqlite3_vtab_cursor base
    Table *table
    Pooled **held
    int plan
    bint in_olds
    bint at_end
    int shard
    uint64_t hashed
    const uint64_t *refs
    uint32_t n_refs
    uint32_t next_ref
    bint show_old
    LjVersion row
    sqlite3_int64 rowid
    # A key compared with a number: rows and old versions whose keys are that number in unusual dress.
    const uint64_t *odd_rows
    uint32_t n_odd_rows
    uint32_t next_odd
    const uint64_t *odd_olds
    uint32_t n_odd_olds
    char number[24]
    # `key IN (...)`: the values, and the rows that one of them has found; the latter where numbers are among them.
    LjKeyList keys
    KeyMap seen


# ---------------------------------------------------------------- statements

cdef char *shard_sql(Topic *topic, int kind) noexcept nogil:
    if kind == BY_KEY:
        return sqlite3_mprintf("SELECT %s FROM t%d WHERE key = ?1", ROW_COLUMNS, <int>topic.number)
    if kind == BY_ID:
        return sqlite3_mprintf("SELECT %s FROM t%d WHERE id = ?1", ROW_COLUMNS, <int>topic.number)
    return sqlite3_mprintf("SELECT %s FROM t%d", ROW_COLUMNS, <int>topic.number)


cdef int borrow(Cursor *cursor, int kind, int shard, sqlite3_stmt **out) noexcept nogil:
    """The cursor's statement of this kind on this shard, reset and ready to bind."""
    cdef Topic *topic = cursor.table.topic
    cdef int slot = kind * topic.shards + shard
    cdef Pooled *pooled = cursor.held[slot]
    cdef char *sql
    cdef int rc
    if topic.own_reader == NULL and cursor.table.host.out[shard]:
        return left_out(cursor, shard)
    if pooled == NULL:
        pooled = topic.idle[slot]
        if pooled != NULL:
            topic.idle[slot] = pooled.next
        else:
            pooled = <Pooled *>calloc(1, sizeof(Pooled))
            sql = shard_sql(topic, kind)
            if pooled == NULL or sql == NULL:
                free(pooled)
                sqlite3_free(sql)
                return SQLITE_NOMEM
            rc = sqlite3_prepare_v3(topic.readers[shard], sql, -1, SQLITE_PREPARE_PERSISTENT, &pooled.stmt, NULL)
            sqlite3_free(sql)
            if rc != SQLITE_OK:
                free(pooled)
                return shard_error(cursor, shard, rc)
        cursor.held[slot] = pooled
    sqlite3_reset(pooled.stmt)
    out[0] = pooled.stmt
    return SQLITE_OK


cdef void give_back(Cursor *cursor) noexcept nogil:
    cdef Topic *topic = cursor.table.topic
    cdef Pooled *pooled
    cdef int slot
    for slot in range(KINDS * cursor.table.topic.shards):
        pooled = cursor.held[slot]
        if pooled != NULL:
            sqlite3_reset(pooled.stmt)
            pooled.next = topic.idle[slot]
            topic.idle[slot] = pooled
            cursor.held[slot] = NULL


cdef int left_out(Cursor *cursor, int shard) noexcept nogil:
    """Nothing is known of the rows of this shard: whoever needs them has to do without a result, or, while
    only result keys are collected, without these rows (SQLITE_DONE)."""
    if cursor.table.host.tolerant:
        return SQLITE_DONE
    sqlite3_free(cursor.base.pVtab.zErrMsg)
    cursor.base.pVtab.zErrMsg = sqlite3_mprintf("shard %d is quarantined", shard)
    return SQLITE_CANTOPEN


cdef int note_damage(Cursor *cursor, int shard, int rc) noexcept nogil:
    cdef Host *host = cursor.table.host
    if cursor.table.topic.own_reader == NULL and host.damaged < 0 and rc & 0xff in (SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_IOERR):
        host.damaged = shard
    return rc


cdef int shard_error(Cursor *cursor, int shard, int rc) noexcept nogil:
    note_damage(cursor, shard, rc)
    sqlite3_free(cursor.base.pVtab.zErrMsg)
    cursor.base.pVtab.zErrMsg = sqlite3_mprintf(
        "shard %d: %s", shard, sqlite3_errmsg(cursor.table.topic.readers[shard]))
    return rc


# ---------------------------------------------------------------- rows

cdef int take_row(Cursor *cursor, sqlite3_stmt *stmt, int shard) noexcept nogil:
    """Point the cursor at the statement's row; SQLITE_CORRUPT when its checksum is wrong."""
    cdef LjVersion *row = &cursor.row
    cdef uint32_t extra
    # One row, one number over all shards: SQLite's RIGHT and FULL JOIN tell rows apart by it.
    cursor.rowid = <sqlite3_int64>(<uint64_t>shard << LJ_SHARD_SHIFT | <uint64_t>sqlite3_column_int64(stmt, 0))
    # column_text before column_bytes: the length is that of the UTF-8 form.
    row.key.at = <const char *>sqlite3_column_text(stmt, 1)
    row.key.len = <uint32_t>sqlite3_column_bytes(stmt, 1)
    row.payload.at = <const char *>sqlite3_column_text(stmt, 2)
    row.payload.len = <uint32_t>sqlite3_column_bytes(stmt, 2)
    row.timestamp_ms = sqlite3_column_int64(stmt, 3)
    row.updated = sqlite3_column_int(stmt, 4) == 2
    row.changes.at = <const char *>sqlite3_column_text(stmt, 5)
    row.changes.len = <uint32_t>sqlite3_column_bytes(stmt, 5)
    extra = row.changes.len if row.changes.at != NULL else LJ_NO_EXTRA
    if lj_row_checksum(0, cursor.table.topic.number, <uint32_t>sqlite3_column_int(stmt, 4), row.timestamp_ms,
                       row.key.at, row.key.len, row.payload.at, row.payload.len,
                       row.changes.at, extra) != sqlite3_column_int64(stmt, 6):
        sqlite3_free(cursor.base.pVtab.zErrMsg)
        cursor.base.pVtab.zErrMsg = sqlite3_mprintf(
            "shard %d: row %lld of t%d fails its checksum", shard,
            cursor.rowid & ((<sqlite3_int64>1 << LJ_SHARD_SHIFT) - 1), <int>cursor.table.topic.number)
        return note_damage(cursor, shard, SQLITE_CORRUPT)
    return SQLITE_OK


cdef inline bint take_change(Cursor *cursor, LjChangeRow *change, bint old) noexcept nogil:
    if old:
        if not change.flags & LJ_HAS_OLD:
            return False
        cursor.row = change.old
    else:
        if not change.flags & LJ_HAS_NEW or change.flags & LJ_ELIDED:
            return False
        cursor.row = change.now
    # Versions of a flush are numbered downwards from -1, apart from the rows of the shards.
    cursor.rowid = -2 * <sqlite3_int64>(change - cursor.table.topic.changes) - (1 if old else 2)
    return True


cdef uint64_t value_hash(sqlite3_value *value, bint is_text, bint *is_null) noexcept nogil:
    """Hash under SQL equality: 5 and 5.0 alike, '5' apart from both unless the column has TEXT affinity."""
    cdef int kind = sqlite3_value_type(value)
    cdef const void *bytes
    cdef sqlite3_int64 whole
    cdef double real
    is_null[0] = kind == SQLITE_NULL
    if kind == SQLITE_NULL:
        # Found by IS NULL only: the group of a missing path is a group like any other.
        return LJ_NULL_HASH
    if kind == SQLITE_TEXT or (is_text and kind != SQLITE_BLOB):
        bytes = sqlite3_value_text(value)
        return lj_map_hash(bytes, <size_t>sqlite3_value_bytes(value), 1)
    if kind == SQLITE_BLOB:
        bytes = sqlite3_value_blob(value)
        return lj_map_hash(bytes, <size_t>sqlite3_value_bytes(value), 2)
    if kind == SQLITE_FLOAT:
        real = sqlite3_value_double(value)
        if lj_is_whole(real):
            whole = <sqlite3_int64>real
            return lj_map_hash(&whole, sizeof(whole), 3)
        return lj_map_hash(&real, sizeof(real), 4)
    whole = sqlite3_value_int64(value)
    return lj_map_hash(&whole, sizeof(whole), 3)


cdef inline bint is_whole(sqlite3_value *value) noexcept nogil:
    return sqlite3_value_type(value) == SQLITE_INTEGER or lj_is_whole(sqlite3_value_double(value))


cdef int evaluate_index(Index *index, LjVersion *row) noexcept nogil:
    """Step the expression's statement over one row; the value is its column 0 until it is reset."""
    cdef sqlite3_stmt *stmt = index.evaluate
    sqlite3_bind_text(stmt, 1, row.key.at, <int>row.key.len, SQLITE_STATIC)
    sqlite3_bind_text(stmt, 2, row.payload.at, <int>row.payload.len, SQLITE_STATIC)
    sqlite3_bind_int64(stmt, 3, row.timestamp_ms)
    if row.updated:
        sqlite3_bind_text(stmt, 4, "updated", 7, SQLITE_STATIC)
    else:
        sqlite3_bind_text(stmt, 4, "created", 7, SQLITE_STATIC)
    if row.changes.at == NULL:
        sqlite3_bind_null(stmt, 5)
    else:
        sqlite3_bind_text(stmt, 5, row.changes.at, <int>row.changes.len, SQLITE_STATIC)
    return sqlite3_step(stmt)


cdef bint hashes_hold(Hashes *hashes, uint64_t hashed) noexcept nogil:
    cdef uint32_t i
    for i in range(hashes.n):
        if hashes.at[i] == hashed:
            return True
    return False


cdef void hashes_init(Hashes *hashes) noexcept nogil:
    hashes.at = hashes.few
    hashes.n = 0
    hashes.cap = FEW


cdef void hashes_free(Hashes *hashes) noexcept nogil:
    if hashes.at != hashes.few:
        free(hashes.at)


cdef int hashes_add(Hashes *hashes, uint64_t hashed) noexcept nogil:
    """Each value once: a row must not be found twice for one value."""
    cdef uint64_t *more
    if hashes_hold(hashes, hashed):
        return 0
    if hashes.n == hashes.cap:
        more = <uint64_t *>malloc(<size_t>hashes.cap * 2 * sizeof(uint64_t))
        if more == NULL:
            return -1
        memcpy(more, hashes.at, <size_t>hashes.cap * sizeof(uint64_t))
        hashes_free(hashes)
        hashes.at = more
        hashes.cap = hashes.cap * 2
    hashes.at[hashes.n] = hashed
    hashes.n += 1
    return 0


cdef int index_hashes(Index *index, LjVersion *row, Hashes *out) noexcept nogil:
    """The hashes of a row's values. A row whose expression fails counts as NULL: it can match
    nothing, and the query itself will say so."""
    cdef bint is_null = False
    cdef uint64_t hashed = 0
    cdef int rc
    out.n = 0
    if lj_index_path_hash(index, row, &hashed):
        return hashes_add(out, hashed)
    rc = evaluate_index(index, row)
    while rc == SQLITE_ROW:
        if hashes_add(out, value_hash(sqlite3_column_value(index.evaluate, 0), index.is_text, &is_null)):
            sqlite3_reset(index.evaluate)
            return -1
        rc = sqlite3_step(index.evaluate)
    sqlite3_reset(index.evaluate)
    if rc != SQLITE_DONE or out.n == 0:
        return hashes_add(out, LJ_NULL_HASH)
    return 0


# ---------------------------------------------------------------- the module

cdef int topic_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                       sqlite3_vtab **out, char **error) noexcept nogil:
    cdef Host *host = <Host *>aux
    cdef int slot = atoi(argv[3]) if argc > 4 else -1
    cdef Table *table
    cdef Topic *topic
    cdef char *sql
    cdef char *longer
    cdef int i, rc
    if slot < 0 or slot >= host.n_topics:
        error[0] = sqlite3_mprintf("litejoin_topic: no such topic slot")
        return SQLITE_ERROR
    topic = host.topics[slot]
    sql = sqlite3_mprintf("CREATE TABLE x(key TEXT, payload TEXT, timestamp INTEGER, "
                          "timestamp_ms INTEGER HIDDEN, op TEXT HIDDEN, changes TEXT HIDDEN")
    # BLOB is how SQL spells "no affinity"; no type at all would be NUMERIC, as HIDDEN is taken for one.
    for i in range(topic.n_indexes):
        longer = sqlite3_mprintf("%s, \"lj:%d\" %s HIDDEN", sql, i + 1,
                                 <const char *>"TEXT" if topic.indexes[i].is_text else <const char *>"BLOB")
        sqlite3_free(sql)
        sql = longer
    longer = sqlite3_mprintf("%s)", sql)
    sqlite3_free(sql)
    if longer == NULL:
        return SQLITE_NOMEM
    rc = sqlite3_declare_vtab(db, longer)
    sqlite3_free(longer)
    if rc != SQLITE_OK:
        return rc
    table = <Table *>calloc(1, sizeof(Table))
    if table == NULL:
        return SQLITE_NOMEM
    table.host = host
    table.topic = topic
    table.mode = atoi(argv[4])
    out[0] = &table.base
    return SQLITE_OK


cdef int topic_disconnect(sqlite3_vtab *base) noexcept nogil:
    free(base)
    return SQLITE_OK


cdef int topic_best_index(sqlite3_vtab *base, sqlite3_index_info *info) noexcept nogil:
    cdef Table *table = <Table *>base
    cdef int i, column, best = -1, best_column = 0
    if table.mode == DELTA:
        info.idxNum = PLAN_DELTA
        info.idxStr = <char *>"delta"
        info.estimatedCost = 10
        info.estimatedRows = 10
        return SQLITE_OK
    for i in range(info.nConstraint):
        column = info.aConstraint[i].iColumn
        if not info.aConstraint[i].usable or not is_binary(info, i) or (info.aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ and not (
                info.aConstraint[i].op == SQLITE_INDEX_CONSTRAINT_ISNULL and column >= COL_INDEX)):
            continue
        if column == COL_KEY:
            best, best_column = i, column
            break
        if column >= COL_INDEX and best < 0:
            best, best_column = i, column
    if best < 0:
        info.idxNum = PLAN_SCAN
        info.idxStr = <char *>"scan"
        info.estimatedCost = 1e7
        info.estimatedRows = 1000000
        return SQLITE_OK
    info.aConstraintUsage[best].argvIndex = 1
    if best_column == COL_KEY:
        # All values of IN at once: one by one, SQLite would compare each with the affinity of the column.
        info.idxNum = PLAN_KEYS if sqlite3_vtab_in(info, best, 1) else PLAN_KEY
        info.idxStr = <char *>"key"
        info.estimatedCost = 2
        info.estimatedRows = 1
        return SQLITE_OK
    # The hidden column only proposes rows: the query's own predicate is still checked on each.
    info.aConstraintUsage[best].omit = 1
    info.idxNum = PLAN_INDEX + best_column - COL_INDEX
    if info.aConstraint[best].op == SQLITE_INDEX_CONSTRAINT_ISNULL:
        info.idxNum += PLAN_NULL
    info.idxStr = sqlite3_mprintf("index lj:%d", best_column - COL_INDEX + 1)
    info.needToFreeIdxStr = 1
    info.estimatedCost = 20
    info.estimatedRows = 10
    return SQLITE_OK


cdef bint is_binary(sqlite3_index_info *info, int constraint) noexcept nogil:
    """Keys and hashes are found by their bytes: a comparison with another collation finds more."""
    return sqlite3_stricmp(sqlite3_vtab_collation(info, constraint), "BINARY") == 0


cdef int topic_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out) noexcept nogil:
    cdef Table *table = <Table *>base
    cdef Cursor *cursor = <Cursor *>calloc(1, sizeof(Cursor))
    if cursor == NULL:
        return SQLITE_NOMEM
    cursor.held = <Pooled **>calloc(KINDS * table.topic.shards + 1, sizeof(Pooled *))
    if cursor.held == NULL:
        free(cursor)
        return SQLITE_NOMEM
    cursor.table = table
    out[0] = &cursor.base
    return SQLITE_OK


cdef int topic_close(sqlite3_vtab_cursor *base) noexcept nogil:
    cdef Cursor *cursor = <Cursor *>base
    give_back(cursor)
    km_clear(&cursor.seen)
    free(cursor.keys.at)
    free(cursor.held)
    free(cursor)
    return SQLITE_OK


cdef int topic_filter(sqlite3_vtab_cursor *base, int plan, const char *name, int argc,
                      sqlite3_value **argv) noexcept nogil:
    cdef Cursor *cursor = <Cursor *>base
    cdef Topic *topic = cursor.table.topic
    cdef int rc
    cdef bint is_null = False
    cursor.plan = plan
    begin(cursor)
    if plan == PLAN_KEY:
        return key_filter(cursor, argv[0])
    if plan == PLAN_KEYS:
        return keys_filter(cursor, argv[0])
    if plan >= PLAN_INDEX:
        if plan >= PLAN_NULL:
            plan -= PLAN_NULL
            cursor.hashed = LJ_NULL_HASH
        else:
            cursor.hashed = value_hash(argv[0], topic.indexes[plan - PLAN_INDEX].is_text, &is_null)
            if is_null:
                cursor.at_end = True
                return SQLITE_OK
        cursor.plan = plan
        if cursor.table.host.blind and topic.own_reader == NULL:
            rc = refuse_blind(cursor)
            if rc != SQLITE_OK:
                return rc
        cursor.n_refs = km_find(&topic.indexes[plan - PLAN_INDEX].rows, cursor.hashed, &cursor.refs)
        return index_next(cursor)
    if plan == PLAN_SCAN and cursor.table.host.any_out and topic.own_reader == NULL:
        # At once, not after the shards before it have been read.
        rc = refuse_blind(cursor)
        if rc != SQLITE_OK:
            return rc
    return topic_next(base)


cdef int refuse_blind(Cursor *cursor) noexcept nogil:
    """Fail when any shard was left out, unless its rows may be missing."""
    cdef int shard, rc = SQLITE_OK
    for shard in range(cursor.table.host.shards):
        if cursor.table.host.out[shard]:
            rc = left_out(cursor, shard)
            break
    return SQLITE_OK if rc == SQLITE_DONE else rc


cdef void begin(Cursor *cursor) noexcept nogil:
    """Nothing has been read for the value at hand."""
    cursor.at_end = False
    cursor.in_olds = False
    cursor.show_old = False
    cursor.next_ref = 0
    cursor.n_refs = 0
    cursor.refs = NULL
    cursor.shard = -1
    cursor.next_odd = 0
    cursor.n_odd_rows = 0
    cursor.n_odd_olds = 0


cdef int key_filter(Cursor *cursor, sqlite3_value *value) noexcept nogil:
    """The row of a key."""
    cdef const char *key = NULL
    cdef uint32_t length = 0
    cdef uint64_t hashed = 0
    if not key_of(cursor, value, &key, &length, &hashed):
        cursor.at_end = True
        return SQLITE_OK
    return key_seek(cursor, key, length, hashed)


cdef bint key_of(Cursor *cursor, sqlite3_value *value, const char **key, uint32_t *length,
                 uint64_t *hashed) noexcept nogil:
    """What a value finds: the key of this text, and those that are the number of this hash. A number may be
    meant as a text or as a number, and SQLite does not tell: find both, the query's own comparison decides.
    False: nothing."""
    cdef int kind = sqlite3_value_type(value)
    cdef bint is_null = False
    if kind == SQLITE_TEXT:
        key[0] = <const char *>sqlite3_value_text(value)
        length[0] = <uint32_t>sqlite3_value_bytes(value)
        return True
    if kind != SQLITE_INTEGER and kind != SQLITE_FLOAT:
        return False
    hashed[0] = value_hash(value, False, &is_null)
    if is_whole(value):
        key[0] = cursor.number
        length[0] = <uint32_t>lj_integer_text(sqlite3_value_int64(value), cursor.number)
    return True


cdef int keys_filter(Cursor *cursor, sqlite3_value *values) noexcept nogil:
    """The rows of the keys of IN."""
    cdef sqlite3_value *value = NULL
    cdef const char *key
    cdef uint32_t length
    cdef uint64_t hashed
    cdef int rc = sqlite3_vtab_in_first(values, &value)
    lj_keys_clear(&cursor.keys)
    km_clear(&cursor.seen)
    while rc == SQLITE_OK and value != NULL:
        key, length, hashed = NULL, 0, 0
        if key_of(cursor, value, &key, &length, &hashed) and lj_keys_add(&cursor.keys, key, length, hashed):
            return SQLITE_NOMEM
        rc = sqlite3_vtab_in_next(values, &value)
    if rc != SQLITE_OK and rc != SQLITE_DONE:
        return rc
    cursor.at_end = True
    return keys_next(cursor)


cdef int keys_next(Cursor *cursor) noexcept nogil:
    """The next row of the value at hand, or the first of the next value that has any. '5' is found by the text
    and by the number: each row is shown once."""
    cdef const char *key = NULL
    cdef uint32_t length = 0
    cdef uint64_t hashed = 0
    cdef const uint64_t *found = NULL
    cdef int rc = SQLITE_OK
    if not cursor.at_end:
        rc = key_next(cursor)
    while rc == SQLITE_OK:
        if cursor.at_end:
            if not lj_keys_next(&cursor.keys, &key, &length, &hashed):
                return SQLITE_OK
            begin(cursor)
            rc = key_seek(cursor, key, length, hashed)
            if rc != SQLITE_OK or cursor.at_end:
                continue
        if not cursor.keys.has_number:
            return SQLITE_OK
        # A hash of eight bytes is another number for each: none is taken for another.
        hashed = lj_map_hash(&cursor.rowid, sizeof(cursor.rowid), 5)
        if not km_find(&cursor.seen, hashed, &found):
            return SQLITE_NOMEM if km_add(&cursor.seen, hashed, 1) else SQLITE_OK
        rc = key_next(cursor)
    return rc


cdef int key_seek(Cursor *cursor, const char *key, uint32_t length, uint64_t hashed) noexcept nogil:
    """The first row of a key; `hashed` is 0 unless the value is a number."""
    cdef Topic *topic = cursor.table.topic
    cdef sqlite3_stmt *stmt
    cdef int rc
    if hashed:
        rc = find_odd(cursor, hashed)
        if rc != SQLITE_OK:
            return rc
    if key == NULL:
        return key_next(cursor)
    if cursor.table.mode == BOTH:
        cursor.n_refs = km_find(&topic.old_keys, lj_map_hash(key, length, 1), &cursor.refs)
    if topic.shards:
        cursor.shard = <int>(lj_fnv1a32(key, length) % <uint32_t>topic.shards)
        rc = borrow(cursor, BY_KEY, cursor.shard, &stmt)
        if rc == SQLITE_DONE:
            return key_next(cursor)
        if rc != SQLITE_OK:
            return rc
        sqlite3_bind_text(stmt, 1, key, <int>length, SQLITE_STATIC)
        rc = sqlite3_step(stmt)
        if rc == SQLITE_ROW:
            return take_row(cursor, stmt, cursor.shard)
        if rc != SQLITE_DONE:
            return shard_error(cursor, cursor.shard, rc)
    return key_next(cursor)


cdef int key_next(Cursor *cursor) noexcept nogil:
    """Behind the row of the key: rows of odd keys, then old versions of both (mode BOTH)."""
    cdef uint32_t at
    cdef int rc
    while cursor.next_odd < cursor.n_odd_rows:
        at = cursor.next_odd
        cursor.next_odd += 1
        rc = take_reference(cursor, cursor.odd_rows[at])
        if rc != SQLITE_DONE:
            return rc
    cursor.in_olds = True
    rc = olds_next(cursor)
    if rc == SQLITE_OK and cursor.at_end and cursor.n_odd_olds:
        cursor.at_end = False
        cursor.refs = cursor.odd_olds
        cursor.n_refs = cursor.n_odd_olds
        cursor.next_ref = 0
        cursor.n_odd_olds = 0
        rc = olds_next(cursor)
    return rc


cdef int find_odd(Cursor *cursor, uint64_t hashed) noexcept nogil:
    cdef Topic *topic = cursor.table.topic
    cdef int rc
    if not topic.odd_ready:
        rc = load_odd(cursor.table)
        if rc != SQLITE_OK:
            return rc
        topic.odd_ready = True
    cursor.n_odd_rows = km_find(&topic.odd_rows, hashed, &cursor.odd_rows)
    if cursor.table.mode == BOTH:
        cursor.n_odd_olds = km_find(&topic.odd_olds, hashed, &cursor.odd_olds)
    return SQLITE_OK


cdef int load_odd(Table *table) noexcept nogil:
    """Note all odd keys of a topic: one scan, when the first number is compared with a key."""
    cdef Cursor cursor
    cdef Topic *topic = table.topic
    cdef int rc = SQLITE_OK
    cdef bint tolerant = table.host.tolerant
    table.host.tolerant = False  # what is noted here stays, so it must be all there is
    memset(&cursor, 0, sizeof(cursor))
    cursor.table = table
    cursor.base.pVtab = &table.base
    cursor.held = <Pooled **>calloc(KINDS * table.topic.shards + 1, sizeof(Pooled *))
    if cursor.held == NULL:
        table.host.tolerant = tolerant
        return SQLITE_NOMEM
    km_clear(&topic.odd_rows)
    cursor.shard = -1
    while rc == SQLITE_OK and not cursor.at_end:
        rc = scan_shards(&cursor)
        if rc == SQLITE_OK and not cursor.at_end and lj_is_odd_number(cursor.row.key.at, cursor.row.key.len):
            if km_add(&topic.odd_rows, number_hash(table.host, &cursor.row), <uint64_t>cursor.rowid):
                rc = SQLITE_NOMEM
    table.host.tolerant = tolerant
    give_back(&cursor)
    free(cursor.held)
    return rc


cdef uint64_t number_hash(Host *host, LjVersion *row) noexcept nogil:
    """Hash of the number that SQLite takes the row's key for."""
    cdef bint is_null = False
    cdef uint64_t hashed = LJ_NULL_HASH
    if host.to_number == NULL and sqlite3_prepare_v3(
            host.db, "SELECT CAST(?1 AS NUMERIC)", -1, SQLITE_PREPARE_PERSISTENT, &host.to_number, NULL) != SQLITE_OK:
        return hashed
    sqlite3_bind_text(host.to_number, 1, row.key.at, <int>row.key.len, SQLITE_STATIC)
    if sqlite3_step(host.to_number) == SQLITE_ROW:
        hashed = value_hash(sqlite3_column_value(host.to_number, 0), False, &is_null)
    sqlite3_reset(host.to_number)
    return hashed


cdef int take_reference(Cursor *cursor, uint64_t ref) noexcept nogil:
    """Point the cursor at a row by its reference; SQLITE_DONE when it is gone."""
    cdef sqlite3_stmt *stmt
    cdef int shard = <int>(ref >> LJ_SHARD_SHIFT)
    cdef int rc = borrow(cursor, BY_ID, shard, &stmt)
    if rc != SQLITE_OK:
        return rc
    sqlite3_bind_int64(stmt, 1, <sqlite3_int64>(ref & ((<uint64_t>1 << LJ_SHARD_SHIFT) - 1)))
    rc = sqlite3_step(stmt)
    if rc == SQLITE_ROW:
        return take_row(cursor, stmt, shard)
    return rc if rc == SQLITE_DONE else shard_error(cursor, shard, rc)


cdef int index_next(Cursor *cursor) noexcept nogil:
    """The next current row of an index plan; the old versions after the last one."""
    cdef int rc
    while cursor.next_ref < cursor.n_refs:
        cursor.next_ref += 1
        rc = take_reference(cursor, cursor.refs[cursor.next_ref - 1])
        if rc != SQLITE_DONE:
            return rc
    if cursor.table.mode != BOTH:
        cursor.at_end = True
        return SQLITE_OK
    cursor.in_olds = True
    cursor.next_ref = 0
    cursor.n_refs = km_find(&cursor.table.topic.indexes[cursor.plan - PLAN_INDEX].olds, cursor.hashed, &cursor.refs)
    return olds_next(cursor)


cdef int olds_next(Cursor *cursor) noexcept nogil:
    """The next old version: those listed in `refs` (change number + 1), or all of them for a scan."""
    cdef Topic *topic = cursor.table.topic
    cdef LjChangeRow *change
    while True:
        if cursor.plan == PLAN_SCAN:
            if cursor.next_ref >= topic.n_changes:
                break
            change = &topic.changes[cursor.next_ref]
        else:
            if cursor.next_ref >= cursor.n_refs:
                break
            change = &topic.changes[cursor.refs[cursor.next_ref] - 1]
        cursor.next_ref += 1
        if take_change(cursor, change, True):
            return SQLITE_OK
    cursor.at_end = True
    return SQLITE_OK


cdef int find_passed(Topic *topic) noexcept nogil:
    """Of a key that changed in several of the flushes that are evaluated together, the first old version and the
    last new one tell all: its results are as the former made them, and will be as the latter does."""
    cdef KeyMap last
    cdef LjChangeRow *change
    cdef LjChangeRow *other
    cdef const uint64_t *found = NULL
    cdef uint64_t hashed
    cdef uint32_t i, j, n
    cdef int failed = 0
    memset(&last, 0, sizeof(last))
    for i in range(topic.n_changes):
        change = &topic.changes[i]
        hashed = lj_map_hash(change.old.key.at, change.old.key.len, 1)
        n = km_find(&last, hashed, &found)
        for j in range(n):
            other = &topic.changes[found[j] - 1]
            if other.old.key.len == change.old.key.len and memcmp(
                    other.old.key.at, change.old.key.at, change.old.key.len) == 0:
                other.passed |= LJ_HAS_NEW
                change.passed |= LJ_HAS_OLD
                km_remove(&last, hashed, found[j])
                break
        failed = km_add(&last, hashed, i + 1)
        if failed:
            break
    km_clear(&last)
    topic.passed_known = True
    return failed


cdef int delta_next(Cursor *cursor) noexcept nogil:
    """The next version of a changed row that is to be shown."""
    cdef Topic *topic = cursor.table.topic
    cdef Host *host = cursor.table.host
    cdef uint64_t first = host.first_shown
    cdef uint64_t end = first + host.n_shown if host.n_shown else <uint64_t>topic.n_changes * 2
    cdef uint64_t version
    cdef LjChangeRow *change
    if not topic.passed_known and find_passed(topic):
        return SQLITE_NOMEM
    if <uint64_t>cursor.next_ref * 2 + 1 < first:
        cursor.next_ref = <uint32_t>(first // 2)
    while cursor.next_ref < topic.n_changes:
        version = <uint64_t>cursor.next_ref * 2 + cursor.show_old
        if version >= end:
            break
        change = &topic.changes[cursor.next_ref]
        if not cursor.show_old:
            cursor.show_old = True
            if version >= first and not change.passed & LJ_HAS_OLD and take_change(cursor, change, True):
                return SQLITE_OK
        else:
            cursor.show_old = False
            cursor.next_ref += 1
            if version >= first and not change.passed & LJ_HAS_NEW and take_change(cursor, change, False):
                return SQLITE_OK
    cursor.at_end = True
    return SQLITE_OK


cdef int scan_shards(Cursor *cursor) noexcept nogil:
    """The next current row of all shards."""
    cdef sqlite3_stmt *stmt
    cdef int rc
    while cursor.shard < cursor.table.topic.shards:
        if cursor.shard >= 0:
            stmt = cursor.held[ALL * cursor.table.topic.shards + cursor.shard].stmt
            rc = sqlite3_step(stmt)
            if rc == SQLITE_ROW:
                return take_row(cursor, stmt, cursor.shard)
            if rc != SQLITE_DONE:
                return shard_error(cursor, cursor.shard, rc)
        cursor.shard += 1
        while cursor.shard < cursor.table.topic.shards:
            rc = borrow(cursor, ALL, cursor.shard, &stmt)
            if rc == SQLITE_OK:
                break
            if rc != SQLITE_DONE:
                return rc
            cursor.shard += 1
    cursor.at_end = True
    return SQLITE_OK


cdef int scan_next(Cursor *cursor) noexcept nogil:
    cdef int rc = scan_shards(cursor)
    if rc != SQLITE_OK or not cursor.at_end or cursor.table.mode != BOTH:
        return rc
    cursor.at_end = False
    cursor.in_olds = True
    cursor.next_ref = 0
    return olds_next(cursor)


cdef int topic_next(sqlite3_vtab_cursor *base) noexcept nogil:
    cdef Cursor *cursor = <Cursor *>base
    if cursor.plan == PLAN_KEY:
        return key_next(cursor)
    if cursor.plan == PLAN_KEYS:
        return keys_next(cursor)
    if cursor.in_olds:
        return olds_next(cursor)
    if cursor.plan == PLAN_DELTA:
        return delta_next(cursor)
    if cursor.plan >= PLAN_INDEX:
        return index_next(cursor)
    return scan_next(cursor)


cdef int topic_eof(sqlite3_vtab_cursor *base) noexcept nogil:
    return (<Cursor *>base).at_end


cdef int topic_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) noexcept nogil:
    cdef Cursor *cursor = <Cursor *>base
    cdef LjVersion *row = &cursor.row
    cdef Index *index
    if column == COL_KEY:
        sqlite3_result_text64(context, row.key.at, row.key.len, SQLITE_TRANSIENT, SQLITE_UTF8)
    elif column == COL_PAYLOAD:
        # Copied: SQLite may keep a value longer than this cursor stays on the row.
        sqlite3_result_text64(context, row.payload.at, row.payload.len, SQLITE_TRANSIENT, SQLITE_UTF8)
    elif column == COL_TIMESTAMP:
        # Cython's // rounds down, before 1970 too.
        sqlite3_result_int64(context, row.timestamp_ms // 1000)
    elif column == COL_TIMESTAMP_MS:
        sqlite3_result_int64(context, row.timestamp_ms)
    elif column == COL_OP:
        if row.updated:
            sqlite3_result_text(context, "updated", 7, SQLITE_STATIC)
        else:
            sqlite3_result_text(context, "created", 7, SQLITE_STATIC)
    elif column == COL_CHANGES:
        if row.changes.at == NULL:
            sqlite3_result_null(context)
        else:
            sqlite3_result_text64(context, row.changes.at, row.changes.len, SQLITE_TRANSIENT, SQLITE_UTF8)
    else:
        index = &cursor.table.topic.indexes[column - COL_INDEX]
        if evaluate_index(index, row) == SQLITE_ROW:
            sqlite3_result_value(context, sqlite3_column_value(index.evaluate, 0))
        else:
            sqlite3_result_null(context)
        sqlite3_reset(index.evaluate)
    return SQLITE_OK


cdef int topic_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out) noexcept nogil:
    out[0] = (<Cursor *>base).rowid
    return SQLITE_OK


cdef sqlite3_module topic_module
memset(&topic_module, 0, sizeof(sqlite3_module))
topic_module.iVersion = 1
topic_module.xCreate = topic_connect
topic_module.xConnect = topic_connect
topic_module.xBestIndex = topic_best_index
topic_module.xDisconnect = topic_disconnect
topic_module.xDestroy = topic_disconnect
topic_module.xOpen = topic_open
topic_module.xClose = topic_close
topic_module.xFilter = topic_filter
topic_module.xNext = topic_next
topic_module.xEof = topic_eof
topic_module.xColumn = topic_column
topic_module.xRowid = topic_rowid


# ---------------------------------------------------------------- indexed paths

cdef object PLAIN_PATH = re.compile(
    r"(?P<cast>CAST\()?(?:json_extract\(\s*payload\s*,\s*|payload\s*->>\s*(?=')(?P<arrow>))"
    r"'(?:\$\.(?P<path>[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*)|(?(arrow)(?P<label>[a-z_][a-z0-9_]*)|(?!)))'"
    r"\s*(?(arrow)|\)\s*)(?(cast) AS TEXT\)|)", re.IGNORECASE)


cdef names_of(Index *index, bytes path):
    """Let an index be computed by the path reader: `path` has the member names, with dots between."""
    cdef int i, at = 0
    cdef list names = path.split(b".")
    if len(names) > LJ_PATH_STEPS:
        return
    index.names = <char *>malloc(len(path) + 1)
    if index.names == NULL:
        raise MemoryError
    memcpy(index.names, <const char *>path, len(path))
    for i, name in enumerate(names):
        index.path.names[i].at = index.names + at
        index.path.names[i].len = len(name)
        at += len(name) + 1
    index.path.steps = len(names)


# ---------------------------------------------------------------- ownership

cdef void free_statements(Host *host) noexcept nogil:
    cdef Topic *topic
    cdef Pooled *pooled
    cdef int i, slot
    sqlite3_finalize(host.to_number)
    host.to_number = NULL
    for i in range(host.n_topics):
        topic = host.topics[i]
        for slot in range(KINDS * topic.shards):
            while topic.idle[slot] != NULL:
                pooled = topic.idle[slot]
                topic.idle[slot] = pooled.next
                sqlite3_finalize(pooled.stmt)
                free(pooled)
        for slot in range(topic.n_indexes):
            sqlite3_finalize(topic.indexes[slot].evaluate)
            topic.indexes[slot].evaluate = NULL


cdef void release_host(void *pointer) noexcept nogil:
    cdef Host *host = <Host *>pointer
    cdef Topic *topic
    cdef int i, j
    host.owners -= 1
    if host.owners:
        return
    for i in range(host.n_topics):
        topic = host.topics[i]
        for j in range(topic.n_indexes):
            km_clear(&topic.indexes[j].rows)
            km_clear(&topic.indexes[j].olds)
            free(topic.indexes[j].names)
        km_clear(&topic.old_keys)
        km_clear(&topic.odd_rows)
        km_clear(&topic.odd_olds)
        free(topic.indexes)
        free(topic.changes)
        free(topic.idle)
        free(topic)
    free(host.topics)
    free(host.readers)
    free(host.out)
    free(host)


cdef class TopicTables:
    """The topic tables of one host connection over one set of shard readers.

    `connection` is the in-memory apsw connection that queries run on, `readers` one read-only apsw
    connection a shard, in shard order (none: the tables are empty, for checking query plans). The object
    keeps all of them alive; call `close` before any of them is closed. One thread at a time.
    """

    cdef Host *host
    cdef object connection
    cdef object readers
    cdef object names
    cdef object held
    cdef bint closed
    cdef bint loaded

    def __cinit__(self, connection, readers=()):
        cdef int i
        lj_set_api(<size_t>bridge.api_pointer())
        lj_set_map_secret(bridge.map_secret())
        self.host = <Host *>calloc(1, sizeof(Host))
        if self.host == NULL:
            raise MemoryError
        self.host.owners = 1
        self.connection = connection
        self.readers = tuple(readers)
        self.names = []
        self.held = ()
        self.host.db = <sqlite3 *><size_t>connection.sqlite3_pointer()
        self.host.shards = len(self.readers)
        self.host.damaged = -1
        self.host.readers = <sqlite3 **>calloc(self.host.shards + 1, sizeof(sqlite3 *))
        self.host.out = <uint8_t *>calloc(self.host.shards + 1, 1)
        if self.host.readers == NULL or self.host.out == NULL:
            raise MemoryError
        for i in range(self.host.shards):
            self.host.readers[i] = <sqlite3 *><size_t>self.readers[i].sqlite3_pointer()
        self.host.owners = 2
        rc = sqlite3_create_module_v2(self.host.db, "litejoin_topic", &topic_module, self.host, &release_host)
        if rc != SQLITE_OK:
            # SQLite has called release_host already.
            raise StorageError("cannot register the topic module", extended=rc)

    def __dealloc__(self):
        if self.host != NULL:
            if not self.closed:
                free_statements(self.host)
            release_host(self.host)

    def define(self, name: str, number: int, indexes=(), *, reader=None):
        """Make the tables `name`, `name:delta` and `name:both` for catalogue number `number`.

        `indexes`: (SQL expression over the columns of a row; True if compared as TEXT; optionally, functions
        joined to the row) for "lj:1".. in order. `reader`: the one connection that has this topic's rows, instead
        of the shards. Raises StorageError when an expression does not compile. Call before `load`.
        """
        cdef Topic *topic
        cdef Topic **more
        cdef Index *index
        cdef int rc, i = 0
        cdef bytes sql
        indexes = list(indexes)
        topic = <Topic *>calloc(1, sizeof(Topic))
        more = <Topic **>realloc(self.host.topics, (self.host.n_topics + 1) * sizeof(Topic *))
        if topic == NULL or more == NULL:
            free(topic)
            raise MemoryError
        self.host.topics = more
        topic.number = number
        topic.shards = self.host.shards
        topic.readers = self.host.readers
        if reader is not None:
            self.readers += (reader,)
            topic.own_reader = <sqlite3 *><size_t>reader.sqlite3_pointer()
            topic.shards = 1
            topic.readers = &topic.own_reader
        topic.indexes = <Index *>calloc(len(indexes) + 1, sizeof(Index))
        topic.idle = <Pooled **>calloc(KINDS * topic.shards + 1, sizeof(Pooled *))
        self.host.topics[self.host.n_topics] = topic
        self.host.n_topics += 1
        if topic.indexes == NULL or topic.idle == NULL:
            raise MemoryError
        for expression, is_text, *beside in indexes:
            index = &topic.indexes[i]
            index.is_text = is_text
            sql = (f"SELECT {expression} FROM (SELECT CAST(?1 AS TEXT) AS key, CAST(?2 AS TEXT) AS payload,"
                   " CAST(floor(?3 / 1000.0) AS INTEGER) AS timestamp, ?3 AS timestamp_ms,"
                   f" CAST(?4 AS TEXT) AS op, CAST(?5 AS TEXT) AS changes){''.join(beside)}").encode()
            rc = sqlite3_prepare_v3(self.host.db, sql, <int>len(sql), SQLITE_PREPARE_PERSISTENT,
                                    &index.evaluate, NULL)
            if rc != SQLITE_OK:
                message = sqlite3_errmsg(self.host.db).decode("utf-8", "replace")
                raise StorageError(f"indexed expression {expression!r}: {message}", extended=rc)
            i += 1
            topic.n_indexes = i
            match = PLAIN_PATH.fullmatch(expression)
            if match and not any(beside):
                index.as_text = is_text or match["cast"] is not None
                names_of(index, (match["path"] or match["label"]).encode())
        self.names.append(name)
        slot = self.host.n_topics - 1
        for suffix, mode in (("", CURRENT), (":delta", DELTA), (":both", BOTH)):
            quoted = (name + suffix).replace('"', '""')
            self.connection.execute(
                f'CREATE VIRTUAL TABLE "{quoted}" USING litejoin_topic({slot}, {mode})')

    def leave_out(self, shard: int) -> None:
        """From now on no row of this shard is read: a query that needs one fails. Before `load`, every look-up in
        a key map fails as well, since the maps will lack the shard's rows."""
        if not 0 <= shard < self.host.shards:
            raise ValueError(f"there is no shard {shard}")
        self.host.out[shard] = 1
        self.host.any_out = True
        self.host.blind = self.host.blind or not self.loaded
        if self.host.damaged == shard:
            self.host.damaged = -1

    def damaged(self) -> int:
        """The first shard in which a row or a page was met that is not what was written; -1: none. Such a row
        fails the query that reads it."""
        return self.host.damaged

    def tolerate(self, tolerant: bool) -> None:
        """Whether rows of shards that were left out count as absent: for collecting the keys of results that may
        have changed, never for making results."""
        self.host.tolerant = tolerant

    def load(self) -> int:
        """Build the key maps from the shards; returns the rows read. Blocking, about 2 us a row and index.

        Raises CorruptionError for a row that fails its checksum.
        """
        cdef int i
        cdef long rows = 0
        self.loaded = True
        for i in range(self.host.n_topics):
            if self.host.topics[i].n_indexes:
                rows += self._load_topic(i)
        return rows

    def _load_topic(self, int slot):
        cdef Table table
        cdef Cursor cursor
        cdef int rc = SQLITE_OK
        cdef long rows = 0
        cdef Topic *topic = self.host.topics[slot]
        memset(&table, 0, sizeof(table))
        memset(&cursor, 0, sizeof(cursor))
        table.host = self.host
        table.topic = topic
        cursor.table = &table
        cursor.base.pVtab = &table.base
        cursor.held = <Pooled **>calloc(KINDS * topic.shards + 1, sizeof(Pooled *))
        if cursor.held == NULL:
            raise MemoryError
        with nogil:
            rc = load_rows(&cursor, topic, &rows)
            give_back(&cursor)
        free(cursor.held)
        message = table.base.zErrMsg.decode("utf-8", "replace") if table.base.zErrMsg != NULL else "out of memory"
        sqlite3_free(table.base.zErrMsg)
        if rc != SQLITE_OK:
            kind = CorruptionError if self.host.damaged >= 0 else StorageError
            raise kind(f"topic {self.names[slot]}: {message}", extended=rc, shard=self.host.damaged)
        return rows

    def apply(self, changes, *, maps_current: bool = False) -> int:
        """Show these change rows in the delta and both tables, and bring the key maps up to date.

        `changes`: bytes objects of packed change rows, oldest first, held until `clear`. With
        `maps_current` the maps already hold the new state (replay after `load`). Returns the rows taken.
        Raises ValueError when the bytes are not change rows.
        """
        cdef const char *at
        cdef size_t left
        cdef bint update = not maps_current
        cdef long taken = 0, done
        self.clear()
        self.held = tuple(changes)
        for chunk in self.held:
            at = PyBytes_AS_STRING(chunk)
            left = <size_t>PyBytes_GET_SIZE(chunk)
            with nogil:
                done = apply_chunk(self.host, at, left, update)
            if done == -1:
                raise ValueError("not a buffer of change rows")
            if done < 0:
                raise MemoryError
            taken += done
        return taken

    def versions(self, number: int) -> int:
        """How many versions the delta table of a topic has: of each change the old one, then the new one."""
        return self.host.topics[self._slot_of(number)].n_changes * 2

    def show_versions(self, first: int = 0, count: int = 0) -> None:
        """Let delta tables show these versions only; 0: all of them."""
        self.host.first_shown = first
        self.host.n_shown = count

    def version_key(self, number: int, version: int) -> str:
        """The message key that a version has."""
        cdef LjChangeRow *change = &self.host.topics[self._slot_of(number)].changes[<uint32_t>(version // 2)]
        return change.old.key.at[:change.old.key.len].decode("utf-8", "replace")

    cdef int _slot_of(self, int number) except -1:
        cdef int slot = lj_topic_slot(self.host, number)
        if slot < 0:
            raise ValueError(f"no topic has the number {number}")
        return slot

    def changed(self) -> list:
        """The catalogue numbers of the topics that the applied changes touch."""
        return [self.host.topics[i].number for i in range(self.host.n_topics) if self.host.topics[i].n_changes]

    def clear(self) -> None:
        """Empty the delta tables and let go of the change rows."""
        cdef int i, j
        cdef Topic *topic
        for i in range(self.host.n_topics):
            topic = self.host.topics[i]
            if topic.n_changes:
                topic.n_changes = 0
                km_clear(&topic.old_keys)
                km_clear(&topic.odd_olds)
                for j in range(topic.n_indexes):
                    km_clear(&topic.indexes[j].olds)
        self.held = ()

    def pointer(self) -> int:
        """The address of the LjHost (topic_host.h) behind these tables, for the native executor. It is
        valid until this object is collected; the executor keeps it alive."""
        return <size_t>self.host

    def memory_bytes(self) -> int:
        """Bytes held by the key maps."""
        cdef int i, j
        cdef uint64_t total = 0
        for i in range(self.host.n_topics):
            for j in range(self.host.topics[i].n_indexes):
                total += km_bytes(&self.host.topics[i].indexes[j].rows)
        return total

    def close(self) -> None:
        """Finalize every statement on the readers and the host, so that they can be closed."""
        if not self.closed:
            self.clear()
            free_statements(self.host)
            self.closed = True


cdef int load_rows(Cursor *cursor, Topic *topic, long *rows) noexcept nogil:
    cdef Hashes hashes
    cdef int rc
    hashes_init(&hashes)
    cursor.shard = -1
    cursor.plan = PLAN_SCAN
    # What was left out cannot be in the key maps; looking things up in them is refused then (`blind`).
    cursor.table.host.tolerant = True
    while True:
        rc = scan_next(cursor)
        if rc == SQLITE_OK and not cursor.at_end:
            rows[0] += 1
            rc = load_row(cursor, topic, &hashes)
        if rc != SQLITE_OK or cursor.at_end:
            cursor.table.host.tolerant = False
            hashes_free(&hashes)
            return rc


cdef int load_row(Cursor *cursor, Topic *topic, Hashes *hashes) noexcept nogil:
    cdef int i
    cdef uint32_t j
    for i in range(topic.n_indexes):
        if index_hashes(&topic.indexes[i], &cursor.row, hashes):
            return SQLITE_NOMEM
        for j in range(hashes.n):
            if km_add(&topic.indexes[i].rows, hashes.at[j], <uint64_t>cursor.rowid):
                return SQLITE_NOMEM
    return SQLITE_OK


cdef Topic *topic_of(Host *host, uint16_t number) noexcept nogil:
    cdef int i
    for i in range(host.n_topics):
        if host.topics[i].number == number:
            return host.topics[i]
    return NULL


cdef long apply_chunk(Host *host, const char *at, size_t left, bint update) noexcept nogil:
    """Rows taken; -1: not change rows; -2: out of memory."""
    cdef LjChangeRow change
    cdef LjChangeRow *more
    cdef Topic *topic = NULL
    cdef size_t size
    cdef long taken = 0
    while left:
        size = lj_read_change(at, left, &change)
        if size == 0:
            return -1
        at += size
        left -= size
        if topic == NULL or topic.number != change.topic:
            topic = topic_of(host, change.topic)
        if topic == NULL:
            continue
        if topic.n_changes == topic.cap_changes:
            more = <LjChangeRow *>realloc(topic.changes, (topic.cap_changes * 2 + 64) * sizeof(LjChangeRow))
            if more == NULL:
                return -2
            topic.changes = more
            topic.cap_changes = topic.cap_changes * 2 + 64
        topic.changes[topic.n_changes] = change
        topic.n_changes += 1
        topic.passed_known = False
        if note_odd(host, topic, &change, update) or note_change(topic, &change, update):
            return -2
        taken += 1
    return taken


cdef int note_change(Topic *topic, LjChangeRow *change, bint update) noexcept nogil:
    """Enter one change into the maps: old versions by key and by value, current rows by value."""
    cdef Hashes before
    cdef Hashes after
    cdef int i, failed = 0
    if change.flags & LJ_HAS_OLD and km_add(
            &topic.old_keys, lj_map_hash(change.old.key.at, change.old.key.len, 1), topic.n_changes):
        return -1
    hashes_init(&before)
    hashes_init(&after)
    for i in range(topic.n_indexes):
        failed = note_index(&topic.indexes[i], change, topic.n_changes, update, &before, &after)
        if failed:
            break
    hashes_free(&before)
    hashes_free(&after)
    return failed


cdef int note_odd(Host *host, Topic *topic, LjChangeRow *change, bint update) noexcept nogil:
    """Keep track of keys that are numbers in unusual dress."""
    cdef uint64_t ref = <uint64_t>change.shard << LJ_SHARD_SHIFT | <uint64_t>change.rowid
    cdef bint has_old = change.flags & LJ_HAS_OLD != 0
    cdef bint has_new = change.flags & LJ_HAS_NEW != 0
    cdef LjVersion *row = &change.old if has_old else &change.now
    cdef uint64_t hashed
    if not (has_old or has_new) or not lj_is_odd_number(row.key.at, row.key.len):
        return 0
    hashed = number_hash(host, row)
    if has_old and km_add(&topic.odd_olds, hashed, topic.n_changes):
        return -1
    if not update or not topic.odd_ready or has_old == has_new:
        return 0
    if has_old:
        km_remove(&topic.odd_rows, hashed, ref)
        return 0
    return km_add(&topic.odd_rows, hashed, ref)


cdef int note_index(Index *index, LjChangeRow *change, uint32_t number, bint update, Hashes *before,
                    Hashes *after) noexcept nogil:
    cdef uint64_t ref = <uint64_t>change.shard << LJ_SHARD_SHIFT | <uint64_t>change.rowid
    cdef uint32_t j
    before.n = 0
    after.n = 0
    if change.flags & LJ_HAS_OLD:
        if index_hashes(index, &change.old, before):
            return -1
        for j in range(before.n):
            if km_add(&index.olds, before.at[j], number):
                return -1
    if not update:
        return 0
    if change.flags & LJ_HAS_NEW and index_hashes(index, &change.now, after):
        return -1
    for j in range(before.n):
        if not hashes_hold(after, before.at[j]):
            km_remove(&index.rows, before.at[j], ref)
    for j in range(after.n):
        if not hashes_hold(before, after.at[j]) and km_add(&index.rows, after.at[j], ref):
            return -1
    return 0
