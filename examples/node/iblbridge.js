'use strict';
/**
 * Starts, stops and queries the remote services of a rig, or is such a service itself. CommonJS (`import` takes it
 * too), Node.js 18 or newer, with koffi.
 *
 *     const { open } = require('./iblbridge'); // and `use`, which closes by itself
 *     const rig = await open('rig0', 'stimulus');
 *     const response = await rig.call('EXPSTART', ['2026-01-01_1_subject']);
 *     rig.close();
 *
 * - Nothing blocks the event loop: what waits is a promise, and an AbortSignal gives it up at once.
 * - Failures are `BridgeError`s, with code, name, message, and the response if there is one: when one service fails, it
 *   holds the data of the others. A warning is never thrown: it is the response's `code`, or `rig.warning`.
 * - Wrong calls throw a TypeError before anything is sent: an option that does not exist, a time-out that is not a
 *   number, a service that is not text, an argument that JSON cannot express.
 * - Responses and events are plain objects with the keys of iblbridge.h, which is the manual. Time-outs are
 *   milliseconds; stamps are nanoseconds of `clockNs()`, 0 for never, exact for 104 days of uptime.
 *
 * How it waits: the C library sleeps on a thread of libuv's pool, which has four of them that also read files and look
 * up names. So in the whole process at most two (`LANES`) are ever taken, for at most 200 ms at a time. A wait that
 * finds both taken looks every 5 ms instead (a look takes microseconds), until one is free. The sleeping thread touches
 * no memory of JavaScript's and takes nothing; the look after it, on the main thread, does. So an answer is never lost
 * between the two. (The first step of `serve` may sleep for 5 s, if the worker has just started.)
 */
const { randomUUID } = require('node:crypto');
const { existsSync } = require('node:fs');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const { inspect, promisify } = require('node:util');
const koffi = required('koffi');

/** Messages and events, by name. */
const MESSAGES = Object.freeze({
    // messages: begin
    EXPINIT: 1,
    EXPSTART: 2,
    EXPEND: 4,
    EXPCLEANUP: 8,
    EXPINTERRUPT: 16,
    EXPSTATUS: 32,
    EXPINFO: 64,
    ALYX: 128,
    PING: 4096,
    SERVICES: 8192,
    SERVICE_UP: 256,
    SERVICE_DOWN: 512,
    CLIENT_LOST: 1024,
    WORKER_RESTARTED: 2048,
    EXPERIMENT_LOST: 16384,
    SERVICES_CHANGED: 131072,
    // messages: end
});

/** What a service says it does: the `status` of its entry in a response, which is -1 if its reply does not say it. */
const STATUSES = Object.freeze({
    // statuses: begin
    CONNECTED: 0,
    INITIALIZED: 10,
    RUNNING: 20,
    STOPPED: 30,
    // statuses: end
});

/** The codes of all statuses, by name; `errorText` tells what they mean. */
const CODES = Object.freeze({
    // codes: begin
    IBLB_OK: 0,
    IBLB_E_ARGUMENT: -8001,
    IBLB_E_HANDLE: -8002,
    IBLB_E_CLOSED: -8003,
    IBLB_E_FORKED: -8004,
    IBLB_E_NAME: -8005,
    IBLB_E_HANDLES: -8006,
    IBLB_E_NO_SEGMENT: -8010,
    IBLB_E_SEGMENT: -8011,
    IBLB_E_VERSION: -8012,
    IBLB_E_STALE: -8013,
    IBLB_E_PERMISSION: -8014,
    IBLB_E_NO_SLOT: -8015,
    IBLB_E_NAME_TAKEN: -8016,
    IBLB_E_QUARANTINED: -8017,
    IBLB_E_NO_WORKER: -8018,
    IBLB_E_WORKER_BUSY: -8019,
    IBLB_E_SYSTEM: -8020,
    IBLB_E_MEMORY: -8021,
    IBLB_E_SUPERSEDED: -8022,
    IBLB_E_MESSAGE: -8030,
    IBLB_E_SERVICE: -8031,
    IBLB_E_UTF8: -8032,
    IBLB_E_JSON: -8033,
    IBLB_E_MSGPACK: -8034,
    IBLB_E_ARGS: -8035,
    IBLB_E_TOO_LARGE: -8036,
    IBLB_E_FULL: -8037,
    IBLB_E_TOO_MANY: -8038,
    IBLB_E_TIMEOUT: -8050,
    IBLB_E_REQUEST: -8051,
    IBLB_E_BUFFER: -8052,
    IBLB_E_NOT_SENT: -8053,
    IBLB_E_PENDING: -8054,
    IBLB_E_CANCELLED: -8055,
    IBLB_E_LATE: -8056,
    IBLB_E_COMMAND: -8057,
    IBLB_E_PARTIAL: -8070,
    IBLB_E_ALL_FAILED: -8071,
    IBLB_E_EXPIRED: -8072,
    IBLB_E_ABORTED: -8073,
    IBLB_E_OUTCOME_UNKNOWN: -8074,
    IBLB_E_INTERNAL: -8075,
    IBLB_W_NO_WORKER: 5001,
    IBLB_W_OPTIONAL: 5002,
    IBLB_W_ACCEPTED: 5003,
    IBLB_W_SHORTENED: 5004,
    IBLB_W_STATUS: 5005,
    IBLB_W_NO_SERVICES: 5006,
    // codes: end
});
const NAMES = Object.fromEntries(Object.entries(CODES).map(([name, code]) => [code, name]));

