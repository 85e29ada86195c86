/* client.h: what the files of the client's side share. */
#ifndef IBLB_CLIENT_H
#define IBLB_CLIENT_H

#include "handles.h"
#include "include/iblbridge.h"

/* NULL, "" and white space mean none. */
static inline bool text_is_none(const char *text) {
    if (!text || !*text)
        return true;
    while (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n')
        text++;
    return !*text;
}

/* With the handle's mutex held: is the handle, its slot and its segment as it should be? IBLB_E_CLOSED, _STALE, _QUARANTINED, _SEGMENT. */
int handle_check_closely(const struct handle *handle, struct problem *problem);
static inline int handle_check(const struct handle *handle, struct problem *problem) {
    bool fine = !handle->closed && load32_acquire(&handle->segment.header->state) == SEGMENT_READY &&
                load32_acquire(&handle->slot.header->state) == SLOT_CLAIMED &&
                load32_relaxed(&handle->slot.header->generation) == handle->generation;
    return fine ? IBLB_OK : handle_check_closely(handle, problem);
}

/* With the handle's mutex held: does the worker live? Asks the kernel if `look`, or if it has not been asked for 100
 * ms. `now`: ns of os_clock_ns. */
void handle_look_for_worker(struct handle *handle, uint64_t now);
static inline bool handle_worker_alive(struct handle *handle, uint64_t now, bool look) {
    if (look || now - handle->looked_at > PARK_NS)
        handle_look_for_worker(handle, now);
    return handle->alive;
}

/* The same, and if it does not live: has the segment been removed, or replaced by another? Then nobody will ever serve this one. */
static inline bool handle_abandoned(struct handle *handle, uint64_t now, bool look) {
    return !handle_worker_alive(handle, now, look) && !os_same_file(handle->segment.locks, handle->segment.path);
}

/* Both checks, for what is to be written into the segment. */
static inline int handle_check_served(struct handle *handle, uint64_t now, struct problem *problem) {
    int code = handle_check(handle, problem);
    return code == IBLB_OK && handle_abandoned(handle, now, false) ? problem_standard(problem, IBLB_E_STALE) : code;
}

/* With the handle's mutex held: moves the responses that have come into the inbox. IBLB_E_SEGMENT if the ring makes no sense, _MEMORY. */
int handle_drain_all(struct handle *handle, struct problem *problem);
static inline int handle_drain(struct handle *handle, struct problem *problem) {
    uint64_t tail;
    return ring_tail(&handle->slot.response, handle->response_head, &tail) == RING_EMPTY ? IBLB_OK : handle_drain_all(handle, problem);
}

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
