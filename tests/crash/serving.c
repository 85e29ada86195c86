/* serving.c: the programs that the crash tests of serving kill: a program that serves a listener, and the worker that
 * asks it.
 *
 *     serving program NAME   serves "cameras", does what each command says, and closes after the last
 *     serving worker         asks, one thing after the other, and reports what came of each; then closes
 *     serving offsets        where to find what in the segment, for the tests
 *
 * Environment and log as for actor.c. What a command says ("do" in its body): answer, fail, tell (says something
 * first), token (an ALYX), big (a body of 3 KB), late (is answered only after it was withdrawn), leave (is never
 * answered), last (is answered; then the program closes).
 *
 * Lines: "took N", "said N CODE", "told - CODE", "opened -", "closed -" from programs; "handed N", "heard N" (the
 * answer; the master would be told), "again N" (it was heard by a worker that died), "withdrawn N", "gone N",
 * "inherited N", "done -" from workers; "died"; "wrong".
 */
#include "acting.h"

#define BIG 3000
#define A_WHILE_NS (20 * MS)

static uint64_t patience_ns = 20000 * MS;

static void died(const char *section, const char *function, long point) {
    say("died - %s %s %ld", section, function, point);
}

static struct segment eye;
static void look(void) {
    struct problem problem;
    fault_pause++;
    if (!eye.header && segment_attach(&eye, segment_name, &problem) != IBLB_OK)
        memset(&eye, 0, sizeof eye);
    fault_pause--;
}

/* --- the program --- */

static int handle;

/* Is the record with this number withdrawn? For a while only: the worker may be dead. */
static int is_withdrawn(int command) {
    int withdrawn = 0;
    fault_pause++;
    for (uint32_t i = 0; i < eye.sizes.slots; i++) {
        struct slot slot;
        struct record_header header;
        segment_slot(&eye, i, &slot);
        uint64_t at = load64_acquire(&slot.header->incoming.head), tail = load64_acquire(&slot.header->incoming.tail);
        for (; ring_next(&slot.incoming, &at, tail, &header) == RING_OK; at += header.bytes) {
            struct incoming_record record;
            shared_read(&record, ring_at(&slot.incoming, at), sizeof record);
            withdrawn = withdrawn || ((int)record.number == command && (uint32_t)record.control == INCOMING_WITHDRAWN);
        }
    }
    fault_pause--;
    return withdrawn;
}

static void said(int command, int code) {
    say("said %d %d", command, code);
    if (code != IBLB_OK && code != IBLB_W_NO_WORKER && code != IBLB_E_LATE)
        say("wrong %d an answer gives %d", command, code);
}

static int carry_out(int command, const char *json) {
    static char large[BIG];
    if (strstr(json, "\"do\":\"leave\""))
        return 1;
    if (strstr(json, "\"do\":\"tell\"")) {
        fault_section("tell");
        say("told - %d", iblb_tell(handle, IBLB_EXPSTATUS, "20"));
    }
    if (strstr(json, "\"do\":\"late\""))
        for (uint64_t until = os_clock_ns() + A_WHILE_NS; !is_withdrawn(command) && os_clock_ns() < until;)
            os_sleep_ns(MS / 20);
    if (strstr(json, "\"do\":\"fail\"")) {
        fault_section("fail");
        said(command, iblb_fail(handle, command, "it broke"));
        return 1;
    }
    fault_section(strstr(json, "\"do\":\"late\"") ? "late" : strstr(json, "\"do\":\"token\"") ? "token" : "answer");
    memset(large, ' ', sizeof large - 1);
    large[0] = '1';
    said(command, iblb_answer(handle, command, -1, strstr(json, "\"do\":\"big\"") ? large : "1"));
    return !strstr(json, "\"do\":\"last\"");
}

