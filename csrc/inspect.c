/* inspect.c: what `iblbridge doctor` knows of a segment. See iblbridge_worker.h.
 *
 * The file is read, never mapped: if somebody cuts it short meanwhile, a read fails, and that is all. Every number in
 * it is checked before it is used. The kernel says who lives; process ids are for people.
 */
#include <string.h>

#include "include/iblbridge_worker.h"
#include "remains.h"
#include "remembered.h"
#include "segment.h"

static_assert(sizeof(((struct iblbw_slot_report *)0)->client) == NAME_BYTES, "client");
static_assert(sizeof(((struct iblbw_slot_report *)0)->serving) == NAME_BYTES, "serving");
static_assert(sizeof(((struct iblbw_report *)0)->listener) == MAX_LISTENERS * NAME_BYTES, "listener");

/* A text that somebody else wrote: control characters become '?', and it gets an end. */
static void take_text(char *to, const char *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)from[i] < 0x20 && from[i] ? '?' : from[i];
    to[bytes - 1] = '\0';
}

struct moment {
    uint64_t now, interrupt_stamp, slept_stamp;
};

/* What a worker would know that begins now. */
static struct moment moment_of(const struct segment_header *header) {
    struct moment moment = {os_clock_ns(), load64_relaxed(&header->interrupt_stamp), load64_relaxed(&header->slept_stamp)};
    uint64_t note = load64_relaxed(&header->sleep_note), asleep = os_asleep_ns(note + SLEEP_TOLERANCE_NS);
    if ((int64_t)(asleep - note) > (int64_t)SLEEP_TOLERANCE_NS)
        moment.slept_stamp = moment.now;
    return moment;
}

/* Would a worker send it now, to have something done? */
static bool is_to_be_sent(const struct command_record *record, const struct moment *moment) {
    static const uint32_t questions = IBLB_EXPSTATUS | IBLB_EXPINFO;
    uint64_t interrupt_stamp = record->message == IBLB_EXPINTERRUPT ? 0 : moment->interrupt_stamp;
    return (uint32_t)load64_relaxed(&record->control) == STATE_PUBLISHED && ((uint32_t)record->message & ALL_MESSAGES & ~questions) &&
           segment_may_begin(record->stamp, record->ttl, moment->now, interrupt_stamp, moment->slept_stamp) == IBLB_OK;
}

/* Walks the command ring from head to tail; -1 if it leads nowhere. */
static int count_pending(os_file file, uint64_t ring, uint32_t capacity, const struct slot_header *slot, const struct moment *moment,
                         int *waiting) {
    uint64_t at = load64_relaxed(&slot->command.head), tail = load64_relaxed(&slot->command.tail);
    int pending = 0;
    if (tail - at > capacity)
        return -1;
    while (at != tail) {
        struct command_record record;
        uint32_t to_end = capacity - (uint32_t)(at & (capacity - 1));
        if (at % RECORD_ALIGN || os_read(file, ring + (at & (capacity - 1)), &record, sizeof record) != 0 ||
            record.header.bytes < RECORD_ALIGN || record.header.bytes % RECORD_ALIGN || record.header.bytes > to_end ||
            record.header.bytes > tail - at)
            return -1;
        uint32_t state = (uint32_t)load64_relaxed(&record.control);
        pending += record.header.kind == RECORD_COMMAND && (state == STATE_PUBLISHED || state == STATE_ACCEPTED);
        *waiting += record.header.kind == RECORD_COMMAND && is_to_be_sent(&record, moment);
        at += record.header.bytes;
    }
    return pending;
}

static void inspect_slot(os_file file, const struct segment_sizes *sizes, uint32_t index, const struct moment *moment,
                         struct iblbw_slot_report *report) {
    struct slot_header slot;
    uint64_t offset = segment_slot_offset(sizes, index);
    *report = (struct iblbw_slot_report){.alive = os_locked(file, slot_lock(index)), .state = -1, .pending = -1};
    if (os_read(file, offset, &slot, sizeof slot) != 0)
        return;
    report->state = (int)load32_relaxed(&slot.state);
    report->generation = load32_relaxed(&slot.generation);
    report->pid = load32_relaxed(&slot.pid);
    report->since = load64_relaxed(&slot.since);
    uint32_t end = load32_relaxed(&slot.closing);
    report->closed = end == CLOSED_IN_ORDER || end == LOSS_NOTED;
    report->pending = count_pending(file, offset + SLOT_HEADER_BYTES, sizes->command_bytes, &slot, moment, &report->waiting);
    take_text(report->client, slot.client, sizeof report->client);
    if (load32_relaxed(&slot.serving_mask) & ALL_MESSAGES)
        take_text(report->serving, slot.serving, sizeof report->serving);
    if (os_process_name(report->pid, report->process, sizeof report->process) != 0)
        report->process[0] = '\0';
}

/* The names of the services, one per line, as many as fit, and how the services are. */
static uint32_t inspect_services(os_file file, uint32_t count, struct iblbw_report *report, char *text, int capacity) {
    size_t used = 0;
    uint32_t i = 0;
    for (; i < count && i < MAX_SERVICES; i++) {
        struct service_entry entry;
        char name[SERVICE_NAME_BYTES];
        if (os_read(file, SEGMENT_HEADER_BYTES + i * sizeof entry, &entry, sizeof entry) != 0)
            break;
        take_text(name, entry.name, sizeof name);
        size_t length = strlen(name);
        if (used + length + 2 > (size_t)capacity)
            break;
        memcpy(text + used, name, length);
        used += length;
        text[used++] = '\n';
        uint32_t health = load32_relaxed(&entry.health);
        report->service_down[i] = health % 2;
        report->service_heard[i] = health > 1 ? (health / 2 - 1) * 1000000000ull : 0;
    }
    text[used] = '\0';
    return i;
}

