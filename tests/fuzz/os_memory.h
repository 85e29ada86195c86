/* os_memory.h: an operating system in memory, behind os.h: files, locks, a clock. For tests that must be fast, repeatable, and able to make
 * any call fail.
 *
 * A mapping is the file's own heap memory, of exactly the file's size: an address sanitizer sees every access outside. The clock advances
 * by itself a little at each look, and by the whole time-out when somebody parks: nothing sleeps. One thread only.
 */
#ifndef OS_MEMORY_H
#define OS_MEMORY_H

#include "os.h"

struct memory_faults {        /* each counts down: 1 makes the next call fail; 0: none does; -1: all do */
    int open, create, map;    /* IBLB_E_SYSTEM, IBLB_E_MEMORY, NULL */
    int lock;                 /* -1 */
    int held;                 /* 0: somebody else holds it */
    int publish_fails;        /* -1 */
    int publish_late;         /* 0: somebody was faster, and is gone again */
    int unlink;               /* -1 */
    int read;                 /* -1 */
    int same_open, same_file; /* no */
};
extern struct memory_faults memory_faults;

extern uint64_t memory_clock;  /* ns */
extern uint64_t memory_asleep; /* ns */
extern char memory_boot[40];

/* Forgets everything: files, locks, time. Nothing may be open any more. */
void memory_reset(void);

/* The bytes of the file at `path` (as os_segment_path gives it: "/memory/<name>"), NULL if there is none. */
unsigned char *memory_file(const char *path, uint64_t *bytes);
int memory_locked(const char *path, uint64_t offset); /* 1 if somebody holds it */

/* Puts a file there, in place of any other. */
void memory_put(const char *path, const void *bytes, uint64_t size);

#endif
