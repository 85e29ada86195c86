/* taking.c: a program that serves takes what masters ask (iblb_next_command). What it answers is in answering.c.
 *
 * What masters ask stands in the incoming ring until it is done: we give its room back once it is ANSWERED or
 * WITHDRAWN. Of two that compete for a record, we and the worker that withdraws, whoever swaps its state first wins
 * (incoming.c). What we have TAKEN is remembered in the handle, with all that an answer needs: it can be answered to a
 * worker that knows nothing of the command.
 */
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "client.h"
#include "include/iblbridge.h"
#include "json.h"

#define MS UINT64_C(1000000)
#define NOT_YET 1 /* beside the codes of iblbridge.h */

/* --- the incoming ring --- */

static enum ring_result read_record(const struct handle *handle, uint64_t *at, uint64_t tail, struct incoming_record *record,
                                    uint64_t *control) {
    return asked_read(&handle->slot.incoming, handle->generation, at, tail, record, control);
}

static int damaged(struct problem *problem) {
    return problem_set(problem, IBLB_E_SEGMENT,
                       "The ring of what masters ask this client is damaged. Restart the worker, then open again.");
}

/* The record goes: of the command that was taken from it only the withdrawal is left to be told. */
static void note_late(struct handle *handle, uint64_t position) {
    for (int i = 0; i < MAX_OPEN; i++)
        if (handle->serving.open[i].command && handle->serving.open[i].position == position)
            handle->serving.open[i].late = true;
}

int serving_release(struct handle *handle, struct problem *problem) {
    const struct ring *ring = &handle->slot.incoming;
    struct incoming_record record;
    uint64_t tail, control, at = handle->serving.head;
    enum ring_result found = ring_tail(ring, at, &tail);
    while (found == RING_OK && (found = read_record(handle, &at, tail, &record, &control)) == RING_OK && !asked_is_open(control)) {
        note_late(handle, at);
        if (record.message == IBLB_ALYX)
            shared_wipe(ring_at(ring, at) + sizeof record, record.payload_bytes);
        at += record.header.bytes;
    }
    if (found == RING_CORRUPT)
        return damaged(problem);
    if (at != handle->serving.head) {
        handle->serving.head = at;
        ring_release(ring, at);
    }
    return IBLB_OK;
}

/* --- next command --- */

struct waiting {
    struct incoming_record record;
    uint64_t position;
    uint64_t control; /* PUBLISHED, when we looked */
};

/* Nobody waits for it any more, and its worker, which may be dead or stopped, has not withdrawn it yet: its time is up, or
 * the PC has slept since. A worker that notes a sleep writes the stamp first, so the stamp is read last: who finds that
 * there is nothing new finds it there. */
static bool is_stale(const struct handle *handle, const struct incoming_record *record) {
    const struct segment_header *header = handle->segment.header;
    uint64_t now = os_clock_ns(), age = now > record->stamp ? now - record->stamp : 0;
    return (record->timeout_ms && age >= record->timeout_ms * MS) || segment_sleep_is_new(header) ||
           record->stamp < load64_relaxed(&header->slept_stamp);
}

/* With the mutex held: the next one to take; interrupts first. IBLB_E_TIMEOUT: none. */
static int choose(struct handle *handle, struct waiting *chosen, struct problem *problem) {
    const struct ring *ring = &handle->slot.incoming;
    struct waiting next;
    uint64_t tail;
    bool any = false;
    next.position = handle->serving.head;
    enum ring_result found = ring_tail(ring, next.position, &tail);
    while (found == RING_OK && (found = read_record(handle, &next.position, tail, &next.record, &next.control)) == RING_OK) {
        bool first = !any || (next.record.message == IBLB_EXPINTERRUPT && chosen->record.message != IBLB_EXPINTERRUPT);
        if (asked_state(next.control) == INCOMING_PUBLISHED && first && !is_stale(handle, &next.record)) {
            *chosen = next;
            any = true;
        }
        next.position += next.record.header.bytes;
    }
    if (found == RING_CORRUPT)
        return damaged(problem);
    if (!any)
        handle->serving.seen = tail;
    return any ? IBLB_OK : IBLB_E_TIMEOUT;
}

/* Has the worker withdrawn it? Its record may still stand there, behind one that is open. */
static bool is_late(const struct handle *handle, const struct open_command *open) {
    const struct incoming_record *record = (const void *)ring_at(&handle->slot.incoming, open->position);
    return open->late || asked_state(load64_acquire(&record->control)) == INCOMING_WITHDRAWN;
}

/* A place for one more; of those that were withdrawn and not answered yet the oldest goes if there is no other. NULL:
 * all are open. */
static struct open_command *free_place(struct handle *handle) {
    struct open_command *oldest = NULL;
    for (int i = 0; i < MAX_OPEN; i++) {
        struct open_command *open = &handle->serving.open[i];
        if (!open->command)
            return open;
        if (is_late(handle, open) && (!oldest || open->number < oldest->number))
            oldest = open;
    }
    return oldest;
}

static bool copy_name(const unsigned char *body, size_t bytes, const char *key, char name[NAME_BYTES]) {
    const char *text;
    size_t length;
    if (!msgpack_find_str(body, bytes, key, &text, &length) || length >= NAME_BYTES)
        return false;
    memcpy(name, text, length);
    name[length] = '\0';
    return true;
}

