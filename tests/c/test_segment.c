/* test_segment.c: segments made, adopted, refused and replaced; the worker's lock and epoch. */
#include "rig.h"

static char path[SYSTEM_PATH];
static struct problem problem;

static const char *path_of(const char *name) {
    CHECK_SAME(os_segment_path(name, 0, path, &problem), 0);
    return path;
}

static int holds_text(const char *text, const char *part) {
    return strstr(text, part) != NULL;
}

static int serve_again(void) {
    return iblbw_open(rig, 4, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker);
}

/* The file that was given another name, if the worker says so; returns whether it was there. */
static int aside(const char *said, char kept[PATH_BYTES]) {
    static const char is_now[] = "that file is now ";
    const char *found = strstr(said, is_now);
    snprintf(kept, PATH_BYTES, "%s", found ? found + strlen(is_now) : "");
    kept[found ? strlen(kept) - 1 : 0] = '\0'; /* the full stop */
    return found != NULL;
}

static void remove_aside(const char *said) {
    char kept[PATH_BYTES];
    if (aside(said, kept))
        remove_file(kept);
}

static void a_new_segment_is_empty_and_as_large_as_was_asked(void) {
    start_sized(3, 32768, 16384);
    CHECK(eye.sizes.slots == 3 && eye.sizes.command_bytes == 32768 && eye.sizes.response_bytes == 16384);
    CHECK_SAME(os_size(eye.file), SLOTS_OFFSET + 3 * (SLOT_HEADER_BYTES + 32768 + 16384 + 2 * RING_BYTES));
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

static void count_if_ours(const char *file, void *count) {
    *(int *)count += holds_text(file, rig);
}

static void its_file_is_ours_alone_and_nothing_else_is_left_beside_it(void) {
    char directory[PATH_BYTES];
    int files = 0;
    start();
    CHECK(is_for_us_alone(path_of(rig)));
    CHECK_SAME(os_directory(directory, &problem), 0);
    os_for_each_file(directory, count_if_ours, &files);
    CHECK_SAME(files, 1);
    stop();
    CHECK(!file_exists(path_of(rig)));
}

static void sizes_that_cannot_be_are_refused(void) {
    static const int rows[][5] = {{1},
                                  {65},
                                  {-1},
                                  {4, 16385},
                                  {4, 8192},
                                  {4, 0, 12345},
                                  {4, 0, 0, 128 << 20},
                                  {4, -1},
                                  {4, 0, 0, -2147483647},
                                  {4, 0, 0, 0, 8192},
                                  {4, 0, 0, 0, 24576},
                                  {4, 0, 0, 0, -1}};
    for (int row = 0; row < ROWS(rows); row++) {
        struct iblbw_worker *made = (void *)&made;
        CHECK_ROW(row,
                  iblbw_open("sizes", rows[row][0], rows[row][1], rows[row][2], rows[row][3], rows[row][4], &made) == IBLB_E_ARGUMENT &&
                      !made);
        CHECK_ROW(row, strlen(sentence(0)) > 20);
    }
}

static void names_are_checked_before_anything_is_made(void) {
    static const struct {
        const char *name;
        int code;
    } rows[] = {{"rig0", 0},
                {"Rig_0.a-b", 0},
                {"", IBLB_E_NAME},
                {".rig", IBLB_E_NAME},
                {"a/b", IBLB_E_NAME},
                {"..", IBLB_E_NAME},
                {"/etc/x", IBLB_E_NAME},
                {"rig 0", IBLB_E_NAME},
                {"rig\n", IBLB_E_NAME},
                {"r\xc3\xafg", IBLB_E_NAME},
                {"\xff", IBLB_E_NAME},
                {"a\\b", IBLB_E_NAME},
                /* Windows knows a device of this name in every folder, and leaves out a dot at the end */
                {"con", IBLB_E_NAME},
                {"Nul", IBLB_E_NAME},
                {"AUX", IBLB_E_NAME},
                {"prn", IBLB_E_NAME},
                {"com1", IBLB_E_NAME},
                {"LPT9", IBLB_E_NAME},
                {"con.rig", IBLB_E_NAME},
                {"nul.tar.gz", IBLB_E_NAME},
                {"rig.", IBLB_E_NAME},
                {"com", 0},
                {"com10", 0},
                {"con-1", 0},
                {"conin", 0},
                {"rig.con", 0}};
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
        remove_aside(why);
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
    CHECK(holds_text(problem.text, "4711") && holds_text(problem.text, "layout 2"));
    eye.header->layout_version = LAYOUT_VERSION;
    stop();
}

/* Begins with a text, and is filled up with zeroes. */
static void make_file(const char *name, const char *text, int bytes) {
    FILE *file = fopen(name, "wb");
    if (!CHECK(file != NULL))
        return;
    int length = (int)strlen(text);
    fwrite(text, 1, (size_t)(bytes < length ? bytes : length), file);
    for (int i = length; i < bytes; i++)
        fputc(0, file);
    CHECK(fclose(file) == 0);
}

static int kept_aside;
static void count_kept(const char *file, void *context) {
    const char *name = context;
    kept_aside += strncmp(file, name, strlen(name)) == 0 && strncmp(file + strlen(name), ".foreign-", 9) == 0;
}

static void files_of_somebody_else_are_refused_and_kept_under_another_name(void) {
    static const int sizes[] = {1, 7, 8, 255, 256, 4096, 100000};
    for (int row = 0; row < ROWS(sizes); row++) {
        struct segment segment;
        struct problem where;
        char said[1024];
        snprintf(rig, sizeof rig, "somebodys-%d", row);
        make_file(path_of(rig), "my notes", sizes[row]);
        CHECK_ROW(row, segment_attach(&segment, rig, &where) < 0 && holds_text(where.text, "not a segment"));
        CHECK_ROW(row, serve_again() == 0);
        iblbw_replaced(worker, said, sizeof said);
        char kept[PATH_BYTES];
        int found = aside(said, kept);
        CHECK_ROW(row, found);
        if (found) {
            char text[8];
            os_file file;
            CHECK_ROW(row, os_open(kept, &file, &where) == 0 && os_size(file) == (uint64_t)sizes[row]);
            CHECK_ROW(row, os_read(file, 0, text, sizes[row] < 8 ? 1 : 8) == 0 && memcmp(text, "my notes", sizes[row] < 8 ? 1 : 8) == 0);
            os_close(file);
        }
        iblbw_close(worker, 0);
        CHECK_ROW(row, serve_again() == 0); /* and no worker that comes later sweeps it away */
        iblbw_close(worker, 1);
        kept_aside = 0;
        os_for_each_file(variable("IBLBRIDGE_DIR"), count_kept, rig);
        CHECK_ROW(row, kept_aside == 1);
        remove_file(kept);
    }
}

static void damaged_segments_are_refused_and_replaced(void) {
    static const int sizes[] = {0, 8, 255, 256, 4096, 100000};
    for (int row = 0; row < ROWS(sizes); row++) {
        struct segment segment;
        struct problem where;
        snprintf(rig, sizeof rig, "damaged-%d", row);
        make_file(path_of(rig), "IBLBRIDG", sizes[row]);
        CHECK_ROW(row, segment_attach(&segment, rig, &where) < 0 && strlen(where.text) > 20);
        CHECK_ROW(row, serve_again() == 0);
        iblbw_close(worker, 1);
    }
}

static void a_link_to_a_segment_is_refused(void) {
    struct segment segment;
    char target[PATH_BYTES];
    start();
    snprintf(target, sizeof target, "%s", path_of(rig));
    CHECK(make_link(target, path_of("a-link")) == 0);
    CHECK_SAME(segment_attach(&segment, "a-link", &problem), IBLB_E_PERMISSION);
    remove_file(path_of("a-link"));
    stop();
}

static void a_file_that_others_can_write_is_refused(void) {
    struct segment segment;
    start();
    CHECK(let_everybody_write(path_of(rig)) == 0);
    CHECK_SAME(segment_attach(&segment, rig, &problem), IBLB_E_PERMISSION);
    CHECK(holds_text(problem.text, path_of(rig)));
    stop();
}

/* --- the directory: for as long as a test lasts another one, in the one of all tests --- */

static char usual[SYSTEM_PATH], other[SYSTEM_PATH];

static const char *go_into(const char *name) {
    snprintf(usual, sizeof usual, "%s", variable("IBLBRIDGE_DIR"));
    snprintf(other, sizeof other, "%.500s/%.500s", usual, name);
    set_variable("IBLBRIDGE_DIR", other);
    return other;
}

static void come_back(void) {
    set_variable("IBLBRIDGE_DIR", usual);
}

static void it_is_refused(const char *because) {
    struct segment segment;
    CHECK_SAME(segment_attach(&segment, "x", &problem), IBLB_E_PERMISSION);
    CHECK(holds_text(problem.text, because));
    CHECK_SAME(iblbw_open("x", 0, 0, 0, 0, 0, &worker), IBLB_E_PERMISSION);
    CHECK(holds_text(sentence(0), because));
}

static void a_directory_that_others_can_write_is_refused(void) {
    CHECK(make_directory(go_into("shared")) == 0 && let_everybody_write(other) == 0);
    it_is_refused("verybody can write");
    come_back();
    CHECK(remove_directory(other) == 0);
}

static void a_directory_that_is_a_link_is_refused(void) {
    char target[SYSTEM_PATH + 8];
    snprintf(target, sizeof target, "%s-target", go_into("link"));
    CHECK(make_directory(target) == 0 && make_link(target, other) == 0);
    it_is_refused("link");
    come_back();
    remove_file(other);
    remove_directory(target);
}

static void a_directory_that_is_missing_is_made_by_the_worker_only(void) {
    struct segment segment;
    go_into("missing");
    CHECK_SAME(segment_attach(&segment, "x", &problem), IBLB_E_NO_SEGMENT);
    CHECK_SAME(iblbw_open("x", 2, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker), 0);
    CHECK_SAME(segment_attach(&segment, "x", &problem), 0);
    segment_close(&segment, 0);
    iblbw_close(worker, 1);
    come_back();
    CHECK(remove_directory(other) == 0);
}

static void a_directory_in_onedrive_is_refused(void) {
    static const char *const names[] = {"OneDrive", "OneDrive - The Lab", "onedrive"};
    for (int row = 0; row < ROWS(names); row++) {
        go_into(names[row]);
        it_is_refused("OneDrive"); /* and not made */
        CHECK(make_directory(other) == 0);
        it_is_refused("OneDrive");
        come_back();
        CHECK(remove_directory(other) == 0);
    }
}

/* A rig lives in it, and another process finds it. */
static void it_serves(void) {
    if (!CHECK(iblbw_open("probe", 2, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker) == 0)) {
        printf("        %s\n", sentence(0));
        return;
    }
    iblbw_close(worker, 1);
    start();
    struct child child = in_role("client");
    child_says(&child, "sent");
    CHECK_SAME(serve_all(), 1);
    child_was_right(&child);
    stop();
}

static void play_client(void) {
    int handle = open_client("a"), request = send_start(handle);
    say("sent");
    CHECK_SAME(iblb_wait(handle, request, LONG_MS, NULL, 0, NULL), 0);
    CHECK_SAME(iblb_close(handle), 0);
}

static void a_directory_with_a_name_that_is_not_ascii_is_as_good_as_any(void) {
    CHECK(make_directory(go_into("Zo\xc3\xab")) == 0);
    char outer[SYSTEM_PATH], before[SYSTEM_PATH];
    snprintf(outer, sizeof outer, "%s", other);
    snprintf(before, sizeof before, "%s", usual);
    CHECK(make_directory(go_into("\xe6\x97\xa5\xe6\x9c\xac")) == 0);
    it_serves();
    struct segment segment;
    CHECK_SAME(segment_attach(&segment, "nothing-here", &problem), IBLB_E_NO_SEGMENT);
    CHECK(holds_text(problem.text, "Zo\xc3\xab") && holds_text(problem.text, "\xe6\x97\xa5\xe6\x9c\xac")); /* iblb_last_error: ASCII */
    CHECK(remove_directory(other) == 0 && remove_directory(outer) == 0);
    set_variable("IBLBRIDGE_DIR", before);
}

/* The limit of Windows is 260 characters, unless a path is written in a special way; ours is PATH_BYTES - 128. */
static void a_directory_with_a_long_path_is_as_good_as_any(void) {
    static const size_t lengths[] = {200, 230, 239, 240, 250, 259, 260, 300, PATH_BYTES - 128};
    char name[SYSTEM_PATH], outer[SYSTEM_PATH];
    for (int row = 0; row < ROWS(lengths); row++) {
        int before = wrong_checks;
        memset(name, 'd', sizeof name);
        size_t length = strlen(variable("IBLBRIDGE_DIR"));
        size_t more = lengths[row] > length + 2 ? lengths[row] - length - 1 : 2, half = more / 2; /* of a name 255 are allowed */
        name[half] = '\0';
        CHECK_ROW(row, make_directory(go_into(name)) == 0);
        snprintf(outer, sizeof outer, "%s", other);
        name[half] = '/';
        name[more] = '\0';
        come_back();
        CHECK_ROW(row, make_directory(go_into(name)) == 0);
        it_serves();
        come_back();
        CHECK(remove_directory(other) == 0 && remove_directory(outer) == 0);
        if (wrong_checks != before)
            printf("        in a directory of %d bytes\n", (int)strlen(other));
    }
}

static void a_directory_with_a_path_that_is_too_long_is_refused(void) {
    struct segment segment;
    char name[PATH_BYTES];
    memset(name, 'd', sizeof name);
    name[PATH_BYTES - 128] = '\0';
    go_into(name);
    CHECK_SAME(segment_attach(&segment, "x", &problem), IBLB_E_NAME);
    CHECK_SAME(iblbw_open("x", 0, 0, 0, 0, 0, &worker), IBLB_E_NAME);
    come_back();
}

/* --- the worker --- */

static void a_second_worker_is_refused_naming_the_first(void) {
    struct iblbw_worker *second = (void *)&second;
    char pid[32];
    start();
    snprintf(pid, sizeof pid, "process %u", (unsigned)os_pid());
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &second), IBLB_E_WORKER_BUSY);
    CHECK(!second && holds_text(sentence(0), pid));
    CHECK_SAME(load32_relaxed(&eye.header->epoch), 1);
    stop();
}

