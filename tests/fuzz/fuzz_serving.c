/* fuzz_serving.c: programs that serve, the worker that asks them, and a hand that writes anything into what lies
 * between the two.
 *
 * Two clients are attached. The input is a program: the worker hands over, asks what became of it, withdraws, is
 * restarted and inherits; the guilty client serves, takes, answers, tells, leaves; its slot is written over, between
 * the calls and in the middle of them: head and tail of its incoming ring, its records, the name that it serves. The
 * innocent one serves a listener of its own. Then
 *
 *  - nothing has crashed, hung or been touched outside; every code is in the table, and every text handed out is JSON;
 *  - of the innocent's commands each is taken, answered and heard once, by its own number;
 *  - the guilty slot, once its owner is gone, can be claimed and used again.
 *
 * An input may also scribble outside the guilty slot, and so on the client's side of a broken worker. Then only the
 * first holds.
 */
#include "hostile.h"

#define TOKENS 16
#define BATCH 8
#define ALL 255

static struct iblbw_worker *worker;
static int guilty, innocent, tainted;
static struct iblbw_incoming tokens[TOKENS], innocents; /* of the guilty; the one of the innocent that is under way */
static uint32_t token_count;
static int commands[8]; /* that the guilty has taken */
static uint32_t command_count;
static unsigned long long asked, heard; /* of the innocent */

static int in_time(int code, uint64_t began, int timeout_ms) {
    call_ended();
    if (!code_is_named(code))
        fprintf(stderr, "code %d\n", code);
    EXPECT(code_is_named(code));
    EXPECT(memory_clock - began <= ((uint64_t)timeout_ms + 100) * MS_NS);
    return code;
}

static int is_end_of_worker(int code) {
    return code == IBLB_E_SEGMENT || code == IBLB_E_SUPERSEDED || code == IBLB_E_STALE;
}

/* --- the worker --- */

static int make_body(unsigned char *body, const char *service, uint32_t extra) {
    static const unsigned char head[] = {0x83, 0xa7, 's', 'e', 'r', 'v', 'i', 'c', 'e'};
    size_t at = sizeof head, length = strlen(service);
    memcpy(body, head, sizeof head);
    body[at++] = (unsigned char)(0xa0 + length);
    memcpy(body + at, service, length);
    at += length;
    memcpy(body + at, "\xa6master\xa3m:1\xa1x\xda", 15);
    at += 14;
    body[at++] = (unsigned char)(extra >> 8);
    body[at++] = (unsigned char)extra;
    memset(body + at, 'x', extra);
    return (int)(at + extra);
}

static int hand(const char *service, int message, uint32_t extra, struct iblbw_incoming *token) {
    static unsigned char body[RING_BYTES];
    int bytes = make_body(body, service, extra);
    call_begins();
    int code = iblbw_hand(worker, service, message, memory_clock, 0, body, bytes, token);
    call_ended();
    EXPECT(code == IBLB_OK || code == IBLB_E_NO_SLOT || code == IBLB_E_FULL || code == IBLB_E_MESSAGE || code == IBLB_E_TOO_LARGE ||
           (tainted && (code == IBLB_E_EXPIRED || is_end_of_worker(code)))); /* a scribbled header may say that the PC slept */
    return code;
}

static void inherits(void) {
    static unsigned char body[RING_BYTES];
    struct iblbw_incoming token;
    int message, bytes, code, rounds = 0;
    unsigned long long stamp;
    size_t needed;
    call_begins();
    while ((code = iblbw_inherit(worker, &token, &message, &stamp, body, sizeof body, &bytes)) == 1) {
        EXPECT(token.slot < SLOTS && bytes >= 0 && bytes <= (int)sizeof body && ++rounds <= (int)(SLOTS * RING_BYTES / 64));
        EXPECT(!msgpack_to_json(body, (size_t)bytes, NULL, 0, &needed)); /* as strict as iblbw_hand is */
        tokens[token_count++ % TOKENS] = token;
    }
    call_ended();
    EXPECT(code == 0 || (tainted && is_end_of_worker(code)));
}

