/* test_serving.c: a program as a service: who serves what, what masters ask of it, what it answers, and who was first
 * when both ends act.
 */
#include "serving.h"

#define ALL 255

/* --- serve --- */

static void a_program_serves_the_listener_that_it_names_or_the_only_one(void) {
    char client[64];
    unsigned mask;
    start_listening();
    int handle = open_client("a");
    CHECK_SAME(iblbw_server_of(worker, "cameras", &mask, client, sizeof client), 0);
    CHECK(mask == 0 && client[0] == '\0');
    CHECK_SAME(iblb_serve(handle, "", ALL), IBLB_E_SERVICE);
    CHECK(strstr(sentence(handle), "cameras, ephys"));
    CHECK_SAME(iblb_serve(handle, "camera", ALL), IBLB_E_SERVICE);
    CHECK(strstr(sentence(handle), "\"camera\"") && strstr(sentence(handle), "cameras, ephys"));
    CHECK_SAME(iblb_serve(handle, "cameras", IBLB_EXPSTART + IBLB_EXPEND), 0);
    CHECK_SAME(iblbw_server_of(worker, "cameras", &mask, client, sizeof client), 1);
    CHECK(mask == IBLB_EXPSTART + IBLB_EXPEND && strcmp(client, "a") == 0);
    CHECK_SAME(iblb_serve(handle, "ephys", ALL), 0); /* in place of the other */
    CHECK_SAME(iblbw_server_of(worker, "cameras", &mask, client, sizeof client), 0);
    CHECK_SAME(iblbw_server_of(worker, "ephys", NULL, client, sizeof client), 1);
    CHECK_SAME(iblb_serve(handle, NULL, 0), 0);
    CHECK_SAME(iblbw_server_of(worker, "ephys", &mask, client, sizeof client), 0);
    CHECK_SAME(iblbw_listeners(worker, "one"), 0);
    CHECK_SAME(iblb_serve(handle, " ", ALL), 0);
    CHECK_SAME(iblbw_server_of(worker, "one", &mask, client, sizeof client), 1);
    CHECK_SAME(iblbw_listeners(worker, ""), 0);
    CHECK_SAME(iblb_serve(handle, " ", ALL), IBLB_E_SERVICE);
    CHECK(strstr(sentence(handle), "--listen"));
    iblb_close(handle);
    stop();
}

static void a_program_that_is_back_under_its_name_is_another_one(void) {
    start_listening();
    CHECK(iblbw_server_claim(worker, "cameras") == 0 && iblbw_server_claim(worker, NULL) == 0);
    int handle = open_client("a");
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), 0);
    unsigned long long first = iblbw_server_claim(worker, "cameras");
    CHECK(first != 0 && iblbw_server_claim(worker, "cameras") == first);
    iblb_close(handle);
    handle = open_client("a");
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), 0);
    CHECK(iblbw_server_claim(worker, "cameras") != 0 && iblbw_server_claim(worker, "cameras") != first);
    iblb_close(handle);
    stop();
}

static void what_cannot_be_served_is_refused(void) {
    char name[80];
    start_listening();
    int handle = open_client("a");
    CHECK_SAME(iblb_serve(handle, "cameras", 256), IBLB_E_MESSAGE);
    CHECK_SAME(iblb_serve(handle, "cameras", -1), IBLB_E_MESSAGE);
    CHECK_SAME(iblb_serve(handle, "cameras", IBLB_PING), IBLB_E_MESSAGE);
    CHECK_SAME(iblb_serve(handle, "\xff", ALL), IBLB_E_UTF8);
    memset(name, 'n', 79);
    name[79] = '\0';
    CHECK_SAME(iblb_serve(handle, name, ALL), IBLB_E_SERVICE);
    CHECK_SAME(iblb_serve(handle + 1, "cameras", ALL), IBLB_E_HANDLE);
    iblb_close(handle);
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), IBLB_E_HANDLE);
    stop();
}

