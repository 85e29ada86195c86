/* worker.c: the worker's side: take a batch, accept, respond. See iblbridge_worker.h.
 *
 * One thread takes, another may accept and respond; `mutex` guards the views and is never held while parked. The order
 * of the writes is what makes a crash harmless: a response stands in its ring before the command is marked answered,
 * and a command is marked accepted before its first datagram.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "forks.h"
#include "include/iblbridge_worker.h"
#include "json.h"
#include "remembered.h"
#include "worker.h"

#define MS UINT64_C(1000000)
#define SWEEP_NS (250 * MS) /* how often we look whether a client is gone */

/* --- fork --- */

static os_mutex list_mutex = OS_MUTEX_INIT;
static struct iblbw_worker *list;

void workers_before_fork(void) {
    os_mutex_lock(&list_mutex);
}
void workers_after_fork(void) {
    os_mutex_unlock(&list_mutex);
}
void workers_in_child(void) {
    for (struct iblbw_worker *worker = list; worker; worker = worker->next) {
        worker->forked = true;
        os_unguard(worker->segment.header);
        os_close(worker->segment.locks); /* the parent's lock must not survive in us */
        os_close(worker->segment.file);
    }
    list = NULL;
    workers_after_fork();
}

/* Around whatever takes or drops the worker lock: no fork() falls in between, so no lock survives in a child that knows
 * nothing of it. */
static void hold_forks(void) {
    forks_watch();
    os_mutex_lock(&list_mutex);
}
static void let_forks(void) {
    os_mutex_unlock(&list_mutex);
}

static void enlist(struct iblbw_worker *worker) {
    worker->next = list;
    list = worker;
}

static void delist(const struct iblbw_worker *worker) {
    for (struct iblbw_worker **link = &list; *link; link = &(*link)->next)
        if (*link == worker) {
            *link = worker->next;
            break;
        }
}

/* --- open, close --- */

static int fail(int code) {
    struct problem problem;
    problem_standard(&problem, code);
    return problem_remember(&problem);
}

/* A predecessor may have died while it wrote a response or an event: what it had written stands in the free part of the
 * ring. The owner makes room and takes none, so what is free stays free.
 *
 * A slot that says FREE holds nothing of the kind, and its rings, mostly never touched, are left alone. A worker writes
 * only into a slot that is CLAIMED, and its mutex lets it write or free, never both. If it dies in between, the slot is
 * still CLAIMED, for nobody but a worker makes it FREE; so the next one comes by here before it can. And it makes it
 * FREE last, with a release store, after what was not read is wiped: if it dies before that store, its successor finds
 * the slot CLAIMED, and wipes and frees it again. */
static void wipe_unfinished(const struct ring *ring) {
    uint64_t tail = load64_acquire(&ring->header->tail), used = tail - load64_acquire(&ring->header->head);
    if (used <= ring->capacity)
        ring_wipe(ring, tail, tail + ring->capacity - used);
}

static void begin(struct iblbw_worker *worker) {
    os_mutex_init(&worker->mutex);
    worker->epoch = load32_acquire(&worker->segment.header->epoch);
    struct segment_header *header = worker->segment.header;
    bell_disarm(&header->worker_bell); /* a predecessor may have died in its sleep */
    if (load32_relaxed(&header->services_sequence) % 2 == 0)
        add32(&header->services_sequence, 1); /* its services are not ours: nobody is told that one is unknown before iblbw_services */
    struct listener_table *listeners = segment_listeners(&worker->segment);
    if (load32_relaxed(&listeners->sequence) % 2 == 0)
        add32(&listeners->sequence, 1); /* nor its listeners */
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        worker->views[i].index = i;
        segment_slot(&worker->segment, i, &worker->views[i].slot);
        if (worker->epoch > 1 && load32_acquire(&worker->views[i].slot.header->state) != SLOT_FREE) { /* pairs with set_free */
            wipe_unfinished(&worker->views[i].slot.response);
            wipe_unfinished(&worker->views[i].slot.event);
            wipe_unfinished(&worker->views[i].slot.incoming);
        }
    }
    os_guard(worker->segment.header, (size_t)worker->segment.bytes, &worker->truncated);
    enlist(worker);
}

