/* test_slots.c: who owns a slot: claims, generations, names, death, forks, and what becomes of a slot whose owner scribbles. */
#include "rig.h"

#include "handles.h"

static int wait_now(int handle, int request) {
    return iblb_wait(handle, request, 0, NULL, 0, NULL);
}

/* Lets the worker pass until the slot is free: it looks for the dead four times a second. */
static int freed(uint32_t index) {
    take();
    note_losses();
    return slot_state(index) == SLOT_FREE;
}

static void each_claim_has_a_generation_of_its_own_and_request_numbers_go_on(void) {
    start();
    int last = 0;
    for (uint32_t generation = 1; generation <= 5; generation++) {
        int handle = open_client("a"), request = send_start(handle);
        CHECK_SAME(load32_relaxed(&slot_at(0).header->generation), generation);
        CHECK(request > last);
        last = request;
        CHECK_SAME(serve_all(), 1);
        CHECK_SAME(commands[0].generation, generation);
        CHECK_SAME(iblb_close(handle), 0);
        take();
        CHECK_SAME(slot_state(0), SLOT_FREE);
    }
    stop();
}

static void a_closed_slot_is_freed_only_after_everything_is_answered(void) {
    struct iblbw_command both[2];
    start();
    int handle = open_client("a");
    send_start(handle);
    send_start(handle);
    CHECK_SAME(take(), 2);
    memcpy(both, commands, sizeof both);
    CHECK_SAME(iblb_close(handle), 0);
    take();
    CHECK_SAME(slot_state(0), SLOT_CLAIMED);
    CHECK_SAME(iblbw_accept(worker, &both[0]), 0); /* it is carried out all the same */
    CHECK_SAME(respond(&both[0], 0), 0);
    CHECK_SAME(slot_state(0), SLOT_CLAIMED);
    CHECK_SAME(iblbw_accept(worker, &both[1]), 0);
    CHECK_SAME(respond(&both[1], 0), 0);
    CHECK_SAME(slot_state(0), SLOT_FREE);
    stop();
}

static void what_a_closed_client_had_sent_but_nobody_had_taken_is_carried_out(void) {
    start();
    int handle = open_client("a");
    send_start(handle);
    CHECK_SAME(iblb_close(handle), 0);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(slot_state(0), SLOT_FREE);
    stop();
}

static void the_next_owner_of_a_slot_hears_nothing_meant_for_the_one_before(void) {
    struct iblbw_command old;
    start();
    int handle = open_client("a");
    send_start(handle);
    CHECK_SAME(take(), 1);
    old = commands[0];
    CHECK_SAME(iblbw_accept(worker, &old), 0);
    CHECK_SAME(respond(&old, 0), 0); /* placed and never read */
    iblb_close(handle);
    take();
    handle = open_client("b");
    int request = send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &old), IBLB_E_CANCELLED);
    CHECK_SAME(respond(&old, IBLB_E_PARTIAL), 0); /* belongs to a claim that is over: dropped */
    CHECK_SAME(wait_now(handle, request), IBLB_E_TIMEOUT);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(wait_now(handle, request), 0);
    iblb_close(handle);
    stop();
}

static void without_a_worker_no_slot_is_freed_and_a_new_worker_frees_it(void) {
    start();
    int handle = open_client("a");
    send_start(handle);
    iblbw_close(worker, 0);
    iblb_close(handle);
    CHECK_SAME(slot_state(0), SLOT_CLAIMED);
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(serve_all(), 1);
    EVENTUALLY(freed(0));
    stop();
}

/* --- without a worker --- */

/* Opens without a worker, as the next of many; the house has three slots for clients. */
static int come(void) {
    static int comers;
    char name[16];
    int handle = 0;
    snprintf(name, sizeof name, "c%d", comers++);
    CHECK_SAME(iblb_open(rig, name, 0, &handle), IBLB_W_NO_WORKER);
    return handle;
}

static int send_unserved(int handle, int message, int ttl_ms) {
    int request = 0;
    CHECK_SAME(iblb_send(handle, NULL, message, NULL, ttl_ms, &request), IBLB_W_NO_WORKER);
    return request;
}

static void come_and_go(int message) {
    int handle = come();
    CHECK_SAME(iblb_notify(handle, NULL, message, NULL, -1), IBLB_W_NO_WORKER);
    iblb_close(handle);
}

static uint64_t left_in(uint32_t index) {
    const struct ring_header *ring = &slot_at(index).header->command;
    return load64_relaxed(&ring->tail) - load64_relaxed(&ring->head);
}

static void worker_goes(void) {
    iblbw_close(worker, 0);
    worker = NULL;
}

static void worker_comes(void) {
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
}

