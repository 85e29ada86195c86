/* asked.h: what masters ask, as it stands in a program's incoming ring, read by either side: by the program, which did
 * not write it, by whoever claims its slot after it, and by the worker, for the program may have written over it.
 *
 * Each byte may be anything: it is read once and checked, and only the copy is believed.
 */
#ifndef IBLB_ASKED_H
#define IBLB_ASKED_H

#include <stdbool.h>

#include "ring.h"

static inline enum incoming_state asked_state(uint64_t control) {
    return (enum incoming_state)(uint32_t)control;
}

/* Neither answered nor withdrawn. */
static inline bool asked_is_open(uint64_t control) {
    return asked_state(control) == INCOMING_PUBLISHED || asked_state(control) == INCOMING_TAKEN;
}

/* Reads the next record from *at on, and moves *at to it. RING_EMPTY at `tail`. RING_CORRUPT if it makes no sense, or
 * is not of `generation`, that of the slot's owner: nothing is handed to an owner before the worker knows it. */
enum ring_result asked_read(const struct ring *ring, uint32_t generation, uint64_t *at, uint64_t tail, struct incoming_record *record,
                            uint64_t *control);

/* Of a ring that nobody writes meanwhile: is everything in it answered or withdrawn? False also of nonsense. */
bool asked_all_done(const struct ring *ring, uint32_t generation);

#endif