static void names_of_listeners_are_checked(void) {
    char many[200] = "", name[80];
    start_listening();
    for (int i = 0; i < 16; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "n%d\n", i);
    CHECK_SAME(iblbw_listeners(worker, many), 0);
    strcat(many, "one more");
    CHECK_SAME(iblbw_listeners(worker, many), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_listeners(worker, "a\n\nb"), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_listeners(worker, NULL), IBLB_E_ARGUMENT);
    memset(name, 'n', 64);
    name[64] = '\0';
    CHECK_SAME(iblbw_listeners(worker, name), IBLB_E_ARGUMENT);
    name[63] = '\0';
    CHECK_SAME(iblbw_listeners(worker, name), 0);
    int handle = open_server("a", name, ALL);
    CHECK_SAME(hand_over(name, IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    iblb_close(handle);
    stop();
}

static void two_programs_cannot_serve_the_same(void) {
    start_listening();
    int one = open_server("one", "cameras", ALL), two = open_client("two");
    CHECK_SAME(iblb_serve(two, "cameras", ALL), IBLB_E_NAME_TAKEN);
    CHECK(strstr(sentence(two), "\"one\""));
    CHECK_SAME(iblb_serve(one, "cameras", 1), 0); /* it itself may change its mind */
    CHECK_SAME(iblb_serve(one, "cameras", 0), 0);
    CHECK_SAME(iblb_serve(two, "cameras", ALL), 0);
    iblb_close(two);
    CHECK_SAME(iblb_serve(one, "cameras", ALL), 0); /* at once, whether the worker has looked or not */
    iblb_close(one);
    stop();
}

static void without_a_worker_the_next_one_asks(void) {
    start_listening();
    int handle = open_client("a");
    iblbw_close(worker, 0);
    CHECK_SAME(iblb_serve(handle, "lasers", ALL), IBLB_W_NO_WORKER);
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(iblbw_listeners(worker, "lasers"), 0);
    CHECK_SAME(hand_over("lasers", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblbw_listeners(worker, "cameras"), 0); /* a configuration without it: nobody waits in vain */
    CHECK_SAME(iblb_next_command(handle, LONG_MS, &taken, &message, json, sizeof json, NULL), IBLB_E_SERVICE);
    CHECK(strstr(sentence(handle), "lasers"));
    iblb_close(handle);
    stop();
}

struct late_listener {
    pthread_t thread;
    int handle, code;
};
static void *serve_in_thread(void *argument) {
    struct late_listener *late = argument;
    late->code = iblb_serve(late->handle, "", ALL);
    return NULL;
}

static void a_worker_that_has_not_said_yet_whom_it_listens_for_is_waited_for(void) {
    struct late_listener late;
    start();
    late.handle = open_client("a");
    CHECK(pthread_create(&late.thread, NULL, serve_in_thread, &late) == 0);
    os_sleep_ns(20 * MS);
    CHECK_SAME(iblbw_listeners(worker, "cameras"), 0);
    pthread_join(late.thread, NULL);
    CHECK_SAME(late.code, 0);
    iblb_close(late.handle);
    stop();
}

/* --- what is asked --- */

static void a_command_comes_as_json_with_its_number_and_is_answered_once(void) {
    struct said said;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT);
    CHECK(taken == 0 && json[0] == '\0');
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_WAITING);
    CHECK_SAME(next_now(handle), 0);
    CHECK(taken > 0 && message == IBLB_EXPSTART);
    CHECK(strcmp(json, "{\"command\":1,\"service\":\"cameras\",\"master\":\"127.0.0.1:55123\",\"message\":\"EXPSTART\",\"data\":\"x\"}") ==
          0);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_TAKEN);
    int command = taken;
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT);
    CHECK_SAME(iblb_answer(handle, command, IBLB_STATUS_RUNNING, " {\"a\": 1}"), 0);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_ANSWERED);
    CHECK(room_is_back(0));
    CHECK_SAME(iblb_answer(handle, command, -1, NULL), IBLB_E_COMMAND);
    CHECK_SAME(iblb_fail(handle, command, "no"), IBLB_E_COMMAND);
    CHECK_SAME(iblbw_withdraw(worker, &token), 1);
    CHECK_SAME(take_answer(&said), 1);
    CHECK(said.number == token.number && said.code == 20 && !said.failed && strcmp(said.data, " {\"a\": 1}") == 0);
    CHECK(strcmp(said.master, "127.0.0.1:55123") == 0);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->notified), 0); /* it is no command of the program's */
    iblb_close(handle);
    stop();
}

static void a_failure_bears_its_sentence(void) {
    struct said said;
    static char endless[5000];
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    const char *const rows[][2] = {{"camera 2", "camera 2"}, {"", "The program gave no reason."}, {NULL, "The program gave no reason."}};
    for (int row = 0; row < ROWS(rows); row++) {
        CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == 0 && next_now(handle) == 0);
        CHECK_ROW(row, iblb_fail(handle, taken, rows[row][0]) == 0 && take_answer(&said) == 1);
        CHECK_ROW(row, said.failed && said.code == -1 && strcmp(said.data, rows[row][1]) == 0);
    }
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_fail(handle, taken, "\xff"), IBLB_E_UTF8);
    for (int i = 0; i + 3 < (int)sizeof endless; i += 3)
        memcpy(endless + i, "\xe2\x82\xac", 3); /* the euro sign: 2,048 is in the midst of one */
    CHECK_SAME(iblb_fail(handle, taken, endless), 0);
    CHECK_SAME(take(), 1);
    CHECK(commands[0].payload_bytes > 2000 && commands[0].payload_bytes < 2150);
    iblb_close(handle);
    stop();
}

static void an_interrupt_comes_before_what_came_earlier(void) {
    start_listening();
    int handle = open_server("a", "cameras", ALL), first;
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    first = taken;
    CHECK_SAME(hand_over("cameras", IBLB_EXPEND), 0);
    CHECK_SAME(hand_over("cameras", IBLB_EXPINTERRUPT), 0);
    CHECK_SAME(hand_over("cameras", IBLB_EXPINTERRUPT), 0);
    static const int order[] = {IBLB_EXPINTERRUPT, IBLB_EXPINTERRUPT, IBLB_EXPEND};
    for (int row = 0; row < ROWS(order); row++) {
        CHECK_ROW(row, next_now(handle) == 0 && message == order[row] && taken != first);
        CHECK_ROW(row, iblb_answer(handle, taken, -1, NULL) == 0);
    }
    CHECK(!room_is_back(0)); /* the first one is still in hand */
    CHECK_SAME(iblb_answer(handle, first, -1, NULL), 0);
    CHECK(room_is_back(0));
    iblb_close(handle);
    stop();
}

static void a_buffer_too_small_keeps_the_command(void) {
    int needed;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(iblb_next_command(handle, 0, &taken, &message, json, 20, &needed), IBLB_E_BUFFER);
    CHECK(taken == 0 && message == IBLB_EXPSTART && json[0] == '\0' && needed > 20);
    CHECK_SAME(iblb_next_command(handle, 0, &taken, NULL, NULL, 0, &needed), IBLB_E_BUFFER); /* the question of how long */
    CHECK_SAME(iblb_next_command(handle, 0, &taken, NULL, json, needed - 1, NULL), IBLB_E_BUFFER);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_WAITING);
    CHECK_SAME(iblb_next_command(handle, 0, &taken, NULL, json, needed, NULL), 0);
    CHECK(taken > 0 && (int)strlen(json) + 1 == needed);
    CHECK_SAME(hand_over("cameras", IBLB_EXPEND), 0);
    CHECK_SAME(iblb_next_command(handle, 0, &taken, &message, NULL, 0, NULL), 0); /* not wanted: taken all the same */
    CHECK(taken > 0 && message == IBLB_EXPEND);
    iblb_close(handle);
    stop();
}