IBLB_API int iblbw_open(const char *name, int slots, int command_bytes, int response_bytes, int event_bytes, int incoming_bytes,
                        struct iblbw_worker **worker) {
    struct problem problem = {0};
    struct segment_sizes sizes = {(uint32_t)slots, (uint32_t)command_bytes, (uint32_t)response_bytes, (uint32_t)event_bytes,
                                  (uint32_t)incoming_bytes};
    struct iblbw_worker *new = NULL;
    int code = IBLB_OK;
    if (!name || !worker || slots < 0 || command_bytes < 0 || response_bytes < 0 || event_bytes < 0 || incoming_bytes < 0)
        code = problem_standard(&problem, IBLB_E_ARGUMENT);
    if (worker)
        *worker = NULL;
    if (code == IBLB_OK)
        code = segment_check_name(name, &problem);
    if (code == IBLB_OK && !(new = calloc(1, sizeof *new)))
        code = problem_standard(&problem, IBLB_E_MEMORY);
    hold_forks();
    if (code == IBLB_OK)
        code = segment_serve(&new->segment, name, &sizes, new->replaced, &problem);
    if (code == IBLB_OK)
        begin(new);
    let_forks();
    if (code != IBLB_OK) {
        free(new);
        return problem_remember(&problem);
    }
    *worker = new;
    return IBLB_OK;
}

