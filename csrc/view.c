/* view.c: see view.h. */
#include "view.h"

#include "include/iblbridge.h"

/* --- the slot's life --- */

void view_quarantine(struct view *view, const struct segment *segment) {
    view->phase = PHASE_QUARANTINED;
    view->next_known = false;
    store32_release(&view->slot.header->state, SLOT_QUARANTINED);
    bell_wake(&view->slot.header->client_bell, &segment->waits);
}

/* A new claim, or one that an earlier worker left to us. Reading begins at the shared head, which only workers
 * write. */
static void begin(struct view *view, const struct segment *segment) {
    struct slot_header *header = view->slot.header;
    uint64_t tail;
    view->phase = PHASE_LIVE;
    view->generation = load32_acquire(&header->generation);
    view->head = view->scan = view->seen = load64_acquire(&header->command.head);
    view->response_tail = load64_acquire(&header->response.tail);
    view->event_tail = load64_acquire(&header->event.tail);
    view->incoming_tail = view->inherit_end = load64_acquire(&header->incoming.tail);
    view->inherit_at = load64_acquire(&header->incoming.head);
    shared_read(view->client, header->client, sizeof view->client);
    view->client[sizeof view->client - 1] = '\0';
    view->last_stamp = view->last_request = 0;
    view->early_count = view->taken = 0;
    view->next_known = view->interrupt_known = view->held = false;
    bool misaligned = (view->head | view->response_tail | view->event_tail | view->incoming_tail | view->inherit_at) % RECORD_ALIGN != 0;
    view->head &= ~(uint64_t)(RECORD_ALIGN - 1); /* so that the slot can be used again once it is free */
    view->response_tail &= ~(uint64_t)(RECORD_ALIGN - 1);
    view->event_tail &= ~(uint64_t)(RECORD_ALIGN - 1);
    view->incoming_tail &= ~(uint64_t)(RECORD_ALIGN - 1);
    view->scan = view->seen = view->head;
    if (misaligned || ring_tail(&view->slot.command, view->head, &tail) == RING_CORRUPT ||
        view->inherit_end - view->inherit_at > view->slot.incoming.capacity)
        view_quarantine(view, segment);
}

/* Takes the lock of an owner that is gone. What that owner said of its end is read under the lock. */
static bool take_over(struct view *view, const struct segment *segment) {
    view->reclaimed = os_lock(segment->locks, slot_guard(view->index)) == 1;
    uint32_t end = load32_acquire(&view->slot.header->closing);
    view->loss = view->reclaimed && end != CLOSED_IN_ORDER && end != LOSS_NOTED ? LOST : NOT_LOST;
    return view->reclaimed;
}

/* Its owner has left in order. If no worker was there, another client may be claiming it; that one holds the lock until
 * it has taken `closing` back. */
static bool may_be_reused(const struct view *view) {
    return load32_acquire(&view->slot.header->closing) == CLOSED_IN_ORDER; /* pairs with the claimant's release */
}

void view_look(struct view *view, const struct segment *segment) {
    uint32_t state = load32_acquire(&view->slot.header->state); /* pairs with the claimant's release */
    if (view->phase == PHASE_FREE && state != SLOT_FREE) {
        if (may_be_reused(view) && !take_over(view, segment))
            return;
        begin(view, segment);
        if (state != SLOT_CLAIMED)
            view_quarantine(view, segment);
    } else if (view->phase == PHASE_LIVE && (state != SLOT_CLAIMED || load32_relaxed(&view->slot.header->generation) != view->generation)) {
        view_quarantine(view, segment);
    }
}

/* Wipes what nobody is going to read: commands that made no sense, one that its owner died over, and responses, events
 * and what masters asked that were not read. */
static void wipe_rest(const struct view *view) {
    const struct slot_header *header = view->slot.header;
    uint64_t unread = load64_acquire(&header->response.head), unheard = load64_acquire(&header->event.head);
    if (view->phase == PHASE_QUARANTINED || load32_acquire(&header->closing) != CLOSED_IN_ORDER)
        ring_wipe(&view->slot.command, view->head, view->head + view->slot.command.capacity);
    else
        ring_wipe(&view->slot.command, view->head, load64_acquire(&header->command.tail));
    ring_wipe(&view->slot.response, unread, view->response_tail);
    ring_wipe(&view->slot.event, unheard, view->event_tail);
    ring_wipe(&view->slot.incoming, load64_acquire(&header->incoming.head), view->incoming_tail);
}

