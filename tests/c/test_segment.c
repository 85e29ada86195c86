/* test_segment.c: segments made, adopted, refused and replaced; the worker's lock and epoch. */
#include "rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static char path[PATH_BYTES];
static struct problem problem;

static const char *path_of(const char *name) {
    snprintf(path, sizeof path, "%s/%s", getenv("IBLBRIDGE_DIR"), name);
    return path;
}

static int holds_text(const char *text, const char *part) {
    return strstr(text, part) != NULL;
}

static int serve_again(void) {
    return iblbw_open(rig, 4, RING_BYTES, RING_BYTES, RING_BYTES, &worker);
}

static void a_new_segment_is_empty_and_as_large_as_was_asked(void) {
    start_sized(3, 32768, 16384);
    CHECK(eye.sizes.slots == 3 && eye.sizes.command_bytes == 32768 && eye.sizes.response_bytes == 16384);
    CHECK_SAME(os_size(eye.file), SLOTS_OFFSET + 3 * (SLOT_HEADER_BYTES + 32768 + 16384 + RING_BYTES));
    CHECK_SAME(iblbw_epoch(worker), 1);
    CHECK(iblbw_segment_id(worker) == eye.id && eye.id != 0);
    CHECK_SAME(iblbw_largest_response(worker), 16384 / 4 - sizeof(struct response_record));
    for (uint32_t i = 0; i < 3; i++)
        CHECK_SAME(slot_state(i), SLOT_FREE);
    stop();
}

static void sizes_of_0_are_the_defaults(void) {
    start_sized(0, 0, 0);
    CHECK(eye.sizes.slots == DEFAULT_SLOTS && eye.sizes.command_bytes == 256 * 1024 && eye.sizes.response_bytes == 512 * 1024);
    stop();
}

static void its_file_is_ours_alone_and_nothing_else_is_left_beside_it(void) {
    struct stat status;
    start();
    CHECK(stat(path_of(rig), &status) == 0 && (status.st_mode & 0777) == 0600);
    int files = 0;
    DIR *directory = opendir(getenv("IBLBRIDGE_DIR"));
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
        files += holds_text(entry->d_name, rig);
    closedir(directory);
    CHECK_SAME(files, 1);
    stop();
    CHECK(stat(path_of(rig), &status) != 0);
}

static void sizes_that_cannot_be_are_refused(void) {
    static const int rows[][4] = {{1, 0, 0, 0},     {65, 0, 0, 0},        {-1, 0, 0, 0}, {4, 16385, 0, 0},      {4, 8192, 0, 0},
                                  {4, 0, 12345, 0}, {4, 0, 0, 128 << 20}, {4, -1, 0, 0}, {4, 0, 0, -2147483647}};
    for (int row = 0; row < ROWS(rows); row++) {
        struct iblbw_worker *made = (void *)&made;
        CHECK_ROW(row, iblbw_open("sizes", rows[row][0], rows[row][1], rows[row][2], rows[row][3], &made) == IBLB_E_ARGUMENT && !made);
        CHECK_ROW(row, strlen(sentence(0)) > 20);
    }
}

static void names_are_checked_before_anything_is_made(void) {
    static const struct {
        const char *name;
        int code;
    } rows[] = {{"rig0", 0},           {"Rig_0.a-b", 0},        {"", IBLB_E_NAME},      {".rig", IBLB_E_NAME},  {"a/b", IBLB_E_NAME},
                {"..", IBLB_E_NAME},   {"/etc/x", IBLB_E_NAME}, {"rig 0", IBLB_E_NAME}, {"rig\n", IBLB_E_NAME}, {"r\xc3\xafg", IBLB_E_NAME},
                {"\xff", IBLB_E_NAME}, {"a\\b", IBLB_E_NAME}};
    char longest[NAME_BYTES + 1];
    for (int row = 0; row < ROWS(rows); row++) {
        CHECK_ROW(row, segment_check_name(rows[row].name, &problem) == rows[row].code);
        CHECK_ROW(row, rows[row].code == 0 || strlen(problem.text) > 20);
    }
    memset(longest, 'a', sizeof longest);
    longest[NAME_BYTES - 1] = '\0';
    CHECK_SAME(segment_check_name(longest, &problem), 0);
    longest[NAME_BYTES - 1] = 'a';
    longest[NAME_BYTES] = '\0';
    CHECK_SAME(segment_check_name(longest, &problem), IBLB_E_NAME);
}

