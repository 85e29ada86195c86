/* test_interleavings.c: what one side does, stopped after every single access of shared memory, while the other side does its own thing.
 *
 * Built with IBLB_FAULT: atomics.h then calls iblb_fault_point after each access. Each test runs one operation over and over, letting the
 * other side in after the first access, then after the second, ... until it has been let in after every one (every_point.h).
 */
#include "every_point.h"

static int handle, request, other, other_request, result, sent_result;
static void rig_with_one_client(void) {
    start();
    handle = open_client("one");
}

static void rig_with_a_request(void) {
    rig_with_one_client();
    request = send_start(handle);
}

static void rig_with_two_clients(void) {
    rig_with_a_request();
    other = open_client("two");
}

static void do_take(void) {
    result = take();
}
static void do_send(void) {
    sent_result = iblb_send(handle, NULL, IBLB_EXPSTART, NULL, 0, &request);
}
static void do_serve(void) {
    serve_all();
}

/* --- take against send --- */

static void everything_is_answered(void) {
    CHECK_SAME(sent_result, 0);
    for (int i = 0; i < result; i++) {
        CHECK_SAME(iblbw_accept(worker, &commands[i]), 0);
        CHECK_SAME(respond(&commands[i], 0), 0);
    }
    serve_all();
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->command.head), load64_relaxed(&slot_at(0).header->command.tail));
    iblb_close(handle);
    take();
    CHECK_SAME(slot_state(0), SLOT_FREE);
}

static void a_command_sent_at_any_point_of_a_take_is_answered_once(void) {
    CHECK(at_every_point(rig_with_one_client, do_take, do_send, everything_is_answered) > 5);
}

static void a_command_taken_at_any_point_of_its_send_is_answered_once(void) {
    result = 0;
    CHECK(at_every_point(rig_with_one_client, do_send, do_serve, everything_is_answered) > 5);
}

/* --- take against an interrupt of another client --- */

static void interrupt_from_other(void) {
    other_request = send_message(other, IBLB_EXPINTERRUPT);
}

static void the_start_is_aborted_and_the_interrupt_done(void) {
    int interrupts = 0, starts = 0;
    for (int i = 0; i < result; i++) {
        if (commands[i].message == IBLB_EXPINTERRUPT)
            interrupts++;
        else
            starts++;
    }
    struct iblbw_command first[BATCH];
    int count = result;
    memcpy(first, commands, sizeof first);
    if (!interrupts) { /* it came too late for this pass: the next one has it */
        CHECK_SAME(take(), 1);
        CHECK_SAME(commands[0].message, IBLB_EXPINTERRUPT);
        CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
        CHECK_SAME(respond(&commands[0], 0), 0);
        interrupts++;
    }
    CHECK(interrupts == 1 && starts == 1);
    CHECK(count < 2 || first[0].message == IBLB_EXPINTERRUPT); /* first of its batch */
    for (int i = 0; i < count; i++) {
        int expected = first[i].message == IBLB_EXPINTERRUPT ? 0 : IBLB_E_ABORTED;
        CHECK_SAME(iblbw_accept(worker, &first[i]), expected);
        CHECK_SAME(respond(&first[i], expected), 0);
    }
    CHECK_SAME(take(), 0);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_ABORTED);
    CHECK_SAME(iblb_wait(other, other_request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
    iblb_close(other);
}

static void an_interrupt_at_any_point_of_a_take_comes_first_and_aborts_what_is_older(void) {
    CHECK(at_every_point(rig_with_two_clients, do_take, interrupt_from_other, the_start_is_aborted_and_the_interrupt_done) > 5);
}

/* As if the worker had been held up for longer than a stamp may lie in the future. */
static void interrupt_from_other_after_a_while(void) {
    os_sleep_ns(2 * FUTURE_NS);
    interrupt_from_other();
}

static void an_interrupt_that_comes_while_a_take_is_held_up_aborts_what_is_older(void) {
    CHECK(at_every_point(rig_with_two_clients, do_take, interrupt_from_other_after_a_while, the_start_is_aborted_and_the_interrupt_done) >
          5);
}

/* --- accept against cancel --- */

static int accepted, cancelled;

static void rig_with_a_taken_request(void) {
    rig_with_a_request();
    CHECK_SAME(take(), 1);
}
static void do_accept(void) {
    accepted = iblbw_accept(worker, &commands[0]);
}
static void do_cancel(void) {
    cancelled = iblb_cancel(handle, request);
}
static void exactly_one_of_them_won(void) {
    CHECK((accepted == 0 && cancelled == IBLB_W_ACCEPTED) || (accepted == IBLB_E_CANCELLED && cancelled == 0));
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_REQUEST);
    if (accepted == 0)
        CHECK_SAME(respond(&commands[0], 0), 0);
    take();
    CHECK_SAME(load64_relaxed(&slot_at(0).header->command.head), load64_relaxed(&slot_at(0).header->command.tail));
    send_start(handle); /* the answer that nobody wants is no hindrance */
    iblb_close(handle);
}

