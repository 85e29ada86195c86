/* ring.h: a single-producer, single-consumer ring of records over memory that the caller hands in. No system call, no
 * allocation.
 *
 * The producer keeps its own tail and the consumer its own head (or a cursor beyond it); what the other side wrote is
 * read once and checked, because it may be anything. Positions count bytes since the ring was made.
 *
 *     producer                                        consumer
 *     ring_claim(&ring, tail, bytes, keep, &space)    for (; ring_next(&ring, &at, tail, &header) == RING_OK; at += header.bytes)
 *     write the record at space.record                    read ring_at(&ring, at)
 *     ring_publish(&ring, &space); tail = space.next  ring_release(&ring, at)
 */
#ifndef IBLB_RING_H
#define IBLB_RING_H

#include "layout.h"

struct ring {
    struct ring_header *header;
    unsigned char *data;
    uint32_t capacity; /* a power of two */
};

struct ring_space {
    unsigned char *record;
    uint64_t position; /* of the record */
    uint64_t next;     /* the tail once it is published */
};

enum ring_result { RING_OK = 0, RING_EMPTY = 1, RING_FULL = 2, RING_CORRUPT = -1 };

static inline uint32_t record_size(size_t bytes) {
    return (uint32_t)((bytes + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1));
}

/* The largest record that always finds room in an empty ring of which `keep_free` bytes must stay free. */
static inline uint32_t ring_largest(const struct ring *ring, uint32_t keep_free) {
    return ((ring->capacity - keep_free) / 2) & ~(RECORD_ALIGN - 1);
}

static inline unsigned char *ring_at(const struct ring *ring, uint64_t position) {
    return ring->data + (position & (ring->capacity - 1));
}

/* A record of `bytes` up to the end of the ring, which says that there is nothing. */
void ring_pad(const struct ring *ring, uint64_t at, uint32_t bytes);

/* Room for a record of `bytes` (a multiple of RECORD_ALIGN) behind `tail`, leaving `keep_free` bytes of the ring free.
 * Writes the padding before the wrap, if any, and nothing that the consumer can see. RING_FULL; RING_CORRUPT if the
 * consumer's head makes no sense. */
static inline enum ring_result ring_claim(const struct ring *ring, uint64_t tail, uint32_t bytes, uint32_t keep_free,
                                          struct ring_space *space) {
    uint64_t head = load64_acquire(&ring->header->head); /* pairs with ring_release: what it gave up is no longer read */
    uint64_t used = tail - head;
    if (used > ring->capacity || head % RECORD_ALIGN)
        return RING_CORRUPT;
    uint32_t to_end = ring->capacity - (uint32_t)(tail & (ring->capacity - 1));
    uint32_t pad = to_end < bytes ? to_end : 0;
    if ((uint64_t)pad + bytes + keep_free > ring->capacity - used)
        return RING_FULL;
    if (pad)
        ring_pad(ring, tail, pad);
    space->position = tail + pad;
    space->next = space->position + bytes;
    space->record = ring_at(ring, space->position);
    return RING_OK;
}

/* Publishes padding and record with one store. Pairs with ring_tail. */
static inline void ring_publish(const struct ring *ring, const struct ring_space *space) {
    store64_release(&ring->header->tail, space->next);
}

/* The producer's tail as seen by a consumer that has read up to `at`: RING_EMPTY, RING_OK with *tail, or
 * RING_CORRUPT. */
static inline enum ring_result ring_tail(const struct ring *ring, uint64_t at, uint64_t *tail) {
    *tail = load64_acquire(&ring->header->tail); /* pairs with ring_publish: the record is whole */
    if (*tail == at)
        return RING_EMPTY;
    return *tail - at > ring->capacity || *tail % RECORD_ALIGN ? RING_CORRUPT : RING_OK;
}

/* The header of the record at `at` < `tail`, copied and checked: it lies within the ring and ends at or before the
 * tail. */
enum ring_result ring_peek(const struct ring *ring, uint64_t at, uint64_t tail, struct record_header *header);

/* The same for the next record that is not padding; *at is moved to it, or to where the walk ended. RING_OK; RING_EMPTY
 * at `tail`; RING_CORRUPT. */
enum ring_result ring_next(const struct ring *ring, uint64_t *at, uint64_t tail, struct record_header *header);

/* Wipes the bytes from one position up to another, at most the whole ring. Only for whoever owns them. */
void ring_wipe(const struct ring *ring, uint64_t from, uint64_t to);

/* Everything before `at` may be overwritten. Pairs with ring_claim's look at head. */
void ring_release(const struct ring *ring, uint64_t at);

#endif
