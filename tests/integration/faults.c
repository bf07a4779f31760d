/* Faults below a process, for LD_PRELOAD: a full disk, a disk that cannot flush or write, a wall clock that jumps.

   The test and the process share the file RUNCAST_FAULTS as memory, see `struct faults` (and `faults.py`). Only files whose
   name has ".db" in it are touched: the database, its -wal and -shm. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct faults {
    int64_t space;         /* bytes that can still be written; negative: any number */
    int64_t write_error;   /* errno of every write; 0: none */
    int64_t sync_error;    /* errno of every fsync and fdatasync; 0: none */
    int64_t clock_ms;      /* added to the wall clock */
    int64_t writes, syncs; /* how many were refused */
};

static struct faults calm = {.space = -1};
static volatile struct faults *faults = &calm;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("RUNCAST_FAULTS");
    if (path == NULL) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *memory = mmap(NULL, sizeof(struct faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED) faults = memory;
}

static int is_database(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return strstr(path, ".db") != NULL;
}

/* How much of `size` may be written; -1 with errno if nothing. */
static ssize_t allowed(int fd, size_t size) {
    if (faults->space < 0 && !faults->write_error) return size;
    if (!is_database(fd)) return size;
    if (faults->write_error) {
        faults->writes++;
        errno = (int)faults->write_error;
        return -1;
    }
    if ((int64_t)size <= faults->space) {
        faults->space -= size;
        return size;
    }
    faults->writes++;
    if (faults->space > 0) {
        size = (size_t)faults->space;
        faults->space = 0;
        return size;
    }
    errno = ENOSPC;
    return -1;
}

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    ssize_t most = allowed(fd, size);
    return most < 0 ? -1 : real(fd, data, most);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL("pwrite", ssize_t, int, const void *, size_t, off_t);
    ssize_t most = allowed(fd, size);
    return most < 0 ? -1 : real(fd, data, most, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off64_t);
    ssize_t most = allowed(fd, size);
    return most < 0 ? -1 : real(fd, data, most, at);
}

static int refused(int fd) {
    if (!faults->sync_error || !is_database(fd)) return 0;
    faults->syncs++;
    errno = (int)faults->sync_error;
    return 1;
}

int fsync(int fd) {
    REAL("fsync", int, int);
    return refused(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return refused(fd) ? -1 : real(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL("clock_gettime", int, clockid_t, struct timespec *);
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + faults->clock_ms * 1000000;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *result) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (result != NULL) *result = exact.tv_sec;
    return exact.tv_sec;
}
