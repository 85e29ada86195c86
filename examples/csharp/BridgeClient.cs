// BridgeClient.cs: start, stop and query the remote services of a rig from C#. It needs Native.cs and the library.
//
//     using (var client = new BridgeClient("rig0", "stimulus"))
//         client.Call(Message.EXPSTART, BridgeClient.Arguments("2026-01-01_1_subject"));
//
// - An error is a BridgeException with code, sentence, and the response if there is one. A warning is never thrown.
// - Any thread may call anything at any time. A wait in one thread holds up no other call; Dispose ends it.
// - Times are milliseconds for waiting, and nanoseconds of ClockNs() (the clock of Stopwatch) in responses.
// - Only int, double and byte[] go to the library and back: text becomes UTF-8 here, as runtimes do it differently.
//
// C# 5, for .NET Framework 4.6.2, netstandard 2.0 and mono alike; mscorlib, System and System.Core are enough.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Collections.ObjectModel;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;

namespace IblBridge
{
    /// <summary>Attached to a segment: sends commands to its worker and waits for the responses. Dispose gives its
    /// place back in order. A client that was forgotten is lost when the garbage collector finds it.</summary>
    public sealed partial class BridgeClient : IDisposable // Serving.cs is the rest
    {
        const int FirstCapacity = 1 << 14; // bytes
        internal const int LookMs = 100; // in one wait

        readonly Native native = Library.Load();
        readonly BridgeHandle handle;
        readonly string name;
        volatile bool hasWorker;

        /// <summary>Attaches to a segment; with no worker there it succeeds too, and <see cref="HasWorker"/> says
        /// so.</summary>
        /// <param name="segment">Its name, for example "rig0".</param>
        /// <param name="client">Name of this client, 1 to 63 bytes; null: "pid-&lt;pid&gt;-&lt;n&gt;". If this process
        /// has a client of the same name on this segment, that one is closed; in another process it is refused.</param>
        /// <param name="timeoutMs">How long to wait for a segment and a worker, ms.</param>
        /// <exception cref="BridgeException">E_NO_SEGMENT, E_NAME_TAKEN, E_NO_SLOT, E_VERSION and others.</exception>
        /// <exception cref="DllNotFoundException">The library is not there; the message names every place
        /// tried.</exception>
        public BridgeClient(string segment, string client = null, int timeoutMs = 2000)
        {
            int number;
            int code = native.Open(Utf8.Bytes(segment), Utf8.Bytes(client), timeoutMs, out number);
            if (code < 0)
                throw new BridgeException(code, Sentence(0, code));
            handle = new BridgeHandle(native, number);
            name = "BridgeClient of " + segment + (string.IsNullOrEmpty(client) ? "" : " \"" + client + "\"");
            Note(code);
        }

        /// <summary>Whether a worker was there when this client attached or last sent something; <see cref="State"/>
        /// tells about now.</summary>
        public bool HasWorker { get { return hasWorker; } }

        /// <summary>What the worker is doing; takes some microseconds.</summary>
        /// <exception cref="BridgeException">E_STALE: the segment was replaced.</exception>
        public WorkerState State
        {
            get
            {
                int alive = 0, services = 0, up = 0;
                Check(Ask(h => native.WorkerState(h, out alive, out services, out up)));
                return new WorkerState(alive != 0, services, up);
            }
        }

        /// <summary>Sends a command and waits until every service has done it or failed.</summary>
        /// <param name="message">What to tell them.</param>
        /// <param name="arguments">A JSON array, as <see cref="Arguments"/> makes it; null for none.</param>
        /// <param name="services">Names separated by commas; null for all. Text that names none is
        /// refused.</param>
        /// <param name="timeoutMs">How long to wait, ms; a command not begun by then is never sent.</param>
        /// <returns>The response; its code is 0 or a warning.</returns>
        /// <exception cref="BridgeException">With a response: E_PARTIAL, E_ALL_FAILED, E_ABORTED and others. Without
        /// one: E_NOT_SENT and E_NO_WORKER (nothing was sent), E_PENDING (the answer is still to come: wait for the
        /// exception's request, do not repeat), and what <see cref="Send"/> throws.</exception>
        public Response Call(Message message, string arguments = null, string services = null, int timeoutMs = 12000)
        {
            int request = Send(message, arguments, services, TimeToLive(timeoutMs));
            return Answer(request, timeoutMs, CancellationToken.None);
        }

        /// <summary>As <see cref="Call"/>, without blocking: the command is sent before this returns, so that commands
        /// keep their order, and a thread of its own waits for the response, not one of the thread pool's.</summary>
        /// <param name="message">What to tell the services.</param>
        /// <param name="arguments">A JSON array, as <see cref="Arguments"/> makes it; null for none.</param>
        /// <param name="services">Names separated by commas; null for all. Text that names none is
        /// refused.</param>
        /// <param name="timeoutMs">How long to wait, ms; a command not begun by then is never sent.</param>
        /// <param name="token">Withdraws the command, or if a worker has already accepted it gives up its answer: then
        /// ask EXPSTATUS what the services do. The task is cancelled.</param>
        /// <returns>A task that fails with a BridgeException as <see cref="Call"/> does.</returns>
        public Task<Response> CallAsync(
            Message message, string arguments = null, string services = null, int timeoutMs = 12000,
            CancellationToken token = default(CancellationToken))
        {
            int timeToLive = TimeToLive(timeoutMs);
            var ended = new TaskCompletionSource<Response>();
            int request = 0;
            if (token.IsCancellationRequested)
                ended.SetCanceled();
            else
                try
                {
                    request = Send(message, arguments, services, timeToLive);
                }
                catch (BridgeException error)
                {
                    ended.SetException(error);
                }
            if (ended.Task.IsCompleted)
                return ended.Task;
            int number = handle.Number;
            CancellationTokenRegistration withdrawal = token.Register(() => native.Cancel(number, request));
            return InBackground(() =>
            {
                using (withdrawal)
                    return Answer(request, timeoutMs, token);
            }, token);
        }