IBLB_API void iblbw_close(struct iblbw_worker *worker, int remove) {
    if (!worker)
        return;
    if (!worker->forked) {
        struct segment_header *header = worker->segment.header;
        hold_forks();
        delist(worker);
        if (load32_acquire(&header->epoch) == worker->epoch) {
            store32_relaxed(&header->services_up, 0);
            store32_relaxed(&header->worker_pid, 0); /* it stopped in order: nobody has to look for what ended it */
            if (worker->path_lost)
                store32_release(&header->state, SEGMENT_REPLACED); /* nobody will ever serve it again */
        } else {
            remove = 0;
        }
        segment_close(&worker->segment, remove);
        os_unguard(header);
        let_forks();
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
        store32_relaxed(&entries[count].health, 0); /* what the last worker knew, this one does not know */
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

IBLB_API int iblbw_service_health(struct iblbw_worker *worker, int index, int down, unsigned long long heard) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    if (index < 0 || (uint32_t)index >= MAX_SERVICES)
        return fail(IBLB_E_ARGUMENT);
    uint32_t second = heard ? (uint32_t)(heard / 1000000000) + 1 : 0; /* 0 means never */
    store32_release(&segment_services(&worker->segment)[index].health, second * 2 + (down != 0));
    return IBLB_OK;
}

/* --- take --- */

/* May this worker go on? IBLB_OK, IBLB_E_SUPERSEDED or IBLB_E_SEGMENT. */
static int standing(const struct iblbw_worker *worker) {
    const struct segment_header *header = worker->segment.header;
    uint32_t epoch = load32_acquire(&header->epoch), state = load32_acquire(&header->state);
    if (load32_acquire(&worker->truncated)) /* read last: it tells where zeroes come from */
        return IBLB_E_SEGMENT;
    if (epoch != worker->epoch)
        return (int32_t)(epoch - worker->epoch) > 0 ? IBLB_E_SUPERSEDED : IBLB_E_SEGMENT;
    return state == SEGMENT_READY ? IBLB_OK : state == SEGMENT_REPLACED ? IBLB_E_SUPERSEDED : IBLB_E_SEGMENT;
}

/* Why this worker does nothing any more, as a sentence. */
static int stand_down(const struct iblbw_worker *worker, int code) {
    struct problem problem;
    const char *path = worker->segment.path;
    if (code == IBLB_E_SEGMENT)
        problem_set(&problem, code, "The segment %s was %s while this worker served it. Start the worker again; it makes a new one.", path,
                    os_size(worker->segment.locks) < worker->segment.bytes ? "cut short" : "overwritten");
    else if (code == IBLB_E_STALE)
        problem_set(&problem, code, "%s was removed or replaced while this worker served it; no client can find it any more. %s", path,
                    "Start the worker again.");
    else
        problem_standard(&problem, code);
    return problem_remember(&problem);
}

/* The path must lead to the file that we serve, and the file must be whole. We look as often as we look at the
 * clients. */
static void look_at_file(struct iblbw_worker *worker, uint64_t now) {
    const struct segment *segment = &worker->segment;
    if (now - worker->swept_at < SWEEP_NS)
        return;
    if (!os_same_file(segment->locks, segment->path))
        worker->path_lost = true;
    if (os_size(segment->locks) < segment->bytes)
        store32_release(&worker->truncated, 1);
}

/* The stamp is written first: a crash in between repeats the look. */
void worker_note_sleep(struct segment_header *header) {
    uint64_t note = load64_relaxed(&header->sleep_note), asleep = os_asleep_ns(note + SLEEP_TOLERANCE_NS);
    if (segment_has_slept(note, asleep)) {
        store64_release(&header->slept_stamp, os_clock_ns()); /* not a look from before the sleep */
        store64_release(&header->sleep_note, asleep);
    }
}

struct batch {
    struct iblbw_command *commands;
    int count, most;
    unsigned char *payload;
    uint32_t used, capacity;
};

static bool payload_makes_sense(const unsigned char *payload, size_t bytes, uint32_t flags) {
    size_t first, second, where;
    if (msgpack_check(payload, bytes, &first, &where) || payload[0] < 0xa0 ||
        (payload[0] > 0xbf && (payload[0] < 0xd9 || payload[0] > 0xdb)))
        return false;
    if (!msgpack_is_simple(payload + first, bytes - first) &&
        (first == bytes || msgpack_check(payload + first, bytes - first, &second, &where) || first + second != bytes))
        return false;
    return !(flags & COMMAND_JSON) || payload[first] == 0xdb;
}

enum added { ADDED, BATCH_FULL, NOT_A_COMMAND };

/* Copies one command out. */
static enum added add(struct batch *batch, const struct view *view, const struct command_record *record, uint64_t control,
                      uint64_t position) {
    if (batch->count == batch->most || record->payload_bytes > batch->capacity - batch->used)
        return batch->count == 0 ? NOT_A_COMMAND : BATCH_FULL; /* larger than the whole buffer: no shim writes that */
    unsigned char *to = batch->payload + batch->used;
    shared_read(to, ring_at(&view->slot.command, position) + sizeof *record, record->payload_bytes);
    if (!payload_makes_sense(to, record->payload_bytes, record->flags))
        return NOT_A_COMMAND;
    batch->commands[batch->count++] = (struct iblbw_command){.request = record->request,
                                                             .position = position,
                                                             .stamp = record->stamp,
                                                             .ttl = record->ttl,
                                                             .slot = view->index,
                                                             .generation = view->generation,
                                                             .message = record->message,
                                                             .flags = (record->flags & (COMMAND_NOTIFY | COMMAND_JSON)) |
                                                                      ((uint32_t)control == STATE_ACCEPTED ? (uint32_t)IBLBW_ORPHAN : 0) |
                                                                      (record->generation != view->generation ? (uint32_t)IBLBW_LEFT : 0),
                                                             .payload_offset = batch->used,
                                                             .payload_bytes = record->payload_bytes};
    batch->used += record->payload_bytes;
    return ADDED;
}

/* Of all clients with some of their share left, the one whose next command, or next interrupt, is the oldest. */
static struct view *oldest(struct iblbw_worker *worker, enum found (*next)(struct view *),
                           const struct command_record *(*record)(struct view *)) {
    struct view *best = NULL;
    for (uint32_t i = 0; i < worker->reach; i++) {
        struct view *view = &worker->views[i];
        if (view->phase != PHASE_LIVE || view->share == 0)
            continue;
        enum found found = next(view);
        if (found == FOUND_NONSENSE)
            view_quarantine(view, &worker->segment);
        else if (found == FOUND_COMMAND && (!best || record(view)->stamp < record(best)->stamp))
            best = view;
    }
    return best;
}

static const struct command_record *its_command(struct view *view) {
    return &view->next;
}
static const struct command_record *its_interrupt(struct view *view) {
    return &view->interrupt;
}

/* The stamp of an interrupt to all services aborts what is older. The clock is read again, because the interrupt may
 * have come after the take began. */
static void note_interrupt(struct segment_header *header, const struct command_record *record, const unsigned char *payload) {
    static const unsigned char all_services[5] = {0xdb};
    if (memcmp(payload, all_services, sizeof all_services) == 0 && record->stamp <= os_clock_ns() + FUTURE_NS &&
        record->stamp > load64_relaxed(&header->interrupt_stamp))
        store64_release(&header->interrupt_stamp, record->stamp);
}

static void share_out(struct iblbw_worker *worker, int each) {
    for (uint32_t i = 0; i < worker->reach; i++)
        worker->views[i].share = each;
}

/* Each program that has commands gets the same part of the batch. Otherwise one that floods the worker would be served
 * for as long as its commands are older than the others'. */
static int fair_share(const struct iblbw_worker *worker, int most) {
    int active = 0;
    for (uint32_t i = 0; i < worker->reach; i++)
        active += view_has_commands(&worker->views[i]);
    return most <= active ? 1 : most / (active ? active : 1);
}

/* Every published record is looked at before one is dispatched: interrupts come first. False if the batch is full. */
static bool take_interrupts(struct iblbw_worker *worker, struct batch *batch) {
    share_out(worker, batch->most);
    for (struct view *view; (view = oldest(worker, view_next_interrupt, its_interrupt));) {
        enum added added = view->interrupt.payload_bytes > MAX_INTERRUPT_BYTES
                               ? NOT_A_COMMAND
                               : add(batch, view, &view->interrupt, STATE_PUBLISHED, view->interrupt_position);
        if (added == BATCH_FULL)
            return false;
        if (added == NOT_A_COMMAND) {
            view_quarantine(view, &worker->segment);
            continue;
        }
        note_interrupt(worker->segment.header, &view->interrupt, batch->payload + batch->commands[batch->count - 1].payload_offset);
        view_took_interrupt(view);
    }
    return true;
}

/* With the mutex held. */
static void gather(struct iblbw_worker *worker, struct batch *batch, uint64_t now, bool only_interrupts) {
    bool sweep = now - worker->swept_at >= SWEEP_NS;
    if (sweep)
        worker->swept_at = now;
    worker_note_sleep(worker->segment.header);
    worker->reach = 0;
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        struct view *view = &worker->views[i];
        view_look(view, &worker->segment);
        if (view->phase == PHASE_LIVE)
            view_advance(view, &worker->segment);
        if (sweep || view->reclaimed || (view->phase != PHASE_FREE && load32_acquire(&view->slot.header->closing)))
            view_sweep(view, &worker->segment);
        if (view->phase != PHASE_FREE)
            worker->reach = i + 1;
    }
    if (!take_interrupts(worker, batch) || only_interrupts)
        return;
    share_out(worker, fair_share(worker, batch->most));
    for (struct view *view; batch->count < batch->most && (view = oldest(worker, view_next, its_command));) {
        enum added added = add(batch, view, &view->next, view->next_control, view->scan);
        view->share = added == BATCH_FULL ? 0 : view->share - 1; /* what does not fit any more comes with the next batch */
        if (added == NOT_A_COMMAND)
            view_quarantine(view, &worker->segment);
        else if (added == ADDED)
            view_took(view);
    }
}

