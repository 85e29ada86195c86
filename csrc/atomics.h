/* atomics.h: the only place where shared memory is touched.
 *
 * Every access of the segment goes through these few functions, so that all memory ordering can be read on one page,
 * and so that a test build (IBLB_FAULT) can stop a process after every single one of them: IBLB_POINT is that hook.
 *
 * Orders used: `_relaxed` for values that only one side writes and that another operation publishes; `_acquire` loads
 * pair with `_release` stores of the same word; the parked flags and what they guard need `fence_seq_cst` on both sides
 * (store, fence, load of the other's word). Words are naturally aligned 32- or 64-bit integers and lock-free on every
 * machine we build for, i386 included (cmpxchg8b).
 */
#ifndef IBLB_ATOMICS_H
#define IBLB_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef IBLB_FAULT
void iblb_fault_point(const char *function);
#define IBLB_POINT() iblb_fault_point(__func__)
#else
#define IBLB_POINT() ((void)0)
#endif

typedef _Atomic uint32_t shared_u32;
typedef _Atomic uint64_t shared_u64;

#if ATOMIC_INT_LOCK_FREE != 2 || ATOMIC_LLONG_LOCK_FREE != 2
#error "32- and 64-bit atomics must be lock-free: a lock would live in one process only"
#endif

#define IBLB_DEFINE_ATOMICS(bits)                                                                                                          \
    static inline uint##bits##_t load##bits##_relaxed(const shared_u##bits *word) {                                                        \
        uint##bits##_t value = atomic_load_explicit((shared_u##bits *)(uintptr_t)word, memory_order_relaxed);                              \
        IBLB_POINT();                                                                                                                      \
        return value;                                                                                                                      \
    }                                                                                                                                      \
    static inline uint##bits##_t load##bits##_acquire(const shared_u##bits *word) {                                                        \
        uint##bits##_t value = atomic_load_explicit((shared_u##bits *)(uintptr_t)word, memory_order_acquire);                              \
        IBLB_POINT();                                                                                                                      \
        return value;                                                                                                                      \
    }                                                                                                                                      \
    static inline void store##bits##_relaxed(shared_u##bits *word, uint##bits##_t value) {                                                 \
        atomic_store_explicit(word, value, memory_order_relaxed);                                                                          \
        IBLB_POINT();                                                                                                                      \
    }                                                                                                                                      \
    static inline void store##bits##_release(shared_u##bits *word, uint##bits##_t value) {                                                 \
        atomic_store_explicit(word, value, memory_order_release);                                                                          \
        IBLB_POINT();                                                                                                                      \
    }                                                                                                                                      \
    static inline bool swap_if##bits(shared_u##bits *word, uint##bits##_t expected, uint##bits##_t desired) {                              \
        bool done = atomic_compare_exchange_strong_explicit(word, &expected, desired, memory_order_acq_rel, memory_order_acquire);         \
        IBLB_POINT();                                                                                                                      \
        return done;                                                                                                                       \
    }                                                                                                                                      \
    static inline uint##bits##_t add##bits(shared_u##bits *word, uint##bits##_t amount) {                                                  \
        uint##bits##_t before = atomic_fetch_add_explicit(word, amount, memory_order_acq_rel);                                             \
        IBLB_POINT();                                                                                                                      \
        return before;                                                                                                                     \
    }

IBLB_DEFINE_ATOMICS(32)
IBLB_DEFINE_ATOMICS(64)

static inline void fence_seq_cst(void) {
    atomic_thread_fence(memory_order_seq_cst);
}

static inline void fence_acquire(void) {
    atomic_thread_fence(memory_order_acquire);
}

/* Bytes of a record or of a text: published by a release store that follows, or checked by whoever reads them. */
static inline void shared_write(void *shared, const void *from, size_t bytes) {
    if (bytes)
        memcpy(shared, from, bytes);
    IBLB_POINT();
}

/* Bytes that nobody is to read any more. The compiler must not drop this as a write that nobody reads. */
static inline void shared_wipe(void *shared, size_t bytes) {
    memset(shared, 0, bytes);
    atomic_signal_fence(memory_order_seq_cst);
    IBLB_POINT();
}

static inline void shared_read(void *to, const void *shared, size_t bytes) {
    if (bytes)
        memcpy(to, shared, bytes);
    IBLB_POINT();
}

#endif
