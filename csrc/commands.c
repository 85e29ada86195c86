/* commands.c: send, wait, call, cancel.
 *
 * A command is checked completely before a byte of it is written, then written behind the tail, then published by one store. From then on
 * it is the worker's, but for one thing: its owner may swap PUBLISHED for CANCELLED, and whoever swaps first wins.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"
#include "json.h"
#include "nearest.h"

#define MS INT64_C(1000000)
#define DEFAULT_TTL_MS 10000
#define TEXT_BYTES (4u << 20) /* longest text that is looked at */

/* There are two copies of a send, one for JSON and one for msgpack, and each holds only what it needs. */
#define IN_EACH_CALLER static inline __attribute__((always_inline))

/* What a program wants to be sent, as it said it. */
struct wish {
    const char *services;
    const void *args; /* JSON text if the flags say so, or msgpack */
    int message, args_bytes, ttl_ms;
    uint32_t flags; /* enum command_flag */
};

/* The same, checked. */
struct arguments {
    const void *data; /* JSON text without a NUL, or msgpack */
    size_t bytes;
    uint32_t flag; /* COMMAND_JSON, or 0 for msgpack */
};

static const struct arguments no_arguments = {"\xc0", 1, 0}; /* nil */

/* --- checking what the caller gave --- */

static int check_message(int message, struct problem *problem) {
    if ((message >= IBLB_EXPINIT && message <= IBLB_ALYX && (message & (message - 1)) == 0) || message == IBLB_PING ||
        message == IBLB_SERVICES || message == IBLBW_RELOAD)
        return IBLB_OK;
    return problem_set(problem, IBLB_E_MESSAGE, "%d is no message. Use EXPINIT (1) to ALYX (128), PING (4096) or SERVICES (8192).",
                       message);
}

/* Of a text, at most as many as any may have. */
static size_t text_bytes(const char *text) {
    const char *end = memchr(text, '\0', TEXT_BYTES);
    return end ? (size_t)(end - text) : TEXT_BYTES;
}

static int check_json(const char *text, struct arguments *arguments, struct problem *problem) {
    *arguments = no_arguments;
    if (text_is_none(text))
        return IBLB_OK;
    size_t bytes = text_bytes(text), where;
    if (bytes == TEXT_BYTES)
        return problem_set(problem, IBLB_E_TOO_LARGE, "The arguments are longer than %u bytes.", TEXT_BYTES);
    where = utf8_check(text, bytes);
    if (where != bytes)
        return problem_set(problem, IBLB_E_UTF8, "The arguments are not valid UTF-8 at offset %zu. Convert the text.", where);
    const char *wrong = json_check(text, bytes, &where);
    if (wrong)
        return problem_set(problem, IBLB_E_JSON, "The arguments are not valid JSON at offset %zu: %s. A text stands in double quotes.",
                           where, wrong);
    *arguments = (struct arguments){text, bytes, COMMAND_JSON};
    return IBLB_OK;
}

IN_EACH_CALLER int check_msgpack(const unsigned char *data, int bytes, struct arguments *arguments, struct problem *problem) {
    size_t used, where;
    *arguments = no_arguments;
    if (bytes == 0)
        return IBLB_OK;
    if (bytes < 0 || !data)
        return problem_set(problem, IBLB_E_ARGUMENT, "args_bytes is negative, or args is NULL and args_bytes is not 0.");
    *arguments = (struct arguments){data, (size_t)bytes, 0};
    if (msgpack_is_simple(data, (size_t)bytes))
        return IBLB_OK;
    const char *wrong = msgpack_check(data, (size_t)bytes, &used, &where);
    if (!wrong && used != (size_t)bytes) {
        wrong = "there is more than one object.";
        where = used;
    }
    if (wrong)
        return problem_set(problem, IBLB_E_MSGPACK, "The arguments cannot be used at offset %zu: %s", where, wrong);
    return IBLB_OK;
}

IN_EACH_CALLER int check_arguments(const struct wish *wish, struct arguments *arguments, struct problem *problem) {
    if (wish->flags & COMMAND_JSON)
        return check_json(wish->args, arguments, problem);
    return check_msgpack(wish->args, wish->args_bytes, arguments, problem);
}

