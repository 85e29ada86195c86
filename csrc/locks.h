/* locks.h: which byte far past the end of a segment's file is whose lock. */
#ifndef IBLB_LOCKS_H
#define IBLB_LOCKS_H

#include <stdint.h>

#include "layout.h"

/* A slot's owner holds both its bytes. The first says that the owner lives. The second keeps others out: when the owner
 * is gone, the worker holds it until the slot is free, while the owner's name can be used again at once. */
static inline uint64_t worker_lock(void) {
    return LOCK_BASE;
}
static inline uint64_t slot_lock(uint32_t index) {
    return LOCK_BASE + 2 * ((uint64_t)index + 1);
}
static inline uint64_t slot_guard(uint32_t index) {
    return slot_lock(index) + 1;
}
static inline uint64_t claim_lock(void) {
    return LOCK_BASE - 2;
}

#endif