static bool has_news(struct iblbw_worker *worker) {
    bool news = false;
    os_mutex_lock(&worker->mutex);
    for (uint32_t i = 0; !news && i < worker->segment.sizes.slots; i++)
        news = view_has_news(&worker->views[i], &worker->segment);
    os_mutex_unlock(&worker->mutex);
    return news;
}

/* With the mutex held. What the caller must hear of at once: a lost client, whose slot is kept until then, and room for
 * a response that it keeps. */
static bool something_to_tell(struct iblbw_worker *worker) {
    bool told = false;
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        struct view *view = &worker->views[i];
        if (view_made_room(view)) {
            view->held = false;
            told = true;
        }
        told = told || view->loss != NOT_LOST;
    }
    return told;
}

static int take(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload, int capacity, int timeout_ms,
                bool only_interrupts) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    if (!commands || most <= 0 || !payload || capacity < (int)MAX_INTERRUPT_BYTES || timeout_ms < 0)
        return fail(IBLB_E_ARGUMENT);
    struct segment *segment = &worker->segment;
    struct bell *bell = &segment->header->worker_bell;
    struct batch batch = {commands, 0, most, payload, 0, (uint32_t)capacity};
    uint64_t now = os_clock_ns(), until = now + (uint64_t)timeout_ms * MS;
    for (bool last = false;; now = os_clock_ns()) {
        look_at_file(worker, now);
        int code = worker->path_lost ? IBLB_E_STALE : standing(worker);
        if (code != IBLB_OK)
            return stand_down(worker, code);
        os_mutex_lock(&worker->mutex);
        gather(worker, &batch, now, only_interrupts);
        last = last || something_to_tell(worker);
        os_mutex_unlock(&worker->mutex);
        if (load32_acquire(&worker->truncated)) /* meanwhile: what was gathered may be half zeroes */
            continue;
        if (batch.count > 0 || last || now >= until)
            return batch.count;
        uint32_t sequence = bell_arm(bell);
        if (!has_news(worker) && !load32_acquire(&worker->rung))
            last = bell_park(bell, sequence, until - now < SWEEP_NS ? until - now : SWEEP_NS, &segment->waits) != 0;
        bell_disarm(bell);
        if (load32_acquire(&worker->rung)) {
            store32_release(&worker->rung, 0);
            last = true;
        }
    }
}

