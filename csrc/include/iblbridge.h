/* iblbridge.h: start, stop and query the remote services of a rig with plain C calls.
 *
 * A command is written into shared memory; the worker (`iblbridge serve --segment rig0`) sends it over UDP to every service and writes back
 * what each one really did. Nothing here opens a socket.
 *
 *     int h, r;
 *     char json[65536];
 *     if (iblb_open("rig0", "stimulus", 2000, &h) < 0) ...
 *     int status = iblb_call(h, "", IBLB_EXPSTART, "[\"2026-01-01_1_subject\"]", 12000, json, sizeof json, &r);
 *     iblb_close(h);
 *
 * BEFORE YOU BEGIN
 *
 * - Status: 0 is success, negative an error, positive a warning (it worked). `iblb_error_text` explains a code, `iblb_last_error`
 *   the case at hand in one sentence that says what to do.
 * - A command that was accepted may have started a camera even if no answer came. IBLB_E_PENDING, IBLB_E_TIMEOUT and
 *   IBLB_E_OUTCOME_UNKNOWN mean "ask IBLB_EXPSTATUS before you repeat"; IBLB_E_NOT_SENT and IBLB_E_EXPIRED mean nothing was sent.
 * - After fork() the child's handles answer IBLB_E_FORKED; the parent's go on. Open anew in the child.
 * - If this process dies, whatever it had sent is still carried out; its slot is freed by the worker.
 * - A program says that it has done its work by iblb_close, and by nothing else. If it is killed, ends by exit or by an exception, or
 *   unloads the library with a handle open, its client is lost (event CLIENT_LOST), and the worker does what it is configured to do then
 *   (on_client_lost: stop the cameras). iblb_abandon says so at once. Opening anew under the same name means that it has come back.
 * - A thread that is cancelled (pthread_cancel, Qt's terminate on Linux) ends in a wait within 100 ms, and otherwise after the call;
 * nothing stays locked, and its request stays open. There is no such help against TerminateThread on Windows, nor for a longjmp out of a
 * signal's handler: both may leave the handle locked.
 * - Truncating the segment's file while it is mapped kills the process that touches it (SIGBUS); nothing but malice or a broken clean-up
 *   script does that.
 *
 * RULES FOR ALL FUNCTIONS
 *
 * - Any thread may call anything at any time. A wait in one thread holds up no other call. Use after close is an error, not a crash.
 * - Memory belongs to the caller; nothing is kept after a call returns. Only out-pointers `handle` and `request` must not be NULL.
 * - Text in is UTF-8, NUL-terminated; NULL, "" and white space mean "none". Text out is ASCII (JSON with \uXXXX), always NUL-terminated if
 *   capacity > 0; `capacity` and `needed` count bytes with the NUL.
 * - Times are milliseconds for waiting and nanoseconds of `iblb_clock_ns` in responses. timeout_ms 0 looks once; negative is an error.
 *   A wait ends at most 100 ms after its time.
 * - Environment: IBLBRIDGE_DIR overrides the segment's directory (Linux: /dev/shm/iblbridge-<uid>; Windows: %LOCALAPPDATA%\iblbridge;
 *   macOS: iblbridge in the user's cache directory); never a network file system, nor OneDrive.
 *
 * MESSAGES, AND THEIR ARGUMENTS (a JSON array in this order; those in brackets may be left out)
 *
 *     IBLB_EXPINIT       [data]             IBLB_EXPSTART      exp_ref, [data]      exp_ref: text "2026-01-01_1_subject", or an object
 *     IBLB_EXPEND        [data]             IBLB_EXPINTERRUPT  [data]                   {"date": text, "sequence": int, "subject": text}
 *     IBLB_EXPCLEANUP    [data]             IBLB_EXPSTATUS     [status]             status: 0 CONNECTED, 10 INITIALIZED, 20 RUNNING,
 *     IBLB_EXPINFO       [status, [data]]   IBLB_ALYX          [url, [token]]           30 STOPPED, as number or text; 0 if left out
 *     IBLB_PING, IBLB_SERVICES  none: answered by the worker itself, no service hears of them. IBLB_SERVICES gives one entry per
 *     configured service ("not_sent", for nobody is asked); its data is {name, uri, health, age_ms, rtt_us, status, exp_ref,
 *     last_error}.
 *
 * ALYX with url and token pushes the token, and no service replies; with the url alone, or with neither, it asks for one (a service
 * may answer only if the url is its own). An experiment's reference has an ISO date, a number from 1, and a subject that a folder can have
 * as its name; any other is IBLB_E_ARGS, for iblrig's services cannot take it apart, unless the worker is told otherwise (--any-reference).
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
 *                       say is told beside them: reply (all that the service said, as array), event (the number, if it was another)
 *                       (value: what the service itself replied, EXPSTART for example [exp_ref, {...}] at a camera of iblrig)
 *         status int    what the service says it does, if its reply says it, else -1: IBLB_STATUS_RUNNING, ...
 *         sent, echoed, answered   int   ns, 0 for never
 *     sent, accepted, finished     int   ns, 0 for never
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
#define IBLB_EXPERIMENT_LOST 16384 /* a service that ran is back without its experiment */

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
#define IBLB_E_NAME_TAKEN -8016 /* open: Another living process is attached under this client name. */
#define IBLB_E_QUARANTINED -8017 /* send, wait, call: The worker found nonsense in this client's rings and has stopped reading them. */
#define IBLB_E_NO_WORKER -8018 /* wait, call, next_event: No worker serves the segment. */
#define IBLB_E_WORKER_BUSY -8019 /* worker: Another worker serves this segment, or is stopped but alive. */
#define IBLB_E_SYSTEM -8020 /* open: The operating system refused a call. */
#define IBLB_E_MEMORY -8021 /* open, send: There is no memory or no space left for the segment. */
#define IBLB_E_SUPERSEDED -8022 /* worker: Another worker has taken over the segment. */
#define IBLB_E_MESSAGE -8030 /* send, notify, call: The message number is unknown. */
#define IBLB_E_SERVICE -8031 /* send, notify, wait, call: A named service is not in the worker's configuration. */
#define IBLB_E_UTF8 -8032 /* open, send, notify, call: A text is not valid UTF-8. */
#define IBLB_E_JSON -8033 /* send, notify, call: The arguments are not valid JSON. */
#define IBLB_E_MSGPACK -8034 /* send_msgpack: The arguments are not msgpack that JSON can say. */
#define IBLB_E_ARGS -8035 /* wait, call: The arguments do not fit the message. */
#define IBLB_E_TOO_LARGE -8036 /* send, notify, wait, call: The command is larger than the ring or a datagram can hold. */
#define IBLB_E_FULL -8037 /* send, notify, call: The command ring is full of commands without an answer. */
#define IBLB_E_TOO_MANY -8038 /* send, call: 1,024 requests of this handle still have to be waited for. */
#define IBLB_E_TIMEOUT -8050 /* wait, next_event: The time is up and there is no response yet. */
#define IBLB_E_REQUEST -8051 /* wait, cancel, withdraw: The request is unknown, its response was already taken, or it was cancelled. */
#define IBLB_E_BUFFER -8052 /* wait, call, texts: The buffer is too small; the response is kept. */
#define IBLB_E_NOT_SENT -8053 /* call: The time was up before the worker took the command; it was withdrawn and nothing was sent. */
#define IBLB_E_PENDING -8054 /* call: The time is up; the worker has the command and its answer is still to come. */
#define IBLB_E_CANCELLED -8055 /* wait, call: The request was cancelled during the wait, by another thread. */
#define IBLB_E_PARTIAL -8070 /* wait, call: Some services did what was asked and some did not. */
#define IBLB_E_ALL_FAILED -8071 /* wait, call: No service did what was asked. */
#define IBLB_E_EXPIRED -8072 /* wait, call: The command was older than its time to live; nothing was sent. */
#define IBLB_E_ABORTED -8073 /* wait, call: An EXPINTERRUPT, or the worker's stop, overtook the command. */
#define IBLB_E_OUTCOME_UNKNOWN -8074 /* wait, call: The worker died after it had begun to send the command. */
#define IBLB_E_INTERNAL -8075 /* wait, call: The worker failed at this command. */
#define IBLB_W_NO_WORKER 5001 /* open, send, notify: No worker serves the segment at the moment; commands wait for one until they expire. */
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
 *     callback_failed  its callback raised an exception
 *     status           it answered, but the status that it reports contradicts the command
 *     aborted          an EXPINTERRUPT overtook the command
 *     withdrawn        taken back before it was sent
 *     closed           the worker stopped, or the line was closed meanwhile
 *     unknown          not told
 *     internal         the bridge failed
 * reasons: end
 */

