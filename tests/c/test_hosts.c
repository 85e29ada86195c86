/* test_hosts.c: what the program around us may do with itself: how it was started, how its threads end, how it ends. */
#include "handles.h"
#include "rig.h"

/* --- standard descriptors --- */

static _Atomic int printing;

static void *print(void *unused) {
    (void)unused;
    while (printing) {
        printf("this goes nowhere\n");
        fprintf(stderr, "nor does this\n");
        fflush(stdout);
    }
    return NULL;
}

static int segment_is_whole(const struct segment *segment) {
    struct segment_header header;
    struct problem problem;
    return segment_judge(segment->file, segment->path, &header, &problem) == 0;
}

static void play_without_streams(void) {
    struct problem problem;
    struct iblbw_worker *own;
    pthread_t thread;
    char name[80];
    close_standard_streams();
    printing = 1;
    CHECK(pthread_create(&thread, NULL, print, NULL) == 0);
    snprintf(name, sizeof name, "%s-2", rig);
    CHECK(segment_attach(&eye, rig, &problem) == 0);
    for (int turn = 0; turn < 200; turn++) {
        int handle = 0;
        CHECK(iblb_open(rig, "a", LONG_MS, &handle) == 0 && iblb_notify(handle, NULL, IBLB_PING, NULL, 0) == 0);
        CHECK_SAME(iblbw_open(name, 2, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &own), 0);
        CHECK(segment_is_whole(&eye));
        iblbw_close(own, 1);
    }
    printing = 0;
    pthread_join(thread, NULL);
}

static void a_program_without_standard_descriptors_prints_into_no_segment(void) {
    start();
    start_server();
    struct child child = in_role("without streams");
    child_was_right(&child);
    CHECK(segment_is_whole(&eye));
    stop_server();
    stop();
}

/* --- threads that are cancelled --- */

enum place { IN_WAIT, IN_WAITS, IN_CALL, IN_CALLS, IN_NEXT_EVENT, IN_OPEN, IN_OPENS, IN_SEND, PLACES };

struct doomed {
    enum place place;
    int cancel_type, handle, unserved, request;
    _Atomic int begun;
};

static void *go_on_until_cancelled(void *argument) {
    struct doomed *doomed = argument;
    char json[64], name[16];
    int unused, other, turn = 0;
    pthread_setcanceltype(doomed->cancel_type, &unused);
    doomed->begun = 1;
    for (;; turn++) {
        snprintf(name, sizeof name, "late-%d", turn % 8);
        if (doomed->place == IN_WAIT)
            iblb_wait(doomed->unserved, doomed->request, LONG_MS, json, sizeof json, NULL);
        else if (doomed->place == IN_WAITS)
            iblb_wait(doomed->unserved, doomed->request, turn % 3, json, sizeof json, NULL);
        else if (doomed->place == IN_CALL)
            iblb_call(doomed->unserved, NULL, IBLB_EXPINIT, NULL, LONG_MS, json, sizeof json, &other);
        else if (doomed->place == IN_CALLS)
            iblb_call(doomed->handle, NULL, IBLB_PING, NULL, LONG_MS, json, sizeof json, &other);
        else if (doomed->place == IN_NEXT_EVENT)
            iblb_next_event(doomed->handle, LONG_MS, NULL, json, sizeof json, NULL);
        else if (doomed->place == IN_OPEN)
            iblb_open("there-is-none", "late", LONG_MS, &other);
        else if (doomed->place == IN_OPENS)
            iblb_open(rig, name, 0, &other);
        else if (iblb_notify(doomed->handle, NULL, IBLB_PING, NULL, 0) != 0)
            os_sleep_ns(MS / 10); /* full; and a place where it ends, for a call that does not wait is none */
        if (doomed->place >= IN_OPENS)
            pthread_testcancel();
    }
    return NULL;
}