static void what_programs_leave_without_a_worker_shares_the_slots_and_each_is_carried_out_once_and_in_order(void) {
    start();
    worker_goes();
    for (int i = 0; i < 30; i++)
        come_and_go(i % 2 ? IBLB_EXPEND : IBLB_EXPSTATUS);
    CHECK(left_in(0) == left_in(1) && left_in(1) == left_in(2) && left_in(3) == 0);
    worker_comes();
    CHECK_SAME(take(), 30);
    for (int i = 0; i < 30; i++) {
        char name[NAME_BYTES];
        CHECK_ROW(i, commands[i].message == (i % 2 ? IBLB_EXPEND : IBLB_EXPSTATUS));
        CHECK_ROW(i, i == 0 || commands[i].stamp > commands[i - 1].stamp);
        CHECK_ROW(i, !(commands[i].flags & IBLBW_LEFT) == (i >= 27)); /* the last owner of each slot is known */
        CHECK_ROW(i, iblbw_client_of(worker, &commands[i], name, sizeof name) == (i >= 27 ? IBLB_OK : IBLB_E_STALE));
        CHECK_ROW(i, (*name != '\0') == (i >= 27));
        CHECK_ROW(i, iblbw_accept(worker, &commands[i]) == 0 && respond(&commands[i], 0) == 0);
    }
    CHECK_SAME(take(), 0);
    for (uint32_t i = 0; i < 3; i++)
        EVENTUALLY(freed(i));
    char name[NAME_BYTES];
    CHECK_SAME(iblbw_lost_client(worker, name, sizeof name), 0);
    stop();
}

static void who_appends_to_what_others_left_has_its_own_answers_only(void) {
    start_sized(2, RING_BYTES, RING_BYTES);
    worker_goes();
    int handle = come(), left = send_unserved(handle, IBLB_EXPSTART, -1);
    iblb_close(handle);
    handle = come();
    CHECK_SAME(iblb_subscribe(handle, IBLB_EXPSTART), 0);
    int mine = send_unserved(handle, IBLB_EXPEND, -1);
    CHECK(mine != left);
    CHECK_SAME(iblb_cancel(handle, left), IBLB_E_REQUEST);
    CHECK_SAME(wait_now(handle, left), IBLB_E_REQUEST);
    worker_comes();
    CHECK_SAME(serve_all(), 2);
    CHECK_SAME(commands[0].request, left);
    CHECK_SAME(commands[0].flags, IBLBW_LEFT);
    CHECK_SAME(commands[1].flags, 0);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->response.tail), RECORD_ALIGN); /* one answer, not two */
    CHECK_SAME(wait_now(handle, mine), 0);
    CHECK_SAME(wait_now(handle, left), IBLB_E_REQUEST);
    CHECK_SAME(iblb_close(handle), 0);
    EVENTUALLY(freed(0));
    stop();
}

static void what_was_left_dies_and_is_aborted_as_all_commands_are(void) {
    start_sized(2, RING_BYTES, RING_BYTES);
    int handle = open_client("a");
    send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    worker_goes(); /* with a command in its hands */
    iblb_close(handle);
    handle = come();
    send_unserved(handle, IBLB_EXPSTATUS, 1);
    send_unserved(handle, IBLB_EXPSTART, -1);
    iblb_close(handle);
    uint64_t sent = os_clock_ns();
    handle = come();
    int request = send_unserved(handle, IBLB_EXPINTERRUPT, -1);
    EVENTUALLY(os_clock_ns() > sent + 2 * MS);
    worker_comes();
    CHECK_SAME(take(), 4);
    CHECK_SAME(commands[0].message, IBLB_EXPINTERRUPT); /* of the present owner, and aborts what the former have left */
    CHECK_SAME(commands[1].flags, IBLBW_ORPHAN | IBLBW_LEFT);
    CHECK_SAME(respond(&commands[1], IBLB_E_OUTCOME_UNKNOWN), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[2]), IBLB_E_EXPIRED);
    CHECK_SAME(respond(&commands[2], IBLB_E_EXPIRED), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[3]), IBLB_E_ABORTED);
    CHECK_SAME(respond(&commands[3], IBLB_E_ABORTED), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(wait_now(handle, request), 0);
    iblb_close(handle);
    EVENTUALLY(freed(0));
    stop();
}

static void a_token_that_was_left_is_wiped_as_soon_as_it_is_answered(void) {
    static const char token[] = "[\"https://alyx\", \"a-very-secret-token\"]";
    start_sized(2, RING_BYTES, RING_BYTES);
    worker_goes();
    for (int i = 0; i < 3; i++) {
        int handle = come();
        CHECK_SAME(iblb_notify(handle, NULL, IBLB_ALYX, token, -1), IBLB_W_NO_WORKER);
        iblb_close(handle);
    }
    int last = come();
    worker_comes();
    CHECK_SAME(serve_all(), 3);
    const struct ring ring = slot_at(0).command;
    for (uint32_t i = 0; i + 6 <= ring.capacity; i++)
        CHECK(memcmp(ring.data + i, "secret", 6) != 0);
    iblb_close(last);
    stop();
}

