/* The program of the rig, for `iblbridge bench`: times what it is told to do, the way users' programs do it.
 *
 *     caller iblb SEGMENT            with the library of iblbridge
 *     caller zmq LIBZMQ ENDPOINT     with libzmq, which is loaded from that path
 *     caller seqpacket PATH          over a local socket that keeps messages apart
 *     caller nothing                 the time of a look at the clock
 *
 * Says "ready". For each line "WHAT COUNT PAUSE_US MESSAGE" of standard input it answers with a line of COUNT times in ns ("call", "send"),
 * or of one time in ns for all ("notify"). MESSAGE is the number of iblbridge.h; ends with standard input, or at a failure, which it tells.
 */
#include <dlfcn.h>
#include <iblbridge.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MOST 100000
#define BATCH 64 /* sends without a look at the answers */

static int handle, local = -1;
static void *queue;
static int (*zmq_send_)(void *, const void *, size_t, int), (*zmq_recv_)(void *, void *, size_t, int);
static int64_t took[MOST];

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char *what, int code) {
    char text[1000] = "";
    if (handle)
        iblb_last_error(handle, text, sizeof text);
    printf("failed: %s: %d %s\n", what, code, text);
    exit(1);
}

/* What the two other peers are sent is msgpack of [message, null], as our own has it. */
static size_t packed(int message, unsigned char *to) {
    const unsigned char bytes[] = {0x92, 0xcd, (unsigned char)(message >> 8), (unsigned char)message, 0xc0};
    memcpy(to, bytes, sizeof bytes);
    return sizeof bytes;
}

static void call_once(int message) {
    static char json[65536];
    unsigned char sent[16];
    int got = 0, request, needed;
    (void)needed;
    if (queue) {
        size_t size = packed(message, sent);
        if (zmq_send_(queue, sent, size, 0) < 0 || (got = zmq_recv_(queue, json, sizeof json, 0)) < 1)
            fail("zmq", got);
    } else if (local >= 0) {
        size_t size = packed(message, sent);
        if (send(local, sent, size, 0) < 0 || (got = (int)recv(local, json, sizeof json, 0)) < 1)
            fail("seqpacket", got);
    } else if (handle && (got = iblb_call(handle, "", message, "", 12000, json, sizeof json, &request)))
        fail("iblb_call", got);
}

/* Each send of 128 bytes alone; what was sent is waited for, and not timed. */
static void send_many(int count, int message) {
    static unsigned char args[128] = {0xd9, 126}, answer[65536];
    int requests[BATCH], needed, waiting = 0, code;
    memset(args + 2, 'x', 126);
    for (int i = 0; i < count; i++) {
        int64_t begun = now();
        code = iblb_send_msgpack(handle, "", message, args, sizeof args, -1, &requests[waiting]);
        took[i] = now() - begun;
        if (code)
            fail("iblb_send_msgpack", code);
        if (++waiting < BATCH && i + 1 < count)
            continue;
        while (waiting)
            iblb_wait_msgpack(handle, requests[--waiting], 12000, answer, sizeof answer, &needed);
    }
}

/* Notifications as fast as they are taken; a call behind them ends when all are done with, as commands of one program keep their order. */
static int64_t notify_many(int count, int message) {
    int64_t begun = now();
    for (int i = 0; i < count;) {
        int code = iblb_notify(handle, "", message, "", -1);
        if (!code)
            i++;
        else if (code != IBLB_E_FULL)
            fail("iblb_notify", code);
        else
            usleep(20);
    }
    call_once(IBLB_PING);
    return now() - begun;
}

static void open_peer(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "iblb")) {
        int code = iblb_open(argv[2], "bench", 5000, &handle);
        if (code)
            fail("iblb_open", code);
    } else if (argc == 4 && !strcmp(argv[1], "zmq")) {
        void *library = dlopen(argv[2], RTLD_NOW);
        if (!library)
            fail(dlerror(), 0);
        void *(*context)(void) = (void *(*)(void))dlsym(library, "zmq_ctx_new");
        void *(*open_socket)(void *, int) = (void *(*)(void *, int))dlsym(library, "zmq_socket");
        int (*join)(void *, const char *) = (int (*)(void *, const char *))dlsym(library, "zmq_connect");
        zmq_send_ = (int (*)(void *, const void *, size_t, int))dlsym(library, "zmq_send");
        zmq_recv_ = (int (*)(void *, void *, size_t, int))dlsym(library, "zmq_recv");
        if (!context || !open_socket || !join || !zmq_send_ || !zmq_recv_)
            fail("no libzmq", 0);
        queue = open_socket(context(), 3 /* ZMQ_REQ */);
        if (!queue || join(queue, argv[3]))
            fail("zmq_connect", 0);
    } else if (argc == 3 && !strcmp(argv[1], "seqpacket")) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[2]);
        local = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        if (connect(local, (struct sockaddr *)&address, sizeof address))
            fail("connect", 0);
    }
}

int main(int argc, char **argv) {
    char what[16];
    int count, pause, message;
    open_peer(argc, argv);
    printf("ready\n");
    fflush(stdout);
    while (scanf("%15s %d %d %d", what, &count, &pause, &message) == 4) {
        if (!strcmp(what, "notify")) {
            printf("%lld\n", (long long)notify_many(count, message));
            fflush(stdout);
            continue;
        }
        if (count > MOST)
            count = MOST;
        if (!strcmp(what, "send"))
            send_many(count, message);
        else
            for (int i = 0; i < count; i++) {
                int64_t begun = now();
                call_once(message);
                took[i] = now() - begun;
                if (pause)
                    usleep((useconds_t)pause);
            }
        for (int i = 0; i < count; i++)
            printf("%lld ", (long long)took[i]);
        printf("\n");
        fflush(stdout);
    }
    if (handle)
        iblb_close(handle);
    return 0;
}