        /// <summary>Writes a command and returns at once.</summary>
        /// <param name="message">What to tell the services.</param>
        /// <param name="arguments">A JSON array, as <see cref="Arguments"/> makes it; null for none.</param>
        /// <param name="services">Names separated by commas; null for all. Text that names none is
        /// refused.</param>
        /// <param name="ttlMs">A command not begun within this time is never sent, ms; 0: 10,000; negative: no
        /// limit.</param>
        /// <returns>The number of the request, for <see cref="Wait(int,int)"/> and <see cref="Cancel"/>; one of them is
        /// to follow.</returns>
        /// <exception cref="BridgeException">Nothing was sent: E_SERVICE, E_JSON, E_FULL, E_TOO_LARGE and
        /// others.</exception>
        public int Send(Message message, string arguments = null, string services = null, int ttlMs = 0)
        {
            byte[] names = Utf8.Bytes(Named(services)), values = Utf8.Bytes(arguments);
            int request = 0;
            Note(Check(Ask(h => native.Send(h, names, (int)message, values, ttlMs, out request))));
            return request;
        }

        /// <summary>Writes a command whose response nobody wants. Parameters and errors as for
        /// <see cref="Send"/>.</summary>
        public void Notify(Message message, string arguments = null, string services = null, int ttlMs = 0)
        {
            byte[] names = Utf8.Bytes(Named(services)), values = Utf8.Bytes(arguments);
            Note(Check(Ask(h => native.Notify(h, names, (int)message, values, ttlMs))));
        }

        /// <summary>Waits for the response to a request.</summary>
        /// <param name="request">What <see cref="Send"/> returned.</param>
        /// <param name="timeoutMs">ms.</param>
        /// <returns>The response; its code is 0 or a warning.</returns>
        /// <exception cref="BridgeException">With a response: E_PARTIAL, E_ALL_FAILED, E_EXPIRED and others. Without
        /// one the request stays open: E_TIMEOUT, and at once E_NO_WORKER (a new worker will answer). E_CANCELLED: it
        /// was given up meanwhile.</exception>
        public Response Wait(int request, int timeoutMs)
        {
            return Wait(request, timeoutMs, CancellationToken.None);
        }

        /// <summary>As <see cref="Wait(int,int)"/>, in a thread of its own.</summary>
        /// <param name="request">What <see cref="Send"/> returned.</param>
        /// <param name="timeoutMs">ms.</param>
        /// <param name="token">Ends the wait within 100 ms; the request stays open.</param>
        public Task<Response> WaitAsync(
            int request, int timeoutMs, CancellationToken token = default(CancellationToken))
        {
            return InBackground(() => Wait(request, timeoutMs, token), token);
        }

        /// <summary>Withdraws a command that no worker has accepted. Never blocks.</summary>
        /// <returns>True if nothing was or will be sent; false if a worker had accepted the command: then the request
        /// stays open, and its answer is still to come.</returns>
        /// <exception cref="BridgeException">E_REQUEST: the request is unknown, or its response was taken.</exception>
        public bool Withdraw(int request)
        {
            return Check(Ask(h => native.Withdraw(h, request))) == Status.OK;
        }

        /// <summary>Gives a request up. Never blocks; a wait for it ends with E_CANCELLED.</summary>
        /// <returns>True if nothing was or will be sent; false if a worker had accepted the command: then its answer is
        /// discarded.</returns>
        /// <exception cref="BridgeException">E_REQUEST: the request is unknown, or its response was taken.</exception>
        public bool Cancel(int request)
        {
            return Check(Ask(h => native.Cancel(h, request))) == Status.OK;
        }

        /// <summary>Chooses the events of this client: replaces the earlier choice; 0 for none.</summary>
        /// <param name="events">EXPINTERRUPT and others that services send by themselves, SERVICE_UP, SERVICE_DOWN,
        /// CLIENT_LOST, WORKER_RESTARTED, EXPERIMENT_LOST, SERVICES_CHANGED, joined with <c>|</c>.</param>
        /// <exception cref="BridgeException">E_MESSAGE: one of them is not an event.</exception>
        public void Subscribe(Message events)
        {
            Check(Ask(h => native.Subscribe(h, (int)events)));
        }

        /// <summary>Waits for the next event.</summary>
        /// <param name="timeoutMs">ms.</param>
        /// <returns>The event; null if there was none.</returns>
        /// <exception cref="BridgeException">At once E_NO_WORKER if no worker lives: wait a little before asking
        /// again.</exception>
        public BridgeEvent NextEvent(int timeoutMs)
        {
            return NextEvent(timeoutMs, CancellationToken.None);
        }