static void a_ring_that_is_full_of_what_was_left_says_that_no_worker_lives(void) {
    start_sized(2, RING_BYTES, RING_BYTES);
    worker_goes();
    int code = IBLB_W_NO_WORKER, sent = 0, handle = 0;
    for (; code == IBLB_W_NO_WORKER && sent < 10000; sent++) {
        handle = come();
        code = iblb_notify(handle, NULL, IBLB_EXPSTATUS, NULL, -1);
        CHECK(code != IBLB_E_FULL || strstr(sentence(handle), "no worker lives"));
        iblb_close(handle);
    }
    CHECK_SAME(code, IBLB_E_FULL);
    handle = come(); /* an interrupt still gets in */
    send_unserved(handle, IBLB_EXPINTERRUPT, -1);
    worker_comes();
    int served_now, all = 0;
    while ((served_now = take()) > 0)
        for (int i = 0; i < served_now; i++, all++)
            CHECK_SAME(respond(&commands[i], 0), 0);
    CHECK_SAME(all, sent); /* one that found no room, and the interrupt */
    iblb_close(handle);
    stop();
}

/* What a program writes over its own commands before it leaves: nobody is to append to that. */
static void a_slot_that_was_left_scribbled_is_not_appended_to(void) {
    static const struct {
        size_t offset;
        uint64_t value;
        int bytes;
    } rows[] = {
        {offsetof(struct slot_header, command) + offsetof(struct ring_header, tail), 1, 8},
        {offsetof(struct slot_header, command) + offsetof(struct ring_header, tail), 1 << 20, 8},
        {offsetof(struct slot_header, command) + offsetof(struct ring_header, head), 7, 8},
        {offsetof(struct slot_header, next_request), 0, 8},
        {offsetof(struct slot_header, next_request), UINT64_MAX, 8},
        {SLOT_HEADER_BYTES + offsetof(struct record_header, bytes), 0, 4},
        {SLOT_HEADER_BYTES + offsetof(struct record_header, bytes), 0xffffffc0, 4},
        {SLOT_HEADER_BYTES + offsetof(struct record_header, kind), RECORD_RESPONSE, 4},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, control), 99, 8},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, generation), 7, 4},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, payload_bytes), 0xffffffff, 4},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, stamp), UINT64_MAX, 8},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, stamp), 0, 8},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, request), 0, 8},
        {SLOT_HEADER_BYTES + offsetof(struct command_record, request), UINT64_MAX, 8},
    };
    for (int row = 0; row < ROWS(rows); row++) {
        start_sized(2, RING_BYTES, RING_BYTES);
        worker_goes();
        come_and_go(IBLB_EXPEND);
        memcpy((char *)slot_at(0).header + rows[row].offset, &rows[row].value, (size_t)rows[row].bytes);
        int handle = 0;
        CHECK_ROW(row, iblb_open(rig, "next", 0, &handle) == IBLB_E_NO_SLOT);
        CHECK_ROW(row, strstr(sentence(0), "Start the worker") != NULL);
        worker_comes();
        for (int i = take(); i > 0; i--)
            CHECK_ROW(row, respond(&commands[i - 1], IBLB_E_EXPIRED) == 0);
        EVENTUALLY(freed(0));
        handle = open_client("next");
        iblb_close(handle);
        stop();
    }
}

static void when_all_slots_are_taken_only_a_tool_still_gets_in(void) {
    int handles[3], refused_handle = 1;
    char name[2] = "a";
    start();
    for (int i = 0; i < 3; i++, name[0]++)
        handles[i] = open_client(name);
    CHECK_SAME(iblb_open(rig, "d", 0, &refused_handle), IBLB_E_NO_SLOT);
    CHECK(refused_handle == 0 && strstr(sentence(0), "3 client slots"));
    int tool = open_client("iblb-top"), another;
    CHECK_SAME(iblb_open(rig, "iblb-doctor", 0, &another), IBLB_E_NO_SLOT);
    iblb_close(handles[1]);
    take();
    int late = open_client("d");
    CHECK_SAME(slot_state(1), SLOT_CLAIMED);
    iblb_close(handles[0]);
    iblb_close(handles[2]);
    iblb_close(late);
    iblb_close(tool);
    stop();
}

static void an_open_that_finds_no_slot_waits_for_one(void) {
    int handles[3], late;
    char name[2] = "a";
    start();
    start_server();
    for (int i = 0; i < 3; i++, name[0]++)
        handles[i] = open_client(name);
    CHECK_SAME(iblb_open(rig, "d", 50, &late), IBLB_E_NO_SLOT);
    iblb_close(handles[0]); /* the server's thread has to free it first */
    CHECK_SAME(iblb_open(rig, "d", LONG_MS, &late), 0);
    iblb_close(handles[1]);
    iblb_close(handles[2]);
    iblb_close(late);
    stop_server();
    stop();
}

