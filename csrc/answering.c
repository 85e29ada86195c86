/* answering.c: what a program that serves says: iblb_answer, iblb_fail, iblb_tell.
 *
 * It travels as a record of the program's command ring, so that it is published, in order and safe from crashes as
 * commands are. An answer is written whole behind the tail, where nobody looks; then the command's state is swapped,
 * against the worker that may withdraw it; then the answer is published. So what the worker finds ANSWERED has its
 * answer a few instructions later, or its owner died between them.
 */
#include <stdlib.h>
#include <string.h>

#include "asked.h"
#include "client.h"
#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"
#include "json.h"

#define MAX_ANSWER_BYTES 60000u  /* of JSON text: a master's datagram takes 65,507 bytes, the rest of the reply included */
#define MAX_SENTENCE_BYTES 2048u /* longer ones are cut */
#define LONGEST_HEAD 64u         /* of a payload, beside its texts */

/* --- the payload: msgpack in memory of our own --- */

struct payload {
    unsigned char *bytes;
    size_t used;
};

static void put_int(struct payload *payload, unsigned char type, uint64_t value, int bytes) {
    payload->bytes[payload->used++] = type;
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        payload->bytes[payload->used++] = (unsigned char)(value >> shift);
}

static void put_int32(struct payload *payload, int value) {
    put_int(payload, 0xd2, (uint32_t)value, 4);
}

static void put_text(struct payload *payload, const char *text, size_t length) {
    put_int(payload, 0xdb, length, 4);
    memcpy(payload->bytes + payload->used, text, length);
    payload->used += length;
}

static void put_byte(struct payload *payload, unsigned char byte) {
    payload->bytes[payload->used++] = byte;
}

struct text {
    const char *at; /* NULL: none */
    size_t bytes;
};

static void put_data(struct payload *payload, const struct text *data) {
    if (data->at)
        put_text(payload, data->at, data->bytes);
    else
        put_byte(payload, 0xc0);
}

static int make_payload(struct payload *payload, const char *service, const char *master, const struct text *data,
                        struct problem *problem) {
    payload->used = 0;
    payload->bytes = malloc(LONGEST_HEAD + strlen(service) + strlen(master) + data->bytes);
    if (!payload->bytes)
        return problem_standard(problem, IBLB_E_MEMORY);
    put_text(payload, service, strlen(service));
    return IBLB_OK;
}

/* --- the record --- */

/* With the mutex held: writes the record behind the tail, where nobody sees it. IBLB_E_FULL, _TOO_LARGE, _SEGMENT. */
static int prepare(struct handle *handle, int message, const struct payload *payload, struct ring_space *space, struct problem *problem) {
    const struct ring *ring = &handle->slot.command;
    size_t largest = ring_largest(ring, INTERRUPT_RESERVE) - sizeof(struct command_record);
    if (payload->used > largest)
        return problem_set(problem, IBLB_E_TOO_LARGE, "What is to be said takes %zu bytes; %zu is the most for this ring.", payload->used,
                           largest);
    uint32_t bytes = record_size(sizeof(struct command_record) + payload->used);
    enum ring_result room = ring_claim(ring, handle->command_tail, bytes, INTERRUPT_RESERVE, space);
    if (room == RING_FULL)
        return problem_set(problem, IBLB_E_FULL, "The command ring is full of what the worker has not taken yet. Say it again later.");
    if (room != RING_OK)
        return problem_standard(problem, IBLB_E_SEGMENT);
    uint64_t now = os_clock_ns();
    struct command_record record = {.header = {bytes, RECORD_COMMAND},
                                    .control = STATE_PUBLISHED,
                                    .request = handle->next_request,
                                    .stamp = now > handle->last_stamp ? now : handle->last_stamp + 1,
                                    .ttl = -1,
                                    .generation = handle->generation,
                                    .message = message,
                                    .flags = COMMAND_NOTIFY,
                                    .payload_bytes = (uint32_t)payload->used};
    shared_write(space->record, &record, sizeof record);
    shared_write(space->record + sizeof record, payload->bytes, payload->used);
    return IBLB_OK;
}

