/* rig.h: one segment with its worker and its clients in one process, for the tests that go through iblb_* and iblbw_*.
 *
 * The test programs are linked with the library's sources, so that they can look into the segment behind the interface's back. Every rig
 * has a name of its own; all live in IBLBRIDGE_DIR, which main makes if it is not set. Rings are small: what fills and wraps does so soon.
 */
#ifndef RIG_H
#define RIG_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "include/iblbridge_worker.h"
#include "segment.h"
#include "system.h"

#define MS UINT64_C(1000000)
#define RING_BYTES 16384
#define BATCH 64
#define PATIENCE_NS (20000 * MS) /* what is to happen does so at once; this only ends a test that hangs */
#define PROMPT_NS (5000 * MS)    /* far above every bound of the design, far below the time-outs that a prompt end must not use up */
#define LONG_MS 30000

static struct iblbw_worker *worker;
static char rig[64];
static struct iblbw_command commands[BATCH];
static unsigned char payload[65536];
static struct segment eye; /* a mapping of our own, to look */

/* Waits for a condition; fails if it does not come. */
#define EVENTUALLY(condition)                                                                                                              \
    do {                                                                                                                                   \
        uint64_t eventually_until = os_clock_ns() + PATIENCE_NS;                                                                           \
        int eventually_held;                                                                                                               \
        while (!(eventually_held = (condition)) && os_clock_ns() < eventually_until)                                                       \
            os_sleep_ns(MS / 5);                                                                                                           \
        CHECK(eventually_held && #condition);                                                                                              \
    } while (0)

static inline void start_sized(int slots, int command_bytes, int response_bytes) {
    static int made;
    struct problem problem;
    snprintf(rig, sizeof rig, "rig-%d-%d", (int)os_pid(), made++);
    if (!CHECK(iblbw_open(rig, slots, command_bytes, response_bytes, RING_BYTES, RING_BYTES, &worker) == 0) ||
        !CHECK(segment_attach(&eye, rig, &problem) == 0))
        abort();
    iblbw_services(worker, "cameras\nephys");
}

static inline void start(void) {
    start_sized(4, RING_BYTES, RING_BYTES);
}

static inline void stop(void) {
    segment_close(&eye, 0);
    iblbw_close(worker, 1);
    worker = NULL;
}

/* As if the worker had died and a new one had been started. */
static inline void restart_worker(void) {
    iblbw_close(worker, 0);
    worker = NULL;
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &worker), 0);
}

static inline int open_client(const char *name) {
    int handle = 0;
    CHECK_SAME(iblb_open(rig, name, 0, &handle), 0);
    return handle;
}

static inline int send_message(int handle, int message) {
    int request = 0;
    CHECK_SAME(iblb_send(handle, NULL, message, NULL, 0, &request), 0);
    CHECK(request > 0);
    return request;
}

static inline int send_start(int handle) {
    return send_message(handle, IBLB_EXPSTART);
}

/* What there is for the worker, in `commands`. */
static inline int take(void) {
    return iblbw_take(worker, commands, BATCH, payload, sizeof payload, 0);
}

/* Notes who was lost; only then is a slot free. */
static inline void note_losses(void) {
    char name[NAME_BYTES];
    while (iblbw_lost_client(worker, name, sizeof name))
        ;
}

/* A body as the worker writes it, with one sentence. */
static inline int respond_saying(const struct iblbw_command *command, int code, const char *sentence) {
    unsigned char body[512] = {0x81, 0xa5, 'e', 'r', 'r', 'o', 'r', 0xd9};
    size_t length = strlen(sentence);
    body[8] = (unsigned char)length;
    memcpy(body + 9, sentence, length);
    return iblbw_respond(worker, command, code, body, (int)(9 + length));
}

static inline int respond(const struct iblbw_command *command, int code) {
    return respond_saying(command, code, "");
}

/* A body of about `bytes`, valid and long. */
static inline int respond_large(const struct iblbw_command *command, int bytes) {
    unsigned char *body = malloc((size_t)bytes);
    static const unsigned char head[] = {0x81, 0xa4, 'd', 'a', 't', 'a', 0xda};
    memcpy(body, head, sizeof head);
    body[7] = (unsigned char)((bytes - 9) >> 8);
    body[8] = (unsigned char)((bytes - 9) & 0xff);
    memset(body + 9, 'x', (size_t)(bytes - 9));
    int code = iblbw_respond(worker, command, 0, body, bytes);
    free(body);
    return code;
}

/* Takes, accepts and answers everything; how many there were. */
static inline int serve_all(void) {
    int count = take();
    for (int i = 0; i < count; i++) {
        CHECK_SAME(iblbw_accept(worker, &commands[i]), 0);
        CHECK_SAME(respond(&commands[i], 0), 0);
    }
    return count;
}

static inline struct slot slot_at(uint32_t index) {
    struct slot slot;
    segment_slot(&eye, index, &slot);
    return slot;
}