static void a_process_holds_64_handles_and_no_more(void) {
    int handles[65];
    char name[16];
    start_sized(64, RING_BYTES, RING_BYTES);
    for (int i = 0; i < 64; i++) {
        snprintf(name, sizeof name, i < 63 ? "c%d" : "iblb-%d", i);
        handles[i] = open_client(name);
    }
    iblb_close(handles[10]);
    take();
    handles[10] = open_client("x");
    int code;
    struct handle *held = handle_hold(handles[20], &code); /* as by a wait in another thread */
    iblb_close(handles[20]);
    take();
    handles[20] = open_client("opened while a call is still in the handle before it");
    handle_drop(held);
    restart_worker();
    struct iblbw_worker *first = worker;
    char first_rig[sizeof rig];
    memcpy(first_rig, rig, sizeof rig);
    segment_close(&eye, 0);
    start();
    CHECK_SAME(iblb_open(rig, "y", 0, &handles[64]), IBLB_E_HANDLES);
    EVENTUALLY(freed(0)); /* the slot that was claimed for nothing */
    for (int i = 0; i < 64; i++)
        CHECK_SAME(iblb_close(handles[i]), 0);
    stop();
    iblbw_close(first, 1);
}

/* --- names --- */

static void the_same_name_again_in_one_process_closes_the_old_handle(void) {
    start();
    int old = open_client("labview"), other = open_client("matlab");
    int again = open_client("labview");
    int request;
    CHECK(again != old);
    CHECK_SAME(iblb_send(old, NULL, IBLB_PING, NULL, 0, &request), IBLB_E_HANDLE);
    CHECK_SAME(iblb_close(old), IBLB_E_HANDLE);
    request = send_start(again);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(again, request), 0);
    send_start(other);
    CHECK_SAME(serve_all(), 1);
    EVENTUALLY(freed(0));
    iblb_close(again);
    iblb_close(other);
    stop();
}

static void the_same_name_again_in_one_process_is_fine_while_a_command_is_under_way(void) {
    start();
    start_server();
    for (int i = 0; i < 100; i++) { /* the aborted VI: never closed, never waited */
        int handle = 0;
        CHECK_ROW(i, iblb_open(rig, "labview", LONG_MS, &handle) == 0);
        CHECK_ROW(i, iblb_notify(handle, NULL, IBLB_EXPSTATUS, NULL, 0) == 0);
        int request = send_start(handle);
        if (i % 2)
            CHECK_ROW(i, iblb_wait(handle, request, LONG_MS, NULL, 0, NULL) == 0);
    }
    stop_server();
    CHECK_SAME(iblb_close(open_client("labview")), 0);
    stop();
}

static void a_name_is_free_again_while_the_commands_of_its_last_owner_are_under_way(void) {
    int handle;
    start();
    handle = open_client("labview");
    send_start(handle);
    CHECK_SAME(take(), 1);
    struct iblbw_command command = commands[0];
    CHECK_SAME(iblbw_accept(worker, &command), 0);
    iblb_close(handle);
    take(); /* the worker notices, and keeps the slot until the answer is there */
    CHECK_SAME(slot_state(0), SLOT_CLAIMED);
    CHECK_SAME(iblb_open(rig, "labview", 0, &handle), 0);
    CHECK_SAME(respond(&command, 0), 0);
    CHECK_SAME(slot_state(0), SLOT_FREE);
    iblb_close(handle);
    stop();
}

static void play_namesake(void) {
    int handle;
    char pid[32];
    snprintf(pid, sizeof pid, "process %u", (unsigned)parent);
    CHECK_SAME(iblb_open(rig, "labview", 0, &handle), IBLB_E_NAME_TAKEN);
    CHECK(handle == 0 && strstr(sentence(0), pid));
    CHECK_SAME(iblb_open(rig, "other", 0, &handle), 0);
    CHECK_SAME(iblb_close(handle), 0);
}

static void the_same_name_in_another_process_is_refused_naming_the_first(void) {
    start();
    int handle = open_client("labview");
    struct child namesake = in_role("namesake");
    child_was_right(&namesake);
    int request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(handle, request), 0);
    iblb_close(handle);
    stop();
}

static void clients_without_a_name_get_names_of_their_own(void) {
    start();
    int one = open_client(NULL), two = open_client(""), three = open_client(" \t");
    CHECK(one != two && two != three);
    const char *name = slot_at(0).header->client;
    CHECK(strncmp(name, "pid-", 4) == 0 && strcmp(name, slot_at(1).header->client) != 0);
    CHECK_SAME(strlen(strrchr(name, '-')), 7); /* random: two containers may have the same processes */
    iblb_close(one);
    iblb_close(two);
    iblb_close(three);
    stop();
}

struct opener {
    pthread_t thread;
    int handle, code;
    _Atomic int done;
};

