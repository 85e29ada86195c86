/* test_records.c: what becomes of a command: published, accepted, answered or cancelled; too old, interrupted, orphaned, full. */
#include "rig.h"

#include "inbox.h"

static uint64_t asleep_more; /* ns that the PC seems to have slept in addition */

uint64_t __real_os_asleep_ns(uint64_t likely);
uint64_t __wrap_os_asleep_ns(uint64_t likely);
uint64_t __wrap_os_asleep_ns(uint64_t likely) {
    return __real_os_asleep_ns(likely) + asleep_more;
}

static struct command_record *record_at(uint32_t slot, uint64_t position) {
    struct slot parts = slot_at(slot);
    return (struct command_record *)(void *)ring_at(&parts.command, position);
}

static uint32_t state_at(uint32_t slot, uint64_t position) {
    return (uint32_t)load64_acquire(&record_at(slot, position)->control);
}

static int wait_now(int handle, int request) {
    return iblb_wait(handle, request, 0, NULL, 0, NULL);
}

static void a_command_is_published_accepted_and_answered(void) {
    char json[64];
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(state_at(0, 0), STATE_PUBLISHED);
    CHECK_SAME(take(), 1);
    CHECK_SAME(state_at(0, 0), STATE_PUBLISHED); /* taking changes nothing */
    CHECK_SAME(take(), 0);                       /* and gives it once */
    CHECK(commands[0].message == IBLB_EXPSTART && inbox_request(commands[0].request) == request && commands[0].flags == 0);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(load64_relaxed(&record_at(0, 0)->control), UINT64_C(1) << 32 | STATE_ACCEPTED);
    CHECK_SAME(wait_now(handle, request), IBLB_E_TIMEOUT);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(state_at(0, 0), STATE_ANSWERED);
    CHECK_SAME(iblb_wait(handle, request, 0, json, sizeof json, NULL), 0);
    CHECK(strcmp(json, "{\"error\":\"\"}") == 0);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    iblb_close(handle);
    stop();
}

static void services_and_arguments_arrive_as_they_were_given(void) {
    static const unsigned char packed[] = {0x93, 1, 0xa1, 'x', 0xc0};
    int request;
    start();
    int handle = open_client("a");
    CHECK_SAME(iblb_send(handle, "ephys, cameras", IBLB_EXPINFO, " [1, {\"a\": 2}] ", 1234, &request), 0);
    CHECK_SAME(take(), 1);
    CHECK(commands[0].flags == IBLBW_JSON && commands[0].ttl == (long long)(1234 * MS));
    static const char expected[] = "\xdb\0\0\0\x0e"
                                   "ephys, cameras"
                                   "\xdb\0\0\0\x0f"
                                   " [1, {\"a\": 2}] ";
    CHECK_SAME(commands[0].payload_bytes, sizeof expected - 1);
    CHECK(memcmp(payload + commands[0].payload_offset, expected, sizeof expected - 1) == 0);
    CHECK_SAME(iblb_send_msgpack(handle, " ", IBLB_EXPINFO, packed, sizeof packed, -5, &request), 0);
    CHECK_SAME(take(), 1);
    CHECK(commands[0].flags == 0 && commands[0].ttl < 0 && commands[0].payload_bytes == 5 + sizeof packed);
    CHECK(memcmp(payload + commands[0].payload_offset + 5, packed, sizeof packed) == 0);
    iblb_close(handle);
    stop();
}

static void a_batch_is_in_the_order_of_the_stamps_across_clients(void) {
    int handles[3];
    char name[2] = "a";
    start();
    for (int i = 0; i < 3; i++, name[0]++)
        handles[i] = open_client(name);
    for (int i = 0; i < 12; i++)
        send_message(handles[(i * 2) % 3], i % 2 ? IBLB_EXPSTATUS : IBLB_EXPINFO);
    CHECK_SAME(take(), 12);
    for (int i = 0; i < 12; i++) {
        CHECK_ROW(i, commands[i].slot == (unsigned)(i * 2) % 3);
        CHECK_ROW(i, i == 0 || commands[i].stamp > commands[i - 1].stamp);
        CHECK_ROW(i, i == 0 || commands[i].payload_offset == commands[i - 1].payload_offset + commands[i - 1].payload_bytes);
    }
    for (int i = 0; i < 3; i++)
        iblb_close(handles[i]);
    stop();
}

