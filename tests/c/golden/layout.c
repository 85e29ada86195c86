/* layout.c: writes every field of every shared structure with a value of its own, and prints the bytes: the image of layout 2. What differs
 * from layout-2.bin cannot share a segment with what was built before. Deliberately changed: bump LAYOUT_VERSION and store a new image.
 */
#include <stdio.h>
#include <string.h>

#include "layout.h"

static unsigned char next = 1;

/* Fills a field with bytes that no other field has in this order. */
static void fill(void *field, size_t bytes) {
    unsigned char *to = field;
    for (size_t i = 0; i < bytes; i++, next = (unsigned char)(next % 251 + 1))
        to[i] = next;
}

#define FILL(field) fill(&(field), sizeof(field))

static void write_image(const char *name, const void *bytes, size_t count) {
    char head[32] = {0};
    snprintf(head, sizeof head, "%s %u", name, (unsigned)count);
    fwrite(head, 1, sizeof head, stdout);
    fwrite(bytes, 1, count, stdout);
}

#define WRITE(name)                                                                                                                        \
    struct name name;                                                                                                                      \
    memset(&name, 0, sizeof name)
#define DONE(name) write_image(#name, &name, sizeof name)

static void fill_bell(struct bell *bell) {
    FILL(bell->sequence);
    FILL(bell->parked);
}

static void fill_ring(struct ring_header *ring) {
    FILL(ring->tail);
    FILL(ring->head);
}

static void fill_record(struct record_header *header) {
    FILL(header->bytes);
    FILL(header->kind);
}

int main(void) {
    WRITE(segment_header);
    FILL(segment_header.magic);
    FILL(segment_header.layout_version);
    FILL(segment_header.state);
    FILL(segment_header.lock_base);
    FILL(segment_header.segment_bytes);
    FILL(segment_header.segment_id);
    FILL(segment_header.created_wall_ns);
    FILL(segment_header.slots);
    FILL(segment_header.command_bytes);
    FILL(segment_header.response_bytes);
    FILL(segment_header.event_bytes);
    FILL(segment_header.wait_mechanism);
    FILL(segment_header.library_version);
    FILL(segment_header.boot_id);
    FILL(segment_header.incoming_bytes);
    FILL(segment_header.last_kept);
    FILL(segment_header.interrupt_stamp);
    FILL(segment_header.slept_stamp);
    FILL(segment_header.sleep_note);
    FILL(segment_header.epoch);
    FILL(segment_header.worker_pid);
    FILL(segment_header.worker_since);
    FILL(segment_header.services);
    FILL(segment_header.services_up);
    FILL(segment_header.services_sequence);
    fill_bell(&segment_header.worker_bell);
    DONE(segment_header);

    WRITE(listener_table);
    FILL(listener_table.count);
    FILL(listener_table.sequence);
    FILL(listener_table.names);
    DONE(listener_table);

    WRITE(service_entry);
    FILL(service_entry.name);
    FILL(service_entry.health);
    FILL(service_entry.reserved);
    DONE(service_entry);

    WRITE(slot_header);
    FILL(slot_header.state);
    FILL(slot_header.generation);
    FILL(slot_header.pid);
    FILL(slot_header.response_wanted);
    FILL(slot_header.since);
    FILL(slot_header.next_request);
    FILL(slot_header.last_stamp);
    FILL(slot_header.client);
    FILL(slot_header.notified);
    FILL(slot_header.notified_failed);
    FILL(slot_header.closing);
    FILL(slot_header.event_mask);
    fill_bell(&slot_header.client_bell);
    FILL(slot_header.event_sequence);
    fill_ring(&slot_header.command);
    fill_ring(&slot_header.response);
    fill_ring(&slot_header.event);
    fill_ring(&slot_header.incoming);
    FILL(slot_header.incoming_sequence);
    FILL(slot_header.serving);
    FILL(slot_header.serving_mask);
    DONE(slot_header);

    WRITE(command_record);
    fill_record(&command_record.header);
    FILL(command_record.control);
    FILL(command_record.request);
    FILL(command_record.stamp);
    FILL(command_record.ttl);
    FILL(command_record.generation);
    FILL(command_record.message);
    FILL(command_record.flags);
    FILL(command_record.payload_bytes);
    DONE(command_record);

    WRITE(response_record);
    fill_record(&response_record.header);
    FILL(response_record.request);
    FILL(response_record.generation);
    FILL(response_record.code);
    FILL(response_record.payload_bytes);
    FILL(response_record.message);
    FILL(response_record.placed);
    DONE(response_record);

    WRITE(event_record);
    fill_record(&event_record.header);
    FILL(event_record.sequence);
    FILL(event_record.generation);
    FILL(event_record.message);
    FILL(event_record.payload_bytes);
    FILL(event_record.reserved);
    DONE(event_record);

    WRITE(incoming_record);
    fill_record(&incoming_record.header);
    FILL(incoming_record.control);
    FILL(incoming_record.number);
    FILL(incoming_record.stamp);
    FILL(incoming_record.generation);
    FILL(incoming_record.message);
    FILL(incoming_record.payload_bytes);
    FILL(incoming_record.timeout_ms);
    DONE(incoming_record);

    /* The numbers that both sides must agree on. */
    const uint64_t numbers[] = {LAYOUT_VERSION,       LOCK_BASE,         MAX_SLOTS,         RECORD_ALIGN,       INTERRUPT_RESERVE,
                                MAX_INTERRUPT_BYTES,  MAX_EVENT_BYTES,   MAX_SERVICES,      MIN_RING_BYTES,     MAX_RING_BYTES,
                                SEGMENT_HEADER_BYTES, SLOTS_OFFSET,      SLOT_HEADER_BYTES, SEGMENT_READY,      SEGMENT_REPLACED,
                                WAIT_FUTEX,           WAIT_POLL,         SLOT_FREE,         SLOT_CLAIMED,       SLOT_QUARANTINED,
                                RECORD_PAD,           RECORD_COMMAND,    RECORD_RESPONSE,   RECORD_EVENT,       STATE_PUBLISHED,
                                STATE_ACCEPTED,       STATE_ANSWERED,    STATE_CANCELLED,   COMMAND_NOTIFY,     COMMAND_JSON,
                                MAX_LISTENERS,        LISTENERS_OFFSET,  RECORD_INCOMING,   INCOMING_PUBLISHED, INCOMING_TAKEN,
                                INCOMING_ANSWERED,    INCOMING_WITHDRAWN};
    write_image("numbers", numbers, sizeof numbers);
    write_image("magic", SEGMENT_MAGIC, 8);
    return 0;
}