static void *open_in_thread(void *argument) {
    struct opener *opener = argument;
    opener->code = iblb_open(rig, "opens", 0, &opener->handle);
    opener->done = 1;
    return NULL;
}

/* A claimer that was stopped in its turn costs who opens 500 ms, and nobody else. */
static void a_close_does_not_wait_for_an_open_that_waits_for_its_turn(void) {
    int was_first = 0;
    start();
    CHECK_SAME(os_lock(eye.locks, claim_lock()), 1);
    for (int round = 0; round < 10 && !was_first; round++) { /* more than one: the machine may be busy for so long */
        struct opener opener = {.done = 0};
        int handle = open_client("closes");
        CHECK(pthread_create(&opener.thread, NULL, open_in_thread, &opener) == 0);
        os_sleep_ns(50 * MS);
        CHECK_SAME(iblb_close(handle), 0);
        was_first = !opener.done;
        pthread_join(opener.thread, NULL);
        CHECK_SAME(opener.code, 0);
        iblb_close(opener.handle);
        take();
    }
    CHECK(was_first);
    os_unlock(eye.locks, claim_lock());
    stop();
}

/* --- death --- */

static void play_victim(void) {
    int handle = open_client("victim");
    send_start(handle);
    send_start(handle);
    say("ready");
    hold_still();
}

static struct child victim(void) {
    struct child child = in_role("victim");
    child_says(&child, "ready");
    return child;
}

static void what_a_killed_client_had_sent_is_carried_out_and_its_slot_freed(void) {
    start();
    struct child child = victim();
    CHECK_SAME(take(), 2);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    child_kill(&child);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), 0);
    CHECK_SAME(slot_state(0), SLOT_CLAIMED);
    CHECK_SAME(respond(&commands[1], 0), 0);
    EVENTUALLY(freed(0));
    stop();
}

static void a_stopped_client_keeps_its_slot(void) {
    start();
    struct child child = victim();
    CHECK_SAME(child_stop(&child), 0);
    CHECK_SAME(serve_all(), 2);
    uint64_t until = os_clock_ns() + 600 * MS; /* more than two sweeps */
    while (os_clock_ns() < until)
        iblbw_take(worker, commands, BATCH, payload, sizeof payload, 50);
    CHECK_SAME(slot_state(0), SLOT_CLAIMED);
    child_kill(&child);
    EVENTUALLY(freed(0));
    stop();
}

static void the_name_of_a_killed_client_is_free_at_once(void) {
    start();
    struct child child = victim();
    CHECK_SAME(take(), 2);
    child_kill(&child);
    EVENTUALLY((take(), os_locked(eye.locks, slot_guard(0)))); /* the worker holds the slot: two commands are not answered */
    int handle;
    CHECK_SAME(iblb_open(rig, "victim", 0, &handle), 0);
    CHECK_SAME(iblb_close(handle), 0);
    stop();
}

/* --- fork --- */

static int inherited;

static void the_parents_handle_is_of_no_use(void) {
    int request = 7, alive;
    char json[8] = "x";
    CHECK_SAME(iblb_send(inherited, NULL, IBLB_PING, NULL, 0, &request), IBLB_E_FORKED);
    CHECK_SAME(request, 0);
    CHECK_SAME(iblb_notify(inherited, NULL, IBLB_PING, NULL, 0), IBLB_E_FORKED);
    CHECK_SAME(iblb_wait(inherited, 1, 0, json, sizeof json, NULL), IBLB_E_FORKED);
    CHECK_SAME(iblb_call(inherited, NULL, IBLB_PING, NULL, 0, NULL, 0, &request), IBLB_E_FORKED);
    CHECK_SAME(iblb_cancel(inherited, 1), IBLB_E_FORKED);
    CHECK_SAME(iblb_worker_state(inherited, &alive, NULL, NULL), IBLB_E_FORKED);
    CHECK(strstr(sentence(inherited), "child") != NULL);
    CHECK_SAME(iblb_close(inherited), IBLB_E_FORKED);
    int own = open_client("child");
    CHECK(own != inherited);
    CHECK_SAME(iblb_close(own), 0);
}

static void a_forked_handle_says_so_and_the_child_can_open_its_own(void) {
    start();
    inherited = open_client("parent");
    struct child child = in_fork(the_parents_handle_is_of_no_use);
    child_was_right(&child);
    int request = send_start(inherited);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(inherited, request), 0);
    iblb_close(inherited);
    stop();
}

static void touch_the_segment(void) {
    store32_release(&eye.header->services_up, 77);
}

static void the_mapping_is_not_there_in_a_child(void) {
    start();
    struct child child = in_fork(touch_the_segment);
    CHECK(child.process && child_wait(&child) != 0); /* a signal, or a sanitizer's report */
    CHECK_SAME(load32_acquire(&eye.header->services_up), 0);
    stop();
}

static void the_slots_lock_does_not_survive_in_a_child(void) {
    start();
    int handle = open_client("parent");
    struct child child = in_fork(hold_still);
    iblb_close(handle);
    EVENTUALLY(freed(0));
    child_kill(&child);
    stop();
}

