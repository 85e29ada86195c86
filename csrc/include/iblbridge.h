/* iblbridge.h: start, stop and query the remote services of a rig with plain C calls.
 *
 * Your program writes a command into shared memory. The worker (`iblbridge serve --segment rig0`) sends it over UDP to every service, and
 * writes back what each one really did. Nothing here opens a socket.
 *
 *     int h, r;
 *     char json[65536];
 *     if (iblb_open("rig0", "stimulus", 2000, &h) < 0) ...
 *     int status = iblb_call(h, "", IBLB_EXPSTART, "[\"2026-01-01_1_subject\"]", 12000, json, sizeof json, &r);
 *     iblb_close(h);
 *
 * Most programs need only the four functions under "Simple". The others follow in groups: send and wait, events, serving (your program as a
 * service of the rig), leaving unfinished, codes, inspection.
 *
 * BEFORE YOU BEGIN
 *
 * - Every function returns a status: 0 is success, negative an error, positive a warning (it worked). `iblb_error_text` explains a code.
 *   `iblb_last_error` explains the case at hand, in one sentence that says what to do.
 * - A command that the worker accepted may have started a camera even if no answer came. IBLB_E_PENDING, IBLB_E_TIMEOUT and
 *   IBLB_E_OUTCOME_UNKNOWN mean "ask IBLB_EXPSTATUS before you repeat". IBLB_E_NOT_SENT and IBLB_E_EXPIRED mean that nothing was sent.
 * - After fork() the child's handles return IBLB_E_FORKED; the parent's go on. Open anew in the child.
 * - If this process dies, whatever it had sent is still carried out. The worker frees its slot.
 * - Only iblb_close tells the worker that your work is done. If your program is killed, ends by exit or by an exception, or unloads the
 *   library with a handle open, its client is lost (event CLIENT_LOST). The worker then does what it is configured to do
 *   (on_client_lost: stop the cameras). iblb_abandon says the same at once. A client that opens anew under the same name has come back.
 * - A thread that is cancelled (pthread_cancel, Qt's terminate on Linux) ends within 100 ms if it waits, otherwise after the call.
 *   Nothing stays locked, and its request stays open. Nothing helps against TerminateThread on Windows, a longjmp out of a signal
 *   handler, or a cancellation that takes effect in a signal handler: each may leave the handle locked.
 * - Call nothing of this from a signal handler: the thread that it interrupts may hold what it would wait for, for ever. Set a flag
 *   there, and look at it between waits. (What SetConsoleCtrlHandler on Windows, or Python, calls a handler may call everything.)
 * - Truncating the segment's file while it is mapped kills the process that touches it (SIGBUS). Only malice or a broken clean-up script
 *   does that.
 *
 * RULES FOR ALL FUNCTIONS
 *
 * - Any thread may call any function at any time. A wait in one thread holds up no other call. Use after close is an error, not a crash.
 * - Memory belongs to the caller, and nothing is kept after a call returns. The out-pointers `handle` and `request` must not be NULL; any
 *   other out-pointer may.
 * - Text in is UTF-8 and ends with a NUL. NULL, "" and white space mean "none". Text out is ASCII (JSON with \uXXXX), and ends with a NUL
 *   if capacity > 0. `capacity` and `needed` count bytes, the NUL included.
 * - Waiting times are milliseconds. Stamps in responses are nanoseconds of `iblb_clock_ns`. A timeout_ms of 0 looks once; a negative one
 *   is an error. A wait ends at most 100 ms after its time.
 * - The environment variable IBLBRIDGE_DIR sets the segment's directory. The default is /dev/shm/iblbridge-<uid> on Linux,
 *   %LOCALAPPDATA%\iblbridge on Windows, and iblbridge in the user's cache directory on macOS. Never use a network file system or OneDrive.
 *
 * MESSAGES, AND THEIR ARGUMENTS (a JSON array in this order; those in brackets may be left out)
 *
 *     IBLB_EXPINIT       [data]             IBLB_EXPSTART      exp_ref, [data]      exp_ref: text "2026-01-01_1_subject", or an object
 *     IBLB_EXPEND        [data]             IBLB_EXPINTERRUPT  [data]                   {"date": text, "sequence": int, "subject": text}
 *     IBLB_EXPCLEANUP    [data]             IBLB_EXPSTATUS     [status]             status: 0 CONNECTED, 10 INITIALIZED, 20 RUNNING,
 *     IBLB_EXPINFO       [status, [data]]   IBLB_ALYX          [url, [token]]           30 STOPPED, as number or text; 0 if left out
 *     IBLB_PING, IBLB_SERVICES  none: the worker answers itself, and no service hears of them. IBLB_SERVICES gives one entry per
 *     configured service ("not_sent", for nobody is asked); its data is {role: "service", name, uri, health, age_ms, rtt_us, status,
 *     exp_ref, last_error}; then, if all are asked for, one per listener of the worker (see iblb_serve), whose data has the same keys, with
 *     role "listener", and {client, pid, masters, refused}.
 *
 * ALYX with url and token pushes the token, and no service replies. With the url alone, or with neither, it asks for a token (a service
 * may answer only if the url is its own). An experiment's reference has an ISO date, a number from 1, and a subject that can be the name
 * of a folder. Any other is IBLB_E_ARGS, because iblrig's services cannot take it apart, unless the worker runs with --any-reference.
 *
 * THE RESPONSE (JSON object or msgpack map; every key always present, always of this type)
 *
 *     request   int    what send returned            command_id  text  the key of this command in journals and logs
 *     message   text   "EXPSTART"                    code        int   the status that wait returned
 *     error     text   "" or one sentence            wall        text  ISO 8601 with offset, when the worker accepted the command
 *     services  array, in configured order, of
 *         name   text
 *         ok     bool   true only if it did what was asked
 *         state  text   "not_sent" | "unreachable" (sent, no echo) | "echoed" (received, no reply) | "answered"
 *         reason text   "" if ok, else why, as one word for programs: see the list of reasons below
 *         error  text   a sentence for people: why it is not ok, or what of an ok one was left out (IBLB_W_SHORTENED); else ""
 *         data   object EXPINFO {status, info}, EXPSTATUS {status}, other messages {value}; {} if there is none. What these keys cannot
 *                       say stands beside them: reply (all that the service said, as array), event (the number, if it was another)
 *                       (value: what the service itself replied, EXPSTART for example [exp_ref, {...}] at a camera of iblrig)
 *         status int    what the service says it does, if its reply says it, else -1: IBLB_STATUS_RUNNING, ...
 *         sent, echoed, answered   int   ns, 0 for never
 *     sent, accepted, finished     int   ns, 0 for never
 *
 * THE STATUS OF A COMMAND, as iblb_call and iblb_wait return it together with a response
 *
 *     0                       every addressed service did what was asked
 *     IBLB_W_OPTIONAL         so did all but one that is configured as optional
 *     IBLB_W_STATUS           all answered, but one reports a status that contradicts the command
 *     IBLB_W_SHORTENED        data were left out of the response, because it was too large
 *     IBLB_W_NO_SERVICES      the worker has no services
 *     IBLB_E_PARTIAL          some did it and some did not
 *     IBLB_E_ALL_FAILED       none did it
 *     IBLB_E_EXPIRED          too old; nothing was sent
 *     IBLB_E_ABORTED          an EXPINTERRUPT, or the worker's stop, overtook it
 *     IBLB_E_OUTCOME_UNKNOWN  the worker died after it had begun to send it
 *     IBLB_E_ARGS, IBLB_E_SERVICE, IBLB_E_TOO_LARGE, IBLB_E_MESSAGE, IBLB_E_JSON   the worker refused it
 *     IBLB_E_INTERNAL         the worker failed at it
 */
