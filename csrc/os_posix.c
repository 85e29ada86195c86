/* os_posix.c: what Linux and macOS have in common: files, open-file-description locks, threads. */
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE /* macOS: more than POSIX */
#define _FILE_OFFSET_BITS 64
#include "os_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/iblbridge.h"
#include "layout.h"

#ifndef MAP_POPULATE
#define MAP_POPULATE 0
#endif
#if defined __APPLE__ && !defined F_OFD_SETLK /* xnu's bsd/sys/fcntl.h has them; the headers of older SDKs hide them */
#define F_OFD_SETLK 90
#define F_OFD_GETLK 92
#endif

/* --- threads --- */

/* Of this thread. One variable, for to find it is a call in a library. */
static _Thread_local struct hold {
    int count;
    int type, state; /* as its program wants them */
} thread_hold;

/* The state alone is not enough: glibc's signal for an asynchronous cancellation, sent while that was still allowed,
 * looks only at the type. */
void os_hold_thread(void) {
    struct hold *hold = &thread_hold;
    int type, state;
    if (hold->count) {
        hold->count++;
        return;
    }
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    *hold = (struct hold){1, type, state};
}

void os_let_thread(void) {
    struct hold *hold = &thread_hold;
    int unused;
    if (--hold->count == 0) {
        pthread_setcancelstate(hold->state, &unused);
        if (hold->type != PTHREAD_CANCEL_DEFERRED) /* it is that already, and of nearly every thread */
            pthread_setcanceltype(hold->type, &unused);
    }
}

shared_u32 posix_abrupt_threads;
static _Thread_local int deferrals; /* of this one, if it is one */

void posix_defer_end(int type) {
    if (type != PTHREAD_CANCEL_DEFERRED)
        add32(&posix_abrupt_threads, 1);
    if (type != PTHREAD_CANCEL_DEFERRED || deferrals)
        deferrals++;
}

void posix_allow_end(void) {
    int unused;
    if (!deferrals || --deferrals)
        return;
    add32(&posix_abrupt_threads, UINT32_MAX);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &unused);
}

void os_end_if_asked(void (*undo)(void *), void *argument) {
    bool held = thread_hold.count > 0;
    int unused;
    pthread_cleanup_push(undo, argument);
    if (held)
        pthread_setcancelstate(thread_hold.state, &unused);
    pthread_testcancel();
    if (held)
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &unused);
    pthread_cleanup_pop(0);
}

void os_mutex_init(os_mutex *mutex) {
    pthread_mutex_init(mutex, NULL);
}
void os_mutex_destroy(os_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}
void os_mutex_lock(os_mutex *mutex) {
    os_hold_thread();
    pthread_mutex_lock(mutex);
}
bool os_mutex_try(os_mutex *mutex) {
    os_hold_thread();
    if (pthread_mutex_trylock(mutex) == 0)
        return true;
    os_let_thread();
    return false;
}
void os_mutex_unlock(os_mutex *mutex) {
    pthread_mutex_unlock(mutex);
    os_let_thread();
}

void os_cond_destroy(os_cond *cond) {
    pthread_cond_destroy(cond);
}
void os_cond_broadcast(os_cond *cond) {
    pthread_cond_broadcast(cond);
}

/* For register_forks alone, which runs in the thread that fills it. */
static _Thread_local struct {
    void (*before)(void), (*parent)(void), (*child)(void);
} at_fork;

static void register_forks(void) {
    pthread_atfork(at_fork.before, at_fork.parent, at_fork.child);
}

void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    at_fork.before = before;
    at_fork.parent = parent;
    at_fork.child = child;
    pthread_once(&once, register_forks);
}

static void (*at_unload)(void);

void os_at_unload(void (*function)(void)) {
    at_unload = function;
}

__attribute__((destructor)) static void unload(void) {
    if (at_unload)
        at_unload();
}

/* --- clocks --- */

struct timespec posix_timespec(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / NS), .tv_nsec = (long)(ns % NS)};
}

uint64_t os_wall_ns(void) {
    return posix_clock_ns(CLOCK_REALTIME);
}
void os_sleep_ns(uint64_t time) {
    struct timespec span = posix_timespec(time);
    os_hold_thread();
    nanosleep(&span, NULL);
    os_let_thread();
}

uint32_t os_pid(void) {
    return (uint32_t)getpid();
}

/* --- files --- */

/* A program may have been started without its standard descriptors; what it prints then goes to whatever is opened as
 * number 1. While the file is being opened, something harmless takes up such a number, so that the file never has it,
 * not even for an instant. */
int posix_open(const char *path, int flags) {
    int filler = open("/", O_RDONLY | O_CLOEXEC);
    if (filler > STDERR_FILENO) {
        close(filler);
        filler = -1;
    }
    int opened = filler < 0 ? open(path, flags | O_CLOEXEC, 0600) : posix_open(path, flags);
    int error = errno;
    if (filler >= 0)
        close(filler);
    errno = error;
    return opened;
}