static void wrong_arguments_change_nothing(void) {
    static char large[60002];
    start_listening();
    int handle = open_client("a");
    CHECK_SAME(next_now(handle), IBLB_E_SERVICE);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPSTATUS, "20"), IBLB_E_SERVICE);
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), 0);
    CHECK_SAME(iblb_next_command(handle, 0, NULL, &message, json, sizeof json, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_next_command(handle, -1, &taken, &message, json, sizeof json, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_next_command(handle, 0, &taken, &message, json, -1, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_next_command(handle + 1, 0, &taken, &message, json, sizeof json, NULL), IBLB_E_HANDLE);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    static const int statuses[] = {1, -2, 40, 15};
    for (int row = 0; row < ROWS(statuses); row++)
        CHECK_ROW(row, iblb_answer(handle, taken, statuses[row], NULL) == IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_answer(handle, taken, -1, "{"), IBLB_E_JSON);
    CHECK_SAME(iblb_answer(handle, taken, -1, "\"\xff\""), IBLB_E_UTF8);
    memset(large, ' ', sizeof large - 1);
    large[0] = '1';
    CHECK_SAME(iblb_answer(handle, taken, -1, large), IBLB_E_TOO_LARGE); /* than any datagram */
    large[10000] = '\0';
    CHECK_SAME(iblb_answer(handle, taken, -1, large), IBLB_E_TOO_LARGE); /* than this ring */
    static const int unknown[] = {0, -1, 4711, 2147483647};
    for (int row = 0; row < ROWS(unknown); row++)
        CHECK_ROW(row, iblb_answer(handle, unknown[row], -1, NULL) == IBLB_E_COMMAND);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPSTART, NULL), IBLB_E_MESSAGE);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPSTATUS, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPINFO, "{]"), IBLB_E_JSON);
    CHECK_SAME(take(), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    iblb_close(handle);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), IBLB_E_HANDLE);
    CHECK_SAME(iblb_fail(handle, taken, NULL), IBLB_E_HANDLE);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPINTERRUPT, NULL), IBLB_E_HANDLE);
    stop();
}

static void a_full_command_ring_refuses_an_answer_and_takes_it_later(void) {
    struct said said;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    while (iblb_notify(handle, NULL, IBLB_EXPSTATUS, NULL, 0) == 0)
        ;
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), IBLB_E_FULL);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPINTERRUPT, NULL), IBLB_E_FULL);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_TAKEN);
    for (int count; (count = take()) > 0;)
        for (int i = 0; i < count; i++)
            CHECK_SAME(respond(&commands[i], 0), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    CHECK_SAME(take_answer(&said), 1);
    iblb_close(handle);
    stop();
}

static void eight_commands_may_be_open(void) {
    struct iblbw_incoming tokens[9];
    int open[9];
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    for (int i = 0; i < 9; i++) {
        CHECK_ROW(i, hand_over("cameras", IBLB_EXPSTART) == 0);
        tokens[i] = token;
        CHECK_ROW(i, next_now(handle) == (i < 8 ? 0 : IBLB_E_TOO_MANY));
        open[i] = taken;
    }
    CHECK(open[8] == 0 && json[0] == '\0');
    CHECK_SAME(iblb_answer(handle, open[3], -1, NULL), 0);
    CHECK_SAME(next_now(handle), 0);
    open[3] = taken;
    CHECK_SAME(iblbw_withdraw(worker, &tokens[0]), 0); /* what is late makes room */
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    CHECK_SAME(iblb_answer(handle, open[0], -1, NULL), IBLB_E_COMMAND);
    for (int i = 1; i < 8; i++)
        CHECK_ROW(i, iblb_answer(handle, open[i], -1, NULL) == 0);
    CHECK(room_is_back(0));
    iblb_close(handle);
    stop();
}

static void what_was_withdrawn_behind_one_that_is_open_counts_no_more(void) {
    int first = 0;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    for (int i = 0; i < 20; i++) {
        CHECK_ROW(i, hand_over("cameras", IBLB_EXPSTART) == 0 && next_now(handle) == 0);
        first = i ? first : taken;
        CHECK_ROW(i, i == 0 || iblbw_withdraw(worker, &token) == 0);
    }
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), IBLB_E_LATE);
    CHECK_SAME(iblb_answer(handle, first, -1, NULL), 0);
    CHECK(room_is_back(0));
    iblb_close(handle);
    stop();
}

/* --- who was first --- */

static void what_was_withdrawn_is_too_late_to_be_answered(void) {
    struct said said;
    start_listening();
    int handle = open_server("a", "cameras", ALL), command;
    for (int row = 0; row < 2; row++) {
        CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == 0 && next_now(handle) == 0);
        command = taken;
        CHECK_ROW(row, iblbw_withdraw(worker, &token) == 0 && iblbw_withdraw(worker, &token) == 0);
        CHECK_ROW(row, iblbw_incoming_state(worker, &token) == IBLBW_WITHDRAWN);
        if (row) /* its room was given back already */
            CHECK(next_now(handle) == IBLB_E_TIMEOUT && room_is_back(0));
        CHECK_ROW(row, iblb_answer(handle, command, -1, NULL) == IBLB_E_LATE);
        CHECK_ROW(row, iblb_fail(handle, command, "no") == IBLB_E_COMMAND);
        CHECK_ROW(row, take_answer(&said) == 0 && room_is_back(0));
    }
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(iblbw_withdraw(worker, &token), 0); /* before it was taken */
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT);
    CHECK(room_is_back(0));
    iblb_close(handle);
    stop();
}