        /// <summary>As <see cref="NextEvent(int)"/>, in a thread of its own.</summary>
        /// <param name="timeoutMs">ms.</param>
        /// <param name="token">Ends the wait within 100 ms; no event is lost.</param>
        public Task<BridgeEvent> NextEventAsync(int timeoutMs, CancellationToken token = default(CancellationToken))
        {
            return InBackground(() => NextEvent(timeoutMs, token), token);
        }

        /// <summary>What a code means and what to do, in English.</summary>
        /// <exception cref="ArgumentException">There is no such code.</exception>
        public static string ErrorText(int code)
        {
            var text = new byte[1024];
            if (Library.Load().ErrorText(code, text, text.Length) < 0)
                throw new ArgumentException("There is no code " + code + ".", "code");
            return Utf8.Text(text);
        }

        /// <summary>Nanoseconds of the clock of all stamps: Stopwatch's, and Python's time.perf_counter_ns.</summary>
        public static double ClockNs()
        {
            double now;
            Library.Load().ClockNs(out now);
            return now;
        }

        /// <summary>Writes the arguments of a message as JSON: strings, numbers, bools, null, dictionaries with string
        /// keys, and lists. A list as the only argument must be a List or cast to object, or C# takes an array for the
        /// arguments themselves.</summary>
        /// <exception cref="ArgumentException">JSON cannot express one of them.</exception>
        public static string Arguments(params object[] values)
        {
            return Json.Write(values ?? new object[] { null });
        }

        /// <summary>Gives the place in the segment back. What was sent is still carried out; waits in other threads end
        /// at once, with an ObjectDisposedException.</summary>
        public void Dispose()
        {
            handle.InOrder = true;
            handle.Dispose();
        }

        /// <summary>As Dispose, but says that the work is not done: to the worker this client is lost, and it does what
        /// on_client_lost of its configuration says. Harmless after Dispose.</summary>
        public void Abandon()
        {
            handle.Dispose();
        }

        /// <summary>Attaches, does the work, and gives the place back: in order if the work returns, as lost if it
        /// throws. (A using block cannot know: it always ends in order.)</summary>
        /// <exception cref="BridgeException">As the constructor; and whatever the work throws.</exception>
        public static void Use(string segment, string client, Action<BridgeClient> work)
        {
            var rig = new BridgeClient(segment, client);
            try
            {
                work(rig);
                rig.Dispose();
            }
            finally
            {
                rig.Abandon();
            }
        }

        /// <summary>The same for work that is awaited: <c>await BridgeClient.UseAsync("rig0", "stimulus",
        /// async rig => ...)</c>.</summary>
        public static async Task UseAsync(string segment, string client, Func<BridgeClient, Task> work)
        {
            var rig = new BridgeClient(segment, client);
            try
            {
                await work(rig).ConfigureAwait(false);
                rig.Dispose();
            }
            finally
            {
                rig.Abandon();
            }
        }

        /// <summary>Such as: BridgeClient of rig0 "stimulus", closed.</summary>
        public override string ToString()
        {
            return name + (handle.IsClosed ? ", closed" : "");
        }

        int Ask(Func<int, int> function)
        {
            int code = handle.IsClosed ? Status.E_CLOSED : function(handle.Number);
            bool disposed = handle.IsClosed && (code == Status.E_CLOSED || code == Status.E_HANDLE);
            GC.KeepAlive(handle); // else the collector could close it during the call
            if (disposed)
                throw new ObjectDisposedException(typeof(BridgeClient).Name);
            return code;
        }

        int Check(int code)
        {
            if (code < 0)
                throw new BridgeException(code, Sentence(handle.Number, code));
            return code;
        }

        void Note(int code)
        {
            hasWorker = code != Status.W_NO_WORKER;
        }

        string Sentence(int number, int code)
        {
            var text = new byte[8192];
            if (code != Status.E_CLOSED && code != Status.E_HANDLE) // of a closed handle there is no sentence
                native.LastError(number, text, text.Length);
            return text[0] == 0 ? ErrorText(code) : Utf8.Sentence(text);
        }

        // Nothing is ever cut: the library keeps what does not fit, and is asked again.
        int WaitOnce(int request, int timeoutMs, out string json)
        {
            int code, needed = FirstCapacity;
            byte[] buffer;
            do
            {
                buffer = new byte[needed];
                code = Ask(h => native.Wait(h, request, timeoutMs, buffer, buffer.Length, out needed));
            }
            while (code == Status.E_BUFFER);
            json = Utf8.Text(buffer);
            return code;
        }

        int EventOnce(int timeoutMs, out string json)
        {
            int code, message, needed = FirstCapacity;
            byte[] buffer;
            do
            {
                buffer = new byte[needed];
                code = Ask(h => native.NextEvent(h, timeoutMs, out message, buffer, buffer.Length, out needed));
            }
            while (code == Status.E_BUFFER);
            json = Utf8.Text(buffer);
            return code;
        }

        // Waits in pieces: mono ends no program while a thread is in the library; and a token ends the wait between two
        // of them, when nothing was taken that could get lost.
        static int Look(int timeoutMs, CancellationToken token, Func<int, int> wait)
        {
            var clock = Stopwatch.StartNew();
            for (long left = timeoutMs; ;)
            {
                token.ThrowIfCancellationRequested();
                int code = wait((int)Math.Min(left, LookMs));
                left = timeoutMs - clock.ElapsedMilliseconds;
                if (code != Status.E_TIMEOUT || left <= 0)
                    return code;
            }
        }

