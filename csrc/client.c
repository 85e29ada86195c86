/* client.c: attaching to a segment and what is not about commands (commands.c). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "client.h"
#include "include/iblbridge_worker.h"
#include "json.h"
#include "queue.h"
#include "remembered.h"

#define MS UINT64_C(1000000)
#define CLAIM_PATIENCE_NS (500 * MS) /* for another process that is claiming a slot; who takes longer is stopped: go on without */
#define NOT_OUR_TURN 1               /* beside the codes of iblbridge.h */

/* --- names --- */

static int check_client(const char *client, struct problem *problem) {
    size_t length = strlen(client);
    size_t valid = utf8_check(client, length);
    if (valid != length)
        return problem_set(problem, IBLB_E_UTF8, "The client's name is not valid UTF-8 at offset %zu.", valid);
    if (length >= NAME_BYTES)
        return problem_set(problem, IBLB_E_NAME, "The client's name has %zu bytes; %u is the most.", length, NAME_BYTES - 1);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)client[i] < 0x20 || client[i] == 0x7f)
            return problem_set(problem, IBLB_E_NAME, "The client's name holds a control character at offset %zu.", i);
    return IBLB_OK;
}

/* The digits at its end tell two containers apart that share the segment: each may have a process of this number. */
static void default_name(char name[NAME_BYTES]) {
    static shared_u32 opened;
    snprintf(name, NAME_BYTES, "pid-%" PRIu32 "-%" PRIu32 "-%06x", os_pid(), add32(&opened, 1) + 1, (unsigned)(os_random() & 0xffffff));
}

static int is_tool(const char *client) {
    return strncmp(client, "iblb", 4) == 0;
}

/* --- claiming a slot --- */

static int name_taken(const struct segment *segment, const char *client, struct problem *problem) {
    for (uint32_t i = 0; i < segment->sizes.slots; i++) {
        struct slot slot;
        char name[NAME_BYTES];
        segment_slot(segment, i, &slot);
        if (load32_acquire(&slot.header->state) == SLOT_FREE)
            continue;
        shared_read(name, slot.header->client, sizeof name);
        name[NAME_BYTES - 1] = '\0';
        if (strcmp(name, client) == 0 && os_locked(segment->locks, slot_lock(i)))
            return problem_set(problem, IBLB_E_NAME_TAKEN,
                               "The client name \"%s\" is in use by process %" PRIu32 ". Use another name, or end it.", client,
                               load32_relaxed(&slot.header->pid));
    }
    return IBLB_OK;
}

/* With the slot's locks held: did its owner leave in order, and is no worker there who has seen it? One that starts now does not look at
 * the slot before it has the lock that we hold, or before we have taken `closing` back. */
static int may_reuse(const struct segment *segment, const struct slot *slot) {
    return load32_acquire(&slot->header->state) == SLOT_CLAIMED && load32_acquire(&slot->header->closing) == CLOSED_IN_ORDER &&
           !os_locked(segment->locks, worker_lock());
}

/* With the slot's locks held: may commands be appended to those in its ring? Scribbled ones would get the slot quarantined, and us with it.
 */
static int may_append(const struct slot *slot, const struct queue *queue) {
    uint64_t number = load64_relaxed(&slot->header->next_request);
    return number >> 62 == 0 && queue->last_request <= number && queue->last_stamp <= os_clock_ns() + FUTURE_NS;
}

/* With the slot's locks held: ours from now on, if it is free, or nobody else will free it, and its rings are as a worker leaves them; or,
 * with `append`, as an owner leaves them that could not wait for one: its commands stay where they are, and ours come behind them. */
