/* layout.h: the bytes in the segment, version 2. Nothing here does anything.
 *
 *     0        struct segment_header            (SEGMENT_HEADER_BYTES, with the next)
 *     256      struct listener_table            names under which the worker is a service itself, written by the worker
 *              struct service_entry × MAX_SERVICES   names of the services, written by the worker
 *     ...      slot 0: struct slot_header, command ring, response ring, event ring, incoming ring
 *     ...      slot 1 ...
 *
 * A ring is a power of two of bytes; head and tail count bytes since it was made and never wrap in practice. The
 * consumer owns head, the producer owns tail. Records begin at multiples of 64 and never cross the end: a RECORD_PAD
 * fills the gap and is published by the same tail store as the record behind it.
 *
 * The payload of an ALYX command, of its response, of its event and of one that came in may be a token: whoever owns
 * the bytes wipes it as soon as nobody will read it any more, before it gives the room back.
 *
 * The same for 32- and 64-bit processes: every 64-bit field is aligned to 8 explicitly. `magic`, `layout_version`,
 * `state` and `lock_base` keep their places in all versions.
 */
#ifndef IBLB_LAYOUT_H
#define IBLB_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>

#include "atomics.h"

#define LAYOUT_VERSION 2u
#define SEGMENT_MAGIC "IBLBRIDG"        /* 8 bytes, no NUL */
#define LOCK_BASE 0x4000000000000000ull /* lock of the worker; slot i: + 2 (i + 1); claiming: - 2. See segment.h. */

#define MAX_SLOTS 64u
#define DEFAULT_SLOTS 16u /* the last one is kept for the tools */
#define DEFAULT_COMMAND_BYTES (256u << 10)
#define DEFAULT_RESPONSE_BYTES (512u << 10)
#define DEFAULT_EVENT_BYTES (64u << 10)
#define DEFAULT_INCOMING_BYTES (256u << 10)
#define MIN_RING_BYTES (16u << 10)
#define MAX_RING_BYTES (64u << 20)
#define RECORD_ALIGN 64u
#define INTERRUPT_RESERVE 4096u /* the end of each command ring that only EXPINTERRUPT may use */
#define MAX_INTERRUPT_BYTES 1024u
#define MAX_EVENT_BYTES 16384u /* at most what fits half of the default event ring */
#define MAX_SERVICES 128u
#define MAX_LISTENERS 16u
#define NAME_BYTES 64u /* segment, client, listener: with the NUL */
#define SERVICE_NAME_BYTES 112u
#define ALL_MESSAGES 255 /* IBLB_EXPINIT to IBLB_ALYX: what a program that serves can be asked */

#define FIELD64 alignas(8)
#define LINE alignas(64) /* a line of its own: written by another side than its neighbours */

enum segment_state { SEGMENT_READY = 1, SEGMENT_REPLACED = 2 };
enum wait_mechanism { WAIT_FUTEX = 1, WAIT_POLL = 2, WAIT_EVENT = 3, WAIT_ADDRESS = 4 };   /* Linux, any, Windows, macOS */
enum slot_end { NOT_CLOSED = 0, CLOSED_IN_ORDER = 1, CLOSED_AS_LOST = 2, LOSS_NOTED = 3 }; /* the last: by the worker, of a dead owner */
enum slot_state { SLOT_FREE = 0, SLOT_CLAIMED = 1, SLOT_QUARANTINED = 2 };
enum record_kind { RECORD_PAD = 1, RECORD_COMMAND = 2, RECORD_RESPONSE = 3, RECORD_EVENT = 4, RECORD_INCOMING = 5 };
enum record_state { STATE_PUBLISHED = 1, STATE_ACCEPTED = 2, STATE_ANSWERED = 3, STATE_CANCELLED = 4 };
enum incoming_state { INCOMING_PUBLISHED = 1, INCOMING_TAKEN = 2, INCOMING_ANSWERED = 3, INCOMING_WITHDRAWN = 4 };
enum command_flag { COMMAND_NOTIFY = 1, COMMAND_JSON = 2 };

/* A bell: `sequence` is read before parking and incremented before waking; only the sleeper writes `parked`. */
struct bell {
    shared_u32 sequence;
    shared_u32 parked;
};

struct segment_header {
    char magic[8];
    uint32_t layout_version;
    shared_u32 state; /* enum segment_state */
    FIELD64 uint64_t lock_base;
    FIELD64 uint64_t segment_bytes;
    FIELD64 uint64_t segment_id; /* random */
    FIELD64 uint64_t created_wall_ns;
    uint32_t slots;
    uint32_t command_bytes;
    uint32_t response_bytes;
    uint32_t event_bytes;
    uint32_t wait_mechanism;
    uint32_t library_version;
    char boot_id[40];
    uint32_t incoming_bytes;
    shared_u32 last_kept; /* number of the last record beside the segment, .NAME.listeners: none before it is believed */

