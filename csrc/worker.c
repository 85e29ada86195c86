/* worker.c: the worker's side: take a batch, accept, respond. See iblbridge_worker.h.
 *
 * One thread takes, another may accept and respond; `mutex` guards the views and is never held while parked. The order of the writes is
 * what makes a crash harmless: a response stands in its ring before the command is marked answered, and a command is marked accepted before
 * its first datagram.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "include/iblbridge_worker.h"
#include "json.h"
#include "view.h"

#define MS UINT64_C(1000000)
#define SWEEP_NS (250 * MS) /* how often we look whether a client is gone */
#define FUTURE_NS (1 * MS)  /* a stamp may be ahead by this much */
#define SLEEP_TOLERANCE_NS (100 * MS)

struct iblbw_worker {
    struct segment segment;
    os_mutex mutex;
    uint32_t epoch;
    int forked;
    shared_u32 rung; /* iblbw_ring was called; private memory */
    uint64_t swept_at;
    char replaced[PROBLEM_BYTES];
    struct view views[MAX_SLOTS];
    struct iblbw_worker *next; /* of those in this process, for fork */
};

/* --- fork --- */

static os_mutex list_mutex = OS_MUTEX_INIT;
static struct iblbw_worker *list;
static int fork_watched;

static void before_fork(void) {
    os_mutex_lock(&list_mutex);
}
static void after_fork(void) {
    os_mutex_unlock(&list_mutex);
}
static void in_child(void) {
    for (struct iblbw_worker *worker = list; worker; worker = worker->next) {
        worker->forked = 1;
        os_close(worker->segment.locks); /* the parent's lock must not survive in us */
        os_close(worker->segment.file);
    }
    list = NULL;
    os_mutex_unlock(&list_mutex);
}

static void enlist(struct iblbw_worker *worker) {
    os_mutex_lock(&list_mutex);
    if (!fork_watched)
        os_at_fork(before_fork, after_fork, in_child);
    fork_watched = 1;
    worker->next = list;
    list = worker;
    os_mutex_unlock(&list_mutex);
}

static void delist(const struct iblbw_worker *worker) {
    os_mutex_lock(&list_mutex);
    for (struct iblbw_worker **link = &list; *link; link = &(*link)->next)
        if (*link == worker) {
            *link = worker->next;
            break;
        }
    os_mutex_unlock(&list_mutex);
}

/* --- open, close --- */

static int fail(int code) {
    struct problem problem;
    problem_standard(&problem, code);
    return problem_remember(&problem);
}

static void begin(struct iblbw_worker *worker) {
    os_mutex_init(&worker->mutex);
    worker->epoch = load32_acquire(&worker->segment.header->epoch);
    bell_disarm(&worker->segment.header->worker_bell); /* a predecessor may have died in its sleep */
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        worker->views[i].index = i;
        segment_slot(&worker->segment, i, &worker->views[i].slot);
    }
    enlist(worker);
}

IBLB_API int iblbw_open(const char *name, int slots, int command_bytes, int response_bytes, int event_bytes, struct iblbw_worker **worker) {
    struct problem problem = {0};
    struct segment_sizes sizes = {(uint32_t)slots, (uint32_t)command_bytes, (uint32_t)response_bytes, (uint32_t)event_bytes};
    struct iblbw_worker *new = NULL;
    int code = IBLB_OK;
    if (!name || !worker || slots < 0 || command_bytes < 0 || response_bytes < 0 || event_bytes < 0)
        code = problem_standard(&problem, IBLB_E_ARGUMENT);
    if (worker)
        *worker = NULL;
    if (code == IBLB_OK)
        code = segment_check_name(name, &problem);
    if (code == IBLB_OK && !(new = calloc(1, sizeof *new)))
        code = problem_standard(&problem, IBLB_E_MEMORY);
    if (code == IBLB_OK)
        code = segment_serve(&new->segment, name, &sizes, new->replaced, &problem);
    if (code != IBLB_OK) {
        free(new);
        return problem_remember(&problem);
    }
    begin(new);
    *worker = new;
    return IBLB_OK;
}

IBLB_API void iblbw_close(struct iblbw_worker *worker, int remove) {
    if (!worker)
        return;
    if (!worker->forked) {
        delist(worker);
        struct segment_header *header = worker->segment.header;
        if (load32_acquire(&header->epoch) == worker->epoch) {
            store32_relaxed(&header->services_up, 0);
            segment_close(&worker->segment, remove);
        } else {
            segment_close(&worker->segment, 0);
        }
    }
    os_mutex_destroy(&worker->mutex);
    free(worker);
}

/* --- what it is --- */

