// Native.cs: the numbers and functions of iblbridge.h. Written by csrc/generate; changes belong there.
using System;
using System.Runtime.InteropServices;

namespace IblBridge
{
    /// <summary>What a command or an event says; Subscribe takes several events joined with <c>|</c>.</summary>
    [Flags]
    public enum Message
    {
        EXPINIT = 1,
        EXPSTART = 2,
        EXPEND = 4,
        EXPCLEANUP = 8,
        EXPINTERRUPT = 16,
        EXPSTATUS = 32,
        EXPINFO = 64,
        ALYX = 128,
        PING = 4096,
        SERVICES = 8192,
        SERVICE_UP = 256,
        SERVICE_DOWN = 512,
        CLIENT_LOST = 1024,
        WORKER_RESTARTED = 2048,
        EXPERIMENT_LOST = 16384,
        SERVICES_CHANGED = 131072,
    }

    /// <summary>All codes: 0 is success, negative an error, positive a warning.</summary>
    public static class Status
    {
        /// <summary>Done.</summary>
        public const int OK = 0;
        /// <summary>A parameter is NULL, negative or out of range. See the function's description in
        /// iblbridge.h.</summary>
        public const int E_ARGUMENT = -8001;
        /// <summary>The handle is unknown or was closed. Use it between open and close; opening the same segment under
        /// the same client name again in this process closes the first handle.</summary>
        public const int E_HANDLE = -8002;
        /// <summary>The handle was closed during the call, by another thread. Open again.</summary>
        public const int E_CLOSED = -8003;
        /// <summary>The handle belongs to the parent process. Open in the child.</summary>
        public const int E_FORKED = -8004;
        /// <summary>The segment's or client's name cannot be used. Segment: 1 to 63 of A-Z a-z 0-9 . _ -, with no dot
        /// at either end. Client: 1 to 63 bytes of UTF-8 without control characters.</summary>
        public const int E_NAME = -8005;
        /// <summary>This process has opened as many handles as the library can hold (64). Close some.</summary>
        public const int E_HANDLES = -8006;
        /// <summary>There is no segment of this name. Start the worker: iblbridge serve --segment NAME; check that both
        /// run as the same user.</summary>
        public const int E_NO_SEGMENT = -8010;
        /// <summary>The segment is damaged. Restart the worker; it makes a new segment. Then open again.</summary>
        public const int E_SEGMENT = -8011;
        /// <summary>The segment was made by another version of iblbridge. Use the library that belongs to the worker's
        /// iblbridge package.</summary>
        public const int E_VERSION = -8012;
        /// <summary>The segment was replaced by a new one, or removed. Start the worker if it does not run; close and
        /// open again.</summary>
        public const int E_STALE = -8013;
        /// <summary>The segment or its directory is not ours, or can be reached by others. Run client and worker as the
        /// same user, or set IBLBRIDGE_DIR to a directory of your own.</summary>
        public const int E_PERMISSION = -8014;
        /// <summary>All client slots are taken. Close clients that are not needed. If their programs are gone: start
        /// the worker if none runs, else restart it.</summary>
        public const int E_NO_SLOT = -8015;
        /// <summary>Another living process is attached under this client name, or serves this listener. Close that
        /// program or use another name.</summary>
        public const int E_NAME_TAKEN = -8016;
        /// <summary>The worker found nonsense in this client's rings and has stopped reading them. Look for a memory
        /// error in this program; close and open again.</summary>
        public const int E_QUARANTINED = -8017;
        /// <summary>No worker serves the segment. Start it: iblbridge serve --segment NAME; then wait again.</summary>
        public const int E_NO_WORKER = -8018;
        /// <summary>Another worker serves this segment, or is stopped but alive. Stop that process first.</summary>
        public const int E_WORKER_BUSY = -8019;
        /// <summary>The operating system refused a call. Read the sentence that comes with it.</summary>
        public const int E_SYSTEM = -8020;
        /// <summary>There is no memory or no space left for the segment. Free memory, or space in the segment's
        /// directory.</summary>
        public const int E_MEMORY = -8021;
        /// <summary>Another worker has taken over the segment. Stop this one.</summary>
        public const int E_SUPERSEDED = -8022;
        /// <summary>The message number is unknown. Use one of EXPINIT (1) to ALYX (128), PING (4096) or SERVICES
        /// (8192).</summary>
        public const int E_MESSAGE = -8030;
        /// <summary>A named service is not in the worker's configuration, or this handle serves none. Check the name,
        /// or add the service and reload it (iblbridge reload NAME); serve before you take commands or tell.</summary>
        public const int E_SERVICE = -8031;
        /// <summary>A text is not valid UTF-8. Convert it; the sentence names the offset.</summary>
        public const int E_UTF8 = -8032;
        /// <summary>The arguments are not valid JSON. Correct the text; the sentence names the offset.</summary>
        public const int E_JSON = -8033;
        /// <summary>The arguments are not msgpack that JSON can say. Send one object of nil, bool, int, float, str,
        /// array and map with str keys.</summary>
        public const int E_MSGPACK = -8034;
        /// <summary>The arguments do not fit the message. See the table of messages in iblbridge.h.</summary>
        public const int E_ARGS = -8035;
        /// <summary>The command is larger than the ring or a datagram can hold. Send less; a service takes 65,507 bytes
        /// at most.</summary>
        public const int E_TOO_LARGE = -8036;
        /// <summary>The command ring is full of commands without an answer. Wait for some; an EXPINTERRUPT still gets
        /// in.</summary>
        public const int E_FULL = -8037;
        /// <summary>1,024 requests of this handle still have to be waited for, or 8 commands that it took to be
        /// answered. Wait for some, cancel them, or use notify instead of send; an EXPINTERRUPT still gets in. Answer
        /// what you took, or let it fail.</summary>
        public const int E_TOO_MANY = -8038;
        /// <summary>The time is up and there is no response yet. Wait again for the same request; do not send it
        /// twice.</summary>
        public const int E_TIMEOUT = -8050;
        /// <summary>The request is unknown, its response was already taken, or it was cancelled. Use the number that
        /// send gave, once.</summary>
        public const int E_REQUEST = -8051;
        /// <summary>The buffer is too small; the response is kept. Wait for the request again, with a buffer of the
        /// size in `needed`.</summary>
        public const int E_BUFFER = -8052;
        /// <summary>The time was up before the command could be sent; it was withdrawn and nothing was sent. The
        /// worker, or a service that is still at an earlier command, was too busy: iblbridge top shows which.
        /// Repeat.</summary>
        public const int E_NOT_SENT = -8053;
        /// <summary>There is no answer yet: a worker has accepted the command, and its answer is still to come. Wait
        /// for this request; do not repeat the command.</summary>
        public const int E_PENDING = -8054;
        /// <summary>The request was cancelled during the wait, by another thread.</summary>
        public const int E_CANCELLED = -8055;
        /// <summary>The master was already told that this command failed, for its time was up. Do not go on with it;
        /// the next one comes with next_command.</summary>
        public const int E_LATE = -8056;
        /// <summary>The number is of no command that was taken, or it was answered already. Use the number that
        /// next_command gave, once.</summary>
        public const int E_COMMAND = -8057;
        /// <summary>Some services did what was asked and some did not. Look at `services` in the response.</summary>
        public const int E_PARTIAL = -8070;
        /// <summary>No service did what was asked. Look at `services` in the response.</summary>
        public const int E_ALL_FAILED = -8071;
        /// <summary>The command was older than its time to live; nothing was sent. Send it again if it is still
        /// wanted.</summary>
        public const int E_EXPIRED = -8072;
        /// <summary>An EXPINTERRUPT, or the worker's stop, overtook the command. Look at `services` for what each had
        /// reached.</summary>
        public const int E_ABORTED = -8073;
        /// <summary>The worker died after it had begun to send the command. Ask the services with EXPSTATUS before you
        /// repeat it.</summary>
        public const int E_OUTCOME_UNKNOWN = -8074;
        /// <summary>The worker failed at this command. Please report the sentence that comes with it, and the worker's
        /// log.</summary>
        public const int E_INTERNAL = -8075;
        /// <summary>No worker serves the segment at the moment; commands wait for one until they expire. Start it:
        /// iblbridge serve --segment NAME.</summary>
        public const int W_NO_WORKER = 5001;
        /// <summary>All services did what was asked, except one that is configured as optional. Look at `services` in
        /// the response.</summary>
        public const int W_OPTIONAL = 5002;
        /// <summary>The worker had already accepted the command; after a cancel its answer is discarded. Ask EXPSTATUS
        /// to learn what the services do.</summary>
        public const int W_ACCEPTED = 5003;
        /// <summary>The response was too large for its ring; data were left out; states are complete. Ask fewer
        /// services at once.</summary>
        public const int W_SHORTENED = 5004;
        /// <summary>All services answered, but the status that one of them reports contradicts the command. Look at
        /// `services` in the response: an EXPEND that is answered with RUNNING has not stopped anything.</summary>
        public const int W_STATUS = 5005;
        /// <summary>The worker has no services: the command reached nobody. Add some to its file and reload, or start
        /// it with --services FILE or --service NAME=URI.</summary>
        public const int W_NO_SERVICES = 5006;