struct asked {
    int *command, *message;
    char *json;
    int capacity;
    int *needed;
};

/* With the mutex held: shows the record and takes it, unless the buffer is too small. NOT_YET: it was withdrawn
 * meanwhile. */
static int take_command(struct handle *handle, const struct waiting *waiting, unsigned char *body, const struct asked *asked,
                        struct problem *problem) {
    const struct incoming_record *record = &waiting->record;
    struct incoming_record *shared = (void *)ring_at(&handle->slot.incoming, waiting->position);
    struct open_command open = {inbox_request(record->number), false, record->number, waiting->position, record->message, "", ""};
    size_t size = 0, room = asked->json ? (size_t)asked->capacity : 0;
    shared_read(body, shared + 1, record->payload_bytes);
    const char *wrong = map_to_json("command", (uint64_t)open.command, body, record->payload_bytes, asked->json, room, &size);
    if (!wrong && (!copy_name(body, record->payload_bytes, "service", open.service) ||
                   !copy_name(body, record->payload_bytes, "master", open.master)))
        wrong = "it does not say who asks whom";
    bool small = !wrong && size > room && (asked->json || asked->needed);
    struct open_command *place = free_place(handle);
    uint64_t taken = (waiting->control & ~UINT64_C(0xffffffff)) | INCOMING_TAKEN;
    bool ours = !small && place && swap_if64(&shared->control, waiting->control, taken);
    if (!ours && load64_acquire(&shared->control) != waiting->control) { /* withdrawn; and what was read may be wiped in parts */
        if (asked->json && room)
            asked->json[0] = '\0';
        return NOT_YET;
    }
    if (asked->needed)
        *asked->needed = (int)size;
    if (asked->message)
        *asked->message = record->message;
    if (small)
        return problem_set(problem, IBLB_E_BUFFER, "The command takes %zu bytes and the buffer has %zu; it is kept.", size, room);
    if (!ours) {
        if (asked->json && room)
            asked->json[0] = '\0';
        return problem_set(problem, IBLB_E_TOO_MANY, "%d commands were taken and are not answered yet. Answer them, or let them fail.",
                           MAX_OPEN);
    }
    if (wrong) /* nobody can answer it: the worker does when its time is up */
        return problem_set(problem, IBLB_E_SEGMENT, "A command cannot be read: %s.", wrong);
    *place = open;
    *asked->command = open.command;
    return IBLB_OK;
}

/* With the mutex held. IBLB_E_TIMEOUT: there is none, or what there is changes all the time. */
static int look_for_command(struct handle *handle, const struct asked *asked, struct problem *problem) {
    int code = NOT_YET;
    for (int tries = 0; code == NOT_YET && tries < 100; tries++) {
        struct waiting waiting = {.position = 0};
        code = serving_release(handle, problem);
        if (code == IBLB_OK)
            code = choose(handle, &waiting, problem);
        if (code != IBLB_OK)
            return code;
        unsigned char *body = malloc(waiting.record.payload_bytes ? waiting.record.payload_bytes : 1);
        if (!body)
            return problem_standard(problem, IBLB_E_MEMORY);
        code = take_command(handle, &waiting, body, asked, problem);
        free(body);
    }
    os_cond_broadcast(&handle->changed); /* a thread that waits for something else may have let us go first */
    return code == NOT_YET ? IBLB_E_TIMEOUT : code;
}

/* With the mutex held. */
static int wait_command(struct handle *handle, uint64_t until, const struct asked *asked, struct problem *problem) {
    for (uint64_t looked = 0;;) {
        int code = handle_check(handle, problem); /* of a slot that the worker has given up no command is to be taken */
        if (code == IBLB_OK)
            code = handle_drain(handle, problem);
        if (code == IBLB_OK)
            code = look_for_command(handle, asked, problem);
        if (code == IBLB_E_TIMEOUT && !(handle->serving.mask & 0xffu))
            return problem_set(problem, IBLB_E_SERVICE, "This handle serves nothing: call iblb_serve first.");
        if (code == IBLB_E_TIMEOUT && !serving_is_listened(handle))
            return problem_set(problem, IBLB_E_SERVICE, "The worker does not listen as \"%s\" any more.", handle->serving.service);
        if (code == IBLB_E_TIMEOUT)
            code = wait_turn(handle, FOR_COMMAND, until, &looked, problem);
        if (code != IBLB_OK || *asked->command)
            return code;
    }
}

IBLB_API int iblb_next_command(int number, int timeout_ms, int *command, int *message, char *json, int capacity, int *needed) {
    int code;
    struct problem problem;
    struct asked asked = {command, message, json, capacity, needed};
    if (json && capacity > 0)
        json[0] = '\0';
    if (needed)
        *needed = 0;
    if (command)
        *command = 0;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    problem_clear(&problem);
    if (!command || timeout_ms < 0 || (json && capacity < 0)) {
        code = problem_set(&problem, IBLB_E_ARGUMENT, "The place for the command's number is NULL, or timeout_ms or capacity is negative.");
    } else {
        handle->serving.waiters++;
        code = wait_command(handle, after_ms(timeout_ms), &asked, &problem);
        handle->serving.waiters--;
    }
    return handle_leave(handle, code, &problem);
}
