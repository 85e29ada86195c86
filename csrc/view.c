/* view.c: see view.h. */
#include "view.h"

#include "include/iblbridge.h"

static enum record_state state_of(uint64_t control) {
    return (enum record_state)(uint32_t)control;
}

/* --- the slot's life --- */

void view_quarantine(struct view *view, const struct segment *segment) {
    view->phase = PHASE_QUARANTINED;
    view->next_known = 0;
    store32_release(&view->slot.header->state, SLOT_QUARANTINED);
    bell_wake(&view->slot.header->client_bell, segment->mechanism);
}

/* A new claim, or one that an earlier worker left to us: from the shared head on, which only workers write. */
static void begin(struct view *view, const struct segment *segment) {
    struct slot_header *header = view->slot.header;
    uint64_t tail;
    view->phase = PHASE_LIVE;
    view->generation = load32_acquire(&header->generation);
    view->head = view->scan = view->seen = load64_acquire(&header->command.head);
    view->response_tail = load64_acquire(&header->response.tail);
    view->last_stamp = view->last_request = 0;
    view->early_count = view->next_known = 0;
    if (view->head % RECORD_ALIGN || view->response_tail % RECORD_ALIGN ||
        ring_tail(&view->slot.command, view->head, &tail) == RING_CORRUPT)
        view_quarantine(view, segment);
}

void view_look(struct view *view, const struct segment *segment) {
    uint32_t state = load32_acquire(&view->slot.header->state); /* pairs with the claimant's release */
    if (view->phase == PHASE_FREE && state != SLOT_FREE) {
        begin(view, segment);
        if (state != SLOT_CLAIMED)
            view_quarantine(view, segment);
    } else if (view->phase == PHASE_LIVE && (state != SLOT_CLAIMED || load32_relaxed(&view->slot.header->generation) != view->generation)) {
        view_quarantine(view, segment);
    }
}

static void set_free(struct view *view, const struct segment *segment) {
    struct slot_header *header = view->slot.header;
    store64_relaxed(&header->command.head, view->head); /* whatever the owner wrote, both ends meet where ours is */
    store64_relaxed(&header->command.tail, view->head);
    store64_relaxed(&header->response.head, view->response_tail);
    store64_relaxed(&header->response.tail, view->response_tail);
    store64_relaxed(&header->event.head, load64_relaxed(&header->event.tail));
    store32_relaxed(&header->closing, 0);
    store32_release(&header->state, SLOT_FREE);
    view->phase = PHASE_FREE;
    view->owned = 0;
    os_unlock(segment->locks, slot_lock(view->index));
}

void view_sweep(struct view *view, const struct segment *segment) {
    if (view->phase == PHASE_FREE)
        return;
    if (!view->owned)
        view->owned = os_lock(segment->locks, slot_lock(view->index)) == 1;
    if (!view->owned)
        return;
    if (view->phase == PHASE_LIVE) {
        uint64_t tail;
        view_advance(view, segment);
        if (view->phase == PHASE_LIVE && ring_tail(&view->slot.command, view->head, &tail) != RING_EMPTY)
            return; /* what it had published is carried out first */
    }
    set_free(view, segment);
}

/* --- reading commands --- */

/* The record at `at` < `tail`. *bytes: to the next one. FOUND_NONE for padding. */
static enum found read_record(const struct view *view, uint64_t at, uint64_t tail, struct command_record *record, uint64_t *control,
                              uint32_t *bytes) {
    struct record_header header;
    if (ring_peek(&view->slot.command, at, tail, &header) != RING_OK)
        return FOUND_NONSENSE;
    *bytes = header.bytes;
    if (header.kind == RECORD_PAD)
        return FOUND_NONE;
    struct command_record *shared = (void *)ring_at(&view->slot.command, at);
    shared_read(record, shared, sizeof *record);
    *control = load64_acquire(&shared->control);
    uint32_t state = (uint32_t)*control;
    if (header.kind != RECORD_COMMAND || record->payload_bytes > header.bytes - sizeof *record || record->generation != view->generation ||
        state < STATE_PUBLISHED || state > STATE_CANCELLED)
        return FOUND_NONSENSE;
    return FOUND_COMMAND;
}