/* Opens a client, and dies; what it has started lives on, and holds whatever it was given. */
static void die_before(const struct child *grandchild) {
    char line[16];
    snprintf(line, sizeof line, "%u", (unsigned)grandchild->pid);
    say(line);
    die(wrong_checks > 0);
}

static void fork_and_die(void) {
    open_client("middle");
    struct child grandchild = in_fork(hold_still);
    die_before(&grandchild);
}

static void play_idler(void) {
    hold_still();
}

static void play_middle(void) {
    open_client("middle");
    struct child grandchild = in_role("idler");
    die_before(&grandchild);
}

static void slot_is_freed_although_the_grandchild_lives(struct child child) {
    char line[16];
    CHECK(child_line(&child, line, sizeof line));
    child_was_right(&child);
    EVENTUALLY(freed(0));
    CHECK_SAME(kill_process((uint32_t)atol(line)), 0);
}

static void a_client_that_dies_frees_its_slot_although_its_child_lives(void) {
    start();
    slot_is_freed_although_the_grandchild_lives(in_fork(fork_and_die));
    stop();
}

static void a_client_that_dies_frees_its_slot_although_a_program_that_it_started_lives(void) {
    start();
    slot_is_freed_although_the_grandchild_lives(in_role("middle"));
    stop();
}

/* --- owners that scribble --- */

/* Breaks one word of the owner's slot while there is a command in it. */
static const struct {
    size_t offset; /* in the slot */
    uint64_t value;
    int bytes;
} scribbles[] = {
    {offsetof(struct slot_header, command) + offsetof(struct ring_header, tail), 1, 8},
    {offsetof(struct slot_header, command) + offsetof(struct ring_header, tail), UINT64_MAX, 8},
    {offsetof(struct slot_header, command) + offsetof(struct ring_header, tail), 1 << 20, 8},
    {offsetof(struct slot_header, generation), 0, 4},
    {offsetof(struct slot_header, state), SLOT_FREE, 4},
    {offsetof(struct slot_header, state), 12345, 4},
    {SLOT_HEADER_BYTES + offsetof(struct record_header, bytes), 0, 4},
    {SLOT_HEADER_BYTES + offsetof(struct record_header, bytes), 63, 4},
    {SLOT_HEADER_BYTES + offsetof(struct record_header, bytes), 0xffffffc0, 4},
    {SLOT_HEADER_BYTES + offsetof(struct record_header, kind), RECORD_RESPONSE, 4},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, control), 0, 8},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, control), 99, 8},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, generation), 7, 4},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, payload_bytes), 0xffffffff, 4},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, payload_bytes), 9, 4},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, payload_bytes), 3, 4},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, stamp), 0, 8},
    {SLOT_HEADER_BYTES + offsetof(struct command_record, request), 0, 8},
    {SLOT_HEADER_BYTES + sizeof(struct command_record), 0xc1, 1},
    {SLOT_HEADER_BYTES + sizeof(struct command_record), 0x81, 1},
};

static void a_client_that_scribbles_is_quarantined_and_told_and_the_others_go_on(void) {
    for (int row = 0; row < ROWS(scribbles); row++) {
        int ignored;
        start();
        int other = open_client("innocent"), handle = open_client("scribbler"), request = send_start(handle), good = send_start(other);
        memcpy((char *)slot_at(1).header + scribbles[row].offset, &scribbles[row].value, (size_t)scribbles[row].bytes);
        if (scribbles[row].value == SLOT_FREE && scribbles[row].bytes == 4 && scribbles[row].offset == offsetof(struct slot_header, state))
            store32_release(&slot_at(1).header->state, 3); /* FREE before the worker ever looked is no claim at all */
        int count = take();
        CHECK_ROW(row, count == 1 && commands[0].slot == 0);
        CHECK_ROW(row, slot_state(1) == SLOT_QUARANTINED);
        CHECK_ROW(row, wait_now(handle, request) == IBLB_E_QUARANTINED);
        CHECK_ROW(row, iblb_send(handle, NULL, IBLB_PING, NULL, 0, &ignored) == IBLB_E_QUARANTINED && strlen(sentence(handle)) > 20);
        CHECK_ROW(row, iblbw_accept(worker, &commands[0]) == 0 && respond(&commands[0], 0) == 0);
        CHECK_ROW(row, wait_now(other, good) == 0);
        iblb_close(handle);
        EVENTUALLY(freed(1));
        handle = open_client("scribbler"); /* a fresh start, in the same slot */
        CHECK_ROW(row, load32_relaxed(&slot_at(1).header->state) == SLOT_CLAIMED);
        request = send_start(handle);
        CHECK_ROW(row, serve_all() == 1 && wait_now(handle, request) == 0);
        iblb_close(handle);
        iblb_close(other);
        stop();
    }
}

