/* coverage_gaps.c: what a segment does when the operating system says no, with an operating system in memory that can be told to
 * (os_memory.c). tests/c/test_coverage.py builds and runs it.
 */
#include "check.h"
#include "os_memory.h"

#include <string.h>

#include "include/iblbridge_worker.h"
#include "segment.h"

static struct segment_sizes sizes = {2, MIN_RING_BYTES, MIN_RING_BYTES, MIN_RING_BYTES};
static struct segment segment;
static struct problem problem;
static char replaced[PROBLEM_BYTES];

static int serve(void) {
    return segment_serve(&segment, "rig", &sizes, replaced, &problem);
}

/* Serving fails with `code`, leaves no file behind, and works at the next attempt. */
static void fails_once(int code) {
    CHECK_SAME(serve(), code);
    CHECK(memory_file("/memory/rig", NULL) == NULL);
    CHECK(problem.text[0] != '\0');
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 1);
}

static void no_room(void) {
    memory_reset();
    memory_faults.create = 1;
    fails_once(IBLB_E_MEMORY);
}

static void no_map(void) {
    memory_reset();
    memory_faults.map = 1;
    fails_once(IBLB_E_MEMORY);
}

static void no_locks(void) {
    memory_reset();
    memory_faults.lock = 1;
    fails_once(IBLB_E_SYSTEM);
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 0);
    memory_faults.lock = 1; /* now one is there, to be adopted */
    CHECK_SAME(serve(), IBLB_E_SYSTEM);
    CHECK(strstr(problem.text, "does not lock files"));
}

static void no_link(void) {
    memory_reset();
    memory_faults.publish_fails = 1;
    fails_once(IBLB_E_SYSTEM);
}

static void no_open(void) {
    memory_reset();
    memory_faults.open = 1;
    fails_once(IBLB_E_SYSTEM);
}

static void somebody_was_faster(void) {
    memory_reset();
    memory_faults.publish_late = 1;
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 1);
    memory_faults.held = 1; /* the half-made one is locked by who thinks it a leftover */
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 1);
}

static void somebody_replaces_it(void) {
    memory_reset();
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 0);
    memory_faults.same_open = 1;
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 0);
    memory_faults.same_file = 1;
    CHECK_SAME(serve(), IBLB_OK);
    struct segment client;
    memory_faults.same_open = 1;
    CHECK_SAME(segment_attach(&client, "rig", &problem), IBLB_E_STALE);
    segment_close(&segment, 1);
}

static void another_boot(void) {
    memory_reset();
    CHECK_SAME(serve(), IBLB_OK);
    uint64_t id = segment.id;
    segment_close(&segment, 0);
    memory_boot[0] = 'A';
    struct segment client;
    CHECK_SAME(segment_attach(&client, "rig", &problem), IBLB_E_STALE);
    CHECK_SAME(serve(), IBLB_OK);
    CHECK(segment.id != id && strstr(replaced, "boot"));
    segment_close(&segment, 1);
}

static void held_by_another_program(void) {
    memory_reset();
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 0);
    memory_boot[0] = 'A';
    memory_faults.unlink = 1;
    CHECK_SAME(serve(), IBLB_E_SYSTEM);
    CHECK(strstr(problem.text, "another program keeps it open"));
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 1);
}

static void unreadable(void) {
    memory_reset();
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 0);
    memory_faults.read = 1;
    CHECK_SAME(serve(), IBLB_OK); /* made anew */
    CHECK(strstr(replaced, "not a segment"));
    segment_close(&segment, 0);
    memory_faults.held = 1;
    memory_faults.read = 1;
    CHECK_SAME(serve(), IBLB_E_WORKER_BUSY); /* also if not even the other's pid can be read */
}

/* Every attempt meets a file that was just replaced: it ends, and says so. */
static void for_ever(void) {
    memory_reset();
    CHECK_SAME(serve(), IBLB_OK);
    segment_close(&segment, 0);
    memory_faults.same_file = -1;
    CHECK_SAME(serve(), IBLB_E_SYSTEM);
    CHECK(strstr(problem.text, "again and again"));
    memory_faults.same_file = 0;
}

static void states(void) {
    memory_reset();
    CHECK_SAME(serve(), IBLB_OK);
    struct segment client;
    store32_release(&segment.header->state, 77);
    CHECK_SAME(segment_attach(&client, "rig", &problem), IBLB_E_SEGMENT);
    store32_release(&segment.header->state, SEGMENT_REPLACED);
    CHECK_SAME(segment_attach(&client, "rig", &problem), IBLB_E_STALE);
    store32_release(&segment.header->state, SEGMENT_READY);
    memory_faults.map = 1;
    CHECK_SAME(segment_attach(&client, "rig", &problem), IBLB_E_MEMORY);
    segment_close(&segment, 1);
}

static const struct test tests[] = {
    {"no room for a segment is said, and nothing is left", no_room},
    {"a file that cannot be mapped is said, and nothing is left", no_map},
    {"a file system without locks is said, for a new segment and for one that is there", no_locks},
    {"a file that cannot be linked into place is said, and nothing is left", no_link},
    {"a file that cannot be opened is said", no_open},
    {"a worker that finds somebody faster looks again", somebody_was_faster},
    {"a file that is replaced between two looks is looked at again by the worker and is stale for a client", somebody_replaces_it},
    {"a segment of another boot is refused by clients and replaced by the worker", another_boot},
    {"a segment of no use that another program keeps is named", held_by_another_program},
    {"a segment whose header cannot be read is replaced", unreadable},
    {"a worker gives up when the file is replaced at every attempt", for_ever},
    {"a segment in no known state, a retired one and one without memory are refused", states},
};

int main(void) {
    return run_tests(tests, ROWS(tests));
}
