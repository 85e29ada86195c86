/* fuzz_worker.c: the worker, and what one hostile client can do to it.
 *
 * Two clients are attached. The input is a program: the guilty one writes anything anywhere in its slot, between the calls and in the
 * middle of them, publishes crafted commands, leaves; the innocent one sends; the worker takes, accepts, responds, is restarted. Then
 *
 *  - nothing has crashed, hung or been touched outside (sanitizers; the rings that the worker never reads are poisoned meanwhile, but for
 *    the bytes that a dead owner left unread, while they are wiped);
 *  - every command that was taken lies within its ring, its payload within its record, and its owner is none that is still to come;
 *  - every command of the innocent has its own answer, and it can go on;
 *  - the guilty slot is clean or quarantined, and once its owner is gone it can be claimed and used again.
 *
 * An input may also scribble outside the guilty slot. Then only the first holds, the codes are all named, and a worker that is started
 * anew serves a new client.
 */
#include "hostile.h"

#define BATCH 16
#define SLOT_BYTES (SLOT_HEADER_BYTES + 4 * RING_BYTES)
#define HELD 1024u        /* a flag of our own: its response found no room */
#define MOST_WAITING 1024 /* more than fit the rings of all slots */

static struct iblbw_worker *worker;
static int guilty, innocent;
static int tainted;   /* something outside the guilty slot was scribbled on */
static int scribbled; /* or inside: what is read now need not be what was read then */
static int forbidden; /* the worker is at work: no response and no event is its business, but for what is allowed */

static struct iblbw_command taken[BATCH];
static unsigned char payload[RING_BYTES];
static struct iblbw_command waiting[MOST_WAITING]; /* taken, not answered yet */
static int waiting_count;
static int requests[16]; /* of the innocent */
static int request_count;

/* It has seen that the segment is damaged, or not its own any more. */
static int worker_ends(int code) {
    return code == IBLB_E_SEGMENT || code == IBLB_E_SUPERSEDED;
}

/* {"<slot>.<generation>.<request>": a text of `extra` bytes}: whose it is can be read from it. */
static int body_of(const struct iblbw_command *command, int extra, unsigned char body[RING_BYTES]) {
    char key[64];
    int length = snprintf(key, sizeof key, "%u.%u.%llu", command->slot, command->generation, command->request), at = 0;
    body[at++] = 0x81;
    body[at++] = 0xd9;
    body[at++] = (unsigned char)length;
    memcpy(body + at, key, (size_t)length);
    at += length;
    body[at++] = 0xda;
    body[at++] = (unsigned char)(extra >> 8);
    body[at++] = (unsigned char)extra;
    memset(body + at, 'x', (size_t)extra);
    return at + extra;
}

/* The worker reads no response and no event, and writes one only into the ring of whom it answers. */
static void forbid_responses(void) {
    forbidden = 1;
    for (uint32_t i = 0; i < SLOTS; i++)
        FORBID(slots[i].response.data, 2 * RING_BYTES);
}
static void allow_responses(void) {
    forbidden = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        ALLOW(slots[i].response.data, 2 * RING_BYTES);
}

/* The linker puts this in the place of ring_wipe (--wrap). A worker at work wipes a ring only once its owner is gone, with the owner's lock
 * in its own hands; and exactly the bytes that are to be wiped. */
void __real_ring_wipe(const struct ring *ring, uint64_t from, uint64_t to);
void __wrap_ring_wipe(const struct ring *ring, uint64_t from, uint64_t to);
void __wrap_ring_wipe(const struct ring *ring, uint64_t from, uint64_t to) {
    if (!forbidden) {
        __real_ring_wipe(ring, from, to);
        return;
    }
    uint32_t index = (uint32_t)(((unsigned char *)ring->header - (unsigned char *)slots[0].header) / SLOT_BYTES);
    EXPECT(index < SLOTS && memory_locked(RIG_PATH, slot_guard(index)) && !memory_locked(RIG_PATH, slot_lock(index)));
    uint64_t bytes = to - from < RING_BYTES ? to - from : RING_BYTES, begin = from % RING_BYTES, room = RING_BYTES - begin;
    ALLOW(ring->data + begin, bytes < room ? bytes : room);
    ALLOW(ring->data, bytes < room ? 0 : bytes - room);
    __real_ring_wipe(ring, from, to);
    FORBID(slots[index].response.data, 2 * RING_BYTES);
}

static void start_worker(void) {
    call_begins();
    int code = iblbw_open("rig", SLOTS, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker);
    EXPECT(code == IBLB_OK);
    EXPECT(iblbw_services(worker, "cameras\nephys") == IBLB_OK);
    call_ended();
    waiting_count = 0;
}

