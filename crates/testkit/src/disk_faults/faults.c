// A disk that fails: stands between a program and its file operations (LD_PRELOAD), for files whose path has a given
// part in it. Which operation fails, and how, is said in the file that PTR_DISK_ORDERS names, looked at before each:
//
//     GENERATION PART OPERATIONS NTH ERRNO TIMES
//
// Of the operations (letters: o open, r read, w write, t truncate, s sync) on files whose path contains PART, the NTH and
// those after it fail with ERRNO, TIMES of them, for good where that is 0. Counting begins anew with another GENERATION.
// What was made to fail is appended to the file ORDERS.made.
//
// Where PTR_DISK_DURABLE names a folder, it has what a power failure would leave of each file, under the file's path with
// % for /: what was written before the last sync that succeeded. A sync that fails loses what it should have made durable,
// as Linux does: each other descriptor that was open then is told once too, and those opened later are not.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define PATH_BYTES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct orders {
    long generation, nth, error, times;
    char part[256], operations[16];
};

// What is noted must be noted whole, or a test would judge by less.
static void give_up(const char *path) {
    perror(path);
    abort();
}

static int read_orders(struct orders *orders) {
    static int file = -1;
    const char *path = getenv("PTR_DISK_ORDERS");
    char text[512];
    if (!path) return 0;
    if (file < 0) file = REAL(open64)(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t bytes = REAL(pread64)(file, text, sizeof text - 1, 0);
    if (bytes <= 0) return 0;
    text[bytes] = 0;
    return sscanf(text, "%ld %255s %15s %ld %ld %ld", &orders->generation, orders->part, orders->operations,
                  &orders->nth, &orders->error, &orders->times) == 6;
}

static void note_failure(char operation, const char *path, long error) {
    char name[PATH_BYTES], line[PATH_BYTES + 64];
    snprintf(name, sizeof name, "%s.made", getenv("PTR_DISK_ORDERS"));
    int file = REAL(open64)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%c %ld %s\n", operation, error, path);
    if (REAL(write)(file, line, length) < 0) give_up(name);
    close(file);
}

// Whether this operation is to fail; then with which error.
static int fails(char operation, const char *path) {
    static long generation = -1, seen = 0;
    struct orders orders;
    long error = 0;
    pthread_mutex_lock(&lock);
    if (read_orders(&orders) && strstr(path, orders.part) && strchr(orders.operations, operation)) {
        if (orders.generation != generation) generation = orders.generation, seen = 0;
        seen++;
        if (seen >= orders.nth && (!orders.times || seen < orders.nth + orders.times)) {
            error = orders.error;
            note_failure(operation, path, error);
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}

// The path of a descriptor, where it is one of the files that may be meant at all.
static int path_of(int descriptor, char *path) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, PATH_BYTES - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, ".sqlite") != NULL;
}

// What was written and is not durable yet, in order.
struct pending {
    struct pending *next;
    char *path;
    off64_t offset;
    size_t length; // of the bytes; of the file where there are none
    char *bytes;
};

static struct pending *first, **last = &first;

static int is_kept(const char *path) {
    size_t length = strlen(path);
    return getenv("PTR_DISK_DURABLE") && !(length > 4 && !strcmp(path + length - 4, "-shm")) && !strstr(path, " (deleted)");
}

static void shadow_of(const char *path, char *shadow) {
    int length = snprintf(shadow, PATH_BYTES, "%s/", getenv("PTR_DISK_DURABLE"));
    snprintf(shadow + length, PATH_BYTES - length, "%s", path);
    for (char *at = shadow + length; *at; at++)
        if (*at == '/') *at = '%';
}

static void remember(const char *path, off64_t offset, const void *bytes, size_t length) {
    if (!is_kept(path)) return;
    struct pending *added = calloc(1, sizeof *added);
    added->path = strdup(path);
    added->offset = offset;
    added->length = length;
    if (bytes) added->bytes = memcpy(malloc(length ? length : 1), bytes, length);
    pthread_mutex_lock(&lock);
    *last = added;
    last = &added->next;
    pthread_mutex_unlock(&lock);
}

// Makes durable, or loses, what is pending of a file.
static void settle(const char *path, int is_durable) {
    char shadow[PATH_BYTES];
    if (!is_kept(path)) return;
    shadow_of(path, shadow);
    int file = is_durable ? REAL(open64)(shadow, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) : -1;
    pthread_mutex_lock(&lock);
    for (struct pending **at = &first; *at;) {
        struct pending *one = *at;
        if (strcmp(one->path, path)) {
            at = &one->next;
            continue;
        }
        if (file >= 0 && one->bytes && REAL(pwrite64)(file, one->bytes, one->length, one->offset) < 0) give_up(shadow);
        if (file >= 0 && !one->bytes && REAL(ftruncate64)(file, one->length)) give_up(shadow);
        *at = one->next;
        free(one->path), free(one->bytes), free(one);
    }
    for (last = &first; *last; last = &(*last)->next) {}
    pthread_mutex_unlock(&lock);
    if (file >= 0) close(file);
}

// Syncs that failed, of which descriptors that were open already are told once.
#define DESCRIPTORS 4096
static struct loss {
    struct loss *next;
    char *path;
    unsigned number;
} *losses;
static unsigned told[DESCRIPTORS];

static unsigned losses_of(const char *path, int one_more) {
    unsigned number = 0;
    struct loss *loss;
    pthread_mutex_lock(&lock);
    for (loss = losses; loss && strcmp(loss->path, path); loss = loss->next) {}
    if (!loss && one_more) {
        loss = calloc(1, sizeof *loss);
        loss->path = strdup(path), loss->next = losses, losses = loss;
    }
    if (loss) number = loss->number += one_more;
    pthread_mutex_unlock(&lock);
    return number;
}

static int opened(const char *name, const char *path, int flags, mode_t mode) {
    int error = strstr(path, ".sqlite") ? fails('o', path) : 0;
    if (error) return errno = error, -1;
    int file = ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name))(path, flags, mode);
    char real[PATH_BYTES];
    if (file >= 0 && file < DESCRIPTORS && strstr(path, ".sqlite") && path_of(file, real))
        told[file] = losses_of(real, 0);
    return file;
}