    LINE shared_u64 interrupt_stamp; /* commands with an older stamp are aborted */
    FIELD64 shared_u64 slept_stamp;  /* commands with an older stamp are expired: the PC slept since */
    FIELD64 shared_u64 sleep_note;   /* boot time minus monotonic time when a worker last looked, ns */
    shared_u32 epoch;                /* counts the workers */
    shared_u32 worker_pid;           /* for people */
    FIELD64 shared_u64 worker_since; /* ns of the segment's clock */
    shared_u32 services;
    shared_u32 services_up;
    shared_u32 services_sequence; /* odd while the entries are written */

    LINE struct bell worker_bell;
};

struct service_entry {
    char name[SERVICE_NAME_BYTES];
    shared_u32 health; /* lowest bit: down; above it 1 + the s of the segment's clock when it was last heard, 0 for never */
    uint32_t reserved[3];
};

/* As the services: the sequence is odd while the names are written, or a worker has just begun. */
struct listener_table {
    shared_u32 count;
    shared_u32 sequence;
    char names[MAX_LISTENERS][NAME_BYTES];
};

struct ring_header {
    LINE shared_u64 tail; /* producer */
    LINE shared_u64 head; /* consumer */
};

struct slot_header {
    shared_u32 state;           /* enum slot_state; FREE is written by the worker only, and last */
    shared_u32 generation;      /* counts the claims */
    shared_u32 pid;             /* for people */
    shared_u32 response_wanted; /* the worker holds a response that did not fit; whoever makes room rings it */
    FIELD64 shared_u64 since;
    FIELD64 shared_u64 next_request; /* goes on across claims */
    FIELD64 shared_u64 last_stamp;
    char client[NAME_BYTES];
    FIELD64 shared_u64 notified;        /* notifications that ended well */
    FIELD64 shared_u64 notified_failed; /* and that did not */
    shared_u32 closing;                 /* enum slot_end: if the owner has let go the worker need not wait for its next sweep. Without a
                                           worker the slot may be claimed again, with the commands that stand in it, and this is what the
                                           claim writes last */
    shared_u32 event_mask;              /* events that the owner wants */

    LINE struct bell client_bell;
    FIELD64 shared_u64 event_sequence; /* events meant for the owner, those that found no room included */
    struct ring_header command;
    struct ring_header response;
    struct ring_header event;
    struct ring_header incoming;
    LINE shared_u64 incoming_sequence; /* goes on across claims; the worker's */
    LINE char serving[NAME_BYTES];     /* the listener whose commands the owner answers */
    shared_u32 serving_mask; /* in the lowest 8 bits the messages that it is asked, 0: it serves nothing; above them a count of its
                                changes, so that no half of a name is believed. Written last */
};

/* What every record begins with. */
struct record_header {
    uint32_t bytes; /* of the whole record, a multiple of RECORD_ALIGN */
    uint32_t kind;
};

struct command_record {
    struct record_header header;
    FIELD64 shared_u64 control; /* epoch << 32 | enum record_state */
    FIELD64 uint64_t request;
    FIELD64 uint64_t stamp; /* ns */
    FIELD64 int64_t ttl;    /* ns, negative: none */
    uint32_t generation;    /* older than the slot's: of an owner that left in order while no worker lived */
    int32_t message;
    uint32_t flags;         /* enum command_flag */
    uint32_t payload_bytes; /* msgpack: a str with the services' names, then the arguments (JSON: as a str; none: nil) */
};

struct response_record {
    struct record_header header;
    FIELD64 uint64_t request;
    uint32_t generation;
    int32_t code;
    uint32_t payload_bytes;
    int32_t message;         /* of the command; 0 in what an earlier version of this library wrote */
    FIELD64 uint64_t placed; /* ns */
};

struct event_record {
    struct record_header header;
    FIELD64 uint64_t sequence;
    uint32_t generation;
    int32_t message;
    uint32_t payload_bytes;
    uint32_t reserved;
};

/* What a master asks of the program that serves a listener. PUBLISHED by the worker; TAKEN and then ANSWERED by the
 * owner; or WITHDRAWN by the worker, if that comes first: whoever swaps first wins. */
struct incoming_record {
    struct record_header header;
    FIELD64 shared_u64 control; /* epoch << 32 | enum incoming_state */
    FIELD64 uint64_t number;    /* of incoming_sequence; its lowest 31 bits, which are never 0, are what the program knows it by */
    FIELD64 uint64_t stamp;     /* ns: when it reached the worker */
    uint32_t generation;
    int32_t message;
    uint32_t payload_bytes; /* one msgpack map */
    uint32_t timeout_ms;    /* from `stamp` on: then its master is told that it failed, and nobody begins it. 0: no such time */
};

