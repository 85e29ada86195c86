/* test_waits.c: waiting, calling, and being woken: by a response, a cancel, a close, a dead worker. And the doorbell: no wake-up is lost.
 */
#include "rig.h"

#include "inbox.h"

static long round_trips = 20000;

/* --- parks are counted, and one that timed out although there was work is a lost wake-up --- */

static _Thread_local enum { NOBODY, CLIENT, WORKER } role;
static _Atomic long parks, bounds_reached, lost_wakeups;

static int work_is_there(shared_u32 *word) {
    struct slot_header *slot;
    if (role == CLIENT) {
        slot = (void *)((char *)word - offsetof(struct slot_header, client_bell));
        return load64_acquire(&slot->response.tail) != load64_acquire(&slot->response.head);
    }
    slot = (void *)((char *)word - offsetof(struct segment_header, worker_bell) + SLOTS_OFFSET);
    return load64_acquire(&slot->command.tail) != load64_acquire(&slot->command.head);
}

int __real_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    int woken = __real_os_park(word, expected, timeout_ns, waits);
    if (role == NOBODY)
        return woken;
    parks++;
    if (woken != 0)
        return woken;
    bounds_reached++; /* on a busy machine the other side may simply not have run: whoever has stored work rings next */
    for (uint64_t until = os_clock_ns() + PATIENCE_NS; work_is_there(word) && load32_acquire(word) == expected; os_sleep_ns(MS))
        if (os_clock_ns() > until) {
            lost_wakeups++;
            break;
        }
    return woken;
}

static int wait_now(int handle, int request) {
    return iblb_wait(handle, request, 0, NULL, 0, NULL);
}

/* --- the body --- */

static void a_buffer_too_small_keeps_the_response(void) {
    char json[64];
    unsigned char raw[64];
    int needed = -1;
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(respond_saying(&commands[0], IBLB_E_PARTIAL, "ephys is silent"), 0);
    const char *expected = "{\"error\":\"ephys is silent\"}";
    int length = (int)strlen(expected) + 1;
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, &needed), IBLB_E_BUFFER); /* the question of how long */
    CHECK_SAME(needed, length);
    memset(json, 'x', sizeof json);
    CHECK_SAME(iblb_wait(handle, request, 0, json, length - 1, &needed), IBLB_E_BUFFER);
    CHECK(needed == length && json[0] == '\0' && json[length] == 'x');
    CHECK_SAME(iblb_wait(handle, request, 0, json, 0, &needed), IBLB_E_BUFFER);
    CHECK_SAME(iblb_wait_msgpack(handle, request, 0, NULL, 0, &needed), IBLB_E_BUFFER);
    CHECK_SAME(needed, 9 + 15);
    CHECK_SAME(iblb_wait_msgpack(handle, request, 0, raw, 23, &needed), IBLB_E_BUFFER);
    CHECK_SAME(iblb_wait(handle, request, 0, json, length, &needed), IBLB_E_PARTIAL);
    CHECK(needed == length && strcmp(json, expected) == 0 && strcmp(sentence(handle), "ephys is silent") == 0);
    CHECK_SAME(iblb_wait(handle, request, 0, json, length, &needed), IBLB_E_REQUEST);
    CHECK(needed == 0 && json[0] == '\0');
    iblb_close(handle);
    stop();
}

static void a_body_comes_as_msgpack_byte_for_byte(void) {
    unsigned char raw[25];
    int needed;
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(respond_saying(&commands[0], 0, "ephys is silent"), 0);
    raw[24] = 'x';
    CHECK_SAME(iblb_wait_msgpack(handle, request, 0, raw, 24, &needed), 0);
    CHECK(needed == 24 &&
          memcmp(raw,
                 "\x81\xa5"
                 "error\xd9\x0f"
                 "ephys is silent",
                 24) == 0 &&
          raw[24] == 'x');
    iblb_close(handle);
    stop();
}

static void a_body_that_is_not_wanted_is_taken_all_the_same(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_REQUEST);
    iblb_close(handle);
    stop();
}