        Response Wait(int request, int timeoutMs, CancellationToken token)
        {
            string json = "";
            int code = Look(timeoutMs, token, milliseconds => WaitOnce(request, milliseconds, out json));
            return Result(code, request, json);
        }

        BridgeEvent NextEvent(int timeoutMs, CancellationToken token)
        {
            string json = "";
            int code = Look(timeoutMs, token, milliseconds => EventOnce(milliseconds, out json));
            return code == Status.E_TIMEOUT || Check(code) != Status.OK ? null : new BridgeEvent(json);
        }

        Response Answer(int request, int timeoutMs, CancellationToken token)
        {
            string json = "";
            var never = CancellationToken.None; // the token cancels the request, and that ends the wait
            int code = Look(timeoutMs, never, milliseconds => WaitOnce(request, milliseconds, out json));
            bool late = code == Status.E_TIMEOUT || code == Status.E_NO_WORKER;
            int withdrawn = late ? Ask(h => native.Withdraw(h, request)) : Status.OK;
            if (withdrawn == Status.E_REQUEST || code == Status.E_CANCELLED || code == Status.E_REQUEST)
                token.ThrowIfCancellationRequested();
            if (late)
                throw GivenUp(request, code, Check(withdrawn) == Status.OK);
            return Result(code, request, json);
        }

        // What iblb_call does at the end of its time: no worker may send the command behind our back.
        static BridgeException GivenUp(int request, int code, bool withdrawn)
        {
            bool late = code == Status.E_TIMEOUT;
            if (!withdrawn)
                return new BridgeException(Status.E_PENDING, late ? ErrorText(Status.E_PENDING) :
                    "The worker died with the command. Start it again and wait for the same request; do not repeat the command.",
                    null, request);
            if (late)
                return new BridgeException(Status.E_NOT_SENT, ErrorText(Status.E_NOT_SENT));
            return new BridgeException(code,
                "No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.");
        }

        // To C "" stands for all services. Here it means that a list was left with nothing in it.
        static string Named(string services)
        {
            if (services != null && string.IsNullOrWhiteSpace(services))
                throw new ArgumentException("It names no service; pass null to reach all.", "services");
            return services;
        }

        // With 0 the library would take its default.
        static int TimeToLive(int timeoutMs)
        {
            if (timeoutMs < 0)
                throw new ArgumentOutOfRangeException("timeoutMs");
            return Math.Max(timeoutMs, 1);
        }

        Response Result(int code, int request, string json)
        {
            Response response = json == "" ? null : new Response(json);
            if (code >= 0)
                return response;
            bool open = code == Status.E_TIMEOUT || code == Status.E_NO_WORKER;
            string sentence = response == null || response.Error == "" ? Sentence(handle.Number, code) : response.Error;
            throw new BridgeException(code, sentence, response, open ? request : 0);
        }

        // LongRunning: a wait may last minutes, and would starve a pool that grows by a thread or two per second.
        internal static Task<T> InBackground<T>(Func<T> wait, CancellationToken token)
        {
            return Task.Factory.StartNew(wait, token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }
    }

    /// <summary>What became of a command. Stamps are ns of <see cref="BridgeClient.ClockNs"/>, 0 for never.</summary>
    public sealed class Response
    {
        internal Response(string json)
        {
            Json = json;
            IDictionary<string, object> map = IblBridge.Json.Read(json);
            Request = (int)map.Get<long>("request");
            CommandId = map.Get<string>("command_id");
            Message = map.Get<string>("message");
            Code = (int)map.Get<long>("code");
            Error = map.Get<string>("error");
            Services = map.Get<List<object>>("services").Cast<IDictionary<string, object>>()
                .Select(entry => new ServiceOutcome(entry)).ToList().AsReadOnly();
            Sent = map.Get<long>("sent");
            Accepted = map.Get<long>("accepted");
            Finished = map.Get<long>("finished");
            Wall = map.Get<string>("wall");
        }

        /// <summary>What <see cref="BridgeClient.Send"/> returned.</summary>
        public int Request { get; private set; }
        /// <summary>The key of the command in journals and logs.</summary>
        public string CommandId { get; private set; }
        /// <summary>What was told, for example "EXPSTART".</summary>
        public string Message { get; private set; }
        /// <summary>0, a warning, or the error that was thrown; see <see cref="Status"/>.</summary>
        public int Code { get; private set; }
        /// <summary>One sentence, or "".</summary>
        public string Error { get; private set; }
        /// <summary>One entry per addressed service, in configured order.</summary>
        public ReadOnlyCollection<ServiceOutcome> Services { get; private set; }
        /// <summary>When this client sent it.</summary>
        public long Sent { get; private set; }
        /// <summary>When the worker accepted it.</summary>
        public long Accepted { get; private set; }
        /// <summary>When the worker had all answers.</summary>
        public long Finished { get; private set; }
        /// <summary>ISO 8601 with offset, when the worker accepted it.</summary>
        public string Wall { get; private set; }
        /// <summary>All of it as it came.</summary>
        public string Json { get; private set; }