/* With the mutex held: what was prepared, and nothing since, is the worker's. IBLB_OK or IBLB_W_NO_WORKER. */
static int publish(struct handle *handle, const struct ring_space *space, struct problem *problem) {
    const struct command_record *record = (const void *)space->record;
    uint64_t stamp;
    shared_read(&stamp, &record->stamp, sizeof stamp);
    handle->last_stamp = stamp;
    store64_relaxed(&handle->slot.header->next_request, handle->next_request++); /* for the next owner of the slot */
    store64_relaxed(&handle->slot.header->last_stamp, stamp);
    ring_publish(&handle->slot.command, space);
    handle->command_tail = space->next;
    bool woken = bell_ring(&handle->segment.header->worker_bell, &handle->segment.waits) != 0;
    if (handle_worker_alive(handle, os_clock_ns(), woken))
        return IBLB_OK;
    return problem_set(problem, IBLB_W_NO_WORKER, "No worker serves segment %s; the next one delivers it. Start it: %s --segment %s.",
                       handle->segment_name, "iblbridge serve", handle->segment_name);
}

/* --- answer and fail --- */

static struct open_command *find_open(struct handle *handle, int command, struct problem *problem) {
    for (int i = 0; i < MAX_OPEN; i++)
        if (command > 0 && handle->serving.open[i].command == command)
            return &handle->serving.open[i];
    problem_set(problem, IBLB_E_COMMAND, "Command %d is unknown, or was answered already.", command);
    return NULL;
}

/* With the mutex held: ours, or the worker's that withdrew it? IBLB_E_LATE, _SEGMENT. */
static int swap_to_answered(const struct handle *handle, const struct open_command *open, struct problem *problem) {
    struct incoming_record *record = (void *)ring_at(&handle->slot.incoming, open->position);
    uint64_t number, control = load64_acquire(&record->control);
    shared_read(&number, &record->number, sizeof number); /* another's, if a broken worker wrote over it */
    if (number == open->number && asked_state(control) == INCOMING_TAKEN &&
        swap_if64(&record->control, control, (control & ~UINT64_C(0xffffffff)) | INCOMING_ANSWERED))
        return IBLB_OK;
    if (number == open->number && asked_state(load64_acquire(&record->control)) == INCOMING_WITHDRAWN)
        return problem_standard(problem, IBLB_E_LATE);
    return problem_set(problem, IBLB_E_SEGMENT,
                       "The ring of what masters ask this client is damaged. Restart the worker, then open again.");
}

/* With the mutex held. */
static int answer(struct handle *handle, int command, int status, bool failed, const struct text *data, struct problem *problem) {
    struct payload payload = {0};
    struct ring_space space;
    struct open_command *open = find_open(handle, command, problem);
    if (!open)
        return problem->code;
    int code = open->late ? problem_standard(problem, IBLB_E_LATE) : make_payload(&payload, open->service, open->master, data, problem);
    if (code == IBLB_OK) {
        put_byte(&payload, 0x96); /* an array of six */
        put_int(&payload, 0xcf, open->number, 8);
        put_int32(&payload, open->message);
        put_text(&payload, open->master, strlen(open->master));
        put_int32(&payload, status);
        put_byte(&payload, failed ? 0xc3 : 0xc2);
        put_data(&payload, data);
        code = prepare(handle, IBLBW_ANSWER, &payload, &space, problem);
        if (code == IBLB_OK) {
            code = swap_to_answered(handle, open, problem);
            if (code == IBLB_OK)
                code = publish(handle, &space, problem);
            else if (open->message == IBLB_ALYX)
                ring_wipe(&handle->slot.command, space.position, space.next);
        }
    }
    free(payload.bytes);
    if (code >= 0 || code == IBLB_E_LATE) {
        struct problem ignored; /* the answer is on its way; the next call says so */
        open->command = 0;
        serving_release(handle, &ignored);
    }
    return code;
}

/* JSON text, or none. */
static int check_data(const char *json, struct text *data, struct problem *problem) {
    *data = (struct text){NULL, 0};
    if (text_is_none(json))
        return IBLB_OK;
    const char *end = memchr(json, '\0', MAX_ANSWER_BYTES + 1);
    if (!end)
        return problem_set(problem, IBLB_E_TOO_LARGE, "The data are longer than %u bytes, and no datagram can hold them.",
                           MAX_ANSWER_BYTES);
    size_t bytes = (size_t)(end - json), where = utf8_check(json, bytes);
    if (where != bytes)
        return problem_set(problem, IBLB_E_UTF8, "The data are not valid UTF-8 at offset %zu. Convert the text.", where);
    const char *wrong = json_check(json, bytes, &where);
    if (wrong)
        return problem_set(problem, IBLB_E_JSON, "The data are not valid JSON at offset %zu: %s. A text stands in double quotes.", where,
                           wrong);
    *data = (struct text){json, bytes};
    return IBLB_OK;
}