/* Is the name among those that the worker has published? Unreadable for a moment while it writes them: then say yes, it checks again. */
static bool known_service(const struct segment *segment, const char *name, size_t length) {
    const struct service_entry *entries = segment_services(segment);
    char known[SERVICE_NAME_BYTES];
    uint32_t before = load32_acquire(&segment->header->services_sequence);
    uint32_t count = load32_relaxed(&segment->header->services);
    if (before % 2 || count > MAX_SERVICES)
        return true;
    for (uint32_t i = 0; i < count; i++) {
        shared_read(known, entries[i].name, sizeof known);
        if (length < sizeof known && memcmp(known, name, length) == 0 && known[length] == '\0')
            return true;
    }
    fence_acquire(); /* the entries are read before the sequence is, once more */
    return load32_acquire(&segment->header->services_sequence) != before;
}

/* What there is in place of a service that there is not: the nearest name, and all names as far as there is room. */
static const char *offer_services(const struct segment *segment, const char *name, size_t length, char *text, size_t room) {
    const struct service_entry *entries = segment_services(segment);
    uint32_t count = load32_relaxed(&segment->header->services);
    char known[SERVICE_NAME_BYTES], best[SERVICE_NAME_BYTES] = "", all[PROBLEM_BYTES / 2] = "";
    size_t at = 0, least = UNLIKE;
    for (uint32_t i = 0; i < count && i < MAX_SERVICES; i++) {
        shared_read(known, entries[i].name, sizeof known);
        known[sizeof known - 1] = '\0';
        if (utf8_check(known, strlen(known)) != strlen(known))
            continue;
        size_t far = unlikeness(name, length, known);
        if (far < least) {
            least = far;
            memcpy(best, known, sizeof best);
        }
        if (at + strlen(known) + 3 <= sizeof all) /* no half of a name */
            at += (size_t)sprintf(all + at, "%s%s", at ? ", " : "", known);
    }
    snprintf(text, room, "%s%s%s: %s", least < UNLIKE ? "did you mean " : "", best, least < UNLIKE ? "? There are" : "there are",
             at ? all : "none");
    return text;
}

static const char *trim(const char *from, const char **to) {
    while (from < *to && (*from == ' ' || *from == '\t'))
        from++;
    while (*to > from && ((*to)[-1] == ' ' || (*to)[-1] == '\t'))
        (*to)--;
    return from;
}

static int check_services(struct handle *handle, const char *services, struct problem *problem) {
    char offer[PROBLEM_BYTES];
    size_t bytes = text_bytes(services), valid = utf8_check(services, bytes);
    if (valid != bytes)
        return problem_set(problem, IBLB_E_UTF8, "The services' names are not valid UTF-8 at offset %zu.", valid);
    for (const char *name = services; name <= services + bytes;) {
        const char *comma = memchr(name, ',', (size_t)(services + bytes - name));
        const char *next = comma ? comma : services + bytes, *end = next;
        name = trim(name, &end);
        if (end == name)
            return problem_set(problem, IBLB_E_SERVICE, "A name in the list of services \"%.200s\" is empty.", services);
        if (handle->alive && !known_service(&handle->segment, name, (size_t)(end - name)))
            return problem_set(
                problem, IBLB_E_SERVICE,
                "The worker has no service \"%.*s\"; %s. Check the name, or add it and reload the worker: iblbridge reload %s.",
                (int)(end - name < 200 ? end - name : 200), name,
                offer_services(&handle->segment, name, (size_t)(end - name), offer, sizeof offer), handle->segment_name);
        name = next + 1;
    }
    return IBLB_OK;
}

/* --- writing a command --- */

/* The head of a msgpack str of `length` bytes; returns how many bytes it takes. */
static uint32_t str_head(unsigned char head[5], size_t length) {
    head[0] = 0xdb;
    for (int i = 0; i < 4; i++)
        head[1 + i] = (unsigned char)(length >> (24 - 8 * i));
    return 5;
}

