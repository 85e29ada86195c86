/* events.c: what services and the worker say by themselves, for clients that subscribed to it.
 *
 * Events stay in their ring until somebody asks for them, and hold nothing else up. The worker counts every event that
 * the handle wants, even one that finds no room; that count is the event's `sequence`.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"
#include "json.h"

#define ALL_EVENTS 151551 /* IBLB_EXPINIT to IBLB_WORKER_RESTARTED, IBLB_EXPERIMENT_LOST, IBLB_SERVICES_CHANGED; other numbers are none */

IBLB_API int iblb_subscribe(int number, int message_mask) {
    int code;
    struct problem problem;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    problem_clear(&problem);
    if (message_mask & ~(ALL_EVENTS | IBLBW_COMMANDS))
        code = problem_set(&problem, IBLB_E_MESSAGE, "%d holds a number that is no event; the sum of them all is %d.", message_mask,
                           ALL_EVENTS);
    else
        code = handle_check_served(handle, os_clock_ns(), &problem);
    if (code == IBLB_OK)
        store32_release(&handle->slot.header->event_mask, (uint32_t)message_mask);
    return handle_leave(handle, code, &problem);
}

struct event {
    struct event_record record;
    uint64_t next; /* where the one behind it begins */
    unsigned char *body;
};

/* With the mutex held: a copy of the next event, its body to be freed. IBLB_E_TIMEOUT: none; IBLB_E_SEGMENT,
 * _MEMORY. */
static int read_event(struct handle *handle, struct event *event, struct problem *problem) {
    const struct ring *ring = &handle->slot.event;
    struct record_header header;
    uint64_t tail, at = handle->event_head;
    enum ring_result found = ring_tail(ring, at, &tail);
    if (found == RING_OK)
        found = ring_next(ring, &at, tail, &header);
    if (found == RING_EMPTY)
        return IBLB_E_TIMEOUT;
    if (found == RING_OK) {
        shared_read(&event->record, ring_at(ring, at), sizeof event->record);
        if (header.kind != RECORD_EVENT || event->record.payload_bytes > header.bytes - sizeof event->record)
            found = RING_CORRUPT;
    }
    if (found != RING_OK)
        return problem_set(problem, IBLB_E_SEGMENT, "The event ring of this client is damaged. Restart the worker, then open again.");
    uint32_t bytes = event->record.payload_bytes;
    event->next = at + header.bytes;
    event->body = malloc(bytes ? bytes : 1);
    if (!event->body)
        return problem_standard(problem, IBLB_E_MEMORY);
    shared_read(event->body, ring_at(ring, at) + sizeof event->record, bytes);
    return IBLB_OK;
}

const char *map_to_json(const char *key, uint64_t number, const unsigned char *body, size_t bytes, char *json, size_t capacity,
                        size_t *needed) {
    char first[48];
    size_t length = (size_t)snprintf(first, sizeof first, "{\"%s\":%" PRIu64 ",", key, number);
    /* The text's own brace stands where the comma goes. */
    size_t ahead = length - 1;
    const char *wrong =
        msgpack_to_json(body, bytes, capacity > ahead ? json + ahead : NULL, capacity > ahead ? capacity - ahead : 0, needed);
    unsigned char kind = bytes ? body[0] : 0;
    if (wrong)
        return wrong;
    if (*needed <= sizeof "{}" || ((kind & 0xf0) != 0x80 && kind != 0xde && kind != 0xdf))
        return "it is not a map with keys";
    *needed += ahead;
    if (*needed <= capacity)
        memcpy(json, first, length);
    else if (capacity)
        json[0] = '\0';
    return NULL;
}

/* With the mutex held: hands the event out and gives its room back, unless the buffer is too small. */
static int take_event(struct handle *handle, const struct event *event, int *message, char *json, int capacity, int *needed,
                      struct problem *problem) {
    size_t size = 0, room = json ? (size_t)capacity : 0;
    const char *wrong = map_to_json("sequence", event->record.sequence, event->body, event->record.payload_bytes, json, room, &size);
    if (message)
        *message = event->record.message;
    if (needed)
        *needed = (int)size;
    if (!wrong && size > room && (json || needed))
        return problem_set(problem, IBLB_E_BUFFER, "The event takes %zu bytes and the buffer has %zu; it is kept.", size, room);
    if (event->record.message == IBLB_ALYX)
        ring_wipe(&handle->slot.event, handle->event_head, event->next);
    handle->event_head = event->next;
    ring_release(&handle->slot.event, event->next);
    os_cond_broadcast(&handle->changed); /* a thread that waits for a response may have let us go first */
    if (wrong)
        return problem_set(problem, IBLB_E_SEGMENT, "An event cannot be read: %s.", wrong);
    return IBLB_OK;
}

/* With the mutex held. */
static int wait_event(struct handle *handle, uint64_t until, int *message, char *json, int capacity, int *needed, struct problem *problem) {
    for (uint64_t looked = 0;;) {
        struct event event;
        int code = handle->closed ? problem_standard(problem, IBLB_E_CLOSED) : handle_drain(handle, problem);
        if (code == IBLB_OK)
            code = read_event(handle, &event, problem);
        if (code == IBLB_OK) {
            code = take_event(handle, &event, message, json, capacity, needed, problem);
            free(event.body);
            return code;
        }
        if (code == IBLB_E_TIMEOUT)
            code = wait_turn(handle, FOR_EVENT, until, &looked, problem);
        if (code != IBLB_OK)
            return code;
    }
}

IBLB_API int iblb_next_event(int number, int timeout_ms, int *message, char *json, int capacity, int *needed) {
    int code;
    struct problem problem;
    if (json && capacity > 0)
        json[0] = '\0';
    if (needed)
        *needed = 0;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    problem_clear(&problem);
    if (timeout_ms < 0 || (json && capacity < 0)) {
        code = problem_set(&problem, IBLB_E_ARGUMENT, "timeout_ms or capacity is negative.");
    } else {
        handle->event_waiters++;
        code = wait_event(handle, after_ms(timeout_ms), message, json, capacity, needed, &problem);
        handle->event_waiters--;
    }
    return handle_leave(handle, code, &problem);
}