IBLB_API int iblbw_take(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload, int capacity,
                        int timeout_ms) {
    return take(worker, commands, most, payload, capacity, timeout_ms, false);
}

IBLB_API int iblbw_take_interrupts(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload,
                                   int capacity, int timeout_ms) {
    return take(worker, commands, most, payload, capacity, timeout_ms, true);
}

/* --- events, and who is there --- */

IBLB_API int iblbw_publish_event(struct iblbw_worker *worker, int message, const unsigned char *body, int bytes) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    if (!body || bytes <= 0)
        return fail(IBLB_E_ARGUMENT);
    if ((uint32_t)bytes > MAX_EVENT_BYTES)
        return fail(IBLB_E_TOO_LARGE);
    int count = 0;
    os_mutex_lock(&worker->mutex);
    int code = standing(worker);
    for (uint32_t i = 0; code == IBLB_OK && i < worker->segment.sizes.slots; i++)
        count += view_publish_event(&worker->views[i], &worker->segment, message, body, (uint32_t)bytes);
    os_mutex_unlock(&worker->mutex);
    return code == IBLB_OK ? count : stand_down(worker, code);
}

IBLB_API int iblbw_is_wanted(struct iblbw_worker *worker, int message) {
    bool wanted = false;
    os_mutex_lock(&worker->mutex);
    for (uint32_t i = 0; !worker->forked && i < worker->segment.sizes.slots; i++)
        wanted = wanted || (worker->views[i].phase == PHASE_LIVE &&
                            (load32_acquire(&worker->views[i].slot.header->event_mask) & (uint32_t)message) != 0);
    os_mutex_unlock(&worker->mutex);
    return wanted;
}

