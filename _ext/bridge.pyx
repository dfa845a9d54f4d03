"""Catches SQLite's routine table when apsw loads this file as an extension.

The shared object doubles as a SQLite loadable extension: its entry point stores the
`sqlite3_api_routines` pointer, which the other native modules then use. Nothing else lives here.
"""

cimport csqlite3

cdef extern from *:
    """
    static size_t lj_caught_api = 0;
    /* Called by SQLite inside load_extension; exported although the rest is hidden. */
    __attribute__((visibility("default")))
    int sqlite3_litejoin_init(sqlite3 *db, char **error, const sqlite3_api_routines *api) {
        (void)db; (void)error;
        lj_caught_api = (size_t)api;
        return SQLITE_OK;
    }
    """
    size_t lj_caught_api

ENTRY_POINT = "sqlite3_litejoin_init"


def api_pointer() -> int:
    """Address of SQLite's routine table; 0 before `load_extension` ran."""
    return lj_caught_api


def source_id() -> str:
    """`sqlite3_sourceid()` as the native modules see it. Raises RuntimeError before the load."""
    if lj_caught_api == 0:
        raise RuntimeError("the bridge has not been loaded into a connection")
    csqlite3.lj_set_api(lj_caught_api)
    return csqlite3.sqlite3_sourceid().decode()
