/* segment.h: the segment as one process sees it: made or adopted by a worker, attached to by a client.
 *
 * Rules. Only the holder of the worker lock makes, adopts, replaces or unlinks a segment. A new one is made under a
 * temporary name, its worker lock taken, and then linked into place, so that nobody ever sees a half-made one. Sizes
 * are read from the file once, checked against the file's size, and kept here; nothing is looked up in shared memory to
 * find out where something lies.
 */
#ifndef IBLB_SEGMENT_H
#define IBLB_SEGMENT_H

#include "include/iblbridge.h"
#include "locks.h"
#include "os.h"
#include "ring.h"

struct segment_sizes {
    uint32_t slots;
    uint32_t command_bytes;
    uint32_t response_bytes;
    uint32_t event_bytes;
    uint32_t incoming_bytes;
};

struct segment {
    os_file file;  /* the mapping's */
    os_file locks; /* opened apart, never mapped: holds our locks */
    struct segment_header *header;
    uint64_t bytes;
    uint64_t id;
    struct os_waits waits;
    struct segment_sizes sizes;
    char path[PATH_BYTES];
};

/* One slot's parts. */
struct slot {
    struct slot_header *header;
    struct ring command;
    struct ring response;
    struct ring event;
    struct ring incoming;
};

/* 0 if `name` can name a segment: 1 to 63 of A-Z a-z 0-9 . _ -, with no dot at either end, and no device of Windows. Else IBLB_E_NAME. */
int segment_check_name(const char *name, struct problem *problem);

/* Judges a copy of the header of an open segment. The copy is read through the file, so no byte of it can change
 * meanwhile. 0 if this library can use the segment in this boot, else IBLB_E_SEGMENT, _VERSION, _STALE; _SYSTEM if nobody
 * can say. */
int segment_judge(os_file file, const char *path, struct segment_header *header, struct problem *problem);

/* Where slot `index` begins in a segment of these sizes. */
uint64_t segment_slot_offset(const struct segment_sizes *sizes, uint32_t index);

/* For clients: maps what is there. IBLB_E_NO_SEGMENT, _SEGMENT, _VERSION, _STALE, _PERMISSION, _SYSTEM. */
int segment_attach(struct segment *segment, const char *name, struct problem *problem);

/* For the worker: adopts the segment of this boot and version, whatever its sizes, or makes one. Increases the epoch,
 * and holds the worker lock until segment_close. *replaced says why an existing one was retired ("" if none was).
 * IBLB_E_WORKER_BUSY names the other worker. */
int segment_serve(struct segment *segment, const char *name, const struct segment_sizes *sizes, char replaced[PROBLEM_BYTES],
                  struct problem *problem);

/* Lets go of locks, mapping and files. With `remove` the worker first marks the segment REPLACED and unlinks it. */
void segment_close(struct segment *segment, bool remove);

void segment_slot(const struct segment *segment, uint32_t index, struct slot *slot);
struct service_entry *segment_services(const struct segment *segment);
struct listener_table *segment_listeners(const struct segment *segment);

#define FUTURE_NS UINT64_C(1000000) /* a stamp may be ahead of the clock by this much */
#define SLEEP_TOLERANCE_NS UINT64_C(100000000)

/* May a command of this stamp and time to live begin now? IBLB_OK, IBLB_E_EXPIRED or IBLB_E_ABORTED. */
static inline int segment_may_begin(uint64_t stamp, int64_t ttl, uint64_t now, uint64_t interrupt_stamp, uint64_t slept_stamp) {
    if (stamp > now + FUTURE_NS || stamp < slept_stamp || (ttl >= 0 && now > stamp && now - stamp > (uint64_t)ttl))
        return IBLB_E_EXPIRED;
    return stamp < interrupt_stamp ? IBLB_E_ABORTED : IBLB_OK;
}

/* Has the PC slept since a worker last looked? `asleep`: os_asleep_ns(note + SLEEP_TOLERANCE_NS), in all so far. */
static inline bool segment_has_slept(uint64_t note, uint64_t asleep) {
    return (int64_t)(asleep - note) > (int64_t)SLEEP_TOLERANCE_NS;
}

/* The same of now, and without noting it: for whoever is no worker. */
static inline bool segment_sleep_is_new(const struct segment_header *header) {
    uint64_t note = load64_acquire(&header->sleep_note); /* pairs with the release in worker_note_sleep */
    return segment_has_slept(note, os_asleep_ns(note + SLEEP_TOLERANCE_NS));
}

/* --- bells ---
 *
 * The sleeper:  sequence = bell_arm(bell); if (!work_is_there()) bell_park(bell, sequence, ...); bell_disarm(bell);
 * The others:   store what the sleeper is to see; bell_ring(bell);
 * No wake-up is lost, because each side stores, then fences, then looks at the other's word. A park is bounded all the
 * same: a client's by PARK_NS, the worker's by its sweep; at its end the sleeper looks whether the other side still
 * lives. */
#define PARK_NS UINT64_C(100000000)

uint32_t bell_arm(struct bell *bell);
int bell_park(struct bell *bell, uint32_t sequence, uint64_t timeout_ns, const struct os_waits *waits); /* as os_park */
void bell_disarm(struct bell *bell);
void bell_wake(struct bell *bell, const struct os_waits *waits); /* without looking: from within the same process */

/* Was its owner parked? */
static inline bool bell_ring(struct bell *bell, const struct os_waits *waits) {
    fence_seq_cst(); /* what was stored before is visible before we look whether anybody sleeps; pairs with the fence in bell_arm */
    if (!load32_relaxed(&bell->parked))
        return false;
    bell_wake(bell, waits);
    return true;
}

#endif