        /// <summary>The name of a code as in iblbridge.h, or its number if there is none.</summary>
        public static string Name(int code)
        {
            switch (code)
            {
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
                default: return code.ToString();
            }
        }
    }

    /// <summary>What a service says it does.</summary>
    public static class ServiceStatus
    {
        public const int CONNECTED = 0;
        public const int INITIALIZED = 10;
        public const int RUNNING = 20;
        public const int STOPPED = 30;

        /// <summary>Its name, such as "RUNNING", or its number if there is none; "" for -1.</summary>
        public static string Name(int status)
        {
            switch (status)
            {
                case -1: return "";
                case CONNECTED: return "CONNECTED";
                case INITIALIZED: return "INITIALIZED";
                case RUNNING: return "RUNNING";
                case STOPPED: return "STOPPED";
                default: return status.ToString();
            }
        }
    }

    /// <summary>Why a service is not ok, as its entry of a response says it; more may come.</summary>
    public static class Reason
    {
        /// <summary>The arguments do not fit the message.</summary>
        public const string Arguments = "arguments";
        /// <summary>More than a datagram can hold.</summary>
        public const string TooLarge = "too_large";
        /// <summary>An address of a kind that cannot be served.</summary>
        public const string Unsupported = "unsupported";
        /// <summary>Its host name cannot be looked up, or there is no socket to it.</summary>
        public const string Address = "address";
        /// <summary>This computer's network refused to send.</summary>
        public const string Network = "network";
        /// <summary>Too old when its turn came.</summary>
        public const string Expired = "expired";
        /// <summary>Not sent, because an earlier command may still lie unread at the service.</summary>
        public const string Unread = "unread";
        /// <summary>Not sent, because a service that it comes after did not do it.</summary>
        public const string After = "after";
        /// <summary>Its computer says that nobody listens there.</summary>
        public const string Refused = "refused";
        /// <summary>Nothing came back.</summary>
        public const string NoEcho = "no_echo";
        /// <summary>It answered from an address other than the configured one.</summary>
        public const string OtherAddress = "other_address";
        /// <summary>It has the command but did not reply in time.</summary>
        public const string NoReply = "no_reply";
        /// <summary>What it said may be its answer to an earlier command.</summary>
        public const string Doubtful = "doubtful";
        /// <summary>It says that it failed, such as by an exception of its callback.</summary>
        public const string CallbackFailed = "callback_failed";
        /// <summary>It answered, but the status that it reports contradicts the command.</summary>
        public const string Status = "status";
        /// <summary>An EXPINTERRUPT overtook the command.</summary>
        public const string Aborted = "aborted";
        /// <summary>Taken back before it was sent.</summary>
        public const string Withdrawn = "withdrawn";
        /// <summary>The worker stopped, or the line was closed meanwhile.</summary>
        public const string Closed = "closed";
        /// <summary>Not told.</summary>
        public const string Unknown = "unknown";
        /// <summary>The bridge failed.</summary>
        public const string Internal = "internal";
    }

