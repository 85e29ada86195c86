/* asked.c: see asked.h. */
#include "asked.h"

enum ring_result asked_read(const struct ring *ring, uint32_t generation, uint64_t *at, uint64_t tail, struct incoming_record *record,
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
    if (header.kind != RECORD_INCOMING || record->payload_bytes > header.bytes - sizeof *record || record->generation != generation ||
        state < INCOMING_PUBLISHED || state > INCOMING_WITHDRAWN || (record->number & 0x7fffffff) == 0)
        return RING_CORRUPT;
    return RING_OK;
}

bool asked_all_done(const struct ring *ring, uint32_t generation) {
    struct incoming_record record;
    uint64_t at = load64_acquire(&ring->header->head), tail, control;
    enum ring_result found = at % RECORD_ALIGN ? RING_CORRUPT : ring_tail(ring, at, &tail);
    while (found == RING_OK && (found = asked_read(ring, generation, &at, tail, &record, &control)) == RING_OK) {
        if (asked_is_open(control))
            return false;
        at += record.header.bytes;
    }
    return found == RING_EMPTY;
}
