/* os.h: everything we ask of the operating system: files that are mapped, byte-range locks, waiting, clocks, threads.
 *
 * os_windows.c implements it, and os_posix.c with os_linux.c or os_macos.c. No other file includes a system header or
 * asks which system it is. Functions that fail fill in a `struct problem` whose sentence names the path and the
 * system's own reason. Text, paths included, is UTF-8.
 */
#ifndef IBLB_OS_H
#define IBLB_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "atomics.h"
#include "errors.h"

#define PATH_BYTES 512
#define USE_LOCAL_DISK "Set IBLBRIDGE_DIR to a folder on a disk of this computer (NTFS, ext4, APFS, tmpfs)."

/* --- threads of this process --- */

#ifdef _WIN32
typedef struct {
    void *word;
} os_mutex, os_cond; /* SRWLOCK, CONDITION_VARIABLE */
#define OS_MUTEX_INIT {NULL}
#define OS_FORKS 0
#define os_mutex_lock_held os_mutex_lock
#define os_mutex_unlock_held os_mutex_unlock
#else
#include <pthread.h>
typedef pthread_mutex_t os_mutex;
typedef pthread_cond_t os_cond;
#define OS_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define OS_FORKS 1
#define os_mutex_lock_held pthread_mutex_lock
#define os_mutex_unlock_held pthread_mutex_unlock

/* How many threads there are whose end is deferred and that their programs want to end at any instruction. There is
 * hardly ever one, and only then a thread has to look whether it is one itself. */
extern __attribute__((visibility("hidden"))) shared_u32 posix_abrupt_threads;
void posix_defer_end(int type);
void posix_allow_end(void);
#endif

/* The program may end one of its threads in the middle of our work (pthread_cancel). Between these two calls, which
 * nest, the end has to wait. It also has to wait while the thread holds a mutex; the `_held` functions leave that to a
 * hold, or a deferral, that lasts longer. */
void os_hold_thread(void);
void os_let_thread(void);

/* A hold that costs less, for every call comes this way: in between, the thread ends at no instruction of ours, but
 * still where it asks the system for something that takes long (a cancellation point). So what does that must hold the
 * thread: os_cond_wait, os_sleep_ns, os_park, os_locked and os_same_file do; os_close and the other functions of files
 * leave it to their callers. */
#ifdef _WIN32
static inline void os_defer_end(void) {
}
static inline void os_allow_end(void) {
}
#else
static inline void os_defer_end(void) {
    int type;
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    if (type != PTHREAD_CANCEL_DEFERRED || load32_relaxed(&posix_abrupt_threads))
        posix_defer_end(type);
}
static inline void os_allow_end(void) {
    if (load32_relaxed(&posix_abrupt_threads))
        posix_allow_end();
}
#endif

/* With the thread held or its end deferred: if it is to end, calls `undo`, which must undo that too, and does not
 * return. */
void os_end_if_asked(void (*undo)(void *), void *argument);

void os_mutex_init(os_mutex *mutex);
void os_mutex_destroy(os_mutex *mutex);
void os_mutex_lock(os_mutex *mutex);
bool os_mutex_try(os_mutex *mutex); /* was it free? */
void os_mutex_unlock(os_mutex *mutex);
void os_cond_init(os_cond *cond); /* waits by the segment's clock */
void os_cond_destroy(os_cond *cond);
void os_cond_broadcast(os_cond *cond);
void os_cond_wait(os_cond *cond, os_mutex *mutex, int64_t timeout_ns);

/* Registers what runs around fork(), where there is such a thing (OS_FORKS): `child` runs in the child before anything
 * else of ours. Once per process: later calls do nothing. */
void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void));

/* Registers what runs when the library is unloaded from a process that goes on. (On POSIX systems it also runs at the
 * end of a process. On Windows it does not: the other threads are dead by then, with whatever they had locked.) There
 * is one such function; a later one takes its place. */
void os_at_unload(void (*function)(void));

/* --- clocks, ns --- */

uint64_t os_clock_ns(void); /* CLOCK_MONOTONIC, QueryPerformanceCounter: never goes back; whether it runs while the PC sleeps differs */
uint64_t os_wall_ns(void);  /* since 1970 */
/* How long the PC has slept since it was booted. A look comes out too large if the process was stopped in its middle:
 * above `likely` it looks again, and takes the least of three. */
uint64_t os_asleep_ns(uint64_t likely);
void os_sleep_ns(uint64_t time);

/* --- this process, this machine --- */