    /// <summary>The functions of a loaded library; what they do stands in iblbridge.h.</summary>
    internal sealed class Native
    {
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int OpenFunction(byte[] segment, byte[] client, int timeoutMs, out int handle);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int CallFunction(int handle, byte[] services, int message, byte[] argsJson, int timeoutMs,
            [Out] byte[] json, int capacity, out int request);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int CloseFunction(int handle);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int LastErrorFunction(int handle, [Out] byte[] text, int capacity);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int SendFunction(int handle, byte[] services, int message, byte[] argsJson, int ttlMs,
            out int request);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int NotifyFunction(int handle, byte[] services, int message, byte[] argsJson, int ttlMs);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int WaitFunction(int handle, int request, int timeoutMs, [Out] byte[] json, int capacity,
            out int needed);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int WithdrawFunction(int handle, int request);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int CancelFunction(int handle, int request);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int SendMsgpackFunction(int handle, byte[] services, int message, byte[] args, int argsBytes,
            int ttlMs, out int request);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int WaitMsgpackFunction(int handle, int request, int timeoutMs, [Out] byte[] bytes,
            int capacity, out int needed);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int SubscribeFunction(int handle, int messageMask);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int NextEventFunction(int handle, int timeoutMs, out int message, [Out] byte[] json,
            int capacity, out int needed);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int ServeFunction(int handle, byte[] service, int messageMask);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int NextCommandFunction(int handle, int timeoutMs, out int command, out int message,
            [Out] byte[] json, int capacity, out int needed);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int AnswerFunction(int handle, int command, int status, byte[] dataJson);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int FailFunction(int handle, int command, byte[] sentence);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int TellFunction(int handle, int message, byte[] dataJson);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int AbandonFunction(int handle);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int ErrorTextFunction(int code, [Out] byte[] text, int capacity);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int WorkerStateFunction(int handle, out int alive, out int services, out int servicesUp);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int ClockNsFunction(out double now);
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        internal delegate int VersionFunction();