/* The version of the library: 10203 means 1.2.3. */
IBLB_API int iblb_version(void);

/* Attaches to the segment `segment` under the name `client` (1 to 63 bytes; none: "pid-<pid>-<n>-<random>"; names that begin with "iblb"
 * may use the slot kept for tools). Waits up to `timeout_ms` for a segment and a living worker. *handle: a positive number, 0 on error.
 * Opening the same segment under the same name again in this process closes the old handle, which an aborted program would have left.
 * Returns 0; IBLB_W_NO_WORKER with a valid handle; IBLB_E_NO_SEGMENT (the sentence names the path searched, and another user's), _NAME,
 * _NAME_TAKEN (naming the pid), _NO_SLOT, _VERSION (naming both), _SEGMENT, _STALE, _PERMISSION, _HANDLES, _MEMORY, _SYSTEM, _ARGUMENT,
 * _UTF8. */
IBLB_API int iblb_open(const char *segment, const char *client, int timeout_ms, int *handle);

/* Gives the slot back and makes the handle invalid. Commands already sent are carried out, their answers discarded. Waits in other threads
 * end with IBLB_E_CLOSED. Never blocks. Returns 0, IBLB_E_HANDLE, _FORKED. Unloading the library, and exit, close what is open, but to the
 * worker such a client is lost. */
