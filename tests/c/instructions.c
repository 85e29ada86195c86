/* instructions.c: what instructions.py counts: each function here calls one function of the library once, and is named
 * for what it counts.
 *
 * The worker and its client are one process and one thread, so that nothing of it depends on who runs when. "Ordinary"
 * is a payload of 128 bytes and a response of 200, one program at work, nobody parked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"

#define COUNTED __attribute__((noinline)) static
#define BATCH 64
#define ROUNDS 50

static struct iblbw_worker *worker;
static struct iblbw_command commands[BATCH];
static unsigned char payload[64 << 10], arguments[128], body[200];
static char json_16k[16 << 10], text[4 << 10];
static int handle, requests[BATCH];

static void need(int right, const char *what) {
    if (!right) {
        fprintf(stderr, "%s went wrong\n", what);
        exit(1);
    }
}

/* --- what is counted --- */

COUNTED void send_msgpack(int *request) {
    need(iblb_send_msgpack(handle, "", IBLB_PING, arguments, sizeof arguments, 60000, request) == 0, "send_msgpack");
}
COUNTED void send_to_one(int *request) {
    need(iblb_send_msgpack(handle, "cameras", IBLB_PING, arguments, sizeof arguments, 60000, request) == 0, "send_to_one");
}
COUNTED void send_json(int *request) {
    need(iblb_send(handle, "", IBLB_PING, "[\"2026-01-01_1_subject\", {\"note\": 1}]", 60000, request) == 0, "send_json");
}
COUNTED void send_json_16k(int *request) {
    need(iblb_send(handle, "", IBLB_PING, json_16k, 60000, request) == 0, "send_json_16k");
}
COUNTED void take_0(void) {
    need(iblbw_take(worker, commands, BATCH, payload, sizeof payload, 0) == 0, "take_0");
}
COUNTED void take_1(void) {
    need(iblbw_take(worker, commands, BATCH, payload, sizeof payload, 0) == 1, "take_1");
}
COUNTED void take_64(void) {
    need(iblbw_take(worker, commands, BATCH, payload, sizeof payload, 0) == BATCH, "take_64");
}
COUNTED void accept_1(int i) {
    need(iblbw_accept(worker, &commands[i]) == 0, "accept_1");
}
COUNTED void respond_1(int i) {
    need(iblbw_respond(worker, &commands[i], 0, body, sizeof body) == 0, "respond_1");
}
COUNTED void wait_json(int request) {
    need(iblb_wait(handle, request, 1000, text, sizeof text, NULL) == 0, "wait_json");
}

/* --- what leads there --- */

static void carry_out(int count) {
    for (int i = 0; i < count; i++) {
        accept_1(i);
        respond_1(i);
    }
    for (int i = 0; i < count; i++)
        wait_json(requests[i]);
}

static void one(void (*send)(int *)) {
    send(requests);
    if (send == send_msgpack)
        take_1();
    else
        need(iblbw_take(worker, commands, BATCH, payload, sizeof payload, 0) == 1, "a take");
    carry_out(1);
}

int main(void) {
    memset(arguments, 'a', sizeof arguments);
    memcpy(arguments, "\x91\xd9\x7d", 3); /* [str of 125] */
    memset(body, 'b', sizeof body);
    memcpy(body,
           "\x81\xa5"
           "error\xd9\xbf",
           9); /* {"error": str of 191} */
    memset(json_16k, 'x', sizeof json_16k - 1);
    memcpy(json_16k, "[\"", 2);
    memcpy(json_16k + sizeof json_16k - 3, "\"]", 2);
    need(iblbw_open("counted", 0, 0, 0, 0, 0, &worker) == 0 && iblbw_services(worker, "ephys\ncameras") == 0, "a worker's start");
    need(iblb_open("counted", "counts", 1000, &handle) == 0, "an open");
    for (int round = 0; round < ROUNDS; round++) {
        one(send_msgpack);
        one(send_to_one);
        one(send_json);
        one(send_json_16k);
        take_0();
        for (int i = 0; i < BATCH; i++)
            send_msgpack(&requests[i]);
        take_64();
        carry_out(BATCH);
    }
    need(iblb_close(handle) == 0, "a close");
    iblbw_close(worker, 1);
    return 0;
}
