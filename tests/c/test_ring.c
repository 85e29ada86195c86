/* test_ring.c: the ring alone, over plain memory that is exactly as large as it has to be, between guard bytes.
 *
 *     cc -std=c11 -D_POSIX_C_SOURCE=200809L -pthread -I csrc tests/c/test_ring.c csrc/ring.c -o test_ring && ./test_ring [records between
 * two threads]
 */
#include "ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "check.h"
#include "system.h"

#define CAPACITY 4096u
#define GUARD 256u
#define BODY sizeof(struct record_header)

static long long stream_records = 300000;

struct fixture {
    struct ring ring;
    unsigned char *memory;
};

static void set_up(struct fixture *f, uint32_t capacity, uint64_t start) {
    f->memory = aligned_memory(RECORD_ALIGN, capacity + 2 * GUARD);
    f->ring.header = aligned_memory(alignof(struct ring_header), sizeof(struct ring_header));
    memset(f->memory, 0xA5, capacity + 2 * GUARD);
    memset(f->memory + GUARD, 0, capacity);
    memset(f->ring.header, 0, sizeof *f->ring.header);
    f->ring.data = f->memory + GUARD;
    f->ring.capacity = capacity;
    store64_relaxed(&f->ring.header->tail, start);
    store64_relaxed(&f->ring.header->head, start);
}

static void tear_down(struct fixture *f) {
    for (uint32_t i = 0; i < GUARD; i++)
        if (!CHECK(f->memory[i] == 0xA5) || !CHECK(f->ring.data[f->ring.capacity + i] == 0xA5))
            break;
    free_aligned(f->memory);
    free_aligned(f->ring.header);
}

static unsigned char pattern(uint64_t seed, uint32_t i) {
    return (unsigned char)(seed * 31 + i * 7 + (i >> 8));
}

static void fill(unsigned char *place, uint32_t bytes, uint64_t seed) {
    struct record_header header = {bytes, RECORD_COMMAND};
    memcpy(place, &header, sizeof header);
    for (uint32_t i = BODY; i < bytes; i++)
        place[i] = pattern(seed, i);
}

static int holds(const unsigned char *place, uint32_t bytes, uint64_t seed) {
    for (uint32_t i = BODY; i < bytes; i++)
        if (place[i] != pattern(seed, i))
            return 0;
    return 1;
}

static enum ring_result put(const struct ring *ring, uint64_t *tail, uint32_t bytes, uint32_t keep, uint64_t seed) {
    struct ring_space space;
    enum ring_result result = ring_claim(ring, *tail, bytes, keep, &space);
    if (result != RING_OK)
        return result;
    fill(space.record, bytes, seed);
    ring_publish(ring, &space);
    *tail = space.next;
    return RING_OK;
}

/* Reads and releases one record, skipping padding. */
static enum ring_result get(const struct ring *ring, uint64_t *head, uint32_t *bytes, uint64_t seed) {
    struct record_header header;
    uint64_t tail;
    enum ring_result result = ring_tail(ring, *head, &tail);
    if (result == RING_OK)
        result = ring_next(ring, head, tail, &header);
    if (result != RING_OK)
        return result;
    *bytes = header.bytes;
    CHECK_ROW(seed, header.kind == RECORD_COMMAND && holds(ring_at(ring, *head), header.bytes, seed));
    *head += header.bytes;
    ring_release(ring, *head);
    return RING_OK;
}

static void what_is_put_in_comes_out_in_order(void) {
    struct fixture f;
    uint64_t head = 0, tail = 0, unchanged;
    uint32_t bytes;
    set_up(&f, CAPACITY, 0);
    CHECK_SAME(ring_tail(&f.ring, 0, &unchanged), RING_EMPTY);
    for (uint32_t i = 1; i <= 5; i++)
        CHECK_SAME(put(&f.ring, &tail, i * 64, 0, i), RING_OK);
    for (uint32_t i = 1; i <= 5; i++) {
        CHECK_SAME(get(&f.ring, &head, &bytes, i), RING_OK);
        CHECK_SAME(bytes, i * 64);
    }
    CHECK_SAME(get(&f.ring, &head, &bytes, 0), RING_EMPTY);
    CHECK_SAME(load64_relaxed(&f.ring.header->head), tail);
    tear_down(&f);
}