static void a_response_bears_a_code_that_a_worker_gives_or_counts_as_damage(void) {
    static const int given[] = {IBLB_OK,        IBLB_W_OPTIONAL, IBLB_W_SHORTENED, IBLB_W_STATUS, IBLB_W_NO_SERVICES,
                                IBLB_E_PARTIAL, IBLB_E_EXPIRED,  IBLB_E_INTERNAL};
    static const int never[] = {1, -1, 5999, IBLB_W_NO_WORKER, IBLB_W_ACCEPTED, IBLB_E_BUFFER, IBLB_E_TIMEOUT, 5099};
    start();
    int handle = open_client("a");
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        int request = send_start(handle), other = send_start(handle);
        CHECK_SAME(take(), 2);
        CHECK_SAME(respond(&commands[0], given[i]), 0);
        CHECK_SAME(respond(&commands[1], never[i]), 0);
        CHECK_SAME(wait_now(handle, request), given[i]);
        CHECK_SAME(wait_now(handle, other), IBLB_E_SEGMENT);
    }
    iblb_close(handle);
    stop();
}

static void responses_may_be_asked_for_in_any_order(void) {
    int requests[10];
    start();
    int handle = open_client("a");
    for (int i = 0; i < 10; i++)
        requests[i] = send_start(handle);
    CHECK_SAME(take(), 10);
    for (int i = 0; i < 10; i++)
        CHECK_SAME(respond(&commands[(i * 7) % 10], 0), 0);
    for (int i = 0; i < 10; i++)
        CHECK_ROW(i, wait_now(handle, requests[(i * 3) % 10]) == 0);
    iblb_close(handle);
    stop();
}

/* --- time --- */

static void a_wait_ends_when_its_time_is_up_and_the_request_stays_open(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    uint64_t began = os_clock_ns();
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_TIMEOUT);
    CHECK_SAME(iblb_wait(handle, request, 150, NULL, 0, NULL), IBLB_E_TIMEOUT);
    uint64_t took = os_clock_ns() - began;
    CHECK(took >= 150 * MS && took < PROMPT_NS);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(handle, request), 0);
    iblb_close(handle);
    stop();
}

static void a_wait_on_a_dead_worker_says_so_without_using_its_time(void) {
    start();
    int handle = open_client("a"), answered = send_start(handle), request = send_start(handle);
    CHECK_SAME(take(), 2);
    CHECK_SAME(respond(&commands[0], 0), 0);
    iblbw_close(worker, 0);
    uint64_t began = os_clock_ns();
    CHECK_SAME(iblb_wait(handle, request, LONG_MS, NULL, 0, NULL), IBLB_E_NO_WORKER);
    CHECK(os_clock_ns() - began < PROMPT_NS);
    CHECK_SAME(iblb_wait(handle, answered, LONG_MS, NULL, 0, NULL), 0); /* what it had answered is there */
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, LONG_MS, NULL, 0, NULL), 0);
    iblb_close(handle);
    stop();
}

static void a_worker_that_dies_during_a_wait_ends_it(void) {
    struct waiter w;
    start();
    int handle = open_client("a");
    start_waiter(&w, handle, send_start(handle));
    EVENTUALLY(load32_acquire(&slot_at(0).header->client_bell.parked));
    iblbw_close(worker, 0);
    join_waiter(&w);
    CHECK_SAME(w.code, IBLB_E_NO_WORKER);
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    iblb_close(handle);
    stop();
}

static void a_stopped_worker_is_waited_for_until_the_time_is_up(void) {
    start(); /* alive and doing nothing */
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(iblb_wait(handle, request, 300, NULL, 0, NULL), IBLB_E_TIMEOUT);
    iblb_close(handle);
    stop();
}

/* --- woken by another thread --- */

static void a_close_ends_a_wait_in_another_thread(void) {
    struct waiter w;
    start();
    int handle = open_client("a");
    start_waiter(&w, handle, send_start(handle));
    EVENTUALLY(load32_acquire(&slot_at(0).header->client_bell.parked));
    CHECK_SAME(iblb_close(handle), 0);
    join_waiter(&w);
    CHECK_SAME(w.code, IBLB_E_CLOSED);
    CHECK(w.json[0] == '\0');
    stop();
}