static int program(void) {
    static char json[2 * BIG];
    fault_section("open");
    int code = iblb_open(segment_name, who, 10000, &handle);
    look();
    fault_section("serve");
    for (uint64_t until = os_clock_ns() + patience_ns; os_clock_ns() < until;) {
        code = iblb_serve(handle, "cameras", 255);
        if (code != IBLB_E_NAME_TAKEN && code != IBLB_E_SERVICE)
            break;
        os_sleep_ns(MS);
    }
    if (code < 0) {
        say("wrong - serve gives %d", code);
        return 5;
    }
    say("opened -");
    for (int goes_on = 1; goes_on;) {
        int command, message;
        fault_section("next");
        code = iblb_next_command(handle, 100, &command, &message, json, sizeof json, NULL);
        if (code == IBLB_OK) {
            say("took %d", command);
            goes_on = carry_out(command, json);
        } else if (code != IBLB_E_TIMEOUT && code != IBLB_E_NO_WORKER && code != IBLB_E_SERVICE) {
            say("wrong - next_command gives %d", code);
            return 5;
        }
    }
    fault_section("close");
    iblb_close(handle);
    say("closed -");
    return 0;
}

/* --- the worker --- */

struct errand {
    struct iblbw_incoming token;
    int open, withdraw;
    uint64_t withdraw_at; /* ns; 0: as soon as it is taken */
};

static struct iblbw_worker *worker;
static struct errand errands[64];
static int count;

static size_t put_str(unsigned char *to, const char *text, size_t length) {
    to[0] = 0xda;
    to[1] = (unsigned char)(length >> 8);
    to[2] = (unsigned char)length;
    memcpy(to + 3, text, length);
    return 3 + length;
}

static void add(const struct iblbw_incoming *token, int withdraw, const char *what) {
    say("%s %llu", what, token->number);
    if (count < 64)
        errands[count++] = (struct errand){*token, 1, withdraw, 0};
}

/* 0: nobody serves. */
static int hand(const char *what, int message) {
    static unsigned char body[2 * BIG];
    static char filling[BIG];
    struct iblbw_incoming token;
    const char *const words[] = {"service", "cameras", "master", "127.0.0.1:1", "do", what};
    size_t at = 1;
    memset(filling, 'x', sizeof filling);
    body[0] = 0x84;
    for (int i = 0; i < 6; i++)
        at += put_str(body + at, words[i], strlen(words[i]));
    at += put_str(body + at, "filling", 7);
    at += put_str(body + at, filling, strcmp(what, "big") == 0 ? BIG : 10);
    fault_section("hand");
    int code = iblbw_hand(worker, "cameras", message, os_clock_ns(), 0, body, (int)at, &token);
    if (code == IBLB_OK)
        add(&token, strcmp(what, "late") == 0 || strcmp(what, "leave") == 0, "handed");
    else if (code != IBLB_E_NO_SLOT && code != IBLB_E_FULL)
        say("wrong - hand gives %d", code);
    return code == IBLB_OK;
}

static void hear(const struct iblbw_command *command, const unsigned char *payload) {
    if (iblbw_accept(worker, command) != IBLB_OK && !(command->flags & IBLBW_ORPHAN))
        say("wrong - an answer is not accepted");
    if (command->message == IBLBW_ANSWER) {
        uint64_t number = 0;
        const unsigned char *at = payload + command->payload_offset;
        at += 5 + at[4] + 2;
        for (int i = 0; i < 8; i++)
            number = number << 8 | at[i];
        say("%s %" PRIu64, command->flags & IBLBW_ORPHAN ? "again" : "heard", number);
        for (int i = 0; i < count; i++)
            if (errands[i].token.number == number)
                errands[i].open = 0;
    }
    iblbw_respond(worker, command, 0, NULL, 0);
}