        /// <summary>Such as: EXPSTART -8070; cameras: RUNNING; ephys: echoed (no_reply).</summary>
        public override string ToString()
        {
            string head = Message + " " + (Code == 0 ? "ok" : Code.ToString());
            return Services.Count == 0 && Error.Length > 0 ? head + ": " + Error : string.Join("; ",
                new[] { head }.Concat(Services.Select(service => service.ToString())));
        }
    }

    /// <summary>What one service did with a command. Stamps are ns of <see cref="BridgeClient.ClockNs"/>, 0 for
    /// never.</summary>
    public sealed class ServiceOutcome
    {
        internal ServiceOutcome(IDictionary<string, object> map)
        {
            Name = map.Get<string>("name");
            Ok = map.Get<bool>("ok");
            State = map.Get<string>("state");
            Reason = map.Get("reason", "");
            Error = map.Get<string>("error");
            Data = map.Get<IDictionary<string, object>>("data");
            Status = (int)map.Get("status", -1L);
            ExpRef = Reference(Data);
            Sent = map.Get<long>("sent");
            Echoed = map.Get<long>("echoed");
            Answered = map.Get<long>("answered");
        }

        /// <summary>As configured; may hold a colon.</summary>
        public string Name { get; private set; }
        /// <summary>Whether it did what was asked.</summary>
        public bool Ok { get; private set; }
        /// <summary>"not_sent", "unreachable" (sent, no echo), "echoed" (received, no reply) or "answered".</summary>
        public string State { get; private set; }
        /// <summary>Why it is not ok, as a word for programs: see <see cref="IblBridge.Reason"/>; "" if it is.</summary>
        public string Reason { get; private set; }
        /// <summary>Why it is not ok, as a sentence for people, or what was left out (W_SHORTENED); else "".</summary>
        public string Error { get; private set; }
        /// <summary>EXPINFO: status and info; EXPSTATUS: status; else value, a list if there was more than one; empty
        /// if there was no reply. Values are string, long (ulong above its range), double, bool, null,
        /// List&lt;object&gt; or Dictionary&lt;string, object&gt;.</summary>
        public IDictionary<string, object> Data { get; private set; }
        /// <summary>What it says it does, see <see cref="ServiceStatus"/>; -1 if its reply does not say it.</summary>
        public int Status { get; private set; }
        /// <summary>The experiment that its reply names, as the replies to EXPINFO do; else "".</summary>
        public string ExpRef { get; private set; }
        /// <summary>When it was sent to this service.</summary>
        public long Sent { get; private set; }
        /// <summary>When it confirmed that it had received it.</summary>
        public long Echoed { get; private set; }
        /// <summary>When it replied.</summary>
        public long Answered { get; private set; }

        /// <summary>Such as: cameras: RUNNING, or: ephys: echoed (no_reply).</summary>
        public override string ToString()
        {
            string state = Status == -1 ? State : ServiceStatus.Name(Status);
            return Name + ": " + state + (Reason.Length == 0 ? "" : " (" + Reason + ")");
        }

        // As the worker reads it: an object with exp_ref may stand in the reply to any message.
        static string Reference(IDictionary<string, object> data)
        {
            object reference = data.Where(pair => pair.Key == "info" || pair.Key == "value")
                .SelectMany(pair => pair.Value as List<object> ?? new List<object> { pair.Value })
                .OfType<IDictionary<string, object>>().Where(map => map.ContainsKey("exp_ref"))
                .Select(map => map["exp_ref"]).FirstOrDefault();
            return reference as string ?? "";
        }
    }

    /// <summary>Something that a service or the worker said by itself.</summary>
    public sealed class BridgeEvent
    {
        internal BridgeEvent(string json)
        {
            Json = json;
            IDictionary<string, object> map = IblBridge.Json.Read(json);
            Sequence = map.Get<long>("sequence");
            Event = map.Get<string>("event");
            Message message;
            Message = Enum.TryParse(Event, out message) ? message : 0;
            Service = map.Get<string>("service");
            Client = map.Get<string>("client");
            Data = map.Get<IDictionary<string, object>>("data");
            Time = map.Get<long>("time");
            Wall = map.Get<string>("wall");
        }

        /// <summary>Counts this client's events; a gap says that some were lost because nobody read them.</summary>
        public long Sequence { get; private set; }
        /// <summary>What happened.</summary>
        public Message Message { get; private set; }
        /// <summary>The same as text: "EXPINTERRUPT".</summary>
        public string Event { get; private set; }
        /// <summary>The service it comes from, or "".</summary>
        public string Service { get; private set; }
        /// <summary>The client that was lost (CLIENT_LOST), or "".</summary>
        public string Client { get; private set; }
        /// <summary>As in <see cref="ServiceOutcome.Data"/>.</summary>
        public IDictionary<string, object> Data { get; private set; }
        /// <summary>When, ns of <see cref="BridgeClient.ClockNs"/>.</summary>
        public long Time { get; private set; }
        /// <summary>When, ISO 8601 with offset.</summary>
        public string Wall { get; private set; }
        /// <summary>All of it as it came.</summary>
        public string Json { get; private set; }

        /// <summary>Such as: EXPINTERRUPT from cameras.</summary>
        public override string ToString()
        {
            return Event + (Service == "" ? "" : " from " + Service) + (Client == "" ? "" : " of " + Client);
        }
    }

    /// <summary>Whether a worker lives, and how many services it has.</summary>
    public sealed class WorkerState
    {
        internal WorkerState(bool alive, int services, int servicesUp)
        {
            Alive = alive;
            Services = services;
            ServicesUp = servicesUp;
        }