static void a_worker_hands_only_to_whom_it_may(void) {
    unsigned char body[512];
    static unsigned char large[RING_BYTES];
    start_listening();
    int handle = open_client("a"), bytes = (int)make_body(body, "cameras", "x");
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), IBLB_E_NO_SLOT);
    CHECK_SAME(iblb_serve(handle, "cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(hand_over("ephys", IBLB_EXPSTART), IBLB_E_NO_SLOT);
    CHECK_SAME(hand_over("cameras", IBLB_EXPEND), IBLB_E_MESSAGE);
    CHECK_SAME(hand_over("cameras", 3), IBLB_E_MESSAGE);
    CHECK_SAME(iblbw_hand(worker, "cameras", 2, 0, 0, body, bytes - 1, &token), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_hand(worker, "cameras", 2, 0, 0, body + 1, bytes - 1, &token), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_hand(worker, "cameras", 2, 0, 0, body, bytes, NULL), IBLB_E_ARGUMENT);
    memcpy(large, "\x81\xa1x\xda", 4); /* one key, and a text that is too long */
    large[4] = (unsigned char)((sizeof large - 6) >> 8);
    large[5] = (unsigned char)((sizeof large - 6) & 0xff);
    memset(large + 6, 'x', sizeof large - 6);
    CHECK_SAME(iblbw_hand(worker, "cameras", 2, 0, 0, large, sizeof large, &token), IBLB_E_TOO_LARGE);
    int count = 0, code;
    while ((code = hand_over("cameras", IBLB_EXPSTART)) == 0)
        count++;
    CHECK(code == IBLB_E_FULL && count > 10);
    iblb_close(handle);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), IBLB_E_NO_SLOT); /* at once, whether the slot is free or not */
    stop();
}

static void the_ring_wraps_and_the_numbers_go_on(void) {
    struct said said;
    unsigned long long last = 0;
    start_listening();
    for (int client = 0; client < 3; client++) {
        int handle = open_server("a", "cameras", ALL);
        for (int i = 0; i < 300; i++) {
            unsigned char body[512];
            char data[200];
            memset(data, 'd', sizeof data);
            data[i % 199] = '\0';
            int bytes = (int)make_body(body, "cameras", data);
            CHECK_ROW(i, iblbw_hand(worker, "cameras", IBLB_EXPSTART, 0, 0, body, bytes, &token) == 0 && token.number > last);
            last = token.number;
            CHECK_ROW(i, next_now(handle) == 0 && taken == inbox_request(last) && strstr(json, data));
            CHECK_ROW(i, iblb_answer(handle, taken, -1, "1") == 0 && take_answer(&said) == 1 && said.number == last);
        }
        iblb_close(handle);
        CHECK_SAME(take(), 0);
    }
    stop();
}

static void a_number_whose_lowest_bits_are_nought_is_left_out(void) {
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    store64_relaxed(&slot_at(0).header->incoming_sequence, 0x17ffffffe);
    for (int i = 0; i < 3; i++) {
        CHECK_ROW(i, hand_over("cameras", IBLB_EXPSTART) == 0 && next_now(handle) == 0 && taken > 0);
        CHECK_ROW(i, iblb_answer(handle, taken, -1, NULL) == 0);
    }
    CHECK_SAME(taken, 2);
    iblb_close(handle);
    stop();
}

/* --- tell --- */

static void what_a_program_tells_comes_with_the_name_that_it_serves(void) {
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPSTATUS, "20"), 0);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPINTERRUPT, NULL), 0);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPINFO, "{}"), 0);
    CHECK_SAME(take(), 3);
    static const char status[] = "\xdb\0\0\0\x07"
                                 "cameras\x92\xd2\0\0\0\x20\xdb\0\0\0\x02"
                                 "20",
                      interrupt[] = "\xdb\0\0\0\x07"
                                    "cameras\x92\xd2\0\0\0\x10\xc0";
    CHECK(commands[0].message == IBLBW_TELL && commands[0].flags == IBLBW_NOTIFY && commands[0].ttl < 0);
    CHECK(commands[0].payload_bytes == sizeof status - 1 && memcmp(payload, status, sizeof status - 1) == 0);
    CHECK(commands[1].payload_bytes == sizeof interrupt - 1 &&
          memcmp(payload + commands[1].payload_offset, interrupt, sizeof interrupt - 1) == 0);
    iblb_close(handle);
    stop();
}

static void no_message_of_the_workers_own_comes_from_a_user(void) {
    int request;
    start_listening();
    int handle = open_client("a");
    CHECK_SAME(iblb_send(handle, NULL, IBLBW_ANSWER, NULL, 0, &request), IBLB_E_MESSAGE);
    CHECK_SAME(iblb_notify(handle, NULL, IBLBW_TELL, NULL, 0), IBLB_E_MESSAGE);
    CHECK_SAME(iblb_subscribe(handle, IBLBW_ANSWER), IBLB_E_MESSAGE);
    iblb_close(handle);
    stop();
}

static void an_answer_is_as_good_after_an_interrupt(void) {
    struct said said;
    start_listening();
    int handle = open_server("a", "cameras", ALL), other = open_client("b");
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    send_message(other, IBLB_EXPINTERRUPT); /* of everything older */
    CHECK_SAME(take_answer(&said), 1);      /* which accepts it */
    iblb_close(other);
    iblb_close(handle);
    stop();
}

/* --- the worker dies --- */

static int inherited_message;
static unsigned long long inherited_stamp;
static unsigned char inherited[RING_BYTES];

static int inherit(int *bytes) {
    return iblbw_inherit(worker, &token, &inherited_message, &inherited_stamp, inherited, sizeof inherited, bytes);
}