/* The names under which the worker listens. One that is just being written is told as it is found. */
static void inspect_listeners(os_file file, struct iblbw_report *report) {
    struct listener_table table;
    if (os_read(file, LISTENERS_OFFSET, &table, sizeof table) != 0)
        return;
    uint32_t count = load32_relaxed(&table.count);
    report->listeners = count < MAX_LISTENERS ? count : MAX_LISTENERS;
    for (uint32_t i = 0; i < report->listeners; i++)
        take_text(report->listener[i], table.names[i], sizeof report->listener[i]);
}

static void inspect(os_file file, const char *path, struct iblbw_report *report, struct iblbw_slot_report *slots, char *services,
                    int capacity) {
    struct segment_header header = {0}; /* read once, by the judge */
    struct problem problem = {0};
    char boot_id[40];
    *report = (struct iblbw_report){.bytes = os_size(file), .worker_alive = os_locked(file, worker_lock())};
    report->code = segment_judge(file, path, &header, &problem);
    memcpy(report->sentence, problem.text, sizeof report->sentence);
    report->sentence[sizeof report->sentence - 1] = '\0';
    report->locks = report->worker_alive;
    for (uint32_t i = 0; i < MAX_SLOTS; i++)
        report->locks += os_locked(file, slot_lock(i)) || os_locked(file, slot_guard(i));
    if (memcmp(header.magic, SEGMENT_MAGIC, 8) != 0)
        return;
    report->is_segment = 1;
    report->layout_version = header.layout_version;
    if (report->code == IBLB_E_SEGMENT || report->code == IBLB_E_VERSION)
        return; /* the other fields may be anything */
    os_boot_id(boot_id);
    report->same_boot = memcmp(boot_id, header.boot_id, sizeof boot_id) == 0;
    report->segment_id = header.segment_id;
    report->created_wall_ns = header.created_wall_ns;
    report->library_version = header.library_version;
    report->worker_since = load64_relaxed(&header.worker_since);
    report->worker_pid = load32_relaxed(&header.worker_pid);
    report->epoch = load32_relaxed(&header.epoch);
    report->last_kept = load32_relaxed(&header.last_kept);
    report->services_up = load32_relaxed(&header.services_up);
    report->services = inspect_services(file, load32_relaxed(&header.services), report, services, capacity);
    inspect_listeners(file, report);
    if (os_process_name(report->worker_pid, report->worker_name, sizeof report->worker_name) != 0)
        report->worker_name[0] = '\0';
    struct segment_sizes sizes = {header.slots, header.command_bytes, header.response_bytes, header.event_bytes, header.incoming_bytes};
    report->slots = sizes.slots; /* judged to be within bounds */
    struct moment moment = moment_of(&header);
    for (uint32_t i = 0; i < sizes.slots; i++)
        inspect_slot(file, &sizes, i, &moment, &slots[i]);
}

IBLB_API int iblbw_inspect(const char *name, struct iblbw_report *report, struct iblbw_slot_report *slots, char *services, int capacity) {
    struct problem problem = {0};
    char path[PATH_BYTES];
    os_file file;
    if (!name || !report || !slots || !services || capacity <= 0) {
        problem_standard(&problem, IBLB_E_ARGUMENT);
        return problem_remember(&problem);
    }
    services[0] = '\0';
    os_hold_thread();
    int code = os_segment_path(name, false, path, &problem);
    if (code == IBLB_OK)
        code = os_open(path, &file, &problem);
    if (code == IBLB_OK) {
        inspect(file, path, report, slots, services, capacity);
        os_close(file);
    }
    os_let_thread();
    return code != IBLB_OK ? problem_remember(&problem) : IBLB_OK;
}

IBLB_API int iblbw_directory(char *text, int capacity) {
    struct problem problem = {0};
    char directory[PATH_BYTES] = "", path[PATH_BYTES];
    int code = os_directory(directory, &problem);
    if (code == IBLB_OK)
        code = os_segment_path("", false, path, &problem); /* judges the directory */
    int copied = copy_text(directory, text, capacity);
    return code != IBLB_OK ? problem_remember(&problem) : copied;
}

IBLB_API int iblbw_kind(const char *name) {
    struct problem problem;
    if (remains_half_made(name))
        return 2;
    return segment_check_name(name, &problem) == IBLB_OK;
}

IBLB_API int iblbw_clean(const char *name) {
    struct problem problem = {0};
    char path[PATH_BYTES];
    int kind = name ? iblbw_kind(name) : 0;
    os_hold_thread();
    int code = kind ? os_segment_path(name, false, path, &problem) : problem_standard(&problem, IBLB_E_NAME);
    if (code == IBLB_OK)
        code = kind == 2 ? remains_discard_half_made(path, &problem) : remains_discard(path, &problem);
    os_let_thread();
    return code != IBLB_OK ? problem_remember(&problem) : IBLB_OK;
}