static void play_rival(void) {
    struct iblbw_worker *second;
    char pid[32];
    snprintf(pid, sizeof pid, "process %u ", (unsigned)parent);
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &second), IBLB_E_WORKER_BUSY);
    CHECK(!second && holds_text(sentence(0), pid));
}

static void a_second_worker_in_another_process_is_refused_naming_the_first(void) {
    start();
    struct child rival = in_role("rival");
    child_was_right(&rival);
    CHECK_SAME(load32_relaxed(&eye.header->epoch), 1);
    stop();
}

static void play_first(void) {
    CHECK_SAME(iblbw_open(rig, 2, RING_BYTES, RING_BYTES, RING_BYTES, RING_BYTES, &worker), 0);
    say("serves");
    hold_still();
}

static struct child a_worker_in_another_process(void) {
    static int made;
    snprintf(rig, sizeof rig, "first-%u-%d", (unsigned)os_pid(), made++);
    struct child first = in_role("first");
    child_says(&first, "serves");
    return first;
}

static void a_worker_that_is_stopped_is_not_replaced(void) {
    struct child first = a_worker_in_another_process();
    char pid[32];
    snprintf(pid, sizeof pid, "process %u ", (unsigned)first.pid);
    CHECK_SAME(child_stop(&first), 0);
    CHECK_SAME(serve_again(), IBLB_E_WORKER_BUSY);
    CHECK(holds_text(sentence(0), pid));
    CHECK_SAME(child_go_on(&first), 0);
    CHECK_SAME(serve_again(), IBLB_E_WORKER_BUSY);
    child_kill(&first);
    EVENTUALLY(serve_again() == 0);
    iblbw_close(worker, 1);
}

