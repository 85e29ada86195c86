/* handles.c: see handles.h. */
#include "handles.h"

#include <stdlib.h>
#include <string.h>

#include "forks.h"
#include "include/iblbridge.h"
#include "remembered.h"

#define EXIT_PATIENCE_NS UINT64_C(100000000)

static os_mutex fork_mutex = OS_MUTEX_INIT; /* taken before table_mutex and before a handle's mutex */
static os_mutex table_mutex = OS_MUTEX_INIT;

/* Twice as many as may be open: one that is closed keeps its place until the last call in it has ended. */
#define PLACES (2 * MAX_HANDLES)
static struct handle *table[PLACES];
static int uses[PLACES];

/* Of each place: the number of the handle that is open there, and how many references there are to it, the table's own
 * included. A closed one has no number, and its last reference takes it out of the table. Private memory. */
static shared_u64 entrance[PLACES];
#define ENTRANCE(number, references) ((uint64_t)(number) << 32 | (references))

static int number_of(int place) {
    return (uses[place] & 0xfffff) * PLACES + place + 1;
}
static int place_of(int number) {
    return (int)((unsigned)(number - 1) % PLACES);
}

static bool is_open(int number) {
    return load64_acquire(&entrance[place_of(number)]) >> 32 == (uint32_t)number;
}

/* With the number still there: one reference more, or the number and the table's own reference gone. False: it is not
 * there. */
static bool come_in(int number) {
    shared_u64 *word = &entrance[place_of(number)];
    for (uint64_t now; (now = load64_acquire(word)) >> 32 == (uint32_t)number;)
        if (swap_if64(word, now, now + 1))
            return true;
    return false;
}
static bool shut(int number) {
    shared_u64 *word = &entrance[place_of(number)];
    for (uint64_t now; (now = load64_acquire(word)) >> 32 == (uint32_t)number;)
        if (swap_if64(word, now, (uint32_t)now - 1))
            return true;
    return false;
}

/* --- fork --- */

void handles_before_fork(void) {
    os_mutex_lock(&fork_mutex);
    os_mutex_lock(&table_mutex);
}
void handles_after_fork(void) {
    os_mutex_unlock(&table_mutex);
    os_mutex_unlock(&fork_mutex);
}

/* The mapping is not there in the child and the locks must not survive in it; closing our copies leaves the parent's locks alone. */
void handles_in_child(void) {
    for (int place = 0; place < PLACES; place++) {
        struct handle *handle = table[place];
        store64_relaxed(&entrance[place], 0);
        if (handle && !handle->forked) {
            handle->forked = true;
            os_close(handle->segment.locks);
            os_close(handle->segment.file);
        }
    }
    handles_after_fork();
}

void handles_hold_forks(void) {
    if (!OS_FORKS)
        return;
    forks_watch();
    os_mutex_lock(&fork_mutex);
}
void handles_let_forks(void) {
    if (OS_FORKS)
        os_mutex_unlock(&fork_mutex);
}

/* --- the table --- */

/* Not so if a signal's handler calls exit in the middle of a call of its own thread. */
static bool comes_free(os_mutex *mutex) {
    uint64_t until = os_clock_ns() + EXIT_PATIENCE_NS;
    while (!os_mutex_try(mutex)) {
        if (os_clock_ns() > until)
            return false;
        os_sleep_ns(EXIT_PATIENCE_NS / 100);
    }
    os_mutex_unlock(mutex);
    return true;
}

/* Runs at exit and when the library is unloaded. Nobody has said that all is well: to the worker these clients are lost. What cannot be
 * closed is left to the kernel, for the process ends. */
static void close_all(void) {
    if (!comes_free(&fork_mutex) || !comes_free(&table_mutex))
        return;
    for (int place = 0; place < PLACES; place++) {
        struct handle *handle = table[place];
        if (handle && is_open(handle->number) && comes_free(&handle->mutex))
            handle_close(handle->number, CLOSED_AS_LOST);
    }
}