static void a_cancel_ends_a_wait_in_another_thread(void) {
    struct waiter w;
    start();
    int handle = open_client("a"), request = send_start(handle), other = send_start(handle);
    start_waiter(&w, handle, request);
    EVENTUALLY(load32_acquire(&slot_at(0).header->client_bell.parked));
    CHECK_SAME(iblb_cancel(handle, request), 0);
    join_waiter(&w);
    CHECK_SAME(w.code, IBLB_E_CANCELLED);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(handle, other), 0);
    iblb_close(handle);
    stop();
}

#define WAITERS 8

static void several_threads_on_one_handle_each_get_their_own_response(void) {
    struct waiter waiters[WAITERS];
    char expected[64];
    start();
    int handle = open_client("a");
    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < WAITERS; i++)
            start_waiter(&waiters[i], handle, send_start(handle));
        EVENTUALLY(load32_acquire(&slot_at(0).header->client_bell.parked));
        CHECK_SAME(take(), WAITERS);
        for (int i = WAITERS - 1; i >= 0; i--) {
            char number[16];
            snprintf(number, sizeof number, "%d", inbox_request(commands[i].request));
            CHECK_SAME(respond_saying(&commands[i], 0, number), 0);
        }
        for (int i = 0; i < WAITERS; i++) {
            join_waiter(&waiters[i]);
            snprintf(expected, sizeof expected, "{\"error\":\"%d\"}", waiters[i].request);
            CHECK_ROW(i, waiters[i].code == 0 && strcmp(waiters[i].json, expected) == 0);
        }
    }
    iblb_close(handle);
    stop();
}

static void all_threads_that_wait_on_a_closed_handle_are_told(void) {
    struct waiter waiters[WAITERS];
    start();
    int handle = open_client("a");
    for (int i = 0; i < WAITERS; i++)
        start_waiter(&waiters[i], handle, send_start(handle));
    EVENTUALLY(load32_acquire(&slot_at(0).header->client_bell.parked));
    CHECK_SAME(iblb_close(handle), 0);
    for (int i = 0; i < WAITERS; i++) {
        join_waiter(&waiters[i]);
        CHECK_ROW(i, waiters[i].code == IBLB_E_CLOSED || waiters[i].code == IBLB_E_HANDLE); /* or it had not begun */
    }
    stop();
}

static void a_wait_in_one_thread_holds_up_no_other_call(void) {
    struct waiter w;
    int alive;
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    struct iblbw_command held = commands[0];
    start_waiter(&w, handle, request);
    EVENTUALLY(load32_acquire(&slot_at(0).header->client_bell.parked));
    for (int i = 0; i < 50; i++) {
        int other = send_start(handle);
        CHECK_SAME(serve_all(), 1);
        CHECK_ROW(i, iblb_wait(handle, other, LONG_MS, NULL, 0, NULL) == 0);
        CHECK_ROW(i, iblb_worker_state(handle, &alive, NULL, NULL) == 0 && alive);
    }
    CHECK(!w.done);
    CHECK_SAME(respond(&held, 0), 0);
    join_waiter(&w);
    CHECK_SAME(w.code, 0);
    iblb_close(handle);
    stop();
}

struct caller {
    pthread_t thread;
    int handle, bad;
};

static void *send_and_wait(void *argument) {
    struct caller *caller = argument;
    for (int i = 0; i < 300; i++) {
        int request, code = iblb_send(caller->handle, NULL, IBLB_EXPSTATUS, NULL, -1, &request);
        caller->bad += code != 0 || iblb_wait(caller->handle, request, LONG_MS, NULL, 0, NULL) != 0;
    }
    return NULL;
}

