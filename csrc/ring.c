/* ring.c: see ring.h. */
#include "ring.h"

static void write_header(unsigned char *place, uint32_t bytes, uint32_t kind) {
    struct record_header header = {bytes, kind};
    shared_write(place, &header, sizeof header);
}

enum ring_result ring_claim(const struct ring *ring, uint64_t tail, uint32_t bytes, uint32_t keep_free, struct ring_space *space) {
    uint64_t head = load64_acquire(&ring->header->head); /* pairs with ring_release: what it gave up is no longer read */
    uint64_t used = tail - head;
    if (used > ring->capacity || head % RECORD_ALIGN)
        return RING_CORRUPT;
    uint32_t to_end = ring->capacity - (uint32_t)(tail & (ring->capacity - 1));
    uint32_t pad = to_end < bytes ? to_end : 0;
    if ((uint64_t)pad + bytes + keep_free > ring->capacity - used)
        return RING_FULL;
    if (pad)
        write_header(ring_at(ring, tail), pad, RECORD_PAD);
    space->position = tail + pad;
    space->next = space->position + bytes;
    space->record = ring_at(ring, space->position);
    return RING_OK;
}

void ring_publish(const struct ring *ring, const struct ring_space *space) {
    store64_release(&ring->header->tail, space->next);
}

enum ring_result ring_tail(const struct ring *ring, uint64_t at, uint64_t *tail) {
    *tail = load64_acquire(&ring->header->tail); /* pairs with ring_publish: the record is whole */
    if (*tail == at)
        return RING_EMPTY;
    return *tail - at > ring->capacity || *tail % RECORD_ALIGN ? RING_CORRUPT : RING_OK;
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
