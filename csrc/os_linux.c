/* os_linux.c: segments in /dev/shm, futexes, clocks. The rest: os_posix.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "layout.h"
#include "os_posix.h"

/* --- threads --- */

void os_cond_init(os_cond *cond) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}
void os_cond_wait(os_cond *cond, os_mutex *mutex, int64_t timeout_ns) {
    struct timespec until = posix_timespec(os_clock_ns() + (uint64_t)(timeout_ns > 0 ? timeout_ns : 0));
    os_hold_thread();
    pthread_cond_timedwait(cond, mutex, &until);
    os_let_thread();
}

/* --- clocks --- */

uint64_t os_clock_ns(void) {
    return posix_clock_ns(CLOCK_MONOTONIC);
}
uint64_t os_asleep_ns(uint64_t likely) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 3 && least > likely; i++) {
        uint64_t awake = posix_clock_ns(CLOCK_MONOTONIC), asleep = posix_clock_ns(CLOCK_BOOTTIME) - awake;
        least = asleep < least ? asleep : least;
    }
    return least;
}

/* --- process, machine --- */

static int read_text(const char *path, char *text, size_t capacity) {
    int file = posix_open(path, O_RDONLY);
    if (file < 0)
        return -1;
    ssize_t bytes = read(file, text, capacity - 1);
    close(file);
    if (bytes < 0)
        return -1;
    text[bytes] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return 0;
}

int os_process_name(uint32_t pid, char *text, size_t capacity) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    return read_text(path, text, capacity);
}

uint64_t os_random(void) {
    uint64_t value = 0;
    if (syscall(SYS_getrandom, &value, sizeof value, 1 /* GRND_NONBLOCK */) != (long)sizeof value) /* the function came with glibc 2.25 */
        value = os_wall_ns() ^ ((uint64_t)getpid() << 40); /* early in the boot; it only has to differ from its neighbours */
    return value;
}

bool os_boot_id(char id[40]) {
    memset(id, 0, 40);
    if (read_text("/proc/sys/kernel/random/boot_id", id, 40) == 0)
        return true;
    snprintf(id, 40, "unknown");
    return false;
}

/* --- files --- */

int posix_default_directory(char *text, size_t capacity) {
    return snprintf(text, capacity, "/dev/shm/iblbridge-%u", (unsigned)getuid());
}

/* linux/magic.h, and fs/exfat. */
static const struct {
    uint32_t type;
    const char *name;
} unfit_file_systems[] = {
    {0x6969, UNFIT_NETWORK},     {0x517B, UNFIT_NETWORK},     {0xFF534D42, UNFIT_NETWORK},
    {0xFE534D42, UNFIT_NETWORK}, {0x5346414F, UNFIT_NETWORK}, {0x00C36400, UNFIT_NETWORK},
    {0x0BD00BD3, UNFIT_NETWORK}, {0x4D44, UNFIT_FAT},         {0x2011BAB0, UNFIT_FAT},
};

const char *posix_unfit(const char *path) {
    struct statfs system;
    if (statfs(path, &system) == 0)
        for (size_t i = 0; i < sizeof unfit_file_systems / sizeof unfit_file_systems[0]; i++)
            if ((uint32_t)system.f_type == unfit_file_systems[i].type)
                return unfit_file_systems[i].name;
    return NULL;
}

int posix_allocate(int file, uint64_t bytes) {
    int failed;
    do
        failed = posix_fallocate(file, 0, (off_t)bytes);
    while (failed == EINTR); /* a signal, perhaps an interval timer's: not a lack of room */
    return failed;
}

void posix_keep_from_child(void *memory, size_t bytes) {
    madvise(memory, bytes, MADV_DONTFORK);
}

/* --- waiting --- */

/* What the call takes for a span of time. Not struct timespec: on a 32-bit system whose time_t has 64 bits that is larger,
 * and the kernel would read its halves. */
struct span {
    long seconds, ns;
};

static int futex(shared_u32 *word, int operation, uint32_t value, const struct span *timeout) {
    return (int)syscall(SYS_futex, word, operation, value, timeout, NULL, 0); /* not _PRIVATE: the word is shared between processes */
}

int os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    if (waits->mechanism != WAIT_FUTEX)
        return posix_poll(word, expected, timeout_ns);
    struct span timeout = {(long)(timeout_ns / NS), (long)(timeout_ns % NS)};
    if (futex(word, FUTEX_WAIT, expected, &timeout) == 0 || errno == EAGAIN)
        return 1;
    if (errno == ETIMEDOUT)
        return 0;
    if (errno == EINTR)
        return -1;
    return posix_poll(word, expected, timeout_ns); /* futexes forbidden (a sandbox): slower, not wrong */
}

void os_wake(shared_u32 *word, const struct os_waits *waits) {
    if (waits->mechanism == WAIT_FUTEX)
        futex(word, FUTEX_WAKE, INT32_MAX, NULL);
}

uint32_t posix_wait_mechanism(void) {
    return WAIT_FUTEX;
}