/* As if its commands were of owners before it: they are carried out, and it hears nothing of them but that. */
static void a_client_that_makes_its_slot_younger_is_told(void) {
    for (int looked = 0; looked < 2; looked++) {
        start();
        int handle = open_client("scribbler"), request = send_start(handle);
        if (looked)
            CHECK_SAME(take(), 1);
        store32_release(&slot_at(0).header->generation, 99);
        CHECK_SAME(take(), !looked);
        CHECK_SAME(slot_state(0), looked ? SLOT_QUARANTINED : SLOT_CLAIMED);
        CHECK_SAME(wait_now(handle, request), looked ? IBLB_E_QUARANTINED : IBLB_E_SEGMENT);
        CHECK_SAME(respond(&commands[0], 0), 0);
        CHECK_SAME(load64_relaxed(&slot_at(0).header->response.tail), 0);
        iblb_close(handle);
        EVENTUALLY(freed(0));
        stop();
    }
}

static void a_response_ring_scribbled_by_its_owner_is_quarantined_at_the_next_response(void) {
    static const uint64_t heads[] = {1, 64, UINT64_MAX, 1 << 20};
    for (int row = 0; row < ROWS(heads); row++) {
        start();
        int handle = open_client("scribbler");
        send_start(handle);
        CHECK_ROW(row, take() == 1);
        store64_release(&slot_at(0).header->response.head, heads[row]);
        CHECK_ROW(row, respond(&commands[0], 0) == 0);
        CHECK_ROW(row, slot_state(0) == SLOT_QUARANTINED);
        iblb_close(handle);
        EVENTUALLY(freed(0));
        CHECK_ROW(row, load64_relaxed(&slot_at(0).header->response.head) == load64_relaxed(&slot_at(0).header->response.tail));
        stop();
    }
}

static void words_a_dead_client_left_behind_do_no_harm_to_the_next_owner(void) {
    static const struct {
        const char *what;
        size_t offset;
        uint64_t value;
    } rows[] = {
        {"next_request", offsetof(struct slot_header, next_request), UINT64_MAX},
        {"next_request", offsetof(struct slot_header, next_request), UINT64_MAX - 1},
        {"last_stamp", offsetof(struct slot_header, last_stamp), UINT64_MAX},
        {"command head", offsetof(struct slot_header, command) + offsetof(struct ring_header, head), 7},
        {"response tail", offsetof(struct slot_header, response) + offsetof(struct ring_header, tail), 7},
        {"response head", offsetof(struct slot_header, response) + offsetof(struct ring_header, head), 7},
        {"event tail", offsetof(struct slot_header, event) + offsetof(struct ring_header, tail), 7},
    };
    for (int restarted = 0; restarted < 2; restarted++)
        for (int row = 0; row < ROWS(rows); row++) {
            int before = wrong_checks, request = 0;
            start();
            int handle = open_client("scribbler");
            take();
            memcpy((char *)slot_at(0).header + rows[row].offset, &rows[row].value, 8);
            if (restarted) /* the new worker knows no more than what stands in the slot */
                restart_worker();
            iblb_close(handle);
            EVENTUALLY(freed(0));
            handle = open_client("innocent");
            CHECK_SAME(slot_state(0), SLOT_CLAIMED);
            for (int i = 0; i < 3; i++) {
                CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request), 0);
                CHECK_SAME(serve_all(), 1);
                CHECK_SAME(wait_now(handle, request), 0);
            }
            if (wrong_checks != before)
                printf("        after %s = %llu%s\n", rows[row].what, (unsigned long long)rows[row].value,
                       restarted ? ", seen by a new worker" : "");
            iblb_close(handle);
            stop();
        }
}

static void a_response_ring_scribbled_by_the_worker_is_said_to_the_client(void) {
    static const struct {
        size_t offset;
        uint64_t value;
        int bytes;
    } rows[] = {
        {offsetof(struct slot_header, response) + offsetof(struct ring_header, tail), 1, 8},
        {offsetof(struct slot_header, response) + offsetof(struct ring_header, tail), UINT64_MAX, 8},
        {SLOT_HEADER_BYTES + RING_BYTES + offsetof(struct record_header, bytes), 0, 4},
        {SLOT_HEADER_BYTES + RING_BYTES + offsetof(struct record_header, bytes), 0xffffffc0, 4},
        {SLOT_HEADER_BYTES + RING_BYTES + offsetof(struct record_header, kind), RECORD_COMMAND, 4},
        {SLOT_HEADER_BYTES + RING_BYTES + offsetof(struct response_record, payload_bytes), 4096, 4},
        {SLOT_HEADER_BYTES + RING_BYTES + sizeof(struct response_record), 0xc1, 1},
        {SLOT_HEADER_BYTES + RING_BYTES + sizeof(struct response_record), 0xdf, 1},
    };
    for (int row = 0; row < ROWS(rows); row++) {
        char json[64];
        start();
        int handle = open_client("a"), request = send_start(handle);
        CHECK_SAME(serve_all(), 1);
        memcpy((char *)slot_at(0).header + rows[row].offset, &rows[row].value, (size_t)rows[row].bytes);
        CHECK_ROW(row, iblb_wait(handle, request, 0, json, sizeof json, NULL) == IBLB_E_SEGMENT);
        CHECK_ROW(row, !*json && strlen(sentence(handle)) > 20);
        iblb_close(handle);
        stop();
    }
}

