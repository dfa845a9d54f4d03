/* Preloaded into a pipeline by tests/harness/failing_disk.py: lets writes or syncs of chosen files fail.
 *
 * LJ_FAULT_CONTROL names a file of two 32-bit numbers that says what fails now.
 *
 *   what   0 nothing, 1 sync with EIO, 2 write with EIO, 3 write with ENOSPC, 4 sync with ENOSPC,
 *          5 the process is killed before a sync
 *   left   of 5: syncs still to come, the fatal one included; counted down here
 *
 * LJ_FAULT_FILES is a part of the paths that are meant. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { EIO_ON_SYNC = 1, EIO_ON_WRITE, FULL_ON_WRITE, FULL_ON_SYNC, KILL_AT_SYNC };

struct control {
    atomic_int what;
    atomic_int left;
};

static struct control *control;
static const char *files;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("LJ_FAULT_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    files = getenv("LJ_FAULT_FILES");
    if (fd < 0 || !files) return;
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    close(fd);
}

static int is_meant(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strstr(path, files) != NULL;
}

static int fails(int fd, int is_sync) {
    int what = control ? atomic_load(&control->what) : 0;
    int of_sync = what == EIO_ON_SYNC || what == FULL_ON_SYNC || what == KILL_AT_SYNC;
    if (!what || of_sync != is_sync || !is_meant(fd)) return 0;
    if (what == KILL_AT_SYNC) {
        if (atomic_fetch_sub(&control->left, 1) == 1) kill(getpid(), SIGKILL);
        return 0;
    }
    errno = what == FULL_ON_WRITE || what == FULL_ON_SYNC ? ENOSPC : EIO;
    return 1;
}

typedef int (*sync_call)(int);
typedef ssize_t (*pwrite_call)(int, const void *, size_t, off_t);
typedef ssize_t (*pwrite64_call)(int, const void *, size_t, off64_t);
typedef ssize_t (*write_call)(int, const void *, size_t);

#define REAL(name, type) static type real; if (!real) real = (type)dlsym(RTLD_NEXT, name)

int fsync(int fd) {
    REAL("fsync", sync_call);
    return fails(fd, 1) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL("fdatasync", sync_call);
    return fails(fd, 1) ? -1 : real(fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL("pwrite", pwrite_call);
    return fails(fd, 0) ? -1 : real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL("pwrite64", pwrite64_call);
    return fails(fd, 0) ? -1 : real(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", write_call);
    return fails(fd, 0) ? -1 : real(fd, data, size);
}
