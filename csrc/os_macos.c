/* os_macos.c: segments in the user's cache directory, os_sync_wait_on_address, clocks. The rest: os_posix.c.
 *
 * Compiled and linked for both kinds of Mac, and never run on one. */
#define _DARWIN_C_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libproc.h>
#include <mach/vm_inherit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sysctl.h>
#include <unistd.h>

#include "layout.h"
#include "os_posix.h"

/* --- threads --- */

void os_cond_init(os_cond *cond) {
    pthread_cond_init(cond, NULL);
}
void os_cond_wait(os_cond *cond, os_mutex *mutex, int64_t timeout_ns) {
    struct timespec span = posix_timespec((uint64_t)(timeout_ns > 0 ? timeout_ns : 1)); /* what 0 does is not documented */
    os_hold_thread();
    pthread_cond_timedwait_relative_np(cond, mutex, &span); /* by mach_absolute_time */
    os_let_thread();
}

/* --- clocks --- */

uint64_t os_clock_ns(void) {
    return posix_clock_ns(CLOCK_UPTIME_RAW); /* mach_absolute_time in ns, as Python's perf_counter_ns is */
}
uint64_t os_asleep_ns(uint64_t likely) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 3 && least > likely; i++) {
        uint64_t awake = posix_clock_ns(CLOCK_UPTIME_RAW), asleep = posix_clock_ns(CLOCK_MONOTONIC_RAW) - awake; /* mach_continuous_time */
        least = asleep < least ? asleep : least;
    }
    return least;
}

/* --- process, machine --- */

int os_process_name(uint32_t pid, char *text, size_t capacity) {
    char name[2 * MAXCOMLEN + 1]; /* a shorter one is refused */
    if (proc_name((int)pid, name, sizeof name) <= 0)
        return -1;
    snprintf(text, capacity, "%.*s", 2 * MAXCOMLEN, name);
    return 0;
}

uint64_t os_random(void) {
    uint64_t value;
    arc4random_buf(&value, sizeof value);
    return value;
}

bool os_boot_id(char id[40]) {
    size_t bytes = 39;
    memset(id, 0, 40);
    if (sysctlbyname("kern.bootsessionuuid", id, &bytes, NULL, 0) == 0)
        return true;
    snprintf(id, 40, "unknown");
    return false;
}

/* --- files --- */

/* Not the directory for temporary files: there the system deletes what nobody has opened for three days. */
int posix_default_directory(char *text, size_t capacity) {
    char cache[PATH_BYTES]; /* ends with a slash */
    size_t bytes = confstr(_CS_DARWIN_USER_CACHE_DIR, cache, sizeof cache);
    if (bytes == 0 || bytes > sizeof cache)
        return snprintf(text, capacity, "/tmp/iblbridge-%u", (unsigned)getuid());
    return snprintf(text, capacity, "%siblbridge", cache);
}

const char *posix_unfit(const char *path) {
    struct statfs system;
    if (statfs(path, &system) != 0)
        return NULL;
    if (!(system.f_flags & MNT_LOCAL))
        return UNFIT_NETWORK;
    return strcmp(system.f_fstypename, "msdos") == 0 || strcmp(system.f_fstypename, "exfat") == 0 ? UNFIT_FAT : NULL;
}

int posix_allocate(int file, uint64_t bytes) {
    fstore_t room = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE, .fst_length = (off_t)bytes};
    int failed;
    do
        failed = fcntl(file, F_PREALLOCATE, &room) == -1 ? errno : 0;
    while (failed == EINTR);
    return failed ? failed : ftruncate(file, (off_t)bytes) == 0 ? 0 : errno;
}

void posix_keep_from_child(void *memory, size_t bytes) {
    minherit(memory, bytes, VM_INHERIT_NONE);
}

/* --- waiting --- */

/* From os/os_sync_wait_on_address.h and os/clock.h; macOS 14.4 and later. */
#define SHARED 1u
#define MACH_ABSOLUTE_TIME 32u

static union {
    void *found;
    int (*call)(void *address, uint64_t value, size_t size, uint32_t flags, uint32_t clock, uint64_t timeout_ns);
} wait_on_address;
static union {
    void *found;
    int (*call)(void *address, size_t size, uint32_t flags);
} wake_by_address;

__attribute__((constructor)) static void look_up(void) {
    wait_on_address.found = dlsym(RTLD_DEFAULT, "os_sync_wait_on_address_with_timeout");
    wake_by_address.found = dlsym(RTLD_DEFAULT, "os_sync_wake_by_address_all");
}

int os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    if (waits->mechanism != WAIT_ADDRESS || !wait_on_address.found || timeout_ns == 0)
        return posix_poll(word, expected, timeout_ns);
    if (wait_on_address.call((void *)word, expected, sizeof *word, SHARED, MACH_ABSOLUTE_TIME, timeout_ns) >= 0)
        return 1;
    if (errno == ETIMEDOUT)
        return 0;
    if (errno == EINTR)
        return -1;
    return posix_poll(word, expected, timeout_ns); /* slower, not wrong */
}

void os_wake(shared_u32 *word, const struct os_waits *waits) {
    if (waits->mechanism == WAIT_ADDRESS && wake_by_address.found)
        wake_by_address.call((void *)word, sizeof *word, SHARED);
}

uint32_t posix_wait_mechanism(void) {
    return wait_on_address.found && wake_by_address.found ? WAIT_ADDRESS : WAIT_POLL;
}
