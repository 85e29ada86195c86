/* serving.h: a worker with two listeners, and what a master asks of the programs that serve them; for test_serving.c
 * and test_serving_interleavings.c. */
#ifndef SERVING_H
#define SERVING_H

#include "rig.h"

#include "inbox.h"

static struct iblbw_incoming token;

/* What was asked last. */
static int taken, message;
static char json[4096];

static inline void start_listening(void) {
    start();
    CHECK_SAME(iblbw_listeners(worker, "cameras\nephys"), 0);
}

static inline void restart_listening(void) {
    restart_worker();
    CHECK_SAME(iblbw_listeners(worker, "cameras\nephys"), 0);
}

static inline int open_server(const char *client, const char *service, int mask) {
    int handle = open_client(client);
    CHECK_SAME(iblb_serve(handle, service, mask), 0);
    return handle;
}

static inline size_t put_str(unsigned char *to, const char *text) {
    to[0] = 0xd9;
    to[1] = (unsigned char)strlen(text);
    memcpy(to + 2, text, strlen(text));
    return 2 + strlen(text);
}

/* A body as the worker writes it. */
static inline size_t make_body(unsigned char *body, const char *service, const char *data) {
    const char *const words[] = {"service", service, "master", "127.0.0.1:55123", "message", "EXPSTART", "data", data};
    size_t at = 0;
    body[at++] = 0x84;
    for (int i = 0; i < 8; i++)
        at += put_str(body + at, words[i]);
    return at;
}

static inline int hand_over(const char *service, int asked) {
    unsigned char body[512];
    size_t bytes = make_body(body, service, "x");
    return iblbw_hand(worker, service, asked, os_clock_ns(), 0, body, (int)bytes, &token);
}

static inline int next_now(int handle) {
    return iblb_next_command(handle, 0, &taken, &message, json, sizeof json, NULL);
}

/* The answer that the worker takes next, as its payload says it: the number, whether it failed, and its data. 1 if
 * there was one. */
struct said {
    int code, failed;
    unsigned long long number;
    char data[64], master[64];
};

static inline uint32_t big_endian(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void read_said(const struct iblbw_command *command, struct said *said) {
    const unsigned char *at = payload + command->payload_offset;
    memset(said, 0, sizeof *said);
    at += 5 + big_endian(at + 1);
    CHECK(*at == 0x96);
    said->number = (unsigned long long)big_endian(at + 2) << 32 | big_endian(at + 6);
    at += 15; /* the array's head, the number, the message */
    memcpy(said->master, at + 5, big_endian(at + 1));
    at += 5 + big_endian(at + 1);
    said->code = (int)big_endian(at + 1);
    said->failed = at[5] == 0xc3;
    if (at[6] == 0xdb)
        memcpy(said->data, at + 11, big_endian(at + 7));
}

static inline int take_answer(struct said *said) {
    int found = 0;
    for (int count = take(), i = 0; i < count; i++) {
        CHECK_SAME(iblbw_accept(worker, &commands[i]), 0);
        if (commands[i].message == IBLBW_ANSWER) {
            read_said(&commands[i], said);
            found++;
        }
        CHECK_SAME(iblbw_respond(worker, &commands[i], 0, NULL, 0), 0);
    }
    return found;
}

static inline int room_is_back(uint32_t slot) {
    struct slot parts = slot_at(slot);
    return load64_acquire(&parts.header->incoming.head) == load64_acquire(&parts.header->incoming.tail);
}

#endif
