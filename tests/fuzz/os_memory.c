/* os_memory.c: see os_memory.h. */
#include "os_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/iblbridge.h"
#include "layout.h"

#define FILES 64
#define OPENS 8192 /* a number is not used again: what is closed and used all the same is noticed */
#define LOCKS 512

struct file {
    unsigned char *bytes;
    uint64_t size;
    char path[PATH_BYTES]; /* "": unlinked */
};

struct lock {
    os_file fd; /* 0: none */
    const struct file *file;
    uint64_t offset;
};

struct memory_faults memory_faults;
uint64_t memory_clock, memory_asleep;
char memory_boot[40];

static struct file files[FILES];
static int file_count;
static struct file *opens[OPENS];
static int open_count;
static struct lock locks[LOCKS];
static int lock_count;
static uint64_t random_state;

static void broken(const char *what) {
    fprintf(stderr, "os_memory: %s\n", what);
    abort();
}

static int fails(int *countdown) {
    if (*countdown < 0)
        return 1;
    return *countdown > 0 && --*countdown == 0;
}

/* The last file's memory is kept for the next one of its size: fetching new pages takes longer than all the rest. */
static unsigned char *kept;
static uint64_t kept_size;

static void spare(unsigned char *bytes, uint64_t size) {
    free(kept);
    kept = bytes;
    kept_size = size;
}

static unsigned char *fetch(uint64_t size) {
    unsigned char *bytes = kept;
    if (kept && kept_size == size)
        kept = NULL;
    else if (posix_memalign((void **)&bytes, 4096, size ? size : 1) != 0)
        broken("no memory");
    memset(bytes, 0, size);
    return bytes;
}

void memory_reset(void) {
    for (int i = 0; i < file_count; i++)
        if (files[i].bytes)
            spare(files[i].bytes, files[i].size);
    memset(files, 0, sizeof files[0] * (size_t)file_count);
    memset(opens, 0, sizeof opens[0] * (size_t)open_count);
    memset(locks, 0, sizeof locks[0] * (size_t)lock_count);
    file_count = open_count = lock_count = 0;
    memory_clock = UINT64_C(1000000000000);
    memory_asleep = 0;
    random_state = 1;
    memory_faults = (struct memory_faults){0};
    snprintf(memory_boot, sizeof memory_boot, "a boot of the memory");
}

static struct file *find(const char *path) {
    for (int i = 0; i < file_count; i++)
        if (files[i].path[0] && strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}

static struct file *add(const char *path, uint64_t size) {
    if (file_count == FILES)
        broken("too many files");
    struct file *file = &files[file_count++];
    file->bytes = fetch(size);
    file->size = size;
    snprintf(file->path, sizeof file->path, "%s", path);
    return file;
}

unsigned char *memory_file(const char *path, uint64_t *bytes) {
    struct file *file = find(path);
    if (file && bytes)
        *bytes = file->size;
    return file ? file->bytes : NULL;
}

int memory_locked(const char *path, uint64_t offset) {
    const struct file *file = find(path);
    for (int i = 0; file && i < lock_count; i++)
        if (locks[i].fd && locks[i].file == file && locks[i].offset == offset)
            return 1;
    return 0;
}

void memory_put(const char *path, const void *bytes, uint64_t size) {
    os_unlink(path);
    struct file *file = add(path, size);
    if (size)
        memcpy(file->bytes, bytes, size);
}

static struct file *opened(os_file file) {
    if (file <= 0 || file > open_count || !opens[file - 1])
        broken("a file that is not open is used");
    return opens[file - 1];
}

static int open_file(struct file *file) {
    if (open_count == OPENS)
        broken("too many open files");
    opens[open_count++] = file;
    return open_count;
}

/* --- os.h: threads --- */

void os_hold_thread(void) {
}
void os_let_thread(void) {
}
shared_u32 posix_abrupt_threads;
void posix_defer_end(int type) {
    (void)type;
}
void posix_allow_end(void) {
}
void os_end_if_asked(void (*undo)(void *), void *argument) {
    (void)undo;
    (void)argument;
}
void os_mutex_init(os_mutex *mutex) {
    pthread_mutex_init(mutex, NULL);
}
void os_mutex_destroy(os_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}
void os_mutex_lock(os_mutex *mutex) {
    pthread_mutex_lock(mutex);
}
bool os_mutex_try(os_mutex *mutex) {
    return pthread_mutex_trylock(mutex) == 0;
}
void os_mutex_unlock(os_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}
void os_cond_init(os_cond *cond) {
    pthread_cond_init(cond, NULL);
}
void os_cond_destroy(os_cond *cond) {
    pthread_cond_destroy(cond);
}
void os_cond_broadcast(os_cond *cond) {
    pthread_cond_broadcast(cond);
}
void os_cond_wait(os_cond *cond, os_mutex *mutex, int64_t timeout_ns) {
    (void)cond;
    (void)mutex;
    memory_clock += timeout_ns > 0 ? (uint64_t)timeout_ns : 0;
}
void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    (void)before;
    (void)parent;
    (void)child;
}