/* One look at everything; how many are still open. */
static int turn(void) {
    static struct iblbw_command commands[64];
    static unsigned char payload[65536];
    int open = 0;
    fault_section("take");
    int came = iblbw_take(worker, commands, 64, payload, sizeof payload, 2);
    if (came < 0) {
        say("wrong - take gives %d", came);
        die(3);
    }
    fault_section("hear");
    for (int i = 0; i < came; i++)
        hear(&commands[i], payload);
    fault_section("losses");
    for (char lost[64]; iblbw_lost_client(worker, lost, sizeof lost);)
        ;
    for (int i = 0; i < count; i++) {
        struct errand *errand = &errands[i];
        if (!errand->open)
            continue;
        fault_section("state");
        int state = iblbw_incoming_state(worker, &errand->token);
        if (errand->withdraw && state == IBLBW_TAKEN && os_clock_ns() >= errand->withdraw_at) {
            fault_section("withdraw");
            int code = iblbw_withdraw(worker, &errand->token);
            if (code == 0)
                say("withdrawn %llu", errand->token.number);
            errand->open = code == 1;
        } else if (state == IBLBW_GONE) {
            say("gone %llu", errand->token.number);
            errand->open = 0;
        }
        open += errand->open;
    }
    return open;
}

static int serve(void) {
    static unsigned char body[RING_BYTES];
    static const struct {
        const char *what;
        int message;
    } steps[] = {{"answer", 2}, {"fail", 1}, {"tell", 4}, {"token", 128}, {"late", 2},    {"big", 2},
                 {"big", 2},    {"big", 2},  {"big", 2},  {"leave", 2},   {"answer", 16}, {"last", 4}};
    struct iblbw_incoming token;
    int message, bytes;
    unsigned long long stamp;
    const char *slots = variable("CRASH_SLOTS");
    fault_section("make or adopt");
    int code = iblbw_open(segment_name, slots ? atoi(slots) : 0, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker);
    if (code != IBLB_OK) {
        say("unopened - %d", code);
        return 6;
    }
    fault_section("inherit");
    while ((code = iblbw_inherit(worker, &token, &message, &stamp, body, sizeof body, &bytes)) == 1) {
        body[bytes] = '\0';
        add(&token, 1, "inherited");
        errands[count - 1].withdraw_at = os_clock_ns() + A_WHILE_NS; /* it may be one that is never answered */
    }
    if (code != 0)
        say("wrong - inherit gives %d", code);
    fault_section("listen");
    iblbw_services(worker, "");
    iblbw_listeners(worker, "cameras");
    say("serving -");
    uint64_t until = os_clock_ns() + patience_ns;
    for (size_t step = 0; step < sizeof steps / sizeof steps[0] && os_clock_ns() < until;) {
        unsigned mask;
        char client[NAME];
        fault_section("server of");
        if (iblbw_server_of(worker, "cameras", &mask, client, sizeof client) == 1 && hand(steps[step].what, steps[step].message))
            step++;
        while (turn() > 0 && os_clock_ns() < until)
            ;
    }
    while (turn() > 0 && os_clock_ns() < until)
        ;
    if (os_clock_ns() >= until)
        say("wrong - the worker waits in vain");
    turn(); /* the slot is freed */
    say("done -");
    fault_section("end");
    iblbw_close(worker, 0);
    return 0;
}

int main(int argc, char **argv) {
    static char name[NAME_BYTES];
    const char *role = argc > 1 ? argv[1] : "", *path = variable("CRASH_LOG");
    segment_name = name;
    if (strcmp(role, "offsets") == 0)
        return offsets();
    snprintf(name, sizeof name, "%s", variable("CRASH_SEGMENT") ? variable("CRASH_SEGMENT") : "");
    if (!*name || !path || (log_file = open_log(path)) < 0)
        return 2;
    if (variable("CRASH_PATIENCE_MS"))
        patience_ns = strtoull(variable("CRASH_PATIENCE_MS"), NULL, 10) * MS;
    fault_last_words = died;
    if (strcmp(role, "worker") == 0)
        return serve();
    if (argc < 3 || strcmp(role, "program") != 0)
        return 2;
    who = argv[2];
    return program();
}