static void of_accept_and_cancel_exactly_one_wins_at_any_point(void) {
    CHECK(at_every_point(rig_with_a_taken_request, do_accept, do_cancel, exactly_one_of_them_won) > 3);
    CHECK(at_every_point(rig_with_a_taken_request, do_cancel, do_accept, exactly_one_of_them_won) > 1);
}

/* --- respond against cancel, wait and close --- */

static void rig_with_an_accepted_request(void) {
    rig_with_a_taken_request();
    CHECK_SAME(iblbw_accept(worker, &commands[0]), 0);
}
static void do_respond(void) {
    CHECK_SAME(respond(&commands[0], 0), 0);
}
static void the_answer_is_nobodys(void) {
    CHECK_SAME(cancelled, IBLB_W_ACCEPTED);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_REQUEST);
    take();
    CHECK_SAME(load64_relaxed(&slot_at(0).header->command.head), load64_relaxed(&slot_at(0).header->command.tail));
    request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
}

static void a_cancel_at_any_point_of_a_response_leaves_the_rings_in_order(void) {
    CHECK(at_every_point(rig_with_an_accepted_request, do_respond, do_cancel, the_answer_is_nobodys) > 5);
}

static int waited;
static void do_wait(void) {
    waited = iblb_wait(handle, request, 1, NULL, 0, NULL);
}
static int response_is_there(void) {
    return load64_acquire(&slot_at(0).header->response.tail) != load64_acquire(&slot_at(0).header->response.head);
}
static void the_response_was_had(void) {
    CHECK(waited == 0 || waited == IBLB_E_TIMEOUT);
    if (waited != 0)
        CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
}

static void a_response_at_any_point_of_a_wait_is_never_slept_through(void) {
    work_is_there = response_is_there;
    CHECK(at_every_point(rig_with_an_accepted_request, do_wait, do_respond, the_response_was_had) > 5);
    work_is_there = NULL;
}

static void do_patient_take(void) {
    result = iblbw_take(worker, commands, BATCH, payload, sizeof payload, 1);
}
static int command_is_there(void) {
    return load64_acquire(&slot_at(0).header->command.tail) != load64_acquire(&slot_at(0).header->command.head);
}

static void a_command_at_any_point_of_a_waiting_take_is_never_slept_through(void) {
    work_is_there = command_is_there;
    CHECK(at_every_point(rig_with_one_client, do_patient_take, do_send, everything_is_answered) > 5);
    work_is_there = NULL;
}

/* --- close, at any point --- */

static void do_close(void) {
    CHECK_SAME(iblb_close(handle), 0);
}
static void the_slot_is_free_once_all_is_answered(void) {
    for (int i = 0; i < result; i++) {
        CHECK_SAME(iblbw_accept(worker, &commands[i]), 0);
        CHECK_SAME(respond(&commands[i], 0), 0);
    }
    serve_all();
    take();
    CHECK_SAME(slot_state(0), SLOT_FREE);
    handle = open_client("one");
    request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
}