#define MODE(flags)                                                   \
    mode_t mode = 0;                                                  \
    if (flags & (O_CREAT | __O_TMPFILE)) {                            \
        va_list rest;                                                 \
        va_start(rest, flags), mode = va_arg(rest, int), va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opened("open64", path, flags, mode);
}

static int read_fails(int file) {
    char path[PATH_BYTES];
    int kept = errno, error = path_of(file, path) ? fails('r', path) : 0;
    errno = error ? error : kept;
    return error;
}

ssize_t read(int file, void *to, size_t bytes) { return read_fails(file) ? -1 : REAL(read)(file, to, bytes); }

ssize_t pread64(int file, void *to, size_t bytes, off64_t offset) {
    return read_fails(file) ? -1 : REAL(pread64)(file, to, bytes, offset);
}

ssize_t pread(int file, void *to, size_t bytes, off_t offset) { return pread64(file, to, bytes, offset); }

// A write that fails has written the first half.
static ssize_t written(int file, const void *from, size_t bytes, off64_t offset, int moves) {
    char path[PATH_BYTES];
    int is_meant = path_of(file, path), error = is_meant ? fails('w', path) : 0;
    size_t part = error ? bytes / 2 : bytes;
    if (is_meant && moves) offset = lseek64(file, 0, SEEK_CUR);
    ssize_t done = moves ? REAL(write)(file, from, part) : REAL(pwrite64)(file, from, part, offset);
    if (is_meant && done > 0) remember(path, offset, from, done);
    return error ? (errno = error, -1) : done;
}

ssize_t write(int file, const void *from, size_t bytes) {
    return written(file, from, bytes, 0, 1);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t offset) {
    return written(file, from, bytes, offset, 0);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t offset) { return pwrite64(file, from, bytes, offset); }

int ftruncate64(int file, off64_t length) {
    char path[PATH_BYTES];
    int is_meant = path_of(file, path), error = is_meant ? fails('t', path) : 0;
    if (error) return errno = error, -1;
    int done = REAL(ftruncate64)(file, length);
    if (is_meant && !done) remember(path, 0, NULL, length);
    return done;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int synced(const char *name, int file) {
    char path[PATH_BYTES];
    int is_meant = path_of(file, path), error = is_meant ? fails('s', path) : 0;
    int done = error ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
    if (!is_meant) return done;
    settle(path, !done);
    unsigned lost = losses_of(path, error != 0);
    if (file < DESCRIPTORS && told[file] != lost) {
        told[file] = lost;
        done = -1;
        errno = error ? error : EIO;
    }
    return done;
}

int fsync(int file) { return synced("fsync", file); }

int fdatasync(int file) { return synced("fdatasync", file); }

int unlink(const char *path) {
    char shadow[PATH_BYTES];
    if (strstr(path, ".sqlite") && is_kept(path)) {
        settle(path, 0);
        shadow_of(path, shadow);
        REAL(unlink)(shadow);
    }
    return REAL(unlink)(path);
}
