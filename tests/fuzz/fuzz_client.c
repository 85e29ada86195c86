/* fuzz_client.c: a client, and what a segment of arbitrary bytes can do to it.
 *
 * The input is a program: it writes anything anywhere in the segment, before the client opens it, between its calls and in the middle of
 * them; places crafted responses and events; now and then the worker serves. Then
 *
 *  - nothing has crashed, hung or been touched outside;
 *  - every code is in the table of codes, whatever the segment says;
 *  - every wait ends within its time-out and 100 ms, and every text handed out is JSON.
 */
#include "hostile.h"

#define ENTRIES 8
#define TEXT_BYTES 4096

static struct iblbw_worker *worker;
static int client;
static int requests[ENTRIES];
static uint32_t request_count;
static int opened[256], opened_count; /* to be closed at the end */

/* Is the code one that the header promises? And did the call end in time? */
static int ended(int code, uint64_t began, int timeout_ms) {
    call_ended();
    if (!code_is_named(code))
        fprintf(stderr, "code %d\n", code);
    EXPECT(code_is_named(code));
    EXPECT(memory_clock - began <= ((uint64_t)timeout_ms + 100) * MS_NS);
    return code;
}

static void text_is_whole(int code, const char *text, int capacity, int needed) {
    size_t where, length = strlen(text);
    EXPECT(needed >= 0 && (capacity == 0 || length < (size_t)capacity));
    if (length)
        EXPECT(!json_check(text, length, &where) && (size_t)needed == length + 1);
    else
        EXPECT(code != IBLB_OK || needed == 0 || needed > capacity);
}

static void opens(void) {
    static const char *const names[] = {"client", "", "iblb-top", "other"};
    uint32_t how = next8();
    int timeout_ms = how & 16 ? 20 : 0;
    uint64_t began = memory_clock;
    request_count = 0;
    call_begins();
    int code = ended(iblb_open("rig", names[how % 4], timeout_ms, &client), began, timeout_ms + 600);
    EXPECT(code < 0 ? client == 0 : client > 0);
    if (client)
        opened[opened_count++] = client;
}

static void sends(void) {
    static const int messages[] = {IBLB_PING, IBLB_EXPSTART, IBLB_EXPINTERRUPT, IBLB_SERVICES};
    static const char *const services[] = {NULL, "cameras", "cameras,ephys", "unknown"};
    uint32_t how = next8();
    uint64_t began = memory_clock;
    int message = messages[how % 4], ttl_ms = how & 64 ? -1 : 0, request = 0;
    const char *to = services[how / 4 % 4];
    call_begins();
    if (how & 16)
        ended(iblb_notify(client, to, message, "[1]", ttl_ms), began, 0);
    else
        ended(iblb_send(client, to, message, how & 32 ? NULL : "{\"a\": [null]}", ttl_ms, &request), began, 0);
    if (request > 0)
        requests[request_count++ % ENTRIES] = request;
}

static int some_request(uint32_t how) {
    return request_count ? requests[how % (request_count < ENTRIES ? request_count : ENTRIES)] : (int)how;
}

static void waits(void) {
    uint32_t how = next8();
    uint64_t began = memory_clock;
    int request = some_request(how), timeout_ms = how & 64 ? 150 : 0, needed = 0, capacity = how & 32 ? (int)next8() : TEXT_BYTES;
    char *text = malloc((size_t)capacity + 1); /* of its exact size, for the sanitizer; + 1: never NULL */
    if (!text)
        abort();
    text[0] = '\0';
    call_begins();
    if (how & 16) {
        ended(iblb_wait_msgpack(client, request, timeout_ms, (unsigned char *)text, capacity, &needed), began, timeout_ms);
    } else {
        int code = ended(iblb_wait(client, request, timeout_ms, how & 8 ? NULL : text, capacity, &needed), began, timeout_ms);
        text_is_whole(code, text, how & 8 ? 0 : capacity, needed);
        if (code == IBLB_E_BUFFER && needed < 1 << 20) { /* a caller does as it is told, and must not do so for ever */
            char *larger = malloc((size_t)needed + 1);
            call_begins();
            EXPECT(ended(iblb_wait(client, request, 0, larger, needed, NULL), memory_clock, 0) != IBLB_E_BUFFER);
            free(larger);
        }
    }
    free(text);
}

static void calls(void) {
    uint32_t how = next8();
    uint64_t began = memory_clock;
    int request, timeout_ms = how & 64 ? 150 : 0;
    char text[512];
    call_begins();
    int code = ended(iblb_call(client, NULL, how & 1 ? IBLB_EXPSTATUS : IBLB_PING, NULL, timeout_ms, text, sizeof text, &request), began,
                     timeout_ms);
    text_is_whole(code, text, sizeof text, (int)strlen(text) + 1);
    if (code == IBLB_E_PENDING)
        requests[request_count++ % ENTRIES] = request;
}

static void events(void) {
    uint32_t how = next8();
    uint64_t began = memory_clock;
    int message = 0, needed = 0, timeout_ms = how & 64 ? 150 : 0, capacity = how & 32 ? (int)next8() : 512;
    char text[513] = "";
    call_begins();
    if (how & 1) {
        ended(iblb_subscribe(client, how & 2 ? 0 : IBLB_EXPINTERRUPT | IBLB_SERVICE_DOWN), began, 0);
    } else {
        int code = ended(iblb_next_event(client, timeout_ms, &message, how & 8 ? NULL : text, capacity, &needed), began, timeout_ms);
        text_is_whole(code, text, how & 8 ? 0 : capacity, needed);
    }
}