static int claim(struct handle *handle, uint32_t index, int append) {
    struct slot slot;
    struct queue queue;
    segment_slot(&handle->segment, index, &slot);
    int is_free = load32_acquire(&slot.header->state) == SLOT_FREE;
    if (!is_free && !may_reuse(&handle->segment, &slot))
        return 0;
    uint32_t generation = load32_relaxed(&slot.header->generation); /* the last owner's */
    uint64_t responses = load64_acquire(&slot.response.header->tail);
    uint64_t events = load64_acquire(&slot.event.header->tail);
    uint64_t incoming = load64_acquire(&slot.incoming.header->tail);
    if ((responses | events | incoming) % RECORD_ALIGN || !queue_look(&slot.command, generation, &queue))
        return 0;
    if (queue.head != queue.tail && (is_free || !append || !may_append(&slot, &queue)))
        return 0;
    if (!is_free && !asked_all_done(&slot.incoming, generation)) /* the next worker tells the masters of the owner before that it left */
        return 0;
    handle->slot = slot;
    handle->slot_index = index;
    handle->generation = add32(&slot.header->generation, 1) + 1;
    handle->command_tail = queue.tail;
    handle->last_stamp = queue.last_stamp;
    handle->response_head = responses;
    handle->event_head = events;
    handle->serving = (struct serving){.head = incoming, .seen = incoming};
    uint64_t before = load64_relaxed(&slot.header->next_request);
    handle->next_request = (before >> 62 ? 0 : before) + 1; /* no client gets there: scribbled by an earlier owner */
    ring_wipe(&slot.response, load64_relaxed(&slot.response.header->head), responses); /* what was meant for the owner before */
    ring_wipe(&slot.event, load64_relaxed(&slot.event.header->head), events);
    ring_release(&slot.response, responses);
    ring_wipe(&slot.incoming, load64_relaxed(&slot.incoming.header->head), incoming);
    ring_release(&slot.event, handle->event_head);
    ring_release(&slot.incoming, incoming);
    store32_relaxed(&slot.header->serving_mask, 0);
    char name[NAME_BYTES] = "";
    memcpy(name, handle->client, strlen(handle->client));
    shared_write(slot.header->client, name, sizeof name);
    store32_relaxed(&slot.header->pid, os_pid());
    store64_relaxed(&slot.header->since, os_clock_ns());
    store32_relaxed(&slot.header->response_wanted, 0);
    store32_relaxed(&slot.header->event_mask, 0);
    bell_disarm(&slot.header->client_bell);
    store32_release(&slot.header->closing, NOT_CLOSED); /* both pair with the worker's look: all of the above is visible; */
    store32_release(&slot.header->state, SLOT_CLAIMED); /* of a slot that is used again it waits for the first */
    return 1;
}

static int try_claim(struct handle *handle, uint32_t index, int append) {
    os_file locks = handle->segment.locks;
    if (os_lock(locks, slot_lock(index)) != 1)
        return 0;
    if (os_lock(locks, slot_guard(index)) == 1) {
        if (claim(handle, index, append))
            return 1;
        os_unlock(locks, slot_guard(index));
    }
    os_unlock(locks, slot_lock(index));
    return 0;
}

/* Of the slots that were left in order, and that were not tried, the one with the most room; `usable` if there is none. A glance: whoever
 * claims it looks again. */
static uint32_t roomiest(const struct segment *segment, uint32_t usable, uint64_t tried) {
    uint32_t best = usable;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < usable; i++) {
        struct slot slot;
        segment_slot(segment, i, &slot);
        uint64_t used = load64_relaxed(&slot.command.header->tail) - load64_relaxed(&slot.command.header->head);
        if (!(tried >> i & 1) && used < least && load32_relaxed(&slot.header->closing) == CLOSED_IN_ORDER) {
            best = i;
            least = used;
        }
    }
    return best;
}