const char *os_file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* It must be a directory of our own that nobody else can write to. One that IBLBRIDGE_DIR names may be shared with a
 * group. */
static int check_directory(const char *path, bool given, struct problem *problem) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        if (errno == ENOENT)
            return problem_set(problem, IBLB_E_NO_SEGMENT, "There is no directory %s.", path);
        return problem_set(problem, IBLB_E_PERMISSION, "The segment directory %s cannot be read: %s.", path, strerror(errno));
    }
    if (!S_ISDIR(status.st_mode))
        return problem_set(problem, IBLB_E_PERMISSION, "%s is not a directory (a link is not followed). Set IBLBRIDGE_DIR to one.", path);
    if (given) {
        const char *unfit = posix_unfit(path);
        if (unfit)
            return problem_set(problem, IBLB_E_PERMISSION, "IBLBRIDGE_DIR=%s is on %s. " USE_LOCAL_DISK, path, unfit);
        if ((status.st_mode & S_IWOTH) &&
            (status.st_uid != getuid() || (status.st_mode & S_ISVTX))) /* like /tmp, which is meant to be so */
            return problem_set(problem, IBLB_E_PERMISSION,
                               "Everybody can write to IBLBRIDGE_DIR=%s, and others need that. Set it to a directory of your own.", path);
        if (status.st_mode & S_IWOTH)
            return problem_set(problem, IBLB_E_PERMISSION, "Everybody can write to IBLBRIDGE_DIR=%s. Run: chmod o-w on it.", path);
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
    char here[PATH_BYTES] = "";
    if (given && *given) {
        if (*given != '/' && getcwd(here, sizeof here) == NULL)
            return problem_set(problem, IBLB_E_PERMISSION, "IBLBRIDGE_DIR=%s is not absolute, and this program is nowhere: %s.", given,
                               strerror(errno));
        length = snprintf(directory, PATH_BYTES, "%s%s%s", here, *here ? "/" : "", given);
    } else {
        length = posix_default_directory(directory, PATH_BYTES);
    }
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

enum elsewhere { NOWHERE, HIDDEN, ANOTHER_USERS, SHARED };

/* Where else a segment `name` stands, or may stand unseen: in a directory beside ours, another user's or a shared
 * one. */
static enum elsewhere find_elsewhere(const char *name, char found[PATH_BYTES], unsigned *user) {
    char ours[PATH_BYTES], directory[PATH_BYTES], path[PATH_BYTES + 128];
    enum elsewhere best = NOWHERE;
    int length = posix_default_directory(ours, sizeof ours);
    const char *own = os_file_name(ours), *dash = strrchr(own, '-');
    if (length < 0 || length >= PATH_BYTES - 300 || !dash || own == ours)
        return NOWHERE; /* on this system, users do not have their directories side by side */
    int above = (int)(own - ours), prefix = (int)(dash + 1 - own);
    snprintf(directory, sizeof directory, "%.*s", above, ours);
    DIR *entries = opendir(directory);
    for (struct dirent *entry = entries ? readdir(entries) : NULL; entry; entry = readdir(entries)) {
        struct stat status, segment;
        if (strncmp(entry->d_name, own, (size_t)prefix) != 0 || strcmp(entry->d_name, own) == 0)
            continue;
        snprintf(directory, sizeof directory, "%.*s%.255s", above, ours, entry->d_name);
        snprintf(path, sizeof path, "%s/%.120s", directory, name);
        if (lstat(directory, &status) != 0 || !S_ISDIR(status.st_mode))
            continue;
        bool of_user = entry->d_name[prefix + (int)strspn(entry->d_name + prefix, "0123456789")] == '\0';
        enum elsewhere here = NOWHERE;
        if (lstat(path, &segment) == 0)
            here = of_user ? ANOTHER_USERS : SHARED;
        else if (errno == EACCES && of_user)
            here = HIDDEN;
        if (here > best) {
            best = here;
            *user = (unsigned)status.st_uid;
            snprintf(found, PATH_BYTES, "%s", directory);
        }
    }
    if (entries)
        closedir(entries);
    return best;
}

/* A second worker would not help somebody whose rig is another user's. */
static int no_segment(struct problem *problem, const char *path) {
    static const char share[] = "run this program as that user, or give both an IBLBRIDGE_DIR that a group can write to (bridge/README.md: "
                                "Several users on one PC)";
    char other[PATH_BYTES];
    unsigned user = 0;
    const char *given = getenv("IBLBRIDGE_DIR"), *name = os_file_name(path);
    switch (given && *given ? NOWHERE : find_elsewhere(name, other, &user)) {
    case SHARED:
        return problem_set(problem, IBLB_E_NO_SEGMENT, "There is no segment at %s, but one at %s/%s. To use it, set IBLBRIDGE_DIR=%s.",
                           path, other, name, other);
    case ANOTHER_USERS:
        return problem_set(problem, IBLB_E_NO_SEGMENT, "There is no segment at %s, but user %u has one of that name: %s/%s. To use it, %s.",
                           path, user, other, name, share);
    case HIDDEN:
        return problem_set(problem, IBLB_E_NO_SEGMENT,
                           "There is no segment at %s. User %u has a directory of segments, %s: if %s is there, %s. Else start the worker: "
                           "iblbridge serve --segment %s.",
                           path, user, other, name, share, name);
    default:
        return problem_no_segment(problem, path, name);
    }
}

int os_segment_path(const char *name, bool create, char path[PATH_BYTES], struct problem *problem) {
    const char *given = getenv("IBLBRIDGE_DIR");
    char directory[PATH_BYTES];
    if (os_directory(directory, problem) != IBLB_OK)
        return problem->code;
    snprintf(path, PATH_BYTES, "%.*s/%.*s", PATH_BYTES - 128, directory, 120, name);
    if (create && mkdir(directory, 0700) != 0 && errno != EEXIST)
        return problem_set(problem, IBLB_E_PERMISSION,
                           "The segment directory %s cannot be made: %s. Make the one above it, or set IBLBRIDGE_DIR.", directory,
                           strerror(errno));
    int code = check_directory(directory, given && *given, problem);
    if (code == IBLB_E_NO_SEGMENT)
        return no_segment(problem, path);
    return code;
}

static int not_plain(struct problem *problem, const char *path) {
    return problem_set(problem, IBLB_E_PERMISSION,
                       "%s is a directory, a link or a device, and no segment. Give the segment another name, or move that away.", path);
}

int os_open(const char *path, os_file *file, struct problem *problem) {
    int opened = posix_open(path, O_RDWR | O_NOFOLLOW);
    *file = opened;
    if (opened < 0) {
        int code = errno == ENOENT ? IBLB_E_NO_SEGMENT : errno == EACCES || errno == ELOOP ? IBLB_E_PERMISSION : IBLB_E_SYSTEM;
        if (code == IBLB_E_NO_SEGMENT)
            return no_segment(problem, path);
        if (errno == ELOOP || errno == EISDIR || errno == ENXIO)
            return not_plain(problem, path);
        return problem_set(problem, code, "%s cannot be opened: %s.", path, strerror(errno));
    }
    struct stat status;
    int code = IBLB_OK;
    if (fstat(opened, &status) != 0 || !S_ISREG(status.st_mode))
        code = not_plain(problem, path);
    else if (status.st_mode & S_IWOTH)
        code = problem_set(problem, IBLB_E_PERMISSION, "%s is not used, for everybody can write to it. Remove it, or run: chmod o-w on it.",
                           path);
    if (code != IBLB_OK) {
        os_close(*file);
        *file = OS_NO_FILE;
        return code;
    }
    return IBLB_OK;
}

int os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem) {
    char directory[PATH_BYTES];
    struct stat status;
    snprintf(directory, sizeof directory, "%.*s", (int)(os_file_name(path) - path), path);
    /* For a group that shares the segment. A group that may only list the directory has no business in it. */
    mode_t group = stat(directory, &status) == 0 && (status.st_mode & S_IWGRP) ? status.st_mode & 060 : 0;
    int made = posix_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    *file = made;
    if (made < 0)
        return problem_set(problem, errno == EACCES ? IBLB_E_PERMISSION : IBLB_E_SYSTEM, "%s cannot be made: %s.", path, strerror(errno));
    /* Allocated now: a page that is missing later would be a SIGBUS in whoever touches it. */
    bool open_to_all = fchmod(made, 0600 | group) != 0;
    int failed = open_to_all ? errno : posix_allocate(made, bytes);
    if (failed) {
        unlink(path);
        os_close(*file);
        *file = OS_NO_FILE;
        if (open_to_all)
            return problem_set(problem, IBLB_E_PERMISSION, "Files in %s keep no permissions (%s). " USE_LOCAL_DISK, directory,
                               strerror(failed));
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

int os_rename(const char *from, const char *to) {
    return rename(from, to) == 0 || errno == ENOENT ? 0 : -1;
}

int os_unlink(const char *path) {
    return unlink(path) == 0 || errno == ENOENT ? 0 : -1;
}
void os_close(os_file file) {
    if (file != OS_NO_FILE)
        close((int)file);
}

uint64_t os_size(os_file file) {
    struct stat status;
    return fstat((int)file, &status) == 0 && status.st_size > 0 ? (uint64_t)status.st_size : 0;
}

int os_read(os_file file, uint64_t offset, void *to, size_t bytes) {
    return pread((int)file, to, bytes, (off_t)offset) == (ssize_t)bytes ? 0 : -1;
}
int os_write(os_file file, uint64_t offset, const void *from, size_t bytes) {
    return pwrite((int)file, from, bytes, (off_t)offset) == (ssize_t)bytes ? 0 : -1;
}

static bool same_status(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

bool os_same_file(os_file file, const char *path) {
    struct stat open_status, path_status;
    os_hold_thread();
    bool there = lstat(path, &path_status) == 0, hidden = !there && errno != ENOENT && errno != ENOTDIR;
    bool same = there && fstat((int)file, &open_status) == 0 && same_status(&open_status, &path_status);
    os_let_thread();
    return same || hidden; /* what cannot be looked at just now is not known to be gone */
}

bool os_same_open(os_file one, os_file other) {
    struct stat one_status, other_status;
    return fstat((int)one, &one_status) == 0 && fstat((int)other, &other_status) == 0 && same_status(&one_status, &other_status);
}

void *os_map(os_file file, size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, (int)file, 0);
    if (memory == MAP_FAILED)
        return NULL;
    posix_keep_from_child(memory, bytes);
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
    shared_u32 *truncated;
} guards[MAX_GUARDS];
static os_mutex guard_mutex = OS_MUTEX_INIT;
static struct sigaction handled_before;

/* Runs wherever the fault happened: nothing but loads, stores and system calls. */
static void on_bus_error(int number, siginfo_t *info, void *context) {
    bool from_kernel = info->si_code > 0 && info->si_code != SI_USER; /* only then si_addr is one; SI_USER is positive on macOS */
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    for (int i = 0; i < MAX_GUARDS && from_kernel; i++) {
        uint64_t memory = load64_acquire(&guards[i].memory);
        if (!memory || address - memory >= guards[i].bytes)
            continue;
        store32_release(guards[i].truncated, 1); /* first: whoever reads a zero must find out why */
        if (mmap((void *)(uintptr_t)memory, guards[i].bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
            MAP_FAILED)
            return;
    }
    if (handled_before.sa_flags & SA_SIGINFO) {
        handled_before.sa_sigaction(number, info, context);
    } else if (handled_before.sa_handler == SIG_DFL || (from_kernel && handled_before.sa_handler == SIG_IGN)) {
        struct sigaction die = {.sa_handler = SIG_DFL};
        sigaction(number, &die, NULL);
        raise(number); /* arrives when we return */
    } else if (handled_before.sa_handler != SIG_IGN) {
        handled_before.sa_handler(number);
    }
}

int os_guard(void *memory, size_t bytes, shared_u32 *truncated) {
    static bool installed;
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
            guards[i].truncated = truncated;
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
    if (fcntl((int)file, F_OFD_SETLK, &range) == 0)
        return 1;
    return errno == EAGAIN || errno == EACCES ? 0 : -1;
}

void os_unlock(os_file file, uint64_t offset) {
    struct flock range = lock_range(F_UNLCK, offset);
    fcntl((int)file, F_OFD_SETLK, &range);
}

bool os_locked(os_file file, uint64_t offset) {
    struct flock range = lock_range(F_WRLCK, offset);
    os_hold_thread();
    bool held = fcntl((int)file, F_OFD_GETLK, &range) != 0 || range.l_type != F_UNLCK; /* if nobody can tell, nobody is dead */
    os_let_thread();
    return held;
}

/* --- the network --- */

int os_send_datagram(intptr_t socket, uint32_t address, int port, const void *payload, int bytes) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(address)};
    ssize_t sent = sendto((int)socket, payload, (size_t)bytes, 0, (struct sockaddr *)&to, sizeof to);
    return sent < 0 ? errno : 0;
}

/* --- waiting --- */

int posix_poll(shared_u32 *word, uint32_t expected, uint64_t timeout_ns) {
    const uint64_t step = NS / 1000;
    for (uint64_t until = os_clock_ns() + timeout_ns; load32_acquire(word) == expected;) {
        uint64_t now = os_clock_ns();
        if (now >= until)
            return 0;
        os_sleep_ns(until - now < step ? until - now : step);
    }
    return 1;
}

void os_waits_open(struct os_waits *waits, uint32_t mechanism, uint64_t id, const void *memory) {
    *waits = (struct os_waits){.mechanism = mechanism, .id = id, .memory = memory};
}
void os_waits_close(struct os_waits *waits) {
    *waits = (struct os_waits){0};
}

uint32_t os_wait_mechanism(void) {
    const char *wanted = getenv("IBLBRIDGE_WAIT");
    return wanted && strcmp(wanted, "poll") == 0 ? WAIT_POLL : posix_wait_mechanism();
}