const PROTOTYPES = [
    // prototypes: begin
    'int iblb_open(const char *segment, const char *client, int timeout_ms, _Out_ int *handle)',
    'int iblb_call(int handle, const char *services, int message, const char *args_json, int timeout_ms, _Out_ uint8_t *json, int capacity, _Out_ int *request)',
    'int iblb_close(int handle)',
    'int iblb_last_error(int handle, _Out_ uint8_t *text, int capacity)',
    'int iblb_send(int handle, const char *services, int message, const char *args_json, int ttl_ms, _Out_ int *request)',
    'int iblb_notify(int handle, const char *services, int message, const char *args_json, int ttl_ms)',
    'int iblb_wait(int handle, int request, int timeout_ms, _Out_ uint8_t *json, int capacity, _Out_ int *needed)',
    'int iblb_withdraw(int handle, int request)',
    'int iblb_cancel(int handle, int request)',
    'int iblb_send_msgpack(int handle, const char *services, int message, const unsigned char *args, int args_bytes, int ttl_ms, _Out_ int *request)',
    'int iblb_wait_msgpack(int handle, int request, int timeout_ms, _Out_ uint8_t *bytes, int capacity, _Out_ int *needed)',
    'int iblb_subscribe(int handle, int message_mask)',
    'int iblb_next_event(int handle, int timeout_ms, _Out_ int *message, _Out_ uint8_t *json, int capacity, _Out_ int *needed)',
    'int iblb_serve(int handle, const char *service, int message_mask)',
    'int iblb_next_command(int handle, int timeout_ms, _Out_ int *command, _Out_ int *message, _Out_ uint8_t *json, int capacity, _Out_ int *needed)',
    'int iblb_answer(int handle, int command, int status, const char *data_json)',
    'int iblb_fail(int handle, int command, const char *sentence)',
    'int iblb_tell(int handle, int message, const char *data_json)',
    'int iblb_abandon(int handle)',
    'int iblb_error_text(int code, _Out_ uint8_t *text, int capacity)',
    'int iblb_worker_state(int handle, _Out_ int *alive, _Out_ int *services, _Out_ int *services_up)',
    'int iblb_clock_ns(_Out_ double *now)',
    'int iblb_version(void)',
    // prototypes: end
];

const EVENTS = Object.keys(MESSAGES).filter((name) => name !== 'PING' && name !== 'SERVICES'); // no service sends these
const CALL_MS = 12000; // how long a call waits if nothing else is said
const SLICE_MS = 200; // one wait of a thread
const LOOK_MS = 5; // between two looks without a thread
const WATCH_MS = 20; // between two looks for what overtakes a command
const LANES = 2;
const DIED = 'The worker died with the command. Start it again and wait for the same request; do not repeat the command.';
const WITHDRAWN = 'No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.';

const SERVED = ['EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT']; // the worker itself knows answers to the rest

const lib = load();

/** A negative status of the C library. */
class BridgeError extends Error {
    /**
     * @param {number} code the status, such as -8070
     * @param {string} sentence its message: what happened and what to do, naming each failed service with its reason
     * @param {number} [request] the request that stays open, for `wait` or `cancel`; 0 if none does
     * @param {object} [response] the response, if there is one
     */
    constructor(code, sentence, request = 0, response = undefined) {
        super(sentence);
        this.name = NAMES[code]; // such as IBLB_E_PARTIAL
        this.code = code;
        this.request = request;
        this.response = response;
    }
}

/**
 * Attaches to a segment. Opening the same segment under the same name again in this process closes the older one.
 *
 * @param {string} segment its name, such as rig0
 * @param {string?} [client] name of this client, 1 to 63 bytes; '' or null: pid-<pid>-<n>-<random>
 * @param {{timeout?: number}} [options] how long to wait for a segment and a worker, ms (2000); a missing worker is only
 *     a `warning`
 * @returns {Promise<Rig>}
 * @throws {BridgeError} if there is no segment, no free slot, ...
 */