static void who_floods_holds_up_nobody_who_comes_later(void) {
    enum { FLOOD = 500, LATER = 3, SHARED = 40 };
    static const int flooders[] = {1, 8};
    for (int row = 0; row < ROWS(flooders); row++) {
        int handles[8 + LATER], all = flooders[row] + LATER;
        char name[2] = "a";
        start_sized(16, 1 << 18, RING_BYTES);
        for (int i = 0; i < all; i++, name[0]++)
            handles[i] = open_client(name);
        for (int i = 0; i < FLOOD * flooders[row]; i++)
            CHECK_ROW(row, iblb_notify(handles[i % flooders[row]], NULL, IBLB_EXPINFO, NULL, 0) == 0);
        for (int i = 0; i < LATER; i++)
            send_message(handles[flooders[row] + i], IBLB_EXPSTATUS);
        int count = iblbw_take(worker, commands, SHARED, payload, sizeof payload, 0), found = 0;
        CHECK_ROW(row, count > LATER && count <= SHARED);
        for (int i = 0; i < count; i++) {
            found += commands[i].message == IBLB_EXPSTATUS;
            CHECK_ROW(row, i == 0 || commands[i].stamp >= commands[i - 1].stamp);
        }
        CHECK_ROW(row, found == LATER);
        for (int more; (more = take()) > 0; count += more)
            ;
        CHECK_ROW(row, count == FLOOD * flooders[row] + LATER); /* and nothing is left out */
        for (int i = 0; i < all; i++)
            iblb_close(handles[i]);
        stop();
    }
}

static void what_does_not_fit_a_batch_comes_with_the_next(void) {
    static const char text[] = "\"0123456789012345678901234567890123456789012345678901234567890123456789\"";
    int request;
    start();
    int handle = open_client("a");
    for (int i = 0; i < 20; i++)
        CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPINFO, text, 0, &request), 0);
    int total = 0, batches = 0;
    for (int count; (count = iblbw_take(worker, commands, 8, payload, 1024, 0)) > 0; total += count, batches++)
        CHECK(count <= 8);
    CHECK_SAME(total, 20);
    CHECK_SAME(batches, 3);
    iblb_close(handle);
    stop();
}

/* --- cancelling --- */

static void cancelled_before_it_was_accepted_is_never_sent(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblb_cancel(handle, request), 0);
    CHECK_SAME(state_at(0, 0), STATE_CANCELLED);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_CANCELLED);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    CHECK_SAME(iblb_cancel(handle, request), IBLB_E_REQUEST);
    take();
    CHECK_SAME(load64_relaxed(&slot_at(0).header->command.head), 64);
    request = send_start(handle);
    CHECK_SAME(iblb_cancel(handle, request), 0);
    CHECK_SAME(take(), 0); /* cancelled before it was taken */
    iblb_close(handle);
    stop();
}

static void cancelled_after_it_was_accepted_its_answer_is_dropped(void) {
    start();
    int handle = open_client("a"), request = send_start(handle), next;
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(iblb_cancel(handle, request), IBLB_W_ACCEPTED);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    next = send_start(handle);
    CHECK(next != request);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(handle, next), 0);
    iblb_close(handle);
    stop();
}

struct duel {
    int handle;
    _Atomic int request, turn, won;
};

static void withdrawn_before_it_was_accepted_is_never_sent(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblb_withdraw(handle, request), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_CANCELLED);
    CHECK_SAME(iblb_withdraw(handle, request), IBLB_E_REQUEST);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    iblb_close(handle);
    stop();
}

static void after_it_was_accepted_a_withdrawal_changes_nothing(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(iblb_withdraw(handle, request), IBLB_W_ACCEPTED);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(iblb_withdraw(handle, request), IBLB_W_ACCEPTED);
    CHECK_SAME(wait_now(handle, request), 0);
    iblb_close(handle);
    stop();
}

static void *cancel_each(void *argument) {
    struct duel *duel = argument;
    for (int turn = 1; turn <= 300; turn++) {
        while (duel->turn != turn)
            ;
        duel->won += iblb_cancel(duel->handle, duel->request) == 0;
        duel->turn = -turn;
    }
    return NULL;
}