static void a_missing_segment_is_said_with_the_path_that_was_searched(void) {
    struct segment segment;
    CHECK_SAME(segment_attach(&segment, "nothing-here", &problem), IBLB_E_NO_SEGMENT);
    CHECK(holds_text(problem.text, path_of("nothing-here")));
    int handle = 7;
    CHECK_SAME(iblb_open("nothing-here", "a", 20, &handle), IBLB_E_NO_SEGMENT);
    CHECK(handle == 0 && holds_text(sentence(0), path));
}

/* --- damage: each field of the header that somebody judges --- */

static const struct damage {
    const char *what;
    size_t offset;
    uint64_t value;
    int bytes;
    int code;
} damages[] = {
    {"magic", 0, 0x4142434445464748, 8, IBLB_E_SEGMENT},
    {"version", offsetof(struct segment_header, layout_version), 7, 4, IBLB_E_VERSION},
    {"state 0", offsetof(struct segment_header, state), 0, 4, IBLB_E_SEGMENT},
    {"state 77", offsetof(struct segment_header, state), 77, 4, IBLB_E_SEGMENT},
    {"replaced", offsetof(struct segment_header, state), SEGMENT_REPLACED, 4, IBLB_E_STALE},
    {"lock base", offsetof(struct segment_header, lock_base), 4096, 8, IBLB_E_SEGMENT},
    {"too large", offsetof(struct segment_header, segment_bytes), UINT64_C(1) << 62, 8, IBLB_E_SEGMENT},
    {"too small", offsetof(struct segment_header, segment_bytes), 4096, 8, IBLB_E_SEGMENT},
    {"no slots", offsetof(struct segment_header, slots), 0, 4, IBLB_E_SEGMENT},
    {"slots", offsetof(struct segment_header, slots), 0xffffffff, 4, IBLB_E_SEGMENT},
    {"one slot more", offsetof(struct segment_header, slots), 5, 4, IBLB_E_SEGMENT},
    {"command ring", offsetof(struct segment_header, command_bytes), 16385, 4, IBLB_E_SEGMENT},
    {"command ring 0", offsetof(struct segment_header, command_bytes), 0, 4, IBLB_E_SEGMENT},
    {"response ring", offsetof(struct segment_header, response_bytes), 0x80000000, 4, IBLB_E_SEGMENT},
    {"event ring", offsetof(struct segment_header, event_bytes), 32768, 4, IBLB_E_SEGMENT},
    {"mechanism", offsetof(struct segment_header, wait_mechanism), 9, 4, IBLB_E_SEGMENT},
    {"boot", offsetof(struct segment_header, boot_id), 0x3030303030303030, 8, IBLB_E_STALE},
};

static void damaged_headers_are_refused_by_clients_and_replaced_by_the_worker(void) {
    for (int row = 0; row < ROWS(damages); row++) {
        struct segment segment;
        char why[1024] = "";
        int handle, old;
        start();
        old = open_client("old");
        int left_behind = send_start(old);
        unsigned long long id = eye.id;
        iblbw_close(worker, 0);
        memcpy((char *)eye.header + damages[row].offset, &damages[row].value, (size_t)damages[row].bytes);
        CHECK_ROW(row, segment_attach(&segment, rig, &problem) == damages[row].code && strlen(problem.text) > 20);
        CHECK_ROW(row, iblb_open(rig, "new", 0, &handle) == damages[row].code && handle == 0);
        CHECK_ROW(row, serve_again() == 0);
        iblbw_replaced(worker, why, sizeof why);
        CHECK_ROW(row, strlen(why) > 20 && iblbw_segment_id(worker) != id);
        CHECK_ROW(row, take() == 0); /* nothing of the old one is dispatched */
        CHECK_ROW(row, iblb_wait(old, left_behind, 0, NULL, 0, NULL) == IBLB_E_STALE);
        CHECK_ROW(row, iblb_open(rig, "new", 0, &handle) == 0);
        CHECK_ROW(row, iblb_close(handle) == 0 && iblb_close(old) == 0);
        stop();
    }
}

