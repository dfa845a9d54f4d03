/* A VFS that writes a transaction's frames to the write-ahead log together.
 *
 * SQLite writes a frame with two calls, the header (24 bytes) and then the page, so a flush of a thousand
 * random keys is thousands of system calls. Here the frames of a log are gathered in a buffer and written
 * with one call, at the latest with the frame that commits: SQLite hears of a failure from the very write
 * that completes its transaction, before anything is published in the -shm. Other files are the base VFS's
 * own. https://www.sqlite.org/vfs.html, https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 *
 * What is gathered is never needed by another connection, for it is not committed; this one reads it back
 * (a spilled page) only after it was written. Only a header that continues the file is held back, and only
 * the page that belongs to it; all else goes out at once, with what was gathered before it: a page written
 * again in the same transaction, checksums made anew, a log that starts again. What a rollback leaves is
 * dropped when the connection gives the write lock back: by the next write, that place in the file may be
 * another connection's. Where the file system may tear the bytes beside a write (no POWERSAFE_OVERWRITE)
 * SQLite splits frames at sectors: nothing is gathered there. */
#ifndef LJ_WAL_VFS_H
#define LJ_WAL_VFS_H
#include <stdlib.h>
#include <string.h>
#include "sqlite_bridge.h"

/* SQLite's unix VFS writes at most 0x1ffff bytes a call. */
enum { LJ_FRAME_HEADER = 24, LJ_GATHERED_BYTES = 120 * 1024, LJ_WRITE_LOCK = 0 };

/* What both files begin with. The file of the base VFS follows the struct. */
typedef struct {
    sqlite3_file base;
    sqlite3_file *real;
} LjFile;

typedef struct LjDatabaseFile LjDatabaseFile;

typedef struct {
    LjFile file;
    LjDatabaseFile *database;
    unsigned char *gathered; /* LJ_GATHERED_BYTES, made at the first frame; NULL: write through */
    int size;                /* bytes gathered, to be written from `start` */
    int gathers;             /* 0: write through */
    sqlite3_int64 start;
    sqlite3_int64 end;       /* where the next frame of this transaction goes; -1: not known */
    int awaited;             /* a header was gathered last: its page comes next */
    int commits;             /* ... and it says that its frame ends the transaction */
} LjWalFile;

struct LjDatabaseFile {
    LjFile file;
    LjWalFile *wal; /* while it is open */
    sqlite3_io_methods methods; /* of the version that the base VFS has */
};

static inline LjWalFile *lj_wal(sqlite3_file *file) { return (LjWalFile *)file; }
static inline sqlite3_file *lj_real(sqlite3_file *file) { return ((LjFile *)file)->real; }
/* Call a method of the base VFS's file. */
#define LJ_PASS(file, method, ...) lj_real(file)->pMethods->method(lj_real(file), ##__VA_ARGS__)

static int lj_wal_write_out(LjWalFile *wal) {
    int size = wal->size;
    if (!size) return SQLITE_OK;
    wal->size = 0;
    int rc = LJ_PASS(&wal->file.base, xWrite, wal->gathered, size, wal->start);
    if (rc) wal->end = -1;
    return rc;
}

static int lj_wal_through(LjWalFile *wal, const void *data, int size, sqlite3_int64 at) {
    int rc = lj_wal_write_out(wal);
    if (!rc) rc = LJ_PASS(&wal->file.base, xWrite, data, size, at);
    wal->end = rc ? -1 : at + size;
    wal->awaited = 0;
    return rc;
}

static void lj_wal_gather(LjWalFile *wal, const void *data, int size, sqlite3_int64 at) {
    if (!wal->size) wal->start = at;
    memcpy(wal->gathered + wal->size, data, (size_t)size);
    wal->size += size;
    wal->end = at + size;
}

/* True for the header of a frame that continues the log, with room for it and the largest page. */
static int lj_wal_takes_header(LjWalFile *wal, int size, sqlite3_int64 at) {
    if (!wal->gathers || wal->awaited || size != LJ_FRAME_HEADER || at != wal->end) return 0;
    if (!wal->gathered && !(wal->gathered = malloc(LJ_GATHERED_BYTES))) wal->gathers = 0;
    return wal->gathers;
}

static int lj_wal_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at) {
    LjWalFile *wal = lj_wal(file);
    if (lj_wal_takes_header(wal, size, at)) {
        const unsigned char *header = data;
        wal->awaited = 1;
        /* The size of the database after the commit; 0 for all but the last frame. */
        wal->commits = (header[4] | header[5] | header[6] | header[7]) != 0;
        lj_wal_gather(wal, data, size, at);
        return SQLITE_OK;
    }
    if (!wal->awaited || at != wal->end || wal->size + size > LJ_GATHERED_BYTES)
        return lj_wal_through(wal, data, size, at);
    wal->awaited = 0;
    lj_wal_gather(wal, data, size, at);
    /* Room for one more frame of this page size, or out with it. */
    if (wal->commits || wal->size + LJ_FRAME_HEADER + size > LJ_GATHERED_BYTES) return lj_wal_write_out(wal);
    return SQLITE_OK;
}

