/* incoming.c: the worker's half of serving: what masters ask is handed to the programs that serve its listeners. See
 * iblbridge_worker.h.
 *
 * A record is written behind the tail and published by one store, as all are. Its `control` says who has it, and two
 * compete for it: the owner, who answers (answering.c), and we, who withdraw. Whoever swaps first wins. The owner writes
 * its ANSWER before it swaps and publishes it right behind, so that what is ANSWERED comes through the command ring,
 * or its owner has died in between; and then it is gone once its slot is freed, which happens after everything that it
 * published was taken.
 *
 * Head, records and name are the owner's to scribble on: each is read once, checked, and believed only in the copy.
 */
#include <stdbool.h>
#include <string.h>

#include "asked.h"
#include "include/iblbridge_worker.h"
#include "json.h"
#include "worker.h"

/* --- the listeners' names --- */

IBLB_API int iblbw_listeners(struct iblbw_worker *worker, const char *names) {
    char padded[MAX_LISTENERS][NAME_BYTES] = {{0}};
    uint32_t count = 0;
    if (!names)
        return worker_fail(IBLB_E_ARGUMENT);
    for (const char *name = names; *name; count++) {
        size_t length = strcspn(name, "\n");
        if (count == MAX_LISTENERS || length == 0 || length >= NAME_BYTES || utf8_check(name, length) != length)
            return worker_fail(IBLB_E_ARGUMENT);
        memcpy(padded[count], name, length);
        name += length + (name[length] == '\n');
    }
    int code = worker_enter(worker);
    if (code != IBLB_OK)
        return code;
    struct listener_table *table = segment_listeners(&worker->segment);
    add32(&table->sequence, load32_relaxed(&table->sequence) % 2 ? 2 : 1); /* odd: readers wait; a dead writer's too */
    fence_seq_cst();
    shared_write(table->names, padded, sizeof padded);
    store32_relaxed(&table->count, count);
    add32(&table->sequence, 1);
    return worker_leave(worker, IBLB_OK);
}

/* --- who serves --- */

/* What the owner serves, and the messages that it wants; 0: nothing, or it is just changing its mind. */
static uint32_t serves(const struct view *view, char name[NAME_BYTES]) {
    const struct slot_header *header = view->slot.header;
    uint32_t mask = load32_acquire(&header->serving_mask); /* pairs with the release in serving.c: the name is whole */
    shared_read(name, header->serving, NAME_BYTES);
    fence_acquire(); /* the name is read before the mask is, once more */
    name[NAME_BYTES - 1] = '\0';
    return load32_acquire(&header->serving_mask) == mask ? mask & ALL_MESSAGES : 0;
}

/* With the mutex held: the living client that serves it; NULL: none. */
static struct view *server_of(struct iblbw_worker *worker, const char *service, uint32_t *mask) {
    char name[NAME_BYTES];
    for (uint32_t i = 0; i < worker->segment.sizes.slots; i++) {
        struct view *view = &worker->views[i];
        view_look(view, &worker->segment); /* it may have come since the last take */
        if (view->phase != PHASE_LIVE || view->reclaimed || load32_acquire(&view->slot.header->closing))
            continue;
        *mask = serves(view, name);
        if (*mask && strcmp(name, service) == 0)
            return view;
    }
    return NULL;
}

IBLB_API int iblbw_server_of(struct iblbw_worker *worker, const char *service, unsigned int *mask, char *client, int capacity) {
    uint32_t wanted = 0;
    if (!service)
        return worker_fail(IBLB_E_ARGUMENT);
    if (mask)
        *mask = 0;
    copy_text("", client, capacity);
    int code = worker_enter(worker);
    if (code != IBLB_OK)
        return code;
    const struct view *view = server_of(worker, service, &wanted);
    if (view && mask)
        *mask = wanted;
    if (view)
        copy_text(view->client, client, capacity);
    return worker_leave(worker, view != NULL);
}

IBLB_API unsigned int iblbw_server_pid(struct iblbw_worker *worker, const char *service) {
    uint32_t mask = 0, pid = 0;
    if (!service || worker_enter(worker) != IBLB_OK)
        return 0;
    const struct view *view = server_of(worker, service, &mask);
    if (view)
        pid = load32_relaxed(&view->slot.header->pid);
    return worker_leave(worker, IBLB_OK) == IBLB_OK ? pid : 0;
}

IBLB_API unsigned long long iblbw_server_claim(struct iblbw_worker *worker, const char *service) {
    uint32_t mask = 0;
    unsigned long long claim = 0;
    if (!service || worker_enter(worker) != IBLB_OK)
        return 0;
    const struct view *view = server_of(worker, service, &mask);
    if (view)
        claim = (unsigned long long)view->generation << 8 | (view->index + 1);
    return worker_leave(worker, IBLB_OK) == IBLB_OK ? claim : 0;
}

/* --- handing out --- */

IBLB_API int iblbw_largest_incoming(struct iblbw_worker *worker) {
    return (int)(ring_largest(&worker->views[0].slot.incoming, 0) - sizeof(struct incoming_record));
}

