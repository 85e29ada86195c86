/* test_serving_interleavings.c: a program that serves and its worker, each stopped after every single access of shared
 * memory while the other acts: of answer and withdrawal exactly one wins, what is handed over is taken once, and a new
 * worker takes up what is open and no more.
 */
#include "every_point.h"
#include "serving.h"

#define ALL 255

static int handle, command, handed, next, answered, withdrawn, inherited;
static struct iblbw_incoming inherited_token;
static unsigned char body[RING_BYTES];

static int inherit_all(void) {
    int bytes, asked, count = 0;
    unsigned long long stamp;
    while (iblbw_inherit(worker, &inherited_token, &asked, &stamp, body, sizeof body, &bytes) == 1)
        count++;
    return count;
}

static void rig_that_serves(void) {
    start_listening();
    handle = open_server("a", "cameras", ALL);
    handed = next = answered = withdrawn = inherited = 0;
    command = taken = 0;
}
static void rig_that_was_asked(void) {
    rig_that_serves();
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
}
static void rig_that_has_taken(void) {
    rig_that_was_asked();
    CHECK_SAME(next_now(handle), 0);
    command = taken;
}

static void do_hand(void) {
    handed = hand_over("cameras", IBLB_EXPSTART);
}
static void do_next(void) {
    next = next_now(handle);
    command = taken;
}
static void do_patient_next(void) {
    next = iblb_next_command(handle, 1, &command, NULL, NULL, 0, NULL);
}
static void do_answer(void) {
    answered = iblb_answer(handle, command, -1, "1");
}
static void do_withdraw(void) {
    withdrawn = iblbw_withdraw(worker, &token);
}
static void do_close(void) {
    CHECK_SAME(iblb_close(handle), 0);
}

/* Nothing is left in the ring, and the next one goes through. */
static void all_is_in_order(void) {
    struct said said;
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT);
    CHECK(room_is_back(0));
    CHECK_SAME(hand_over("cameras", IBLB_EXPEND), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    CHECK_SAME(take_answer(&said), 1);
    CHECK_SAME(said.number, token.number);
    iblb_close(handle);
    take();
    CHECK_SAME(slot_state(0), SLOT_FREE);
}

/* --- answer against withdraw --- */

static void exactly_one_was_first(void) {
    struct said said;
    CHECK((answered == 0 && withdrawn == 1) || (answered == IBLB_E_LATE && withdrawn == 0));
    CHECK_SAME(take_answer(&said), answered == 0);
    CHECK_SAME(iblb_answer(handle, command, -1, NULL), IBLB_E_COMMAND);
    all_is_in_order();
}

static void of_answer_and_withdrawal_exactly_one_wins_at_any_point(void) {
    CHECK(at_every_point(rig_that_has_taken, do_answer, do_withdraw, exactly_one_was_first) > 10);
    CHECK(at_every_point(rig_that_has_taken, do_withdraw, do_answer, exactly_one_was_first) > 5);
}

/* --- next_command against withdraw --- */

static void it_was_taken_or_not_and_is_withdrawn_all_the_same(void) {
    CHECK_SAME(withdrawn, 0);
    CHECK((next == 0 && command > 0) || (next == IBLB_E_TIMEOUT && command == 0 && json[0] == '\0'));
    if (next == 0)
        CHECK_SAME(iblb_answer(handle, command, -1, NULL), IBLB_E_LATE);
    all_is_in_order();
}

static void rig_that_was_asked_for_a_token(void) {
    unsigned char secret[512];
    rig_that_serves();
    int bytes = (int)make_body(secret, "cameras", "secret");
    CHECK_SAME(iblbw_hand(worker, "cameras", IBLB_ALYX, 0, 0, secret, bytes, &token), 0);
}

