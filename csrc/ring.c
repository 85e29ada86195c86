/* ring.c: see ring.h. */
#include "ring.h"

void ring_pad(const struct ring *ring, uint64_t at, uint32_t bytes) {
    struct record_header header = {bytes, RECORD_PAD};
    shared_write(ring_at(ring, at), &header, sizeof header);
}

enum ring_result ring_peek(const struct ring *ring, uint64_t at, uint64_t tail, struct record_header *header) {
    if (at == tail)
        return RING_EMPTY;
    shared_read(header, ring_at(ring, at), sizeof *header);
    uint32_t to_end = ring->capacity - (uint32_t)(at & (ring->capacity - 1));
    if (header->bytes == 0 || header->bytes % RECORD_ALIGN || header->bytes > to_end || header->bytes > tail - at)
        return RING_CORRUPT;
    return RING_OK;
}

enum ring_result ring_next(const struct ring *ring, uint64_t *at, uint64_t tail, struct record_header *header) {
    enum ring_result result = ring_peek(ring, *at, tail, header);
    while (result == RING_OK && header->kind == RECORD_PAD) {
        *at += header->bytes;
        result = ring_peek(ring, *at, tail, header);
    }
    return result;
}

void ring_wipe(const struct ring *ring, uint64_t from, uint64_t to) {
    uint64_t bytes = to - from < ring->capacity ? to - from : ring->capacity;
    uint64_t to_end = ring->capacity - (from & (ring->capacity - 1));
    uint64_t first = bytes < to_end ? bytes : to_end;
    if (first)
        shared_wipe(ring_at(ring, from), (size_t)first);
    if (bytes > first)
        shared_wipe(ring->data, (size_t)(bytes - first));
}

void ring_release(const struct ring *ring, uint64_t at) {
    store64_release(&ring->header->head, at);
}
