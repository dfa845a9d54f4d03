/* The way from a native module to the one SQLite of the process (apsw's).
 *
 * Each module is its own shared object, so each holds its own copy of the pointer table and sets it
 * once with lj_set_api(bridge.api_pointer()). https://www.sqlite.org/loadext.html
 */
#ifndef LJ_SQLITE_BRIDGE_H
#define LJ_SQLITE_BRIDGE_H
#include <sqlite3ext.h>
static const sqlite3_api_routines *sqlite3_api = 0;
static inline void lj_set_api(size_t pointer) { sqlite3_api = (const sqlite3_api_routines *)pointer; }
#endif