async function open(segment, client = '', options = {}) {
    const { timeout = 2000 } = known(options, 'timeout');
    const end = performance.now() + duration(timeout);
    const names = [word(segment, 'segment'), word(client ?? '', 'client')];
    let rig;
    for (;;) {
        const last = performance.now() >= end;
        try {
            rig ??= attached(...names);
            rig.warning = rig.workerState().alive ? CODES.IBLB_OK : CODES.IBLB_W_NO_WORKER;
            if (!rig.warning || last) return rig;
        } catch (error) {
            rig?.close();
            rig = undefined;
            if (last || !MAY_CHANGE.includes(error.code)) throw error;
        }
        await pause(LOOK_MS);
    }
}

/**
 * Attaches, does the work, and gives the slot back: in order if the work returns, as lost if it throws.
 *
 * @param {string} segment
 * @param {string?} client
 * @param {(rig: Rig) => Promise<any>} work
 * @returns {Promise<any>} what the work returns
 */
async function use(segment, client, work) {
    const rig = await open(segment, client);
    try {
        const result = await work(rig);
        rig.close();
        return result;
    } finally {
        rig.abandon(); // nothing, if it is closed
    }
}

// What iblb_open itself waits for: no segment yet, one that is being replaced, all slots taken by clients that have just
// ended, a file that a virus scanner has.
const MAY_CHANGE = [CODES.IBLB_E_NO_SEGMENT, CODES.IBLB_E_STALE, CODES.IBLB_E_NO_SLOT, CODES.IBLB_E_SYSTEM];

function attached(segment, client) {
    const handle = [0];
    const code = lib.iblb_open(segment, client, 0, handle);
    if (code < 0) throw new BridgeError(code, lastError(0));
    return new Rig(handle[0]);
}

/** Attached to a segment; sends commands to its worker and waits for the responses. Made by `open`. */
class Rig {
    #handle;

    constructor(handle) {
        this.#handle = handle;
        /** IBLB_W_NO_WORKER (5001) if no worker lived when this was opened or last sent something, else 0. */
        this.warning = CODES.IBLB_OK;
        forgotten.register(this, handle, this);
    }

    /**
     * Gives the slot back. Calling it twice is harmless; waits end with IBLB_E_CLOSED. `using` calls it too, exception
     * or not.
     */
    close() {
        this.#end(lib.iblb_close);
    }

    /**
     * The same, but says that the work is not done: to the worker this client is lost. So is one that the garbage
     * collector finds open.
     */
    abandon() {
        this.#end(lib.iblb_abandon);
    }

    #end(how) {
        forgotten.unregister(this);
        if (this.#handle) how(this.#handle);
        this.#handle = 0;
    }

