package iblbridge;

import com.sun.jna.Library;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Platform;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.DoubleByReference;
import com.sun.jna.ptr.IntByReference;
import java.io.File;
import java.lang.reflect.Array;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Starts, stops and queries the remote services of a rig, or is such a service itself. Java 8 or newer, with JNA; this
 * file and the library are all.
 *
 * <pre>{@code
 * try (IblBridge rig = new IblBridge("rig0", "stimulus")) {
 *     IblBridge.Response response = rig.call(IblBridge.EXPSTART, IblBridge.arguments("2026-01-01_1_subject"));
 * }
 * }</pre>
 *
 * <ul>
 * <li>Any thread may call anything at any time; a wait in one thread holds up no other call, and ends if another thread
 *     closes this object, cancels the request or interrupts the waiting thread (within 200 ms).
 * <li>Failures are thrown as {@link BridgeException}, with code, name, sentence, and the {@link Response} if there is
 *     one: when one service fails, it holds the data of the others. A warning is never thrown: it is the
 *     response's {@code code}, or {@link #warning()}.
 * <li>Time-outs are milliseconds; stamps are nanoseconds of {@link #clockNs()}, 0 for never.
 * <li>An object that is not closed keeps its slot until this process ends, or until the same name is opened again.
 * <li>What each message, response and code means stands in iblbridge.h, which is the manual.
 * </ul>
 */
public final class IblBridge implements AutoCloseable {
    /* constants: begin */
    public static final int EXPINIT = 1;
    public static final int EXPSTART = 2;
    public static final int EXPEND = 4;
    public static final int EXPCLEANUP = 8;
    public static final int EXPINTERRUPT = 16;
    public static final int EXPSTATUS = 32;
    public static final int EXPINFO = 64;
    public static final int ALYX = 128;
    public static final int PING = 4096;
    public static final int SERVICES = 8192;
    public static final int SERVICE_UP = 256;
    public static final int SERVICE_DOWN = 512;
    public static final int CLIENT_LOST = 1024;
    public static final int WORKER_RESTARTED = 2048;
    public static final int EXPERIMENT_LOST = 16384;
    public static final int SERVICES_CHANGED = 131072;
    public static final int STATUS_CONNECTED = 0;
    public static final int STATUS_INITIALIZED = 10;
    public static final int STATUS_RUNNING = 20;
    public static final int STATUS_STOPPED = 30;
    /** all: Done. */
    public static final int OK = 0;
    /** all: A parameter is NULL, negative or out of range. */
    public static final int E_ARGUMENT = -8001;
    /** all with a handle: The handle is unknown or was closed. */
    public static final int E_HANDLE = -8002;
    /** wait, call: The handle was closed during the call, by another thread. */
    public static final int E_CLOSED = -8003;
    /** all with a handle: The handle belongs to the parent process. */
    public static final int E_FORKED = -8004;
    /** open: The segment's or client's name cannot be used. */
    public static final int E_NAME = -8005;
    /** open: This process has opened as many handles as the library can hold (64). */
    public static final int E_HANDLES = -8006;
    /** open: There is no segment of this name. */
    public static final int E_NO_SEGMENT = -8010;
    /** open, send, wait, call: The segment is damaged. */
    public static final int E_SEGMENT = -8011;
    /** open: The segment was made by another version of iblbridge. */
    public static final int E_VERSION = -8012;
    /** all with a handle, open: The segment was replaced by a new one, or removed. */
    public static final int E_STALE = -8013;
    /** open: The segment or its directory is not ours, or can be reached by others. */
    public static final int E_PERMISSION = -8014;
    /** open: All client slots are taken. */
    public static final int E_NO_SLOT = -8015;
    /** open, serve: Another living process is attached under this client name, or serves this listener. */
    public static final int E_NAME_TAKEN = -8016;
    /** send, wait, call: The worker found nonsense in this client's rings and has stopped reading them. */
    public static final int E_QUARANTINED = -8017;
    /** wait, call, next_event, next_command: No worker serves the segment. */
    public static final int E_NO_WORKER = -8018;
    /** worker: Another worker serves this segment, or is stopped but alive. */
    public static final int E_WORKER_BUSY = -8019;
    /** open: The operating system refused a call. */
    public static final int E_SYSTEM = -8020;
    /** open, send: There is no memory or no space left for the segment. */
    public static final int E_MEMORY = -8021;
    /** worker: Another worker has taken over the segment. */
    public static final int E_SUPERSEDED = -8022;
    /** send, notify, call, serve, tell: The message number is unknown. */
    public static final int E_MESSAGE = -8030;
    /** send, notify, wait, call, serve, next_command, tell: A named service is not in the worker's configuration, or this handle serves none. */
    public static final int E_SERVICE = -8031;
    /** open, send, notify, call, serve, answer, fail, tell: A text is not valid UTF-8. */
    public static final int E_UTF8 = -8032;
    /** send, notify, call, answer, tell: The arguments are not valid JSON. */
    public static final int E_JSON = -8033;
    /** send_msgpack: The arguments are not msgpack that JSON can say. */
    public static final int E_MSGPACK = -8034;
    /** wait, call: The arguments do not fit the message. */
    public static final int E_ARGS = -8035;
    /** send, notify, wait, call, answer, tell: The command is larger than the ring or a datagram can hold. */
    public static final int E_TOO_LARGE = -8036;
    /** send, notify, call, answer, fail, tell: The command ring is full of commands without an answer. */
    public static final int E_FULL = -8037;
    /** send, call, next_command: 1,024 requests of this handle still have to be waited for, or 8 commands that it took to be answered. */
    public static final int E_TOO_MANY = -8038;
    /** wait, next_event, next_command: The time is up and there is no response yet. */
    public static final int E_TIMEOUT = -8050;
    /** wait, cancel, withdraw: The request is unknown, its response was already taken, or it was cancelled. */
    public static final int E_REQUEST = -8051;
    /** wait, call, texts: The buffer is too small; the response is kept. */
    public static final int E_BUFFER = -8052;
    /** call: The time was up before the command could be sent; it was withdrawn and nothing was sent. */
    public static final int E_NOT_SENT = -8053;
    /** call: There is no answer yet: a worker has accepted the command, and its answer is still to come. */
    public static final int E_PENDING = -8054;
    /** wait, call: The request was cancelled during the wait, by another thread. */
    public static final int E_CANCELLED = -8055;
    /** answer, fail: The master was already told that this command failed, for its time was up. */
    public static final int E_LATE = -8056;
    /** answer, fail: The number is of no command that was taken, or it was answered already. */
    public static final int E_COMMAND = -8057;
    /** wait, call: Some services did what was asked and some did not. */
    public static final int E_PARTIAL = -8070;
    /** wait, call: No service did what was asked. */
    public static final int E_ALL_FAILED = -8071;
    /** wait, call: The command was older than its time to live; nothing was sent. */
    public static final int E_EXPIRED = -8072;
    /** wait, call: An EXPINTERRUPT, or the worker's stop, overtook the command. */
    public static final int E_ABORTED = -8073;
    /** wait, call: The worker died after it had begun to send the command. */
    public static final int E_OUTCOME_UNKNOWN = -8074;
    /** wait, call: The worker failed at this command. */
    public static final int E_INTERNAL = -8075;
    /** open, send, notify, serve, answer, fail, tell: No worker serves the segment at the moment; commands wait for one until they expire. */
    public static final int W_NO_WORKER = 5001;
    /** wait, call: All services did what was asked, except one that is configured as optional. */
    public static final int W_OPTIONAL = 5002;
    /** cancel, withdraw: The worker had already accepted the command; after a cancel its answer is discarded. */
    public static final int W_ACCEPTED = 5003;
    /** wait, call: The response was too large for its ring; data were left out; states are complete. */
    public static final int W_SHORTENED = 5004;
    /** wait, call: All services answered, but the status that one of them reports contradicts the command. */
    public static final int W_STATUS = 5005;
    /** wait, call: The worker has no services: the command reached nobody. */
    public static final int W_NO_SERVICES = 5006;

    /** The name of a code, such as IBLB_E_PARTIAL; "?" if there is none. */
    public static String nameOf(int code) {
        switch (code) {
        case OK: return "IBLB_OK";
        case E_ARGUMENT: return "IBLB_E_ARGUMENT";
        case E_HANDLE: return "IBLB_E_HANDLE";
        case E_CLOSED: return "IBLB_E_CLOSED";
        case E_FORKED: return "IBLB_E_FORKED";
        case E_NAME: return "IBLB_E_NAME";
        case E_HANDLES: return "IBLB_E_HANDLES";
        case E_NO_SEGMENT: return "IBLB_E_NO_SEGMENT";
        case E_SEGMENT: return "IBLB_E_SEGMENT";
        case E_VERSION: return "IBLB_E_VERSION";
        case E_STALE: return "IBLB_E_STALE";
        case E_PERMISSION: return "IBLB_E_PERMISSION";
        case E_NO_SLOT: return "IBLB_E_NO_SLOT";
        case E_NAME_TAKEN: return "IBLB_E_NAME_TAKEN";
        case E_QUARANTINED: return "IBLB_E_QUARANTINED";
        case E_NO_WORKER: return "IBLB_E_NO_WORKER";
        case E_WORKER_BUSY: return "IBLB_E_WORKER_BUSY";
        case E_SYSTEM: return "IBLB_E_SYSTEM";
        case E_MEMORY: return "IBLB_E_MEMORY";
        case E_SUPERSEDED: return "IBLB_E_SUPERSEDED";
        case E_MESSAGE: return "IBLB_E_MESSAGE";
        case E_SERVICE: return "IBLB_E_SERVICE";
        case E_UTF8: return "IBLB_E_UTF8";
        case E_JSON: return "IBLB_E_JSON";
        case E_MSGPACK: return "IBLB_E_MSGPACK";
        case E_ARGS: return "IBLB_E_ARGS";
        case E_TOO_LARGE: return "IBLB_E_TOO_LARGE";
        case E_FULL: return "IBLB_E_FULL";
        case E_TOO_MANY: return "IBLB_E_TOO_MANY";
        case E_TIMEOUT: return "IBLB_E_TIMEOUT";
        case E_REQUEST: return "IBLB_E_REQUEST";
        case E_BUFFER: return "IBLB_E_BUFFER";
        case E_NOT_SENT: return "IBLB_E_NOT_SENT";
        case E_PENDING: return "IBLB_E_PENDING";
        case E_CANCELLED: return "IBLB_E_CANCELLED";
        case E_LATE: return "IBLB_E_LATE";
        case E_COMMAND: return "IBLB_E_COMMAND";
        case E_PARTIAL: return "IBLB_E_PARTIAL";
        case E_ALL_FAILED: return "IBLB_E_ALL_FAILED";
        case E_EXPIRED: return "IBLB_E_EXPIRED";
        case E_ABORTED: return "IBLB_E_ABORTED";
        case E_OUTCOME_UNKNOWN: return "IBLB_E_OUTCOME_UNKNOWN";
        case E_INTERNAL: return "IBLB_E_INTERNAL";
        case W_NO_WORKER: return "IBLB_W_NO_WORKER";
        case W_OPTIONAL: return "IBLB_W_OPTIONAL";
        case W_ACCEPTED: return "IBLB_W_ACCEPTED";
        case W_SHORTENED: return "IBLB_W_SHORTENED";
        case W_STATUS: return "IBLB_W_STATUS";
        case W_NO_SERVICES: return "IBLB_W_NO_SERVICES";
        default: return "?";
        }
    }
    /* constants: end */

    /** How long a call waits if nothing else is said, ms. */
    public static final int CALL_MS = 12000;

    /** What a program that serves is asked if nothing else is said; the worker itself knows answers to the rest. */
    public static final int SERVED = EXPINIT | EXPSTART | EXPEND | EXPCLEANUP | EXPINTERRUPT;

    /* One wait inside the C library, which no interrupt of Java reaches. */
    private static final int SLICE_MS = 200;

    /* Between two looks for what overtakes a command. */
    private static final int WATCH_MS = 20;

    private static final String DIED = "The worker died with the command. Start it again and wait for the same request; do not repeat the command.";
    private static final String WITHDRAWN = "No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.";

    private static final C C = load();
    private static final ExecutorService WAITERS = Executors.newCachedThreadPool(work -> {
        Thread thread = new Thread(work, "iblbridge-wait");
        thread.setDaemon(true);
        return thread;
    });

    private final String name;
    private final AtomicInteger handle;
    private final Set<Command> inHand = ConcurrentHashMap.newKeySet();
    private final Queue<Command> ahead = new ConcurrentLinkedQueue<>(); /* taken while another was in hand */
    private volatile int warning;

    /** As {@link #IblBridge(String, String, int)}, with 2 s. */
    public IblBridge(String segment, String client) {
        this(segment, client, 2000);
    }

    /**
     * Attaches to a segment. Opening the same segment under the same name again in this process closes the older one.
     *
     * @param segment its name, such as rig0
     * @param client name of this client, 1 to 63 bytes; null: pid-&lt;pid&gt;-&lt;n&gt;
     * @param timeoutMs how long to wait for a segment and a worker, ms; a missing worker is only a
     *     {@link #warning()}
     * @throws BridgeException if there is no segment, no free slot, ...
     */
    public IblBridge(String segment, String client, int timeoutMs) {
        IntByReference number = new IntByReference();
        int code = C.iblb_open(utf8(segment), utf8(client), checked(timeoutMs), number);
        if (code < 0)
            throw new BridgeException(code, sentence(0), 0, null);
        name = "IblBridge of " + segment + (client == null || client.isEmpty() ? "" : " \"" + client + "\"");
        handle = new AtomicInteger(number.getValue());
        warning = code;
    }

    /** Gives the slot back. Calling it twice, or from any thread, is harmless: waits in others end with E_CLOSED. */
    @Override
    public void close() {
        int number = handle.getAndSet(0);
        if (number != 0)
            C.iblb_close(number);
    }

    /**
     * As {@link #close()}, but says that the work is not done: to the worker this client is lost. Harmless after close.
     */
    public void abandon() {
        int number = handle.getAndSet(0);
        if (number != 0)
            C.iblb_abandon(number);
    }

    /** What is done with a client; it may throw anything. */
    public interface Work {
        void with(IblBridge rig) throws Exception;
    }

    /**
     * Attaches, does the work, and gives the slot back: in order if the work returns, as lost if it throws. (A try
     * block cannot tell: it always ends in order.)
     *
     * @throws BridgeException as the constructor; and whatever the work throws
     */
    public static void use(String segment, String client, Work work) throws Exception {
        IblBridge rig = new IblBridge(segment, client);
        try {
            work.with(rig);
            rig.close();
        } finally {
            rig.abandon();
        }
    }

    /** Such as: IblBridge of rig0 "stimulus", closed. */
    @Override
    public String toString() {
        return name + (handle.get() == 0 ? ", closed" : "");
    }

    /** Sends a message without arguments to all services; see {@link #call(int, String, String, int)}. */
    public Response call(int message) throws InterruptedException {
        return call(message, null, null, CALL_MS);
    }

    /** Sends a message to all services; see {@link #call(int, String, String, int)}. */
    public Response call(int message, String arguments) throws InterruptedException {
        return call(message, arguments, null, CALL_MS);
    }

    /**
     * Sends a command and waits until every service has done it.
     *
     * @param message EXPSTART, ...
     * @param arguments null or JSON, as {@link #arguments(Object...)} makes it
     * @param services null for all, else names separated by commas; text that names none is refused
     * @param timeoutMs ms; also its time to live: a command that has not begun to be sent by then never will be
     * @throws BridgeException if the command failed. Without a response, because time is up or no worker lives: a
     *     command that no worker has accepted is withdrawn (E_NOT_SENT, E_NO_WORKER); the answer to an accepted one is
     *     still to come (E_PENDING: {@link #await(int, int)} for {@link BridgeException#request}, do not repeat it)
     * @throws InterruptedException if the thread was interrupted; the request is cancelled
     */
    public Response call(int message, String arguments, String services, int timeoutMs) throws InterruptedException {
        IntByReference request = new IntByReference();
        publish(message, arguments, services, Math.max(checked(timeoutMs), 1), request);
        return finish(request.getValue(), timeoutMs);
    }

    /** Sends a message to all services; see {@link #callAsync(int, String, String, int)}. */
    public CompletableFuture<Response> callAsync(int message, String arguments) {
        return callAsync(message, arguments, null, CALL_MS);
    }

    /**
     * The same without blocking: the command is sent before this returns, and a daemon thread waits. Cancelling the
     * future cancels the request. A program whose {@code main} ends does not wait for it: join the future if its answer
     * matters.
     *
     * @return completes with the response, or exceptionally with what {@link #call(int, String, String, int)} throws
     */
    public CompletableFuture<Response> callAsync(int message, String arguments, String services, int timeoutMs) {
        IntByReference request = new IntByReference();
        CompletableFuture<Response> future = new CompletableFuture<Response>() {
            @Override
            public boolean cancel(boolean mayInterrupt) {
                boolean cancelled = super.cancel(mayInterrupt);
                if (cancelled)
                    C.iblb_cancel(handle.get(), request.getValue()); /* the wait ends with E_CANCELLED, which nobody sees */
                return cancelled;
            }
        };
        try {
            publish(message, arguments, services, Math.max(checked(timeoutMs), 1), request);
            WAITERS.execute(() -> {
                try {
                    future.complete(finish(request.getValue(), timeoutMs));
                } catch (Throwable error) {
                    future.completeExceptionally(error);
                }
            });
        } catch (BridgeException error) {
            future.completeExceptionally(error);
        }
        return future;
    }

    /** Sends a message to all services; see {@link #send(int, String, String, int)}. */
    public int send(int message, String arguments) {
        return send(message, arguments, null, 0);
    }

    /**
     * Writes a command and returns at once.
     *
     * @param ttlMs if it has not begun to be sent within this time it never will be, ms; 0: 10 s; negative: no limit
     * @return the request's number, for {@link #await(int, int)} and {@link #cancel(int)}
     */
    public int send(int message, String arguments, String services, int ttlMs) {
        IntByReference request = new IntByReference();
        publish(message, arguments, services, ttlMs, request);
        return request.getValue();
    }

    /** The same without a response: what became of it is counted and logged by the worker. */
    public void notify(int message, String arguments, String services, int ttlMs) {
        warning = check(C.iblb_notify(handle.get(), utf8(named(services)), message, utf8(arguments), ttlMs));
    }

    /**
     * Waits for the response to a request. (iblb_wait; every Java object has a {@code wait} of its own.)
     *
     * @throws BridgeException if the command failed; with the request staying open, E_TIMEOUT if there is no response
     *     in time, E_NO_WORKER at once if no worker lives: a new one will answer
     * @throws InterruptedException if the thread was interrupted; the request stays open
     */
    public Response await(int request, int timeoutMs) throws InterruptedException {
        IntByReference needed = new IntByReference();
        long end = end(checked(timeoutMs));
        int number = open();
        for (;;) {
            int code = C.iblb_wait(number, request, slice(end), null, 0, needed);
            while (code == E_BUFFER) { /* it is there, and this is how large it is */
                Memory json = new Memory(needed.getValue());
                code = C.iblb_wait(number, request, 0, json, (int) json.size(), needed);
                if (code != E_BUFFER && needed.getValue() > 0)
                    return outcome(code, json.getString(0, "US-ASCII"));
            }
            if (code != E_TIMEOUT || System.nanoTime() - end >= 0)
                throw failure(code == E_HANDLE ? E_CLOSED : code, code == E_TIMEOUT || code == E_NO_WORKER ? request : 0);
        }
    }

    /**
     * Withdraws a command if no worker has accepted it: true, nothing will be sent; false: its answer can still be
     * awaited.
     */
    public boolean withdraw(int request) {
        return check(C.iblb_withdraw(handle.get(), request)) == OK;
    }

    /**
     * Gives a request up. True if nothing was sent nor will be; false if a worker had accepted it: its answer will be
     * discarded.
     */
    public boolean cancel(int request) {
        return check(C.iblb_cancel(handle.get(), request)) == OK;
    }

    /**
     * Chooses the events that {@link #nextEvent(int)} gives, in place of the earlier choice: EXPINTERRUPT |
     * SERVICE_DOWN; 0 for none.
     */
    public void subscribe(int events) {
        check(C.iblb_subscribe(handle.get(), events));
    }

    /**
     * The next event, or null if there was none in time.
     *
     * @throws BridgeException with E_NO_WORKER at once if no worker lives
     */
    public Event nextEvent(int timeoutMs) throws InterruptedException {
        IntByReference message = new IntByReference();
        IntByReference needed = new IntByReference();
        long end = end(checked(timeoutMs));
        int number = open();
        for (;;) {
            int code = C.iblb_next_event(number, slice(end), message, null, 0, needed);
            while (code == E_BUFFER) {
                Memory json = new Memory(needed.getValue());
                code = C.iblb_next_event(number, 0, message, json, (int) json.size(), needed);
                if (code == OK)
                    return new Event(message.getValue(), json.getString(0, "US-ASCII"));
            }
            if (code != E_TIMEOUT)
                throw failure(code == E_HANDLE ? E_CLOSED : code, 0);
            if (System.nanoTime() - end >= 0)
                return null;
        }
    }

    /** Serves a listener, with the messages {@link #SERVED}; see {@link #serve(String, int)}. */
    public void serve(String service) {
        serve(service, SERVED);
    }

    /**
     * From now on this program is a service: {@link #nextCommand(int)} gives what masters ask of it. Waits for a worker
     * that has just started, at most 5 s.
     *
     * @param service the worker's listener; null: the only one there is
     * @param messages what this program wants to be asked, EXPSTART | EXPEND, ...; 0: it serves no more
     * @throws BridgeException with E_SERVICE if there is no such listener, E_NAME_TAKEN if another program serves it
     */
    public void serve(String service, int messages) {
        warning = check(C.iblb_serve(handle.get(), utf8(service), messages));
        if (messages == 0)
            for (Command unseen = ahead.poll(); unseen != null; unseen = ahead.poll())
                unseen.close();
    }

    /**
     * The next command, an EXPINTERRUPT before all others; null if there was none in time, also if no worker lives: the
     * next one asks this program.
     *
     * <pre>{@code
     * try (IblBridge.Command command = rig.nextCommand(1000)) {
     *     if (command != null)
     *         command.attempt(camera::obey);
     * }
     * }</pre>
     */
    public Command nextCommand(int timeoutMs) throws InterruptedException {
        long end = end(checked(timeoutMs));
        int number = open();
        for (;;) {
            Command command = ahead.poll();
            if (command == null)
                command = take(number, slice(end));
            if (command != null || System.nanoTime() - end >= 0)
                return command;
        }
    }

    private Command take(int number, int timeoutMs) {
        IntByReference command = new IntByReference();
        IntByReference message = new IntByReference();
        IntByReference needed = new IntByReference();
        int code = C.iblb_next_command(number, timeoutMs, command, message, null, 0, needed);
        while (code == E_BUFFER) {
            Memory json = new Memory(needed.getValue());
            code = C.iblb_next_command(number, 0, command, message, json, (int) json.size(), needed);
            if (code == OK)
                return taken(new Command(json.getString(0, "US-ASCII")));
        }
        if (code == E_TIMEOUT || code == E_NO_WORKER)
            return null;
        throw failure(code == E_HANDLE ? E_CLOSED : code, 0);
    }

    private Command taken(Command command) {
        for (Command older : inHand)
            older.overtakenBy(command);
        inHand.add(command);
        return command;
    }

    /* Takes what comes while a command is in hand, for nextCommand. */
    private void lookAhead() {
        try {
            Command next = take(handle.get(), 0);
            if (next != null)
                ahead.add(next);
        } catch (BridgeException error) {
            if (handle.get() != 0) /* else it was closed just now */
                throw error;
        }
    }

    /** Says something without data; see {@link #tell(int, Object)}. */
    public void tell(int message) {
        tell(message, null);
    }

    /**
     * Says something to the masters without having been asked: EXPINTERRUPT (what this does has ended, a camera died),
     * EXPSTATUS (with the status that it is in from now on), EXPINFO (what the worker answers to that from now on).
     * Never waits.
     *
     * @param data as in {@link #arguments(Object...)}: a Map, a Number, ...; null: none
     */
    public void tell(int message, Object data) {
        warning = check(C.iblb_tell(handle.get(), message, said(data)));
    }

    private static byte[] said(Object data) {
        return data == null ? null : utf8(Json.write(data));
    }

    /** Whether a worker lives, and how many services it has. Never blocks. */
    public WorkerState workerState() {
        IntByReference alive = new IntByReference();
        IntByReference services = new IntByReference();
        IntByReference up = new IntByReference();
        check(C.iblb_worker_state(handle.get(), alive, services, up));
        return new WorkerState(alive.getValue() == 1, services.getValue(), up.getValue());
    }

    /** W_NO_WORKER if no worker lived when this client was opened or last sent something, else 0. */
    public int warning() {
        return warning;
    }

    /** The sentence of the last error or warning, in any thread. */
    public String lastError() {
        return sentence(handle.get());
    }

    /** What a code means and what to do; "" for a code that does not exist. */
    public static String errorText(int code) {
        Memory text = new Memory(1024);
        return C.iblb_error_text(code, text, (int) text.size()) == OK ? Json.unescaped(text.getString(0, "US-ASCII")) : "";
    }

    /** The clock of all stamps, ns. */
    public static long clockNs() {
        DoubleByReference now = new DoubleByReference();
        C.iblb_clock_ns(now);
        return (long) now.getValue();
    }

    /** The version of the C library: 10203 means 1.2.3. */
    public static int version() {
        return C.iblb_version();
    }

    /**
     * The arguments of a message as JSON.
     *
     * @param values String, finite Number, Boolean, null, Map with String keys, Collection or array, nested at will
     * @throws IllegalArgumentException for anything else, such as a Date, an enum or NaN: convert it to text or a
     *     number
     */
    public static String arguments(Object... values) {
        return Json.write(values);
    }

    /* As C takes it. Not left to JNA, whose encoding is a setting of the whole program. */
    private static byte[] utf8(String text) {
        if (text != null && text.indexOf('\0') >= 0)
            throw new IllegalArgumentException("The text holds a NUL character, where C sees its end.");
        return text == null ? null : (text + '\0').getBytes(StandardCharsets.UTF_8);
    }

    private static String sentence(int handle) {
        Memory text = new Memory(4096);
        C.iblb_last_error(handle, text, (int) text.size());
        return Json.unescaped(text.getString(0, "US-ASCII"));
    }

    private int check(int code) {
        if (code < 0)
            throw failure(code, 0);
        return code;
    }

    /* An exception without a response. The code alone says how a wait ended; the handle's sentence may be another
     * thread's by now. */
    private BridgeException failure(int code, int request) {
        boolean known = code == E_TIMEOUT || code == E_NO_WORKER || code == E_CANCELLED || code == E_CLOSED || code == E_HANDLE;
        return new BridgeException(code, known ? errorText(code) : sentence(handle.get()), request, null);
    }

    /* For a loop of waits: between two of them another thread may close this, which is then no misuse. */
    private int open() {
        int number = handle.get();
        if (number == 0)
            throw failure(E_HANDLE, 0);
        return number;
    }

    private void publish(int message, String arguments, String services, int ttlMs, IntByReference request) {
        warning = check(C.iblb_send(handle.get(), utf8(named(services)), message, utf8(arguments), ttlMs, request));
    }

    /* To C "" stands for all services. Here it means that a list was left with nothing in it. */
    private static String named(String services) {
        if (services != null && services.trim().isEmpty())
            throw new IllegalArgumentException("services names no service; pass null to reach all.");
        return services;
    }

    /* Checked before anything is sent: a call that throws this has not started a camera. */
    private static int checked(int timeoutMs) {
        if (timeoutMs < 0)
            throw new BridgeException(E_ARGUMENT, "timeoutMs is negative: " + timeoutMs + ".", 0, null);
        return timeoutMs;
    }

    private static long end(int timeoutMs) {
        return System.nanoTime() + timeoutMs * 1000000L;
    }

    /* How long to wait in the C library until the thread's interrupt is looked at again. */
    private static int slice(long end) throws InterruptedException {
        if (Thread.interrupted())
            throw new InterruptedException();
        long left = (end - System.nanoTime() + 999999) / 1000000;
        return (int) Math.min(Math.max(left, 0), SLICE_MS);
    }

    /* The second half of a call. What can be taken back is taken back if there is no answer, as iblb_call does. */
    private Response finish(int request, int timeoutMs) throws InterruptedException {
        try {
            return await(request, timeoutMs);
        } catch (BridgeException error) {
            if (error.request == 0)
                throw error;
            int left = C.iblb_withdraw(handle.get(), request);
            if (left == W_ACCEPTED)
                throw new BridgeException(E_PENDING, error.code == E_TIMEOUT ? errorText(E_PENDING) : DIED, request, null);
            if (left != OK)
                throw error;
            if (error.code == E_TIMEOUT)
                throw new BridgeException(E_NOT_SENT, errorText(E_NOT_SENT), 0, null);
            throw new BridgeException(E_NO_WORKER, WITHDRAWN, 0, null);
        } catch (InterruptedException interrupted) { /* nobody else knows the request */
            C.iblb_cancel(handle.get(), request);
            throw interrupted;
        }
    }

    /* The one place where a status and a body become a response or an exception. */
    private static Response outcome(int code, String json) {
        Response response = new Response(json);
        if (code >= 0)
            return response;
        /* Its own sentence: that of the handle may be another thread's by now. */
        throw new BridgeException(code, response.error.isEmpty() ? errorText(code) : response.error, 0, response);
    }

    /* The library that IBLBRIDGE_LIBRARY names, and no other; without it, the one beside the classes. */
    private static C load() {
        String named = System.getenv("IBLBRIDGE_LIBRARY");
        List<File> places = named == null || named.isEmpty() ? beside() : Collections.singletonList(new File(named));
        StringBuilder tried = new StringBuilder();
        for (File place : places) {
            try {
                if (!place.isAbsolute()) /* JNA would search */
                    throw new UnsatisfiedLinkError("this is not an absolute path");
                if (!place.isFile())
                    throw new UnsatisfiedLinkError("there is no such file");
                C library = Native.load(place.getPath(), C.class);
                library.iblb_version(); /* JNA looks for a function when it is first called: is this library ours? */
                return library;
            } catch (UnsatisfiedLinkError error) {
                tried.append("\n  ").append(place).append(": ").append(error.getMessage());
            }
        }
        throw new UnsatisfiedLinkError("The library of iblbridge for " + bits() + "-bit programs was not loaded. "
                + "Set IBLBRIDGE_LIBRARY to its absolute path. Tried:" + tried);
    }

    /* In the folder that the package's folder, or the jar, lies in; and in the package's folder. */
    private static List<File> beside() {
        File folder = new File("").getAbsoluteFile();
        try {
            File classes = new File(IblBridge.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            folder = classes.isDirectory() ? classes : classes.getParentFile();
        } catch (URISyntaxException | RuntimeException unknown) { /* loaded from elsewhere than a file */
        }
        String file = Platform.isWindows() ? "iblbridge_" + bits() + ".dll" : Platform.isMac() ? "libiblbridge.dylib" : "libiblbridge.so";
        return Arrays.asList(new File(folder, file), new File(new File(folder, "iblbridge"), file));
    }

    private static int bits() {
        return Platform.is64Bit() ? 64 : 32;
    }

    /** A negative status. Its message is the sentence with the code behind it. */
    public static final class BridgeException extends RuntimeException {
        private static final long serialVersionUID = 1L;

        /** The status, such as E_PARTIAL. */
        public final int code;
        /** Its name: IBLB_E_PARTIAL. */
        public final String name;
        /** What happened and what to do, naming each failed service with its reason. */
        public final String sentence;
        /**
         * The request that stays open, for {@link IblBridge#await(int, int)} or {@link IblBridge#cancel(int)}; 0 if
         * none does.
         */
        public final int request;
        /** The response; null if there is none. */
        public final transient Response response;

        BridgeException(int code, String sentence, int request, Response response) {
            super(sentence + " [" + nameOf(code) + " " + code + "]");
            this.code = code;
            this.name = nameOf(code);
            this.sentence = sentence;
            this.request = request;
            this.response = response;
        }
    }

    /** What became of a command. */
    public static final class Response {
        public final int request;
        /** The key of this command in journals and logs. */
        public final String commandId;
        /** Such as "EXPSTART". */
        public final String message;
        /** 0, a warning, or the code of the exception that holds this response. */
        public final int code;
        /** "" or one sentence. */
        public final String error;
        /** One entry per addressed service, in configured order. */
        public final List<Service> services;
        /** ns, 0 for never. */
        public final long sent;
        public final long accepted;
        public final long finished;
        /** ISO 8601, when the worker accepted the command. */
        public final String wall;
        /** All of it, as it came. */
        public final String json;

        Response(String json) {
            Map<String, Object> map = Json.object(Json.read(json));
            this.json = json;
            request = (int) number(map, "request");
            commandId = (String) map.get("command_id");
            message = (String) map.get("message");
            code = (int) number(map, "code");
            error = (String) map.get("error");
            sent = number(map, "sent");
            accepted = number(map, "accepted");
            finished = number(map, "finished");
            wall = (String) map.get("wall");
            List<Service> entries = new ArrayList<>();
            for (Object entry : (List<?>) map.get("services"))
                entries.add(new Service(Json.object(entry)));
            services = Collections.unmodifiableList(entries);
        }

        /** The entry of a service; null if it was not asked. */
        public Service service(String name) {
            for (Service service : services)
                if (service.name.equals(name))
                    return service;
            return null;
        }

        @Override
        public String toString() {
            return json;
        }
    }

    /** What became of a command at one service. */
    public static final class Service {
        public final String name;
        /** Whether it did what was asked. */
        public final boolean ok;
        /** "not_sent", "unreachable" (no echo), "echoed" (received, no reply) or "answered". */
        public final String state;
        /** "" if ok, else why, as a word for programs: "refused", ...; iblbridge.h lists them. */
        public final String reason;
        /** Why it is not ok, as a sentence for people, or what was left out (W_SHORTENED); else "". */
        public final String error;
        /**
         * EXPINFO {status, info}, EXPSTATUS {status}, others {value}: String, Long (BigInteger beyond), Double,
         * Boolean, null, List, Map.
         */
        public final Map<String, Object> data;
        /** STATUS_RUNNING, ...: what the service says it does; -1 if its reply does not say it. */
        public final int status;
        /** ns, 0 for never. */
        public final long sent;
        public final long echoed;
        public final long answered;

        Service(Map<String, Object> map) {
            name = (String) map.get("name");
            ok = (Boolean) map.get("ok");
            state = (String) map.get("state");
            reason = (String) map.getOrDefault("reason", "");
            error = (String) map.get("error");
            data = Json.object(map.get("data"));
            status = ((Number) map.getOrDefault("status", -1)).intValue();
            sent = number(map, "sent");
            echoed = number(map, "echoed");
            answered = number(map, "answered");
        }

        /** Such as: cameras: echoed, received the command but did not reply within 10 s. */
        @Override
        public String toString() {
            return name + ": " + state + (error.isEmpty() ? "" : ", " + error);
        }
    }

    /** What a service, or the worker, says by itself. */
    public static final class Event {
        /** Counts this client's events; a gap says that some were lost because nobody read. */
        public final long sequence;
        /** EXPINTERRUPT, SERVICE_DOWN, ... */
        public final int message;
        /** Such as "EXPINTERRUPT". */
        public final String event;
        /** "" if none. */
        public final String service;
        /** "" unless CLIENT_LOST. */
        public final String client;
        /** As in responses. */
        public final Map<String, Object> data;
        /** ns. */
        public final long time;
        /** ISO 8601. */
        public final String wall;
        /** All of it, as it came. */
        public final String json;

        Event(int message, String json) {
            Map<String, Object> map = Json.object(Json.read(json));
            this.message = message;
            this.json = json;
            sequence = number(map, "sequence");
            event = (String) map.get("event");
            service = (String) map.get("service");
            client = (String) map.get("client");
            data = Json.object(map.get("data"));
            time = number(map, "time");
            wall = (String) map.get("wall");
        }

        @Override
        public String toString() {
            return json;
        }
    }

    /** What does what a command asks for; may throw anything. */
    public interface Task {
        /** Returns what the master is answered; null: nothing. */
        Object carryOut(Command command) throws Exception;
    }

    /**
     * What a master asks this program to do. Answer or fail it once, from whatever thread. If a try block leaves it
     * unanswered it fails by itself.
     */
    public final class Command implements AutoCloseable {
        /** Its number. */
        public final int command;
        /** The listener's name. */
        public final String service;
        /** Who asks: "192.168.0.3:55123". */
        public final String master;
        /** Such as "EXPSTART". */
        public final String message;
        /** The arguments: String, Long (BigInteger beyond), Double, Boolean, null, List, Map. */
        public final List<Object> args;
        /** ns: when it reached the worker. */
        public final long time;
        /** ISO 8601. */
        public final String wall;
        /** After so many ms from {@code time} the master is told that it failed. */
        public final int timeoutMs;
        /** All of it, as it came. */
        public final String json;

        private volatile String overtaken; /* null, or by what, as a sentence */
        private volatile Integer code;
        private volatile Throwable error;

        @SuppressWarnings("unchecked")
        Command(String json) {
            Map<String, Object> map = Json.object(Json.read(json));
            this.json = json;
            command = (int) number(map, "command");
            service = (String) map.get("service");
            master = (String) map.get("master");
            message = (String) map.get("message");
            args = (List<Object>) map.get("args");
            time = number(map, "time");
            wall = (String) map.get("wall");
            timeoutMs = (int) number(map, "timeout_ms");
        }

        /** Says that it was done; see {@link #answer(int, Object)}. */
        public int answer() {
            return answer(-1, null);
        }

        /** Says that it was done; see {@link #answer(int, Object)}. */
        public int answer(Object data) {
            return answer(-1, data);
        }

        /**
         * Says that it was done.
         *
         * @param status STATUS_RUNNING, ...: what this program does now; -1: what is usual after this message
         * @param data for the master, as in {@link IblBridge#arguments(Object...)}: a Map, a Number, ...; null: nothing
         * @return OK; W_NO_WORKER: the next worker delivers it; E_LATE: the master has been told already that it
         *     failed; E_CLOSED: the same, for the rig was closed
         * @throws BridgeException nothing has changed then, and it may be answered again
         */
        public int answer(int status, Object data) {
            return end(C.iblb_answer(handle.get(), command, status, said(data)));
        }

        /** Says that it was not done, and why. Returns as {@link #answer(int, Object)}. */
        public int fail(String sentence) {
            return end(C.iblb_fail(handle.get(), command, utf8(sentence)));
        }

        /**
         * Does what was asked, and answers with what that returns. If it throws, the master is told what, and
         * {@link #error()} has it; only an Error is thrown again. If an EXPINTERRUPT comes meanwhile, or the rig is
         * closed, this thread is interrupted, as {@link Thread#interrupt()} does. The EXPINTERRUPT is the next command.
         *
         * @param work may answer by itself
         * @return as {@link #answer(int, Object)}
         */
        public int attempt(Task work) {
            Watch watch = new Watch(this, Thread.currentThread());
            WAITERS.execute(watch);
            try {
                Object data;
                try {
                    data = work.carryOut(this);
                } finally {
                    watch.end();
                }
                return code == null ? answer(data) : code;
            } catch (Throwable thrown) {
                boolean stopped = thrown instanceof InterruptedException;
                error = stopped && watch.struck ? new InterruptedException(overtaken) : thrown;
                if (code == null)
                    fail(error.toString().replace('\0', ' '));
                if (stopped && !watch.struck)
                    Thread.currentThread().interrupt(); /* by somebody else, who wants more than this command to end */
                if (thrown instanceof Error)
                    throw (Error) thrown;
                return code;
            }
        }

        /**
         * Whether an EXPINTERRUPT has come since, which is then the next command, or another command, because the time
         * of this one is up; or whether the rig was closed. For what is at work for long. No EXPINTERRUPT ends another.
         */
        public boolean interrupted() {
            if (handle.get() == 0)
                overtaken = "The rig was closed, and the master of this " + message + " was told that it failed.";
            else if (overtaken == null && code == null && !message.equals("EXPINTERRUPT"))
                lookAhead();
            return overtaken != null;
        }

        private void overtakenBy(Command next) {
            boolean late = !next.message.equals("EXPINTERRUPT");
            if (!message.equals("EXPINTERRUPT"))
                overtaken = late ? "The time of this " + message + " is up." : "An EXPINTERRUPT overtook this " + message + ".";
        }

        /** Whether it is done with. */
        public boolean answered() {
            return code != null;
        }

        /** What the work of {@link #attempt(Task)} has thrown; null: nothing. */
        public Throwable error() {
            return error;
        }

        /** Nobody waits for what nobody answers. */
        @Override
        public void close() {
            if (code == null) {
                C.iblb_fail(handle.get(), command, utf8("The program left this " + message + " without an answer.")); /* or is closed */
                inHand.remove(this);
            }
        }

        private int end(int result) {
            if (result < 0 && result != E_LATE && result != E_HANDLE)
                check(result);
            code = result == E_HANDLE ? E_CLOSED : result;
            inHand.remove(this);
            return code;
        }

        @Override
        public String toString() {
            return json;
        }
    }

    /* Looks whether a command is overtaken while a thread is at it, and interrupts that. */
    private static final class Watch implements Runnable {
        private final Command command;
        private final Thread worker;
        private boolean over;
        private volatile boolean struck;

        Watch(Command command, Thread worker) {
            this.command = command;
            this.worker = worker;
        }

        @Override
        public void run() {
            try {
                while (!strike())
                    Thread.sleep(WATCH_MS);
            } catch (InterruptedException | BridgeException ended) { /* an error is seen by nextCommand, too */
            }
        }

        private synchronized boolean strike() {
            if (over || command.answered())
                return true;
            if (command.interrupted()) {
                struck = true;
                worker.interrupt();
            }
            return struck;
        }

        /* After this the thread is not interrupted any more, nor has an interrupt of ours left. */
        synchronized void end() {
            over = true;
            if (struck)
                Thread.interrupted();
        }
    }

    /** What {@link IblBridge#workerState()} tells. */
    public static final class WorkerState {
        /** Whether a worker lives. */
        public final boolean alive;
        /** How many services are configured. */
        public final int services;
        /** How many of them have answered within the last 30 s; 0 if the rig was idle. */
        public final int servicesUp;

        WorkerState(boolean alive, int services, int servicesUp) {
            this.alive = alive;
            this.services = services;
            this.servicesUp = servicesUp;
        }

        /** Such as: worker alive, 2 services, 1 of them heard within the last 30 s. */
        @Override
        public String toString() {
            return (alive ? "worker alive, " : "no worker, ") + services + " services, " + servicesUp + " of them heard within the last 30 s";
        }
    }

    private static long number(Map<String, Object> map, String key) {
        return ((Number) map.get(key)).longValue();
    }

    /**
     * JSON as Java's own data, because the JDK has no reader: Map (in order), List, String, Long (BigInteger beyond),
     * Double, Boolean, null. Takes valid JSON, or what JSON can express, and refuses everything else.
     */
    static final class Json {
        private static final int DEEPEST = 200;
        private static final String NUMBER = "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?";
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        static Object read(String text) {
            Json json = new Json(text);
            Object value = json.value(0);
            if (json.at < text.length())
                throw json.refused();
            return value;
        }

        @SuppressWarnings("unchecked")
        static Map<String, Object> object(Object value) {
            return (Map<String, Object>) value;
        }

        private IllegalArgumentException refused() {
            return new IllegalArgumentException("This is not JSON at offset " + at + ".");
        }

        /* The next character; 0 at the end, which JSON holds nowhere. */
        private char peek() {
            return at < text.length() ? text.charAt(at) : 0;
        }

        private boolean take(char wanted) {
            boolean found = peek() == wanted;
            at += found ? 1 : 0;
            return found;
        }

        private void demand(char wanted) {
            if (!take(wanted))
                throw refused();
        }

        private void blanks() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0)
                at++;
        }

        private Object value(int depth) {
            blanks();
            if (depth > DEEPEST)
                throw refused();
            char first = peek();
            Object value = first == '{' ? map(depth) : first == '[' ? list(depth) : first == '"' ? string() : plain();
            blanks();
            return value;
        }

        private Map<String, Object> map(int depth) {
            Map<String, Object> map = new LinkedHashMap<>();
            demand('{');
            blanks();
            if (take('}'))
                return map;
            do {
                blanks();
                String key = string();
                blanks();
                demand(':');
                map.put(key, value(depth + 1));
            } while (take(','));
            demand('}');
            return map;
        }

        private List<Object> list(int depth) {
            List<Object> list = new ArrayList<>();
            demand('[');
            blanks();
            if (take(']'))
                return list;
            do
                list.add(value(depth + 1));
            while (take(','));
            demand(']');
            return list;
        }

        private String string() {
            StringBuilder value = new StringBuilder();
            demand('"');
            while (!take('"')) {
                char c = peek();
                if (c < ' ') /* also the end of the text */
                    throw refused();
                at++;
                value.append(c == '\\' ? escaped() : c);
            }
            return value.toString();
        }

        private char escaped() {
            int which = "\"\\/bfnrtu".indexOf(peek());
            if (which < 0)
                throw refused();
            at++;
            if (which < 8)
                return "\"\\/\b\f\n\r\t".charAt(which);
            if (!text.substring(at, Math.min(at + 4, text.length())).matches("[0-9a-fA-F]{4}"))
                throw refused();
            at += 4;
            return (char) Integer.parseInt(text.substring(at - 4, at), 16); /* half a pair is a char of its own here too */
        }

        private Object plain() {
            int from = at;
            while (at < text.length() && " \t\r\n,:]}".indexOf(text.charAt(at)) < 0)
                at++;
            String word = text.substring(from, at);
            if (word.equals("null"))
                return null;
            if (word.equals("true") || word.equals("false"))
                return word.equals("true");
            if (!word.matches(NUMBER)) {
                at = from;
                throw refused();
            }
            if (!word.matches("-?[0-9]+"))
                return Double.valueOf(word);
            java.math.BigInteger whole = new java.math.BigInteger(word);
            if (whole.bitLength() < Long.SIZE)
                return whole.longValue();
            return whole;
        }

        /* The C library's sentences are ASCII with \\uXXXX. */
        static String unescaped(String ascii) {
            java.util.regex.Matcher found = java.util.regex.Pattern.compile("\\\\u([0-9a-f]{4})").matcher(ascii);
            StringBuffer text = new StringBuffer();
            while (found.find())
                found.appendReplacement(text, java.util.regex.Matcher.quoteReplacement("" + (char) Integer.parseInt(found.group(1), 16)));
            return found.appendTail(text).toString();
        }

        static String write(Object value) {
            StringBuilder to = new StringBuilder();
            write(value, to, 0);
            return to.toString();
        }

        private static void write(Object value, StringBuilder to, int depth) {
            if (depth > DEEPEST)
                throw new IllegalArgumentException("The argument is nested more than " + DEEPEST + " deep.");
            if (value instanceof Map)
                writeMap((Map<?, ?>) value, to, depth);
            else if (value instanceof Collection)
                writeList(((Collection<?>) value).toArray(), to, depth);
            else if (value != null && value.getClass().isArray())
                writeList(value, to, depth);
            else if (value instanceof CharSequence || value instanceof Character)
                quote(value.toString(), to);
            else if (value == null || value instanceof Boolean || value instanceof Number && value.toString().matches(NUMBER))
                to.append(value);
            else
                throw new IllegalArgumentException("JSON cannot express the " + value.getClass().getName() + " " + value
                    + "; convert it to text, a number or a Map.");
        }

        private static void writeMap(Map<?, ?> map, StringBuilder to, int depth) {
            String before = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                if (!(entry.getKey() instanceof CharSequence))
                    throw new IllegalArgumentException("A key of a Map is not text: " + entry.getKey());
                to.append(before);
                quote(entry.getKey().toString(), to);
                to.append(':');
                write(entry.getValue(), to, depth + 1);
                before = ",";
            }
            to.append(before.equals("{") ? "{}" : "}");
        }

        private static void writeList(Object array, StringBuilder to, int depth) {
            to.append('[');
            for (int i = 0; i < Array.getLength(array); i++) {
                to.append(i > 0 ? "," : "");
                write(Array.get(array, i), to, depth + 1);
            }
            to.append(']');
        }

        /* ASCII, so that half a surrogate pair is not lost on the way. */
        private static void quote(String text, StringBuilder to) {
            to.append('"');
            for (char c : text.toCharArray()) {
                if (c < ' ' || c > '~')
                    to.append(String.format("\\u%04x", (int) c));
                else
                    to.append(c == '"' || c == '\\' ? "\\" : "").append(c);
            }
            to.append('"');
        }
    }

    /* The C functions. */
    interface C extends Library {
        /* functions: begin */
        int iblb_open(byte[] segment, byte[] client, int timeoutMs, IntByReference handle);
        int iblb_call(int handle, byte[] services, int message, byte[] argsJson, int timeoutMs, Pointer json, int capacity, IntByReference request);
        int iblb_close(int handle);
        int iblb_last_error(int handle, Pointer text, int capacity);
        int iblb_send(int handle, byte[] services, int message, byte[] argsJson, int ttlMs, IntByReference request);
        int iblb_notify(int handle, byte[] services, int message, byte[] argsJson, int ttlMs);
        int iblb_wait(int handle, int request, int timeoutMs, Pointer json, int capacity, IntByReference needed);
        int iblb_withdraw(int handle, int request);
        int iblb_cancel(int handle, int request);
        int iblb_send_msgpack(int handle, byte[] services, int message, byte[] args, int argsBytes, int ttlMs, IntByReference request);
        int iblb_wait_msgpack(int handle, int request, int timeoutMs, Pointer bytes, int capacity, IntByReference needed);
        int iblb_subscribe(int handle, int messageMask);
        int iblb_next_event(int handle, int timeoutMs, IntByReference message, Pointer json, int capacity, IntByReference needed);
        int iblb_serve(int handle, byte[] service, int messageMask);
        int iblb_next_command(int handle, int timeoutMs, IntByReference command, IntByReference message, Pointer json, int capacity, IntByReference needed);
        int iblb_answer(int handle, int command, int status, byte[] dataJson);
        int iblb_fail(int handle, int command, byte[] sentence);
        int iblb_tell(int handle, int message, byte[] dataJson);
        int iblb_abandon(int handle);
        int iblb_error_text(int code, Pointer text, int capacity);
        int iblb_worker_state(int handle, IntByReference alive, IntByReference services, IntByReference servicesUp);
        int iblb_clock_ns(DoubleByReference now);
        int iblb_version();
        /* functions: end */
    }
}
