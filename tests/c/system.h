/* system.h: what the tests ask of the operating system beyond C11, pthread.h (which MinGW has as well) and os.h.
 *
 * system_posix.h and system_windows.h implement it; no other test asks which system it is. Text, paths included, is UTF-8, and a path may
 * be written with '/' everywhere. Functions that fail return -1.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stddef.h>
#include <stdint.h>

/* In a table of tests: why one is left out here; NULL: it is not. */
#ifdef _WIN32
#define NOT_ON_WINDOWS(reason) reason
#define ONLY_ON_WINDOWS(reason) NULL
#else
#define NOT_ON_WINDOWS(reason) NULL
#define ONLY_ON_WINDOWS(reason) reason
#endif

#define SYSTEM_PATH 1024

/* --- this process --- */

static inline const char *variable(const char *name);                 /* of the environment, as the library sees it; NULL: it is not set */
static inline void set_variable(const char *name, const char *value); /* NULL: takes it away */
static inline void die(int status);                                   /* at once, as if killed: nothing is flushed, nothing runs at exit */
static inline void stand_still(void);                      /* until the tests' supervisor lets this process go on: SIGSTOP, SIGCONT */
static inline void on_end_request(void (*function)(void)); /* what is called when the supervisor asks this process to end: SIGTERM */
static inline void close_standard_streams(void);           /* descriptors 0, 1 and 2, as `program <&- >&- 2>&-` does; not on Windows */

static inline void *aligned_memory(size_t alignment, size_t bytes);
static inline void free_aligned(void *memory);

/* --- files --- */

static inline int make_directory(const char *path); /* for this user alone */
static inline int make_temporary_directory(char path[SYSTEM_PATH]);
static inline int remove_directory(const char *path);
static inline int remove_file(const char *path); /* as anybody deletes a file, in Explorer or with rm */
static inline int file_exists(const char *path);
static inline int is_for_us_alone(const char *path); /* nobody else can write to it; on POSIX systems nobody can read it either */
static inline int let_everybody_write(const char *path);
static inline int make_link(const char *target, const char *path); /* not on Windows, where it takes a privilege */

/* Opens it as a virus scanner or a backup may: nobody else can while it is open. Windows only. */
static inline intptr_t hold_file(const char *path);
static inline void let_file_go(intptr_t file);

/* A file that several processes write lines to. Where the system does not append in one step each process has one of its own, whose name
 * goes on with the process's number. */
static inline intptr_t open_log(const char *path);
static inline int write_log(intptr_t file, const char *line, size_t bytes); /* all at once, whatever becomes of us next */

/* --- other processes: this program again, its standard output ours to read --- */

struct child {
    intptr_t process; /* 0: none */
    intptr_t output;
    uint32_t pid;
};

#define MOST_WORDS 6

static inline int child_start(struct child *child, const char *program, const char *const words[]); /* words: ends with NULL */
static inline int child_fork(struct child *child); /* as fork: 0 in the child; 1 in the parent; not on Windows */
static inline int child_line(struct child *child, char *line, size_t capacity); /* the next line it writes; 0: no more */
static inline int child_wait(struct child *child);  /* shows what it still wrote; its exit status, -1 if it was killed */
static inline void child_kill(struct child *child); /* at once, and waits until it is gone */
static inline int child_stop(struct child *child);  /* it stands still where it is */
static inline int child_go_on(struct child *child);
static inline int kill_process(uint32_t pid); /* one that is no child of ours */

/* --- the network --- */

static inline intptr_t open_socket(int *port); /* UDP, at 127.0.0.1, not blocking */
static inline int receive_datagram(intptr_t socket, void *to, int capacity,
                                   int *from); /* waits for it: its size, and the port that sent it */
static inline void close_socket(intptr_t socket);

#ifdef _WIN32
#include "system_windows.h"
#else
#include "system_posix.h"
#endif

#endif
