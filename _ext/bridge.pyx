"""Catches SQLite's routine table when apsw loads this file as an extension.

The shared object doubles as a SQLite loadable extension: its entry point stores the
`sqlite3_api_routines` pointer, which the other native modules then use. Beside it lives the other
thing that they share: the secret of their maps.
"""

import os

cimport csqlite3
from map_hash cimport LJ_MAP_SECRET_WORDS, lj_map_hash, lj_set_map_secret

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

cdef bytes MAP_SECRET = os.urandom(LJ_MAP_SECRET_WORDS * 8)


def api_pointer() -> int:
    """Address of SQLite's routine table; 0 before `load_extension` ran."""
    return lj_caught_api


def map_secret() -> bytes:
    """What lj_map_hash (map_hash.h) of every module of this process is keyed with."""
    return MAP_SECRET


def map_hash(bytes data not None, unsigned long long tag, bytes secret not None) -> int:
    """lj_map_hash as another secret has it: what the modules compute can be compared with others' words."""
    if len(secret) != LJ_MAP_SECRET_WORDS * 8:
        raise ValueError(f"a secret has {LJ_MAP_SECRET_WORDS * 8} bytes")
    lj_set_map_secret(secret)
    return lj_map_hash(<const char *>data, len(data), tag)


def source_id() -> str:
    """`sqlite3_sourceid()` as the native modules see it. Raises RuntimeError before the load."""
    if lj_caught_api == 0:
        raise RuntimeError("the bridge has not been loaded into a connection")
    csqlite3.lj_set_api(lj_caught_api)
    return csqlite3.sqlite3_sourceid().decode()
