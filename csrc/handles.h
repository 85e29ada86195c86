/* handles.h: the small integers that callers hold, and what stands behind them.
 *
 * A handle is a place in a table and a count of its uses, so that a closed one is recognised. A call holds a reference
 * while it runs; the memory goes when the last reference does, so that close during a wait is harmless. A call comes
 * and goes by one atomic word of the place; the table's mutex, for all else, is held for a few instructions only, and
 * never while a handle's mutex is awaited.
 */
#ifndef IBLB_HANDLES_H
#define IBLB_HANDLES_H

#include <stdbool.h>

#include "errors.h"
#include "inbox.h"
#include "os.h"
#include "segment.h"
#include "serving.h"

#define MAX_HANDLES 64

struct handle {
    int number;
    bool closed; /* guarded by `mutex` */
    bool forked; /* set in the child of a fork */
    char segment_name[NAME_BYTES];
    char client[NAME_BYTES];

    os_mutex mutex; /* guards what follows; never held while parked */
    os_cond changed;
    struct segment segment;
    struct slot slot;
    uint32_t slot_index;
    uint32_t generation;
    uint64_t command_tail;
    uint64_t response_head;
    uint64_t event_head;
    int event_waiters; /* threads in iblb_next_event */
    uint64_t last_stamp;
    uint64_t next_request;
    struct inbox inbox;
    struct serving serving;
    bool parked;        /* one of our threads is parked in shared memory; the others wait for `changed` */
    bool alive;         /* the worker, when we last looked */
    uint64_t looked_at; /* ns */
    struct problem last;
};

/* Around whatever opens, takes or drops a slot's lock: no fork() falls in between, so that no lock survives in a child that knows nothing
 * of it. Nobody waits for another process meanwhile. */
void handles_hold_forks(void);
void handles_let_forks(void);

/* Gives `handle` a number. IBLB_E_HANDLES if MAX_HANDLES are open. */
int handle_add(struct handle *handle, struct problem *problem);

/* A reference to an open handle; the end of the thread is deferred until it is dropped. NULL and IBLB_E_HANDLE or IBLB_E_FORKED (remembered
 * for the process) otherwise. */
struct handle *handle_hold(int number, int *code);
void handle_drop(struct handle *handle);
int handle_references(const struct handle *handle); /* the table's own included; for tests */

/* The frame of a call: handle_hold and the handle's mutex; NULL and a code as handle_hold. */
struct handle *handle_enter(int number, int *code);

/* Its end, which gives both back. Unless `code` is IBLB_OK, `problem`, which says why, becomes the handle's last one. Returns `code`. */
int handle_leave(struct handle *handle, int code, const struct problem *problem);

/* Closes, in order or as lost; 0, or a code as handle_hold. */
int handle_close(int number, enum slot_end how);

/* Closes the handle of this segment and client name, if there is one, in order: the program has come back. */
void handle_close_same(const char *segment_name, const char *client);

/* Frees what a handle holds that was never added, or whose last reference went. */
void handle_free(struct handle *handle);

#endif