IBLB_API int iblb_close(int handle);

/* As iblb_close, but says that the work is not done: to the worker the client is lost, as if its process had died. For what ends by an
 * error, or was forgotten: a destructor while an exception passes, a finalizer. Returns as iblb_close. */
IBLB_API int iblb_abandon(int handle);

/* Writes a command and returns at once, without a system call while the worker is busy. `services`: none for all, else names separated by
 * commas. `args_json`: none, a JSON array of the positional arguments, or any other JSON value as the single argument (a single argument
 * that is an array is [[...]]). `ttl_ms`: if the command has not begun to be sent within this time it never will be (IBLB_E_EXPIRED), and
 * a service that is busy for longer is not sent it ("not_sent"); 0: 10,000; negative: no limit. *request: a positive number, unique among
 * the handle's outstanding ones; 0 on error. Returns 0; IBLB_W_NO_WORKER (queued); IBLB_E_MESSAGE, _SERVICE, _JSON, _UTF8, _TOO_LARGE,
 * _FULL, _TOO_MANY, _STALE, _QUARANTINED, _SEGMENT, _MEMORY, _HANDLE, _FORKED, _ARGUMENT. */
IBLB_API int iblb_send(int handle, const char *services, int message, const char *args_json, int ttl_ms, int *request);

/* The same with msgpack arguments (one object of `args_bytes` bytes; NULL and 0 for none). Returns IBLB_E_MSGPACK instead of _JSON. */
IBLB_API int iblb_send_msgpack(int handle, const char *services, int message, const unsigned char *args, int args_bytes, int ttl_ms,
                               int *request);

/* The same without a response: what became of it is counted and logged by the worker. Returns as iblb_send, never _TOO_MANY. */
IBLB_API int iblb_notify(int handle, const char *services, int message, const char *args_json, int ttl_ms);

/* Waits for the response to `request`. Returns the status of the command: 0 only if every addressed service did what was asked;
 * IBLB_W_OPTIONAL, IBLB_W_SHORTENED, IBLB_W_STATUS, IBLB_W_NO_SERVICES; IBLB_E_PARTIAL, _ALL_FAILED, _EXPIRED, _ABORTED, _OUTCOME_UNKNOWN,
 * _ARGS, _SERVICE, _TOO_LARGE, _MESSAGE, _INTERNAL: in all these cases there is a response and it is taken. The body is written to `json`
 * (NULL: not wanted), its size to `needed`. If the buffer is too small, or `json` is NULL and `needed` is not: IBLB_E_BUFFER, and the
 * response stays. Without a response the request stays open: IBLB_E_TIMEOUT; IBLB_E_NO_WORKER at once if no worker lives (a new one will
 * answer); IBLB_E_REQUEST, _CLOSED, _CANCELLED, _STALE, _QUARANTINED, _SEGMENT, _HANDLE, _FORKED, _ARGUMENT. */
IBLB_API int iblb_wait(int handle, int request, int timeout_ms, char *json, int capacity, int *needed);