static void cancel_one(struct doomed *doomed, enum place place, uint64_t after_ns) {
    pthread_t thread;
    void *ended;
    doomed->place = place;
    doomed->begun = 0;
    CHECK(pthread_create(&thread, NULL, go_on_until_cancelled, doomed) == 0);
    while (!doomed->begun)
        os_sleep_ns(MS / 50);
    os_sleep_ns(after_ns);
    uint64_t began = os_clock_ns();
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &ended) == 0 && ended == PTHREAD_CANCELED);
    CHECK_ROW(place, os_clock_ns() - began < PROMPT_NS);
}

/* The program wants this thread to end before the first of its calls; none of them waits. */
static void *call_when_told_to_end(void *argument) {
    struct doomed *doomed = argument;
    char text[256];
    int request, handle;
    pthread_cancel(pthread_self());
    const int both[] = {doomed->handle, doomed->unserved};
    for (int i = 0; i < ROWS(both); i++) {
        CHECK(iblb_send(both[i], NULL, IBLB_PING, "[1]", 0, &request) >= 0 && iblb_cancel(both[i], request) >= 0);
        CHECK(iblb_send(both[i], NULL, IBLB_PING, NULL, 0, &request) >= 0 && iblb_withdraw(both[i], request) >= 0);
        CHECK(iblb_notify(both[i], NULL, IBLB_PING, NULL, 0) >= 0);
        CHECK_SAME(iblb_send(both[i], NULL, 3, NULL, 0, &request), IBLB_E_MESSAGE);
        CHECK_SAME(iblb_worker_state(both[i], NULL, NULL, NULL), 0);
        CHECK_SAME(iblb_last_error(both[i], text, sizeof text), 0);
        CHECK_SAME(iblb_subscribe(both[i], 1), 0);
        CHECK(iblb_serve(both[i], NULL, 0) >= 0);
        CHECK_SAME(iblb_answer(both[i], 1, -1, NULL), IBLB_E_COMMAND);
        CHECK_SAME(iblb_fail(both[i], 1, "no"), IBLB_E_COMMAND);
        CHECK(iblb_tell(both[i], IBLB_EXPSTATUS, NULL) < 0);
    }
    CHECK_SAME(iblb_worker_state(12345, NULL, NULL, NULL), IBLB_E_HANDLE);
    CHECK(iblb_open(rig, "told to end", 0, &handle) == 0 && iblb_close(handle) == 0);
    doomed->begun = 1;
    pthread_testcancel();
    return NULL;
}

static void a_thread_that_was_told_to_end_does_its_calls_to_their_ends(void) {
    struct iblbw_worker *idle;
    pthread_t thread;
    char name[80];
    void *ended;
    start();
    start_server();
    struct doomed doomed = {.handle = open_client("a")};
    snprintf(name, sizeof name, "%s-idle", rig);
    CHECK_SAME(iblbw_open(name, 2, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &idle), 0);
    CHECK_SAME(iblb_open(name, "a", 0, &doomed.unserved), 0);
    iblbw_close(idle, 0); /* so that each call asks whether the file is still there */
    CHECK(pthread_create(&thread, NULL, call_when_told_to_end, &doomed) == 0);
    CHECK(pthread_join(thread, &ended) == 0 && ended == PTHREAD_CANCELED && doomed.begun);
    CHECK(iblb_close(doomed.handle) == 0 && iblb_close(doomed.unserved) == 0);
    CHECK_SAME(iblbw_open(name, 0, 0, 0, 0, 0, &idle), 0);
    iblbw_close(idle, 1);
    stop_server();
    stop();
}

