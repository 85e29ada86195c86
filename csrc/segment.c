/* segment.c: see segment.h. */
#include "segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "include/iblbridge.h"
#include "remains.h"

static const struct segment_sizes default_sizes = {DEFAULT_SLOTS, DEFAULT_COMMAND_BYTES, DEFAULT_RESPONSE_BYTES, DEFAULT_EVENT_BYTES,
                                                   DEFAULT_INCOMING_BYTES};

/* The names of Windows' devices, in any case and with anything after a dot: no folder can hold a file of that name. */
static bool is_device(const char *name) {
    static const char *const devices[] = {"con", "prn", "aux", "nul", "com?", "lpt?"};
    size_t length = strcspn(name, ".");
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        size_t same = 0;
        while (same < length &&
               ((name[same] | 0x20) == devices[i][same] || (devices[i][same] == '?' && name[same] >= '0' && name[same] <= '9')))
            same++;
        if (same == length && !devices[i][same])
            return true;
    }
    return false;
}

int segment_check_name(const char *name, struct problem *problem) {
    size_t length = strlen(name);
    if (length == 0 || length >= NAME_BYTES || name[0] == '.')
        return problem_set(problem, IBLB_E_NAME,
                           "A segment's name has 1 to %u characters and does not begin with a dot, and \"%.80s\" is not so.",
                           NAME_BYTES - 1, name);
    if (name[length - 1] == '.' || is_device(name))
        return problem_set(problem, IBLB_E_NAME, "Windows keeps the name \"%s\" for itself; call the segment rig0, for example.", name);
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'))
            return problem_set(problem, IBLB_E_NAME,
                               "The segment's name \"%s\" holds a character other than A-Z a-z 0-9 . _ - at offset %zu.", name, i);
    }
    return IBLB_OK;
}

/* --- geometry: plain functions of the sizes --- */

static uint64_t slot_bytes(const struct segment_sizes *sizes) {
    return (uint64_t)SLOT_HEADER_BYTES + sizes->command_bytes + sizes->response_bytes + sizes->event_bytes + sizes->incoming_bytes;
}

static uint64_t total_bytes(const struct segment_sizes *sizes) {
    return SLOTS_OFFSET + sizes->slots * slot_bytes(sizes);
}

static bool ring_bytes_fit(uint32_t bytes) {
    return bytes >= MIN_RING_BYTES && bytes <= MAX_RING_BYTES && (bytes & (bytes - 1)) == 0;
}

static bool sizes_fit(const struct segment_sizes *sizes) {
    return sizes->slots >= 2 && sizes->slots <= MAX_SLOTS && ring_bytes_fit(sizes->command_bytes) &&
           ring_bytes_fit(sizes->response_bytes) && ring_bytes_fit(sizes->event_bytes) && ring_bytes_fit(sizes->incoming_bytes) &&
           total_bytes(sizes) <= SIZE_MAX / 2;
}

uint64_t segment_slot_offset(const struct segment_sizes *sizes, uint32_t index) {
    return SLOTS_OFFSET + index * slot_bytes(sizes);
}

void segment_slot(const struct segment *segment, uint32_t index, struct slot *slot) {
    const struct segment_sizes *sizes = &segment->sizes;
    unsigned char *base = (unsigned char *)segment->header + segment_slot_offset(sizes, index);
    unsigned char *data = base + SLOT_HEADER_BYTES;
    slot->header = (struct slot_header *)(void *)base;
    slot->command = (struct ring){&slot->header->command, data, sizes->command_bytes};
    slot->response = (struct ring){&slot->header->response, data + sizes->command_bytes, sizes->response_bytes};
    slot->event = (struct ring){&slot->header->event, data + sizes->command_bytes + sizes->response_bytes, sizes->event_bytes};
    slot->incoming = (struct ring){&slot->header->incoming, slot->event.data + sizes->event_bytes, sizes->incoming_bytes};
}

struct service_entry *segment_services(const struct segment *segment) {
    return (struct service_entry *)(void *)((unsigned char *)segment->header + SEGMENT_HEADER_BYTES);
}

struct listener_table *segment_listeners(const struct segment *segment) {
    return (struct listener_table *)(void *)((unsigned char *)segment->header + LISTENERS_OFFSET);
}

/* --- reading what somebody else made --- */