static void start_worker(void) {
    call_begins();
    EXPECT(iblbw_open("rig", SLOTS, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker) == IBLB_OK);
    call_ended();
    look_at(memory_file(RIG_PATH, NULL));
    inherits();
    call_begins();
    int code = iblbw_services(worker, "");
    EXPECT(code == IBLB_OK);
    code = iblbw_listeners(worker, "cameras\nephys");
    call_ended();
    EXPECT(code == IBLB_OK || (tainted && is_end_of_worker(code)));
}

static void restart_worker(void) {
    allow_all(SLOTS_OFFSET + SLOTS * (SLOT_HEADER_BYTES + 4 * RING_BYTES));
    call_begins();
    iblbw_close(worker, 0);
    call_ended();
    start_worker();
    forbid_gaps();
}

/* What programs have said. Of the innocent's answers each is expected. */
static void take(void) {
    static struct iblbw_command taken[BATCH];
    static unsigned char payload[RING_BYTES];
    call_begins();
    int count = iblbw_take(worker, taken, BATCH, payload, sizeof payload, 0);
    for (int i = 0; i < count; i++) {
        iblbw_accept(worker, &taken[i]);
        if (!tainted && taken[i].slot == 1) {
            const unsigned char *number = payload + taken[i].payload_offset + 5 + 5 + 2;
            EXPECT(taken[i].message == IBLBW_ANSWER && number[-2] == 0x96 && number[-1] == 0xcf);
            EXPECT(((unsigned long long)number[6] << 8 | number[7]) == (innocents.number & 0xffff));
            heard++;
        }
        iblbw_respond(worker, &taken[i], 0, NULL, 0);
    }
    for (char lost[64]; iblbw_lost_client(worker, lost, sizeof lost);)
        ;
    call_ended();
    EXPECT(count >= 0 || (tainted && is_end_of_worker(count)));
}

static void asks_what_became_of_it(uint32_t how) {
    if (!token_count)
        return;
    const struct iblbw_incoming *token = &tokens[how / 2 % (token_count < TOKENS ? token_count : TOKENS)];
    call_begins();
    int code = how & 1 ? iblbw_withdraw(worker, token) : iblbw_incoming_state(worker, token);
    call_ended();
    EXPECT((code >= 0 && code <= IBLBW_GONE) || (tainted && is_end_of_worker(code)));
}

static void looks_for_a_server(uint32_t how) {
    char client[64];
    unsigned mask = 0;
    call_begins();
    int code = iblbw_server_of(worker, how & 1 ? "cameras" : "ephys", &mask, client, sizeof client);
    call_ended();
    EXPECT(code == 0 || code == 1 || (tainted && is_end_of_worker(code)));
    EXPECT(mask <= ALL && (code == 1) == (mask != 0) && strlen(client) < sizeof client);
}

/* --- the clients --- */

static int open_client(const char *name) {
    int handle = 0;
    uint64_t began = memory_clock;
    call_begins();
    in_time(iblb_open("rig", name, 0, &handle), began, 600);
    return handle;
}

static void serves(int handle, const char *service, int mask) {
    uint64_t began = memory_clock;
    call_begins();
    in_time(iblb_serve(handle, service, mask), began, 5100); /* it waits for a table that is being written */
}

static void takes(uint32_t how) {
    uint64_t began = memory_clock;
    int timeout_ms = how & 64 ? 150 : 0, command = 0, message = 0, needed = 0, capacity = how & 32 ? (int)next8() : 4096;
    char *text = malloc((size_t)capacity + 1);
    size_t where;
    if (!text)
        abort();
    text[0] = '\0';
    call_begins();
    int code =
        in_time(iblb_next_command(guilty, timeout_ms, &command, &message, how & 8 ? NULL : text, capacity, &needed), began, timeout_ms);
    EXPECT((code == IBLB_OK) == (command > 0) && needed >= 0);
    if (!(how & 8) && code == IBLB_OK) {
        EXPECT(capacity > 0 && strlen(text) + 1 == (size_t)needed && !json_check(text, strlen(text), &where));
    }
    free(text);
    if (command)
        commands[command_count++ % 8] = command;
}