static inline uint32_t slot_state(uint32_t index) {
    return load32_acquire(&slot_at(index).header->state);
}

static inline const char *sentence(int handle) {
    static char text[1024];
    iblb_last_error(handle, text, sizeof text);
    return text;
}

/* --- a worker's thread that accepts and answers whatever comes, until it is told to stop --- */

static pthread_t server;
static _Atomic int server_stops;
static _Atomic long served, refused;

static inline void *serve_until_told(void *unused) {
    static struct iblbw_command batch[BATCH];
    static unsigned char text[65536];
    (void)unused;
    while (!server_stops) {
        int count = iblbw_take(worker, batch, BATCH, text, sizeof text, 1000);
        for (int i = 0; i < count; i++) {
            if (iblbw_accept(worker, &batch[i]) == 0)
                served++;
            else
                refused++;
            while (respond(&batch[i], 0) == IBLB_E_FULL)
                os_sleep_ns(MS / 10);
        }
    }
    return NULL;
}

static inline void start_server(void) {
    server_stops = 0;
    served = refused = 0;
    CHECK(pthread_create(&server, NULL, serve_until_told, NULL) == 0);
}

static inline void stop_server(void) {
    server_stops = 1;
    iblbw_ring(worker);
    pthread_join(server, NULL);
}

/* --- one call in a thread of its own --- */

struct waiter {
    pthread_t thread;
    int handle, request, timeout_ms, code;
    uint64_t took;
    char json[256];
    _Atomic int done;
};

static inline void *wait_in_thread(void *argument) {
    struct waiter *w = argument;
    uint64_t began = os_clock_ns();
    w->code = iblb_wait(w->handle, w->request, w->timeout_ms, w->json, sizeof w->json, NULL);
    w->took = os_clock_ns() - began;
    w->done = 1;
    return NULL;
}

static inline void start_waiter(struct waiter *w, int handle, int request) {
    w->handle = handle;
    w->request = request;
    w->timeout_ms = LONG_MS;
    w->done = 0;
    CHECK(pthread_create(&w->thread, NULL, wait_in_thread, w) == 0);
}

static inline void join_waiter(struct waiter *w) {
    pthread_join(w->thread, NULL);
    CHECK(w->took < PROMPT_NS);
}

/* --- other processes: this program once more, in a role; its exit status says whether its checks held --- */

struct role {
    const char *name;
    void (*play)(void);
};

static const char *this_program;
static uint32_t parent; /* of a role: the process that has started it */

/* The role gets our rig, and what it writes is ours to read. */
static inline struct child in_role(const char *name) {
    struct child child;
    char pid[16];
    const char *words[] = {"role", name, rig, pid, NULL};
    snprintf(pid, sizeof pid, "%u", (unsigned)os_pid());
    fflush(stdout);
    CHECK(child_start(&child, this_program, words) == 0);
    return child;
}

/* Not on Windows. */
static inline struct child in_fork(void (*run)(void)) {
    struct child child;
    fflush(stdout);
    if (child_fork(&child) == 0) {
        wrong_checks = 0;
        run();
        fflush(stdout);
        die(wrong_checks > 0);
    }
    return child;
}

static inline void child_was_right(struct child *child) {
    CHECK_SAME(child_wait(child), 0);
}

/* What a role says when it has come to where its test wants it. */
static inline void say(const char *line) {
    printf("%s\n", line);
    fflush(stdout);
}
static inline void child_says(struct child *child, const char *expected) {
    char line[128];
    child_line(child, line, sizeof line);
    if (!CHECK(strcmp(line, expected) == 0))
        printf("        said \"%s\" instead of \"%s\"\n", line, expected);
}

static inline void hold_still(void) {
    for (;;)
        os_sleep_ns(1000 * MS);
}

static inline int run_role(char **words, const struct role *roles) {
    snprintf(rig, sizeof rig, "%s", words[3]);
    parent = (uint32_t)strtoul(words[4], NULL, 10);
    for (; roles && roles->name; roles++)
        if (strcmp(roles->name, words[2]) == 0) {
            roles->play();
            fflush(stdout);
            return wrong_checks > 0;
        }
    printf("    there is no role %s\n", words[2]);
    return 3;
}

/* main of a test program. `roles` ends with one without a name; NULL: there are none. */
static inline int run_rig_tests(int count, char **words, const struct test *tests, int how_many, const struct role *roles) {
    char directory[SYSTEM_PATH];
    this_program = words[0];
    if (count == 5 && strcmp(words[1], "role") == 0)
        return run_role(words, roles);
    int ours = !variable("IBLBRIDGE_DIR");
    if (ours && make_temporary_directory(directory) != 0)
        return 2;
    if (ours)
        set_variable("IBLBRIDGE_DIR", directory);
    int status = run_tests(tests, how_many);
    if (ours && remove_directory(directory) != 0)
        puts("    a test left something behind in its directory");
    return status;
}

#endif