int segment_judge(os_file file, const char *path, struct segment_header *header, struct problem *problem) {
    uint64_t bytes = os_size(file);
    char boot_id[40];
    if (!remains_has_magic(file))
        return problem_set(problem, IBLB_E_SEGMENT, "%s is not a segment of iblbridge. Restart the worker: it makes one, and keeps this %s",
                           path, "file under another name.");
    if (bytes < sizeof *header || os_read(file, 0, header, sizeof *header) != 0)
        return problem_set(problem, IBLB_E_SEGMENT,
                           "The segment %s is damaged: it has %" PRIu64 " bytes. Restart the worker to replace it.", path, bytes);
    if (header->layout_version != LAYOUT_VERSION)
        return problem_set(problem, IBLB_E_VERSION, "The segment %s has layout %" PRIu32 " and this library (version %d) layout %u. %s",
                           path, header->layout_version, IBLB_VERSION, LAYOUT_VERSION,
                           "Use the library of the worker's iblbridge package.");
    struct segment_sizes sizes = {header->slots, header->command_bytes, header->response_bytes, header->event_bytes,
                                  header->incoming_bytes};
    if (header->lock_base != LOCK_BASE || !sizes_fit(&sizes) || header->segment_bytes != total_bytes(&sizes) ||
        bytes < header->segment_bytes || header->wait_mechanism < WAIT_FUTEX || header->wait_mechanism > WAIT_ADDRESS)
        return problem_set(problem, IBLB_E_SEGMENT,
                           "The segment %s is damaged: its header and its size (%" PRIu64 " bytes) do not agree. %s", path, bytes,
                           "Restart the worker to replace it.");
    bool known = os_boot_id(boot_id), same = memcmp(boot_id, header->boot_id, sizeof boot_id) == 0;
    if (!same && !known)
        return problem_set(problem, IBLB_E_SYSTEM,
                           "The system does not say which boot of this PC it is, so nobody knows whether the segment %s is of it. %s", path,
                           "Has this program too many files open, or no /proc?");
    if (!same)
        return problem_set(problem, IBLB_E_STALE, "The segment %s was left by an earlier boot of this PC. Start the worker.", path);
    uint64_t latest = os_clock_ns() + FUTURE_NS;
    if (load64_relaxed(&header->interrupt_stamp) > latest || load64_relaxed(&header->slept_stamp) > latest)
        return problem_set(problem, IBLB_E_SEGMENT, "The segment %s is damaged: a stamp in its header lies in the future. %s", path,
                           "Restart the worker to replace it.");
    if (load32_acquire(&header->state) == SEGMENT_REPLACED)
        return problem_set(problem, IBLB_E_STALE, "The segment %s has been retired. Open again.", path);
    if (load32_acquire(&header->state) != SEGMENT_READY)
        return problem_set(problem, IBLB_E_SEGMENT, "The segment %s is in no known state. Restart the worker to replace it.", path);
    return IBLB_OK;
}

static int map(struct segment *segment, const struct segment_header *header, struct problem *problem) {
    segment->sizes =
        (struct segment_sizes){header->slots, header->command_bytes, header->response_bytes, header->event_bytes, header->incoming_bytes};
    segment->bytes = total_bytes(&segment->sizes);
    segment->id = header->segment_id;
    segment->header = os_map(segment->file, (size_t)segment->bytes);
    if (!segment->header)
        return problem_set(problem, IBLB_E_MEMORY, "The segment %s (%" PRIu64 " bytes) cannot be mapped.", segment->path, segment->bytes);
    os_waits_open(&segment->waits, header->wait_mechanism, segment->id, segment->header);
    return IBLB_OK;
}

static void clear(struct segment *segment) {
    *segment = (struct segment){.file = OS_NO_FILE, .locks = OS_NO_FILE};
}

/* Opens the file twice: once to map, once to hold locks. IBLB_E_STALE if it was replaced in between. */
static int open_both(struct segment *segment, struct problem *problem) {
    int code = os_open(segment->path, &segment->file, problem);
    if (code == IBLB_OK)
        code = os_open(segment->path, &segment->locks, problem);
    if (code == IBLB_OK && !os_same_open(segment->file, segment->locks))
        code = problem_set(problem, IBLB_E_STALE, "The segment %s was just replaced. Open again.", segment->path);
    return code;
}

int segment_attach(struct segment *segment, const char *name, struct problem *problem) {
    struct segment_header header;
    clear(segment);
    int code = os_segment_path(name, false, segment->path, problem);
    if (code == IBLB_OK)
        code = open_both(segment, problem);
    if (code == IBLB_OK)
        code = segment_judge(segment->file, segment->path, &header, problem);
    if (code == IBLB_OK)
        code = map(segment, &header, problem);
    if (code != IBLB_OK)
        segment_close(segment, false);
    return code;
}