static void a_withdrawal_at_any_point_of_a_take_is_told_to_the_program_or_the_command_is_not_seen(void) {
    CHECK(at_every_point(rig_that_was_asked, do_next, do_withdraw, it_was_taken_or_not_and_is_withdrawn_all_the_same) > 10);
    CHECK(at_every_point(rig_that_was_asked, do_withdraw, do_next, it_was_taken_or_not_and_is_withdrawn_all_the_same) > 5);
    /* whose body is wiped under the program's eyes */
    CHECK(at_every_point(rig_that_was_asked_for_a_token, do_next, do_withdraw, it_was_taken_or_not_and_is_withdrawn_all_the_same) > 10);
    CHECK(at_every_point(rig_that_was_asked_for_a_token, do_withdraw, do_next, it_was_taken_or_not_and_is_withdrawn_all_the_same) > 5);
}

/* --- next_command against a worker that notes that the PC slept --- */

#define THREE_HOURS_NS (3 * 3600 * 1000 * MS)

static void rig_that_was_asked_before_the_pc_slept(void) {
    rig_that_was_asked();
    store64_release(&eye.header->sleep_note, load64_acquire(&eye.header->sleep_note) - THREE_HOURS_NS);
}
static void do_note_the_sleep(void) {
    CHECK(iblbw_slept(worker) > 0);
}

static void it_was_not_begun(void) {
    CHECK_SAME(next, IBLB_E_TIMEOUT);
    CHECK_SAME(command, 0);
    CHECK_SAME(iblbw_recall(worker, &token), 0);
    all_is_in_order();
}

static void what_came_before_the_pc_slept_is_not_begun_at_whatever_point_of_a_take_that_is_noted(void) {
    CHECK(at_every_point(rig_that_was_asked_before_the_pc_slept, do_next, do_note_the_sleep, it_was_not_begun) > 10);
    CHECK(at_every_point(rig_that_was_asked_before_the_pc_slept, do_note_the_sleep, do_next, it_was_not_begun) > 3);
}

/* --- hand against next_command --- */

static int command_is_there(void) {
    struct slot slot = slot_at(0);
    return load64_acquire(&slot.header->incoming.tail) != load64_acquire(&slot.header->incoming.head) && !command;
}

static void it_was_handed_over_once(void) {
    struct said said;
    CHECK_SAME(handed, 0);
    if (next != 0) {
        CHECK_SAME(next, IBLB_E_TIMEOUT);
        do_next();
    }
    CHECK_SAME(next, 0);
    do_answer();
    CHECK_SAME(answered, 0);
    CHECK_SAME(take_answer(&said), 1);
    all_is_in_order();
}

static void what_is_handed_over_at_any_point_of_a_wait_is_never_slept_through(void) {
    work_is_there = command_is_there;
    CHECK(at_every_point(rig_that_serves, do_patient_next, do_hand, it_was_handed_over_once) > 5);
    CHECK(at_every_point(rig_that_serves, do_hand, do_patient_next, it_was_handed_over_once) > 5);
    work_is_there = NULL;
}

/* --- a new worker --- */

static void do_restart(void) {
    restart_listening();
    inherited = inherit_all();
}

static void it_is_answered_and_the_new_worker_hears_it(void) {
    struct said said;
    CHECK(answered == 0 || answered == IBLB_W_NO_WORKER);
    CHECK(inherited == 0 || (inherited == 1 && inherited_token.number == token.number));
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_ANSWERED);
    CHECK_SAME(take_answer(&said), 1);
    CHECK_SAME(said.number, token.number);
    all_is_in_order();
}

static void a_worker_that_comes_at_any_point_of_an_answer_hears_it_once(void) {
    CHECK(at_every_point(rig_that_has_taken, do_answer, do_restart, it_is_answered_and_the_new_worker_hears_it) > 10);
    CHECK(at_every_point(rig_that_has_taken, do_restart, do_answer, it_is_answered_and_the_new_worker_hears_it) > 10);
}

static void it_was_inherited(void) {
    struct said said;
    if (next != 0)
        do_next();
    CHECK(next == 0 && inherited == 1 && inherited_token.number == token.number);
    do_answer();
    CHECK_SAME(answered, 0);
    CHECK_SAME(take_answer(&said), 1);
    all_is_in_order();
}