static void restart_worker(int remove) {
    allow_all(SLOTS_OFFSET + SLOTS * SLOT_BYTES);
    call_begins();
    iblbw_close(worker, remove);
    call_ended();
    start_worker();
    look_at(memory_file(RIG_PATH, NULL));
    forbid_gaps();
}

/* What was taken must be what a client can have written. If nobody writes where others have written, it still stands there. */
static void judge(const struct iblbw_command *command) {
    struct command_record record;
    memcpy(&record, ring_at(&slots[command->slot].command, command->position), sizeof record);
    uint32_t generation = load32_relaxed(&slots[command->slot].header->generation);
    EXPECT((int32_t)(generation - record.generation) >= 0); /* its owner's, or that of one before it: nobody writes for one to come */
    EXPECT(command->position % RING_BYTES + record.header.bytes <= RING_BYTES);
    EXPECT(sizeof record + command->payload_bytes <= record.header.bytes);
}

static int take(int most, int capacity, int timeout_ms) {
    forbid_responses();
    call_begins();
    int count = iblbw_take(worker, taken, most, payload, capacity, timeout_ms);
    for (char lost[64]; iblbw_lost_client(worker, lost, sizeof lost);)
        ;
    allow_responses();
    call_ended();
    EXPECT(count <= most && (count >= 0 || (tainted && worker_ends(count))));
    for (int i = 0; i < count; i++) {
        const struct iblbw_command *command = &taken[i];
        size_t used, where;
        EXPECT(command->slot < SLOTS && command->payload_offset + command->payload_bytes <= (unsigned)capacity);
        EXPECT(!msgpack_check(payload + command->payload_offset, command->payload_bytes, &used, &where));
        if (!tainted && !scribbled)
            judge(command);
        EXPECT(waiting_count < MOST_WAITING);
        waiting[waiting_count++] = *command;
    }
    return count;
}

/* Accepts and answers the oldest that waits; or dies in between. */
static void answer(int dies, int extra) {
    if (!waiting_count)
        return;
    struct iblbw_command command = waiting[0];
    static unsigned char body[RING_BYTES];
    int bytes = body_of(&command, command.slot == 0 ? extra : 0, body), placed = IBLB_OK; /* the innocent's ring shall not get full */
    waiting_count--;
    memmove(waiting, waiting + 1, (size_t)waiting_count * sizeof waiting[0]);
    forbid_responses();
    call_begins();
    int code = command.flags & (IBLBW_ORPHAN | HELD) ? IBLB_E_OUTCOME_UNKNOWN : iblbw_accept(worker, &command);
    EXPECT(code_is_named(code));
    EXPECT(tainted || !worker_ends(code));
    EXPECT(tainted || command.slot != 1 || code != IBLB_E_CANCELLED);
    ALLOW(slots[command.slot].response.data, RING_BYTES);
    if (!dies && code != IBLB_E_CANCELLED)
        placed = iblbw_respond(worker, &command, code, body, bytes);
    allow_responses();
    call_ended();
    EXPECT(placed == IBLB_OK || (tainted && worker_ends(placed)) || (placed == IBLB_E_FULL && (tainted || command.slot == 0)));
    if (placed == IBLB_E_FULL) { /* again later */
        command.flags |= HELD;
        waiting[waiting_count++] = command;
    }
    if (dies)
        restart_worker(0);
}

static int open_client(const char *name) {
    int handle = 0, code = iblb_open("rig", name, 0, &handle);
    char text[1024];
    iblb_last_error(code < 0 ? 0 : handle, text, sizeof text);
    if (code != IBLB_OK) {
        fprintf(stderr, "iblb_open: %d %s\n", code, text);
        for (uint32_t i = 0; i < SLOTS; i++) {
            const struct slot_header *h = slots[i].header;
            fprintf(stderr, "slot %u: state %u, command %" PRIu64 " to %" PRIu64 ", response %" PRIu64 " to %" PRIu64 "\n", i, h->state,
                    h->command.head, h->command.tail, h->response.head, h->response.tail);
        }
    }
    EXPECT(code == IBLB_OK);
    return handle;
}

/* Takes and answers what there is. */
static void serve_all(void) {
    int round = 0;
    do {
        for (int left = waiting_count; left > 0; left--)
            answer(0, 0);
        EXPECT(++round < 100);
    } while (take(BATCH, sizeof payload, 0) > 0);
}

/* The same, until the worker has looked for owners that are gone, and has freed their slots. */
static void serve_and_sweep(void) {
    for (int round = 0; round < 6; round++) {
        memory_clock += 300 * MS_NS;
        serve_all();
    }
}

/* --- the innocent --- */

static void innocent_sends(void) {
    if (request_count == sizeof requests / sizeof requests[0])
        return;
    call_begins();
    int code = iblb_send(innocent, NULL, IBLB_PING, NULL, -1, &requests[request_count]);
    call_ended();
    EXPECT(tainted ? code_is_named(code) : code == IBLB_OK);
    request_count += code == IBLB_OK;
}