/* --- making and adopting --- */

static int worker_busy(const struct segment *segment, struct problem *problem) {
    struct segment_header header;
    char name[32] = "";
    uint32_t pid = os_read(segment->file, 0, &header, sizeof header) == 0 ? load32_relaxed(&header.worker_pid) : 0;
    if (os_process_name(pid, name, sizeof name) != 0) /* it is the predecessor's: its successor has the lock and has not signed yet */
        return problem_set(problem, IBLB_E_WORKER_BUSY, "Another worker, which is just starting, holds the segment %s. Stop it first.",
                           segment->path);
    return problem_set(problem, IBLB_E_WORKER_BUSY, "Another worker holds the segment %s: process %" PRIu32 " (%s). Stop it first.",
                       segment->path, pid, name);
}

static int make(struct segment *segment, const struct segment_sizes *sizes, struct problem *problem) {
    char temporary[PATH_BYTES];
    const char *name = os_file_name(segment->path);
    snprintf(temporary, sizeof temporary, "%.*s.%s.%016" PRIx64, (int)(name - segment->path), segment->path, name, os_random());
    struct segment_header header = {.layout_version = LAYOUT_VERSION,
                                    .state = SEGMENT_READY,
                                    .lock_base = LOCK_BASE,
                                    .segment_bytes = total_bytes(sizes),
                                    .segment_id = os_random(),
                                    .created_wall_ns = os_wall_ns(),
                                    .slots = sizes->slots,
                                    .command_bytes = sizes->command_bytes,
                                    .response_bytes = sizes->response_bytes,
                                    .event_bytes = sizes->event_bytes,
                                    .incoming_bytes = sizes->incoming_bytes,
                                    .wait_mechanism = os_wait_mechanism(),
                                    .library_version = IBLB_VERSION,
                                    .worker_pid = os_pid(),
                                    .services_sequence = 1}; /* odd: their names are still to be written */
    memcpy(header.magic, SEGMENT_MAGIC, sizeof header.magic);
    os_boot_id(header.boot_id);
    header.sleep_note = os_asleep_ns(0);

    int code = os_create(temporary, header.segment_bytes, &segment->file, problem);
    if (code == IBLB_OK)
        code = os_open(temporary, &segment->locks, problem);
    if (code == IBLB_OK)
        code = map(segment, &header, problem);
    if (code != IBLB_OK) {
        os_unlink(temporary);
        return code == IBLB_E_NO_SEGMENT ? IBLB_E_STALE : code; /* somebody took it for a leftover before it was locked: look again */
    }
    shared_write(segment->header, &header, sizeof header);     /* the rest of the file is zero: free slots, empty rings */
    store32_relaxed(&segment_listeners(segment)->sequence, 1); /* odd as well */
    int locked = os_lock(segment->locks, worker_lock());
    if (locked != 1) {
        os_unlink(temporary);
        if (locked == 0)
            return IBLB_E_STALE; /* likewise */
        return problem_set(problem, IBLB_E_SYSTEM, "The file system of %s does not lock files. " USE_LOCAL_DISK, segment->path);
    }
    int published = os_publish(temporary, segment->path);
    if (published < 0)
        return problem_set(problem, IBLB_E_SYSTEM, "%s cannot be put into its place, as on a FAT drive. " USE_LOCAL_DISK, segment->path);
    return published ? IBLB_OK : IBLB_E_STALE; /* somebody was faster: look again */
}

/* Takes the worker lock of the file that is there, and keeps the file, or retires it and says why. */
static int adopt(struct segment *segment, char replaced[PROBLEM_BYTES], struct problem *problem) {
    struct segment_header header;
    int code = os_open(segment->path, &segment->file, problem);
    if (code == IBLB_OK)
        code = os_open(segment->path, &segment->locks, problem);
    if (code != IBLB_OK)
        return code;
    int locked = os_lock(segment->locks, worker_lock());
    if (locked == 0)
        return worker_busy(segment, problem);
    if (locked < 0)
        return problem_set(problem, IBLB_E_SYSTEM, "The file system of %s does not lock files. " USE_LOCAL_DISK, segment->path);
    if (!os_same_open(segment->file, segment->locks) || !os_same_file(segment->locks, segment->path))
        return IBLB_E_STALE;
    code = segment_judge(segment->file, segment->path, &header, problem);
    if (code == IBLB_OK)
        return map(segment, &header, problem);
    if (code == IBLB_E_SYSTEM)
        return code; /* it may be as good as any */

    /* Nothing in it can be trusted or used. Those who have it mapped learn that from the state, whose place never
     * moves. */
    copy_text(problem->text, replaced, PROBLEM_BYTES);
    if (os_size(segment->file) > 0 && !remains_has_magic(segment->file))
        code = remains_set_aside(segment->path, replaced, problem);
    else
        code = segment_retire(segment->file, segment->path, problem);
    return code == IBLB_OK ? IBLB_E_STALE : code;
}