static void a_new_worker_inherits_what_is_open_and_hears_the_answer(void) {
    struct said said;
    struct iblbw_incoming before[4];
    unsigned char body[512];
    int bytes, expected = (int)make_body(body, "cameras", "x");
    start_listening();
    int handle = open_server("a", "cameras", ALL), command[4];
    for (int i = 0; i < 4; i++) { /* answered, withdrawn, taken; and one that waits */
        CHECK_SAME(hand_over("cameras", i == 3 ? IBLB_EXPEND : IBLB_EXPSTART), 0);
        before[i] = token;
        if (i < 3)
            CHECK_SAME(next_now(handle), 0);
        command[i] = taken;
    }
    CHECK_SAME(iblbw_withdraw(worker, &before[1]), 0);
    CHECK_SAME(iblb_answer(handle, command[0], -1, NULL), 0);
    CHECK_SAME(iblbw_inherit(worker, &token, &inherited_message, &inherited_stamp, inherited, 100, &bytes), IBLB_E_TOO_LARGE);
    CHECK_SAME(inherit(&bytes), 0); /* its own are not inherited */
    restart_listening();
    CHECK_SAME(inherit(&bytes), 1);
    CHECK(token.number == before[2].number && token.position == before[2].position && token.slot == before[2].slot);
    CHECK(bytes == expected && memcmp(inherited, body, (size_t)bytes) == 0 && inherited_message == IBLB_EXPSTART && inherited_stamp > 0);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_TAKEN);
    CHECK_SAME(inherit(&bytes), 1);
    CHECK(token.number == before[3].number && inherited_message == IBLB_EXPEND);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_WAITING);
    CHECK_SAME(inherit(&bytes), 0);
    CHECK_SAME(take_answer(&said), 1); /* of the first, said to the earlier worker */
    CHECK_SAME(said.number, before[0].number);
    CHECK_SAME(iblb_answer(handle, command[2], -1, NULL), 0);
    CHECK_SAME(take_answer(&said), 1);
    CHECK_SAME(said.number, before[2].number);
    CHECK_SAME(iblbw_withdraw(worker, &before[3]), 0);
    CHECK_SAME(iblb_answer(handle, command[1], -1, NULL), IBLB_E_LATE);
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT);
    CHECK(room_is_back(0));
    iblb_close(handle);
    stop();
}

static void a_program_answers_while_no_worker_lives_and_waits_for_the_next(void) {
    struct said said;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    iblbw_close(worker, 0);
    os_sleep_ns(2 * PARK_NS); /* the library asks the kernel no more often */
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), IBLB_W_NO_WORKER);
    CHECK_SAME(iblb_tell(handle, IBLB_EXPSTATUS, "20"), IBLB_W_NO_WORKER);
    uint64_t began = os_clock_ns();
    CHECK_SAME(iblb_next_command(handle, 50, &taken, NULL, NULL, 0, NULL), IBLB_E_NO_WORKER);
    CHECK(os_clock_ns() - began >= 50 * MS); /* a loop around it does not spin */
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(iblbw_listeners(worker, "cameras"), 0);
    CHECK_SAME(take_answer(&said), 1);
    iblb_close(handle);
    stop();
}

/* --- the program ends --- */

static void what_a_program_leaves_open_is_gone_and_what_it_answered_is_not(void) {
    struct said said;
    struct iblbw_incoming tokens[3];
    for (int row = 0; row < 2; row++) {
        start_listening();
        int handle = open_server("a", "cameras", ALL);
        for (int i = 0; i < 3; i++) {
            CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == 0);
            tokens[i] = token;
            CHECK_ROW(row, i == 2 || next_now(handle) == 0);
            if (i == 0)
                CHECK_ROW(row, iblb_answer(handle, taken, -1, NULL) == 0);
        }
        CHECK_ROW(row, (row ? iblb_abandon(handle) : iblb_close(handle)) == 0);
        CHECK_ROW(row, take() == 1 && commands[0].message == IBLBW_ANSWER);
        read_said(&commands[0], &said);
        CHECK_ROW(row, said.number == tokens[0].number);
        CHECK_ROW(row, iblbw_incoming_state(worker, &tokens[0]) == IBLBW_ANSWERED);
        CHECK_ROW(row, iblbw_incoming_state(worker, &tokens[1]) == IBLBW_GONE && iblbw_withdraw(worker, &tokens[1]) == IBLBW_GONE);
        CHECK_ROW(row, iblbw_incoming_state(worker, &tokens[2]) == IBLBW_GONE);
        CHECK_ROW(row, respond(&commands[0], 0) == 0 && take() == 0);
        note_losses();
        CHECK_ROW(row, slot_state(0) == SLOT_FREE && room_is_back(0) && load32_relaxed(&slot_at(0).header->serving_mask) == 0);
        CHECK_ROW(row, iblbw_incoming_state(worker, &tokens[0]) == IBLBW_GONE); /* whoever has not its answer by now gets none */
        handle = open_client("b");
        CHECK_ROW(row, next_now(handle) == IBLB_E_SERVICE); /* nothing is left of it for the next one */
        CHECK_ROW(row, iblbw_incoming_state(worker, &tokens[1]) == IBLBW_GONE);
        CHECK_ROW(row, iblb_answer(handle, inbox_request(tokens[1].number), -1, NULL) == IBLB_E_COMMAND);
        iblb_close(handle);
        stop();
    }
}

static void that_a_program_is_gone_is_not_told_once_more_by_the_next_worker(void) {
    int bytes;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    send_start(handle);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_close(handle), 0);
    CHECK_SAME(take(), 1); /* a command that keeps the slot */
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_GONE);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_GONE);
    restart_listening();
    CHECK_SAME(inherit(&bytes), 0);
    CHECK_SAME(serve_all(), 1);
    stop();
}

static void a_slot_with_what_masters_wait_for_is_not_used_again_before_a_worker_has_seen_it(void) {
    int bytes, first, second;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    iblbw_close(worker, 0);
    CHECK_SAME(iblb_close(handle), 0);
    CHECK_SAME(iblb_open(rig, "b", 0, &first), IBLB_W_NO_WORKER);
    CHECK_SAME(iblb_open(rig, "c", 0, &second), IBLB_W_NO_WORKER);
    CHECK_SAME(iblb_open(rig, "d", 0, &handle), IBLB_E_NO_SLOT); /* of three that are for all */
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
    CHECK_SAME(inherit(&bytes), 1);
    CHECK_SAME(inherit(&bytes), 0);
    CHECK_SAME(take(), 0);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_GONE);
    CHECK_SAME(iblb_open(rig, "d", 0, &handle), 0);
    iblb_close(first), iblb_close(second), iblb_close(handle);
    stop();
}