static int taken_early(struct view *view, uint64_t position) {
    for (int i = 0; i < view->early_count; i++)
        if (view->early[i] == position) {
            view->early[i] = view->early[--view->early_count];
            return 1;
        }
    return 0;
}

enum found view_next(struct view *view) {
    uint64_t tail;
    if (view->next_known)
        return FOUND_COMMAND;
    enum ring_result result = ring_tail(&view->slot.command, view->scan, &tail);
    if (result != RING_OK)
        return result == RING_EMPTY ? FOUND_NONE : FOUND_NONSENSE;
    while (view->scan != tail) {
        uint32_t bytes;
        enum found found = read_record(view, view->scan, tail, &view->next, &view->next_control, &bytes);
        if (found == FOUND_NONSENSE)
            return found;
        if (found == FOUND_COMMAND) {
            if (view->next.stamp <= view->last_stamp || view->next.request <= view->last_request)
                return FOUND_NONSENSE;
            view->last_stamp = view->next.stamp;
            view->last_request = view->next.request;
            enum record_state state = state_of(view->next_control);
            if (!taken_early(view, view->scan) && (state == STATE_PUBLISHED || state == STATE_ACCEPTED)) {
                view->next_known = 1;
                return FOUND_COMMAND;
            }
        }
        view->scan += bytes;
    }
    return FOUND_NONE;
}

void view_took(struct view *view) {
    view->scan += view->next.header.bytes;
    view->next_known = 0;
}

enum found view_next_interrupt(struct view *view, struct command_record *record, uint64_t *position) {
    uint64_t tail, control;
    uint32_t bytes;
    enum ring_result result = ring_tail(&view->slot.command, view->seen, &tail);
    if (result != RING_OK)
        return result == RING_EMPTY ? FOUND_NONE : FOUND_NONSENSE;
    while (view->seen != tail) {
        enum found found = read_record(view, view->seen, tail, record, &control, &bytes);
        if (found == FOUND_NONSENSE)
            return found;
        *position = view->seen;
        view->seen += bytes;
        if (found == FOUND_COMMAND && record->message == IBLB_EXPINTERRUPT && state_of(control) == STATE_PUBLISHED &&
            view->early_count < EARLY_INTERRUPTS) {
            view->early[view->early_count++] = *position;
            return FOUND_COMMAND;
        }
    }
    return FOUND_NONE;
}

int view_has_news(const struct view *view) {
    if (view->phase == PHASE_FREE)
        return load32_acquire(&view->slot.header->state) != SLOT_FREE;
    return view->phase == PHASE_LIVE && load64_acquire(&view->slot.command.header->tail) != view->seen;
}

void view_advance(struct view *view, const struct segment *segment) {
    uint64_t at = view->head, control;
    struct command_record record;
    uint32_t bytes;
    while (at != view->scan) {
        enum found found = read_record(view, at, view->scan, &record, &control, &bytes);
        if (found == FOUND_NONSENSE) { /* scribbled after it was taken */
            view_quarantine(view, segment);
            return;
        }
        if (found == FOUND_COMMAND && state_of(control) != STATE_ANSWERED && state_of(control) != STATE_CANCELLED)
            break;
        at += bytes;
    }
    if (at != view->head) {
        view->head = at;
        ring_release(&view->slot.command, at);
    }
}

shared_u64 *view_control(const struct view *view, uint32_t generation, uint64_t position, uint64_t request) {
    if (view->phase != PHASE_LIVE || view->generation != generation || position - view->head >= view->seen - view->head)
        return NULL;
    struct command_record *record = (void *)ring_at(&view->slot.command, position);
    uint64_t number;
    shared_read(&number, &record->request, sizeof number);
    return number == request ? &record->control : NULL;
}