/* Each request of the innocent is answered, by its own answer. */
static void innocent_waits(void) {
    static char json[RING_BYTES];
    char expected[64];
    serve_all();
    for (int i = 0; i < request_count; i++) {
        call_begins();
        int code = iblb_wait(innocent, requests[i], 0, json, sizeof json, NULL);
        call_ended();
        EXPECT(code_is_named(code));
        if (tainted)
            continue;
        /* An EXPINTERRUPT to all is the guilty's good right; a worker may have ended with the command in its hands. */
        EXPECT(code == IBLB_OK || code == IBLB_E_ABORTED || code == IBLB_E_OUTCOME_UNKNOWN);
        int length = snprintf(expected, sizeof expected, "{\"1.1.%d\":\"", requests[i]);
        EXPECT(strncmp(json, expected, (size_t)length) == 0);
    }
    request_count = 0;
}

/* --- the guilty --- */

/* A service's text and arguments, as any client writes them: "", and a text of so many bytes. */
static uint32_t well_formed(unsigned char *payload, uint32_t bytes) {
    const unsigned char begin[] = {0xdb, 0, 0, 0, 0, 0xda, (unsigned char)(bytes >> 8), (unsigned char)bytes};
    memcpy(payload, begin, sizeof begin);
    memset(payload + sizeof begin, 'x', bytes);
    return (uint32_t)sizeof begin + bytes;
}

/* A record as a client writes it, or one of which a single thing is wrong: where it ends, its payload, a field, the tail. */
static void publish_crafted(void) {
    static const int messages[] = {IBLB_PING, IBLB_EXPSTART, IBLB_EXPINTERRUPT, IBLB_EXPINTERRUPT};
    static const unsigned char simple[] = {0xdb, 0, 0, 0, 0, 0xc0};
    struct ring *ring = &slots[0].command;
    uint64_t tail = load64_relaxed(&ring->header->tail), head = load64_relaxed(&ring->header->head);
    uint32_t place = (uint32_t)tail & (RING_BYTES - 1) & ~63u, room = RING_BYTES - place;
    uint32_t kind = next8(), got, bytes = (next8() % 20 + 1) * 64, written = bytes;
    if (bytes > room && !(kind & 128)) /* or it would end beyond the ring */
        bytes = room;
    struct command_record record = {.header = {bytes, RECORD_COMMAND},
                                    .control = STATE_PUBLISHED,
                                    .request = load64_relaxed(&slots[0].header->next_request) + 1,
                                    .stamp = os_clock_ns(),
                                    .ttl = -1,
                                    .generation = load32_relaxed(&slots[0].header->generation),
                                    .message = messages[kind % 4],
                                    .flags = kind >> 2 & 3,
                                    .payload_bytes = sizeof simple};
    unsigned char data[64 * 20] = {0};
    memcpy(data + sizeof record, simple, sizeof simple);
    if (kind & 16) { /* another payload, which need not fit the record */
        uint32_t wanted = next8();
        if (wanted & 1) {
            const uint8_t *given = next_bytes(wanted / 2, &got);
            memcpy(data + sizeof record, given, got);
            record.payload_bytes = got;
        } else {
            record.payload_bytes = well_formed(data + sizeof record, wanted * 4);
        }
        if (sizeof record + record.payload_bytes > written)
            written = (uint32_t)sizeof record + record.payload_bytes;
    }
    if (kind & 32) { /* one field is something else */
        unsigned char *field = (unsigned char *)&record + next8() % (sizeof record / 4) * 4;
        uint32_t value = (uint32_t)next_value(0, 4);
        memcpy(field, &value, sizeof value);
    }
    memcpy(data, &record, sizeof record);
    memcpy(ring->data + place, data, written < room ? written : room);
    uint64_t end = kind & 64 ? next_value((uint32_t)((unsigned char *)&ring->header->tail - memory), 8) : tail + bytes;
    if (end != tail + bytes || tail + written - head > RING_BYTES)
        scribbled = 1; /* what stood there, or will be written there, may have been looked at */
    store64_relaxed(&slots[0].header->next_request, record.request);
    store64_relaxed(&ring->header->tail, end);
}

static void guilty_sends(int message) {
    int request;
    call_begins();
    int code = message == IBLB_EXPSTART ? iblb_notify(guilty, "cameras", message, "[\"2026-01-01_1_subject\"]", -1)
                                        : iblb_send(guilty, NULL, message, NULL, 0, &request);
    call_ended();
    EXPECT(code_is_named(code) || code == IBLB_E_HANDLE);
}

static void guilty_leaves(void) {
    call_begins();
    iblb_close(guilty);
    call_ended();
    guilty = 0;
}