/* What the client's side can show: whatever a master has sent, NaN included, as long as it is well formed. */
static bool is_map(const unsigned char *body, size_t bytes) {
    size_t needed;
    return !msgpack_to_json(body, bytes, NULL, 0, &needed) && ((body[0] & 0xf0) == 0x80 || body[0] == 0xde || body[0] == 0xdf);
}

/* A number by whose lowest 31 bits a program can know it. */
static uint64_t next_number(struct slot_header *header) {
    uint64_t number = add64(&header->incoming_sequence, 1) + 1;
    return number & 0x7fffffff ? number : add64(&header->incoming_sequence, 1) + 1;
}

/* With the mutex held. */
static int publish(const struct iblbw_worker *worker, struct view *view, int message, uint64_t stamp, uint32_t timeout_ms,
                   const unsigned char *body, uint32_t bytes, struct iblbw_incoming *incoming) {
    const struct ring *ring = &view->slot.incoming;
    struct ring_space space;
    enum ring_result room = ring_claim(ring, view->incoming_tail, record_size(sizeof(struct incoming_record) + bytes), 0, &space);
    if (room == RING_FULL)
        return IBLB_E_FULL;
    if (room != RING_OK) {
        view_quarantine(view, &worker->segment);
        return IBLB_E_NO_SLOT;
    }
    struct incoming_record record = {.header = {record_size(sizeof record + bytes), RECORD_INCOMING},
                                     .control = (uint64_t)worker->epoch << 32 | INCOMING_PUBLISHED,
                                     .number = next_number(view->slot.header),
                                     .stamp = stamp,
                                     .generation = view->generation,
                                     .message = message,
                                     .payload_bytes = bytes,
                                     .timeout_ms = timeout_ms};
    shared_write(space.record, &record, sizeof record);
    shared_write(space.record + sizeof record, body, bytes);
    ring_publish(ring, &space);
    view->incoming_tail = space.next;
    bell_ring(&view->slot.header->client_bell, &worker->segment.waits);
    *incoming = (struct iblbw_incoming){record.number, space.position, view->index, view->generation};
    return IBLB_OK;
}

IBLB_API int iblbw_hand(struct iblbw_worker *worker, const char *service, int message, unsigned long long stamp, int timeout_ms,
                        const unsigned char *body, int bytes, struct iblbw_incoming *incoming) {
    uint32_t mask;
    if (!service || timeout_ms < 0 || !body || bytes <= 0 || !incoming || !is_map(body, (size_t)bytes))
        return worker_fail(IBLB_E_ARGUMENT);
    if (bytes > iblbw_largest_incoming(worker))
        return worker_fail(IBLB_E_TOO_LARGE);
    int code = worker_enter(worker);
    if (code != IBLB_OK)
        return code;
    worker_note_sleep(worker->segment.header);
    struct view *view = server_of(worker, service, &mask);
    if (!view)
        code = IBLB_E_NO_SLOT;
    else if (stamp < load64_relaxed(&worker->segment.header->slept_stamp))
        code = IBLB_E_EXPIRED;
    else if (!(mask & (uint32_t)message) || (uint32_t)message & ((uint32_t)message - 1))
        code = IBLB_E_MESSAGE;
    else
        code = publish(worker, view, message, stamp, (uint32_t)timeout_ms, body, (uint32_t)bytes, incoming);
    return worker_leave(worker, code);
}

IBLB_API unsigned long long iblbw_slept(struct iblbw_worker *worker) {
    if (worker_enter(worker) != IBLB_OK)
        return 0;
    worker_note_sleep(worker->segment.header);
    unsigned long long slept = load64_relaxed(&worker->segment.header->slept_stamp);
    return worker_leave(worker, IBLB_OK) == IBLB_OK ? slept : 0;
}

/* --- what has become of it --- */

static enum ring_result read_record(const struct view *view, uint64_t *at, uint64_t tail, struct incoming_record *record,
                                    uint64_t *control) {
    return asked_read(&view->slot.incoming, view->generation, at, tail, record, control);
}

struct place {
    struct view *view;
    struct incoming_record record;
    shared_u64 *control; /* NULL: its owner has given the room back, as it does with what is answered */
    enum incoming_state state;
};

/* With the mutex held: against the owner's two swaps, of which either may just happen. */
static int withdraw(const struct place *place, bool even_if_taken) {
    for (int tries = 0; place->control && tries < 3; tries++) {
        uint64_t control = load64_acquire(place->control);
        if (asked_state(control) == INCOMING_WITHDRAWN)
            return IBLB_OK;
        if (!asked_is_open(control) || (asked_state(control) == INCOMING_TAKEN && !even_if_taken))
            break;
        if (!swap_if64(place->control, control, (control & ~UINT64_C(0xffffffff)) | INCOMING_WITHDRAWN))
            continue;
        if (place->record.message == IBLB_ALYX) /* now, although its owner may not look for long */
            shared_wipe((unsigned char *)place->control - offsetof(struct incoming_record, control) + sizeof place->record,
                        place->record.payload_bytes);
        return IBLB_OK;
    }
    return 1;
}