static void every_size_wraps_at_every_offset(void) {
    struct fixture f;
    for (uint32_t offset = 0; offset < CAPACITY; offset += RECORD_ALIGN)
        for (uint32_t size = RECORD_ALIGN; size <= CAPACITY / 2; size += RECORD_ALIGN) {
            uint64_t start = UINT64_C(1) << 40 | offset, head = start, tail = start;
            uint32_t bytes = 0, to_end = CAPACITY - offset;
            set_up(&f, CAPACITY, start);
            CHECK_ROW(offset, put(&f.ring, &tail, size, 0, offset + size) == RING_OK);
            CHECK_ROW(offset, tail == start + size + (to_end < size ? to_end : 0));
            CHECK_ROW(offset, get(&f.ring, &head, &bytes, offset + size) == RING_OK && bytes == size && head == tail);
            tear_down(&f);
        }
}

static void positions_beyond_32_bits_and_up_to_the_last_one_work(void) {
    static const uint64_t starts[] = {UINT64_C(0xffffffc0), UINT64_C(0x100000000), UINT64_C(0x7fffffffffffffc0),
                                      UINT64_C(0xfffffffffffffe00)};
    struct fixture f;
    for (int row = 0; row < ROWS(starts); row++) {
        uint64_t head = starts[row], tail = starts[row];
        uint32_t bytes;
        set_up(&f, CAPACITY, starts[row]);
        for (uint32_t i = 0; i < 40; i++) {
            CHECK_ROW(row, put(&f.ring, &tail, 64 * (1 + i % 7), 0, i) == RING_OK);
            CHECK_ROW(row, get(&f.ring, &head, &bytes, i) == RING_OK && bytes == 64 * (1 + i % 7));
        }
        tear_down(&f);
    }
}

static void padding_and_record_are_published_by_one_store(void) {
    struct fixture f;
    struct ring_space space = {0};
    struct record_header header;
    uint64_t start = CAPACITY - 64, tail;
    set_up(&f, CAPACITY, start);
    CHECK_SAME(ring_claim(&f.ring, start, 128, 0, &space), RING_OK);
    CHECK_SAME(space.position, CAPACITY);
    CHECK_SAME(load64_relaxed(&f.ring.header->tail), start); /* the padding stands in the ring and nobody sees it */
    CHECK_SAME(ring_tail(&f.ring, start, &tail), RING_EMPTY);
    fill(space.record, 128, 1);
    ring_publish(&f.ring, &space);
    CHECK_SAME(ring_tail(&f.ring, start, &tail), RING_OK);
    CHECK_SAME(tail, CAPACITY + 128);
    CHECK_SAME(ring_peek(&f.ring, start, tail, &header), RING_OK);
    CHECK(header.kind == RECORD_PAD && header.bytes == 64);
    CHECK_SAME(ring_peek(&f.ring, start + header.bytes, tail, &header), RING_OK);
    CHECK(header.kind == RECORD_COMMAND && header.bytes == 128);
    tear_down(&f);
}