    /**
     * Sends a command and waits until every service has done it.
     *
     * @param {string|number} message 'EXPSTART', ...
     * @param {Array} [args] its arguments: anything JSON can express
     * @param {{services?: string[], timeout?: number, signal?: AbortSignal}} [options] which services (all); ms
     *     (12000), also the command's time to live: if it has not begun to be sent by then it never will be (Infinity
     *     is fine); the signal cancels the request
     * @returns {Promise<object>} the response
     * @throws {BridgeError} if the command failed. Without a response, because time is up or no worker lives: a command
     *     that no worker has accepted is withdrawn (IBLB_E_NOT_SENT, IBLB_E_NO_WORKER); the answer to an accepted one
     *     is still to come (IBLB_E_PENDING: `wait` for `error.request`, do not repeat it)
     * @throws the signal's reason
     */
    async call(message, args = [], options = {}) {
        const { services, timeout = CALL_MS, signal } = known(options, 'services', 'timeout', 'signal');
        const ttl = Math.max(duration(timeout), 1);
        abortable(signal)?.throwIfAborted();
        const request = this.send(message, args, { services, ttl });
        try {
            return await this.wait(request, { timeout, signal });
        } catch (error) {
            if (!error.request) throw error; // what can be taken back is taken back if there is no answer, as iblb_call does
            const { IBLB_OK, IBLB_W_ACCEPTED, IBLB_E_TIMEOUT, IBLB_E_NOT_SENT, IBLB_E_PENDING } = CODES;
            const left = lib.iblb_withdraw(this.#handle, request);
            const pending = error.code === IBLB_E_TIMEOUT ? errorText(IBLB_E_PENDING) : DIED;
            if (left === IBLB_W_ACCEPTED) throw new BridgeError(IBLB_E_PENDING, pending, request);
            if (left !== IBLB_OK) throw error;
            if (error.code === IBLB_E_TIMEOUT) throw new BridgeError(IBLB_E_NOT_SENT, errorText(IBLB_E_NOT_SENT));
            throw new BridgeError(error.code, WITHDRAWN);
        }
    }

    /**
     * Writes a command and returns at once.
     *
     * @param {string|number} message
     * @param {Array} [args]
     * @param {{services?: string[], ttl?: number}} [options] if it has not begun to be sent within `ttl` ms (10000) it
     *     never will be; negative: no limit
     * @returns {number} the request, for `wait` and `cancel`
     */
    send(message, args = [], options = {}) {
        const request = [0];
        this.warning = this.#check(lib.iblb_send(this.#handle, ...command(message, args, options), request));
        return request[0];
    }

    /** The same without a response: what became of it is counted and logged by the worker. */
    notify(message, args = [], options = {}) {
        this.warning = this.#check(lib.iblb_notify(this.#handle, ...command(message, args, options)));
    }

    /**
     * Waits for the response to a request.
     *
     * @param {number} request
     * @param {{timeout?: number, signal?: AbortSignal}} [options] ms (12000); the signal cancels the request
     * @returns {Promise<object>} the response
     * @throws {BridgeError} if the command failed; with the request staying open, IBLB_E_TIMEOUT if there is no
     *     response in time, IBLB_E_NO_WORKER at once if no worker lives: a new one will answer
     * @throws the signal's reason
     */
    async wait(request, options = {}) {
        const { timeout = CALL_MS, signal } = known(options, 'timeout', 'signal');
        duration(timeout);
        abortable(signal);
        const handle = this.#open();
        const cancel = () => lib.iblb_cancel(handle, request); // wakes the thread that sleeps for it
        if (signal?.aborted) cancel();
        signal?.addEventListener('abort', cancel, { once: true });
        try {
            const [code, text] = await this.#until(timeout, {
                look: (buffer, needed) => lib.iblb_wait(handle, request, 0, buffer, buffer.length, needed),
                sleep: (ms) => threads.wait(handle, request, ms, null, 0, [0]),
            });
            if (!text) {
                signal?.throwIfAborted();
                const open = code === CODES.IBLB_E_TIMEOUT || code === CODES.IBLB_E_NO_WORKER;
                throw this.#failure(code, open ? request : 0);
            }
            const response = parse(text);
            stamped(response);
            for (const service of response.services) {
                stamped(service);
                service.reason ??= ''; // a worker of an older version writes neither
                service.status ??= -1;
            }
            // Its own sentence: that of the handle may be another wait's by now.
            if (code < 0) throw new BridgeError(code, response.error || errorText(code), 0, response);
            return response;
        } finally {
            signal?.removeEventListener('abort', cancel);
        }
    }

    /**
     * Withdraws a command if no worker has accepted it. True: nothing will be sent; false: its answer can still be
     * waited for.
     */
    withdraw(request) {
        return this.#check(lib.iblb_withdraw(this.#handle, request)) === CODES.IBLB_OK;
    }

    /**
     * Gives a request up. True if nothing was sent nor will be; false if a worker had accepted it: its answer will be
     * discarded.
     */
    cancel(request) {
        return this.#check(lib.iblb_cancel(this.#handle, request)) === CODES.IBLB_OK;
    }

    /**
     * Chooses the events that `nextEvent` and `events` give, in place of the earlier choice: 'EXPINTERRUPT', ...; none:
     * all; 0: none.
     */
    subscribe(...events) {
        this.#check(lib.iblb_subscribe(this.#handle, (events.length ? events.flat() : EVENTS).reduce((mask, event) => mask | number(event), 0)));
    }

    /**
     * The next event; null if there was none in time.
     *
     * @param {number} timeout ms; Infinity is fine
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<object|null>}
     * @throws {BridgeError} IBLB_E_NO_WORKER at once if no worker lives
     * @throws the signal's reason, within 200 ms
     */
    async nextEvent(timeout, options = {}) {
        const { signal } = known(options, 'signal');
        duration(timeout);
        abortable(signal);
        const handle = this.#open();
        const [code, text] = await this.#until(
            timeout,
            {
                look: (buffer, needed) => lib.iblb_next_event(handle, 0, null, buffer, buffer.length, needed),
                sleep: (ms) => threads.nextEvent(handle, ms, null, null, 0, [0]),
            },
            signal,
        );
        if (code === CODES.IBLB_E_TIMEOUT) return null;
        if (code < 0) throw this.#failure(code);
        return stamped(parse(text));
    }

    /**
     * All events from now on: `for await (const event of rig.events())`. Ends when this is closed; throws as
     * `nextEvent` does.
     */
    async *events(options = {}) {
        while (this.#handle) {
            try {
                const event = await this.nextEvent(CALL_MS, options);
                if (event) yield event;
            } catch (error) {
                if (error.code !== CODES.IBLB_E_CLOSED) throw error;
            }
        }
    }

    /**
     * From now on this program is a service, and these are the commands that masters send it:
     * `for await (const command of rig.serve('cameras'))`. Each has to be answered before the body ends, or it fails.
     * Waits for a worker that is away. Ends when this is closed. When the loop is left, this program serves no more.
     *
     * @param {string} [service] the worker's listener; '': the only one there is
     * @param {(string|number)[]} [messages] what this program wants to be asked ('EXPINIT', 'EXPSTART', 'EXPEND',
     *     'EXPCLEANUP', 'EXPINTERRUPT'); the worker answers the others itself
     * @param {{signal?: AbortSignal}} [options]
     * @returns {AsyncGenerator<Command>}
     * @throws {BridgeError} IBLB_E_SERVICE if there is no such listener, IBLB_E_NAME_TAKEN if another program serves it
     * @throws the signal's reason, within 200 ms
     */
    async *serve(service = '', messages = SERVED, options = {}) {
        const { signal } = known(options, 'signal');
        word(service, 'service');
        abortable(signal)?.throwIfAborted();
        const [handle, mask] = [this.#open(), asked(messages)];
        const serving = (wanted) => inThread(() => threads.serve(handle, service, wanted));
        this.warning = this.#check(await serving(mask));
        const ahead = []; // what came while another was in hand
        let command;
        let watch;
        try {
            for (;;) {
                command = ahead.shift() ?? (await this.#nextCommand(handle, signal));
                if (!command) return;
                watch = setInterval(() => this.#watch(command, ahead, signal), WATCH_MS);
                yield command;
                clearInterval(watch);
                command[LEAVE](`The program went on without an answer to this ${command.message}.`);
            }
        } finally {
            clearInterval(watch);
            for (const left of [command, ...ahead]) left?.[LEAVE](`The program left its loop, by an error or a break, without an answer to this ${left.message}.`);
            if (this.#handle) await serving(0);
        }
    }

    /** Looks whether a command in hand is to end: only an EXPINTERRUPT comes while that is in time. */
    #watch(command, ahead, signal) {
        const { IBLB_OK, IBLB_E_CLOSED, IBLB_E_ABORTED, IBLB_E_LATE } = CODES;
        if (command.answered) return;
        if (signal?.aborted) command[END](signal.reason);
        else if (!this.#handle) command[END](new BridgeError(IBLB_E_CLOSED, errorText(IBLB_E_CLOSED)));
        if (command.message === 'EXPINTERRUPT' || command.signal.aborted) return;
        const ids = [[0], [0]];
        const [code, text] = grown((buffer, needed) => lib.iblb_next_command(this.#handle, 0, ...ids, buffer, buffer.length, needed));
        if (code !== IBLB_OK) return; // an error is seen by the loop, too
        const next = new Command(this.#handle, parse(text));
        ahead.push(next);
        const late = next.message !== 'EXPINTERRUPT';
        const sentence = late ? `The time of this ${command.message} is up.` : `An EXPINTERRUPT overtook this ${command.message}.`;
        command[END](new BridgeError(late ? IBLB_E_LATE : IBLB_E_ABORTED, sentence));
    }

    /** The next command; undefined if this was closed. */
    async #nextCommand(handle, signal) {
        const ids = [[0], [0]];
        const [code, text] = await this.#until(
            Infinity,
            {
                look: (buffer, needed) => patient(lib.iblb_next_command(handle, 0, ...ids, buffer, buffer.length, needed)),
                sleep: (ms) => threads.nextCommand(handle, ms, [0], [0], null, 0, [0]),
            },
            signal,
        );
        if (code === CODES.IBLB_E_CLOSED) return undefined;
        if (code < 0) throw this.#failure(code);
        return new Command(handle, parse(text));
    }

    /**
     * Says something to the masters without having been asked: 'EXPINTERRUPT' (what this does has ended, a camera
     * died), 'EXPSTATUS' (with { status: STATUSES.RUNNING }, what it does from now on), 'EXPINFO' (what the worker
     * answers to that from now on). Never waits.
     *
     * @param {string|number} message
     * @param {any} [data] anything JSON can express
     */
    tell(message, data) {
        this.warning = this.#check(lib.iblb_tell(this.#handle, number(message), said(data)));
    }

    /**
     * Whether a worker lives, how many services it has, and how many of them answered within the last 30 s, which is 0
     * if the rig was idle: {alive, services, servicesUp}. Never blocks.
     */
    workerState() {
        const [alive, services, up] = [[0], [0], [0]];
        this.#check(lib.iblb_worker_state(this.#handle, alive, services, up));
        return { alive: alive[0] === 1, services: services[0], servicesUp: up[0] };
    }

    /** The sentence of the last error or warning. */
    lastError() {
        return lastError(this.#handle);
    }

    /**
     * Looks, and sleeps between the looks, until there is something, or an error, or the time is up. Gives the code and
     * the text.
     */
    async #until(timeout, { look, sleep }, signal) {
        const end = performance.now() + timeout;
        for (;;) {
            signal?.throwIfAborted();
            const left = end - performance.now();
            const [code, text] = grown(look);
            if (code === CODES.IBLB_E_HANDLE) return [CODES.IBLB_E_CLOSED, '']; // closed since we began
            if (code !== CODES.IBLB_E_TIMEOUT || !(left > 0)) return [code, text];
            const woken = await this.#sleep(Math.ceil(left), sleep);
            if (woken === CODES.IBLB_E_CANCELLED || woken === CODES.IBLB_E_CLOSED) return [woken, ''];
        }
    }

    async #sleep(left, sleep) {
        if (threads.busy < LANES) return inThread(() => sleep(Math.min(left, SLICE_MS)));
        await pause(Math.min(left, LOOK_MS));
        return CODES.IBLB_OK;
    }

    #check(code) {
        if (code < 0) throw this.#failure(code);
        return code;
    }

    /**
     * An error without a response. The code alone says how a wait ended; the handle's sentence may be another wait's by
     * now.
     */
    #failure(code, request = 0) {
        const { IBLB_E_TIMEOUT, IBLB_E_NO_WORKER, IBLB_E_CANCELLED, IBLB_E_CLOSED, IBLB_E_HANDLE } = CODES;
        const known = [IBLB_E_TIMEOUT, IBLB_E_NO_WORKER, IBLB_E_CANCELLED, IBLB_E_CLOSED, IBLB_E_HANDLE].includes(code);
        return new BridgeError(code, known ? errorText(code) : this.lastError(), request);
    }

    #open() {
        return this.#handle || this.#check(CODES.IBLB_E_HANDLE);
    }
}
if (Symbol.dispose) Rig.prototype[Symbol.dispose] = Rig.prototype.close; // newer than Node.js 18.0