void os_at_unload(void (*function)(void)) {
    (void)function;
}

/* --- os.h: the network --- */

int os_send_datagram(intptr_t socket, uint32_t address, int port, const void *payload, int bytes) {
    (void)socket, (void)address, (void)port, (void)payload, (void)bytes;
    return 0;
}

/* --- clocks --- */

uint64_t os_clock_ns(void) {
    return memory_clock += 100;
}
uint64_t os_wall_ns(void) {
    return memory_clock + UINT64_C(1700000000000000000);
}
uint64_t os_asleep_ns(uint64_t likely) {
    (void)likely;
    return memory_asleep;
}
void os_sleep_ns(uint64_t time) {
    memory_clock += time;
}

/* --- this process, this machine --- */

uint32_t os_pid(void) {
    return 4242;
}
int os_process_name(uint32_t pid, char *text, size_t capacity) {
    (void)pid;
    snprintf(text, capacity, "somebody");
    return 0;
}
uint64_t os_random(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return random_state;
}
bool os_boot_id(char id[40]) {
    memcpy(id, memory_boot, sizeof memory_boot);
    return true;
}

/* --- files --- */

int os_directory(char directory[PATH_BYTES], struct problem *problem) {
    (void)problem;
    snprintf(directory, PATH_BYTES, "/memory");
    return IBLB_OK;
}

void os_for_each_file(const char *directory, void (*visit)(const char *file, void *context), void *context) {
    size_t length = strlen(directory);
    for (int i = 0; i < file_count; i++)
        if (strncmp(files[i].path, directory, length) == 0 && files[i].path[length] == '/')
            visit(files[i].path + length + 1, context);
}

int os_segment_path(const char *name, bool create, char path[PATH_BYTES], struct problem *problem) {
    (void)create;
    (void)problem;
    snprintf(path, PATH_BYTES, "/memory/%s", name);
    return IBLB_OK;
}

int os_open(const char *path, os_file *file, struct problem *problem) {
    struct file *found = find(path);
    *file = OS_NO_FILE;
    if (fails(&memory_faults.open))
        return problem_set(problem, IBLB_E_SYSTEM, "%s cannot be opened.", path);
    if (!found)
        return problem_set(problem, IBLB_E_NO_SEGMENT, "There is no segment at %s.", path);
    *file = open_file(found);
    return IBLB_OK;
}

int os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem) {
    *file = OS_NO_FILE;
    if (fails(&memory_faults.create))
        return problem_set(problem, IBLB_E_MEMORY, "There is no room at %s.", path);
    *file = open_file(add(path, bytes));
    return IBLB_OK;
}

int os_publish(const char *temporary, const char *path) {
    struct file *file = find(temporary);
    int fail = fails(&memory_faults.publish_fails), late = fails(&memory_faults.publish_late);
    if (fail || late || find(path)) {
        os_unlink(temporary);
        return fail ? -1 : 0;
    }
    snprintf(file->path, sizeof file->path, "%s", path);
    return 1;
}