static int claim_any(struct handle *handle, struct problem *problem) {
    struct segment *segment = &handle->segment;
    uint32_t usable = segment->sizes.slots - (is_tool(handle->client) ? 0 : 1);
    int code = name_taken(segment, handle->client, problem);
    if (code != IBLB_OK)
        return code;
    for (uint32_t i = 0; i < usable; i++)
        if (try_claim(handle, i, 0))
            return IBLB_OK;
    uint64_t tried = 0;
    for (uint32_t i; (i = roomiest(segment, usable, tried)) < usable; tried |= UINT64_C(1) << i)
        if (try_claim(handle, i, 1))
            return IBLB_OK;
    if (!os_locked(segment->locks, worker_lock()))
        return problem_set(problem, IBLB_E_NO_SLOT,
                           "All %" PRIu32 " client slots of %s are taken, and no worker carries out what programs have left in them. "
                           "Start the worker: iblbridge serve --segment %s.",
                           usable, segment->path, handle->segment_name);
    return problem_set(problem, IBLB_E_NO_SLOT, "All %" PRIu32 " client slots of %s are taken. Close clients that are not needed.", usable,
                       segment->path);
}

/* One process claims at a time, so that two cannot take the same name. */
static int claim_in_turn(struct handle *handle, int out_of_turn, struct problem *problem) {
    struct segment *segment = &handle->segment;
    int locked = os_lock(segment->locks, claim_lock());
    if (locked == 0 && !out_of_turn)
        return NOT_OUR_TURN;
    int code = claim_any(handle, problem);
    if (locked == 1)
        os_unlock(segment->locks, claim_lock());
    if (code == IBLB_OK && !os_same_file(segment->locks, segment->path))
        return problem_set(problem, IBLB_E_STALE, "The segment %s was just replaced. Open again.", segment->path);
    return code;
}

/* --- open --- */

/* What may be different a moment later: no segment yet, no worker yet, all slots taken by clients that have just ended, a virus scanner. */
static int worth_waiting(int code) {
    return code == IBLB_E_NO_SEGMENT || code == IBLB_E_STALE || code == IBLB_E_NO_SLOT || code == IBLB_W_NO_WORKER || code == IBLB_E_SYSTEM;
}

static int attach_once(struct handle *handle, int last_try, int out_of_turn, struct problem *problem) {
    int code = segment_attach(&handle->segment, handle->segment_name, problem);
    if (code != IBLB_OK)
        return code;
    int alive = os_locked(handle->segment.locks, worker_lock());
    if (alive || last_try)
        code = claim_in_turn(handle, out_of_turn, problem);
    if (code == IBLB_OK && !alive)
        code = problem_set(problem, IBLB_W_NO_WORKER, "No worker serves %s; commands wait for one. Start it: iblbridge serve --segment %s.",
                           handle->segment.path, handle->segment_name);
    handle->alive = alive;
    handle->looked_at = os_clock_ns();
    handle->last = *problem;
    if (code == IBLB_OK || (code == IBLB_W_NO_WORKER && last_try)) {
        int added = handle_add(handle, problem);
        code = added < 0 ? added : code;
    }
    if (!handle->number)
        segment_close(&handle->segment, 0);
    return code;
}

static void give_up_opening(void *handle) {
    handle_free(handle);
    os_let_thread();
}

static int attach_in_time(struct handle *handle, int timeout_ms, struct problem *problem) {
    uint64_t pause = 2 * MS, turn_until = 0;
    for (uint64_t until = os_clock_ns() + (uint64_t)timeout_ms * MS;;) {
        int last_try = os_clock_ns() + pause >= until;
        handles_hold_forks();
        int code = attach_once(handle, last_try, turn_until && os_clock_ns() >= turn_until, problem);
        handles_let_forks();
        if (code == NOT_OUR_TURN) { /* nothing of ours is open meanwhile: forks, and with them iblb_close, are not held up */
            turn_until = turn_until ? turn_until : os_clock_ns() + CLAIM_PATIENCE_NS;
            os_end_if_asked(give_up_opening, handle);
            os_sleep_ns(MS / 2);
            continue;
        }
        if (last_try || !worth_waiting(code))
            return code;
        os_end_if_asked(give_up_opening, handle);
        os_sleep_ns(pause);
        pause = pause < 25 * MS ? 2 * pause : pause;
    }
}