int handle_add(struct handle *handle, struct problem *problem) {
    int place = PLACES, open = 0;
    os_mutex_lock(&table_mutex);
    for (int i = PLACES; i-- > 0;) {
        if (!table[i] || table[i]->forked) /* a parent's handle is forgotten when its place is needed */
            place = i;
        else
            open += is_open(table[i]->number);
    }
    bool room = open < MAX_HANDLES && place < PLACES;
    if (room) {
        uses[place]++;
        handle->number = number_of(place);
        table[place] = handle;
        store64_release(&entrance[place], ENTRANCE(handle->number, 1));
        os_at_unload(close_all);
    }
    os_mutex_unlock(&table_mutex);
    return room ? IBLB_OK : problem_standard(problem, IBLB_E_HANDLES);
}

/* Why it is not open. */
static int not_open(int number) {
    os_mutex_lock(&table_mutex);
    const struct handle *handle = number > 0 ? table[place_of(number)] : NULL;
    int code = handle && handle->forked && handle->number == number && !handle->closed ? IBLB_E_FORKED : IBLB_E_HANDLE;
    os_mutex_unlock(&table_mutex);
    struct problem problem;
    problem_standard(&problem, code);
    return problem_remember(&problem);
}

struct handle *handle_hold(int number, int *code) {
    os_defer_end();
    *code = IBLB_OK;
    if (number > 0 && come_in(number))
        return table[place_of(number)]; /* stays there until our reference goes */
    *code = not_open(number);
    os_allow_end();
    return NULL;
}

/* The last reference to a closed one is gone. */
static __attribute__((noinline)) void take_out(struct handle *handle) {
    os_hold_thread(); /* it closes files */
    os_mutex_lock(&table_mutex);
    table[place_of(handle->number)] = NULL;
    os_mutex_unlock(&table_mutex);
    handle_free(handle);
    os_let_thread();
}

static inline void drop(struct handle *handle) {
    if (add64(&entrance[place_of(handle->number)], UINT64_MAX) == 1)
        take_out(handle);
    os_allow_end();
}

void handle_drop(struct handle *handle) {
    drop(handle);
}

int handle_references(const struct handle *handle) {
    return (int)(uint32_t)load64_acquire(&entrance[place_of(handle->number)]);
}

struct handle *handle_enter(int number, int *code) {
    struct handle *handle = handle_hold(number, code);
    if (handle)
        os_mutex_lock_held(&handle->mutex);
    return handle;
}

int handle_leave(struct handle *handle, int code, const struct problem *problem) {
    if (code != IBLB_OK)
        handle->last = *problem;
    os_mutex_unlock_held(&handle->mutex);
    drop(handle);
    return code;
}

void handle_free(struct handle *handle) {
    inbox_clear(&handle->inbox);
    segment_close(&handle->segment, 0);
    os_cond_destroy(&handle->changed);
    os_mutex_destroy(&handle->mutex);
    free(handle);
}

/* Ends the handle's life in the segment; those who still wait on it are woken and find it closed. The worker frees the slot. */
static void leave(struct handle *handle, enum slot_end how) {
    struct segment *segment = &handle->segment;
    os_mutex_lock(&handle->mutex);
    handle->closed = true;
    store32_release(&handle->slot.header->closing, (uint32_t)how);
    os_unlock(segment->locks, slot_lock(handle->slot_index)); /* at once, also if a child that is being forked still has our descriptor */
    os_unlock(segment->locks, slot_guard(handle->slot_index));
    os_close(segment->locks);
    segment->locks = OS_NO_FILE;
    bell_ring(&segment->header->worker_bell, &segment->waits);
    bell_wake(&handle->slot.header->client_bell, &segment->waits);
    os_cond_broadcast(&handle->changed);
    os_mutex_unlock(&handle->mutex);
}

int handle_close(int number, enum slot_end how) {
    int code;
    struct handle *handle = handle_hold(number, &code);
    if (!handle)
        return code;
    handles_hold_forks();
    bool ours = shut(number); /* only one of two threads that close at once */
    if (ours)
        leave(handle, how);
    handles_let_forks();
    handle_drop(handle);
    return ours ? IBLB_OK : IBLB_E_HANDLE;
}

void handle_close_same(const char *segment_name, const char *client) {
    int number = 0;
    os_mutex_lock(&table_mutex);
    for (int place = 0; place < PLACES; place++) {
        const struct handle *handle = table[place];
        if (handle && is_open(handle->number) && strcmp(handle->segment_name, segment_name) == 0 && strcmp(handle->client, client) == 0)
            number = handle->number;
    }
    os_mutex_unlock(&table_mutex);
    if (number)
        handle_close(number, CLOSED_IN_ORDER);
}