/* The same with the body as msgpack; `capacity` and `needed` count its bytes, there is no NUL. */
IBLB_API int iblb_wait_msgpack(int handle, int request, int timeout_ms, unsigned char *bytes, int capacity, int *needed);

/* Send and wait in one call, the time to live being `timeout_ms`. *request is set once the command is published. If time is up, or no
 * worker lives: a command not yet accepted is withdrawn (IBLB_E_NOT_SENT; IBLB_E_NO_WORKER), of an accepted one the answer is still to come
 * (IBLB_E_PENDING: iblb_wait, do not repeat). If `json` is too small: IBLB_E_BUFFER; ask again with iblb_wait. `json` NULL: not wanted.
 * Otherwise returns as iblb_send and iblb_wait. */
IBLB_API int iblb_call(int handle, const char *services, int message, const char *args_json, int timeout_ms, char *json, int capacity,
                       int *request);

/* Withdraws a command that no worker has accepted: 0, nothing will be sent and the request is closed. Otherwise nothing changes, and the
 * answer is still to be waited for: IBLB_W_ACCEPTED. Never blocks. Returns also IBLB_E_REQUEST, _HANDLE, _FORKED. */
IBLB_API int iblb_withdraw(int handle, int request);

/* Withdraws a command that no worker has accepted (0: nothing will be sent), or has the answer of an accepted one discarded
 * (IBLB_W_ACCEPTED). The request is closed either way. Never blocks. Returns 0, IBLB_W_ACCEPTED, IBLB_E_REQUEST, _HANDLE, _FORKED. */
IBLB_API int iblb_cancel(int handle, int request);

/* Chooses which events this handle gets: the sum of the numbers of messages that services send by themselves (IBLB_EXPINTERRUPT: a camera
 * died) and of IBLB_SERVICE_UP to IBLB_EXPERIMENT_LOST; 0 for none. Replaces the earlier choice. What came before is not delivered.
 * Returns 0, IBLB_E_MESSAGE (a number that is no event), _STALE, _QUARANTINED, _SEGMENT, _HANDLE, _FORKED. */
IBLB_API int iblb_subscribe(int handle, int message_mask);

/* The next event, in order; waits up to `timeout_ms` for one. *message: its number. `json`: an object, every key always present:
 *     sequence int (counts this handle's events; a gap says that some were lost because nobody read), event text ("EXPINTERRUPT"),
 *     service text ("" if none), client text ("" unless CLIENT_LOST), data object (as in responses; EXPERIMENT_LOST: {value: {exp_ref: the
 *     experiment that is lost, status: what the service says now}}), time int (ns), wall text (ISO 8601).
 * If the buffer is too small, or `json` is NULL and `needed` is not: IBLB_E_BUFFER, and the event stays; `json` and `needed` NULL: not
 * wanted. Events wait in 64 KiB of shared memory; when that is full, newer ones are lost, and nothing else is affected. Returns 0;
 * IBLB_E_TIMEOUT if there is none; IBLB_E_NO_WORKER at once if no worker lives; _BUFFER, _CLOSED, _STALE, _QUARANTINED, _SEGMENT, _HANDLE,
 * _FORKED, _ARGUMENT. */
IBLB_API int iblb_next_event(int handle, int timeout_ms, int *message, char *json, int capacity, int *needed);

/* *alive: 1 if a worker lives. *services: how many are configured. *services_up: how many have answered within the last 30 s: none of
 * a rig that was idle for so long.
 * Takes some microseconds, never blocks. Returns 0, IBLB_E_STALE, _HANDLE, _FORKED. */
IBLB_API int iblb_worker_state(int handle, int *alive, int *services, int *services_up);

/* What a code means and what to do, in English. Returns 0, IBLB_E_BUFFER, or IBLB_E_ARGUMENT for a code that does not exist. */
IBLB_API int iblb_error_text(int code, char *text, int capacity);

/* The sentence of the last error or warning on this handle, from whatever thread; handle 0: of the last failed iblb_open, or of a call with
 * a bad handle. Empty if there was none. At most 1,024 bytes. Returns 0 or IBLB_E_BUFFER (cut). */
IBLB_API int iblb_last_error(int handle, char *text, int capacity);

/* Nanoseconds of the clock that all stamps use: CLOCK_MONOTONIC, Python's time.perf_counter_ns, .NET's Stopwatch. Exact for 104 days of
 * uptime. Returns 0. */
IBLB_API int iblb_clock_ns(double *now);

#ifdef __cplusplus
}
#endif

#endif