static size_t payload_bytes(size_t services, const struct arguments *arguments) {
    return 5 + services + (arguments->flag == COMMAND_JSON ? 5 : 0) + arguments->bytes;
}

IN_EACH_CALLER void write_payload(unsigned char *to, const char *services, size_t length, const struct arguments *arguments) {
    unsigned char head[5];
    shared_write(to, head, str_head(head, length));
    shared_write(to + 5, services, length);
    to += 5 + length;
    if (arguments->flag == COMMAND_JSON) {
        shared_write(to, head, str_head(head, arguments->bytes));
        to += 5;
    }
    shared_write(to, arguments->data, arguments->bytes);
}

/* With the mutex held. `entry`: where the response is to come, NULL for a notification. */
IN_EACH_CALLER int write_command(struct handle *handle, const struct wish *wish, const char *services, const struct arguments *arguments,
                                 uint64_t number, struct entry *entry, uint64_t now, struct problem *problem) {
    const struct ring own = handle->slot.command, *ring = &own; /* read once */
    struct slot_header *header = handle->slot.header;
    bool interrupt = wish->message == IBLB_EXPINTERRUPT;
    uint32_t keep = interrupt ? 0 : INTERRUPT_RESERVE;
    size_t length = services ? strlen(services) : 0, payload = payload_bytes(length, arguments);
    size_t largest = interrupt ? MAX_INTERRUPT_BYTES : ring_largest(ring, keep) - sizeof(struct command_record);
    if (payload > largest)
        return problem_set(problem, IBLB_E_TOO_LARGE, "The command takes %zu bytes; %zu is the most for %s.", payload, largest,
                           interrupt ? "an EXPINTERRUPT" : "this ring");
    struct ring_space space;
    enum ring_result room = ring_claim(ring, handle->command_tail, record_size(sizeof(struct command_record) + payload), keep, &space);
    if (room == RING_FULL)
        return problem_set(problem, IBLB_E_FULL, "The command ring is full of commands without an answer%s",
                           handle_worker_alive(handle, now, true) ? ". Wait for some; an EXPINTERRUPT still gets in."
                                                                  : ", and no worker lives. Start it.");
    if (room != RING_OK)
        return problem_standard(problem, IBLB_E_SEGMENT);
    handle->last_stamp = now > handle->last_stamp ? now : handle->last_stamp + 1; /* a client's stamps strictly increase */
    struct command_record record = {.header = {record_size(sizeof record + payload), RECORD_COMMAND},
                                    .control = STATE_PUBLISHED,
                                    .request = number,
                                    .stamp = handle->last_stamp,
                                    .ttl = wish->ttl_ms > 0 ? wish->ttl_ms * MS
                                           : wish->ttl_ms   ? -1
                                                            : DEFAULT_TTL_MS * MS,
                                    .generation = handle->generation,
                                    .message = wish->message,
                                    .flags = (wish->flags & COMMAND_NOTIFY) | arguments->flag,
                                    .payload_bytes = (uint32_t)payload};
    shared_write(space.record, &record, sizeof record);
    write_payload(space.record + sizeof record, services, length, arguments);
    handle->next_request = number + 1;
    store64_relaxed(&header->next_request, number); /* for the next owner of the slot */
    store64_relaxed(&header->last_stamp, record.stamp);
    if (entry)
        inbox_open(&handle->inbox, entry, number, space.position);
    ring_publish(ring, &space);
    handle->command_tail = space.next;
    if (bell_ring(&handle->segment.header->worker_bell, &handle->segment.waits))
        handle_look_for_worker(handle, now); /* a dead one stays parked */
    if (handle->alive)
        return IBLB_OK;
    if (handle_abandoned(handle, now, false)) {
        if (entry)
            inbox_free(&handle->inbox, entry);
        return problem_standard(problem, IBLB_E_STALE);
    }
    return problem_set(problem, IBLB_W_NO_WORKER, "No worker serves the segment; the command waits for one until it expires.");
}

/* --- send --- */

