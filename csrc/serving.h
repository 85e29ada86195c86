/* serving.h: what a handle that serves knows of the commands that it has taken. Private memory; guarded by the
 * handle's mutex. */
#ifndef IBLB_SERVING_H
#define IBLB_SERVING_H

#include <stdbool.h>

#include "segment.h"

#define MAX_OPEN 8 /* commands that were taken and not answered */

struct open_command {
    int command;       /* what the caller knows it by; 0: this place is free */
    bool late;         /* withdrawn, and its record given back */
    uint64_t number;   /* of its record */
    uint64_t position; /* of its record */
    int message;
    char service[NAME_BYTES];
    char master[NAME_BYTES];
};

struct serving {
    uint64_t head; /* records before it are done */
    uint64_t seen; /* the tail, when a look found nothing to take */
    int waiters;   /* threads in iblb_next_command */
    uint32_t mask; /* as in the slot, its count of changes included */
    char service[NAME_BYTES];
    struct open_command open[MAX_OPEN];
};

struct handle;

/* With the handle's mutex held: gives back the room of what is done at the head of the ring. IBLB_E_SEGMENT if it
 * makes no sense. */
int serving_release(struct handle *handle, struct problem *problem);

/* With the handle's mutex held. False: a worker has come that does not listen under the name that is served. */
bool serving_is_listened(const struct handle *handle);

#endif