static void a_close_at_any_point_of_a_take_frees_the_slot_when_all_is_answered(void) {
    CHECK(at_every_point(rig_with_a_request, do_take, do_close, the_slot_is_free_once_all_is_answered) > 5);
}

static void a_close_at_any_point_of_a_response_frees_the_slot(void) {
    result = 0; /* nothing is left to be answered */
    CHECK(at_every_point(rig_with_an_accepted_request, do_respond, do_close, the_slot_is_free_once_all_is_answered) > 5);
}

static void a_take_at_any_point_of_a_close_frees_the_slot_in_the_end(void) {
    CHECK(at_every_point(rig_with_a_request, do_close, do_take, the_slot_is_free_once_all_is_answered) > 1);
}

/* --- open, at any point --- */

static void open_other(void) {
    other = open_client("two");
}
static void both_are_served(void) {
    for (int i = 0; i < result; i++) {
        CHECK_SAME(iblbw_accept(worker, &commands[i]), 0);
        CHECK_SAME(respond(&commands[i], 0), 0);
    }
    other_request = send_start(other);
    serve_all();
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    CHECK_SAME(iblb_wait(other, other_request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
    iblb_close(other);
}

static void a_client_that_opens_at_any_point_of_a_take_is_served(void) {
    CHECK(at_every_point(rig_with_a_request, do_take, open_other, both_are_served) > 5);
    CHECK(at_every_point(rig_with_a_request, open_other, do_take, both_are_served) > 5);
}

/* --- a client that appends to what another left without a worker, and a worker that starts --- */

static int opened, carried_out;

static void rig_with_commands_that_were_left(void) {
    start_sized(2, RING_BYTES, RING_BYTES);
    iblbw_close(worker, 0);
    worker = NULL;
    CHECK_SAME(iblb_open(rig, "one", 0, &handle), IBLB_W_NO_WORKER);
    CHECK_SAME(iblb_notify(handle, NULL, IBLB_EXPSTATUS, NULL, -1), IBLB_W_NO_WORKER);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPSTART, NULL, -1, &request), IBLB_W_NO_WORKER);
    CHECK_SAME(iblb_close(handle), 0);
    carried_out = 0;
    opened = IBLB_E_NO_SLOT;
}
static void do_start_and_serve(void) {
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    carried_out += serve_all();
}
static void do_open_and_send(void) {
    int code = IBLB_OK;
    opened = iblb_open(rig, "two", 0, &other);
    if (opened >= 0)
        code = iblb_send(other, NULL, IBLB_EXPEND, NULL, -1, &other_request);
    CHECK(code == IBLB_OK || code == IBLB_W_NO_WORKER);
}
static void each_is_carried_out_once_and_answered_to_its_own(void) {
    carried_out += serve_all();
    if (opened < 0) { /* the worker was first, and had just not freed the slot yet */
        CHECK_SAME(opened, IBLB_E_NO_SLOT);
        do_open_and_send();
        CHECK_SAME(opened, 0);
        carried_out += serve_all();
    }
    CHECK_SAME(carried_out, 3);
    CHECK(other_request > request);
    CHECK_SAME(iblb_wait(other, other_request, 0, NULL, 0, NULL), 0);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->response.tail), RECORD_ALIGN); /* nobody else's answer */
    CHECK_SAME(iblb_close(other), 0);
    take();
    CHECK_SAME(slot_state(0), SLOT_FREE);
}

static void a_worker_that_starts_while_a_client_appends_to_what_was_left_carries_out_each_once(void) {
    CHECK(at_every_point(rig_with_commands_that_were_left, do_open_and_send, do_start_and_serve,
                         each_is_carried_out_once_and_answered_to_its_own) > 20);
    CHECK(at_every_point(rig_with_commands_that_were_left, do_start_and_serve, do_open_and_send,
                         each_is_carried_out_once_and_answered_to_its_own) > 20);
}

/* --- an owner that scribbles, at any point --- */