#ifndef IBLBRIDGE_H
#define IBLBRIDGE_H

#ifndef IBLB_API
#define IBLB_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define IBLB_VERSION 100

/* Messages: the numbers of iblutil's ExpMessage, and the worker's own from 4096. */
#define IBLB_EXPINIT 1
#define IBLB_EXPSTART 2
#define IBLB_EXPEND 4
#define IBLB_EXPCLEANUP 8
#define IBLB_EXPINTERRUPT 16
#define IBLB_EXPSTATUS 32
#define IBLB_EXPINFO 64
#define IBLB_ALYX 128
#define IBLB_PING 4096
#define IBLB_SERVICES 8192

/* Events of the worker itself, for iblb_subscribe beside the messages above (IBLB_PING and IBLB_SERVICES are none). */
#define IBLB_SERVICE_UP 256
#define IBLB_SERVICE_DOWN 512
#define IBLB_CLIENT_LOST 1024
#define IBLB_WORKER_RESTARTED 2048
#define IBLB_EXPERIMENT_LOST 16384   /* a service that ran is back without its experiment */
#define IBLB_SERVICES_CHANGED 131072 /* the worker has other services now, or other settings of them */

/* The status of a service, as EXPSTATUS and EXPINFO give and take it, and as an entry of a response says it. */
#define IBLB_STATUS_CONNECTED 0
#define IBLB_STATUS_INITIALIZED 10
#define IBLB_STATUS_RUNNING 20
#define IBLB_STATUS_STOPPED 30