static void of_cancel_and_accept_in_two_threads_exactly_one_wins(void) {
    struct duel duel = {0};
    pthread_t thread;
    int accepted = 0;
    start();
    duel.handle = open_client("a");
    CHECK(pthread_create(&thread, NULL, cancel_each, &duel) == 0);
    for (int turn = 1; turn <= 300; turn++) {
        duel.request = send_start(duel.handle);
        CHECK_SAME(take(), 1);
        duel.turn = turn;
        if (iblbw_accept(worker, &commands[0]) == 0) {
            accepted++;
            CHECK_SAME(respond(&commands[0], 0), 0);
        }
        while (duel.turn != -turn)
            ;
    }
    pthread_join(thread, NULL);
    CHECK_SAME(accepted + duel.won, 300);
    iblb_close(duel.handle);
    stop();
}

/* --- too old, too new --- */

/* Rewrites the stamp of the one record in the ring, as if it had been written then. */
static void an_old_or_future_command_is_never_sent(void) {
    static const struct {
        int64_t age_ms;
        int ttl_ms, code;
    } rows[] = {{0, 0, 0},
                {9000, 0, 0},
                {10500, 0, IBLB_E_EXPIRED},
                {10500, 11000, 0},
                {60000, -1, 0},
                {86400000, -1, 0},
                {50, 1, IBLB_E_EXPIRED},
                {-1000, 0, IBLB_E_EXPIRED},
                {-1000, -1, IBLB_E_EXPIRED},
                {-100000000, -1, IBLB_E_EXPIRED},
                {900, 1000000, 0}};
    for (int row = 0; row < ROWS(rows); row++) {
        int request;
        start();
        int handle = open_client("a");
        CHECK_ROW(row, iblb_send(handle, NULL, IBLB_EXPSTART, NULL, rows[row].ttl_ms, &request) == 0);
        int64_t stamp = (int64_t)os_clock_ns() - rows[row].age_ms * (int64_t)MS;
        record_at(0, 0)->stamp = (uint64_t)(stamp > 0 ? stamp : 1);
        CHECK_ROW(row, take() == 1);
        if (stamp > 0)
            CHECK_ROW(row, iblbw_accept(worker, &commands[0]) == rows[row].code);
        CHECK_ROW(row, respond(&commands[0], rows[row].code) == 0);
        CHECK_ROW(row, wait_now(handle, request) == rows[row].code);
        iblb_close(handle);
        stop();
    }
}

static void it_is_the_moment_of_accept_that_counts_and_not_that_of_take(void) {
    int request;
    start();
    int handle = open_client("a");
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 1, &request), 0);
    CHECK_SAME(take(), 1);
    uint64_t until = commands[0].stamp + 2 * MS;
    while (os_clock_ns() < until)
        os_sleep_ns(MS);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_EXPIRED);
    CHECK_SAME(state_at(0, 0), STATE_PUBLISHED);
    iblb_close(handle);
    stop();
}

static void what_was_sent_before_the_pc_slept_is_expired(void) {
    int before, taken, after;
    start();
    int handle = open_client("a");
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, -1, &taken), 0);
    CHECK_SAME(take(), 1);
    struct iblbw_command command = commands[0];
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, -1, &before), 0);
    asleep_more = 3600 * 1000 * MS;
    CHECK_SAME(iblbw_accept(worker, &command), IBLB_E_EXPIRED);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, -1, &after), 0);
    CHECK_SAME(take(), 2);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_EXPIRED);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), 0);
    restart_worker(); /* which finds the note and does not expire anything anew */
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, -1, &after), 0);
    CHECK_SAME(take(), 4);
    CHECK_SAME(iblbw_accept(worker, &commands[3]), 0);
    iblb_close(handle);
    asleep_more = 0;
    stop();
}

/* --- interrupt --- */