static void set_free(struct view *view, const struct segment *segment) {
    struct slot_header *header = view->slot.header;
    wipe_rest(view);
    store64_relaxed(&header->command.head, view->head); /* whatever the owner wrote, both ends are now where ours is */
    store64_relaxed(&header->command.tail, view->head);
    store64_relaxed(&header->response.head, view->response_tail);
    store64_relaxed(&header->response.tail, view->response_tail);
    store64_relaxed(&header->event.head, view->event_tail);
    store64_relaxed(&header->event.tail, view->event_tail);
    store64_relaxed(&header->incoming.head, view->incoming_tail);
    store64_relaxed(&header->incoming.tail, view->incoming_tail);
    store32_relaxed(&header->serving_mask, 0);
    store32_relaxed(&header->closing, 0);
    store32_release(&header->state, SLOT_FREE);
    view->phase = PHASE_FREE;
    view->reclaimed = false;
    os_unlock(segment->locks, slot_guard(view->index));
}

/* The slot says that it is free, and its rings say that it is not: somebody scribbled on it. Nobody could claim it; now
 * somebody can again. */
static void repair_free_slot(struct view *view, const struct segment *segment) {
    struct slot_header *header = view->slot.header;
    uint64_t head = load64_acquire(&header->command.head), response = load64_acquire(&header->response.tail);
    uint64_t event = load64_acquire(&header->event.tail), incoming = load64_acquire(&header->incoming.tail);
    if (head == load64_acquire(&header->command.tail) && (head | response | event | incoming) % RECORD_ALIGN == 0)
        return;
    if (os_lock(segment->locks, slot_guard(view->index)) != 1)
        return; /* it is just being claimed, or its owner scribbles */
    if (load32_acquire(&header->state) == SLOT_FREE) {
        view->head = head & ~(uint64_t)(RECORD_ALIGN - 1);
        view->response_tail = response & ~(uint64_t)(RECORD_ALIGN - 1);
        view->event_tail = event & ~(uint64_t)(RECORD_ALIGN - 1);
        view->incoming_tail = incoming & ~(uint64_t)(RECORD_ALIGN - 1);
        set_free(view, segment);
    } else {
        os_unlock(segment->locks, slot_guard(view->index));
    }
}

void view_sweep(struct view *view, const struct segment *segment) {
    if (view->phase == PHASE_FREE) {
        repair_free_slot(view, segment);
        return;
    }
    if (!view->reclaimed && !take_over(view, segment))
        return;
    if (view->phase == PHASE_LIVE) {
        uint64_t tail;
        view_advance(view, segment);
        /* What it had published is carried out first. If nothing is left to take or to answer, and yet records stand
         * there as if something were, their owner has written them over others. */
        bool busy = view->taken > 0 || view->interrupt_known || view->scan != view->seen ||
                    ring_tail(&view->slot.command, view->seen, &tail) != RING_EMPTY;
        if (view->phase == PHASE_LIVE && busy && ring_tail(&view->slot.command, view->head, &tail) != RING_EMPTY)
            return;
    }
    if (view->loss == NOT_LOST)
        set_free(view, segment);
}

void view_note_loss(struct view *view, const struct segment *segment) {
    store32_release(&view->slot.header->closing, LOSS_NOTED);
    view->loss = NOT_LOST;
    view_sweep(view, segment);
}

/* --- reading commands --- */

static enum found read_record(const struct view *view, uint64_t *at, uint64_t tail, struct command_record *record, uint64_t *control) {
    return queue_read(&view->slot.command, view->generation, at, tail, record, control);
}

static bool taken_early(struct view *view, uint64_t position) {
    for (int i = 0; i < view->early_count; i++)
        if (view->early[i] == position) {
            view->early[i] = view->early[--view->early_count];
            return true;
        }
    return false;
}

enum found view_next(struct view *view) {
    enum found found;
    if (view->next_known)
        return FOUND_COMMAND;
    /* Not as far as the tail: what came since is searched for interrupts first. */
    while ((found = read_record(view, &view->scan, view->seen, &view->next, &view->next_control)) == FOUND_COMMAND) {
        if (view->next.stamp <= view->last_stamp || view->next.request <= view->last_request)
            return FOUND_NONSENSE;
        view->last_stamp = view->next.stamp;
        view->last_request = view->next.request;
        enum record_state state = state_of(view->next_control);
        if (!taken_early(view, view->scan) && (state == STATE_PUBLISHED || state == STATE_ACCEPTED)) {
            view->next_known = true;
            return found;
        }
        view->scan += view->next.header.bytes;
    }
    return found;
}

