/* acting.h: what actor.c and serving.c share: their log, and where to find what in a segment. See actor.c. */
#ifndef ACTING_H
#define ACTING_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"
#include "segment.h"
#include "system.h"

#define MS UINT64_C(1000000)
#define RING_BYTES 16384
#define NAME 64

static const char *who = "worker", *segment_name;
static intptr_t log_file;

static void say(const char *format, ...) {
    char line[512];
    int length = snprintf(line, sizeof line, "\n%" PRIu64 " %s ", os_clock_ns(), who);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(line + length, sizeof line - (size_t)length - 2, format, arguments);
    va_end(arguments);
    memcpy(line + length, " .", 2);
    if (write_log(log_file, line, (size_t)length + 2) != 0)
        die(4);
}

static int offsets(void) {
    printf(
        "{\"first\": %zu, \"slot\": %u, \"slots\": 16, \"name\": %zu, \"generation\": %zu, \"command_tail\": %zu, \"command_head\": %zu}\n",
        (size_t)SLOTS_OFFSET, SLOT_HEADER_BYTES + 4 * RING_BYTES, offsetof(struct slot_header, client),
        offsetof(struct slot_header, generation), offsetof(struct slot_header, command),
        offsetof(struct slot_header, command) + offsetof(struct ring_header, head));
    return 0;
}

#endif