static void the_successor_of_a_killed_worker_serves_the_same_segment(void) {
    struct child first = a_worker_in_another_process();
    struct segment segment;
    CHECK_SAME(segment_attach(&segment, rig, &problem), 0);
    int handle = open_client("a"), request = send_start(handle);
    child_kill(&first);
    EVENTUALLY(serve_again() == 0);
    CHECK(iblbw_segment_id(worker) == segment.id && iblbw_epoch(worker) == 2);
    segment_close(&segment, 0);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
    iblbw_close(worker, 1);
}

static void play_idler(void) {
    hold_still();
}

static void the_workers_lock_does_not_survive_in_a_program_that_it_started(void) {
    start();
    struct child child = in_role("idler");
    iblbw_close(worker, 0);
    CHECK_SAME(serve_again(), 0);
    CHECK_SAME(iblbw_epoch(worker), 2);
    child_kill(&child);
    stop();
}

static void play_boot(void) {
    char id[40];
    os_boot_id(id);
    say(id);
}

static void this_boot_is_the_same_in_two_processes(void) {
    char id[40];
    os_boot_id(id);
    CHECK(strlen(id) > 20);
    struct child child = in_role("boot");
    child_says(&child, id);
    child_was_right(&child);
}

static void refused_in_a_child(void) {
    struct iblbw_worker *second;
    CHECK_SAME(iblbw_open(rig, 0, 0, 0, 0, 0, &second), IBLB_E_WORKER_BUSY);
    CHECK_SAME(take(), IBLB_E_FORKED);
    CHECK_SAME(iblbw_services_up(worker, 1), IBLB_E_FORKED);
    iblbw_close(worker, 1); /* must not remove the parent's segment */
}

