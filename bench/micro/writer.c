/* The yardstick of the batch writer: the same upserts as a plain C loop, on the same SQLite.
 *
 * Built by writer.py as a shared object; it is given SQLite's routine table as the native modules are,
 * so both loops run on one library with one set of compile options. Rows are pointers into memory,
 * keys are bound static, one transaction a batch: nothing is parsed, checked, sorted or routed.
 *
 *     int  loop(api, db, rows, count, batch)     0 or SQLite's code
 */
#include <sqlite3ext.h>
#include <stdint.h>
SQLITE_EXTENSION_INIT1

typedef struct {
    const char *key, *payload;
    int32_t key_len, payload_len;
    int64_t timestamp_ms;
} Row;

static const char *UPSERT =
    "INSERT INTO t1(key,payload,timestamp_ms,op,changes,checksum) VALUES(?2,?3,?4,1,?5,?6)"
    " ON CONFLICT(key) DO UPDATE SET payload=excluded.payload,op=2,changes=excluded.changes,"
    "timestamp_ms=excluded.timestamp_ms,checksum=excluded.checksum";

static int run(sqlite3_stmt *stmt) {
    int rc = sqlite3_step(stmt);
    int reset = sqlite3_reset(stmt);
    return rc == SQLITE_DONE ? reset : rc;
}

static int write_all(sqlite3_stmt *begin, sqlite3_stmt *upsert, sqlite3_stmt *commit, const Row *rows,
                     long count, long batch) {
    for (long i = 0; i < count; i++) {
        if (i % batch == 0) {
            int rc = run(begin);
            if (rc) return rc;
        }
        const Row *r = &rows[i];
        int rc = sqlite3_bind_text(upsert, 2, r->key, r->key_len, SQLITE_STATIC);
        if (!rc) rc = sqlite3_bind_text(upsert, 3, r->payload, r->payload_len, SQLITE_STATIC);
        if (!rc) rc = sqlite3_bind_int64(upsert, 4, r->timestamp_ms);
        if (!rc) rc = sqlite3_bind_null(upsert, 5);
        if (!rc) rc = sqlite3_bind_int64(upsert, 6, 0);
        if (!rc) rc = run(upsert);
        if (!rc && (i % batch == batch - 1 || i == count - 1)) rc = run(commit);
        if (rc) return rc;
    }
    return SQLITE_OK;
}

int loop(void *api, sqlite3 *db, const Row *rows, long count, long batch) {
    SQLITE_EXTENSION_INIT2((const sqlite3_api_routines *)api);
    sqlite3_stmt *begin = 0, *upsert = 0, *commit = 0;
    int rc = sqlite3_prepare_v2(db, "BEGIN IMMEDIATE", -1, &begin, 0);
    if (!rc) rc = sqlite3_prepare_v2(db, "COMMIT", -1, &commit, 0);
    if (!rc) rc = sqlite3_prepare_v3(db, UPSERT, -1, SQLITE_PREPARE_PERSISTENT, &upsert, 0);
    if (!rc) rc = write_all(begin, upsert, commit, rows, count, batch);
    sqlite3_finalize(begin);
    sqlite3_finalize(upsert);
    sqlite3_finalize(commit);
    return rc;
}
