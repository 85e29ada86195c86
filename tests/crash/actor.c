/* actor.c: the programs that the crash tests kill: client, worker, bystander, traffic, knock, visit, leave, arrive, offsets.
 *
 *     actor client NAME          every path of the client's side, once
 *     actor traffic NAME SEED    sends, waits, cancels and interrupts at random until it is asked to end (SIGTERM, see system.h)
 *     actor bystander NAME       sends and waits, over and over, until it is asked to end
 *     actor knock NAME           one call, and a command to one service
 *     actor visit NAME           opens, whether there is a worker or not, and closes
 *     actor leave NAME           opens likewise, and closes with commands behind it that it waits for no answer to
 *     actor arrive NAME          opens likewise, and one command
 *     actor worker [refuse]      serves until it is asked to end; `refuse`: answers what is called so without accepting it, as a stopping
 *                                worker does
 *     actor offsets              where to find what in the segment, for the tests
 *
 * CRASH_SEGMENT names the segment, CRASH_LOG the file that every line goes to, with one write each (on Windows each process has its own). A
 * writer that is killed at the boundary of a page leaves half a line, so each begins with a new line and ends with " ."; what does not is
 * none. CRASH_BOARD is a file that a bystander maps and keeps its counts in.
 *
 * The name of a command says how the worker treats it: after the last dash comes plain, big (a response of 3 KB), leave (not accepted for
 * a while), hold (accepted, answered a while later), late (answered when its client is parked), stack (3 KB too, answered when six are
 * waiting: more than the ring holds), old (not accepted before its time to live is over), refuse.
 *
 * Lines: "<ns> <who> <what> <command> ...": try, sent REQUEST, unsent CODE, notified, got CODE, cancel, withdrawn, discarded, died
 * PUBLISHED (0 no, 1 yes, 2 and withdrawn) SECTION FUNCTION POINT from clients; dispatch SLOT GENERATION REQUEST, refused CODE, cancelled,
 * orphan from workers; wrong anything from all.
 */
#include "acting.h"

#define BIG 3000
#define TOKEN 32 /* characters, each a # */
#define A_WHILE_NS (10 * MS)
#define STACK 6
#define BOARD_BYTES 4096

static _Atomic int ends;
static uint64_t patience_ns = 20000 * MS;

/* --- looking into the segment behind the library's back; none of it counts as an access --- */

static struct segment eye;
static int eye_open;
static struct slot own;
static int own_known;

static void look(void) {
    struct problem problem;
    fault_pause++;
    if (!eye_open)
        eye_open = segment_attach(&eye, segment_name, &problem) == IBLB_OK;
    for (uint32_t i = 0; eye_open && !own_known && i < eye.sizes.slots; i++) {
        char client[NAME_BYTES];
        segment_slot(&eye, i, &own);
        shared_read(client, own.header->client, sizeof client);
        own_known = load32_acquire(&own.header->state) == SLOT_CLAIMED && strcmp(client, who) == 0;
    }
    fault_pause--;
}

static uint64_t command_tail(void) {
    fault_pause++;
    uint64_t tail = own_known ? load64_acquire(&own.header->command.tail) : 0;
    fault_pause--;
    return tail;
}

static int last_was_withdrawn(void) {
    uint64_t at = load64_acquire(&own.header->command.head), tail = load64_acquire(&own.header->command.tail), control = 0;
    struct record_header header;
    for (; ring_peek(&own.command, at, tail, &header) == RING_OK; at += header.bytes)
        control = load64_acquire(&((struct command_record *)(void *)ring_at(&own.command, at))->control);
    return (uint32_t)control == STATE_CANCELLED;
}