static void cancelled_threads_leave_everything_as_it_was(int cancel_type) {
    struct doomed doomed = {.cancel_type = cancel_type};
    struct iblbw_worker *idle;
    char json[256], name[80];
    int request;
    start_sized(12, RING_BYTES, RING_BYTES);
    start_server();
    int handle = doomed.handle = open_client("a");
    snprintf(name, sizeof name, "%s-idle", rig);
    CHECK_SAME(iblbw_open(name, 2, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &idle), 0);
    CHECK_SAME(iblb_open(name, "a", 0, &doomed.unserved), 0);
    CHECK_SAME(iblb_send(doomed.unserved, NULL, IBLB_EXPINIT, NULL, 0, &doomed.request), 0);
    for (int turn = 0; turn < 12; turn++)
        for (enum place place = 0; place < PLACES; place++) {
            cancel_one(&doomed, place, (uint64_t)turn * turn * MS / 20);
            CHECK_SAME(iblb_worker_state(handle, NULL, NULL, NULL), 0);
            int code = iblb_call(handle, NULL, IBLB_PING, NULL, LONG_MS, json, sizeof json, &request);
            while (code == IBLB_E_FULL) { /* of what a cancelled thread had sent */
                os_sleep_ns(MS);
                code = iblb_call(handle, NULL, IBLB_PING, NULL, LONG_MS, json, sizeof json, &request);
            }
            CHECK_ROW(place, code == 0);
        }
    const int both[] = {handle, doomed.unserved};
    for (int i = 0; i < ROWS(both); i++) {
        int status;
        struct handle *inner = handle_hold(both[i], &status);
        CHECK_SAME(handle_references(inner), 2); /* the table's, and the one just taken */
        CHECK_SAME(inner->event_waiters, 0);
        CHECK_SAME(inner->parked, 0);
        handle_drop(inner);
    }
    CHECK_SAME(iblb_close(handle), 0);
    for (int i = 0; i < 8; i++) { /* what a cancelled thread had opened is closed by who opens it again */
        snprintf(name, sizeof name, "late-%d", i);
        CHECK(iblb_open(rig, name, LONG_MS, &handle) == 0 && iblb_close(handle) == 0);
    }
    CHECK_SAME(iblb_close(doomed.unserved), 0);
    iblbw_close(idle, 1);
    stop_server();
    stop();
}

static void threads_that_are_cancelled_leave_everything_as_it_was(void) {
    cancelled_threads_leave_everything_as_it_was(PTHREAD_CANCEL_DEFERRED);
}

static void threads_that_are_cancelled_at_any_instruction_leave_everything_as_it_was(void) {
    cancelled_threads_leave_everything_as_it_was(PTHREAD_CANCEL_ASYNCHRONOUS);
}

static void threads_that_are_cancelled_while_they_poll_leave_everything_as_it_was(void) {
    set_variable("IBLBRIDGE_WAIT", "poll");
    cancelled_threads_leave_everything_as_it_was(PTHREAD_CANCEL_DEFERRED);
    set_variable("IBLBRIDGE_WAIT", NULL);
}

static void *wait_until_given_up(void *argument) {
    const struct doomed *doomed = argument;
    CHECK_SAME(iblb_wait(doomed->unserved, doomed->request, LONG_MS, NULL, 0, NULL), IBLB_E_CANCELLED);
    return NULL;
}