static void an_interrupt_overtakes_and_aborts_what_is_older(void) {
    start();
    int one = open_client("one"), two = open_client("two");
    int first = send_start(one), second = send_start(two), stopping = send_message(two, IBLB_EXPINTERRUPT), later = send_start(one);
    CHECK_SAME(take(), 4);
    CHECK_SAME(commands[0].message, IBLB_EXPINTERRUPT);
    CHECK_SAME(inbox_request(commands[0].request), stopping);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), IBLB_E_ABORTED);
    CHECK_SAME(iblbw_accept(worker, &commands[2]), IBLB_E_ABORTED);
    CHECK_SAME(iblbw_accept(worker, &commands[3]), 0);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(respond(&commands[1], IBLB_E_ABORTED), 0);
    CHECK_SAME(respond(&commands[2], IBLB_E_ABORTED), 0);
    CHECK_SAME(respond(&commands[3], 0), 0);
    CHECK_SAME(wait_now(one, first), IBLB_E_ABORTED);
    CHECK_SAME(wait_now(two, second), IBLB_E_ABORTED);
    CHECK_SAME(wait_now(two, stopping), 0);
    CHECK_SAME(wait_now(one, later), 0);
    CHECK_SAME(take(), 0); /* none of them a second time */
    iblb_close(one);
    iblb_close(two);
    stop();
}

static void interrupts_can_be_taken_alone_and_all_else_stays_where_it_is(void) {
    start();
    int one = open_client("one"), two = open_client("two");
    send_start(one);
    int stopping = send_message(two, IBLB_EXPINTERRUPT);
    send_start(two);
    CHECK_SAME(iblbw_take_interrupts(worker, commands, BATCH, payload, sizeof payload, 0), 1);
    CHECK_SAME(inbox_request(commands[0].request), stopping);
    CHECK_SAME(iblbw_take_interrupts(worker, commands, BATCH, payload, sizeof payload, 1), 0); /* parks: what stays is no news */
    CHECK_SAME(take(), 2);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_ABORTED);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), 0);
    CHECK_SAME(take(), 0);
    iblb_close(one);
    iblb_close(two);
    stop();
}

static void an_interrupt_aborts_what_was_taken_before_it(void) {
    start();
    int handle = open_client("a");
    send_start(handle);
    CHECK_SAME(take(), 1);
    struct iblbw_command command = commands[0];
    send_message(handle, IBLB_EXPINTERRUPT);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &command), IBLB_E_ABORTED);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    iblb_close(handle);
    stop();
}

static void an_interrupt_for_some_services_aborts_nothing_by_itself(void) {
    int request;
    start();
    int handle = open_client("a");
    send_start(handle);
    CHECK_SAME(iblb_send(handle, "ephys", IBLB_EXPINTERRUPT, NULL, 0, &request), 0);
    CHECK_SAME(take(), 2);
    CHECK_SAME(commands[0].message, IBLB_EXPINTERRUPT);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), 0);
    iblb_close(handle);
    stop();
}

static void an_interrupts_stamp_outlives_the_worker(void) {
    start();
    int handle = open_client("a");
    send_start(handle);
    int stopping = send_message(handle, IBLB_EXPINTERRUPT);
    CHECK_SAME(take(), 2);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(wait_now(handle, stopping), 0);
    restart_worker();
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_ABORTED);
    iblb_close(handle);
    stop();
}

static void an_interrupt_from_the_future_aborts_nothing(void) {
    start();
    int handle = open_client("a");
    send_message(handle, IBLB_EXPINTERRUPT);
    record_at(0, 0)->stamp += 3600 * 1000 * MS;
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_EXPIRED);
    int other = open_client("b");
    send_start(other);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    iblb_close(handle);
    iblb_close(other);
    stop();
}

static void interrupts_of_several_clients_come_in_the_order_of_their_stamps(void) {
    int request;
    start();
    int one = open_client("one"), two = open_client("two");
    CHECK_SAME(iblb_send(two, "ephys", IBLB_EXPINTERRUPT, NULL, 0, &request), 0); /* the later slot is the earlier sender */
    CHECK_SAME(iblb_send(one, "ephys", IBLB_EXPINTERRUPT, NULL, 0, &request), 0);
    CHECK_SAME(take(), 2);
    CHECK(commands[0].stamp < commands[1].stamp);
    iblb_close(one);
    iblb_close(two);
    stop();
}

