/* iblbridge_worker.h: the worker's side of a segment, for the Python worker. Not for foreign programs: it may change with every version.
 *
 * One worker object serves one segment. `iblbw_take` and `iblbw_take_interrupts` are called by one thread; everything else by any.
 * Functions return 0 or a count, or a negative code of iblbridge.h, whose sentence iblb_last_error(0, ...) gives. After IBLB_E_SUPERSEDED
 * nothing may be dispatched any more. Nor after IBLB_E_SEGMENT: the segment was overwritten or its file cut short (which does not kill this
 * process: iblbw_open installs a handler of SIGBUS, and passes on those that are not its own). After IBLB_E_STALE from iblbw_take (the file
 * was removed, or another put in its place) what was taken may still be accepted and answered; iblbw_close then tells the clients.
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
#define IBLBW_LEFT 8

/* For iblb_subscribe, by `iblbridge watch` alone: commands of all clients, when they are taken and when they are answered. Not an event of
 * the public interface: whoever asks for all events does not get it. */
#define IBLBW_COMMANDS 1048576

/* A message for iblb_send, by `iblbridge reload` alone: the worker reads its files of services and settings again. The response comes when
 * it has done that, or says why it has not (IBLB_E_ARGS). Not a message of the public interface. */
#define IBLBW_RELOAD 262144

/* Messages in `struct iblbw_command` that are no commands: what a program that serves a listener says (iblb_answer and iblb_fail;
 * iblb_tell). Notifications without a time to live, to be answered with iblbw_respond as those are. `services` is the listener's name; the
 * arguments are
 *
 *     ANSWER  [number, message, master, status, failed, data]  number: of the incoming command; message, master: copied from it; status: -1
 *             for the usual one; data: the reply as JSON text, or nil; of one that failed the sentence
 *     TELL    [message, data]                                  data: JSON text, or nil
 *
 * An older worker's are as good as our own. Whatever a broken program wrote may stand there: that they are two whole msgpack objects, and
 * the first a str, is all that was looked at. */
#define IBLBW_ANSWER 32768
#define IBLBW_TELL 65536

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
    unsigned int flags;          /* IBLBW_NOTIFY; IBLBW_JSON: the arguments are JSON text; IBLBW_ORPHAN: accepted by an earlier worker;
                                    IBLBW_LEFT: of a client whose slot had another owner before we came: nobody waits for an answer */
    unsigned int payload_offset; /* in the payload buffer of the batch */
    unsigned int payload_bytes;  /* two msgpack objects: str of the services' names, arguments */
};

/* Makes or adopts the segment and takes its worker lock. Sizes: 0 for the default. *worker: NULL on error.
 * Returns 0, IBLB_E_WORKER_BUSY (naming the other), _PERMISSION, _MEMORY, _NAME, _SYSTEM, _ARGUMENT. */