/* Against the definition in plain words: padding if the record would cross the end, and all of it must fit in what the head leaves. */
static void a_ring_is_full_exactly_when_it_must_be(void) {
    static const uint32_t keeps[] = {0, 64, 1024, CAPACITY / 2};
    struct fixture f;
    struct ring_space space = {0};
    for (int k = 0; k < ROWS(keeps); k++)
        for (uint64_t tail = CAPACITY; tail < 2 * CAPACITY; tail += 5 * RECORD_ALIGN)
            for (uint32_t used = 0; used <= CAPACITY; used += 3 * RECORD_ALIGN)
                for (uint32_t size = RECORD_ALIGN; size <= CAPACITY; size += 7 * RECORD_ALIGN) {
                    uint64_t end = (tail / CAPACITY + 1) * CAPACITY, begin = tail + size > end ? end : tail;
                    int fits = begin + size + keeps[k] <= tail - used + CAPACITY;
                    set_up(&f, CAPACITY, tail - used);
                    store64_relaxed(&f.ring.header->tail, tail);
                    CHECK_ROW(size, ring_claim(&f.ring, tail, size, keeps[k], &space) == (fits ? RING_OK : RING_FULL));
                    CHECK_ROW(size, !fits || (space.position == begin && space.next == begin + size));
                    CHECK_ROW(size, load64_relaxed(&f.ring.header->tail) == tail);
                    tear_down(&f);
                }
}

static void the_largest_record_fits_an_empty_ring_wherever_it_stands(void) {
    static const uint32_t keeps[] = {0, 64, 640, 1024};
    struct fixture f;
    struct ring_space space;
    for (int row = 0; row < ROWS(keeps); row++)
        for (uint64_t at = 0; at < CAPACITY; at += RECORD_ALIGN) {
            set_up(&f, CAPACITY, at);
            CHECK_ROW(row, ring_claim(&f.ring, at, ring_largest(&f.ring, keeps[row]), keeps[row], &space) == RING_OK);
            tear_down(&f);
        }
}

static void what_is_kept_free_is_there_for_whoever_may_use_it(void) {
    struct fixture f;
    uint64_t tail = 0;
    uint32_t puts = 0, reserve = 1024;
    set_up(&f, CAPACITY, 0);
    while (put(&f.ring, &tail, 192, reserve, puts) == RING_OK)
        puts++;
    CHECK_SAME(puts, (CAPACITY - reserve) / 192);
    for (uint32_t i = 0; i < reserve / 192; i++)
        CHECK_SAME(put(&f.ring, &tail, 192, 0, i), RING_OK);
    CHECK_SAME(put(&f.ring, &tail, CAPACITY, 0, 0), RING_FULL);
    tear_down(&f);
}

static void a_head_that_cannot_be_is_corrupt(void) {
    static const uint64_t heads[] = {CAPACITY + 64,   CAPACITY + 1, 2 * CAPACITY,     1, 63, 65, UINT64_MAX,
                                     UINT64_MAX - 63, 64,           UINT64_C(1) << 63};
    struct fixture f;
    struct ring_space space;
    for (int row = 0; row < ROWS(heads); row++) {
        uint64_t tail = CAPACITY; /* heads from 0 to CAPACITY in steps of 64 may be */
        set_up(&f, CAPACITY, 0);
        store64_relaxed(&f.ring.header->head, heads[row]);
        enum ring_result result = ring_claim(&f.ring, tail, 64, 0, &space);
        CHECK_ROW(row, result == (heads[row] == 64 ? RING_OK : RING_CORRUPT));
        tear_down(&f);
    }
}

static void a_tail_that_cannot_be_is_corrupt(void) {
    static const uint64_t tails[] = {0, 64, 127, 129, 128 + CAPACITY + 64, 128 + CAPACITY + 1, UINT64_MAX, UINT64_C(1) << 63, 128 - 64};
    struct fixture f;
    uint64_t tail;
    set_up(&f, CAPACITY, 128);
    for (int row = 0; row < ROWS(tails); row++) {
        store64_relaxed(&f.ring.header->tail, tails[row]);
        CHECK_ROW(row, ring_tail(&f.ring, 128, &tail) == RING_CORRUPT);
    }
    store64_relaxed(&f.ring.header->tail, 128 + CAPACITY);
    CHECK_SAME(ring_tail(&f.ring, 128, &tail), RING_OK);
    tear_down(&f);
}