IBLB_API int iblbw_lost_client(struct iblbw_worker *worker, char *name, int capacity) {
    bool found = false;
    os_mutex_lock(&worker->mutex);
    bool may = !worker->forked && standing(worker) == IBLB_OK;
    for (uint32_t i = 0; may && i < worker->segment.sizes.slots; i++)
        if (worker->views[i].loss == LOST_AND_NAMED)
            view_note_loss(&worker->views[i], &worker->segment);
    for (uint32_t i = 0; may && !found && i < worker->segment.sizes.slots; i++)
        if (worker->views[i].loss == LOST) {
            worker->views[i].loss = LOST_AND_NAMED;
            copy_text(worker->views[i].client, name, capacity);
            found = true;
        }
    os_mutex_unlock(&worker->mutex);
    return found;
}

IBLB_API int iblbw_client_of(struct iblbw_worker *worker, const struct iblbw_command *command, char *name, int capacity) {
    os_mutex_lock(&worker->mutex);
    const struct view *view = command->slot < worker->segment.sizes.slots ? &worker->views[command->slot] : NULL;
    bool known = view && view->phase != PHASE_FREE && view->generation == command->generation && !(command->flags & IBLBW_LEFT);
    copy_text(known ? view->client : "", name, capacity);
    os_mutex_unlock(&worker->mutex);
    return known ? IBLB_OK : IBLB_E_STALE;
}

IBLB_API int iblbw_client_attached(struct iblbw_worker *worker, const char *name) {
    bool found = false;
    os_mutex_lock(&worker->mutex);
    for (uint32_t i = 0; !worker->forked && i < worker->segment.sizes.slots; i++) {
        const struct view *view = &worker->views[i];
        found = found || (view->phase != PHASE_FREE && !view->reclaimed && strcmp(view->client, name) == 0);
    }
    os_mutex_unlock(&worker->mutex);
    return found;
}

IBLB_API void iblbw_ring(struct iblbw_worker *worker) {
    store32_release(&worker->rung, 1);
    if (!worker->forked)
        bell_wake(&worker->segment.header->worker_bell, &worker->segment.waits);
}

/* --- the frame of what incoming.c does --- */

int worker_fail(int code) {
    return fail(code);
}

int worker_enter(struct iblbw_worker *worker) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    os_mutex_lock(&worker->mutex);
    int code = standing(worker);
    if (code == IBLB_OK)
        return IBLB_OK;
    os_mutex_unlock(&worker->mutex);
    return stand_down(worker, code);
}

int worker_leave(struct iblbw_worker *worker, int code) {
    int may = standing(worker); /* the file may have been cut short, or another worker have come, under our hands */
    os_mutex_unlock(&worker->mutex);
    return may == IBLB_OK ? code : stand_down(worker, may);
}

/* --- what is kept beside the segment --- */

IBLB_API unsigned int iblbw_last_kept(struct iblbw_worker *worker) {
    return worker->forked ? 0 : load32_acquire(&worker->segment.header->last_kept);
}

IBLB_API int iblbw_note_kept(struct iblbw_worker *worker, unsigned int number) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    int code = standing(worker); /* what a successor has noted is not ours to change */
    if (code != IBLB_OK)
        return stand_down(worker, code);
    store32_release(&worker->segment.header->last_kept, number);
    return IBLB_OK;
}

/* --- accept, respond --- */

