# C declarations of the SQLite extension interface, and nothing else.
#
# Every name here is a macro of sqlite3ext.h that goes through the `sqlite3_api` pointer, so the
# native modules run on the one SQLite that apsw carries (docs/explanation/one-sqlite.md).
cdef extern from "sqlite_bridge.h" nogil:
    ctypedef long long sqlite3_int64
    ctypedef struct sqlite3:
        pass
    ctypedef struct sqlite3_stmt:
        pass
    void lj_set_api(void *p)
    const char *sqlite3_libversion()
    int sqlite3_prepare_v3(sqlite3 *, const char *, int, unsigned int, sqlite3_stmt **, const char **)
