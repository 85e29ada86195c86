/* client.h: what the files of the client's side share. */
#ifndef IBLB_CLIENT_H
#define IBLB_CLIENT_H

#include "handles.h"

/* NULL, "" and white space mean none. */
static inline bool text_is_none(const char *text) {
    while (text && (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n'))
        text++;
    return !text || !*text;
}

/* With the handle's mutex held: is the handle, its slot and its segment as it should be? IBLB_E_CLOSED, _STALE, _QUARANTINED, _SEGMENT. */
int handle_check(struct handle *handle, struct problem *problem);

/* With the handle's mutex held: does the worker live? Asks the kernel if `look`, or if it has not been asked for 100
 * ms. `now`: ns of os_clock_ns. */
bool handle_worker_alive(struct handle *handle, uint64_t now, bool look);

/* The same, and if it does not live: has the segment been removed, or replaced by another? Then nobody will ever serve this one. */
bool handle_abandoned(struct handle *handle, uint64_t now, bool look);

/* Both checks, for what is to be written into the segment. */
int handle_check_served(struct handle *handle, uint64_t now, struct problem *problem);

/* With the handle's mutex held: moves the responses that have come into the inbox. IBLB_E_SEGMENT if the ring makes no sense, _MEMORY. */
int handle_drain(struct handle *handle, struct problem *problem);

/* With the handle's mutex held, after a look that found nothing: sleeps until there may be more. IBLB_OK: look again; else the wait ends:
 * IBLB_E_TIMEOUT, _NO_WORKER, or as handle_check. *looked: when the worker was last looked for, 0 at first. A thread that is to end ends
 * here, and the reference to the handle with it: the caller has nothing else to give back. */
enum wait_kind { FOR_RESPONSE, FOR_EVENT, FOR_COMMAND }; /* the last waits for a worker too, if none lives */
int wait_turn(struct handle *handle, enum wait_kind kind, uint64_t until, uint64_t *looked, struct problem *problem);
uint64_t after_ms(int timeout_ms); /* ns of os_clock_ns */

/* A body that is one msgpack map, as JSON whose first key is `key` with `number`. 0 or what is wrong; *needed as msgpack_to_json. */
const char *map_to_json(const char *key, uint64_t number, const unsigned char *body, size_t bytes, char *json, size_t capacity,
                        size_t *needed);

#endif