/* Codes: who returns it; what happened. (Generated from codes.def by csrc/generate.) */
/* clang-format off */
/* codes: begin */
#define IBLB_OK 0 /* all: Done. */
#define IBLB_E_ARGUMENT -8001 /* all: A parameter is NULL, negative or out of range. */
#define IBLB_E_HANDLE -8002 /* all with a handle: The handle is unknown or was closed. */
#define IBLB_E_CLOSED -8003 /* wait, call: The handle was closed during the call, by another thread. */
#define IBLB_E_FORKED -8004 /* all with a handle: The handle belongs to the parent process. */
#define IBLB_E_NAME -8005 /* open: The segment's or client's name cannot be used. */
#define IBLB_E_HANDLES -8006 /* open: This process has opened as many handles as the library can hold (64). */
#define IBLB_E_NO_SEGMENT -8010 /* open: There is no segment of this name. */
#define IBLB_E_SEGMENT -8011 /* open, send, wait, call: The segment is damaged. */
#define IBLB_E_VERSION -8012 /* open: The segment was made by another version of iblbridge. */
#define IBLB_E_STALE -8013 /* all with a handle, open: The segment was replaced by a new one, or removed. */
#define IBLB_E_PERMISSION -8014 /* open: The segment or its directory is not ours, or can be reached by others. */
#define IBLB_E_NO_SLOT -8015 /* open: All client slots are taken. */
#define IBLB_E_NAME_TAKEN -8016 /* open, serve: Another living process is attached under this client name, or serves this listener. */
#define IBLB_E_QUARANTINED -8017 /* send, wait, call: The worker found nonsense in this client's rings and has stopped reading them. */
#define IBLB_E_NO_WORKER -8018 /* wait, call, next_event, next_command: No worker serves the segment. */
#define IBLB_E_WORKER_BUSY -8019 /* worker: Another worker serves this segment, or is stopped but alive. */
#define IBLB_E_SYSTEM -8020 /* open: The operating system refused a call. */
#define IBLB_E_MEMORY -8021 /* open, send: There is no memory or no space left for the segment. */
#define IBLB_E_SUPERSEDED -8022 /* worker: Another worker has taken over the segment. */
#define IBLB_E_MESSAGE -8030 /* send, notify, call, serve, tell: The message number is unknown. */
#define IBLB_E_SERVICE -8031 /* send, notify, wait, call, serve, next_command, tell: A named service is not in the worker's configuration, or this handle serves none. */
#define IBLB_E_UTF8 -8032 /* open, send, notify, call, serve, answer, fail, tell: A text is not valid UTF-8. */
#define IBLB_E_JSON -8033 /* send, notify, call, answer, tell: The arguments are not valid JSON. */
#define IBLB_E_MSGPACK -8034 /* send_msgpack: The arguments are not msgpack that JSON can say. */
#define IBLB_E_ARGS -8035 /* wait, call: The arguments do not fit the message. */
#define IBLB_E_TOO_LARGE -8036 /* send, notify, wait, call, answer, tell: The command is larger than the ring or a datagram can hold. */
#define IBLB_E_FULL -8037 /* send, notify, call, answer, fail, tell: The command ring is full of commands without an answer. */
#define IBLB_E_TOO_MANY -8038 /* send, call, next_command: 1,024 requests of this handle still have to be waited for, or 8 commands that it took to be answered. */
#define IBLB_E_TIMEOUT -8050 /* wait, next_event, next_command: The time is up and there is no response yet. */
#define IBLB_E_REQUEST -8051 /* wait, cancel, withdraw: The request is unknown, its response was already taken, or it was cancelled. */
#define IBLB_E_BUFFER -8052 /* wait, call, texts: The buffer is too small; the response is kept. */
#define IBLB_E_NOT_SENT -8053 /* call: The time was up before the command could be sent; it was withdrawn and nothing was sent. */
#define IBLB_E_PENDING -8054 /* call: There is no answer yet: a worker has accepted the command, and its answer is still to come. */
#define IBLB_E_CANCELLED -8055 /* wait, call: The request was cancelled during the wait, by another thread. */
#define IBLB_E_LATE -8056 /* answer, fail: The master was already told that this command failed, for its time was up. */
#define IBLB_E_COMMAND -8057 /* answer, fail: The number is of no command that was taken, or it was answered already. */
#define IBLB_E_PARTIAL -8070 /* wait, call: Some services did what was asked and some did not. */
#define IBLB_E_ALL_FAILED -8071 /* wait, call: No service did what was asked. */
#define IBLB_E_EXPIRED -8072 /* wait, call: The command was older than its time to live; nothing was sent. */
#define IBLB_E_ABORTED -8073 /* wait, call: An EXPINTERRUPT, or the worker's stop, overtook the command. */
#define IBLB_E_OUTCOME_UNKNOWN -8074 /* wait, call: The worker died after it had begun to send the command. */
#define IBLB_E_INTERNAL -8075 /* wait, call: The worker failed at this command. */
#define IBLB_W_NO_WORKER 5001 /* open, send, notify, serve, answer, fail, tell: No worker serves the segment at the moment; commands wait for one until they expire. */
#define IBLB_W_OPTIONAL 5002 /* wait, call: All services did what was asked, except one that is configured as optional. */
#define IBLB_W_ACCEPTED 5003 /* cancel, withdraw: The worker had already accepted the command; after a cancel its answer is discarded. */
#define IBLB_W_SHORTENED 5004 /* wait, call: The response was too large for its ring; data were left out; states are complete. */
#define IBLB_W_STATUS 5005 /* wait, call: All services answered, but the status that one of them reports contradicts the command. */
#define IBLB_W_NO_SERVICES 5006 /* wait, call: The worker has no services: the command reached nobody. */
/* codes: end */
/* clang-format on */

