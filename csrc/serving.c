/* serving.c: a program becomes a service: it serves a listener of the worker (iblb_serve).
 *
 * Which names there are the worker publishes; which one is served, and for which messages, stands in the program's slot. Two
 * programs cannot serve the same: who begins holds the lock that claims of slots are made under.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "include/iblbridge.h"
#include "json.h"

#define MS UINT64_C(1000000)
#define LISTENERS_PATIENCE_NS (5000 * MS) /* for a worker that has just started to say whom it listens for */
#define TURN_PATIENCE_NS (500 * MS)       /* for another process that holds the claim lock; who takes longer is stopped */
#define NOT_YET 1                         /* beside the codes of iblbridge.h */

struct listeners {
    uint32_t count;
    char names[MAX_LISTENERS][NAME_BYTES];
};

/* What the worker has published; false while it writes, and until a new one has written. */
static bool read_listeners(const struct segment *segment, struct listeners *listeners) {
    const struct listener_table *table = segment_listeners(segment);
    uint32_t before = load32_acquire(&table->sequence);
    listeners->count = load32_relaxed(&table->count);
    shared_read(listeners->names, table->names, sizeof listeners->names);
    fence_acquire(); /* the names are read before the sequence is, once more */
    if (before % 2 || listeners->count > MAX_LISTENERS || load32_acquire(&table->sequence) != before)
        return false;
    for (uint32_t i = 0; i < listeners->count; i++)
        listeners->names[i][NAME_BYTES - 1] = '\0';
    return true;
}

bool serving_is_listened(const struct handle *handle) {
    struct listeners listeners;
    if (!handle->alive || !read_listeners(&handle->segment, &listeners))
        return true;
    for (uint32_t i = 0; i < listeners.count; i++)
        if (strcmp(listeners.names[i], handle->serving.service) == 0)
            return true;
    return false;
}

static void offer_listeners(const struct listeners *listeners, char *text, size_t room) {
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < listeners->count && at + NAME_BYTES + 2 < room; i++) /* no half of a name */
        if (utf8_check(listeners->names[i], strlen(listeners->names[i])) == strlen(listeners->names[i]))
            at += (size_t)snprintf(text + at, room - at, "%s%s", at ? ", " : "", listeners->names[i]);
}

/* The listener that is meant, in `name`. IBLB_E_SERVICE; NOT_YET if the worker has not said yet whom it listens for. */
static int choose_listener(struct handle *handle, const char *service, char name[NAME_BYTES], struct problem *problem) {
    struct listeners listeners;
    char offer[PROBLEM_BYTES / 2];
    bool readable = read_listeners(&handle->segment, &listeners), named = !text_is_none(service);
    snprintf(name, NAME_BYTES, "%s", named ? service : readable && listeners.count == 1 ? listeners.names[0] : "");
    if (!readable && handle->alive) {
        problem_set(problem, IBLB_E_SERVICE, "The worker has not said yet under which names it listens. Serve again when it has started.");
        return NOT_YET;
    }
    if (!handle->alive && *name)
        return IBLB_OK; /* the next worker may listen for others than the one before */
    if (!readable || listeners.count == 0)
        return problem_set(problem, IBLB_E_SERVICE,
                           "The worker listens for nobody. Start it so: iblbridge serve --segment %s --listen cameras=udp://:11001.",
                           handle->segment_name);
    for (uint32_t i = 0; i < listeners.count; i++)
        if (*name && strcmp(listeners.names[i], name) == 0)
            return IBLB_OK;
    offer_listeners(&listeners, offer, sizeof offer);
    if (!named)
        return problem_set(problem, IBLB_E_SERVICE, "The worker listens under several names: say which one of %s.", offer);
    return problem_set(problem, IBLB_E_SERVICE, "The worker does not listen as \"%s\"; there are: %s.", name, offer);
}

/* With the claim lock: does another living client serve it? */
static int served_by_another(const struct handle *handle, const char *service, struct problem *problem) {
    const struct segment *segment = &handle->segment;
    for (uint32_t i = 0; i < segment->sizes.slots; i++) {
        struct slot slot;
        char serving[NAME_BYTES], client[NAME_BYTES];
        segment_slot(segment, i, &slot);
        if (i == handle->slot_index || load32_acquire(&slot.header->state) == SLOT_FREE ||
            !(load32_acquire(&slot.header->serving_mask) & ALL_MESSAGES))
            continue;
        shared_read(serving, slot.header->serving, sizeof serving);
        shared_read(client, slot.header->client, sizeof client);
        serving[NAME_BYTES - 1] = client[NAME_BYTES - 1] = '\0';
        if (utf8_check(client, strlen(client)) != strlen(client))
            client[0] = '\0';
        if (strcmp(serving, service) == 0 && os_locked(segment->locks, slot_lock(i)))
            return problem_set(problem, IBLB_E_NAME_TAKEN,
                               "\"%s\" is served by the client \"%s\" of process %" PRIu32 " already. End it, or let it serve no more.",
                               service, client, load32_relaxed(&slot.header->pid));
    }
    return IBLB_OK;
}