static void threads_that_share_handles_lose_nothing(void) {
    struct caller callers[6];
    start();
    start_server();
    int handles[2] = {open_client("a"), open_client("b")};
    for (int i = 0; i < 6; i++) {
        callers[i] = (struct caller){.handle = handles[i % 2]};
        CHECK(pthread_create(&callers[i].thread, NULL, send_and_wait, &callers[i]) == 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(callers[i].thread, NULL);
        CHECK_SAME(callers[i].bad, 0);
    }
    stop_server();
    CHECK_SAME(served, 6 * 300);
    CHECK_SAME(refused, 0);
    iblb_close(handles[0]);
    iblb_close(handles[1]);
    stop();
}

static void *open_call_close(void *argument) {
    struct caller *caller = argument;
    for (int i = 0; i < 60; i++) {
        int handle, request, code = iblb_open(rig, NULL, LONG_MS, &handle);
        caller->bad += code != 0 || iblb_call(handle, NULL, IBLB_PING, NULL, LONG_MS, NULL, 0, &request) != 0 || iblb_close(handle) != 0;
    }
    return NULL;
}

static void clients_that_come_and_go_are_all_served(void) {
    struct caller callers[5];
    start();
    start_server();
    for (int i = 0; i < 5; i++) { /* more than there are slots */
        callers[i] = (struct caller){0};
        CHECK(pthread_create(&callers[i].thread, NULL, open_call_close, &callers[i]) == 0);
    }
    for (int i = 0; i < 5; i++) {
        pthread_join(callers[i].thread, NULL);
        CHECK_SAME(callers[i].bad, 0);
    }
    stop_server();
    stop();
}

static _Atomic int shown; /* the handle that is open now, or was a moment ago */

static void *use_what_is_shown(void *argument) {
    struct caller *caller = argument;
    for (int handle; (handle = shown) >= 0;) {
        int request = 0, code = iblb_worker_state(handle, NULL, NULL, NULL);
        caller->bad += code != 0 && code != IBLB_E_HANDLE && code != IBLB_E_CLOSED;
        code = iblb_call(handle, NULL, IBLB_PING, NULL, LONG_MS, NULL, 0, &request);
        caller->bad += code != 0 && code != IBLB_E_HANDLE && code != IBLB_E_CLOSED;
    }
    return NULL;
}

static void a_handle_that_is_closed_while_it_is_used_is_no_other_handle_and_leaves_its_place(void) {
    struct caller callers[4];
    start();
    start_server();
    shown = 0;
    for (int i = 0; i < 4; i++) {
        callers[i] = (struct caller){0};
        CHECK(pthread_create(&callers[i].thread, NULL, use_what_is_shown, &callers[i]) == 0);
    }
    for (int i = 0; i < 200; i++) { /* more than there are places */
        int handle = 0;
        CHECK_ROW(i, iblb_open(rig, "a", LONG_MS, &handle) == 0);
        shown = handle;
        os_sleep_ns(MS / 50 * (uint64_t)(i % 4)); /* so that it is closed early and late in a call */
        CHECK_ROW(i, iblb_close(handle) == 0 && iblb_worker_state(handle, NULL, NULL, NULL) == IBLB_E_HANDLE);
    }
    shown = -1;
    for (int i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        CHECK_SAME(callers[i].bad, 0);
    }
    stop_server();
    stop();
}

/* --- call --- */

static void a_call_is_a_send_and_a_wait(void) {
    char json[64];
    int request;
    start();
    start_server();
    int handle = open_client("a");
    CHECK_SAME(iblb_call(handle, "ephys", IBLB_EXPSTATUS, "[20]", LONG_MS, json, sizeof json, &request), 0);
    CHECK(request > 0 && strcmp(json, "{\"error\":\"\"}") == 0);
    CHECK_SAME(iblb_call(handle, NULL, IBLB_EXPSTATUS, NULL, LONG_MS, json, 5, &request), IBLB_E_BUFFER);
    CHECK_SAME(iblb_wait(handle, request, 0, json, sizeof json, NULL), 0);
    stop_server();
    iblb_close(handle);
    stop();
}

static void a_call_that_nobody_takes_is_withdrawn(void) {
    int request;
    start();
    int handle = open_client("a");
    CHECK_SAME(iblb_call(handle, NULL, IBLB_EXPSTART, NULL, 20, NULL, 0, &request), IBLB_E_NOT_SENT);
    CHECK(request > 0);
    CHECK_SAME(iblb_call(handle, NULL, IBLB_EXPSTART, NULL, 0, NULL, 0, &request), IBLB_E_NOT_SENT);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    CHECK_SAME(take(), 0);
    iblb_close(handle);
    stop();
}

struct call {
    int handle, code;
    _Atomic int request;
};

static void *call_in_thread(void *argument) {
    struct call *call = argument;
    int request;
    call->code = iblb_call(call->handle, NULL, IBLB_EXPSTART, NULL, 1500, NULL, 0, &request);
    call->request = request;
    return NULL;
}

static void a_call_that_was_accepted_is_pending_and_answered_later(void) {
    struct call call = {0};
    pthread_t thread;
    start();
    call.handle = open_client("a");
    CHECK(pthread_create(&thread, NULL, call_in_thread, &call) == 0);
    EVENTUALLY(take() == 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    pthread_join(thread, NULL);
    CHECK_SAME(call.code, IBLB_E_PENDING);
    CHECK(call.request > 0);
    CHECK_SAME(wait_now(call.handle, call.request), IBLB_E_TIMEOUT);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(wait_now(call.handle, call.request), 0);
    iblb_close(call.handle);
    stop();
}

static void a_call_without_a_worker_is_withdrawn_at_once(void) {
    int request;
    start();
    int handle = open_client("a");
    iblbw_close(worker, 0);
    uint64_t began = os_clock_ns();
    CHECK_SAME(iblb_call(handle, NULL, IBLB_EXPSTART, NULL, LONG_MS, NULL, 0, &request), IBLB_E_NO_WORKER);
    CHECK(os_clock_ns() - began < PROMPT_NS);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(take(), 0);
    iblb_close(handle);
    stop();
}

/* --- the doorbell --- */

static void *answer_each(void *unused) {
    static struct iblbw_command batch[BATCH];
    static unsigned char text[65536];
    (void)unused;
    role = WORKER;
    while (!server_stops) {
        int count = iblbw_take(worker, batch, BATCH, text, sizeof text, 1000);
        for (int i = 0; i < count; i++) {
            iblbw_accept(worker, &batch[i]);
            respond(&batch[i], 0);
        }
    }
    return NULL;
}

static void ping_pong(const char *mechanism, long count) {
    pthread_t thread;
    set_variable("IBLBRIDGE_WAIT", mechanism);
    uint32_t wanted = os_wait_mechanism();
    start();
    set_variable("IBLBRIDGE_WAIT", NULL);
    CHECK_SAME(eye.header->wait_mechanism, wanted);
    CHECK_SAME(wanted == WAIT_POLL, strcmp(mechanism, "poll") == 0);
    parks = bounds_reached = lost_wakeups = 0;
    server_stops = 0;
    CHECK(pthread_create(&thread, NULL, answer_each, NULL) == 0);
    int handle = open_client("a");
    role = CLIENT;
    uint64_t began = os_clock_ns();
    for (long i = 0; i < count && !wrong_checks; i++) {
        int request = 0;
        CHECK_ROW(i, iblb_send(handle, NULL, IBLB_PING, NULL, -1, &request) == 0);
        CHECK_ROW(i, iblb_wait(handle, request, LONG_MS, NULL, 0, NULL) == 0);
    }
    uint64_t took = os_clock_ns() - began;
    role = NOBODY;
    CHECK_SAME(lost_wakeups, 0);
    CHECK(parks > 0);
    printf("      %s: %ld round trips, %.1f us each, %ld parks, %ld reached their bound\n", mechanism, count,
           (double)took / 1e3 / (double)count, (long)parks, (long)bounds_reached);
    server_stops = 1;
    iblbw_ring(worker);
    pthread_join(thread, NULL);
    iblb_close(handle);
    stop();
}

static void no_wake_up_is_lost_between_two_threads(void) {
    ping_pong("system", round_trips);
}

static void polling_works_where_nothing_else_does(void) {
    ping_pong("poll", 100);
}

static void a_workers_take_ends_when_it_is_rung(void) {
    start();
    for (int i = 0; i < 3; i++) {
        iblbw_ring(worker);
        uint64_t began = os_clock_ns();
        CHECK_SAME(iblbw_take(worker, commands, BATCH, payload, sizeof payload, LONG_MS), 0);
        CHECK(os_clock_ns() - began < PROMPT_NS);
    }
    stop();
}

static void a_bell_wakes_only_who_sleeps_and_a_ring_before_the_park_is_not_lost(void) {
    static struct bell bell;
    struct os_waits waits, polling;
    os_waits_open(&waits, os_wait_mechanism(), os_random(), &bell);
    os_waits_open(&polling, WAIT_POLL, os_random(), &bell);
    CHECK_SAME(bell_ring(&bell, &waits), 0);
    CHECK_SAME(load32_relaxed(&bell.sequence), 0);
    uint32_t sequence = bell_arm(&bell);
    CHECK_SAME(bell_ring(&bell, &waits), 1);
    CHECK_SAME(bell_park(&bell, sequence, PARK_NS, &waits), 1);
    CHECK_SAME(load32_relaxed(&bell.parked), 1); /* only the sleeper clears it */
    bell_disarm(&bell);
    CHECK_SAME(bell_ring(&bell, &waits), 0);
    sequence = bell_arm(&bell);
    uint64_t began = os_clock_ns();
    CHECK_SAME(bell_park(&bell, sequence, PARK_NS, &waits), 0);
    CHECK_SAME(bell_park(&bell, sequence, PARK_NS, &polling), 0);
    CHECK(os_clock_ns() - began >= 2 * PARK_NS);
    bell_disarm(&bell);
    os_waits_close(&waits);
    os_waits_close(&polling);
}

static const struct test tests[] = {
    {"a buffer too small keeps the response", a_buffer_too_small_keeps_the_response},
    {"a body comes as msgpack byte for byte", a_body_comes_as_msgpack_byte_for_byte},
    {"a body that is not wanted is taken all the same", a_body_that_is_not_wanted_is_taken_all_the_same},
    {"a response bears a code that a worker gives or counts as damage", a_response_bears_a_code_that_a_worker_gives_or_counts_as_damage},
    {"responses may be asked for in any order", responses_may_be_asked_for_in_any_order},
    {"a wait ends when its time is up and the request stays open", a_wait_ends_when_its_time_is_up_and_the_request_stays_open},
    {"a wait on a dead worker says so without using its time", a_wait_on_a_dead_worker_says_so_without_using_its_time},
    {"a worker that dies during a wait ends it", a_worker_that_dies_during_a_wait_ends_it},
    {"a stopped worker is waited for until the time is up", a_stopped_worker_is_waited_for_until_the_time_is_up},
    {"a close ends a wait in another thread", a_close_ends_a_wait_in_another_thread},
    {"a cancel ends a wait in another thread", a_cancel_ends_a_wait_in_another_thread},
    {"several threads on one handle each get their own response", several_threads_on_one_handle_each_get_their_own_response},
    {"all threads that wait on a closed handle are told", all_threads_that_wait_on_a_closed_handle_are_told},
    {"a wait in one thread holds up no other call", a_wait_in_one_thread_holds_up_no_other_call},
    {"threads that share handles lose nothing", threads_that_share_handles_lose_nothing},
    {"clients that come and go are all served", clients_that_come_and_go_are_all_served},
    {"a handle that is closed while it is used is no other handle and leaves its place",
     a_handle_that_is_closed_while_it_is_used_is_no_other_handle_and_leaves_its_place},
    {"a call is a send and a wait", a_call_is_a_send_and_a_wait},
    {"a call that nobody takes is withdrawn", a_call_that_nobody_takes_is_withdrawn},
    {"a call that was accepted is pending, and answered later", a_call_that_was_accepted_is_pending_and_answered_later},
    {"a call without a worker is withdrawn at once", a_call_without_a_worker_is_withdrawn_at_once},
    {"no wake-up is lost between two threads", no_wake_up_is_lost_between_two_threads},
    {"polling works where nothing else does", polling_works_where_nothing_else_does},
    {"a worker's take ends when it is rung", a_workers_take_ends_when_it_is_rung},
    {"a bell wakes only who sleeps, and a ring before the park is not lost",
     a_bell_wakes_only_who_sleeps_and_a_ring_before_the_park_is_not_lost},
};

int main(int count, char **words) {
    if (count == 2)
        round_trips = atol(words[1]);
    return run_rig_tests(count, words, tests, ROWS(tests), NULL);
}