static void more_interrupts_than_can_overtake_are_still_each_taken_once(void) {
    int requests[40];
    start();
    int handle = open_client("a");
    for (int i = 0; i < 40; i++)
        requests[i] = send_message(handle, IBLB_EXPINTERRUPT);
    int taken = 0;
    for (int count; (count = take()) > 0; taken += count)
        for (int i = 0; i < count; i++)
            CHECK_SAME(respond(&commands[i], IBLB_E_ABORTED), 0);
    CHECK_SAME(taken, 40);
    for (int i = 0; i < 40; i++)
        CHECK_ROW(i, wait_now(handle, requests[i]) == IBLB_E_ABORTED);
    for (int i = 0; i < 100; i++) { /* and they go on overtaking afterwards */
        send_start(handle);
        send_message(handle, IBLB_EXPINTERRUPT);
        CHECK_SAME(take(), 2);
        CHECK_ROW(i, commands[0].message == IBLB_EXPINTERRUPT);
        respond(&commands[0], 0);
        respond(&commands[1], IBLB_E_ABORTED);
    }
    iblb_close(handle);
    stop();
}

/* --- full rings --- */

static int fill_up(int handle, int requests[], int most) {
    for (int count = 0; count < most; count++) {
        int code = iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &requests[count]);
        if (code != 0) {
            CHECK_SAME(code, IBLB_E_FULL);
            CHECK_SAME(requests[count], 0);
            return count;
        }
    }
    return most;
}

static void a_full_ring_says_so_at_once_and_an_interrupt_still_gets_in(void) {
    static int requests[300];
    char large[MAX_INTERRUPT_BYTES];
    int request;
    start();
    int handle = open_client("a"), count = fill_up(handle, requests, 300);
    CHECK_SAME(count, (RING_BYTES - INTERRUPT_RESERVE) / 64);
    CHECK(strstr(sentence(handle), "EXPINTERRUPT") != NULL);
    CHECK_SAME(iblb_notify(handle, NULL, IBLB_EXPSTATUS, NULL, 0), IBLB_E_FULL);
    CHECK_SAME(iblb_call(handle, NULL, IBLB_EXPSTATUS, NULL, LONG_MS, NULL, 0, &request), IBLB_E_FULL);
    memset(large, 'x', sizeof large);
    large[0] = large[sizeof large - 12] = '"';
    large[sizeof large - 11] = '\0';
    for (int i = 0; i < 3; i++)
        CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPINTERRUPT, large, 0, &request), 0);
    CHECK_SAME(take(), BATCH);
    CHECK(commands[0].message == IBLB_EXPINTERRUPT && commands[2].message == IBLB_EXPINTERRUPT);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request), IBLB_E_FULL); /* the oldest is still there */
    CHECK_SAME(respond(&commands[3], IBLB_E_ABORTED), 0);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request), IBLB_E_FULL); /* the interrupts stand in their reserve */
    for (int i = 4; i < BATCH; i++)
        CHECK_SAME(respond(&commands[i], IBLB_E_ABORTED), 0);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request), 0);
    iblb_close(handle);
    stop();
}

static void commands_go_round_and_round_the_ring_at_every_size(void) {
    static char text[8192];
    start();
    int handle = open_client("a"), request;
    for (int i = 0; i < 3000; i++) {
        size_t length = (size_t)(i * 37) % 5800;
        memset(text, 'x', length + 2);
        text[0] = text[length + 1] = '"';
        text[length + 2] = '\0';
        CHECK_ROW(i, iblb_send(handle, NULL, IBLB_EXPINFO, text, 0, &request) == 0);
        CHECK_ROW(i, take() == 1 && commands[0].payload_bytes == length + 12);
        CHECK_ROW(i, memcmp(payload + 10, text, length + 2) == 0);
        CHECK_ROW(i, iblbw_accept(worker, &commands[0]) == 0);
        CHECK_ROW(i, respond_large(&commands[0], 10 + i % 4000) == 0);
        CHECK_ROW(i, wait_now(handle, request) == 0);
    }
    iblb_close(handle);
    stop();
}

