/* test_misuse.c: every bad input of the header's list has a code of its own and a sentence that is not empty, and does nothing. */
#include "rig.h"

static int handle, closed_handle;
static char too_long[5 << 20];
static char deep[300];
static char fills_ring[RING_BYTES];
static const unsigned char two_objects[] = {0xc0, 0xc0};
static const unsigned char not_utf8[] = {0xa1, 0xff};
static const unsigned char binary[] = {0xc4, 1, 0};
static const unsigned char cut[] = {0x92, 1};
static const unsigned char int_key[] = {0x81, 1, 2};

static void set_up(void) {
    start();
    handle = open_client("a");
    closed_handle = open_client("b");
    iblb_close(closed_handle);
    memset(too_long, ' ', sizeof too_long - 1);
    memcpy(too_long, "1", 1);
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    memset(fills_ring, '1', sizeof fills_ring - 1);
}

static void tear_down(void) {
    iblb_close(handle);
    stop();
}

/* --- open --- */

static char long_name[NAME_BYTES + 1];

static void open_refuses_each_bad_input_with_its_own_code(void) {
    static const struct {
        const char *segment, *client;
        int timeout_ms, code;
    } rows[] = {
        {NULL, "c", 0, IBLB_E_ARGUMENT},        {rig, "c", -1, IBLB_E_ARGUMENT}, {"", "c", 0, IBLB_E_NAME},
        {"a/b", "c", 0, IBLB_E_NAME},           {"..", "c", 0, IBLB_E_NAME},     {".hidden", "c", 0, IBLB_E_NAME},
        {" rig", "c", 0, IBLB_E_NAME},          {"r\xff", "c", 0, IBLB_E_NAME},  {long_name, "c", 0, IBLB_E_NAME},
        {rig, long_name, 0, IBLB_E_NAME},       {rig, "a\nb", 0, IBLB_E_NAME},   {rig, "a\x7f", 0, IBLB_E_NAME},
        {rig, "a\xff", 0, IBLB_E_UTF8},         {rig, "a\xc3", 0, IBLB_E_UTF8},  {"absent", "c", 0, IBLB_E_NO_SEGMENT},
        {"absent", "c", 30, IBLB_E_NO_SEGMENT},
    };
    set_up();
    memset(long_name, 'n', sizeof long_name - 1);
    for (int row = 0; row < ROWS(rows); row++) {
        int opened = 77;
        CHECK_ROW(row, iblb_open(rows[row].segment, rows[row].client, rows[row].timeout_ms, &opened) == rows[row].code);
        CHECK_ROW(row, opened == 0 && strlen(sentence(0)) > 20);
    }
    CHECK_SAME(iblb_open(rig, "c", 0, NULL), IBLB_E_ARGUMENT);
    long_name[NAME_BYTES - 1] = '\0';
    int opened;
    CHECK_SAME(iblb_open(rig, long_name, 0, &opened), 0);
    CHECK_SAME(iblb_close(opened), 0);
    take(); /* frees the slots of those that were closed */
    CHECK_SAME(iblb_open(rig, "J\xc3\xbcrgen", 0, &opened), 0);
    CHECK_SAME(iblb_close(opened), 0);
    tear_down();
}

static void handles_that_are_none_are_refused_by_every_function(void) {
    set_up();
    const int bad[] = {0, -1, 1, 64, 12345678, -2147483647 - 1, 2147483647, closed_handle};
    for (int row = 0; row < ROWS(bad); row++) {
        int request = 5, needed = 5;
        char json[4] = "x";
        if (bad[row] == handle)
            continue;
        CHECK_ROW(row, iblb_send(bad[row], NULL, IBLB_PING, NULL, 0, &request) == IBLB_E_HANDLE && request == 0);
        CHECK_ROW(row, iblb_send_msgpack(bad[row], NULL, IBLB_PING, NULL, 0, 0, &request) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_notify(bad[row], NULL, IBLB_PING, NULL, 0) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_wait(bad[row], 1, 0, json, sizeof json, &needed) == IBLB_E_HANDLE && needed == 0 && !*json);
        CHECK_ROW(row, iblb_wait_msgpack(bad[row], 1, 0, NULL, 0, NULL) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_call(bad[row], NULL, IBLB_PING, NULL, 0, NULL, 0, &request) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_cancel(bad[row], 1) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_withdraw(bad[row], 1) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_worker_state(bad[row], NULL, NULL, NULL) == IBLB_E_HANDLE);
        CHECK_ROW(row, iblb_close(bad[row]) == IBLB_E_HANDLE);
        CHECK_ROW(row, strstr(sentence(bad[row]), "handle") != NULL);
    }
    tear_down();
}