static void rig_with_two_requests(void) {
    rig_with_a_request();
    send_start(handle);
}
static void scribble_a_length(void) {
    struct slot slot = slot_at(0);
    uint32_t bytes = 8;
    shared_write(ring_at(&slot.command, 0), &bytes, sizeof bytes);
}
static void the_length_was_read_once(void) {
    CHECK(result == 0 || result == 2); /* found out, or believed in the copy that was checked */
    CHECK(result == 0 || commands[1].position == 64);
    CHECK_SAME(take(), 0);
    iblb_close(handle);
    take();
}

static void a_length_scribbled_at_any_point_of_a_take_is_used_as_it_was_checked_or_not_at_all(void) {
    CHECK(at_every_point(rig_with_two_requests, do_take, scribble_a_length, the_length_was_read_once) > 5);
}

/* --- refuse, and a worker that dies meanwhile --- */

static void do_refuse(void) {
    respond(&commands[0], IBLB_E_ABORTED);
}

/* Whatever a successor found here: what is still PUBLISHED it sends, and what the client can read it believes. */
static void not_both_published_and_answered(void) {
    struct slot slot = slot_at(0);
    const struct command_record *record = (void *)ring_at(&slot.command, commands[0].position);
    uint64_t tail;
    int told = ring_tail(&slot.response, load64_relaxed(&slot.header->response.head), &tail) == RING_OK;
    CHECK(!(told && (uint32_t)load64_relaxed(&record->control) == STATE_PUBLISHED));
}

static void the_client_hears_that_it_was_aborted(void) {
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_ABORTED);
    iblb_close(handle);
    take();
}

static void a_refused_command_is_never_sent_by_a_successor_once_its_owner_can_hear_of_it(void) {
    CHECK(at_every_point(rig_with_a_taken_request, do_refuse, not_both_published_and_answered, the_client_hears_that_it_was_aborted) > 5);
}

static const struct test tests[] = {
    {"a refused command is never sent by a successor once its owner can hear of it",
     a_refused_command_is_never_sent_by_a_successor_once_its_owner_can_hear_of_it},
    {"a command sent at any point of a take is answered once", a_command_sent_at_any_point_of_a_take_is_answered_once},
    {"a command taken at any point of its send is answered once", a_command_taken_at_any_point_of_its_send_is_answered_once},
    {"an interrupt at any point of a take comes first and aborts what is older",
     an_interrupt_at_any_point_of_a_take_comes_first_and_aborts_what_is_older},
    {"an interrupt that comes while a take is held up aborts what is older",
     an_interrupt_that_comes_while_a_take_is_held_up_aborts_what_is_older},
    {"of accept and cancel exactly one wins, at any point", of_accept_and_cancel_exactly_one_wins_at_any_point},
    {"a cancel at any point of a response leaves the rings in order", a_cancel_at_any_point_of_a_response_leaves_the_rings_in_order},
    {"a response at any point of a wait is never slept through", a_response_at_any_point_of_a_wait_is_never_slept_through},
    {"a command at any point of a waiting take is never slept through", a_command_at_any_point_of_a_waiting_take_is_never_slept_through},
    {"a close at any point of a take frees the slot when all is answered",
     a_close_at_any_point_of_a_take_frees_the_slot_when_all_is_answered},
    {"a close at any point of a response frees the slot", a_close_at_any_point_of_a_response_frees_the_slot},
    {"a take at any point of a close frees the slot in the end", a_take_at_any_point_of_a_close_frees_the_slot_in_the_end},
    {"a length scribbled at any point of a take is used as it was checked, or not at all",
     a_length_scribbled_at_any_point_of_a_take_is_used_as_it_was_checked_or_not_at_all},
    {"a client that opens at any point of a take is served", a_client_that_opens_at_any_point_of_a_take_is_served},
    {"a worker that starts while a client appends to what was left carries out each once",
     a_worker_that_starts_while_a_client_appends_to_what_was_left_carries_out_each_once},
};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), NULL);
}