static int lj_wal_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at) {
    LjWalFile *wal = lj_wal(file);
    if (wal->size && at < wal->start + wal->size && at + size > wal->start) {
        int rc = lj_wal_write_out(wal);
        wal->awaited = 0;
        if (rc) return rc;
    }
    return LJ_PASS(file, xRead, data, size, at);
}

static int lj_wal_sync(sqlite3_file *file, int flags) {
    int rc = lj_wal_write_out(lj_wal(file));
    return rc ? rc : LJ_PASS(file, xSync, flags);
}

static int lj_wal_truncate(sqlite3_file *file, sqlite3_int64 size) {
    int rc = lj_wal_write_out(lj_wal(file));
    lj_wal(file)->end = -1;
    return rc ? rc : LJ_PASS(file, xTruncate, size);
}

static int lj_wal_file_size(sqlite3_file *file, sqlite3_int64 *size) {
    int rc = lj_wal_write_out(lj_wal(file));
    return rc ? rc : LJ_PASS(file, xFileSize, size);
}

static int lj_wal_close(sqlite3_file *file) {
    LjWalFile *wal = lj_wal(file);
    if (wal->database) wal->database->wal = 0;
    free(wal->gathered);
    return LJ_PASS(file, xClose);
}

static int lj_file_close(sqlite3_file *file) { return LJ_PASS(file, xClose); }

static int lj_file_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at) {
    return LJ_PASS(file, xRead, data, size, at);
}

static int lj_file_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at) {
    return LJ_PASS(file, xWrite, data, size, at);
}

static int lj_file_truncate(sqlite3_file *file, sqlite3_int64 size) { return LJ_PASS(file, xTruncate, size); }
static int lj_file_sync(sqlite3_file *file, int flags) { return LJ_PASS(file, xSync, flags); }
static int lj_file_size(sqlite3_file *file, sqlite3_int64 *size) { return LJ_PASS(file, xFileSize, size); }
static int lj_file_lock(sqlite3_file *file, int level) { return LJ_PASS(file, xLock, level); }
static int lj_file_unlock(sqlite3_file *file, int level) { return LJ_PASS(file, xUnlock, level); }
static int lj_file_is_reserved(sqlite3_file *file, int *out) { return LJ_PASS(file, xCheckReservedLock, out); }
static int lj_file_control(sqlite3_file *file, int op, void *argument) { return LJ_PASS(file, xFileControl, op, argument); }
static int lj_file_sector(sqlite3_file *file) { return LJ_PASS(file, xSectorSize); }
static int lj_file_device(sqlite3_file *file) { return LJ_PASS(file, xDeviceCharacteristics); }
static void lj_file_barrier(sqlite3_file *file) { LJ_PASS(file, xShmBarrier); }
static int lj_file_unmap(sqlite3_file *file, int remove) { return LJ_PASS(file, xShmUnmap, remove); }

static int lj_file_map(sqlite3_file *file, int page, int size, int extend, void volatile **out) {
    return LJ_PASS(file, xShmMap, page, size, extend, out);
}

static int lj_file_fetch(sqlite3_file *file, sqlite3_int64 at, int size, void **out) {
    return LJ_PASS(file, xFetch, at, size, out);
}

static int lj_file_unfetch(sqlite3_file *file, sqlite3_int64 at, void *page) {
    return LJ_PASS(file, xUnfetch, at, page);
}

/* After the write lock is given back, what is still gathered was rolled back. */
static int lj_file_shm_lock(sqlite3_file *file, int first, int count, int flags) {
    LjWalFile *wal = ((LjDatabaseFile *)file)->wal;
    if (wal && first == LJ_WRITE_LOCK && flags & SQLITE_SHM_UNLOCK) wal->size = wal->awaited = 0;
    return LJ_PASS(file, xShmLock, first, count, flags);
}

/* Version 1: a log has no shared memory of its own and is never mapped. */
static const sqlite3_io_methods lj_wal_methods = {
    1, lj_wal_close, lj_wal_read, lj_wal_write, lj_wal_truncate, lj_wal_sync, lj_wal_file_size,
    lj_file_lock, lj_file_unlock, lj_file_is_reserved, lj_file_control, lj_file_sector, lj_file_device,
    0, 0, 0, 0, 0, 0};
static const sqlite3_io_methods lj_database_methods = {
    3, lj_file_close, lj_file_read, lj_file_write, lj_file_truncate, lj_file_sync, lj_file_size,
    lj_file_lock, lj_file_unlock, lj_file_is_reserved, lj_file_control, lj_file_sector, lj_file_device,
    lj_file_map, lj_file_shm_lock, lj_file_barrier, lj_file_unmap, lj_file_fetch, lj_file_unfetch};

static int lj_vfs_open_database(sqlite3_vfs *real, const char *name, LjDatabaseFile *file, int flags, int *out) {
    memset(file, 0, sizeof *file);
    file->file.real = (sqlite3_file *)(file + 1);
    int rc = real->xOpen(real, name, file->file.real, flags, out);
    if (!file->file.real->pMethods) return rc;
    file->methods = lj_database_methods;
    if (file->file.real->pMethods->iVersion < 3) file->methods.iVersion = file->file.real->pMethods->iVersion;
    file->file.base.pMethods = &file->methods;
    return rc;
}