IBLB_API int iblbw_open(const char *segment, int slots, int command_bytes, int response_bytes, int event_bytes, int incoming_bytes,
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

/* The number, modulo 2^32, of the last record that a worker has kept beside the segment; 0 if none has. The second notes another one, at
 * once: no record before that will be believed by a later worker. */
IBLB_API unsigned int iblbw_last_kept(struct iblbw_worker *worker);
IBLB_API int iblbw_note_kept(struct iblbw_worker *worker, unsigned int number);

/* Publishes the services' names (UTF-8, separated by newlines, in configured order), and how many are up. IBLB_E_ARGUMENT if there are more
 * than 128 or one is longer than 111 bytes. */
IBLB_API int iblbw_services(struct iblbw_worker *worker, const char *names);
IBLB_API int iblbw_services_up(struct iblbw_worker *worker, int count);

/* Publishes what is known of one service, by its place in that order: whether it is down, and when it was last heard (ns of iblb_clock_ns;
 * 0: never). For iblbw_inspect. */
IBLB_API int iblbw_service_health(struct iblbw_worker *worker, int index, int down, unsigned long long heard);

/* Waits up to timeout_ms for commands and copies them out: descriptors in order of (interrupt first, stamp, slot), payloads one after the
 * other; of every client the same part of `most`, so that who floods holds up nobody. Changes no command's state. Returns how
 * many, 0 also after a signal or iblbw_ring. Frees the slots of dead clients on the way. IBLB_E_SUPERSEDED, _SEGMENT, _STALE: as above. */
IBLB_API int iblbw_take(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload, int capacity,
                        int timeout_ms);

/* The same, of interrupts only: everything else stays where it is, and wakes nobody. For a worker that has to wait for something, such as
 * its disk, before it takes more. */
IBLB_API int iblbw_take_interrupts(struct iblbw_worker *worker, struct iblbw_command *commands, int most, unsigned char *payload,
                                   int capacity, int timeout_ms);

/* To be called directly before a command's first datagram. 0: it is ours, send it. IBLB_E_EXPIRED, IBLB_E_ABORTED: answer it so with
 * iblbw_respond. IBLB_E_CANCELLED: its owner withdrew it; no answer. IBLB_E_SUPERSEDED, _SEGMENT: nothing more. */
IBLB_API int iblbw_accept(struct iblbw_worker *worker, const struct iblbw_command *command);

/* Places the response, then marks the command answered; accepted or not. A notification is only counted (by the sign of `code`), and the
 * answer of a dead client dropped. IBLB_E_FULL: no room until the client reads; call again after a later iblbw_take. IBLB_E_SUPERSEDED,
 * _SEGMENT: nothing more. */
IBLB_API int iblbw_respond(struct iblbw_worker *worker, const struct iblbw_command *command, int code, const unsigned char *body,
                           int bytes);

/* Gives an event to every client that wants it (`body`: one msgpack map, at most 16 KiB). A client without room loses it; the gap shows in
 * its sequence numbers. Never blocks. Returns how many got it, or IBLB_E_ARGUMENT, _TOO_LARGE, _SUPERSEDED, _FORKED. */
IBLB_API int iblbw_publish_event(struct iblbw_worker *worker, int message, const unsigned char *body, int bytes);

/* 1 if a client has subscribed to events of this number: whether it is worth making one. */
IBLB_API int iblbw_is_wanted(struct iblbw_worker *worker, int message);

/* The name of a client that ended without iblb_close (killed, by exit, by unloading the library), each once, as iblbw_take finds them. 1 if
 * there was one, else 0. To be called again once that is kept: until then its slot is not free, and the next worker finds it as well. */
IBLB_API int iblbw_lost_client(struct iblbw_worker *worker, char *name, int capacity);

/* The name of the client that a command that was taken came from; "" if its slot has another owner by now, or had when we came. */
IBLB_API int iblbw_client_of(struct iblbw_worker *worker, const struct iblbw_command *command, char *name, int capacity);

/* 1 if a client of this name is attached. */
IBLB_API int iblbw_client_attached(struct iblbw_worker *worker, const char *name);

/* --- programs that serve (incoming.c): what a master asks of a listener of this worker is handed to the program that serves it. All of
 * these return a negative code beside what is named: IBLB_E_SUPERSEDED, _SEGMENT, _FORKED, _ARGUMENT. --- */

/* One command that was handed to a program, or inherited: where it is (opaque to the caller), and the number that its ANSWER bears. */
struct iblbw_incoming {
    unsigned long long number;
    unsigned long long position;
    unsigned int slot;
    unsigned int generation;
};

/* Publishes the listeners' names (UTF-8, separated by newlines; "" for none). To be called once at least: until then iblb_serve waits.
 * IBLB_E_ARGUMENT if there are more than 16 or one is longer than 63 bytes. */
IBLB_API int iblbw_listeners(struct iblbw_worker *worker, const char *names);

/* 1 if a living client serves the listener: which messages it wants, and its name. Else 0. */
IBLB_API int iblbw_server_of(struct iblbw_worker *worker, const char *service, unsigned int *mask, char *client, int capacity);

/* The process of the client that serves the listener, for people; 0 if nobody does. */
IBLB_API unsigned int iblbw_server_pid(struct iblbw_worker *worker, const char *service);

/* Which program that is: a number that no other has, not even the next one of the same name; 0 if nobody serves the listener. */
IBLB_API unsigned long long iblbw_server_claim(struct iblbw_worker *worker, const char *service);

/* The largest body that iblbw_hand takes: the capacity that iblbw_inherit is to be given. */
IBLB_API int iblbw_largest_incoming(struct iblbw_worker *worker);

/* Hands a command to the program that serves the listener. `body`: one msgpack map with str keys, "service" and "master"
 * first (at most 63 bytes each), then "message", "args", "time", "wall", "timeout_ms"; what JSON cannot say (NaN, bytes)
 * becomes what it becomes in responses. `stamp`: ns, when it arrived; `timeout_ms` from then on no program takes it any
 * more, 0: whenever. Returns 0 and the token; IBLB_E_EXPIRED: the PC slept since it arrived; IBLB_E_NO_SLOT: nobody serves
 * it; IBLB_E_MESSAGE: the program does not want this message; IBLB_E_FULL, _TOO_LARGE; IBLB_E_ARGUMENT: not such a map. */
IBLB_API int iblbw_hand(struct iblbw_worker *worker, const char *service, int message, unsigned long long stamp, int timeout_ms,
                        const unsigned char *body, int bytes, struct iblbw_incoming *incoming);

/* What arrived before this (ns) came before the PC slept: iblbw_hand refuses it, and no program takes it any more. 0: it never slept. */
IBLB_API unsigned long long iblbw_slept(struct iblbw_worker *worker);

/* What has become of it: IBLBW_WAITING; IBLBW_TAKEN: the program has it; IBLBW_ANSWERED: its ANSWER has come or will come
 * through iblbw_take; IBLBW_WITHDRAWN (ANSWERED once the program has given its room back: ask no more of what you
 * withdrew); IBLBW_GONE: the program closed or died, or wrote nonsense. If no ANSWER has come by the time that this is
 * GONE, none ever will, and the next worker does not inherit it. The death of a program shows after an iblbw_take,
 * within 250 ms. */
#define IBLBW_WAITING 0
#define IBLBW_TAKEN 1
#define IBLBW_ANSWERED 2
#define IBLBW_WITHDRAWN 3
#define IBLBW_GONE 4
IBLB_API int iblbw_incoming_state(struct iblbw_worker *worker, const struct iblbw_incoming *incoming);

/* Takes it back, whether the program has it or not: 0, tell the master, the program's answer is refused from now on; 1:
 * the program was first, its ANSWER comes (late, if it is stopped between two instructions: bound the wait); IBLBW_GONE:
 * as above. */
IBLB_API int iblbw_withdraw(struct iblbw_worker *worker, const struct iblbw_incoming *incoming);

/* Takes it back only if the program does not have it yet: 0, it never will; 1: it has it, or has answered it; IBLBW_GONE. */
IBLB_API int iblbw_recall(struct iblbw_worker *worker, const struct iblbw_incoming *incoming);

/* The next command that an earlier worker had handed out and that nobody has answered: each once. To be called until it returns 0, before
 * the first iblbw_take: then the programs that are gone are still among them (IBLBW_GONE comes with the take). Returns 1; 0: no more;
 * IBLB_E_TOO_LARGE: `capacity` is less than iblbw_largest_incoming. */
IBLB_API int iblbw_inherit(struct iblbw_worker *worker, struct iblbw_incoming *incoming, int *message, unsigned long long *stamp,
                           unsigned char *body, int capacity, int *bytes);

/* Makes iblbw_take return soon. */
IBLB_API void iblbw_ring(struct iblbw_worker *worker);

/* --- what leaves for the services --- */

/* One datagram: from where and whereto, and what became of it. */
struct iblbw_datagram {
    long long socket;     /* the system's handle of a UDP socket that does not block */
    unsigned int address; /* IPv4: 127.0.0.1 is 0x7F000001 */
    int port;
    int bytes;               /* of the payload */
    int error;               /* out: 0: it left; else errno, on Windows WSAGetLastError */
    unsigned long long sent; /* out: ns of iblb_clock_ns, from directly before it was handed over */
};

/* Sends datagrams, one directly behind the other, with nothing of the caller's in between: where a language has a lock around its
 * interpreter, other threads take it between two calls of its own. `payloads`: theirs, without a gap. One that fails does not keep the
 * others. Never blocks. Returns how many left. */
IBLB_API int iblbw_send_datagrams(struct iblbw_datagram *datagrams, int count, const unsigned char *payloads);

/* --- seeing what there is, and removing what nobody owns (iblbridge doctor). No worker object is needed; nothing is mapped. --- */

/* What a segment's file says, and what the kernel says of its locks. */
struct iblbw_report {
    unsigned long long bytes; /* the file's size */
    unsigned long long segment_id;
    unsigned long long created_wall_ns;
    unsigned long long worker_since; /* ns of iblb_clock_ns */
    int code;                        /* 0: clients can use it; else what iblb_open would return, with its sentence */
    int is_segment;                  /* it begins as one does; else nothing is known but its locks */
    int same_boot;
    int worker_alive; /* the worker lock is held: the worker lives, or is stopped */
    int locks;        /* how many locks are held, the worker's included */
    unsigned int layout_version;
    unsigned int library_version;
    unsigned int worker_pid; /* 0: the last one stopped in order */
    unsigned int epoch;
    unsigned int last_kept; /* as iblbw_last_kept */
    unsigned int slots;     /* 0 if its layout cannot be read */
    unsigned int services;
    unsigned int services_up;
    unsigned int service_down[128];        /* by service: 1 if it is down */
    unsigned long long service_heard[128]; /* ns of iblb_clock_ns, to the second; 0: never */
    char worker_name[32];                  /* of the process that has this pid now */
    unsigned int listeners;
    char listener[16][64]; /* names under which the worker is a service itself */
    char sentence[1024];
};

struct iblbw_slot_report {
    unsigned long long since; /* ns of iblb_clock_ns */
    int alive;                /* the slot's lock is held: its owner lives, or is stopped */
    int state;                /* 0 free, 1 claimed, 2 quarantined; else damaged */
    int pending;              /* commands without an answer; -1: the ring makes no sense */
    int waiting;              /* of these those that a worker would send now: no questions */
    unsigned int pid;
    unsigned int generation;
    char client[64];
    char process[32]; /* name of the process that has this pid now */
    char serving[64]; /* the listener that the client serves; "" if none */
    int closed;       /* its owner has closed it in order, or is just at it; or that it was lost is noted */
};

/* The directory of all segments. IBLB_E_NO_SEGMENT if there is none, _PERMISSION if it is not ours alone; the text is there all the same.
 */
IBLB_API int iblbw_directory(char *text, int capacity);

/* Reads the file `name` in that directory: `slots` has room for 64, `services` gets the names, one a line. Returns 0 whatever the file says
 * of itself, or IBLB_E_NO_SEGMENT, _PERMISSION, _SYSTEM, _ARGUMENT if it cannot be read. */
IBLB_API int iblbw_inspect(const char *name, struct iblbw_report *report, struct iblbw_slot_report *slots, char *services, int capacity);

/* 1 if `name` is that of a segment, 2 if that of a half-made one (`.<segment>.<16 hex digits>`), else 0. */
IBLB_API int iblbw_kind(const char *name);

/* Removes the file `name` if it has no owner: takes every lock that one could hold, looks whether the path still leads to that file,
 * removes what is kept beside it, marks it REPLACED and unlinks it. Returns 0; IBLB_E_WORKER_BUSY, _NAME_TAKEN: somebody holds it (if only
 * stopped); _SEGMENT: it does not begin as a segment does; _STALE: it was just replaced; _NO_SEGMENT, _PERMISSION, _SYSTEM, _NAME. */
IBLB_API int iblbw_clean(const char *name);

#ifdef __cplusplus
}
#endif

#endif