/* The state of a request of ours that is still in the ring; STATE_ANSWERED if it is not. */
static uint32_t state_of(int request) {
    uint32_t state = STATE_ANSWERED;
    fault_pause++;
    uint64_t at = load64_acquire(&own.header->command.head), tail = load64_acquire(&own.header->command.tail);
    struct record_header header;
    for (; ring_peek(&own.command, at, tail, &header) == RING_OK; at += header.bytes) {
        struct command_record record;
        shared_read(&record, ring_at(&own.command, at), sizeof record);
        if (header.kind == RECORD_COMMAND && (record.request & 0x7fffffff) == (uint64_t)request)
            state = (uint32_t)record.control;
    }
    fault_pause--;
    return state;
}

static int is_parked(const struct slot *slot) {
    fault_pause++;
    int parked = load32_acquire(&slot->header->client_bell.parked) != 0;
    fault_pause--;
    return parked;
}

static int response_wanted(void) {
    fault_pause++;
    int wanted = load32_acquire(&own.header->response_wanted) != 0;
    fault_pause--;
    return wanted;
}

/* Waits for something the worker does; for a while only: the worker may be dead. */
#define FOR_A_WHILE(condition)                                                                                                             \
    for (uint64_t until_ = os_clock_ns() + A_WHILE_NS; !(condition) && os_clock_ns() < until_;)                                            \
    os_sleep_ns(MS / 20)

/* --- a client --- */

static int handle, numbered, strict;
static char under_way[NAME]; /* the command that is being sent */
static uint64_t tail_before;

static void client_died(const char *section, const char *function, long point) {
    look();
    int published = *under_way && own_known && command_tail() != tail_before;
    if (published && last_was_withdrawn())
        published = 2;
    say("died %s %d %s %s %ld", *under_way ? under_way : "-", published, section, function, point);
}

struct asked {
    char name[NAME];
    int request;
    int code; /* of send */
};

static void make_name(char name[NAME], const char *kind) {
    snprintf(name, NAME, "%.40s-%d-%s", who, numbered++, kind);
    snprintf(under_way, sizeof under_way, "%s", name);
    tail_before = command_tail();
    say("try %s", name);
}

static const char *arguments_of(const char *name, int bytes) {
    static char text[8192];
    int length = snprintf(text, sizeof text, "[\"%s\"", name);
    if (bytes > length + 8) {
        length += snprintf(text + length, sizeof text - (size_t)length, ",\"");
        memset(text + length, 'x', (size_t)(bytes - length - 2));
        length = bytes - 2;
        text[length++] = '"';
    }
    snprintf(text + length, sizeof text - (size_t)length, "]");
    return text;
}

static struct asked send_kind(const char *kind, const char *services, int message, int bytes, int ttl_ms) {
    struct asked asked = {0};
    make_name(asked.name, kind);
    const char *text = arguments_of(asked.name, bytes);
    for (int tries = 0; tries < 2000; tries++) {
        asked.code = iblb_send(handle, services, message, text, ttl_ms, &asked.request);
        if (asked.code != IBLB_E_SERVICE || strict)
            break;
        os_sleep_ns(MS); /* the worker has not published its services' names yet: the subject of a test of its own */
    }
    if (asked.code >= 0)
        say("sent %s %d %d", asked.name, asked.request, asked.code);
    else
        say("unsent %s %d", asked.name, asked.code);
    *under_way = '\0';
    if (asked.code < 0 && asked.code != IBLB_E_FULL)
        say("wrong %s send gives %d", asked.name, asked.code);
    return asked;
}

static struct asked send_plain(void) {
    return send_kind("plain", NULL, IBLB_EXPINIT, 0, -1);
}

static char answer_text[2 * BIG];

static void got(const struct asked *asked, int code) {
    say("got %s %d", asked->name, code);
    if (code == IBLB_OK && !strstr(answer_text, asked->name))
        say("wrong %s has the answer of another: %.80s", asked->name, answer_text);
}

