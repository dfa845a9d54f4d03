"""The read transactions of the shards' readers, begun and ended together.

Called by the engine before each evaluation: eight shards cost eight times three statements, which as Python
calls took half of the time of a single change. One thread at a time; the GIL is released.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

from csqlite3 cimport *

from litejoin._ext import bridge
from litejoin.errors import CorruptionError, StorageError

cdef enum:
    END
    BEGIN
    NEWEST
    STATEMENTS

cdef const char **SQL = [b"COMMIT", b"BEGIN", b"SELECT max(seq) FROM batches"]


cdef class Snapshots:
    """Over one read-only apsw connection a shard, which stay open until `close`."""

    cdef object readers
    cdef sqlite3 **dbs
    cdef sqlite3_stmt **statements
    cdef int n
    cdef uint8_t *out
    cdef sqlite3_int64 *newest  # of each shard, as of the last move

    def __cinit__(self, readers):
        cdef int i, kind
        lj_set_api(<size_t>bridge.api_pointer())
        self.readers = tuple(readers)
        self.dbs = <sqlite3 **>calloc(len(self.readers) + 1, sizeof(sqlite3 *))
        self.statements = <sqlite3_stmt **>calloc((len(self.readers) + 1) * STATEMENTS, sizeof(sqlite3_stmt *))
        self.out = <uint8_t *>calloc(len(self.readers) + 1, 1)
        self.newest = <sqlite3_int64 *>calloc(len(self.readers) + 1, sizeof(sqlite3_int64))
        if self.dbs == NULL or self.statements == NULL or self.out == NULL or self.newest == NULL:
            raise MemoryError
        for i, reader in enumerate(self.readers):
            self.dbs[i] = <sqlite3 *><size_t>reader.sqlite3_pointer()
            self.n = i + 1
            for kind in range(STATEMENTS):
                rc = sqlite3_prepare_v3(self.dbs[i], SQL[kind], -1, SQLITE_PREPARE_PERSISTENT,
                                        &self.statements[i * STATEMENTS + kind], NULL)
                if rc != SQLITE_OK:
                    self._failed(i, rc)

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef int i
        for i in range(self.n * STATEMENTS):
            sqlite3_finalize(self.statements[i])
        free(self.statements)
        free(self.dbs)
        free(self.out)
        free(self.newest)
        self.newest = NULL
        self.out = NULL
        self.statements = NULL
        self.dbs = NULL
        self.n = 0

    def move(self) -> int:
        """Let every reader see what is committed now; returns the newest flush that has a batch record in
        its shard, 0 when none has. Raises StorageError. The caller keeps flushes away meanwhile."""
        cdef int i, rc = SQLITE_OK
        cdef sqlite3_int64 newest = 0
        with nogil:
            for i in range(self.n):
                if self.out[i]:
                    continue
                rc = end(self.dbs[i], &self.statements[i * STATEMENTS])
                if rc == SQLITE_OK:
                    rc = begin(&self.statements[i * STATEMENTS], &self.newest[i])
                if rc != SQLITE_OK:
                    break
                if self.newest[i] > newest:
                    newest = self.newest[i]
        if rc != SQLITE_OK:
            self._failed(i, rc)
        return newest

    @property
    def seqs(self) -> bytes:
        """The newest flush of each shard as of the last `move`, 8 bytes each; 0 when there is none."""
        return PyBytes_FromStringAndSize(<const char *>self.newest, self.n * sizeof(sqlite3_int64))

    def release(self) -> None:
        """End the transactions, so that checkpoints can reset the write-ahead logs. Raises StorageError."""
        cdef int i, rc = SQLITE_OK
        with nogil:
            for i in range(self.n):
                rc = end(self.dbs[i], &self.statements[i * STATEMENTS])
                if rc != SQLITE_OK:
                    break
        if rc != SQLITE_OK:
            self._failed(i, rc)

    def leave_out(self, shard: int) -> None:
        """End the shard's transaction and begin no other."""
        if not 0 <= shard < self.n:
            raise ValueError(f"there is no shard {shard}")
        if not self.out[shard]:
            self.out[shard] = 1
            # What it says no longer matters: the connection is not read again.
            end(self.dbs[shard], &self.statements[shard * STATEMENTS])

    cdef _failed(self, int shard, int rc):
        message = sqlite3_errmsg(self.dbs[shard]).decode("utf-8", "replace")
        is_damage = rc & 0xFF in (SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_IOERR)
        kind = CorruptionError if is_damage else StorageError
        raise kind(f"shard {shard}: {message}", extended=rc, shard=shard)

    def close(self) -> None:
        """Finalize the statements, so that the readers can be closed. Idempotent."""
        self._free()


cdef int run(sqlite3_stmt *stmt) noexcept nogil:
    cdef int rc = sqlite3_step(stmt)
    sqlite3_reset(stmt)
    return SQLITE_OK if rc == SQLITE_DONE else rc


cdef int end(sqlite3 *db, sqlite3_stmt **statements) noexcept nogil:
    return SQLITE_OK if sqlite3_get_autocommit(db) else run(statements[END])


cdef int begin(sqlite3_stmt **statements, sqlite3_int64 *newest) noexcept nogil:
    """BEGIN alone takes no snapshot: the first read does."""
    cdef sqlite3_stmt *stmt = statements[NEWEST]
    cdef int rc = run(statements[BEGIN])
    if rc != SQLITE_OK:
        return rc
    rc = sqlite3_step(stmt)
    if rc == SQLITE_ROW:
        newest[0] = sqlite3_column_int64(stmt, 0)
    sqlite3_reset(stmt)
    return SQLITE_OK if rc == SQLITE_ROW else rc