/* Every field of every structure: what another build, or another compiler, must agree to. */
static_assert(offsetof(struct bell, sequence) == 0, "bell.sequence");
static_assert(offsetof(struct bell, parked) == 4, "bell.parked");
static_assert(sizeof(struct bell) == 8, "bell");
static_assert(offsetof(struct segment_header, magic) == 0, "never moves");
static_assert(offsetof(struct segment_header, layout_version) == 8, "never moves");
static_assert(offsetof(struct segment_header, state) == 12, "never moves");
static_assert(offsetof(struct segment_header, lock_base) == 16, "never moves");
static_assert(offsetof(struct segment_header, segment_bytes) == 24, "segment_header.segment_bytes");
static_assert(offsetof(struct segment_header, segment_id) == 32, "segment_header.segment_id");
static_assert(offsetof(struct segment_header, created_wall_ns) == 40, "segment_header.created_wall_ns");
static_assert(offsetof(struct segment_header, slots) == 48, "segment_header.slots");
static_assert(offsetof(struct segment_header, command_bytes) == 52, "segment_header.command_bytes");
static_assert(offsetof(struct segment_header, response_bytes) == 56, "segment_header.response_bytes");
static_assert(offsetof(struct segment_header, event_bytes) == 60, "segment_header.event_bytes");
static_assert(offsetof(struct segment_header, wait_mechanism) == 64, "segment_header.wait_mechanism");
static_assert(offsetof(struct segment_header, library_version) == 68, "segment_header.library_version");
static_assert(offsetof(struct segment_header, boot_id) == 72, "segment_header.boot_id");
static_assert(offsetof(struct segment_header, incoming_bytes) == 112, "segment_header.incoming_bytes");
static_assert(offsetof(struct segment_header, last_kept) == 116, "segment_header.last_kept");
static_assert(offsetof(struct segment_header, interrupt_stamp) == 128, "segment_header.interrupt_stamp");
static_assert(offsetof(struct segment_header, slept_stamp) == 136, "segment_header.slept_stamp");
static_assert(offsetof(struct segment_header, sleep_note) == 144, "segment_header.sleep_note");
static_assert(offsetof(struct segment_header, epoch) == 152, "segment_header.epoch");
static_assert(offsetof(struct segment_header, worker_pid) == 156, "segment_header.worker_pid");
static_assert(offsetof(struct segment_header, worker_since) == 160, "segment_header.worker_since");
static_assert(offsetof(struct segment_header, services) == 168, "segment_header.services");
static_assert(offsetof(struct segment_header, services_up) == 172, "segment_header.services_up");
static_assert(offsetof(struct segment_header, services_sequence) == 176, "segment_header.services_sequence");
static_assert(offsetof(struct segment_header, worker_bell) == 192, "segment_header.worker_bell");
static_assert(sizeof(struct segment_header) == 256, "segment_header");
static_assert(offsetof(struct service_entry, name) == 0, "service_entry.name");
static_assert(offsetof(struct service_entry, health) == 112, "service_entry.health");
static_assert(offsetof(struct service_entry, reserved) == 116, "service_entry.reserved");
static_assert(sizeof(struct service_entry) == 128, "service_entry");
static_assert(offsetof(struct listener_table, count) == 0, "listener_table.count");
static_assert(offsetof(struct listener_table, sequence) == 4, "listener_table.sequence");
static_assert(offsetof(struct listener_table, names) == 8, "listener_table.names");
static_assert(sizeof(struct listener_table) == 1032, "listener_table");
static_assert(offsetof(struct ring_header, tail) == 0, "ring_header.tail");
static_assert(offsetof(struct ring_header, head) == 64, "ring_header.head");
static_assert(sizeof(struct ring_header) == 128, "ring_header");
static_assert(offsetof(struct slot_header, state) == 0, "slot_header.state");
static_assert(offsetof(struct slot_header, generation) == 4, "slot_header.generation");
static_assert(offsetof(struct slot_header, pid) == 8, "slot_header.pid");
static_assert(offsetof(struct slot_header, response_wanted) == 12, "slot_header.response_wanted");
static_assert(offsetof(struct slot_header, since) == 16, "slot_header.since");
static_assert(offsetof(struct slot_header, next_request) == 24, "slot_header.next_request");
static_assert(offsetof(struct slot_header, last_stamp) == 32, "slot_header.last_stamp");
static_assert(offsetof(struct slot_header, client) == 40, "slot_header.client");
static_assert(offsetof(struct slot_header, notified) == 104, "slot_header.notified");
static_assert(offsetof(struct slot_header, notified_failed) == 112, "slot_header.notified_failed");
static_assert(offsetof(struct slot_header, closing) == 120, "slot_header.closing");
static_assert(offsetof(struct slot_header, event_mask) == 124, "slot_header.event_mask");
static_assert(offsetof(struct slot_header, client_bell) == 128, "slot_header.client_bell");
static_assert(offsetof(struct slot_header, event_sequence) == 136, "slot_header.event_sequence");
static_assert(offsetof(struct slot_header, command) == 192, "slot_header.command");
static_assert(offsetof(struct slot_header, response) == 320, "slot_header.response");
static_assert(offsetof(struct slot_header, event) == 448, "slot_header.event");
static_assert(offsetof(struct slot_header, incoming) == 576, "slot_header.incoming");
static_assert(offsetof(struct slot_header, incoming_sequence) == 704, "slot_header.incoming_sequence");
static_assert(offsetof(struct slot_header, serving) == 768, "slot_header.serving");
static_assert(offsetof(struct slot_header, serving_mask) == 832, "slot_header.serving_mask");
static_assert(sizeof(struct slot_header) == 896, "slot_header");
static_assert(offsetof(struct record_header, bytes) == 0, "record_header.bytes");
static_assert(offsetof(struct record_header, kind) == 4, "record_header.kind");
static_assert(offsetof(struct command_record, header) == 0, "command_record.header");
static_assert(offsetof(struct command_record, control) == 8, "command_record.control");
static_assert(offsetof(struct command_record, request) == 16, "command_record.request");
static_assert(offsetof(struct command_record, stamp) == 24, "command_record.stamp");
static_assert(offsetof(struct command_record, ttl) == 32, "command_record.ttl");
static_assert(offsetof(struct command_record, generation) == 40, "command_record.generation");
static_assert(offsetof(struct command_record, message) == 44, "command_record.message");
static_assert(offsetof(struct command_record, flags) == 48, "command_record.flags");
static_assert(offsetof(struct command_record, payload_bytes) == 52, "command_record.payload_bytes");
static_assert(sizeof(struct command_record) == 56, "command_record");
static_assert(alignof(struct command_record) == 8, "command_record");
static_assert(offsetof(struct response_record, header) == 0, "response_record.header");
static_assert(offsetof(struct response_record, request) == 8, "response_record.request");
static_assert(offsetof(struct response_record, generation) == 16, "response_record.generation");
static_assert(offsetof(struct response_record, code) == 20, "response_record.code");
static_assert(offsetof(struct response_record, payload_bytes) == 24, "response_record.payload_bytes");
static_assert(offsetof(struct response_record, message) == 28, "response_record.message");
static_assert(offsetof(struct response_record, placed) == 32, "response_record.placed");
static_assert(sizeof(struct response_record) == 40, "response_record");
static_assert(offsetof(struct event_record, header) == 0, "event_record.header");
static_assert(offsetof(struct event_record, sequence) == 8, "event_record.sequence");
static_assert(offsetof(struct event_record, generation) == 16, "event_record.generation");
static_assert(offsetof(struct event_record, message) == 20, "event_record.message");
static_assert(offsetof(struct event_record, payload_bytes) == 24, "event_record.payload_bytes");
static_assert(offsetof(struct event_record, reserved) == 28, "event_record.reserved");
static_assert(sizeof(struct event_record) == 32, "event_record");
static_assert(offsetof(struct incoming_record, header) == 0, "incoming_record.header");
static_assert(offsetof(struct incoming_record, control) == 8, "incoming_record.control");
static_assert(offsetof(struct incoming_record, number) == 16, "incoming_record.number");
static_assert(offsetof(struct incoming_record, stamp) == 24, "incoming_record.stamp");
static_assert(offsetof(struct incoming_record, generation) == 32, "incoming_record.generation");
static_assert(offsetof(struct incoming_record, message) == 36, "incoming_record.message");
static_assert(offsetof(struct incoming_record, payload_bytes) == 40, "incoming_record.payload_bytes");
static_assert(offsetof(struct incoming_record, timeout_ms) == 44, "incoming_record.timeout_ms");
static_assert(sizeof(struct incoming_record) == 48, "incoming_record");

#define SEGMENT_HEADER_BYTES 4096u
#define LISTENERS_OFFSET 256u
#define SLOTS_OFFSET (SEGMENT_HEADER_BYTES + MAX_SERVICES * sizeof(struct service_entry))
#define SLOT_HEADER_BYTES 1024u

static_assert(sizeof(struct segment_header) <= LISTENERS_OFFSET, "header");
static_assert(LISTENERS_OFFSET + sizeof(struct listener_table) <= SEGMENT_HEADER_BYTES, "header page");
static_assert(sizeof(struct slot_header) <= SLOT_HEADER_BYTES, "slot page");
static_assert(SLOTS_OFFSET % 4096 == 0, "slots begin on a page");

#endif