        internal readonly OpenFunction Open;
        internal readonly CallFunction Call;
        internal readonly CloseFunction Close;
        internal readonly LastErrorFunction LastError;
        internal readonly SendFunction Send;
        internal readonly NotifyFunction Notify;
        internal readonly WaitFunction Wait;
        internal readonly WithdrawFunction Withdraw;
        internal readonly CancelFunction Cancel;
        internal readonly SendMsgpackFunction SendMsgpack;
        internal readonly WaitMsgpackFunction WaitMsgpack;
        internal readonly SubscribeFunction Subscribe;
        internal readonly NextEventFunction NextEvent;
        internal readonly ServeFunction Serve;
        internal readonly NextCommandFunction NextCommand;
        internal readonly AnswerFunction Answer;
        internal readonly FailFunction Fail;
        internal readonly TellFunction Tell;
        internal readonly AbandonFunction Abandon;
        internal readonly ErrorTextFunction ErrorText;
        internal readonly WorkerStateFunction WorkerState;
        internal readonly ClockNsFunction ClockNs;
        internal readonly VersionFunction Version;

        internal Native(Func<string, Type, Delegate> function)
        {
            Open = (OpenFunction)function("iblb_open", typeof(OpenFunction));
            Call = (CallFunction)function("iblb_call", typeof(CallFunction));
            Close = (CloseFunction)function("iblb_close", typeof(CloseFunction));
            LastError = (LastErrorFunction)function("iblb_last_error", typeof(LastErrorFunction));
            Send = (SendFunction)function("iblb_send", typeof(SendFunction));
            Notify = (NotifyFunction)function("iblb_notify", typeof(NotifyFunction));
            Wait = (WaitFunction)function("iblb_wait", typeof(WaitFunction));
            Withdraw = (WithdrawFunction)function("iblb_withdraw", typeof(WithdrawFunction));
            Cancel = (CancelFunction)function("iblb_cancel", typeof(CancelFunction));
            SendMsgpack = (SendMsgpackFunction)function("iblb_send_msgpack", typeof(SendMsgpackFunction));
            WaitMsgpack = (WaitMsgpackFunction)function("iblb_wait_msgpack", typeof(WaitMsgpackFunction));
            Subscribe = (SubscribeFunction)function("iblb_subscribe", typeof(SubscribeFunction));
            NextEvent = (NextEventFunction)function("iblb_next_event", typeof(NextEventFunction));
            Serve = (ServeFunction)function("iblb_serve", typeof(ServeFunction));
            NextCommand = (NextCommandFunction)function("iblb_next_command", typeof(NextCommandFunction));
            Answer = (AnswerFunction)function("iblb_answer", typeof(AnswerFunction));
            Fail = (FailFunction)function("iblb_fail", typeof(FailFunction));
            Tell = (TellFunction)function("iblb_tell", typeof(TellFunction));
            Abandon = (AbandonFunction)function("iblb_abandon", typeof(AbandonFunction));
            ErrorText = (ErrorTextFunction)function("iblb_error_text", typeof(ErrorTextFunction));
            WorkerState = (WorkerStateFunction)function("iblb_worker_state", typeof(WorkerStateFunction));
            ClockNs = (ClockNsFunction)function("iblb_clock_ns", typeof(ClockNsFunction));
            Version = (VersionFunction)function("iblb_version", typeof(VersionFunction));
        }
    }
}