static void when_the_response_ring_is_full_the_worker_keeps_the_response_until_there_is_room(void) {
    int requests[16], handled = 0;
    start();
    int handle = open_client("a");
    for (int i = 0; i < 16; i++)
        requests[i] = send_start(handle);
    CHECK_SAME(take(), 16);
    for (; handled < 16; handled++)
        if (respond_large(&commands[handled], 3900) != 0)
            break;
    CHECK_SAME(handled, 4);
    CHECK_SAME(respond_large(&commands[handled], 3900), IBLB_E_FULL);
    CHECK_SAME(state_at(0, 64 * 4), STATE_ACCEPTED); /* no successor sends it; not answered as long as its response is not placed */
    CHECK_SAME(load32_relaxed(&slot_at(0).header->response_wanted), 1);
    CHECK_SAME(wait_now(handle, requests[15]), IBLB_E_TIMEOUT); /* moves what is there into the client's own memory */
    for (; handled < 8; handled++)
        CHECK_SAME(respond_large(&commands[handled], 3900), 0);
    CHECK_SAME(load32_relaxed(&slot_at(0).header->response_wanted), 0);
    for (int i = 7; i >= 0; i--)
        CHECK_ROW(i, wait_now(handle, requests[i]) == 0);
    iblb_close(handle);
    stop();
}

static void *take_patiently(void *result) {
    *(int *)result = iblbw_take(worker, commands, BATCH, payload, sizeof payload, LONG_MS);
    return NULL;
}

static void a_client_that_makes_room_wakes_the_worker_that_waits_for_it(void) {
    static struct iblbw_command held[8];
    int requests[8], result = -1;
    pthread_t thread;
    start();
    int handle = open_client("a");
    for (int i = 0; i < 8; i++)
        requests[i] = send_start(handle);
    CHECK_SAME(take(), 8);
    memcpy(held, commands, sizeof held);
    for (int i = 0; i < 5; i++)
        CHECK_SAME(respond_large(&held[i], 3900), i < 4 ? 0 : IBLB_E_FULL);
    uint64_t began = os_clock_ns();
    CHECK(pthread_create(&thread, NULL, take_patiently, &result) == 0);
    EVENTUALLY(load32_acquire(&eye.header->worker_bell.parked));
    CHECK_SAME(wait_now(handle, requests[0]), 0);
    pthread_join(thread, NULL);
    CHECK(result == 0 && os_clock_ns() - began < PROMPT_NS);
    CHECK_SAME(respond_large(&held[4], 3900), 0);
    iblb_close(handle);
    stop();
}

static void an_unread_response_blocks_nothing_but_itself(void) {
    start();
    int handle = open_client("a"), other = open_client("b"), unread[200];
    for (int i = 0; i < 200; i++) {
        unread[i] = send_start(handle);
        CHECK_SAME(take(), 1);
        CHECK_ROW(i, respond_large(&commands[0], 3000) == 0);
        int request = send_start(other);
        CHECK_SAME(serve_all(), 1);
        CHECK_ROW(i, wait_now(other, request) == 0);
        request = send_start(handle);
        CHECK_SAME(serve_all(), 1);
        CHECK_ROW(i, wait_now(handle, request) == 0);
    }
    for (int i = 0; i < 200; i++)
        CHECK_ROW(i, wait_now(handle, unread[i]) == 0);
    iblb_close(handle);
    iblb_close(other);
    stop();
}

static void more_than_1024_requests_are_too_many_until_one_is_taken(void) {
    int request;
    start_sized(4, 1 << 18, 1 << 18);
    int handle = open_client("a"), first = send_start(handle);
    for (int i = 1; i < 1024; i++)
        send_start(handle);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request), IBLB_E_TOO_MANY);
    CHECK_SAME(iblb_notify(handle, NULL, IBLB_EXPSTART, NULL, 0), 0);
    CHECK_SAME(iblb_cancel(handle, first), 0);
    send_start(handle);
    iblb_close(handle);
    stop();
}

