/* hostile.h: what fuzz_worker.c and fuzz_client.c share: a segment in memory (os_memory.h), an input that is read as a program, and a hand
 * that writes into the segment, either between two calls or behind one single shared access of a call (IBLB_FAULT: atomics.h stops there).
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/iblbridge_worker.h"
#include "json.h"
#include "os_memory.h"
#include "segment.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define FORBID(from, bytes) __asan_poison_memory_region(from, bytes)
#define ALLOW(from, bytes) __asan_unpoison_memory_region(from, bytes)
#endif
#endif
#ifndef FORBID
#define FORBID(from, bytes) ((void)(from))
#define ALLOW(from, bytes) ((void)(from))
#endif

#define EXPECT(condition)                                                                                                                  \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                                        \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

#if defined(__clang__)
#define UNWATCHED __attribute__((no_sanitize("address", "coverage")))
#else
#define UNWATCHED
#endif

#define RING_BYTES 16384u
#define SLOTS 3u
#define MS_NS UINT64_C(1000000)
#define RIG_PATH "/memory/rig"
#define MOST_ACCESSES 200000u /* of one call: more is a hang */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Memory that was freed is not kept for long: what is freed here is large and many. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "quarantine_size_mb=1:thread_local_quarantine_size_kb=64";
}

/* --- the input --- */

static const uint8_t *input;
static size_t input_left;

static uint32_t next8(void) {
    if (!input_left)
        return 0;
    input_left--;
    return *input++;
}
static uint32_t next16(void) {
    uint32_t low = next8();
    return low | next8() << 8;
}
static uint64_t next64(void) {
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | next8();
    return value;
}
static const uint8_t *next_bytes(uint32_t wanted, uint32_t *got) {
    const uint8_t *bytes = input;
    *got = wanted < input_left ? wanted : (uint32_t)input_left;
    input += *got;
    input_left -= *got;
    return bytes;
}

/* --- the segment --- */

static unsigned char *memory;
static struct segment eye; /* only to find places in it */
static struct slot slots[SLOTS];
static uint32_t commands_begin; /* where the first command of slot 0 will stand */

static inline void look_at(unsigned char *bytes) {
    memory = bytes;
    eye = (struct segment){.header = (void *)bytes, .sizes = {SLOTS, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES}};
    for (uint32_t i = 0; i < SLOTS; i++)
        segment_slot(&eye, i, &slots[i]);
}

/* What nobody has any business in: the gaps behind the headers. */
static inline void forbid_gaps(void) {
    FORBID(memory + LISTENERS_OFFSET + sizeof(struct listener_table),
           SEGMENT_HEADER_BYTES - LISTENERS_OFFSET - sizeof(struct listener_table));
    for (uint32_t i = 0; i < SLOTS; i++)
        FORBID((unsigned char *)slots[i].header + sizeof(struct slot_header), SLOT_HEADER_BYTES - sizeof(struct slot_header));
}

static inline void allow_all(uint64_t bytes) {
    ALLOW(memory, bytes);
}

/* --- the hand --- */

struct scribble {
    uint32_t offset, width; /* 1, 4 or 8 bytes from the segment's beginning */
    uint64_t value;
};

UNWATCHED static void do_scribble(const struct scribble *scribble) {
    for (uint32_t i = 0; i < scribble->width; i++)
        ((volatile unsigned char *)memory)[scribble->offset + i] = (unsigned char)(scribble->value >> (8 * i));
}

UNWATCHED static uint64_t now_there(uint32_t offset, uint32_t width) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)((volatile unsigned char *)memory)[offset + i] << (8 * i);
    return value;
}

/* A value that is likelier than chance to be taken for a good one. */
static uint64_t next_value(uint32_t offset, uint32_t width) {
    static const uint64_t bounds[] = {0,
                                      1,
                                      2,
                                      3,
                                      4,
                                      63,
                                      64,
                                      65,
                                      RING_BYTES,
                                      RING_BYTES - 64,
                                      RING_BYTES + 64,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      UINT64_C(1) << 32,
                                      INT64_MAX,
                                      UINT64_C(1) << 63,
                                      UINT64_MAX,
                                      UINT64_MAX - 63,
                                      0xffffffc0};
    uint32_t kind = next8();
    switch (kind % 4) {
    case 0:
        return bounds[kind / 4 % (sizeof bounds / sizeof bounds[0])];
    case 1:
        return now_there(offset, width) + (uint64_t)(int64_t)(int8_t)next8();
    case 2:
        return now_there(offset, width) + (uint64_t)((int64_t)(int8_t)next8() * 64);
    default:
        return width == 1 ? next8() : width == 4 ? (uint64_t)next16() << 16 | next16() : next64();
    }
}