static void says(uint32_t how) {
    uint64_t began = memory_clock;
    int command = command_count ? commands[how / 8 % (command_count < 8 ? command_count : 8)] : (int)how;
    call_begins();
    if (how % 8 == 0)
        in_time(iblb_tell(guilty, IBLB_EXPSTATUS, "20"), began, 0);
    else if (how % 8 == 1)
        in_time(iblb_fail(guilty, command, "it broke"), began, 0);
    else
        in_time(iblb_answer(guilty, command, -1, how % 8 == 2 ? "{\"a\": [1, 2, 3]}" : NULL), began, 0);
}

/* One command, from the worker to the innocent and back. */
static void innocent_is_asked(void) {
    char text[512];
    int command = 0, code;
    if (hand("ephys", IBLB_EXPSTART, 3, &innocents) != IBLB_OK) {
        EXPECT(tainted);
        return;
    }
    uint64_t began = memory_clock;
    call_begins();
    code = in_time(iblb_next_command(innocent, 0, &command, NULL, text, sizeof text, NULL), began, 0);
    EXPECT(tainted || (code == IBLB_OK && (unsigned long long)command == innocents.number));
    call_begins();
    code = in_time(iblb_answer(innocent, command, -1, "1"), began, 0);
    EXPECT(tainted || code == IBLB_OK);
    asked++;
    for (int round = 0; round < 100 && heard < asked && !tainted; round++)
        take();
    EXPECT(tainted || heard == asked);
}

/* A record that no worker has written, at the tail of the guilty one's ring. */
static void crafted(void) {
    struct ring *ring = &slots[0].incoming;
    uint64_t tail = load64_relaxed(&ring->header->tail);
    uint32_t place = (uint32_t)tail & (RING_BYTES - 1) & ~63u, kind = next8(), got, bytes = (kind % 4 + 1) * 64;
    unsigned char data[256] = {0}, body[256];
    if (bytes > RING_BYTES - place)
        bytes = RING_BYTES - place;
    struct incoming_record record = {.header = {bytes, RECORD_INCOMING},
                                     .control = kind & 8 ? next8() % 6 : INCOMING_PUBLISHED,
                                     .number = next8(),
                                     .generation = load32_relaxed(&slots[0].header->generation),
                                     .message = kind & 64 ? IBLB_ALYX : IBLB_EXPSTART,
                                     .payload_bytes = (uint32_t)make_body(body, "cameras", next8() % 16)};
    if (kind & 16) { /* a body of the input's own */
        const uint8_t *given = next_bytes(next8() % 100, &got);
        memcpy(body, given, got);
        record.payload_bytes = got;
    }
    if (kind & 32)
        record.payload_bytes = (uint32_t)next_value(0, 4);
    memcpy(data, &record, sizeof record);
    memcpy(data + sizeof record, body, sizeof data - sizeof record);
    memcpy(ring->data + place, data, bytes);
    store64_relaxed(&ring->header->tail, tail + bytes);
}

/* A place in what serving is about, of the guilty slot: ends and first records of the incoming ring, what it serves. */
static struct scribble next_scribble_in_serving(void) {
    uint32_t base = (uint32_t)((unsigned char *)slots[0].header - memory), how = next8();
    struct scribble scribble = {0, how & 8 ? 8 : 4, 0};
    if (how % 8 < 2)
        scribble.offset = base + (uint32_t)offsetof(struct slot_header, incoming) + next8() % 2 * 64;
    else if (how % 8 < 3)
        scribble.offset = base + (uint32_t)offsetof(struct slot_header, incoming_sequence) + next8() % 34 * 4;
    else
        scribble.offset = base + SLOT_HEADER_BYTES + 3 * RING_BYTES + next8() % 16 * 64 + next8() % 32 * 4;
    scribble.value = next_value(scribble.offset, scribble.width);
    return scribble;
}

static void guilty_leaves(void) {
    call_begins();
    iblb_close(guilty);
    call_ended();
    guilty = 0;
    token_count = command_count = 0;
}