static void a_child_of_the_worker_is_neither_it_nor_its_heir(void) {
    start();
    struct child child = in_fork(refused_in_a_child);
    child_was_right(&child);
    int handle = open_client("a"), request = send_start(handle);
    CHECK_SAME(serve_all(), 1);
    CHECK_SAME(iblb_wait(handle, request, 0, NULL, 0, NULL), 0);
    iblb_close(handle);
    stop();
}

static void the_workers_lock_does_not_survive_in_a_child(void) {
    start();
    struct child child = in_fork(hold_still);
    iblbw_close(worker, 0);
    EVENTUALLY(serve_again() == 0); /* the child lets go as its first act, whenever it is scheduled */
    CHECK_SAME(iblbw_epoch(worker), 2);
    child_kill(&child);
    stop();
}

static void each_new_worker_adopts_the_segment_with_its_sizes_and_a_new_epoch(void) {
    char why[64] = "x";
    start();
    unsigned long long id = iblbw_segment_id(worker);
    for (int epoch = 2; epoch < 6; epoch++) {
        iblbw_close(worker, 0);
        CHECK_SAME(iblbw_open(rig, 16, 65536, 65536, 65536, 65536, &worker), 0);
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
    CHECK(file_exists(path_of(rig))); /* it is not its to remove */
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
    os_unlink(path_of(rig));
    CHECK(!file_exists(path));
    segment_close(&eye, 0);
    iblbw_close(worker, 0);
    CHECK_SAME(iblb_wait(handle, request, LONG_MS, NULL, 0, NULL), IBLB_E_STALE);
    CHECK_SAME(iblb_close(handle), 0);
}

static void the_name_of_a_removed_segment_is_free_at_once_although_a_client_has_it_mapped(void) {
    char directory[PATH_BYTES];
    int files = 0;
    start();
    int handle = open_client("a");
    segment_close(&eye, 0);
    iblbw_close(worker, 1);
    CHECK(!file_exists(path_of(rig)));
    CHECK_SAME(serve_again(), 0);
    CHECK_SAME(iblbw_epoch(worker), 1);
    CHECK_SAME(iblb_worker_state(handle, NULL, NULL, NULL), IBLB_E_STALE);
    CHECK_SAME(iblb_close(handle), 0);
    iblbw_close(worker, 1);
    CHECK_SAME(os_directory(directory, &problem), 0);
    os_for_each_file(directory, count_if_ours, &files);
    CHECK_SAME(files, 0);
}

/* --- a virus scanner, or a backup --- */

static void a_file_that_another_program_keeps_for_itself_is_said(void) {
    int handle;
    start();
    segment_close(&eye, 0);
    iblbw_close(worker, 0);
    intptr_t held = hold_file(path_of(rig));
    CHECK(held != -1);
    CHECK_SAME(serve_again(), IBLB_E_SYSTEM);
    CHECK(holds_text(sentence(0), path_of(rig)) && holds_text(sentence(0), "virus scanner"));
    CHECK_SAME(iblb_open(rig, "a", 0, &handle), IBLB_E_SYSTEM);
    CHECK(holds_text(sentence(0), "virus scanner"));
    let_file_go(held);
    CHECK_SAME(serve_again(), 0);
    iblbw_close(worker, 1);
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

#define NO_FORK NOT_ON_WINDOWS("Windows has no fork")
#define NO_LINKS NOT_ON_WINDOWS("to make a link takes a privilege on Windows")

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
    {"damaged segments are refused and replaced", damaged_segments_are_refused_and_replaced},
    {"files of somebody else are refused and kept under another name", files_of_somebody_else_are_refused_and_kept_under_another_name},
    {"a link to a segment is refused", a_link_to_a_segment_is_refused, NO_LINKS},
    {"a file that others can write is refused", a_file_that_others_can_write_is_refused,
     NOT_ON_WINDOWS("a file has the access list of its directory, which is looked at")},
    {"a directory that others can write is refused", a_directory_that_others_can_write_is_refused},
    {"a directory that is a link is refused", a_directory_that_is_a_link_is_refused, NO_LINKS},
    {"a directory that is missing is made by the worker only", a_directory_that_is_missing_is_made_by_the_worker_only},
    {"a directory in OneDrive is refused", a_directory_in_onedrive_is_refused, ONLY_ON_WINDOWS("there is no OneDrive")},
    {"a directory with a name that is not ASCII is as good as any", a_directory_with_a_name_that_is_not_ascii_is_as_good_as_any},
    {"a directory with a long path is as good as any", a_directory_with_a_long_path_is_as_good_as_any},
    {"a directory with a path that is too long is refused", a_directory_with_a_path_that_is_too_long_is_refused},
    {"a second worker is refused, naming the first", a_second_worker_is_refused_naming_the_first},
    {"a second worker in another process is refused, naming the first", a_second_worker_in_another_process_is_refused_naming_the_first},
    {"a worker that is stopped is not replaced", a_worker_that_is_stopped_is_not_replaced},
    {"the successor of a killed worker serves the same segment", the_successor_of_a_killed_worker_serves_the_same_segment},
    {"the worker's lock does not survive in a program that it started", the_workers_lock_does_not_survive_in_a_program_that_it_started},
    {"this boot is the same in two processes", this_boot_is_the_same_in_two_processes},
    {"a child of the worker is neither it nor its heir", a_child_of_the_worker_is_neither_it_nor_its_heir, NO_FORK},
    {"the worker's lock does not survive in a child", the_workers_lock_does_not_survive_in_a_child, NO_FORK},
    {"each new worker adopts the segment with its sizes and a new epoch",
     each_new_worker_adopts_the_segment_with_its_sizes_and_a_new_epoch},
    {"a worker of an older epoch does nothing any more", a_worker_of_an_older_epoch_does_nothing_any_more},
    {"clients of a removed segment are told so at once", clients_of_a_removed_segment_are_told_so_at_once},
    {"a segment whose file was deleted is stale once its worker is gone",
     a_segment_whose_file_was_deleted_is_stale_once_its_worker_is_gone},
    {"the name of a removed segment is free at once although a client has it mapped",
     the_name_of_a_removed_segment_is_free_at_once_although_a_client_has_it_mapped},
    {"a file that another program keeps for itself is said", a_file_that_another_program_keeps_for_itself_is_said,
     ONLY_ON_WINDOWS("elsewhere everybody can open a file that is open")},
    {"services are published whole or not at all", services_are_published_whole_or_not_at_all},
};

static const struct role roles[] = {{"client", play_client}, {"rival", play_rival}, {"first", play_first},
                                    {"idler", play_idler},   {"boot", play_boot},   {0}};

int main(int count, char **words) {
    return run_rig_tests(count, words, tests, ROWS(tests), roles);
}