/* Reasons: why a service is not ok, in its entry of a response; more may come. (Generated as well.)
 * reasons: begin
 *     arguments        the arguments do not fit the message
 *     too_large        more than a datagram can hold
 *     unsupported      an address of a kind that cannot be served
 *     address          its host name cannot be looked up, or there is no socket to it
 *     network          this computer's network refused to send
 *     expired          too old when its turn came
 *     unread           not sent, because an earlier command may still lie unread at the service
 *     after            not sent, because a service that it comes after did not do it
 *     refused          its computer says that nobody listens there
 *     no_echo          nothing came back
 *     other_address    it answered from an address other than the configured one
 *     no_reply         it has the command but did not reply in time
 *     doubtful         what it said may be its answer to an earlier command
 *     callback_failed  it says that it failed, such as by an exception of its callback
 *     status           it answered, but the status that it reports contradicts the command
 *     aborted          an EXPINTERRUPT overtook the command
 *     withdrawn        taken back before it was sent
 *     closed           the worker stopped, or the line was closed meanwhile
 *     unknown          not told
 *     internal         the bridge failed
 * reasons: end
 */

/* ---- Simple: most programs need these four ---- */

/* Attaches to a segment as a client.
 *
 *     segment     the name given to `iblbridge serve --segment`
 *     client      your program's name, 1 to 63 bytes; none: "pid-<pid>-<n>-<random>". Names that begin with "iblb" may use the slot kept
 *                 for tools.
 *     timeout_ms  how long to wait for a segment and a living worker
 *     handle      out: a positive number, yours until iblb_close; 0 on error
 *
 * If this process has the same segment open under the same name, as an aborted program leaves it, the old handle is closed.
 *
 * Returns 0, or IBLB_W_NO_WORKER with a valid handle: commands then wait for a worker. Otherwise IBLB_E_NO_SEGMENT (the sentence names the
 * path searched, and another user's), IBLB_E_NAME, IBLB_E_NAME_TAKEN (it names the pid), IBLB_E_NO_SLOT, IBLB_E_VERSION (it names both),
 * IBLB_E_SEGMENT, IBLB_E_STALE, IBLB_E_PERMISSION, IBLB_E_HANDLES, IBLB_E_MEMORY, IBLB_E_SYSTEM, IBLB_E_ARGUMENT, IBLB_E_UTF8. */
