cimport csqlite3
cdef extern from *:
    """
    static void *lj_captured_api = 0;
    __attribute__((visibility("default")))
    int sqlite3_litejoin_init(sqlite3 *db, char **err, const sqlite3_api_routines *api) {
        (void)db; (void)err; lj_captured_api = (void *)api; return 0;
    }
    """
    void *lj_captured_api
def api_pointer() -> int:
    return <size_t>lj_captured_api
def libversion():
    csqlite3.lj_set_api(lj_captured_api)
    return csqlite3.sqlite3_libversion().decode()
