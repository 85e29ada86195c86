/* serving.c: a program that serves a listener of the worker: iblb_serve and iblb_next_command. What it answers is in
 * answering.c.
 *
 * What masters ask stands in the incoming ring until it is done: we give its room back once it is ANSWERED or
 * WITHDRAWN. Of two that compete for a record, we and the worker that withdraws, whoever swaps its state first wins
 * (incoming.c). What we have TAKEN is remembered in the handle, with all that an answer needs: it can be answered to a
 * worker that knows nothing of the command.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answering.h"
#include "client.h"
#include "include/iblbridge.h"
#include "json.h"

#define MS UINT64_C(1000000)
#define ALL_MESSAGES 255                  /* IBLB_EXPINIT to IBLB_ALYX */
#define LISTENERS_PATIENCE_NS (5000 * MS) /* for a worker that has just started to say whom it listens for */
#define TURN_PATIENCE_NS (500 * MS)       /* for another process that holds the claim lock; who takes longer is stopped: go on without */
#define NOT_YET 1                         /* beside the codes of iblbridge.h */

/* --- the incoming ring --- */

static enum ring_result read_record(const struct ring *ring, uint64_t *at, uint64_t tail, struct incoming_record *record,
                                    uint64_t *control) {
    struct record_header header;
    enum ring_result result = ring_next(ring, at, tail, &header);
    if (result != RING_OK)
        return result;
    struct incoming_record *shared = (void *)ring_at(ring, *at);
    shared_read(record, shared, sizeof *record);
    record->header = header; /* the one that was checked */
    *control = load64_acquire(&shared->control);
    uint32_t state = (uint32_t)*control;
    bool sound = header.kind == RECORD_INCOMING && record->payload_bytes <= header.bytes - sizeof *record && state >= INCOMING_PUBLISHED &&
                 state <= INCOMING_WITHDRAWN && (record->number & 0x7fffffff) != 0;
    return sound ? RING_OK : RING_CORRUPT;
}

/* Neither answered nor withdrawn. */
static bool is_open(uint64_t control) {
    uint32_t state = (uint32_t)control;
    return state == INCOMING_PUBLISHED || state == INCOMING_TAKEN;
}