/* The owner is gone and the worker has swept: the slot is as good as new, for the next client and the one after it. */
static void slot_is_used_again(void) {
    guilty_leaves();
    serve_and_sweep();
    EXPECT(load32_relaxed(&slots[0].header->state) == SLOT_FREE);
    for (int turn = 0; turn < 2; turn++) {
        int next = 0, request = 0;
        char json[256], expected[64];
        call_begins();
        next = open_client("next");
        EXPECT(load32_relaxed(&slots[0].header->state) == SLOT_CLAIMED); /* it is this slot */
        EXPECT(iblb_send(next, NULL, IBLB_PING, NULL, -1, &request) == IBLB_OK);
        take(BATCH, sizeof payload, 0);
        EXPECT(waiting_count == 1 && waiting[0].slot == 0);
        snprintf(expected, sizeof expected, "{\"0.%u.%llu\":\"\"}", waiting[0].generation, waiting[0].request);
        answer(0, 0);
        EXPECT(iblb_wait(next, request, 0, json, sizeof json, NULL) == IBLB_OK);
        EXPECT(strcmp(json, expected) == 0);
        EXPECT(iblb_close(next) == IBLB_OK);
        take(BATCH, sizeof payload, 0);
        call_ended();
        EXPECT(load32_relaxed(&slots[0].header->state) == SLOT_FREE);
    }
}

/* Whatever was written wherever: the worker is restarted, and a client that comes then is served. */
static void can_be_started_anew(int remove) {
    int next = 0, request = 0;
    iblb_close(guilty);
    iblb_close(innocent);
    innocent = guilty = 0;
    restart_worker(remove);
    serve_and_sweep();
    tainted = 0;
    call_begins();
    next = open_client("next");
    EXPECT(iblb_send(next, NULL, IBLB_PING, NULL, -1, &request) == IBLB_OK);
    take(BATCH, sizeof payload, 0);
    EXPECT(waiting_count == 1 && waiting[0].slot == 0);
    answer(0, 0);
    EXPECT(iblb_wait(next, request, 0, NULL, 0, NULL) == IBLB_OK);
    EXPECT(iblb_close(next) == IBLB_OK);
    call_ended();
}

static void set_up(void) {
    memory_reset();
    start_worker();
    look_at(memory_file(RIG_PATH, NULL));
    forbid_gaps();
    commands_begin = RING_BYTES - 4 * 64; /* as if others had used the slot before: the ring's end is soon reached */
    store64_relaxed(&slots[0].header->command.head, commands_begin);
    store64_relaxed(&slots[0].header->command.tail, commands_begin);
    tainted = scribbled = request_count = 0;
    guilty = open_client("guilty");
    innocent = open_client("innocent");
    call_ended();
}

static void tear_down(void) {
    allow_all(SLOTS_OFFSET + SLOTS * SLOT_BYTES);
    call_begins();
    if (guilty)
        iblb_close(guilty);
    if (innocent)
        iblb_close(innocent);
    iblbw_close(worker, 1);
    call_ended();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data;
    input_left = size;
    set_up();
    for (int step = 0; step < 64 && input_left; step++) {
        uint32_t what = next8();
        struct scribble scribble;
        switch (what % 16) {
        case 0:
        case 1:
        case 2:
            scribble = next_scribble_in_slot(0);
            scribbled = 1;
            do_scribble(&scribble);
            break;
        case 3:
        case 4:
            scribbled = 1;
            plan(next_scribble_in_slot(0));
            continue;
        case 5:
        case 6:
        case 7:
            publish_crafted();
            break;
        case 8:
            guilty_sends(what & 16 ? IBLB_EXPINTERRUPT : what & 32 ? IBLB_EXPSTART : IBLB_PING);
            break;
        case 9:
            innocent_sends();
            break;
        case 10:
        case 11:
            take(1 + (int)(what >> 4), what & 16 ? 1024 : sizeof payload, what & 128 ? 300 : 0);
            break;
        case 12:
            answer(what >> 4 == 15, what >> 4 == 14 ? (int)(next16() % 4096) : 0);
            break;
        case 13:
            memory_clock += (what >> 4) * 20 * MS_NS;
            break;
        case 14:
            if (what & 16)
                restart_worker(0);
            else if (what & 32)
                guilty_leaves();
            else
                innocent_waits();
            break;
        default: /* outside the guilty slot */
            scribble = next_scribble_anywhere();
            tainted = 1;
            if (what & 16)
                plan(scribble);
            else
                do_scribble(&scribble);
        }
    }
    memset(planned, 0, sizeof planned);
    if (tainted) {
        innocent_waits();
        can_be_started_anew(size % 2 == 0);
    } else {
        memory_clock += 10 * MS_NS;
        innocent_waits();
        memory_clock += 10 * MS_NS;
        innocent_sends();
        EXPECT(request_count == 1);
        innocent_waits();
        slot_is_used_again();
    }
    tear_down();
    return 0;
}
