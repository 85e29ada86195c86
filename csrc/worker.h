/* worker.h: what worker.c and incoming.c share. */
#ifndef IBLB_WORKER_H
#define IBLB_WORKER_H

#include "view.h"

struct iblbw_worker {
    struct segment segment;
    os_mutex mutex;
    uint32_t epoch;
    bool forked;
    shared_u32 rung;      /* iblbw_ring was called; private memory */
    shared_u32 truncated; /* the file was cut short; what was touched behind its end is zeroes of our own; private memory */
    bool path_lost;       /* the path no longer leads to our file */
    uint64_t swept_at;
    uint32_t reach; /* slots from here on are free, as the take that is going on has found them */
    char replaced[PROBLEM_BYTES];
    struct view views[MAX_SLOTS];
    struct iblbw_worker *next; /* of those in this process, for fork */
};

/* If the PC has slept since a worker last looked, everything sent before now is too old, whatever the clocks say. */
void worker_note_sleep(struct segment_header *header);

/* The frame of a call that writes into the segment: the mutex, if the worker may go on. IBLB_OK, or the code to
 * return, nothing held. */
int worker_enter(struct iblbw_worker *worker);

/* Its end. Returns `code`, or why the worker may not go on since. */
int worker_leave(struct iblbw_worker *worker, int code);

/* Remembers the code's own sentence and returns the code. */
int worker_fail(int code);

#endif