/* Waits in turns of 100 ms until there is an answer, whatever becomes of the worker. Every turn must end in time. */
static int wait_for(const struct asked *asked, int first_code) {
    int code = first_code;
    if (asked->code < 0)
        return asked->code;
    for (uint64_t until = os_clock_ns() + patience_ns;;) {
        if (code == IBLB_E_NO_WORKER)
            os_sleep_ns(MS);
        else if (code != IBLB_E_TIMEOUT && code != IBLB_E_PENDING)
            break;
        if (os_clock_ns() > until) {
            say("wrong %s has no answer", asked->name);
            return code;
        }
        uint64_t began = os_clock_ns();
        code = iblb_wait(handle, asked->request, 100, answer_text, sizeof answer_text, NULL);
        uint64_t took = (os_clock_ns() - began) / MS;
        if (took > 110)
            say("waited %s %" PRIu64, asked->name, took);
    }
    got(asked, code);
    return code;
}

static int wait_until_answered(const struct asked *asked) {
    return wait_for(asked, IBLB_E_TIMEOUT);
}

static void cancel(const struct asked *asked) {
    if (asked->code < 0)
        return;
    say("cancel %s", asked->name);
    int code = iblb_cancel(handle, asked->request);
    if (code == IBLB_OK || code == IBLB_W_ACCEPTED)
        say("%s %s", code == IBLB_OK ? "withdrawn" : "discarded", asked->name);
    else
        say("wrong %s cancel gives %d", asked->name, code);
    if (iblb_wait(handle, asked->request, 0, NULL, 0, NULL) != IBLB_E_REQUEST)
        say("wrong %s is still open after cancel", asked->name);
}

static void call(const char *kind, int timeout_ms) {
    struct asked asked = {0};
    make_name(asked.name, kind);
    say("cancel %s", asked.name); /* the call may withdraw it in the end, and we may die before we can say so */
    int code =
        iblb_call(handle, NULL, IBLB_EXPSTART, arguments_of(asked.name, 0), timeout_ms, answer_text, sizeof answer_text, &asked.request);
    if (asked.request)
        say("sent %s %d 0", asked.name, asked.request);
    else
        say("unsent %s %d", asked.name, code);
    *under_way = '\0';
    if (!asked.request)
        return;
    if (code == IBLB_E_PENDING || code == IBLB_E_TIMEOUT)
        wait_for(&asked, code);
    else
        got(&asked, code);
}

static void notify(const char *kind) {
    char name[NAME];
    make_name(name, kind);
    int code = iblb_notify(handle, NULL, IBLB_EXPEND, arguments_of(name, 0), -1);
    if (code >= 0)
        say("notified %s", name);
    else
        say("unsent %s %d", name, code);
    *under_way = '\0';
}

static void open_client(void) {
    for (uint64_t until = os_clock_ns() + patience_ns;;) {
        int code = iblb_open(segment_name, who, 1000, &handle);
        if (code >= 0)
            break;
        if ((code != IBLB_E_NO_SEGMENT && code != IBLB_E_STALE && code != IBLB_E_NO_SLOT) || os_clock_ns() > until) {
            char text[1024];
            iblb_last_error(0, text, sizeof text);
            say("wrong - open gives %d %s", code, text);
            die(5);
        }
    }
    look();
    say("opened -");
}