static void a_record_header_that_cannot_be_is_corrupt(void) {
    static const struct {
        uint64_t at, tail;
        uint32_t bytes;
        enum ring_result expected;
    } rows[] = {
        {0, 128, 0, RING_CORRUPT},
        {0, 128, 1, RING_CORRUPT},
        {0, 128, 63, RING_CORRUPT},
        {0, 128, 65, RING_CORRUPT},
        {0, 128, 192, RING_CORRUPT},
        {0, 128, UINT32_MAX, RING_CORRUPT},
        {0, 128, 0xffffffc0, RING_CORRUPT},
        {0, 128, 0x80000000, RING_CORRUPT},
        {0, 128, 64, RING_OK},
        {0, 128, 128, RING_OK},
        {CAPACITY - 64, CAPACITY + 64, 128, RING_CORRUPT}, /* crosses the end */
        {CAPACITY - 64, CAPACITY + 64, 64, RING_OK},
        {CAPACITY - 128, CAPACITY + 64, 128, RING_OK},
        {0, CAPACITY, CAPACITY, RING_OK},
        {0, CAPACITY, CAPACITY + 64, RING_CORRUPT},
    };
    struct fixture f;
    struct record_header header;
    for (int row = 0; row < ROWS(rows); row++) {
        set_up(&f, CAPACITY, 0);
        struct record_header written = {rows[row].bytes, RECORD_COMMAND};
        memcpy(ring_at(&f.ring, rows[row].at), &written, sizeof written);
        CHECK_ROW(row, ring_peek(&f.ring, rows[row].at, rows[row].tail, &header) == rows[row].expected);
        tear_down(&f);
    }
}