IBLB_API int iblb_open(const char *segment, const char *client, int timeout_ms, int *handle);

/* Sends a command and waits for its response.
 *
 *     services    none: all of them; otherwise names separated by commas
 *     message     IBLB_EXPSTART, ...
 *     args_json   none; or a JSON array of the positional arguments; or any other JSON value as the only argument. An array as the only
 *                 argument is [[...]].
 *     timeout_ms  how long to wait; also the command's time to live, as in iblb_send
 *     json        out: the response, in your buffer of `capacity` bytes; NULL: not wanted
 *     request     out: a positive number once the command is in the ring, for iblb_wait and iblb_cancel; 0 on error
 *
 * Returns the status of the command. Otherwise:
 *
 *     IBLB_E_NOT_SENT   time is up, and the worker had not accepted the command: it was withdrawn, nothing was sent
 *     IBLB_E_NO_WORKER  the same, because no worker lives
 *     IBLB_E_PENDING    time is up or the worker died, and it had accepted the command. The answer is still to come: call iblb_wait, do not
 *                       repeat the command.
 *     IBLB_E_BUFFER     `json` is too small; the response is kept: ask for it with iblb_wait
 *
 * and every error of iblb_send and iblb_wait, except IBLB_E_TIMEOUT. */
IBLB_API int iblb_call(int handle, const char *services, int message, const char *args_json, int timeout_ms, char *json, int capacity,
                       int *request);

/* Leaves the segment in order: the work is done. The slot is given back and the handle is invalid from then on. Commands already sent are
 * carried out, and their answers discarded. Waits in other threads end with IBLB_E_CLOSED. Never blocks.
 *
 * Exit, and unloading the library, close what is open, but to the worker such a client is lost.
 *
 * Returns 0, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_close(int handle);

/* The sentence of the last error or warning on this handle, from whatever thread. Handle 0: of the last iblb_open that failed, or of the
 * last call with a bad handle.
 *
 *     text  out: the sentence, in your buffer of `capacity` bytes; empty if there was none. At most 1,024 bytes.
 *
 * Returns 0 or IBLB_E_BUFFER (cut). */
IBLB_API int iblb_last_error(int handle, char *text, int capacity);

/* ---- Send and wait ---- */

/* Writes a command and returns at once, without a system call while the worker is busy.
 *
 *     services, message, args_json   as in iblb_call
 *     ttl_ms   the time to live. A command that has not begun to be sent by then never will be (IBLB_E_EXPIRED), and a service that is
 *              busy for longer is not sent it ("not_sent"). 0: 10,000; negative: no limit.
 *     request  out: a positive number, unique among the handle's outstanding ones; 0 on error
 *
 * Returns 0, or IBLB_W_NO_WORKER (queued). Otherwise IBLB_E_MESSAGE, IBLB_E_SERVICE, IBLB_E_JSON, IBLB_E_UTF8, IBLB_E_TOO_LARGE,
 * IBLB_E_FULL, IBLB_E_TOO_MANY, IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT, IBLB_E_MEMORY, IBLB_E_HANDLE, IBLB_E_FORKED,
 * IBLB_E_ARGUMENT. */
IBLB_API int iblb_send(int handle, const char *services, int message, const char *args_json, int ttl_ms, int *request);

/* As iblb_send, but wants no response. The worker counts and logs what became of the command. Returns as iblb_send, never
 * IBLB_E_TOO_MANY. */
IBLB_API int iblb_notify(int handle, const char *services, int message, const char *args_json, int ttl_ms);

/* Waits for the response to `request`.
 *
 *     json    out: the response, in your buffer of `capacity` bytes; NULL: not wanted
 *     needed  out: its size
 *
 * Returns the status of the command: there is a response, and it is taken. If the buffer is too small, or if `json` is NULL and `needed`
 * is not, returns IBLB_E_BUFFER, and the response stays.
 *
 * Without a response the request stays open: IBLB_E_TIMEOUT; IBLB_E_NO_WORKER at once if no worker lives (a new one will answer);
 * IBLB_E_CLOSED, IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT, IBLB_E_MEMORY, IBLB_E_HANDLE, IBLB_E_FORKED, IBLB_E_ARGUMENT. There is
 * no such request: IBLB_E_REQUEST; not any more, because another thread cancelled it: IBLB_E_CANCELLED. */