        /// <summary>Whether a worker lives.</summary>
        public bool Alive { get; private set; }
        /// <summary>How many services are configured.</summary>
        public int Services { get; private set; }
        /// <summary>How many of them have answered within the last 30 s; 0 if the rig was idle.</summary>
        public int ServicesUp { get; private set; }

        /// <summary>Such as: alive, 1 of 2 services heard.</summary>
        public override string ToString()
        {
            return (Alive ? "alive, " : "no worker, ") + ServicesUp + " of " + Services + " services heard";
        }
    }

    /// <summary>A negative status: the call was wrong, the system refused, or services did not do what was
    /// asked.</summary>
    public class BridgeException : Exception
    {
        internal BridgeException(int code, string sentence, Response response = null, int request = 0)
            : base(sentence + " (" + Status.Name(code) + ", " + code + ")")
        {
            Code = code;
            Sentence = sentence;
            Response = response;
            Request = request;
        }

        /// <summary>One of <see cref="Status"/>.</summary>
        public int Code { get; private set; }
        /// <summary>Its name, for example "IBLB_E_PARTIAL".</summary>
        public string CodeName { get { return Status.Name(Code); } }
        /// <summary>What happened and what to do; names each failed service.</summary>
        public string Sentence { get; private set; }
        /// <summary>What every service did, the good ones too; null if there is no response.</summary>
        public Response Response { get; private set; }
        /// <summary>The request that is still open, to wait for again or to cancel; 0 if there is none.</summary>
        public int Request { get; private set; }
    }

    /// <summary>The place in a segment; given back when it is disposed or collected: as lost, unless it is said
    /// that all is in order.</summary>
    internal sealed class BridgeHandle : SafeHandle
    {
        readonly Native native;

        internal BridgeHandle(Native native, int number) : base(IntPtr.Zero, true)
        {
            this.native = native;
            SetHandle((IntPtr)number);
        }

        internal volatile bool InOrder;

        internal int Number { get { return (int)handle; } }

        public override bool IsInvalid { get { return handle == IntPtr.Zero; } }

        protected override bool ReleaseHandle()
        {
            // An error if a client of the same name has replaced it: gone either way.
            if (InOrder)
                native.Close((int)handle);
            else
                native.Abandon((int)handle);
            return true;
        }
    }

    /// <summary>Text to bytes and back, the same on every runtime.</summary>
    internal static class Utf8
    {
        static readonly Encoding strict = new UTF8Encoding(false, true);

        internal static byte[] Bytes(string text)
        {
            if (text == null)
                return null;
            if (text.IndexOf('\0') >= 0)
                throw new ArgumentException("The text holds a NUL character, where C sees its end.");
            return strict.GetBytes(text + '\0');
        }

        internal static string Text(byte[] bytes)
        {
            int end = Array.IndexOf(bytes, (byte)0);
            return strict.GetString(bytes, 0, end < 0 ? bytes.Length : end);
        }

        /// <summary>A sentence of the library: ASCII, other characters as \uXXXX.</summary>
        internal static string Sentence(byte[] bytes)
        {
            return Regex.Replace(Text(bytes), @"\\u([0-9a-f]{4})",
                found => ((char)Convert.ToInt32(found.Groups[1].Value, 16)).ToString());
        }
    }

    /// <summary>Finds the library and loads it by absolute path, that which fits the bits of this process.</summary>
    internal static class Library
    {
        const int Now = 2; // RTLD_NOW; private to this load on all systems

        // A failure is not remembered: the next try may find the library.
        static readonly Lazy<Native> native = new Lazy<Native>(Find, LazyThreadSafetyMode.PublicationOnly);

        internal static Native Load()
        {
            return native.Value;
        }

        static bool OnWindows { get { return Environment.OSVersion.Platform == PlatformID.Win32NT; } }

        // As in the names of runtimes: .NET calls macOS a Unix, too.
        static string OperatingSystem
        {
            get
            {
                return OnWindows ? "win" : Directory.Exists("/System/Library/CoreServices") ? "osx" : "linux";
            }
        }

        static Native Find()
        {
            Loader loader = SystemLoader();
            var tried = new StringBuilder();
            foreach (string path in Places().Select(place => Path.GetFullPath(place)).Distinct())
            {
                bool there = File.Exists(path);
                IntPtr library = there ? loader.Open(path) : IntPtr.Zero;
                if (library != IntPtr.Zero)
                    return new Native((name, type) => Function(loader.Symbol(library, name), path, name, type));
                tried.Append("\n  " + path + ": " + (there ? loader.Error().Replace("%1", "it") : "is not there"));
            }
            throw new DllNotFoundException("No iblbridge library for " + IntPtr.Size * 8 + "-bit programs was found. " +
                "Set IBLBRIDGE_LIBRARY to its absolute path, or copy it to one of the places tried:" + tried);
        }