IBLB_API int iblbw_accept(struct iblbw_worker *worker, const struct iblbw_command *command) {
    if (worker->forked)
        return fail(IBLB_E_FORKED);
    struct segment_header *header = worker->segment.header;
    int code = IBLB_E_CANCELLED;
    os_mutex_lock(&worker->mutex);
    uint64_t now = os_clock_ns();
    worker_note_sleep(header);
    shared_u64 *control = command->slot < worker->segment.sizes.slots
                              ? view_control(&worker->views[command->slot], command->generation, command->position, command->request)
                              : NULL;
    int may = standing(worker);
    if (may == IBLB_OK && control) {
        /* A later interrupt does not stop this one: the later one may yet be withdrawn, and then there would be
         * none. What answers a master is as true after an interrupt, or a night. */
        bool said = command->message == IBLBW_ANSWER || command->message == IBLBW_TELL;
        uint64_t interrupt_stamp = said || command->message == IBLB_EXPINTERRUPT ? 0 : load64_acquire(&header->interrupt_stamp);
        code = segment_may_begin(command->stamp, command->ttl, now, interrupt_stamp, said ? 0 : load64_acquire(&header->slept_stamp));
        if (code == IBLB_OK && !swap_if64(control, STATE_PUBLISHED, (uint64_t)worker->epoch << 32 | STATE_ACCEPTED))
            code = IBLB_E_CANCELLED; /* the owner's cancel came first */
    }
    if (code == IBLB_E_CANCELLED && command->slot < worker->segment.sizes.slots)
        view_done(&worker->views[command->slot], command->generation);
    if (may == IBLB_OK && code != IBLB_OK)
        may = standing(worker); /* the segment may have gone away during the swap */
    os_mutex_unlock(&worker->mutex);
    return may == IBLB_OK ? code : may;
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
                                     .message = command->message,
                                     .placed = os_clock_ns()};
    struct ring_space space;
    enum ring_result room = ring_claim(ring, view->response_tail, record.header.bytes, 0, &space);
    if (room == RING_FULL) {
        view->held = true;
        store32_relaxed(&view->slot.header->response_wanted, 1); /* the owner takes it back when it has made room */
        fence_seq_cst(); /* wanted is visible before we look once more; pairs with the fence in handle_drain */
        room = ring_claim(ring, view->response_tail, record.header.bytes, 0, &space);
        if (room == RING_FULL)
            return IBLB_E_FULL;
    }
    if (room != RING_OK) {
        view_quarantine(view, &worker->segment);
        return IBLB_OK;
    }
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
        return IBLB_OK;             /* cancelled, answered already, or of an owner that is gone */
    if (state == STATE_PUBLISHED) { /* refused: its owner will hear that it was not sent, so from here on no successor sends it */
        uint64_t ours = (uint64_t)worker->epoch << 32 | STATE_ACCEPTED;
        if (!swap_if64(control, before, ours))
            return IBLB_OK; /* the owner's cancel came first */
        before = ours;
    }
    if (command->message == IBLBW_ANSWER || command->message == IBLBW_TELL)
        ; /* no command of the program's own: not counted among them */
    else if (command->flags & IBLBW_NOTIFY)
        add64(code >= 0 ? &view->slot.header->notified : &view->slot.header->notified_failed, 1);
    else if (!view->reclaimed && !(command->flags & IBLBW_LEFT)) {
        int placed = place_response(worker, view, command, code, body, bytes);
        if (placed != IBLB_OK)
            return placed;
    }
    swap_if64(control, before,
              (uint64_t)worker->epoch << 32 | STATE_ANSWERED); /* fails only against the owner's cancel, which also ends it */
    if (is_secret(command->message))                           /* at once: what stands before it may take long */
        shared_wipe(ring_at(&view->slot.command, command->position) + sizeof(struct command_record), command->payload_bytes);
    view_advance(view, &worker->segment);
    if (view->reclaimed)
        view_sweep(view, &worker->segment);
    else
        bell_ring(&view->slot.header->client_bell, &worker->segment.waits);
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
    int result = standing(worker);
    if (result == IBLB_OK)
        result = answer(worker, view, command, code, body, (uint32_t)bytes);
    if (load32_acquire(&worker->truncated))
        result = IBLB_E_SEGMENT;
    if (result == IBLB_OK)
        view_done(view, command->generation); /* if the owner is gone, the next take frees its slot */
    os_mutex_unlock(&worker->mutex);
    return result == IBLB_OK || result == IBLB_E_FULL ? result : stand_down(worker, result);
}