IBLB_API int iblb_wait(int handle, int request, int timeout_ms, char *json, int capacity, int *needed);

/* Withdraws a command that no worker has accepted: 0, nothing will be sent, and the request is closed. Otherwise returns IBLB_W_ACCEPTED
 * and changes nothing: wait for the answer. Never blocks.
 *
 * Returns 0, IBLB_W_ACCEPTED, IBLB_E_REQUEST, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_withdraw(int handle, int request);

/* Closes the request. A command that no worker has accepted is withdrawn: 0, nothing will be sent. The answer of an accepted one is
 * discarded when it comes: IBLB_W_ACCEPTED. Never blocks.
 *
 * Returns 0, IBLB_W_ACCEPTED, IBLB_E_REQUEST, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_cancel(int handle, int request);

/* As iblb_send, with the arguments as one msgpack object.
 *
 *     args  `args_bytes` bytes; NULL and 0 for none
 *
 * Returns as iblb_send, with IBLB_E_MSGPACK in place of IBLB_E_JSON. */
IBLB_API int iblb_send_msgpack(int handle, const char *services, int message, const unsigned char *args, int args_bytes, int ttl_ms,
                               int *request);

/* As iblb_wait, with the response as msgpack in `bytes`. `capacity` and `needed` count its bytes; there is no NUL. */
IBLB_API int iblb_wait_msgpack(int handle, int request, int timeout_ms, unsigned char *bytes, int capacity, int *needed);

/* ---- Events: what services and the worker say by themselves ---- */

/* Chooses the events that this handle gets, in place of the earlier choice. What came before is not delivered.
 *
 *     message_mask  the sum of the numbers of messages that services send by themselves (IBLB_EXPINTERRUPT: a camera died), and of
 *                   IBLB_SERVICE_UP to IBLB_SERVICES_CHANGED; 0 for none
 *
 * Returns 0, IBLB_E_MESSAGE (a number that is no event), IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_subscribe(int handle, int message_mask);

/* Takes the next event, in order, and waits for one if there is none.
 *
 *     message  out: its number
 *     json     out: the event, in your buffer of `capacity` bytes; `json` and `needed` NULL: not wanted
 *     needed   out: its size
 *
 * The event is an object, every key always present:
 *
 *     sequence int   counts this handle's events; a gap says that some were lost because nobody read
 *     event    text  "EXPINTERRUPT"
 *     service  text  "" if none
 *     client   text  "" unless CLIENT_LOST
 *     data     object, as in responses. EXPERIMENT_LOST: {value: {exp_ref: the experiment that is lost, status: what the service says
 *              now}}. SERVICES_CHANGED: {value: {added, removed, changed: arrays of names; services: all names, in the new order}}
 *     time     int   ns
 *     wall     text  ISO 8601
 *
 * After SERVICES_CHANGED a command to all services goes to those of the new list. One that the worker had begun with goes to those of the
 * old list, the ones that were removed included, and ends with the outcomes of these.
 *
 * Events wait in 64 KiB of shared memory. When that is full, newer ones are lost, and nothing else is affected.
 *
 * Returns 0; IBLB_E_TIMEOUT if there was none; IBLB_E_NO_WORKER at once if no worker lives; IBLB_E_BUFFER if the buffer is too small, or
 * if `json` is NULL and `needed` is not: the event stays. Otherwise IBLB_E_CLOSED, IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT,
 * IBLB_E_MEMORY, IBLB_E_HANDLE, IBLB_E_FORKED, IBLB_E_ARGUMENT. */
IBLB_API int iblb_next_event(int handle, int timeout_ms, int *message, char *json, int capacity, int *needed);

/* ---- Serving: your program as a service that masters command ---- */