bool incoming_is_done(const struct slot *slot) {
    struct incoming_record record;
    uint64_t at = load64_acquire(&slot->incoming.header->head), tail, control;
    enum ring_result found = at % RECORD_ALIGN ? RING_CORRUPT : ring_tail(&slot->incoming, at, &tail);
    while (found == RING_OK && (found = read_record(&slot->incoming, &at, tail, &record, &control)) == RING_OK) {
        if (is_open(control))
            return false;
        at += record.header.bytes;
    }
    return found == RING_EMPTY;
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
    while (found == RING_OK && (found = read_record(ring, &at, tail, &record, &control)) == RING_OK && !is_open(control)) {
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

/* --- serve --- */

struct listeners {
    uint32_t count;
    char names[MAX_LISTENERS][NAME_BYTES];
};

/* What the worker has published; false while it writes, and until a new one has written. */
static bool read_listeners(const struct segment *segment, struct listeners *listeners) {
    const struct listener_table *table = segment_listeners(segment);
    uint32_t before = load32_acquire(&table->sequence);
    listeners->count = load32_relaxed(&table->count);
    shared_read(listeners->names, table->names, sizeof listeners->names);
    fence_acquire(); /* the names are read before the sequence is, once more */
    if (before % 2 || listeners->count > MAX_LISTENERS || load32_acquire(&table->sequence) != before)
        return false;
    for (uint32_t i = 0; i < listeners->count; i++)
        listeners->names[i][NAME_BYTES - 1] = '\0';
    return true;
}

static void offer_listeners(const struct listeners *listeners, char *text, size_t room) {
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < listeners->count && at + NAME_BYTES + 2 < room; i++) /* no half of a name */
        if (utf8_check(listeners->names[i], strlen(listeners->names[i])) == strlen(listeners->names[i]))
            at += (size_t)snprintf(text + at, room - at, "%s%s", at ? ", " : "", listeners->names[i]);
}

/* The listener that is meant, in `name`. IBLB_E_SERVICE; NOT_YET if the worker has not said yet whom it listens for. */
static int choose_listener(struct handle *handle, const char *service, char name[NAME_BYTES], struct problem *problem) {
    struct listeners listeners;
    char offer[PROBLEM_BYTES / 2];
    bool readable = read_listeners(&handle->segment, &listeners), named = !text_is_none(service);
    snprintf(name, NAME_BYTES, "%s", named ? service : readable && listeners.count == 1 ? listeners.names[0] : "");
    if (!readable && handle->alive) {
        problem_set(problem, IBLB_E_SERVICE, "The worker has not said yet under which names it listens. Serve again when it has started.");
        return NOT_YET;
    }
    if (!handle->alive && *name)
        return IBLB_OK; /* the next worker may listen for others than the one before */
    if (!readable || listeners.count == 0)
        return problem_set(problem, IBLB_E_SERVICE,
                           "The worker listens for nobody. Start it so: iblbridge serve --segment %s --listen cameras=udp://:11001.",
                           handle->segment_name);
    for (uint32_t i = 0; i < listeners.count; i++)
        if (*name && strcmp(listeners.names[i], name) == 0)
            return IBLB_OK;
    offer_listeners(&listeners, offer, sizeof offer);
    if (!named)
        return problem_set(problem, IBLB_E_SERVICE, "The worker listens under several names: say which one of %s.", offer);
    return problem_set(problem, IBLB_E_SERVICE, "The worker does not listen as \"%s\"; there are: %s.", name, offer);
}

/* With the claim lock: does another living client serve it? */
static int served_by_another(const struct handle *handle, const char *service, struct problem *problem) {
    const struct segment *segment = &handle->segment;
    for (uint32_t i = 0; i < segment->sizes.slots; i++) {
        struct slot slot;
        char serving[NAME_BYTES], client[NAME_BYTES];
        segment_slot(segment, i, &slot);
        if (i == handle->slot_index || load32_acquire(&slot.header->state) == SLOT_FREE ||
            !(load32_acquire(&slot.header->serving_mask) & ALL_MESSAGES))
            continue;
        shared_read(serving, slot.header->serving, sizeof serving);
        shared_read(client, slot.header->client, sizeof client);
        serving[NAME_BYTES - 1] = client[NAME_BYTES - 1] = '\0';
        if (utf8_check(client, strlen(client)) != strlen(client))
            client[0] = '\0';
        if (strcmp(serving, service) == 0 && os_locked(segment->locks, slot_lock(i)))
            return problem_set(problem, IBLB_E_NAME_TAKEN,
                               "\"%s\" is served by the client \"%s\" of process %" PRIu32 " already. End it, or let it serve no more.",
                               service, client, load32_relaxed(&slot.header->pid));
    }
    return IBLB_OK;
}

/* The name is written while the mask says that nothing is served; the count above it tells one reader's two looks
 * apart. */
static void write_serving(struct handle *handle, const char *service, uint32_t mask) {
    struct serving *serving = &handle->serving;
    struct slot_header *header = handle->slot.header;
    uint32_t changes = serving->mask & ~(uint32_t)ALL_MESSAGES;
    if (mask && strcmp(serving->service, service) != 0) {
        char name[NAME_BYTES] = "";
        memcpy(name, service, strlen(service));
        changes += ALL_MESSAGES + 1;
        store32_release(&header->serving_mask, changes);
        fence_seq_cst(); /* the mask is gone before the name changes; pairs with the fence in serves() */
        shared_write(header->serving, name, sizeof name);
        memcpy(serving->service, name, sizeof name);
    }
    serving->mask = (changes + ALL_MESSAGES + 1) | mask;
    store32_release(&header->serving_mask, serving->mask);
    bell_ring(&handle->segment.header->worker_bell, &handle->segment.waits);
}

/* With the mutex held. NOT_YET: worth trying again. */
static int serve_once(struct handle *handle, const char *service, int mask, bool out_of_turn, struct problem *problem) {
    char name[NAME_BYTES] = "";
    int code = handle_check_served(handle, os_clock_ns(), problem);
    if (code == IBLB_OK) {
        handle_worker_alive(handle, os_clock_ns(), true);
        code = mask ? choose_listener(handle, service, name, problem) : IBLB_OK;
    }
    if (code != IBLB_OK)
        return code;
    if (mask) {
        int locked = os_lock(handle->segment.locks, claim_lock()); /* one at a time, so that two cannot serve the same */
        if (locked == 0 && !out_of_turn) {
            problem_set(problem, IBLB_E_SYSTEM, "Another program is attaching and does not end.");
            return NOT_YET;
        }
        code = served_by_another(handle, name, problem);
        if (code == IBLB_OK)
            write_serving(handle, name, (uint32_t)mask);
        if (locked == 1)
            os_unlock(handle->segment.locks, claim_lock());
    } else {
        write_serving(handle, name, 0);
    }
    if (code == IBLB_OK && !handle->alive)
        return problem_set(problem, IBLB_W_NO_WORKER,
                           "No worker serves segment %s; the next one asks this program. Start it: %s --segment %s.", handle->segment_name,
                           "iblbridge serve", handle->segment_name);
    return code;
}

static int check_service(const char *service, int mask, struct problem *problem) {
    size_t length = text_is_none(service) ? 0 : strlen(service);
    size_t valid = length ? utf8_check(service, length) : 0;
    if (mask & ~ALL_MESSAGES)
        return problem_set(problem, IBLB_E_MESSAGE, "%d holds a number that no master can ask; the sum of them all is %d.", mask,
                           ALL_MESSAGES);
    if (valid != length)
        return problem_set(problem, IBLB_E_UTF8, "The listener's name is not valid UTF-8 at offset %zu.", valid);
    if (length >= NAME_BYTES)
        return problem_set(problem, IBLB_E_SERVICE, "The worker has no listener whose name is longer than %u bytes.", NAME_BYTES - 1);
    return IBLB_OK;
}

static void give_up_serving(void *unused) {
    (void)unused;
    os_let_thread();
}

static int serve_in_time(int number, const char *service, int mask) {
    struct problem problem;
    for (uint64_t begun = os_clock_ns(), waited = 0;; waited = os_clock_ns() - begun) {
        int code;
        problem_clear(&problem);
        handles_hold_forks(); /* a lock is taken and dropped */
        struct handle *handle = handle_enter(number, &code);
        bool again = false;
        if (handle) {
            code = check_service(service, mask, &problem);
            if (code == IBLB_OK)
                code = serve_once(handle, service, mask, waited >= TURN_PATIENCE_NS, &problem);
            again = code == NOT_YET && waited < LISTENERS_PATIENCE_NS;
            code = handle_leave(handle, again ? IBLB_OK : problem.code, &problem);
        }
        handles_let_forks();
        if (!again)
            return waited && code == IBLB_E_HANDLE ? IBLB_E_CLOSED : code;
        os_end_if_asked(give_up_serving, NULL); /* nothing of ours is held meanwhile */
        os_sleep_ns(2 * MS);
    }
}

IBLB_API int iblb_serve(int handle, const char *service, int message_mask) {
    os_hold_thread();
    int code = serve_in_time(handle, service, message_mask);
    os_let_thread();
    return code;
}

/* --- next command --- */

struct waiting {
    struct incoming_record record;
    uint64_t position;
    uint64_t control; /* PUBLISHED, when we looked */
};

/* With the mutex held: the next one to take; interrupts first. IBLB_E_TIMEOUT: none. */
static int choose(struct handle *handle, struct waiting *chosen, struct problem *problem) {
    const struct ring *ring = &handle->slot.incoming;
    struct waiting next;
    uint64_t tail;
    bool any = false;
    next.position = handle->serving.head;
    enum ring_result found = ring_tail(ring, next.position, &tail);
    while (found == RING_OK && (found = read_record(ring, &next.position, tail, &next.record, &next.control)) == RING_OK) {
        bool first = !any || (next.record.message == IBLB_EXPINTERRUPT && chosen->record.message != IBLB_EXPINTERRUPT);
        if ((uint32_t)next.control == INCOMING_PUBLISHED && first) {
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

/* A place for one more; of those that were withdrawn and not answered yet the oldest goes if there is no other. NULL:
 * all are open. */
static struct open_command *free_place(struct handle *handle) {
    struct open_command *oldest = NULL;
    for (int i = 0; i < MAX_OPEN; i++) {
        struct open_command *open = &handle->serving.open[i];
        if (!open->command)
            return open;
        if (open->late && (!oldest || open->number < oldest->number))
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

/* False: a worker has come that does not listen under the name that is served. */
static bool is_listened(const struct handle *handle) {
    struct listeners listeners;
    if (!handle->alive || !read_listeners(&handle->segment, &listeners))
        return true;
    for (uint32_t i = 0; i < listeners.count; i++)
        if (strcmp(listeners.names[i], handle->serving.service) == 0)
            return true;
    return false;
}

/* With the mutex held. */
static int wait_command(struct handle *handle, uint64_t until, const struct asked *asked, struct problem *problem) {
    for (uint64_t looked = 0;;) {
        int code = handle_check(handle, problem); /* of a slot that the worker has given up no command is to be taken */
        if (code == IBLB_OK)
            code = handle_drain(handle, problem);
        if (code == IBLB_OK)
            code = look_for_command(handle, asked, problem);
        if (code == IBLB_E_TIMEOUT && !(handle->serving.mask & ALL_MESSAGES))
            return problem_set(problem, IBLB_E_SERVICE, "This handle serves nothing: call iblb_serve first.");
        if (code == IBLB_E_TIMEOUT && !is_listened(handle))
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
