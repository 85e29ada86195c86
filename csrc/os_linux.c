/* os_linux.c: files in /dev/shm, open-file-description locks, futexes. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "include/iblbridge.h"
#include "layout.h"

#define NS 1000000000ull

/* --- threads --- */

void os_mutex_init(os_mutex *mutex) {
    pthread_mutex_init(mutex, NULL);
}
void os_mutex_destroy(os_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}
void os_mutex_lock(os_mutex *mutex) {
    pthread_mutex_lock(mutex);
}
void os_mutex_unlock(os_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}

void os_cond_init(os_cond *cond) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}
void os_cond_destroy(os_cond *cond) {
    pthread_cond_destroy(cond);
}
void os_cond_broadcast(os_cond *cond) {
    pthread_cond_broadcast(cond);
}

static struct timespec to_timespec(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / NS), .tv_nsec = (long)(ns % NS)};
}

void os_cond_wait(os_cond *cond, os_mutex *mutex, int64_t timeout_ns) {
    struct timespec until = to_timespec(os_clock_ns() + (uint64_t)(timeout_ns > 0 ? timeout_ns : 0));
    pthread_cond_timedwait(cond, mutex, &until);
}

void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    pthread_atfork(before, parent, child);
}

/* --- clocks --- */

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

uint64_t os_clock_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}
uint64_t os_wall_ns(void) {
    return read_clock(CLOCK_REALTIME);
}
uint64_t os_asleep_ns(void) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 3; i++) { /* one look comes out too large if the process was stopped between the two clocks */
        uint64_t awake = read_clock(CLOCK_MONOTONIC), asleep = read_clock(CLOCK_BOOTTIME) - awake;
        least = asleep < least ? asleep : least;
    }
    return least;
}
void os_sleep_ns(uint64_t time) {
    struct timespec span = to_timespec(time);
    nanosleep(&span, NULL);
}

/* --- process, machine --- */

uint32_t os_pid(void) {
    return (uint32_t)getpid();
}

static int read_text(const char *path, char *text, size_t capacity) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t bytes = read(file, text, capacity - 1);
    close(file);
    if (bytes < 0)
        return -1;
    text[bytes] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

int os_process_name(uint32_t pid, char *text, size_t capacity) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    return read_text(path, text, capacity);
}

uint64_t os_random(void) {
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value)
        value = os_wall_ns() ^ ((uint64_t)getpid() << 40); /* early in the boot; it only has to differ from its neighbours */
    return value;
}

void os_boot_id(char id[40]) {
    memset(id, 0, 40);
    if (read_text("/proc/sys/kernel/random/boot_id", id, 40) != 0)
        snprintf(id, 40, "unknown");
}

/* --- files --- */

static const long network_file_systems[] = {0x6969, 0x517B, 0xFF534D42L, 0xFE534D42L, 0x5346414F, 0x00C36400, 0x0BD00BD3};

static int no_segment(const char *path, struct problem *problem) {
    const char *slash = strrchr(path, '/');
    return problem_set(
        problem, IBLB_E_NO_SEGMENT,
        "There is no segment at %s. Start the worker, with the same IBLBRIDGE_DIR if that is set: iblbridge serve --segment %s.", path,
        slash ? slash + 1 : path);
}

/* A directory of our own, that nobody else can write to; one given in IBLBRIDGE_DIR may be shared with a group. */
static int check_directory(const char *path, int given, struct problem *problem) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        if (errno == ENOENT)
            return problem_set(problem, IBLB_E_NO_SEGMENT, "There is no directory %s.", path);
        return problem_set(problem, IBLB_E_PERMISSION, "The segment directory %s cannot be read: %s.", path, strerror(errno));
    }
    if (!S_ISDIR(status.st_mode))
        return problem_set(problem, IBLB_E_PERMISSION, "%s is not a directory (a link is not followed). Remove it or set IBLBRIDGE_DIR.",
                           path);
    if (given) {
        struct statfs system;
        if (status.st_mode & S_IWOTH)
            return problem_set(problem, IBLB_E_PERMISSION, "Everybody can write to IBLBRIDGE_DIR=%s. Run: chmod o-w on it.", path);
        if (statfs(path, &system) == 0)
            for (size_t i = 0; i < sizeof network_file_systems / sizeof network_file_systems[0]; i++)
                if ((uint32_t)system.f_type == (uint32_t)network_file_systems[i])
                    return problem_set(problem, IBLB_E_PERMISSION, "IBLBRIDGE_DIR=%s is on a network file system; use a local one.", path);
    } else if (status.st_uid != getuid() || (status.st_mode & 077)) {
        return problem_set(problem, IBLB_E_PERMISSION,
                           "%s must belong to user %u with mode 0700, and has user %u and mode %04o. Remove it or set IBLBRIDGE_DIR.", path,
                           (unsigned)getuid(), (unsigned)status.st_uid, (unsigned)(status.st_mode & 07777));
    }
    return IBLB_OK;
}