const forgotten = new FinalizationRegistry((handle) => lib.iblb_abandon(handle));

// The functions that sleep, as promises of their status, and how many sleep now.
const threads = {
    busy: 0,
    wait: promisify(lib.iblb_wait.async),
    nextEvent: promisify(lib.iblb_next_event.async),
    nextCommand: promisify(lib.iblb_next_command.async),
    serve: promisify(lib.iblb_serve.async),
};

/** Calls what sleeps, as soon as there is a thread for it. */
async function inThread(sleep) {
    while (threads.busy >= LANES) await pause(LOOK_MS);
    threads.busy++;
    try {
        return await sleep();
    } finally {
        threads.busy--;
    }
}

const LEAVE = Symbol('leave');
const END = Symbol('end');

/**
 * What a master asks this program to do: `command` (its number), `service`, `master`, `message` ('EXPSTART'), `args`,
 * `time`, `wall`, `timeout_ms`. Answer or fail it once; to come too late is no error.
 */
class Command {
    #handle;
    #ended = new AbortController();

    constructor(handle, command) {
        Object.assign(this, stamped(command));
        this.#handle = handle;
        /** What became of it, as `answer` returns it; undefined before. */
        this.code = undefined;
        /** What the work of `attempt` has thrown. */
        this.error = undefined;
    }

