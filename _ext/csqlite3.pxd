# C declarations of SQLite's extension interface, and nothing else.
#
# Every function here is a macro of sqlite3ext.h that goes through the module's own `sqlite3_api`
# pointer, so the native modules run on the one SQLite that apsw carries. A module calls
# lj_set_api(bridge.api_pointer()) before anything else.
from libc.stdint cimport uint64_t

cdef extern from "sqlite_bridge.h" nogil:
    void lj_set_api(size_t pointer)

    ctypedef long long sqlite3_int64
    ctypedef unsigned long long sqlite3_uint64
    ctypedef struct sqlite3:
        pass
    ctypedef struct sqlite3_stmt:
        pass
    ctypedef struct sqlite3_context:
        pass
    ctypedef struct sqlite3_value:
        pass
    ctypedef struct sqlite3_api_routines:
        pass
    ctypedef void (*sqlite3_destructor_type)(void *) noexcept nogil

    enum:
        SQLITE_OK
        SQLITE_ERROR
        SQLITE_BUSY
        SQLITE_LOCKED
        SQLITE_NOMEM
        SQLITE_READONLY
        SQLITE_INTERRUPT
        SQLITE_IOERR
        SQLITE_CORRUPT
        SQLITE_FULL
        SQLITE_CANTOPEN
        SQLITE_CONSTRAINT
        SQLITE_MISMATCH
        SQLITE_MISUSE
        SQLITE_NOTADB
        SQLITE_TOOBIG
        SQLITE_ROW
        SQLITE_DONE
        SQLITE_INTEGER
        SQLITE_FLOAT
        SQLITE_TEXT
        SQLITE_BLOB
        SQLITE_NULL
        SQLITE_UTF8
        SQLITE_PREPARE_PERSISTENT
        SQLITE_INDEX_CONSTRAINT_EQ
        SQLITE_INDEX_CONSTRAINT_GT
        SQLITE_INDEX_CONSTRAINT_LE
        SQLITE_INDEX_CONSTRAINT_LT
        SQLITE_INDEX_CONSTRAINT_GE
        SQLITE_INDEX_CONSTRAINT_ISNULL
        SQLITE_INDEX_SCAN_UNIQUE
        SQLITE_VTAB_DIRECTONLY
        SQLITE_VTAB_INNOCUOUS

    sqlite3_destructor_type SQLITE_STATIC
    sqlite3_destructor_type SQLITE_TRANSIENT

    const char *sqlite3_libversion()
    const char *sqlite3_sourceid()
    const char *sqlite3_errmsg(sqlite3 *)
    const char *sqlite3_errstr(int)
    int sqlite3_extended_errcode(sqlite3 *)
    int sqlite3_get_autocommit(sqlite3 *)
    int sqlite3_changes(sqlite3 *)
    sqlite3_int64 sqlite3_last_insert_rowid(sqlite3 *)
    int sqlite3_exec(sqlite3 *, const char *, void *, void *, char **)
    void *sqlite3_malloc64(sqlite3_uint64)
    void *sqlite3_realloc64(void *, sqlite3_uint64)
    void sqlite3_free(void *)
    char *sqlite3_mprintf(const char *, ...)

    int sqlite3_prepare_v3(sqlite3 *, const char *, int, unsigned int, sqlite3_stmt **, const char **)
    int sqlite3_step(sqlite3_stmt *)
    int sqlite3_reset(sqlite3_stmt *)
    int sqlite3_finalize(sqlite3_stmt *)
    int sqlite3_clear_bindings(sqlite3_stmt *)
    int sqlite3_bind_null(sqlite3_stmt *, int)
    int sqlite3_bind_int(sqlite3_stmt *, int, int)
    int sqlite3_bind_int64(sqlite3_stmt *, int, sqlite3_int64)
    int sqlite3_bind_double(sqlite3_stmt *, int, double)
    int sqlite3_bind_text(sqlite3_stmt *, int, const char *, int, sqlite3_destructor_type)
    int sqlite3_bind_text64(sqlite3_stmt *, int, const char *, sqlite3_uint64, sqlite3_destructor_type, unsigned char)
    int sqlite3_bind_blob(sqlite3_stmt *, int, const void *, int, sqlite3_destructor_type)
    int sqlite3_bind_blob64(sqlite3_stmt *, int, const void *, sqlite3_uint64, sqlite3_destructor_type)
    int sqlite3_bind_value(sqlite3_stmt *, int, const sqlite3_value *)
    int sqlite3_bind_parameter_count(sqlite3_stmt *)
    int sqlite3_column_count(sqlite3_stmt *)
    const char *sqlite3_column_name(sqlite3_stmt *, int)
    int sqlite3_column_type(sqlite3_stmt *, int)
    sqlite3_int64 sqlite3_column_int64(sqlite3_stmt *, int)
    int sqlite3_column_int(sqlite3_stmt *, int)
    double sqlite3_column_double(sqlite3_stmt *, int)
    const unsigned char *sqlite3_column_text(sqlite3_stmt *, int)
    const void *sqlite3_column_blob(sqlite3_stmt *, int)
    int sqlite3_column_bytes(sqlite3_stmt *, int)
    sqlite3_value *sqlite3_column_value(sqlite3_stmt *, int)

    int sqlite3_value_type(sqlite3_value *)
    sqlite3_int64 sqlite3_value_int64(sqlite3_value *)
    double sqlite3_value_double(sqlite3_value *)
    const unsigned char *sqlite3_value_text(sqlite3_value *)
    const void *sqlite3_value_blob(sqlite3_value *)
    int sqlite3_value_bytes(sqlite3_value *)

    void sqlite3_result_null(sqlite3_context *)
    void sqlite3_result_int(sqlite3_context *, int)
    void sqlite3_result_int64(sqlite3_context *, sqlite3_int64)
    void sqlite3_result_double(sqlite3_context *, double)
    void sqlite3_result_text(sqlite3_context *, const char *, int, sqlite3_destructor_type)
    void sqlite3_result_text64(sqlite3_context *, const char *, sqlite3_uint64, sqlite3_destructor_type, unsigned char)
    void sqlite3_result_value(sqlite3_context *, sqlite3_value *)
    void sqlite3_result_error(sqlite3_context *, const char *, int)
    void sqlite3_result_error_nomem(sqlite3_context *)
    void sqlite3_result_error_code(sqlite3_context *, int)

    struct sqlite3_index_constraint:
        int iColumn
        unsigned char op
        unsigned char usable
    struct sqlite3_index_orderby:
        int iColumn
        unsigned char desc
    struct sqlite3_index_constraint_usage:
        int argvIndex
        unsigned char omit
    ctypedef struct sqlite3_index_info:
        int nConstraint
        sqlite3_index_constraint *aConstraint
        int nOrderBy
        sqlite3_index_orderby *aOrderBy
        sqlite3_index_constraint_usage *aConstraintUsage
        int idxNum
        char *idxStr
        int needToFreeIdxStr
        int orderByConsumed
        double estimatedCost
        sqlite3_int64 estimatedRows
        int idxFlags
        sqlite3_uint64 colUsed

    ctypedef struct sqlite3_module:
        int iVersion
        int (*xCreate)(sqlite3 *, void *, int, const char *const *, sqlite3_vtab **, char **) noexcept nogil
        int (*xConnect)(sqlite3 *, void *, int, const char *const *, sqlite3_vtab **, char **) noexcept nogil
        int (*xBestIndex)(sqlite3_vtab *, sqlite3_index_info *) noexcept nogil
        int (*xDisconnect)(sqlite3_vtab *) noexcept nogil
        int (*xDestroy)(sqlite3_vtab *) noexcept nogil
        int (*xOpen)(sqlite3_vtab *, sqlite3_vtab_cursor **) noexcept nogil
        int (*xClose)(sqlite3_vtab_cursor *) noexcept nogil
        int (*xFilter)(sqlite3_vtab_cursor *, int, const char *, int, sqlite3_value **) noexcept nogil
        int (*xNext)(sqlite3_vtab_cursor *) noexcept nogil
        int (*xEof)(sqlite3_vtab_cursor *) noexcept nogil
        int (*xColumn)(sqlite3_vtab_cursor *, sqlite3_context *, int) noexcept nogil
        int (*xRowid)(sqlite3_vtab_cursor *, sqlite3_int64 *) noexcept nogil
    ctypedef struct sqlite3_vtab:
        const sqlite3_module *pModule
        int nRef
        char *zErrMsg
    ctypedef struct sqlite3_vtab_cursor:
        sqlite3_vtab *pVtab

    int sqlite3_create_module_v2(sqlite3 *, const char *, const sqlite3_module *, void *, sqlite3_destructor_type)
    int sqlite3_declare_vtab(sqlite3 *, const char *)
    int sqlite3_vtab_config(sqlite3 *, int, ...)
    int sqlite3_stricmp(const char *, const char *)
    const char *sqlite3_vtab_collation(sqlite3_index_info *, int)
    int sqlite3_vtab_in(sqlite3_index_info *, int, int)
    int sqlite3_vtab_in_first(sqlite3_value *, sqlite3_value **)
    int sqlite3_vtab_in_next(sqlite3_value *, sqlite3_value **)
    enum:
        SQLITE_DIRECTONLY
    ctypedef void (*sqlite3_function)(sqlite3_context *, int, sqlite3_value **) noexcept nogil
    int sqlite3_create_function_v2(
        sqlite3 *, const char *, int, int, void *, sqlite3_function, void *, void *, void *)
    void *sqlite3_user_data(sqlite3_context *)
    ctypedef int (*sqlite3_wal_callback)(void *, sqlite3 *, const char *, int) noexcept nogil
    void *sqlite3_wal_hook(sqlite3 *, sqlite3_wal_callback, void *)
    int sqlite3_wal_checkpoint_v2(sqlite3 *, const char *, int, int *, int *)