/* The name is written while the mask says that nothing is served; the count above it tells one reader's two looks
 * apart. */
static void write_serving(struct handle *handle, const char *service, uint32_t mask) {
    struct serving *serving = &handle->serving;
    struct slot_header *header = handle->slot.header;
    uint32_t changes = serving->mask & ~(uint32_t)ALL_MESSAGES;
    if (mask && strcmp(serving->service, service) != 0) {
        char name[NAME_BYTES] = "";
        memcpy(name, service, strlen(service));
        changes += ALL_MESSAGES + 1;
        store32_release(&header->serving_mask, changes);
        fence_seq_cst(); /* the mask is gone before the name changes; pairs with the fence in serves() */
        shared_write(header->serving, name, sizeof name);
        memcpy(serving->service, name, sizeof name);
    }
    serving->mask = (changes + ALL_MESSAGES + 1) | mask;
    store32_release(&header->serving_mask, serving->mask);
    bell_ring(&handle->segment.header->worker_bell, &handle->segment.waits);
}

/* With the mutex held. NOT_YET: worth trying again. */
static int serve_once(struct handle *handle, const char *service, int mask, bool out_of_turn, struct problem *problem) {
    char name[NAME_BYTES] = "";
    int code = handle_check_served(handle, os_clock_ns(), problem);
    if (code == IBLB_OK) {
        handle_worker_alive(handle, os_clock_ns(), true);
        code = mask ? choose_listener(handle, service, name, problem) : IBLB_OK;
    }
    if (code != IBLB_OK)
        return code;
    if (mask) {
        int locked = os_lock(handle->segment.locks, claim_lock()); /* one at a time, so that two cannot serve the same */
        if (locked == 0 && !out_of_turn) {
            problem_set(problem, IBLB_E_SYSTEM, "Another program is attaching and does not end.");
            return NOT_YET;
        }
        code = served_by_another(handle, name, problem);
        if (code == IBLB_OK)
            write_serving(handle, name, (uint32_t)mask);
        if (locked == 1)
            os_unlock(handle->segment.locks, claim_lock());
    } else {
        write_serving(handle, name, 0);
    }
    if (code == IBLB_OK && !handle->alive)
        return problem_set(problem, IBLB_W_NO_WORKER,
                           "No worker serves segment %s; the next one asks this program. Start it: %s --segment %s.", handle->segment_name,
                           "iblbridge serve", handle->segment_name);
    return code;
}

static int check_service(const char *service, int mask, struct problem *problem) {
    size_t length = text_is_none(service) ? 0 : strlen(service);
    size_t valid = length ? utf8_check(service, length) : 0;
    if (mask & ~ALL_MESSAGES)
        return problem_set(problem, IBLB_E_MESSAGE, "%d holds a number that no master can ask; the sum of them all is %d.", mask,
                           ALL_MESSAGES);
    if (valid != length)
        return problem_set(problem, IBLB_E_UTF8, "The listener's name is not valid UTF-8 at offset %zu.", valid);
    if (length >= NAME_BYTES)
        return problem_set(problem, IBLB_E_SERVICE, "The worker has no listener whose name is longer than %u bytes.", NAME_BYTES - 1);
    return IBLB_OK;
}

static void give_up_serving(void *unused) {
    (void)unused;
    os_let_thread();
}

static int serve_in_time(int number, const char *service, int mask) {
    struct problem problem;
    for (uint64_t begun = os_clock_ns(), waited = 0;; waited = os_clock_ns() - begun) {
        int code;
        problem_clear(&problem);
        handles_hold_forks(); /* a lock is taken and dropped */
        struct handle *handle = handle_enter(number, &code);
        bool again = false;
        if (handle) {
            code = check_service(service, mask, &problem);
            if (code == IBLB_OK)
                code = serve_once(handle, service, mask, waited >= TURN_PATIENCE_NS, &problem);
            again = code == NOT_YET && waited < LISTENERS_PATIENCE_NS;
            code = handle_leave(handle, again ? IBLB_OK : problem.code, &problem);
        }
        handles_let_forks();
        if (!again)
            return waited && code == IBLB_E_HANDLE ? IBLB_E_CLOSED : code;
        os_end_if_asked(give_up_serving, NULL); /* nothing of ours is held meanwhile */
        os_sleep_ns(2 * MS);
    }
}

IBLB_API int iblb_serve(int handle, const char *service, int message_mask) {
    os_hold_thread();
    int code = serve_in_time(handle, service, message_mask);
    os_let_thread();
    return code;
}