/* A place in a slot: a header's field, an end of a ring, a field of a record, or anywhere. */
static uint32_t next_place_in_slot(uint32_t index, uint32_t *width) {
    static const uint32_t ends[] = {offsetof(struct slot_header, command.tail),  offsetof(struct slot_header, command.head),
                                    offsetof(struct slot_header, response.tail), offsetof(struct slot_header, response.head),
                                    offsetof(struct slot_header, event.tail),    offsetof(struct slot_header, event.head),
                                    offsetof(struct slot_header, incoming.tail), offsetof(struct slot_header, incoming.head)};
    static const uint32_t widths[] = {4, 8, 1, 4};
    uint32_t base = (uint32_t)((unsigned char *)slots[index].header - memory), kind = next8(), offset;
    *width = widths[kind / 8 % 4];
    switch (kind % 8) {
    case 0:
    case 1:
        *width = 4;
        offset = base + next8() % 32 * 4; /* state to closing */
        break;
    case 2:
        *width = 8;
        offset = base + ends[next8() % 8];
        break;
    case 3:
    case 4:
    case 5:
        offset = (index == 0 ? commands_begin : 0) + next8() % 16 * 64; /* the first records of the command ring */
        offset = base + SLOT_HEADER_BYTES + offset % RING_BYTES + next8() % 16 * 4;
        break;
    case 6:
        offset = base + SLOT_HEADER_BYTES + RING_BYTES + next8() % 16 * 64 + next8() % 16 * 4;
        break;
    default:
        offset = base + (next16() | next8() % 2 << 16) % (SLOT_HEADER_BYTES + 4 * RING_BYTES - 8);
    }
    return offset;
}

static uint32_t next_place_anywhere(uint32_t *width) {
    uint32_t kind = next8();
    *width = kind & 8 ? 8 : 4;
    if (kind % 8 < 3)
        return next8() % 64 * 4; /* the segment's header */
    if (kind % 8 == 3)
        return SEGMENT_HEADER_BYTES + next16() % (8 * (uint32_t)sizeof(struct service_entry)); /* the services */
    return next_place_in_slot(kind / 16 % SLOTS, width);
}

static struct scribble next_scribble_in_slot(uint32_t index) {
    struct scribble scribble;
    scribble.offset = next_place_in_slot(index, &scribble.width);
    scribble.value = next_value(scribble.offset, scribble.width);
    return scribble;
}

static struct scribble next_scribble_anywhere(void) {
    struct scribble scribble;
    scribble.offset = next_place_anywhere(&scribble.width);
    scribble.value = next_value(scribble.offset, scribble.width);
    return scribble;
}

/* --- behind one access --- */

#define PLANNED 4
static struct {
    struct scribble scribble;
    uint32_t at; /* the number of the access; 0: done */
} planned[PLANNED];
static uint32_t accesses;

void iblb_fault_point(const char *function);
UNWATCHED void iblb_fault_point(const char *function) {
    if (++accesses > MOST_ACCESSES) {
        fprintf(stderr, "a hang: one call has made %u shared accesses, the last in %s\n", accesses, function);
        abort();
    }
    for (int i = 0; i < PLANNED; i++)
        if (planned[i].at == accesses) {
            do_scribble(&planned[i].scribble);
            planned[i].at = 0;
        }
}

/* From here on one call: its accesses are counted, what is planned happens within it or not at all. */
static inline void call_begins(void) {
    accesses = 0;
}
static inline void call_ended(void) {
    memset(planned, 0, sizeof planned);
    accesses = 0;
}

static inline void plan(struct scribble scribble) {
    for (int i = 0; i < PLANNED; i++)
        if (!planned[i].at) {
            planned[i].scribble = scribble;
            planned[i].at = 1 + next8();
            return;
        }
}

static inline int code_is_named(int code) {
    char text[1024];
    return iblb_error_text(code, text, sizeof text) == IBLB_OK;
}

#endif
