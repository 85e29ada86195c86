/* os_posix.h: what os_posix.c asks of os_linux.c or os_macos.c. */
#ifndef IBLB_OS_POSIX_H
#define IBLB_OS_POSIX_H

#include <time.h>

#include "os.h"

#define NS 1000000000ull

struct timespec posix_timespec(uint64_t ns);
static inline uint64_t posix_clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

/* open(), but closed in programs that are started, and never as descriptor 0, 1 or 2. */
int posix_open(const char *path, int flags);

/* Where this user's segments are if IBLBRIDGE_DIR does not say; returns what snprintf does. */
int posix_default_directory(char *text, size_t capacity);

/* What a directory is on, if no segment can stand there; NULL if one can. */
#define UNFIT_NETWORK "a network file system"
#define UNFIT_FAT "a drive that keeps no permissions (FAT, exFAT)"
const char *posix_unfit(const char *path);

int posix_allocate(int file, uint64_t bytes);           /* room for all of the file; 0 or an errno */
void posix_keep_from_child(void *memory, size_t bytes); /* a child does not inherit this mapping */

uint32_t posix_wait_mechanism(void); /* the system's best */

/* Waits as os_park does, by looking again and again. */
int posix_poll(shared_u32 *word, uint32_t expected, uint64_t timeout_ns);

#endif
