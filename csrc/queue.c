/* queue.c: see queue.h. */
#include "queue.h"

enum found queue_read(const struct ring *ring, uint32_t generation, uint64_t *at, uint64_t tail, struct command_record *record,
                      uint64_t *control) {
    struct record_header header;
    enum ring_result result = ring_next(ring, at, tail, &header);
    if (result != RING_OK)
        return result == RING_EMPTY ? FOUND_NONE : FOUND_NONSENSE;
    struct command_record *shared = (void *)ring_at(ring, *at);
    shared_read(record, shared, sizeof *record);
    record->header = header; /* the one that was checked */
    *control = load64_acquire(&shared->control);
    uint32_t state = (uint32_t)*control;
    if (header.kind != RECORD_COMMAND || record->payload_bytes > header.bytes - sizeof *record ||
        (int32_t)(generation - record->generation) < 0 || state < STATE_PUBLISHED || state > STATE_CANCELLED)
        return FOUND_NONSENSE;
    return FOUND_COMMAND;
}

bool queue_look(const struct ring *ring, uint32_t generation, struct queue *queue) {
    struct command_record record;
    uint64_t control;
    *queue = (struct queue){.head = load64_relaxed(&ring->header->head)};
    if (queue->head % RECORD_ALIGN || ring_tail(ring, queue->head, &queue->tail) == RING_CORRUPT)
        return false;
    uint64_t at = queue->head;
    enum found found;
    while ((found = queue_read(ring, generation, &at, queue->tail, &record, &control)) == FOUND_COMMAND) {
        if (record.stamp <= queue->last_stamp || record.request <= queue->last_request)
            return false;
        queue->last_stamp = record.stamp;
        queue->last_request = record.request;
        at += record.header.bytes;
    }
    return found == FOUND_NONE;
}
