/* test_datagrams.c: several datagrams that leave by one call. */
#include <string.h>

#include "check.h"
#include "include/iblbridge_worker.h"
#include "os.h"
#include "system.h"

#define COUNT 8
#define LOOPBACK 0x7F000001u

static intptr_t senders[COUNT], receivers[COUNT];
static int ports[COUNT], receiver_ports[COUNT];
static struct iblbw_datagram datagrams[COUNT];
static unsigned char payloads[1 << 17];

static void set_up(void) {
    for (int i = 0; i < COUNT; i++) {
        senders[i] = open_socket(&ports[i]);
        receivers[i] = open_socket(&receiver_ports[i]);
        CHECK_ROW(i, senders[i] != -1 && receivers[i] != -1);
        datagrams[i] = (struct iblbw_datagram){.socket = senders[i], .address = LOOPBACK, .port = receiver_ports[i], .error = -1};
    }
}

static void tear_down(void) {
    for (int i = 0; i < COUNT; i++) {
        close_socket(senders[i]);
        close_socket(receivers[i]);
    }
}

/* Gives each datagram a letter of its own, `bytes[i]` times. */
static void fill(const int bytes[COUNT]) {
    unsigned char *to = payloads;
    for (int i = 0; i < COUNT; i++) {
        datagrams[i].bytes = bytes[i];
        memset(to, 'a' + i, (size_t)bytes[i]);
        to += bytes[i];
    }
}

static bool has_arrived(int i) {
    static unsigned char got[1 << 17];
    int from, size = receive_datagram(receivers[i], got, sizeof got, &from);
    bool whole = size == datagrams[i].bytes && from == ports[i];
    for (int k = 0; k < size; k++)
        whole = whole && got[k] == 'a' + i;
    return whole;
}

static void each_leaves_through_its_own_socket_for_its_own_place(void) {
    set_up();
    fill((int[COUNT]){1, 2, 70, 65507, 0, 3, 100, 5});
    CHECK_SAME(iblbw_send_datagrams(datagrams, COUNT, payloads), COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK_ROW(i, datagrams[i].error == 0);
        CHECK_ROW(i, has_arrived(i));
    }
    tear_down();
}

static void one_that_fails_keeps_none_of_the_others(void) {
    set_up();
    fill((int[COUNT]){1, 2, 3, 65508, 5, 6, 7, 8});
    close_socket(senders[1]);
    CHECK_SAME(iblbw_send_datagrams(datagrams, COUNT, payloads), COUNT - 2);
    for (int i = 0; i < COUNT; i++) {
        bool fails = i == 1 || i == 3;
        CHECK_ROW(i, (datagrams[i].error != 0) == fails);
        CHECK_ROW(i, fails || has_arrived(i));
    }
    CHECK(datagrams[1].error != datagrams[3].error);
    tear_down();
}

static void each_has_the_time_from_directly_before_it_left(void) {
    set_up();
    fill((int[COUNT]){1, 1, 1, 1, 1, 1, 1, 1});
    close_socket(senders[2]);
    uint64_t before = os_clock_ns();
    iblbw_send_datagrams(datagrams, COUNT, payloads);
    for (int i = 0; i < COUNT; i++) {
        CHECK_ROW(i, datagrams[i].sent >= before);
        before = datagrams[i].sent;
    }
    CHECK(before <= os_clock_ns());
    tear_down();
}

static void of_none_nothing_leaves(void) {
    CHECK_SAME(iblbw_send_datagrams(datagrams, 0, payloads), 0);
}

static const struct test tests[] = {
    {"each leaves through its own socket for its own place", each_leaves_through_its_own_socket_for_its_own_place},
    {"one that fails keeps none of the others", one_that_fails_keeps_none_of_the_others},
    {"each has the time from directly before it left", each_has_the_time_from_directly_before_it_left},
    {"of none nothing leaves", of_none_nothing_leaves},
};

int main(void) {
    return run_tests(tests, ROWS(tests));
}