static void a_response_that_cannot_be_is_refused(void) {
    static unsigned char body[RING_BYTES];
    start();
    int handle = open_client("a");
    send_start(handle);
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_respond(worker, &commands[0], 0, body, RING_BYTES / 2), IBLB_E_TOO_LARGE);
    CHECK_SAME(iblbw_respond(worker, &commands[0], 0, body, -1), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_respond(worker, &commands[0], 0, NULL, 1), IBLB_E_ARGUMENT);
    struct iblbw_command elsewhere = commands[0];
    elsewhere.slot = 99;
    CHECK_SAME(iblbw_respond(worker, &elsewhere, 0, body, 1), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_accept(worker, &elsewhere), IBLB_E_CANCELLED);
    elsewhere = commands[0];
    elsewhere.position += 64;
    CHECK_SAME(iblbw_accept(worker, &elsewhere), IBLB_E_CANCELLED);
    elsewhere = commands[0];
    elsewhere.generation++;
    CHECK_SAME(iblbw_accept(worker, &elsewhere), IBLB_E_CANCELLED);
    CHECK_SAME(state_at(0, 0), STATE_PUBLISHED);
    iblb_close(handle);
    stop();
}

/* --- notifications --- */

static void notifications_are_counted_by_outcome_and_not_answered(void) {
    start();
    int handle = open_client("a");
    for (int i = 0; i < 5; i++)
        CHECK_SAME(iblb_notify(handle, NULL, IBLB_EXPINFO, NULL, 0), 0);
    CHECK_SAME(take(), 5);
    for (int i = 0; i < 5; i++) {
        CHECK_SAME(commands[i].flags, IBLBW_NOTIFY);
        CHECK_SAME(respond(&commands[i], i < 2 ? IBLB_E_PARTIAL : i == 2 ? IBLB_W_OPTIONAL : 0), 0);
        CHECK_SAME(respond(&commands[i], 0), 0); /* twice counts once */
    }
    CHECK_SAME(load64_relaxed(&slot_at(0).header->notified), 3);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->notified_failed), 2);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->response.tail), 0);
    iblb_close(handle);
    stop();
}

/* --- a new worker --- */

static void a_new_worker_sends_what_was_published_and_not_what_was_accepted(void) {
    start();
    int handle = open_client("a");
    int answered = send_start(handle), accepted = send_start(handle), taken = send_start(handle), published;
    CHECK_SAME(take(), 3);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(respond(&commands[0], 0), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), 0);
    published = send_start(handle);
    restart_worker();
    CHECK_SAME(take(), 3);
    CHECK_SAME(inbox_request(commands[0].request), accepted);
    CHECK_SAME(commands[0].flags, IBLBW_ORPHAN);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), IBLB_E_CANCELLED); /* never a second time */
    CHECK_SAME(respond(&commands[0], IBLB_E_OUTCOME_UNKNOWN), 0);
    CHECK(commands[1].flags == 0 && commands[2].flags == 0);
    CHECK_SAME(iblbw_accept(worker, &commands[1]), 0);
    CHECK_SAME(respond(&commands[1], 0), 0);
    CHECK_SAME(iblbw_accept(worker, &commands[2]), 0);
    CHECK_SAME(respond(&commands[2], 0), 0);
    CHECK_SAME(wait_now(handle, answered), 0);
    CHECK_SAME(wait_now(handle, accepted), IBLB_E_OUTCOME_UNKNOWN);
    CHECK_SAME(wait_now(handle, taken), 0);
    CHECK_SAME(wait_now(handle, published), 0);
    iblb_close(handle);
    stop();
}

static void of_two_responses_of_two_workers_the_first_counts(void) {
    start();
    int handle = open_client("a"), request = send_start(handle), next;
    CHECK_SAME(take(), 1);
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
    CHECK_SAME(respond(&commands[0], 0), 0);
    store64_release(&record_at(0, 0)->control, UINT64_C(1) << 32 | STATE_ACCEPTED); /* it died between response and mark */
    store64_release(&slot_at(0).header->command.head, 0);
    restart_worker();
    CHECK_SAME(take(), 1);
    CHECK_SAME(commands[0].flags, IBLBW_ORPHAN);
    CHECK_SAME(respond(&commands[0], IBLB_E_OUTCOME_UNKNOWN), 0);
    CHECK_SAME(wait_now(handle, request), 0);
    CHECK_SAME(wait_now(handle, request), IBLB_E_REQUEST);
    next = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(wait_now(handle, next), 0);
    iblb_close(handle);
    stop();
}