void view_took(struct view *view) {
    view->scan += view->next.header.bytes;
    view->taken++;
    view->next_known = false;
}

enum found view_next_interrupt(struct view *view) {
    uint64_t tail, control;
    enum found found = FOUND_NONE;
    if (view->interrupt_known)
        return FOUND_COMMAND;
    enum ring_result result = ring_tail(&view->slot.command, view->seen, &tail);
    if (result != RING_OK)
        return result == RING_EMPTY ? FOUND_NONE : FOUND_NONSENSE;
    while (view->early_count < EARLY_INTERRUPTS &&
           (found = read_record(view, &view->seen, tail, &view->interrupt, &control)) == FOUND_COMMAND) {
        view->interrupt_position = view->seen;
        view->seen += view->interrupt.header.bytes;
        if (view->interrupt.message == IBLB_EXPINTERRUPT && state_of(control) == STATE_PUBLISHED) {
            view->interrupt_known = true;
            break;
        }
    }
    return found;
}

void view_took_interrupt(struct view *view) {
    view->early[view->early_count++] = view->interrupt_position;
    view->taken++;
    view->interrupt_known = false;
}

bool view_made_room(const struct view *view) {
    return view->phase == PHASE_LIVE && view->held && !load32_acquire(&view->slot.header->response_wanted);
}

bool view_has_news(const struct view *view, const struct segment *segment) {
    if (view_made_room(view))
        return true;
    if (view->phase == PHASE_FREE)
        return load32_acquire(&view->slot.header->state) != SLOT_FREE &&
               (!may_be_reused(view) || !os_locked(segment->locks, slot_guard(view->index)));
    return view->phase == PHASE_LIVE && load64_acquire(&view->slot.command.header->tail) != view->seen;
}

bool view_has_commands(const struct view *view) {
    return view->phase == PHASE_LIVE && load64_acquire(&view->slot.command.header->tail) != view->scan;
}

void view_advance(struct view *view, const struct segment *segment) {
    uint64_t at = view->head, control;
    struct command_record record;
    enum found found;
    while ((found = read_record(view, &at, view->scan, &record, &control)) == FOUND_COMMAND) {
        if (state_of(control) != STATE_ANSWERED && state_of(control) != STATE_CANCELLED)
            break;
        if (is_secret(record.message))
            shared_wipe(ring_at(&view->slot.command, at) + sizeof record, record.payload_bytes);
        at += record.header.bytes;
    }
    if (found == FOUND_NONSENSE) { /* scribbled after it was taken */
        view_quarantine(view, segment);
        return;
    }
    if (at != view->head) {
        view->head = at;
        ring_release(&view->slot.command, at);
    }
}

bool view_publish_event(struct view *view, const struct segment *segment, int message, const unsigned char *body, uint32_t bytes) {
    struct slot_header *header = view->slot.header;
    struct ring_space space;
    if (view->phase != PHASE_LIVE || view->reclaimed || !(load32_acquire(&header->event_mask) & (uint32_t)message))
        return false;
    struct event_record record = {.header = {record_size(sizeof record + bytes), RECORD_EVENT},
                                  .sequence = add64(&header->event_sequence, 1) + 1,
                                  .generation = view->generation,
                                  .message = message,
                                  .payload_bytes = bytes};
    if (ring_claim(&view->slot.event, view->event_tail, record.header.bytes, 0, &space) != RING_OK)
        return false; /* full because nobody reads, or scribbled on: only its owner loses by it */
    shared_write(space.record, &record, sizeof record);
    shared_write(space.record + sizeof record, body, bytes);
    ring_publish(&view->slot.event, &space);
    view->event_tail = space.next;
    bell_ring(&header->client_bell, &segment->waits);
    return true;
}

void view_done(struct view *view, uint32_t generation) {
    if (view->phase == PHASE_LIVE && view->generation == generation && view->taken > 0)
        view->taken--;
}

shared_u64 *view_control(const struct view *view, uint32_t generation, uint64_t position, uint64_t request) {
    if (view->phase != PHASE_LIVE || view->generation != generation || position - view->head >= view->seen - view->head)
        return NULL;
    struct command_record *record = (void *)ring_at(&view->slot.command, position);
    uint64_t number;
    shared_read(&number, &record->request, sizeof number);
    return number == request ? &record->control : NULL;
}