/* The worker listens in your program's place (`iblbridge serve --listen cameras=udp://:11001`): to a master, such as iblrig, it is a
 * service like any other. It echoes each message at once, and hands it to the program that serves that name. Your program does what is
 * asked and says what came of it. The worker tells the master.
 *
 * - A program is given one command at a time, and an EXPINTERRUPT beside it. Have a second thread in iblb_next_command, or call it with
 *   timeout_ms 0 now and then while a command takes long. What else masters ask waits in the worker.
 * - A master waits 10 s for its answer. After 8 s (the listener's `timeout`) the worker tells it that the command failed, and your answer
 *   comes too late: IBLB_E_LATE. What your program has not taken by then it is not given any more, nor what came before the PC slept.
 * - An EXPINTERRUPT ends what waits. A command that you have taken is yours to end: stop what it does, and answer or fail it as well.
 * - If the worker dies, take, answer and tell as before: the next one delivers it. A command that you have taken is not asked twice.
 * - If your program closes or dies with a command in hand, its master is told so at once.
 *
 * A whole program, to be put into main(); start_cameras is yours:
 *
 *     char json[65536], text[1024];
 *     int h, command, message, status = iblb_open("rig0", "cameras", 2000, &h);
 *     if (status >= 0)
 *         status = iblb_serve(h, "cameras", IBLB_EXPINIT + IBLB_EXPSTART + IBLB_EXPEND + IBLB_EXPINTERRUPT);
 *     while (status >= 0 || status == IBLB_E_TIMEOUT || status == IBLB_E_NO_WORKER) {
 *         status = iblb_next_command(h, 1000, &command, &message, json, sizeof json, NULL);
 *         if (status != IBLB_OK)
 *             continue;
 *         if (message == IBLB_EXPSTART && !start_cameras(json))
 *             iblb_fail(h, command, "Camera 2 does not answer.");
 *         else if (message == IBLB_EXPEND)
 *             iblb_answer(h, command, -1, "{\"frames\": 5400}");
 *         else
 *             iblb_answer(h, command, -1, NULL);
 *     }
 *     iblb_last_error(h, text, sizeof text);
 *     fprintf(stderr, "%d %s\n", status, text);
 *     iblb_close(h);
 */

/* From now on this handle gets what masters ask of a listener, in place of what it served before.
 *
 *     service       the listener's name; none: the only one there is
 *     message_mask  the sum of the messages that your program wants to be asked, of IBLB_EXPINIT to IBLB_ALYX; 0: it serves no more
 *
 * What is not among them the worker answers itself, and IBLB_EXPSTATUS and IBLB_EXPINFO also while the program has a command in hand: with
 * what it said last.
 *
 * Waits for a worker that has just started, at most 5 s. Returns 0, or IBLB_W_NO_WORKER: the next worker asks this program. Otherwise
 * IBLB_E_SERVICE (there is no such listener, and the sentence names those there are), IBLB_E_NAME_TAKEN (another program serves it),
 * IBLB_E_MESSAGE (a number that is no such message), IBLB_E_UTF8, IBLB_E_SYSTEM, IBLB_E_CLOSED, IBLB_E_STALE, IBLB_E_QUARANTINED,
 * IBLB_E_SEGMENT, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_serve(int handle, const char *service, int message_mask);

/* Takes the next command, an EXPINTERRUPT before all others, and waits for one if there is none.
 *
 *     command  out: a positive number, for iblb_answer or iblb_fail; 0 if there is none; must not be NULL
 *     message  out: IBLB_EXPSTART, ...
 *     json     out: the command, in your buffer of `capacity` bytes; `json` and `needed` NULL: not wanted
 *     needed   out: its size
 *
 * The command is an object, every key always present:
 *
 *     command    int    as above
 *     service    text   the listener's name
 *     master     text   who asks: "192.168.0.3:55123"
 *     message    text   "EXPSTART"
 *     args       array  the arguments, as in the table of messages above
 *     time       int    ns: when it reached the worker
 *     wall       text   ISO 8601
 *     timeout_ms int    after so many ms from `time` the master is told that it failed
 *
 * Returns 0; IBLB_E_TIMEOUT if nothing was asked; IBLB_E_NO_WORKER if no worker lived when the time was up (unlike other waits this one
 * waits for the next worker, too); IBLB_E_BUFFER if the buffer is too small, or if `json` is NULL and `needed` is not: the command stays;
 * IBLB_E_TOO_MANY if 8 commands were taken and not answered; IBLB_E_SERVICE if the handle serves nothing, or if the worker does not listen
 * under that name any more. Otherwise IBLB_E_CLOSED, IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT, IBLB_E_MEMORY, IBLB_E_HANDLE,
 * IBLB_E_FORKED, IBLB_E_ARGUMENT. */