static void a_worker_that_comes_at_any_point_of_a_take_inherits_the_command(void) {
    CHECK(at_every_point(rig_that_was_asked, do_next, do_restart, it_was_inherited) > 10);
    CHECK(at_every_point(rig_that_was_asked, do_restart, do_next, it_was_inherited) > 10);
}

/* --- close, at any point --- */

static void the_master_can_be_told(void) {
    struct said said;
    take_answer(&said);
    take_answer(&said);
    CHECK(handed == IBLB_E_NO_SLOT || iblbw_incoming_state(worker, &token) == IBLBW_GONE);
    CHECK_SAME(slot_state(0), SLOT_FREE);
    CHECK(room_is_back(0));
    handle = open_server("b", "cameras", ALL);
    all_is_in_order();
}

static void of_a_program_that_closes_at_any_point_each_command_is_gone_or_was_never_handed_over(void) {
    CHECK(at_every_point(rig_that_serves, do_hand, do_close, the_master_can_be_told) > 5);
    CHECK(at_every_point(rig_that_serves, do_close, do_hand, the_master_can_be_told) > 3);
    CHECK(at_every_point(rig_that_has_taken, do_withdraw, do_close, the_master_can_be_told) > 5);
}

/* --- serve against whoever looks --- */

static int found;
static unsigned mask;

static void rig_that_serves_another(void) {
    start_listening();
    handle = open_server("a", "ephys", 1);
}
static void do_serve(void) {
    CHECK_SAME(iblb_serve(handle, "cameras", 2), 0);
}
static void do_look(void) {
    char client[64];
    unsigned other_mask;
    int other = iblbw_server_of(worker, "ephys", &other_mask, client, sizeof client);
    found = iblbw_server_of(worker, "cameras", &mask, client, sizeof client);
    CHECK(!(found && other)); /* it serves one, or none for an instant */
    CHECK(mask == (found ? 2 : 0) && other_mask == (other ? 1 : 0));
}
static void do_look_for_the_new_one(void) {
    char client[64];
    found = iblbw_server_of(worker, "cameras", &mask, client, sizeof client);
    CHECK(mask == (found ? 2 : 0));
}
static void it_serves_the_new_one(void) {
    do_look();
    CHECK_SAME(found, 1);
    iblb_close(handle);
}

static void a_name_and_its_mask_are_seen_together_or_not_at_all(void) {
    CHECK(at_every_point(rig_that_serves_another, do_serve, do_look, it_serves_the_new_one) > 5);
    CHECK(at_every_point(rig_that_serves_another, do_look_for_the_new_one, do_serve, it_serves_the_new_one) > 5);
}

static const struct test tests[] = {
    {"of answer and withdrawal exactly one wins, at any point", of_answer_and_withdrawal_exactly_one_wins_at_any_point},
    {"a withdrawal at any point of a take is told to the program, or the command is not seen",
     a_withdrawal_at_any_point_of_a_take_is_told_to_the_program_or_the_command_is_not_seen},
    {"what came before the PC slept is not begun, at whatever point of a take that is noted",
     what_came_before_the_pc_slept_is_not_begun_at_whatever_point_of_a_take_that_is_noted},
    {"what is handed over at any point of a wait is never slept through",
     what_is_handed_over_at_any_point_of_a_wait_is_never_slept_through},
    {"a worker that comes at any point of an answer hears it once", a_worker_that_comes_at_any_point_of_an_answer_hears_it_once},
    {"a worker that comes at any point of a take inherits the command", a_worker_that_comes_at_any_point_of_a_take_inherits_the_command},
    {"of a program that closes at any point each command is gone, or was never handed over",
     of_a_program_that_closes_at_any_point_each_command_is_gone_or_was_never_handed_over},
    {"a name and its mask are seen together or not at all", a_name_and_its_mask_are_seen_together_or_not_at_all},
};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), NULL);
}