static void a_walk_skips_padding_and_ends_where_something_is_wrong(void) {
    static const struct {
        struct record_header first, second; /* 64 bytes of ring each */
        uint64_t tail, at;
        enum ring_result expected;
    } rows[] = {
        {{64, RECORD_COMMAND}, {64, RECORD_COMMAND}, 128, 0, RING_OK}, {{64, RECORD_PAD}, {64, RECORD_COMMAND}, 128, 64, RING_OK},
        {{64, RECORD_PAD}, {64, RECORD_PAD}, 128, 128, RING_EMPTY}, /* no producer does that; it ends all the same */
        {{64, RECORD_PAD}, {64, RECORD_COMMAND}, 64, 64, RING_EMPTY},  {{64, RECORD_PAD}, {0, RECORD_PAD}, 128, 64, RING_CORRUPT},
        {{64, RECORD_PAD}, {128, RECORD_PAD}, 128, 64, RING_CORRUPT},  {{0, RECORD_PAD}, {64, RECORD_COMMAND}, 128, 0, RING_CORRUPT},
    };
    struct fixture f;
    struct record_header header;
    for (int row = 0; row < ROWS(rows); row++) {
        uint64_t at = 0;
        set_up(&f, CAPACITY, 0);
        memcpy(ring_at(&f.ring, 0), &rows[row].first, sizeof header);
        memcpy(ring_at(&f.ring, 64), &rows[row].second, sizeof header);
        CHECK_ROW(row, ring_next(&f.ring, &at, rows[row].tail, &header) == rows[row].expected);
        CHECK_ROW(row, at == rows[row].at);
        tear_down(&f);
    }
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void scribbled_rings_end_in_a_result_and_no_access_outside(void) {
    struct fixture f;
    for (int turn = 0; turn < 20000; turn++) {
        struct ring_space space;
        struct record_header header;
        uint64_t head = 64 * (random_next(&random_state) % 128), tail;
        uint32_t *words = NULL;
        if (turn % 50 == 0) {
            if (turn)
                tear_down(&f);
            set_up(&f, 1024, 0);
        }
        words = (uint32_t *)(void *)f.ring.data;
        for (int i = 0; i < 8; i++)
            words[random_next(&random_state) % 256] =
                (uint32_t)(random_next(&random_state) % 4 ? 64 * (random_next(&random_state) % 20) : random_next(&random_state));
        store64_relaxed(&f.ring.header->tail, head + random_next(&random_state) % 1200);
        store64_relaxed(&f.ring.header->head, head + random_next(&random_state) % 1200);
        if (ring_claim(&f.ring, head + 64 * (random_next(&random_state) % 20), 64, 0, &space) == RING_OK)
            fill(space.record, 64, 1);
        if (ring_tail(&f.ring, head, &tail) != RING_OK)
            continue;
        int records = 0;
        for (uint64_t at = head; ring_next(&f.ring, &at, tail, &header) == RING_OK; at += header.bytes) {
            unsigned char copy[1024];
            memcpy(copy, ring_at(&f.ring, at), header.bytes); /* what a consumer is entitled to read */
            CHECK(++records <= 16);
        }
    }
    tear_down(&f);
}

/* --- two threads --- */

struct stream {
    struct fixture f;
    long long records;
    _Atomic int give_up, ended;
};

static void *produce(void *argument) {
    struct stream *stream = argument;
    uint64_t state = 42, tail = load64_relaxed(&stream->f.ring.header->tail);
    for (long long i = 0; i < stream->records; i++) {
        uint32_t bytes = 64 * (uint32_t)(1 + random_next(&state) % (random_next(&state) % 8 ? 4 : 32));
        enum ring_result result;
        while ((result = put(&stream->f.ring, &tail, bytes, 0, (uint64_t)i)) == RING_FULL && !stream->give_up)
            sched_yield();
        if (result != RING_OK)
            break;
    }
    stream->ended = 1;
    return NULL;
}

static void two_threads_move_records_of_all_sizes_whole_and_in_order(void) {
    struct stream stream = {.records = stream_records};
    pthread_t producer;
    uint64_t state = 42, head = (UINT64_C(1) << 32) - CAPACITY;
    set_up(&stream.f, CAPACITY, head);
    CHECK(pthread_create(&producer, NULL, produce, &stream) == 0);
    for (long long i = 0; i < stream.records && !wrong_checks; i++) {
        uint32_t bytes, expected = 64 * (uint32_t)(1 + random_next(&state) % (random_next(&state) % 8 ? 4 : 32));
        enum ring_result result;
        int ended;
        while (ended = stream.ended, (result = get(&stream.f.ring, &head, &bytes, (uint64_t)i)) == RING_EMPTY && !ended)
            sched_yield();
        CHECK_ROW(i, result == RING_OK && bytes == expected);
    }
    stream.give_up = 1;
    pthread_join(producer, NULL);
    tear_down(&stream.f);
}

static const struct test tests[] = {
    {"what is put in comes out in order", what_is_put_in_comes_out_in_order},
    {"every size wraps at every offset", every_size_wraps_at_every_offset},
    {"positions beyond 32 bits, and up to the last one, work", positions_beyond_32_bits_and_up_to_the_last_one_work},
    {"padding and record are published by one store", padding_and_record_are_published_by_one_store},
    {"a ring is full exactly when it must be", a_ring_is_full_exactly_when_it_must_be},
    {"the largest record fits an empty ring wherever it stands", the_largest_record_fits_an_empty_ring_wherever_it_stands},
    {"what is kept free is there for whoever may use it", what_is_kept_free_is_there_for_whoever_may_use_it},
    {"a head that cannot be is corrupt", a_head_that_cannot_be_is_corrupt},
    {"a tail that cannot be is corrupt", a_tail_that_cannot_be_is_corrupt},
    {"a record header that cannot be is corrupt", a_record_header_that_cannot_be_is_corrupt},
    {"a walk skips padding and ends where something is wrong", a_walk_skips_padding_and_ends_where_something_is_wrong},
    {"scribbled rings end in a result and no access outside", scribbled_rings_end_in_a_result_and_no_access_outside},
    {"two threads move records of all sizes whole and in order", two_threads_move_records_of_all_sizes_whole_and_in_order},
};

int main(int count, char **arguments) {
    if (count > 1)
        stream_records = atoll(arguments[1]);
    return run_tests(tests, ROWS(tests));
}
