/* waiting.c: what iblb_wait, iblb_next_event and iblb_next_command share: emptying the response ring, and sleeping until something comes.
 *
 * Of several threads that wait on one handle, one parks in shared memory and the others on a condition of this process.
 * Whoever wakes lets the others look too. The handle's mutex is held around every look, and never while anybody sleeps.
 */
#include <stdlib.h>

#include "client.h"
#include "include/iblbridge.h"

#define MS UINT64_C(1000000)

int handle_drain_all(struct handle *handle, struct problem *problem) {
    const struct ring *ring = &handle->slot.response;
    uint64_t tail, at = handle->response_head;
    enum ring_result found = ring_tail(ring, at, &tail);
    if (found == RING_EMPTY)
        return IBLB_OK;
    int code = IBLB_OK;
    struct record_header header;
    while (found == RING_OK && (found = ring_next(ring, &at, tail, &header)) == RING_OK) {
        struct response_record record;
        shared_read(&record, ring_at(ring, at), sizeof record);
        if (header.kind != RECORD_RESPONSE || record.payload_bytes > header.bytes - sizeof record) {
            found = RING_CORRUPT;
            break;
        }
        struct entry *entry = record.generation == handle->generation ? inbox_expects(&handle->inbox, record.request) : NULL;
        if (entry) {
            unsigned char *body = malloc(record.payload_bytes ? record.payload_bytes : 1);
            if (!body) {
                code = problem_standard(problem, IBLB_E_MEMORY); /* the response stays in the ring */
                break;
            }
            shared_read(body, ring_at(ring, at) + sizeof record, record.payload_bytes);
            inbox_answer(entry, record.code, body, record.payload_bytes);
        }
        if (record.message == IBLB_ALYX)
            shared_wipe(ring_at(ring, at) + sizeof record, record.payload_bytes);
        at += header.bytes;
    }
    if (found == RING_CORRUPT)
        return problem_set(problem, IBLB_E_SEGMENT, "The response ring of this client is damaged. Restart the worker, then open again.");
    if (at != handle->response_head) {
        handle->response_head = at;
        ring_release(ring, at);
        os_cond_broadcast(&handle->changed);
        fence_seq_cst(); /* room is made before we look whether the worker waits for it; pairs with the fence in place_response */
        if (load32_relaxed(&handle->slot.header->response_wanted)) {
            store32_release(&handle->slot.header->response_wanted, 0);
            bell_ring(&handle->segment.header->worker_bell, &handle->segment.waits);
        }
    }
    return code;
}

static bool response_came(const struct handle *handle) {
    uint64_t tail;
    return ring_tail(&handle->slot.response, handle->response_head, &tail) != RING_EMPTY;
}

static bool event_came(const struct handle *handle) {
    uint64_t tail;
    return ring_tail(&handle->slot.event, handle->event_head, &tail) != RING_EMPTY;
}

/* Has anything come that the last look did not see? */
static bool command_came(const struct handle *handle) {
    uint64_t tail;
    return ring_tail(&handle->slot.incoming, handle->serving.seen, &tail) != RING_EMPTY;
}

/* Is there something that this thread waits for, beside responses? */
static bool its_own_came(const struct handle *handle, enum wait_kind kind) {
    return (kind == FOR_EVENT && event_came(handle)) || (kind == FOR_COMMAND && command_came(handle));
}

static bool others_came(const struct handle *handle, enum wait_kind kind) {
    return (kind != FOR_EVENT && handle->event_waiters && event_came(handle)) ||
           (kind != FOR_COMMAND && handle->serving.waiters && command_came(handle));
}

/* Sleeps until the next look is worth it, at most PARK_NS. */
static void sleep_until_change(struct handle *handle, enum wait_kind kind, uint64_t until) {
    struct bell *bell = &handle->slot.header->client_bell;
    uint64_t now = os_clock_ns(), left = until > now ? until - now : 0;
    if (left > PARK_NS)
        left = PARK_NS;
    if (handle->parked) {
        os_cond_wait(&handle->changed, &handle->mutex, (int64_t)left);
        return;
    }
    handle->parked = true;
    uint32_t sequence = bell_arm(bell);
    bool for_others = others_came(handle, kind);
    if (!for_others && !response_came(handle) && !its_own_came(handle, kind)) {
        os_mutex_unlock_held(&handle->mutex);
        bell_park(bell, sequence, left, &handle->segment.waits);
        os_mutex_lock_held(&handle->mutex);
    }
    if (!handle->closed) /* the slot may have a new owner already, whose flag this is */
        bell_disarm(bell);
    handle->parked = false;
    os_cond_broadcast(&handle->changed); /* one of the others parks next */
    if (for_others)                      /* let them have it */
        os_cond_wait(&handle->changed, &handle->mutex, (int64_t)(left < MS ? left : MS));
}

struct turn {
    struct handle *handle;
    enum wait_kind kind;
};

/* The thread ends in its wait: does what the callers of wait_turn would have done. */
static void give_up_waiting(void *argument) {
    struct turn *turn = argument;
    turn->handle->event_waiters -= turn->kind == FOR_EVENT;
    turn->handle->serving.waiters -= turn->kind == FOR_COMMAND;
    handle_leave(turn->handle, IBLB_OK, NULL);
}

int wait_turn(struct handle *handle, enum wait_kind kind, uint64_t until, uint64_t *looked, struct problem *problem) {
    struct turn turn = {handle, kind};
    os_end_if_asked(give_up_waiting, &turn);
    int code = handle_check(handle, problem);
    if (code != IBLB_OK)
        return code;
    /* The kernel is asked before the first park, and after each that brought nothing. What was placed in the meantime
     * comes first. */
    uint64_t now = os_clock_ns();
    if (!*looked || now - *looked >= PARK_NS) {
        *looked = now;
        if (!handle_worker_alive(handle, now, true)) {
            if (response_came(handle) || its_own_came(handle, kind))
                return IBLB_OK;
            /* Is it gone for a moment, or is the whole segment? */
            if (handle_abandoned(handle, now, false))
                return problem_standard(problem, IBLB_E_STALE);
            if (kind != FOR_COMMAND || now >= until) /* a program that serves waits for the next worker as well */
                return problem_set(problem, IBLB_E_NO_WORKER,
                                   "No worker serves segment %s. Start it: iblbridge serve --segment %s; then wait again.",
                                   handle->segment_name, handle->segment_name);
        }
    }
    if (now >= until && kind == FOR_EVENT)
        return problem_set(problem, IBLB_E_TIMEOUT, "There was no event.");
    if (now >= until && kind == FOR_COMMAND && !handle->alive)
        return problem_set(problem, IBLB_E_NO_WORKER,
                           "No worker serves segment %s. Start it: iblbridge serve --segment %s; then wait again.", handle->segment_name,
                           handle->segment_name);
    if (now >= until && kind == FOR_COMMAND)
        return problem_set(problem, IBLB_E_TIMEOUT, "Nothing was asked.");
    if (now >= until)
        return problem_standard(problem, IBLB_E_TIMEOUT);
    sleep_until_change(handle, kind, until);
    return IBLB_OK;
}

uint64_t after_ms(int timeout_ms) {
    return os_clock_ns() + (uint64_t)timeout_ms * MS;
}