IBLB_API int iblbw_path(struct iblbw_worker *worker, char *text, int capacity) {
    return copy_text(worker->segment.path, text, capacity);
}
IBLB_API int iblbw_replaced(struct iblbw_worker *worker, char *text, int capacity) {
    return copy_text(worker->replaced, text, capacity);
}
IBLB_API unsigned long long iblbw_segment_id(struct iblbw_worker *worker) {
    return worker->segment.id;
}
IBLB_API int iblbw_epoch(struct iblbw_worker *worker) {
    return (int)worker->epoch;
}
IBLB_API int iblbw_largest_response(struct iblbw_worker *worker) {
    return (int)(worker->segment.sizes.response_bytes / 4 - sizeof(struct response_record));
}

IBLB_API int iblbw_largest_command(struct iblbw_worker *worker) {
    return (int)ring_largest(&worker->views[0].slot.command, INTERRUPT_RESERVE);
}

IBLB_API int iblbw_services(struct iblbw_worker *worker, const char *names) {
    struct segment_header *header = worker->segment.header;
    struct service_entry *entries = segment_services(&worker->segment);
    uint32_t count = 0;
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    for (const char *name = names; *name; count++) {
        size_t length = strcspn(name, "\n");
        if (count == MAX_SERVICES || length == 0 || length >= SERVICE_NAME_BYTES)
            return fail(IBLB_E_ARGUMENT);
        name += length + (name[length] == '\n');
    }
    add32(&header->services_sequence, load32_relaxed(&header->services_sequence) % 2 ? 2 : 1); /* odd: readers wait; a dead writer's too */
    fence_seq_cst();
    count = 0;
    for (const char *name = names; *name; count++) {
        size_t length = strcspn(name, "\n");
        char padded[SERVICE_NAME_BYTES] = "";
        memcpy(padded, name, length);
        shared_write(entries[count].name, padded, sizeof padded);
        name += length + (name[length] == '\n');
    }
    store32_relaxed(&header->services, count);
    add32(&header->services_sequence, 1);
    return IBLB_OK;
}

IBLB_API int iblbw_services_up(struct iblbw_worker *worker, int count) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    store32_release(&worker->segment.header->services_up, (uint32_t)count);
    return IBLB_OK;
}

/* --- decisions: plain functions of values --- */

static int may_begin(uint64_t stamp, int64_t ttl, uint64_t now, uint64_t interrupt_stamp, uint64_t slept_stamp) {
    if (stamp > now + FUTURE_NS || stamp < slept_stamp || (ttl >= 0 && now > stamp && now - stamp > (uint64_t)ttl))
        return IBLB_E_EXPIRED;
    return stamp < interrupt_stamp ? IBLB_E_ABORTED : IBLB_OK;
}

/* --- take --- */

static int still_ours(const struct iblbw_worker *worker) {
    const struct segment_header *header = worker->segment.header;
    return load32_acquire(&header->epoch) == worker->epoch && load32_acquire(&header->state) == SEGMENT_READY;
}

/* If the PC has slept since a worker last looked, everything sent before now is too old, whatever the clocks say. The stamp is written
 * first: a crash in between repeats the look. */
static void note_sleep(struct segment_header *header, uint64_t now) {
    uint64_t asleep = os_asleep_ns();
    if (asleep > load64_relaxed(&header->sleep_note) + SLEEP_TOLERANCE_NS) {
        store64_release(&header->slept_stamp, now);
        store64_release(&header->sleep_note, asleep);
    }
}

struct batch {
    struct iblbw_command *commands;
    int count, most;
    unsigned char *payload;
    uint32_t used, capacity;
};

static int payload_makes_sense(const unsigned char *payload, size_t bytes, uint32_t flags) {
    size_t first, second, where;
    if (msgpack_check(payload, bytes, &first, &where) || payload[0] < 0xa0 ||
        (payload[0] > 0xbf && (payload[0] < 0xd9 || payload[0] > 0xdb)))
        return 0;
    if (first == bytes || msgpack_check(payload + first, bytes - first, &second, &where) || first + second != bytes)
        return 0;
    return !(flags & COMMAND_JSON) || payload[first] == 0xdb;
}

/* Copies one command out. 1: done, 0: the batch is full, -1: nonsense. */
static int add(struct batch *batch, const struct view *view, const struct command_record *record, uint64_t control, uint64_t position) {
    if (batch->count == batch->most || record->payload_bytes > batch->capacity - batch->used)
        return batch->count == 0 ? -1 : 0; /* larger than the whole buffer: no shim writes that */
    unsigned char *to = batch->payload + batch->used;
    shared_read(to, ring_at(&view->slot.command, position) + sizeof *record, record->payload_bytes);
    if (!payload_makes_sense(to, record->payload_bytes, record->flags))
        return -1;
    batch->commands[batch->count++] = (struct iblbw_command){.request = record->request,
                                                             .position = position,
                                                             .stamp = record->stamp,
                                                             .ttl = record->ttl,
                                                             .slot = view->index,
                                                             .generation = view->generation,
                                                             .message = record->message,
                                                             .flags = (record->flags & (COMMAND_NOTIFY | COMMAND_JSON)) |
                                                                      ((uint32_t)control == STATE_ACCEPTED ? (uint32_t)IBLBW_ORPHAN : 0),
                                                             .payload_offset = batch->used,
                                                             .payload_bytes = record->payload_bytes};
    batch->used += record->payload_bytes;
    return 1;
}