static int client(void) {
    struct asked a, b, c, many[8];
    int needed;

    fault_section("open");
    open_client();
    fault_section("state");
    iblb_worker_state(handle, NULL, NULL, NULL);

    fault_section("send");
    a = send_plain();
    b = send_kind("big", NULL, IBLB_EXPSTART, 0, -1);
    c = send_kind("token", "cameras", IBLB_ALYX, 0, -1); /* what is wiped afterwards; a kind, and so points, of its own */
    fault_section("wait");
    wait_until_answered(&a);
    if (iblb_wait(handle, a.request, 0, NULL, 0, NULL) != IBLB_E_REQUEST)
        say("wrong %s has a second answer", a.name);
    fault_section("small buffer");
    for (int i = 0; i < 200; i++)
        if (iblb_wait(handle, b.request, 100, answer_text, 16, &needed) == IBLB_E_BUFFER)
            break;
    wait_until_answered(&b);
    wait_until_answered(&c);

    fault_section("notify");
    notify("plain");
    fault_section("call");
    call("plain", 5000);

    fault_section("withdraw");
    a = send_kind("leave", NULL, IBLB_ALYX, 0, -1);
    cancel(&a);
    a = send_kind("leave", NULL, IBLB_EXPINIT, 0, -1);
    b = send_plain();
    wait_until_answered(&b); /* by now the worker has taken the one before, too */
    cancel(&a);
    fault_section("discard");
    a = send_kind("hold", NULL, IBLB_EXPINIT, 0, -1);
    FOR_A_WHILE(state_of(a.request) != STATE_PUBLISHED);
    cancel(&a);

    fault_section("park");
    a = send_kind("late", NULL, IBLB_EXPINIT, 0, -1);
    wait_until_answered(&a);
    fault_section("expire");
    a = send_kind("old", NULL, IBLB_EXPINIT, 0, 1);
    wait_until_answered(&a);
    fault_section("call in vain");
    call("leave", 2);
    call("hold", 2);

    fault_section("full responses");
    for (int i = 0; i < STACK; i++)
        many[i] = send_kind("stack", NULL, IBLB_EXPINIT, 0, -1);
    FOR_A_WHILE(response_wanted());
    for (int i = 0; i < STACK; i++)
        wait_until_answered(&many[i]);

    fault_section("interrupt one service");
    a = send_kind("leave", "cameras", IBLB_EXPINIT, 0, -1);
    b = send_kind("plain", "cameras", IBLB_EXPINTERRUPT, 0, -1);
    wait_until_answered(&b);
    wait_until_answered(&a);

    fault_section("full commands");
    for (int i = 0; i < 5; i++)
        many[i] = send_kind("leave", NULL, IBLB_EXPINIT, 2600, -1);
    fault_section("interrupt all");
    b = send_kind("plain", NULL, IBLB_EXPINTERRUPT, 0, -1);
    wait_until_answered(&b);
    for (int i = 0; i < 5; i++)
        wait_until_answered(&many[i]);

    fault_section("wrap");
    for (int i = 0; i < 4; i++)
        many[i] = send_kind("plain", NULL, IBLB_EXPINIT, 1700, -1);
    for (int i = 0; i < 4; i++)
        wait_until_answered(&many[i]);

    fault_section("refuse");
    a = send_kind("refuse", NULL, IBLB_EXPCLEANUP, 0, -1);
    wait_until_answered(&a);

    fault_section("close");
    iblb_close(handle);
    say("closed -");
    return 0;
}

static int knock(void) {
    strict = 1;
    open_client();
    struct asked asked = send_kind("plain", "cameras", IBLB_EXPINIT, 0, -1);
    wait_until_answered(&asked);
    call("plain", 5000);
    iblb_close(handle);
    return 0;
}

static void open_without_a_worker(void) {
    uint64_t until = os_clock_ns() + patience_ns;
    int code = iblb_open(segment_name, who, 0, &handle);
    while (code == IBLB_E_NO_SLOT && os_clock_ns() < until) /* a worker has come meanwhile, and is about to free it */
        code = iblb_open(segment_name, who, 100, &handle);
    if (code < 0) {
        say("wrong - open without a worker gives %d", code);
        die(6);
    }
    look();
    say("opened -");
}

static int visit(void) {
    open_without_a_worker();
    iblb_close(handle);
    return 0;
}

static int leave(void) {
    open_without_a_worker();
    notify("plain");
    struct asked asked = send_plain();
    say("discarded %s", asked.name);
    notify("leave");
    iblb_close(handle);
    return 0;
}

static int arrive(void) {
    strict = 1;
    fault_section("arrive");
    open_without_a_worker();
    fault_section("arrived");
    struct asked asked = send_plain();
    wait_until_answered(&asked);
    iblb_close(handle);
    return 0;
}

/* --- clients that go on --- */

static uint64_t random_state;

static uint32_t random_below(uint32_t most) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % most;
}