const char *os_file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int os_rename(const char *from, const char *to) {
    struct file *file = find(from);
    if (fails(&memory_faults.unlink))
        return -1;
    if (file)
        snprintf(file->path, sizeof file->path, "%s", to);
    return 0;
}

int os_unlink(const char *path) {
    struct file *file = find(path);
    if (fails(&memory_faults.unlink))
        return -1;
    if (file)
        file->path[0] = '\0';
    return 0;
}

void os_close(os_file file) {
    if (file == OS_NO_FILE)
        return;
    opened(file);
    opens[file - 1] = NULL;
    for (int i = 0; i < lock_count; i++)
        if (locks[i].fd == file)
            locks[i].fd = 0;
}

uint64_t os_size(os_file file) {
    return opened(file)->size;
}

static int within(const struct file *file, uint64_t offset, size_t bytes) {
    return offset <= file->size && bytes <= file->size - offset;
}

int os_read(os_file file, uint64_t offset, void *to, size_t bytes) {
    if (fails(&memory_faults.read) || !within(opened(file), offset, bytes))
        return -1;
    memcpy(to, opened(file)->bytes + offset, bytes);
    return 0;
}
int os_write(os_file file, uint64_t offset, const void *from, size_t bytes) {
    if (!within(opened(file), offset, bytes))
        return -1;
    memcpy(opened(file)->bytes + offset, from, bytes);
    return 0;
}

bool os_same_file(os_file file, const char *path) {
    return !fails(&memory_faults.same_file) && find(path) == opened(file);
}

bool os_same_open(os_file one, os_file other) {
    return !fails(&memory_faults.same_open) && opened(one) == opened(other);
}

void *os_map(os_file file, size_t bytes) {
    if (fails(&memory_faults.map))
        return NULL;
    if (bytes > opened(file)->size)
        broken("a mapping reaches beyond the file");
    return opened(file)->bytes;
}

void os_unmap(void *memory, size_t bytes) {
    (void)memory;
    (void)bytes;
}

int os_guard(void *memory, size_t bytes, shared_u32 *truncated) {
    (void)memory;
    (void)bytes;
    (void)truncated;
    return 0;
}
void os_unguard(void *memory) {
    (void)memory;
}

/* --- locks --- */

static os_file holder(const struct file *file, uint64_t offset) {
    for (int i = 0; i < lock_count; i++)
        if (locks[i].fd && locks[i].file == file && locks[i].offset == offset)
            return locks[i].fd;
    return 0;
}

int os_lock(os_file file, uint64_t offset) {
    if (fails(&memory_faults.lock))
        return -1;
    os_file by = holder(opened(file), offset);
    if (by == file)
        broken("it takes a lock that it has");
    if (by || fails(&memory_faults.held))
        return 0;
    int place = 0;
    while (place < lock_count && locks[place].fd)
        place++;
    if (place == LOCKS)
        broken("too many locks");
    lock_count = place == lock_count ? place + 1 : lock_count;
    locks[place] = (struct lock){file, opened(file), offset};
    return 1;
}

void os_unlock(os_file file, uint64_t offset) {
    opened(file);
    for (int i = 0; i < lock_count; i++)
        if (locks[i].fd == file && locks[i].offset == offset)
            locks[i].fd = 0;
}

bool os_locked(os_file file, uint64_t offset) {
    os_file by = holder(opened(file), offset);
    if (by == file)
        broken("it asks for a lock of its own");
    return by != 0;
}

/* --- waiting --- */

int os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    (void)waits;
    if (load32_acquire(word) != expected)
        return 1;
    memory_clock += timeout_ns;
    return 0;
}
void os_wake(shared_u32 *word, const struct os_waits *waits) {
    (void)word;
    (void)waits;
}
uint32_t os_wait_mechanism(void) {
    return WAIT_FUTEX;
}
void os_waits_open(struct os_waits *waits, uint32_t mechanism, uint64_t id, const void *memory) {
    *waits = (struct os_waits){mechanism, id, memory, NULL};
}
void os_waits_close(struct os_waits *waits) {
    (void)waits;
}