/* With the mutex held: where it stands. False: it is gone. */
static bool find(struct iblbw_worker *worker, const struct iblbw_incoming *incoming, struct place *place) {
    if (incoming->slot >= worker->segment.sizes.slots)
        return false;
    struct view *view = &worker->views[incoming->slot];
    *place = (struct place){.view = view, .state = INCOMING_ANSWERED};
    if (view->phase != PHASE_LIVE || view->generation != incoming->generation)
        return false;
    uint64_t control, at = incoming->position, head = load64_acquire(&view->slot.incoming.header->head), used = view->incoming_tail - head;
    bool sound = used <= view->slot.incoming.capacity && head % RECORD_ALIGN == 0;
    if (sound && view->incoming_tail - at > used)
        return true;
    if (!sound || read_record(view, &at, view->incoming_tail, &place->record, &control) != RING_OK || at != incoming->position ||
        place->record.number != incoming->number) {
        view_quarantine(view, &worker->segment);
        return false;
    }
    place->state = asked_state(control);
    place->control = &((struct incoming_record *)(void *)ring_at(&view->slot.incoming, at))->control;
    if (!view->reclaimed || place->state == INCOMING_ANSWERED)
        return true;
    withdraw(place, true); /* what its owner had not answered when it died it never will, and the next worker is not to tell so once more */
    return false;
}

IBLB_API int iblbw_incoming_state(struct iblbw_worker *worker, const struct iblbw_incoming *incoming) {
    struct place place;
    if (!incoming)
        return worker_fail(IBLB_E_ARGUMENT);
    int code = worker_enter(worker);
    if (code != IBLB_OK)
        return code;
    code = find(worker, incoming, &place) ? (int)place.state - INCOMING_PUBLISHED : IBLBW_GONE;
    return worker_leave(worker, code);
}

static int take_back(struct iblbw_worker *worker, const struct iblbw_incoming *incoming, bool even_if_taken) {
    struct place place;
    if (!incoming)
        return worker_fail(IBLB_E_ARGUMENT);
    int code = worker_enter(worker);
    if (code != IBLB_OK)
        return code;
    code = find(worker, incoming, &place) ? withdraw(&place, even_if_taken) : IBLBW_GONE;
    return worker_leave(worker, code);
}

IBLB_API int iblbw_withdraw(struct iblbw_worker *worker, const struct iblbw_incoming *incoming) {
    return take_back(worker, incoming, true);
}

IBLB_API int iblbw_recall(struct iblbw_worker *worker, const struct iblbw_incoming *incoming) {
    return take_back(worker, incoming, false);
}

/* --- what an earlier worker had handed out --- */

/* With the mutex held: the next one in this slot, its body copied. The owner may answer it meanwhile, and wipe it
 * then: what it says is believed if it is still open afterwards. */
static enum ring_result inherit(struct view *view, struct incoming_record *record, unsigned char *body) {
    uint64_t control;
    enum ring_result found;
    while ((found = read_record(view, &view->inherit_at, view->inherit_end, record, &control)) == RING_OK) {
        uint64_t at = view->inherit_at;
        view->inherit_at += record->header.bytes;
        if (!asked_is_open(control))
            continue;
        struct incoming_record *shared = (void *)ring_at(&view->slot.incoming, at);
        shared_read(body, shared + 1, record->payload_bytes);
        fence_acquire();
        if (!asked_is_open(load64_acquire(&shared->control)))
            continue;
        return is_map(body, record->payload_bytes) ? RING_OK : RING_CORRUPT;
    }
    return found;
}

IBLB_API int iblbw_inherit(struct iblbw_worker *worker, struct iblbw_incoming *incoming, int *message, unsigned long long *stamp,
                           unsigned char *body, int capacity, int *bytes) {
    struct incoming_record record;
    if (!incoming || !message || !stamp || !body || !bytes)
        return worker_fail(IBLB_E_ARGUMENT);
    if (capacity < iblbw_largest_incoming(worker))
        return worker_fail(IBLB_E_TOO_LARGE);
    int code = worker_enter(worker);
    if (code != IBLB_OK)
        return code;
    for (uint32_t i = 0; code == IBLB_OK && i < worker->segment.sizes.slots; i++) {
        struct view *view = &worker->views[i];
        view_look(view, &worker->segment);
        if (view->phase != PHASE_LIVE)
            continue;
        enum ring_result found = inherit(view, &record, body);
        if (found == RING_CORRUPT)
            view_quarantine(view, &worker->segment);
        if (found != RING_OK)
            continue;
        *incoming = (struct iblbw_incoming){record.number, view->inherit_at - record.header.bytes, view->index, view->generation};
        *message = record.message;
        *stamp = record.stamp;
        *bytes = (int)record.payload_bytes;
        code = 1;
    }
    return worker_leave(worker, code);
}