/* --- send --- */

static const struct {
    const char *services;
    int message;
    const char *args;
    int code;
} sends[] = {
    {NULL, 0, NULL, IBLB_E_MESSAGE},
    {NULL, 3, NULL, IBLB_E_MESSAGE},
    {NULL, -1, NULL, IBLB_E_MESSAGE},
    {NULL, 256, NULL, IBLB_E_MESSAGE},
    {NULL, 4097, NULL, IBLB_E_MESSAGE},
    {NULL, -2147483647 - 1, NULL, IBLB_E_MESSAGE},
    {"ephy", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"ephyss", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"Ephys", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"ephys,", IBLB_PING, NULL, IBLB_E_SERVICE},
    {",ephys", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"ephys,,cameras", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"ephys;cameras", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"ephys,eyes", IBLB_PING, NULL, IBLB_E_SERVICE},
    {"\xff", IBLB_PING, NULL, IBLB_E_UTF8},
    {"ephys\xc3", IBLB_PING, NULL, IBLB_E_UTF8},
    {NULL, IBLB_EXPINFO, "[1", IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, "[1]]", IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, "nul", IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, "{'a': 1}", IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, "NaN", IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, "2026-01-01_1_subject", IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, deep, IBLB_E_JSON},
    {NULL, IBLB_EXPINFO, "\"\xff\"", IBLB_E_UTF8},
    {NULL, IBLB_EXPINFO, "\"\xed\xa0\x80\"", IBLB_E_UTF8},
    {NULL, IBLB_EXPINFO, too_long, IBLB_E_TOO_LARGE},
    {NULL, IBLB_EXPINFO, fills_ring, IBLB_E_TOO_LARGE},
    {NULL, IBLB_EXPINTERRUPT, fills_ring + RING_BYTES - 1100, IBLB_E_TOO_LARGE},
};