        // If the user names one, only that counts; else beside the code, the program, the workflow, in that order.
        static IEnumerable<string> Places()
        {
            string told = Environment.GetEnvironmentVariable("IBLBRIDGE_LIBRARY");
            if (!string.IsNullOrEmpty(told))
                return new[] { told };
            string system = OperatingSystem;
            int bits = IntPtr.Size * 8;
            string code = typeof(Library).Assembly.Location; // "" if it was loaded from memory
            string here = code == "" ? null : Path.GetDirectoryName(code);
            string program = AppDomain.CurrentDomain.BaseDirectory, workflow = Environment.CurrentDirectory;
            var folders = new[] { here, program, workflow, Path.Combine(workflow, "Extensions") }
                .Where(folder => !string.IsNullOrEmpty(folder)).ToList();
            var places = (from folder in folders from file in Beside(system, bits) select Path.Combine(folder, file))
                .ToList();
            if (Path.GetFileName(Path.GetDirectoryName(here)) == "lib") // a package: it lies in lib/<framework>
                places.AddRange(InPackage(system, bits).Select(file => Path.Combine(here, "..", "..", file)));
            return places;
        }

        // Where it may lie in a folder: as in a kit, as NuGet copies it beside a program, and by the bits of programs.
        internal static string[] Beside(string system, int bits)
        {
            string file = FileName(system);
            string kit = system == "win" ? "iblbridge_" + bits + ".dll" : file;
            return new[] { kit, file, Path.Combine(Machine(bits), file), Runtime(system, bits) }.Distinct().ToArray();
        }

        internal static string[] InPackage(string system, int bits)
        {
            string bin = Path.Combine("build", "native", "bin", Machine(bits), FileName(system));
            return new[] { Runtime(system, bits), bin };
        }

        static string Runtime(string system, int bits)
        {
            return Path.Combine("runtimes", system + "-" + Machine(bits), "native", FileName(system));
        }

        static string Machine(int bits)
        {
            return bits == 64 ? "x64" : "x86";
        }

        static string FileName(string system)
        {
            return system == "win" ? "iblbridge.dll" : "libiblbridge" + (system == "osx" ? ".dylib" : ".so");
        }

        // Windows, or one of the two libraries that hold dlopen on other systems.
        static Loader SystemLoader()
        {
            if (OnWindows)
                return new Loader(LoadLibrary, (library, name) => GetProcAddress(library, Utf8.Bytes(name)),
                    () => new Win32Exception().Message);
            try
            {
                GlibcError();
                return new Loader(path => GlibcOpen(Utf8.Bytes(path), Now),
                    (library, name) => GlibcSymbol(library, Utf8.Bytes(name)),
                    () => Marshal.PtrToStringAnsi(GlibcError()));
            }
            catch (DllNotFoundException)
            {
                return new Loader(path => LibcOpen(Utf8.Bytes(path), Now),
                    (library, name) => LibcSymbol(library, Utf8.Bytes(name)),
                    () => Marshal.PtrToStringAnsi(LibcError()));
            }
        }

        static Delegate Function(IntPtr address, string path, string name, Type type)
        {
            if (address == IntPtr.Zero)
                throw new EntryPointNotFoundException(path + " has no " + name + ": another version of iblbridge.");
            return Marshal.GetDelegateForFunctionPointer(address, type);
        }

        sealed class Loader
        {
            internal readonly Func<string, IntPtr> Open;
            internal readonly Func<IntPtr, string, IntPtr> Symbol;
            internal readonly Func<string> Error;

            internal Loader(Func<string, IntPtr> open, Func<IntPtr, string, IntPtr> symbol, Func<string> error)
            {
                Open = open;
                Symbol = symbol;
                Error = error;
            }
        }

