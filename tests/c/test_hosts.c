/* test_hosts.c: what the program around us may do with itself: how it was started, how its threads end, how it ends. */
#include "rig.h"

/* --- standard descriptors --- */

static _Atomic int printing;

static void *print(void *unused) {
    (void)unused;
    while (printing) {
        printf("this goes nowhere\n");
        fprintf(stderr, "nor does this\n");
        fflush(stdout);
    }
    return NULL;
}

static int segment_is_whole(const struct segment *segment) {
    struct segment_header header;
    struct problem problem;
    return segment_judge(segment->file, segment->path, &header, &problem) == 0;
}

static void play_without_streams(void) {
    struct problem problem;
    struct iblbw_worker *own;
    pthread_t thread;
    char name[80];
    close_standard_streams();
    printing = 1;
    CHECK(pthread_create(&thread, NULL, print, NULL) == 0);
    snprintf(name, sizeof name, "%s-2", rig);
    CHECK(segment_attach(&eye, rig, &problem) == 0);
    for (int turn = 0; turn < 200; turn++) {
        int handle = 0;
        CHECK(iblb_open(rig, "a", LONG_MS, &handle) == 0 && iblb_notify(handle, NULL, IBLB_PING, NULL, 0) == 0);
        CHECK_SAME(iblbw_open(name, 2, RING_BYTES, RING_BYTES, RING_BYTES, &own), 0);
        CHECK(segment_is_whole(&eye));
        iblbw_close(own, 1);
    }
    printing = 0;
    pthread_join(thread, NULL);
}

static void a_program_without_standard_descriptors_prints_into_no_segment(void) {
    start();
    start_server();
    struct child child = in_role("without streams");
    child_was_right(&child);
    CHECK(segment_is_whole(&eye));
    stop_server();
    stop();
}

/* --- ends --- */

static void play_closer(void) {
    int handle = open_client("closes");
    send_start(handle);
    CHECK_SAME(iblb_close(handle), 0);
}

static void play_leaver(void) {
    send_start(open_client("leaves"));
    exit(0);
}

static void play_returner(void) { /* as a program that loads the library again finds what it had forgotten */
    open_client("returns");
    CHECK_SAME(iblb_close(open_client("returns")), 0);
}

static void play_abandoner(void) {
    int handle = open_client("abandons");
    CHECK_SAME(iblbw_abandon(handle), 0);
    CHECK_SAME(iblbw_abandon(handle), IBLB_E_HANDLE);
    CHECK_SAME(iblb_close(handle), IBLB_E_HANDLE);
    open_client("is told of after the one before"); /* so that this test knows that nothing more is to come */
    exit(0);
}

/* The names of the lost, in the order in which they are found, until one is `last`. */
static const char *lost_until(const char *last) {
    static char all[256];
    char name[64];
    uint64_t until = os_clock_ns() + PATIENCE_NS;
    all[0] = '\0';
    while (os_clock_ns() < until) {
        serve_all();
        while (iblbw_lost_client(worker, name, sizeof name)) {
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s;", name);
            if (strcmp(name, last) == 0)
                return all;
        }
        os_sleep_ns(MS);
    }
    return "nobody in time";
}

static void a_client_whose_program_ends_without_closing_it_is_lost(void) {
    static const char *const plays[] = {"closer", "leaver", "returner", "abandoner"};
    start_sized(10, RING_BYTES, RING_BYTES);
    for (int i = 0; i < ROWS(plays); i++) {
        struct child child = in_role(plays[i]);
        child_was_right(&child);
    }
    const char *lost = lost_until("is told of after the one before");
    if (!CHECK(strcmp(lost, "leaves;abandons;is told of after the one before;") == 0))
        printf("        lost: %s\n", lost);
    for (uint32_t i = 0; i < 10; i++)
        EVENTUALLY(slot_state(i) == SLOT_FREE);
    stop();
}

static const struct test tests[] = {
    {"a program without standard descriptors prints into no segment", a_program_without_standard_descriptors_prints_into_no_segment,
     NOT_ON_WINDOWS("a handle of a file is no stream there")},
    {"a client whose program ends without closing it is lost", a_client_whose_program_ends_without_closing_it_is_lost},
};

static const struct role roles[] = {{"without streams", play_without_streams},
                                    {"closer", play_closer},
                                    {"leaver", play_leaver},
                                    {"returner", play_returner},
                                    {"abandoner", play_abandoner},
                                    {0}};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), roles);
}