int os_directory(char directory[PATH_BYTES], struct problem *problem) {
    const char *given = getenv("IBLBRIDGE_DIR");
    int length;
    if (given && *given)
        length = snprintf(directory, PATH_BYTES, "%s", given);
    else
        length = snprintf(directory, PATH_BYTES, "/dev/shm/iblbridge-%u", (unsigned)getuid());
    if (length < 0 || length > PATH_BYTES - 128)
        return problem_set(problem, IBLB_E_NAME, "IBLBRIDGE_DIR is longer than %d bytes.", PATH_BYTES - 128);
    return IBLB_OK;
}

void os_for_each_file(const char *directory, void (*visit)(const char *file, void *context), void *context) {
    DIR *entries = opendir(directory);
    if (!entries)
        return;
    for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries))
        visit(entry->d_name, context);
    closedir(entries);
}

int os_segment_path(const char *name, int create, char path[PATH_BYTES], struct problem *problem) {
    const char *given = getenv("IBLBRIDGE_DIR");
    char directory[PATH_BYTES];
    if (os_directory(directory, problem) != IBLB_OK)
        return problem->code;
    snprintf(path, PATH_BYTES, "%.*s/%.*s", PATH_BYTES - 128, directory, 120, name);
    if (create && mkdir(directory, 0700) != 0 && errno != EEXIST)
        return problem_set(problem, IBLB_E_PERMISSION, "The segment directory %s cannot be made: %s.", directory, strerror(errno));
    int code = check_directory(directory, given && *given, problem);
    if (code == IBLB_E_NO_SEGMENT)
        return no_segment(path, problem);
    return code;
}

int os_open(const char *path, os_file *file, struct problem *problem) {
    *file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (*file < 0) {
        int code = errno == ENOENT ? IBLB_E_NO_SEGMENT : errno == EACCES || errno == ELOOP ? IBLB_E_PERMISSION : IBLB_E_SYSTEM;
        if (code == IBLB_E_NO_SEGMENT)
            return no_segment(path, problem);
        return problem_set(problem, code, "%s cannot be opened: %s.", path, strerror(errno));
    }
    struct stat status;
    if (fstat(*file, &status) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & S_IWOTH)) {
        os_close(*file);
        *file = OS_NO_FILE;
        return problem_set(problem, IBLB_E_PERMISSION, "%s is not a plain file, or everybody can write to it. Remove it.", path);
    }
    return IBLB_OK;
}

int os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem) {
    char directory[PATH_BYTES];
    struct stat status;
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash)
        *slash = '\0';
    mode_t group = stat(directory, &status) == 0 ? status.st_mode & 060 : 0;
    *file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*file < 0)
        return problem_set(problem, errno == EACCES ? IBLB_E_PERMISSION : IBLB_E_SYSTEM, "%s cannot be made: %s.", path, strerror(errno));
    /* Allocated now: a page that is missing later would be a SIGBUS in whoever touches it. */
    int failed = fchmod(*file, 0600 | group) != 0 ? errno : 0;
    if (!failed)
        do
            failed = posix_fallocate(*file, 0, (off_t)bytes);
        while (failed == EINTR); /* a signal, an interval timer's perhaps: not a lack of room */
    if (failed) {
        unlink(path);
        os_close(*file);
        *file = OS_NO_FILE;
        return problem_set(problem, IBLB_E_MEMORY, "There is no room for %llu bytes at %s: %s.", (unsigned long long)bytes, path,
                           strerror(failed));
    }
    return IBLB_OK;
}

int os_publish(const char *temporary, const char *path) {
    int done = link(temporary, path) == 0 ? 1 : errno == EEXIST || errno == ENOENT ? 0 : -1;
    unlink(temporary);
    return done;
}

void os_unlink(const char *path) {
    unlink(path);
}
void os_close(os_file file) {
    if (file != OS_NO_FILE)
        close(file);
}

uint64_t os_size(os_file file) {
    struct stat status;
    return fstat(file, &status) == 0 && status.st_size > 0 ? (uint64_t)status.st_size : 0;
}

int os_read(os_file file, uint64_t offset, void *to, size_t bytes) {
    return pread(file, to, bytes, (off_t)offset) == (ssize_t)bytes ? 0 : -1;
}
int os_write(os_file file, uint64_t offset, const void *from, size_t bytes) {
    return pwrite(file, from, bytes, (off_t)offset) == (ssize_t)bytes ? 0 : -1;
}

static int same_status(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

int os_same_file(os_file file, const char *path) {
    struct stat open_status, path_status;
    return fstat(file, &open_status) == 0 && lstat(path, &path_status) == 0 && same_status(&open_status, &path_status);
}

int os_same_open(os_file one, os_file other) {
    struct stat one_status, other_status;
    return fstat(one, &one_status) == 0 && fstat(other, &other_status) == 0 && same_status(&one_status, &other_status);
}

void *os_map(os_file file, size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_DONTFORK);
    return memory;
}

void os_unmap(void *memory, size_t bytes) {
    munmap(memory, bytes);
}