static int lj_vfs_open_wal(sqlite3_vfs *real, const char *name, LjWalFile *wal, int flags, int *out) {
    memset(wal, 0, sizeof *wal);
    wal->end = -1;
    wal->file.real = (sqlite3_file *)(wal + 1);
    int rc = real->xOpen(real, name, wal->file.real, flags, out);
    if (!wal->file.real->pMethods) return rc;
    wal->file.base.pMethods = &lj_wal_methods;
    wal->gathers = (LJ_PASS(&wal->file.base, xDeviceCharacteristics) & SQLITE_IOCAP_POWERSAFE_OVERWRITE) != 0;
    wal->database = (LjDatabaseFile *)sqlite3_database_file_object(name);
    wal->database->wal = wal;
    return rc;
}

static int lj_vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out) {
    sqlite3_vfs *real = vfs->pAppData;
    if (flags & SQLITE_OPEN_WAL) return lj_vfs_open_wal(real, name, (LjWalFile *)file, flags, out);
    if (flags & SQLITE_OPEN_MAIN_DB) return lj_vfs_open_database(real, name, (LjDatabaseFile *)file, flags, out);
    return real->xOpen(real, name, file, flags, out);
}

static int lj_vfs_delete(sqlite3_vfs *vfs, const char *name, int sync) {
    sqlite3_vfs *real = vfs->pAppData;
    return real->xDelete(real, name, sync);
}

static int lj_vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out) {
    sqlite3_vfs *real = vfs->pAppData;
    return real->xAccess(real, name, flags, out);
}

static int lj_vfs_full_name(sqlite3_vfs *vfs, const char *name, int size, char *out) {
    sqlite3_vfs *real = vfs->pAppData;
    return real->xFullPathname(real, name, size, out);
}

static int lj_vfs_randomness(sqlite3_vfs *vfs, int size, char *out) {
    sqlite3_vfs *real = vfs->pAppData;
    return real->xRandomness(real, size, out);
}

static int lj_vfs_sleep(sqlite3_vfs *vfs, int us) {
    sqlite3_vfs *real = vfs->pAppData;
    return real->xSleep(real, us);
}

/* Milliseconds of the Julian day. As SQLite asks: a base VFS may have either clock, or both. */
static int lj_vfs_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *out) {
    sqlite3_vfs *real = vfs->pAppData;
    if (real->iVersion >= 2 && real->xCurrentTimeInt64) return real->xCurrentTimeInt64(real, out);
    double days;
    int rc = real->xCurrentTime(real, &days);
    *out = (sqlite3_int64)(days * 86400000.0);
    return rc;
}

static int lj_vfs_time(sqlite3_vfs *vfs, double *out) {
    sqlite3_int64 ms = 0;
    int rc = lj_vfs_time_ms(vfs, &ms);
    *out = (double)ms / 86400000.0;
    return rc;
}

static int lj_vfs_last_error(sqlite3_vfs *vfs, int size, char *out) {
    sqlite3_vfs *real = vfs->pAppData;
    return real->xGetLastError ? real->xGetLastError(real, size, out) : 0;
}

/* Connections to data files load no extensions. */
static void *lj_vfs_no_library(sqlite3_vfs *vfs, const char *name) {
    (void)vfs, (void)name;
    return 0;
}

static void lj_vfs_no_library_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    if (size) out[0] = 0;
}

/* Make the VFS `name` known, over the one called `base` ("": the default one). Idempotent; a SQLite result
 * code. Not for two threads at a time. */
static int lj_vfs_register(const char *name, const char *base) {
    if (sqlite3_vfs_find(name)) return SQLITE_OK;
    sqlite3_vfs *real = sqlite3_vfs_find(*base ? base : 0), *made;
    if (!real) return SQLITE_ERROR;
    size_t name_size = strlen(name) + 1;
    if (!(made = calloc(1, sizeof *made + name_size))) return SQLITE_NOMEM;
    made->iVersion = 2;
    made->szOsFile = real->szOsFile;
    made->szOsFile += (int)(sizeof(LjDatabaseFile) > sizeof(LjWalFile) ? sizeof(LjDatabaseFile) : sizeof(LjWalFile));
    made->mxPathname = real->mxPathname;
    made->zName = memcpy(made + 1, name, name_size);
    made->pAppData = real;
    made->xOpen = lj_vfs_open;
    made->xDelete = lj_vfs_delete;
    made->xAccess = lj_vfs_access;
    made->xFullPathname = lj_vfs_full_name;
    made->xDlOpen = lj_vfs_no_library;
    made->xDlError = lj_vfs_no_library_error;
    made->xRandomness = lj_vfs_randomness;
    made->xSleep = lj_vfs_sleep;
    made->xCurrentTime = lj_vfs_time;
    made->xCurrentTimeInt64 = lj_vfs_time_ms;
    made->xGetLastError = lj_vfs_last_error;
    int rc = sqlite3_vfs_register(made, 0);
    if (rc) free(made);
    return rc;
}
#endif