/* Every published record is looked at before one is dispatched: interrupts come first, and their stamp aborts what is older. */
static void take_interrupts(struct iblbw_worker *worker, struct view *view, struct batch *batch, uint64_t now) {
    struct segment_header *header = worker->segment.header;
    struct command_record record;
    uint64_t position;
    while (batch->count < batch->most && batch->used + MAX_INTERRUPT_BYTES <= batch->capacity) {
        enum found found = view_next_interrupt(view, &record, &position);
        if (found == FOUND_NONE)
            return;
        if (found == FOUND_NONSENSE || record.payload_bytes > MAX_INTERRUPT_BYTES ||
            add(batch, view, &record, STATE_PUBLISHED, position) != 1) {
            view_quarantine(view, &worker->segment);
            return;
        }
        const unsigned char *services = batch->payload + batch->commands[batch->count - 1].payload_offset;
        static const unsigned char all_services[5] = {0xdb};
        if (memcmp(services, all_services, sizeof all_services) == 0 && record.stamp <= now + FUTURE_NS &&
            record.stamp > load64_relaxed(&header->interrupt_stamp))
            store64_release(&header->interrupt_stamp, record.stamp);
    }
}

/* The oldest next command of all clients. */
static struct view *oldest(struct iblbw_worker *worker) {
    struct view *best = NULL;
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        struct view *view = &worker->views[i];
        if (view->phase != PHASE_LIVE)
            continue;
        enum found found = view_next(view);
        if (found == FOUND_NONSENSE)
            view_quarantine(view, &worker->segment);
        else if (found == FOUND_COMMAND && (!best || view->next.stamp < best->next.stamp))
            best = view;
    }
    return best;
}

/* With the mutex held. */
static void gather(struct iblbw_worker *worker, struct batch *batch) {
    uint64_t now = os_clock_ns();
    int sweep = now - worker->swept_at >= SWEEP_NS;
    if (sweep)
        worker->swept_at = now;
    note_sleep(worker->segment.header, now);
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        struct view *view = &worker->views[i];
        view_look(view, &worker->segment);
        if (view->phase == PHASE_LIVE) {
            take_interrupts(worker, view, batch, now);
            view_advance(view, &worker->segment);
        }
        if (sweep || view->owned || (view->phase != PHASE_FREE && load32_acquire(&view->slot.header->closing)))
            view_sweep(view, &worker->segment);
    }
    for (struct view *view = oldest(worker); view; view = oldest(worker)) {
        int added = add(batch, view, &view->next, view->next_control, view->scan);
        if (added == 0)
            return;
        if (added < 0)
            view_quarantine(view, &worker->segment);
        else
            view_took(view);
    }
}

static int has_news(const struct iblbw_worker *worker) {
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++)
        if (view_has_news(&worker->views[i]))
            return 1;
    return 0;
}

IBLB_API int iblbw_take(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload, int capacity,
                        int timeout_ms) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    if (!commands || most <= 0 || !payload || capacity < (int)MAX_INTERRUPT_BYTES || timeout_ms < 0)
        return fail(IBLB_E_ARGUMENT);
    struct segment *segment = &worker->segment;
    struct bell *bell = &segment->header->worker_bell;
    struct batch batch = {commands, 0, most, payload, 0, (uint32_t)capacity};
    uint64_t until = os_clock_ns() + (uint64_t)timeout_ms * MS;
    for (int last = 0;;) {
        if (!still_ours(worker))
            return fail(IBLB_E_SUPERSEDED);
        os_mutex_lock(&worker->mutex);
        gather(worker, &batch);
        os_mutex_unlock(&worker->mutex);
        uint64_t now = os_clock_ns();
        if (batch.count > 0 || last || now >= until)
            return batch.count;
        uint32_t sequence = bell_arm(bell);
        if (!has_news(worker) && !load32_acquire(&worker->rung))
            last = bell_park(bell, sequence, until - now < SWEEP_NS ? until - now : SWEEP_NS, segment->mechanism) != 0;
        bell_disarm(bell);
        if (load32_acquire(&worker->rung)) {
            store32_release(&worker->rung, 0);
            last = 1;
        }
    }
}