/* `problem`: what is wrong already. */
static int answer_checked(int number, int command, int status, bool failed, const struct text *data, struct problem *problem) {
    int code;
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    code = problem->code;
    if (code == IBLB_OK)
        code = handle_check_served(handle, os_clock_ns(), problem);
    if (code == IBLB_OK)
        code = answer(handle, command, status, failed, data, problem);
    return handle_leave(handle, code, problem);
}

IBLB_API int iblb_answer(int handle, int command, int status, const char *data_json) {
    struct problem problem;
    struct text data;
    problem_clear(&problem);
    if (check_data(data_json, &data, &problem) == IBLB_OK && status != -1 && status != IBLB_STATUS_CONNECTED &&
        status != IBLB_STATUS_INITIALIZED && status != IBLB_STATUS_RUNNING && status != IBLB_STATUS_STOPPED)
        problem_set(&problem, IBLB_E_ARGUMENT, "%d is no status. Use IBLB_STATUS_CONNECTED to _STOPPED, or -1 for the usual one.", status);
    return answer_checked(handle, command, status, false, &data, &problem);
}

IBLB_API int iblb_fail(int handle, int command, const char *sentence) {
    struct problem problem;
    problem_clear(&problem);
    if (text_is_none(sentence))
        sentence = "The program gave no reason.";
    const char *end = memchr(sentence, '\0', MAX_SENTENCE_BYTES);
    struct text text = {sentence, end ? (size_t)(end - sentence) : MAX_SENTENCE_BYTES};
    while (!end && text.bytes > 0 && ((unsigned char)sentence[text.bytes] & 0xc0) == 0x80) /* no half of a character */
        text.bytes--;
    size_t valid = utf8_check(text.at, text.bytes);
    if (valid != text.bytes)
        problem_set(&problem, IBLB_E_UTF8, "The sentence is not valid UTF-8 at offset %zu. Convert the text.", valid);
    return answer_checked(handle, command, -1, true, &text, &problem);
}

/* --- tell --- */

/* With the mutex held. */
static int tell(struct handle *handle, int message, const struct text *data, struct problem *problem) {
    struct payload payload;
    struct ring_space space;
    if (!(handle->serving.mask & 0xffu))
        return problem_set(problem, IBLB_E_SERVICE, "This handle serves nothing: call iblb_serve first.");
    int code = make_payload(&payload, handle->serving.service, "", data, problem);
    if (code != IBLB_OK)
        return code;
    put_byte(&payload, 0x92); /* an array of two */
    put_int32(&payload, message);
    put_data(&payload, data);
    code = prepare(handle, IBLBW_TELL, &payload, &space, problem);
    free(payload.bytes);
    return code == IBLB_OK ? publish(handle, &space, problem) : code;
}

IBLB_API int iblb_tell(int number, int message, const char *data_json) {
    int code;
    struct problem problem;
    struct text data;
    problem_clear(&problem);
    if (message != IBLB_EXPINTERRUPT && message != IBLB_EXPSTATUS && message != IBLB_EXPINFO)
        problem_set(&problem, IBLB_E_MESSAGE,
                    "%d is nothing that a service says by itself: EXPINTERRUPT (16), EXPSTATUS (32), EXPINFO (64).", message);
    else if (check_data(data_json, &data, &problem) == IBLB_OK && message == IBLB_EXPSTATUS && !data.at)
        problem_set(&problem, IBLB_E_ARGUMENT, "EXPSTATUS takes the status that the program is in now, such as 20.");
    struct handle *handle = handle_enter(number, &code);
    if (!handle)
        return code;
    code = problem.code;
    if (code == IBLB_OK)
        code = handle_check_served(handle, os_clock_ns(), &problem);
    if (code == IBLB_OK)
        code = tell(handle, message, &data, &problem);
    return handle_leave(handle, code, &problem);
}
