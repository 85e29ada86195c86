/* every_point.h: runs one operation over and over, and lets the other side in after its first access of shared memory,
 * then after its second, ...
 *
 * For programs built with IBLB_FAULT: atomics.h then calls iblb_fault_point after each access. There is one thread
 * only, so a failure comes back every time, at the same point. Parks are replaced (ld's --wrap): a park with work at
 * hand is a lost wake-up.
 */
#ifndef EVERY_POINT_H
#define EVERY_POINT_H

#include "rig.h"

static void (*intruder)(void);
static long countdown;

void iblb_fault_point(const char *function);
void iblb_fault_point(const char *function) {
    (void)function;
    if (intruder && --countdown == 0) {
        void (*run)(void) = intruder;
        intruder = NULL; /* its own accesses do not count */
        run();
    }
}

static long lost_wakeups;
static int (*work_is_there)(void);

int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    (void)timeout_ns, (void)waits;
    void (*later)(void) = intruder;
    int changed;
    intruder = NULL; /* the kernel compares and sleeps in one step */
    changed = load32_acquire(word) != expected;
    if (!changed && work_is_there && work_is_there())
        lost_wakeups++;
    intruder = later;
    return changed; /* if not: as if its time were up */
}

/* Runs `operation` with `let_in` at every point of it; `set_up` before, `afterwards` after each turn. Returns how many
 * points there are. */
static long at_every_point(void (*set_up)(void), void (*operation)(void), void (*let_in)(void), void (*afterwards)(void)) {
    for (long point = 1;; point++) {
        int before = wrong_checks;
        set_up();
        lost_wakeups = 0;
        countdown = point;
        intruder = let_in;
        operation();
        int past_the_end = intruder != NULL;
        intruder = NULL;
        if (past_the_end)
            let_in();
        CHECK(lost_wakeups == 0);
        afterwards();
        stop();
        if (wrong_checks != before) {
            printf("        when let in after access %ld\n", point);
            return point;
        }
        if (past_the_end || !CHECK(point < 100000))
            return point;
    }
}

#endif