/* Its owner is gone and the worker has swept: the slot is as good as new. */
static void slot_is_used_again(void) {
    struct iblbw_incoming token;
    int command = 0;
    if (guilty)
        guilty_leaves();
    for (int round = 0; round < 6; round++) {
        memory_clock += 300 * MS_NS;
        take();
    }
    EXPECT(load32_relaxed(&slots[0].header->state) == SLOT_FREE);
    int next = open_client("next");
    EXPECT(next > 0 && load32_relaxed(&slots[0].header->state) == SLOT_CLAIMED);
    call_begins();
    EXPECT(iblb_serve(next, "cameras", ALL) == IBLB_OK);
    call_ended();
    EXPECT(hand("cameras", IBLB_EXPSTART, 3, &token) == IBLB_OK && token.slot == 0);
    call_begins();
    EXPECT(iblb_next_command(next, 0, &command, NULL, NULL, 0, NULL) == IBLB_OK);
    EXPECT(iblb_answer(next, command, -1, NULL) == IBLB_OK);
    EXPECT(iblbw_incoming_state(worker, &token) == IBLBW_ANSWERED);
    EXPECT(load64_relaxed(&slots[0].incoming.header->head) == load64_relaxed(&slots[0].incoming.header->tail));
    EXPECT(iblb_close(next) == IBLB_OK);
    call_ended();
}

static void set_up(void) {
    memory_reset();
    guilty = innocent = tainted = 0;
    token_count = command_count = 0;
    asked = heard = 0;
    start_worker();
    forbid_gaps();
    guilty = open_client("guilty");
    innocent = open_client("innocent");
    serves(guilty, "cameras", ALL);
    serves(innocent, "ephys", ALL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int messages[] = {IBLB_EXPSTART, IBLB_EXPINTERRUPT, IBLB_ALYX, IBLB_EXPSTATUS};
    struct scribble scribble;
    input = data;
    input_left = size;
    set_up();
    for (int step = 0; step < 64 && input_left; step++) {
        uint32_t what = next8(), how = what >> 4;
        switch (what % 16) {
        case 0:
        case 1:
            scribble = next_scribble_in_serving();
            do_scribble(&scribble);
            break;
        case 2:
            plan(next_scribble_in_serving());
            continue;
        case 3:
            scribble = next_scribble_in_slot(0);
            if (how & 1)
                plan(scribble);
            else
                do_scribble(&scribble);
            continue;
        case 4:
        case 5:
            crafted();
            break;
        case 6:
            hand("cameras", messages[how % 4], how & 8 ? next16() % 9000 : 3, &tokens[token_count % TOKENS]) == IBLB_OK ? token_count++ : 0;
            break;
        case 7:
        case 8:
            takes(next8());
            break;
        case 9:
            says(next8());
            break;
        case 10:
            asks_what_became_of_it(next8());
            break;
        case 11:
            if (how & 1)
                looks_for_a_server(next8());
            else
                take();
            break;
        case 12:
            memory_clock += how * 20 * MS_NS;
            innocent_is_asked();
            break;
        case 13:
            if (how & 1)
                serves(guilty, how & 2 ? "cameras" : "ephys", how & 4 ? 0 : ALL);
            else
                restart_worker();
            break;
        case 14:
            if (how & 1 && guilty)
                guilty_leaves();
            else if (!guilty && (guilty = open_client("guilty")) > 0)
                serves(guilty, "cameras", ALL);
            break;
        default: /* outside the guilty slot */
            scribble = next_scribble_anywhere();
            tainted = 1;
            if (how & 1)
                plan(scribble);
            else
                do_scribble(&scribble);
        }
    }
    memset(planned, 0, sizeof planned);
    if (!tainted) {
        memory_clock += 10 * MS_NS;
        innocent_is_asked();
        slot_is_used_again();
        innocent_is_asked();
    }
    allow_all(SLOTS_OFFSET + SLOTS * (SLOT_HEADER_BYTES + 4 * RING_BYTES));
    call_begins();
    iblb_close(guilty);
    iblb_close(innocent);
    iblbw_close(worker, 1);
    call_ended();
    return 0;
}