static void a_version_mismatch_names_both(void) {
    struct segment segment;
    start();
    eye.header->layout_version = 4711;
    CHECK_SAME(segment_attach(&segment, rig, &problem), IBLB_E_VERSION);
    CHECK(holds_text(problem.text, "4711") && holds_text(problem.text, "layout 1"));
    eye.header->layout_version = LAYOUT_VERSION;
    stop();
}

static void files_that_are_no_segment_are_refused_and_replaced(void) {
    static const int sizes[] = {0, 1, 255, 256, 4096, 100000};
    for (int row = 0; row < ROWS(sizes); row++) {
        struct segment segment;
        struct problem where;
        snprintf(rig, sizeof rig, "no-segment-%d", row);
        int file = open(path_of(rig), O_RDWR | O_CREAT | O_EXCL, 0600);
        CHECK_ROW(row, ftruncate(file, sizes[row]) == 0);
        CHECK_ROW(row, sizes[row] == 0 || pwrite(file, "IBLBRIDG", 8, 0) == 8);
        CHECK_ROW(row, segment_attach(&segment, rig, &where) < 0 && strlen(where.text) > 20);
        CHECK_ROW(row, serve_again() == 0);
        close(file);
        iblbw_close(worker, 1);
    }
}

static void links_and_files_that_others_can_write_are_refused(void) {
    struct segment segment;
    char target[PATH_BYTES];
    start();
    snprintf(target, sizeof target, "%s", path_of(rig));
    CHECK(symlink(target, path_of("a-link")) == 0);
    CHECK_SAME(segment_attach(&segment, "a-link", &problem), IBLB_E_PERMISSION);
    unlink(path_of("a-link"));
    CHECK(chmod(path_of(rig), 0666) == 0);
    CHECK_SAME(segment_attach(&segment, rig, &problem), IBLB_E_PERMISSION);
    CHECK(holds_text(problem.text, target));
    stop();
}

static void a_directory_that_others_can_write_or_that_is_a_link_is_refused(void) {
    char good[PATH_BYTES], shared[PATH_BYTES + 16], link[PATH_BYTES + 16];
    struct segment segment;
    snprintf(good, sizeof good, "%s", getenv("IBLBRIDGE_DIR"));
    snprintf(shared, sizeof shared, "%s/shared", good);
    snprintf(link, sizeof link, "%s/link", good);
    CHECK(mkdir(shared, 0700) == 0 && chmod(shared, 0777) == 0 && symlink(shared, link) == 0);
    setenv("IBLBRIDGE_DIR", shared, 1);
    CHECK_SAME(segment_attach(&segment, "x", &problem), IBLB_E_PERMISSION);
    CHECK_SAME(iblbw_open("x", 0, 0, 0, 0, &worker), IBLB_E_PERMISSION);
    setenv("IBLBRIDGE_DIR", link, 1);
    CHECK_SAME(segment_attach(&segment, "x", &problem), IBLB_E_PERMISSION);
    setenv("IBLBRIDGE_DIR", good, 1);
    unlink(link);
    rmdir(shared);
}

static void a_directory_that_is_missing_is_made_by_the_worker_only(void) {
    char good[PATH_BYTES], missing[PATH_BYTES + 16];
    struct segment segment;
    snprintf(good, sizeof good, "%s", getenv("IBLBRIDGE_DIR"));
    snprintf(missing, sizeof missing, "%s/missing", good);
    setenv("IBLBRIDGE_DIR", missing, 1);
    CHECK_SAME(segment_attach(&segment, "x", &problem), IBLB_E_NO_SEGMENT);
    CHECK_SAME(iblbw_open("x", 2, RING_BYTES, RING_BYTES, RING_BYTES, &worker), 0);
    CHECK_SAME(segment_attach(&segment, "x", &problem), 0);
    segment_close(&segment, 0);
    iblbw_close(worker, 1);
    setenv("IBLBRIDGE_DIR", good, 1);
    CHECK(rmdir(missing) == 0);
}