IBLB_API int iblb_next_command(int handle, int timeout_ms, int *command, int *message, char *json, int capacity, int *needed);

/* Says that a command was done.
 *
 *     command    from iblb_next_command, once; from whatever thread, in whatever order
 *     status     what the program does now: IBLB_STATUS_RUNNING, ...; -1: what is usual after this message (EXPINIT: INITIALIZED, EXPSTART:
 *                RUNNING, EXPEND and EXPINTERRUPT: STOPPED, EXPCLEANUP: CONNECTED; otherwise as before)
 *     data_json  none; or a JSON object that becomes part of the reply; or any other JSON value, which becomes {"value": ...}
 *
 * Never waits. Returns 0, or IBLB_W_NO_WORKER: the next worker delivers it. The command is closed by these, and by IBLB_E_LATE: the master
 * has been told already that it failed. With any other code nothing has changed, and it may be answered again: IBLB_E_COMMAND (no such
 * command, or it was answered), IBLB_E_JSON, IBLB_E_UTF8, IBLB_E_TOO_LARGE (60,000 bytes are the most), IBLB_E_FULL, IBLB_E_ARGUMENT,
 * IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT, IBLB_E_MEMORY, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_answer(int handle, int command, int status, const char *data_json);

/* Says that a command was not done: the master gets an error.
 *
 *     sentence  for people: why, and what to do; cut after 2,048 bytes
 *
 * Returns as iblb_answer, never IBLB_E_JSON. */
IBLB_API int iblb_fail(int handle, int command, const char *sentence);

/* Says something without having been asked.
 *
 *     message    IBLB_EXPINTERRUPT: what it does has ended, a camera died; every master that has commanded it hears so
 *                IBLB_EXPSTATUS: the status that the program is in from now on, as number or {"status": 20}; masters hear of it, too
 *                IBLB_EXPINFO: what the worker answers to EXPINFO from now on
 *     data_json  none, or JSON as in iblb_answer; EXPSTATUS must have it
 *
 * Never waits. Returns 0, or IBLB_W_NO_WORKER: the next worker does. Otherwise IBLB_E_MESSAGE, IBLB_E_SERVICE if the handle serves nothing,
 * IBLB_E_JSON, IBLB_E_UTF8, IBLB_E_TOO_LARGE, IBLB_E_FULL, IBLB_E_ARGUMENT, IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT,
 * IBLB_E_MEMORY, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_tell(int handle, int message, const char *data_json);

/* ---- Leaving unfinished ---- */

/* As iblb_close, but the work is not done: to the worker the client is lost, as if its process had died. For what ends by an error or was
 * forgotten: a destructor while an exception passes, a finalizer. Returns as iblb_close. */
IBLB_API int iblb_abandon(int handle);

/* ---- Codes ---- */

/* What a code means and what to do, in English.
 *
 *     text  out: the sentences, in your buffer of `capacity` bytes
 *
 * Returns 0, IBLB_E_BUFFER (cut), or IBLB_E_ARGUMENT for a code that does not exist, or if there is no buffer. */
IBLB_API int iblb_error_text(int code, char *text, int capacity);

/* ---- Inspection: none of these waits ---- */

/* How the worker is. Takes some microseconds.
 *
 *     alive        out: 1 if a worker lives, otherwise 0
 *     services     out: how many are configured
 *     services_up  out: how many have answered within the last 30 s; none of a rig that was idle for so long
 *
 * Returns 0, IBLB_E_STALE, IBLB_E_QUARANTINED, IBLB_E_SEGMENT, IBLB_E_HANDLE, IBLB_E_FORKED. */
IBLB_API int iblb_worker_state(int handle, int *alive, int *services, int *services_up);

/* The clock of all stamps: CLOCK_MONOTONIC, Python's time.perf_counter_ns, .NET's Stopwatch.
 *
 *     now  out: nanoseconds, exact for 104 days of uptime
 *
 * Returns 0. */
IBLB_API int iblb_clock_ns(double *now);

/* Returns the version of the library: 10203 means 1.2.3. */
IBLB_API int iblb_version(void);

#ifdef __cplusplus
}
#endif

#endif