IN_EACH_CALLER int check_call(struct handle *handle, const char *services, int message, uint64_t now, struct problem *problem) {
    int code = handle_check_served(handle, now, problem);
    if (code == IBLB_OK)
        code = check_message(message, problem);
    if (code == IBLB_OK && services)
        code = check_services(handle, services, problem);
    return code;
}

/* With the mutex held. */
IN_EACH_CALLER int choose_and_write(struct handle *handle, const struct wish *wish, const char *services, const struct arguments *arguments,
                                    int *request, uint64_t now, struct problem *problem) {
    uint64_t chosen = handle->next_request;
    if (wish->flags & COMMAND_NOTIFY)
        return write_command(handle, wish, services, arguments, chosen, NULL, now, problem);
    struct entry *entry = NULL;
    if (wish->message == IBLB_EXPINTERRUPT || !inbox_crowded(&handle->inbox))
        entry = inbox_choose(&handle->inbox, &chosen);
    if (!entry)
        return problem_standard(problem, IBLB_E_TOO_MANY);
    int code = write_command(handle, wish, services, arguments, chosen, entry, now, problem);
    if (code >= 0)
        *request = inbox_request(chosen);
    return code;
}

/* The end of a call whose parameters are wrong; a wrong handle is worse. */
static int refuse(int number, const struct problem *problem) {
    int code;
    struct handle *handle = handle_enter(number, &code);
    return handle ? handle_leave(handle, problem->code, problem) : code;
}

static int need_request(int *request, struct problem *problem) {
    if (request) {
        *request = 0;
        return IBLB_OK;
    }
    return problem_set(problem, IBLB_E_ARGUMENT, "The place for the request number must not be NULL.");
}

/* The arguments are looked at before the handle's mutex is taken: they may be long. `request`: NULL for a notification. */
IN_EACH_CALLER int send_wish(int number, const struct wish *wish, int *request) {
    int no_handle;
    struct problem problem; /* whoever returns a code that is not IBLB_OK fills it in */
    struct arguments arguments;
    int code = wish->flags & COMMAND_NOTIFY ? IBLB_OK : need_request(request, &problem);
    if (code == IBLB_OK)
        code = check_arguments(wish, &arguments, &problem);
    if (code != IBLB_OK)
        return refuse(number, &problem);
    struct handle *handle = handle_enter(number, &no_handle);
    if (!handle)
        return no_handle;
    uint64_t now = os_clock_ns(); /* the one look at the clock: a part of what a send takes */
    const char *services = text_is_none(wish->services) ? NULL : wish->services;
    code = check_call(handle, services, wish->message, now, &problem);
    if (code == IBLB_OK)
        code = handle_drain(handle, &problem);
    if (code == IBLB_OK)
        code = choose_and_write(handle, wish, services, &arguments, request, now, &problem);
    return handle_leave(handle, code, &problem);
}

static int send_json(int handle, const char *services, int message, const char *args, int ttl_ms, uint32_t notify, int *request) {
    const struct wish wish = {services, args, message, 0, ttl_ms, COMMAND_JSON | notify};
    return send_wish(handle, &wish, request);
}

IBLB_API int iblb_send(int handle, const char *services, int message, const char *args_json, int ttl_ms, int *request) {
    return send_json(handle, services, message, args_json, ttl_ms, 0, request);
}

IBLB_API int iblb_send_msgpack(int handle, const char *services, int message, const unsigned char *args, int args_bytes, int ttl_ms,
                               int *request) {
    const struct wish wish = {services, args, message, args_bytes, ttl_ms, 0};
    return send_wish(handle, &wish, request);
}

IBLB_API int iblb_notify(int handle, const char *services, int message, const char *args_json, int ttl_ms) {
    return send_json(handle, services, message, args_json, ttl_ms, COMMAND_NOTIFY, NULL);
}

/* --- wait --- */

struct body {
    unsigned char *bytes; /* NULL: not wanted, or only its size */
    int capacity;
    int *needed;
    bool as_json;
};