/* --- the worker --- */

static void a_second_worker_is_refused_naming_the_first(void) {
    struct iblbw_worker *second = (void *)&second;
    char pid[32];
    start();
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, &second), IBLB_E_WORKER_BUSY);
    CHECK(!second && holds_text(sentence(0), pid));
    CHECK_SAME(load32_relaxed(&eye.header->epoch), 1);
    stop();
}

static void refused_in_a_child(void) {
    struct iblbw_worker *second;
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, &second), IBLB_E_WORKER_BUSY);
    CHECK_SAME(take(), IBLB_E_FORKED);
    CHECK_SAME(iblbw_services_up(worker, 1), IBLB_E_FORKED);
    iblbw_close(worker, 1); /* must not remove the parent's segment */
}

static void a_child_of_the_worker_is_neither_it_nor_its_heir(void) {
    start();
    child_was_right(in_child(refused_in_a_child));
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
    stop();
}

static void hold_still(void) {
    for (;;)
        pause();
}

static void the_workers_lock_does_not_survive_in_a_child(void) {
    start();
    pid_t child = in_child(hold_still);
    iblbw_close(worker, 0);
    EVENTUALLY(serve_again() == 0); /* the child lets go as its first act, whenever it is scheduled */
    CHECK_SAME(iblbw_epoch(worker), 2);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    stop();
}

static void each_new_worker_adopts_the_segment_with_its_sizes_and_a_new_epoch(void) {
    char why[64] = "x";
    start();
    unsigned long long id = iblbw_segment_id(worker);
    for (int epoch = 2; epoch < 6; epoch++) {
        iblbw_close(worker, 0);
        CHECK_SAME(iblbw_open(rig, 16, 65536, 65536, 65536, &worker), 0);
        CHECK_SAME(iblbw_epoch(worker), epoch);
        CHECK(iblbw_segment_id(worker) == id);
        CHECK_SAME(iblbw_largest_response(worker), RING_BYTES / 4 - sizeof(struct response_record));
        CHECK(iblbw_replaced(worker, why, sizeof why) == 0 && !*why);
    }
    stop();
}

static void a_worker_of_an_older_epoch_does_nothing_any_more(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(take(), 1);
    struct iblbw_command command = commands[0];
    add32(&eye.header->epoch, 1); /* as a new worker does it */
    CHECK_SAME(iblbw_accept(worker, &command), IBLB_E_SUPERSEDED);
    CHECK_SAME(respond(&command, 0), IBLB_E_SUPERSEDED);
    CHECK_SAME(take(), IBLB_E_SUPERSEDED);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), IBLB_E_TIMEOUT);
    iblb_close(handle);
    segment_close(&eye, 0);
    iblbw_close(worker, 1);
    CHECK(access(path_of(rig), F_OK) == 0); /* it is not its to remove */
    CHECK_SAME(serve_again(), 0);
    CHECK_SAME(take(), 1);
    iblbw_close(worker, 1);
}

static void clients_of_a_removed_segment_are_told_so_at_once(void) {
    int alive = 5, handle, request;
    start();
    handle = open_client("a");
    request = send_start(handle);
    stop();
    CHECK_SAME(iblb_wait(handle, request, LONG_MS, NULL, 0, NULL), IBLB_E_STALE);
    CHECK_SAME(iblb_send(handle, NULL, IBLB_PING, NULL, 0, &request), IBLB_E_STALE);
    CHECK_SAME(iblb_worker_state(handle, &alive, NULL, NULL), IBLB_E_STALE);
    CHECK_SAME(alive, 0);
    CHECK(strlen(sentence(handle)) > 10);
    CHECK_SAME(iblb_close(handle), 0);
}

static void a_segment_whose_file_was_deleted_is_stale_once_its_worker_is_gone(void) {
    start();
    int handle = open_client("a"), request = send_start(handle);
    unlink(path_of(rig));
    segment_close(&eye, 0);
    iblbw_close(worker, 0);
    CHECK_SAME(iblb_wait(handle, request, LONG_MS, NULL, 0, NULL), IBLB_E_STALE);
    CHECK_SAME(iblb_close(handle), 0);
}

