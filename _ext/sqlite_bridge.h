#ifndef LJ_SQLITE_BRIDGE_H
#define LJ_SQLITE_BRIDGE_H
#include <sqlite3ext.h>
static const sqlite3_api_routines *sqlite3_api = 0;
static inline void lj_set_api(void *p) { sqlite3_api = (const sqlite3_api_routines *)p; }
#endif