/* --- mappings whose file is cut short --- */

#define MAX_GUARDS 16

static struct guard {
    shared_u64 memory; /* 0: free. Private memory, but the handler reads it while others write */
    size_t bytes;
    shared_u32 *gone;
} guards[MAX_GUARDS];
static os_mutex guard_mutex = OS_MUTEX_INIT;
static struct sigaction handled_before;

/* Runs wherever the fault happened: nothing but loads, stores and system calls. */
static void on_bus_error(int number, siginfo_t *info, void *context) {
    int from_kernel = info->si_code > 0; /* only then si_addr is one */
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    for (int i = 0; i < MAX_GUARDS && from_kernel; i++) {
        uint64_t memory = load64_acquire(&guards[i].memory);
        if (!memory || address - memory >= guards[i].bytes)
            continue;
        store32_release(guards[i].gone, 1); /* first: who reads a zero must find out why */
        if (mmap((void *)(uintptr_t)memory, guards[i].bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
            MAP_FAILED)
            return;
    }
    if (handled_before.sa_flags & SA_SIGINFO) {
        handled_before.sa_sigaction(number, info, context);
    } else if (handled_before.sa_handler == SIG_DFL || (from_kernel && handled_before.sa_handler == SIG_IGN)) {
        struct sigaction die = {.sa_handler = SIG_DFL};
        sigaction(number, &die, NULL);
        raise(number); /* comes when we return */
    } else if (handled_before.sa_handler != SIG_IGN) {
        handled_before.sa_handler(number);
    }
}

int os_guard(void *memory, size_t bytes, shared_u32 *gone) {
    static int installed;
    int found = -1;
    os_mutex_lock(&guard_mutex);
    if (!installed) {
        struct sigaction ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
        ours.sa_sigaction = on_bus_error;
        sigaction(SIGBUS, NULL, &handled_before);
        installed = sigaction(SIGBUS, &ours, NULL) == 0;
    }
    for (int i = 0; i < MAX_GUARDS && found < 0 && installed; i++)
        if (!load64_relaxed(&guards[i].memory)) {
            guards[i].bytes = bytes;
            guards[i].gone = gone;
            store64_release(&guards[i].memory, (uint64_t)(uintptr_t)memory);
            found = 0;
        }
    os_mutex_unlock(&guard_mutex);
    return found;
}

void os_unguard(void *memory) {
    os_mutex_lock(&guard_mutex);
    for (int i = 0; i < MAX_GUARDS; i++)
        if (load64_relaxed(&guards[i].memory) == (uint64_t)(uintptr_t)memory)
            store64_release(&guards[i].memory, 0);
    os_mutex_unlock(&guard_mutex);
}

/* --- locks --- */

static struct flock lock_range(short type, uint64_t offset) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = 1};
}

int os_lock(os_file file, uint64_t offset) {
    struct flock range = lock_range(F_WRLCK, offset);
    if (fcntl(file, F_OFD_SETLK, &range) == 0)
        return 1;
    return errno == EAGAIN || errno == EACCES ? 0 : -1;
}

void os_unlock(os_file file, uint64_t offset) {
    struct flock range = lock_range(F_UNLCK, offset);
    fcntl(file, F_OFD_SETLK, &range);
}

int os_locked(os_file file, uint64_t offset) {
    struct flock range = lock_range(F_WRLCK, offset);
    return fcntl(file, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

/* --- waiting --- */

static int futex(shared_u32 *word, int operation, uint32_t value, const struct timespec *timeout) {
    return (int)syscall(SYS_futex, word, operation, value, timeout, NULL, 0); /* not _PRIVATE: the word is shared between processes */
}

static int poll_word(shared_u32 *word, uint32_t expected, uint64_t timeout_ns) {
    const uint64_t step = NS / 1000;
    for (uint64_t until = os_clock_ns() + timeout_ns; load32_acquire(word) == expected;) {
        uint64_t now = os_clock_ns();
        if (now >= until)
            return 0;
        os_sleep_ns(until - now < step ? until - now : step);
    }
    return 1;
}

int os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, uint32_t mechanism) {
    if (mechanism == WAIT_POLL)
        return poll_word(word, expected, timeout_ns);
    struct timespec timeout = to_timespec(timeout_ns);
    if (futex(word, FUTEX_WAIT, expected, &timeout) == 0 || errno == EAGAIN)
        return 1;
    if (errno == ETIMEDOUT)
        return 0;
    if (errno == EINTR)
        return -1;
    return poll_word(word, expected, timeout_ns); /* futexes forbidden (a sandbox): slower, not wrong */
}

void os_wake(shared_u32 *word, uint32_t mechanism) {
    if (mechanism != WAIT_POLL)
        futex(word, FUTEX_WAKE, INT32_MAX, NULL);
}

uint32_t os_wait_mechanism(void) {
    const char *wanted = getenv("IBLBRIDGE_WAIT");
    return wanted && strcmp(wanted, "poll") == 0 ? WAIT_POLL : WAIT_FUTEX;
}
