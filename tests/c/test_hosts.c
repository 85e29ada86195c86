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
        CHECK(iblb_open(rig, "a", 0, &handle) == 0 && iblb_notify(handle, NULL, IBLB_PING, NULL, 0) == 0);
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

static const struct test tests[] = {
    {"a program without standard descriptors prints into no segment", a_program_without_standard_descriptors_prints_into_no_segment,
     NOT_ON_WINDOWS("a handle of a file is no stream there")},
};

static const struct role roles[] = {{"without streams", play_without_streams}, {0}};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), roles);
}