static void unmap(struct segment *segment) {
    if (!segment->header)
        return;
    os_waits_close(&segment->waits);
    os_unmap(segment->header, (size_t)segment->bytes);
    segment->header = NULL;
}

static void let_go(struct segment *segment) {
    unmap(segment);
    if (segment->locks != OS_NO_FILE)
        os_unlock(segment->locks, worker_lock()); /* at once, even if a child that is being forked still has our descriptor */
    os_close(segment->locks);
    os_close(segment->file);
    segment->locks = segment->file = OS_NO_FILE;
}

int segment_serve(struct segment *segment, const char *name, const struct segment_sizes *wanted, char replaced[PROBLEM_BYTES],
                  struct problem *problem) {
    struct segment_sizes sizes = *wanted;
    clear(segment);
    replaced[0] = '\0';
    sizes.slots = sizes.slots ? sizes.slots : default_sizes.slots;
    sizes.command_bytes = sizes.command_bytes ? sizes.command_bytes : default_sizes.command_bytes;
    sizes.response_bytes = sizes.response_bytes ? sizes.response_bytes : default_sizes.response_bytes;
    sizes.event_bytes = sizes.event_bytes ? sizes.event_bytes : default_sizes.event_bytes;
    sizes.incoming_bytes = sizes.incoming_bytes ? sizes.incoming_bytes : default_sizes.incoming_bytes;
    if (!sizes_fit(&sizes))
        return problem_set(problem, IBLB_E_ARGUMENT, "Slots must be 2 to %u, rings powers of two from %u to %u bytes.", MAX_SLOTS,
                           MIN_RING_BYTES, MAX_RING_BYTES);
    int code = os_segment_path(name, true, segment->path, problem);
    /* Each round either ends or meets a file that somebody has just changed; whoever changed it made progress. */
    for (int round = 0; code == IBLB_OK && round < 100; round++) {
        code = adopt(segment, replaced, problem);
        if (code == IBLB_E_NO_SEGMENT) {
            let_go(segment);
            code = make(segment, &sizes, problem);
        }
        if (code == IBLB_OK) {
            add32(&segment->header->epoch, 1);
            store32_relaxed(&segment->header->worker_pid, os_pid());
            store64_relaxed(&segment->header->worker_since, os_clock_ns());
            remains_remove(segment->path);
            return IBLB_OK;
        }
        let_go(segment);
        if (code == IBLB_E_STALE)
            code = IBLB_OK;
    }
    if (code == IBLB_OK)
        code = problem_set(problem, IBLB_E_SYSTEM, "The segment %s is replaced again and again by somebody else.", segment->path);
    return code;
}

void segment_close(struct segment *segment, bool remove) {
    if (remove && segment->header && os_same_file(segment->locks, segment->path)) {
        store32_release(&segment->header->state, SEGMENT_REPLACED);
        unmap(segment); /* Windows deletes no file that is mapped */
        os_unlink(segment->path);
    }
    let_go(segment);
}

uint32_t bell_arm(struct bell *bell) {
    uint32_t sequence = load32_acquire(&bell->sequence); /* read before parking: a ring from here on changes it */
    store32_relaxed(&bell->parked, 1);
    fence_seq_cst(); /* parked is visible before the caller looks for work again; pairs with the fence in bell_ring */
    return sequence;
}

int bell_park(struct bell *bell, uint32_t sequence, uint64_t timeout_ns, const struct os_waits *waits) {
    return os_park(&bell->sequence, sequence, timeout_ns, waits);
}

void bell_disarm(struct bell *bell) {
    store32_relaxed(&bell->parked, 0);
}

void bell_wake(struct bell *bell, const struct os_waits *waits) {
    add32(&bell->sequence, 1);
    os_wake(&bell->sequence, waits);
}