static void services_are_published_whole_or_not_at_all(void) {
    char names[140 * 8] = "", longest[SERVICE_NAME_BYTES + 2];
    int alive, services, up, handle;
    start();
    handle = open_client("a");
    for (int i = 0; i < 129; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "s%d\n", i);
    CHECK_SAME(iblbw_services(worker, names), IBLB_E_ARGUMENT);
    *strstr(names, "s128") = '\0';
    CHECK_SAME(iblbw_services(worker, names), 0);
    CHECK_SAME(iblbw_services_up(worker, 127), 0);
    CHECK_SAME(iblb_worker_state(handle, &alive, &services, &up), 0);
    CHECK(alive == 1 && services == 128 && up == 127);
    memset(longest, 'n', sizeof longest);
    longest[SERVICE_NAME_BYTES] = '\0';
    CHECK_SAME(iblbw_services(worker, longest), IBLB_E_ARGUMENT);
    CHECK_SAME(iblbw_services(worker, "a\n\nb"), IBLB_E_ARGUMENT);
    CHECK_SAME(iblb_worker_state(handle, &alive, &services, &up), 0);
    CHECK_SAME(services, 128);
    longest[SERVICE_NAME_BYTES - 1] = '\0';
    CHECK_SAME(iblbw_services(worker, longest), 0);
    CHECK_SAME(iblb_notify(handle, longest, IBLB_PING, NULL, 0), 0);
    CHECK_SAME(iblb_notify(handle, "s127", IBLB_PING, NULL, 0), IBLB_E_SERVICE);
    CHECK_SAME(iblbw_services(worker, ""), 0);
    CHECK_SAME(iblb_worker_state(handle, NULL, &services, NULL), 0);
    CHECK_SAME(services, 0);
    iblb_close(handle);
    stop();
}

static const struct test tests[] = {
    {"a new segment is empty and as large as was asked", a_new_segment_is_empty_and_as_large_as_was_asked},
    {"sizes of 0 are the defaults", sizes_of_0_are_the_defaults},
    {"its file is ours alone and nothing else is left beside it", its_file_is_ours_alone_and_nothing_else_is_left_beside_it},
    {"sizes that cannot be are refused", sizes_that_cannot_be_are_refused},
    {"names are checked before anything is made", names_are_checked_before_anything_is_made},
    {"a missing segment is said with the path that was searched", a_missing_segment_is_said_with_the_path_that_was_searched},
    {"damaged headers are refused by clients and replaced by the worker",
     damaged_headers_are_refused_by_clients_and_replaced_by_the_worker},
    {"a version mismatch names both", a_version_mismatch_names_both},
    {"files that are no segment are refused and replaced", files_that_are_no_segment_are_refused_and_replaced},
    {"links and files that others can write are refused", links_and_files_that_others_can_write_are_refused},
    {"a directory that others can write, or that is a link, is refused", a_directory_that_others_can_write_or_that_is_a_link_is_refused},
    {"a directory that is missing is made by the worker only", a_directory_that_is_missing_is_made_by_the_worker_only},
    {"a second worker is refused, naming the first", a_second_worker_is_refused_naming_the_first},
    {"a child of the worker is neither it nor its heir", a_child_of_the_worker_is_neither_it_nor_its_heir},
    {"the worker's lock does not survive in a child", the_workers_lock_does_not_survive_in_a_child},
    {"each new worker adopts the segment with its sizes and a new epoch",
     each_new_worker_adopts_the_segment_with_its_sizes_and_a_new_epoch},
    {"a worker of an older epoch does nothing any more", a_worker_of_an_older_epoch_does_nothing_any_more},
    {"clients of a removed segment are told so at once", clients_of_a_removed_segment_are_told_so_at_once},
    {"a segment whose file was deleted is stale once its worker is gone",
     a_segment_whose_file_was_deleted_is_stale_once_its_worker_is_gone},
    {"services are published whole or not at all", services_are_published_whole_or_not_at_all},
};

int main(void) {
    return run_rig_tests(tests, ROWS(tests));
}