static int traffic(const char *seed) {
    static const char *const kinds[] = {"plain", "plain", "plain", "big", "leave", "hold", "late", "stack"};
    struct asked open[12];
    int opened = 0;
    random_state = strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u + 88172645463325252u;
    open_client();
    while (!ends) {
        const char *kind = kinds[random_below(sizeof kinds / sizeof kinds[0])];
        switch (random_below(16)) {
        case 0:
            notify("plain");
            break;
        case 1:
            call(kind, (int)random_below(20));
            break;
        case 2:
            if (random_below(8) == 0)
                open[opened++] = send_kind("plain", random_below(4) ? "cameras" : NULL, IBLB_EXPINTERRUPT, 0, -1);
            break;
        case 3:
            open[opened++] = send_kind("old", NULL, IBLB_EXPINIT, 0, 1);
            break;
        case 4:
            if (opened)
                cancel(&open[--opened]);
            break;
        default:
            open[opened++] = send_kind(kind, NULL, IBLB_EXPSTART, (int)random_below(3000), -1);
        }
        while (opened == 12 || (opened && random_below(3) == 0))
            wait_until_answered(&open[--opened]);
    }
    while (opened)
        wait_until_answered(&open[--opened]);
    iblb_close(handle);
    say("closed -");
    return 0;
}

struct board {
    _Atomic uint64_t turns;
    _Atomic uint64_t began;   /* ns: the turn under way; 0: none */
    _Atomic uint64_t longest; /* ns */
};

/* Of two that come at once one makes the file, and the other waits until it is as large as it will be. */
static struct board *map_board(void) {
    static struct board none;
    struct problem problem;
    os_file file = OS_NO_FILE;
    const char *path = variable("CRASH_BOARD");
    if (!path || (os_create(path, BOARD_BYTES, &file, &problem) != IBLB_OK && os_open(path, &file, &problem) != IBLB_OK))
        return &none;
    while (os_size(file) < BOARD_BYTES)
        os_sleep_ns(MS);
    void *memory = os_map(file, BOARD_BYTES);
    return memory ? memory : &none;
}

static int bystander(void) {
    struct board *board = map_board();
    uint64_t pace_ns = variable("CRASH_PACE_US") ? strtoull(variable("CRASH_PACE_US"), NULL, 10) * (MS / 1000) : MS / 2;
    open_client();
    while (!ends) {
        uint64_t began = os_clock_ns();
        board->began = began;
        struct asked asked = send_plain();
        wait_until_answered(&asked);
        uint64_t took = os_clock_ns() - began;
        board->began = 0;
        if (took > board->longest)
            board->longest = took;
        board->turns++;
        os_sleep_ns(pace_ns);
    }
    iblb_close(handle);
    say("closed -");
    return 0;
}

/* --- the worker --- */

#define MOST 256

struct errand {
    struct iblbw_command command;
    char name[NAME];
    int accepted;
    int answer; /* what to respond; 1: nothing yet */
    uint64_t since;
};

static struct iblbw_worker *worker;
static struct errand errands[MOST];
static int errand_count;

static struct iblbw_worker *_Atomic to_ring;
static _Atomic int rung;

/* In a signal's handler, or in a thread of its own, for which the worker is not closed too early. */
static void end_soon(void) {
    ends = 1;
    fault_pause++;
    if (to_ring)
        iblbw_ring(to_ring);
    fault_pause--;
    rung = 1;
}

/* Where no response stands, a worker that begins leaves no token: neither in a slot that is free nor in one that has an owner. */
static void look_for_tokens(void) {
    static unsigned char bytes[RING_BYTES];
    fault_pause++;
    for (uint32_t i = 0; eye_open && i < eye.sizes.slots; i++) {
        struct slot slot;
        int length = 0;
        segment_slot(&eye, i, &slot);
        uint64_t head = load64_acquire(&slot.response.header->head), tail = load64_acquire(&slot.response.header->tail);
        shared_read(bytes, slot.response.data, sizeof bytes);
        for (uint64_t at = tail; at < head + RING_BYTES && length < TOKEN / 2; at++)
            length = bytes[at % RING_BYTES] == '#' ? length + 1 : 0;
        if (length == TOKEN / 2)
            say("wrong - a token stands in the free part of slot %u", i);
    }
    fault_pause--;
}