static void serve_and_die(void) {
    int handle;
    iblb_open(rig, "doomed", 0, &handle);
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), 0);
    say("serving");
    iblb_next_command(handle, LONG_MS, &taken, NULL, NULL, 0, NULL);
    say("taken");
    hold_still();
}

static void a_program_that_is_killed_is_found_out(void) {
    start_listening();
    struct child child = in_role("serve and die");
    child_says(&child, "serving");
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    child_says(&child, "taken");
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_TAKEN);
    int handle = open_client("b");
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), IBLB_E_NAME_TAKEN);
    child_kill(&child);
    EVENTUALLY((take(), iblbw_incoming_state(worker, &token)) == IBLBW_GONE);
    CHECK_SAME(iblb_serve(handle, "cameras", ALL), 0);
    iblb_close(handle);
    stop();
}

static int parents_handle;
static void the_parents_service_is_not_ours(void) {
    CHECK_SAME(next_now(parents_handle), IBLB_E_FORKED);
    CHECK_SAME(iblb_serve(parents_handle, "cameras", 0), IBLB_E_FORKED);
    CHECK_SAME(iblb_answer(parents_handle, 1, -1, NULL), IBLB_E_FORKED);
    CHECK_SAME(iblb_tell(parents_handle, IBLB_EXPINTERRUPT, NULL), IBLB_E_FORKED);
    CHECK_SAME(iblbw_listeners(worker, "other"), IBLB_E_FORKED);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), IBLB_E_FORKED);
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLB_E_FORKED);
    CHECK_SAME(iblbw_withdraw(worker, &token), IBLB_E_FORKED);
}

static void a_forked_child_does_not_serve(void) {
    start_listening();
    parents_handle = open_server("a", "cameras", ALL);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    struct child child = in_fork(the_parents_service_is_not_ours);
    child_was_right(&child);
    CHECK_SAME(next_now(parents_handle), 0);
    CHECK_SAME(iblb_answer(parents_handle, taken, -1, NULL), 0);
    iblb_close(parents_handle);
    stop();
}

/* --- threads --- */

struct asker {
    pthread_t thread;
    int handle, code, got;
    _Atomic int done;
};
static void *wait_for_command(void *argument) {
    struct asker *asker = argument;
    asker->code = iblb_next_command(asker->handle, LONG_MS, &asker->got, NULL, NULL, 0, NULL);
    asker->done = 1;
    return NULL;
}
static void *wait_for_event(void *argument) {
    struct asker *asker = argument;
    asker->code = iblb_next_event(asker->handle, LONG_MS, &asker->got, NULL, 0, NULL);
    asker->done = 1;
    return NULL;
}
static void start_asker(struct asker *asker, int handle, void *(*run)(void *)) {
    asker->handle = handle;
    asker->done = 0;
    CHECK(pthread_create(&asker->thread, NULL, run, asker) == 0);
}

static void commands_events_and_responses_wake_their_own_threads(void) {
    static const unsigned char body[] = {0x81, 0xa1, 'x', 1};
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(iblb_subscribe(handle, IBLB_EXPINTERRUPT), 0);
    for (int order = 0; order < 6; order++) {
        struct asker command, event;
        struct waiter response;
        uint64_t began = os_clock_ns();
        int request = send_start(handle);
        CHECK_SAME(take(), 1);
        for (int i = 0; i < 3; i++) { /* each of them is the one that parks, in turn */
            if ((i + order) % 3 == 0)
                start_asker(&command, handle, wait_for_command);
            else if ((i + order) % 3 == 1)
                start_asker(&event, handle, wait_for_event);
            else
                start_waiter(&response, handle, request);
            os_sleep_ns(5 * MS);
        }
        if (order < 3)
            CHECK_SAME(iblbw_publish_event(worker, IBLB_EXPINTERRUPT, body, sizeof body), 1);
        CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
        EVENTUALLY(command.done);
        if (order >= 3)
            CHECK_SAME(iblbw_publish_event(worker, IBLB_EXPINTERRUPT, body, sizeof body), 1);
        EVENTUALLY(event.done);
        CHECK_SAME(respond(&commands[0], 0), 0);
        join_waiter(&response);
        pthread_join(command.thread, NULL);
        pthread_join(event.thread, NULL);
        CHECK(command.code == 0 && command.got > 0 && event.code == 0 && event.got == IBLB_EXPINTERRUPT && response.code == 0);
        CHECK(os_clock_ns() - began < PROMPT_NS);
        CHECK_SAME(iblb_answer(handle, command.got, -1, NULL), 0);
        serve_all();
    }
    iblb_close(handle);
    stop();
}

static void of_two_threads_that_wait_each_gets_one(void) {
    struct asker askers[2];
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    for (int i = 0; i < 2; i++)
        start_asker(&askers[i], handle, wait_for_command);
    os_sleep_ns(5 * MS);
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(hand_over("cameras", IBLB_EXPINTERRUPT), 0);
    for (int i = 0; i < 2; i++) {
        EVENTUALLY(askers[i].done);
        pthread_join(askers[i].thread, NULL);
        CHECK_ROW(i, askers[i].code == 0 && iblb_answer(handle, askers[i].got, -1, NULL) == 0);
    }
    CHECK(askers[0].got != askers[1].got);
    iblb_close(handle);
    stop();
}

static void a_close_ends_the_wait_for_a_command(void) {
    struct asker asker;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    start_asker(&asker, handle, wait_for_command);
    os_sleep_ns(5 * MS);
    CHECK_SAME(iblb_close(handle), 0);
    EVENTUALLY(asker.done);
    pthread_join(asker.thread, NULL);
    CHECK_SAME(asker.code, IBLB_E_CLOSED);
    stop();
}

