/* iblbridge_worker.h: the worker's side of a segment, for the Python worker. Not for foreign programs: it may change with every version.
 *
 * One worker object serves one segment. `iblbw_take` is called by one thread; everything else by any. Functions return 0 or a count, or a
 * negative code of iblbridge.h, whose sentence iblb_last_error(0, ...) gives. After IBLB_E_SUPERSEDED nothing may be dispatched any more.
 */
#ifndef IBLBRIDGE_WORKER_H
#define IBLBRIDGE_WORKER_H

#include "iblbridge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What iblbw_take sets in `flags`. */
#define IBLBW_NOTIFY 1
#define IBLBW_JSON 2
#define IBLBW_ORPHAN 4

struct iblbw_worker;

/* One command: where it is (slot, generation, position, request: opaque to the caller) and what it says. */
struct iblbw_command {
    unsigned long long request;
    unsigned long long position;
    unsigned long long stamp; /* ns: when it was sent */
    long long ttl;            /* ns; negative: none */
    unsigned int slot;
    unsigned int generation;
    int message;
    unsigned int flags;          /* IBLBW_NOTIFY; IBLBW_JSON: the arguments are JSON text; IBLBW_ORPHAN: accepted by an earlier worker */
    unsigned int payload_offset; /* in the payload buffer of the batch */
    unsigned int payload_bytes;  /* two msgpack objects: str of the services' names, arguments */
};

/* Makes or adopts the segment and takes its worker lock. Sizes: 0 for the default. *worker: NULL on error.
 * Returns 0, IBLB_E_WORKER_BUSY (naming the other), _PERMISSION, _MEMORY, _NAME, _SYSTEM, _ARGUMENT. */
IBLB_API int iblbw_open(const char *segment, int slots, int command_bytes, int response_bytes, int event_bytes,
                        struct iblbw_worker **worker);

/* Lets go of the segment; remove != 0: clients are told it is gone, and its file is removed. The object is freed. */
IBLB_API void iblbw_close(struct iblbw_worker *worker, int remove);

/* The segment's file; why an older one was replaced ("" if none was). */
IBLB_API int iblbw_path(struct iblbw_worker *worker, char *text, int capacity);
IBLB_API int iblbw_replaced(struct iblbw_worker *worker, char *text, int capacity);

/* The segment's id, the worker's epoch, the largest response body that is written whole (a quarter of the response ring), and the largest
 * command's payload: the least capacity that iblbw_take is to be given. */
IBLB_API unsigned long long iblbw_segment_id(struct iblbw_worker *worker);
IBLB_API int iblbw_epoch(struct iblbw_worker *worker);
IBLB_API int iblbw_largest_response(struct iblbw_worker *worker);
IBLB_API int iblbw_largest_command(struct iblbw_worker *worker);

/* Publishes the services' names (UTF-8, separated by newlines, in configured order), and how many are up. IBLB_E_ARGUMENT if there are more
 * than 128 or one is longer than 111 bytes. */
IBLB_API int iblbw_services(struct iblbw_worker *worker, const char *names);
IBLB_API int iblbw_services_up(struct iblbw_worker *worker, int count);

/* Waits up to timeout_ms for commands and copies them out: descriptors in order of (interrupt first, stamp, slot), payloads one after the
 * other. Changes no command's state. Returns how many, 0 also after a signal or iblbw_ring. Frees the slots of dead clients on the way. */
IBLB_API int iblbw_take(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload, int capacity,
                        int timeout_ms);

/* To be called directly before a command's first datagram. 0: it is ours, send it. IBLB_E_EXPIRED, IBLB_E_ABORTED: answer it so with
 * iblbw_respond. IBLB_E_CANCELLED: its owner withdrew it; no answer. IBLB_E_SUPERSEDED. */
IBLB_API int iblbw_accept(struct iblbw_worker *worker, const struct iblbw_command *command);

/* Places the response, then marks the command answered; accepted or not. A notification is only counted (by the sign of `code`), and the
 * answer of a dead client dropped. IBLB_E_FULL: no room until the client reads; call again after a later iblbw_take. */
IBLB_API int iblbw_respond(struct iblbw_worker *worker, const struct iblbw_command *command, int code, const unsigned char *body,
                           int bytes);

/* Makes iblbw_take return soon. */
IBLB_API void iblbw_ring(struct iblbw_worker *worker);

#ifdef __cplusplus
}
#endif

#endif