static void threads_that_are_cancelled_while_another_is_parked_leave_everything_as_it_was(void) {
    static const int types[] = {PTHREAD_CANCEL_DEFERRED, PTHREAD_CANCEL_ASYNCHRONOUS};
    pthread_t thread;
    int status;
    start();
    struct doomed parked = {.unserved = open_client("a")}, doomed = parked;
    parked.request = send_start(parked.unserved);
    doomed.request = send_start(parked.unserved);
    struct handle *inner = handle_hold(parked.unserved, &status);
    CHECK(pthread_create(&thread, NULL, wait_until_given_up, &parked) == 0);
    EVENTUALLY(inner->parked);
    for (int turn = 0; turn < 10 * ROWS(types); turn++) {
        doomed.cancel_type = types[turn % ROWS(types)];
        cancel_one(&doomed, IN_WAIT, (uint64_t)(turn % 5) * MS);
        CHECK_SAME(iblb_worker_state(parked.unserved, NULL, NULL, NULL), 0);
    }
    CHECK_SAME(iblb_cancel(parked.unserved, parked.request), 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_SAME(handle_references(inner), 2);
    handle_drop(inner);
    CHECK_SAME(iblb_close(parked.unserved), 0);
    stop();
}

/* --- ends --- */

static void play_closer(void) {
    int handle = open_client("closes");
    send_start(handle);
    CHECK_SAME(iblb_close(handle), 0);
}

static void play_leaver(void) {
    send_start(open_client("leaves"));
    exit(0);
}

static void play_interrupted(void) { /* as a signal's handler that calls exit does in the middle of a call */
    int code;
    struct handle *handle = handle_hold(open_client("is interrupted"), &code);
    os_mutex_lock(&handle->mutex);
    exit(0);
}

static void play_returner(void) { /* as a program that loads the library again finds what it had forgotten */
    open_client("returns");
    CHECK_SAME(iblb_close(open_client("returns")), 0);
}

static void play_abandoner(void) {
    int handle = open_client("abandons");
    CHECK_SAME(iblb_abandon(handle), 0);
    CHECK_SAME(iblb_abandon(handle), IBLB_E_HANDLE);
    CHECK_SAME(iblb_close(handle), IBLB_E_HANDLE);
    open_client("is told of after the one before"); /* so that this test knows that nothing more is to come */
    exit(0);
}

/* The names of the lost, in the order in which they are found, until one is `last`. */
static const char *lost_until(const char *last) {
    static char all[256];
    char name[64];
    uint64_t until = os_clock_ns() + PATIENCE_NS;
    all[0] = '\0';
    while (os_clock_ns() < until) {
        serve_all();
        while (iblbw_lost_client(worker, name, sizeof name)) {
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s;", name);
            if (strcmp(name, last) == 0)
                return all;
        }
        os_sleep_ns(MS);
    }
    return "nobody in time";
}

static void a_client_whose_program_ends_without_closing_it_is_lost(void) {
    static const char *const plays[] = {"closer", "leaver", "interrupted", "returner", "abandoner"};
    start_sized(10, RING_BYTES, RING_BYTES);
    for (int i = 0; i < ROWS(plays); i++) {
        struct child child = in_role(plays[i]);
        child_was_right(&child);
    }
    const char *lost = lost_until("is told of after the one before");
    if (!CHECK(strcmp(lost, "leaves;is interrupted;abandons;is told of after the one before;") == 0))
        printf("        lost: %s\n", lost);
    note_losses();
    for (uint32_t i = 0; i < 10; i++)
        EVENTUALLY(slot_state(i) == SLOT_FREE);
    stop();
}

#define NO_CANCELLATION NOT_ON_WINDOWS("its threads are not cancelled")

static const struct test tests[] = {
    {"a program without standard descriptors prints into no segment", a_program_without_standard_descriptors_prints_into_no_segment,
     NOT_ON_WINDOWS("a handle of a file is no stream there")},
    {"threads that are cancelled leave everything as it was", threads_that_are_cancelled_leave_everything_as_it_was, NO_CANCELLATION},
    {"threads that are cancelled at any instruction leave everything as it was",
     threads_that_are_cancelled_at_any_instruction_leave_everything_as_it_was, NO_CANCELLATION},
    {"threads that are cancelled while they poll leave everything as it was",
     threads_that_are_cancelled_while_they_poll_leave_everything_as_it_was, NO_CANCELLATION},
    {"threads that are cancelled while another is parked leave everything as it was",
     threads_that_are_cancelled_while_another_is_parked_leave_everything_as_it_was, NO_CANCELLATION},
    {"a thread that was told to end does its calls to their ends", a_thread_that_was_told_to_end_does_its_calls_to_their_ends,
     NO_CANCELLATION},
    {"a client whose program ends without closing it is lost", a_client_whose_program_ends_without_closing_it_is_lost},
};

static const struct role roles[] = {{"without streams", play_without_streams},
                                    {"closer", play_closer},
                                    {"leaver", play_leaver},
                                    {"interrupted", play_interrupted},
                                    {"returner", play_returner},
                                    {"abandoner", play_abandoner},
                                    {0}};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), roles);
}