static void send_refuses_each_bad_input_with_its_own_code_and_sends_nothing(void) {
    set_up();
    for (int row = 0; row < ROWS(sends); row++) {
        int request = 77;
        CHECK_ROW(row, iblb_send(handle, sends[row].services, sends[row].message, sends[row].args, 0, &request) == sends[row].code);
        CHECK_ROW(row, request == 0 && strlen(sentence(handle)) > 20);
        CHECK_ROW(row, iblb_notify(handle, sends[row].services, sends[row].message, sends[row].args, 0) == sends[row].code);
        request = 77;
        CHECK_ROW(row, iblb_call(handle, sends[row].services, sends[row].message, sends[row].args, LONG_MS, NULL, 0, &request) ==
                           sends[row].code);
        CHECK_ROW(row, request == 0);
    }
    CHECK_SAME(iblb_send(handle, NULL, IBLB_PING, NULL, 0, NULL), IBLB_E_ARGUMENT);
    CHECK(strlen(sentence(handle)) > 20);
    CHECK_SAME(iblb_send_msgpack(handle, NULL, IBLB_PING, NULL, 0, 0, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_call(handle, NULL, IBLB_PING, NULL, 0, NULL, 0, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(take(), 0);
    CHECK_SAME(load64_relaxed(&slot_at(0).header->command.tail), 0);
    tear_down();
}

static void sentences_name_the_offset_or_the_name_that_is_wrong(void) {
    int request;
    set_up();
    iblb_send(handle, NULL, IBLB_EXPINFO, "[1, x]", 0, &request);
    CHECK(strstr(sentence(handle), "offset 4") != NULL);
    iblb_send(handle, NULL, IBLB_EXPINFO, "\"ab\xff\"", 0, &request);
    CHECK(strstr(sentence(handle), "offset 3") != NULL);
    iblb_send(handle, "ephys, eyes", IBLB_PING, NULL, 0, &request);
    CHECK(strstr(sentence(handle), "\"eyes\"") != NULL);
    iblb_send(handle, NULL, 99, NULL, 0, &request);
    CHECK(strstr(sentence(handle), "99") != NULL);
    tear_down();
}

static void send_msgpack_refuses_what_json_cannot_say(void) {
    static const struct {
        const unsigned char *args;
        int bytes, code;
    } rows[] = {{NULL, 3, IBLB_E_ARGUMENT},    {two_objects, -1, IBLB_E_ARGUMENT}, {two_objects, 2, IBLB_E_MSGPACK},
                {not_utf8, 2, IBLB_E_MSGPACK}, {binary, 3, IBLB_E_MSGPACK},        {cut, 2, IBLB_E_MSGPACK},
                {int_key, 3, IBLB_E_MSGPACK}};
    set_up();
    for (int row = 0; row < ROWS(rows); row++) {
        int request = 77;
        CHECK_ROW(row, iblb_send_msgpack(handle, NULL, IBLB_EXPINFO, rows[row].args, rows[row].bytes, 0, &request) == rows[row].code);
        CHECK_ROW(row, request == 0 && strlen(sentence(handle)) > 20);
    }
    CHECK_SAME(take(), 0);
    tear_down();
}

static void none_may_be_said_as_null_as_empty_or_as_white_space(void) {
    static const char *const nones[] = {NULL, "", " ", "\t \r\n"};
    set_up();
    for (int row = 0; row < ROWS(nones); row++) {
        int request;
        CHECK_ROW(row, iblb_send(handle, nones[row], IBLB_EXPINFO, nones[row], 0, &request) == 0);
        CHECK_ROW(row, take() == 1 && commands[0].payload_bytes == 6);
    }
    CHECK_SAME(iblb_notify(handle, " ephys ,\tcameras ", IBLB_PING, NULL, 0), 0);
    tear_down();
}

static void the_largest_command_fits_and_one_byte_more_does_not(void) {
    static char text[RING_BYTES];
    int request, largest = (RING_BYTES - (int)INTERRUPT_RESERVE) / 2 - (int)sizeof(struct command_record) - 10;
    set_up();
    memset(text, '1', (size_t)largest + 1);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPINFO, text, 0, &request), IBLB_E_TOO_LARGE);
    text[largest] = '\0';
    CHECK_SAME(iblb_send(handle, NULL, IBLB_EXPINFO, text, 0, &request), 0);
    CHECK_SAME(take(), 1);
    CHECK_SAME(commands[0].payload_bytes, largest + 10);
    CHECK((int)commands[0].payload_bytes <= iblbw_largest_command(worker));
    tear_down();
}

/* --- wait, cancel, texts --- */

static void wait_and_cancel_refuse_what_is_no_request(void) {
    static const int requests[] = {0, -1, 1, 99, 2147483647, -2147483647 - 1};
    char json[8] = "x";
    set_up();
    for (int row = 0; row < ROWS(requests); row++) {
        CHECK_ROW(row, iblb_wait(handle, requests[row], LONG_MS, NULL, 0, NULL) == IBLB_E_REQUEST && strlen(sentence(handle)) > 20);
        CHECK_ROW(row, iblb_wait_msgpack(handle, requests[row], 0, NULL, 0, NULL) == IBLB_E_REQUEST);
        CHECK_ROW(row, iblb_cancel(handle, requests[row]) == IBLB_E_REQUEST);
        CHECK_ROW(row, iblb_withdraw(handle, requests[row]) == IBLB_E_REQUEST);
    }
    int request = send_start(handle);
    CHECK_SAME(iblb_wait(handle, request, -1, json, sizeof json, NULL), IBLB_E_ARGUMENT);
    CHECK(!*json && strlen(sentence(handle)) > 20);
    CHECK_SAME(iblb_wait(handle, request, 0, json, -1, NULL), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_call(handle, NULL, IBLB_PING, NULL, -1, NULL, 0, &request), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_call(handle, NULL, IBLB_PING, NULL, 0, json, -1, &request), IBLB_E_ARGUMENT);
    tear_down();
}

static void texts_are_cut_and_terminated(void) {
    char text[32];
    set_up();
    iblb_send(handle, NULL, 99, NULL, 0, &(int){0});
    memset(text, 'x', sizeof text);
    CHECK_SAME(iblb_last_error(handle, text, 10), IBLB_E_BUFFER);
    CHECK(strcmp(text, "99 is no ") == 0 && text[10] == 'x');
    CHECK_SAME(iblb_last_error(handle, text, 0), IBLB_E_BUFFER);
    CHECK_SAME(iblb_last_error(handle, NULL, 10), IBLB_E_BUFFER);
    CHECK_SAME(iblb_error_text(IBLB_E_FULL, text, 5), IBLB_E_BUFFER);
    CHECK(strcmp(text, "The ") == 0);
    CHECK_SAME(iblb_error_text(-1, text, sizeof text), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_error_text(IBLB_E_FULL, NULL, 5), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_clock_ns(NULL), 0);
    double now = 0;
    CHECK(iblb_clock_ns(&now) == 0 && now > 0 && iblb_version() == IBLB_VERSION);
    tear_down();
}

static void a_sentence_is_ascii_whatever_was_given(void) {
    static const char *const names[] = {"r\xc3\xafg", "r\xff", "\xf0\x9f\x90\xad",
                                        "mousemousemousemousemousemousemousemousemousemousemousemousemousemousemousemouse\xc3\xaf"};
    set_up();
    for (int row = 0; row < ROWS(names); row++) {
        int opened, request;
        iblb_open(names[row], "c", 0, &opened);
        for (const char *c = sentence(0); *c; c++)
            if ((unsigned char)*c >= 0x80) {
                CHECK_ROW(row, (unsigned char)*c < 0x80);
                break;
            }
        iblb_send(handle, names[row], IBLB_PING, NULL, 0, &request);
        for (const char *c = sentence(handle); *c; c++)
            if ((unsigned char)*c >= 0x80) {
                CHECK_ROW(row, (unsigned char)*c < 0x80);
                break;
            }
    }
    tear_down();
}

static void out_pointers_other_than_handle_and_request_may_be_null(void) {
    int request;
    set_up();
    CHECK_SAME(iblb_worker_state(handle, NULL, NULL, NULL), 0);
    request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    tear_down();
}

static const struct test tests[] = {
    {"open refuses each bad input with its own code", open_refuses_each_bad_input_with_its_own_code},
    {"handles that are none are refused by every function", handles_that_are_none_are_refused_by_every_function},
    {"send refuses each bad input with its own code and sends nothing", send_refuses_each_bad_input_with_its_own_code_and_sends_nothing},
    {"sentences name the offset or the name that is wrong", sentences_name_the_offset_or_the_name_that_is_wrong},
    {"send_msgpack refuses what JSON cannot express", send_msgpack_refuses_what_json_cannot_say},
    {"none may be said as NULL, as \"\" or as white space", none_may_be_said_as_null_as_empty_or_as_white_space},
    {"the largest command fits, and one byte more does not", the_largest_command_fits_and_one_byte_more_does_not},
    {"wait and cancel refuse what is no request", wait_and_cancel_refuse_what_is_no_request},
    {"texts are cut and terminated", texts_are_cut_and_terminated},
    {"a sentence is ASCII whatever was given", a_sentence_is_ascii_whatever_was_given},
    {"out-pointers other than handle and request may be NULL", out_pointers_other_than_handle_and_request_may_be_null},
};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), NULL);
}