static int is_kind(const struct errand *errand, const char *kind) {
    const char *dash = strrchr(errand->name, '-');
    return dash && strcmp(dash + 1, kind) == 0;
}

/* The first argument, of a payload as the client's side writes it. */
static void read_name(const unsigned char *payload, char name[NAME]) {
    uint32_t services = (uint32_t)payload[1] << 24 | (uint32_t)payload[2] << 16 | (uint32_t)payload[3] << 8 | payload[4];
    const char *text = (const char *)payload + 5 + services + 5 + 2; /* [" */
    size_t length = strcspn(text, "\"");
    snprintf(name, NAME, "%.*s", (int)(length < NAME ? length : NAME - 1), text);
}

/* "accept plain", "respond late": so that the points of each way are counted by themselves. */
static const char *section_of(const char *doing, const struct errand *errand) {
    static char sections[32][48];
    char wanted[48];
    const char *dash = strrchr(errand->name, '-');
    int place = 0;
    snprintf(wanted, sizeof wanted, "%.12s %.24s", doing, errand->command.flags & IBLBW_ORPHAN ? "orphan" : dash ? dash + 1 : "");
    while (place < 31 && *sections[place] && strcmp(sections[place], wanted) != 0)
        place++;
    if (!*sections[place])
        snprintf(sections[place], sizeof sections[place], "%s", wanted);
    return sections[place];
}

static int begin(struct errand *errand) {
    fault_section(section_of("accept", errand));
    int code = iblbw_accept(worker, &errand->command);
    if (code == IBLB_E_SUPERSEDED || code == IBLB_E_SEGMENT) {
        say("wrong %s accept gives %d", errand->name, code);
        die(3);
    }
    if (code == IBLB_E_CANCELLED) {
        say("cancelled %s", errand->name);
        return 0;
    }
    if (code == IBLB_OK)
        say("dispatch %s %u %u %llu", errand->name, errand->command.slot, errand->command.generation, errand->command.request);
    else
        say("refused %s %d", errand->name, code);
    errand->accepted = code == IBLB_OK;
    errand->answer = code;
    errand->since = os_clock_ns();
    return 1;
}

static int respond(const struct errand *errand) {
    unsigned char body[2 * BIG] = {0x82, 0xa5, 'e', 'r', 'r', 'o', 'r', 0xa0, 0xa2, 'i', 'd', 0xda};
    int large = is_kind(errand, "big") || is_kind(errand, "stack"), length = large && errand->answer == 0 ? BIG : NAME;
    int token = errand->command.message == IBLB_ALYX && errand->answer == 0 ? TOKEN : 0;
    length += token;
    body[12] = (unsigned char)(length >> 8);
    body[13] = (unsigned char)length;
    memset(body + 14, '.', (size_t)length);
    memset(body + 14 + length - token, '#', (size_t)token);
    memcpy(body + 14, errand->name, strlen(errand->name));
    fault_section(section_of("respond", errand));
    return iblbw_respond(worker, &errand->command, errand->answer, body, 14 + length);
}

static int stacked(void) {
    int count = 0;
    for (int i = 0; i < errand_count; i++)
        count += is_kind(&errands[i], "stack");
    return count;
}