    /**
     * Hand it to all that takes long. Aborted when an EXPINTERRUPT has come, which is the next command of the loop (its
     * reason is an IBLB_E_ABORTED; no EXPINTERRUPT ends another), or another command, because the time of this one is
     * up (IBLB_E_LATE); when the rig is closed (IBLB_E_CLOSED); and with the signal given to `serve`.
     */
    get signal() {
        return this.#ended.signal;
    }

    /** Whether it is done with. */
    get answered() {
        return this.code !== undefined;
    }

    /**
     * Says that it was done.
     *
     * @param {any} [data] for the master: anything JSON can express; null for nothing
     * @param {{status?: string|number}} [options] what this program does now ('RUNNING', ...); left out: what is usual
     *     after this message
     * @returns {number} IBLB_OK; IBLB_W_NO_WORKER: the next worker delivers it; IBLB_E_LATE: the master has been told
     *     already that it failed; IBLB_E_CLOSED: the same, for the rig was closed
     * @throws {BridgeError} nothing has changed then, and it may be answered again
     */
    answer(data, options = {}) {
        const { status } = known(options, 'status');
        return this.#end(lib.iblb_answer(this.#handle, this.command, status === undefined ? -1 : statusOf(status), said(data)));
    }

    /** Says that it was not done, and why. Returns as `answer`. */
    fail(sentence) {
        return this.#end(lib.iblb_fail(this.#handle, this.command, word(sentence, 'sentence')));
    }