/* What `iblbridge doctor` reads of the same bytes. */
static void inspects(void) {
    static struct iblbw_report report;
    static struct iblbw_slot_report reports[MAX_SLOTS];
    char services[64];
    EXPECT(ended(iblbw_inspect("rig", &report, reports, services, sizeof services), memory_clock, 0) == IBLB_OK);
    EXPECT(code_is_named(report.code) && report.slots <= MAX_SLOTS && report.services <= MAX_SERVICES);
    EXPECT(strlen(services) < sizeof services && strlen(report.sentence) < sizeof report.sentence);
    for (uint32_t i = 0; i < report.slots; i++)
        EXPECT(strlen(reports[i].client) < sizeof reports[i].client && reports[i].pending >= -1 &&
               reports[i].pending <= (int)RING_BYTES / 64);
}

static void others(void) {
    uint32_t how = next8();
    uint64_t began = memory_clock;
    int alive, services, up;
    char text[1024];
    call_begins();
    switch (how % 5) {
    case 4:
        inspects();
        break;
    case 0:
        ended(iblb_cancel(client, some_request(how / 5)), began, 0);
        break;
    case 1:
        if (ended(iblb_worker_state(client, &alive, &services, &up), began, 0) == IBLB_OK)
            EXPECT(services >= 0 && services <= (int)MAX_SERVICES && up >= 0 && up <= (int)MAX_SERVICES);
        break;
    case 2:
        ended(iblb_last_error(client, text, sizeof text), began, 0);
        EXPECT(utf8_check(text, strlen(text)) == strlen(text));
        break;
    default:
        ended(iblb_close(client), began, 0);
        client = 0;
    }
}

/* The worker, honest if a little brief. It may have found that the segment is not what it was. */
static void worker_serves(void) {
    static struct iblbw_command taken[8];
    static unsigned char payload[RING_BYTES];
    static const unsigned char body[] = {0x81, 0xa5, 'e', 'r', 'r', 'o', 'r', 0xa3, 'b', 'a', 'd'};
    uint32_t how = next8();
    call_begins();
    if (how & 1)
        iblbw_publish_event(worker, IBLB_EXPINTERRUPT, body, sizeof body);
    int count = iblbw_take(worker, taken, 8, payload, sizeof payload, 0);
    for (int i = 0; i < count; i++)
        if (iblbw_accept(worker, &taken[i]) == IBLB_OK && !(how & 2))
            iblbw_respond(worker, &taken[i], how & 4 ? IBLB_E_PARTIAL : IBLB_OK, body, sizeof body);
    for (char lost[64]; iblbw_lost_client(worker, lost, sizeof lost);)
        ;
    call_ended();
}

/* A response or an event that no worker has written. */
static void crafted(int event) {
    struct slot *slot = &slots[next8() % SLOTS];
    struct ring *ring = event ? &slot->event : &slot->response;
    uint64_t tail = load64_relaxed(&ring->header->tail);
    uint32_t place = (uint32_t)tail & (RING_BYTES - 1) & ~63u, kind = next8(), got, bytes = (kind % 4 + 1) * 64;
    if (bytes > RING_BYTES - place)
        bytes = RING_BYTES - place;
    const uint8_t *body = next_bytes(next8() % (kind & 16 ? 200 : 24), &got);
    uint32_t said = kind & 32 ? (uint32_t)next_value(0, 4) : got;
    uint32_t generation = load32_relaxed(&slot->header->generation);
    struct response_record response = {.header = {bytes, RECORD_RESPONSE},
                                       .request = kind & 64 ? next64() : (uint64_t)some_request(kind / 4),
                                       .generation = generation,
                                       .code = kind & 128 ? (int32_t)((uint32_t)next_value(0, 4) - 8055u) : 0,
                                       .payload_bytes = said};
    struct event_record happening = {.header = {bytes, RECORD_EVENT},
                                     .sequence = next8(),
                                     .generation = generation,
                                     .message = kind & 64 ? (int32_t)next_value(0, 4) : IBLB_EXPINTERRUPT,
                                     .payload_bytes = said};
    unsigned char data[256] = {0};
    size_t head = event ? sizeof happening : sizeof response;
    memcpy(data, event ? (void *)&happening : (void *)&response, head);
    memcpy(data + head, body, got < sizeof data - head ? got : sizeof data - head);
    memcpy(ring->data + place, data, bytes);
    store64_relaxed(&ring->header->tail, tail + bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t bytes = 0;
    struct scribble scribble;
    input = data;
    input_left = size;
    client = 0;
    request_count = 0;
    memory_reset();
    call_begins();
    EXPECT(iblbw_open("rig", SLOTS, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker) == IBLB_OK);
    EXPECT(iblbw_services(worker, "cameras\nephys") == IBLB_OK);
    call_ended();
    look_at(memory_file(RIG_PATH, &bytes));
    forbid_gaps();
    for (int step = 0; step < 64 && input_left; step++) {
        uint32_t what = next8();
        switch (what % 16) {
        case 0:
        case 1:
        case 2:
        case 3:
            scribble = what & 64 ? next_scribble_anywhere() : next_scribble_in_slot(0);
            if (what & 128)
                plan(scribble);
            else
                do_scribble(&scribble);
            break;
        case 4:
        case 5:
            crafted(what & 16);
            break;
        case 6:
        case 7:
            waits();
            break;
        case 8:
            sends();
            break;
        case 9:
            worker_serves();
            break;
        case 10:
            calls();
            break;
        case 11:
            events();
            break;
        case 12:
            others();
            break;
        case 13:
            memory_clock += (what >> 4) * 20 * MS_NS;
            break;
        default:
            opens();
        }
        if (!client && what % 16 != 14)
            opens();
    }
    memset(planned, 0, sizeof planned);
    allow_all(bytes);
    call_begins();
    while (opened_count)
        iblb_close(opened[--opened_count]);
    iblbw_close(worker, 1);
    call_ended();
    return 0;
}