static void a_thread_that_is_cancelled_in_its_wait_leaves_everything_as_it_was(void) {
    struct asker asker;
    void *ended;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    for (int i = 0; i < 10; i++) {
        start_asker(&asker, handle, wait_for_command);
        os_sleep_ns((uint64_t)i * MS);
        CHECK(pthread_cancel(asker.thread) == 0 && pthread_join(asker.thread, &ended) == 0 && ended == PTHREAD_CANCELED);
    }
    CHECK_SAME(hand_over("cameras", IBLB_EXPSTART), 0);
    CHECK_SAME(next_now(handle), 0);
    CHECK_SAME(iblb_answer(handle, taken, -1, NULL), 0);
    iblb_close(handle);
    stop();
}

/* A program that answers, and a worker that withdraws, each as fast as it can. */
static _Atomic int handing, answers, lates;
static void *answer_all(void *argument) {
    int handle = *(int *)argument, command;
    while (handing || !room_is_back(0))
        if (iblb_next_command(handle, 1, &command, NULL, NULL, 0, NULL) == 0) {
            int code = iblb_answer(handle, command, -1, NULL);
            CHECK(code == 0 || code == IBLB_E_LATE);
            answers += code == 0;
            lates += code == IBLB_E_LATE;
        }
    return NULL;
}

static void each_command_is_answered_or_withdrawn_and_never_both(void) {
    pthread_t thread;
    struct said said;
    int heard = 0, withdrawn = 0, handed = 500;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    handing = 1;
    answers = lates = 0;
    CHECK(pthread_create(&thread, NULL, answer_all, &handle) == 0);
    for (int i = 0; i < handed; i++) {
        EVENTUALLY(hand_over("cameras", IBLB_EXPSTART) == 0); /* or it is full of what the program has not looked at */
        for (int spin = 0; spin < i % 50 * 40; spin++)
            (void)iblbw_incoming_state(worker, &token);
        int code = iblbw_withdraw(worker, &token);
        CHECK_ROW(i, code == 0 || code == 1);
        withdrawn += code == 0;
        int came = 0;
        if (code == 1)
            EVENTUALLY((came += take_answer(&said)) == 1);
        heard += came;
    }
    handing = 0;
    pthread_join(thread, NULL);
    heard += take_answer(&said);
    CHECK_SAME(heard + withdrawn, handed);
    CHECK_SAME(heard, answers);
    CHECK(lates <= withdrawn);
    iblb_close(handle);
    stop();
}

/* --- a damaged ring --- */

static void nonsense_in_the_ring_is_found_out_by_either_side(void) {
    static const struct {
        size_t offset;
        uint64_t value;
        int bytes;
    } damages[] = {
        {offsetof(struct incoming_record, header.bytes), 8, 4},
        {offsetof(struct incoming_record, header.bytes), 0, 4},
        {offsetof(struct incoming_record, header.bytes), 1 << 20, 4},
        {offsetof(struct incoming_record, header.kind), RECORD_EVENT, 4},
        {offsetof(struct incoming_record, control), 0, 8},
        {offsetof(struct incoming_record, control), 5, 8},
        {offsetof(struct incoming_record, number), UINT64_C(1) << 31, 8},
        {offsetof(struct incoming_record, payload_bytes), 1 << 20, 4},
    };
    for (int row = 0; row < ROWS(damages); row++) {
        start_listening();
        int handle = open_server("a", "cameras", ALL);
        CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == 0);
        struct slot slot = slot_at(0);
        memcpy(ring_at(&slot.incoming, 0) + damages[row].offset, &damages[row].value, (size_t)damages[row].bytes);
        CHECK_ROW(row, next_now(handle) == IBLB_E_SEGMENT);
        CHECK_ROW(row, iblbw_incoming_state(worker, &token) == IBLBW_GONE && slot_state(0) == SLOT_QUARANTINED);
        CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == IBLB_E_NO_SLOT);
        iblb_close(handle);
        take();
        CHECK_ROW(row, slot_state(0) == SLOT_FREE);
        handle = open_server("a", "cameras", ALL);
        CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == 0 && next_now(handle) == 0 && iblb_answer(handle, taken, -1, NULL) == 0);
        iblb_close(handle);
        stop();
    }
}

static void a_head_that_makes_no_sense_quarantines(void) {
    static const uint64_t heads[] = {1, 63, 1 << 20, (UINT64_MAX / 2) & ~(uint64_t)63};
    int bytes;
    for (int row = 0; row < ROWS(heads); row++)
        for (int by = 0; by < 4; by++) {
            start_listening();
            int handle = open_server("a", "cameras", ALL);
            CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == 0);
            store64_relaxed(&slot_at(0).header->incoming.head, heads[row]);
            if (by == 0)
                CHECK_ROW(row, iblbw_incoming_state(worker, &token) == IBLBW_GONE);
            else if (by == 1)
                CHECK_ROW(row, iblbw_withdraw(worker, &token) == IBLBW_GONE);
            else if (by == 2)
                CHECK_ROW(row, hand_over("cameras", IBLB_EXPSTART) == IBLB_E_NO_SLOT);
            else {
                restart_listening();
                CHECK_ROW(row, inherit(&bytes) == 0);
            }
            CHECK_ROW(row, slot_state(0) == SLOT_QUARANTINED && next_now(handle) == IBLB_E_QUARANTINED);
            iblb_close(handle);
            take();
            CHECK_ROW(row, slot_state(0) == SLOT_FREE && room_is_back(0));
            stop();
        }
}

static void a_command_that_says_nothing_of_its_master_is_left_to_the_worker(void) {
    static const unsigned char body[] = {0x81, 0xa1, 'x', 1};
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    CHECK_SAME(iblbw_hand(worker, "cameras", IBLB_EXPSTART, 0, 0, body, sizeof body, &token), 0);
    CHECK_SAME(next_now(handle), IBLB_E_SEGMENT);
    CHECK_SAME(taken, 0);
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT); /* once */
    CHECK_SAME(iblbw_incoming_state(worker, &token), IBLBW_TAKEN);
    CHECK_SAME(iblbw_withdraw(worker, &token), 0);
    CHECK_SAME(next_now(handle), IBLB_E_TIMEOUT);
    CHECK(room_is_back(0));
    iblb_close(handle);
    stop();
}