    /**
     * Does what was asked, and answers with what that returns; if it throws, the master is told what, and the loop goes
     * on: `command.error` has it. Returns as `answer`.
     *
     * @param {(command: Command) => any} work may be async, and may answer by itself
     * @returns {Promise<number>}
     */
    async attempt(work) {
        try {
            const data = await work(this);
            return this.answered ? this.code : this.answer(data);
        } catch (error) {
            const { reason } = this.signal;
            this.error = reason && error?.cause === reason ? reason : error; // what an AbortError of Node.js hides
            return this.answered ? this.code : this.fail(String(this.error).replaceAll('\0', ' '));
        }
    }

    [END](reason) {
        this.#ended.abort(reason);
    }

    /** Nobody waits for what nobody answers. */
    [LEAVE](sentence) {
        if (!this.answered) lib.iblb_fail(this.#handle, this.command, sentence); // whatever comes of it: it may be closed
    }

    #end(code) {
        if (code < 0 && code !== CODES.IBLB_E_LATE && code !== CODES.IBLB_E_HANDLE) throw new BridgeError(code, lastError(this.#handle));
        this.code = code === CODES.IBLB_E_HANDLE ? CODES.IBLB_E_CLOSED : code;
        return this.code;
    }
}

/** A program that serves waits for the next worker. */
function patient(code) {
    return code === CODES.IBLB_E_NO_WORKER ? CODES.IBLB_E_TIMEOUT : code;
}

/** What a code means and what to do; '' for a code that does not exist. */
function errorText(code) {
    const text = Buffer.alloc(1024);
    return lib.iblb_error_text(code, text, text.length) === CODES.IBLB_OK ? unescaped(text) : '';
}

/** The clock of all stamps, ns. */
function clockNs() {
    const now = [0];
    lib.iblb_clock_ns(now);
    return now[0];
}

/** The version of the C library: 10203 means 1.2.3. */
function version() {
    return lib.iblb_version();
}

function lastError(handle) {
    const text = Buffer.alloc(4096);
    lib.iblb_last_error(handle, text, text.length);
    return unescaped(text);
}

/** The text in a buffer up to its NUL. */
function terminated(buffer) {
    return buffer.toString('latin1', 0, buffer.indexOf(0));
}

/** The C library's sentences are ASCII with \uXXXX. */
function unescaped(buffer) {
    return terminated(buffer).replace(/\\u([0-9a-f]{4})/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
}

/** Calls with a buffer that grows until what is wanted fits. */
let buffer = Buffer.alloc(64 << 10);
function grown(look) {
    const needed = [0];
    for (;;) {
        const code = look(buffer, needed);
        if (code !== CODES.IBLB_E_BUFFER) return [code, needed[0] ? terminated(buffer) : ''];
        buffer = Buffer.alloc(needed[0]);
    }
}

// What is handed to C is checked here: koffi takes a number for an address where text is expected, and JavaScript
// passes over other mistakes in silence.

/** What iblb_send and iblb_notify take between handle and request. */
function command(message, args, options) {
    const { services, ttl = 0 } = known(options, 'services', 'ttl');
    if (typeof ttl !== 'number' || Number.isNaN(ttl)) throw new TypeError(`ttl must be a number of milliseconds, not ${shown(ttl)}.`);
    return [services === undefined ? '' : list(services), number(message), json(args), int(ttl)];
}

function known(options, ...keys) {
    const wrong = options === Object(options) ? Object.keys(options).find((key) => !keys.includes(key)) : shown(options);
    if (wrong !== undefined) throw new TypeError(`There is no option ${wrong}. The options are an object with: ${keys.join(', ')}.`);
    return options;
}

function duration(timeout) {
    if (typeof timeout === 'number' && timeout >= 0) return timeout;
    throw new TypeError(`A timeout must be a number of milliseconds, 0 or more, not ${shown(timeout)}.`);
}

function abortable(signal) {
    if (signal == null || typeof signal?.throwIfAborted === 'function') return signal;
    throw new TypeError(`The signal must be an AbortSignal, not ${shown(signal)}.`);
}

function word(text, what) {
    if (typeof text !== 'string') throw new TypeError(`The ${what} must be text, not ${shown(text)}.`);
    if (text.includes('\0')) throw new TypeError(`The ${what} holds a NUL character, where C sees its end.`);
    return text;
}

function number(message) {
    if (typeof message === 'number' && message === (message | 0)) return message;
    if (typeof message === 'string' && Object.hasOwn(MESSAGES, message)) return MESSAGES[message];
    throw new TypeError(`There is no message or event ${shown(message)}.`);
}

function asked(messages) {
    const mask = Array.isArray(messages) ? messages.reduce((sum, message) => sum | number(message), 0) : 0;
    if (mask) return mask;
    throw new TypeError('The messages must be an array, as in serve("cameras", ["EXPSTART", "EXPEND"]). To serve no more, leave the loop.');
}

function statusOf(status) {
    const found = typeof status === 'string' && Object.hasOwn(STATUSES, status) ? STATUSES[status] : status;
    if (Object.values(STATUSES).includes(found)) return found;
    throw new TypeError(`There is no status ${shown(status)}. There are: ${Object.keys(STATUSES).join(', ')}.`);
}

function said(data) {
    return data === undefined || data === null ? '' : encoded(data);
}

function list(services) {
    const names = typeof services === 'string' ? [services] : services;
    if (!Array.isArray(names)) throw new TypeError('The services must be an array of names, as in { services: ["cameras"] }.');
    if (!names.length) throw new TypeError('The list of services is empty. Leave it out to reach all.'); // C: all
    if (names.some((name) => !word(name, 'name of a service').trim())) throw new TypeError('The name of a service is empty.');
    return names.join(',');
}

function json(args) {
    if (!Array.isArray(args)) throw new TypeError('The arguments must be an array, as in call("EXPSTART", ["2026-01-01_1_subject"]).');
    return args.length ? encoded(args) : '';
}

function encoded(what) {
    const mark = randomUUID(); // of a BigInt's digits, which JSON.stringify would refuse
    const text = JSON.stringify(what, function (key, value) {
        return typeof value === 'bigint' ? `${mark}${value}` : sayable.call(this, key, value);
    });
    return text.replaceAll(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;

/** JSON as JSON.parse reads it, but a whole number that a Number cannot hold exactly is a BigInt. */
function parse(text) {
    if (!/\d{16}/.test(text)) return JSON.parse(text);
    const mark = randomUUID();
    const marked = text.replace(TOKEN, (token) => (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"${mark}${token}"` : token));
    return JSON.parse(marked, (key, value) => (typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value));
}

/** Stamps are Numbers whatever their size: after 104 days of uptime they lose their last digits. */
function stamped(entry) {
    for (const key of ['sent', 'accepted', 'finished', 'echoed', 'answered', 'time'])
        if (typeof entry[key] === 'bigint') entry[key] = Number(entry[key]);
    return entry;
}

const SAYABLE = ['Object', 'Array', 'String', 'Number', 'Boolean', 'Null'];

/**
 * Called by JSON.stringify for each value. Refuses what that would silently leave out or turn into null or {}, except
 * an undefined property.
 */
function sayable(key, value) {
    const kind = Object.prototype.toString.call(value).slice(8, -1);
    if (kind === 'Undefined' && !Array.isArray(this)) return value; // as if it were not there
    const lost = value === null && this[key] !== null; // an invalid Date
    if (lost || !SAYABLE.includes(kind) || (kind === 'Number' && !Number.isFinite(Number(value))))
        throw new TypeError(`JSON cannot express ${shown(this[key])}; convert it to text, a number or a plain object.`);
    return value;
}

function shown(value) {
    return inspect(value, { depth: 0, maxStringLength: 100 });
}

/** Node's numbers may be fractions, or infinite. */
function int(ms) {
    return Math.min(Math.max(Math.round(ms), -1), 2 ** 31 - 1);
}

function required(name) {
    try {
        return require(name);
    } catch (error) {
        if (error.code !== 'MODULE_NOT_FOUND' || !error.message.includes(`'${name}'`)) throw error;
        const told = `The package ${name} is missing. In the folder of the kit: npm install; in a program of your own: npm install ${name}`;
        throw Object.assign(new Error(told), { code: error.code });
    }
}

/** The library that IBLBRIDGE_LIBRARY names, and no other; without it, the one beside this file. */
function load() {
    const bits = ['ia32', 'arm'].includes(process.arch) ? 32 : 64;
    const name = { win32: `iblbridge_${bits}.dll`, darwin: 'libiblbridge.dylib' }[process.platform] ?? 'libiblbridge.so';
    const place = process.env.IBLBRIDGE_LIBRARY || path.join(__dirname, name);
    try {
        if (!path.isAbsolute(place)) throw new Error('this is not an absolute path');
        if (!existsSync(place)) throw new Error('there is no such file');
        const library = koffi.load(place);
        return Object.fromEntries(PROTOTYPES.map((text) => [text.match(/\w+(?=\()/)[0], library.func(text)]));
    } catch (error) {
        const told = `The library of iblbridge for ${bits}-bit programs was not loaded. Set IBLBRIDGE_LIBRARY to its absolute path. Tried:`;
        throw new Error(`${told}\n  ${place}: ${error.message}`);
    }
}

module.exports = { open, use, Rig, Command, BridgeError, MESSAGES, STATUSES, CODES, errorText, clockNs, version };