#define NO_FORK NOT_ON_WINDOWS("Windows has no fork")

static const struct test tests[] = {
    {"each claim has a generation of its own and request numbers go on", each_claim_has_a_generation_of_its_own_and_request_numbers_go_on},
    {"a closed slot is freed only after everything is answered", a_closed_slot_is_freed_only_after_everything_is_answered},
    {"what a closed client had sent but nobody had taken is carried out",
     what_a_closed_client_had_sent_but_nobody_had_taken_is_carried_out},
    {"the next owner of a slot hears nothing meant for the one before", the_next_owner_of_a_slot_hears_nothing_meant_for_the_one_before},
    {"without a worker no slot is freed, and a new worker frees it", without_a_worker_no_slot_is_freed_and_a_new_worker_frees_it},
    {"what programs leave without a worker shares the slots, and each is carried out once and in order",
     what_programs_leave_without_a_worker_shares_the_slots_and_each_is_carried_out_once_and_in_order},
    {"who appends to what others left has its own answers only", who_appends_to_what_others_left_has_its_own_answers_only},
    {"what was left dies and is aborted as all commands are", what_was_left_dies_and_is_aborted_as_all_commands_are},
    {"a token that was left is wiped as soon as it is answered", a_token_that_was_left_is_wiped_as_soon_as_it_is_answered},
    {"a ring that is full of what was left says that no worker lives", a_ring_that_is_full_of_what_was_left_says_that_no_worker_lives},
    {"a slot that was left scribbled is not appended to", a_slot_that_was_left_scribbled_is_not_appended_to},
    {"when all slots are taken only a tool still gets in", when_all_slots_are_taken_only_a_tool_still_gets_in},
    {"an open that finds no slot waits for one", an_open_that_finds_no_slot_waits_for_one},
    {"a process holds 64 handles and no more", a_process_holds_64_handles_and_no_more},
    {"the same name again in one process closes the old handle", the_same_name_again_in_one_process_closes_the_old_handle},
    {"the same name again in one process is fine while a command is under way",
     the_same_name_again_in_one_process_is_fine_while_a_command_is_under_way},
    {"a name is free again while the commands of its last owner are under way",
     a_name_is_free_again_while_the_commands_of_its_last_owner_are_under_way},
    {"the same name in another process is refused, naming the first", the_same_name_in_another_process_is_refused_naming_the_first},
    {"clients without a name get names of their own", clients_without_a_name_get_names_of_their_own},
    {"a close does not wait for an open that waits for its turn", a_close_does_not_wait_for_an_open_that_waits_for_its_turn},
    {"what a killed client had sent is carried out and its slot freed", what_a_killed_client_had_sent_is_carried_out_and_its_slot_freed},
    {"a stopped client keeps its slot", a_stopped_client_keeps_its_slot},
    {"the name of a killed client is free at once", the_name_of_a_killed_client_is_free_at_once},
    {"a forked handle says so, and the child can open its own", a_forked_handle_says_so_and_the_child_can_open_its_own, NO_FORK},
    {"the mapping is not there in a child", the_mapping_is_not_there_in_a_child, NO_FORK},
    {"the slot's lock does not survive in a child", the_slots_lock_does_not_survive_in_a_child, NO_FORK},
    {"a client that dies frees its slot although its child lives", a_client_that_dies_frees_its_slot_although_its_child_lives, NO_FORK},
    {"a client that dies frees its slot although a program that it started lives",
     a_client_that_dies_frees_its_slot_although_a_program_that_it_started_lives},
    {"a client that scribbles is quarantined and told, and the others go on",
     a_client_that_scribbles_is_quarantined_and_told_and_the_others_go_on},
    {"a client that makes its slot younger is told", a_client_that_makes_its_slot_younger_is_told},
    {"a response ring scribbled by its owner is quarantined at the next response",
     a_response_ring_scribbled_by_its_owner_is_quarantined_at_the_next_response},
    {"words a dead client left behind do no harm to the next owner", words_a_dead_client_left_behind_do_no_harm_to_the_next_owner},
    {"a response ring scribbled by the worker is said to the client", a_response_ring_scribbled_by_the_worker_is_said_to_the_client},
};

static const struct role roles[] = {
    {"namesake", play_namesake}, {"victim", play_victim}, {"middle", play_middle}, {"idler", play_idler}, {0}};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), roles);
}