IBLB_API void iblbw_ring(struct iblbw_worker *worker) {
    store32_release(&worker->rung, 1);
    if (!worker->forked)
        bell_wake(&worker->segment.header->worker_bell, worker->segment.mechanism);
}

/* --- accept, respond --- */

IBLB_API int iblbw_accept(struct iblbw_worker *worker, const struct iblbw_command *command) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    struct segment_header *header = worker->segment.header;
    int code = IBLB_E_CANCELLED;
    os_mutex_lock(&worker->mutex);
    uint64_t now = os_clock_ns();
    note_sleep(header, now);
    shared_u64 *control = command->slot < worker->segment.sizes.slots
                              ? view_control(&worker->views[command->slot], command->generation, command->position, command->request)
                              : NULL;
    if (!still_ours(worker))
        code = IBLB_E_SUPERSEDED;
    else if (control) {
        code = may_begin(command->stamp, command->ttl, now, load64_acquire(&header->interrupt_stamp), load64_acquire(&header->slept_stamp));
        if (code == IBLB_OK && !swap_if64(control, STATE_PUBLISHED, (uint64_t)worker->epoch << 32 | STATE_ACCEPTED))
            code = IBLB_E_CANCELLED; /* the owner's cancel was first */
    }
    os_mutex_unlock(&worker->mutex);
    return code;
}

/* With the mutex held. */
static int place_response(struct iblbw_worker *worker, struct view *view, const struct iblbw_command *command, int code,
                          const unsigned char *body, uint32_t bytes) {
    const struct ring *ring = &view->slot.response;
    struct response_record record = {.header = {record_size(sizeof record + bytes), RECORD_RESPONSE},
                                     .request = command->request,
                                     .generation = view->generation,
                                     .code = code,
                                     .payload_bytes = bytes,
                                     .placed = os_clock_ns()};
    struct ring_space space;
    enum ring_result room = ring_claim(ring, view->response_tail, record.header.bytes, 0, &space);
    if (room == RING_FULL) {
        store32_relaxed(&view->slot.header->response_wanted, 1);
        fence_seq_cst(); /* wanted is visible before we look once more; pairs with the one in drain */
        room = ring_claim(ring, view->response_tail, record.header.bytes, 0, &space);
        if (room == RING_FULL)
            return IBLB_E_FULL;
    }
    if (room != RING_OK) {
        view_quarantine(view, &worker->segment);
        return IBLB_OK;
    }
    store32_relaxed(&view->slot.header->response_wanted, 0);
    shared_write(space.record, &record, sizeof record);
    shared_write(space.record + sizeof record, body, bytes);
    ring_publish(ring, &space);
    view->response_tail = space.next;
    return IBLB_OK;
}

/* With the mutex held. */
static int answer(struct iblbw_worker *worker, struct view *view, const struct iblbw_command *command, int code, const unsigned char *body,
                  uint32_t bytes) {
    shared_u64 *control = view_control(view, command->generation, command->position, command->request);
    uint64_t before = control ? load64_acquire(control) : STATE_ANSWERED;
    uint32_t state = (uint32_t)before;
    if (state != STATE_PUBLISHED && state != STATE_ACCEPTED)
        return IBLB_OK; /* cancelled, answered already, or of an owner that is gone */
    if (command->flags & IBLBW_NOTIFY)
        add64(code >= 0 ? &view->slot.header->notified : &view->slot.header->notified_failed, 1);
    else if (!view->owned) {
        int placed = place_response(worker, view, command, code, body, bytes);
        if (placed != IBLB_OK)
            return placed;
    }
    swap_if64(control, before,
              (uint64_t)worker->epoch << 32 | STATE_ANSWERED); /* fails only against the owner's cancel, which ends it too */
    view_advance(view, &worker->segment);
    if (view->owned)
        view_sweep(view, &worker->segment);
    else
        bell_ring(&view->slot.header->client_bell, worker->segment.mechanism);
    return IBLB_OK;
}

IBLB_API int iblbw_respond(struct iblbw_worker *worker, const struct iblbw_command *command, int code, const unsigned char *body,
                           int bytes) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    if (bytes < 0 || (bytes && !body) || command->slot >= worker->segment.sizes.slots)
        return fail(IBLB_E_ARGUMENT);
    struct view *view = &worker->views[command->slot];
    if ((uint32_t)bytes > ring_largest(&view->slot.response, 0) - sizeof(struct response_record))
        return fail(IBLB_E_TOO_LARGE);
    os_mutex_lock(&worker->mutex);
    int result = still_ours(worker) ? answer(worker, view, command, code, body, (uint32_t)bytes) : IBLB_E_SUPERSEDED;
    os_mutex_unlock(&worker->mutex);
    return result;
}