/* Can an answer bear this code? Any other, IBLB_E_BUFFER above all, would mislead the caller. */
static bool is_outcome(int code) {
    static const int outcomes[] = {IBLB_OK,         IBLB_W_OPTIONAL,   IBLB_W_SHORTENED, IBLB_W_STATUS,  IBLB_W_NO_SERVICES,
                                   IBLB_E_PARTIAL,  IBLB_E_ALL_FAILED, IBLB_E_EXPIRED,   IBLB_E_ABORTED, IBLB_E_OUTCOME_UNKNOWN,
                                   IBLB_E_INTERNAL, IBLB_E_ARGS,       IBLB_E_TOO_LARGE, IBLB_E_SERVICE, IBLB_E_MESSAGE,
                                   IBLB_E_JSON};
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++)
        if (code == outcomes[i])
            return true;
    return false;
}

/* Hands out an answered request, and closes it unless the buffer is too small. */
static int take(struct inbox *inbox, struct entry *entry, const struct body *body, struct problem *problem) {
    size_t needed = entry->bytes, capacity = body->bytes ? (size_t)body->capacity : 0;
    const char *text, *wrong = is_outcome(entry->code) ? NULL : "it bears a code that no worker gives";
    size_t length;
    if (!wrong && body->as_json)
        wrong = msgpack_to_json(entry->body, entry->bytes, (char *)body->bytes, capacity, &needed);
    int code = entry->code;
    if (wrong) {
        code = problem_set(problem, IBLB_E_SEGMENT, "The response cannot be read: %s", wrong);
        needed = 0;
    } else if (needed > capacity && (body->bytes || body->needed)) {
        code = problem_set(problem, IBLB_E_BUFFER, "The response takes %zu bytes and the buffer has %zu; it is kept: wait for it again.",
                           needed, capacity);
    } else {
        if (!body->as_json && capacity >= needed && needed)
            memcpy(body->bytes, entry->body, needed);
        if (code != IBLB_OK && msgpack_find_str(entry->body, entry->bytes, "error", &text, &length) && length > 0)
            problem_set(problem, code, "%.*s", (int)(length < PROBLEM_BYTES ? length : PROBLEM_BYTES), text);
        else if (code != IBLB_OK)
            problem_standard(problem, code);
    }
    if (body->needed)
        *body->needed = (int)needed;
    if (code != IBLB_E_BUFFER)
        inbox_free(inbox, entry);
    return code;
}

/* With the mutex held. */
static int wait_for(struct handle *handle, int request, uint64_t until, const struct body *body, struct problem *problem) {
    struct entry *entry = inbox_find(&handle->inbox, request);
    if (!entry)
        return problem_set(problem, IBLB_E_REQUEST, "Request %d is unknown, its response was taken, or it was cancelled.", request);
    for (uint64_t number = entry->number, looked = 0;;) {
        int code = handle->closed ? problem_standard(problem, IBLB_E_CLOSED) : handle_drain(handle, problem);
        if (code != IBLB_OK)
            return code;
        entry = inbox_find(&handle->inbox, request);
        if (!entry || entry->number != number)
            return problem_standard(problem, IBLB_E_CANCELLED);
        if (entry->state == ENTRY_ANSWERED)
            return take(&handle->inbox, entry, body, problem);
        code = wait_turn(handle, FOR_RESPONSE, until, &looked, problem);
        if (code != IBLB_OK)
            return code;
    }
}

static int check_body(const struct body *body, int timeout_ms, struct problem *problem) {
    if (timeout_ms < 0)
        return problem_set(problem, IBLB_E_ARGUMENT, "timeout_ms is negative.");
    if (body->bytes && body->capacity < 0)
        return problem_set(problem, IBLB_E_ARGUMENT, "capacity is negative.");
    return IBLB_OK;
}

static int wait_checked(int number, int request, int timeout_ms, const struct body *body) {
    int code;
    struct problem problem;
    if (body->needed)
        *body->needed = 0;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    problem_clear(&problem);
    code = check_body(body, timeout_ms, &problem);
    if (code == IBLB_OK)
        code = wait_for(handle, request, after_ms(timeout_ms), body, &problem);
    return handle_leave(handle, code, &problem);
}

