/* shadow.c: finds accesses of shared memory that go round atomics.h.
 *
 * os_map's result is moved: the library gets the address of a range that nobody may touch, and only the functions of atomics.h (in a copy
 * of that file, see test_points_are_complete.py) and the system calls on the bell's word know how to get from there to the memory itself.
 * Whoever dereferences a pointer into the segment elsewhere dies of SIGSEGV, and its address is told.
 */
#define _GNU_SOURCE
#include "shadow.h"

#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os.h"

#define MOST 16

static struct {
    uintptr_t shown, real;
    size_t bytes;
} ranges[MOST];
static int range_count;

void *shadow_real(const volatile void *pointer) {
    uintptr_t at = (uintptr_t)pointer;
    for (int i = 0; i < range_count; i++)
        if (at - ranges[i].shown < ranges[i].bytes)
            return (void *)(ranges[i].real + (at - ranges[i].shown)); /* NOLINT: that is what it is for */
    return (void *)at;
}

void *__real_os_map(os_file file, size_t bytes);
void *__wrap_os_map(os_file file, size_t bytes);
void *__wrap_os_map(os_file file, size_t bytes) {
    void *real = __real_os_map(file, bytes);
    void *shown = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!real || shown == MAP_FAILED || range_count == MOST)
        return NULL;
    ranges[range_count].shown = (uintptr_t)shown;
    ranges[range_count].real = (uintptr_t)real;
    ranges[range_count++].bytes = bytes;
    return shown;
}

/* The range stays forbidden for ever, so that an address is never given out twice. */
void __real_os_unmap(void *memory, size_t bytes);
void __wrap_os_unmap(void *memory, size_t bytes);
void __wrap_os_unmap(void *memory, size_t bytes) {
    __real_os_unmap(shadow_real(memory), bytes);
}

static void caught(int number, siginfo_t *info, void *context) {
    void *frames[8];
    (void)number, (void)info, (void)context;
    int count = backtrace(frames, 8);
    for (int i = 2; i < count; i++) /* without this function and the signal's own frame */
        dprintf(STDERR_FILENO, "%p\n", frames[i]);
    _exit(99);
}

__attribute__((constructor)) static void watch(void) {
    void *frames[1];
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    backtrace(frames, 1); /* loads what it needs now */
    sigaction(SIGSEGV, &action, NULL);
}