IBLB_API int iblb_open(const char *segment, const char *client, int timeout_ms, int *handle) {
    struct problem problem = {0};
    struct handle *new = NULL;
    int code = IBLB_OK;
    os_hold_thread();
    if (handle)
        *handle = 0;
    if (!handle || !segment || timeout_ms < 0)
        code = problem_set(&problem, IBLB_E_ARGUMENT, "iblb_open needs a segment's name, a place for the handle, and timeout_ms >= 0.");
    if (code == IBLB_OK)
        code = segment_check_name(segment, &problem);
    if (code == IBLB_OK && !text_is_none(client))
        code = check_client(client, &problem);
    if (code == IBLB_OK && !(new = calloc(1, sizeof *new)))
        code = problem_standard(&problem, IBLB_E_MEMORY);
    if (code == IBLB_OK) {
        os_mutex_init(&new->mutex);
        os_cond_init(&new->changed);
        memcpy(new->segment_name, segment, strlen(segment));
        if (text_is_none(client))
            default_name(new->client);
        else
            memcpy(new->client, client, strlen(client));
        handle_close_same(new->segment_name, new->client);
        code = attach_in_time(new, timeout_ms, &problem);
        if (code >= 0)
            *handle = new->number;
        else
            handle_free(new);
    }
    if (code < 0)
        problem_remember(&problem);
    os_let_thread();
    return code;
}

IBLB_API int iblb_close(int handle) {
    return handle_close(handle, CLOSED_IN_ORDER);
}

IBLB_API int iblb_abandon(int handle) {
    return handle_close(handle, CLOSED_AS_LOST);
}

/* --- the rest --- */

void handle_look_for_worker(struct handle *handle, uint64_t now) {
    handle->alive = os_locked(handle->segment.locks, worker_lock());
    handle->looked_at = now;
}

int handle_check_closely(const struct handle *handle, struct problem *problem) {
    if (handle->closed)
        return problem_standard(problem, IBLB_E_CLOSED);
    if (load32_acquire(&handle->segment.header->state) != SEGMENT_READY)
        return problem_standard(problem, IBLB_E_STALE);
    uint32_t state = load32_acquire(&handle->slot.header->state);
    if (state == SLOT_QUARANTINED)
        return problem_standard(problem, IBLB_E_QUARANTINED);
    if (state != SLOT_CLAIMED || load32_relaxed(&handle->slot.header->generation) != handle->generation)
        return problem_set(problem, IBLB_E_SEGMENT, "The slot of this client was overwritten. Restart the worker, then open again.");
    return IBLB_OK;
}

IBLB_API int iblb_worker_state(int number, int *alive, int *services, int *services_up) {
    int code;
    struct problem problem;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    problem_clear(&problem);
    code = handle_check(handle, &problem);
    int lives = 0;
    if (code == IBLB_OK) {
        const struct segment_header *header = handle->segment.header;
        if (handle_abandoned(handle, os_clock_ns(), true))
            code = problem_standard(&problem, IBLB_E_STALE);
        lives = handle->alive;
        if (services)
            *services = lives ? (int)(load32_acquire(&header->services) % (MAX_SERVICES + 1)) : 0;
        if (services_up)
            *services_up = lives ? (int)(load32_acquire(&header->services_up) % (MAX_SERVICES + 1)) : 0;
    }
    if (alive)
        *alive = lives;
    return handle_leave(handle, code, &problem);
}

IBLB_API int iblb_last_error(int number, char *text, int capacity) {
    struct problem problem;
    int code;
    struct handle *handle = number > 0 ? handle_enter(number, &code) : NULL;
    if (handle) {
        problem = handle->last;
        handle_leave(handle, IBLB_OK, NULL);
    } else {
        problem_recall(&problem);
    }
    return copy_ascii(problem.text, text, capacity);
}

IBLB_API int iblb_clock_ns(double *now) {
    if (now)
        *now = (double)os_clock_ns();
    return IBLB_OK;
}

IBLB_API int iblb_version(void) {
    return IBLB_VERSION;
}
