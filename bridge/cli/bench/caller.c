/* The program of the rig, for `iblbridge bench`: times what it is told to do, the way users' programs do it.
 *
 *     caller iblb SEGMENT            with the library of iblbridge
 *     caller zmq LIBZMQ ENDPOINT     with libzmq, which is loaded from that path
 *     caller seqpacket PATH          over a local socket that keeps messages apart
 *     caller event SEGMENT PORT      with the library of iblbridge; a "call" of EXPINTERRUPT asks the witness at that port for an event,
 *                                    and its time is from the witness' stamp until iblb_next_event has it here
 *     caller loop PORT...            a loop of sendto to these services; then their echoes and answers, and the confirmations
 *     caller nothing                 the time of a look at the clock
 *
 * Says "ready". For each line "WHAT COUNT PAUSE_US MESSAGE" of standard input it answers with a line of COUNT times in ns ("call", "send"),
 * or of one time in ns for all ("notify"). MESSAGE is the number of iblbridge.h; ends with standard input, or at a failure, which it tells.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <iblbridge.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MOST 100000
#define BATCH 64  /* sends without a look at the answers */
#define AHEAD 300 /* notifications that keep the worker awake meanwhile */

#define SERVICES 64

static int handle, local = -1, network = -1;
static struct sockaddr_in services[SERVICES]; /* the witness, or those of the loop */
static int service_count;
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

/* What the worker sends: a number of spaces that the last command had not, and the answers as they came, as confirmations. */
static void loop_once(int message) {
    static int turn;
    char datagram[256], got[256];
    int size = snprintf(datagram, sizeof datagram, "[%d, \"2026-01-01_1_subject\", null]", message);
    int spaces = turn = turn % 100 + 1;
    memset(datagram + size, ' ', (size_t)spaces);
    size += spaces;
    for (int i = 0; i < service_count; i++)
        sendto(network, datagram, (size_t)size, 0, (struct sockaddr *)&services[i], sizeof services[i]);
    for (int left = 2 * service_count; left; left--) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        struct pollfd watched = {.fd = network, .events = POLLIN};
        if (poll(&watched, 1, 12000) < 1)
            fail("no answer within 12 s", 0);
        ssize_t bytes = recvfrom(network, got, sizeof got, 0, (struct sockaddr *)&from, &length);
        if (bytes > 0 && got[bytes - 1] != ' ')
            sendto(network, got, (size_t)bytes, 0, (struct sockaddr *)&from, length);
    }
}

/* Returns when the service sent it. */
static int64_t event_once(void) {
    static char json[65536];
    int message = 0;
    sendto(network, "event", 5, 0, (struct sockaddr *)&services[0], sizeof services[0]);
    int code = iblb_next_event(handle, 12000, &message, json, sizeof json, NULL);
    int64_t came = now();
    const char *stamp = strstr(json, "\"data\"");
    if (code || message != IBLB_EXPINTERRUPT || !stamp)
        fail("iblb_next_event", code);
    return came - strtoll(stamp + strcspn(stamp, "0123456789"), NULL, 10);
}

static void call_once(int message) {
    static char json[65536];
    const char *args = message == IBLB_EXPSTART ? "[\"2026-01-01_1_subject\"]" : "";
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
    } else if (service_count && !handle) {
        loop_once(message);
    } else if (handle && (got = iblb_call(handle, "", message, args, 12000, json, sizeof json, &request)))
        fail("iblb_call", got);
}

static int64_t time_once(int message) {
    if (service_count && message == IBLB_EXPINTERRUPT)
        return event_once();
    int64_t begun = now();
    call_once(message);
    return now() - begun;
}

/* Gives the worker work for a millisecond, and returns when it has begun: what is sent now has not to wake it. */
static void keep_busy(void) {
    static unsigned char answer[65536];
    int first, needed, code = iblb_send(handle, "", IBLB_PING, "", -1, &first);
    for (int i = 0; i < AHEAD && !code; i++)
        code = iblb_notify(handle, "", IBLB_PING, "", -1);
    if (!code)
        code = iblb_wait_msgpack(handle, first, 12000, answer, sizeof answer, &needed);
    if (code)
        fail("iblb_notify", code);
}

/* Each send of 128 bytes alone, the look at the clock included; what was sent is waited for, and not timed. */
static void send_many(int count, int message) {
    static unsigned char args[128] = {0xd9, 126}, answer[65536];
    int requests[BATCH], needed, waiting = 0, code;
    memset(args + 2, 'x', 126);
    for (int i = 0; i < count; i++) {
        if (!waiting)
            keep_busy();
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
    int code, request;
    for (int i = 0; i <= count;) {
        int last = i == count;
        if (last)
            code = iblb_call(handle, "", IBLB_PING, "", 60000, NULL, 0, &request);
        else
            code = iblb_notify(handle, "", message, "", -1);
        if (!code)
            i++;
        else if (code != IBLB_E_FULL)
            fail(last ? "iblb_call" : "iblb_notify", code);
        else
            usleep(20);
    }
    return now() - begun;
}

static void open_network(int count, char **ports) {
    network = socket(AF_INET, SOCK_DGRAM, 0);
    if (network < 0 || count > SERVICES)
        fail("socket", 0);
    for (service_count = 0; service_count < count; service_count++)
        services[service_count] = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(ports[service_count])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void open_peer(int argc, char **argv) {
    int code, events = argc == 4 && !strcmp(argv[1], "event");
    if (events || (argc == 3 && !strcmp(argv[1], "iblb"))) {
        if ((code = iblb_open(argv[2], "bench", 5000, &handle)))
            fail("iblb_open", code);
        if (events && (code = iblb_subscribe(handle, IBLB_EXPINTERRUPT)))
            fail("iblb_subscribe", code);
        if (events)
            open_network(1, argv + 3);
    } else if (argc > 2 && !strcmp(argv[1], "loop")) {
        open_network(argc - 2, argv + 2);
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
                took[i] = time_once(message);
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