uint32_t os_pid(void);
int os_process_name(uint32_t pid, char *text, size_t capacity); /* for people; 0 or -1 */
uint64_t os_random(void);
bool os_boot_id(char id[40]); /* the same until the next boot; zero-padded. False: the system does not say, and it is "unknown" */

/* --- the segment's file --- */

typedef intptr_t os_file; /* OS_NO_FILE: none */
#define OS_NO_FILE ((os_file) - 1)

/* The last part of a path. */
const char *os_file_name(const char *path);

/* The directory of all segments: IBLBRIDGE_DIR, or this user's own. It is absolute, so the program may change its
 * directory later. IBLB_E_NAME if it is too long. */
int os_directory(char directory[PATH_BYTES], struct problem *problem);

/* Calls `visit` with the name of everything in a directory. */
void os_for_each_file(const char *directory, void (*visit)(const char *file, void *context), void *context);

/* The path of segment `name`. With `create`, makes the directory. IBLB_E_PERMISSION if the directory is not ours alone,
 * IBLB_E_NO_SEGMENT if there is none. */
int os_segment_path(const char *name, bool create, char path[PATH_BYTES], struct problem *problem);

int os_open(const char *path, os_file *file, struct problem *problem);                   /* IBLB_E_NO_SEGMENT, _PERMISSION, _SYSTEM */
int os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem); /* a new file, its space allocated: _MEMORY */
/* Gives a file its name if no other file has it. 1: done; 0: another has it, or `temporary` had gone; -1: failed.
 * `temporary` is gone afterwards. */
int os_publish(const char *temporary, const char *path);
/* Frees the name at once, even while somebody has the file open: 0. -1 if somebody does not let it go. */
int os_unlink(const char *path);
/* Gives a file another name, which no file has. As os_unlink: 0, also if there is no such file, or -1. */
int os_rename(const char *from, const char *to);
void os_close(os_file file);
uint64_t os_size(os_file file);
int os_read(os_file file, uint64_t offset, void *to, size_t bytes);          /* all of them: 0, else -1 */
int os_write(os_file file, uint64_t offset, const void *from, size_t bytes); /* all of them: 0, else -1 */
bool os_same_file(os_file file, const char *path); /* does the path still lead to this file? False: it is known that it does not */
bool os_same_open(os_file one, os_file other);
void *os_map(os_file file, size_t bytes); /* shared, not inherited by a child; NULL if it fails */
void os_unmap(void *memory, size_t bytes);

/* If a mapped file is cut short, the next access to a page that is gone kills the process. Not if the mapping is
 * guarded: zeroes of our own take its place, and *truncated becomes 1. Up to 16 mappings; 0, or -1 if there are more.
 * Other faults go on to whoever handled them before. (Windows lets nobody cut a mapped file short.) */
int os_guard(void *memory, size_t bytes, shared_u32 *truncated);
void os_unguard(void *memory);

/* Locks of one byte. The kernel holds them for this open file, and drops them when the file is closed or the process
 * dies. Do not ask os_lock or os_locked about a byte that this open file holds itself. After a death they may say
 * "held" a little too long; "not held" is always true. */
int os_lock(os_file file, uint64_t offset); /* 1 taken, 0 held by somebody, -1 failed */
void os_unlock(os_file file, uint64_t offset);
bool os_locked(os_file file, uint64_t offset); /* does somebody hold it? */

/* --- the network --- */

/* Hands a datagram to an IPv4 socket that does not block. `address`: 127.0.0.1 is 0x7F000001. 0, or the system's number
 * of what is wrong: errno, WSAGetLastError. */
int os_send_datagram(intptr_t socket, uint32_t address, int port, const void *payload, int bytes);

/* --- waiting --- */

/* How the processes of one segment wake each other. */
struct os_waits {
    uint32_t mechanism;      /* enum wait_mechanism */
    uint64_t id;             /* the segment's; with a word's place it makes the name of the word's event */
    const char *memory;      /* where the segment is mapped here */
    struct os_event *events; /* that were opened, on Windows */
};

uint32_t os_wait_mechanism(void); /* enum wait_mechanism for a new segment; IBLBRIDGE_WAIT=poll */
void os_waits_open(struct os_waits *waits, uint32_t mechanism, uint64_t id, const void *memory);
void os_waits_close(struct os_waits *waits);

/* Sleeps while *word is `expected`, at most `timeout_ns`. 1: woken or changed; 0: time is up; -1: a signal came. Polls
 * if the system offers nothing better. */
int os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
void os_wake(shared_u32 *word, const struct os_waits *waits);

#endif