/* --- tokens --- */

static int holds_secret(const struct ring *ring) {
    for (uint32_t i = 0; i + 6 < ring->capacity; i++)
        if (memcmp(ring->data + i, "secret", 6) == 0)
            return 1;
    return 0;
}

static void a_token_is_wiped_once_nobody_will_read_it(void) {
    unsigned char body[512];
    struct said said;
    int bytes = (int)make_body(body, "cameras", "secret");
    struct slot slot;
    start_listening();
    int handle = open_server("a", "cameras", ALL);
    slot = slot_at(0);
    for (int row = 0; row < 4; row++) {
        CHECK_ROW(row, iblbw_hand(worker, "cameras", IBLB_ALYX, 0, 0, body, bytes, &token) == 0);
        CHECK_ROW(row, holds_secret(&slot.incoming) && next_now(handle) == 0);
        if (row == 1)
            CHECK_ROW(row, iblbw_withdraw(worker, &token) == 0 && !holds_secret(&slot.incoming)); /* although the program does nothing */
        CHECK_ROW(row, iblb_answer(handle, taken, -1, "\"secret\"") == (row == 1 ? IBLB_E_LATE : 0));
        CHECK_ROW(row, !holds_secret(&slot.incoming) && holds_secret(&slot.command) == (row != 1));
        CHECK_ROW(row, take_answer(&said) == (row != 1) && !holds_secret(&slot.command));
    }
    CHECK_SAME(iblbw_hand(worker, "cameras", IBLB_ALYX, 0, 0, body, bytes, &token), 0);
    iblb_close(handle);
    take();
    CHECK(!holds_secret(&slot.incoming) && slot_state(0) == SLOT_FREE);
    stop();
}

static const struct role roles[] = {{"serve and die", serve_and_die}, {NULL, NULL}};

static const struct test tests[] = {
    {"a program serves the listener that it names, or the only one", a_program_serves_the_listener_that_it_names_or_the_only_one},
    {"a program that is back under its name is another one", a_program_that_is_back_under_its_name_is_another_one},
    {"what cannot be served is refused", what_cannot_be_served_is_refused},
    {"names of listeners are checked", names_of_listeners_are_checked},
    {"two programs cannot serve the same", two_programs_cannot_serve_the_same},
    {"without a worker the next one asks", without_a_worker_the_next_one_asks},
    {"a worker that has not said yet whom it listens for is waited for", a_worker_that_has_not_said_yet_whom_it_listens_for_is_waited_for},
    {"a command comes as JSON with its number and is answered once", a_command_comes_as_json_with_its_number_and_is_answered_once},
    {"a failure bears its sentence", a_failure_bears_its_sentence},
    {"an interrupt comes before what came earlier", an_interrupt_comes_before_what_came_earlier},
    {"a buffer too small keeps the command", a_buffer_too_small_keeps_the_command},
    {"wrong arguments change nothing", wrong_arguments_change_nothing},
    {"a full command ring refuses an answer and takes it later", a_full_command_ring_refuses_an_answer_and_takes_it_later},
    {"eight commands may be open", eight_commands_may_be_open},
    {"what was withdrawn behind one that is open counts no more", what_was_withdrawn_behind_one_that_is_open_counts_no_more},
    {"what was withdrawn is too late to be answered", what_was_withdrawn_is_too_late_to_be_answered},
    {"a worker hands only to whom it may", a_worker_hands_only_to_whom_it_may},
    {"the ring wraps and the numbers go on", the_ring_wraps_and_the_numbers_go_on},
    {"a number whose lowest bits are nought is left out", a_number_whose_lowest_bits_are_nought_is_left_out},
    {"what a program tells comes with the name that it serves", what_a_program_tells_comes_with_the_name_that_it_serves},
    {"no message of the worker's own comes from a user", no_message_of_the_workers_own_comes_from_a_user},
    {"an answer is as good after an interrupt", an_answer_is_as_good_after_an_interrupt},
    {"a new worker inherits what is open and hears the answer", a_new_worker_inherits_what_is_open_and_hears_the_answer},
    {"a program answers while no worker lives, and waits for the next", a_program_answers_while_no_worker_lives_and_waits_for_the_next},
    {"what a program leaves open is gone, and what it answered is not", what_a_program_leaves_open_is_gone_and_what_it_answered_is_not},
    {"that a program is gone is not told once more by the next worker", that_a_program_is_gone_is_not_told_once_more_by_the_next_worker},
    {"a slot with what masters wait for is not used again before a worker has seen it",
     a_slot_with_what_masters_wait_for_is_not_used_again_before_a_worker_has_seen_it},
    {"a program that is killed is found out", a_program_that_is_killed_is_found_out},
    {"a forked child does not serve", a_forked_child_does_not_serve, NOT_ON_WINDOWS("it has no fork")},
    {"commands, events and responses wake their own threads", commands_events_and_responses_wake_their_own_threads},
    {"of two threads that wait each gets one", of_two_threads_that_wait_each_gets_one},
    {"a close ends the wait for a command", a_close_ends_the_wait_for_a_command},
    {"a thread that is cancelled in its wait leaves everything as it was",
     a_thread_that_is_cancelled_in_its_wait_leaves_everything_as_it_was, NOT_ON_WINDOWS("it cancels no threads")},
    {"each command is answered or withdrawn, and never both", each_command_is_answered_or_withdrawn_and_never_both},
    {"nonsense in the ring is found out by either side", nonsense_in_the_ring_is_found_out_by_either_side},
    {"a head that makes no sense quarantines", a_head_that_makes_no_sense_quarantines},
    {"a command that says nothing of its master is left to the worker", a_command_that_says_nothing_of_its_master_is_left_to_the_worker},
    {"a token is wiped once nobody will read it", a_token_is_wiped_once_nobody_will_read_it},
};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), roles);
}