static void requests_sent_without_a_worker_wait_for_one(void) {
    int request, alive = 1;
    start();
    int handle = open_client("a");
    iblbw_close(worker, 0);
    CHECK_SAME(iblb_worker_state(handle, &alive, NULL, NULL), 0);
    CHECK_SAME(alive, 0);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request), IBLB_W_NO_WORKER);
    CHECK(request > 0 && strlen(sentence(handle)) > 20);
    CHECK_SAME(iblb_notify(handle, NULL, IBLB_EXPSTART, NULL, 0), IBLB_W_NO_WORKER);
    CHECK_SAME(wait_now(handle, request), IBLB_E_NO_WORKER);
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(serve_all(), 2);
    CHECK_SAME(wait_now(handle, request), 0);
    iblb_close(handle);
    stop();
}

static const struct test tests[] = {
    {"a command is published, accepted and answered", a_command_is_published_accepted_and_answered},
    {"services and arguments arrive as they were given", services_and_arguments_arrive_as_they_were_given},
    {"a batch is in the order of the stamps across clients", a_batch_is_in_the_order_of_the_stamps_across_clients},
    {"who floods holds up nobody who comes later", who_floods_holds_up_nobody_who_comes_later},
    {"what does not fit a batch comes with the next", what_does_not_fit_a_batch_comes_with_the_next},
    {"cancelled before it was accepted is never sent", cancelled_before_it_was_accepted_is_never_sent},
    {"cancelled after it was accepted its answer is dropped", cancelled_after_it_was_accepted_its_answer_is_dropped},
    {"withdrawn before it was accepted is never sent", withdrawn_before_it_was_accepted_is_never_sent},
    {"after it was accepted a withdrawal changes nothing", after_it_was_accepted_a_withdrawal_changes_nothing},
    {"of cancel and accept in two threads exactly one wins", of_cancel_and_accept_in_two_threads_exactly_one_wins},
    {"an old or future command is never sent", an_old_or_future_command_is_never_sent},
    {"it is the moment of accept that counts and not that of take", it_is_the_moment_of_accept_that_counts_and_not_that_of_take},
    {"what was sent before the PC slept is expired", what_was_sent_before_the_pc_slept_is_expired},
    {"an interrupt overtakes and aborts what is older", an_interrupt_overtakes_and_aborts_what_is_older},
    {"interrupts can be taken alone and all else stays where it is", interrupts_can_be_taken_alone_and_all_else_stays_where_it_is},
    {"an interrupt aborts what was taken before it", an_interrupt_aborts_what_was_taken_before_it},
    {"an interrupt for some services aborts nothing by itself", an_interrupt_for_some_services_aborts_nothing_by_itself},
    {"an interrupt's stamp outlives the worker", an_interrupts_stamp_outlives_the_worker},
    {"an interrupt from the future aborts nothing", an_interrupt_from_the_future_aborts_nothing},
    {"interrupts of several clients come in the order of their stamps", interrupts_of_several_clients_come_in_the_order_of_their_stamps},
    {"more interrupts than can overtake are still each taken once", more_interrupts_than_can_overtake_are_still_each_taken_once},
    {"a full ring says so at once and an interrupt still gets in", a_full_ring_says_so_at_once_and_an_interrupt_still_gets_in},
    {"commands go round and round the ring at every size", commands_go_round_and_round_the_ring_at_every_size},
    {"when the response ring is full the worker keeps the response until there is room",
     when_the_response_ring_is_full_the_worker_keeps_the_response_until_there_is_room},
    {"a client that makes room wakes the worker that waits for it", a_client_that_makes_room_wakes_the_worker_that_waits_for_it},
    {"an unread response blocks nothing but itself", an_unread_response_blocks_nothing_but_itself},
    {"more than 1024 requests are too many until one is taken", more_than_1024_requests_are_too_many_until_one_is_taken},
    {"a response that cannot be is refused", a_response_that_cannot_be_is_refused},
    {"notifications are counted by outcome and not answered", notifications_are_counted_by_outcome_and_not_answered},
    {"a new worker sends what was published and not what was accepted", a_new_worker_sends_what_was_published_and_not_what_was_accepted},
    {"of two responses of two workers the first counts", of_two_responses_of_two_workers_the_first_counts},
    {"requests sent without a worker wait for one", requests_sent_without_a_worker_wait_for_one},
};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), NULL);
}
