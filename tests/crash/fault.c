/* fault.c: the other end of IBLB_POINT in atomics.h: counts the accesses, and stops the process after one of them.
 *
 *     IBLB_FAULT_AT=SECTION:N  stops after the N-th point (from 1) of those in which fault_section has said SECTION; N alone: of all
 *     IBLB_FAULT_ACTION=exit   with exit status 137, as if killed there (the default); on Windows it is TerminateProcess
 *     IBLB_FAULT_ACTION=stop   as SIGSTOP does; it goes on after a SIGCONT
 *     IBLB_FAULT_COUNT=file    writes one line per point at a clean end: section, function
 *
 * System calls that change what others see (locks, links, wake-ups) are points too: ld's --wrap puts one behind each, and what os_*.c does
 * in memory of its own is none. Without any of the variables a point costs one look at a flag. Usable from several threads; nothing here
 * allocates or locks.
 */
#include "fault.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"
#include "system.h"

#ifdef IBLB_SHADOW /* see shadow.c */
#include "shadow.h"
#define SHADOW_REAL(word) ((shared_u32 *)shadow_real(word))
#else
#define SHADOW_REAL(word) (word)
#endif

#define MOST_POINTS 65536

void (*fault_last_words)(const char *section, const char *function, long point);
_Thread_local int fault_pause;

static int watching;
static long stop_at;
static char stop_section[64]; /* "": any */
static int by_signal;
static atomic_long reached;
static const char *_Atomic current_section = "start";
static char count_file[SYSTEM_PATH];
static struct {
    const char *section;
    const char *function;
} trace[MOST_POINTS];

__attribute__((constructor)) static void read_environment(void) {
    const char *at = variable("IBLB_FAULT_AT"), *action = variable("IBLB_FAULT_ACTION"), *count = variable("IBLB_FAULT_COUNT");
    if (count)
        snprintf(count_file, sizeof count_file, "%s", count);
    const char *colon = at ? strrchr(at, ':') : NULL;
    if (colon)
        snprintf(stop_section, sizeof stop_section, "%.*s", (int)(colon - at), at);
    stop_at = colon ? atol(colon + 1) : at ? atol(at) : 0;
    by_signal = action && strcmp(action, "stop") == 0;
    watching = stop_at > 0 || *count_file;
}

__attribute__((destructor)) static void write_trace(void) {
    FILE *file = *count_file ? fopen(count_file, "w") : NULL;
    if (!file)
        return;
    for (long i = 0; i < reached && i < MOST_POINTS; i++)
        fprintf(file, "%s %s\n", trace[i].section, trace[i].function);
    fclose(file);
}

void fault_section(const char *section) {
    current_section = section;
}

void iblb_fault_point(const char *function);
void iblb_fault_point(const char *function) {
    if (!watching || fault_pause || (*stop_section && strcmp(stop_section, current_section) != 0))
        return;
    long point = atomic_fetch_add(&reached, 1) + 1;
    if (*count_file && point <= MOST_POINTS) {
        trace[point - 1].section = current_section;
        trace[point - 1].function = function;
    }
    if (point != stop_at)
        return;
    if (by_signal) {
        stand_still();
        return;
    }
    fault_pause++;
    if (fault_last_words)
        fault_last_words(current_section, function, point);
    die(137);
}

/* --- points behind system calls --- */

int __real_os_lock(os_file file, uint64_t offset);
int __wrap_os_lock(os_file file, uint64_t offset);
int __wrap_os_lock(os_file file, uint64_t offset) {
    fault_pause++;
    int result = __real_os_lock(file, offset);
    fault_pause--;
    iblb_fault_point("os_lock");
    return result;
}

void __real_os_unlock(os_file file, uint64_t offset);
void __wrap_os_unlock(os_file file, uint64_t offset);
void __wrap_os_unlock(os_file file, uint64_t offset) {
    fault_pause++;
    __real_os_unlock(file, offset);
    fault_pause--;
    iblb_fault_point("os_unlock");
}

int __real_os_publish(const char *temporary, const char *path);
int __wrap_os_publish(const char *temporary, const char *path);
int __wrap_os_publish(const char *temporary, const char *path) {
    fault_pause++;
    int result = __real_os_publish(temporary, path);
    fault_pause--;
    iblb_fault_point("os_publish");
    return result;
}

int __real_os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem);
int __wrap_os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem);
int __wrap_os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem) {
    fault_pause++;
    int result = __real_os_create(path, bytes, file, problem);
    fault_pause--;
    iblb_fault_point("os_create");
    return result;
}

void __real_os_close(os_file file);
void __wrap_os_close(os_file file);
void __wrap_os_close(os_file file) {
    fault_pause++;
    __real_os_close(file);
    fault_pause--;
    iblb_fault_point("os_close");
}

void __real_os_wake(shared_u32 *word, const struct os_waits *waits);
void __wrap_os_wake(shared_u32 *word, const struct os_waits *waits);
void __wrap_os_wake(shared_u32 *word, const struct os_waits *waits) {
    fault_pause++;
    __real_os_wake(SHADOW_REAL(word), waits);
    fault_pause--;
    iblb_fault_point("os_wake");
}

int __real_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    fault_pause++;
    int result = __real_os_park(SHADOW_REAL(word), expected, timeout_ns, waits);
    fault_pause--;
    iblb_fault_point("os_park");
    return result;
}

uint64_t __real_os_clock_ns(void);
uint64_t __wrap_os_clock_ns(void);
uint64_t __wrap_os_clock_ns(void) {
    fault_pause++;
    uint64_t now = __real_os_clock_ns();
    fault_pause--;
    return now;
}