/* Text out is always terminated, also when there is none. */
static void no_text(char *json, int capacity) {
    if (json && capacity > 0)
        json[0] = '\0';
}

IBLB_API int iblb_wait(int handle, int request, int timeout_ms, char *json, int capacity, int *needed) {
    no_text(json, capacity);
    struct body body = {(unsigned char *)json, capacity, needed, true};
    return wait_checked(handle, request, timeout_ms, &body);
}

IBLB_API int iblb_wait_msgpack(int handle, int request, int timeout_ms, unsigned char *bytes, int capacity, int *needed) {
    struct body body = {bytes, capacity, needed, false};
    return wait_checked(handle, request, timeout_ms, &body);
}

/* --- cancel --- */

/* With the mutex held: takes back what no worker has accepted. Will it never be sent? */
static bool withdraw(const struct handle *handle, const struct entry *entry) {
    if (entry->state != ENTRY_OPEN)
        return false;
    struct command_record *record = (void *)ring_at(&handle->slot.command, entry->position);
    uint64_t number;
    shared_read(&number, &record->request, sizeof number); /* another's, if a broken worker gave the room back too early */
    return number == entry->number && swap_if64(&record->control, STATE_PUBLISHED, STATE_CANCELLED); /* against the worker's accept */
}

static int take_back(int number, int request, bool even_if_accepted) {
    int code;
    struct problem problem;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    problem_clear(&problem);
    struct entry *entry = inbox_find(&handle->inbox, request);
    if (!entry) {
        code = problem_set(&problem, IBLB_E_REQUEST, "Request %d is unknown, its response was taken, or it was cancelled.", request);
    } else {
        code = withdraw(handle, entry) ? IBLB_OK : problem_standard(&problem, IBLB_W_ACCEPTED);
        if (code == IBLB_OK || even_if_accepted) {
            inbox_free(&handle->inbox, entry);
            os_cond_broadcast(&handle->changed);
            bell_wake(&handle->slot.header->client_bell, &handle->segment.waits); /* our own thread may be parked, waiting for it */
        }
    }
    return handle_leave(handle, code, &problem);
}

IBLB_API int iblb_withdraw(int handle, int request) {
    return take_back(handle, request, false);
}

IBLB_API int iblb_cancel(int handle, int request) {
    return take_back(handle, request, true);
}

/* --- call --- */

/* With the mutex held: the wait ended without a response. What is to be told, and is the command still to come? */
static int give_up(struct handle *handle, int request, int waited, struct problem *problem) {
    struct entry *entry = inbox_find(&handle->inbox, request);
    if (!entry || (waited != IBLB_E_TIMEOUT && waited != IBLB_E_NO_WORKER))
        return waited;
    if (!withdraw(handle, entry)) {
        if (waited == IBLB_E_TIMEOUT)
            return problem_standard(problem, IBLB_E_PENDING);
        return problem_set(problem, IBLB_E_PENDING,
                           "The worker died with the command. Start it again and wait for the same request; do not repeat the command.");
    }
    inbox_free(&handle->inbox, entry);
    if (waited == IBLB_E_TIMEOUT)
        return problem_standard(problem, IBLB_E_NOT_SENT);
    return problem_set(problem, IBLB_E_NO_WORKER,
                       "No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.");
}

IBLB_API int iblb_call(int number, const char *services, int message, const char *args_json, int timeout_ms, char *json, int capacity,
                       int *request) {
    struct problem problem;
    struct body body = {(unsigned char *)json, capacity, NULL, true};
    no_text(json, capacity);
    problem_clear(&problem);
    if (need_request(request, &problem) != IBLB_OK || check_body(&body, timeout_ms, &problem) != IBLB_OK)
        return refuse(number, &problem);
    uint64_t until = after_ms(timeout_ms);
    int code = iblb_send(number, services, message, args_json, timeout_ms ? timeout_ms : 1, request);
    if (code < 0)
        return code;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code == IBLB_E_HANDLE ? IBLB_E_CLOSED : code;
    code = wait_for(handle, *request, until, &body, &problem);
    code = give_up(handle, *request, code, &problem);
    return handle_leave(handle, code, &problem);
}