/* One look at a command; 0 if there is nothing more to do for it. */
static int attend(struct errand *errand, int refuse) {
    uint64_t now = os_clock_ns(), age = now - errand->since;
    struct slot slot;
    if (errand->answer == 1) {
        if (errand->command.flags & IBLBW_ORPHAN) {
            say("orphan %s", errand->name);
            errand->answer = IBLB_E_OUTCOME_UNKNOWN;
        } else if (is_kind(errand, "refuse") && refuse) {
            say("refused %s %d", errand->name, IBLB_E_ABORTED);
            errand->answer = IBLB_E_ABORTED;
        } else if ((is_kind(errand, "leave") && now < errand->command.stamp + A_WHILE_NS / 2) ||
                   (is_kind(errand, "old") && now < errand->command.stamp + (uint64_t)errand->command.ttl + 1)) {
            return 1;
        } else if (!begin(errand)) {
            return 0;
        }
        age = 0;
    }
    if (errand->accepted && is_kind(errand, "hold") && age < A_WHILE_NS / 2)
        return 1;
    if (errand->accepted && is_kind(errand, "stack") && age < A_WHILE_NS / 2 && stacked() < STACK)
        return 1;
    segment_slot(&eye, errand->command.slot, &slot);
    if (errand->accepted && is_kind(errand, "late") && age < A_WHILE_NS / 2 && !is_parked(&slot))
        return 1;
    int code = respond(errand);
    if (code != IBLB_OK && code != IBLB_E_FULL) {
        say("wrong %s respond gives %d", errand->name, code);
        die(3);
    }
    return code == IBLB_E_FULL;
}

static uint64_t sent_by_all(void) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; eye_open && i < eye.sizes.slots; i++) {
        struct slot slot;
        segment_slot(&eye, i, &slot);
        bytes += load64_acquire(&slot.header->command.tail);
    }
    return bytes;
}

/* Behind a command it does not park at once: else what is sent and withdrawn at once is never in its hands. It looks behind the library's
 * back: a take that finds nothing would be hundreds of points more, and none of them new. */
static void linger(void) {
    fault_pause++;
    for (uint64_t seen = sent_by_all(), until = os_clock_ns() + 2 * MS; !ends && sent_by_all() == seen && os_clock_ns() < until;)
        ;
    fault_pause--;
}

static int serve(int refuse) {
    static struct iblbw_command commands[64];
    static unsigned char payload[65536];
    const char *slots = variable("CRASH_SLOTS");
    fault_section("make or adopt");
    int code = iblbw_open(segment_name, slots ? atoi(slots) : 0, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker);
    if (code != IBLB_OK) {
        char text[1024];
        iblb_last_error(0, text, sizeof text);
        say("unopened - %d %s", code, text);
        return 6;
    }
    to_ring = worker;
    look();
    look_for_tokens();
    fault_section("services");
    iblbw_services(worker, "cameras\nephys");
    say("serving - %d", (int)os_pid());
    while (!ends) {
        fault_section("take");
        int count = iblbw_take(worker, commands, errand_count < MOST - 64 ? 64 : 1, payload, sizeof payload, errand_count ? 3 : 1000);
        if (count < 0) {
            say("wrong - take gives %d", count);
            die(3);
        }
        for (int i = 0; i < count && errand_count < MOST; i++) {
            struct errand *errand = &errands[errand_count++];
            *errand = (struct errand){.command = commands[i], .answer = 1, .since = os_clock_ns()};
            read_name(payload + commands[i].payload_offset, errand->name);
        }
        fault_section("losses");
        for (char lost[64]; iblbw_lost_client(worker, lost, sizeof lost);)
            ;
        int kept = 0;
        for (int i = 0; i < errand_count; i++)
            if (attend(&errands[i], refuse))
                errands[kept++] = errands[i];
        errand_count = kept;
        if (count)
            linger();
    }
    while (!rung)
        os_sleep_ns(MS / 10);
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
    on_end_request(end_soon);
    if (strcmp(role, "worker") == 0)
        return serve(argc > 2);
    if (argc < 3)
        return 2;
    who = argv[2];
    fault_last_words = client_died;
    if (strcmp(role, "client") == 0)
        return client();
    if (strcmp(role, "traffic") == 0)
        return traffic(argc > 3 ? argv[3] : "1");
    if (strcmp(role, "bystander") == 0)
        return bystander();
    if (strcmp(role, "knock") == 0)
        return knock();
    if (strcmp(role, "visit") == 0)
        return visit();
    if (strcmp(role, "leave") == 0)
        return leave();
    if (strcmp(role, "arrive") == 0)
        return arrive();
    return 2;
}