        [DllImport("kernel32.dll", EntryPoint = "LoadLibraryW", CharSet = CharSet.Unicode, SetLastError = true)]
        static extern IntPtr LoadLibrary(string path);
        [DllImport("kernel32.dll")]
        static extern IntPtr GetProcAddress(IntPtr library, byte[] name);
        [DllImport("libdl.so.2", EntryPoint = "dlopen", CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr GlibcOpen(byte[] path, int flags);
        [DllImport("libdl.so.2", EntryPoint = "dlsym", CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr GlibcSymbol(IntPtr library, byte[] name);
        [DllImport("libdl.so.2", EntryPoint = "dlerror", CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr GlibcError();
        [DllImport("libc", EntryPoint = "dlopen", CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr LibcOpen(byte[] path, int flags);
        [DllImport("libc", EntryPoint = "dlsym", CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr LibcSymbol(IntPtr library, byte[] name);
        [DllImport("libc", EntryPoint = "dlerror", CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr LibcError();
    }

    /// <summary>JSON, read and written. Neither the script compiler of Bonsai nor a plain mono brings a reader; what
    /// the library gives is well-formed ASCII of bounded depth, so a small one does.</summary>
    internal sealed class Json
    {
        const int Deepest = 64; // as the library's own limit

        readonly string text;
        int at;

        Json(string text)
        {
            this.text = text;
        }

        internal static IDictionary<string, object> Read(string text)
        {
            var json = new Json(text);
            try
            {
                return (IDictionary<string, object>)json.Value();
            }
            catch (Exception) // of whatever kind: the library writes JSON, so this is damage
            {
                throw new BridgeException(Status.E_SEGMENT, "What came is not JSON, at offset " + json.at + ".");
            }
        }

        char Next()
        {
            while (char.IsWhiteSpace(text[at]))
                at++;
            return text[at];
        }

        bool Skip(char mark)
        {
            bool there = Next() == mark;
            if (there)
                at++;
            return there;
        }

        void Need(char mark)
        {
            if (!Skip(mark))
                throw new FormatException();
        }

        object Value()
        {
            switch (Next())
            {
                case '{': return Map();
                case '[': return List();
                case '"': return Text();
                case 't': return Word("true", true);
                case 'f': return Word("false", false);
                case 'n': return Word("null", null);
                default: return Number();
            }
        }

        Dictionary<string, object> Map()
        {
            var map = new Dictionary<string, object>();
            Need('{');
            if (Skip('}'))
                return map;
            do
            {
                Next();
                string key = Text();
                Need(':');
                map[key] = Value();
            }
            while (Skip(','));
            Need('}');
            return map;
        }

        List<object> List()
        {
            var list = new List<object>();
            Need('[');
            if (Skip(']'))
                return list;
            do
                list.Add(Value());
            while (Skip(','));
            Need(']');
            return list;
        }

        string Text()
        {
            var value = new StringBuilder();
            for (Need('"'); text[at] != '"'; at++)
                value.Append(text[at] == '\\' ? Escaped() : text[at]);
            at++;
            return value.ToString();
        }

        char Escaped()
        {
            const string marks = "\"\\/bfnrt", characters = "\"\\/\b\f\n\r\t";
            char mark = text[++at];
            if (mark == 'u')
            {
                at += 4;
                return (char)Convert.ToUInt16(text.Substring(at - 3, 4), 16);
            }
            return characters[marks.IndexOf(mark)];
        }

        object Word(string word, object value)
        {
            if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0)
                throw new FormatException();
            at += word.Length;
            return value;
        }

        object Number()
        {
            int start = at;
            while (at < text.Length && "+-.eE0123456789".IndexOf(text[at]) >= 0)
                at++;
            string number = text.Substring(start, at - start);
            long whole;
            ulong positive;
            if (long.TryParse(number, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out whole))
                return whole;
            if (ulong.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out positive))
                return positive;
            return double.Parse(number, NumberStyles.Float, CultureInfo.InvariantCulture);
        }

        internal static string Write(object value)
        {
            var json = new StringBuilder();
            Write(json, value, 0);
            return json.ToString();
        }

        static void Write(StringBuilder json, object value, int depth)
        {
            if (depth > Deepest)
                throw new ArgumentException("The argument is nested more than " + Deepest + " deep.");
            if (value == null)
                json.Append("null");
            else if (value is string || value is char)
                WriteText(json, value.ToString());
            else if (value is bool)
                json.Append((bool)value ? "true" : "false");
            else if (value is double || value is float)
                json.Append(Real((IFormattable)value));
            else if (value is Enum)
                json.Append(((Enum)value).ToString("D"));
            else if (value is IDictionary)
                WriteMap(json, (IDictionary)value, depth);
            else if (value is IEnumerable)
                WriteList(json, (IEnumerable)value, depth);
            else if (Type.GetTypeCode(value.GetType()) < TypeCode.SByte || value is DateTime)
                throw new ArgumentException(
                    "JSON cannot express a " + value.GetType() + "; convert it to text or a number.");
            else
                json.Append(((IFormattable)value).ToString(null, CultureInfo.InvariantCulture));
        }

        static string Real(IFormattable value)
        {
            string text = value.ToString("R", CultureInfo.InvariantCulture);
            if (text.Any(c => char.IsLetter(c)) && !text.Contains("E"))
                throw new ArgumentException("JSON cannot express " + text + ".");
            return text.Contains(".") || text.Contains("E") ? text : text + ".0"; // else it would arrive as an integer
        }

        static void WriteMap(StringBuilder json, IDictionary map, int depth)
        {
            string separator = "{";
            foreach (DictionaryEntry entry in map)
            {
                if (!(entry.Key is string))
                    throw new ArgumentException("A key is not a string: " + entry.Key);
                json.Append(separator);
                WriteText(json, (string)entry.Key);
                json.Append(':');
                Write(json, entry.Value, depth + 1);
                separator = ",";
            }
            json.Append(separator == "{" ? "{}" : "}");
        }

        static void WriteList(StringBuilder json, IEnumerable list, int depth)
        {
            string separator = "[";
            foreach (object value in list)
            {
                json.Append(separator);
                Write(json, value, depth + 1);
                separator = ",";
            }
            json.Append(separator == "[" ? "[]" : "]");
        }

        static void WriteText(StringBuilder json, string text)
        {
            json.Append('"');
            foreach (char c in text)
            {
                if (c == '"' || c == '\\')
                    json.Append('\\').Append(c);
                else if (c < ' ')
                    json.AppendFormat(CultureInfo.InvariantCulture, "\\u{0:x4}", (int)c);
                else
                    json.Append(c);
            }
            json.Append('"');
        }
    }

    internal static class Fields
    {
        /// <summary>The value of a key, which is always there and always of its type; else the segment is
        /// damaged.</summary>
        internal static T Get<T>(this IDictionary<string, object> map, string key)
        {
            object value;
            if (map.TryGetValue(key, out value) && value is T)
                return (T)value;
            throw new BridgeException(Status.E_SEGMENT, "What came has no \"" + key + "\" that is a " + typeof(T).Name);
        }

        /// <summary>The same of a key that a worker of an older version does not write.</summary>
        internal static T Get<T>(this IDictionary<string, object> map, string key, T missing)
        {
            return map.ContainsKey(key) ? map.Get<T>(key) : missing;
        }
    }
}
